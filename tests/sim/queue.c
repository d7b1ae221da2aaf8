/* The queue as a guest of the world: the unmodified plan beside the unmodified journal.
 *
 * Mail comes in at random, agents answer at random, bodies and agents die, the plan is killed
 * with the power, journald alone is killed beside it.  A model that only looks at durable
 * records says at each start what every accepted recipient must be: delivered, reported by
 * one bounce, or in the queue exactly once.  It also watches every single delivery: none of
 * a recipient that is over, none twice but of what was in flight or not yet durable when
 * something died, none while an outcome is owed for too long, never too many at once. */
#include "queue.h"

#include "core/clock.h"
#include "core/pool.h"
#include "core/rand.h"
#include "journal/reader.h"
#include "mail/addr.h"
#include "mail/envelope.h"
#include "sched/plan.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define RCPTS_MAX    40
#define PENDING_MAX  256
#define BOUNCES_MAX  64
#define LIMIT_LOCAL  3
#define LIMIT_REMOTE 6
#define SLOTS        4
#define AGENTS       2
#define SKIP_PASSES  60 /* after a jump of time: what is in flight lands first */

struct queue_counts queue_counts;

struct rcpt_model {
	uint8_t durable;    /* enum outcome of its newest final STATE; 0: none */
	bool told;          /* an outcome was sent that the feed did not show yet */
	bool excused;       /* may be delivered once more: something died at the wrong moment */
	uint16_t delivered; /* times that an agent really did */
	uint64_t told_us;
};
struct letter_model {
	uint64_t id;
	uint32_t n;
	bool accepted, bounce; /* its MSG is durable; it is one */
	bool triple; /* its failures are settled without a word, as soon as they are seen */
	struct rcpt_model r[RCPTS_MAX];
};
struct model { /* of one world, over all its runs */
	struct world *world;
	struct map letters;
	struct control *control;
	unsigned lifetime;
};
struct pending {
	bool used;
	bool spoilt; /* its body died: a deferral need not become a STATE */
	uint32_t role, index;
	struct msg_deliver d;
	struct span packed;
};
struct making {
	bool used;
	struct msg_bounce b;
	struct span tail;
};
struct queue { /* what dies with the guest */
	struct model *model;
	struct plan plan;
	struct plan_world world;
	struct pending pending[PENDING_MAX];
	struct making making[BOUNCES_MAX];
	struct buf outcomes;
	unsigned skip, running[2];
	bool there; /* journald is */
};

static struct model model;

/* --- the model
 * -------------------------------------------------------------------------------- */

static struct letter_model *letter_of(uint64_t id)
{
	return map_get(&model.letters, id);
}

static struct letter_model *letter_new(uint64_t id, uint32_t n, bool bounce)
{
	struct letter_model *l = mem_new(sizeof(*l));

	check(n <= RCPTS_MAX);
	l->id = id;
	l->n = n;
	l->bounce = bounce;
	check(map_put(&model.letters, id, l));
	return l;
}

/* Recipients are called r<number>; a bounce has one. */
static struct rcpt_model *rcpt_of(struct letter_model *l, struct span addr)
{
	uint64_t number = 0;

	if (!l->bounce &&
	    (!span_skip(&addr, SPAN("r")) || !span_u64(addr_local(addr), l->n - 1, &number)))
		world_fail("a delivery of %" PRIu64 " to somebody else", l->id);
	return &l->r[number];
}

static bool is_final(uint8_t outcome)
{
	return outcome != OUTCOME_DEFERRED;
}

static void see_state(const struct record *r)
{
	struct letter_model *l = letter_of(r->head.id);
	struct state_view v;

	if (!l || !state_view(&r->head, r->body, &v))
		return;
	for (uint32_t k = 0; k < v.s->ranges_n; k++)
		for (uint32_t i = range_at(v.ranges, k).first; i <= range_at(v.ranges, k).last;
		     i++) {
			if (i >= l->n)
				world_fail("a STATE of %" PRIu64 " about recipient %u of %u",
					   l->id, i, l->n);
			l->r[i].told = false;
			if (is_final(v.s->outcome) && l->r[i].durable != OUTCOME_SETTLED)
				l->r[i].durable = v.s->outcome;
		}
}

