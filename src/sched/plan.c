#include "sched/plan_parts.h"

#include "core/clock.h"
#include "core/log.h"
#include "core/pool.h"
#include "mail/addr.h"
#include "mail/envelope.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAMES_BLOCK        4096
#define NAMES_MAX          65536 /* four control lines */
#define LIFETIME_S         604800
#define BOUNCE_BYTES       (1 << 20) /* of the message that a notice returns */
#define CONCURRENCY_LOCAL  10
#define CONCURRENCY_REMOTE 20
#define MESSAGE_COST       256 /* bytes that a message of one recipient is counted as in the credit \
				*/
#define RECIPIENT_SHARE 2      /* a byte of envelope may take so many in memory */

static struct span keep_line(struct plan *p, const struct control *c, const char *name,
			     bool or_me, const char *fallback)
{
	return arena_dup(&p->names, control_line(c, name, or_me, fallback));
}

static uint32_t concurrency(const struct control *c, const char *name, uint64_t fallback)
{
	uint64_t n = control_int(c, name, fallback);

	return n < JOBS_MAX / 2 ? (uint32_t)n : JOBS_MAX / 2;
}

/* Queued recipients stay where they were sent to, as in qmail (docs/qmail.md 10.8). */
void plan_control(struct plan *p, const struct control *c)
{
	rewriter_free(p->rewriter);
	p->rewriter = rewriter_new(c);
	arena_reset(&p->names);
	p->limits = (struct plan_limits){
		.lifetime_s = control_int(c, "queuelifetime", LIFETIME_S),
		.outcome_delay_ms = control_int(c, "outcomedelay", OUTCOME_DELAY_MS),
		.bounce_wait_s = control_setting(c, "bouncewait"),
		.bounce_max = control_int(c, "bouncemaxbytes", BOUNCE_BYTES),
		.bounce_from = keep_line(p, c, "bouncefrom", false, "MAILER-DAEMON"),
		.bounce_host = keep_line(p, c, "bouncehost", true, "bouncehost"),
		.double_to = keep_line(p, c, "doublebounceto", false, "postmaster"),
		.double_host = keep_line(p, c, "doublebouncehost", true, "doublebouncehost"),
		.memory = p->limits.memory ? p->limits.memory : PLAN_MEMORY,
	};
	p->tell.json = span_eq(control_setting_line(c, "logformat"), SPAN("json"));
	schedule_init(&p->schedule, c);
	lanes_limit(&p->lanes, destinations_new(c));
	p->lanes.channels[CHANNEL_LOCAL].limit =
		concurrency(c, "concurrencylocal", CONCURRENCY_LOCAL);
	p->lanes.channels[CHANNEL_REMOTE].limit =
		concurrency(c, "concurrencyremote", CONCURRENCY_REMOTE);
	p->changed = true;
}

void plan_init(struct plan *p, const struct plan_world *w, const struct control *c)
{
	*p = (struct plan){.world = w};
	arena_init(&p->names, NAMES_BLOCK, NAMES_MAX);
	tell_init(&p->tell);
	lanes_init(&p->lanes);
	due_init(&p->due, (uint32_t)(clock_mono_us() / 1000000));
	jobs_init(&p->jobs);
	loads_init(&p->loads);
	book_init(&p->messages);
	pool_init(&p->mores, sizeof(struct more), UINT32_MAX);
	list_init(&p->notices);
	list_init(&p->views);
	buf_init(&p->outcomes, OUTCOMES_MAX);
	buf_init(&p->rewritten, REWRITE_MAX);
	buf_init(&p->address, 65536);
	buf_init(&p->address2, 65536);
	buf_init(&p->packed, (RUN_ADDR_MAX + 2 + ADDR_MAX) * JOB_RCPTS_MAX);
	p->clock_offset_us = (int64_t)(clock_wall_us() - clock_mono_us());
	plan_control(p, c);
}

/* Jobs may be on their way: they end with the process. */
static void jobs_forget(struct plan *p)
{
	for (unsigned c = 0; c < 2; c++)
		for (uint32_t i = 0; i < AGENTS_MAX; i++)
			while (!list_is_empty(&p->jobs.agents[c][i].jobs)) {
				struct job *j = owner_of(list_first(&p->jobs.agents[c][i].jobs),
							 struct job, link);
				struct handle *h = j->handle;

				lane_ended(&p->lanes, j->run->lane, LANE_NOTHING);
				job_end(&p->jobs, j);
				if (h->jobs == 0)
					handle_free(&p->jobs, h);
			}
}

