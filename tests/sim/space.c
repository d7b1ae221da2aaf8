/* What is promised here is said of messages, not of records: these move, are merged, and go.
 *
 * journald is commit and keeper.  Beside it lives a reader of the feed that keeps positions as
 * sched does (sched/retire.h), and holds places of bodies as body does; it answers RETIREs late.
 * Everything that it may read by what it knows must be there, byte for byte, as long as it has
 * not said that it let go.
 *
 * After each power loss the journal is walked as a new sched does (sched/load.h):
 *
 *   a message that was promised, and is not over, is there, with all its parts
 *   what is there has each final outcome that was promised, and no older deferral than that
 *
 * Indexes are made soon here.  Before some starts all of them are removed, or one is damaged: then
 * record by record the same must be read as before. */
#include "space.h"
#include "world.h"

#include "core/clock.h"
#include "core/pool.h"
#include "core/rand.h"
#include "journal/keeper.h"
#include "mail/envelope.h"
#include "sched/load.h"
#include "sched/retire.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define SEGMENT_SIZE (64 * 1024)
#define RING_SIZE    (1024 * 1024)
#define SHARD        3
#define START_US     UINT64_C(1000000000)
#define LETTERS_MAX  4000
#define PARTS_MAX    4
#define PART_N       3000
#define RCPTS_MAX    4
#define LIVE_MAX     60 /* letters in the queue; more wait until some are over */
#define HELD_MAX     8
#define AMBIGUOUS_MAX 64

struct letter {
	uint64_t id, pos; /* pos: as the feed said it, and RETIREs since; 0: not seen */
	uint64_t parent;
	uint32_t parts, rcpts, n[PARTS_MAX];
	uint8_t said;     /* recipients whose end was given to journald */
	uint8_t over;     /* of them, durable: promised */
	uint8_t failed;   /* durable failures; a bounce settles them */
	uint8_t maybe;    /* given to a journald that died: durable or not */
	uint32_t attempt[RCPTS_MAX]; /* of the last deferral that is durable */
	uint32_t tried;
	bool added, promised, slow, settling;
	bool torn;        /* its MSG came out of a torn batch: parts may be missing, and were never promised */
};
struct promise {
	struct waiter waiter;
	struct link link;
	struct space *space;
	struct letter *letter, *parent;
	uint8_t over, failed, settles;
	uint32_t attempt, rcpt;
};
struct held { /* as body holds it */
	struct letter *letter;
	uint64_t pos, at[PARTS_MAX];
};
struct answer {
	struct msg_retired m;
	uint64_t due_ms;
};

struct space {
	struct loop loop;
	struct disk *disk;
	struct ring ring;
	struct commit *commit;
	struct keeper *keeper;
	bool failed, keeps;
	uint64_t epoch, ids;

	struct reader *feed; /* NULL: nobody follows */
	struct retires retires;
	bool caught_up;
	struct held held[HELD_MAX];
	struct answer answers[64];
	unsigned answers_n;

	struct letter *letters;
	unsigned n, live;
	struct link promises;
	struct pool pool;
	char noise[PART_N + 8192];
	uint64_t ambiguous[AMBIGUOUS_MAX][2];
	unsigned ambiguous_n;
};

struct space_counts space_counts;
static uint64_t seed_now;

static _Noreturn void broken(const char *what, const struct letter *l)
{
	world_fail("space: seed %" PRIu64 " at %" PRIu64 " ms: %s: id %" PRIu64
		   " pos %" PRIu64 " over %x of %u",
		   seed_now, clock_mono_ms(), what, l ? l->id : 0, l ? l->pos : 0,
		   l ? l->over : 0u, l ? l->rcpts : 0);
}

/* ---- the loop ---- */

static void sim_wait(struct loop *l, int64_t ms)
{
	struct space *s = l->body;
	uint64_t now = clock_mono_us(), next = simdisk_next(s->disk), due;

	due = ms < 0 ? now + 1000 : now + (uint64_t)ms * 1000;
	if (next < due)
		due = next > now ? next : now;
	clock_set(due, due + START_US);
	simdisk_run(s->disk, due);
}

static void sim_start(struct loop *l, struct op *op)
{
	broken("an operation that has no place here", NULL);
}

static void sim_cancel(struct loop *l, struct op *op)
{
}

static const struct loop_calls sim_loop = {
	.name = "simulator", .start = sim_start, .cancel = sim_cancel, .wait = sim_wait};

static bool is_dark(const struct space *s)
{
	return simdisk_is_dead(s->disk);
}

