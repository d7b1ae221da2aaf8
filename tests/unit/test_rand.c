#include "core/rand.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void a_seed_repeats_everything(void **state)
{
	uint64_t first[10];

	rand_u64();                               /* seeds itself */
	rand_seed(99);
	for (int i = 0; i < 10; i++)
		first[i] = rand_u64();
	rand_seed(99);
	for (int i = 0; i < 10; i++)
		assert_true(rand_u64() == first[i]);
	rand_seed(100);
	assert_true(rand_u64() != first[0]);
}

static void below_stays_below_and_reaches_all(void **state)
{
	int count[7] = {0};

	for (int i = 0; i < 70000; i++) {
		uint64_t n = rand_below(7);

		assert_true(n < 7);
		count[n]++;
	}
	for (int i = 0; i < 7; i++)
		assert_true(count[i] > 9000 && count[i] < 11000);
	assert_true(rand_below(1) == 0);
	for (int i = 0; i < 100; i++)
		assert_true(rand_below(UINT64_MAX / 2 + 2) <= UINT64_MAX / 2 + 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_seed_repeats_everything),
		cmocka_unit_test(below_stays_below_and_reaches_all),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
