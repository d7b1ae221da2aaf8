/* The rounds of a world, its faults, and the model that everything is compared with. */
#include "world.h"

#include "core/clock.h"
#include "core/log.h"
#include "core/pool.h"
#include "core/rand.h"
#include "mail/envelope.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SEGMENT_SIZE  (64 * 1024)
#define RING_SIZE     (1024 * 1024)
#define SHARD         5
#define RUNS_MAX      512
#define AMBIGUOUS_MAX 64
#define BATCH_SPAN    (8 * BLOCK_SIZE) /* no batch of such small segments is longer */
#define START_US      UINT64_C(1000000000)

/* What was added, and what must come back. */
struct added {
	uint64_t id, pos, hash;
	uint32_t n, number;
	uint8_t type;
};
struct run {
	struct added *v;
	size_t n, cap;
	size_t acked; /* so many of them are promised */
	size_t seen;  /* so many were there at the last look */
	bool final;   /* a later run has begun: it stays like that */
};
struct cursor {
	unsigned run;
	size_t at;
};
struct waiting {
	struct waiter waiter;
	struct world *world;
	size_t upto;
	struct link link;
};

struct world {
	struct loop loop;
	struct disk *disk;
	struct ring ring;
	struct commit *commit; /* NULL: journald is not there */
	struct reader *follower;
	struct cursor follower_at;
	bool failed, caught_up;
	uint64_t caught_up_at, epoch, ids;
	struct run runs[RUNS_MAX];
	unsigned runs_n;
	struct link waiting;
	struct pool waiters;
	struct mail *mail;
	const struct guest *guest;
	void *guest_state;
	struct {
		uint64_t from, to;
	} ambiguous[AMBIGUOUS_MAX]; /* batches that were torn inside a block: said for ever */
	unsigned ambiguous_n;
};

struct world_counts world_counts;
static uint64_t seed_now;

_Noreturn void world_fail(const char *fmt, ...)
{
	va_list ap;

	fprintf(stderr, "sim: seed %" PRIu64 ": ", seed_now);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	abort();
}

/* ---- the loop ---- */

static void sim_wait(struct loop *l, int64_t ms)
{
	struct world *w = l->body;
	uint64_t now = clock_mono_us(), next = simdisk_next(w->disk), due;

	due = ms < 0 ? now + 1000 : now + (uint64_t)ms * 1000;
	if (next < due)
		due = next > now ? next : now;
	clock_set(due, due + START_US);
	simdisk_run(w->disk, due);
}

static void sim_start(struct loop *l, struct op *op)
{
	world_fail("an operation of kind %u has no place here", op->kind);
}

static void sim_cancel(struct loop *l, struct op *op)
{
}

static const struct loop_calls sim_loop = {
	.name = "simulator",
	.start = sim_start,
	.cancel = sim_cancel,
	.wait = sim_wait,
};

/* ---- the model ---- */

static struct run *this_run(struct world *w)
{
	return &w->runs[w->runs_n - 1];
}

static void model_add(struct world *w, const struct rec_head *h, const struct span *pieces,
		      int pieces_n, uint64_t pos)
{
	static char flat[REC_MAX];
	struct run *r = this_run(w);
	size_t n = 0;

	for (int i = 0; i < pieces_n; i++) {
		if (pieces[i].n > 0)
			memcpy(flat + n, pieces[i].p, pieces[i].n);
		n += pieces[i].n;
	}
	if (r->n == r->cap) {
		size_t cap = r->cap ? 2 * r->cap : 256;

		r->v = mem_grow(r->v, r->cap * sizeof *r->v, cap * sizeof *r->v);
		r->cap = cap;
	}
	r->v[r->n++] = (struct added){
		.id = h->id,
		.pos = pos,
		.hash = hash64(flat, n),
		.n = (uint32_t)n,
		.number = h->number,
		.type = h->type,
	};
	world_counts.records++;
}

static bool is_same(const struct added *a, const struct record *r)
{
	return a->pos == r->pos && a->type == r->head.type && a->id == r->head.id &&
	       a->number == r->head.number && a->n == r->body.n &&
	       a->hash == hash64(r->body.p, r->body.n);
}

