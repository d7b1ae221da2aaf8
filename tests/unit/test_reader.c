#include "journal_home.h"

#include "journal/batch.h"

#include <sys/file.h>

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
static unsigned open_files(void)
{
	DIR *d = opendir("/proc/self/fd");
	unsigned n = 0;

	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

/* A group of segments is given up at once. */
static void forgets_every_file_that_it_looked_into(void **state)
{
	struct reader *r;
	struct record rec;
	unsigned before;

	home_open(&home);
	put(0, N);
	home_close(&home);
	r = home_reader(&home, false);
	before = open_files();
	for (uint32_t i = 0; i < N; i += 10)
		assert_int_equal(reader_at(r, positions[i], REC_ACT, 77, i, &rec), READ_OK);
	assert_true(open_files() > before + 1);
	reader_forget(r);
	assert_int_equal(open_files(), before);
	assert_int_equal(reader_at(r, positions[0], REC_ACT, 77, 0, &rec), READ_OK);
	reader_free(r);
}

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

/* ---- cold segments, history, one segment, tools ---- */

static _Alignas(4096) char cold[HOME_SEGMENT];

/* A cold segment of one batch: copies of some records, a dictionary in front; written as a file.
 * Returns its end. */
static uint64_t make_cold(uint64_t number, const uint8_t *uuid, uint32_t from, uint32_t to)
{
	struct batch_layout b;
	struct segment_head h = {.number = number,
				 .segment_size = HOME_SEGMENT,
				 .first_seq = 1,
				 .epoch = 1,
				 .oldest = number,
				 .generation = 1};
	struct rec_head r = {.type = REC_DICT, .number = 9};
	struct span dict = SPAN("a dictionary");
	static char bytes[30000];
	char path[128];
	int fd;

	memset(cold, 0, sizeof cold);
	memcpy(h.uuid, uuid, sizeof h.uuid);
	segment_head_put(cold, &h, NULL, false);
	segment_head_put(cold + HOME_SEGMENT - BLOCK_SIZE, &h, NULL, true);
	batch_layout_init(&b);
	b.blocks = cold + BLOCK_SIZE;
	rec_seal_head(&r, &dict, 1);
	batch_layout_put(&b, &r, &dict, 1);
	for (uint32_t i = from; i < to; i++) {
		struct span piece = span_of(bytes, size_of(i));

		r = (struct rec_head){.type = REC_ACT, .id = 77, .number = i};
		for (size_t k = 0; k < piece.n; k++)
			bytes[k] = (char)(77 * 7 + i * 3 + k * (k >> 8 | 1));
		rec_seal_head(&r, &piece, 1);
		positions[i] = number * HOME_SEGMENT + BLOCK_SIZE +
			       payload_to_bytes(batch_layout_put(&b, &r, &piece, 1));
	}
	batch_layout_end(&b, &(struct batch_end){.incarnation = incarnation_of(uuid, number),
						 .seq = 1,
						 .block_flags = BLOCK_COLD});
	snprintf(path, sizeof path, "%s/seg-%016llx", home.dir, (unsigned long long)number);
	fd = open(path, O_WRONLY | O_CREAT, 0600);
	assert_int_equal(write(fd, cold, sizeof cold), (ssize_t)sizeof cold);
	close(fd);
	return number * HOME_SEGMENT + BLOCK_SIZE + blocks_for(b.used) * BLOCK_SIZE;
}

/* What was in the first segment is copied into a cold one; it is dropped, or kept as history. */
static uint32_t compact_first(bool history)
{
	uint32_t in_first = 0, n;
	uint64_t first = commit_named(home.commit, &n)->number, end;

	assert_true(n > 1);
	while (positions[in_first] / HOME_SEGMENT == first)
		in_first++;
	assert_true(in_first > 0 && in_first < N);
	end = make_cold(COLD_FIRST + 3, commit_uuid(home.commit), 0, in_first);
	assert_true(commit_name(home.commit,
				&(struct manifest_entry){.number = COLD_FIRST + 3,
							 .end = end,
							 .state = SEGMENT_QUEUE}) > 0);
	if (history)
		commit_to_history(home.commit, first, 5);
	else
		commit_drop(home.commit, first);
	commit_switch(home.commit);
	n = (uint32_t)commit_number(home.commit);
	while (commit_number(home.commit) == n)
		loop_pass(home.loop);
	home_settle(&home);
	return in_first;
}

static void look_up_cold(struct reader *r, uint32_t in_cold)
{
	uint64_t at = positions[in_cold - 1];
	struct record rec;

	for (uint32_t i = 0; i < in_cold; i++) {
		assert_int_equal(reader_at(r, positions[i], REC_ACT, 77, i, &rec), READ_OK);
		assert_true(home_is(&rec, 77, i, size_of(i)));
	}
	for (int i = 0; i < 2; i++) { /* found by walking, then by its place */
		assert_int_equal(reader_dict(r, at, 9, &rec), READ_OK);
		assert_true(span_eq(rec.body, SPAN("a dictionary")));
	}
	assert_int_equal(reader_dict(r, at, 8, &rec), READ_GONE);
	assert_int_equal(reader_dict(r, positions[N - 1], 9, &rec), READ_GONE);
}

static void cold_segments_come_first(void **state)
{
	uint32_t n, in_cold;
	struct reader *r;

	home_open(&home);
	put(0, N - 20);
	in_cold = compact_first(false);
	r = home_reader(&home, true);
	assert_int_equal(reader_manifest(r, &n)[0].number, COLD_FIRST + 3);
	expect(r, 0, N - 20);
	put(N - 20, N);
	expect(r, N - 20, N); /* and on with the tail, as ever */
	look_up_cold(r, in_cold);
	reader_free(r);
	home_close(&home);
	r = home_reader(&home, false);
	expect(r, 0, N);
	look_up_cold(r, in_cold);
	reader_free(r);
}

/* Only up to the end that the head names: what lies behind it is nobody's. */
static void cold_bytes_that_no_head_names_are_ignored(void **state)
{
	struct reader *r;

	home_open(&home);
	put(0, N);
	make_cold(COLD_FIRST + 7, commit_uuid(home.commit), 0, 0);
	home_close(&home);
	r = home_reader(&home, false);
	expect(r, 0, N);
	reader_free(r);
}

static void bad_cold_segment_is_said_and_the_rest_is_read(void **state)
{
	unsigned damages = 0, reads = 0;
	struct record rec;
	struct reader *r;
	uint32_t in_cold;

	home_open(&home);
	put(0, N);
	in_cold = compact_first(false);
	home_close(&home);
	home_flip(&home, positions[1] + 8, 1);
	r = home_reader(&home, false);
	for (enum read_result got; (got = home_next(r, &rec)) != READ_END;) {
		damages += got == READ_DAMAGE;
		reads += got == READ_OK;
	}
	reader_free(r);
	assert_true(damages > 0 && reads < N && reads >= N - in_cold);
}

static void history_is_walked_when_asked_for(void **state)
{
	struct reader *r;
	struct record rec;
	uint32_t in_cold, n = 0;

	home_open(&home);
	put(0, N);
	in_cold = compact_first(true);
	home_close(&home);
	r = home_reader(&home, false);
	expect(r, 0, N);
	reader_free(r);
	r = reader_new(home.disk, NULL, HOME_SEGMENT, 1);
	reader_with_history(r);
	assert_int_equal(reader_open(r, &(struct buf){.max = 100}), 0);
	while (home_next(r, &rec) == READ_OK)
		n++;
	assert_int_equal(n, N + in_cold);
	reader_free(r);
}

static void one_segment_is_read_alone(void **state)
{
	char from[128], to[128];
	struct buf why;
	struct reader *r;
	struct record rec;
	struct read_batch b;
	uint64_t number;
	uint32_t i = 0;

	home_open(&home);
	put(0, N);
	home_close(&home);
	number = positions[0] / HOME_SEGMENT;
	buf_init(&why, 100);
	for (int quarantined = 0; quarantined < 2; quarantined++) {
		r = reader_new(home.disk, NULL, HOME_SEGMENT, 1);
		assert_int_equal(reader_only(r, number, 0, &why), 0);
		for (i = 0; home_next(r, &rec) == READ_OK; i++) {
			assert_true(home_is(&rec, 77, i, size_of(i)));
			assert_true(reader_batch(r, &b));
			assert_true(b.pos <= rec.pos && rec.pos < b.end && b.seq > 0);
		}
		assert_true(i > 0 && positions[i] / HOME_SEGMENT == number + 1);
		reader_free(r);
		snprintf(from, sizeof from, "%s/seg-%016llx", home.dir,
			 (unsigned long long)number);
		snprintf(to, sizeof to, "%s/bad-%016llx", home.dir, (unsigned long long)number);
		(void)rename(from, to);
	}
	r = reader_new(home.disk, NULL, HOME_SEGMENT, 1);
	assert_true(reader_only(r, 4711, 0, &why) < 0);
	assert_int_equal(home_next(r, &rec), READ_DAMAGE);
	reader_free(r);
	buf_free(&why);
}

/* A tool beside a running journald: one state, up to what was durable, and nothing of it is
 * used again before the tool is through. */
static void tool_holds_what_it_reads(void **state)
{
	struct reader *r;
	char path[128];
	int fd;

	home_open(&home);
	put(0, 50);
	r = reader_new(home.disk, NULL, HOME_SEGMENT, 1);
	reader_for_tool(r, ring_durable(&home.ring));
	assert_int_equal(reader_open(r, &(struct buf){.max = 100}), 0);
	put(50, N);
	expect(r, 0, 50);
	snprintf(path, sizeof path, "%s/seg-%016llx", home.dir,
		 (unsigned long long)(positions[0] / HOME_SEGMENT));
	fd = open(path, O_RDONLY);
	assert_int_equal(flock(fd, LOCK_EX | LOCK_NB), -1);
	reader_free(r);
	assert_int_equal(flock(fd, LOCK_EX | LOCK_NB), 0);
	close(fd);
}

static void body_heads_are_given_without_the_rest(void **state)
{
	static char raw[20000];
	struct rec_body b = {.raw_n = sizeof raw, .codec = CODEC_RAW};
	struct rec_head h = {.type = REC_BODY, .id = 3};
	struct reader *r;
	struct record rec;

	home_open(&home);
	assert_true(commit_add(home.commit, &h,
			       (struct span[]){span_of(&b, sizeof b), span_of(raw, sizeof raw)},
			       2, 0) > 0);
	home_settle(&home);
	r = home_reader(&home, true);
	assert_int_equal(reader_next(r, BODIES_HEADS, &rec), READ_OK);
	assert_int_equal(rec.body.n, sizeof b);
	assert_int_equal(rec.head.n, sizeof b + sizeof raw);
	assert_memory_equal(rec.body.p, &b, sizeof b);
	reader_free(r);
}

/* One batch of many records in many blocks: a bad block costs those that touch it, and no
 * others, wherever it is; the first one too, although the batch's head is in it. */
static void records_behind_a_bad_block_are_read(void **state)
{
	uint64_t begin;
	unsigned behind = 0;

	home_open(&home);
	home_put(&home, REC_ACT, 1, 0, 100, 0);
	home_settle(&home);
	for (uint32_t i = 0; i < 30; i++)
		positions[i] = home_put(&home, REC_ACT, 77, i, 1000 + i, COMMIT_ACKED);
	home_settle(&home);
	home_put(&home, REC_ACT, 1, 0, 100, 0);
	home_close(&home);
	begin = positions[0] / BLOCK_SIZE * BLOCK_SIZE;
	assert_true(positions[29] - begin > 6 * BLOCK_SIZE);
	for (uint64_t bad = begin; bad <= positions[29]; bad += BLOCK_SIZE) {
		struct reader *r;
		struct record rec;
		bool read[30] = {0};
		unsigned damages = 0;

		home_flip(&home, bad + 2000, 4);
		r = home_reader(&home, false);
		for (enum read_result got; (got = home_next(r, &rec)) != READ_END;) {
			damages += got == READ_DAMAGE;
			if (got == READ_OK && rec.head.id == 77) {
				assert_true(home_is(&rec, 77, rec.head.number,
						    1000 + rec.head.number));
				read[rec.head.number] = true;
			}
		}
		reader_free(r);
		assert_true(damages > 0);
		for (uint32_t i = 0; i < 30; i++) {
			uint64_t end = positions[i] % BLOCK_SIZE + sizeof rec.head + 1000 + i;
			uint64_t last = positions[i] / BLOCK_SIZE + blocks_for(end) - 1;
			bool touched = positions[i] / BLOCK_SIZE <= bad / BLOCK_SIZE &&
				       bad / BLOCK_SIZE <= last;

			assert_int_equal(read[i], !touched);
			behind += read[i] && positions[i] > bad;
		}
		home_flip(&home, bad + 2000, 4);
	}
	assert_true(behind > 0);
}

static const struct disk_calls *real_calls;
static int no_descriptor;

static int open_sometimes(struct disk *d, const char *name, int flags, struct disk_file **ret)
{
	return no_descriptor ? -no_descriptor : real_calls->open(d, name, flags, ret);
}

/* Out of descriptors is not damage: the same is read again.  A disk that can't open it is. */
static void only_the_disk_makes_damage(void **state)
{
	struct disk_calls calls = *home.disk->calls;
	struct reader *r;
	struct record rec;

	home_open(&home);
	put(0, N);
	home_close(&home);
	r = home_reader(&home, false);
	real_calls = home.disk->calls;
	calls.open = open_sometimes;
	home.disk->calls = &calls;
	no_descriptor = EMFILE;
	assert_int_equal(home_next(r, &rec), READ_ERROR);
	assert_int_equal(home_next(r, &rec), READ_ERROR);
	assert_int_equal(reader_at(r, positions[0], REC_ACT, 77, 0, &rec), READ_ERROR);
	no_descriptor = 0;
	expect(r, 0, N);
	assert_int_equal(reader_at(r, positions[0], REC_ACT, 77, 0, &rec), READ_OK);
	reader_free(r);
	r = home_reader(&home, false);
	no_descriptor = EIO;
	assert_int_equal(home_next(r, &rec), READ_DAMAGE);
	no_descriptor = 0;
	while (home_next(r, &rec) != READ_END) /* and on with the next segment */
		assert_true(rec.pos / HOME_SEGMENT > positions[0] / HOME_SEGMENT);
	reader_free(r);
	home.disk->calls = real_calls;
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
		cmocka_unit_test_setup_teardown(forgets_every_file_that_it_looked_into, begin, end),
		cmocka_unit_test_setup_teardown(look_ups_and_walk_mix, begin, end),
		cmocka_unit_test_setup_teardown(bad_bytes_are_said, begin, end),
		cmocka_unit_test_setup_teardown(bad_head_of_an_old_segment_is_said_and_passed,
						begin, end),
		cmocka_unit_test_setup_teardown(cold_segments_come_first, begin, end),
		cmocka_unit_test_setup_teardown(cold_bytes_that_no_head_names_are_ignored,
						begin, end),
		cmocka_unit_test_setup_teardown(bad_cold_segment_is_said_and_the_rest_is_read,
						begin, end),
		cmocka_unit_test_setup_teardown(history_is_walked_when_asked_for, begin, end),
		cmocka_unit_test_setup_teardown(one_segment_is_read_alone, begin, end),
		cmocka_unit_test_setup_teardown(tool_holds_what_it_reads, begin, end),
		cmocka_unit_test_setup_teardown(body_heads_are_given_without_the_rest, begin, end),
		cmocka_unit_test_setup_teardown(records_behind_a_bad_block_are_read, begin, end),
		cmocka_unit_test_setup_teardown(only_the_disk_makes_damage, begin, end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
