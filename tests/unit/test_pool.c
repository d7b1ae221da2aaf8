#include "core/pool.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void gives_at_most_max_and_takes_back(void **state)
{
	enum { N = 5000 };
	static char *got[N];
	struct pool  p;

	pool_init(&p, 40, N);
	for (int turn = 0; turn < 2; turn++) {
		for (int i = 0; i < N; i++) {
			got[i] = pool_get(&p);
			assert_non_null(got[i]);
			for (int j = 0; j < 40; j++)
				assert_int_equal(got[i][j], 0);
			memset(got[i], i, 40);
		}
		assert_null(pool_get(&p));
		assert_int_equal(p.used, N);
		for (int i = 0; i < N; i++) {
			for (int j = 0; j < 40; j++)
				assert_int_equal(got[i][j], (char)i);
			pool_put(&p, got[i]);
		}
	}
	pool_put(&p, NULL);
	assert_int_equal(p.used, 0);
	pool_fini(&p);
}

static void a_zeroed_or_unused_pool_can_be_finished(void **state)
{
	struct pool p = {0};

	pool_fini(&p);
	pool_init(&p, 8, 0);
	assert_null(pool_get(&p));
	pool_init(&p, 100000, 3);
	assert_non_null(pool_get(&p));
	pool_fini(&p);
}

static void memory_grows_zeroed(void **state)
{
	char *p = mem_new(10);

	memcpy(p, "0123456789", 10);
	p = mem_grow(p, 10, 1000);
	assert_memory_equal(p, "0123456789", 10);
	for (int i = 10; i < 1000; i++)
		assert_int_equal(p[i], 0);
	mem_free(p);
	mem_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(gives_at_most_max_and_takes_back),
		cmocka_unit_test(a_zeroed_or_unused_pool_can_be_finished),
		cmocka_unit_test(memory_grows_zeroed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