/* ---- what a letter looks like ---- */

static uint8_t all_of(const struct letter *l)
{
	return (uint8_t)((1u << l->rcpts) - 1);
}

static struct span part_of(struct space *s, const struct letter *l, uint32_t number)
{
	return span_of(s->noise + (l->id * 7 + number * 13) % 8000, l->n[number]);
}

static struct letter *letter_of(struct space *s, uint64_t id)
{
	for (unsigned i = s->n; i-- > 0;)
		if (s->letters[i].id == id)
			return &s->letters[i];
	return NULL;
}

static bool is_live(const struct letter *l)
{
	return l->added && l->said != all_of(l);
}

/* ---- promises ---- */

static void on_durable(struct waiter *w)
{
	struct promise *p = owner_of(w, struct promise, waiter);
	struct letter *l = p->letter;

	if (p->over == 0 && p->failed == 0 && p->attempt == 0)
		l->promised = true;
	l->over |= p->over;
	l->failed |= p->failed;
	if (p->attempt > l->attempt[p->rcpt])
		l->attempt[p->rcpt] = p->attempt;
	if (p->parent) { /* a bounce: its failures are settled */
		p->parent->over |= p->settles;
		p->parent->failed &= (uint8_t)~p->settles;
		p->parent->settling = false;
		l->promised = true;
	}
	list_remove(&p->link);
	pool_put(&p->space->pool, p);
}

static struct promise *promise(struct space *s, struct letter *l)
{
	struct promise *p = pool_get(&s->pool);

	check(p);
	p->space = s;
	p->letter = l;
	waiter_init(&p->waiter, on_durable);
	commit_wait(s->commit, &p->waiter);
	list_add_end(&s->promises, &p->link);
	return p;
}

static void drop_promises(struct space *s)
{
	list_each_safe(&s->promises, at) {
		struct promise *p = owner_of(at, struct promise, link);

		waiter_cancel(&p->waiter);
		p->letter->maybe |= p->over;
		if (p->parent)
			p->parent->maybe |= p->settles;
		list_remove(&p->link);
		pool_put(&s->pool, p);
	}
}

/* ---- what is added ---- */

static bool add(struct space *s, struct rec_head *h, const struct span *pieces, int n,
		uint64_t *ret_pos)
{
	uint64_t pos;

	if (!s->commit || s->failed || is_dark(s))
		return false;
	pos = commit_add(s->commit, h, pieces, n, h->type == REC_MSG ? COMMIT_ACKED : 0);
	if (ret_pos)
		*ret_pos = pos;
	return pos != 0;
}

static bool add_parts(struct space *s, struct letter *l, uint64_t *at)
{
	char packed[64];
	struct buf b = {.p = packed, .cap = sizeof(packed), .max = sizeof(packed)};
	struct rec_rcpt r = {.count = l->rcpts};
	struct rec_head h;

	for (uint32_t i = 0; i < l->parts; i++) {
		struct span raw = part_of(s, l, i);
		struct rec_body body = {.raw_n = (uint32_t)raw.n,
					.raw_hash = hash64(raw.p, raw.n)};

		h = (struct rec_head){.type = REC_BODY, .id = l->id, .number = i};
		if (!add(s, &h, (struct span[]){span_of(&body, sizeof(body)), raw}, 2, &at[i]))
			return false;
	}
	for (uint32_t i = 0; i < l->rcpts; i++)
		check(packed_add(&b, SPAN("a@b.example")));
	h = (struct rec_head){.type = REC_RCPT, .id = l->id};
	return add(s, &h, (struct span[]){span_of(&r, sizeof(r)), buf_span(&b)}, 2,
		   &at[l->parts]);
}

static bool add_msg(struct space *s, struct letter *l, const uint64_t *at, struct letter *parent)
{
	struct msg_range ranges[RCPTS_MAX];
	struct rec_msg m = {
		.arrival_us = clock_wall_us(),
		.parent = parent ? parent->id : 0,
		.body_parts = l->parts,
		.rcpt_parts = 1,
		.rcpts = l->rcpts,
	};
	struct rec_head h = {.type = REC_MSG, .id = l->id};

	for (uint32_t i = 0; parent && i < parent->rcpts; i++)
		if (parent->failed >> i & 1)
			ranges[m.settles_n++] = (struct msg_range){i, i};
	for (uint32_t i = 0; i < l->parts; i++)
		m.size += l->n[i];
	return add(s, &h,
		   (struct span[]){span_of(&m, sizeof(m)),
				   span_of(at, (l->parts + 1) * sizeof(*at)),
				   span_of(ranges, m.settles_n * sizeof(*ranges))},
		   3, NULL);
}

