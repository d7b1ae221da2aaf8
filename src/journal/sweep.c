/* While LOADING, the reader and live are the thread's as long as an errand runs, and the loop's
 * between errands.  An errand ends after LOAD_BYTES, so that others get their turn, or where
 * the reader has reached the durable position.
 *
 * FOLLOWING begins in the loop, in the done() that finds the place where the reader stopped
 * still in the ring.  Between an errand's run() and its done() sweep_moved() does nothing: what
 * became durable meanwhile is in the ring, or in the segments for the next errand.  From there
 * records are taken as they lie in the ring: it is this process that laid them there, and the
 * batch that just became durable is not overwritten before the call that says so returns.  So
 * nothing is checked again, and no body is copied.
 *
 * BEHIND, a new reader walks from the beginning, as there is no other place where it can begin;
 * what lies below the place where FOLLOWING ended is known already.  That costs as much as a
 * start does, and does not happen while each batch is told of. */
#include "journal/sweep.h"

#include "core/log.h"
#include "core/pool.h"
#include "journal/ring.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define LOAD_BYTES  ((uint64_t)8 * 1024 * 1024) /* of records, an errand: some 10 ms */
#define RETRY_MS    1000                        /* where the disk could not be asked */
#define WHY_MAX     512
#define DAMAGES_MAX 1024 /* places that one errand tells of; then it ends */
#define KEPT_MAX    (2 * LOAD_BYTES + 2 * REC_MAX) /* records between an errand and the loop */

/* BEHIND: a record on its way from the thread to live; its body follows, padded to 8. */
struct kept {
	uint64_t pos;
	struct rec_head head;
	size_t n;
};

struct sweep {
	struct loop *loop;
	struct errands *errands;
	struct disk *disk;
	const struct ring *ring;
	uint64_t segment_size;
	uint32_t shard;
	const struct sweep_calls *calls;
	void *ctx;
	struct live *live;

	struct reader *reader; /* NULL: FOLLOWING */
	struct errand errand;
	struct timer retry;
	bool opened;
	enum read_result got; /* why the errand ended; READ_OK: there is more */
	struct buf why;
	uint64_t *damages; /* positions that the errand met */
	uint32_t damages_n;
	bool behind;       /* BEHIND: live is not the thread's */
	uint64_t from;     /* BEHIND: what is below is in live */
	struct buf kept;   /* struct kept */

	uint64_t pos;      /* FOLLOWING: of the next batch */
	char *joined;      /* REC_MAX */
	uint64_t *damaged; /* segments, in order */
	uint32_t damaged_n, damaged_cap;
};

/* ---- damage ---- */

