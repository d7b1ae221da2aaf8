/* segments - finding the newest head and everything that it names.
 *
 * A head is written after everything it speaks of is durable, the rest of a long manifest
 * included; so a valid head is complete, and what is missing next to it is damage. */
#include "journal/segments.h"

#include "core/pool.h"
#include "journal/walk.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* Named ones, prepared ones, and given-up ones that somebody still has to remove. */
#define SEGMENT_FILES_MAX (2 * SEGMENTS_NAMED_MAX)

static const char magic[8] = {'q', 'u', 'i', 'r', 'e', 's', 'e', 'g'};

struct found {
	uint64_t number, size;
};
struct listing {
	struct found *v;
	uint32_t n, cap;
	bool too_many;
};

/* The line for a person is cut at the buffer's maximum, never the fault hidden. */
static enum segments_found failed(struct buf *why, const char *what, uint64_t number)
{
	buf_clear(why);
	if (!buf_fmt(why, "seg-%016" PRIx64 " %s", number, what))
		buf_clear(why);
	return SEGMENTS_FAILED;
}

static void on_file(void *ctx, const char *name, uint64_t size)
{
	struct listing *l = ctx;
	enum segment_file kind;
	struct found f = {.size = size};

	if (!segment_name_parse(name, &kind, &f.number) || kind != FILE_SEGMENT || !f.number)
		return;
	if (l->n == SEGMENT_FILES_MAX) {
		l->too_many = true;
		return;
	}
	if (l->n == l->cap) {
		uint32_t cap = l->cap ? 2 * l->cap : 64;

		l->v = mem_grow(l->v, l->cap * sizeof *l->v, cap * sizeof *l->v);
		l->cap = cap;
	}
	l->v[l->n++] = f;
}

static int by_number(const void *a, const void *b)
{
	const struct found *x = a, *y = b;

	return (x->number > y->number) - (x->number < y->number);
}

enum head_kind segment_head_get(const char *block, uint64_t number, struct segment_head *ret)
{
	struct block_tag t;

	if (!block_ok(block, &t) || !(t.flags & BLOCK_HEAD) || t.seq)
		return HEAD_NONE;
	memcpy(ret, block, sizeof *ret);
	if (memcmp(ret->magic, magic, sizeof magic) != 0)
		return HEAD_NONE;
	if (ret->version > JOURNAL_VERSION)
		return HEAD_NEWER;
	if (ret->version != JOURNAL_VERSION || ret->head_n != sizeof *ret ||
	    ret->number != number || t.incarnation != incarnation_of(ret->uuid, number))
		return HEAD_NONE;
	if (ret->segment_size < SEGMENT_SIZE_MIN || ret->segment_size > SEGMENT_SIZE_MAX ||
	    ret->segment_size % BLOCK_SIZE || number > UINT64_MAX / ret->segment_size - 1 ||
	    ret->manifest_n >= SEGMENTS_NAMED_MAX || !ret->first_seq)
		return HEAD_NONE;
	return HEAD_OK;
}

void segment_head_put(char *block, const struct segment_head *h,
		      const struct manifest_entry *v, bool is_copy)
{
	struct block_tag t = {
		.incarnation = incarnation_of(h->uuid, h->number),
		.flags = BLOCK_HEAD | BLOCK_FIRST | BLOCK_LAST | (is_copy ? BLOCK_COPY : 0) |
			 (h->number >= COLD_FIRST ? BLOCK_COLD : 0),
	};
	uint32_t n = h->manifest_n < MANIFEST_IN_HEAD ? h->manifest_n : MANIFEST_IN_HEAD;
	struct segment_head copy = *h;

	memcpy(copy.magic, magic, sizeof magic);
	copy.version = JOURNAL_VERSION;
	copy.head_n = sizeof copy;
	memset(block, 0, BLOCK_SIZE);
	memcpy(block, &copy, sizeof copy);
	if (n)
		memcpy(block + sizeof copy, v, n * sizeof *v);
	block_seal(block, &t);
}

static struct disk_file *open_segment(struct disk *d, uint64_t number, int *ret_error)
{
	struct disk_file *f = NULL;

	*ret_error = walk_open(d, number, &f);
	return *ret_error ? NULL : f;
}

static int read_block(struct disk *d, uint64_t number, char *block)
{
	int e;
	struct disk_file *f = open_segment(d, number, &e);

	if (!f)
		return e;
	e = walk_read(d, f, block, BLOCK_SIZE, 0);
	d->calls->close(d, f);
	return e;
}

/* Looks at every head, the newest first: the first valid one wins, and all others have to be
 * of the same journal. */
static enum segments_found find_newest(struct disk *d, const struct listing *l, char *block,
				       struct segments *s, struct buf *why)
{
	bool have = false;

	for (uint32_t i = l->n; i-- > 0;) {
		uint64_t number = l->v[i].number;
		struct segment_head h;
		enum head_kind kind;
		int e = read_block(d, number, block);

		if (e == -ENOENT) /* removed since it was listed: nobody names it */
			continue;
		if (e && !have)
			return failed(why, "can't be read", number);
		kind = e ? HEAD_NONE : segment_head_get(block, number, &h);
		if (kind == HEAD_NEWER)
			return failed(why, "was written by a newer version of quire", number);
		if (kind == HEAD_OK && have && memcmp(h.uuid, s->head.uuid, sizeof h.uuid) != 0)
			return failed(why, "belongs to another journal", number);
		if (kind == HEAD_OK && !have) {
			s->head = h;
			have = true;
		} else if (!have) {
			s->headless++;
		}
	}
	return have ? SEGMENTS_OK : SEGMENTS_NONE;
}

static const struct found *file_of(const struct listing *l, uint64_t number)
{
	struct found key = {.number = number};

	return l->n ? bsearch(&key, l->v, l->n, sizeof key, by_number) : NULL;
}

