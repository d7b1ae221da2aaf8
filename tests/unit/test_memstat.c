#include "core/memstat.h"

#include "core/pool.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#ifdef QUIRE_SANITIZED
enum { HAS_JEMALLOC = 0 };
#else
enum { HAS_JEMALLOC = 1 };
#endif

static void active_follows_what_is_taken(void **state)
{
	enum { N = 16 * 1024 * 1024 };
	size_t before = memstat_active();
	char  *p = mem_new(N);

	memset(p, 1, N);
	if (HAS_JEMALLOC) {
		assert_true(before > 0);
		assert_true(memstat_active() >= before + N);
		assert_true(memstat_resident() >= memstat_active());
	} else {
		assert_int_equal(memstat_active() + memstat_resident(), 0);
	}
	mem_free(p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(active_follows_what_is_taken),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
