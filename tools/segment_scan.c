/* segment_scan - see the header.
 *
 * What lies between two runs is lost.  Whether that matters is judged as recovery does (docs/journal.md,
 * Recovery): a later block of this file whose watermark reaches that far, or the segment's known end
 * behind it, says that it was promised.  Without either it is the last batch: torn if one of its
 * blocks was never written (old, or with a sector of zeros), else it may have been promised. */
#include "tools/segment_scan.h"

#include "core/pool.h"
#include "journal/walk.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define SECTOR      512
#define PENDING_MAX 64                            /* in one batch; then the last one grows */

struct run {
	char    *payload;                         /* BATCH_BLOCKS_MAX * BLOCK_DATA */
	uint64_t off, seq;                        /* of its first block */
	uint32_t n, first_index, next_index;
	int64_t  first_record;                    /* payload offset where one begins; -1: not known yet */
	bool     open, ended;                     /* ended: its last block is the batch's last */
};
struct scan {
	struct segment_scan *s;
	char     *raw, *buf;
	uint64_t  buf_off, buf_n;
	struct run run;
	uint64_t  good_end;                       /* behind the last record that was whole */
	uint64_t  last_seq;                       /* of the newest batch that was met; 0: none yet */
	uint64_t  batch_end;                      /* where that one must end, its head says; 0: not known */
	bool      whole;                          /* its last block was met */
	bool      lost;                           /* what lies behind good_end was a batch's */
	/* gaps of the last batches, for which nothing vouches yet; one of its blocks was never written */
	struct pending { uint64_t from, to, seq; } pending[PENDING_MAX];
	unsigned  pending_n;
	bool      torn;
};

/* ---- reading */

static size_t read_at(int fd, char *dst, size_t n, uint64_t off)
{
	size_t done = 0;

	while (done < n) {
		ssize_t got = pread(fd, dst + done, n - done, (off_t)(off + done));

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			break;
		done += (size_t)got;
	}
	return done;
}

/* What lies behind the file's end is a bad block, like what can't be read: no checksum fits it. */
static void fill(struct scan *x, uint64_t off, uint64_t limit)
{
	uint64_t n = limit - off < WALK_CHUNK ? limit - off : WALK_CHUNK;
	size_t   got = read_at(x->s->fd, x->buf, n, off);

	got -= got % BLOCK_SIZE;
	for (size_t at = got; at < n; at += BLOCK_SIZE)
		if (read_at(x->s->fd, x->buf + at, BLOCK_SIZE, off + at) != BLOCK_SIZE)
			memset(x->buf + at, 0xdb, BLOCK_SIZE);
	x->buf_off = off;
	x->buf_n = n;
	if (x->s->calls->moved)
		x->s->calls->moved(x->s->ctx, n);
}

static char *block_at(struct scan *x, uint64_t off, uint64_t limit)
{
	if (off < x->buf_off || off >= x->buf_off + x->buf_n)
		fill(x, off, limit);
	return x->buf + (off - x->buf_off);
}

/* ---- what is lost */

static void say_gap(struct scan *x, uint64_t from, uint64_t to, enum scan_lost what)
{
	struct scan_gap g = {from, to, what};

	if (from < to)
		x->s->calls->gap(x->s->ctx, &g);
}

static void add_pending(struct scan *x, uint64_t from, uint64_t to, uint64_t seq)
{
	if (x->pending_n == PENDING_MAX)
		from = x->pending[--x->pending_n].from;
	x->pending[x->pending_n++] = (struct pending){from, to, seq};
}

/* Batches up to this one were durable. */
static void prove(struct scan *x, uint64_t watermark)
{
	unsigned kept = 0;

	for (unsigned i = 0; i < x->pending_n; i++) {
		if (x->pending[i].seq <= watermark)
			say_gap(x, x->pending[i].from, x->pending[i].to, LOST_PROMISED);
		else
			x->pending[kept++] = x->pending[i];
	}
	x->pending_n = kept;
	if (kept == 0)
		x->torn = false;
}

/* ---- a run's records */

