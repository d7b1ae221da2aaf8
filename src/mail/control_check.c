/* control_check - everything that can be said against the files of control/.
 *
 * qmail takes what it can use of a file and says nothing about the rest: here each such rest is
 * a warning.  A file of ours that is not wholly understood is an error, and start keeps the old
 * configuration. */
#include "core/buf.h"
#include "mail/control.h"
#include "mail/destinations.h"
#include "mail/duration.h"
#include "mail/ip.h"
#include "mail/rcpthosts.h"
#include "mail/role.h"
#include "mail/route.h"

#include <inttypes.h>
#include <stdio.h>

#define SAID_MAX 1024                             /* one line; what is quoted in it is cut */
#define QUOTE_MAX 100

struct checking {
	const struct control      *c;
	const struct setting      *s;
	const struct control_set  *map;           /* of s, to find keys that come again */
	void                     (*tell)(void *ctx, bool error, struct span text);
	void                      *ctx;
	unsigned                   errors, entries;
};

enum gravity { WARNING, ERROR };

static void __attribute__((format(printf, 4, 5)))
say(struct checking *k, enum gravity g, unsigned line, const char *fmt, ...)
{
	char text[SAID_MAX];
	struct buf b;
	va_list ap;
	int n;

	buf_init(&b, SAID_MAX);
	va_start(ap, fmt);
	n = vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	check(n >= 0 && (size_t)n < sizeof text);
	if (!(line ? buf_fmt(&b, "control/%s:%u: %s", k->s->name, line, text)
	           : buf_fmt(&b, "control/%s: %s", k->s->name, text)))
		unreachable();
	k->errors += g == ERROR;
	k->tell(k->ctx, g == ERROR, buf_span(&b));
	buf_free(&b);
}

/* What is wrong with a file of ours is an error, with one of qmail's only odd. */
static enum gravity gravity_of(const struct checking *k)
{
	return k->s->ours ? ERROR : WARNING;
}

#define QUOTED(s) SPAN_ARG(span_until(s, QUOTE_MAX))

/* Lines behind the first of a line or int file. */
static void check_one_line(struct checking *k, struct span raw)
{
	struct span rest = span_from(raw, span_find(raw, '\n'));
	struct span first = control_line(k->c, k->s->name, false, NULL);
	unsigned line = 1;

	if (span_ends(first, SPAN("\r")))
		say(k, gravity_of(k), 1, "the CR at the end belongs to the value; remove it");
	if (span_has(first, '\0'))
		say(k, gravity_of(k), 1, "there is a NUL in it");
	while (span_skip(&rest, SPAN("\n"))) {
		struct span text = span_cut(&rest, span_find(rest, '\n'));

		line++;
		if (span_trim_end(text, " \t\r").n > 0) {
			say(k, gravity_of(k), line, "ignored: only the first line counts");
			return;
		}
	}
}

/* BYTES DAYS */
static bool is_keep(struct span line)
{
	struct span bytes = span_cut(&line, span_find(line, ' ') == SPAN_NPOS ?
						    line.n :
						    span_find(line, ' '));
	uint64_t n;

	return span_u64(bytes, INT64_MAX, &n) && span_u64(span_trim(line), UINT32_MAX, &n);
}

static void check_line(struct checking *k, struct span raw)
{
	struct span first = control_line(k->c, k->s->name, false, NULL);

	check_one_line(k, raw);
	if (first.n > 0 && first.p[0] == '#')
		say(k, gravity_of(k), 1, "a line file has no comments: \"%.*s\" is the value",
		    QUOTED(first));
	if (first.n == 0 && k->s->ours)
		say(k, ERROR, 1, "is empty");
	if (first.n == 0 && !k->s->ours)
		say(k, WARNING, 1, "is empty: the value is empty, not the default");
	if (span_eq(span_str(k->s->name), SPAN("journalkeep")) && first.n > 0 &&
	    !is_keep(first))
		say(k, ERROR, 1, "\"%.*s\" is not BYTES DAYS: two numbers", QUOTED(first));
	if (span_eq(span_str(k->s->name), SPAN("logformat")) && first.n > 0 &&
	    !span_eq(first, SPAN("qmail")) && !span_eq(first, SPAN("json")))
		say(k, ERROR, 1, "\"%.*s\" is neither qmail nor json", QUOTED(first));
	if (span_eq(span_str(k->s->name), SPAN("me")) &&
	    (span_has(first, '@') || span_has(first, ' ')))
		say(k, WARNING, 1, "\"%.*s\" is no host name", QUOTED(first));
}

static bool is_power_of_two(uint64_t n)
{
	return n > 0 && (n & (n - 1)) == 0;
}

