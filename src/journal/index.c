/* An index is made in memory, as a segment's metadata is a small part of it, and read into
 * memory in one piece, as nothing of it is believed before the hash fits.
 *
 * The file is as long as whole blocks; what follows the last record is zeros. */
#include "journal/index.h"

#include "core/pool.h"
#include "journal/reader_in.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define NAME_MAX_N  32
#define FILL_NAME   "fill-idx"
#define CHUNK       ((size_t)1024 * 1024) /* of a read or a write */
#define BUILD_FIRST ((size_t)256 * 1024)

struct index_record {
	uint64_t pos;
	struct rec_head head;
};
static_check(sizeof(struct index_record) == 40);

static void index_name(char name[NAME_MAX_N], uint64_t number)
{
	snprintf(name, NAME_MAX_N, "idx-%016" PRIx64, number);
}

static uint64_t head_sum(const struct index_head *h)
{
	return hash64(h, offsetof(struct index_head, check));
}

static size_t kept(const struct rec_head *h)
{
	bool is_body = h->type == REC_BODY && h->n > sizeof(struct rec_body);

	return is_body ? sizeof(struct rec_body) : h->n;
}

static size_t whole_blocks(size_t n)
{
	return (n + DISK_ALIGN - 1) / DISK_ALIGN * DISK_ALIGN;
}

static char *aligned(char *raw)
{
	return raw + (DISK_ALIGN - (uintptr_t)raw % DISK_ALIGN) % DISK_ALIGN;
}

/* ---- reading ---- */

static bool bytes_are_sane(const struct index_head *h, uint64_t file_n)
{
	return h->bytes <= INDEX_BYTES_MAX && h->bytes % 8 == 0 &&
	       whole_blocks(sizeof(*h) + h->bytes) == file_n &&
	       h->records <= h->bytes / sizeof(struct index_record);
}

static bool head_is_ok(const struct index_head *h, uint64_t file_n)
{
	return h->magic == INDEX_MAGIC && h->check == head_sum(h) && bytes_are_sane(h, file_n);
}

static int read_file(struct disk *d, const char *name, char **ret_raw, uint64_t *ret_n)
{
	struct disk_file *f;
	int64_t n;
	int e = d->calls->open(d, name, DISK_READ | DISK_DIRECT, &f);

	if (e == -EINVAL)
		e = d->calls->open(d, name, DISK_READ, &f);
	if (e)
		return e;
	n = d->calls->size(d, f);
	if (n < 0)
		e = (int)n;
	else if (n < DISK_ALIGN || n % DISK_ALIGN ||
		 (uint64_t)n > INDEX_BYTES_MAX + 2 * DISK_ALIGN)
		e = -EIO;
	if (!e) {
		*ret_raw = mem_new((size_t)n + DISK_ALIGN);
		*ret_n = (uint64_t)n;
		for (uint64_t at = 0; at < (uint64_t)n && !e; at += CHUNK)
			e = walk_read(d, f, aligned(*ret_raw) + at,
				      (uint64_t)n - at < CHUNK ? (size_t)n - at : CHUNK, at);
	}
	d->calls->close(d, f);
	return e;
}

/* The hash was right; the bounds are checked all the same. */
bool index_parse(struct index *x, uint64_t number, uint64_t incarnation, uint64_t end,
		 bool *ret_bad)
{
	struct index_head h;

	*ret_bad = true;
	if (x->n < sizeof(h))
		return false;
	memcpy(&h, x->p, sizeof(h));
	if (!head_is_ok(&h, x->n) || h.hash != hash64(x->p + sizeof(h), h.bytes))
		return false;
	*ret_bad = false;
	x->at = sizeof(h);
	x->n = sizeof(h) + h.bytes;
	x->records = h.records;
	return h.number == number && h.incarnation == incarnation && h.end == end;
}

bool index_load(struct disk *d, uint64_t number, uint64_t incarnation, uint64_t end,
		struct index *ret, bool *ret_bad)
{
	char name[NAME_MAX_N];
	uint64_t n = 0;
	int e;

	*ret = (struct index){0};
	index_name(name, number);
	e = read_file(d, name, &ret->raw, &n);
	*ret_bad = e && walk_is_damage(e) && e != -ENOENT;
	if (!e) {
		ret->p = aligned(ret->raw);
		ret->n = n;
		if (index_parse(ret, number, incarnation, end, ret_bad))
			return true;
	}
	index_fini(ret);
	return false;
}

bool index_next(struct index *x, struct record *ret)
{
	struct index_record r;
	size_t n;

	if (x->n - x->at < sizeof(r))
		return false;
	memcpy(&r, x->p + x->at, sizeof(r));
	n = kept(&r.head);
	if ((n + 7) / 8 * 8 > x->n - x->at - sizeof(r))
		return false;
	ret->pos = r.pos;
	ret->head = r.head;
	ret->body = span_of(x->p + x->at + sizeof(r), n);
	x->at += sizeof(r) + (n + 7) / 8 * 8;
	return true;
}

void index_fini(struct index *x)
{
	mem_free(x->raw);
	*x = (struct index){0};
}

/* ---- making ---- */

struct build {
	char *raw, *p;
	size_t n, cap;
	uint64_t records;
};

