/* recover - torn or corrupt are different things.
 *
 * The newest segment is walked batch by batch.  Where the walk stops, three questions decide
 * what that is (docs/journal.md has the argument):
 *
 *   Was this batch promised?  A later whole block of this incarnation with a watermark at or
 *   above its sequence says so.  Then it is damage, and the walk goes on behind it.
 *   Was its write finished?  A block or sector of it that still holds what was there before
 *   says no.  Then nobody was told yes: it is torn, and cut off silently.
 *   Neither?  It may have been promised: ambiguous, loud, and what is readable of it counts. */
#include "journal/recover.h"

#include "core/pool.h"
#include "journal/segments.h"
#include "journal/walk.h"

#include <inttypes.h>
#include <string.h>

#define SECTOR    512 /* what a disk writes whole, at least */
#define WHY_MAX   512

struct walk {
	struct disk *disk;
	struct disk_file *file;
	struct window window;
	struct segment_head head;
	uint64_t incarnation, start,
		limit;            /* positions of the segment's first byte and its end */
	uint64_t cut;             /* where the file ends; what lies behind was not left unwritten */
	uint64_t pos, seq, chain; /* behind the last good batch */
	bool chain_known, sealed, promised_known;
	uint64_t next_number; /* what the seal names */
	uint64_t promised;    /* the newest batch that a later block says is durable */
	uint64_t damage_from, damage_to; /* of the batches that bad blocks were found in */
	struct damages *damages;
};

static int fetch(void *ctx, char *dst, size_t n, uint64_t pos)
{
	struct walk *w = ctx;

	return walk_read(w->disk, w->file, dst, n, pos - w->start);
}

static char *blocks_at(struct walk *w, uint64_t pos, uint64_t n)
{
	return window_at(&w->window, pos, n * BLOCK_SIZE, w->limit);
}

static uint64_t blocks_left(const struct walk *w, uint64_t pos)
{
	return (w->limit - pos) / BLOCK_SIZE;
}

/* ---- the walk ---- */

static void look_for_seal(struct walk *w, const char *blocks, const struct batch_head *b)
{
	struct rec_head r;
	struct rec_seal seal;
	uint64_t size = rec_size(sizeof seal), at;

	if (!(b->flags & BATCH_SEAL) || b->payload_n < size)
		return;
	at = sizeof *b + b->payload_n - size;
	payload_get(blocks, at, &r, sizeof r);
	payload_get(blocks, at + sizeof r, &seal, sizeof seal);
	if (r.type != REC_SEAL || !rec_ok(&r, span_of(&seal, sizeof seal)))
		return;
	w->sealed = true;
	w->next_number = seal.next_number;
}

/* The next batch, whole in every respect, or false and nothing changed. */
static bool take_batch(struct walk *w)
{
	struct batch_head b;
	const char *p;
	uint64_t hash;

	if (!blocks_left(w, w->pos) ||
	    !batch_begins(blocks_at(w, w->pos, 1), w->incarnation, &b) || b.seq != w->seq + 1 ||
	    b.blocks > blocks_left(w, w->pos))
		return false;
	p = blocks_at(w, w->pos, b.blocks);
	if (batch_good_blocks(p, &b, w->incarnation) != b.blocks)
		return false;
	hash = payload_hash(p, sizeof b, b.payload_n);
	if (hash != b.payload_hash ||
	    (w->chain_known && b.chain != hash64_chain(w->chain, hash, b.seq)))
		return false;
	look_for_seal(w, p, &b);
	w->pos += (uint64_t)b.blocks * BLOCK_SIZE;
	w->seq = b.seq;
	w->chain = b.chain;
	w->chain_known = true;
	return true;
}

/* A tag of ours: in a whole block, or in one that was torn behind it.  The latter can't be
 * checked, but nobody else writes our incarnation there, mail included; and a batch that was
 * begun, however little of it arrived, says which one was durable before it.  No batch says it
 * of itself: a lag of 0 is what is left of a tag that was cut. */
static bool has_our_tag(const struct walk *w, const char *block, struct block_tag *ret)
{
	switch (block_kind(block, w->incarnation, ret)) {
	case BLOCK_OURS: return ret->seq > 0;
	case BLOCK_OLD: return false;
	case BLOCK_BAD:
		return ret->incarnation == w->incarnation && ret->index < BATCH_BLOCKS_MAX &&
		       ret->watermark_lag && ret->seq > w->seq && ret->seq - w->seq <= blocks_left(w, w->pos);
	}
	unreachable();
}

/* The highest watermark in the rest of the segment; once is enough, as what lies in front of
 * a later stop cannot promise what comes behind it. */
