/* reader - walking the journal, and looking up one record of it.
 *
 * Walking takes a batch at a time: its blocks are checked, their payloads moved together (so
 * that each record lies in one piece), its records handed out.  Where a batch is not whole,
 * the records in front of its first bad block are still good; then READ_DAMAGE is said once,
 * and the walk goes on with the next batch that begins whole.  Records are never looked for
 * inside a damaged batch: a body may hold bytes that look like one.
 *
 * Where segments end: a sealed one behind its seal, all others at the end that the newest
 * head names.  In the segment that is being written, the durable position is the limit. */
#include "journal/reader.h"

#include "core/pool.h"
#include "journal/recover.h"
#include "journal/segments.h"
#include "journal/walk.h"

#include <errno.h>
#include <string.h>

#define READER_FILES 16 /* kept open for single look-ups */
#define WHY_MAX      256
#define LOOK_FIRST   ((size_t)4 * BLOCK_SIZE) /* most records are smaller: one read */
#define LOOK_MAX     ((blocks_for(sizeof(struct rec_head) + REC_MAX) + 1) * BLOCK_SIZE)

struct open_file {
	uint64_t number; /* 0: none */
	struct disk_file *file;
};
struct reader {
	struct disk *disk;
	const struct ring *ring;
	uint64_t segment_size;
	uint32_t shard;
	uint8_t uuid[16];
	struct manifest_entry *v; /* the queue's segments, in order; end 0: not known yet */
	uint32_t n;
	uint64_t run; /* the ring's first position when v was read */

	struct window window;
	struct disk_file *file; /* of the segment that is walked */
	uint64_t number, incarnation;
	uint64_t pos;        /* of the next batch */
	uint64_t seq, chain; /* of the batch before it */
	bool linked;         /* they are known: the next one must follow on them */

	char *payload;                 /* of the current batch; NULL: none is open */
	uint64_t batch_pos, batch_end; /* positions */
	uint64_t at, good,
		all;  /* payload offsets: next record, end of what is good, of records */
	bool damaged; /* say so when the good ones are out */

	char *look_raw, *look; /* for reader_at */
	size_t look_cap;
	struct open_file files[READER_FILES];
};

/* ---- where the bytes come from ---- */

static bool from_ring(const struct reader *r, char *dst, size_t n, uint64_t pos)
{
	if (!r->ring || !r->ring->head || !ring_holds(r->ring, pos) || n > r->ring->size)
		return false;
	memcpy(dst, ring_at(r->ring, pos), n);
	return ring_holds(r->ring, pos); /* still there: so was every byte that was copied */
}

static int fetch_walk(void *ctx, char *dst, size_t n, uint64_t pos)
{
	struct reader *r = ctx;
	int e;

	if (from_ring(r, dst, n, pos))
		return 0;
	if (!r->file) {
		e = walk_open(r->disk, r->number, &r->file);
		if (e)
			return e;
	}
	return walk_read(r->disk, r->file, dst, n, pos - r->number * r->segment_size);
}

static void close_walked(struct reader *r)
{
	if (r->file)
		r->disk->calls->close(r->disk, r->file);
	r->file = NULL;
}

/* A file for a look-up: a slot is taken over by the next one that needs it. */
static struct disk_file *file_for(struct reader *r, uint64_t number)
{
	struct open_file *o = &r->files[number % READER_FILES];

	if (o->number == number)
		return o->file;
	if (o->number)
		r->disk->calls->close(r->disk, o->file);
	o->number = 0;
	if (walk_open(r->disk, number, &o->file))
		return NULL;
	o->number = number;
	return o->file;
}

/* ---- which segments there are ---- */

struct reader *reader_new(struct disk *segs, const struct ring *ring, uint64_t segment_size,
			  uint32_t shard)
{
	struct reader *r = mem_new(sizeof *r);

	r->disk = segs;
	r->ring = ring;
	r->segment_size = segment_size;
	r->shard = shard;
	window_init(&r->window, fetch_walk, r);
	return r;
}

