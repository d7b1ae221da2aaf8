/* reader - walking the journal.  reader_look.c has the look-ups.
 *
 * Walking takes a batch at a time: its blocks are checked, their payloads moved together, its
 * records handed out (journal/extent.h).  Where blocks are bad, the records that touch them are
 * lost; each such gap is said once, as READ_DAMAGE, and the walk goes on behind it: with the
 * next record that a good block's tag names, or the next batch that begins whole.
 *
 * Order: cold segments first, then the hot ones, each by number; the newest is last, and from
 * there seals lead on.
 *
 * Where segments end: a sealed one behind its seal, all others at the end that the newest
 * head names.  In the segment that is being written, the durable position is the limit.
 *
 * What a segment can't give back because of the disk is damage; an error that says nothing
 * about the bytes (no descriptor, no memory) is READ_ERROR, and the same is read again. */
#include "journal/reader_in.h"

#include "core/pool.h"
#include "journal/recover.h"
#include "journal/segments.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>

#define WHY_MAX   512
#define HOLDS_MAX 8 /* at a set of segments, while a running journald changes it */

/* ---- where the bytes come from ---- */

bool reader_from_ring(const struct reader *r, char *dst, size_t n, uint64_t pos)
{
	if (!r->ring || !r->ring->head || pos / r->segment_size >= COLD_FIRST ||
	    !ring_holds(r->ring, pos) || n > r->ring->size)
		return false;
	memcpy(dst, ring_at(r->ring, pos), n);
	return ring_holds(r->ring, pos); /* still there: so was every byte that was copied */
}

struct disk_file *reader_held(const struct reader *r, uint64_t number)
{
	const struct manifest_entry *e = r->held ? reader_entry(r, number) : NULL;

	return e ? r->held[e - r->v] : NULL;
}

static int open_walked(struct reader *r)
{
	int e;

	if (r->file)
		return 0;
	if (r->lost)
		return -ENOENT;
	r->file = reader_held(r, r->number);
	r->file_held = r->file != NULL;
	if (r->file)
		return 0;
	e = walk_open(r->disk, r->number, &r->file);
	r->lost = e && walk_is_damage(e);
	return e;
}

static int fetch_walk(void *ctx, char *dst, size_t n, uint64_t pos)
{
	struct reader *r = ctx;
	int e;

	if (reader_from_ring(r, dst, n, pos))
		return 0;
	e = open_walked(r);
	if (!e)
		e = walk_read(r->disk, r->file, dst, n, pos - r->number * r->segment_size);
	if (e && !walk_is_damage(e))
		r->trouble = e;
	return e;
}

