/* damage - breaks journals in every way a disk or a person can, and reads them.
 *
 *   damage [--injections N] [--seed S] [--quiet]
 *
 * Each journal is made by the real writer (damage_make.c), read once whole, and then damaged
 * again and again, one fault at a time, with everything put back in between.  After each fault
 * recovery and a full walk must hold to this:
 *
 *   nothing is read that was not written, and nothing that is changed
 *   every promised record that touches no damaged byte is read, whatever happened beside it
 *     (but for a journal that recovery refuses: that is said, and nothing is read)
 *   where a promised record is lost, somebody says so: recovery, or the walk
 *
 * A rotten index file must cost nothing: the segment itself is read.
 *
 * The last rule has one exception, and it is measured, not passed over: the newest promised
 * batch, when no later block was left that vouches for it (docs/journal.md, Damage).  Silence
 * anywhere else ends the program with the seed.  A kind of fault that never fired fails it too. */
#include "damage.h"

#include "core/clock.h"
#include "core/log.h"
#include "core/pool.h"
#include "core/rand.h"
#include "journal/index.h"
#include "journal/recover.h"
#include "journal/segments.h"
#include "journal/walk.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EACH        60  /* faults a journal */
#define FILES_MAX   256
#define BATCHES_MAX 4096
#define BLOCKS      (MADE_SEGMENT / BLOCK_SIZE)
#define OTHER_IDS   (UINT64_C(1) << 40)

enum fault { FLIP, ZEROED, STALE, MISPLACED, CUT, MISSING, FOREIGN, MIXED, INDEX, FAULTS };
static const char *const fault_names[] = {
	[FLIP] = "flipped bit",
	[ZEROED] = "zeroed 4 KiB block",
	[STALE] = "stale 4 KiB block",
	[MISPLACED] = "block from a wrong place",
	[CUT] = "truncated file",
	[MISSING] = "missing segment",
	[FOREIGN] = "segment of another journal",
	[MIXED] = "two journals mixed",
	[INDEX] = "rotten index file",
};
enum place {
	LAST_MARK, LAST_QUIET, LAST_LOAD, MIDDLE, OLDER, HEAD, COPY, COLD,
	NEWEST_FILE, OLDER_FILE, COLD_FILE, ANY,
	INDEX_FLIP, INDEX_ZEROED, INDEX_CUT, INDEX_OTHER, INDEX_GONE, PLACES
};
static const char *const place_names[] = {
	[LAST_MARK] = "newest promised batch, after the mark",
	[LAST_QUIET] = "the same, power cut before the mark",
	[LAST_LOAD] = "the same, power cut under load",
	[MIDDLE] = "newest segment, middle",
	[OLDER] = "older segment",
	[HEAD] = "head",
	[COPY] = "copy of a head",
	[COLD] = "cold segment",
	[NEWEST_FILE] = "newest segment",
	[OLDER_FILE] = "older segment",
	[COLD_FILE] = "cold segment",
	[ANY] = "directory",
	[INDEX_FLIP] = "flipped bit",
	[INDEX_ZEROED] = "zeroed 4 KiB block",
	[INDEX_CUT] = "truncated",
	[INDEX_OTHER] = "of another segment",
	[INDEX_GONE] = "missing",
};
static struct count { uint64_t fired, vouched, harmless, said, found, refused, silent; } counts[FAULTS][PLACES];
static uint64_t injections, journals, skipped, colds, histories, behind_bad;

/* ---- a journal as it is before anything is damaged ---- */

struct batch { uint64_t pos, end, seq; };
struct target {
	struct made made, other;
	enum made_end end;
	uint64_t uuid_number;
	uint8_t uuid[16];
	struct manifest_entry *v; /* what recovery says; the newest is the last */
	uint32_t n;
	struct batch batches[BATCHES_MAX]; /* with promised records in them, by the walk */
	uint32_t batches_n, last;          /* last: index of the newest promised batch */
	unsigned damages;                  /* that the walk says of itself */
};
static uint64_t seed;

static void name_of(char name[SEGMENT_NAME_MAX], uint64_t number)
{
	segment_name(name, FILE_SEGMENT, number);
}

static char *bytes_of(struct made *m, uint64_t number, uint64_t *ret_size)
{
	char name[SEGMENT_NAME_MAX];

	name_of(name, number);
	return simdisk_bytes(m->disk, name, ret_size);
}

