/* rebuild: how far the queue is read, and when something is said of it. */
#include "core/clock.h"
#include "core/log.h"
#include "sched/rebuild.h"
#include "tests/unit/journal_home.h"
#include "tests/unit/mail_test.h"

#define SIZE 65536ull

static void shares(void **state)
{
	/* in the order of walking: cold ones first, history not at all, the newest without an end */
	const struct manifest_entry v[] = {
		{.number = COLD_FIRST, .end = COLD_FIRST * SIZE + 1000, .state = SEGMENT_QUEUE},
		{.number = 3, .end = 3 * SIZE + 60000, .state = SEGMENT_HISTORY},
		{.number = 5, .end = 5 * SIZE + 3000, .state = SEGMENT_QUEUE},
		{.number = 6, .state = SEGMENT_QUEUE},
	};
	uint64_t until = 6 * SIZE + 4000;

	assert_int_equal(rebuild_share(v, 4, SIZE, COLD_FIRST * SIZE, until), 0);
	assert_int_equal(rebuild_share(v, 4, SIZE, COLD_FIRST * SIZE + 500, until), 62);
	assert_int_equal(rebuild_share(v, 4, SIZE, 5 * SIZE, until), 125);
	assert_int_equal(rebuild_share(v, 4, SIZE, 5 * SIZE + 3000, until), 500);
	assert_int_equal(rebuild_share(v, 4, SIZE, 6 * SIZE + 2000, until), 750);
	assert_int_equal(rebuild_share(v, 4, SIZE, until, until), 1000);
	assert_int_equal(rebuild_share(v, 0, SIZE, 1, 1), 0);
}

static unsigned lines;

static void on_line(void *ctx, struct span line)
{
	assert_non_null(memmem(line.p, line.n, "event=\"reading the queue\"", 25));
	lines++;
}

static void nothing_is_said_of_what_is_soon_done(void **state)
{
	struct home home;
	struct reader *r;
	struct rebuild b;
	struct buf why;

	buf_init(&why, 256);
	home_init(&home, LOOP_AUTO);
	home_open(&home);
	r = reader_new(home.disk, &home.ring, HOME_SEGMENT, 1);
	assert_int_equal(reader_open(r, &why), 0);
	log_capture(on_line, NULL);
	clock_set(1000000, 1000000);
	rebuild_begin(&b, false);
	for (uint64_t ms = 1; ms < 30000; ms += 7) {
		clock_set(1000000 + ms * 1000, 1000000 + ms * 1000);
		rebuild_at(&b, r, HOME_SEGMENT, ring_durable(&home.ring), 10);
		assert_true(lines == 0 || ms >= REBUILD_QUIET_MS);
	}
	rebuild_end(&b);
	log_capture(NULL, NULL);
	assert_in_range(lines, 5, 7);
	reader_free(r);
	home_close(&home);
	home_fini(&home);
	buf_free(&why);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(shares),
		cmocka_unit_test(nothing_is_said_of_what_is_soon_done),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