static void run_ends(struct world *w, struct cursor *c)
{
	struct run *r = &w->runs[c->run];

	if (c->at < r->acked)
		world_fail("run %u: %zu records were promised, %zu are there", c->run, r->acked,
			   c->at);
	if (r->final && c->at != r->seen)
		world_fail("run %u: had %zu records, now it has %zu", c->run, r->seen, c->at);
	if (c->at < r->seen)
		world_fail("run %u: %zu records were there, now only %zu", c->run, r->seen,
			   c->at);
	r->seen = c->at;
	c->run++;
	c->at = 0;
}

static bool is_mail(uint8_t type)
{
	return type != REC_NOP && type != REC_SEAL && type != REC_MANIFEST;
}

static bool is_ambiguous(const struct world *w, uint64_t pos)
{
	for (unsigned i = 0; i < w->ambiguous_n; i++)
		if (pos >= w->ambiguous[i].from && pos < w->ambiguous[i].to)
			return true;
	return false;
}

/* The next record that was read: where in the lists is it? */
static void cursor_take(struct world *w, struct cursor *c, const struct record *r)
{
	if (r->head.type == REC_SEAL)
		world_counts.seals++;
	if (r->head.type == REC_MANIFEST)
		world_counts.long_manifests++;
	if (r->head.type == REC_NOP)
		world_counts.idle_marks++;
	if (!is_mail(r->head.type))
		return;
	for (; c->run < w->runs_n; run_ends(w, c)) {
		struct run *run = &w->runs[c->run];
		size_t at = c->at;

		/* Of a batch that was torn inside a block, some records are there. */
		while (at >= run->acked && at < run->n && !is_same(&run->v[at], r) &&
		       is_ambiguous(w, run->v[at].pos))
			at++;
		if (at < run->n && is_same(&run->v[at], r)) {
			c->at = at + 1;
			return;
		}
	}
	world_fail("a record that was never added: type %u id %" PRIu64
		   " number %u at %" PRIu64,
		   r->head.type, r->head.id, r->head.number, r->pos);
}

static void cursor_ends(struct world *w, struct cursor *c)
{
	while (c->run < w->runs_n)
		run_ends(w, c);
}

/* ---- adding ---- */

static void on_durable(struct waiter *waiter)
{
	struct waiting *g = owner_of(waiter, struct waiting, waiter);
	struct world *w = g->world;

	if (g->upto > this_run(w)->acked)
		this_run(w)->acked = g->upto;
	world_counts.acked++;
	list_remove(&g->link);
	pool_put(&w->waiters, g);
}

static void promise(struct world *w)
{
	struct waiting *g = pool_get(&w->waiters);

	check(g);
	g->world = w;
	g->upto = this_run(w)->n;
	waiter_init(&g->waiter, on_durable);
	commit_wait(w->commit, &g->waiter);
	list_add_end(&w->waiting, &g->link);
}

uint64_t world_add(struct world *w, struct rec_head *h, const struct span *pieces, int pieces_n,
		   bool acked)
{
	uint64_t pos;
	size_t n = 0;

	if (!w->commit || w->failed)
		return 0;
	for (int i = 0; i < pieces_n; i++)
		n += pieces[i].n;
	if (rec_size(n) > commit_record_max(w->commit))
		world_fail("a record of %zu bytes does not fit here", n);
	pos = commit_add(w->commit, h, pieces, pieces_n, acked ? COMMIT_ACKED : 0);
	if (!pos)
		return 0;
	model_add(w, h, pieces, pieces_n, pos);
	if (acked)
		promise(w);
	return pos;
}

uint64_t world_new_id(struct world *w)
{
	return id_make(commit_epoch(w->commit), ++w->ids, SHARD);
}

