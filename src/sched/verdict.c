/* What an agent says of a job becomes outcomes: one for all that was delivered, one for each
 * text among what was not.  Deferred recipients keep their run; the others leave it. */
#include "sched/plan_parts.h"

#include "core/clock.h"
#include "core/log.h"
#include "core/pool.h"

#include <inttypes.h>
#include <string.h>

#define OWED_FIRST 256
#define DYING_TEXT "I'm not going to try again; this message has been in the queue too long.\n"
static_check(JOB_RCPTS_MAX <= UINT8_MAX);
#define NEVER_TRIED_TEXT                                                                       \
	"Sorry, this destination could not be reached or took no more mail. (#4.4.7)\n"
#define MANGLED_TEXT "The delivery agent's report was mangled. (#4.3.0)\n"

struct one { /* recipient of the job that ended */
	uint32_t number;
	uint8_t outcome; /* 0: nothing was said */
	bool aged;       /* failed only because it was tried for too long */
	bool told;       /* in an outcome already */
	struct span text;
};

static size_t outcome_bytes(const char *at)
{
	struct msg_outcome o;

	memcpy(&o, at, sizeof(o));
	return sizeof(o) + o.ranges_n * sizeof(struct msg_range) + MSG_PAD8((size_t)o.text_n);
}

static bool all_sent(const struct plan *p)
{
	return p->outcomes_sent == p->outcomes.n;
}

/* In frames: after journald was away it may be much. */
void outcomes_flush(struct plan *p)
{
	while (!p->journal_away && !all_sent(p)) {
		size_t end = p->outcomes_sent;

		while (end < p->outcomes.n && end - p->outcomes_sent < OUTCOMES_FLUSH)
			end += outcome_bytes(p->outcomes.p + end);
		p->world->outcomes(p->world->ctx, span_of(p->outcomes.p + p->outcomes_sent,
							  end - p->outcomes_sent));
		p->outcomes_sent = end;
	}
}

bool outcomes_wait(const struct plan *p)
{
	return !p->journal_away && !all_sent(p);
}

static void outcome_gone(struct plan *p, size_t n)
{
	p->outcomes_gone += n;
	check(p->outcomes_gone <= p->outcomes_sent);
	if (p->outcomes_gone < p->outcomes.n && p->outcomes_gone < OUTCOMES_FLUSH)
		return;
	buf_drop_front(&p->outcomes, p->outcomes_gone);
	p->outcomes_sent -= p->outcomes_gone;
	p->outcomes_gone = 0;
}

void plan_journal(struct plan *p, bool there)
{
	p->journal_away = !there;
	if (there)
		p->outcomes_sent = p->outcomes_gone;
	outcomes_flush(p);
}

static void owe(struct plan *p, const struct owed *o)
{
	if (p->owed_n == p->owed_cap) {
		size_t cap = p->owed_cap ? p->owed_cap * 2 : OWED_FIRST;
		struct owed *v = mem_new(cap * sizeof(*v));

		for (size_t i = 0; i < p->owed_n; i++)
			v[i] = p->owed[(p->owed_at + i) % p->owed_cap];
		mem_free(p->owed);
		p->owed = v;
		p->owed_cap = cap;
		p->owed_at = 0;
	}
	p->owed[(p->owed_at + p->owed_n++) % p->owed_cap] = *o;
}

/* Two outcomes of one process never have the same time, so that a record in the feed is
 * known again. */
static uint64_t next_at_us(struct plan *p)
{
	uint64_t now = clock_wall_us();

	p->last_at_us = now > p->last_at_us ? now : p->last_at_us + 1;
	return p->last_at_us;
}

