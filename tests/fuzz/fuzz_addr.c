/* fuzz_addr - paths, and everything else that reads an address: what was taken off the wire,
 * quoted again, is taken off as the same address. */
#include "mail/addr.h"
#include "mail/ip.h"
#include "mail/rcpthosts.h"
#include "mail/route.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

#define BYTES_MAX (4 * 1024 * 1024)

/* The domain goes out as it is, so only one without marks of its own can come back. */
static bool comes_back(struct span addr)
{
	struct span domain = addr_domain(addr);

	for (const char *mark = "\"\\>"; *mark; mark++)
		if (span_has(domain, *mark))
			return false;
	return addr.n > 0;
}

static void quote_and_take_again(struct span addr)
{
	struct buf quoted;
	char again[ADDR_MAX];
	struct span got, arg;

	buf_init(&quoted, BYTES_MAX);
	check(buf_add_byte(&quoted, '<') && addr_quote_buf(&quoted, addr) &&
	      buf_add(&quoted, SPAN("> REST")));
	check(addr_fits_smtp(buf_span(&quoted)));
	arg = buf_span(&quoted);
	if (comes_back(addr)) {
		check(addr_take_path(&arg, again, sizeof again, &got) == PATH_OK);
		check(span_eq(got, addr));
		check(span_eq(arg, SPAN("REST")));
	}
	buf_free(&quoted);
}

static void paths(struct span all)
{
	char dst[ADDR_MAX];
	struct span arg = all, got;

	switch (addr_take_path(&arg, dst, sizeof dst, &got)) {
	case PATH_OK:
		check(got.n <= sizeof dst && arg.n <= all.n);
		check(addr_fits_smtp(got));
		quote_and_take_again(got);
		break;
	case PATH_SYNTAX:
	case PATH_LONG: break;
	}
}

static void addresses(struct span all)
{
	char text[IP_TEXT_MAX];
	struct relay_entry entry;
	struct route route;
	struct ip ip, again;
	uint16_t port;

	if (!span_has(all, '%') && ip_parse(all, &ip)) {
		check(ip_parse(span_str(ip_text(&ip, text)), &again) && ip_eq(&ip, &again));
	}
	if (!span_has(all, '%')) {
		(void)ip_parse_port(all, 25, &ip, &port);
		(void)addr_literal(all, &ip);
		(void)relay_entry_parse(all, &entry);
	}
	(void)route_parse(all, 25, &route);
	check(route.host.n <= all.n && route.port > 0);
}

static void verp(struct span all)
{
	size_t half = all.n / 2;
	struct span sender = span_until(all, half), rcpt = span_from(all, half), got;
	struct buf b;

	buf_init(&b, 2 * ADDR_MAX);
	got = addr_verp(sender, rcpt, &b);
	if (got.p != sender.p)
		check(got.n == addr_verp_base(sender).n + rcpt.n + 1 - 1);
	buf_free(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct span all = span_of(data, n);

	paths(all);
	addresses(all);
	verp(all);
	return 0;
}
