#include "journal/walk.h"

#include "core/pool.h"

#include <errno.h>
#include <string.h>

#define WINDOW_SIZE ((size_t)BATCH_BLOCKS_MAX * BLOCK_SIZE + WALK_CHUNK)
#define USED_LOOK   ((uint64_t)(BATCH_BLOCKS_MAX + 1) * BLOCK_SIZE)
#define UNREADABLE  0xa5 /* a tag of these bytes has no fitting checksum */

void window_init(struct window *w, int (*fetch)(void *, char *, size_t, uint64_t), void *ctx)
{
	*w = (struct window){.fetch = fetch, .ctx = ctx};
}

/* Storage grows with what is asked for: a window on small segments stays small. */
static void grow(struct window *w, size_t n)
{
	char *raw, *buf;

	if (n <= w->cap)
		return;
	raw = mem_new(n + DISK_ALIGN);
	buf = raw + (DISK_ALIGN - (uintptr_t)raw % DISK_ALIGN) % DISK_ALIGN;
	if (w->n)
		memcpy(buf, w->buf, w->n);
	mem_free(w->raw);
	w->raw = raw;
	w->buf = buf;
	w->cap = n;
}

void window_fini(struct window *w)
{
	mem_free(w->raw);
	*w = (struct window){0};
}

void window_drop(struct window *w)
{
	w->n = 0;
}

/* A failed read is tried again block by block, to lose no more than what is unreadable. */
static void fetch_blocks(struct window *w, char *dst, size_t n, uint64_t pos)
{
	if (w->fetch(w->ctx, dst, n, pos) == 0)
		return;
	for (size_t i = 0; i < n; i += BLOCK_SIZE) {
		if (w->fetch(w->ctx, dst + i, BLOCK_SIZE, pos + i) == 0)
			continue;
		memset(dst + i, UNREADABLE, BLOCK_SIZE);
		w->unreadable++;
	}
}

char *window_at(struct window *w, uint64_t pos, size_t n, uint64_t limit)
{
	size_t keep = 0, more;

	check(pos % BLOCK_SIZE == 0 && n % BLOCK_SIZE == 0 && limit % BLOCK_SIZE == 0);
	check(n <= WINDOW_SIZE - WALK_CHUNK && pos + n <= limit);
	if (pos >= w->pos && pos + n <= w->pos + w->n)
		return w->buf + (pos - w->pos);
	if (pos >= w->pos && pos < w->pos + w->n)
		keep = w->pos + w->n - pos;
	more = n - keep > WALK_CHUNK ? n - keep : WALK_CHUNK;
	if (more > limit - pos - keep)
		more = limit - pos - keep;
	if (keep)
		memmove(w->buf, w->buf + (pos - w->pos), keep);
	w->n = keep;
	grow(w, keep + more);
	fetch_blocks(w, w->buf + keep, more, pos + keep);
	w->pos = pos;
	w->n = keep + more;
	return w->buf;
}

int walk_open(struct disk *d, uint64_t number, struct disk_file **ret)
{
	return walk_open_as(d, FILE_SEGMENT, number, ret);
}

int walk_open_as(struct disk *d, enum segment_file kind, uint64_t number,
		 struct disk_file **ret)
{
	char name[SEGMENT_NAME_MAX];
	int e;

	segment_name(name, kind, number);
	e = d->calls->open(d, name, DISK_READ | DISK_DIRECT, ret);
	if (e == -EINVAL)
		e = d->calls->open(d, name, DISK_READ, ret);
	return e;
}

bool walk_is_damage(int error)
{
	return error == -ENOENT || error == -EIO || error == -EUCLEAN || error == -EBADMSG ||
	       error == -ENODATA || error == -ENXIO || error == -ELOOP;
}

