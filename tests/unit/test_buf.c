#include "core/buf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void the_maximum_holds_and_adds_nothing(void **state)
{
	struct buf b;

	buf_init(&b, 5);
	assert_true(buf_add(&b, SPAN("abc")));
	assert_false(buf_add(&b, SPAN("def")));
	assert_false(buf_fmt(&b, "%d", 123));
	assert_int_equal(b.n, 3);
	assert_true(buf_fmt(&b, "%d", 12));
	assert_memory_equal(b.p, "abc12", 5);
	assert_false(buf_add_byte(&b, 'x'));
	assert_true(buf_add(&b, SPAN_NONE));
	assert_null(buf_room(&b, 1));
	assert_non_null(buf_room(&b, 0));
	buf_free(&b);
	assert_int_equal(b.max, 5);
	assert_true(buf_add(&b, SPAN("again")));
	buf_free(&b);
}

static void grows_byte_by_byte(void **state)
{
	struct buf b;

	buf_init(&b, 100000);
	for (int i = 0; i < 100000; i++)
		assert_true(buf_add_byte(&b, (char)i));
	assert_false(buf_add_byte(&b, 'x'));
	for (int i = 0; i < 100000; i++)
		assert_int_equal(b.p[i], (char)i);
	buf_drop_front(&b, 99998);
	assert_int_equal(b.n, 2);
	assert_int_equal(b.p[1], (char)99999);
	buf_drop_front(&b, 2);
	buf_clear(&b);
	assert_int_equal(buf_span(&b).n, 0);
	buf_free(&b);
	buf_free(&b);
}

static void room_is_written_by_the_caller(void **state)
{
	struct buf b;
	char      *at;

	buf_init(&b, 1000);
	at = buf_room(&b, 1000);
	memset(at, 'x', 1000);
	b.n += 1000;
	assert_int_equal(buf_span(&b).n, 1000);
	assert_false(buf_add_byte(&b, 'x'));
	buf_free(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_maximum_holds_and_adds_nothing),
		cmocka_unit_test(grows_byte_by_byte),
		cmocka_unit_test(room_is_written_by_the_caller),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