/* ---- reading ---- */

struct seen {
	enum recovered verdict;
	unsigned damages, rotten;
	bool opened;
	char *read; /* of each record: was it */
	uint64_t others;
	char why[160];         /* what recovery says */
	char fault[120];       /* what was done */
};

static void take(struct target *t, struct seen *s, const struct record *rec)
{
	if (rec->head.type != REC_ACT)
		return;
	if (made_is(&t->made, rec)) {
		s->read[rec->head.id - 1] = 1;
		return;
	}
	if (t->other.disk && made_is(&t->other, rec)) {
		s->others++;
		return;
	}
	world_fail("%s: a record is read that was never written so: id %" PRIu64 " at %" PRIu64
		   " (offset %" PRIu64 "); recovery says %d (%s)",
		   s->fault, rec->head.id, rec->pos, rec->pos % MADE_SEGMENT, (int)s->verdict,
		   s->why);
}

/* With their heads only, records come out of the index files. */
static void look(struct target *t, struct seen *s, enum read_bodies bodies,
		 void (*each)(struct target *, struct reader *, const struct record *))
{
	struct reader *r = reader_new(t->made.disk, NULL, MADE_SEGMENT, MADE_SHARD);
	struct journal_end end;
	struct record rec;
	enum read_result got;
	struct buf why;
	uint64_t number;

	buf_init(&why, 512);
	memset(s->read, 0, t->made.n);
	s->damages = s->rotten = 0;
	s->others = 0;
	s->verdict = journal_recover(t->made.disk, &end);
	snprintf(s->why, sizeof s->why, "%.*s", SPAN_ARG(buf_span(&end.why)));
	journal_end_fini(&end);
	reader_with_history(r);
	s->opened = reader_open(r, &why) == 0;
	if (s->opened != (s->verdict != RECOVERED_FAILED))
		world_fail("recovery says %d, but the reader %s", (int)s->verdict,
			   s->opened ? "opens it" : "does not open it");
	while (s->opened && ((got = reader_next(r, bodies, &rec)) == READ_OK ||
			     got == READ_DAMAGE)) {
		s->damages += got == READ_DAMAGE;
		if (got != READ_OK)
			continue;
		take(t, s, &rec);
		if (each)
			each(t, r, &rec);
	}
	if (s->opened && got != READ_END)
		world_fail("the reader ends with %d", (int)got);
	while (reader_rotten(r, &number))
		s->rotten++;
	buf_free(&why);
	reader_free(r);
}

/* ---- making a target ---- */

static void note_batch(struct target *t, struct reader *r, const struct record *rec)
{
	struct read_batch b;

	if (rec->head.type != REC_ACT || !t->made.v[rec->head.id - 1].promised)
		return;
	if (!reader_batch(r, &b))
		world_fail("a batch without a head, and nothing is damaged");
	if (t->batches_n && t->batches[t->batches_n - 1].pos == b.pos)
		return;
	check(t->batches_n < BATCHES_MAX);
	t->batches[t->batches_n++] = (struct batch){b.pos, b.end, b.seq};
}

/* All that was promised is there; false: this one says something of itself (a batch torn inside a block). */
static bool note_pristine(struct target *t)
{
	struct seen s = {.read = mem_new(t->made.n + 1), .fault = "none"};
	struct journal_end end;
	bool good;

	look(t, &s, BODIES_WHOLE, note_batch);
	for (uint32_t i = 0; i < t->made.n; i++) {
		struct made_record *r = &t->made.v[i];

		r->there = s.read[i];
		if (r->promised && !r->gone && !r->there)
			world_fail("record %" PRIu32 " at %" PRIu64
				   " is lost, and nothing was damaged",
				   i, r->pos);
	}
	good = (s.verdict == RECOVERED_CLEAN || s.verdict == RECOVERED_TORN) && !s.damages;
	mem_free(s.read);
	if (!good)
		return false;
	(void)journal_recover(t->made.disk, &end);
	t->v = end.segments;
	t->n = end.segments_n;
	memcpy(t->uuid, end.uuid, sizeof t->uuid);
	end.segments = NULL;
	journal_end_fini(&end);
	for (uint32_t i = 0; i + 1 < t->n; i++)
		if (rand_below(2) && index_make(t->made.disk, t->uuid, t->v[i].number,
						MADE_SEGMENT, t->v[i].end))
			world_fail("no index of seg-%016" PRIx64 " can be made", t->v[i].number);
	/* Cold ones come first, so the last batch of the walk is the newest promised one. */
	t->last = t->batches_n - 1;
	return t->batches_n > 0;
}