static uint64_t promised(struct walk *w)
{
	struct block_tag t;

	if (w->promised_known)
		return w->promised;
	w->promised_known = true;
	for (uint64_t pos = w->pos; pos < w->limit; pos += BLOCK_SIZE)
		if (has_our_tag(w, blocks_at(w, pos, 1), &t) && t.watermark_lag < t.seq &&
		    t.seq - t.watermark_lag > w->promised)
			w->promised = t.seq - t.watermark_lag;
	window_drop(&w->window); /* it only moves forward */
	return w->promised;
}

/* The bad blocks from `from` to `to`; all of them, if each is good in itself. */
static void note_damage(struct walk *w, enum damage_what what, uint64_t from, uint64_t to)
{
	struct block_tag t;
	bool found = false;

	if (!w->damage_to)
		w->damage_from = from;
	w->damage_to = to;
	for (uint64_t pos = from; pos < to; pos += BLOCK_SIZE) {
		if (block_kind(blocks_at(w, pos, 1), w->incarnation, &t) == BLOCK_OURS)
			continue;
		damages_add(w->damages, what, pos, pos + BLOCK_SIZE);
		found = true;
	}
	if (!found)
		damages_add(w->damages, what, from, to);
	window_drop(&w->window);
}

/* A batch that was not met yet begins here, and where it belongs. */
static bool goes_on_at(struct walk *w, uint64_t pos, struct batch_head *ret)
{
	return batch_begins(blocks_at(w, pos, 1), w->incarnation, ret) && ret->seq > w->seq + 1 &&
	       (blocks_left(w, pos) < 2 ||
		!block_is_displaced(blocks_at(w, pos + BLOCK_SIZE, 1), w->incarnation, ret->seq, 0));
}

/* Goes to the next batch that begins whole, behind damage; where there is none, behind the
 * last block of a batch that was promised. */
static void resync(struct walk *w)
{
	uint64_t from = w->pos, last = w->pos, back;
	struct batch_head b;
	struct block_tag t;

	if (batch_begins(blocks_at(w, from, 1), w->incarnation, &b) && b.seq == w->seq + 1 &&
	    b.blocks <= blocks_left(w, from))
		last = from + (uint64_t)b.blocks * BLOCK_SIZE; /* its own head says how far it goes */
	for (uint64_t pos = w->pos; pos < w->limit; pos += BLOCK_SIZE) {
		if (!has_our_tag(w, blocks_at(w, pos, 1), &t))
			continue;
		if (goes_on_at(w, pos, &b)) {
			note_damage(w, DAMAGE_BLOCKS, from, pos);
			w->pos = pos;
			w->seq = b.seq - 1;
			w->chain_known = false;
			return;
		}
		if (t.seq <= w->promised)
			last = pos + BLOCK_SIZE;
		back = (uint64_t)t.index * BLOCK_SIZE; /* a later batch: it begins there */
		if (t.seq > w->promised && pos - from >= back && last < pos - back)
			last = pos - back;
	}
	if (last == from) /* nothing of it is left: its place, at least */
		last += BLOCK_SIZE;
	note_damage(w, DAMAGE_BLOCKS, from, last);
	w->pos = last;
	w->seq = w->promised;
	w->chain_known = false;
}

/* ---- the tail: the batch at w->pos is not whole, and nothing says that it was promised ----
 */

enum tail { TAIL_NOTHING, TAIL_TORN, TAIL_AMBIGUOUS };

struct tail_batch {
	struct batch_head head;
	bool head_ok;    /* the head is readable, whether its block is whole or not */
	uint64_t blocks; /* how far it goes, as far as that can be known */
};

static bool sector_is_zero(const char *p)
{
	static const char zeros[SECTOR];

	return memcmp(p, zeros, SECTOR) == 0;
}

/* A tag that was never ours differs from ours in about half of its bits; one that is damaged,
 * in a few. */
#define BITS_DAMAGED 8

static bool tag_is_old(const struct block_tag *t, uint64_t incarnation)
{
	return t->incarnation && __builtin_popcountll(t->incarnation ^ incarnation) > BITS_DAMAGED;
}

/* What a file that is used again holds where a batch of seq begins now. */
static bool begins_as_before(const char *block, uint64_t seq)
{
	struct batch_head b;

	memcpy(&b, block, sizeof b);
	return batch_head_ok(&b) && b.seq != seq;
}

/* Whether a bad block has a sector that still holds what was there before, in a place where
 * that can be told: its tag, or the batch's head.  Then its write was not finished.  A new
 * segment has zeros there, where no batch ever has only zeros; one that is used again has the
 * tag of another incarnation, or another batch's head.  Elsewhere nothing can be told, as mail
 * may hold anything. */