/* Now and then a client hangs up in the middle. */
static void submit(struct space *s, struct letter *parent)
{
	struct letter *l = &s->letters[s->n];
	uint64_t at[PARTS_MAX + 1];
	bool hangs_up = !parent && rand_below(12) == 0;
	size_t most = PARTS_MAX * rec_size(sizeof(struct rec_body) + PART_N) + 1024;
	struct promise *p;

	if (s->n == LETTERS_MAX || !commit_fits(s->commit, most, 0))
		return;
	*l = (struct letter){.id = id_make(commit_epoch(s->commit), ++s->ids, SHARD),
			     .parent = parent ? parent->id : 0,
			     .parts = 1 + (uint32_t)rand_below(PARTS_MAX),
			     .rcpts = 1 + (uint32_t)rand_below(RCPTS_MAX),
			     .slow = rand_below(6) == 0};
	for (uint32_t i = 0; i < l->parts; i++)
		l->n[i] = 1 + (uint32_t)rand_below(PART_N);
	s->n++;
	if (!add_parts(s, l, at) || hangs_up || !add_msg(s, l, at, parent)) {
		keeper_abandoned(s->keeper, l->id);
		space_counts.abandoned++;
		return;
	}
	l->added = true;
	space_counts.messages++;
	p = promise(s, l);
	if (!parent)
		return;
	p->parent = parent;
	p->settles = parent->failed;
	parent->settling = true;
	parent->said |= parent->failed;
	space_counts.bounces++;
}

static void outcome(struct space *s, struct letter *l, uint32_t rcpt)
{
	uint64_t dice = rand_below(l->slow ? 40 : 4);
	struct rec_state st = {.at_us = clock_wall_us(), .attempt = l->tried + 1, .ranges_n = 1};
	struct msg_range range = {rcpt, rcpt};
	struct rec_head h = {.type = REC_STATE, .id = l->id};
	struct promise *p;

	st.outcome = dice < 2 ? OUTCOME_DELIVERED : OUTCOME_DEFERRED;
	if (dice == 2 && !l->parent && !l->settling)
		st.outcome = OUTCOME_FAILED;
	if (!add(s, &h,
		 (struct span[]){span_of(&st, sizeof(st)), span_of(&range, sizeof(range))}, 2,
		 NULL))
		return;
	space_counts.outcomes++;
	p = promise(s, l);
	if (st.outcome == OUTCOME_DEFERRED) {
		p->attempt = ++l->tried;
		p->rcpt = rcpt;
	} else if (st.outcome == OUTCOME_DELIVERED) {
		p->over = (uint8_t)(1u << rcpt);
		l->said |= p->over;
	} else {
		p->failed = (uint8_t)(1u << rcpt);
	}
}

/* Only of what the feed has shown, and whose failures are not on their way. */
static void work_on(struct space *s, struct letter *l)
{
	uint32_t rcpt = (uint32_t)rand_below(l->rcpts);

	if (!l->pos || !is_live(l) || l->settling || !l->promised)
		return;
	if (l->failed) {
		if (!l->settling)
			submit(s, l);
		return;
	}
	if (!(l->said >> rcpt & 1))
		outcome(s, l, rcpt);
}

static void step_mail(struct space *s)
{
	unsigned live = 0;

	for (unsigned i = 0; i < s->n; i++)
		live += is_live(&s->letters[i]);
	if (live < LIVE_MAX && rand_below(2))
		submit(s, NULL);
	for (int k = 0; k < 4 && s->n > 0; k++)
		work_on(s, &s->letters[rand_below(s->n)]);
	for (unsigned i = 0; i < s->n && live > LIVE_MAX / 2; i++)
		if (!s->letters[i].slow && rand_below(8) == 0)
			work_on(s, &s->letters[i]);
}

/* ---- reading by position ---- */

static bool is_ambiguous(const struct space *s, uint64_t pos)
{
	for (unsigned i = 0; i < s->ambiguous_n; i++)
		if (pos >= s->ambiguous[i][0] && pos < s->ambiguous[i][1])
			return true;
	return false;
}

static bool is_part(struct space *s, const struct letter *l, uint32_t i, const struct record *r)
{
	struct span raw = part_of(s, l, i);

	return r->body.n == sizeof(struct rec_body) + raw.n &&
	       span_eq(span_from(r->body, sizeof(struct rec_body)), raw);
}