static uint64_t run_record(struct scan *x, uint64_t at, uint64_t all)
{
	struct run   *r = &x->run;
	struct record rec;
	uint64_t      off = r->off + payload_to_bytes(at);

	memcpy(&rec.head, r->payload + at, sizeof(rec.head));
	if (rec.head.type == 0 && rec.head.n == 0 && rec.head.check == 0)
		return 0;                         /* the zeros behind the last record */
	if (rec.head.n > REC_MAX || rec.head.n > all - at - sizeof(rec.head))
		return 0;
	rec.pos = x->s->number * x->s->segment_size + off;
	rec.body = span_of(r->payload + at + sizeof(rec.head), rec.head.n);
	if (rec_ok(&rec.head, rec.body))
		x->s->calls->record(x->s->ctx, &rec);
	else
		say_gap(x, off, r->off + payload_to_bytes(at + rec_size(rec.head.n)), LOST_RECORD);
	return rec_size(rec.head.n);
}

static void close_run(struct scan *x)
{
	struct run       *r = &x->run;
	struct batch_head b;
	uint64_t          at, all = (uint64_t)r->n * BLOCK_DATA, n;

	if (!r->open)
		return;
	r->open = false;
	at = r->first_record < 0 ? all : (uint64_t)r->first_record;
	if (r->first_index == 0) {
		memcpy(&b, r->payload, sizeof(b));
		at = sizeof(b);
		if (batch_head_ok(&b) && sizeof(b) + (uint64_t)b.payload_n < all)
			all = sizeof(b) + (uint64_t)b.payload_n;
	}
	while (at + sizeof(struct rec_head) <= all && (n = run_record(x, at, all)) > 0)
		at += n;
	if (r->ended) {
		x->good_end = r->off + (uint64_t)r->n * BLOCK_SIZE;
	} else {
		x->lost = true;
		x->good_end = r->off + payload_to_bytes(at < all ? at : all);
	}
}

/* ---- blocks */

static void begin_run(struct scan *x, const char *block, const struct block_tag *t, uint64_t off)
{
	struct run       *r = &x->run;
	struct batch_head b;

	if (t->seq != x->last_seq)
		x->batch_end = 0;
	*r = (struct run){.payload = r->payload, .off = off, .seq = t->seq, .first_index = t->index,
			  .next_index = t->index, .first_record = -1, .open = true};
	if (t->index > 0)
		return;
	memcpy(&b, block, sizeof(b));
	x->batch_end = batch_head_ok(&b) ? off + (uint64_t)b.blocks * BLOCK_SIZE : 0;
}

static void add_block(struct scan *x, const char *block, const struct block_tag *t)
{
	struct run *r = &x->run;
	uint32_t    first = t->flags >> BLOCK_FIRST_SHIFT;

	if (r->first_record < 0 && first > 0)
		r->first_record = (int64_t)r->n * BLOCK_DATA + (first - 1) * 8;
	memcpy(r->payload + (size_t)r->n * BLOCK_DATA, block, BLOCK_DATA);
	r->n++;
	r->next_index = t->index + 1u;
	r->ended = t->flags & BLOCK_LAST;
	x->s->blocks += !(t->flags & BLOCK_EARLY);
}

/* What is missing in front of this run, and what its tag proves. */
static void judge(struct scan *x, const struct block_tag *t, uint64_t off)
{
	/* the batch that lacks something: the one that was cut, or the one behind it */
	uint64_t seq = x->last_seq ? x->last_seq + x->whole : t->index > 0 ? t->seq : t->seq - 1;

	if (x->lost || t->index > 0 || (x->last_seq && t->seq > seq))
		add_pending(x, x->good_end, off, seq);
	x->lost = false;
	x->good_end = off;
	prove(x, off < x->s->end ? UINT64_MAX : t->seq - t->watermark_lag);
}

/* A block of a batch, whole and ours. */
static void on_ours(struct scan *x, const char *block, const struct block_tag *t, uint64_t off)
{
	struct run *r = &x->run;

	if (!r->open || t->seq != r->seq || t->index != r->next_index || r->n == BATCH_BLOCKS_MAX) {
		close_run(x);
		judge(x, t, off);
		begin_run(x, block, t, off);
	}
	add_block(x, block, t);
	x->last_seq = t->seq;
	x->whole = r->ended;
	if (r->ended)
		close_run(x);
}