static void see_settled(uint64_t bounce, const struct msg_view *v)
{
	struct letter_model *l = letter_of(v->m->parent);

	if (!l || letter_of(bounce)->accepted)
		return;
	for (uint32_t k = 0; k < v->m->settles_n; k++)
		for (uint32_t i = range_at(v->settles, k).first;
		     i <= range_at(v->settles, k).last; i++) {
			if (l->r[i].durable == OUTCOME_SETTLED)
				world_fail("two bounces for recipient %u of %" PRIu64, i,
					   l->id);
			if (l->r[i].durable != OUTCOME_FAILED)
				world_fail("a bounce for recipient %u of %" PRIu64
					   ", whose outcome is %u",
					   i, l->id, l->r[i].durable);
			l->r[i].durable = OUTCOME_SETTLED;
		}
	queue_counts.bounces++;
}

static void see_msg(const struct record *r)
{
	struct letter_model *l = letter_of(r->head.id);
	struct msg_view v;

	if (!l || !msg_view(&r->head, r->body, &v))
		return;
	if (v.m->parent)
		see_settled(l->id, &v);
	l->accepted = true;
}

/* How often the plan holds recipient i: in runs, or among the failures. */
static void count_held(const struct message *m, struct letter_model *l, unsigned *in_runs,
		       unsigned *failed)
{
	struct recipient rc;

	for (const struct run *r = m->runs; r; r = r->sibling)
		for (uint32_t at = r->at; r->state != RUN_OVER && run_next(r, &at, &rc);)
			in_runs[rc.number]++;
	for (size_t at = 0; m->more && at < m->more->failed.n;) {
		struct failed_head h;

		memcpy(&h, m->more->failed.p + at, sizeof(h));
		failed[h.number] += !h.settled;
		at += sizeof(h) + h.n;
	}
}

static void compare(const struct plan *p, struct letter_model *l)
{
	const struct message *m = book_get(&p->messages, l->id);
	unsigned in_runs[RCPTS_MAX] = {0}, failed[RCPTS_MAX] = {0};

	if (m && !l->accepted)
		world_fail("%" PRIu64 " was never accepted and is queued", l->id);
	if (m)
		count_held(m, l, in_runs, failed);
	for (uint32_t i = 0; l->accepted && i < l->n; i++) {
		bool queued = l->r[i].durable == 0,
		     to_report = l->r[i].durable == OUTCOME_FAILED;

		if (in_runs[i] != queued ||
		    (failed[i] != to_report && !(l->triple && to_report)))
			world_fail("recipient %u of %" PRIu64
				   ": outcome %u, in %u runs, %u failures",
				   i, l->id, l->r[i].durable, in_runs[i], failed[i]);
		queue_counts.compared++;
	}
}

/* Right after a replay nothing is owed: the plan must hold what the durable records say. */
static void compare_all(const struct plan *p)
{
	struct letter_model *l;
	size_t at = 0;
	uint64_t id;

	while ((l = map_next(&model.letters, &at, &id)))
		compare(p, l);
}

/* --- the plan's world
 * ------------------------------------------------------------------------- */

static void do_open(void *ctx, uint32_t body, const struct msg_open *o)
{
}

static void do_close(void *ctx, uint32_t body, const struct msg_close *c)
{
}

static struct span keep(struct span s)
{
	char *p = mem_new(s.n + 1);

	if (s.n > 0)
		memcpy(p, s.p, s.n);
	return span_of(p, s.n);
}

static void forget(struct span *s)
{
	mem_free((void *)(uintptr_t)s->p);
	*s = SPAN_NONE;
}