static char *build_room(struct build *b, size_t n)
{
	char *p;

	if (b->n + n > b->cap) {
		size_t cap = b->cap ? b->cap : BUILD_FIRST;
		char *raw;

		while (b->n + n > cap)
			cap *= 2;
		raw = mem_new(cap + DISK_ALIGN);
		if (b->n)
			memcpy(aligned(raw), b->p, b->n);
		mem_free(b->raw);
		b->raw = raw;
		b->p = aligned(raw);
		b->cap = cap;
	}
	p = b->p + b->n;
	b->n += n;
	return p;
}

static void build_add(struct build *b, const struct record *r)
{
	struct index_record x = {.pos = r->pos, .head = r->head};
	size_t n = kept(&r->head);
	char *p = build_room(b, sizeof(x) + (n + 7) / 8 * 8);

	memcpy(p, &x, sizeof(x));
	if (n)
		memcpy(p + sizeof(x), r->body.p, n);
	memset(p + sizeof(x) + n, 0, (8 - n % 8) % 8);
	b->records++;
}

static int build_all(struct build *b, struct disk *d, const uint8_t uuid[16], uint64_t number,
		     uint64_t segment_size, uint64_t end)
{
	struct reader *r = reader_new(d, NULL, segment_size, 0);
	struct record rec;
	enum read_result got;

	reader_use_uuid(r, uuid);
	r->no_index = true;
	reader_take_one(r, number, end);
	while ((got = reader_next(r, BODIES_HEADS, &rec)) == READ_OK && b->n <= INDEX_BYTES_MAX)
		build_add(b, &rec);
	reader_free(r);
	if (got == READ_OK)
		return -EFBIG;
	return got == READ_END ? 0 : got == READ_DAMAGE ? -EIO : -EAGAIN;
}

static int write_file(struct disk *d, const struct build *b, size_t n)
{
	struct disk_file *f;
	int e = d->calls->unlink(d, FILL_NAME);

	if (e && e != -ENOENT)
		return e;
	e = d->calls->open(d, FILL_NAME, DISK_WRITE | DISK_CREATE, &f);
	if (e)
		return e;
	e = d->calls->fill(d, f, 0, n);
	for (size_t at = 0; at < n && !e; at += CHUNK) {
		size_t part = n - at < CHUNK ? n - at : CHUNK;
		int64_t put = d->calls->write_now(d, f, b->p + at, part, at);

		e = put < 0 ? (int)put : (size_t)put == part ? 0 : -EIO;
	}
	d->calls->close(d, f);
	return e;
}

int index_make(struct disk *d, const uint8_t uuid[16], uint64_t number, uint64_t segment_size,
	       uint64_t end)
{
	struct build b = {0};
	struct index_head h = {.magic = INDEX_MAGIC,
			       .number = number,
			       .incarnation = incarnation_of(uuid, number),
			       .end = end};
	char name[NAME_MAX_N];
	size_t n;
	int e;

	(void)build_room(&b, sizeof(h));
	e = build_all(&b, d, uuid, number, segment_size, end);
	if (!e) {
		h.bytes = b.n - sizeof(h);
		h.records = b.records;
		h.hash = hash64(b.p + sizeof(h), h.bytes);
		h.check = head_sum(&h);
		memcpy(b.p, &h, sizeof(h));
		n = whole_blocks(b.n);
		memset(build_room(&b, n - b.n), 0, n - (sizeof(h) + h.bytes));
		e = write_file(d, &b, n);
		index_name(name, number);
		if (!e)
			e = d->calls->rename(d, FILL_NAME, name);
		if (e)
			(void)d->calls->unlink(d, FILL_NAME); /* gives the space back */
	}
	mem_free(b.raw);
	return e;
}

int index_remove(struct disk *d, uint64_t number)
{
	char name[NAME_MAX_N];
	int e;

	index_name(name, number);
	e = d->calls->unlink(d, name);
	return e == -ENOENT ? 0 : e;
}

/* ---- the reader's use of it ---- */

/* Only where all of the segment is there, and its end is known. */
static bool may_use(struct reader *r, const struct manifest_entry *e)
{
	return !r->no_index && !r->trouble && r->bodies != BODIES_WHOLE && e && e->end &&
	       r->file && r->disk->calls->size(r->disk, r->file) == (int64_t)r->segment_size;
}

bool reader_index_begin(struct reader *r)
{
	const struct manifest_entry *e = reader_entry(r, r->number);
	bool rotten;

	if (!may_use(r, e))
		return false;
	if (index_load(r->disk, r->number, r->incarnation, e->end, &r->index, &rotten)) {
		r->pos = e->end;
		r->batch_known = false;
		return true;
	}
	if (rotten && r->rotten_n < READER_ROTTEN)
		r->rotten[r->rotten_n++] = r->number;
	return false;
}

bool reader_index_next(struct reader *r, enum read_bodies bodies, struct record *ret)
{
	check(bodies != BODIES_WHOLE);
	while (index_next(&r->index, ret))
		if (bodies != BODIES_PASS || ret->head.type != REC_BODY)
			return true;
	index_fini(&r->index);
	return false;
}

uint64_t reader_index_pos(const struct reader *r)
{
	uint64_t pos = r->pos;

	if (r->index.n - r->index.at >= sizeof(struct index_record))
		memcpy(&pos, r->index.p + r->index.at, sizeof(pos));
	return pos;
}

bool reader_rotten(struct reader *r, uint64_t *ret_number)
{
	if (r->rotten_n == 0)
		return false;
	*ret_number = r->rotten[--r->rotten_n];
	return true;
}