void outcome_owe(struct plan *p, struct message *m, const struct result *o)
{
	static const char zeros[8];
	size_t text_n = o->text.n + o->more_text.n;
	struct msg_outcome head = {
		.id = m->id,
		.at_us = next_at_us(p),
		.next_us = o->next_us,
		.attempt = o->attempt,
		.ranges_n = o->ranges_n,
		.text_n = (uint16_t)text_n,
		.outcome = (uint8_t)o->outcome,
	};
	struct span ranges = span_of(o->ranges, o->ranges_n * sizeof(*o->ranges));

	size_t before = p->outcomes.n;

	check(text_n <= UINT16_MAX);
	if (all_sent(p))
		p->outcomes_since_us = clock_mono_us();
	check(buf_add(&p->outcomes, span_of(&head, sizeof(head))) &&
	      buf_add(&p->outcomes, ranges) && buf_add(&p->outcomes, o->text) &&
	      buf_add(&p->outcomes, o->more_text) &&
	      buf_add(&p->outcomes, span_of(zeros, MSG_PAD8(text_n) - text_n)));
	owe(p, &(struct owed){m->id, head.at_us, clock_mono_us(), o->run,
			      (uint32_t)(p->outcomes.n - before), head.outcome});
	message_more(p, m)->owed++;
	if (o->run)
		o->run->owed++; /* JOB_RCPTS_MAX at most */
	if (p->outcomes.n - p->outcomes_sent >= OUTCOMES_FLUSH)
		outcomes_flush(p);
}

static void became_durable(struct plan *p, const struct owed *o, const struct record *r)
{
	struct message *m = message_find(p, o->id);
	struct text_at at = {.pos = r->pos, .number = r->head.number};

	check(m && m->more && m->more->owed > 0);
	m->more->owed--;
	if (o->run) {
		o->run->owed--;
		o->run->reason = r->pos;
	}
	if (o->outcome == OUTCOME_FAILED)
		check(buf_add(&m->more->texts, span_of(&at, sizeof(at))));
	message_check_end(p, m);
}

bool outcome_seen(struct plan *p, const struct record *r, const struct state_view *v)
{
	struct owed *first = &p->owed[p->owed_at], o;

	if (p->owed_n == 0 || first->id != r->head.id || first->at_us != v->s->at_us)
		return false;
	o = *first;
	if (clock_mono_us() - o.mono_us > p->counts.owed_us_max)
		p->counts.owed_us_max = clock_mono_us() - o.mono_us;
	p->owed_at = (p->owed_at + 1) % p->owed_cap;
	p->owed_n--;
	outcome_gone(p, o.n);
	became_durable(p, &o, r);
	return true;
}

uint64_t plan_owed_age_us(const struct plan *p)
{
	return p->owed_n ? clock_mono_us() - p->owed[p->owed_at].mono_us : 0;
}

static bool outcome_is_known(uint8_t outcome)
{
	return outcome == OUTCOME_DELIVERED || outcome == OUTCOME_DEFERRED ||
	       outcome == OUTCOME_FAILED;
}

static enum lane_news worse(enum lane_news a, uint8_t slow)
{
	if (slow == 2)
		return LANE_DEAD;
	if (slow == 3 && a == LANE_WELL)
		return LANE_NOTHING;
	return slow == 1 && a != LANE_DEAD ? LANE_SLOW : a;
}

/* false: the agent does not keep to the table in mail/msg.h. */
static bool take_results(struct span tail, uint32_t results, struct one *ones, uint32_t n,
			 enum lane_news *news, bool *no_body)
{
	for (uint32_t i = 0; i < results; i++) {
		struct msg_result r;
		struct span head = span_cut(&tail, sizeof(r)), text;

		if (head.n < sizeof(r))
			return false;
		memcpy(&r, head.p, sizeof(r));
		text = span_cut(&tail, MSG_PAD8((size_t)r.text_n));
		if (text.n < r.text_n || r.text_n > RESULT_TEXT_MAX || r.rcpt >= n ||
		    !outcome_is_known(r.outcome))
			return false;
		ones[r.rcpt].outcome = r.outcome;
		ones[r.rcpt].text = span_until(text, r.text_n);
		*news = worse(*news, r.slow);
		*no_body = *no_body || r.slow == 3;
	}
	return tail.n == 0;
}