void reader_free(struct reader *r)
{
	if (!r)
		return;
	close_walked(r);
	for (unsigned i = 0; i < READER_FILES; i++)
		if (r->files[i].number)
			r->disk->calls->close(r->disk, r->files[i].file);
	window_fini(&r->window);
	mem_free(r->look_raw);
	mem_free(r->v);
	mem_free(r);
}

static void take_segments(struct reader *r, struct manifest_entry **v, uint32_t n)
{
	mem_free(r->v);
	r->v = *v;
	r->n = n;
	*v = NULL;
}

static int why_not(struct buf *why, const char *what)
{
	buf_clear(why);
	if (!buf_add(why, span_str(what)))
		buf_clear(why);
	return -EINVAL;
}

/* A stopped journal: its end is where recovery finds it. */
static int load_stopped(struct reader *r, struct buf *why)
{
	struct journal_end end;
	enum recovered found = journal_recover(r->disk, &end);
	int e = 0;

	if (found == RECOVERED_FAILED) {
		why_not(why, "");
		if (!buf_add(why, buf_span(&end.why)))
			buf_clear(why);
		e = -EIO;
	} else if (found != RECOVERED_EMPTY && end.segment_size != r->segment_size) {
		e = why_not(why, "the journal has segments of another size");
	} else if (found != RECOVERED_EMPTY) {
		memcpy(r->uuid, end.uuid, sizeof r->uuid);
		take_segments(r, &end.segments, end.segments_n);
	}
	journal_end_fini(&end);
	return e;
}

static int load_running(struct reader *r, struct buf *why)
{
	struct segments s;
	enum segments_found found;
	int e = 0;

	r->run = r->ring->head ? r->ring->head->first : 0;
	found = segments_load(r->disk, &s, why);
	if (found == SEGMENTS_NONE)
		e = why_not(why, "there is no journal");
	else if (found == SEGMENTS_FAILED)
		e = -EIO;
	else if (s.head.segment_size != r->segment_size)
		e = why_not(why, "the journal has segments of another size");
	if (!e) {
		memcpy(r->uuid, s.head.uuid, sizeof r->uuid);
		take_segments(r, &s.v, s.n);
	}
	segments_fini(&s);
	return e;
}

/* ---- moving between segments ---- */

static uint64_t segment_start(const struct reader *r)
{
	return r->number * r->segment_size;
}

static void enter(struct reader *r, uint64_t number)
{
	close_walked(r);
	window_drop(&r->window);
	r->number = number;
	r->incarnation = incarnation_of(r->uuid, number);
	r->pos = segment_start(r) + BLOCK_SIZE;
}

/* By way of its head, which says how the sequence goes on.  false: the head is bad. */
static bool enter_by_head(struct reader *r, uint64_t number)
{
	struct segment_head h;
	uint64_t from;

	enter(r, number);
	from = segment_start(r);
	r->linked = segment_head_get(window_at(&r->window, from, BLOCK_SIZE, from + BLOCK_SIZE),
				     number, &h) == HEAD_OK;
	if (!r->linked)
		return false;
	r->seq = h.first_seq - 1;
	r->chain = h.chain;
	return true;
}

static const struct manifest_entry *entry_of(const struct reader *r, uint64_t number)
{
	for (uint32_t i = r->n; i-- > 0;)
		if (r->v[i].number == number)
			return &r->v[i];
	return NULL;
}

/* The next segment of the queue behind this one, or NULL. */
static const struct manifest_entry *entry_after(const struct reader *r, uint64_t number)
{
	for (uint32_t i = 0; i < r->n; i++)
		if (r->v[i].number > number && r->v[i].state == SEGMENT_QUEUE)
			return &r->v[i];
	return NULL;
}

int reader_open(struct reader *r, struct buf *why)
{
	int e = r->ring ? load_running(r, why) : load_stopped(r, why);
	const struct manifest_entry *first;

	if (e)
		return e;
	first = entry_after(r, 0);
	r->number = 0;
	r->payload = NULL;
	/* A bad head is said by the first reader_next(), as damage at its position. */
	if (first && !enter_by_head(r, first->number))
		r->pos = segment_start(r);
	return 0;
}