static void read_part(struct space *s, struct reader *r, const struct letter *l, uint32_t i,
		      uint64_t pos)
{
	struct record rec;
	enum read_result got = reader_at(r, pos, REC_BODY, l->id, i, &rec);

	if (is_dark(s) || s->failed || (got == READ_DAMAGE && is_ambiguous(s, pos)))
		return;
	if (got != READ_OK || !is_part(s, l, i, &rec))
		world_fail("space: seed %" PRIu64 ": part %u of %" PRIu64 " at %" PRIu64
			   " (segment %" PRIx64 "): %d",
			   seed_now, i, l->id, pos, pos / SEGMENT_SIZE, (int)got);
	space_counts.looked_up++;
	space_counts.cold_read += pos / SEGMENT_SIZE >= COLD_FIRST;
}

/* false: the power went. */
static bool locate(struct space *s, struct reader *r, const struct letter *l, uint64_t pos,
		   uint64_t *at)
{
	struct record rec;
	struct msg_view v;
	enum read_result got = reader_at(r, pos, REC_MSG, l->id, 0, &rec);

	if (is_dark(s))
		return false;
	if (got != READ_OK || !msg_view(&rec.head, rec.body, &v) ||
	    v.m->body_parts != l->parts)
		world_fail("space: seed %" PRIu64 ": MSG of %" PRIu64 " at %" PRIu64
			   " (segment %" PRIx64 "): %d",
			   seed_now, l->id, pos, pos / SEGMENT_SIZE, (int)got);
	for (uint32_t i = 0; i < l->parts; i++)
		at[i] = msg_position(&v, i);
	return true;
}

/* ---- who follows ---- */

static void correct(void *ctx, const struct msg_moved *v, size_t n)
{
	struct space *s = ctx;

	space_counts.moved += n;
	for (size_t i = 0; i < n; i++) {
		struct letter *l = letter_of(s, v[i].id);

		if (l && l->pos == v[i].from)
			l->pos = v[i].to;
	}
}

static void answer(struct space *s, const struct msg_retire *m)
{
	check(s->answers_n < ARRAY_N(s->answers));
	s->answers[s->answers_n++] = (struct answer){
		.m = {.segment = m->segment, .serial = m->serial},
		.due_ms = clock_mono_ms() + rand_below(2) * rand_below(60),
	};
}

static void forward(void *ctx, const struct msg_retire *m, struct span moved)
{
	struct space *s = ctx;

	space_counts.taken_back += m->part == RETIRE_MORE && m->serial == 0;
	for (unsigned i = 0; i < HELD_MAX; i++) {
		struct held *h = &s->held[i];
		struct span rest = moved;
		struct msg_moved v;

		while (h->letter && is_live(h->letter) && rest.n > 0) {
			memcpy(&v, span_cut(&rest, sizeof(v)).p, sizeof(v));
			if (v.id != h->letter->id || v.from != h->pos)
				continue;
			h->pos = v.to;
			if (!locate(s, s->feed, h->letter, h->pos, h->at))
				h->letter = NULL;
		}
	}
	if (m->part == RETIRE_LAST)
		answer(s, m);
}

static const struct retires_calls retires_calls = {.correct = correct, .forward = forward};

static void step_answers(struct space *s)
{
	unsigned n = 0;

	for (unsigned i = 0; i < s->answers_n; i++) {
		if (s->answers[i].due_ms <= clock_mono_ms())
			keeper_retired(s->keeper, 0, &s->answers[i].m);
		else
			s->answers[n++] = s->answers[i];
	}
	s->answers_n = n;
}

/* Held until it is over: a job has ended before its last outcome is given. */
static void step_held(struct space *s)
{
	struct held *h = &s->held[rand_below(HELD_MAX)];
	uint32_t i;

	if (h->letter && is_live(h->letter) && rand_below(8)) {
		i = (uint32_t)rand_below(h->letter->parts);
		read_part(s, s->feed, h->letter, i, h->at[i]);
		return;
	}
	h->letter = s->n ? &s->letters[rand_below(s->n)] : NULL;
	if (!h->letter || !h->letter->pos || !is_live(h->letter)) {
		h->letter = NULL;
		return;
	}
	h->pos = h->letter->pos;
	if (!locate(s, s->feed, h->letter, h->pos, h->at))
		h->letter = NULL;
}

static void see(struct space *s, const struct record *r)
{
	struct letter *l = r->head.type == REC_MSG ? letter_of(s, r->head.id) : NULL;

	if (r->head.type == REC_MSG && !l)
		broken("a message that nobody submitted", NULL);
	if (l && r->pos > l->pos)
		l->pos = r->pos;
}

