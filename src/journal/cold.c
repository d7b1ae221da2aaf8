/* A batch gathers until it is as long as one may be, or the segment ends.  The last block of a
 * segment is the head's copy, which is written before the head, both before the first batch. */
#include "journal/cold.h"

#include "core/pool.h"
#include "journal/segments.h"

#include <errno.h>
#include <string.h>

#define UNUSED_PART 8                             /* of a segment, to be sure that it fits */

void cold_init(struct cold *c, struct disk *d, uint64_t segment_size, const uint8_t uuid[16],
	       uint64_t epoch, uint32_t shard)
{
	*c = (struct cold){
		.disk = d, .segment_size = segment_size, .epoch = epoch, .shard = shard};
	memcpy(c->uuid, uuid, sizeof(c->uuid));
	c->memory = mem_new((BATCH_BLOCKS_MAX + 1) * BLOCK_SIZE);
	c->blocks = c->memory + (-(uintptr_t)c->memory & (BLOCK_SIZE - 1));
}

void cold_drop(struct cold *c)
{
	if (c->file)
		c->disk->calls->close(c->disk, c->file);
	c->file = NULL;
}

void cold_fini(struct cold *c)
{
	cold_drop(c);
	mem_free(c->memory);
	c->memory = NULL;
}

static void begin_batch(struct cold *c)
{
	batch_layout_init(&c->layout);
	c->layout.blocks = c->blocks;
}

void cold_take(struct cold *c, uint64_t number, struct disk_file *file)
{
	cold_drop(c);
	c->file = file;
	c->number = number;
	c->at = c->seq = c->chain = 0;
	c->dicts_n = 0;
	begin_batch(c);
}

uint64_t cold_end(const struct cold *c)
{
	return c->number * c->segment_size + c->at;
}

static uint64_t blocks_left(const struct cold *c)
{
	uint64_t at = c->at ? c->at : BLOCK_SIZE;

	return (c->segment_size - BLOCK_SIZE - at) / BLOCK_SIZE;
}

uint64_t cold_room(const struct cold *c)
{
	uint64_t left = c->file ? blocks_left(c) * BLOCK_DATA : 0;

	return left > c->segment_size / UNUSED_PART ? left - c->segment_size / UNUSED_PART : 0;
}

static int write_at(struct cold *c, const void *p, uint64_t n, uint64_t at)
{
	int64_t got = c->disk->calls->write_now(c->disk, c->file, p, n, at);

	c->written += n;
	if (got < 0)
		return (int)got;
	return (uint64_t)got == n ? 0 : -EIO;
}

/* In the batch's memory, which is not in use yet. */
static int write_heads(struct cold *c)
{
	struct segment_head h = {
		.number = c->number,
		.segment_size = c->segment_size,
		.epoch = c->epoch,
		.first_seq = 1,
		.created_us = c->time_us,
		.oldest = c->number,
		.shard = c->shard,
		.generation = 1,
	};
	int e;

	memcpy(h.uuid, c->uuid, sizeof(h.uuid));
	segment_head_put(c->blocks, &h, NULL, true);
	e = write_at(c, c->blocks, BLOCK_SIZE, c->segment_size - BLOCK_SIZE);
	if (e)
		return e;
	segment_head_put(c->blocks, &h, NULL, false);
	e = write_at(c, c->blocks, BLOCK_SIZE, 0);
	if (!e)
		c->at = BLOCK_SIZE;
	return e;
}

int cold_flush(struct cold *c)
{
	uint64_t blocks = blocks_for(c->layout.used);
	struct batch_end end = {
		.incarnation = incarnation_of(c->uuid, c->number),
		.seq = c->seq + 1,
		.watermark = c->seq,
		.chain = c->chain,
		.time_us = c->time_us,
		.block_flags = BLOCK_COLD,
	};
	int e;

	if (!c->file || c->layout.records == 0)
		return 0;
	c->chain = batch_layout_end(&c->layout, &end);
	c->seq++;
	e = write_at(c, c->blocks, blocks * BLOCK_SIZE, c->at);
	if (e)
		return e;
	c->at += blocks * BLOCK_SIZE;
	begin_batch(c);
	return 0;
}

static bool batch_takes(const struct cold *c, uint64_t size)
{
	uint64_t blocks = blocks_for(batch_layout_with(&c->layout, size));

	return blocks <= BATCH_BLOCKS_MAX && blocks <= blocks_left(c);
}

enum cold_put cold_put(struct cold *c, struct rec_head *h, const struct span *pieces, int pieces_n,
		       uint64_t *ret_pos, int *error)
{
	uint64_t size, q;

	h->version = REC_LAYOUT;
	rec_seal_head(h, pieces, pieces_n);
	size = rec_size(h->n);
	if (!c->file)
		return COLD_FULL;
	*error = c->at ? 0 : write_heads(c);
	if (!*error && !batch_takes(c, size))
		*error = cold_flush(c);
	if (*error)
		return COLD_FAILED;
	if (!batch_takes(c, size)) {
		check(c->seq > 0); /* a record that was in a segment fits into an empty one */
		return COLD_FULL;
	}
	q = batch_layout_put(&c->layout, h, pieces, pieces_n);
	*ret_pos = cold_end(c) + payload_to_bytes(q);
	return COLD_OK;
}

enum cold_put cold_put_dict(struct cold *c, uint32_t number, struct span bytes, int *error)
{
	struct rec_head h = {.type = REC_DICT, .number = number};
	uint64_t pos;
	enum cold_put got;

	for (uint32_t i = 0; i < c->dicts_n; i++)
		if (c->dicts[i] == number)
			return COLD_OK;
	if (c->dicts_n == COLD_DICTS_MAX)
		return COLD_FULL;
	got = cold_put(c, &h, &bytes, 1, &pos, error);
	if (got == COLD_OK)
		c->dicts[c->dicts_n++] = number;
	return got;
}
