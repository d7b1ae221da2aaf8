/* schedule, duration: when a deferred recipient is tried again. */
#include "sched/schedule.h"
#include "tests/unit/mail_test.h"

static void durations(void **state)
{
	static const struct { const char *text; uint64_t s; } good[] = {
		{"0", 0}, {"90", 90}, {"90s", 90}, {"20m", 1200}, {"6h", 21600}, {"2d", 172800},
		{"3650d", DURATION_MAX},
	};
	static const char *const bad[] = {"", "s", "m", "-1", "1.5h", "1w", "1 h", " 1", "1hh",
					  "3651d", "99999999999999999999d"};
	uint64_t s;

	for (size_t i = 0; i < ARRAY_N(good); i++) {
		assert_true(duration_parse(span_str(good[i].text), &s));
		assert_int_equal(s, good[i].s);
	}
	for (size_t i = 0; i < ARRAY_N(bad); i++)
		assert_false(duration_parse(span_str(bad[i]), &s));
}

static void without_a_file_the_schedule_is_qmails(void **state)
{
	/* docs/qmail.md 10.1: age 0: 20 squared; 400: 40 squared; local: 10, 20, ... */
	struct control *c = control_new();
	struct schedule s;

	schedule_init(&s, c);
	assert_int_equal(schedule_next(&s, 1000, 1000, CHANNEL_REMOTE, 1), 1400);
	assert_int_equal(schedule_next(&s, 1000, 1400, CHANNEL_REMOTE, 2), 2600);
	assert_int_equal(schedule_next(&s, 1000, 1000, CHANNEL_LOCAL, 1), 1100);
	assert_int_equal(schedule_next(&s, 1000, 1100, CHANNEL_LOCAL, 2), 1400);
	/* born in the future: the clock was wrong */
	assert_int_equal(schedule_next(&s, 5000, 1000, CHANNEL_LOCAL, 1), 1100);
	control_free(c);
}

static void its_waits_one_after_the_other_the_last_again_and_again(void **state)
{
	struct control *c = control_new();
	struct schedule s;

	assert_true(control_set(c, SPAN("retryschedule"), SPAN("5m\n# a comment\n30\n2h\n")));
	schedule_init(&s, c);
	assert_int_equal(s.n, 3);
	assert_int_equal(schedule_longest(&s), 7200);
	assert_int_equal(schedule_next(&s, 1, 1000, CHANNEL_REMOTE, 1), 1300);
	assert_int_equal(schedule_next(&s, 1, 1000, CHANNEL_LOCAL, 2), 1030);
	assert_int_equal(schedule_next(&s, 1, 1000, CHANNEL_REMOTE, 3), 8200);
	assert_int_equal(schedule_next(&s, 1, 1000, CHANNEL_REMOTE, 4), 8200);
	assert_int_equal(schedule_next(&s, 1, 1000, CHANNEL_REMOTE, UINT32_MAX), 8200);
	control_free(c);
}

static void what_start_refuses_counts_as_qmails(void **state)
{
	static const char *const bad[] = {"5m\nsoon\n", "0\n", "8d\n"};
	char many[4 * (WAITS_MAX + 1) + 1];
	struct schedule s;

	for (size_t i = 0; i < WAITS_MAX + 1; i++)
		memcpy(many + 4 * i, "10m\n", 5);
	for (size_t i = 0; i <= ARRAY_N(bad); i++) {
		struct control *c = control_new();

		assert_true(control_set(c, SPAN("retryschedule"), span_str(i < ARRAY_N(bad) ? bad[i] : many)));
		schedule_init(&s, c);
		assert_int_equal(s.n, 0);
		control_free(c);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(durations),
		cmocka_unit_test(without_a_file_the_schedule_is_qmails),
		cmocka_unit_test(its_waits_one_after_the_other_the_last_again_and_again),
		cmocka_unit_test(what_start_refuses_counts_as_qmails),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
