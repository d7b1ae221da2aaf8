/* talk_qmtp - see the header.
 *
 *   package = ns(LF message) ns(sender) ns(ns(rcpt1) ns(rcpt2) ...)        docs/qmail.md 9.20
 *
 * The message's length is known before its bytes are: a source that gives fewer or more than it
 * promised leaves no way to go on, and the package is never completed. */
#include "remote/talk_qmtp.h"

#define BODY_PIECE 16384                          /* asked of the source at once */

void talk_qmtp_begin(struct talk_qmtp *t, struct outbuf *out, const struct ip *ip,
		     enum qmtp_manners m)
{
	*t = (struct talk_qmtp){.out = out, .manners = (uint8_t)m};
	list_init(&t->waiting);
	list_init(&t->finished);
	netstring_init(&t->ns, QMTP_ANSWER_MAX, true);
	buf_init(&t->answer, QMTP_TEXT_MAX);
	ip_text(ip, t->ip);
}

void talk_qmtp_fini(struct talk_qmtp *t)
{
	check(t->tasks == 0);
	buf_free(&t->answer);
}

static struct qmtp_package *package_at(struct talk_qmtp *t, uint32_t i)
{
	return &t->package[(t->first + i) % QMTP_PACKAGES_MAX];
}

static struct qmtp_package *last_package(struct talk_qmtp *t)
{
	check(t->n > 0);
	return package_at(t, t->n - 1);
}

bool talk_qmtp_has_room(const struct talk_qmtp *t)
{
	return !t->over && !t->closing && t->tasks < QMTP_TASKS_MAX;
}

bool talk_qmtp_is_idle(const struct talk_qmtp *t)
{
	return t->tasks == 0 && !t->over && !t->closing;
}

bool talk_qmtp_awaits_more(const struct talk_qmtp *t)
{
	return t->n > 0 && t->package[t->first].answered > 0;
}

static void finish_task(struct talk_qmtp *t, struct task *j)
{
	list_remove(&j->link);
	list_add_end(&t->finished, &j->link);
	t->tasks--;
}

/* ---- the end ------------------------------------------------------------------------------ */

/* No more answers come: everybody without one is deferred. */
static void defer_package(struct talk_qmtp *t, struct qmtp_package *p, const char *why)
{
	struct task *j = p->task;

	if (!j)
		return;
	task_settle_range(j, p->first, p->n, OUTCOME_DEFERRED,
			  task_text(j, "Connected to %s but %s Possible duplicate! (#4.4.2)\n",
				    t->ip, why),
			  TASK_FAST);
	if (task_is_settled(j))
		finish_task(t, j);
}

/* A package that has not left whole can't have been accepted: its task is still waiting. */
static void defer_packages(struct talk_qmtp *t, const char *why)
{
	if (t->in_package) {
		t->in_package = false;
		t->n--;
	}
	for (; t->n > 0; t->n--)
		defer_package(t, last_package(t), why);
}

/* Tasks with recipients that no package was begun for.  Where the connection had worked before,
 * a whole one may try again; else its turn is over: it reached the host (docs/qmail.md 9.9). */
static void give_waiting_back(struct talk_qmtp *t, const char *why, bool no_body)
{
	struct link *l;

	while ((l = list_first(&t->waiting))) {
		struct task *j = owner_of(l, struct task, link);
		struct span text =
			task_text(j, "Connected to %s but %s (#4.4.2)\n", t->ip, why);

		if (t->answered && j->next == 0)
			task_trouble(j, text, no_body ? TASK_NO_BODY : TASK_UNREACHED);
		else
			task_settle_rest(j, OUTCOME_DEFERRED, text,
					 no_body ? TASK_NO_BODY : TASK_FAST);
		finish_task(t, j);
	}
}

static void end_talk(struct talk_qmtp *t, const char *why)
{
	struct qmtp_package *p = &t->package[t->first];

	if (t->over)
		return;
	if (t->n > 0 && p->answered > 0 && t->manners == QMTP_UNKNOWN)
		t->manners = QMTP_SHORT;
	t->over = true;
	defer_packages(t, why);
	give_waiting_back(t, why, false);
	check(t->tasks == 0);
}

