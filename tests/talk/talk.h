/* talk - plays conversations that are written down in files, against a protocol in memory.
 *
 * A file holds conversations; "== name" begins one.  Lines of it, in order:
 *
 *   control NAME VALUE   a control file, before the first byte    peer IP    local IP
 *   C: text              the client says text and CR LF           c: text    ... without CR LF
 *   repeat N C: text     the same, N times ("%" becomes the number from 1)
 *   mail TEXT / sender A / rcpt A / send       a QMTP package made of these (TEXT with its
 * marker) S: text              the next line we say begins so           S= text    is exactly
 * so S~ regex             the next line we say matches R: R= R~             the same for the
 * next netstring we say quiet                nothing more was said so far store VERDICT how
 * commits end from now on: ok later full limit bad hold commit N VERDICT     ends the Nth
 * commit (from 0) of those held admit yes|no         may transactions begin        full yes|no
 * has the journal no room memory yes|no        is there room for a transaction drain timeout
 * eof room                             events stored               the next stored message is
 * meant by what follows: from A / to A        its sender, its next recipient B= line / B~ regex
 * the next line of its body;  B. the body ends here (and the recipients, if one was named)
 *   nothing              nothing else was stored
 *   open / closed        is the session over
 *
 * Text knows \r \n \0 \t \\ \s (a blank) and \xHH.  At the end everything said and stored must
 * have been asked for.  Each conversation is played whole, cut at each byte, and cut in two at
 * every place.  Bytes are offered from memory of exactly their size, so that a sanitizer sees
 * whoever reads too far. */
#ifndef TESTS_TALK_H
#define TESTS_TALK_H

#include "core/buf.h"
#include "core/clock.h"
#include "core/outbuf.h"
#include "mail/control.h"
#include "mail/envelope.h"
#include "mail/ip.h"
#include "mail/msg.h"

#include <glob.h>
#include <regex.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TALK_WALL   1795225452ull
#define TALK_STORED 256
#define TALK_HELD   4096
#define TALK_BIG    (64 * 1024 * 1024)

struct talk_msg {
	struct buf  body, to;                     /* to: packed */
	char        from[1024];
	size_t      from_n;
	struct span body_left, to_left;           /* not yet asked for */
	bool        asked;
};

struct talk;
struct talk_side {                                /* the protocol under test */
	void (*begin)(struct talk *t);            /* t->control, peer, local are set */
	void (*input)(struct talk *t, struct span *in);
	void (*commit)(struct talk *t, unsigned nth,
		       enum stored verdict);             /* of the open commits */
	void (*event)(struct talk *t, const char *name); /* drain timeout eof room */
	bool (*over)(struct talk *t);
	void (*end)(struct talk *t);
};

struct talk {
	const struct talk_side *side;
	void                   *state;
	struct control         *control;
	struct ip               peer, local;
	struct outbuf           out;
	struct buf              said, script, package, sender, rcpts;
	struct talk_msg         msgs[TALK_STORED];
	unsigned                msgs_n, msgs_asked, commits_open;
	struct { char *p; size_t n, taken; } held[TALK_HELD];
	unsigned                held_n;
	enum stored             verdict;
	bool                    hold, admits, full, memory, begun;
	size_t cut_at, fed; /* cut_at: 0 whole, SIZE_MAX each byte, else there */
	const char             *file, *name;
	unsigned                line, failures, played;
	struct talk_msg        *now;
};

