#include "journal_home.h"

static struct home home;
static struct journal_end found;

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

static uint64_t first_pos, last_pos;

/* Some batches of one record each, in one segment. */
static void put(unsigned n, unsigned flags)
{
	for (unsigned i = 0; i < n; i++) {
		last_pos = home_put(&home, REC_ACT, 1, i, 6000, flags);
		if (i == 0)
			first_pos = last_pos;
		home_settle(&home);
	}
}

static enum recovered recovered(void)
{
	enum recovered v;

	journal_end_fini(&found);
	v = journal_recover(home.disk, &found);
	return v;
}

static void expect_why(const char *part)
{
	assert_true(buf_add_byte(&found.why, '\0'));
	assert_non_null(strstr(found.why.p, part));
	journal_end_fini(&found);
}

static void path_of(char path[128], uint64_t number)
{
	snprintf(path, 128, "%s/seg-%016llx", home.dir, (unsigned long long)number);
}

static void nothing_is_empty(void **state)
{
	assert_int_equal(recovered(), RECOVERED_EMPTY);
	assert_int_equal(found.number, 0);
}

static void whole_batches_are_clean(void **state)
{
	home_open(&home);
	put(4, COMMIT_ACKED);
	home_close(&home);
	assert_int_equal(recovered(), RECOVERED_CLEAN);
	assert_int_equal(found.seq, 4);
	assert_int_equal(found.end, last_pos / BLOCK_SIZE * BLOCK_SIZE + 2 * BLOCK_SIZE);
	journal_end_fini(&found);
}

/* What a power loss leaves: the last batch without its second block. */
static void missing_block_of_the_last_batch_is_torn(void **state)
{
	char path[128], zeros[BLOCK_SIZE] = {0};
	uint64_t at;
	int fd;

	home_open(&home);
	put(4, COMMIT_ACKED);
	home_close(&home);
	at = last_pos / BLOCK_SIZE * BLOCK_SIZE;
	path_of(path, 1);
	fd = open(path, O_WRONLY);
	assert_int_equal(
		pwrite(fd, zeros, sizeof zeros, (off_t)(at % HOME_SEGMENT) + BLOCK_SIZE),
		BLOCK_SIZE);
	close(fd);
	assert_int_equal(recovered(), RECOVERED_TORN);
	assert_int_equal(found.seq, 3);
	assert_int_equal(found.end, at);
	expect_why("not finished");
}

static void every_bad_byte_of_a_promised_batch_is_damage(void **state)
{
	home_open(&home);
	put(4, COMMIT_ACKED);
	home_close(&home);
	for (uint64_t pos = first_pos / BLOCK_SIZE * BLOCK_SIZE;
	     pos < last_pos / BLOCK_SIZE * BLOCK_SIZE; pos += 311) {
		home_flip(&home, pos, 0x40);
		assert_int_equal(recovered(), RECOVERED_DAMAGED);
		assert_true(found.damage_from <= pos && pos < found.damage_to);
		assert_int_equal(found.seq, 4); /* and what is behind it counts */
		expect_why("acknowledged mail was there");
		home_flip(&home, pos, 0x40);
	}
}

/* Nothing vouches for the last batch, and all of it is there: it may have been promised. */
static void bad_byte_of_the_last_batch_is_ambiguous(void **state)
{
	home_open(&home);
	put(4, COMMIT_ACKED);
	home_close(&home);
	for (uint64_t pos = last_pos / BLOCK_SIZE * BLOCK_SIZE; pos < last_pos + 6000;
	     pos += 293) {
		home_flip(&home, pos, 0x40);
		assert_int_equal(recovered(), RECOVERED_AMBIGUOUS);
		assert_true(found.damage_from <= pos && pos < found.damage_to);
		assert_int_equal(found.end, found.damage_to);
		expect_why("may have been acknowledged");
		home_flip(&home, pos, 0x40);
	}
}

static void after_the_mark_a_bad_last_batch_is_damage(void **state)
{
	home_open(&home);
	put(2, COMMIT_ACKED);
	while (atomic_load(&home.ring.head->batches) < 3)
		loop_pass(home.loop);
	home_close(&home);
	home_flip(&home, last_pos + 100, 1);
	assert_int_equal(recovered(), RECOVERED_DAMAGED);
	journal_end_fini(&found);
}

static void two_damaged_places_are_one_range_and_the_walk_goes_on(void **state)
{
	home_open(&home);
	put(4, COMMIT_ACKED);
	home_close(&home);
	home_flip(&home, first_pos, 1);
	home_flip(&home, first_pos + 4 * BLOCK_SIZE, 1);
	assert_int_equal(recovered(), RECOVERED_DAMAGED);
	assert_int_equal(found.seq, 4);
	assert_int_equal(found.damage_from, first_pos / BLOCK_SIZE * BLOCK_SIZE);
	assert_int_equal(found.damage_to, found.damage_from + 6 * BLOCK_SIZE);
	journal_end_fini(&found);
}

