#include "core/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <time.h>

static void goes_only_when_refreshed(void **state)
{
	uint64_t        mono = clock_mono_us(), wall = clock_wall();
	struct timespec ms = {.tv_nsec = 2000000};

	assert_true(mono > 0);
	assert_true(wall > 1600000000);
	nanosleep(&ms, NULL);
	assert_true(clock_mono_us() == mono);
	clock_refresh();
	assert_true(clock_mono_us() >= mono + 2000);
	assert_true(clock_mono_ms() == clock_mono_us() / 1000);
	assert_true(clock_wall() == clock_wall_us() / 1000000);
}

static void a_simulated_clock_stands_still(void **state)
{
	clock_set(5000123, 1700000000000001);
	clock_refresh();
	assert_true(clock_mono_us() == 5000123);
	assert_true(clock_mono_ms() == 5000);
	assert_true(clock_wall() == 1700000000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(goes_only_when_refreshed),
		cmocka_unit_test(a_simulated_clock_stands_still),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