static void talk_fail(struct talk *t, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
static void talk_fail(struct talk *t, const char *fmt, ...)
{
	va_list ap;

	t->failures++;
	if (t->failures > 20)
		return;
	fprintf(stderr, "%s:%u: (%s, cut %zd) ", t->file, t->line, t->name, (ssize_t)t->cut_at);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
}

static void talk_must(bool ok)
{
	if (!ok)
		abort();
}

static enum stored talk_verdict(struct span s)
{
	static const char *const names[] = {"ok", "later", "full", "limit", "bad"};

	for (unsigned i = 0; i < ARRAY_N(names); i++)
		if (span_eq(s, span_str(names[i])))
			return (enum stored)i;
	fprintf(stderr, "no such verdict: %.*s\n", SPAN_ARG(s));
	abort();
}

/* ---- what the side under test reports ---- */

static struct talk_msg *talk_msg_new(struct talk *t)
{
	struct talk_msg *m = &t->msgs[t->msgs_n++];

	talk_must(t->msgs_n < TALK_STORED);
	*m = (struct talk_msg){0};
	buf_init(&m->body, TALK_BIG);
	buf_init(&m->to, TALK_BIG);
	return m;
}

static void talk_msg_is(struct talk_msg *m, const struct envelope *e, struct span body)
{
	memcpy(m->from, e->sender, e->sender_n);
	m->from_n = e->sender_n;
	talk_must(buf_add(&m->to, buf_span(&e->packed)) && buf_add(&m->body, body));
	m->to_left = buf_span(&m->to);
	m->body_left = buf_span(&m->body);
}

/* ---- feeding ---- */

static void talk_collect(struct talk *t)
{
	size_t n = t->out.n;
	char  *at = buf_room(&t->said, n + 1);

	talk_must(at != NULL);
	talk_must(outbuf_copy(&t->out, at, n) == n);
	t->said.n += n;
	outbuf_sent(&t->out, n);
}

static void talk_offer(struct talk *t)
{
	unsigned done = 0;
	bool     again;

	do {
		again = false;
		for (; done < t->held_n; done++) {
			struct span in = span_of(t->held[done].p + t->held[done].taken,
						 t->held[done].n - t->held[done].taken);
			size_t      before = in.n;

			t->side->input(t, &in);
			t->held[done].taken += before - in.n;
			talk_collect(t);
			if (in.n > 0)
				break;
		}
		while (!t->hold && t->commits_open > 0) {
			t->side->commit(t, 0, t->verdict);
			talk_collect(t);
			again = true;
		}
	} while (again && done < t->held_n);
	for (unsigned i = 0; i < done; i++)
		free(t->held[i].p);
	memmove(t->held, t->held + done, (t->held_n - done) * sizeof(t->held[0]));
	t->held_n -= done;
}

static void talk_feed(struct talk *t, struct span bytes)
{
	while (bytes.n > 0) {
		size_t      n = bytes.n;
		struct span piece;

		if (t->cut_at == SIZE_MAX)
			n = 1;
		else if (t->cut_at > t->fed && t->cut_at - t->fed < n)
			n = t->cut_at - t->fed;
		piece = span_cut(&bytes, n);
		t->fed += n;
		talk_must(t->held_n < TALK_HELD);
		t->held[t->held_n].p = malloc(n);
		t->held[t->held_n].n = n;
		t->held[t->held_n].taken = 0;
		memcpy(t->held[t->held_n].p, piece.p, n);
		t->held_n++;
		talk_offer(t);
	}
}

/* ---- the script's language ---- */

static int talk_hex(char c)
{
	return c >= 'a' ? c - 'a' + 10 : c >= 'A' ? c - 'A' + 10 : c - '0';
}

static void talk_unescape(struct buf *b, struct span s)
{
	while (s.n > 0) {
		char c = *span_cut(&s, 1).p;

		if (c == '\\' && s.n > 0) {
			c = *span_cut(&s, 1).p;
			switch (c) {
			case 'r': c = '\r'; break;
			case 'n': c = '\n'; break;
			case 't': c = '\t'; break;
			case '0': c = '\0'; break;
			case 's': c = ' '; break;
			case 'x':
				talk_must(s.n >= 2);
				c = (char)(talk_hex(s.p[0]) * 16 + talk_hex(s.p[1]));
				span_cut(&s, 2);
				break;
			default: break;
			}
		}
		talk_must(buf_add_byte(b, c));
	}
}

static void talk_say(struct talk *t, struct span text, bool crlf)
{
	struct buf b = {0};

	buf_init(&b, TALK_BIG);
	talk_unescape(&b, text);
	if (crlf)
		talk_must(buf_add(&b, SPAN("\r\n")));
	talk_feed(t, buf_span(&b));
	buf_free(&b);
}

static bool talk_matches(struct talk *t, char how, struct span want, struct span got)
{
	char    pattern[1024], text[8192];
	regex_t re;
	bool    ok;

	if (how != '~') {
		struct buf b = {0};

		buf_init(&b, TALK_BIG);
		talk_unescape(&b, want);
		want = buf_span(&b);
		ok = how == '=' ? span_eq(got, want) : span_starts(got, want);
		buf_free(&b);
		return ok;
	}
	talk_must(span_to_cstr(want, pattern, sizeof(pattern)));
	if (!span_to_cstr(got, text, sizeof(text)))
		return false;
	if (regcomp(&re, pattern, REG_EXTENDED | REG_NOSUB) != 0) {
		talk_fail(t, "bad regex: %s", pattern);
		return false;
	}
	ok = regexec(&re, text, 0, NULL, 0) == 0;
	regfree(&re);
	return ok;
}

static void talk_expect_line(struct talk *t, char how, struct span want)
{
	struct span all = buf_span(&t->said), got;
	size_t      lf = span_find(all, '\n');

	if (lf == SPAN_NPOS) {
		talk_fail(t, "nothing was said, but \"%.*s\" was expected", SPAN_ARG(want));
		return;
	}
	got = span_until(all, lf);
	if (!span_ends(got, SPAN("\r")))
		talk_fail(t, "a line we said does not end in CR LF");
	got = span_trim_end(got, "\r");
	if (!talk_matches(t, how, want, got))
		talk_fail(t, "said \"%.*s\", expected \"%.*s\"", SPAN_ARG(got), SPAN_ARG(want));
	buf_drop_front(&t->said, lf + 1);
}

static void talk_expect_netstring(struct talk *t, char how, struct span want)
{
	struct span all = buf_span(&t->said);
	size_t      colon = span_find(all, ':');
	uint64_t    n;

	if (colon == SPAN_NPOS || !span_u64(span_until(all, colon), all.n, &n) ||
	    colon + 1 + n >= all.n || all.p[colon + 1 + n] != ',') {
		talk_fail(t, "no netstring was said, but \"%.*s\" was expected",
			  SPAN_ARG(want));
		return;
	}
	if (!talk_matches(t, how, want, span_of(all.p + colon + 1, n)))
		talk_fail(t, "said \"%.*s\", expected \"%.*s\"", (int)n, all.p + colon + 1,
			  SPAN_ARG(want));
	buf_drop_front(&t->said, colon + 1 + n + 1);
}

static void talk_expect_body(struct talk *t, char how, struct span want)
{
	struct span got;
	size_t      lf;

	if (!t->now || t->now->body_left.n == 0) {
		talk_fail(t, "no more lines are stored, but \"%.*s\" was expected",
			  SPAN_ARG(want));
		return;
	}
	lf = span_find(t->now->body_left, '\n');
	got = span_cut(&t->now->body_left, lf);
	span_cut(&t->now->body_left, 1);
	if (!talk_matches(t, how, want, got))
		talk_fail(t, "stored \"%.*s\", expected \"%.*s\"", SPAN_ARG(got),
			  SPAN_ARG(want));
}

static void talk_expect_to(struct talk *t, struct span want)
{
	struct span got;

	if (!t->now || !packed_next(&t->now->to_left, &got))
		talk_fail(t, "no more recipients, but \"%.*s\" was expected", SPAN_ARG(want));
	else if (!talk_matches(t, '=', want, got))
		talk_fail(t, "recipient \"%.*s\", expected \"%.*s\"", SPAN_ARG(got),
			  SPAN_ARG(want));
}

static void talk_repeat(struct talk *t, struct span arg)
{
	uint64_t n;

	talk_must(span_u64(span_word(&arg), 1000000, &n));
	bool crlf = span_skip(&arg, SPAN("C: "));
	talk_must(crlf || span_skip(&arg, SPAN("c: ")));
	for (uint64_t i = 1; i <= n; i++) {
		size_t     mark = span_find(arg, '%');
		struct buf b = {0};

		buf_init(&b, TALK_BIG);
		talk_must(buf_add(&b, span_until(arg, mark)));
		if (mark != SPAN_NPOS)
			talk_must(buf_fmt(&b, "%u", (unsigned)i) &&
				  buf_add(&b, span_from(arg, mark + 1)));
		talk_say(t, buf_span(&b), crlf);
		buf_free(&b);
	}
}

static void talk_netstring(struct buf *b, struct span s)
{
	talk_must(buf_fmt(b, "%zu:", s.n) && buf_add(b, s) && buf_add_byte(b, ','));
}

static void talk_package(struct talk *t, struct span op, struct span arg)
{
	struct buf b = {0}, all = {0};

	buf_init(&b, TALK_BIG);
	buf_init(&all, TALK_BIG);
	talk_unescape(&b, arg);
	if (span_eq(op, SPAN("mail"))) {
		buf_clear(&t->package);
		buf_clear(&t->sender);
		buf_clear(&t->rcpts);
		talk_must(buf_add(&t->package, buf_span(&b)));
	} else if (span_eq(op, SPAN("sender"))) {
		talk_must(buf_add(&t->sender, buf_span(&b)));
	} else if (span_eq(op, SPAN("rcpt"))) {
		talk_netstring(&t->rcpts, buf_span(&b));
	} else {
		talk_netstring(&all, buf_span(&t->package));
		talk_netstring(&all, buf_span(&t->sender));
		talk_netstring(&all, buf_span(&t->rcpts));
		talk_feed(t, buf_span(&all));
	}
	buf_free(&b);
	buf_free(&all);
}

static void talk_begin(struct talk *t)
{
	if (t->begun)
		return;
	t->begun = true;
	t->side->begin(t);
	talk_collect(t);
}

static void talk_set(struct talk *t, struct span name, struct span value)
{
	struct buf b = {0};

	buf_init(&b, TALK_BIG);
	talk_unescape(&b, value);
	talk_must(control_set(t->control, name, buf_span(&b)));
	buf_free(&b);
}

static void talk_flag(struct talk *t, bool *flag, struct span arg)
{
	*flag = span_eq(arg, SPAN("yes"));
	talk_begin(t);
	talk_offer(t);
}

static void talk_line(struct talk *t, struct span line)
{
	struct span rest = line, op = span_word(&rest);
	char        how = op.n == 2 ? op.p[1] : 0;

	if (span_eq(op, SPAN("control"))) {
		struct span name = span_word(&rest);

		return talk_set(t, name, rest);
	}
	if (span_eq(op, SPAN("peer")))
		return talk_must(ip_parse(rest, &t->peer));
	if (span_eq(op, SPAN("local")))
		return talk_must(ip_parse(rest, &t->local));
	talk_begin(t);
	rest = span_from(line, op.n + 1);         /* blanks count from here on */
	if (op.n == 2 && op.p[0] == 'C')
		return talk_say(t, rest, true);
	if (op.n == 2 && op.p[0] == 'c')
		return talk_say(t, rest, false);
	if (op.n == 2 && op.p[0] == 'S')
		return talk_expect_line(t, how, rest);
	if (op.n == 2 && op.p[0] == 'R')
		return talk_expect_netstring(t, how, rest);
	if (span_eq(op, SPAN("B."))) {
		if (!t->now || t->now->body_left.n > 0)
			talk_fail(t, "more is stored");
		else if (t->now->to_left.n > 0 && t->now->to_left.n < t->now->to.n)
			talk_fail(t, "there are more recipients");
		return;
	}
	if (op.n == 2 && op.p[0] == 'B')
		return talk_expect_body(t, how, rest);
	if (span_eq(op, SPAN("repeat")))
		return talk_repeat(t, rest);
	if (span_eq(op, SPAN("mail")) || span_eq(op, SPAN("sender")) ||
	    span_eq(op, SPAN("rcpt")) || span_eq(op, SPAN("send")))
		return talk_package(t, op, rest);
	if (span_eq(op, SPAN("quiet"))) {
		if (t->said.n > 0)
			talk_fail(t, "said \"%.*s\"", SPAN_ARG(buf_span(&t->said)));
		return;
	}
	if (span_eq(op, SPAN("store"))) {
		t->hold = span_eq(rest, SPAN("hold"));
		if (!t->hold)
			t->verdict = talk_verdict(rest);
		return;
	}
	if (span_eq(op, SPAN("commit"))) {
		uint64_t nth;

		talk_must(span_u64(span_word(&rest), TALK_STORED, &nth));
		if (nth >= t->commits_open)
			return talk_fail(t, "only %u commits are open", t->commits_open);
		t->side->commit(t, (unsigned)nth, talk_verdict(rest));
		talk_collect(t);
		return talk_offer(t);
	}
	if (span_eq(op, SPAN("admit")))
		return talk_flag(t, &t->admits, rest);
	if (span_eq(op, SPAN("full")))
		return talk_flag(t, &t->full, rest);
	if (span_eq(op, SPAN("memory")))
		return talk_flag(t, &t->memory, rest);
	if (span_eq(op, SPAN("stored"))) {
		if (t->msgs_asked >= t->msgs_n)
			return talk_fail(t, "nothing more is stored");
		t->now = &t->msgs[t->msgs_asked++];
		return;
	}
	if (span_eq(op, SPAN("from"))) {
		if (!t->now ||
		    !talk_matches(t, '=', rest, span_of(t->now->from, t->now->from_n)))
			talk_fail(t, "sender is not %.*s", SPAN_ARG(rest));
		return;
	}
	if (span_eq(op, SPAN("to")))
		return talk_expect_to(t, rest);
	if (span_eq(op, SPAN("nothing"))) {
		if (t->msgs_asked < t->msgs_n)
			talk_fail(t, "something more is stored");
		return;
	}
	if (span_eq(op, SPAN("open")) || span_eq(op, SPAN("closed"))) {
		if (t->side->over(t) != span_eq(op, SPAN("closed")))
			talk_fail(t, "the session is not %.*s", SPAN_ARG(op));
		return;
	}
	if (span_eq(op, SPAN("drain")) || span_eq(op, SPAN("timeout")) ||
	    span_eq(op, SPAN("eof")) || span_eq(op, SPAN("room"))) {
		char name[16];

		talk_must(span_to_cstr(op, name, sizeof(name)));
		t->side->event(t, name);
		talk_collect(t);
		return talk_offer(t);
	}
	fprintf(stderr, "%s:%u: not a word of a talk: %.*s\n", t->file, t->line, SPAN_ARG(op));
	abort();
}

/* ---- playing ---- */

static void talk_reset(struct talk *t)
{
	for (unsigned i = 0; i < t->msgs_n; i++) {
		buf_free(&t->msgs[i].body);
		buf_free(&t->msgs[i].to);
	}
	for (unsigned i = 0; i < t->held_n; i++)
		free(t->held[i].p);
	buf_free(&t->said);
	outbuf_fini(&t->out);
	control_free(t->control);
	t->control = control_new();
	t->msgs_n = t->msgs_asked = t->commits_open = t->held_n = 0;
	t->now = NULL;
	t->fed = 0;
	t->verdict = STORED_OK;
	t->hold = t->full = t->begun = false;
	t->admits = t->memory = true;
	talk_must(ip_parse(SPAN("192.0.2.9"), &t->peer) &&
		  ip_parse(SPAN("192.0.2.1"), &t->local));
	talk_must(control_set(t->control, SPAN("me"), SPAN("mail.example.com\n")));
	talk_must(control_set(t->control, SPAN("rcpthosts"),
			      SPAN("mail.example.com\nexample.com\n.sub.example.com\n")));
	clock_set(1000000, TALK_WALL * 1000000);
}

/* Plays the conversation whose lines are in text; returns how many bytes the client said. */
static size_t talk_play(struct talk *t, struct span text, unsigned first_line, size_t cut_at)
{
	talk_reset(t);
	t->cut_at = cut_at;
	t->line = first_line;
	while (text.n > 0) {
		size_t      lf = span_find(text, '\n');
		struct span line = span_cut(&text, lf);

		span_cut(&text, 1);
		t->line++;
		if (line.n > 0 && line.p[0] != '#')
			talk_line(t, line);
	}
	talk_begin(t);
	if (t->said.n > 0)
		talk_fail(t, "said at the end: \"%.*s\"", SPAN_ARG(buf_span(&t->said)));
	if (t->msgs_asked < t->msgs_n)
		talk_fail(t, "%u stored messages were not asked for",
			  t->msgs_n - t->msgs_asked);
	t->side->end(t);
	t->played++;
	return t->fed;
}

#define TALK_CUTS_MAX 3000                        /* places tried in a longer conversation */

static void talk_play_all_ways(struct talk *t, struct span text, unsigned line)
{
	size_t n = talk_play(t, text, line, 0), step = n / TALK_CUTS_MAX + 1;

	if (t->failures > 0)
		return;
	if (n < 200000)
		talk_play(t, text, line, SIZE_MAX);
	for (size_t at = 1; at < n && t->failures == 0; at += step)
		talk_play(t, text, line, at);
}

static void talk_file(struct talk *t, const char *path)
{
	FILE       *f = fopen(path, "r");
	static char bytes[1 << 20], name[256];
	size_t      n;
	struct span rest, conversation = SPAN_NONE;
	unsigned    line = 0, begun_at = 0;

	talk_must(f != NULL);
	n = fread(bytes, 1, sizeof(bytes), f);
	fclose(f);
	t->file = path;
	t->name = name;
	rest = span_of(bytes, n);
	while (rest.n > 0) {
		const char *at = rest.p;
		struct span l = span_cut(&rest, span_find(rest, '\n'));

		span_cut(&rest, 1);
		line++;
		if (span_starts(l, SPAN("== "))) {
			if (conversation.p)
				talk_play_all_ways(
					t,
					span_of(conversation.p, (size_t)(at - conversation.p)),
					begun_at);
			talk_must(span_to_cstr(span_from(l, 3), name, sizeof(name)));
			conversation = rest;
			begun_at = line;
		}
	}
	if (conversation.p)
		talk_play_all_ways(t, conversation, begun_at);
}

/* All files of a folder; returns the failures. */
static unsigned talk_folder(struct talk *t, const char *pattern)
{
	glob_t g;

	buf_init(&t->said, TALK_BIG);
	buf_init(&t->package, TALK_BIG);
	buf_init(&t->sender, TALK_BIG);
	buf_init(&t->rcpts, TALK_BIG);
	outbuf_init(&t->out);
	if (glob(pattern, 0, NULL, &g) != 0) {
		fprintf(stderr, "no talks in %s\n", pattern);
		return 1;
	}
	for (size_t i = 0; i < g.gl_pathc; i++)
		talk_file(t, g.gl_pathv[i]);
	globfree(&g);
	talk_reset(t);
	control_free(t->control);
	t->control = NULL;
	buf_free(&t->package);
	buf_free(&t->sender);
	buf_free(&t->rcpts);
	return t->failures;
}

#endif
