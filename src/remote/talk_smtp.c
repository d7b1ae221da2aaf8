/* talk_smtp - see the header.
 *
 * Questions wait in a row; each complete answer goes to the oldest (`heard_n`).  Those from
 * `sent_n` on have not left: release() lets them go, all of them if the server pipelines, else
 * one at a time.  The row is empty before a next one is filled, so it never wraps.
 *
 *   greeting -> EHLO -> (HELO) -> READY
 *   READY -> MAIL RCPT* DATA -> body and dot -> READY
 *                            -> nobody was taken: RSET -> READY */
#include "remote/talk_smtp.h"

#include "mail/addr.h"

#include <stdio.h>
#include <string.h>

#define BODY_PIECE 16384                          /* asked of the source at once */

static smtp_expect on_greeting, on_ehlo, on_helo, on_mail, on_rcpt, on_data, on_dot,
	on_lone_dot, on_rset;
static void        ask_message(struct talk_smtp *t);
static void        send_body(struct talk_smtp *t);
static void        end_transaction(struct talk_smtp *t);

/* The question's text is to be written to the outbuf that comes back. */
static struct outbuf *ask(struct talk_smtp *t, smtp_expect *on)
{
	check(t->asked_n < SMTP_QUESTIONS_MAX);
	t->question[t->asked_n].on = on;
	t->question[t->asked_n].start = t->moved + t->unsent.n;
	t->asked_n++;
	return &t->unsent;
}

/* The only place that decides what leaves. */
static void release(struct talk_smtp *t)
{
	while (t->sent_n < t->asked_n && (t->pipelining || t->sent_n == t->heard_n)) {
		t->sent_n++;

		uint64_t end = t->sent_n < t->asked_n ? t->question[t->sent_n].start
						      : t->moved + t->unsent.n;
		out_move(t->out, &t->unsent, (size_t)(end - t->moved));
		t->moved = end;
	}
}

/* What has not left is not asked any more. */
static void stop_asking(struct talk_smtp *t)
{
	t->asked_n = t->sent_n;
	t->moved += t->unsent.n;
	outbuf_fini(&t->unsent);
	if (t->heard_n == t->asked_n)
		t->heard_n = t->sent_n = t->asked_n = 0;
}

static bool all_is_heard(const struct talk_smtp *t)
{
	return t->heard_n == t->asked_n;
}

static enum outcome outcome_of(const struct answer *a)
{
	return a->code < 400   ? OUTCOME_DELIVERED
	       : a->code < 500 ? OUTCOME_DEFERRED
			       : OUTCOME_FAILED;
}

/* The server asks us to come less often: it closes, or names policy (RFC 3463 X.7.X). */
static enum task_slow slow_of(const struct answer *a)
{
	return a->code == 421 || answer_has_enhanced(a, SPAN("4.7.")) ? TASK_ASKED_SLOW
								      : TASK_FAST;
}

/* "<before><ip><after>\nRemote host said: ..." */
static struct span words(struct talk_smtp *t, const char *before, const char *after,
			 const struct answer *a)
{
	return task_text(t->task, "%s%s%s\nRemote host said: %.*s", before, t->ip, after,
			 SPAN_ARG(buf_span(&a->text)));
}

static void finish_task(struct talk_smtp *t)
{
	t->finished = t->task;
	t->task = NULL;
	t->in_body = false;
}

static void end_talk(struct talk_smtp *t)
{
	stop_asking(t);
	t->state = TALK_OVER;
	if (t->task)
		finish_task(t);
}

/* Nothing was asked for the message yet: somebody else may do better. */
static void give_host_up(struct talk_smtp *t, struct span why, enum task_slow slow)
{
	if (t->task)
		task_trouble(t->task, why, slow);
	end_talk(t);
}

static void settle_slice(struct talk_smtp *t, enum outcome o, struct span text,
			 enum task_slow slow)
{
	task_settle_range(t->task, t->first, t->n, o, text, slow);
}

/* The rest of the task has no server any more. */
static void settle_all_and_end(struct talk_smtp *t, struct span text, enum task_slow slow)
{
	t->abrupt = t->abrupt || t->in_body;
	task_settle_rest(t->task, OUTCOME_DEFERRED, text, slow);
	end_talk(t);
}

/* ---- the hellos ---------------------------------------------------------------------- */

void talk_smtp_begin(struct talk_smtp *t, struct outbuf *out, const struct ip *ip,
		     struct span hello)
{
	*t = (struct talk_smtp){.out = out, .state = TALK_GREETING};
	outbuf_init(&t->unsent);
	answer_init(&t->answer);
	ip_text(ip, t->ip);
	if (!span_to_cstr(span_until(hello, SMTP_HELLO_MAX), t->hello, sizeof(t->hello)))
		t->hello[0] = '\0';
	ask(t, on_greeting);
	release(t);
}