static void log_end(struct plan *p, const struct job *j, uint64_t delivery,
		    const struct one *o, bool mangled)
{
	static const enum tell_result words[] = {[OUTCOME_DELIVERED] = TELL_SUCCESS,
						 [OUTCOME_FAILED] = TELL_FAILURE,
						 [OUTCOME_DEFERRED] = TELL_DEFERRAL};
	uint64_t id = j->run->message->id;

	if (mangled)
		tell_mangled(&p->tell, delivery, id);
	else
		tell_end(&p->tell, delivery, id, words[o->outcome], o->text,
			 o->aged ? SPAN(DYING_TEXT) : SPAN_NONE);
}

/* Whether b goes into the outcome that a begins. */
static bool goes_with(const struct one *a, const struct one *b)
{
	if (b->told || a->outcome != b->outcome)
		return false;
	return a->outcome == OUTCOME_DELIVERED ||
	       (a->aged == b->aged && span_eq(a->text, b->text));
}

/* Numbers rise within a run; neighbours become one range. */
static uint16_t gather(struct one *ones, uint32_t from, uint32_t n, struct msg_range *ranges)
{
	uint16_t k = 0;

	for (uint32_t i = from; i < n; i++) {
		if (!goes_with(&ones[from], &ones[i]))
			continue;
		if (k > 0 && ranges[k - 1].last + 1 == ones[i].number)
			ranges[k - 1].last++;
		else
			ranges[k++] = (struct msg_range){ones[i].number, ones[i].number};
		if (i > from)
			ones[i].told = true;
	}
	ones[from].told = true;
	return k;
}

/* Its body died on the way: a deferral says nothing about the recipient, and is tried again
 * soon instead of being written down. */
static bool is_spoilt(const struct job *j)
{
	return (j->handle->stale || j->no_body) && !j->dying && j->run->attempt < SPOILT_TRIES;
}

static void tell(struct plan *p, const struct job *j, struct one *ones, uint32_t n)
{
	struct msg_range ranges[JOB_RCPTS_MAX];
	struct run *r = j->run;

	for (uint32_t i = 0; i < n; i++) {
		struct result o = {.outcome = ones[i].outcome,
				   .ranges = ranges,
				   .attempt = r->attempt + 1u};

		if (ones[i].told || (o.outcome == OUTCOME_DEFERRED && is_spoilt(j)))
			continue;
		if (o.outcome != OUTCOME_DELIVERED)
			o.text = ones[i].text;
		if (o.outcome == OUTCOME_DEFERRED) {
			o.text = span_until(o.text, DEFER_TEXT_MAX);
			o.next_us = j->retry_s * 1000000;
			o.run = r;
		}
		if (ones[i].aged)
			o.more_text = SPAN(DYING_TEXT);
		o.ranges_n = gather(ones, i, n, ranges);
		outcome_owe(p, r->message, &o);
	}
}

/* The recipients of the run, as far as they are known before anything was said. */
static void list_recipients(const struct run *r, struct one *ones)
{
	struct recipient rc;
	uint32_t at = r->at;

	memset(ones, 0, r->count * sizeof(*ones));
	for (uint32_t i = 0; run_next(r, &at, &rc); i++)
		ones[i].number = rc.number;
}

/* A deferral of a message that is too old is a failure; what was not said is a deferral. */
static void decide(struct plan *p, const struct job *j, struct one *ones, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		struct one *o = &ones[i];
		bool mangled = o->outcome == 0;

		if (mangled) {
			o->outcome = OUTCOME_DEFERRED;
			o->text = SPAN(MANGLED_TEXT);
		}
		if (o->outcome == OUTCOME_DEFERRED && j->run->message->damage == DAMAGE_SURE) {
			o->outcome = OUTCOME_FAILED;
			o->text = SPAN(DAMAGED_TEXT);
		}
		o->aged = o->outcome == OUTCOME_DEFERRED && j->dying;
		if (o->aged)
			o->outcome = OUTCOME_FAILED;
		log_end(p, j, j->first_delivery + i, o, mangled);
	}
}