/* How far this segment may be read now; *ret_more: and it may still grow. */
static uint64_t limit_now(const struct reader *r, bool *ret_more)
{
	const struct manifest_entry *e = entry_of(r, r->number);
	uint64_t durable = r->ring && r->ring->head ? ring_durable(r->ring) : 0;

	*ret_more = false;
	if (e && e->end)
		return e->end;
	if (durable / r->segment_size == r->number) {
		*ret_more = true;
		return durable;
	}
	/* Behind us, and its seal will be met before its end; or in front of us: a stale ring.
	 */
	*ret_more = durable < segment_start(r);
	return *ret_more ? r->pos : segment_start(r) + r->segment_size;
}

/* ---- batches ---- */

/* Moves the payloads of the good blocks together, in place. */
static void open_batch(struct reader *r, char *p, const struct batch_head *b, uint32_t good)
{
	for (uint32_t i = 1; i < good; i++)
		memmove(p + (size_t)i * BLOCK_DATA, p + (size_t)i * BLOCK_SIZE, BLOCK_DATA);
	r->payload = p;
	r->batch_pos = r->pos;
	r->batch_end = r->pos + (uint64_t)b->blocks * BLOCK_SIZE;
	r->at = sizeof *b;
	r->all = sizeof *b + (uint64_t)b->payload_n;
	r->good = (uint64_t)good * BLOCK_DATA < r->all ? (uint64_t)good * BLOCK_DATA : r->all;
	if (r->good < r->at) /* not even its first block is in its place */
		r->good = r->at;
	r->damaged = good < b->blocks;
}

/* false: no batch that follows on the last one begins here. */
static bool take_batch(struct reader *r, uint64_t limit)
{
	struct batch_head b;
	uint32_t good;
	char *p = window_at(&r->window, r->pos, BLOCK_SIZE, limit);

	if (!batch_begins(p, r->incarnation, &b) ||
	    (uint64_t)b.blocks * BLOCK_SIZE > limit - r->pos)
		return false;
	if (r->linked &&
	    (b.seq != r->seq + 1 || b.chain != hash64_chain(r->chain, b.payload_hash, b.seq)))
		return false;
	p = window_at(&r->window, r->pos, (size_t)b.blocks * BLOCK_SIZE, limit);
	good = batch_good_blocks(p, &b, r->incarnation);
	open_batch(r, p, &b, good);
	r->seq = b.seq;
	r->chain = b.chain;
	r->linked = true;
	return true;
}

/* To the next batch that begins whole, or to the limit.  It may be right here, where it does
 * not follow on the last one. */
static void skip_damage(struct reader *r, uint64_t limit)
{
	struct batch_head b;

	for (; r->pos < limit; r->pos += BLOCK_SIZE)
		if (batch_begins(window_at(&r->window, r->pos, BLOCK_SIZE, limit),
				 r->incarnation, &b) &&
		    b.seq > r->seq && (uint64_t)b.blocks * BLOCK_SIZE <= limit - r->pos)
			break;
	r->linked = false;
}

static enum read_result damage_at(struct record *ret, uint64_t pos)
{
	*ret = (struct record){.pos = pos};
	return READ_DAMAGE;
}

/* journald was started anew: only the new heads say where the old run ended. */
static bool is_stale(const struct reader *r)
{
	return r->ring && r->ring->head && r->ring->head->first != r->run;
}

static bool reload(struct reader *r)
{
	struct buf why;
	int e;

	buf_init(&why, WHY_MAX);
	e = load_running(r, &why);
	buf_free(&why);
	return e == 0;
}

/* From the end of a segment without a seal to the one behind it. */
static enum read_result next_segment(struct reader *r, struct record *ret)
{
	const struct manifest_entry *e = entry_after(r, r->number);

	if (!e)
		return READ_END;
	return enter_by_head(r, e->number) ? READ_OK : damage_at(ret, segment_start(r));
}

/* The durable position is in a later segment, but this one's seal was not met: it is damaged.
 */
static enum read_result past_lost_seal(struct reader *r, struct record *ret)
{
	if (!reload(r) || !entry_after(r, r->number))
		return READ_ERROR;
	return next_segment(r, ret);
}

/* READ_OK: a batch is open, or another segment was entered. */
static enum read_result next_batch(struct reader *r, struct record *ret)
{
	bool more;
	uint64_t limit, from = r->pos;