static bool target_make(struct target *t, uint64_t s)
{
	memset(t, 0, sizeof *t);
	t->end = (enum made_end)(s % MADE_ENDS);
	made_make(&t->other, s + (UINT64_C(1) << 60), (enum made_end)(s / 3 % MADE_ENDS),
		  OTHER_IDS);
	made_make(&t->made, s, t->end, 0);
	colds += t->made.colds;
	histories += t->made.kept;
	return note_pristine(t);
}

static void target_fini(struct target *t)
{
	mem_free(t->v);
	made_fini(&t->other);
	made_fini(&t->made);
}

/* ---- one fault ---- */

struct hit {
	enum fault fault;
	enum place place;
	uint64_t number;       /* of the segment */
	uint64_t from, to;     /* damaged blocks of it, as offsets */
	bool vouched;          /* LAST_*: a block behind the batch says that it was durable */
	char *was;             /* the file's bytes */
	uint64_t was_size;
	uint64_t added[FILES_MAX];
	unsigned added_n;
};

static uint64_t newest(const struct target *t)
{
	return t->v[t->n - 1].number;
}

/* Is there a block, behind this batch and outside of the damage, that says that it was durable? */
static bool is_vouched_for(struct target *t, const struct batch *b, uint64_t from, uint64_t to)
{
	uint64_t size, start = newest(t) * MADE_SEGMENT;
	const char *p = bytes_of(&t->made, newest(t), &size);
	struct block_tag tag;

	for (uint64_t at = b->end - start; at < segment_usable(MADE_SEGMENT); at += BLOCK_SIZE)
		if ((at < from || at >= to) &&
		    block_kind(p + at, incarnation_of(t->uuid, newest(t)), &tag) == BLOCK_OURS &&
		    tag.seq && tag.watermark_lag < tag.seq &&
		    tag.seq - tag.watermark_lag >= b->seq)
			return true;
	return false;
}

static void block_of_batch(struct hit *h, const struct batch *b)
{
	h->number = b->pos / MADE_SEGMENT;
	h->from = b->pos % MADE_SEGMENT +
		  rand_below((b->end - b->pos) / BLOCK_SIZE) * BLOCK_SIZE;
}

/* A batch of the newest segment (hot 1), of older hot ones (0), of cold ones (-1). */
static bool pick_batch(struct target *t, struct hit *h, int which)
{
	for (int tries = 0; tries < 50; tries++) {
		uint32_t i = (uint32_t)rand_below(t->batches_n);
		uint64_t number = t->batches[i].pos / MADE_SEGMENT;

		if (i == t->last ||
		    (number == newest(t) ? 1 : number >= COLD_FIRST ? -1 : 0) != which)
			continue;
		block_of_batch(h, &t->batches[i]);
		return true;
	}
	return false;
}

static bool pick_block(struct target *t, struct hit *h)
{
	const struct batch *last = &t->batches[t->last];
	static const enum place last_places[] = {LAST_MARK, LAST_QUIET, LAST_LOAD};
	static const enum place places[] = {LAST_MARK, LAST_MARK, LAST_MARK, MIDDLE, MIDDLE, OLDER, OLDER, HEAD, COPY, COLD};

	h->place = places[rand_below(ARRAY_N(places))];
	h->to = 0;
	switch (h->place) {
	case LAST_MARK:
		if (last->pos / MADE_SEGMENT != newest(t))
			return false;
		block_of_batch(h, last);
		h->place = last_places[t->end];
		h->vouched = is_vouched_for(t, last, h->from, h->from + BLOCK_SIZE);
		break;
	case MIDDLE:
		if (!pick_batch(t, h, 1))
			return false;
		break;
	case OLDER:
		if (!pick_batch(t, h, 0))
			return false;
		break;
	case COLD:
		if (!pick_batch(t, h, -1))
			return false;
		break;
	case HEAD:
	case COPY:
		h->number = t->v[rand_below(t->n)].number;
		h->from = h->place == HEAD ? 0 : segment_usable(MADE_SEGMENT);
		break;
	case LAST_QUIET:
	case LAST_LOAD:
	case NEWEST_FILE:
	case OLDER_FILE:
	case COLD_FILE:
	case ANY:
	case INDEX_FLIP:
	case INDEX_ZEROED:
	case INDEX_CUT:
	case INDEX_OTHER:
	case INDEX_GONE:
	case PLACES: unreachable();
	}
	h->to = h->from + BLOCK_SIZE;
	return true;
}