static void check_delivery(struct queue *q, const struct msg_deliver *d, struct span packed)
{
	struct letter_model *l = letter_of(d->id);
	struct span addr;

	while (l && packed_next(&packed, &addr)) {
		struct rcpt_model *r = rcpt_of(l, addr);

		if (!l->accepted)
			world_fail("%" PRIu64 " is delivered before it is durable", d->id);
		if (r->durable != 0)
			world_fail("%.*s of %" PRIu64 " is tried, its outcome %u is durable",
				   SPAN_ARG(addr), d->id, r->durable);
		if (r->told)
			world_fail("%.*s of %" PRIu64 " is tried while its outcome is owed",
				   SPAN_ARG(addr), d->id);
		if (r->delivered > 0 && !r->excused)
			world_fail("%.*s of %" PRIu64 " would be delivered twice",
				   SPAN_ARG(addr), d->id);
		queue_counts.repeats += r->delivered > 0;
	}
	if (plan_owed_age_us(&q->plan) > 2000 * q->plan.limits.outcome_delay_ms)
		world_fail("a delivery starts while an outcome is owed for %" PRIu64 " us",
			   plan_owed_age_us(&q->plan));
}

static void do_deliver(void *ctx, uint32_t role, uint32_t index, const struct msg_deliver *d,
		       struct span sender, struct span packed)
{
	struct queue *q = ctx;
	unsigned ch = role == ROLE_LSPAWN ? CHANNEL_LOCAL : CHANNEL_REMOTE;

	if (++q->running[ch] > (ch == CHANNEL_LOCAL ? LIMIT_LOCAL : LIMIT_REMOTE))
		world_fail("%u deliveries at once", q->running[ch]);
	check_delivery(q, d, packed);
	for (unsigned i = 0; i < PENDING_MAX; i++)
		if (!q->pending[i].used) {
			q->pending[i] = (struct pending){true, false, role, index, *d, keep(packed)};
			return;
		}
	unreachable();
}

static void do_outcomes(void *ctx, struct span bytes)
{
	struct queue *q = ctx;

	if (!q->there)
		world_fail("outcomes are sent to nobody");
	check(buf_add(&q->outcomes, bytes));
}

static void do_bounce(void *ctx, uint32_t body, const struct msg_bounce *b, struct span tail)
{
	struct queue *q = ctx;

	for (unsigned i = 0; i < BOUNCES_MAX; i++)
		if (!q->making[i].used) {
			q->making[i] = (struct making){true, *b, keep(tail)};
			return;
		}
}

static enum read_result do_read(void *ctx, uint64_t pos, enum rec_type type, uint64_t id,
				uint32_t number, struct record *ret)
{
	struct reader *r = world_reader(model.world);

	queue_counts.reads++;
	return reader_at(r, pos, type, id, number, ret);
}

/* --- agents and bodies
 * ------------------------------------------------------------------------ */

static void pending_over(struct queue *q, struct pending *p)
{
	q->running[p->role == ROLE_LSPAWN ? CHANNEL_LOCAL : CHANNEL_REMOTE]--;
	forget(&p->packed);
	p->used = false;
}

/* An agent does its work, or dies over it, and nobody hears how far it was. */
static void excuse(struct pending *p)
{
	struct letter_model *l = letter_of(p->d.id);
	struct span packed = p->packed, addr;

	while (l && packed_next(&packed, &addr)) {
		struct rcpt_model *r = rcpt_of(l, addr);

		r->excused = true;
		r->delivered += (uint16_t)rand_below(2);
	}
}

static uint8_t dice_outcome(void)
{
	uint64_t d = rand_below(10);

	return d < 5 ? OUTCOME_DELIVERED : d < 8 ? OUTCOME_DEFERRED : OUTCOME_FAILED;
}

static void did(struct letter_model *l, struct span addr, uint8_t outcome, bool spoilt)
{
	struct rcpt_model *r = rcpt_of(l, addr);

	if (spoilt && outcome == OUTCOME_DEFERRED)
		return;
	r->told = true;
	r->told_us = clock_mono_us();
	if (outcome != OUTCOME_DELIVERED)
		return;
	r->delivered++;
	r->excused = false;
}

