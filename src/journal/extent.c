#include "journal/extent.h"

#include <string.h>

bool batch_block_ok(const char *block, uint64_t incarnation, uint64_t seq, uint32_t index,
		    struct block_tag *ret)
{
	return block_ok(block, ret) && ret->incarnation == incarnation && ret->seq == seq &&
	       ret->index == index && !(ret->flags & BLOCK_HEAD);
}

uint32_t extent_rest(const char *p, uint32_t n, uint64_t incarnation, const struct block_tag *t)
{
	uint32_t last = 0;

	for (uint32_t i = 0; i < n && t->index + i < BATCH_BLOCKS_MAX; i++) {
		const char *block = p + (size_t)i * BLOCK_SIZE;
		struct block_tag b;

		if (batch_block_ok(block, incarnation, t->seq, t->index + i, &b)) {
			last = i + 1;
			if (b.flags & BLOCK_LAST)
				break;
		} else if (block_ok(block, &b) && b.incarnation == incarnation) {
			break; /* of another batch */
		}
	}
	return last;
}

/* From block i on: where the first record of a good block begins.  false: nowhere. */
static bool go_on_at(struct extent *x, uint64_t i)
{
	for (; i < x->blocks; i++)
		if (x->first[i] && x->first[i] != EXTENT_BAD)
			break;
	if (i >= x->blocks)
		return false;
	x->at = i * BLOCK_DATA + (uint64_t)(x->first[i] - 1) * 8;
	while (i < x->blocks && x->first[i] != EXTENT_BAD)
		i++;
	x->good = i * BLOCK_DATA < x->all ? i * BLOCK_DATA : x->all;
	return x->at < x->good;
}

void extent_open(struct extent *x, char *p, const struct extent_of *of)
{
	x->payload = p;
	x->blocks = of->blocks;
	x->good_blocks = 0;
	x->has_end = of->head != NULL;
	x->all = of->head ? sizeof *of->head + (uint64_t)of->head->payload_n
			  : (uint64_t)of->blocks * BLOCK_DATA;
	for (uint32_t i = 0; i < of->blocks; i++) {
		const char *block = p + (size_t)i * BLOCK_SIZE;
		struct block_tag t;
		bool ok = batch_block_ok(block, of->incarnation, of->seq, of->index + i, &t) &&
			  (!of->head || !!(t.flags & BLOCK_LAST) == (i == of->blocks - 1));

		x->first[i] = ok ? (uint16_t)(t.flags >> BLOCK_FIRST_SHIFT) : EXTENT_BAD;
		x->good_blocks += ok;
		if (i)
			memmove(p + (size_t)i * BLOCK_DATA, block, BLOCK_DATA);
	}
	/* With its head, the first record is right behind it, whatever the tag says. */
	if (of->head && x->first[0] != EXTENT_BAD)
		x->first[0] = sizeof *of->head / 8 + 1;
	if (of->head && x->first[0] == EXTENT_BAD)
		x->at = x->good = sizeof *of->head; /* a gap, from the first record on */
	else if (!go_on_at(x, 0))
		x->at = x->good = x->all;
}

static bool is_padding(const struct rec_head *h)
{
	static const struct rec_head zeros;

	return memcmp(h, &zeros, sizeof zeros) == 0;
}

/* What begins at x->at can't be read: go on behind it, at a block that says where. */
static enum extent_next gap(struct extent *x, uint64_t *ret_at)
{
	*ret_at = x->at;
	if (!go_on_at(x, x->at / BLOCK_DATA + 1))
		x->at = x->good = x->all;
	return EXTENT_GAP;
}

enum extent_next extent_next(struct extent *x, uint64_t *ret_at, struct rec_head *ret,
			     struct span *ret_body)
{
	uint64_t size;

	*ret_at = x->at;
	if (x->at >= x->all)
		return EXTENT_END;
	if (x->good < x->at || x->good - x->at < sizeof *ret) {
		/* Without the batch's head its end is where too little is left for a record. */
		if (!x->has_end && x->all - x->at < sizeof *ret)
			return EXTENT_END;
		return gap(x, ret_at);
	}
	memcpy(ret, x->payload + x->at, sizeof *ret);
	if (!x->has_end && is_padding(ret)) {
		x->at = x->all;
		return EXTENT_END;
	}
	size = rec_size(ret->n);
	if (size > x->good - x->at)
		return gap(x, ret_at);
	*ret_body = span_of(x->payload + x->at + sizeof *ret, ret->n);
	x->at += size;
	return EXTENT_RECORD;
}