static bool pick_file(struct target *t, struct hit *h)
{
	uint64_t number = t->v[rand_below(3) ? rand_below(t->n) : t->n - 1].number;

	h->number = number;
	h->from = 0;
	h->to = MADE_SEGMENT;
	h->place = number == newest(t) ? NEWEST_FILE : number >= COLD_FIRST ? COLD_FILE : OLDER_FILE;
	return true;
}

static void keep_file(struct target *t, struct hit *h)
{
	const char *p = bytes_of(&t->made, h->number, &h->was_size);

	check(p && h->was_size == MADE_SEGMENT);
	h->was = mem_new(MADE_SEGMENT);
	memcpy(h->was, p, MADE_SEGMENT);
}

/* What a file that is used again held before: the same block of another segment, or zeros. */
static bool stale(struct target *t, struct hit *h, char *p)
{
	static const char zeros[BLOCK_SIZE];
	uint64_t size, other = t->v[rand_below(t->n)].number;
	const char *from = rand_below(2) || other == h->number ? zeros
							       : bytes_of(&t->made, other, &size);

	if (from != zeros)
		from += h->from;
	if (memcmp(p + h->from, from, BLOCK_SIZE) == 0)
		return false;
	memcpy(p + h->from, from, BLOCK_SIZE);
	return true;
}

/* Written to a wrong place, or read from one: another block of the same file. */
static bool misplace(struct hit *h, char *p)
{
	uint64_t from = rand_below(BLOCKS) * BLOCK_SIZE;
	struct block_tag t;

	if (from == h->from || !block_ok(p + from, &t))
		return false;
	memcpy(p + h->from, p + from, BLOCK_SIZE);
	return true;
}

static bool move(struct made *m, uint64_t number, bool away)
{
	char name[SEGMENT_NAME_MAX], hidden[64];
	int e;

	name_of(name, number);
	snprintf(hidden, sizeof hidden, "hidden-%s", name);
	e = m->disk->calls->rename(m->disk, away ? name : hidden, away ? hidden : name);
	return e == 0 && m->disk->calls->sync_dir(m->disk) == 0;
}

/* Files of the other journal under numbers that ours has not. */
struct listing { struct target *t; struct hit *h; };

static void add_other(void *ctx, const char *name, uint64_t size)
{
	struct listing *l = ctx;
	enum segment_file kind;
	uint64_t number;

	if (segment_name_parse(name, &kind, &number) && kind == FILE_SEGMENT &&
	    !bytes_of(&l->t->made, number, &size) && l->h->added_n < FILES_MAX)
		l->h->added[l->h->added_n++] = number;
}

static bool mix(struct target *t, struct hit *h)
{
	struct disk *d = t->made.disk;
	struct listing l = {t, h};

	t->other.disk->calls->list(t->other.disk, add_other, &l);
	for (unsigned i = 0; i < h->added_n; i++) {
		char name[SEGMENT_NAME_MAX];
		struct disk_file *f;
		uint64_t size;
		const char *p = bytes_of(&t->other, h->added[i], &size);

		name_of(name, h->added[i]);
		check(size == MADE_SEGMENT && d->calls->open(d, name, DISK_WRITE | DISK_CREATE, &f) == 0);
		check(d->calls->fill(d, f, 0, MADE_SEGMENT) == 0);
		memcpy(simdisk_bytes(d, name, &size), p, MADE_SEGMENT);
		d->calls->close(d, f);
	}
	return h->added_n > 0 && d->calls->sync_dir(d) == 0;
}

static void unmix(struct target *t, struct hit *h)
{
	struct disk *d = t->made.disk;

	for (unsigned i = 0; i < h->added_n; i++) {
		char name[SEGMENT_NAME_MAX];

		name_of(name, h->added[i]);
		check(d->calls->unlink(d, name) == 0);
	}
	check(d->calls->sync_dir(d) == 0);
}