static void follow(struct space *s, unsigned max)
{
	struct record r;

	while (max-- && !is_dark(s)) {
		enum read_result got = reader_next(s->feed, BODIES_PASS, &r);

		if (is_dark(s))
			return;
		if (got == READ_END) {
			s->caught_up = true;
			retires_apply(&s->retires, reader_pos(s->feed));
			return;
		}
		if (got == READ_DAMAGE && is_ambiguous(s, r.pos))
			continue;
		if (got != READ_OK)
			world_fail("space: seed %" PRIu64 ": the feed says %d at %" PRIu64,
				   seed_now, (int)got, r.pos);
		see(s, &r);
	}
}

static void nobody_follows(struct space *s)
{
	reader_free(s->feed);
	s->feed = NULL;
	retires_fini(&s->retires);
	retires_init(&s->retires, &retires_calls, s);
	memset(s->held, 0, sizeof(s->held));
	s->answers_n = 0;
	for (unsigned i = 0; i < s->n; i++)
		s->letters[i].pos = 0;
}

/* ---- what journald calls ---- */

static void on_moved(void *ctx, uint64_t durable)
{
	struct space *s = ctx;

	if (s->keeper)
		keeper_moved(s->keeper);
}

static void on_room(void *ctx)
{
}

static void on_failed(void *ctx, int error)
{
	struct space *s = ctx;

	s->failed = true;
}

static void on_entered(void *ctx, uint64_t number, uint64_t edits)
{
	struct space *s = ctx;

	if (s->keeper)
		keeper_entered(s->keeper, number, edits);
}

static const struct commit_calls commit_calls = {
	.moved = on_moved, .room = on_room, .failed = on_failed, .entered = on_entered};

static void on_retire(void *ctx, const struct msg_retire *m, struct span moved)
{
	struct space *s = ctx;

	if (s->feed && !retires_take(&s->retires, m, moved))
		broken("a RETIRE that fits no frame", NULL);
}

static const struct keeper_calls keeper_calls = {
	.retire = on_retire, .room = on_room, .failed = on_failed};

/* ---- as a new sched sees it ---- */

struct walk {
	struct space *space;
	struct loads loads;
};

static void take(struct walk *w, const struct record *r)
{
	struct msg_view v;
	struct state_view st;
	struct load *l;

	if (r->head.type == REC_RCPT) {
		load_part(&w->loads, loads_get(&w->loads, r->head.id), r);
	} else if (r->head.type == REC_MSG && msg_view(&r->head, r->body, &v)) {
		see(w->space, r);
		load_msg(&w->loads, loads_get(&w->loads, r->head.id), r, &v);
		l = v.m->parent ? loads_get(&w->loads, v.m->parent) : NULL;
		for (uint32_t i = 0; l && i < v.m->settles_n; i++)
			load_settle(l, range_at(v.settles, i));
	} else if (r->head.type == REC_STATE && state_view(&r->head, r->body, &st)) {
		load_state(loads_get(&w->loads, r->head.id), r, &st);
	}
}

static uint32_t attempt_of(const struct load *l, uint32_t rcpt)
{
	const struct load_deferral *d;
	uint32_t highest = 0;

	if (!l->states)
		return 0;
	d = (const struct load_deferral *)(const void *)l->states->deferrals.p;
	for (size_t i = 0; i < l->states->deferrals.n / sizeof(*d); i++)
		if (d[i].range.first <= rcpt && rcpt <= d[i].range.last &&
		    d[i].attempt > highest)
			highest = d[i].attempt;
	return highest;
}

static void compare(struct walk *w, struct reader *r, struct letter *l)
{
	struct space *s = w->space;
	struct load *d = loads_find(&w->loads, l->id);
	uint64_t at[PARTS_MAX];
	bool is_over = (l->over | l->maybe) == all_of(l), there = d && d->committed;

	space_counts.compared++;
	if (!there && l->promised && !is_over)
		broken("a promised message is gone", l);
	if (!there)
		return;
	for (uint32_t i = 0; i < l->rcpts; i++) {
		bool over = d->states && bits_has(&d->states->over, i);

		if ((l->over >> i & 1) && !over)
			broken("a recipient is not over any more", l);
		if ((l->failed >> i & 1) && !over &&
		    !(d->states && bits_has(&d->states->failed, i)))
			broken("a failure is forgotten", l);
	}
	if (load_is_over(d))
		return;
	if (l->promised && !load_is_whole(d))
		broken("recipients are gone", l);
	for (uint32_t i = 0; i < l->rcpts; i++)
		if (!((l->over | l->failed) >> i & 1) && attempt_of(d, i) < l->attempt[i] &&
		    !(d->states && bits_has(&d->states->over, i)) &&
		    !(d->states && bits_has(&d->states->failed, i)))
			broken("a deferral is forgotten", l);
	if (l->promised && locate(s, r, l, d->pos, at))
		for (uint32_t i = 0; i < l->parts; i++)
			read_part(s, r, l, i, at[i]);
}