void talk_smtp_fini(struct talk_smtp *t)
{
	outbuf_fini(&t->unsent);
	answer_fini(&t->answer);
}

/* Only 220 is a greeting; 554 says "no service here" as 421 says "not now" (RFC 5321 3.1). */
static void on_greeting(struct talk_smtp *t, const struct answer *a)
{
	if (a->code != 220) {
		struct span why = SPAN_NONE;

		if (t->task)
			why = words(t, "Connected to ", " but greeting failed.", a);
		give_host_up(t, why, slow_of(a));
		return;
	}
	out_fmt(ask(t, on_ehlo), "EHLO %s\r\n", t->hello);
}

static void ready(struct talk_smtp *t)
{
	t->state = TALK_READY;
	if (t->task)
		ask_message(t);
}

/* Each line behind the first: a keyword and parameters.  RFC 5321 4.1.1.1. */
static void learn_extensions(struct talk_smtp *t, struct span text)
{
	while (text.n > 0) {
		struct span line = span_from(span_cut(&text, span_find(text, '\n')), 4);
		struct span keyword = span_word(&line);

		span_cut(&text, 1);
		if (span_ieq(keyword, SPAN("PIPELINING")))
			t->pipelining = true;
		else if (span_ieq(keyword, SPAN("SIZE")))
			t->size = true;
		else if (span_ieq(keyword, SPAN("8BITMIME")))
			t->eight_bit = true;
	}
}

static void reject_name(struct talk_smtp *t, const struct answer *a)
{
	struct span why = SPAN_NONE;

	if (t->task)
		why = words(t, "Connected to ", " but my name was rejected.", a);
	give_host_up(t, why, slow_of(a));
}

static void on_ehlo(struct talk_smtp *t, const struct answer *a)
{
	if (a->code == 250) {
		learn_extensions(t, buf_span(&a->text));
		ready(t);
	} else if (a->code >= 500) {
		out_fmt(ask(t, on_helo), "HELO %s\r\n", t->hello);
	} else {
		reject_name(t, a);
	}
}

static void on_helo(struct talk_smtp *t, const struct answer *a)
{
	if (a->code == 250)
		ready(t);
	else
		reject_name(t, a);
}

/* ---- one transaction ------------------------------------------------------------------- */

void talk_smtp_task(struct talk_smtp *t, struct task *j)
{
	check(!t->task && !t->finished);
	check(t->state == TALK_GREETING || t->state == TALK_READY);
	t->task = j;
	t->reused = t->tasks++ > 0;
	t->mail_asked = t->mail_answered = t->dot_sent = false;
	if (t->state == TALK_READY)
		ask_message(t);
	release(t);
}

/* A line end in an address would be a command of its own, and a '>' ends the path; quoting
 * protects the local part from the latter only.  Such an address has no form in SMTP. */
static bool fits_smtp(struct span addr)
{
	struct span verbatim = addr_has_at(addr) ? addr_domain(addr) : addr;

	if (!addr_fits_smtp(addr))
		return false;
	for (size_t i = 0; i < verbatim.n; i++) {
		unsigned char c = (unsigned char)verbatim.p[i];

		if (c <= ' ' || c == 127 || c == '<' || c == '>')
			return false;
	}
	return true;
}

static void ask_mail(struct talk_smtp *t)
{
	struct outbuf *o = ask(t, on_mail);

	out_str(o, "MAIL FROM:<");
	addr_quote(o, t->task->sender);
	out_byte(o, '>');
	if (t->size)
		out_fmt(o, " SIZE=%llu", (unsigned long long)t->task->size);
	if (t->eight_bit && t->task->source->eight_bit(t->task->source))
		out_str(o, " BODY=8BITMIME");
	out_str(o, "\r\n");
	t->mail_asked = true;
}

static void ask_rcpt(struct talk_smtp *t, uint32_t i)
{
	struct outbuf *o = ask(t, on_rcpt);

	out_str(o, "RCPT TO:<");
	addr_quote(o, t->task->rcpt[i]);
	out_str(o, ">\r\n");
}

/* Recipients that SMTP cannot express fail here; true if any is left to ask for. */
static bool choose_recipients(struct talk_smtp *t)
{
	struct task *j = t->task;
	uint32_t    left = j->rcpts - j->next;
	bool        any = false;

	t->first = t->at = j->next;
	t->n = left < SMTP_RCPTS_MAX ? left : SMTP_RCPTS_MAX;
	t->taken = 0;
	for (uint32_t i = t->first; i < t->first + t->n; i++) {
		if (fits_smtp(j->rcpt[i]))
			any = true;
		else
			task_settle(j, i, OUTCOME_FAILED,
				    task_text(j, "This recipient address can't be sent by "
						 "SMTP. (#5.1.3)\n"),
				    TASK_FAST);
	}
	return any;
}