static void answer(struct queue *q, struct pending *p)
{
	struct letter_model *l = letter_of(p->d.id);
	struct span packed = p->packed, addr;
	struct msg_verdict v = {.job = p->d.job};
	struct buf b;
	struct pending was = *p;

	buf_init(&b, 65536);
	while (packed_next(&packed, &addr)) {
		struct msg_result r = {.rcpt = v.results++,
				       .outcome = dice_outcome(),
				       .slow = (uint8_t)rand_below(3),
				       .text_n = 8};

		if (l)
			did(l, addr, r.outcome, was.spoilt);
		check(buf_add(&b, span_of(&r, sizeof(r))) &&
		      buf_add(&b, rand_below(2) ? SPAN("text one") : SPAN("text two")));
	}
	pending_over(q, p);
	if (!plan_verdict(&q->plan, was.role, was.index, &v, buf_span(&b)))
		world_fail("the plan refuses a verdict");
	buf_free(&b);
}

static void answer_some(struct queue *q)
{
	for (unsigned i = 0; i < PENDING_MAX; i++)
		if (q->pending[i].used && rand_below(3) == 0)
			answer(q, &q->pending[i]);
}

static void agent_dies(struct queue *q)
{
	uint32_t role = rand_below(3) ? ROLE_REMOTE : ROLE_LSPAWN,
		 index = role == ROLE_REMOTE ? (uint32_t)rand_below(AGENTS) : 0;

	for (unsigned i = 0; i < PENDING_MAX; i++)
		if (q->pending[i].used && q->pending[i].role == role &&
		    q->pending[i].index == index) {
			excuse(&q->pending[i]);
			pending_over(q, &q->pending[i]);
		}
	check(plan_agent(&q->plan, role, index, 0));
	check(plan_agent(&q->plan, role, index, SLOTS));
	queue_counts.agents_lost++;
}

static struct span cut_tail(struct span *tail, size_t n)
{
	struct span s = span_cut(tail, n);

	check(s.n == n);
	return s;
}

/* As journald writes what body submits; a journal that is full or gone: it did not work. */
static bool submit_bounce(struct world *w, const struct making *mk)
{
	struct span tail = mk->tail;
	struct span sender = cut_tail(&tail, mk->b.sender_n),
		    to = cut_tail(&tail, mk->b.rcpt_n);
	struct span settles = cut_tail(&tail, mk->b.settles_n * sizeof(struct msg_range));
	struct rec_rcpt r = {.first = 0, .count = 1};
	struct rec_msg m = {.arrival_us = clock_wall_us(),
			    .size = mk->b.text_n,
			    .parent = mk->b.id,
			    .rcpt_parts = 1,
			    .rcpts = 1,
			    .sender_n = (uint16_t)sender.n,
			    .settles_n = mk->b.settles_n,
			    .kind = SUBMIT_BOUNCE};
	uint64_t id, at;
	struct rec_head h;
	struct buf packed;

	id = world_new_id(w);
	buf_init(&packed, 4096);
	check(packed_add(&packed, to));
	h = (struct rec_head){.type = REC_RCPT, .id = id};
	at = world_add(w, &h, (struct span[]){span_of(&r, sizeof(r)), buf_span(&packed)}, 2,
		       false);
	buf_free(&packed);
	if (!at)
		return false;
	letter_new(id, 1, true)->triple = span_eq(sender, SPAN("#@[]"));
	h = (struct rec_head){.type = REC_MSG, .id = id};
	return world_add(w, &h,
			 (struct span[]){span_of(&m, sizeof(m)), span_of(&at, sizeof(at)),
					 settles, sender},
			 4, true) != 0;
}

static void make_some(struct queue *q)
{
	for (unsigned i = 0; i < BOUNCES_MAX; i++) {
		struct making *mk = &q->making[i];

		if (!mk->used || rand_below(4) > 0)
			continue;
		if (!submit_bounce(model.world, mk))
			plan_bounced(&q->plan, &(struct msg_bounced){.parent = mk->b.id,
								     .verdict = STORED_LATER});
		else if (rand_below(2))
			plan_bounced(&q->plan, &(struct msg_bounced){.parent = mk->b.id,
								     .verdict = STORED_OK});
		forget(&mk->tail);
		mk->used = false;
	}
}