	if (is_stale(r)) {
		if (!reload(r)) {
			r->run = 0;
			return READ_ERROR;
		}
		if (!entry_of(r, r->number)) /* named by a seal, but never used */
			return next_segment(r, ret);
	}
	if (!r->number)
		return next_segment(r, ret);
	if (r->pos == segment_start(r)) { /* its head was bad when the reader was opened */
		r->pos += BLOCK_SIZE;
		return damage_at(ret, from);
	}
	limit = limit_now(r, &more);
	if (r->pos >= limit && more)
		return READ_END;
	if (r->pos >= limit && r->ring && !entry_after(r, r->number))
		return past_lost_seal(r, ret);
	if (r->pos >= limit)
		return next_segment(r, ret);
	if (take_batch(r, limit))
		return READ_OK;
	skip_damage(r, limit);
	return damage_at(ret, from);
}

/* ---- records ---- */

static uint64_t record_pos(const struct reader *r, uint64_t at)
{
	return r->batch_pos + payload_to_bytes(at);
}

static void close_batch(struct reader *r)
{
	r->payload = NULL;
	r->pos = r->batch_end;
}

static void follow_seal(struct reader *r, const struct record *rec)
{
	const struct manifest_entry *e = entry_of(r, r->number);
	struct rec_seal s;

	/* A segment whose end is known is left by the list: the one that the seal names may
	 * have been given up before it was used. */
	if (e && e->end)
		return;
	memcpy(&s, rec->body.p, sizeof s);
	close_batch(r);
	enter(r, s.next_number);
}

static bool is_known(const struct rec_head *h)
{
	return h->type > 0 && h->type < REC_TYPES && h->version == REC_LAYOUT;
}

/* The next record of the open batch; READ_END closes it.  Where blocks are whole, a record
 * that is wrong in itself does not hide those behind it. */
static enum read_result next_record(struct reader *r, enum read_bodies bodies,
				    struct record *ret)
{
	while (r->good - r->at >= sizeof ret->head) {
		uint64_t size;

		memcpy(&ret->head, r->payload + r->at, sizeof ret->head);
		size = rec_size(ret->head.n);
		if (size > r->good - r->at)
			break;
		ret->pos = record_pos(r, r->at);
		ret->body = span_of(r->payload + r->at + sizeof ret->head, ret->head.n);
		r->at += size;
		if (ret->head.type == REC_BODY && !bodies)
			continue;
		if (!rec_ok(&ret->head, ret->body))
			return damage_at(ret, ret->pos);
		if (is_known(&ret->head))
			return READ_OK;
	}
	if (r->at == r->all && !r->damaged) {
		close_batch(r);
		return READ_END;
	}
	*ret = (struct record){.pos = record_pos(r, r->at)};
	close_batch(r);
	return READ_DAMAGE;
}

enum read_result reader_next(struct reader *r, enum read_bodies bodies, struct record *ret)
{
	enum read_result got;

	for (;;) {
		if (!r->payload) {
			got = next_batch(r, ret);
			if (got != READ_OK)
				return got;
			if (!r->payload)
				continue;
		}
		got = next_record(r, bodies, ret);
		if (got == READ_OK && ret->head.type == REC_SEAL)
			follow_seal(r, ret);
		if (got != READ_END)
			return got;
	}
}

uint64_t reader_pos(const struct reader *r)
{
	return r->payload ? record_pos(r, r->at) : r->pos;
}

/* ---- one record ---- */

struct look {
	struct reader *r;
	uint64_t first; /* position of the first block that was read */
	uint64_t limit; /* of what may be read of this segment */
	size_t have, n; /* bytes read, and checked */
	uint64_t incarnation, seq;
	uint16_t index;
};

/* One part's size at most is kept; nearly all look-ups need the first pages only. */
static void look_grow(struct reader *r, size_t have, size_t n)
{
	char *raw, *look;

	if (n <= r->look_cap)
		return;
	raw = mem_new(n + DISK_ALIGN);
	look = raw + (DISK_ALIGN - (uintptr_t)raw % DISK_ALIGN) % DISK_ALIGN;
	if (have)
		memcpy(look, r->look, have);
	mem_free(r->look_raw);
	r->look_raw = raw;
	r->look = look;
	r->look_cap = n;
}