/* What is there now stays: what was only given to journald, and lives, counts as promised. */
static void believe(struct walk *w, struct letter *l)
{
	struct space *s = w->space;
	struct load *d = loads_find(&w->loads, l->id);

	if (!d || !d->committed) {
		l->said = all_of(l); /* it is over, or never was */
		l->over = l->promised ? l->over : 0;
		return;
	}
	l->torn = l->torn || (!l->promised && is_ambiguous(s, d->pos));
	l->promised = !l->torn;
	l->settling = false;
	l->said = l->over = l->failed = l->maybe = 0;
	for (uint32_t i = 0; i < l->rcpts && d->states; i++) {
		bool over = bits_has(&d->states->over, i);

		l->over |= (uint8_t)(over << i);
		l->failed |= (uint8_t)((!over && bits_has(&d->states->failed, i)) << i);
	}
	l->said = l->over;
	for (uint32_t i = 0; i < l->rcpts; i++) {
		l->attempt[i] = attempt_of(d, i);
		l->tried = l->attempt[i] > l->tried ? l->attempt[i] : l->tried;
	}
}

static void walk_opened(struct walk *w, struct reader *r)
{
	struct space *s = w->space;
	struct record rec;
	enum read_result got;

	while ((got = reader_next(r, BODIES_PASS, &rec)) == READ_OK ||
	       (got == READ_DAMAGE && is_ambiguous(s, rec.pos)))
		if (got == READ_OK)
			take(w, &rec);
	if (is_dark(s))
		return;
	if (got != READ_END)
		world_fail("space: seed %" PRIu64 ": a walk says %d at %" PRIu64, seed_now,
			   (int)got, rec.pos);
	for (unsigned i = 0; i < s->n && !is_dark(s); i++)
		compare(w, r, &s->letters[i]);
	for (unsigned i = 0; i < s->n && !is_dark(s); i++)
		believe(w, &s->letters[i]);
	space_counts.walks++;
}

static void walk_all(struct space *s)
{
	struct walk w = {.space = s};
	struct reader *r = reader_new(s->disk, NULL, SEGMENT_SIZE, SHARD);
	struct buf why;

	loads_init(&w.loads);
	buf_init(&why, 512);
	if (reader_open(r, &why) == 0)
		walk_opened(&w, r);
	else if (!is_dark(s))
		world_fail("space: seed %" PRIu64 ": can't be opened: %.*s", seed_now,
			   SPAN_ARG(buf_span(&why)));
	buf_free(&why);
	reader_free(r);
	loads_fini(&w.loads);
}

/* ---- indexes ---- */

struct indexes {
	char v[256][SEGMENT_NAME_MAX];
	unsigned n;
};

static void each_file(void *ctx, const char *name, uint64_t size)
{
	struct indexes *x = ctx;

	if (strncmp(name, "idx-", 4) == 0 && x->n < ARRAY_N(x->v))
		snprintf(x->v[x->n++], sizeof(x->v[0]), "%s", name);
}

/* All that a replay reads, in order, in one number. */
static uint64_t replay_hash(struct space *s)
{
	struct reader *r = reader_new(s->disk, NULL, SEGMENT_SIZE, SHARD);
	uint64_t all[4] = {0}, number;
	enum read_result got = READ_END;
	struct record rec;
	struct buf why;

	buf_init(&why, 512);
	if (reader_open(r, &why))
		world_fail("space: seed %" PRIu64 ": can't be opened: %.*s", seed_now,
			   SPAN_ARG(buf_span(&why)));
	while ((got = reader_next(r, BODIES_PASS, &rec)) == READ_OK || got == READ_DAMAGE) {
		if (got == READ_DAMAGE)
			rec.body = SPAN_NONE;
		all[1] = rec.pos;
		all[2] = got == READ_OK ? hash64(&rec.head, sizeof(rec.head)) : 0;
		all[3] = hash64(rec.body.p, rec.body.n);
		all[0] = hash64(all, sizeof(all));
	}
	if (got != READ_END)
		broken("the queue can't be read to its end", NULL);
	while (reader_rotten(r, &number))
		space_counts.index_said++;
	buf_free(&why);
	reader_free(r);
	return all[0];
}

