#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "core/pool.h"
#include "journal/format.h"
#include "journal/live_table.h"

#include <stdlib.h>
#include <string.h>

#define IDS 200000

static uint64_t id_of(uint32_t i)
{
	return id_make(1 + i % 3, i / 3, i % 2);
}

/* In order, as mail comes and goes, and with some that stay for long. */
static void all_are_found(void **state)
{
	uint32_t *handles = mem_new(IDS * sizeof *handles);
	uint64_t seed = 1, n = 0, at = 0;
	struct live_table t;

	live_table_init(&t);
	memset(handles, 0xff, IDS * sizeof *handles);
	for (uint32_t i = 0; i < IDS; i++) {
		uint32_t old;

		handles[i] = live_table_add(&t, id_of(i));
		n++;
		seed = seed * 6364136223846793005ull + 1442695040888963407ull;
		old = i - (uint32_t)(seed >> 33) % (i < 50000 ? i + 1 : 50000);
		if (i > IDS / 4 && handles[old] != ENTRY_NONE) {
			live_table_remove(&t, handles[old]);
			handles[old] = ENTRY_NONE;
			n--;
		}
		assert_int_equal(live_table_find(&t, id_of(old)), handles[old]);
	}
	assert_int_equal(t.n, n);
	for (uint32_t i = 0; i < IDS; i++) {
		assert_int_equal(live_table_find(&t, id_of(i)), handles[i]);
		if (handles[i] != ENTRY_NONE)
			assert_int_equal(live_table_at(&t, handles[i])->id, id_of(i));
	}
	while (live_table_next(&t, &at) != ENTRY_NONE)
		n--;
	assert_int_equal(n, 0);
	live_table_fini(&t);
	mem_free(handles);
}

static void memory_is_bounded_and_given_back(void **state)
{
	struct live_table t;
	uint64_t at = 0, full;
	uint32_t h;

	live_table_init(&t);
	for (uint32_t i = 0; i < IDS; i++)
		live_table_add(&t, id_of(i));
	full = t.bytes;
	assert_true(full / IDS <= 66);
	while ((h = live_table_next(&t, &at)) != ENTRY_NONE)
		live_table_remove(&t, h);
	assert_int_equal(t.n, 0);
	assert_true(t.bytes < full / 8); /* a chunk stays in each part */
	assert_int_equal(live_table_find(&t, id_of(7)), ENTRY_NONE);
	assert_int_not_equal(live_table_add(&t, id_of(7)), ENTRY_NONE);
	live_table_fini(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_are_found),
		cmocka_unit_test(memory_is_bounded_and_given_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
