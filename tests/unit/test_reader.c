#include "journal_home.h"

static struct home home;

static int begin(void **state)
{
	home_init(&home, LOOP_AUTO);
	return 0;
}

static int end(void **state)
{
	home_fini(&home);
	return 0;
}

#define N 200

static uint64_t positions[N];

static size_t size_of(uint32_t i)
{
	return i % 9 == 0 ? 20000 : 10 + i * 13 % 3000;
}

static void put(uint32_t from, uint32_t to)
{
	for (uint32_t i = from; i < to; i++)
		positions[i] = home_put(&home, REC_ACT, 77, i, size_of(i), COMMIT_ACKED);
	home_settle(&home);
}

static void expect(struct reader *r, uint32_t from, uint32_t to)
{
	struct record rec;

	for (uint32_t i = from; i < to; i++) {
		assert_int_equal(home_next(r, &rec), READ_OK);
		assert_int_equal(rec.pos, positions[i]);
		assert_true(home_is(&rec, 77, i, size_of(i)));
	}
	assert_int_equal(home_next(r, &rec), READ_END);
}

static void reads_a_stopped_journal(void **state)
{
	struct reader *r;

	home_open(&home);
	put(0, N);
	home_close(&home);
	r = home_reader(&home, false);
	expect(r, 0, N);
	reader_free(r);
}

static void follows_a_running_one_across_seals(void **state)
{
	struct reader *r;

	home_open(&home);
	r = home_reader(&home, true);
	for (uint32_t i = 0; i < N; i += 10) {
		put(i, i + 10);
		expect(r, i, i + 10);
		assert_true(reader_pos(r) >= ring_durable(&home.ring));
	}
	reader_free(r);
}

/* The ring has long gone round: the same comes from the files. */
static void falls_behind_the_ring(void **state)
{
	struct reader *r;

	home_open(&home);
	put(0, 5);
	r = home_reader(&home, true);
	expect(r, 0, 5);
	put(5, N);
	for (uint64_t id = 1; id < 100; id++)
		home_put(&home, REC_NOP, 0, 0, 20000, 0);
	home_settle(&home);
	assert_false(ring_holds(&home.ring, positions[5]));
	expect(r, 5, N);
	reader_free(r);
}

static void goes_on_after_journald_was_started_anew(void **state)
{
	struct reader *r;

	home_open(&home);
	r = home_reader(&home, true);
	put(0, 50);
	expect(r, 0, 50);
	home_close(&home);
	home_open(&home);
	put(50, 60);
	expect(r, 50, 60);
	home_close(&home);
	home_open(&home);
	home_close(&home);
	home_open(&home);
	put(60, N);
	expect(r, 60, N);
	reader_free(r);
}

static void bodies_are_passed_over(void **state)
{
	struct rec_body b = {.raw_n = 5, .codec = CODEC_RAW};
	struct rec_head h = {.type = REC_BODY, .id = 3};
	struct reader *r;
	struct record rec;

	home_open(&home);
	assert_true(commit_add(home.commit, &h,
			       (struct span[]){span_of(&b, sizeof b), SPAN("hello")}, 2,
			       0) > 0);
	home_put(&home, REC_ACT, 4, 0, 10, 0);
	home_settle(&home);
	r = home_reader(&home, true);
	assert_int_equal(reader_next(r, false, &rec), READ_OK);
	assert_int_equal(rec.head.type, REC_ACT);
	reader_free(r);
	r = home_reader(&home, true);
	assert_int_equal(reader_next(r, true, &rec), READ_OK);
	assert_int_equal(rec.head.type, REC_BODY);
	reader_free(r);
}

