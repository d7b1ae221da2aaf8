#include "sched/tell.h"

#include "core/clock.h"
#include "core/log.h"
#include "mail/addr.h"
#include "sched/run.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#define SAFE_MAX (RUN_ADDR_MAX + ADDR_MAX)
/* The log cuts lines at PIPE_BUF: a JSON line must stay whole, so its longest value is cut. */
#define JSON_TEXT_MAX 3000

void tell_init(struct tell *t)
{
	*t = (struct tell){0};
	buf_init(&t->safe, 65536);
	buf_init(&t->more, 65536);
}

void tell_fini(struct tell *t)
{
	buf_free(&t->safe);
	buf_free(&t->more);
}

struct span log_safe(struct buf *b, struct span s)
{
	char *to;

	buf_clear(b);
	s = span_until(s, SAFE_MAX);
	if (s.n == 0)
		return SPAN_NONE;
	to = buf_room(b, s.n);
	check(to);
	for (size_t i = 0; i < s.n; i++) {
		unsigned char c = (unsigned char)s.p[i];

		to[i] = (char)(c == '\n' ? '/' : c < 33 || c > 126 || c == '%' ? '_' : c);
	}
	return span_of(to, s.n);
}

/* ---- JSON ---- */

/* RFC 8259 7.  Bytes above 126 are written as code points: what they were meant to be is not
 * known, and a line that is not UTF-8 is no JSON. */
static void add_json(struct buf *b, struct span s)
{
	for (size_t i = 0; i < s.n && b->n < JSON_TEXT_MAX; i++) {
		unsigned char c = (unsigned char)s.p[i];

		if (c == '"' || c == '\\')
			check(buf_fmt(b, "\\%c", c));
		else if (c == '\n')
			check(buf_add(b, SPAN("\\n")));
		else if (c < 32 || c > 126)
			check(buf_fmt(b, "\\u%04x", c));
		else
			check(buf_add_byte(b, (char)c));
	}
}

static struct span json_text(struct tell *t, struct span s, struct span more)
{
	buf_clear(&t->safe);
	add_json(&t->safe, s);
	add_json(&t->safe, more);
	return buf_span(&t->safe);
}