static void expect_damage(enum damage_what what, uint64_t number)
{
	assert_int_equal(found.damages.n, 1);
	assert_int_equal(found.damages.v[0].what, what);
	assert_int_equal(found.damages.v[0].from / HOME_SEGMENT, number);
}

/* What the reader gives of ACT records, and how often it says damage. */
static unsigned walked(unsigned *ret_damages)
{
	struct reader *r = home_reader(&home, false);
	enum read_result got;
	struct record rec;
	unsigned n = 0;

	*ret_damages = 0;
	while ((got = home_next(r, &rec)) == READ_OK || got == READ_DAMAGE) {
		n += got == READ_OK;
		*ret_damages += got == READ_DAMAGE;
	}
	assert_int_equal(got, READ_END);
	reader_free(r);
	return n;
}

static void missing_segment_is_named_and_the_rest_is_read(void **state)
{
	char path[128];
	unsigned damages;
	uint64_t number;

	for (int i = 0; i < 3; i++) {
		home_open(&home);
		put(1, COMMIT_ACKED);
		home_close(&home);
	}
	assert_int_equal(recovered(), RECOVERED_CLEAN);
	number = found.segments[1].number;
	path_of(path, number);
	assert_int_equal(truncate(path, HOME_SEGMENT / 2), 0);
	assert_int_equal(recovered(), RECOVERED_DAMAGED);
	expect_damage(DAMAGE_SIZE, number);
	expect_why("wrong size");
	assert_int_equal(truncate(path, BLOCK_SIZE), 0);
	assert_int_equal(recovered(), RECOVERED_DAMAGED);
	assert_int_equal(walked(&damages), 2);
	assert_true(damages > 0);
	unlink(path);
	assert_int_equal(recovered(), RECOVERED_DAMAGED);
	expect_damage(DAMAGE_MISSING, number);
	assert_true(buf_add_byte(&found.why, '\0'));
	assert_non_null(strstr(found.why.p, strrchr(path, '/') + 1));
	expect_why("missing");
	assert_int_equal(walked(&damages), 2);
	assert_true(damages > 0);
	home_open(&home); /* and so at each start */
	home_close(&home);
	assert_int_equal(recovered(), RECOVERED_DAMAGED);
	expect_damage(DAMAGE_MISSING, number);
	journal_end_fini(&found);
}

/* The newest segment itself cut short: what is left of it counts. */
static void newest_segment_cut_short_is_said(void **state)
{
	char path[128];
	unsigned damages;

	home_open(&home);
	put(4, COMMIT_ACKED);
	home_close(&home);
	path_of(path, 1);
	assert_int_equal(truncate(path, 6 * BLOCK_SIZE), 0);
	assert_int_equal(recovered(), RECOVERED_DAMAGED);
	assert_int_equal(found.damages.v[0].what, DAMAGE_SIZE);
	assert_int_equal(found.damages.v[1].what, DAMAGE_LAST);
	journal_end_fini(&found);
	assert_int_equal(walked(&damages), 2);
	assert_int_equal(truncate(path, 0), 0);
	assert_int_equal(recovered(), RECOVERED_FAILED);
	expect_why("part of its bytes");
}

/* Block 0, or, at = HOME_SEGMENT - BLOCK_SIZE, its copy. */
static void rewrite_at(uint64_t number, uint64_t at, void (*change)(struct segment_head *h))
{
	static _Alignas(4096) char block[BLOCK_SIZE];
	struct segment_head h;
	char path[128];
	int fd;

	path_of(path, number);
	fd = open(path, O_RDWR);
	assert_int_equal(pread(fd, block, sizeof block, (off_t)at), BLOCK_SIZE);
	memcpy(&h, block, sizeof h);
	change(&h);
	memcpy(block, &h, sizeof h);
	block_seal(block, &(struct block_tag){.incarnation = incarnation_of(h.uuid, h.number),
					      .flags = BLOCK_HEAD | (at ? BLOCK_COPY : 0)});
	assert_int_equal(pwrite(fd, block, sizeof block, (off_t)at), BLOCK_SIZE);
	close(fd);
}

static void rewrite_head(uint64_t number, void (*change)(struct segment_head *h))
{
	rewrite_at(number, 0, change);
	rewrite_at(number, HOME_SEGMENT - BLOCK_SIZE, change);
}

static void make_newer(struct segment_head *h)
{
	h->version = JOURNAL_VERSION + 1;
}

static void make_foreign(struct segment_head *h)
{
	h->uuid[3] ^= 1;
}