/* They are only a cache. */
static void lose_indexes(struct space *s)
{
	uint64_t fuse = simdisk_fuse(s->disk, 0), before, size;
	struct indexes x = {.n = 0};
	const char *one;

	check(s->disk->calls->list(s->disk, each_file, &x) == 0);
	if (x.n > 0) {
		before = replay_hash(s);
		one = x.v[rand_below(x.n)];
		if (rand_below(3) == 0 && simdisk_bytes(s->disk, one, &size)) {
			(void)simdisk_rot(s->disk, one, rand_below(size), (unsigned)rand_below(8));
			space_counts.index_rotten++;
		} else {
			for (unsigned i = 0; i < x.n; i++)
				check(s->disk->calls->unlink(s->disk, x.v[i]) == 0);
			space_counts.index_lost++;
		}
		if (replay_hash(s) != before)
			broken("without an index another queue is read", NULL);
	}
	(void)simdisk_fuse(s->disk, fuse);
}

/* ---- runs ---- */

/* false: the power went. */
static bool recover(struct space *s, struct journal_end *end)
{
	enum recovered verdict = journal_recover(s->disk, end);

	if (is_dark(s))
		return false;
	if (verdict == RECOVERED_AMBIGUOUS) {
		check(s->ambiguous_n < AMBIGUOUS_MAX);
		s->ambiguous[s->ambiguous_n][0] = end->damage_from;
		s->ambiguous[s->ambiguous_n++][1] = end->damage_to;
		space_counts.ambiguous++;
	} else if (verdict != RECOVERED_EMPTY && verdict != RECOVERED_CLEAN &&
		   verdict != RECOVERED_TORN) {
		world_fail("space: seed %" PRIu64 ": recovery says %d: %.*s", seed_now,
			   (int)verdict, SPAN_ARG(buf_span(&end->why)));
	}
	if (verdict != RECOVERED_EMPTY && rand_below(3) == 0)
		lose_indexes(s);
	if (verdict != RECOVERED_EMPTY && !s->feed)
		walk_all(s);
	return !is_dark(s);
}

static void count_keeper(struct space *s)
{
	struct keeper_counts c;

	keeper_count(s->keeper, &c);
	space_counts.rounds += c.rounds;
	space_counts.recycled += c.recycled;
	space_counts.given_up += c.given_up;
	space_counts.quarantined += c.damaged;
	space_counts.switches += c.switches;
	space_counts.cut_groups += !keeper_is_idle(s->keeper);
	space_counts.cut_rounds += atomic_load(&s->ring.head->compacting);
	space_counts.history += atomic_load(&s->ring.head->history_bytes) > 0;
}

static void journald_ends(struct space *s)
{
	drop_promises(s);
	if (s->keeper) {
		count_keeper(s);
		keeper_close(s->keeper);
		check(keeper_is_closed(s->keeper));
		keeper_free(s->keeper);
	}
	s->keeper = NULL;
	commit_free(s->commit);
	s->commit = NULL;
	s->failed = false;
	s->answers_n = 0;
}

static void power_loss(struct space *s)
{
	space_counts.power_losses++;
	simdisk_power_loss(s->disk);
	journald_ends(s);
	nobody_follows(s);
	ring_unmap(&s->ring);
}

static void kill_journald(struct space *s)
{
	space_counts.kills++;
	simdisk_kill(s->disk);
	journald_ends(s);
	if (rand_below(2))
		nobody_follows(s);
	else
		retires_lost(&s->retires);
	s->caught_up = false;
	ring_unmap(&s->ring);
}

static bool open_journal(struct space *s, const struct journal_end *end)
{
	struct commit_options o = {.segment_size = SEGMENT_SIZE,
				   .shard = SHARD,
				   .direct = true,
				   .pool = 2,
				   .reserve = 4};
	int e;

	if (ring_make(&s->ring, RING_SIZE, SEGMENT_SIZE))
		broken("no ring", NULL);
	e = commit_open(&s->commit, &s->loop, s->disk, &s->ring, end, &o, &commit_calls, s);
	if (e && !is_dark(s))
		world_fail("space: seed %" PRIu64 ": can't be opened: %s", seed_now,
			   strerror(-e));
	return e == 0;
}