/* A whole line that is a number in the limits of the table. */
static bool strict_int(struct span text, const struct setting *s)
{
	bool negative = s->min < 0 && span_skip(&text, SPAN("-"));
	uint64_t size;

	if (!span_u64(text, INT64_MAX, &size))
		return false;
	int64_t value = negative ? -(int64_t)size : (int64_t)size;
	return value >= s->min && value <= s->max;
}

static void check_our_int(struct checking *k, struct span text)
{
	const struct setting *s = k->s;
	bool power = span_eq(span_str(s->name), SPAN("segmentsize")) ||
	             span_eq(span_str(s->name), SPAN("ringsize"));

	if (!strict_int(text, s) && s->min == s->max)
		say(k, ERROR, 1, "\"%.*s\": only %" PRId64 " is possible in this version",
		    QUOTED(text), s->min);
	else if (!strict_int(text, s) && s->max == INT64_MAX)
		say(k, ERROR, 1, "\"%.*s\" is not a number from %" PRId64 " up", QUOTED(text),
		    s->min);
	else if (!strict_int(text, s))
		say(k, ERROR, 1, "\"%.*s\" is not a number from %" PRId64 " to %" PRId64,
		    QUOTED(text), s->min, s->max);
	else if (power && !is_power_of_two(control_setting(k->c, s->name)))
		say(k, ERROR, 1, "%.*s is not a power of two", QUOTED(text));
}

static void check_qmail_int(struct checking *k, struct span text)
{
	uint64_t value = control_int(k->c, k->s->name, 0),
		 used = control_setting(k->c, k->s->name);

	if (text.n == 0 || text.p[0] < '0' || text.p[0] > '9') {
		say(k, WARNING, 1, "ignored: \"%.*s\" is not a number; %" PRIu64 " is used",
		    QUOTED(text), used);
		return;
	}
	if (!span_u64(text, UINT64_MAX, &value))
		say(k, WARNING, 1, "what follows the digits is ignored; %" PRIu64 " is used",
		    used);
	else if (value != used)
		say(k, WARNING, 1, "is out of limits; %" PRIu64 " is used", used);
}

static void check_int(struct checking *k, struct span raw)
{
	struct span text = control_line(k->c, k->s->name, false, NULL);

	check_one_line(k, raw);
	if (k->s->ours)
		check_our_int(k, text);
	else
		check_qmail_int(k, text);
}

static bool is_address_port(struct span entry)
{
	struct ip ip;
	uint16_t port;

	return ip_parse_port(entry, 1, &ip, &port);
}

static bool is_relay(struct span entry)
{
	struct relay_entry e;

	return relay_entry_parse(entry, &e);
}

static bool is_wait(struct span entry)
{
	uint64_t wait;

	return duration_parse(entry, &wait) && wait >= WAIT_MIN && wait <= WAIT_MAX;
}

static bool is_destination(struct span entry)
{
	size_t colon = span_find(entry, ':');
	struct destination_limits d;

	return colon != SPAN_NPOS && destination_parse(span_from(entry, colon + 1), &d);
}

static bool is_route(struct span entry)
{
	size_t colon = span_find(entry, ':');
	struct route r;

	return colon != SPAN_NPOS && route_parse(span_from(entry, colon + 1), 1, &r);
}

/* What each entry of a list must be. */
static const struct {
	const char *name;
	bool      (*good)(struct span entry);
	const char *what;
} forms[] = {
	{"smtplisten", is_address_port, "not ADDR:PORT (an IPv6 address in brackets)"},
	{"qmtplisten", is_address_port, "not ADDR:PORT (an IPv6 address in brackets)"},
	{"resolvers", is_address_port, "not ADDR or ADDR:PORT (an IPv6 address in brackets)"},
	{"relayclients", is_relay,
	 "not NETWORK or NETWORK:SUFFIX (an IPv6 network in brackets)"},
	{"destinations", is_destination,
	 "not DOMAIN:CONNECTIONS:RATE:RECIPIENTS (65535, 1000000, 100 at most)"},
	{"retryschedule", is_wait, "not a time from 1s to 7d (90, 20m, 6h, 2d)"},
	{"qmtproutes", is_route, "not DOMAIN:RELAY or DOMAIN:RELAY:PORT"},
	{"smtproutes", is_route,
	 "not DOMAIN:RELAY or DOMAIN:RELAY:PORT; qmail's default port is used"},
};

static void check_form(struct checking *k, struct span entry, unsigned line)
{
	for (size_t i = 0; i < ARRAY_N(forms); i++)
		if (span_eq(span_str(k->s->name), span_str(forms[i].name)) &&
		    !forms[i].good(entry))
			say(k, gravity_of(k), line, "\"%.*s\" is %s", QUOTED(entry),
			    forms[i].what);
}

