#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "journal/format.h"

#include <string.h>

static _Alignas(4096) char blocks[4 * BLOCK_SIZE];

static void block_tag_sees_every_bit(void **state)
{
	struct block_tag t = {.incarnation = 7, .seq = 9, .index = 3, .flags = BLOCK_FIRST},
			 got;

	for (int i = 0; i < BLOCK_DATA; i++)
		blocks[i] = (char)i;
	block_seal(blocks, &t);
	assert_true(block_ok(blocks, &got));
	assert_int_equal(got.seq, 9);
	assert_int_equal(got.index, 3);
	for (int bit = 0; bit < BLOCK_SIZE * 8; bit += 5) {
		blocks[bit / 8] ^= (char)(1 << bit % 8);
		assert_false(block_ok(blocks, &got));
		blocks[bit / 8] ^= (char)(1 << bit % 8);
	}
	memset(blocks, 0, BLOCK_SIZE);
	assert_false(block_ok(blocks, &got));
}

static void payload_goes_around_tags(void **state)
{
	char in[3 * BLOCK_DATA], out[3 * BLOCK_DATA];

	for (size_t i = 0; i < sizeof in; i++)
		in[i] = (char)(i * 31 >> 3);
	for (uint64_t q = 0; q < 2; q++) {
		memset(blocks, 0x55, sizeof blocks);
		payload_put(blocks, q * 4000, in, 5000);
		payload_get(blocks, q * 4000, out, 5000);
		assert_memory_equal(in, out, 5000);
		for (int i = BLOCK_DATA; i < BLOCK_SIZE; i++)
			assert_int_equal(blocks[i], 0x55);
		assert_int_equal(payload_hash(blocks, q * 4000, 5000), hash64(in, 5000));
	}
	payload_zero(blocks, BLOCK_DATA - 1, 2);
	assert_int_equal(blocks[BLOCK_DATA - 1], 0);
	assert_int_equal(blocks[BLOCK_DATA], 0x55);
	assert_int_equal(blocks[BLOCK_SIZE], 0);
}

/* Small records are hashed from a copy, large ones as a stream: the same sum. */
static void record_check_is_of_the_bytes_not_the_pieces(void **state)
{
	char body[2000];

	memset(body, 'x', sizeof body);
	for (size_t n = 0; n < sizeof body; n += 111) {
		struct rec_head a = {.type = REC_ACT, .id = 5}, b = a;
		struct span whole = span_of(body, n);
		struct span parts[3] = {span_of(body, n / 3), SPAN_NONE,
					span_of(body, n - n / 3)};

		rec_seal_head(&a, &whole, 1);
		rec_seal_head(&b, parts, 3);
		assert_int_equal(a.check, b.check);
		assert_true(rec_ok(&a, whole));
		a.id++;
		assert_false(rec_ok(&a, whole));
	}
}

static bool sealed_ok(enum rec_type type, uint8_t flags, uint16_t version, struct span body)
{
	struct rec_head h = {.type = (uint8_t)type, .flags = flags, .version = version};

	rec_seal_head(&h, &body, 1);
	return rec_ok(&h, body);
}

static void unknown_records_pass_only_if_they_may_be_skipped(void **state)
{
	assert_true(sealed_ok(REC_ACT, 0, REC_LAYOUT, SPAN("x")));
	assert_false(sealed_ok(REC_ACT, 0, REC_LAYOUT + 1, SPAN("x")));
	assert_true(sealed_ok(REC_ACT, REC_SKIP, REC_LAYOUT + 1, SPAN("x")));
	assert_false(sealed_ok(REC_TYPES, 0, REC_LAYOUT, SPAN("x")));
	assert_true(sealed_ok(REC_TYPES, REC_SKIP, REC_LAYOUT, SPAN("x")));
	assert_false(sealed_ok(0, 0, REC_LAYOUT, SPAN("x")));
}

static void recipients_must_add_up(void **state)
{
	struct {
		struct rec_rcpt r;
		char p[8];
	} __attribute__((packed)) b = {{0, 2}, "\1\0a\3\0bcd"};
	struct span body = span_of(&b, sizeof b);

	assert_true(sealed_ok(REC_RCPT, 0, 0, body));
	b.r.count = 3;
	assert_false(sealed_ok(REC_RCPT, 0, 0, body));
	b.r.count = 2;
	b.p[3] = 4;
	assert_false(sealed_ok(REC_RCPT, 0, 0, body));
	b.p[3] = 3;
	b.r.first = UINT32_MAX - 1;
	assert_false(sealed_ok(REC_RCPT, 0, 0, body));
	assert_false(sealed_ok(REC_RCPT, 0, 0, span_until(body, 7)));
}