bool world_submit(struct world *w, uint64_t id, struct span sender, struct span packed,
		  uint32_t rcpts, struct span raw, uint64_t parent)
{
	struct rec_head h = {.type = REC_BODY, .id = id};
	struct rec_body b = {
		.raw_n = (uint32_t)raw.n, .raw_hash = hash64(raw.p, raw.n), .codec = CODEC_RAW};
	struct rec_rcpt r = {.first = 0, .count = rcpts};
	struct rec_msg m = {
		.arrival_us = clock_wall_us(),
		.size = raw.n,
		.parent = parent,
		.body_parts = 1,
		.rcpt_parts = 1,
		.rcpts = rcpts,
		.sender_n = (uint16_t)sender.n,
	};
	uint64_t at[2];
	size_t need = rec_size(sizeof b + raw.n) + rec_size(sizeof r + packed.n) +
		      rec_size(sizeof m + sizeof at + sender.n);

	if (!w->commit || w->failed || !commit_fits(w->commit, need, 0))
		return false;
	at[0] = world_add(w, &h, (struct span[]){span_of(&b, sizeof b), raw}, 2, false);
	h = (struct rec_head){.type = REC_RCPT, .id = id};
	at[1] = world_add(w, &h, (struct span[]){span_of(&r, sizeof r), packed}, 2, false);
	h = (struct rec_head){.type = REC_MSG, .id = id};
	if (!world_add(w, &h,
		       (struct span[]){span_of(&m, sizeof m), span_of(at, sizeof at), sender},
		       3, true))
		world_fail("commit_fits() promised what commit_add() did not hold");
	return true;
}

bool world_outcome(struct world *w, const struct msg_outcome *o, const struct msg_range *ranges,
		   struct span text)
{
	struct rec_head h = {.type = REC_STATE, .id = o->id};
	struct rec_state s = {
		.at_us = o->at_us,
		.next_us = o->next_us,
		.attempt = o->attempt,
		.ranges_n = o->ranges_n,
		.text_n = (uint16_t)text.n,
		.outcome = o->outcome,
	};

	return world_add(w, &h,
			 (struct span[]){span_of(&s, sizeof s),
					 span_of(ranges, o->ranges_n * sizeof *ranges), text},
			 3, false) != 0;
}

struct loop *world_loop(struct world *w)
{
	return &w->loop;
}

struct reader *world_reader(struct world *w)
{
	return w->follower;
}

uint64_t world_durable(struct world *w)
{
	return ring_durable(&w->ring);
}

/* ---- what commit calls ---- */

static void on_moved(void *ctx, uint64_t durable)
{
}

static void on_room(void *ctx)
{
}

static void on_failed(void *ctx, int error)
{
	struct world *w = ctx;

	w->failed = true;
}

static const struct commit_calls commit_calls = {
	.moved = on_moved, .room = on_room, .failed = on_failed};

/* ---- looking at the journal when it is stopped ---- */

static bool ends_equal(const struct journal_end *a, const struct journal_end *b)
{
	return memcmp(a->uuid, b->uuid, sizeof a->uuid) == 0 && a->epoch == b->epoch &&
	       a->number == b->number && a->end == b->end && a->seq == b->seq &&
	       a->chain == b->chain && a->segments_n == b->segments_n &&
	       (a->segments_n == 0 ||
		memcmp(a->segments, b->segments, a->segments_n * sizeof *a->segments) == 0);
}

static bool world_is_dark(struct world *w)
{
	return simdisk_is_dead(w->disk);
}

static void note_ambiguous(struct world *w, const struct journal_end *end)
{
	world_counts.ambiguous++;
	for (unsigned i = 0; i < w->ambiguous_n; i++)
		if (w->ambiguous[i].from == end->damage_from)
			return;
	check(w->ambiguous_n < AMBIGUOUS_MAX);
	w->ambiguous[w->ambiguous_n].from = end->damage_from;
	w->ambiguous[w->ambiguous_n++].to = end->damage_to;
}

/* One record that a MSG points to. */
static void look_up(struct world *w, struct reader *r, const struct added *a)
{
	struct record rec;
	enum read_result got =
		reader_at(r, a->pos, (enum rec_type)a->type, a->id, a->number, &rec);

	if (world_is_dark(w) || is_ambiguous(w, a->pos))
		return;
	if (got != READ_OK || !is_same(a, &rec))
		world_fail("reader_at(%" PRIu64 ") gave %d", a->pos, (int)got);
}

