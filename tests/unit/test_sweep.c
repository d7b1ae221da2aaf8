#include "sweep_home.h"

#include "journal/index.h"

/* What an earlier run left, and what comes while it is read and later. */
static void everything(enum loop_kind kind, bool one_thread, unsigned meanwhile)
{
	struct swept s = {0};
	struct live_counts n;

	home_init(&s.home, kind);
	begin(&s);
	fill(&s, 1000, 150);
	stop(&s);
	begin(&s);
	sweep_it(&s, one_thread);
	assert_null(sweep_live(s.sweep));
	fill(&s, 1000000, meanwhile);
	wait_loaded(&s);
	assert_int_equal(loaded, 1);
	agrees(&s, 0);
	fill(&s, 2000000, 150);
	agrees(&s, 0);
	assert_int_equal(loaded, 1);
	assert_int_equal(damages, 0);
	live_count(sweep_live(s.sweep), &n);
	assert_int_equal(n.messages, 100 + (meanwhile + 2) / 3);
	stop(&s);
	home_fini(&s.home);
}

static void what_was_and_what_comes_is_seen(void **state)
{
	everything(LOOP_EPOLL, false, 3);
	everything(LOOP_AUTO, false, 0);
	everything(LOOP_EPOLL, true, 3);
}

/* Much more than the ring holds is written before the first errand is done. */
static void the_ring_may_be_overtaken_while_loading(void **state)
{
	everything(LOOP_EPOLL, true, 900);
	everything(LOOP_AUTO, false, 900);
}

static void an_empty_journal_is_loaded_at_once(void **state)
{
	struct swept s = {0};

	home_init(&s.home, LOOP_EPOLL);
	begin(&s);
	sweep_it(&s, false);
	wait_loaded(&s);
	fill(&s, 1000, 40);
	agrees(&s, 0);
	stop(&s);
	home_fini(&s.home);
}

static void damage_is_said_once_a_place(void **state)
{
	struct swept s = {0};
	uint64_t bad[2];

	home_init(&s.home, LOOP_EPOLL);
	begin(&s);
	fill(&s, 1000, 100);
	bad[0] = commit_number(s.home.commit) - 2;
	bad[1] = bad[0] - 2;
	stop(&s);
	for (unsigned i = 0; i < 2; i++)
		home_flip(&s.home, bad[i] * HOME_SEGMENT + 5 * BLOCK_SIZE + 1000, 1);
	begin(&s);
	sweep_it(&s, false);
	wait_loaded(&s);
	assert_int_equal(damages, 2);
	assert_int_equal(damaged_at[0] / HOME_SEGMENT, bad[1]);
	assert_int_equal(damaged_at[1] / HOME_SEGMENT, bad[0]);
	assert_true(sweep_is_damaged(s.sweep, bad[0]));
	assert_true(sweep_is_damaged(s.sweep, bad[1]));
	assert_false(sweep_is_damaged(s.sweep, bad[0] + 1));
	agrees(&s, 0);
	fill(&s, 2000000, 100);
	assert_int_equal(damages, 2);
	stop(&s);
	home_fini(&s.home);
}

static unsigned rotten_lines;

static void on_line(void *ctx, struct span line)
{
	rotten_lines += line.n > 4 && memmem(line.p, line.n, "idx-0000000000000002", 20) != NULL;
}

static void a_rotten_index_is_named_and_the_rest_used(void **state)
{
	struct swept s = {0};
	struct journal_end end;
	char path[128];
	int fd;

	home_init(&s.home, LOOP_EPOLL);
	begin(&s);
	fill(&s, 1000, 100);
	stop(&s);
	assert_int_not_equal(home_recover(&s.home, &end), RECOVERED_FAILED);
	for (uint32_t i = 0; i < end.segments_n; i++)
		if (end.segments[i].end)
			assert_int_equal(index_make(s.home.disk, end.uuid, end.segments[i].number, HOME_SEGMENT,
						    end.segments[i].end),
					 0);
	journal_end_fini(&end);
	snprintf(path, sizeof path, "%s/idx-0000000000000002", s.home.dir);
	fd = open(path, O_WRONLY);
	assert_int_equal(pwrite(fd, "rot", 3, 200), 3);
	close(fd);
	rotten_lines = 0;
	log_capture(on_line, NULL);
	begin(&s);
	sweep_it(&s, false);
	wait_loaded(&s);
	assert_int_equal(rotten_lines, 1);
	assert_int_equal(damages, 0);
	agrees(&s, 0);
	stop(&s);
	log_capture(home_drop_line, NULL);
	home_fini(&s.home);
}

static void it_may_end_at_any_time(void **state)
{
	struct swept s = {0};

	home_init(&s.home, LOOP_EPOLL);
	begin(&s);
	fill(&s, 1000, 100);
	stop(&s);
	for (unsigned i = 0; i < 5; i++) {
		begin(&s);
		sweep_it(&s, i % 2);
		for (unsigned k = 0; k < i; k++)
			loop_pass(s.home.loop);
		stop(&s);
	}
	home_fini(&s.home);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_was_and_what_comes_is_seen),
		cmocka_unit_test(the_ring_may_be_overtaken_while_loading),
		cmocka_unit_test(an_empty_journal_is_loaded_at_once),
		cmocka_unit_test(damage_is_said_once_a_place),
		cmocka_unit_test(a_rotten_index_is_named_and_the_rest_used),
		cmocka_unit_test(it_may_end_at_any_time),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