static int look_fetch(struct look *l, size_t n)
{
	struct reader *r = l->r;
	uint64_t number = l->first / r->segment_size;
	struct disk_file *f;
	int e;

	look_grow(r, l->have, n);
	if (!from_ring(r, r->look + l->have, n - l->have, l->first + l->have)) {
		f = file_for(r, number);
		if (!f)
			return -ENOENT;
		e = walk_read(r->disk, f, r->look + l->have, n - l->have,
			      l->first + l->have - number * r->segment_size);
		if (e)
			return e;
	}
	l->have = n;
	return 0;
}

/* Blocks must be whole and follow on each other in one batch. */
static enum read_result look_check(struct look *l, size_t n)
{
	struct block_tag t;

	for (; l->n < n; l->n += BLOCK_SIZE) {
		if (!block_ok(l->r->look + l->n, &t))
			return READ_DAMAGE;
		if (t.incarnation != l->incarnation || !t.seq)
			return READ_GONE;
		if (l->n && (t.seq != l->seq || t.index != l->index + 1))
			return READ_DAMAGE;
		l->seq = t.seq;
		l->index = t.index;
	}
	return READ_OK;
}

static enum read_result look_more(struct look *l, size_t n)
{
	int e;

	if (n > LOOK_MAX || n > l->limit - l->first)
		return READ_GONE;
	e = n > l->have ? look_fetch(l, n) : 0;
	if (e)
		return e == -ENOENT ? READ_GONE : READ_ERROR;
	return look_check(l, n);
}

/* Most records need one read.  If it fails, the exact ones that follow say so. */
static void look_ahead(struct look *l)
{
	uint64_t n = l->limit - l->first;

	if (look_fetch(l, n < LOOK_FIRST ? n : LOOK_FIRST))
		l->have = 0;
}

static uint64_t look_limit(const struct reader *r, uint64_t number)
{
	const struct manifest_entry *e = entry_of(r, number);
	uint64_t durable = r->ring && r->ring->head ? ring_durable(r->ring) : 0;

	if (e && e->end)
		return e->end;
	if (durable / r->segment_size == number)
		return durable;
	return r->ring ? (number + 1) * r->segment_size : 0;
}

/* Moves the payloads of n bytes of blocks together. */
static void squeeze(char *p, size_t n)
{
	for (size_t i = 1; i < n / BLOCK_SIZE; i++)
		memmove(p + i * BLOCK_DATA, p + i * BLOCK_SIZE, BLOCK_DATA);
}

enum read_result reader_at(struct reader *r, uint64_t pos, enum rec_type type, uint64_t id,
			   uint32_t number, struct record *ret)
{
	uint64_t segment = pos / r->segment_size;
	uint64_t in_block = pos % BLOCK_SIZE;
	struct look l = {.r = r,
			 .first = pos - in_block,
			 .incarnation = incarnation_of(r->uuid, segment)};
	enum read_result got;
	size_t need;

	*ret = (struct record){.pos = pos};
	l.limit = look_limit(r, segment);
	if (pos % 8 || in_block >= BLOCK_DATA || !segment || pos >= l.limit ||
	    pos % r->segment_size < BLOCK_SIZE)
		return READ_GONE;
	look_ahead(&l);
	got = look_more(&l, blocks_for(in_block + sizeof ret->head) * BLOCK_SIZE);
	if (got != READ_OK)
		return got;
	payload_get(r->look, in_block, &ret->head, sizeof ret->head);
	if (ret->head.type != type || ret->head.id != id || ret->head.number != number ||
	    ret->head.n > REC_MAX)
		return READ_GONE;
	need = blocks_for(in_block + sizeof ret->head + ret->head.n) * BLOCK_SIZE;
	got = look_more(&l, need);
	if (got != READ_OK)
		return got;
	squeeze(r->look, need);
	ret->body = span_of(r->look + in_block + sizeof ret->head, ret->head.n);
	return rec_ok(&ret->head, ret->body) ? READ_OK : READ_DAMAGE;
}