static void look_up_some(struct world *w, struct reader *r)
{
	for (int i = 0; i < 4 && w->runs_n; i++) {
		struct run *run = &w->runs[rand_below(w->runs_n)];

		if (run->seen)
			look_up(w, r, &run->v[rand_below(run->seen)]);
	}
}

static void walk_opened(struct world *w, struct reader *r)
{
	struct cursor c = {0};
	struct record rec;
	enum read_result got;

	while ((got = reader_next(r, true, &rec)) == READ_OK ||
	       (got == READ_DAMAGE && is_ambiguous(w, rec.pos))) {
		if (got == READ_OK)
			cursor_take(w, &c, &rec);
	}
	if (world_is_dark(w))
		return;
	if (got != READ_END)
		world_fail("the reader says %d at %" PRIu64, (int)got, rec.pos);
	cursor_ends(w, &c);
	look_up_some(w, r);
}

static void walk_all(struct world *w)
{
	struct reader *r = reader_new(w->disk, NULL, SEGMENT_SIZE, SHARD);
	struct buf why;

	buf_init(&why, 512);
	if (reader_open(r, &why) == 0)
		walk_opened(w, r);
	else if (!world_is_dark(w))
		world_fail("the reader can't open the journal: %.*s", SPAN_ARG(buf_span(&why)));
	buf_free(&why);
	reader_free(r);
}

static void recover_again(struct world *w, enum recovered verdict, const struct journal_end *end)
{
	struct journal_end again;

	if (journal_recover(w->disk, &again) != verdict && !world_is_dark(w))
		world_fail("a second recovery says something else");
	if (!world_is_dark(w) && !ends_equal(end, &again))
		world_fail("a second recovery finds another end");
	journal_end_fini(&again);
}

/* Recovers, now and then twice, and checks all promises.  false: the power went. */
static bool recover(struct world *w, struct journal_end *ret)
{
	enum recovered verdict = journal_recover(w->disk, ret);

	if (world_is_dark(w))
		return false;
	if (verdict == RECOVERED_AMBIGUOUS)
		note_ambiguous(w, ret);
	else if (verdict != RECOVERED_EMPTY && verdict != RECOVERED_CLEAN &&
		 verdict != RECOVERED_TORN)
		world_fail("recovery says %d: %.*s", (int)verdict,
			   SPAN_ARG(buf_span(&ret->why)));
	if (verdict == RECOVERED_EMPTY && w->epoch)
		world_fail("the journal is gone");
	if (verdict == RECOVERED_TORN)
		world_counts.torn++;
	if (rand_below(3) == 0)
		recover_again(w, verdict, ret);
	if (verdict != RECOVERED_EMPTY && !world_is_dark(w))
		walk_all(w);
	return !world_is_dark(w);
}

/* ---- rot: one bit of something that was promised ---- */

struct rot {
	struct added *hit; /* NULL: not known; the first that is lost */
	char name[SEGMENT_NAME_MAX];
	uint64_t byte;
	unsigned bit;
};

static bool rot_pick(struct world *w, struct rot *ret)
{
	struct run *run;
	uint64_t at;

	if (!w->runs_n)
		return false;
	run = rand_below(2) ? this_run(w) : &w->runs[rand_below(w->runs_n)];
	if (!run->acked)
		return false;
	/* The end of what was promised is where damage and a torn tail look most alike. */
	ret->hit = &run->v[rand_below(2) ? run->acked - 1 : rand_below(run->acked)];
	at = ret->hit->pos % BLOCK_SIZE + rand_below(sizeof(struct rec_head) + ret->hit->n);
	ret->byte =
		ret->hit->pos % SEGMENT_SIZE / BLOCK_SIZE * BLOCK_SIZE + payload_to_bytes(at);
	ret->bit = (unsigned)rand_below(8);
	segment_name(ret->name, FILE_SEGMENT, ret->hit->pos / SEGMENT_SIZE);
	return true;
}