static void newer_version_is_refused(void **state)
{
	home_open(&home);
	home_close(&home);
	rewrite_head(1, make_newer);
	assert_int_equal(recovered(), RECOVERED_FAILED);
	expect_why("newer version");
}

static void other_journals_segment_in_a_named_ones_place_is_damage(void **state)
{
	unsigned damages;

	for (int i = 0; i < 3; i++) {
		home_open(&home);
		put(1, COMMIT_ACKED);
		home_close(&home);
	}
	assert_int_equal(recovered(), RECOVERED_CLEAN);
	rewrite_head(1, make_foreign);
	assert_int_equal(recovered(), RECOVERED_DAMAGED);
	expect_damage(DAMAGE_FOREIGN, 1);
	expect_why("another journal");
	assert_int_equal(walked(&damages), 3); /* the head alone is the other's */
	assert_int_equal(damages, 1);
	rewrite_head(1, make_foreign);
	assert_int_equal(recovered(), RECOVERED_CLEAN);
	journal_end_fini(&found);
}

/* Whose journal is this?  Not for a program to say. */
static void two_journals_mixed_are_refused(void **state)
{
	uint64_t newest;

	for (int i = 0; i < 3; i++) {
		home_open(&home);
		put(1, COMMIT_ACKED);
		home_close(&home);
	}
	assert_int_equal(recovered(), RECOVERED_CLEAN);
	newest = found.number;
	rewrite_head(newest, make_foreign); /* it names the others, but they outnumber it */
	assert_int_equal(recovered(), RECOVERED_FAILED);
	expect_why("two journals are mixed");
	rewrite_head(newest, make_foreign);
	assert_int_equal(recovered(), RECOVERED_CLEAN);
	journal_end_fini(&found);
}

/* Block 0 gone: its copy says the same, and that is said. */
static void head_of_the_newest_is_read_from_its_copy(void **state)
{
	unsigned damages;
	uint64_t newest;

	for (int i = 0; i < 2; i++) {
		home_open(&home);
		put(1, COMMIT_ACKED);
		home_close(&home);
	}
	assert_int_equal(recovered(), RECOVERED_CLEAN);
	newest = found.number;
	home_flip(&home, newest * HOME_SEGMENT + 40, 1);
	assert_int_equal(recovered(), RECOVERED_DAMAGED);
	expect_damage(DAMAGE_HEAD, newest);
	journal_end_fini(&found);
	assert_int_equal(walked(&damages), 2);
	assert_int_equal(damages, 1);
	home_flip(&home, (newest + 1) * HOME_SEGMENT - 30, 1);
	assert_int_equal(recovered(), RECOVERED_FAILED);
	expect_why("the copy of it are damaged");
}

/* The power went between the copy and block 0: an ordinary crash. */
static void copy_without_head_and_batches_is_no_damage(void **state)
{
	char path[128], zeros[BLOCK_SIZE] = {0};
	int fd;

	home_open(&home);
	put(1, COMMIT_ACKED);
	home_close(&home);
	home_open(&home);
	home_close(&home);
	assert_int_equal(recovered(), RECOVERED_CLEAN);
	path_of(path, found.number);
	fd = open(path, O_WRONLY);
	assert_int_equal(pwrite(fd, zeros, sizeof zeros, 0), BLOCK_SIZE);
	close(fd);
	assert_int_equal(recovered(), RECOVERED_CLEAN);
	assert_int_equal(found.segments_n, 2);
	journal_end_fini(&found);
}

static void only_head_gone_is_no_empty_journal(void **state)
{
	home_open(&home);
	put(1, COMMIT_ACKED);
	home_close(&home);
	home_flip(&home, HOME_SEGMENT + 40, 1);
	home_flip(&home, 2 * HOME_SEGMENT - 40, 1);
	assert_int_equal(recovered(), RECOVERED_FAILED);
	expect_why("the copy of it are damaged");
}

/* The next segment's file, which a thread makes. */
static void await_prepared(uint64_t number)
{
	char path[128];

	path_of(path, number);
	while (access(path, F_OK))
		loop_pass(home.loop);
}

/* A restart makes a segment that no seal names: if it is gone, what was prepared behind it
 * tells. */
static void newest_segment_gone_is_said_by_the_one_prepared_behind_it(void **state)
{
	char path[128];

	uint64_t newest;

	for (int i = 0; i < 2; i++) {
		home_open(&home);
		newest = ring_durable(&home.ring) / HOME_SEGMENT;
		put(1, COMMIT_ACKED);
		await_prepared(newest + 1);
		home_close(&home);
	}
	assert_int_equal(recovered(), RECOVERED_CLEAN);
	assert_int_equal(found.number, newest);
	journal_end_fini(&found);
	path_of(path, newest);
	unlink(path);
	assert_int_equal(recovered(), RECOVERED_FAILED);
	expect_why("missing, and a later one is there");
}

