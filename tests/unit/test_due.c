/* due: the wheel against a plain list. */
#include "core/pool.h"
#include "core/rand.h"
#include "sched/due.h"
#include "tests/unit/mail_test.h"

#define RUNS 3000

static struct run *runs[RUNS];

static int make_runs(void **state)
{
	for (unsigned i = 0; i < RUNS; i++)
		runs[i] = run_new(NULL, NULL, 0);
	return 0;
}

static int free_runs(void **state)
{
	for (unsigned i = 0; i < RUNS; i++)
		run_free(runs[i]);
	return 0;
}

static void empty_has_no_next(void **state)
{
	struct due d;

	due_init(&d, 1000);
	assert_int_equal(due_next(&d), DUE_NEVER);
	assert_null(due_take(&d, 5000));
	assert_int_equal(due_next(&d), DUE_NEVER);
}

static void the_past_is_due_at_once(void **state)
{
	struct due d;

	due_init(&d, 1000);
	due_add(&d, runs[0], 1);
	due_add(&d, runs[1], 1000);
	assert_true(due_next(&d) <= 1000);
	assert_ptr_equal(due_take(&d, 1000), runs[0]);
	assert_ptr_equal(due_take(&d, 1000), runs[1]);
	assert_null(due_take(&d, 1000));
}

static void not_a_second_early_not_a_second_late(void **state)
{
	static const uint32_t waits[] = {1,       2,      255,      256,
					 257,     400,    65535,    65536,
					 65537,   604800, 1u << 24, (1u << 24) + 1,
					 1u << 30};

	for (unsigned i = 0; i < ARRAY_N(waits); i++) {
		struct due d;

		due_init(&d, 1000);
		due_add(&d, runs[0], 1000 + waits[i]);
		assert_null(due_take(&d, 1000 + waits[i] - 1));
		assert_ptr_equal(due_take(&d, 1000 + waits[i]), runs[0]);
		assert_int_equal(d.n, 0);
	}
}

/* Wherever due_next() says, there is work, and going there step by step misses nothing. */
static void goes_from_work_to_work(void **state)
{
	struct due d;
	uint32_t now, turns = 0;

	due_init(&d, 77);
	due_add(&d, runs[0], 77 + 70000);
	while ((now = due_next(&d)) != DUE_NEVER) {
		struct run *r = due_take(&d, now);

		assert_int_equal(r != NULL, now == 77 + 70000);
		assert_true(++turns < 10);
	}
	assert_true(turns > 0);
}

static void random_times_come_in_order(void **state)
{
	uint32_t now = 500, taken = 0;
	struct due d;

	rand_seed(3);
	due_init(&d, now);
	for (unsigned i = 0; i < RUNS; i++)
		due_add(&d, runs[i], now + (uint32_t)rand_below(1u << rand_below(24)));
	while (taken < RUNS) {
		uint32_t before = now;
		struct run *r;

		now += (uint32_t)rand_below(1u << rand_below(18));
		while ((r = due_take(&d, now))) {
			assert_true(r->due <= now && (r->due > before || before == 500));
			taken++;
		}
		assert_true(due_next(&d) > now);
		assert_int_equal(d.n, RUNS - taken);
	}
}

static void all_are_due_on_demand(void **state)
{
	struct due d;

	due_init(&d, 1);
	for (unsigned i = 0; i < RUNS; i++)
		due_add(&d, runs[i], 2 + i * 1000);
	due_all(&d);
	for (unsigned i = 0; i < RUNS; i++)
		assert_non_null(due_take(&d, 1));
	assert_null(due_take(&d, 1));
	assert_int_equal(due_next(&d), DUE_NEVER);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(empty_has_no_next),
		cmocka_unit_test(the_past_is_due_at_once),
		cmocka_unit_test(not_a_second_early_not_a_second_late),
		cmocka_unit_test(goes_from_work_to_work),
		cmocka_unit_test(random_times_come_in_order),
		cmocka_unit_test(all_are_due_on_demand),
	};

	return cmocka_run_group_tests(tests, make_runs, free_runs);
}