/* Where an added record is in all lists joined, from *at on; SIZE_MAX: nowhere. */
static size_t find_added(struct world *w, const struct record *r, size_t from)
{
	size_t at = 0;

	for (unsigned i = 0; i < w->runs_n; at += w->runs[i].seen, i++)
		for (size_t k = from > at ? from - at : 0; k < w->runs[i].seen; k++)
			if (is_same(&w->runs[i].v[k], r))
				return at + k;
	return SIZE_MAX;
}

/* Records [from, to) of all lists joined were not read: they must be in the batch that was hit, or
 * in one that was torn inside a block, of which some were never there. */
static void expect_lost(struct world *w, struct rot *rot, size_t from, size_t to)
{
	size_t at = 0;

	for (unsigned i = 0; i < w->runs_n; at += w->runs[i].seen, i++) {
		for (size_t k = from > at ? from - at : 0; k < w->runs[i].seen && at + k < to;
		     k++) {
			uint64_t pos = w->runs[i].v[k].pos, hit;

			if (is_ambiguous(w, pos))
				continue;
			if (!rot->hit)
				rot->hit = &w->runs[i].v[k];
			hit = rot->hit->pos;
			if ((pos > hit ? pos - hit : hit - pos) > BATCH_SPAN)
				world_fail("a bad bit at %s byte %" PRIu64
					   ", in the record at %" PRIu64
					   ", costs the record at %" PRIu64,
					   rot->name, rot->byte, hit, pos);
		}
	}
}

/* Is something that was promised among them? */
static bool lost_promised(const struct world *w, size_t from, size_t to)
{
	size_t at = 0;

	for (unsigned i = 0; i < w->runs_n; at += w->runs[i].seen, i++)
		for (size_t k = from > at ? from - at : 0;
		     k < w->runs[i].acked && k < w->runs[i].seen && at + k < to; k++)
			if (!is_ambiguous(w, w->runs[i].v[k].pos))
				return true;
	return false;
}

/* ret_tail, if not NULL: all that is missing of what was promised is the end of it.
 * Walks a damaged journal: nothing may be changed or invented, and what is missing must be in
 * the damaged batch.  Returns how often damage was said. */
static unsigned walk_rotten(struct world *w, struct rot *rot, bool *ret_tail)
{
	struct reader *r = reader_new(w->disk, NULL, SEGMENT_SIZE, SHARD);
	enum read_result got;
	struct record rec;
	struct buf why;
	unsigned damages = 0;
	size_t next = 0;
	bool gap = false;

	buf_init(&why, 512);
	if (reader_open(r, &why)) { /* it may be asked once more */
		reader_free(r);
		r = reader_new(w->disk, NULL, SEGMENT_SIZE, SHARD);
		damages++;
		if (reader_open(r, &why))
			world_fail("a journal with one fault can't be opened: %.*s",
				   SPAN_ARG(buf_span(&why)));
	}
	while ((got = reader_next(r, true, &rec)) != READ_END) {
		size_t at;

		if (got == READ_ERROR && damages++ > 8)
			world_fail("a journal with one fault can't be read");
		if (got == READ_ERROR)
			continue;
		if (got == READ_DAMAGE) {
			damages += !is_ambiguous(w, rec.pos);
			continue;
		}
		if (!is_mail(rec.head.type))
			continue;
		at = find_added(w, &rec, next);
		if (at == SIZE_MAX)
			world_fail("behind damage, a record that was never added, at %" PRIu64,
				   rec.pos);
		expect_lost(w, rot, next, at);
		gap = gap || lost_promised(w, next, at);
		next = at + 1;
	}
	expect_lost(w, rot, next, SIZE_MAX);
	if (ret_tail)
		*ret_tail = !gap && lost_promised(w, next, SIZE_MAX);
	buf_free(&why);
	reader_free(r);
	return damages;
}

/* Flips a bit in promised mail, expects that somebody says so and that nothing else is lost,
 * and flips it back. */