static void json(const char *event, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void json(const char *event, const char *fmt, ...)
{
	char rest[JSON_TEXT_MAX + 512];
	uint64_t now = clock_wall_us();
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(rest, sizeof(rest), fmt, ap);
	va_end(ap);
	check(n >= 0 && (size_t)n < sizeof(rest));
	log_line("{\"time\":%" PRIu64 ".%06u,\"event\":\"%s\"%s}", now / 1000000,
		 (unsigned)(now % 1000000), event, rest);
}

static const char *channel_name(enum channel ch)
{
	return ch == CHANNEL_LOCAL ? "local" : "remote";
}

static const char *const results[] = {
	[TELL_SUCCESS] = "success", [TELL_FAILURE] = "failure", [TELL_DEFERRAL] = "deferral"};

/* ---- events ---- */

void tell_new(struct tell *t, const struct tell_info *i)
{
	struct span from;

	if (t->json) {
		from = json_text(t, i->sender, SPAN_NONE);
		json("new_msg", ",\"id\":\"%" PRIu64 "\"", i->id);
		json("info_msg",
		     ",\"id\":\"%" PRIu64 "\",\"bytes\":%" PRIu64
		     ",\"sender\":\"%.*s\",\"qp\":%" PRIu32 ",\"uid\":%" PRIu32,
		     i->id, i->bytes, SPAN_ARG(from), i->qp, i->uid);
		return;
	}
	from = log_safe(&t->safe, i->sender);
	log_line("new msg %" PRIu64, i->id);
	log_line("info msg %" PRIu64 ": bytes %" PRIu64 " from <%.*s> qp %" PRIu32
		 " uid %" PRIu32,
		 i->id, i->bytes, SPAN_ARG(from), i->qp, i->uid);
}

void tell_replay(struct tell *t, uint64_t id, uint64_t of)
{
	if (t->json)
		json("replay", ",\"id\":\"%" PRIu64 "\",\"of\":\"%" PRIu64 "\"", id, of);
	else
		log_line("replay msg %" PRIu64 ": of msg %" PRIu64, id, of);
}

void tell_start(struct tell *t, uint64_t delivery, uint64_t id, enum channel ch,
		struct span rcpt)
{
	struct span to;

	if (t->json) {
		to = json_text(t, rcpt, SPAN_NONE);
		json("starting_delivery",
		     ",\"delivery\":%" PRIu64 ",\"id\":\"%" PRIu64
		     "\",\"channel\":\"%s\",\"recipient\":\"%.*s\"",
		     delivery, id, channel_name(ch), SPAN_ARG(to));
		return;
	}
	to = log_safe(&t->safe, rcpt);
	log_line("starting delivery %" PRIu64 ": msg %" PRIu64 " to %s %.*s", delivery, id,
		 channel_name(ch), SPAN_ARG(to));
}

void tell_end(struct tell *t, uint64_t delivery, uint64_t id, enum tell_result r,
	      struct span text, struct span more)
{
	if (t->json) {
		text = json_text(t, text, more);
		json("delivery",
		     ",\"delivery\":%" PRIu64 ",\"id\":\"%" PRIu64
		     "\",\"result\":\"%s\",\"text\":\"%.*s\"",
		     delivery, id, results[r], SPAN_ARG(text));
		return;
	}
	text = log_safe(&t->safe, text);
	more = log_safe(&t->more, more);
	log_line("delivery %" PRIu64 ": %s: %.*s%.*s", delivery, results[r], SPAN_ARG(text),
		 SPAN_ARG(more));
}

void tell_mangled(struct tell *t, uint64_t delivery, uint64_t id)
{
	if (t->json)
		json("report_mangled", ",\"delivery\":%" PRIu64 ",\"id\":\"%" PRIu64 "\"",
		     delivery, id);
	else
		log_line("delivery %" PRIu64 ": report mangled, will defer", delivery);
}

void tell_bounce(struct tell *t, uint64_t id, uint32_t qp)
{
	if (t->json)
		json("bounce_msg", ",\"id\":\"%" PRIu64 "\",\"qp\":%" PRIu32, id, qp);
	else
		log_line("bounce msg %" PRIu64 " qp %" PRIu32, id, qp);
}

void tell_triple(struct tell *t, uint64_t id)
{
	if (t->json)
		json("triple_bounce", ",\"id\":\"%" PRIu64 "\"", id);
	else
		log_line("triple bounce: discarding bounce/%" PRIu64, id);
}

void tell_damage(struct tell *t, uint64_t id, const char *what)
{
	if (t->json)
		json("damage", ",\"id\":\"%" PRIu64 "\",\"text\":\"%s\"", id, what);
	else
		log_line("msg %" PRIu64 ": %s", id, what);
}

void tell_over(struct tell *t, uint64_t id)
{
	if (t->json)
		json("end_msg", ",\"id\":\"%" PRIu64 "\"", id);
	else
		log_line("end msg %" PRIu64, id);
}

void tell_warning(struct tell *t, const char *what)
{
	if (t->json)
		json("warning", ",\"text\":\"%s\"", what);
	else
		log_line("warning: %s", what);
}

void tell_status(struct tell *t, const struct tell_status *s)
{
	if (t->json)
		json("status",
		     ",\"local\":%" PRIu32 ",\"local_limit\":%" PRIu32 ",\"remote\":%" PRIu32
		     ",\"remote_limit\":%" PRIu32 ",\"exitasap\":%s",
		     s->local, s->local_limit, s->remote, s->remote_limit,
		     s->draining ? "true" : "false");
	else
		log_line("status: local %" PRIu32 "/%" PRIu32 " remote %" PRIu32 "/%" PRIu32
			 "%s",
			 s->local, s->local_limit, s->remote, s->remote_limit,
			 s->draining ? " exitasap" : "");
}

void tell_exiting(struct tell *t)
{
	if (t->json)
		json("exiting", "%s", "");
	else
		log_line("status: exiting");
}