void plan_fini(struct plan *p)
{
	size_t at = 0;
	struct message *m;

	jobs_forget(p);
	for (; (m = book_next(&p->messages, &at)); at--)
		message_free(p, m);
	book_fini(&p->messages);
	loads_fini(&p->loads);
	lanes_fini(&p->lanes);
	jobs_fini(&p->jobs);
	pool_fini(&p->mores);
	heap_fini(&p->again);
	arena_fini(&p->names);
	rewriter_free(p->rewriter);
	buf_free(&p->outcomes);
	buf_free(&p->rewritten);
	buf_free(&p->address);
	buf_free(&p->address2);
	buf_free(&p->packed);
	tell_fini(&p->tell);
	mem_free(p->owed);
}

static void on_rcpt(struct plan *p, const struct record *r)
{
	if (message_find(p, r->head.id) || loads_is_over(&p->loads, r->head.id))
		return; /* a copy */
	load_part(&p->loads, loads_get(&p->loads, r->head.id), r);
	if (p->ready)
		loads_trim(&p->loads);
}

static void over_if_done(struct plan *p, struct load *l)
{
	if (load_is_over(l))
		loads_over(&p->loads, l);
}

static void settle_load(struct plan *p, const struct msg_view *v)
{
	struct load *l;

	if (loads_is_over(&p->loads, v->m->parent))
		return;
	l = loads_get(&p->loads, v->m->parent);
	for (uint32_t i = 0; i < v->m->settles_n; i++)
		load_settle(l, range_at(v->settles, i));
	over_if_done(p, l);
}

/* A bounce is there: what it reports needs nothing more. */
static void settle(struct plan *p, const struct msg_view *v)
{
	struct message *m = message_find(p, v->m->parent);

	if (!p->ready) {
		settle_load(p, v);
		return;
	}
	if (!m || !m->more)
		return; /* a copy of a bounce, moved long after */
	list_remove(&m->more->notice);
	heap_remove(&p->again, &m->more->again);
	for (uint32_t i = 0; i < v->m->settles_n; i++)
		message_settle(p, m, range_at(v->settles, i));
	tell_bounce(&p->tell, m->id, v->m->pid);
	p->counts.bounced++;
	message_check_end(p, m); /* v is not to be used any more */
}

static void take_new(struct plan *p, struct load *l)
{
	tell_new(&p->tell, &(struct tell_info){l->id, l->size, span_of(l->sender, l->sender_n),
						 l->pid, l->uid});
	if (l->replay_of)
		tell_replay(&p->tell, l->id, l->replay_of);
	intake_build(p, l);
	loads_drop(&p->loads, l);
}

/* The load of a MSG that is new, or NULL. */
static struct load *load_new_msg(struct plan *p, const struct record *r,
				 const struct msg_view *v)
{
	struct message *m = message_find(p, r->head.id);
	struct load *l;

	if (m && r->pos > m->pos)
		m->pos = r->pos; /* a copy: the one at the highest position is kept */
	if (m || loads_is_over(&p->loads, r->head.id))
		return NULL;
	l = loads_get(&p->loads, r->head.id);
	load_msg(&p->loads, l, r, v);
	return l;
}

/* What settling leads to may read the journal, and then r's body is gone: so it is last to be
 * looked at.  But a bounce's line stands in front of its own "new msg". */
static void on_msg(struct plan *p, const struct record *r)
{
	struct msg_view v;
	struct load *l;

	if (!msg_view(&r->head, r->body, &v))
		return; /* a layout of a later version that may be skipped */
	l = load_new_msg(p, r, &v);
	if (v.m->parent)
		settle(p, &v);
	if (l && p->ready)
		take_new(p, l);
	else if (l)
		over_if_done(p, l);
}

/* A copy of a failure that is not reported yet: its text is there, too. */
static void on_copied_state(struct plan *p, const struct record *r, const struct state_view *v)
{
	struct message *m = message_find(p, r->head.id);
	struct text_at at = {.pos = r->pos, .number = r->head.number};

	if (m && m->more && v->s->outcome == OUTCOME_FAILED)
		check(buf_add(&m->more->texts, span_of(&at, sizeof(at))));
}

static void on_state(struct plan *p, const struct record *r)
{
	struct state_view v;
	struct load *l;

	if (!state_view(&r->head, r->body, &v) || outcome_seen(p, r, &v))
		return;
	if (p->ready) {
		on_copied_state(p, r, &v);
		return;
	}
	if (loads_is_over(&p->loads, r->head.id))
		return;
	l = loads_get(&p->loads, r->head.id);
	load_state(l, r, &v);
	over_if_done(p, l);
}

void plan_record(struct plan *p, const struct record *r)
{
	switch (r->head.type) {
	case REC_RCPT: on_rcpt(p, r); break;
	case REC_MSG: on_msg(p, r); break;
	case REC_STATE: on_state(p, r); break;
	default: break; /* the rest says nothing about who is tried when */
	}
}