static void rot(struct world *w)
{
	struct journal_end end;
	struct rot rot;
	enum recovered verdict;
	unsigned damages;

	if (!rot_pick(w, &rot) || !simdisk_rot(w->disk, rot.name, rot.byte, rot.bit))
		return;
	world_counts.rotten++;
	verdict = journal_recover(w->disk, &end);
	if (verdict == RECOVERED_FAILED)
		world_fail("one bad bit: recovery fails: %.*s", SPAN_ARG(buf_span(&end.why)));
	damages = walk_rotten(w, &rot, NULL);
	if (!damages)
		world_fail("a bad bit at %s byte %" PRIu64
			   " passes in silence (recovery says %d: %.*s)",
			   rot.name, rot.byte, (int)verdict, SPAN_ARG(buf_span(&end.why)));
	world_counts.rot_found++;
	journal_end_fini(&end);
	check(simdisk_rot(w->disk, rot.name, rot.byte, rot.bit));
}

/* ---- blocks that are not what was written, once; reads that fail, once ---- */

/* The disk lost a write, or reads zeros: that must be said, unless all that it hit is the last
 * batch of all.  There a lost write and one that was never made are the same bytes. */
static void hurt(struct world *w)
{
	struct journal_end end;
	struct rot rot;
	enum recovered verdict;
	unsigned damages;
	char was[BLOCK_SIZE];
	bool tail, stale = rand_below(2);
	uint64_t block;

	if (!rot_pick(w, &rot))
		return;
	block = rot.byte / BLOCK_SIZE;
	if (!simdisk_hurt(w->disk, rot.name, block, stale, was))
		return;
	world_counts.zeroed += !stale;
	world_counts.stale += stale;
	verdict = journal_recover(w->disk, &end);
	if (verdict == RECOVERED_FAILED || verdict == RECOVERED_EMPTY)
		world_fail("one bad block: recovery says %d: %.*s", (int)verdict,
			   SPAN_ARG(buf_span(&end.why)));
	damages = walk_rotten(w, &rot, &tail);
	if (!damages && !tail)
		world_fail("block %" PRIu64 " of %s is %s, in silence (recovery says %d)", block,
			   rot.name, stale ? "old" : "zeros", (int)verdict);
	world_counts.hurt_found += damages > 0;
	world_counts.hurt_tail += !damages;
	journal_end_fini(&end);
	simdisk_heal(w->disk, rot.name, block, was);
}

/* Whoever reads is told, and either loses no more than a bad block would cost, or reads on; behind
 * it, all is there as ever. */
static void eio_once(struct world *w)
{
	struct rot rot = {.name = "(unreadable, once)"};
	bool tail, fired;

	(void)simdisk_fail_read(w->disk, 1 + rand_below(60));
	if (!walk_rotten(w, &rot, &tail) && rot.hit)
		world_fail("a read fails, and the record at %" PRIu64 " is lost in silence",
			   rot.hit->pos);
	fired = simdisk_fail_read(w->disk, 0) == 0;
	world_counts.read_eios += fired;
	world_counts.eio_costs += fired && rot.hit;
	walk_all(w);
}

/* ---- a round ---- */

static void follower_free(struct world *w)
{
	reader_free(w->follower);
	w->follower = NULL;
	if (w->guest_state)
		w->guest->end(w->guest_state);
	w->guest_state = NULL;
}

static void follower_new(struct world *w)
{
	struct buf why;

	buf_init(&why, 512);
	w->follower = reader_new(w->disk, &w->ring, SEGMENT_SIZE, SHARD);
	w->follower_at = (struct cursor){0};
	if (reader_open(w->follower, &why))
		world_fail("the follower can't open the journal: %.*s",
			   SPAN_ARG(buf_span(&why)));
	buf_free(&why);
	w->caught_up = false;
	w->caught_up_at = world_durable(w);
	if (w->guest)
		w->guest_state = w->guest->begin(w);
}

