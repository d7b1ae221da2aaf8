#include "core/table.h"

#include "core/rand.h"

#include <stdio.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct word {
	char text[16];
	bool in;
};

static struct span key_of(const void *value)
{
	return span_str(((const struct word *)value)->text);
}

enum { WORDS = 3000 };
static struct word words[WORDS];

/* Against the plainest model there is: a flag in each word. */
static void a_table_agrees_with_a_model(void **state)
{
	struct table t;
	size_t       n = 0, at = 0, seen = 0;
	struct word *w;

	rand_seed(1);
	table_init(&t, key_of, false, 2000);
	for (int i = 0; i < WORDS; i++)
		snprintf(words[i].text, sizeof(words[i].text), "w%d", i);
	assert_null(table_get(&t, SPAN("w1")));
	for (int i = 0; i < 200000; i++) {
		w = &words[rand_below(WORDS)];
		assert_ptr_equal(table_get(&t, key_of(w)), w->in ? w : NULL);
		if (w->in) {
			table_remove(&t, w);
			w->in = false;
			n--;
		} else if (n < 2000) {
			assert_true(table_put(&t, w));
			w->in = true;
			n++;
		} else {
			assert_false(table_put(&t, w));
		}
		assert_int_equal(t.n, n);
		assert_true(t.cap <= 8192);       /* dead slots do not make it grow for ever */
	}
	while ((w = table_next(&t, &at))) {
		assert_true(w->in);
		seen++;
		table_remove(&t, w);              /* allowed on what was just returned */
	}
	assert_int_equal(seen, n);
	assert_int_equal(t.n, 0);
	table_fini(&t);
	table_fini(&t);
}

static void a_folding_table_knows_no_case(void **state)
{
	struct table t;
	struct word  w = {"Example.ORG", true};
	struct span  longer = SPAN("x");

	table_init(&t, key_of, true, 10);
	assert_true(table_put(&t, &w));
	assert_ptr_equal(table_get(&t, SPAN("eXAMPLE.org")), &w);
	assert_null(table_get(&t, SPAN("example.or")));
	assert_null(table_get(&t, longer));
	assert_null(table_get(&t, SPAN_NONE));
	table_fini(&t);
}

static void a_map_agrees_with_a_model(void **state)
{
	static char values[100000]; /* addresses that nothing else has */
	static void *model[1000];
	struct map   m;
	size_t       n = 0, at = 0, seen = 0;
	uint64_t     key;
	char        *value;

	map_init(&m, 800);
	assert_null(map_get(&m, 0));
	assert_null(map_remove(&m, 0));
	for (int i = 0; i < 200000; i++) {
		key = rand_below(1000);
		value = values + rand_below(sizeof values);
		assert_ptr_equal(map_get(&m, key), model[key]);
		if (rand_below(2)) {
			assert_ptr_equal(map_remove(&m, key), model[key]);
			n -= model[key] != NULL;
			model[key] = NULL;
		} else if (model[key] || n < 800) {
			n += !model[key];
			assert_true(map_put(&m, key, value));
			model[key] = value;
		} else {
			assert_false(map_put(&m, key, value));
		}
		assert_int_equal(m.n, n);
	}
	while (map_next(&m, &at, &key))
		seen += model[key] != NULL;
	assert_int_equal(seen, n);
	map_fini(&m);
}

static void hashes_depend_on_seed_and_bytes(void **state)
{
	assert_true(hash_bytes(SPAN("a"), 1) == hash_bytes(SPAN("a"), 1));
	assert_true(hash_bytes(SPAN("a"), 1) != hash_bytes(SPAN("a"), 2));
	assert_true(hash_bytes(SPAN("a"), 1) != hash_bytes(SPAN("b"), 1));
	hash_bytes(SPAN_NONE, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_table_agrees_with_a_model),
		cmocka_unit_test(a_folding_table_knows_no_case),
		cmocka_unit_test(a_map_agrees_with_a_model),
		cmocka_unit_test(hashes_depend_on_seed_and_bytes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
