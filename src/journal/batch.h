/* batch - records laid out as the blocks of one batch, in memory that is written from.
 *
 * Pure: no I/O, no allocation.  commit.c builds in the ring, compact.c in a buffer.  Begin, put
 * records, end; after batch_end() the bytes are final: head, zeros, tags. */
#ifndef JOURNAL_BATCH_H
#define JOURNAL_BATCH_H

#include "journal/format.h"

struct batch_layout {
	char    *blocks;                          /* the caller's: BLOCK_SIZE * what is put */
	uint64_t used;                            /* payload bytes, the batch's head included */
	uint32_t records;
	/* of each block: payload offset in it / 8 + 1 of the first record that begins there */
	uint16_t first[BATCH_BLOCKS_MAX];
};
void     batch_layout_init(struct batch_layout *b);               /* empty; blocks NULL */
/* Payload bytes used when a record of rec_size() bytes is put; blocks_for() of it: how much
 * memory must be there. */
static inline uint64_t batch_layout_with(const struct batch_layout *b, uint64_t size)
{
	return b->used + size;
}
/* h is complete (rec_seal_head).  Returns the record's payload offset; its position is that of
 * the batch + payload_to_bytes(offset). */
uint64_t batch_layout_put(struct batch_layout *b, const struct rec_head *h,
                          const struct span *pieces, int pieces_n);

struct batch_end {
	uint64_t incarnation, seq, watermark, chain; /* chain: of the batch before */
	uint64_t time_us;
	uint32_t flags;                           /* BATCH_* */
	uint16_t block_flags;                     /* BLOCK_EARLY, BLOCK_COLD */
};
/* Returns the batch's chain. */
uint64_t batch_layout_end(struct batch_layout *b, const struct batch_end *e);

#endif
