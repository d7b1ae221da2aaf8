/* batch - a head, records one behind the other, zeros to the end of the last block, tags.
 *
 * A record's bytes are copied once, to where they are written from.  What is not known before
 * the end (how many blocks, the sums) is filled in then: the head's place is kept free at the
 * beginning, the tags' at the end of each block. */
#include "journal/batch.h"

#include <string.h>

void batch_layout_init(struct batch_layout *b)
{
	b->blocks = NULL;
	b->used = sizeof(struct batch_head);
	b->records = 0;
	memset(b->first, 0, sizeof b->first);
}

static void note_first(struct batch_layout *b, uint64_t at)
{
	uint16_t *first = &b->first[at / BLOCK_DATA];

	if (!*first)
		*first = (uint16_t)(at % BLOCK_DATA / 8 + 1);
}

uint64_t batch_layout_put(struct batch_layout *b, const struct rec_head *h,
			  const struct span *pieces, int pieces_n)
{
	uint64_t begin = b->used, at = begin + sizeof *h;

	check(blocks_for(begin + rec_size(h->n)) <= BATCH_BLOCKS_MAX);
	payload_put(b->blocks, begin, h, sizeof *h);
	for (int i = 0; i < pieces_n; at += pieces[i].n, i++)
		payload_put(b->blocks, at, pieces[i].p, pieces[i].n);
	b->used = begin + rec_size(h->n);
	check(at <= b->used);
	payload_zero(b->blocks, at, b->used - at);
	note_first(b, begin);
	b->records++;
	return begin;
}

static void seal_tags(struct batch_layout *b, const struct batch_end *e, uint64_t blocks)
{
	struct block_tag t = {
		.incarnation = e->incarnation,
		.seq = e->seq,
		.watermark_lag = (uint32_t)(e->seq - e->watermark),
	};

	for (uint64_t i = 0; i < blocks; i++) {
		uint32_t flags = e->block_flags | (i == 0 ? BLOCK_FIRST : 0) |
				 (i == blocks - 1 ? BLOCK_LAST : 0) |
				 (uint32_t)b->first[i] << BLOCK_FIRST_SHIFT;

		t.index = (uint16_t)i;
		t.flags = (uint16_t)flags;
		block_seal(b->blocks + i * BLOCK_SIZE, &t);
	}
}

uint64_t batch_layout_end(struct batch_layout *b, const struct batch_end *e)
{
	uint64_t blocks = blocks_for(b->used);
	struct batch_head h = {
		.blocks = (uint32_t)blocks,
		.seq = e->seq,
		.watermark = e->watermark,
		.payload_n = (uint32_t)(b->used - sizeof h),
		.records = b->records,
		.time_us = e->time_us,
		.flags = e->flags,
	};

	payload_zero(b->blocks, b->used, blocks * BLOCK_DATA - b->used);
	h.payload_hash = payload_hash(b->blocks, sizeof h, h.payload_n);
	h.chain = hash64_chain(e->chain, h.payload_hash, h.seq);
	batch_head_seal(&h);
	memcpy(b->blocks, &h, sizeof h);
	seal_tags(b, e, blocks);
	return h.chain;
}