static void follow(struct world *w, unsigned records_max)
{
	struct record r;

	while (records_max-- && !world_is_dark(w)) {
		enum read_result got = reader_next(w->follower, true, &r);

		if (world_is_dark(w))
			return;
		if (got == READ_END) {
			if (reader_pos(w->follower) < world_durable(w))
				world_fail("the follower ends at %" PRIu64
					   ", durable is %" PRIu64,
					   reader_pos(w->follower), world_durable(w));
			if (w->guest_state && !w->caught_up)
				w->guest->caught_up(w->guest_state);
			w->caught_up = true;
			return;
		}
		if (got == READ_DAMAGE && is_ambiguous(w, r.pos))
			continue;
		if (got != READ_OK)
			world_fail("the follower gets %d at %" PRIu64, (int)got, r.pos);
		if (r.pos >= world_durable(w))
			world_fail("the follower is in front of the durable position");
		if (!ring_holds(&w->ring, r.pos))
			world_counts.ring_missed++;
		cursor_take(w, &w->follower_at, &r);
		if (w->guest_state)
			w->guest->record(w->guest_state, &r);
	}
}

static void drop_waiters(struct world *w)
{
	list_each_safe(&w->waiting, l)
	{
		struct waiting *g = owner_of(l, struct waiting, link);

		waiter_cancel(&g->waiter);
		list_remove(&g->link);
		pool_put(&w->waiters, g);
	}
}

static void journald_ends(struct world *w)
{
	drop_waiters(w);
	mail_free(w->mail);
	w->mail = NULL;
	commit_free(w->commit);
	w->commit = NULL;
	w->failed = false;
}

/* Everything is off.  What a process had in its memory is gone. */
static void power_loss(struct world *w)
{
	world_counts.power_losses++;
	simdisk_power_loss(w->disk);
	journald_ends(w);
	follower_free(w);
	ring_unmap(&w->ring);
}

/* journald alone is gone; who followed it goes on, or is started anew as well. */
static void kill_journald(struct world *w)
{
	world_counts.kills++;
	simdisk_kill(w->disk);
	journald_ends(w);
	if (rand_below(2))
		follower_free(w);
	else if (w->guest_state && w->caught_up && w->guest->gone)
		w->guest->gone(w->guest_state);
	w->caught_up = false;
	ring_unmap(&w->ring);
}

static void begin_run(struct world *w)
{
	if (commit_epoch(w->commit) <= w->epoch)
		world_fail("epoch %" PRIu64 " is used twice", commit_epoch(w->commit));
	w->epoch = commit_epoch(w->commit);
	w->ids = 0;
	for (unsigned i = 0; i < w->runs_n; i++)
		w->runs[i].final = true;
	check(w->runs_n < RUNS_MAX);
	w->runs_n++;
	w->mail = mail_new(w);
}

/* What a killed journald had sent to the disk may land after recovery has looked. */
static void land_some(struct world *w)
{
	uint64_t now = clock_mono_us() + rand_below(2) * rand_below(30000);

	clock_set(now, now + START_US);
	simdisk_run(w->disk, now);
}

/* Starts journald until it runs; now and then the power goes while it starts. */
static void start_journald(struct world *w)
{
	struct journal_end end;

	simdisk_full(w->disk, false);
	for (;;) {
		bool good;
		int e;

		if (rand_below(8) == 0)
			simdisk_fuse(w->disk, 1 + rand_below(60));
		good = recover(w, &end);
		if (good && rand_below(3) == 0) {
			uint64_t left = simdisk_fuse(w->disk, 0);

			rot(w);
			hurt(w);
			if (w->runs_n)
				eio_once(w);
			simdisk_fuse(w->disk, left);
		}
		if (good) {
			if (ring_make(&w->ring, RING_SIZE, SEGMENT_SIZE))
				world_fail("no ring");
			land_some(w);
			e = commit_open(&w->commit, &w->loop, w->disk, &w->ring, &end,
					&(struct commit_options){.segment_size = SEGMENT_SIZE, .shard = SHARD,
								 .direct = true,
								 .pool = (uint32_t)rand_below(3),
								 .reserve = (uint32_t)rand_below(2) * 4},
					&commit_calls, w);
			good = e == 0 && !world_is_dark(w);
			if (e && !world_is_dark(w))
				world_fail("the journal can't be opened: %s", strerror(-e));
		}
		journal_end_fini(&end);
		if (good)
			break;
		world_counts.fuses++;
		power_loss(w);
	}
	simdisk_fuse(w->disk, 0);
	begin_run(w);
	if (!w->follower)
		follower_new(w);
}