static bool has_old_sector(const struct walk *w, const char *block, uint64_t index,
			   const struct block_tag *t)
{
	return sector_is_zero(block + BLOCK_SIZE - SECTOR) || tag_is_old(t, w->incarnation) ||
	       (index == 0 && (sector_is_zero(block) || begins_as_before(block, w->seq + 1)));
}

static struct tail_batch tail_batch(struct walk *w)
{
	struct tail_batch b = {.blocks = 0};
	const char *p = blocks_at(w, w->pos, 1);
	struct block_tag t;

	memcpy(&b.head, p, sizeof b.head);
	b.head_ok = batch_head_ok(&b.head) && b.head.seq == w->seq + 1 &&
		    b.head.blocks <= blocks_left(w, w->pos);
	if (b.head_ok) {
		b.blocks = b.head.blocks;
		return b;
	}
	/* Without its head: to the tag that says it is the last, or to what was never written.
	 */
	while (b.blocks < blocks_left(w, w->pos)) {
		p = blocks_at(w, w->pos + b.blocks * BLOCK_SIZE, 1);
		if (block_kind(p, w->incarnation, &t) == BLOCK_OLD)
			break;
		b.blocks++;
		if (t.incarnation == w->incarnation && t.seq == w->seq + 1 &&
		    t.index == b.blocks - 1 && t.flags & BLOCK_LAST)
			break;
	}
	return b;
}

static enum tail judge_batch(struct walk *w, const struct tail_batch *b)
{
	struct block_tag t = {0};

	for (uint64_t i = 0; i < b->blocks; i++) {
		uint64_t pos = w->pos + i * BLOCK_SIZE;
		const char *p = blocks_at(w, pos, 1);
		enum block_kind kind = block_kind(p, w->incarnation, &t);

		if (pos + BLOCK_SIZE > w->cut)
			break;
		if (kind == BLOCK_OLD || (kind == BLOCK_BAD && has_old_sector(w, p, i, &t)))
			return TAIL_TORN;
	}
	/* All of it is there.  Without its head, it must also say where it ends. */
	if (!b->head_ok && b->blocks > 1 && !(t.flags & BLOCK_LAST) &&
	    w->pos + b->blocks * BLOCK_SIZE <= w->cut)
		return TAIL_TORN;
	return b->blocks ? TAIL_AMBIGUOUS : TAIL_NOTHING;
}

/* Its first block was never written: did anything else of it arrive? */
static enum tail judge_rest(struct walk *w)
{
	struct block_tag t;

	for (uint64_t pos = w->pos; pos < w->limit; pos += BLOCK_SIZE)
		if (block_kind(blocks_at(w, pos, 1), w->incarnation, &t) != BLOCK_OLD)
			return TAIL_TORN;
	return TAIL_NOTHING;
}

static enum tail judge_tail(struct walk *w)
{
	struct tail_batch b;
	struct block_tag t;
	enum tail tail;

	if (w->sealed || !blocks_left(w, w->pos))
		return TAIL_NOTHING;
	if (block_kind(blocks_at(w, w->pos, 1), w->incarnation, &t) == BLOCK_OLD)
		return judge_rest(w);
	b = tail_batch(w);
	window_drop(&w->window);
	tail = judge_batch(w, &b);
	if (tail != TAIL_AMBIGUOUS)
		return tail;
	note_damage(w, DAMAGE_LAST, w->pos, w->pos + b.blocks * BLOCK_SIZE);
	w->pos += b.blocks * BLOCK_SIZE;
	w->seq++;
	if (b.head_ok)
		w->chain = b.head.chain;
	return tail;
}

/* ---- the verdict ---- */