static uint32_t damaged_find(const struct sweep *s, uint64_t number)
{
	uint32_t low = 0, high = s->damaged_n;

	while (low < high) {
		uint32_t mid = low + (high - low) / 2;

		if (s->damaged[mid] < number)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

bool sweep_is_damaged(const struct sweep *s, uint64_t number)
{
	uint32_t at = damaged_find(s, number);

	return at < s->damaged_n && s->damaged[at] == number;
}

static void mark_damaged(struct sweep *s, uint64_t number)
{
	uint32_t at = damaged_find(s, number);

	if (at < s->damaged_n && s->damaged[at] == number)
		return;
	if (s->damaged_n == s->damaged_cap) {
		uint32_t cap = s->damaged_cap ? 2 * s->damaged_cap : 16;

		s->damaged = mem_grow(s->damaged, s->damaged_cap * sizeof(*s->damaged),
				      cap * sizeof(*s->damaged));
		s->damaged_cap = cap;
	}
	memmove(s->damaged + at + 1, s->damaged + at,
		(s->damaged_n - at) * sizeof(*s->damaged));
	s->damaged[at] = number;
	s->damaged_n++;
}

/* In the thread: kept for the loop. */
static void met_damage(struct sweep *s, uint64_t pos)
{
	bool again = s->damages_n && s->damages[s->damages_n - 1] == pos;

	if (!again && s->damages_n < DAMAGES_MAX)
		s->damages[s->damages_n++] = pos;
}

static void say_damage(struct sweep *s)
{
	for (uint32_t i = 0; i < s->damages_n; i++)
		mark_damaged(s, s->damages[i] / s->segment_size);
	for (uint32_t i = 0; i < s->damages_n; i++)
		s->calls->damaged(s->ctx, s->damages[i]);
	s->damages_n = 0;
}

/* ---- LOADING, BEHIND: in the thread ---- */

static bool open_reader(struct sweep *s)
{
	if (s->opened)
		return true;
	buf_clear(&s->why);
	s->opened = reader_open(s->reader, &s->why) == 0;
	return s->opened;
}

static void keep(struct sweep *s, const struct record *r)
{
	struct kept k = {.pos = r->pos, .head = r->head, .n = r->body.n};
	static const char zeros[8];

	check(buf_add(&s->kept, span_of(&k, sizeof(k))) && buf_add(&s->kept, r->body) &&
	      buf_add(&s->kept, span_of(zeros, -r->body.n % 8)));
}

static void take(struct sweep *s, const struct record *r)
{
	if (!s->behind)
		live_record(s->live, r);
	else if (r->pos >= s->from)
		keep(s, r);
}

static void run(struct errand *e)
{
	struct sweep *s = owner_of(e, struct sweep, errand);
	uint64_t bytes = 0;
	struct record r;

	s->got = READ_ERROR;
	if (!open_reader(s))
		return;
	for (s->got = READ_OK; bytes < LOAD_BYTES && s->damages_n < DAMAGES_MAX;) {
		enum read_result got = reader_next(s->reader, BODIES_HEADS, &r);

		if (got == READ_OK) {
			take(s, &r);
			bytes += rec_size(r.head.n);
		} else if (got == READ_DAMAGE) {
			if (r.pos >= s->from)
				met_damage(s, r.pos);
		} else {
			s->got = got;
			return;
		}
	}
}

/* ---- FOLLOWING: out of the ring ---- */

/* The record's body in one piece; of a BODY only its head. */
static struct span body_of(struct sweep *s, const char *blocks, uint64_t q,
			   const struct rec_head *h)
{
	size_t n = h->type == REC_BODY && h->n > sizeof(struct rec_body)
			   ? sizeof(struct rec_body)
			   : h->n;

	if (q % BLOCK_DATA + n <= BLOCK_DATA)
		return span_of(blocks + payload_to_bytes(q), n);
	check(n <= REC_MAX);
	payload_get(blocks, q, s->joined, n);
	return span_of(s->joined, n);
}

static uint64_t first_batch(const struct sweep *s, uint64_t number)
{
	return number * s->segment_size + BLOCK_SIZE;
}

/* What a seal says is where the batches go on. */
static uint64_t take_record(struct sweep *s, const char *blocks, uint64_t q, uint64_t *pos)
{
	struct rec_seal seal;
	struct record r;

	payload_get(blocks, q, &r.head, sizeof(r.head));
	r.pos = s->pos + payload_to_bytes(q);
	r.body = body_of(s, blocks, q + sizeof(r.head), &r.head);
	if (r.head.type == REC_SEAL) {
		check(r.body.n == sizeof(seal));
		memcpy(&seal, r.body.p, sizeof(seal));
		*pos = first_batch(s, seal.next_number);
	}
	live_record(s->live, &r);
	return q + rec_size(r.head.n);
}

static void take_batch(struct sweep *s)
{
	const char *blocks = ring_at(s->ring, s->pos);
	struct batch_head b;
	uint64_t pos, q = sizeof(b);

	memcpy(&b, blocks, sizeof(b));
	check(batch_head_ok(&b));
	pos = s->pos + (uint64_t)b.blocks * BLOCK_SIZE;
	while (q < sizeof(b) + b.payload_n)
		q = take_record(s, blocks, q, &pos);
	s->pos = pos;
}

static void open_again(struct sweep *s)
{
	s->reader = reader_new(s->disk, s->ring, s->segment_size, s->shard);
	s->opened = false;
	errand_give(s->errands, &s->errand);
}

static void fall_behind(struct sweep *s)
{
	log_note("journal", "the sweep is behind the ring", "do",
		 "it reads on out of the segments", NULL);
	s->behind = true;
	s->from = s->pos;
	open_again(s);
}

static void follow(struct sweep *s)
{
	uint64_t durable = ring_durable(s->ring);

	while (s->pos < durable) {
		if (!ring_holds(s->ring, s->pos)) {
			fall_behind(s);
			return;
		}
		take_batch(s);
	}
}

void sweep_moved(struct sweep *s)
{
	if (!s->reader)
		follow(s);
}

/* ---- from one to the other ---- */

/* Behind a seal the reader is at the head of a segment; batches begin behind it. */
static bool can_follow(struct sweep *s)
{
	uint64_t pos = reader_pos(s->reader);

	if (s->got != READ_END)
		return false;
	if (pos % s->segment_size == 0)
		pos += BLOCK_SIZE;
	s->pos = pos;
	return pos >= ring_durable(s->ring) || ring_holds(s->ring, pos);
}

/* An index is only a cache. */
static void say_rotten(struct sweep *s)
{
	char name[SEGMENT_NAME_MAX];
	uint64_t number;

	while (reader_rotten(s->reader, &number)) {
		snprintf(name, sizeof(name), "idx-%016" PRIx64, number);
		log_note("journal", "an index is rotten", "file", name, "do",
			 "the segment is read instead", NULL);
	}
}

static void say_error(struct sweep *s)
{
	const char *why =
		s->opened ? "a segment can't be read now" : "the heads can't be read now";

	if (!s->opened && s->why.n > 0 && buf_add_byte(&s->why, '\0'))
		why = s->why.p;
	log_note("journal", "can't be swept", "why", why, NULL);
	timer_set(s->loop, &s->retry, RETRY_MS);
}

static void tell_kept(struct sweep *s)
{
	struct span rest = buf_span(&s->kept);

	while (rest.n > 0) {
		struct kept k;
		struct record r;

		memcpy(&k, span_cut(&rest, sizeof(k)).p, sizeof(k));
		r = (struct record){.pos = k.pos, .head = k.head, .body = span_cut(&rest, k.n)};
		(void)span_cut(&rest, -k.n % 8);
		live_record(s->live, &r);
	}
	buf_clear(&s->kept);
}

static void begin_following(struct sweep *s)
{
	bool again = s->behind;

	reader_free(s->reader);
	s->reader = NULL;
	s->behind = false;
	buf_free(&s->kept);
	follow(s);
	if (!again)
		s->calls->loaded(s->ctx);
}

static void done(struct errand *e)
{
	struct sweep *s = owner_of(e, struct sweep, errand);

	tell_kept(s);
	say_damage(s);
	say_rotten(s);
	if (s->got == READ_ERROR || s->got == READ_GONE) {
		say_error(s);
		return;
	}
	if (!can_follow(s)) {
		errand_give(s->errands, &s->errand);
		return;
	}
	begin_following(s);
}

static void on_retry(struct timer *t)
{
	struct sweep *s = owner_of(t, struct sweep, retry);

	errand_give(s->errands, &s->errand);
}

struct live *sweep_live(struct sweep *s)
{
	return s->reader && !s->behind ? NULL : s->live;
}

bool sweep_is_behind(const struct sweep *s)
{
	return s->behind;
}

struct sweep *sweep_new(struct loop *l, struct errands *w, struct disk *d,
			const struct ring *ring, uint64_t segment_size, uint32_t shard,
			const struct sweep_calls *calls, void *ctx)
{
	struct sweep *s = mem_new(sizeof(*s));

	s->loop = l;
	s->errands = w;
	s->disk = d;
	s->ring = ring;
	s->segment_size = segment_size;
	s->shard = shard;
	s->calls = calls;
	s->ctx = ctx;
	s->live = live_new(segment_size);
	s->reader = reader_new(d, ring, segment_size, shard);
	s->damages = mem_new(DAMAGES_MAX * sizeof(*s->damages));
	s->joined = mem_new(REC_MAX);
	buf_init(&s->why, WHY_MAX);
	buf_init(&s->kept, KEPT_MAX);
	timer_init(&s->retry, on_retry);
	errand_init(&s->errand, run, done);
	errand_give(w, &s->errand);
	return s;
}

void sweep_free(struct sweep *s)
{
	if (!s)
		return;
	check(!s->errand.given);
	timer_stop(s->loop, &s->retry);
	reader_free(s->reader);
	live_free(s->live);
	buf_free(&s->why);
	buf_free(&s->kept);
	mem_free(s->damages);
	mem_free(s->damaged);
	mem_free(s->joined);
	mem_free(s);
}