static void ask_message(struct talk_smtp *t)
{
	struct task *j = t->task;

	check(all_is_heard(t));
	t->asked_n = t->sent_n = t->heard_n = 0;
	t->state = TALK_BUSY;
	if (!fits_smtp(j->sender))
		task_settle_rest(
			j, OUTCOME_FAILED,
			task_text(j, "This sender address can't be sent by SMTP. (#5.1.7)\n"),
			TASK_FAST);
	while (!task_is_settled(j) && !choose_recipients(t))
		j->next = t->first + t->n;
	if (task_is_settled(j)) {
		t->state = TALK_READY;
		finish_task(t);
		return;
	}
	ask_mail(t);
	for (uint32_t i = t->first; i < t->first + t->n; i++)
		if (j->result[i].outcome == TASK_OPEN)
			ask_rcpt(t, i);
	out_str(ask(t, on_data), "DATA\r\n");
}

/* The recipients of this transaction have all that it gives. */
static void end_transaction(struct talk_smtp *t)
{
	struct task *j = t->task;

	j->next = t->first + t->n;
	t->state = TALK_READY;
	t->dot_sent = false;
	if (task_is_settled(j)) {
		finish_task(t);
		return;
	}
	j->source->rewind(j->source);
	t->mail_answered = false;
	ask_message(t);
}

static void ask_rset(struct talk_smtp *t)
{
	stop_asking(t);
	if (all_is_heard(t))                      /* else DATA is still to be heard, and asks then */
		out_str(ask(t, on_rset), "RSET\r\n");
}

static void on_mail(struct talk_smtp *t, const struct answer *a)
{
	t->mail_answered = true;
	if (a->code < 400)
		return;
	/* "Enough for one connection", or a timeout that crossed our question. */
	if (a->code == 421 && t->reused && t->task->next == 0) {
		give_host_up(t, words(t, "Connected to ", " but sender was rejected.", a),
			     TASK_ASKED_SLOW);
		return;
	}
	settle_slice(t, outcome_of(a),
		     words(t, "Connected to ", " but sender was rejected.", a), slow_of(a));
	ask_rset(t);
}

/* Nobody was taken: the texts end as qmail's do. */
static void say_giving_up(struct talk_smtp *t)
{
	for (uint32_t i = t->first; i < t->first + t->n; i++) {
		struct task_result *r = &t->task->result[i];

		if (span_has(r->text, '\n') && span_istarts(r->text, span_str(t->ip)))
			r->text = task_text(t->task, "%.*sGiving up on %s.\n",
					    SPAN_ARG(r->text), t->ip);
	}
}

/* The next recipient whose answer has not come; past the end if MAIL was refused. */
static uint32_t next_asked(struct talk_smtp *t)
{
	while (t->at < t->first + t->n && t->task->result[t->at].outcome != TASK_OPEN)
		t->at++;
	return t->at;
}

static void on_rcpt(struct talk_smtp *t, const struct answer *a)
{
	struct task *j = t->task;
	uint32_t    i = next_asked(t);

	if (i == t->first + t->n)
		return;
	if (a->code < 400) {
		j->result[i].outcome = TASK_TAKEN;
		t->taken++;
	} else {
		task_settle(j, i, outcome_of(a), words(t, "", " does not like recipient.", a),
			    slow_of(a));
	}
	if (next_asked(t) < t->first + t->n || t->taken > 0)
		return;
	say_giving_up(t);
	ask_rset(t);
}

static void begin_body(struct talk_smtp *t)
{
	ask(t, on_dot);
	t->in_body = true;
	dots_out_begin(&t->dots);
	send_body(t);
}

static void on_data(struct talk_smtp *t, const struct answer *a)
{
	bool go = a->code >= 300 && a->code < 400;

	if (go && t->taken > 0) {
		begin_body(t);
	} else if (go) {                          /* RFC 2920 3.1: nobody, and yet it wants a message */
		out_str(ask(t, on_lone_dot), ".\r\n");
	} else if (a->code < 300) {
		settle_all_and_end(
			t,
			task_text(t->task, "%s answered DATA without sense. (#4.5.0)\n", t->ip),
			TASK_FAST);
	} else {
		settle_slice(t, outcome_of(a), words(t, "", " failed on DATA command.", a),
			     slow_of(a));
		ask_rset(t);
	}
}

static void on_lone_dot(struct talk_smtp *t, const struct answer *a)
{
	end_transaction(t);
}

static void on_rset(struct talk_smtp *t, const struct answer *a)
{
	if (a->code < 400) {
		end_transaction(t);
		return;
	}
	settle_all_and_end(t, words(t, "Connected to ", " but RSET failed.", a), slow_of(a));
}