/* It may have submitted some of its bounces and not have said so. */
static void body_dies(struct queue *q)
{
	for (unsigned i = 0; i < PENDING_MAX; i++)
		q->pending[i].spoilt = true;
	for (unsigned i = 0; i < BOUNCES_MAX; i++) {
		if (!q->making[i].used)
			continue;
		if (rand_below(2))
			(void)submit_bounce(model.world, &q->making[i]);
		forget(&q->making[i].tail);
		q->making[i].used = false;
	}
	plan_body(&q->plan, 0, false);
	plan_body(&q->plan, 0, true);
	queue_counts.bodies_lost++;
}

/* --- journald's side
 * -------------------------------------------------------------------------- */

static void write_outcomes(struct queue *q)
{
	while (q->outcomes.n > 0) {
		struct span all = buf_span(&q->outcomes), ranges, text;
		struct msg_outcome o;

		memcpy(&o, cut_tail(&all, sizeof(o)).p, sizeof(o));
		ranges = cut_tail(&all, o.ranges_n * sizeof(struct msg_range));
		text = cut_tail(&all, o.text_n);
		if (!world_outcome(model.world, &o,
				   (const struct msg_range *)(const void *)ranges.p, text))
			return; /* the batch is full: later */
		buf_drop_front(&q->outcomes, sizeof(o) + ranges.n + MSG_PAD8((size_t)o.text_n));
		queue_counts.outcomes++;
	}
}

static void submit_one(struct world *w)
{
	static const char *const senders[] = {"s@x.example", "list-@x.example-@[]", "", "#@[]"};
	uint32_t n = (uint32_t)(rand_below(8) ? rand_below(5) : rand_below(RCPTS_MAX));
	uint64_t id = world_new_id(w);
	const char *sender = senders[rand_below(12) % ARRAY_N(senders)];
	struct buf packed;

	buf_init(&packed, 65536);
	for (uint32_t i = 0; i < n; i++) {
		char addr[64];

		if (rand_below(4) == 0)
			snprintf(addr, sizeof(addr), "r%u@here.example", i);
		else
			snprintf(addr, sizeof(addr), "r%u@d%u.example", i,
				 (unsigned)rand_below(6));
		check(packed_add(&packed, span_str(addr)));
	}
	letter_new(id, n, false)->triple = strcmp(sender, "#@[]") == 0;
	if (world_submit(w, id, span_str(sender), buf_span(&packed), n, SPAN("body"), 0))
		queue_counts.submitted++;
	buf_free(&packed);
}

/* --- the guest
 * -------------------------------------------------------------------------------- */

static void model_begin(struct world *w)
{
	if (model.world == w)
		return;
	check(!model.world);
	model.world = w;
	map_init(&model.letters, SIZE_MAX / 64);
	model.control = control_new();
	check(control_set(model.control, SPAN("me"), SPAN("here.example\n")));
	check(control_set(model.control, SPAN("concurrencylocal"), SPAN("3\n")));
	check(control_set(model.control, SPAN("concurrencyremote"), SPAN("6\n")));
	if (rand_below(3) == 0) /* every deferral of a message that is a second old ends it */
		check(control_set(model.control, SPAN("queuelifetime"), SPAN("0\n")));
}

static void *begin(struct world *w)
{
	struct queue *q = mem_new(sizeof(*q));

	model_begin(w);
	q->model = &model;
	q->world = (struct plan_world){q,           do_open,   do_close, do_deliver,
				       do_outcomes, do_bounce, do_read};
	buf_init(&q->outcomes, 1 << 28);
	plan_init(&q->plan, &q->world, model.control);
	plan_journal(&q->plan, false);
	return q;
}

