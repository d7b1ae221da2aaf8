#include "core/list.h"

#include "core/check.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct item {
	int         n;
	struct link link;
};

static void order_and_removal(void **state)
{
	struct item items[4] = {{1}, {2}, {3}, {4}};
	struct link head;
	int         sum = 0, turns = 0;

	list_init(&head);
	assert_true(list_is_empty(&head) && !list_first(&head));
	list_remove(&items[0].link);              /* zeroed, in no list */
	assert_false(link_is_in(&items[0].link));
	list_add_end(&head, &items[1].link);
	list_add_end(&head, &items[2].link);
	list_add_front(&head, &items[0].link);
	list_insert_before(&items[2].link, &items[3].link);
	list_each(&head, l)
		sum = sum * 10 + owner_of(l, struct item, link)->n;
	assert_int_equal(sum, 1243);
	assert_true(link_is_in(&items[3].link));
	list_each_safe(&head, l) {
		list_remove(l);
		list_remove(l);
		assert_false(link_is_in(l));
		turns++;
	}
	assert_int_equal(turns, 4);
	assert_true(list_is_empty(&head));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(order_and_removal),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