int walk_read(struct disk *d, struct disk_file *f, char *dst, size_t n, uint64_t off)
{
	while (n) {
		int64_t got = d->calls->read(d, f, dst, n, off);

		if (got < 0)
			return (int)got;
		/* The file's end, in the middle of a block: direct reads can't go on from here. */
		if (got < DISK_ALIGN && (size_t)got < n) {
			memset(dst + got, 0, n - (size_t)got);
			return 0;
		}
		if ((size_t)got < n)
			got -= got % DISK_ALIGN;
		dst += got;
		off += (uint64_t)got;
		n -= (size_t)got;
	}
	return 0;
}

static bool all_zero(const char *p, size_t n)
{
	return p[0] == 0 && memcmp(p, p + 1, n - 1) == 0;
}

enum block_kind block_kind(const char *block, uint64_t incarnation, struct block_tag *ret)
{
	if (block_ok(block, ret))
		return ret->incarnation == incarnation ? BLOCK_OURS : BLOCK_OLD;
	return all_zero(block, BLOCK_SIZE) ? BLOCK_OLD : BLOCK_BAD;
}

bool batch_begins(const char *block, uint64_t incarnation, struct batch_head *ret)
{
	struct block_tag t;

	if (!block_ok(block, &t) || t.incarnation != incarnation)
		return false;
	memcpy(ret, block, sizeof *ret);
	return t.flags & BLOCK_FIRST && t.index == 0 && t.seq && batch_head_ok(ret) &&
	       ret->seq == t.seq;
}

bool block_is_displaced(const char *behind, uint64_t incarnation, uint64_t seq, uint32_t index)
{
	struct block_tag t;

	return block_kind(behind, incarnation, &t) == BLOCK_OURS && t.seq &&
	       (t.seq < seq || (t.seq == seq && t.index <= index));
}

uint32_t batch_good_blocks(const char *blocks, const struct batch_head *h, uint64_t incarnation)
{
	struct block_tag t;
	uint32_t i;

	for (i = 0; i < h->blocks; i++) {
		bool last = i == h->blocks - 1;

		if (!block_ok(blocks + (size_t)i * BLOCK_SIZE, &t) ||
		    t.incarnation != incarnation || t.seq != h->seq || t.index != i ||
		    !!(t.flags & BLOCK_LAST) != last)
			break;
	}
	return i;
}

struct used {
	struct disk *disk;
	struct disk_file *file;
	uint16_t unproved; /* blocks with one of these flags may be there without a head */
};

static int fetch_used(void *ctx, char *dst, size_t n, uint64_t pos)
{
	struct used *u = ctx;

	return walk_read(u->disk, u->file, dst, n, pos);
}

static bool is_used(struct used *u, uint64_t incarnation)
{
	int64_t size = u->disk->calls->size(u->disk, u->file);
	uint64_t limit = size > 0 ? (uint64_t)size / BLOCK_SIZE * BLOCK_SIZE : 0;
	bool used = false;
	struct window w;
	struct block_tag t;

	window_init(&w, fetch_used, u);
	/* Its first batch must be near its beginning: no need to read all of a prepared one. */
	if (limit > USED_LOOK && block_kind(window_at(&w, 0, BLOCK_SIZE, limit), 0, &t) == BLOCK_OLD)
		limit = USED_LOOK;
	for (uint64_t pos = 0; pos < limit && !used; pos += BLOCK_SIZE)
		used = block_ok(window_at(&w, pos, BLOCK_SIZE, limit), &t) && t.seq &&
		       !(t.flags & u->unproved) &&
		       (!incarnation || t.incarnation == incarnation);
	window_fini(&w);
	return used;
}

bool walk_was_used(struct disk *d, uint64_t number, uint64_t incarnation)
{
	struct used u = {
		.disk = d,
		.unproved = number < COLD_FIRST ? BLOCK_EARLY | BLOCK_COLD : 0,
	};
	bool used;

	if (walk_open(d, number, &u.file))
		return true;
	used = is_used(&u, incarnation);
	d->calls->close(d, u.file);
	return used;
}