static void record(void *g, const struct record *r)
{
	struct queue *q = g;

	if (r->head.type == REC_STATE)
		see_state(r);
	else if (r->head.type == REC_MSG)
		see_msg(r);
	plan_record(&q->plan, r);
}

static void come_to_life(struct queue *q)
{
	plan_ready(&q->plan);
	compare_all(&q->plan);
	plan_body(&q->plan, 0, true);
	for (uint32_t i = 0; i < AGENTS; i++)
		check(plan_agent(&q->plan, ROLE_REMOTE, i, SLOTS));
	check(plan_agent(&q->plan, ROLE_LSPAWN, 0, SLOTS));
	queue_counts.replays++;
}

static void caught_up(void *g)
{
	struct queue *q = g;

	q->there = true;
	if (!q->plan.ready)
		come_to_life(q);
	else
		queue_counts.reconnections++;
	plan_journal(&q->plan, true);
}

/* What it had not written is lost with it; open submissions are answered "later". */
static void gone(void *g)
{
	struct queue *q = g;

	q->there = false;
	buf_clear(&q->outcomes);
	plan_journal(&q->plan, false);
	for (unsigned i = 0; i < BOUNCES_MAX; i++)
		if (q->making[i].used) {
			plan_bounced(&q->plan,
				     &(struct msg_bounced){.parent = q->making[i].b.id,
							   .verdict = STORED_LATER});
			forget(&q->making[i].tail);
			q->making[i].used = false;
		}
}

static void jump(struct queue *q)
{
	uint64_t by = (uint64_t)(rand_below(2) ? BOUNCE_AGAIN_S + 1 : 3000) * 1000000;

	clock_set(clock_mono_us() + by, clock_wall_us() + by);
	q->skip = SKIP_PASSES;
}

static void tick(struct queue *q)
{
	uint64_t mono = clock_mono_us(), wall = clock_wall_us();

	if (rand_below(300) == 0) { /* the wall clock is wrong for a moment */
		clock_set(mono, rand_below(2) ? wall / 2 : wall + 86400ull * 365 * 1000000);
		queue_counts.clock_steps++;
	}
	plan_tick(&q->plan);
	clock_set(mono, wall);
}

static void step(void *g)
{
	struct queue *q = g;

	if (rand_below(4) == 0)
		submit_one(model.world);
	write_outcomes(q);
	if (q->skip > 0) {
		q->skip--;
		return;
	}
	answer_some(q);
	make_some(q);
	if (rand_below(200) == 0)
		agent_dies(q);
	if (rand_below(200) == 0)
		body_dies(q);
	if (rand_below(50) == 0)
		plan_retry_all(&q->plan);
	tick(q);
	if (rand_below(150) == 0)
		jump(q);
}

/* Who was told something that never became durable may hear of it twice. */
static void excuse_told(void)
{
	struct letter_model *l;
	size_t at = 0;
	uint64_t id;

	while ((l = map_next(&model.letters, &at, &id)))
		for (uint32_t i = 0; i < l->n; i++) {
			l->r[i].excused |= l->r[i].told;
			l->r[i].told = false;
		}
}

static void end(void *g)
{
	struct queue *q = g;

	for (unsigned i = 0; i < PENDING_MAX; i++)
		if (q->pending[i].used) {
			excuse(&q->pending[i]);
			pending_over(q, &q->pending[i]);
		}
	for (unsigned i = 0; i < BOUNCES_MAX; i++)
		if (q->making[i].used)
			forget(&q->making[i].tail);
	excuse_told();
	buf_free(&q->outcomes);
	plan_fini(&q->plan);
	mem_free(q);
}

static void over(struct world *w)
{
	struct letter_model *l;
	size_t at = 0;
	uint64_t id;

	if (model.world != w)
		return;
	while ((l = map_next(&model.letters, &at, &id)))
		mem_free(l);
	map_fini(&model.letters);
	control_free(model.control);
	model = (struct model){0};
}

const struct guest queue_guest = {"queue", begin, record, caught_up, gone, step, end, over};