/* The entries that don't fit in block 0: the first record of the first batch. */
static bool manifest_rest(struct disk *d, struct disk_file *f, const struct segments *s,
			  char *blocks)
{
	uint32_t rest_n = s->head.manifest_n - MANIFEST_IN_HEAD;
	uint64_t inc = incarnation_of(s->head.uuid, s->head.number);
	struct manifest_entry *rest = s->v + MANIFEST_IN_HEAD;
	struct batch_head b;
	struct rec_head r;

	if (walk_read(d, f, blocks, BLOCK_SIZE, BLOCK_SIZE) || !batch_begins(blocks, inc, &b) ||
	    (uint64_t)(b.blocks + 1) * BLOCK_SIZE > s->head.segment_size ||
	    walk_read(d, f, blocks, (size_t)b.blocks * BLOCK_SIZE, BLOCK_SIZE) ||
	    batch_good_blocks(blocks, &b, inc) != b.blocks || b.payload_n < sizeof r)
		return false;
	payload_get(blocks, sizeof b, &r, sizeof r);
	if (r.type != REC_MANIFEST || r.n != rest_n * sizeof *rest ||
	    rec_size(r.n) > b.payload_n)
		return false;
	payload_get(blocks, sizeof b + sizeof r, rest, r.n);
	return rec_ok(&r, span_of(rest, r.n));
}

static bool load_manifest(struct disk *d, struct segments *s, char *block)
{
	uint32_t n = s->head.manifest_n;
	uint32_t in_head = n < MANIFEST_IN_HEAD ? n : MANIFEST_IN_HEAD;
	bool good = true;
	int e;
	struct disk_file *f = open_segment(d, s->head.number, &e);

	s->v = mem_new((n + 1) * sizeof *s->v);
	s->n = n + 1;
	if (!f)
		return false;
	e = walk_read(d, f, block, BLOCK_SIZE, 0);
	memcpy(s->v, block + sizeof s->head, in_head * sizeof *s->v);
	if (n > in_head) {
		char *raw = mem_new((BATCH_BLOCKS_MAX + 1) * BLOCK_SIZE);

		good = manifest_rest(
			d, f, s, raw + (DISK_ALIGN - (uintptr_t)raw % DISK_ALIGN) % DISK_ALIGN);
		mem_free(raw);
	}
	d->calls->close(d, f);
	s->v[n] = (struct manifest_entry){
		.number = s->head.number,
		.state = SEGMENT_QUEUE,
		.incarnation = incarnation_of(s->head.uuid, s->head.number),
	};
	return !e && good;
}

static bool entry_ok(const struct segments *s, uint32_t i)
{
	const struct manifest_entry *e = &s->v[i];
	uint64_t size = s->head.segment_size, from = e->number * size;

	return e->number && e->number < s->head.number &&
	       (i == 0 || e->number > s->v[i - 1].number) && e->end >= from + BLOCK_SIZE &&
	       e->end <= from + size && e->end % BLOCK_SIZE == 0 &&
	       e->incarnation == incarnation_of(s->head.uuid, e->number);
}

static enum segments_found check_named(const struct listing *l, const struct segments *s,
				       struct buf *why)
{
	for (uint32_t i = 0; i < s->n; i++) {
		const struct found *f = file_of(l, s->v[i].number);

		if (i + 1 < s->n && !entry_ok(s, i))
			return failed(why, "has a head that contradicts itself",
				      s->head.number);
		if (!f)
			return failed(why, "is part of the queue and is missing",
				      s->v[i].number);
		if (f->size != s->head.segment_size)
			return failed(why, "is part of the queue and has a wrong size",
				      f->number);
	}
	return SEGMENTS_OK;
}

static void keep_numbers(struct segments *s, const struct listing *l)
{
	s->files = mem_new((l->n + 1) * sizeof *s->files);
	s->files_n = l->n;
	for (uint32_t i = 0; i < l->n; i++)
		s->files[i] = l->v[i].number;
}

static enum segments_found load(struct disk *d, struct listing *l, char *block,
				struct segments *s, struct buf *why)
{
	enum segments_found found;

	if (l->too_many)
		return failed(why, "and more: too many segment files", l->v[0].number);
	if (l->n)
		qsort(l->v, l->n, sizeof *l->v, by_number);
	keep_numbers(s, l);
	found = find_newest(d, l, block, s, why);
	if (found != SEGMENTS_OK)
		return found;
	if (!load_manifest(d, s, block))
		return failed(why, "has a head whose list of segments can't be read",
			      s->head.number);
	return check_named(l, s, why);
}

enum segments_found segments_load(struct disk *d, struct segments *ret, struct buf *why)
{
	struct listing l = {0};
	char *raw = mem_new(BLOCK_SIZE + DISK_ALIGN);
	char *block = raw + (DISK_ALIGN - (uintptr_t)raw % DISK_ALIGN) % DISK_ALIGN;
	enum segments_found found;
	int e;

	*ret = (struct segments){0};
	e = d->calls->list(d, on_file, &l);
	if (e) {
		buf_clear(why);
		if (!buf_fmt(why, "the journal's directory can't be read: %s", strerror(-e)))
			buf_clear(why);
		found = SEGMENTS_FAILED;
	} else {
		found = load(d, &l, block, ret, why);
	}
	mem_free(l.v);
	mem_free(raw);
	return found;
}

void segments_fini(struct segments *s)
{
	mem_free(s->v);
	mem_free(s->files);
	*s = (struct segments){0};
}

bool segments_has_file(const struct segments *s, uint64_t number)
{
	for (uint32_t i = s->files_n; i-- > 0;)
		if (s->files[i] == number)
			return true;
	return false;
}
