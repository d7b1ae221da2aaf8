#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "core/rand.h"
#include "journal/batch.h"
#include "journal/extent.h"

#include <string.h>

#define RECORDS    60
#define BLOCKS_MAX 40
#define INC        UINT64_C(0x1234567890abcdef)
#define SEQ        77

static _Alignas(4096) char batch[BLOCKS_MAX * BLOCK_SIZE], copy[BLOCKS_MAX * BLOCK_SIZE];
static char body[20000];
static uint32_t sizes[RECORDS], n, blocks;
static uint64_t offsets[RECORDS];

/* Bodies that look like records themselves: nobody may take them for some. */
static void fill_body(size_t size)
{
	struct rec_head fake = {.type = REC_ACT, .id = 999};

	rec_seal_head(&fake, NULL, 0);
	for (size_t at = 0; at + sizeof fake <= size; at += sizeof fake)
		memcpy(body + at, &fake, sizeof fake);
}

static void make_batch(void)
{
	struct batch_layout b;

	batch_layout_init(&b);
	b.blocks = batch;
	n = 1 + (uint32_t)rand_below(RECORDS);
	for (uint32_t i = 0; i < n; i++) {
		struct rec_head h = {.type = REC_ACT, .id = 1, .number = i};
		struct span piece;

		sizes[i] = (uint32_t)rand_below(rand_below(8) ? 600 : 9000);
		if (blocks_for(batch_layout_with(&b, rec_size(sizes[i]))) > BLOCKS_MAX) {
			n = i;
			break;
		}
		piece = span_of(body, sizes[i]);
		rec_seal_head(&h, &piece, 1);
		offsets[i] = batch_layout_put(&b, &h, &piece, 1);
	}
	blocks = (uint32_t)blocks_for(b.used);
	batch_layout_end(&b, &(struct batch_end){.incarnation = INC, .seq = SEQ});
}

static bool touches(uint32_t i, uint64_t bad)
{
	uint64_t end = offsets[i] + sizeof(struct rec_head) + sizes[i];

	for (uint64_t k = offsets[i] / BLOCK_DATA; k <= (end - 1) / BLOCK_DATA; k++)
		if (bad >> k & 1)
			return true;
	return false;
}

/* All records that touch no bad block come, in order, whole; and a gap is said if others are lost. */
static void expect(struct extent *x, uint64_t bad, uint64_t skipped)
{
	struct rec_head h;
	struct span s;
	uint64_t at;
	uint32_t next = 0;
	bool gap = skipped > 0, lost = false;
	enum extent_next got;

	while ((got = extent_next(x, &at, &h, &s)) != EXTENT_END) {
		gap |= got == EXTENT_GAP;
		if (got == EXTENT_GAP)
			continue;
		assert_true(rec_ok(&h, s));
		assert_int_equal(h.id, 1);
		for (; next < h.number; next++) {
			assert_true(touches(next, bad));
			lost = true;
		}
		assert_false(touches(next, bad));
		assert_int_equal(at + skipped * BLOCK_DATA, offsets[next]);
		assert_int_equal(s.n, sizes[next]);
		next++;
	}
	for (; next < n; next++) {
		assert_true(touches(next, bad));
		lost = true;
	}
	assert_true(gap || !lost);
	assert_int_equal(extent_next(x, &at, &h, &s), EXTENT_END);
}

static void records_around_bad_blocks_come_out(void **state)
{
	struct batch_head h;
	struct extent x;
	struct block_tag t;

	for (unsigned round = 0; round < 3000; round++) {
		uint64_t bad = 0, all;
		uint32_t from = 0, rest;

		make_batch();
		all = (UINT64_C(1) << blocks) - 1;
		if (round % 4)
			bad = rand_u64() & (round % 2 ? rand_u64() & rand_u64() : rand_u64()) & all;
		memcpy(copy, batch, sizeof copy);
		for (uint32_t i = 0; i < blocks; i++)
			if (bad >> i & 1)
				copy[i * BLOCK_SIZE + rand_below(BLOCK_SIZE)] ^= 1;
		memcpy(&h, batch, sizeof h);
		while (bad >> from & 1)
			from++;
		if (from >= blocks)
			continue;
		if (from == 0) {
			extent_open(&x, copy,
				    &(struct extent_of){.incarnation = INC,
							.seq = SEQ,
							.blocks = blocks,
							.head = &h});
			expect(&x, bad, 0);
			continue;
		}
		/* The head is lost with the first block: what is left of the batch, from a good one on. */
		assert_true(block_ok(copy + from * BLOCK_SIZE, &t));
		rest = extent_rest(copy + from * BLOCK_SIZE, blocks - from, INC, &t);
		assert_true(rest > 0 && !(bad >> (from + rest - 1) & 1));
		extent_open(&x, copy + from * BLOCK_SIZE,
			    &(struct extent_of){
				    .incarnation = INC, .seq = SEQ, .blocks = rest, .index = from});
		expect(&x, bad, from);
	}
}

static void rest_of_a_batch_ends_with_its_last_block_or_the_next_batch(void **state)
{
	struct block_tag t = {.incarnation = INC, .seq = 5, .index = 3};

	memset(batch, 0, sizeof batch);
	for (uint16_t i = 0; i < 4; i++) {
		t.index = (uint16_t)(3 + i);
		t.flags = i == 2 ? BLOCK_LAST : 0;
		block_seal(batch + i * BLOCK_SIZE, &t);
	}
	t.index = 3;
	assert_int_equal(extent_rest(batch, 8, INC, &t), 3);
	assert_int_equal(extent_rest(batch, 2, INC, &t), 2);
	block_seal(batch + BLOCK_SIZE, &(struct block_tag){.incarnation = INC, .seq = 6});
	assert_int_equal(extent_rest(batch, 8, INC, &t), 1);
	t.index = BATCH_BLOCKS_MAX + 5; /* no batch has so many */
	assert_int_equal(extent_rest(batch, 8, INC, &t), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(records_around_bad_blocks_come_out),
		cmocka_unit_test(rest_of_a_batch_ends_with_its_last_block_or_the_next_batch),
	};

	rand_seed(7);
	fill_body(sizeof body);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