static void index_name(char name[SEGMENT_NAME_MAX], uint64_t number)
{
	snprintf(name, SEGMENT_NAME_MAX, "idx-%016" PRIx64, number);
}

static bool pick_index(struct target *t, struct hit *h)
{
	char name[SEGMENT_NAME_MAX];
	uint64_t size;

	for (int tries = 0; tries < 20; tries++) {
		h->number = t->v[rand_below(t->n)].number;
		index_name(name, h->number);
		if (simdisk_bytes(t->made.disk, name, &size))
			return true;
	}
	return false;
}

static bool rot_index(struct target *t, struct hit *h)
{
	char name[SEGMENT_NAME_MAX], *p;
	struct hit other;
	uint64_t size;
	const char *q;

	if (!pick_index(t, h))
		return false;
	index_name(name, h->number);
	p = simdisk_bytes(t->made.disk, name, &h->was_size);
	h->was = mem_new(h->was_size);
	memcpy(h->was, p, h->was_size);
	h->place = INDEX_FLIP + (enum place)rand_below(PLACES - INDEX_FLIP);
	switch (h->place - INDEX_FLIP) {
	case 0: p[rand_below(h->was_size)] ^= (char)(1u << rand_below(8)); return true;
	case 1: memset(p + rand_below(h->was_size / BLOCK_SIZE) * BLOCK_SIZE, 0, BLOCK_SIZE); return true;
	case 2: simdisk_resize(t->made.disk, name, rand_below(h->was_size)); return true;
	case 3:
		if (!pick_index(t, &other))
			return false;
		index_name(name, other.number);
		q = simdisk_bytes(t->made.disk, name, &size);
		memcpy(p, q, size < h->was_size ? size : h->was_size);
		return other.number != h->number;
	default: check(index_remove(t->made.disk, h->number) == 0); return true;
	}
}

static void put_back_index(struct target *t, const struct hit *h)
{
	struct disk *d = t->made.disk;
	char name[SEGMENT_NAME_MAX];
	struct disk_file *f;
	uint64_t size;

	if (!h->was)
		return;
	index_name(name, h->number);
	if (!simdisk_bytes(d, name, &size)) {
		check(d->calls->open(d, name, DISK_WRITE | DISK_CREATE, &f) == 0);
		check(d->calls->fill(d, f, 0, h->was_size) == 0);
		d->calls->close(d, f);
		check(d->calls->sync_dir(d) == 0);
	}
	simdisk_resize(d, name, h->was_size);
	memcpy(simdisk_bytes(d, name, &size), h->was, h->was_size);
	mem_free(h->was);
}

/* false: this fault can't be had here, and nothing was changed. */
static bool inject(struct target *t, struct hit *h)
{
	char name[SEGMENT_NAME_MAX], *p;
	uint64_t size;
	const char *q;

	*h = (struct hit){.fault = (enum fault)rand_below(rand_below(3) ? CUT : FAULTS)};
	if (h->fault == MIXED) {
		h->place = ANY;
		return mix(t, h);
	}
	if (h->fault == INDEX)
		return rot_index(t, h);
	if (!(h->fault < CUT ? pick_block(t, h) : pick_file(t, h)))
		return false;
	p = bytes_of(&t->made, h->number, &size);
	name_of(name, h->number);
	keep_file(t, h);
	switch (h->fault) {
	case FLIP: p[h->from + rand_below(BLOCK_SIZE)] ^= (char)(1u << rand_below(8)); return true;
	case ZEROED:
		if (p[h->from] == 0 && memcmp(p + h->from, p + h->from + 1, BLOCK_SIZE - 1) == 0)
			return false;
		memset(p + h->from, 0, BLOCK_SIZE);
		return true;
	case STALE: return stale(t, h, p);
	case MISPLACED: return misplace(h, p);
	case CUT:
		size = rand_below(MADE_SEGMENT);
		h->from = size / BLOCK_SIZE * BLOCK_SIZE;
		simdisk_resize(t->made.disk, name, size);
		return true;
	case MISSING: return move(&t->made, h->number, true);
	case FOREIGN:
		q = bytes_of(&t->other, h->number, &size);
		if (!q || size != MADE_SEGMENT || segment_head_get(q, h->number, &(struct segment_head){0}) != HEAD_OK)
			return false;
		memcpy(p, q, MADE_SEGMENT);
		return true;
	case MIXED:
	case INDEX:
	case FAULTS: break;
	}
	unreachable();
}