static void begin_keeper(struct space *s)
{
	struct keeper_options o = {
		.loop = &s->loop,
		.disk = s->disk,
		.commit = s->commit,
		.ring = &s->ring,
		.segment_size = SEGMENT_SIZE,
		.shard = SHARD,
		.compact_rate = rand_below(2) ? 0 : 8 << 20,
		.keep = {.bytes = s->keeps ? 6 * SEGMENT_SIZE : 0, .days = s->keeps ? 1 : 0},
		.index_age_ms = 1 + rand_below(100),
		.calls = &keeper_calls,
		.ctx = s,
	};

	if (commit_epoch(s->commit) <= s->epoch)
		broken("an epoch is used twice", NULL);
	s->epoch = commit_epoch(s->commit);
	s->ids = 0;
	s->keeper = keeper_new(&o);
	keeper_sched(s->keeper, true);
	keeper_bodies(s->keeper, 1);
}

static void new_manifest(struct space *s)
{
	struct reader *r = reader_new(s->disk, &s->ring, SEGMENT_SIZE, SHARD);
	const struct manifest_entry *v;
	struct buf why;
	uint32_t n;

	buf_init(&why, 512);
	if (reader_open(r, &why) == 0) {
		v = reader_manifest(r, &n);
		retires_look(&s->retires, v, n, SEGMENT_SIZE);
	} else if (!is_dark(s)) {
		broken("the manifest can't be read", NULL);
	}
	buf_free(&why);
	reader_free(r);
}

static void begin_following(struct space *s)
{
	struct buf why;

	if (s->feed) {
		new_manifest(s);
		return;
	}
	buf_init(&why, 512);
	s->feed = reader_new(s->disk, &s->ring, SEGMENT_SIZE, SHARD);
	if (reader_open(s->feed, &why) && !is_dark(s))
		world_fail("space: seed %" PRIu64 ": nobody can follow: %.*s", seed_now,
			   SPAN_ARG(buf_span(&why)));
	buf_free(&why);
}

/* Until journald runs; now and then the power goes while it starts. */
static void start(struct space *s)
{
	for (;;) {
		struct journal_end end;
		bool good;

		if (rand_below(8) == 0)
			simdisk_fuse(s->disk, 1 + rand_below(60));
		good = recover(s, &end) && open_journal(s, &end);
		journal_end_fini(&end);
		if (good)
			break;
		space_counts.fuses++;
		power_loss(s);
	}
	simdisk_fuse(s->disk, 0);
	begin_keeper(s);
	begin_following(s);
	space_counts.runs++;
}

static void work(struct space *s, unsigned passes)
{
	while (passes-- && !s->failed && !is_dark(s)) {
		if (rand_below(3) == 0)
			step_mail(s);
		loop_pass(&s->loop);
		if (s->failed || is_dark(s))
			return;
		follow(s, 1 + (unsigned)rand_below(60));
		if (s->caught_up && !is_dark(s))
			step_held(s);
		step_answers(s);
	}
}

static void round_of(struct space *s, unsigned passes)
{
	start(s);
	if (rand_below(2))
		simdisk_fuse(s->disk, 1 + rand_below(1500));
	work(s, passes);
	if (rand_below(6) == 0 && !s->failed) {
		simdisk_fail_write(s->disk);
		work(s, 30);
	}
	if (rand_below(2) == 0 && !is_dark(s))
		kill_journald(s);
	else
		power_loss(s);
}

void space_world_run(uint64_t seed)
{
	struct space *s = mem_new(sizeof(*s));
	struct journal_end end;
	unsigned rounds;

	seed_now = seed;
	rand_seed(seed);
	clock_set(START_US, 2 * START_US);
	loop_init(&s->loop, &sim_loop, s);
	s->disk = simdisk_new(&s->loop);
	s->ring.fd = s->ring.fd_read = -1;
	s->letters = mem_new(LETTERS_MAX * sizeof(*s->letters));
	s->keeps = rand_below(3) == 0;
	list_init(&s->promises);
	pool_init(&s->pool, sizeof(struct promise), 100000);
	retires_init(&s->retires, &retires_calls, s);
	for (size_t i = 0; i < sizeof(s->noise); i++)
		s->noise[i] = (char)rand_u64();
	rounds = 1 + (unsigned)rand_below(5);
	while (rounds--)
		round_of(s, 50 + (unsigned)rand_below(rand_below(8) ? 800 : 4000));
	if (s->feed)
		nobody_follows(s);
	(void)recover(s, &end);
	journal_end_fini(&end);
	retires_fini(&s->retires);
	pool_fini(&s->pool);
	heap_fini(&s->loop.timers);
	simdisk_free(s->disk);
	mem_free(s->letters);
	mem_free(s);
	space_counts.worlds++;
}
