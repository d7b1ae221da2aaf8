/* fuzz_control - a file of control/ with any bytes: read by all readers, checked, packed and
 * unpacked; and any bytes as a packed snapshot, as users/assign's text, as a header. */
#include "mail/control.h"
#include "mail/header.h"
#include "mail/rcpthosts.h"
#include "mail/route.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

struct seen {
	unsigned n, last;
};

static void each(void *ctx, struct span entry, unsigned line)
{
	struct seen *s = ctx;

	check(entry.n > 0 && entry.p[0] != '#' && !span_has(entry, '\n'));
	check(line > s->last);
	s->last = line;
	s->n++;
}

static void tell(void *ctx, bool error, struct span text)
{
	check(span_starts(text, SPAN("control/")));
	*(unsigned *)ctx += error;
}

static void readers(const struct control *c, const struct setting *s)
{
	struct control_set *set = control_set_new(c, s->name, false),
			   *map = control_map_new(c, s->name);
	struct seen seen = {0};

	control_list(c, s->name, each, &seen);
	check(control_set_size(set) <= seen.n && control_set_size(map) <= seen.n);
	if (s->kind == SETTING_INT) {
		int64_t value = (int64_t)control_setting(c, s->name);
		check(value >= s->min && value <= s->max);
	}
	check(!span_has(control_line(c, s->name, false, NULL), '\n'));
	control_set_free(set);
	control_set_free(map);
}

static void users_of(const struct control *c, struct span addr)
{
	struct rcpthosts *hosts = rcpthosts_new(c, -1);
	struct relayclients *relays = relayclients_new(c);
	struct rewriter *rewriter = rewriter_new(c);
	struct routes *routes = routes_new(c, "smtproutes", 25);
	struct route route;
	struct span got;
	struct ip ip = {.family = 4};
	struct buf b;

	buf_init(&b, REWRITE_MAX);
	(void)rcpthosts_allow(hosts, addr);
	(void)relayclients_find(relays, &ip, &got);
	(void)rewrite(rewriter, addr, &b, &got);
	check(rewriter_strip(rewriter, got).n <= got.n);
	(void)routes_find(routes, addr, &route);
	buf_free(&b);
	rcpthosts_free(hosts);
	relayclients_free(relays);
	rewriter_free(rewriter);
	routes_free(routes);
}

static void pack_and_unpack(const struct control *c, const char *name)
{
	struct control *again = control_new();
	struct buf packed;
	bool there;

	buf_init(&packed, CONTROL_PACKED_MAX);
	check(control_pack(c, &packed));
	check(control_packed_is_whole(buf_span(&packed)));
	check(control_unpack(again, buf_span(&packed)));
	check(span_eq(control_raw(c, name, NULL), control_raw(again, name, &there)) && there);
	control_free(again);
	buf_free(&packed);
}

static void raw(struct span all)
{
	struct control *c = control_new();
	struct header_field f;
	size_t before;

	(void)control_unpack(c, all);
	control_free(c);
	do
		before = all.n;
	while (header_next(&all, &f) && all.n < before);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct span all = span_of(data, n);
	unsigned errors = 0;

	if (n == 0)
		return 0;
	raw(all);
	const struct setting *s = &settings[(uint8_t)*span_cut(&all, 1).p % settings_n];
	struct control *c = control_new();
	check(control_set(c, SPAN("me"), SPAN("here.example\n")));
	check(control_set(c, span_str(s->name), all));
	readers(c, s);
	users_of(c, span_until(all, span_find(all, '\n')));
	check(control_validate(c, tell, &errors) == errors);
	pack_and_unpack(c, s->name);
	control_free(c);
	return 0;
}