static int by_id_and_from(const void *va, const void *vb)
{
	const struct msg_moved *a = va, *b = vb;

	if (a->id != b->id)
		return a->id < b->id ? -1 : 1;
	return a->from < b->from ? -1 : a->from > b->from;
}

/* Where the record at *pos is now, by the moves of one message. */
static void follow(uint64_t *pos, const struct msg_moved *v, size_t n)
{
	size_t low = 0, high = n;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (v[mid].from < *pos)
			low = mid + 1;
		else
			high = mid;
	}
	if (low < n && v[low].from == *pos)
		*pos = v[low].to;
}

static void follow_all(struct message *m, const struct msg_moved *v, size_t n)
{
	struct buf *texts = m->more ? &m->more->texts : NULL;

	follow(&m->pos, v, n);
	for (struct run *r = m->runs; r; r = r->sibling)
		if (r->reason)
			follow(&r->reason, v, n);
	for (size_t at = 0; texts && at < texts->n; at += sizeof(struct text_at)) {
		struct text_at t;

		memcpy(&t, texts->p + at, sizeof(t));
		follow(&t.pos, v, n);
		memcpy(texts->p + at, &t, sizeof(t));
	}
}

void plan_moved(struct plan *p, const struct msg_moved *v, size_t n)
{
	struct msg_moved *sorted;

	if (n == 0)
		return;
	sorted = mem_new(n * sizeof(*sorted));
	memcpy(sorted, v, n * sizeof(*sorted));
	qsort(sorted, n, sizeof(*sorted), by_id_and_from);
	for (size_t from = 0, to; from < n; from = to) {
		struct message *m = message_find(p, sorted[from].id);

		for (to = from + 1; to < n && sorted[to].id == sorted[from].id;)
			to++;
		if (m)
			follow_all(m, sorted + from, to - from);
	}
	mem_free(sorted);
}

void plan_room(struct plan *p, bool dispatch)
{
	p->no_room = !dispatch;
}

/* Loads without MSG are dropped: should one of them be committed yet, it is read again. */
void plan_ready(struct plan *p)
{
	struct load *l;

	check(!p->ready);
	p->ready = p->changed = true;
	p->replaying = true;
	loads_forget_over(&p->loads);
	while (!list_is_empty(&p->loads.open))
		loads_drop(&p->loads, owner_of(list_first(&p->loads.open), struct load, link));
	book_reserve(&p->messages, p->loads.by_id.n);
	while ((l = loads_take(&p->loads))) {
		intake_build(p, l);
		load_free(&p->loads, l);
	}
	loads_shrink(&p->loads);
	p->replaying = false;
}

/* Bounces keep their wait: whoever was to make one may just have died, and its record may be
 * on its way yet. */
void plan_retry_all(struct plan *p)
{
	lanes_revive(&p->lanes);
	due_all(&p->due);
}

void plan_drain(struct plan *p)
{
	p->draining = p->changed = true;
}

bool plan_is_drained(const struct plan *p)
{
	for (unsigned c = 0; c < 2; c++)
		if (p->lanes.channels[c].running > 0)
			return false;
	return p->draining && p->owed_n == 0 && list_is_empty(&p->notices);
}

static void take_due(struct plan *p)
{
	uint32_t now = (uint32_t)(clock_mono_us() / 1000000);
	struct run *r;

	while ((r = due_take(&p->due, now))) {
		if (r->owed) /* only when everything was made due by hand */
			due_add(&p->due, r, now + 1);
		else
			lane_add(&p->lanes, r, message_weight(r->message));
	}
}

static void take_again(struct plan *p)
{
	struct heap_entry *e;

	while ((e = heap_min(&p->again)) && e->key <= clock_mono_us()) {
		struct more *more = owner_of(e, struct more, again);

		heap_remove(&p->again, e);
		more->early = false;
		more->tell = true;
		message_check_end(p, more->message);
	}
}

/* Nobody's mail is given up because the clock was wrong for a moment. */
static void watch_clock(struct plan *p)
{
	int64_t offset = (int64_t)(clock_wall_us() - clock_mono_us());
	int64_t step = offset - p->clock_offset_us;

	p->clock_offset_us = offset;
	if (step < CLOCK_STEP_S * 1000000ll && step > -CLOCK_STEP_S * 1000000ll)
		return;
	p->expiry_from_us = clock_mono_us() + CLOCK_STEP_S * 1000000ull;
	log_note("odd", "the wall clock jumped", "expiry", "suspended for an hour", NULL);
}

/* Half of the delay is left for the journal's write. */
static uint64_t outcomes_due_us(const struct plan *p)
{
	return p->outcomes_since_us + p->limits.outcome_delay_ms * 500;
}