static bool has_zero_sector(const char *block)
{
	static const char zeros[SECTOR];

	return memcmp(block, zeros, SECTOR) == 0 || memcmp(block + BLOCK_SIZE - SECTOR, zeros, SECTOR) == 0;
}

static void on_other(struct scan *x, const char *block, enum block_kind kind, uint64_t off)
{
	bool in_batch = x->run.open || off < x->batch_end;

	close_run(x);
	if (kind == BLOCK_OLD)
		x->torn |= in_batch || off == x->good_end;
	else
		x->torn |= has_zero_sector(block);
	/* before the known end something of ours was here, whatever is there now */
	x->lost |= kind == BLOCK_BAD || in_batch || off < x->s->end;
}

/* Nothing of ours follows. */
static void at_end(struct scan *x, uint64_t limit)
{
	close_run(x);
	if (x->lost)
		add_pending(x, x->good_end, x->s->end || x->batch_end <= x->good_end ? limit : x->batch_end,
			    x->last_seq + x->whole);
	if (x->s->end) {
		prove(x, UINT64_MAX);
		return;
	}
	for (unsigned i = 0; i < x->pending_n && !x->torn; i++)
		say_gap(x, x->pending[i].from, x->pending[i].to, LOST_LAST);
}

static bool is_of_batch(const struct block_tag *t)
{
	return t->seq > 0 && !(t->flags & BLOCK_HEAD);
}

static uint64_t first_incarnation(struct scan *x, uint64_t limit)
{
	struct block_tag t;

	for (uint64_t off = BLOCK_SIZE; off + BLOCK_SIZE <= limit; off += BLOCK_SIZE)
		if (block_ok(block_at(x, off, limit), &t) && is_of_batch(&t))
			return t.incarnation;
	return 0;
}

void segment_scan(struct segment_scan *s)
{
	struct scan      x = {.s = s, .good_end = BLOCK_SIZE};
	uint64_t         limit = s->end ? s->end : s->segment_size;
	struct block_tag t;

	x.raw = mem_new(WALK_CHUNK + DISK_ALIGN);
	x.buf = x.raw + (DISK_ALIGN - (uintptr_t)x.raw % DISK_ALIGN) % DISK_ALIGN;
	x.run.payload = mem_new((size_t)BATCH_BLOCKS_MAX * BLOCK_DATA);
	s->blocks = 0;
	if (!s->incarnation)
		s->incarnation = first_incarnation(&x, limit);
	for (uint64_t off = BLOCK_SIZE; off + BLOCK_SIZE <= limit; off += BLOCK_SIZE) {
		const char     *block = block_at(&x, off, limit);
		enum block_kind kind = block_kind(block, s->incarnation, &t);

		if (kind == BLOCK_OURS && is_of_batch(&t))
			on_ours(&x, block, &t, off);
		else if (kind != BLOCK_OURS || off + BLOCK_SIZE < s->segment_size)
			on_other(&x, block, kind, off);
	}
	at_end(&x, limit);
	mem_free(x.raw);
	mem_free(x.run.payload);
}

/* ---- one record */

bool segment_record(int fd, uint64_t off, char *room, struct rec_head *ret, struct span *ret_body)
{
	uint64_t from = off - off % BLOCK_SIZE;
	size_t   in = off % BLOCK_SIZE, n;

	n = blocks_for(in + sizeof(*ret)) * BLOCK_SIZE;
	if (read_at(fd, room, n, from) != n)
		return false;
	payload_get(room, in, ret, sizeof(*ret));
	if (ret->n > REC_MAX)
		return false;
	n = blocks_for(in + sizeof(*ret) + ret->n) * BLOCK_SIZE;
	if (read_at(fd, room, n, from) != n)
		return false;
	for (size_t i = 1; i < n / BLOCK_SIZE; i++)
		memmove(room + i * BLOCK_DATA, room + i * BLOCK_SIZE, BLOCK_DATA);
	*ret_body = span_of(room + in + sizeof(*ret), ret->n);
	return rec_ok(ret, *ret_body);
}
