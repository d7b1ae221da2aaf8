/* fuzz_netstring - cut anywhere a stream says the same; what was read can be written again; the
 * line reader and the hop counter beside it, for they take streams, too. */
#include "mail/header.h"
#include "mail/line.h"
#include "mail/netstring.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

#define BYTES_MAX (8 * 1024 * 1024)
#define LENGTH_MAX 3000

static bool is_over(enum netstring_event ev)
{
	return ev == NETSTRING_BAD || ev == NETSTRING_LONG;
}

/* The events as text: contents joined, so that cuts do not show. */
static void events(struct span in, size_t step, bool lenient, struct buf *ret)
{
	enum netstring_event ev = NETSTRING_MORE;
	struct netstring ns;

	netstring_init(&ns, LENGTH_MAX, lenient);
	while (in.n > 0 && !is_over(ev)) {
		struct span piece = span_cut(&in, step), run = SPAN_NONE;

		while ((ev = netstring_take(&ns, &piece, &run)) != NETSTRING_MORE &&
		       !is_over(ev)) {
			if (ev == NETSTRING_LENGTH)
				check(ns.left <= LENGTH_MAX &&
				      buf_fmt(ret, "[%d:", (int)ns.left));
			if (ev == NETSTRING_BYTES)
				check(run.n > 0 && buf_add(ret, run));
			if (ev == NETSTRING_END)
				check(ns.left == 0 && buf_add_byte(ret, ']'));
		}
	}
	check(buf_fmt(ret, "=%d", (int)ev));
}

static void lines(struct span in, size_t step, struct buf *ret)
{
	enum line_event ev;
	struct line l;
	struct hops h;

	line_init(&l, 20);
	hops_begin(&h);
	while (in.n > 0) {
		struct span piece = span_cut(&in, step), got;

		hops_take(&h, piece);
		while ((ev = line_take(&l, &piece, &got)) != LINE_MORE) {
			check(ev != LINE_OK || got.n <= 20);
			check(ev == LINE_OK ? buf_add(ret, got) : buf_add_byte(ret, '!'));
			check(buf_add_byte(ret, '\n'));
		}
	}
	check(buf_fmt(ret, "=%u,%d", h.count, h.over));
	line_fini(&l);
}

static void written_is_read(struct span content)
{
	struct netstring ns;
	struct span in, run;
	struct buf b;

	buf_init(&b, BYTES_MAX);
	check(netstring_add(&b, content));
	in = buf_span(&b);
	netstring_init(&ns, content.n, false);
	check(netstring_take(&ns, &in, &run) == NETSTRING_LENGTH && ns.left == content.n);
	if (content.n > 0)
		check(netstring_take(&ns, &in, &run) == NETSTRING_BYTES &&
		      span_eq(run, content));
	check(netstring_take(&ns, &in, &run) == NETSTRING_END && in.n == 0);
	buf_free(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct span all = span_of(data, n);
	struct buf a, b;

	if (n == 0)
		return 0;
	uint8_t first = (uint8_t)*span_cut(&all, 1).p;
	size_t step = 1 + first % 16;
	bool lenient = first & 16;
	buf_init(&a, BYTES_MAX);
	buf_init(&b, BYTES_MAX);
	events(all, all.n + 1, lenient, &a);
	events(all, step, lenient, &b);
	check(span_eq(buf_span(&a), buf_span(&b)));
	buf_clear(&a);
	buf_clear(&b);
	lines(all, all.n + 1, &a);
	lines(all, step, &b);
	check(span_eq(buf_span(&a), buf_span(&b)));
	buf_free(&a);
	buf_free(&b);
	written_is_read(all);
	return 0;
}