static void close_walked(struct reader *r)
{
	if (r->file && !r->file_held)
		r->disk->calls->close(r->disk, r->file);
	r->file = NULL;
	r->lost = false;
	index_fini(&r->index);
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

static void let_go(struct reader *r)
{
	close_walked(r);
	for (uint32_t i = 0; r->held && i < r->n; i++)
		if (r->held[i])
			r->disk->calls->close(r->disk, r->held[i]);
	mem_free(r->held);
	r->held = NULL;
}

void reader_free(struct reader *r)
{
	if (!r)
		return;
	let_go(r);
	reader_forget(r);
	window_fini(&r->window);
	mem_free(r->look_raw);
	mem_free(r->v);
	mem_free(r);
}

void reader_with_history(struct reader *r)
{
	r->history = true;
}

void reader_for_tool(struct reader *r, uint64_t durable)
{
	r->tool = true;
	r->durable = durable;
}

void reader_use_uuid(struct reader *r, const uint8_t uuid[16])
{
	memcpy(r->uuid, uuid, sizeof r->uuid);
	r->has_uuid = true;
}

const uint8_t *reader_uuid(const struct reader *r)
{
	return r->uuid;
}

const struct manifest_entry *reader_manifest(const struct reader *r, uint32_t *ret_n)
{
	*ret_n = r->n;
	return r->v;
}

static bool is_cold(uint64_t number)
{
	return number >= COLD_FIRST;
}

static bool walks_before(uint64_t a, uint64_t b)
{
	return is_cold(a) != is_cold(b) ? is_cold(a) : a < b;
}

static int by_walk(const void *a, const void *b)
{
	const struct manifest_entry *x = a, *y = b;

	return walks_before(y->number, x->number) - walks_before(x->number, y->number);
}

static void take_segments(struct reader *r, struct manifest_entry **v, uint32_t n)
{
	let_go(r);
	mem_free(r->v);
	r->v = *v;
	r->n = n;
	*v = NULL;
	if (n)
		qsort(r->v, n, sizeof *r->v, by_walk);
}

static int why_not(struct buf *why, struct span what)
{
	buf_clear(why);
	if (!buf_add(why, what))
		buf_clear(why);
	return -EINVAL;
}

static int other_size(struct buf *why)
{
	return why_not(why, SPAN("the journal has segments of another size"));
}

/* A stopped journal: its end is where recovery finds it. */
static int load_stopped(struct reader *r, struct buf *why)
{
	struct journal_end end;
	enum recovered found = journal_recover(r->disk, &end);
	int e = 0;

	if (found == RECOVERED_FAILED) {
		(void)why_not(why, buf_span(&end.why));
		e = -EIO;
	} else if (found != RECOVERED_EMPTY && end.segment_size != r->segment_size) {
		e = other_size(why);
	} else if (found != RECOVERED_EMPTY) {
		reader_use_uuid(r, end.uuid);
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

	r->run = r->ring && r->ring->head ? r->ring->head->first : 0;
	found = segments_load(r->disk, &s, why);
	if (found == SEGMENTS_NONE)
		e = why_not(why, SPAN("there is no journal"));
	else if (found == SEGMENTS_FAILED)
		e = -EIO;
	else if (s.head.segment_size != r->segment_size)
		e = other_size(why);
	if (!e) {
		reader_use_uuid(r, s.head.uuid);
		take_segments(r, &s.v, s.n);
	}
	segments_fini(&s);
	return e;
}

/* ---- a tool's view: all segments open and locked, so that none is used again ---- */

/* Each segment is a descriptor. */
static void raise_files(void)
{
	struct rlimit l;

	if (getrlimit(RLIMIT_NOFILE, &l) == 0 && l.rlim_cur < l.rlim_max) {
		l.rlim_cur = l.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &l); /* without it, open says so */
	}
}

/* 0, or -errno; what is lost is held by nobody, and not an error. */
static int hold(struct reader *r, uint32_t i)
{
	int e = walk_open(r->disk, r->v[i].number, &r->held[i]), fd;

	if (e)
		return walk_is_damage(e) ? 0 : e;
	fd = r->tool ? r->disk->calls->fd(r->held[i]) : -1;
	if (fd >= 0 && flock(fd, LOCK_SH | LOCK_NB) < 0)
		return -errno;
	return 0;
}

/* Nothing of a running journal is read behind what was durable when the tool asked. */
static void end_at_durable(struct reader *r)
{
	struct manifest_entry *e = &r->v[r->n - 1];
	uint64_t start = e->number * r->segment_size;

	if (e->end)
		return;
	e->end = r->durable / r->segment_size == e->number ? r->durable : start + BLOCK_SIZE;
}

/* Are the segments still the same, now that they are locked? */
static bool is_unchanged(struct reader *r, struct buf *why)
{
	struct reader *now = reader_new(r->disk, NULL, r->segment_size, r->shard);
	bool same;

	same = load_running(now, why) == 0 && now->n == r->n;
	for (uint32_t i = 0; same && i < r->n; i++)
		same = now->v[i].number == r->v[i].number;
	reader_free(now);
	return same;
}

static int load_for_tool(struct reader *r, struct buf *why)
{
	int e = 0;

	raise_files();
	for (int i = 0; i < HOLDS_MAX; i++) {
		e = r->durable ? load_running(r, why) : load_stopped(r, why);
		if (e || !r->n)
			return e;
		r->held = mem_new(r->n * sizeof(struct disk_file *));
		for (uint32_t k = 0; k < r->n && !e; k++)
			e = hold(r, k);
		if (e == -EMFILE || e == -ENFILE)
			return why_not(why, SPAN("too many segments for this limit of open files"));
		if (e && e != -EWOULDBLOCK)
			return why_not(why, SPAN("a segment can't be opened"));
		if (!e && (!r->durable || is_unchanged(r, why))) {
			if (r->durable)
				end_at_durable(r);
			return 0;
		}
		let_go(r);
	}
	return why_not(why, SPAN("the journal's segments change faster than they can be locked"));
}

/* ---- moving between segments ---- */

static uint64_t segment_start(const struct reader *r)
{
	return r->number * r->segment_size;
}

/* Its head is read by the next reader_next(). */
static void enter(struct reader *r, uint64_t number)
{
	close_walked(r);
	window_drop(&r->window);
	r->number = number;
	r->incarnation = incarnation_of(r->uuid, number);
	r->pos = segment_start(r);
}

/* The copy of a head that is bad. */
static bool copy_is_good(struct reader *r, struct segment_head *ret)
{
	reader_look_grow(r, 0, BLOCK_SIZE);
	return fetch_walk(r, r->look, BLOCK_SIZE,
			  segment_start(r) + segment_usable(r->segment_size)) == 0 &&
	       segment_copy_get(r->look, r->number, ret) == HEAD_OK &&
	       memcmp(ret->uuid, r->uuid, sizeof ret->uuid) == 0;
}

/* How the sequence goes on.  false: the head is bad; its copy may still say it.  The copy alone
 * is no damage where nothing was written behind it (journal/segments.h). */
static bool take_head(struct reader *r)
{
	struct segment_head h;
	uint64_t from = segment_start(r);
	bool good =
		segment_head_get(window_at(&r->window, from, BLOCK_SIZE, from + BLOCK_SIZE),
				 r->number, &h) == HEAD_OK &&
		memcmp(h.uuid, r->uuid, sizeof h.uuid) == 0;

	r->linked = good || copy_is_good(r, &h);
	r->seq = r->linked ? h.first_seq - 1 : 0;
	r->chain = r->linked ? h.chain : 0;
	return good || (r->linked && !walk_was_used(r->disk, r->number, r->incarnation));
}

const struct manifest_entry *reader_entry(const struct reader *r, uint64_t number)
{
	struct manifest_entry key = {.number = number};

	return r->n ? bsearch(&key, r->v, r->n, sizeof key, by_walk) : NULL;
}

/* The next segment to walk behind this one (0: the first one), or NULL. */
static const struct manifest_entry *entry_after(const struct reader *r, uint64_t number)
{
	for (uint32_t i = 0; i < r->n; i++)
		if ((!number || walks_before(number, r->v[i].number)) &&
		    (r->v[i].state == SEGMENT_QUEUE || r->history))
			return &r->v[i];
	return NULL;
}

int reader_open(struct reader *r, struct buf *why)
{
	const struct manifest_entry *first;
	int e = r->tool	  ? load_for_tool(r, why)
		: r->ring ? load_running(r, why)
			  : load_stopped(r, why);

	if (e)
		return e;
	first = entry_after(r, 0);
	r->number = 0;
	r->x.payload = NULL;
	if (first)
		enter(r, first->number);
	return 0;
}

void reader_take_one(struct reader *r, uint64_t number, uint64_t end)
{
	struct manifest_entry *v = mem_new(sizeof *v);

	*v = (struct manifest_entry){.number = number,
				     .end = end,
				     .state = SEGMENT_QUEUE,
				     .incarnation = incarnation_of(r->uuid, number)};
	take_segments(r, &v, 1);
	r->x.payload = NULL;
	enter(r, number);
}

/* Behind the last block that is the segment's. */
static uint64_t end_of_blocks(struct reader *r)
{
	uint64_t start = segment_start(r), limit = start + segment_usable(r->segment_size);
	uint64_t end = start + BLOCK_SIZE;
	struct block_tag t;

	for (uint64_t pos = end; pos < limit; pos += BLOCK_SIZE)
		if (block_kind(window_at(&r->window, pos, BLOCK_SIZE, limit), r->incarnation,
			       &t) == BLOCK_OURS)
			end = pos + BLOCK_SIZE;
	window_drop(&r->window);
	return end;
}

/* The segment's file, or what is left of it in quarantine: held, and locked for a tool. */
static int hold_one(struct reader *r)
{
	int e;

	r->held = mem_new(sizeof(struct disk_file *));
	e = hold(r, 0);
	if (!e && !r->held[0])
		e = walk_open_as(r->disk, FILE_BAD, r->number, &r->held[0]);
	return e;
}

static bool uuid_of_one(struct reader *r)
{
	uint64_t start = segment_start(r);
	struct segment_head h;

	reader_look_grow(r, 0, BLOCK_SIZE);
	if ((fetch_walk(r, r->look, BLOCK_SIZE, start) ||
	     segment_head_get(r->look, r->number, &h) != HEAD_OK) &&
	    (fetch_walk(r, r->look, BLOCK_SIZE, start + segment_usable(r->segment_size)) ||
	     segment_copy_get(r->look, r->number, &h) != HEAD_OK))
		return false;
	reader_use_uuid(r, h.uuid);
	r->incarnation = r->v[0].incarnation = incarnation_of(h.uuid, r->number);
	return true;
}

int reader_only(struct reader *r, uint64_t number, uint64_t to, struct buf *why)
{
	reader_take_one(r, number, 0);
	if (hold_one(r))
		return why_not(why, SPAN("there is no such segment, or it can't be opened"));
	if (!r->has_uuid && !uuid_of_one(r))
		return why_not(why, SPAN("the segment's head is not readable"));
	r->v[0].end = to ? to : end_of_blocks(r);
	return 0;
}

uint64_t reader_durable(const struct reader *r)
{
	return r->ring && r->ring->head ? ring_durable(r->ring) : 0;
}

/* How far this segment may be read now; *ret_more: and it may still grow. */
static uint64_t limit_now(const struct reader *r, bool *ret_more)
{
	const struct manifest_entry *e = reader_entry(r, r->number);
	uint64_t durable = reader_durable(r);

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
	return *ret_more ? r->pos : segment_start(r) + segment_usable(r->segment_size);
}

/* ---- batches ---- */

static uint64_t blocks_left(const struct reader *r, uint64_t limit)
{
	return (limit - r->pos) / BLOCK_SIZE;
}

static void open_batch(struct reader *r, char *p, const struct extent_of *of)
{
	extent_open(&r->x, p, of);
	r->batch = (struct read_batch){
		.pos = r->pos,
		.end = r->pos + (uint64_t)of->blocks * BLOCK_SIZE,
		.seq = of->seq,
		.time_us = of->head ? of->head->time_us : 0,
		.flags = of->head ? of->head->flags : 0,
	};
	r->batch_known = of->head != NULL;
	r->seq = of->seq;
	r->chain = of->head ? of->head->chain : 0;
	r->linked = of->head != NULL;
}

/* false: no batch that follows on the last one begins here. */
static bool take_batch(struct reader *r, uint64_t limit)
{
	struct batch_head b;
	char *p = window_at(&r->window, r->pos, BLOCK_SIZE, limit);

	if (!batch_begins(p, r->incarnation, &b) || b.blocks > blocks_left(r, limit))
		return false;
	if (r->linked ? b.seq != r->seq + 1 ||
				b.chain != hash64_chain(r->chain, b.payload_hash, b.seq)
		      : b.seq <= r->seq)
		return false;
	p = window_at(&r->window, r->pos, (size_t)b.blocks * BLOCK_SIZE, limit);
	open_batch(r, p,
		   &(struct extent_of){.incarnation = r->incarnation,
				       .seq = b.seq,
				       .blocks = b.blocks,
				       .head = &b});
	return true;
}

/* A later block of a batch that has not been read: its first block is lost. */
static bool is_piece(const struct reader *r, const char *block, struct block_tag *ret)
{
	return block_ok(block, ret) && ret->incarnation == r->incarnation && ret->index > 0 &&
	       ret->index < BATCH_BLOCKS_MAX && ret->seq > r->seq &&
	       !(ret->flags & (BLOCK_FIRST | BLOCK_HEAD));
}

static bool take_piece(struct reader *r, uint64_t limit)
{
	uint64_t n = blocks_left(r, limit);
	struct block_tag t;
	uint32_t have;
	char *p = window_at(&r->window, r->pos, BLOCK_SIZE, limit);

	if (r->linked || !is_piece(r, p, &t))
		return false;
	if (n > BATCH_BLOCKS_MAX - (uint64_t)t.index)
		n = BATCH_BLOCKS_MAX - (uint64_t)t.index;
	p = window_at(&r->window, r->pos, n * BLOCK_SIZE, limit);
	have = extent_rest(p, (uint32_t)n, r->incarnation, &t);
	open_batch(r, p,
		   &(struct extent_of){.incarnation = r->incarnation,
				       .seq = t.seq,
				       .blocks = have,
				       .index = t.index});
	return true;
}

static bool is_displaced(struct reader *r, uint64_t seq, uint32_t index, uint64_t limit)
{
	uint64_t behind = r->pos + BLOCK_SIZE;

	return behind < limit &&
	       block_is_displaced(window_at(&r->window, behind, BLOCK_SIZE, limit),
				  r->incarnation, seq, index);
}

/* A batch that has not been read, or what is left of one: the walk may go on here. */
static bool can_go_on(struct reader *r, uint64_t limit)
{
	const char *p = window_at(&r->window, r->pos, BLOCK_SIZE, limit);
	struct batch_head b;
	struct block_tag t;

	if (is_piece(r, p, &t))
		return !is_displaced(r, t.seq, t.index, limit);
	return batch_begins(p, r->incarnation, &b) && b.seq > r->seq &&
	       b.blocks <= blocks_left(r, limit) && !is_displaced(r, b.seq, 0, limit);
}

/* To the next place where the walk can go on, or to the limit.  It may be right here, where a
 * batch does not follow on the last one. */
static void skip_damage(struct reader *r, uint64_t limit)
{
	while (r->pos < limit && !can_go_on(r, limit))
		r->pos += BLOCK_SIZE;
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
static enum read_result next_segment(struct reader *r)
{
	const struct manifest_entry *e = entry_after(r, r->number);

	if (!e)
		return READ_END;
	enter(r, e->number);
	return READ_OK;
}

/* The durable position is in a later segment, but this one's seal was not met: it is damaged.
 */
static enum read_result past_lost_seal(struct reader *r)
{
	if (!reload(r) || !entry_after(r, r->number))
		return READ_ERROR;
	return next_segment(r);
}

static enum read_result head_first(struct reader *r, uint64_t limit, struct record *ret)
{
	uint64_t from = r->pos;

	if (take_head(r)) {
		r->pos += BLOCK_SIZE;
		(void)reader_index_begin(r);
		return READ_OK;
	}
	r->pos = r->lost && limit > from ? limit : from + BLOCK_SIZE;
	return damage_at(ret, from);
}

static enum read_result batch_or_damage(struct reader *r, uint64_t limit, struct record *ret)
{
	uint64_t from = r->pos;

	if (take_batch(r, limit) || take_piece(r, limit))
		return READ_OK;
	skip_damage(r, limit);
	return damage_at(ret, from);
}

/* READ_OK: a batch is open, or another segment was entered. */
static enum read_result next_batch(struct reader *r, struct record *ret)
{
	enum read_result got;
	bool more;
	uint64_t limit, from;

	if (is_stale(r)) {
		if (!reload(r)) {
			r->run = 0;
			return READ_ERROR;
		}
		if (!reader_entry(r, r->number)) /* named by a seal, but never used */
			return next_segment(r);
	}
	if (!r->number)
		return next_segment(r);
	limit = limit_now(r, &more);
	from = r->pos;
	if (from > segment_start(r) && from >= limit) {
		if (more)
			return READ_END;
		return r->ring && !entry_after(r, r->number) ? past_lost_seal(r)
							     : next_segment(r);
	}
	r->trouble = 0;
	got = from == segment_start(r) ? head_first(r, limit, ret)
				       : batch_or_damage(r, limit, ret);
	if (!r->trouble)
		return got;
	r->x.payload = NULL;
	r->pos = from;
	window_drop(&r->window);
	return READ_ERROR;
}

/* ---- records ---- */

static uint64_t record_pos(const struct reader *r, uint64_t at)
{
	return r->batch.pos + payload_to_bytes(at);
}

static void close_batch(struct reader *r)
{
	r->x.payload = NULL;
	r->pos = r->batch.end;
}

static void follow_seal(struct reader *r, const struct record *rec)
{
	const struct manifest_entry *e = reader_entry(r, r->number);
	struct rec_seal s;

	/* A segment whose end is known is left by the list: the one that the seal names may
	 * have been given up before it was used. */
	if (e && e->end)
		return;
	memcpy(&s, rec->body.p, sizeof s);
	close_batch(r);
	enter(r, s.next_number);
	r->pos += BLOCK_SIZE; /* the sequence goes on: no need to read the head */
}

static bool is_known(const struct rec_head *h)
{
	return h->type > 0 && h->type < REC_TYPES && h->version == REC_LAYOUT;
}

/* Only the head of what is in a BODY, unchecked. */
static bool body_head(struct record *rec)
{
	if (rec->body.n < sizeof(struct rec_body))
		return false;
	rec->body = span_until(rec->body, sizeof(struct rec_body));
	return true;
}

/* The next record of the open batch; READ_END closes it.  Where blocks are whole, a record
 * that is wrong in itself does not hide those behind it. */
static enum read_result next_record(struct reader *r, enum read_bodies bodies,
				    struct record *ret)
{
	for (;;) {
		uint64_t at;
		enum extent_next got = extent_next(&r->x, &at, &ret->head, &ret->body);

		if (got == EXTENT_END) {
			close_batch(r);
			return READ_END;
		}
		ret->pos = record_pos(r, at);
		if (got == EXTENT_GAP)
			return damage_at(ret, ret->pos);
		if (ret->head.type == REC_BODY && bodies == BODIES_PASS)
			continue;
		if (ret->head.type == REC_BODY && bodies == BODIES_HEADS && body_head(ret))
			return READ_OK;
		if (!rec_ok(&ret->head, ret->body))
			return damage_at(ret, ret->pos);
		if (is_known(&ret->head))
			return READ_OK;
	}
}

enum read_result reader_next(struct reader *r, enum read_bodies bodies, struct record *ret)
{
	enum read_result got;

	r->bodies = bodies;
	for (;;) {
		if (r->index.p && reader_index_next(r, bodies, ret))
			return READ_OK;
		if (!r->x.payload) {
			got = next_batch(r, ret);
			if (got != READ_OK)
				return got;
			if (!r->x.payload)
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
	if (r->index.p)
		return reader_index_pos(r);
	return r->x.payload ? record_pos(r, r->x.at) : r->pos;
}

bool reader_batch(const struct reader *r, struct read_batch *ret)
{
	*ret = r->batch;
	return r->batch_known;
}
