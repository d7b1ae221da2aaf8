/* envelope: packing, its limits, and damage that must not be read past. */
#include "mail/addr.h"
#include "mail/envelope.h"
#include "tests/unit/mail_test.h"

static void packed_and_read_back(void **state)
{
	struct span packed, got;
	struct envelope e;

	envelope_init(&e, 1000);
	assert_true(envelope_sender(&e, SPAN("s@x")));
	assert_true(envelope_add(&e, SPAN("a@b")));
	assert_true(envelope_add(&e, SPAN_NONE));
	assert_true(envelope_add(&e, SPAN("c\0d@e")));
	assert_int_equal(e.rcpts, 3);
	assert_spans_eq(buf_span(&e.packed), SPAN("\3\0a@b\0\0\5\0c\0d@e"));
	assert_span(span_of(e.sender, e.sender_n), "s@x");

	packed = buf_span(&e.packed);
	assert_true(packed_next(&packed, &got));
	assert_span(got, "a@b");
	assert_true(packed_next(&packed, &got));
	assert_int_equal(got.n, 0);
	assert_true(packed_next(&packed, &got));
	assert_spans_eq(got, SPAN("c\0d@e"));
	assert_false(packed_next(&packed, &got));
	assert_int_equal(packed.n, 0);
	envelope_fini(&e);
}

static void limits(void **state)
{
	static const char x[ADDR_MAX + 1];
	struct envelope e;

	envelope_init(&e, 10);
	assert_true(envelope_add(&e, SPAN("12345678")));
	assert_false(envelope_add(&e, SPAN_NONE));
	assert_int_equal(e.rcpts, 1);
	envelope_fini(&e);

	envelope_init(&e, RCPT_PART_MAX);
	assert_true(envelope_sender(&e, span_of(x, ADDR_MAX)));
	assert_false(envelope_sender(&e, span_of(x, ADDR_MAX + 1)));
	assert_true(envelope_add(&e, span_of(x, ADDR_MAX)));
	assert_false(envelope_add(&e, span_of(x, ADDR_MAX + 1)));
	for (int i = 0; i < 10; i++)
		assert_true(envelope_add(&e, span_of(x, ADDR_MAX)));
	envelope_clear(&e);
	assert_int_equal(e.rcpts + e.packed.n + e.sender_n, 0);
	assert_true(e.packed.cap <= 4096);
	assert_true(envelope_add(&e, SPAN("a@b")));
	envelope_fini(&e);
}

static void damage_is_not_the_end(void **state)
{
	struct span whole = SPAN("\3\0a@b\2\0cd");

	for (size_t cut = 0; cut < whole.n; cut++) {
		struct span packed = span_until(whole, cut), got;
		unsigned n = 0;

		while (packed_next(&packed, &got))
			n++;
		assert_int_equal(n, cut >= 5);
		assert_int_equal(packed.n > 0, cut != 0 && cut != 5);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(packed_and_read_back),
		cmocka_unit_test(limits),
		cmocka_unit_test(damage_is_not_the_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
