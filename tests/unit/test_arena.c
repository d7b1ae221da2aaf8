#include "core/arena.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void memory_is_zeroed_and_aligned(void **state)
{
	struct arena a;

	arena_init(&a, 4096, 100000);
	for (int turn = 0; turn < 3; turn++) {
		for (size_t n = 0; n < 200; n++) {
			unsigned char *p = arena_alloc(&a, n);

			assert_non_null(p);
			assert_int_equal((uintptr_t)p % 16, 0);
			for (size_t i = 0; i < n; i++)
				assert_int_equal(p[i], 0);
			memset(p, 0xaa, n);
		}
		arena_reset(&a);
		assert_int_equal(a.used, 4096);
	}
	arena_fini(&a);
	arena_fini(&a);
	assert_int_equal(a.used, 0);
}

static void the_limit_is_an_answer(void **state)
{
	struct arena a;
	size_t       n = 0;

	arena_init(&a, 4096, 10000);
	assert_null(arena_alloc(&a, 10001));
	assert_null(arena_alloc(&a, SIZE_MAX));
	assert_null(arena_alloc(&a, SIZE_MAX - 8));
	while (arena_alloc(&a, 64))
		n += 64;
	assert_true(n > 9000 && n <= 10000);
	assert_null(arena_dup(&a, SPAN("0123456789012345678901234567890123456789"
	                               "0123456789012345678901234567890123456789")).p);
	arena_reset(&a);
	assert_non_null(arena_alloc(&a, 5000));
	arena_fini(&a);
}

static void a_giant_does_not_waste_the_block(void **state)
{
	struct arena a;
	char        *one, *two;

	arena_init(&a, 4096, 1000000);
	one = arena_alloc(&a, 16);
	assert_non_null(arena_alloc(&a, 50000));
	two = arena_alloc(&a, 16);
	assert_ptr_equal(two, one + 16);
	arena_reset(&a);
	assert_int_equal(a.used, 4096);
	arena_fini(&a);
}

static void copies(void **state)
{
	struct arena a;

	arena_init(&a, 256, 4096);
	assert_true(span_eq(arena_dup(&a, SPAN("abc")), SPAN("abc")));
	assert_int_equal(arena_dup(&a, SPAN_NONE).n, 0);
	assert_string_equal(arena_cstr(&a, SPAN("abcdefghijklmnop")), "abcdefghijklmnop");
	assert_string_equal(arena_cstr(&a, SPAN_NONE), "");
	arena_fini(&a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(memory_is_zeroed_and_aligned),
		cmocka_unit_test(the_limit_is_an_answer),
		cmocka_unit_test(a_giant_does_not_waste_the_block),
		cmocka_unit_test(copies),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
