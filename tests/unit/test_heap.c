#include "core/heap.h"

#include "core/rand.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { N = 2000 };
static struct heap_entry entries[N];

static void the_least_is_first_whatever_happens(void **state)
{
	struct heap h = {0};

	rand_seed(7);
	for (int i = 0; i < N; i++)
		heap_entry_init(&entries[i]);
	assert_null(heap_min(&h));
	for (int i = 0; i < 100000; i++) {
		struct heap_entry *e = &entries[rand_below(N)];
		uint64_t           key = rand_below(500);

		if (!heap_has(e))
			heap_add(&h, e, key);
		else if (rand_below(3) == 0)
			heap_remove(&h, e);
		else
			heap_move(&h, e, key);
		if (i % 100 == 0) {
			uint64_t least = UINT64_MAX;

			for (int j = 0; j < N; j++)
				if (heap_has(&entries[j]) && entries[j].key < least)
					least = entries[j].key;
			if (heap_min(&h))
				assert_true(heap_min(&h)->key == least);
		}
	}
	for (uint64_t last = 0; heap_min(&h);) {
		struct heap_entry *e = heap_min(&h);

		assert_true(e->key >= last);
		last = e->key;
		heap_remove(&h, e);
		heap_remove(&h, e);
		assert_false(heap_has(e));
	}
	heap_fini(&h);
	heap_fini(&h);
}

static void finishing_lets_everybody_go(void **state)
{
	struct heap       h = {0};
	struct heap_entry e;

	heap_entry_init(&e);
	heap_add(&h, &e, 1);
	heap_fini(&h);
	assert_false(heap_has(&e));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_least_is_first_whatever_happens),
		cmocka_unit_test(finishing_lets_everybody_go),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
