/* book: put, get, remove and iterate against a plain array. */
#include "core/pool.h"
#include "core/rand.h"
#include "sched/plan.h"
#include "tests/unit/mail_test.h"

#define MESSAGES 2000

static struct message *all[MESSAGES];
static bool in[MESSAGES];

static int make_messages(void **state)
{
	for (unsigned i = 0; i < MESSAGES; i++) {
		all[i] = mem_new(sizeof(struct message));
		all[i]->id = 64ull * i; /* 0 is an id like any other */
	}
	return 0;
}

static int free_messages(void **state)
{
	for (unsigned i = 0; i < MESSAGES; i++)
		mem_free(all[i]);
	return 0;
}

static void an_empty_book_has_nothing(void **state)
{
	struct book b;
	size_t at = 0;

	book_init(&b);
	assert_null(book_get(&b, 0));
	assert_null(book_next(&b, &at));
	book_fini(&b);
}

static void expect_all(const struct book *b)
{
	size_t n = 0, at = 0;
	struct message *m;

	for (unsigned i = 0; i < MESSAGES; i++) {
		assert_ptr_equal(book_get(b, all[i]->id), in[i] ? all[i] : NULL);
		n += in[i];
	}
	assert_int_equal(b->n, n);
	for (; (m = book_next(b, &at)); n--)
		assert_true(in[m->id / 64]);
	assert_int_equal(n, 0);
}

static void random_puts_and_removes(void **state)
{
	struct book b;

	rand_seed(5);
	book_init(&b);
	memset(in, 0, sizeof(in));
	for (unsigned round = 0; round < 60; round++) {
		for (unsigned k = 0; k < 500; k++) {
			unsigned i = (unsigned)rand_below(MESSAGES);

			if (in[i])
				book_remove(&b, all[i]);
			else
				book_put(&b, all[i]);
			in[i] = !in[i];
		}
		expect_all(&b);
	}
	book_fini(&b);
}

static void all_can_be_removed_on_the_way(void **state)
{
	struct book b;
	size_t at = 0;
	struct message *m;

	book_init(&b);
	for (unsigned i = 0; i < MESSAGES; i++)
		book_put(&b, all[i]);
	for (; (m = book_next(&b, &at)); at--)
		book_remove(&b, m);
	assert_int_equal(b.n, 0);
	book_fini(&b);
}

static void a_reserved_book_does_not_grow(void **state)
{
	struct book b;
	size_t cap;

	book_init(&b);
	book_put(&b, all[0]);
	book_reserve(&b, MESSAGES - 1);
	cap = b.cap;
	for (unsigned i = 1; i < MESSAGES; i++)
		book_put(&b, all[i]);
	assert_int_equal(b.cap, cap);
	for (unsigned i = 0; i < MESSAGES; i++)
		assert_ptr_equal(book_get(&b, all[i]->id), all[i]);
	book_fini(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_empty_book_has_nothing),
		cmocka_unit_test(random_puts_and_removes),
		cmocka_unit_test(all_can_be_removed_on_the_way),
		cmocka_unit_test(a_reserved_book_does_not_grow),
	};

	return cmocka_run_group_tests(tests, make_messages, free_messages);
}