static void put_back(struct target *t, struct hit *h)
{
	char name[SEGMENT_NAME_MAX], *p;
	uint64_t size;

	if (h->fault == MIXED) {
		unmix(t, h);
		return;
	}
	if (h->fault == INDEX) {
		put_back_index(t, h);
		return;
	}
	name_of(name, h->number);
	if (h->fault == MISSING && !simdisk_bytes(t->made.disk, name, &size))
		check(move(&t->made, h->number, false));
	if (h->was) {
		simdisk_resize(t->made.disk, name, MADE_SEGMENT);
		p = simdisk_bytes(t->made.disk, name, &size);
		memcpy(p, h->was, MADE_SEGMENT);
	}
	mem_free(h->was);
}

/* ---- the judgement ---- */

static bool touches(const struct hit *h, const struct made_record *r)
{
	uint64_t first = r->pos % MADE_SEGMENT / BLOCK_SIZE * BLOCK_SIZE;
	uint64_t end = r->pos % BLOCK_SIZE + sizeof(struct rec_head) + r->n; /* in its blocks' payload */

	if (h->fault == MIXED || h->fault == INDEX || r->pos / MADE_SEGMENT != h->number)
		return false;
	return first < h->to && first + blocks_for(end) * BLOCK_SIZE > h->from;
}

static bool is_uncovered(const struct hit *h)
{
	return (h->place == LAST_MARK || h->place == LAST_QUIET || h->place == LAST_LOAD) &&
	       !h->vouched;
}

/* The batch that was hit, and that nobody vouches for, may go as a whole. */
static bool in_batch(const struct target *t, const struct hit *h, const struct made_record *r)
{
	const struct batch *b = &t->batches[t->last];

	return is_uncovered(h) && r->pos >= b->pos && r->pos < b->end;
}

/* Batches in it prove that its head was there. */
static bool is_used(const struct target *t, uint64_t number)
{
	for (uint32_t i = 0; i < t->batches_n; i++)
		if (t->batches[i].pos / MADE_SEGMENT == number)
			return true;
	return false;
}

static void judge(struct target *t, struct hit *h, const struct seen *s)
{
	struct count *c = &counts[h->fault][h->place];
	uint64_t lost = 0, first_lost = 0, behind = 0;
	bool loud = s->rotten || s->verdict == RECOVERED_AMBIGUOUS || s->verdict == RECOVERED_DAMAGED ||
		    s->verdict == RECOVERED_FAILED || s->damages;

	for (uint32_t i = 0; i < t->made.n; i++) {
		const struct made_record *r = &t->made.v[i];

		if (!r->promised || r->gone)
			continue;
		if (s->read[i]) {
			behind += lost && touches(h, r) == false && r->pos / MADE_SEGMENT == h->number;
			continue;
		}
		first_lost = lost++ ? first_lost : r->pos;
		/* Mixed into one that has more segments, ours are the odd ones out. */
		if (s->verdict != RECOVERED_FAILED && h->fault != MIXED && !touches(h, r) &&
		    !in_batch(t, h, r))
			world_fail("%s: costs the whole record at %" PRIu64
				   " (offset %" PRIu64 "); recovery says %d (%s), %u places",
				   s->fault, r->pos, r->pos % MADE_SEGMENT, (int)s->verdict,
				   s->why, s->damages);
	}
	behind_bad += behind > 0;
	c->fired++;
	c->vouched += h->vouched;
	c->harmless += !lost;
	c->said += !lost && loud;
	c->found += lost && loud;
	c->refused += s->verdict == RECOVERED_FAILED;
	if (s->verdict == RECOVERED_FAILED && h->place != NEWEST_FILE && h->fault != MIXED &&
	    (h->fault != FOREIGN || t->n > 2)) /* of two, it's not clear which is ours */
		world_fail("%s, %s: recovery refuses the journal", fault_names[h->fault],
			   place_names[h->place]);
	if (h->place == HEAD && !loud && is_used(t, h->number))
		world_fail("%s in the head of seg-%016" PRIx64 " passes in silence",
			   fault_names[h->fault], h->number);
	if (!lost || loud)
		return;
	c->silent++;
	if (!is_uncovered(h) && h->fault != MISSING)
		world_fail("%s, %s, seg-%016" PRIx64 " offset %" PRIu64
			   ": %" PRIu64 " promised records are lost in silence, the first at %" PRIu64,
			   fault_names[h->fault], place_names[h->place], h->number, h->from,
			   lost, first_lost);
}