/* ---- the body --------------------------------------------------------------------------- */

static void end_body(struct talk_smtp *t)
{
	dots_out_end(&t->dots, t->out);
	t->task->stray_cr += t->dots.stray_cr;
	t->in_body = false;
	t->dot_sent = true;
}

static void send_body(struct talk_smtp *t)
{
	struct span run;

	while (t->in_body && !outbuf_full(t->out)) {
		switch (t->task->source->take(t->task->source, BODY_PIECE, &run)) {
		case SOURCE_BYTES: dots_out_put(&t->dots, t->out, run); break;
		case SOURCE_END:   end_body(t); break;
		case SOURCE_LATER: return;
		case SOURCE_GONE:
			settle_all_and_end(
				t, task_text(t->task, "Unable to read message. (#4.3.0)\n"),
				TASK_NO_BODY);
			return;
		}
	}
}

void talk_smtp_more(struct talk_smtp *t)
{
	if (t->in_body)
		send_body(t);
}

/* An answer before our dot can only be a refusal, and only the end of the connection stops us. */
static void hear_too_early(struct talk_smtp *t, const struct answer *a)
{
	if (a->code >= 400)
		settle_slice(t, outcome_of(a),
			     words(t, "", " failed after I sent the message.", a), slow_of(a));
	settle_all_and_end(t,
			   task_text(t->task,
				     "Connected to %s but it answered too early. (#4.5.0)\n",
				     t->ip),
			   TASK_FAST);
}

static void on_dot(struct talk_smtp *t, const struct answer *a)
{
	const char *what =
		a->code < 400 ? " accepted message." : " failed after I sent the message.";

	if (!t->dot_sent) {
		hear_too_early(t, a);
		return;
	}
	settle_slice(t, outcome_of(a), words(t, "", what, a),
		     a->code < 400 ? TASK_FAST : slow_of(a));
	end_transaction(t);
}

/* ---- events ----------------------------------------------------------------------------- */

/* RFC 5321 3.8: 421 may be the answer to anything, and is the last one. */
static void hear_421(struct talk_smtp *t, const struct answer *a)
{
	if (t->state == TALK_OVER)
		return;
	if (!t->task) {
		end_talk(t);
	} else if (!t->mail_answered && t->task->next == 0) {
		give_host_up(t, words(t, "Connected to ", " but it closes.", a),
			     TASK_ASKED_SLOW);
	} else {
		settle_all_and_end(t, words(t, "Connected to ", " but it closes.", a),
				   TASK_ASKED_SLOW);
	}
}

static void hear(struct talk_smtp *t)
{
	const struct answer *a = &t->answer;
	smtp_expect         *on;

	if (t->heard_n == t->sent_n) {            /* nobody asked; an idle server may say 421 */
		if (t->task)
			settle_all_and_end(
				t, words(t, "Connected to ", " but it spoke out of turn.", a),
				TASK_FAST);
		end_talk(t);
		return;
	}
	on = t->question[t->heard_n++].on;
	if (all_is_heard(t))
		t->asked_n = t->sent_n = t->heard_n = 0;
	on(t, a);
	if (a->code == 421)
		hear_421(t, a);
}

static void hear_garbage(struct talk_smtp *t)
{
	if (!t->task) {
		end_talk(t);
		return;
	}
	struct span text = task_text(
		t->task, "Connected to %s but it does not speak SMTP. (#4.5.0)\n", t->ip);

	if (t->mail_asked)
		settle_all_and_end(t, text, TASK_FAST);
	else
		give_host_up(t, text, TASK_FAST);
}

void talk_smtp_input(struct talk_smtp *t, struct span *in)
{
	while (t->state != TALK_OVER && in->n > 0) {
		switch (answer_take(&t->answer, in)) {
		case ANSWER_MORE:    break;
		case ANSWER_GARBLED: hear_garbage(t); break;
		case ANSWER_OK:
			hear(t);
			release(t);
			break;
		}
	}
	if (t->state == TALK_OVER)
		span_cut(in, in->n);
}

void talk_smtp_quit(struct talk_smtp *t)
{
	out_str(t->out, "QUIT\r\n");
	t->state = TALK_OVER;
}

void talk_smtp_lost(struct talk_smtp *t)
{
	if (t->state == TALK_OVER || !t->task) {
		t->state = TALK_OVER;
		return;
	}
	struct span text =
		task_text(t->task, "Connected to %s but connection died. %s(#4.4.2)\n", t->ip,
			  t->dot_sent ? "Possible duplicate! " : "");

	/* A kept connection that was closed before it answered is as good as none. */
	if (!t->mail_asked || (t->reused && !t->mail_answered && t->task->next == 0))
		give_host_up(t, text, TASK_UNREACHED);
	else
		settle_all_and_end(t, text, TASK_FAST);
}
