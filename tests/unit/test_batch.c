#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "journal/batch.h"
#include "journal/walk.h"

#include <stdlib.h>
#include <string.h>

#define BLOCKS 64
#define INC    UINT64_C(0x1122334455667788)

static char blocks[BLOCKS * BLOCK_SIZE];

static void begin(struct batch_layout *b)
{
	memset(blocks, 0xee, sizeof blocks); /* what was in the ring before */
	batch_layout_init(b);
	b->blocks = blocks;
}

static uint64_t put(struct batch_layout *b, uint32_t number, uint32_t n)
{
	static char bytes[REC_MAX];
	struct rec_head h = {.type = REC_ACT, .number = number, .id = 7};
	struct span pieces[2] = {span_of(bytes, n / 3), span_of(bytes, n - n / 3)};

	memset(bytes, (int)number + 1, n);
	rec_seal_head(&h, pieces, 2);
	return batch_layout_put(b, &h, pieces, 2);
}

static struct batch_end some_end(void)
{
	return (struct batch_end){
		.incarnation = INC,
		.seq = 41,
		.watermark = 39,
		.chain = 5,
		.time_us = 12345,
		.flags = BATCH_ACKED,
		.block_flags = BLOCK_COLD,
	};
}

static void what_is_laid_out_is_found_again(void **state)
{
	static char body[REC_MAX];
	struct batch_layout b;
	struct batch_end e = some_end();
	struct batch_head h;
	struct rec_head r;
	uint64_t at[300], chain, q = sizeof h;

	begin(&b);
	for (uint32_t i = 0; i < 300; i++)
		at[i] = put(&b, i, i * 5 % 1999);
	assert_true(blocks_for(b.used) <= BLOCKS);
	chain = batch_layout_end(&b, &e);
	assert_true(batch_begins(blocks, INC, &h));
	assert_int_equal(h.blocks, blocks_for(b.used));
	assert_int_equal(batch_good_blocks(blocks, &h, INC), h.blocks);
	assert_int_equal(h.records, 300);
	assert_int_equal(h.seq, 41);
	assert_int_equal(h.watermark, 39);
	assert_int_equal(h.time_us, 12345);
	assert_int_equal(h.flags, BATCH_ACKED);
	assert_int_equal(h.payload_hash, payload_hash(blocks, sizeof h, h.payload_n));
	assert_true(h.chain == chain && chain == hash64_chain(5, h.payload_hash, 41));
	for (uint32_t i = 0; i < 300; i++) {
		assert_int_equal(at[i], q);
		payload_get(blocks, q, &r, sizeof r);
		payload_get(blocks, q + sizeof r, body, r.n);
		assert_true(rec_ok(&r, span_of(body, r.n)));
		assert_int_equal(r.number, i);
		assert_int_equal(r.n, i * 5 % 1999);
		q += rec_size(r.n);
	}
	assert_int_equal(q, sizeof h + h.payload_n);
	for (; q < (uint64_t)h.blocks * BLOCK_DATA; q++)
		assert_int_equal(blocks[payload_to_bytes(q)], 0);
	assert_int_equal((unsigned char)blocks[h.blocks * BLOCK_SIZE], 0xee);
}

/* Each tag says where the first record begins that begins in its block, or that none does. */
static void tags_say_where_records_begin(void **state)
{
	struct batch_layout b;
	struct batch_end e = some_end();
	uint64_t at[400];
	unsigned n = 0, none = 0;

	begin(&b);
	srand(1);
	while (b.used < (BLOCKS - 6) * BLOCK_DATA)
		at[n] = put(&b, n, (uint32_t)rand() % (n % 9 == 0 ? 14000 : 700)), n++;
	(void)batch_layout_end(&b, &e);
	for (uint64_t i = 0; i < blocks_for(b.used); i++) {
		struct block_tag t;
		uint64_t first = 0;

		assert_true(block_ok(blocks + i * BLOCK_SIZE, &t));
		for (unsigned k = n; k-- > 0;)
			if (at[k] / BLOCK_DATA == i)
				first = at[k] % BLOCK_DATA / 8 + 1;
		assert_int_equal(t.flags >> BLOCK_FIRST_SHIFT, first);
		none += first == 0;
		assert_int_equal(t.flags & BLOCK_FLAGS,
				 BLOCK_COLD | (i == 0 ? BLOCK_FIRST : 0) |
					 (i + 1 == blocks_for(b.used) ? BLOCK_LAST : 0));
		assert_int_equal(t.index, i);
		assert_int_equal(t.seq, 41);
		assert_int_equal(t.watermark_lag, 2);
	}
	assert_true(none > 0);
}

/* The last place in a block where a record's head may begin; and a batch that ends with a block. */
static void edges(void **state)
{
	struct batch_layout b;
	struct batch_end e = some_end();
	struct block_tag t;
	uint32_t n = BLOCK_DATA - 8 - sizeof(struct batch_head) - sizeof(struct rec_head);

	begin(&b);
	(void)put(&b, 0, n);
	assert_int_equal(put(&b, 1, 0), BLOCK_DATA - 8);
	assert_int_equal(blocks_for(b.used), 2);
	(void)put(&b, 2, (uint32_t)(2 * BLOCK_DATA - b.used - sizeof(struct rec_head)));
	(void)batch_layout_end(&b, &e);
	assert_int_equal(blocks_for(b.used), 2);
	assert_true(block_ok(blocks, &t));
	assert_int_equal(t.flags >> BLOCK_FIRST_SHIFT, sizeof(struct batch_head) / 8 + 1);
	assert_true(block_ok(blocks + BLOCK_SIZE, &t));
	assert_int_equal(t.flags >> BLOCK_FIRST_SHIFT, (sizeof(struct rec_head) - 8) / 8 + 1);
	begin(&b);
	(void)put(&b, 0, n + 8);
	(void)put(&b, 1, 8);
	(void)batch_layout_end(&b, &e);
	assert_true(block_ok(blocks + BLOCK_SIZE, &t));
	assert_int_equal(t.flags >> BLOCK_FIRST_SHIFT, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_laid_out_is_found_again),
		cmocka_unit_test(tags_say_where_records_begin),
		cmocka_unit_test(edges),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