static void say(struct journal_end *ret, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
static void say(struct journal_end *ret, const char *fmt, ...)
{
	va_list ap;

	buf_clear(&ret->why);
	va_start(ap, fmt);
	if (!buf_vfmt(&ret->why, fmt, ap))
		buf_clear(&ret->why);
	va_end(ap);
}

void damage_say(struct buf *to, const struct damage *d, uint64_t segment_size)
{
	uint64_t number = d->from / segment_size, start = number * segment_size;
	size_t n = to->n;
	bool fits = d->what == DAMAGE_BLOCKS || d->what == DAMAGE_LAST
			    ? buf_fmt(to,
				      "seg-%016" PRIx64 " is damaged from offset %" PRIu64
				      " to %" PRIu64 ": %s",
				      number, d->from - start, d->to - start,
				      damage_text(d->what))
			    : buf_fmt(to, "seg-%016" PRIx64 " %s", number, damage_text(d->what));

	if (!fits)
		to->n = n;
}

static enum recovered walk_segment(struct walk *w, struct journal_end *ret)
{
	for (;;) {
		while (!w->sealed && take_batch(w))
			;
		if (w->sealed || promised(w) <= w->seq)
			break;
		resync(w);
	}
	switch (judge_tail(w)) {
	case TAIL_NOTHING: return RECOVERED_CLEAN;
	case TAIL_AMBIGUOUS: return RECOVERED_AMBIGUOUS;
	case TAIL_TORN:
		say(ret,
		    "seg-%016" PRIx64 " ends at offset %" PRIu64
		    " with a batch that was not finished",
		    w->head.number, w->pos - w->start);
		return RECOVERED_TORN;
	}
	unreachable();
}

/* The places that were met decide, whatever the tail looked like. */
static enum recovered judge_damages(const struct walk *w, enum recovered tail,
				    struct journal_end *ret)
{
	const struct damages *d = &ret->damages;
	enum recovered verdict = RECOVERED_AMBIGUOUS;

	if (!d->n)
		return tail;
	for (uint32_t i = 0; i < d->n; i++)
		if (d->v[i].what != DAMAGE_LAST)
			verdict = RECOVERED_DAMAGED;
	ret->damage_from = w->damage_to ? w->damage_from : d->v[0].from;
	ret->damage_to = w->damage_to ? w->damage_to : d->v[0].to;
	buf_clear(&ret->why);
	damage_say(&ret->why, &d->v[0], w->head.segment_size);
	if (d->n + d->more > 1 &&
	    !buf_fmt(&ret->why, "; and %" PRIu64 " more", d->n - 1 + d->more))
		return verdict; /* the first one is said */
	return verdict;
}

static void keep_end(struct journal_end *ret, const struct walk *w, struct segments *s)
{
	memcpy(ret->uuid, w->head.uuid, sizeof ret->uuid);
	ret->epoch = w->head.epoch;
	ret->number = w->head.number;
	ret->end = w->pos;
	ret->seq = w->seq;
	ret->chain = w->chain;
	ret->oldest = w->head.oldest;
	ret->segment_size = w->head.segment_size;
	ret->shard = w->head.shard;
	ret->segments = s->v;
	ret->segments_n = s->n;
	ret->segments[s->n - 1].end = w->pos;
	s->v = NULL; /* it's the result's now */
}

static enum recovered recover_newest(struct walk *w, struct segments *s,
				     struct journal_end *ret)
{
	enum recovered verdict;
	int64_t size;

	w->damages = &ret->damages;
	ret->damages = s->damages;
	w->head = s->head;
	w->incarnation = incarnation_of(w->head.uuid, w->head.number);
	w->start = w->head.number * w->head.segment_size;
	w->limit = w->start + segment_usable(w->head.segment_size);
	w->pos = w->start + BLOCK_SIZE;
	w->seq = w->head.first_seq - 1;
	w->chain = w->head.chain;
	w->chain_known = true;
	if (walk_open(w->disk, w->head.number, &w->file)) {
		say(ret, "seg-%016" PRIx64 " can't be read", w->head.number);
		return RECOVERED_FAILED;
	}
	size = w->disk->calls->size(w->disk, w->file);
	w->cut = w->start + (size > 0 ? (uint64_t)size : 0);
	verdict = walk_segment(w, ret);
	w->disk->calls->close(w->disk, w->file);
	if (w->sealed && !segments_has_file(s, w->next_number)) {
		say(ret,
		    "seg-%016" PRIx64 " is named by the seal of the one before and is missing",
		    w->next_number);
		return RECOVERED_FAILED;
	}
	keep_end(ret, w, s);
	return judge_damages(w, verdict, ret);
}

enum recovered journal_recover(struct disk *d, struct journal_end *ret)
{
	struct walk w = {.disk = d};
	enum recovered verdict = RECOVERED_FAILED;
	enum segments_found found;
	struct segments s;

	*ret = (struct journal_end){0};
	buf_init(&ret->why, WHY_MAX);
	window_init(&w.window, fetch, &w);
	found = segments_load(d, &s, &ret->why);
	if (found == SEGMENTS_NONE)
		verdict = RECOVERED_EMPTY;
	else if (found == SEGMENTS_OK)
		verdict = recover_newest(&w, &s, ret);
	segments_fini(&s);
	window_fini(&w.window);
	return verdict;
}

void journal_end_fini(struct journal_end *e)
{
	mem_free(e->segments);
	buf_free(&e->why);
	*e = (struct journal_end){0};
}
