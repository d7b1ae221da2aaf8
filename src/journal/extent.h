/* extent - the records of one batch, as far as its blocks are good.
 *
 * Pure.  Takes the blocks of a batch as they were read, moves their payloads together in place,
 * so that each record lies in one piece, and hands the records out one by one.  A record that
 * touches a bad block is lost; those behind it are found by the tag of the next good block
 * (format.h: where the first record that begins in it has its head).  Records are never looked
 * for elsewhere: a mail may hold bytes that look like one.
 *
 * The batch's own head may be lost with its first block: then the blocks behind it still hold
 * records, up to the zeros at the batch's end. */
#ifndef JOURNAL_EXTENT_H
#define JOURNAL_EXTENT_H

#include "journal/format.h"

struct extent {
	char    *payload;                         /* borrowed; NULL: none is open */
	uint32_t blocks, good_blocks;
	uint64_t at;                              /* payload offset of the next record */
	uint64_t good;                            /* up to here no block is bad */
	uint64_t all;                             /* end of all records; their end is unknown: of the blocks */
	bool     has_end;
	uint16_t first[BATCH_BLOCKS_MAX];         /* as in the tags; EXTENT_BAD */
};
#define EXTENT_BAD UINT16_MAX
/* p: so many blocks, the first of which is the index'th of its batch; h: the batch's head, NULL: it is lost. */
struct extent_of {
	uint64_t                 incarnation, seq;
	uint32_t                 blocks, index;
	const struct batch_head *head;
};
void extent_open(struct extent *x, char *p, const struct extent_of *of);
/* How many blocks from p on, of n there are, belong to the batch that p is a later block of (its tag: t);
 * the last of them is a good one. */
uint32_t extent_rest(const char *p, uint32_t n, uint64_t incarnation, const struct block_tag *t);

enum extent_next {
	EXTENT_RECORD,                            /* its bounds are good; rec_ok() is the caller's */
	EXTENT_GAP,                               /* at *ret_at; records may follow */
	EXTENT_END
};
enum extent_next extent_next(struct extent *x, uint64_t *ret_at, struct rec_head *ret, struct span *ret_body);

/* Is this one the index'th block of that batch? */
bool batch_block_ok(const char *block, uint64_t incarnation, uint64_t seq, uint32_t index, struct block_tag *ret);

#endif
