/* rcpthosts - see the header.  The list first, then the database, with the same keys. */
#include "mail/rcpthosts.h"

#include "core/log.h"
#include "core/pool.h"
#include "mail/addr.h"
#include "mail/cdb.h"
#include "mail/suffix.h"

#include <string.h>

struct rcpthosts {
	struct control_set *list;
	struct cdb_file    *more;
	bool                there;
};

struct rcpthosts *rcpthosts_new(const struct control *c, int morercpthosts_fd)
{
	struct rcpthosts *r = mem_new(sizeof *r);

	r->there = control_has(c, "rcpthosts");
	r->list = control_set_new(c, "rcpthosts", false);
	if (morercpthosts_fd < 0 || !r->there)
		return r;
	r->more = cdb_file_new(morercpthosts_fd);
	if (!r->more)
		die(111, "control/morercpthosts.cdb is not a database");
	return r;
}

void rcpthosts_free(struct rcpthosts *r)
{
	if (!r)
		return;
	control_set_free(r->list);
	cdb_file_free(r->more);
	mem_free(r);
}

static bool listed(const struct rcpthosts *r, struct span domain)
{
	struct span key = domain;

	do {
		if (control_set_has(r->list, key))
			return true;
	} while (suffix_next(&key));
	return false;
}

static bool listed_in_cdb(const struct rcpthosts *r, struct span domain)
{
	char lower[ADDR_MAX];
	struct span key, data;

	if (!r->more || domain.n > sizeof lower)
		return false;
	for (size_t i = 0; i < domain.n; i++)
		lower[i] = span_lower(domain.p[i]);
	key = span_of(lower, domain.n);
	do {
		if (cdb_file_get(r->more, key, &data))
			return true;
	} while (suffix_next(&key));
	return false;
}

bool rcpthosts_allow(const struct rcpthosts *r, struct span addr)
{
	struct span domain = addr_domain(addr);

	if (!addr_has_at(addr))
		return true;
	return listed(r, domain) || listed_in_cdb(r, domain);
}

static bool compile_entry(struct span entry, struct cdb_writer *w, const char **ret_why)
{
	char lower[ADDR_MAX];

	if (entry.n > sizeof lower) {
		*ret_why = "no address has so long a domain";
		return false;
	}
	for (size_t i = 0; i < entry.n; i++)
		lower[i] = span_lower(entry.p[i]);
	*ret_why = "the database can't be written";
	return cdb_writer_add(w, span_of(lower, entry.n), SPAN(""));
}

unsigned morercpthosts_compile(struct span text, struct cdb_writer *w, const char **ret_why)
{
	for (unsigned line = 1; text.n > 0; line++) {
		struct span entry = span_cut(&text, span_find(text, '\n'));

		span_cut(&text, 1);
		entry = span_trim_end(entry, " \t");
		if (entry.n > 0 && entry.p[0] != '#' && !compile_entry(entry, w, ret_why))
			return line;
	}
	return 0;
}

struct relayclients {
	struct relay_entry *entries;
	size_t              n;
	char               *text;                 /* the suffixes */
	size_t              text_n;
};

/* "[v6]/32", "v6/32", "v4/8"; what follows a colon behind that is the suffix.  A bare IPv6
 * network cannot have one: its colons are its own. */
bool relay_entry_parse(struct span entry, struct relay_entry *ret)
{
	struct relay_entry e = {.suffix = SPAN_NONE};

	if (ip_net_parse(entry, &e.net)) {
		*ret = e;
		return true;
	}

	struct span net = span_until(entry, span_find(entry, ':'));
	char text[IP_TEXT_MAX + 8];
	size_t close = span_find(entry, ']');

	if (entry.n > 0 && entry.p[0] == '[') {
		if (close == SPAN_NPOS || close > IP_TEXT_MAX)
			return false;
		struct span rest = span_from(entry, close + 1);
		struct span bits = span_until(rest, span_find(rest, ':'));

		if (close - 1 + bits.n > sizeof text)
			return false;
		memcpy(text, entry.p + 1, close - 1);
		if (bits.n > 0)
			memcpy(text + close - 1, bits.p, bits.n);
		net = span_of(text, close - 1 + bits.n);
		entry = span_from(rest, bits.n);
	} else {
		entry = span_from(entry, net.n);
	}
	if (!ip_net_parse(net, &e.net) || (entry.n > 0 && entry.n < 2))
		return false;
	e.suffix = span_from(entry, 1);
	*ret = e;
	return true;
}

static void count_relay(void *ctx, struct span entry, unsigned line)
{
	struct relayclients *r = ctx;

	r->n++;
	r->text_n += entry.n;
}

/* Lines that are no network were told by control_validate(); here they allow nobody. */
static void add_relay(void *ctx, struct span entry, unsigned line)
{
	struct relayclients *r = ctx;
	struct relay_entry e;

	if (!relay_entry_parse(entry, &e))
		return;
	if (e.suffix.n > 0)
		memcpy(r->text + r->text_n, e.suffix.p, e.suffix.n);
	e.suffix.p = r->text + r->text_n;
	r->text_n += e.suffix.n;
	r->entries[r->n++] = e;
}

struct relayclients *relayclients_new(const struct control *c)
{
	struct relayclients *r = mem_new(sizeof *r);

	control_list(c, "relayclients", count_relay, r);
	r->entries = mem_new(r->n * sizeof *r->entries);
	r->text = mem_new(r->text_n);
	r->n = r->text_n = 0;
	control_list(c, "relayclients", add_relay, r);
	return r;
}

void relayclients_free(struct relayclients *r)
{
	if (!r)
		return;
	mem_free(r->entries);
	mem_free(r->text);
	mem_free(r);
}

bool relayclients_find(const struct relayclients *r, const struct ip *ip,
		       struct span *ret_suffix)
{
	for (size_t i = 0; i < r->n; i++) {
		if (!ip_net_has(&r->entries[i].net, ip))
			continue;
		*ret_suffix = r->entries[i].suffix;
		return true;
	}
	return false;
}
