#include "journal_home.h"

static struct home home;
static enum loop_kind kind;

static int begin(void **state)
{
	home_init(&home, kind);
	return 0;
}

static int end(void **state)
{
	home_fini(&home);
	return 0;
}

struct asked {
	struct waiter waiter;
	uint64_t durable; /* when done ran */
	unsigned order;
};
static unsigned answers;

static void on_done(struct waiter *w)
{
	struct asked *a = owner_of(w, struct asked, waiter);

	a->durable = ring_durable(&home.ring);
	a->order = ++answers;
}

static void answers_come_after_the_write_and_in_order(void **state)
{
	struct asked asked[50];
	uint64_t pos[50];

	answers = 0;
	assert_int_equal(home_open(&home), RECOVERED_EMPTY);
	for (unsigned i = 0; i < 50; i++) {
		pos[i] = home_put(&home, REC_ACT, i + 1, 0, 3000, COMMIT_ACKED);
		waiter_init(&asked[i].waiter, on_done);
		asked[i].order = 0;
		commit_wait(home.commit, &asked[i].waiter);
		assert_int_equal(asked[i].order, 0); /* starting never calls back */
		if (i % 7 == 0)
			loop_pass(home.loop);
	}
	home_settle(&home);
	for (unsigned i = 0; i < 50; i++) {
		assert_int_equal(asked[i].order, i + 1);
		assert_true(asked[i].durable > pos[i]);
	}
	assert_int_equal(home.failed, 0);
	assert_true(home.rooms > 0 && home.moved > 0);
}

static void cancelled_waiter_is_not_called(void **state)
{
	struct asked a = {.order = 0}, b = {.order = 0};

	answers = 0;
	home_open(&home);
	home_put(&home, REC_ACT, 1, 0, 10, 0);
	waiter_init(&a.waiter, on_done);
	waiter_init(&b.waiter, on_done);
	waiter_cancel(&a.waiter);
	commit_wait(home.commit, &a.waiter);
	commit_wait(home.commit, &b.waiter);
	loop_pass(home.loop);
	waiter_cancel(&a.waiter);
	home_settle(&home);
	assert_int_equal(a.order, 0);
	assert_int_equal(b.order, 1);
}

static void full_batch_says_so_and_room_follows(void **state)
{
	size_t max, n = 0;

	home_open(&home);
	max = commit_record_max(home.commit);
	while (home_add(&home, REC_ACT, 1, 0, 4000, 0))
		n++;
	assert_true(n * rec_size(4000) <= max && (n + 1) * rec_size(4000) > max);
	assert_false(commit_fits(home.commit, rec_size(4000), 0));
	home.rooms = 0;
	home_settle(&home);
	assert_true(home.rooms > 0);
	assert_true(commit_fits(home.commit, max, 0));
	assert_false(commit_fits(home.commit, max + 1, 0));
	assert_true(home_add(&home, REC_ACT, 1, 0, max - sizeof(struct rec_head), 0) > 0);
	home_settle(&home);
	assert_int_equal(home.failed, 0);
}

static void segments_follow_each_other(void **state)
{
	struct journal_end found;
	uint64_t pos = 0, epoch;

	home_open(&home);
	epoch = commit_epoch(home.commit);
	for (uint32_t i = 0; i < 300; i++)
		pos = home_put(&home, REC_ACT, 1, i, 2000, COMMIT_ACKED);
	home_settle(&home);
	assert_true(pos / HOME_SEGMENT > 5);
	home_close(&home);
	assert_int_equal(home_recover(&home, &found), RECOVERED_CLEAN);
	assert_int_equal(found.number, pos / HOME_SEGMENT);
	assert_int_equal(found.segments_n, found.number);
	assert_int_equal(found.epoch, epoch);
	journal_end_fini(&found);
	home_open(&home);
	assert_int_equal(commit_epoch(home.commit), epoch + 1);
}

static void quiet_writes_one_mark_after_acked_mail_only(void **state)
{
	uint64_t before;

	home_open(&home);
	home_put(&home, REC_ACT, 1, 0, 100, 0);
	for (uint64_t until = clock_mono_ms() + 250; clock_mono_ms() < until;) {
		struct timer t;

		timer_init(&t, NULL);
		usleep(20000);
		home_settle(&home);
		clock_refresh();
	}
	before = atomic_load(&home.ring.head->batches);
	assert_int_equal(before, 1);
	home_put(&home, REC_ACT, 1, 1, 100, COMMIT_ACKED);
	home_settle(&home);
	while (atomic_load(&home.ring.head->batches) < 3)
		loop_pass(home.loop); /* waits for the timer */
	home_settle(&home);
	assert_int_equal(atomic_load(&home.ring.head->batches), 3);
}

static void other_segment_size_is_refused(void **state)
{
	struct journal_end found;
	struct commit *c;

	home_open(&home);
	home_close(&home);
	home_recover(&home, &found);
	assert_int_equal(ring_make(&home.ring, HOME_RING, 2 * HOME_SEGMENT), 0);
	assert_int_equal(commit_open(&c, home.loop, home.disk, &home.ring, &found,
				     &(struct commit_options){.segment_size = 2 * HOME_SEGMENT, .shard = 1},
				     &home_calls, &home),
			 -EINVAL);
	assert_null(c);
	journal_end_fini(&found);
}

static void every_start_takes_a_new_number_and_leaves_nothing_behind(void **state)
{
	struct segments s;
	struct buf why;

	for (int i = 0; i < 6; i++) {
		home_open(&home);
		home_put(&home, REC_ACT, 1, (uint32_t)i, 100, COMMIT_ACKED);
		home_close(&home);
	}
	buf_init(&why, 256);
	assert_int_equal(segments_load(home.disk, &s, &why), SEGMENTS_OK);
	assert_int_equal(s.n, 6);
	assert_true(s.files_n <= 7); /* and one that was prepared */
	segments_fini(&s);
	buf_free(&why);
}

static int run(enum loop_kind k)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(answers_come_after_the_write_and_in_order,
						begin, end),
		cmocka_unit_test_setup_teardown(cancelled_waiter_is_not_called, begin, end),
		cmocka_unit_test_setup_teardown(full_batch_says_so_and_room_follows, begin,
						end),
		cmocka_unit_test_setup_teardown(segments_follow_each_other, begin, end),
		cmocka_unit_test_setup_teardown(quiet_writes_one_mark_after_acked_mail_only,
						begin, end),
		cmocka_unit_test_setup_teardown(other_segment_size_is_refused, begin, end),
		cmocka_unit_test_setup_teardown(
			every_start_takes_a_new_number_and_leaves_nothing_behind, begin, end),
	};

	kind = k;
	return cmocka_run_group_tests(tests, NULL, NULL);
}

int main(void)
{
	return run(LOOP_AUTO) + run(LOOP_EPOLL);
}
