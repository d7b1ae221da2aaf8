/* walk - blocks, read ahead and judged one by one: what recovery and the reader share.
 *
 * A window holds a stretch of one segment and only moves forward.  What can't be read is
 * filled with bytes that no checksum fits, so that an unreadable block is a bad block. */
#ifndef JOURNAL_WALK_H
#define JOURNAL_WALK_H

#include "core/disk.h"
#include "journal/format.h"

#define WALK_CHUNK ((size_t)1024 * 1024)          /* one read */

struct window {
	/* all of it: 0 or -errno */
	int    (*fetch)(void *ctx, char *dst, size_t n, uint64_t pos);
	void    *ctx;
	char    *raw, *buf;                       /* buf: raw, aligned for direct reads */
	uint64_t pos;
	size_t   n, cap;
	uint64_t unreadable;                      /* blocks so far */
};
void  window_init(struct window *w, int (*fetch)(void *, char *, size_t, uint64_t), void *ctx);
void  window_fini(struct window *w);
void  window_drop(struct window *w);              /* forgets what it holds */
/* The blocks at pos, n bytes of them, read ahead up to limit; pos + n <= limit.  Valid, and the
 * caller's to change, until the next call. */
char *window_at(struct window *w, uint64_t pos, size_t n, uint64_t limit);

/* One segment file, opened for direct reads where that works. */
int  walk_open(struct disk *d, uint64_t number, struct disk_file **ret);
int  walk_open_as(struct disk *d, enum segment_file kind, uint64_t number, struct disk_file **ret);
/* Of opening or reading: the file is gone, or the disk can't give back what it was given.  All
 * other errors say nothing about the bytes. */
bool walk_is_damage(int error);
/* Reads n bytes; what lies behind the file's end is zeros.  0 or -errno. */
int  walk_read(struct disk *d, struct disk_file *f, char *dst, size_t n, uint64_t off);

/* Does it hold a batch that may have been written only behind a durable head?  incarnation 0: of
 * whatever journal.  What can't be looked at counts as used. */
bool walk_was_used(struct disk *d, uint64_t number, uint64_t incarnation);

enum block_kind {
	BLOCK_OURS,                               /* whole, of this incarnation */
	/* zeros, or whole and of another incarnation: never written by us */
	BLOCK_OLD,
	BLOCK_BAD                                 /* neither: torn, rotten or unreadable */
};
enum block_kind block_kind(const char *block, uint64_t incarnation, struct block_tag *ret);
/* The head of a batch that begins with this block: false if the block isn't whole, ours and first. */
bool batch_begins(const char *block, uint64_t incarnation, struct batch_head *ret);
/* A block that was written to a wrong place, or comes back from one, is whole and ours.  If what is
 * `behind` it comes before it in the order of writing, or is the same, it is not where it belongs; to
 * go on from it would lose all that lies between. */
bool block_is_displaced(const char *behind, uint64_t incarnation, uint64_t seq, uint32_t index);
/* How many of the batch's blocks are whole and in their place, from its first on. */
uint32_t batch_good_blocks(const char *blocks, const struct batch_head *h,
		uint64_t incarnation);

#endif