static void looks_up_one_record(void **state)
{
	struct record rec;
	struct reader *r;

	home_open(&home);
	put(0, N);
	for (int running = 1; running >= 0; running--) {
		r = home_reader(&home, running);
		for (uint32_t i = N; i-- > 0;) {
			assert_int_equal(reader_at(r, positions[i], REC_ACT, 77, i, &rec),
					 READ_OK);
			assert_true(home_is(&rec, 77, i, size_of(i)));
		}
		assert_int_equal(reader_at(r, positions[3], REC_ACT, 77, 4, &rec), READ_GONE);
		assert_int_equal(reader_at(r, positions[3], REC_ACT, 78, 3, &rec), READ_GONE);
		assert_int_equal(reader_at(r, positions[3], REC_BODY, 77, 3, &rec), READ_GONE);
		assert_int_equal(reader_at(r, positions[3] + 1, REC_ACT, 77, 3, &rec),
				 READ_GONE);
		assert_int_equal(reader_at(r, positions[3] + 8, REC_ACT, 77, 3, &rec),
				 READ_GONE);
		assert_int_equal(reader_at(r, 0, REC_ACT, 77, 3, &rec), READ_GONE);
		assert_int_equal(reader_at(r, (uint64_t)9999 * HOME_SEGMENT + 4096, REC_ACT, 77,
					   3, &rec),
				 READ_GONE);
		assert_int_equal(reader_at(r, UINT64_MAX - 7, REC_ACT, 77, 3, &rec), READ_GONE);
		reader_free(r);
		home_close(&home);
	}
}

/* A look-up does not disturb the walk, nor the other way round. */
static void look_ups_and_walk_mix(void **state)
{
	struct record rec;
	struct reader *r;

	home_open(&home);
	put(0, N);
	r = home_reader(&home, true);
	for (uint32_t i = 0; i < N; i++) {
		assert_int_equal(home_next(r, &rec), READ_OK);
		assert_true(home_is(&rec, 77, i, size_of(i)));
		assert_int_equal(
			reader_at(r, positions[N - 1 - i], REC_ACT, 77, N - 1 - i, &rec),
			READ_OK);
		assert_true(home_is(&rec, 77, N - 1 - i, size_of(N - 1 - i)));
	}
	reader_free(r);
}

/* One bad byte anywhere in the blocks of sealed segments: said, what is in other batches is
 * read, and nothing is ever changed. */
static void bad_bytes_are_said(void **state)
{
	unsigned damages, reads;
	struct record rec;
	struct reader *r;

	home_open(&home);
	put(0, N);
	home_close(&home);
	for (uint64_t pos = positions[20]; pos < positions[N - 40]; pos += 1237) {
		home_flip(&home, pos, 0x10);
		r = home_reader(&home, false);
		damages = reads = 0;
		for (enum read_result got; (got = reader_next(r, true, &rec)) != READ_END;) {
			assert_true(got == READ_OK || got == READ_DAMAGE);
			damages += got == READ_DAMAGE;
			if (got != READ_OK || rec.head.type != REC_ACT)
				continue;
			reads++;
			assert_true(rec.head.number < N);
			assert_int_equal(rec.pos, positions[rec.head.number]);
			assert_true(
				home_is(&rec, 77, rec.head.number, size_of(rec.head.number)));
		}
		reader_free(r);
		assert_true(reads >= N - 20);
		/* The unused end of a segment is no record's. */
		if (reads < N)
			assert_true(damages > 0);
		home_flip(&home, pos, 0x10);
	}
}

static void bad_head_of_an_old_segment_is_said_and_passed(void **state)
{
	unsigned damages = 0, reads = 0;
	struct record rec;
	struct reader *r;

	home_open(&home);
	put(0, N);
	home_close(&home);
	home_flip(&home, (positions[0] / HOME_SEGMENT + 1) * HOME_SEGMENT + 50, 1);
	home_flip(&home, positions[0] / HOME_SEGMENT * HOME_SEGMENT + 50, 1);
	r = home_reader(&home, false);
	for (enum read_result got; (got = reader_next(r, true, &rec)) != READ_END;) {
		damages += got == READ_DAMAGE;
		reads += got == READ_OK && rec.head.type == REC_ACT;
	}
	reader_free(r);
	assert_int_equal(reads, N);
	assert_int_equal(damages, 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(reads_a_stopped_journal, begin, end),
		cmocka_unit_test_setup_teardown(follows_a_running_one_across_seals, begin, end),
		cmocka_unit_test_setup_teardown(falls_behind_the_ring, begin, end),
		cmocka_unit_test_setup_teardown(goes_on_after_journald_was_started_anew, begin,
						end),
		cmocka_unit_test_setup_teardown(bodies_are_passed_over, begin, end),
		cmocka_unit_test_setup_teardown(looks_up_one_record, begin, end),
		cmocka_unit_test_setup_teardown(look_ups_and_walk_mix, begin, end),
		cmocka_unit_test_setup_teardown(bad_bytes_are_said, begin, end),
		cmocka_unit_test_setup_teardown(bad_head_of_an_old_segment_is_said_and_passed,
						begin, end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
