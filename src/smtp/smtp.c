/* Reads top to bottom in the order things happen.  The step pointer is the whole state of the
 * dialogue; phase only says which commands are legal. */
#include "smtp/smtp.h"

#include "core/clock.h"
#include "mail/received.h"
#include "smtp/replies.h"
#include "smtp/verbs.h"

static smtp_step await_command, await_body, await_commit, finished;

void smtp_begin(struct smtp *s, const struct smtp_world *w, struct outbuf *out,
		const struct policy_peer *peer)
{
	*s = (struct smtp){.world = w,
			   .out = out,
			   .step = await_command,
			   .peer = *peer,
			   .phase = SMTP_IDLE};
	line_init(&s->line, SMTP_LINE_MAX);
	reply_greeting(out, w->policy->greeting);
}

void smtp_reset(struct smtp *s)
{
	if (s->envelope)
		s->world->close(s);
	s->envelope = NULL;
	s->phase = SMTP_IDLE;
}

void smtp_fini(struct smtp *s)
{
	if (!s->world)
		return;
	smtp_reset(s);
	line_fini(&s->line);
	s->step = finished;
}

void smtp_end(struct smtp *s)
{
	smtp_reset(s);
	line_fini(&s->line);
	s->step = finished;
}

static void say_last(struct smtp *s, const struct reply *r)
{
	reply_say(s->out, r);
	smtp_end(s);
}

static void note(struct smtp *s, const struct reply *r, struct span about)
{
	if (s->world->refused)
		s->world->refused(s, r, about);
}

/* Grammar errors: x.5.y.  Refused recipients are not among them: a list host has many. */
static bool is_error(const struct reply *r)
{
	return r->code >= 500 && r->enhanced[2] == '5';
}

static void answer(struct smtp *s, const struct reply *r, struct span about)
{
	if (!r)
		return;
	reply_say(s->out, r);
	if (r->code >= 400)
		note(s, r, about);
	if (is_error(r) && ++s->errors >= SMTP_ERRORS_MAX)
		say_last(s, &reply_too_many_errors);
}

static enum smtp_verdict await_command(struct smtp *s, struct span *in)
{
	struct span line;

	if (s->draining && !s->envelope) {
		say_last(s, &reply_going_down);
		return V_MORE;
	}
	if (outbuf_full(s->out))
		return V_WAIT;                    /* it talks and does not listen */
	switch (line_take(&s->line, in, &line)) {
	case LINE_MORE: return V_WAIT;
	case LINE_LONG: answer(s, &reply_line_too_long, SPAN_NONE); return V_MORE;
	case LINE_OK: answer(s, verbs_dispatch(s, line), line); return V_MORE;
	}
	unreachable();
}

/* docs/qmail.md 4.2: a HELO name is shown only if it says more than the host's; names are not
 * looked up, so the host is always "unknown". */
static void put_received(struct smtp *s)
{
	char                 ip[IP_TEXT_MAX];
	struct span          helo = span_of(s->helo, s->helo_n), unknown = SPAN("unknown");
	struct received_from f = {
		.host = unknown,
		.helo = span_ieq(helo, unknown) ? SPAN_NONE : helo,
		.ip = s->peer.ip.family ? span_str(ip_text(&s->peer.ip, ip)) : unknown,
		.by = s->world->policy->me,
		.protocol = s->esmtp ? "ESMTP" : "SMTP", /* RFC 3848 */
	};

	buf_clear(s->world->scratch);
	check(received_network(s->world->scratch, &f, clock_wall()));
	s->world->body(s, buf_span(s->world->scratch));
}

void smtp_expect_body(struct smtp *s)
{
	check(s->envelope && s->envelope->rcpts > 0);
	dots_in_begin(&s->dots);
	hops_begin(&s->hops);
	s->size = 0;
	s->refusal = NULL;
	s->world->body_begin(s);
	if (!s->world->untraced)
		put_received(s);
	s->step = await_body;
}

/* Hops come before size in what we say, whichever is found first. */
static void on_run(void *ctx, struct span run)
{
	struct smtp *s = ctx;

	hops_take(&s->hops, run);
	s->size += run.n;
	if (s->hops.count >= HOPS_MAX)
		s->refusal = &reply_looping;
	else if (!s->refusal)
		s->refusal = policy_size(s->world->policy, s->size);
	if (!s->refusal)
		s->world->body(s, run);
}

static void end_message(struct smtp *s, const struct reply *r)
{
	struct span sender = span_of(s->envelope->sender, s->envelope->sender_n);

	reply_say(s->out, r);
	note(s, r, sender);
	smtp_reset(s);
	s->step = await_command;
}

static enum smtp_verdict await_body(struct smtp *s, struct span *in)
{
	if (in->n == 0 || s->world->full(s))
		return V_WAIT;
	switch (dots_in_take(&s->dots, in, on_run, s)) {
	case BODY_MORE:
		return V_WAIT;
	case BODY_BARE_LF:
		note(s, &reply_bare_lf, SPAN_NONE);
		say_last(s, &reply_bare_lf);
		return V_MORE;
	case BODY_END:
		if (s->refusal) {
			end_message(s, s->refusal);
			return V_MORE;
		}
		s->step = await_commit;
		s->world->commit(s);
		return V_WAIT;
	}
	unreachable();
}

/* What the client pipelined meanwhile stays held. */
static enum smtp_verdict await_commit(struct smtp *s, struct span *in)
{
	return V_WAIT;
}

static const struct reply *reply_stored(enum stored verdict)
{
	switch (verdict) {
	case STORED_OK: return NULL;
	case STORED_LATER: return &reply_later;
	case STORED_FULL: return &reply_disk_full;
	case STORED_LIMIT: return &reply_much_open;
	case STORED_BAD:
		return &reply_later; /* our bug, logged by journald: the client keeps it */
	}
	unreachable();
}

void smtp_committed(struct smtp *s, enum stored verdict, uint64_t id)
{
	const struct reply *no = reply_stored(verdict);

	check(s->step == await_commit);
	if (no) {
		end_message(s, no);
	} else {
		reply_accepted(s->out, clock_wall(), id);
		if (s->world->accepted)
			s->world->accepted(s, id);
		s->errors = 0;
		smtp_reset(s);
		s->step = await_command;
	}
	if (s->draining)
		say_last(s, &reply_going_down);
}

void smtp_timeout(struct smtp *s)
{
	if (s->step != await_command && s->step != await_body)
		return;
	note(s, &reply_timeout, SPAN_NONE);
	say_last(s, &reply_timeout);
}

void smtp_drain(struct smtp *s)
{
	s->draining = true;
	if (s->step == await_command && !s->envelope)
		say_last(s, &reply_going_down);
}

static enum smtp_verdict finished(struct smtp *s, struct span *in)
{
	*in = SPAN_NONE;
	return V_CLOSE;
}

bool smtp_is_over(const struct smtp *s)
{
	return s->step == finished;
}

bool smtp_is_committing(const struct smtp *s)
{
	return s->step == await_commit;
}

bool smtp_is_idle(const struct smtp *s)
{
	return s->envelope == NULL;
}

enum smtp_verdict smtp_input(struct smtp *s, struct span *in)
{
	enum smtp_verdict v;

	do
		v = s->step(s, in);
	while (v == V_MORE);
	return v;
}