static void say_status(struct plan *p)
{
	const struct outlet *l = &p->lanes.channels[CHANNEL_LOCAL],
			    *r = &p->lanes.channels[CHANNEL_REMOTE];

	if (!p->ready || !p->changed)
		return;
	p->changed = false;
	tell_status(&p->tell, &(struct tell_status){l->running, l->limit, r->running, r->limit,
						    p->draining});
}

static bool anything_is_ready(const struct plan *p)
{
	return p->lanes.channels[CHANNEL_LOCAL].ready > 0 ||
	       p->lanes.channels[CHANNEL_REMOTE].ready > 0;
}

static bool run_is_dying(void *ctx, const struct run *r)
{
	return plan_is_dying(ctx, r->message);
}

/* All of the lane's that are too old, this message's among them: the queue is gone through
 * once for them all.  r's message may be gone afterwards. */
static void expire_lane(struct plan *p, struct lane *l)
{
	struct run *r = lane_extract(&p->lanes, l, run_is_dying, p), *next;

	for (; r; r = next) {
		next = r->next;
		r->next = NULL;
		run_give_up(p, r);
	}
}

static struct run *ready_run(const struct message *m)
{
	for (struct run *r = m->runs; r; r = r->sibling)
		if (r->state == RUN_READY)
			return r;
	return NULL;
}

/* What is ready but not begun, since its destination is dead, or allows less than there is,
 * must not wait for ever: once in EXPIRY_LOOK_S all messages are looked at, some in each tick.
 * The place in the book may shift between ticks; what is missed is found the next time. */
static void expire(struct plan *p)
{
	struct expiry *e = &p->expiry;
	struct message *m;
	struct run *r;

	if (p->no_room) /* each would be written down */
		return;
	if (!e->looking && clock_mono_us() >= e->next_us && anything_is_ready(p)) {
		e->looking = true;
		e->at = 0;
	}
	if (!e->looking)
		return;
	for (unsigned n = 0; n < EXPIRY_TICK_MAX; n++) {
		m = book_next(&p->messages, &e->at);
		if (!m) {
			*e = (struct expiry){.next_us = clock_mono_us() +
							EXPIRY_LOOK_S * 1000000ull};
			return;
		}
		while (plan_is_dying(p, m) && (r = ready_run(m))) {
			uint64_t id = m->id;

			expire_lane(p, r->lane);
			m = message_find(p, id);
			if (!m)
				break;
		}
	}
}

void plan_tick(struct plan *p)
{
	watch_clock(p);
	lanes_wake(&p->lanes, clock_mono_us());
	if (p->ready) {
		expire(p);
		take_due(p);
		take_again(p);
		dispatch(p);
	}
	if (outcomes_wait(p) && (p->draining || clock_mono_us() >= outcomes_due_us(p)))
		outcomes_flush(p);
	say_status(p);
}

static int64_t until(uint64_t at_us, int64_t ms)
{
	uint64_t now = clock_mono_us();
	int64_t wait = at_us > now ? (int64_t)((at_us - now + 999) / 1000) : 0;

	return ms < 0 || wait < ms ? wait : ms;
}

static bool may_go_on(const struct plan *p)
{
	for (unsigned c = 0; c < 2; c++) {
		const struct outlet *o = &p->lanes.channels[c];
		bool waits =
			!list_is_empty(&o->turns[SMALL]) || !list_is_empty(&o->turns[HUGE]);

		if (waits && o->running < o->limit &&
		    agents_have_room(&p->jobs, (enum channel)c))
			return true;
	}
	return false;
}

int64_t plan_wait_ms(const struct plan *p)
{
	uint32_t due = due_next(&p->due);
	int64_t ms = -1;

	if (outcomes_wait(p))
		ms = until(outcomes_due_us(p), ms);
	if (!p->ready || p->draining)
		return ms;
	if (due != DUE_NEVER)
		ms = until(due * 1000000ull, ms);
	if (lanes_next_us(&p->lanes) != UINT64_MAX)
		ms = until(lanes_next_us(&p->lanes), ms);
	if (!p->no_room && (p->expiry.looking || anything_is_ready(p)))
		ms = until(p->expiry.looking ? 0 : p->expiry.next_us, ms);
	if (heap_min(&p->again))
		ms = until(heap_min(&p->again)->key, ms);
	if (p->no_room && p->look_us > clock_mono_us() && anything_is_ready(p))
		ms = until(p->look_us, ms);
	if (dispatch_may_start(p) && may_go_on(p))
		ms = 0; /* DISPATCH_PASS_MAX ended the last tick */
	return ms;
}

void plan_credit(const struct plan *p, struct msg_credit *ret)
{
	uint64_t used = p->bytes + p->lanes.bytes + p->loads.parts_bytes;
	uint64_t room = p->limits.memory > used ? p->limits.memory - used : 0;

	ret->messages = room / 2 / MESSAGE_COST;
	ret->bytes = room / 2 / RECIPIENT_SHARE;
}
