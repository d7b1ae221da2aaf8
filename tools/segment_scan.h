/* segment_scan - every record that can still be read of one segment file, whatever happened to it.
 *
 * For salvage: it needs no head, no manifest and no file before or behind this one, only the blocks'
 * tags.  Consecutive blocks of one batch form a run; records begin behind the batch's head or, where
 * the run begins in the middle of a batch, where a tag says that a record begins.  Records are never
 * looked for among bytes, since a mail may hold bytes that look like one.
 *
 * Reads block by block where a larger read fails: what can't be read is a bad block. */
#ifndef TOOLS_SEGMENT_SCAN_H
#define TOOLS_SEGMENT_SCAN_H

#include "journal/reader.h"

enum scan_lost {
	LOST_PROMISED,                            /* something behind it vouches for it */
	LOST_LAST,                                /* the last batch: bad, and it may have been promised */
	LOST_RECORD                               /* its blocks are whole and it is wrong: never ours to write */
};
struct scan_gap {
	uint64_t       from, to;                  /* offsets in the file */
	enum scan_lost what;
};
struct scan_calls {
	void (*record)(void *ctx, const struct record *r);
	void (*gap)(void *ctx, const struct scan_gap *g);
	void (*moved)(void *ctx, uint64_t bytes);         /* so many more were read; may be NULL */
};
struct segment_scan {
	int      fd;
	uint64_t number, segment_size;            /* for positions */
	uint64_t incarnation;                     /* 0: that of the first whole block of a batch */
	/* offset where the segment is known to end: all before it was durable; 0: as far as it goes */
	uint64_t end;
	const struct scan_calls *calls;
	void    *ctx;
	/* after it: blocks that were ours, and are of batches behind a durable head */
	uint64_t blocks;
};
void segment_scan(struct segment_scan *s);

/* One record again, by its offset, whole and checked: its blocks need not be in one read.  room holds it
 * (REC_MAX and what is round it).  false: not there any more. */
#define SCAN_ROOM (REC_MAX + (REC_MAX / BLOCK_DATA + 3) * BLOCK_SIZE)
bool segment_record(int fd, uint64_t off, char *room, struct rec_head *ret, struct span *ret_body);

#endif
