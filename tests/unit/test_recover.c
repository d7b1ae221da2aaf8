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

static void missing_segment_is_named(void **state)
{
	char path[128];

	for (int i = 0; i < 3; i++) {
		home_open(&home);
		put(1, COMMIT_ACKED);
		home_close(&home);
	}
	assert_int_equal(recovered(), RECOVERED_CLEAN);
	path_of(path, found.segments[1].number);
	assert_int_equal(truncate(path, HOME_SEGMENT / 2), 0);
	assert_int_equal(recovered(), RECOVERED_FAILED);
	expect_why("wrong size");
	unlink(path);
	assert_int_equal(recovered(), RECOVERED_FAILED);
	assert_true(buf_add_byte(&found.why, '\0'));
	assert_non_null(strstr(found.why.p, strrchr(path, '/') + 1));
	expect_why("missing");
}

static void rewrite_head(uint64_t number, void (*change)(struct segment_head *h))
{
	static _Alignas(4096) char block[BLOCK_SIZE];
	struct segment_head h;
	char path[128];
	int fd;

	path_of(path, number);
	fd = open(path, O_RDWR);
	assert_int_equal(pread(fd, block, sizeof block, 0), BLOCK_SIZE);
	memcpy(&h, block, sizeof h);
	change(&h);
	memcpy(block, &h, sizeof h);
	block_seal(block, &(struct block_tag){.incarnation = incarnation_of(h.uuid, h.number),
					      .flags = BLOCK_HEAD});
	assert_int_equal(pwrite(fd, block, sizeof block, 0), BLOCK_SIZE);
	close(fd);
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

static void other_journals_segment_is_refused(void **state)
{
	uint64_t newest;

	for (int i = 0; i < 2; i++) {
		home_open(&home);
		put(1, COMMIT_ACKED);
		home_close(&home);
	}
	assert_int_equal(recovered(), RECOVERED_CLEAN);
	newest = found.number;
	journal_end_fini(&found);
	rewrite_head(1, make_foreign);
	assert_int_equal(recovered(), RECOVERED_FAILED);
	expect_why("another journal");
	rewrite_head(1, make_foreign);
	assert_int_equal(recovered(), RECOVERED_CLEAN);
	rewrite_head(newest, make_foreign);
	assert_int_equal(recovered(), RECOVERED_FAILED);
	journal_end_fini(&found);
}

static void used_segment_without_head_is_not_passed_over(void **state)
{
	for (int i = 0; i < 2; i++) {
		home_open(&home);
		put(1, COMMIT_ACKED);
		home_close(&home);
	}
	assert_int_equal(recovered(), RECOVERED_CLEAN);
	home_flip(&home, found.number * HOME_SEGMENT + 40, 1);
	assert_int_equal(recovered(), RECOVERED_FAILED);
	expect_why("its head is damaged");
}

static void only_head_gone_is_no_empty_journal(void **state)
{
	home_open(&home);
	put(1, COMMIT_ACKED);
	home_close(&home);
	home_flip(&home, HOME_SEGMENT + 40, 1);
	assert_int_equal(recovered(), RECOVERED_FAILED);
	expect_why("its head is damaged");
}

static void unused_segment_without_head_is_passed_over(void **state)
{
	char path[128], zeros[HOME_SEGMENT] = {0};
	int fd;

	home_open(&home);
	put(1, COMMIT_ACKED);
	home_close(&home);
	path_of(path, 40);
	fd = open(path, O_WRONLY | O_CREAT, 0600);
	assert_int_equal(write(fd, zeros, sizeof zeros), (ssize_t)sizeof zeros);
	close(fd);
	assert_int_equal(recovered(), RECOVERED_CLEAN);
	home_open(&home);
	assert_int_equal(access(path, F_OK), -1);
	home_close(&home);
	assert_int_equal(recovered(), RECOVERED_CLEAN);
	assert_int_equal(found.number, 41); /* numbers only grow */
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
		cmocka_unit_test_setup_teardown(missing_segment_is_named, begin, end),
		cmocka_unit_test_setup_teardown(newer_version_is_refused, begin, end),
		cmocka_unit_test_setup_teardown(other_journals_segment_is_refused, begin, end),
		cmocka_unit_test_setup_teardown(used_segment_without_head_is_not_passed_over,
						begin, end),
		cmocka_unit_test_setup_teardown(only_head_gone_is_no_empty_journal, begin, end),
		cmocka_unit_test_setup_teardown(unused_segment_without_head_is_passed_over,
						begin, end),
		cmocka_unit_test_setup_teardown(sealed_segment_needs_its_successor, begin, end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