/* Recipients that failed move to the message, those that are over leave. */
static void sort_out(struct plan *p, struct run *r, const struct one *ones, uint32_t n)
{
	bool keep[JOB_RCPTS_MAX];
	struct recipient rc;
	uint32_t at = r->at;

	for (uint32_t i = 0; i < n && run_next(r, &at, &rc); i++) {
		keep[i] = ones[i].outcome == OUTCOME_DEFERRED;
		if (ones[i].outcome == OUTCOME_FAILED)
			message_failed(p, r->message, rc.number,
				       recipient_address(r, &rc, &p->address));
		p->counts.delivered += ones[i].outcome == OUTCOME_DELIVERED;
		p->counts.deferred += ones[i].outcome == OUTCOME_DEFERRED;
		p->counts.failed += ones[i].outcome == OUTCOME_FAILED;
	}
	p->bytes -= run_bytes(r);
	run_keep(r, keep);
	p->bytes += run_bytes(r);
	r->message->left -= n - r->count;
	p->recipients -= n - r->count;
}

static bool all_delivered(const struct one *ones, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		if (ones[i].outcome != OUTCOME_DELIVERED)
			return false;
	return true;
}

static void end_job(struct plan *p, struct job *j, struct one *ones, uint32_t n,
		    enum lane_news news)
{
	struct run *r = j->run;
	uint64_t retry_us = j->retry_s * 1000000;
	bool spoilt = is_spoilt(j);

	decide(p, j, ones, n);
	tell(p, j, ones, n);
	sort_out(p, r, ones, n);
	dispatch_ended(p, j, news);
	if (all_delivered(ones, n))
		p->look_us = 0;
	if (r->count == 0) {
		message_run_over(p, r);
		return;
	}
	if (r->attempt < UINT16_MAX)
		r->attempt++;
	if (spoilt)
		retry_us = clock_wall_us() + AGENT_LOST_WAIT_S * 1000000ull;
	run_wait(p, r, due_of_wall(p, retry_us));
}

/* As if a try had failed, so that log and journal tell the same of it as of any other. */
static void give_up(struct plan *p, struct run *r)
{
	struct handle nobody = {0};
	struct job j = {.run = r, .handle = &nobody, .dying = true};
	struct one ones[JOB_RCPTS_MAX];
	uint32_t n = r->count;

	r->state = RUN_RUNNING;
	j.first_delivery = deliveries_take(&p->jobs, n);
	list_recipients(r, ones);
	for (uint32_t i = 0; i < n; i++) {
		ones[i].outcome = OUTCOME_DEFERRED;
		ones[i].text = SPAN(NEVER_TRIED_TEXT);
	}
	log_start(p, &j);
	decide(p, &j, ones, n);
	tell(p, &j, ones, n);
	sort_out(p, r, ones, n);
	message_run_over(p, r);
}

void run_give_up(struct plan *p, struct run *r)
{
	struct message *m = r->message;

	while (r->count > JOB_RCPTS_MAX) {
		struct run *front = run_split(r, JOB_RCPTS_MAX);

		message_split_run(p, m, front);
		give_up(p, front);
	}
	give_up(p, r);
	message_check_end(p, m);
}

bool plan_verdict(struct plan *p, uint32_t role, uint32_t index, const struct msg_verdict *v,
		  struct span tail)
{
	struct one ones[JOB_RCPTS_MAX];
	struct job *j = job_find(&p->jobs, v->job);
	enum lane_news news = LANE_WELL;
	struct message *m;
	uint32_t n;

	if (!j || j->agent != agent_of(&p->jobs, role, index))
		return false;
	m = j->run->message;
	n = j->run->count;
	check(n <= JOB_RCPTS_MAX);
	list_recipients(j->run, ones);
	if (!take_results(tail, v->results, ones, n, &news, &j->no_body))
		return false;
	end_job(p, j, ones, n, news);
	message_check_end(p, m);
	return true;
}