/* A line that no key and no value will ever equal. */
static void check_blanks(struct checking *k, struct span entry, unsigned line)
{
	if (entry.p[0] == ' ' || entry.p[0] == '\t')
		say(k, gravity_of(k), line,
		    "the blanks in front belong to the entry; remove them");
	if (span_ends(entry, SPAN("\r")))
		say(k, gravity_of(k), line,
		    "the CR at the end belongs to the entry; remove it");
}

static void check_map_entry(struct checking *k, struct span entry, unsigned line)
{
	size_t colon = span_find(entry, ':');
	struct span used;

	if (colon == SPAN_NPOS) {
		if (!k->s->ours && !span_eq(span_str(k->s->name), SPAN("smtproutes")))
			say(k, WARNING, line, "ignored: there is no colon in \"%.*s\"",
			    QUOTED(entry));
		return;
	}
	if (control_map_get(k->map, span_until(entry, colon), &used) &&
	    !span_eq(used, span_from(entry, colon + 1)))
		say(k, gravity_of(k), line, "ignored: a later line has the key \"%.*s\", too",
		    QUOTED(span_until(entry, colon)));
}

static void check_entry(void *ctx, struct span entry, unsigned line)
{
	struct checking *k = ctx;

	k->entries++;
	check_blanks(k, entry, line);
	check_form(k, entry, line);
	if (k->s->kind == SETTING_MAP)
		check_map_entry(k, entry, line);
}

static void check_entries(struct checking *k)
{
	struct control_set *map = NULL;

	if (k->s->kind == SETTING_MAP)
		map = control_map_new(k->c, k->s->name);
	k->map = map;
	k->entries = 0;
	control_list(k->c, k->s->name, check_entry, k);
	if (span_eq(span_str(k->s->name), SPAN("retryschedule")) && k->entries > WAITS_MAX)
		say(k, ERROR, 0, "has more than %d waits", WAITS_MAX);
	control_set_free(map);
}

static unsigned check_listeners(struct checking *k, const char *name, unsigned others)
{
	k->s = setting_find(span_str(name));
	check(k->s);
	if (!control_has(k->c, name))
		return others + 1;
	check_entries(k);
	if (others + k->entries > ROLE_LISTENERS_MAX)
		say(k, ERROR, 0, "more than %d addresses in smtplisten and qmtplisten together",
		    ROLE_LISTENERS_MAX);
	return others + k->entries;
}

static void check_file(struct checking *k)
{
	bool there;
	struct span raw = control_raw(k->c, k->s->name, &there);

	if (!there)
		return;
	switch (k->s->kind) {
	case SETTING_LINE: check_line(k, raw); break;
	case SETTING_INT: check_int(k, raw); break;
	case SETTING_LIST:
	case SETTING_MAP: check_entries(k); break;
	}
}

/* What one file means for another. */
static void check_together(struct checking *k)
{
	k->s = setting_find(SPAN("me"));
	if (!control_has(k->c, "me") && !control_has(k->c, "locals"))
		say(k, ERROR, 0, "is missing, and so is control/locals: which mail is local?");
	else if (!control_has(k->c, "me"))
		say(k, ERROR, 0, "is missing: this host has no name");

	k->s = setting_find(SPAN("rcpthosts"));
	if (!control_has(k->c, "rcpthosts"))
		say(k, WARNING, 0,
		    "is missing: from the network no mail is taken but by relayclients");

	k->s = setting_find(SPAN("ringsize"));
	if (control_setting(k->c, "ringsize") > control_setting(k->c, "segmentsize"))
		say(k, ERROR, control_has(k->c, "ringsize"),
		    "the ring is larger than a segment (control/segmentsize)");
}

static void check_name(void *ctx, struct span name)
{
	struct checking *k = ctx;
	char text[256];

	if (setting_find(name))
		return;
	if (!span_to_cstr(name, text, sizeof text))
		return;
	struct setting unknown = {.name = text};
	k->s = &unknown;
	say(k, WARNING, 0, "ignored: no setting has this name");
}

unsigned control_validate(const struct control *c,
			  void (*tell)(void *ctx, bool error, struct span text), void *ctx)
{
	struct checking k = {.c = c, .tell = tell, .ctx = ctx};
	unsigned listeners;

	for (size_t i = 0; i < settings_n; i++) {
		k.s = &settings[i];
		if (!span_ends(span_str(k.s->name), SPAN("listen")))
			check_file(&k);
	}
	listeners = check_listeners(&k, "smtplisten", 0);
	check_listeners(&k, "qmtplisten", listeners);
	check_together(&k);
	control_names(c, check_name, &k);
	return k.errors;
}