void talk_qmtp_lost(struct talk_qmtp *t)
{
	end_talk(t, "connection died.");
}

/* ---- packages out ------------------------------------------------------------------------- */

static size_t netstring_size(size_t n)
{
	size_t digits = 1;

	for (size_t m = n; m >= 10; m /= 10)
		digits++;
	return digits + 1 + n + 1;
}

/* Behind a package whose number of answers we can't be sure of, nothing may follow. */
static bool may_begin_package(struct talk_qmtp *t)
{
	if (t->in_package || t->over || t->n == QMTP_PACKAGES_MAX || list_is_empty(&t->waiting))
		return false;
	return t->n == 0 || last_package(t)->n == 1 || t->manners == QMTP_EACH;
}

static uint32_t rcpts_of_next(const struct talk_qmtp *t, const struct task *j)
{
	uint32_t max = t->manners == QMTP_SHORT ? 1 : QMTP_RCPTS_MAX;
	uint32_t left = j->rcpts - j->next;

	return left < max ? left : max;
}

static void begin_package(struct talk_qmtp *t)
{
	struct task *j = owner_of(list_first(&t->waiting), struct task, link);

	t->n++;
	*last_package(t) = (struct qmtp_package){.task = j, .first = j->next, .n = rcpts_of_next(t, j)};
	if (j->next > 0)
		j->source->rewind(j->source);
	t->in_package = true;
	t->left = j->size;
	out_fmt(t->out, "%llu:\n", (unsigned long long)j->size + 1);
}

/* Sender and recipients are raw bytes: no quoting here. */
static void end_package(struct talk_qmtp *t)
{
	struct qmtp_package *p = last_package(t);
	struct task          *j = p->task;
	size_t               n = 0;

	out_byte(t->out, ',');
	netstring_put(t->out, j->sender);
	for (uint32_t i = p->first; i < p->first + p->n; i++)
		n += netstring_size(j->rcpt[i].n);
	out_fmt(t->out, "%zu:", n);
	for (uint32_t i = p->first; i < p->first + p->n; i++)
		netstring_put(t->out, j->rcpt[i]);
	out_byte(t->out, ',');
	t->in_package = false;
	j->next = p->first + p->n;
	if (j->next == j->rcpts)
		list_remove(&j->link);            /* only its answers are waited for */
}

/* This body will never be complete, so the connection is useless; but what went before it has
 * been sent whole and may be answered yet.  With nothing before it, it ends here. */
static void lose_body(struct talk_qmtp *t)
{
	struct task *j = last_package(t)->task;

	task_settle_rest(j, OUTCOME_DEFERRED,
			 task_text(j, "Unable to read message. (#4.3.0)\n"), TASK_NO_BODY);
	t->n--;
	t->in_package = false;
	t->closing = true;
	/* Packages of this task that left before: their answers are settled already. */
	for (uint32_t i = 0; i < t->n; i++)
		if (package_at(t, i)->task == j)
			package_at(t, i)->task = NULL;
	finish_task(t, j);
	give_waiting_back(t, "another message could not be read.", true);
	if (t->n == 0)
		end_talk(t, "nothing is left to say.");
}

static void send_body(struct talk_qmtp *t)
{
	struct source *s = last_package(t)->task->source;
	struct span    run;

	while (t->in_package && !outbuf_full(t->out)) {
		switch (s->take(s, BODY_PIECE, &run)) {
		case SOURCE_LATER: return;
		case SOURCE_BYTES:
			if (run.n > t->left) {
				lose_body(t);
				return;
			}
			out_span(t->out, run);
			t->left -= run.n;
			break;
		case SOURCE_END:
			if (t->left > 0)
				lose_body(t);
			else
				end_package(t);
			return;
		case SOURCE_GONE: lose_body(t); return;
		}
	}
}

static void send_packages(struct talk_qmtp *t)
{
	for (;;) {
		if (t->in_package)
			send_body(t);
		if (t->in_package || outbuf_full(t->out) || t->closing || !may_begin_package(t))
			return;
		begin_package(t);
	}
}