static void bodies_must_have_the_size_they_say(void **state)
{
	struct {
		struct rec_body b;
		char p[8];
	} b = {{.raw_n = 8, .codec = CODEC_RAW}, "abcdefg"};

	assert_true(sealed_ok(REC_BODY, 0, 0, span_of(&b, sizeof b)));
	b.b.raw_n = 9;
	assert_false(sealed_ok(REC_BODY, 0, 0, span_of(&b, sizeof b)));
	b.b.codec = CODEC_ZSTD;
	assert_true(sealed_ok(REC_BODY, 0, 0, span_of(&b, sizeof b)));
	b.b.raw_n = BODY_PART_MAX + 1;
	assert_false(sealed_ok(REC_BODY, 0, 0, span_of(&b, sizeof b)));
	b.b.codec = 9;
	assert_false(sealed_ok(REC_BODY, 0, 0, span_of(&b, sizeof b)));
}

static void message_view_has_every_part(void **state)
{
	struct rec_msg m = {.body_parts = 1,
			    .rcpt_parts = 1,
			    .rcpts = 3,
			    .sender_n = 4,
			    .settles_n = 1,
			    .extra_n = 6};
	struct msg_range settles = {2, 5};
	uint64_t at[2] = {1111, 2222};
	_Alignas(8) char body[200];
	size_t n = 0;
	struct rec_head h = {.type = REC_MSG};
	struct msg_view v;
	struct span s;

	memcpy(body, &m, sizeof m), n += sizeof m;
	memcpy(body + n, at, sizeof at), n += sizeof at;
	memcpy(body + n, &settles, sizeof settles), n += sizeof settles;
	memcpy(body + n, "a@b.\7\0\2\0xy", 10), n += 10;
	s = span_of(body, n);
	rec_seal_head(&h, &s, 1);
	assert_true(rec_ok(&h, s));
	assert_true(msg_view(&h, s, &v));
	assert_int_equal(v.m->rcpts, 3);
	assert_int_equal(msg_position(&v, 1), 2222);
	assert_int_equal(range_at(v.settles, 0).last, 5);
	assert_true(span_eq(v.sender, SPAN("a@b.")));
	assert_int_equal(v.extra.n, 6);
	assert_false(msg_view(&h, span_until(s, n - 1), &v));
	body[n - 3 - 1] = 3; /* an extra that runs over the end */
	assert_false(msg_view(&h, s, &v));
	m.body_parts = UINT32_MAX;
	m.rcpt_parts = UINT32_MAX;
	memcpy(body, &m, sizeof m);
	assert_false(msg_view(&h, s, &v));
}

static void outcome_view_checks_its_ranges(void **state)
{
	struct {
		struct rec_state s;
		struct msg_range r[2];
		char text[2];
	} __attribute__((packed, aligned(8)))
	b = {{.outcome = OUTCOME_FAILED, .ranges_n = 2, .text_n = 2}, {{0, 1}, {5, 5}}, "no"};
	struct rec_head h = {.type = REC_STATE};
	struct span s = span_of(&b, sizeof b.s + sizeof b.r + sizeof b.text);
	struct state_view v;

	assert_true(state_view(&h, s, &v));
	assert_int_equal(range_at(v.ranges, 1).first, 5);
	assert_true(span_eq(v.text, SPAN("no")));
	b.r[1].last = 4;
	assert_false(state_view(&h, s, &v));
	b.r[1].last = 5;
	b.s.outcome = 0;
	assert_false(state_view(&h, s, &v));
	b.s.outcome = OUTCOME_DROPPED;
	b.s.ranges_n = 3;
	assert_false(state_view(&h, s, &v));
}

static void names_of_files(void **state)
{
	char name[SEGMENT_NAME_MAX];
	enum segment_file kind;
	uint64_t n;

	segment_name(name, FILE_SPARE, 0x1f);
	assert_string_equal(name, "spare-000000000000001f");
	assert_true(segment_name_parse(name, &kind, &n));
	assert_int_equal(kind, FILE_SPARE);
	assert_int_equal(n, 0x1f);
	assert_false(segment_name_parse("seg-1f", &kind, &n));
	assert_false(segment_name_parse("seg-000000000000001F", &kind, &n));
	assert_false(segment_name_parse("seg-000000000000001f0", &kind, &n));
	assert_false(segment_name_parse("lock", &kind, &n));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(block_tag_sees_every_bit),
		cmocka_unit_test(payload_goes_around_tags),
		cmocka_unit_test(record_check_is_of_the_bytes_not_the_pieces),
		cmocka_unit_test(unknown_records_pass_only_if_they_may_be_skipped),
		cmocka_unit_test(recipients_must_add_up),
		cmocka_unit_test(bodies_must_have_the_size_they_say),
		cmocka_unit_test(message_view_has_every_part),
		cmocka_unit_test(outcome_view_checks_its_ranges),
		cmocka_unit_test(names_of_files),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
