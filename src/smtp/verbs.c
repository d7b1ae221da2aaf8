#include "smtp/verbs.h"

#include "mail/addr.h"
#include "smtp/params.h"
#include "smtp/replies.h"

#include <string.h>

typedef const struct reply *handler(struct smtp *s, struct span arg);
static handler on_helo, on_ehlo, on_mail, on_rcpt, on_data, on_rset, on_noop, on_vrfy, on_help,
	on_quit;

/* qmail's liberties are kept: no HELO is needed, MAIL may be said again (docs/qmail.md 5.2). */
static const struct verb {
	const char *name;
	unsigned    phases;                       /* where it is legal */
	handler    *on;
} verbs[] = {
	{"MAIL", SMTP_ANY,  on_mail},
	{"RCPT", SMTP_SENDER | SMTP_RCPT, on_rcpt},
	{"DATA", SMTP_RCPT, on_data},
	{"EHLO", SMTP_ANY,  on_ehlo},
	{"HELO", SMTP_ANY,  on_helo},
	{"RSET", SMTP_ANY,  on_rset},
	{"QUIT", SMTP_ANY,  on_quit},
	{"NOOP", SMTP_ANY,  on_noop},
	{"VRFY", SMTP_ANY,  on_vrfy},
	{"HELP", SMTP_ANY,  on_help},
};

const struct reply *verbs_dispatch(struct smtp *s, struct span line)
{
	struct span verb;

	/* A NUL or CR in an address would travel on to places where it ends a string
	 * or a line. */
	if (span_has(line, '\0') || span_has(line, '\r'))
		return &reply_bad_bytes;
	verb = span_word(&line);
	for (size_t i = 0; i < ARRAY_N(verbs); i++) {
		if (!span_ieq(verb, span_str(verbs[i].name)))
			continue;
		if (verbs[i].phases & s->phase)
			return verbs[i].on(s, line);
		return s->phase == SMTP_IDLE ? &reply_mail_first : &reply_rcpt_first;
	}
	return &reply_unknown_verb;
}

static void greeted(struct smtp *s, struct span name, bool esmtp)
{
	smtp_reset(s);
	name = span_until(span_trim(name), SMTP_HELO_MAX);
	if (name.n > 0)
		memcpy(s->helo, name.p, name.n);
	s->helo_n = (uint8_t)name.n;
	s->esmtp = esmtp;
}

static const struct reply *on_helo(struct smtp *s, struct span arg)
{
	greeted(s, arg, false);
	reply_helo(s->out, s->world->policy->greeting);
	return NULL;
}

static const struct reply *on_ehlo(struct smtp *s, struct span arg)
{
	greeted(s, arg, true);
	reply_ehlo(s->out, s->world->policy->greeting, s->world->policy->databytes);
	return NULL;
}

/* "FROM:" [SP] path, "TO:" [SP] path                RFC 5321 4.1.1.2, 4.1.1.3
 * The blank is forbidden there and common in life.  What follows the path stays in *arg.
 * dst has room for ADDR_MAX bytes: a suffix may come. */
static const struct reply *take_address(struct smtp *s, struct span *arg, struct span keyword,
                                        const struct reply *syntax, char *dst, struct span *ret)
{
	if (!span_skip_i(arg, keyword))
		return syntax;
	switch (addr_take_path(arg, dst, POLICY_ADDR_MAX, ret)) {
	case PATH_SYNTAX: return syntax;
	case PATH_LONG: return &reply_address_too_long;
	case PATH_OK: break;
	}
	if (!policy_name_literal(s->world->policy, &s->peer, ret, dst, POLICY_ADDR_MAX))
		return &reply_address_too_long;
	return NULL;
}

/* MAIL FROM:<reverse-path> [SP parameters]          RFC 5321 4.1.1.2
 * The empty path is a bounce.  A sender in badmailfrom is refused at RCPT, as qmail does: a
 * client that sees 553 there drops the recipient, not the connection. */
static const struct reply *on_mail(struct smtp *s, struct span arg)
{
	const struct smtp_world *w = s->world;
	char                     dst[ADDR_MAX];
	struct span              path;
	struct params            params;
	const struct reply *no =
		take_address(s, &arg, SPAN("FROM:"), &reply_mail_syntax, dst, &path);

	if (no)
		return no;
	no = params_parse(arg, &params);
	if (no)
		return no;
	no = policy_size(w->policy, params.size);
	if (no)
		return no;
	if (!w->admits(s))
		return w->disk_full && w->disk_full(s) ? &reply_disk_full : &reply_not_now;
	if (!s->envelope)
		s->envelope = w->open(s);
	if (!s->envelope)
		return &reply_no_memory;

	envelope_clear(s->envelope);
	check(envelope_sender(s->envelope, path));
	s->sender_is_bad = policy_sender_is_bad(w->policy, path);
	s->phase = SMTP_SENDER;
	return &reply_sender_ok;
}

/* RCPT TO:<forward-path>                            RFC 5321 4.1.1.3 */
static const struct reply *on_rcpt(struct smtp *s, struct span arg)
{
	const struct policy *p = s->world->policy;
	char                 dst[ADDR_MAX];
	struct span          path;
	const struct reply *no =
		take_address(s, &arg, SPAN("TO:"), &reply_rcpt_syntax, dst, &path);

	if (no)
		return no;
	if (path.n == 0)
		return &reply_rcpt_syntax;
	if (span_trim(arg).n > 0)
		return &reply_rcpt_param;
	no = s->sender_is_bad ? &reply_sender_refused : policy_rcpt(p, &s->peer, path);
	if (no)
		return no;
	if (path.n + s->peer.suffix.n > ADDR_MAX)
		return &reply_address_too_long;
	if (p->rcpts_max > 0 && s->envelope->rcpts >= p->rcpts_max)
		return &reply_too_many_rcpts;

	if (s->peer.suffix.n > 0)
		memcpy(dst + path.n, s->peer.suffix.p, s->peer.suffix.n);
	if (!envelope_add(s->envelope, span_of(dst, path.n + s->peer.suffix.n)))
		return &reply_too_many_rcpts;
	s->phase = SMTP_RCPT;
	return &reply_rcpt_ok;
}

static const struct reply *on_data(struct smtp *s, struct span arg)
{
	smtp_expect_body(s);
	return &reply_go_ahead;
}

static const struct reply *on_rset(struct smtp *s, struct span arg)
{
	smtp_reset(s);
	return &reply_flushed;
}

static const struct reply *on_noop(struct smtp *s, struct span arg)
{
	return &reply_noop;
}

static const struct reply *on_vrfy(struct smtp *s, struct span arg)
{
	return &reply_vrfy;
}

static const struct reply *on_help(struct smtp *s, struct span arg)
{
	return &reply_help;
}

static const struct reply *on_quit(struct smtp *s, struct span arg)
{
	reply_bye(s->out, s->world->policy->greeting);
	smtp_end(s);
	return NULL;
}