/* The disk fills up and is emptied again; segments end before they are full. */
static void space_step(struct world *w)
{
	uint64_t dice = rand_below(2000);

	if (dice < 20)
		simdisk_full(w->disk, dice < 2);
	if (dice >= 1990 && !w->failed && !world_is_dark(w)) {
		commit_switch(w->commit);
		world_counts.switches++;
	}
}

static void work(struct world *w, unsigned passes)
{
	unsigned lag = (unsigned)rand_below(4); /* 0: the follower is asleep */

	while (passes-- && !w->failed && !world_is_dark(w)) {
		mail_step(w->mail);
		loop_pass(&w->loop);
		space_step(w);
		if (w->guest || (lag && rand_below(lag) == 0))
			follow(w, 1 + (unsigned)rand_below(40));
		if (w->guest_state && w->caught_up && !w->failed)
			w->guest->step(w->guest_state);
	}
}

static void idle(struct world *w, uint64_t ms)
{
	uint64_t until = clock_mono_ms() + ms;

	while (clock_mono_ms() < until && !w->failed && !world_is_dark(w))
		loop_pass(&w->loop);
	if (!w->failed && !world_is_dark(w))
		follow(w, UINT32_MAX);
}

static void round_of(struct world *w, unsigned passes)
{
	start_journald(w);
	world_counts.rounds++;
	if (rand_below(6) == 0)
		simdisk_fuse(w->disk, 1 + rand_below(30));
	work(w, passes);
	if (rand_below(4) == 0)
		idle(w, 300);
	if (rand_below(3) == 0 && !w->failed) {
		simdisk_fail_write(w->disk);
		work(w, 30);
	}
	if (rand_below(4) == 0 && !world_is_dark(w))
		kill_journald(w);
	else
		power_loss(w);
}

static void world_init(struct world *w, uint64_t seed, const struct guest *guest)
{
	seed_now = seed;
	rand_seed(seed);
	clock_set(START_US, 2 * START_US);
	loop_init(&w->loop, &sim_loop, w);
	w->disk = simdisk_new(&w->loop);
	w->ring.fd = w->ring.fd_read = -1;
	w->guest = guest;
	list_init(&w->waiting);
	pool_init(&w->waiters, sizeof(struct waiting), 100000);
}

static void world_fini(struct world *w)
{
	world_counts.eios += simdisk_eios(w->disk);
	world_counts.enospc += simdisk_enospc(w->disk);
	world_counts.landed_late += simdisk_landed(w->disk);
	for (unsigned i = 0; i < w->runs_n; i++)
		mem_free(w->runs[i].v);
	pool_fini(&w->waiters);
	heap_fini(&w->loop.timers);
	simdisk_free(w->disk);
	mem_free(w);
}

/* Most worlds are short; a few take enough mail for many segments and laps of the ring, a few
 * are started so often that a manifest outgrows its block. */
static void plan(unsigned *ret_rounds, unsigned *ret_passes)
{
	uint64_t dice = rand_below(200);

	*ret_rounds = dice == 0 ? 130 : 1 + (unsigned)rand_below(6);
	*ret_passes = dice == 0 ? 5 : dice < 5 ? 800 : 20 + (unsigned)rand_below(300);
}

void world_run(uint64_t seed, const struct guest *guest)
{
	struct world *w = mem_new(sizeof *w);
	struct journal_end end;
	unsigned rounds, passes;

	world_init(w, seed, guest);
	plan(&rounds, &passes);
	while (rounds--)
		round_of(w, passes);
	follower_free(w);
	(void)recover(w, &end);
	journal_end_fini(&end);
	if (guest && guest->over)
		guest->over(w);
	world_fini(w);
}