/* A newest segment that is gone is known by the seal that names it, or by the file that was
 * prepared behind it.  Where neither is there, no byte of it is left anywhere. */
static void expect_no_trace(struct target *t, const struct hit *h)
{
	uint64_t size;

	if (bytes_of(&t->made, h->number + 1, &size))
		world_fail("the newest segment is missing, in silence, and the next one is there");
}

static void one(struct target *t, struct seen *s)
{
	struct hit h;
	uint64_t silent;

	if (inject(t, &h)) {
		silent = counts[h.fault][h.place].silent;
		snprintf(s->fault, sizeof s->fault, "%s, %s, seg-%016" PRIx64 " offset %" PRIu64,
			 fault_names[h.fault], place_names[h.place], h.number, h.from);
		look(t, s, h.fault == INDEX ? BODIES_HEADS : BODIES_WHOLE, NULL);
		judge(t, &h, s);
		if (counts[h.fault][h.place].silent > silent && h.fault == MISSING)
			expect_no_trace(t, &h);
		injections++;
	}
	put_back(t, &h);
}

static void run(uint64_t s)
{
	struct target *t = mem_new(sizeof *t);
	struct seen seen;

	seed = s;
	if (target_make(t, s)) {
		journals++;
		seen.read = mem_new(t->made.n + 1);
		for (int i = 0; i < EACH; i++)
			one(t, &seen);
		mem_free(seen.read);
	} else {
		skipped++;
	}
	target_fini(t);
	mem_free(t);
}

/* ---- the table ---- */

static bool report(void)
{
	uint64_t fired[FAULTS] = {0};
	bool all = true;

	printf("%-27s %-37s %8s %8s %8s %8s %8s %8s %8s\n", "", "", "fired", "vouched", "no loss",
	       "and said", "found", "refused", "silent");
	for (int f = 0; f < FAULTS; f++)
		for (int p = 0; p < PLACES; p++) {
			const struct count *c = &counts[f][p];

			fired[f] += c->fired;
			if (!c->fired)
				continue;
			printf("%-27s %-37s %8" PRIu64 " %8" PRIu64 " %8" PRIu64 " %8" PRIu64
			       " %8" PRIu64 " %8" PRIu64 " %8" PRIu64,
			       fault_names[f], place_names[p], c->fired, c->vouched, c->harmless,
			       c->said, c->found, c->refused, c->silent);
			if (c->silent)
				printf(" (%.1f %%)", 100.0 * (double)c->silent / (double)c->fired);
			putchar('\n');
		}
	for (int f = 0; f < FAULTS; f++)
		if (!fired[f]) {
			printf("damage: never fired: %s\n", fault_names[f]);
			all = false;
		}
	if (!colds || !histories || !behind_bad) {
		printf("damage: no cold segment, no history, or nothing read behind a bad block\n");
		all = false;
	}
	printf("damage: %" PRIu64 " injections in %" PRIu64 " journals (%" PRIu64
	       " more were torn inside a block); cold segments %" PRIu64 ", history %" PRIu64
	       ", records read behind damage in their segment %" PRIu64 " times\n",
	       injections, journals, skipped, colds, histories, behind_bad);
	return all;
}

static uint64_t number_of(const char *s)
{
	uint64_t v;

	if (!s || !span_u64(span_str(s), UINT64_MAX, &v))
		die(100, "usage: damage [--injections N] [--seed S]");
	return v;
}

static void on_line(void *ctx, struct span line)
{
}

int main(int argc, char **argv)
{
	uint64_t wanted = 5000, first = 1;

	for (int i = 1; i < argc; i += 2) {
		if (strcmp(argv[i], "--injections") == 0)
			wanted = number_of(argv[i + 1]);
		else if (strcmp(argv[i], "--seed") == 0)
			first = number_of(argv[i + 1]);
		else
			number_of(NULL);
	}
	log_capture(on_line, NULL);
	while (injections < wanted)
		run(first++);
	return report() ? 0 : 1;
}