void talk_qmtp_task(struct talk_qmtp *t, struct task *j)
{
	check(t->tasks < QMTP_TASKS_MAX);
	list_add_end(&t->waiting, &j->link);
	t->tasks++;
	if (t->over || t->closing)                /* the task before it has just ended it */
		give_waiting_back(t, "another message could not be read.", true);
	else
		send_packages(t);
}

void talk_qmtp_more(struct talk_qmtp *t)
{
	if (!t->over)
		send_packages(t);
}

/* ---- answers in --------------------------------------------------------------------------- */

static struct span said(struct talk_qmtp *t, struct task *j, struct span text)
{
	struct buf  clean;
	struct span ret;

	buf_init(&clean, QMTP_TEXT_MAX);
	task_clean_text(&clean, text, false);
	ret = task_text(j, "%s said: %.*s\n", t->ip, SPAN_ARG(buf_span(&clean)));
	buf_free(&clean);
	return ret;
}

static void settle(struct talk_qmtp *t, struct task *j, uint32_t i, struct span answer)
{
	struct span text = said(t, j, span_from(answer, 1));
	enum task_slow slow =
		span_starts(span_from(answer, 1), SPAN("4.7.")) ? TASK_ASKED_SLOW : TASK_FAST;

	switch (answer.p[0]) {
	case 'K':
		text = task_text(j, "%s accepted message.\n%.*s", t->ip, SPAN_ARG(text));
		task_settle(j, i, OUTCOME_DELIVERED, text, TASK_FAST);
		break;
	case 'D': task_settle(j, i, OUTCOME_FAILED, text, TASK_FAST); break;
	case 'Z': task_settle(j, i, OUTCOME_DEFERRED, text, slow); break;
	default:  unreachable();
	}
}

static void pop_package(struct talk_qmtp *t)
{
	struct qmtp_package *p = &t->package[t->first];
	struct task          *j = p->task;

	if (p->n > 1 && t->n == 1 && t->manners == QMTP_UNKNOWN)
		t->manners = QMTP_EACH;
	t->first = (t->first + 1) % QMTP_PACKAGES_MAX;
	t->n--;
	if (j && task_is_settled(j))
		finish_task(t, j);
	if (t->closing && t->n == 0)
		end_talk(t, "nothing is left to say.");
}

/* A package that has not left to its last byte can't have been answered. */
static bool answer_is_due(struct talk_qmtp *t)
{
	return t->n > 1 || (t->n == 1 && !t->in_package);
}

static void on_answer(struct talk_qmtp *t)
{
	struct qmtp_package *p = &t->package[t->first];
	struct span          answer = buf_span(&t->answer);

	if (!answer_is_due(t)) {
		end_talk(t, "it answered before it was asked.");
		return;
	}
	if (answer.n == 0 || !span_has(SPAN("KZD"), answer.p[0])) {
		end_talk(t, "it does not speak QMTP.");
		return;
	}
	if (p->task)
		settle(t, p->task, p->first + p->answered, answer);
	t->answered = true;
	p->answered++;
	if (p->answered == p->n)
		pop_package(t);
}

static void take_text(struct talk_qmtp *t, struct span some)
{
	struct span fits = span_until(some, QMTP_TEXT_MAX - t->answer.n);

	if (!buf_add(&t->answer, fits))
		unreachable();
}

void talk_qmtp_input(struct talk_qmtp *t, struct span *in)
{
	struct span some;

	while (!t->over && in->n > 0) {
		switch (netstring_take(&t->ns, in, &some)) {
		case NETSTRING_MORE:
		case NETSTRING_LENGTH: break;
		case NETSTRING_BYTES:  take_text(t, some); break;
		case NETSTRING_END:
			on_answer(t);
			buf_clear(&t->answer);
			netstring_init(&t->ns, QMTP_ANSWER_MAX, true);
			break;
		case NETSTRING_LONG:
		case NETSTRING_BAD:    end_talk(t, "it does not speak QMTP."); break;
		}
	}
	if (t->over)
		span_cut(in, in->n);
	else
		send_packages(t);
}