/* Places are listed one by one, whichever segment they are in. */
static void every_place_is_listed(void **state)
{
	char path[128];

	for (int i = 0; i < 3; i++) {
		home_open(&home);
		put(4, COMMIT_ACKED);
		home_close(&home);
	}
	assert_int_equal(recovered(), RECOVERED_CLEAN);
	home_flip(&home, found.segments[0].number * HOME_SEGMENT + 99, 1);
	path_of(path, found.segments[1].number);
	unlink(path);
	home_flip(&home, first_pos, 1);
	home_flip(&home, first_pos + 2 * BLOCK_SIZE, 1);
	home_flip(&home, first_pos + 4 * BLOCK_SIZE, 1);
	assert_int_equal(recovered(), RECOVERED_DAMAGED);
	assert_int_equal(found.damages.n, 5);
	assert_int_equal(found.damages.v[0].what, DAMAGE_HEAD);
	assert_int_equal(found.damages.v[1].what, DAMAGE_MISSING);
	for (int i = 2; i < 5; i++) {
		assert_int_equal(found.damages.v[i].what, DAMAGE_BLOCKS);
		assert_int_equal(found.damages.v[i].to - found.damages.v[i].from, BLOCK_SIZE);
	}
	expect_why("and 4 more");
}

static void unused_segment_without_head_is_passed_over(void **state)
{
	char path[128], zeros[HOME_SEGMENT] = {0};
	int fd;

	home_open(&home);
	put(1, COMMIT_ACKED);
	await_prepared(2);
	home_close(&home);
	path_of(path, 3);
	fd = open(path, O_WRONLY | O_CREAT, 0600);
	assert_int_equal(write(fd, zeros, sizeof zeros), (ssize_t)sizeof zeros);
	close(fd);
	assert_int_equal(recovered(), RECOVERED_CLEAN);
	home_open(&home);
	assert_int_equal(access(path, F_OK), -1);
	home_close(&home);
	assert_int_equal(recovered(), RECOVERED_CLEAN);
	assert_int_equal(found.number, 4); /* numbers only grow */
	journal_end_fini(&found);
}

static void sealed_segment_needs_its_successor(void **state)
{
	char path[128];
	uint64_t last;

	home_open(&home);
	for (uint32_t i = 0; i < 100; i++)
		home_put(&home, REC_ACT, 1, i, 5000, COMMIT_ACKED);
	home_close(&home);
	assert_int_equal(recovered(), RECOVERED_CLEAN);
	last = found.number;
	path_of(path, last + 1);
	unlink(path); /* prepared, not yet named by a seal */
	assert_int_equal(recovered(), RECOVERED_CLEAN);
	path_of(path, last);
	unlink(path);
	assert_int_equal(recovered(), RECOVERED_FAILED);
	expect_why("missing");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(nothing_is_empty, begin, end),
		cmocka_unit_test_setup_teardown(whole_batches_are_clean, begin, end),
		cmocka_unit_test_setup_teardown(missing_block_of_the_last_batch_is_torn, begin,
						end),
		cmocka_unit_test_setup_teardown(every_bad_byte_of_a_promised_batch_is_damage,
						begin, end),
		cmocka_unit_test_setup_teardown(bad_byte_of_the_last_batch_is_ambiguous, begin,
						end),
		cmocka_unit_test_setup_teardown(after_the_mark_a_bad_last_batch_is_damage,
						begin, end),
		cmocka_unit_test_setup_teardown(
			two_damaged_places_are_one_range_and_the_walk_goes_on, begin, end),
		cmocka_unit_test_setup_teardown(missing_segment_is_named_and_the_rest_is_read,
						begin, end),
		cmocka_unit_test_setup_teardown(newest_segment_cut_short_is_said, begin, end),
		cmocka_unit_test_setup_teardown(newer_version_is_refused, begin, end),
		cmocka_unit_test_setup_teardown(
			other_journals_segment_in_a_named_ones_place_is_damage, begin, end),
		cmocka_unit_test_setup_teardown(two_journals_mixed_are_refused, begin, end),
		cmocka_unit_test_setup_teardown(head_of_the_newest_is_read_from_its_copy,
						begin, end),
		cmocka_unit_test_setup_teardown(copy_without_head_and_batches_is_no_damage,
						begin, end),
		cmocka_unit_test_setup_teardown(
			newest_segment_gone_is_said_by_the_one_prepared_behind_it, begin, end),
		cmocka_unit_test_setup_teardown(every_place_is_listed, begin, end),
		cmocka_unit_test_setup_teardown(only_head_gone_is_no_empty_journal, begin, end),
		cmocka_unit_test_setup_teardown(unused_segment_without_head_is_passed_over,
						begin, end),
		cmocka_unit_test_setup_teardown(sealed_segment_needs_its_successor, begin, end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
