#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "core/rand.h"
#include "journal/zip.h"

#include <string.h>

static char raw[BODY_PART_MAX], packed[ZIP_BOUND], back[BODY_PART_MAX];

static void fill_text(size_t n)
{
	static const char line[] =
		"Received: from mx.example.org by relay.example.net with QMTP; some date\r\n";

	for (size_t i = 0; i < n; i++)
		raw[i] = line[(i * 7 / 5) % (sizeof line - 1)];
}

static void fill_noise(size_t n)
{
	for (size_t i = 0; i < n; i++)
		raw[i] = (char)rand_u64();
}

static bool round_trip(struct zip *z, size_t n, struct msg_part *ret)
{
	struct span frame = zip_pack(z, span_of(raw, n), packed, ret);

	memset(back, 0x77, sizeof back);
	return ret->raw_n == n &&
	       zip_unpack(z, ret->codec, ret->dict, frame, ret->raw_hash, back, n) &&
	       memcmp(raw, back, n) == 0;
}

static void every_size_comes_back(void **state)
{
	static const size_t sizes[] = {
		0, 1, 15, 16, 17, 100, 4095, 65536, BODY_PART_MAX - 1, BODY_PART_MAX};
	struct zip *z = zip_new(1);
	struct msg_part p;

	rand_seed(1);
	for (unsigned i = 0; i < ARRAY_N(sizes); i++) {
		fill_text(sizes[i]);
		assert_true(round_trip(z, sizes[i], &p));
		assert_int_equal(p.codec, sizes[i] > 1000 ? CODEC_ZSTD : p.codec);
		fill_noise(sizes[i]);
		assert_true(round_trip(z, sizes[i], &p));
		assert_int_equal(p.codec, CODEC_RAW);
	}
	zip_free(z);
}

static void what_does_not_gain_a_sixteenth_stays_raw(void **state)
{
	struct zip *z = zip_new(1);
	struct msg_part p;

	rand_seed(2);
	fill_noise(16000);
	memset(raw, 'a', 800); /* gains 5 %: too little */
	assert_true(round_trip(z, 16000, &p));
	assert_int_equal(p.codec, CODEC_RAW);
	memset(raw, 'a', 2000);
	assert_true(round_trip(z, 16000, &p));
	assert_int_equal(p.codec, CODEC_ZSTD);
	zip_free(z);
}

static void damage_is_refused(void **state)
{
	struct zip *z = zip_new(1);
	struct msg_part p;
	struct span f;

	fill_text(5000);
	f = zip_pack(z, span_of(raw, 5000), packed, &p);
	assert_int_equal(p.codec, CODEC_ZSTD);
	for (size_t i = 0; i < f.n; i++) {
		packed[i] ^= 4;
		assert_false(zip_unpack(z, p.codec, 0, f, p.raw_hash, back, 5000));
		packed[i] ^= 4;
	}
	assert_false(zip_unpack(z, p.codec, 0, f, p.raw_hash, back, 4999));
	assert_false(zip_unpack(z, p.codec, 0, f, p.raw_hash, back, 5001));
	assert_false(zip_unpack(z, p.codec, 0, f, p.raw_hash + 1, back, 5000));
	assert_false(zip_unpack(z, p.codec, 0, span_until(f, f.n - 1), p.raw_hash, back, 5000));
	assert_false(
		zip_unpack(z, p.codec, 0, span_of(packed, f.n + 1), p.raw_hash, back, 5000));
	assert_false(zip_unpack(z, 7, 0, f, p.raw_hash, back, 5000));
	assert_false(zip_unpack(z, CODEC_ZSTD, 0, SPAN_NONE, p.raw_hash, back, 0));
	assert_true(zip_unpack(z, p.codec, 0, f, p.raw_hash, back, 5000));
	zip_free(z);
}

static void dictionary_is_named_and_needed(void **state)
{
	struct zip *z = zip_new(1), *other = zip_new(1);
	struct msg_part with, without;
	struct span f;

	fill_text(400);
	f = zip_pack(z, span_of(raw, 400), packed, &without);
	without.raw_n = (uint32_t)f.n;
	zip_add_dict(z, 12, span_of(raw, 400), true);
	f = zip_pack(z, span_of(raw, 400), packed, &with);
	assert_int_equal(with.codec, CODEC_ZSTD);
	assert_int_equal(with.dict, 12);
	assert_true(f.n < without.raw_n);
	assert_true(zip_unpack(z, with.codec, 12, f, with.raw_hash, back, 400));
	assert_memory_equal(raw, back, 400);
	assert_false(zip_unpack(z, with.codec, 13, f, with.raw_hash, back, 400));
	assert_false(zip_unpack(other, with.codec, 12, f, with.raw_hash, back, 400));
	zip_add_dict(other, 12, span_of(raw, 400), false);
	assert_true(zip_unpack(other, with.codec, 12, f, with.raw_hash, back, 400));
	(void)zip_pack(other, span_of(raw, 400), packed, &with);
	assert_int_equal(with.dict, 0);
	zip_free(z);
	zip_free(other);
}

/* New frames then need none: one that nobody can unpack would be worse than a larger one. */
static void a_refused_dictionary_is_not_used(void **state)
{
	static const char broken[64] = {0x37, (char)0xa4, 0x30, (char)0xec, 9, 9, 9};
	struct zip *z = zip_new(1);
	struct msg_part p;

	fill_text(400);
	zip_add_dict(z, 12, span_of(raw, 400), true);
	zip_add_dict(z, 13, span_of(broken, sizeof broken), true);
	assert_false(zip_has_dict(z, 13));
	(void)zip_pack(z, span_of(raw, 400), packed, &p);
	assert_int_equal(p.dict, 0);
	zip_add_dict(z, 12, SPAN_NONE, true); /* known already */
	assert_false(zip_has_dict(z, 0));
	zip_add_dict(z, 12, span_of(raw, 400), true);
	(void)zip_pack(z, span_of(raw, 400), packed, &p);
	assert_int_equal(p.dict, 12);
	zip_use_none(z);
	(void)zip_pack(z, span_of(raw, 400), packed, &p);
	assert_int_equal(p.dict, 0);
	assert_true(zip_has_dict(z, 12));
	zip_free(z);
}

static void the_oldest_gives_way_but_not_the_one_in_use(void **state)
{
	struct zip *z = zip_new(1);
	struct msg_part p;

	fill_text(400);
	zip_add_dict(z, 1, span_of(raw, 400), true);
	for (uint32_t id = 2; id <= 100; id++) {
		zip_add_dict(z, id, span_of(raw, 300 + id), false);
		assert_true(zip_has_dict(z, id));
		assert_true(zip_has_dict(z, 1));
	}
	assert_false(zip_has_dict(z, 2));
	assert_true(zip_has_dict(z, 60));
	(void)zip_pack(z, span_of(raw, 400), packed, &p);
	assert_int_equal(p.dict, 1);
	zip_add_dict(z, 101, span_of(raw, 350), true);
	zip_add_dict(z, 102, span_of(raw, 351), false);
	assert_false(zip_has_dict(z, 1));
	assert_true(zip_has_dict(z, 101));
	zip_free(z);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_size_comes_back),
		cmocka_unit_test(what_does_not_gain_a_sixteenth_stays_raw),
		cmocka_unit_test(damage_is_refused),
		cmocka_unit_test(dictionary_is_named_and_needed),
		cmocka_unit_test(a_refused_dictionary_is_not_used),
		cmocka_unit_test(the_oldest_gives_way_but_not_the_one_in_use),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
