#include "core/span.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define assert_span(s, text) assert_true(span_eq((s), SPAN(text)))

static void everything_accepts_the_empty_span(void **state)
{
	struct span none = SPAN_NONE, s = SPAN_NONE;
	uint64_t    n;
	char        c[1];

	assert_true(span_eq(none, none) && span_ieq(none, SPAN("")));
	assert_true(span_starts(none, none) && span_ends(none, none) && span_istarts(none, none));
	assert_int_equal(span_find(none, 'x'), SPAN_NPOS);
	assert_int_equal(span_rfind(none, 'x'), SPAN_NPOS);
	assert_int_equal(span_cut(&s, 3).n, 0);
	assert_int_equal(span_from(none, 3).n, 0);
	assert_int_equal(span_until(none, 3).n, 0);
	assert_true(span_skip(&s, none));
	assert_int_equal(span_word(&s).n, 0);
	assert_int_equal(span_trim(none).n, 0);
	assert_false(span_u64(none, 10, &n));
	assert_true(span_to_cstr(none, c, 1));
	assert_int_equal(c[0], '\0');
	assert_int_equal(span_cmp(none, none), 0);
	assert_int_equal(span_str(NULL).n, 0);
}

static void compares(void **state)
{
	assert_true(span_ieq(SPAN("MAIL"), SPAN("mail")));
	assert_false(span_eq(SPAN("MAIL"), SPAN("mail")));
	assert_false(span_ieq(SPAN("@"), SPAN("`")));      /* 0x40 and 0x60: no letters */
	assert_false(span_ieq(SPAN("\xc4"), SPAN("\xe4"))); /* ASCII only */
	assert_true(span_starts(SPAN("abc"), SPAN("ab")));
	assert_false(span_starts(SPAN("ab"), SPAN("abc")));
	assert_true(span_ends(SPAN("a.example"), SPAN(".example")));
	assert_false(span_ends(SPAN("example"), SPAN(".example")));
	assert_true(span_cmp(SPAN("a"), SPAN("ab")) < 0);
	assert_true(span_cmp(SPAN("b"), SPAN("ab")) > 0);
	assert_true(span_cmp(SPAN("\xff"), SPAN("a")) > 0);
}

static void cuts(void **state)
{
	struct span s = SPAN("FROM:<a>"), line = SPAN("RCPT   TO:<x>  z"), last = SPAN("one");

	assert_false(span_skip(&s, SPAN("from:")));
	assert_true(span_skip_i(&s, SPAN("from:")));
	assert_span(s, "<a>");
	assert_span(span_cut(&s, 1), "<");
	assert_span(span_cut(&s, 100), "a>");
	assert_int_equal(s.n, 0);
	assert_span(span_word(&line), "RCPT");
	assert_span(line, "TO:<x>  z");
	assert_span(span_word(&last), "one");
	assert_int_equal(last.n, 0);
	assert_span(span_trim(SPAN(" \ta b\t ")), "a b");
	assert_span(span_trim_end(SPAN("a\r\n"), "\r\n"), "a");
	assert_span(span_trim(SPAN("  ")), "");
	assert_int_equal(span_find(SPAN("a@b@c"), '@'), 1);
	assert_int_equal(span_rfind(SPAN("a@b@c"), '@'), 3);
	assert_true(span_has(SPAN("a\0b"), '\0'));
}

static void numbers(void **state)
{
	uint64_t n = 42;

	assert_true(span_u64(SPAN("0"), 0, &n) && n == 0);
	assert_true(span_u64(SPAN("007"), 7, &n) && n == 7);
	assert_true(span_u64(SPAN("18446744073709551615"), UINT64_MAX, &n) && n == UINT64_MAX);
	n = 42;
	assert_false(span_u64(SPAN("18446744073709551616"), UINT64_MAX, &n));
	assert_false(span_u64(SPAN("8"), 7, &n));
	assert_false(span_u64(SPAN("70"), 7, &n));
	assert_false(span_u64(SPAN("1"), 0, &n));
	assert_false(span_u64(SPAN(""), 7, &n));
	assert_false(span_u64(SPAN("1a"), 100, &n));
	assert_false(span_u64(SPAN("-1"), 100, &n));
	assert_false(span_u64(SPAN("+1"), 100, &n));
	assert_int_equal(n, 42);
}

static void names_for_system_calls(void **state)
{
	char c[4];

	assert_true(span_to_cstr(SPAN("abc"), c, sizeof(c)));
	assert_string_equal(c, "abc");
	assert_false(span_to_cstr(SPAN("abcd"), c, sizeof(c)));
	assert_false(span_to_cstr(SPAN("a\0b"), c, sizeof(c)));
}

static void utf8(void **state)
{
	assert_int_equal(span_utf8(SPAN("\xc3\xa9x")), 2);
	assert_int_equal(span_utf8(SPAN("\xe2\x82\xac")), 3);
	assert_int_equal(span_utf8(SPAN("\xf0\x9f\x93\xa7")), 4);
	assert_int_equal(span_utf8(SPAN("x")), 0);
	assert_int_equal(span_utf8(SPAN("\xc3")), 0);         /* cut */
	assert_int_equal(span_utf8(SPAN("\xc0\xaf")), 0);     /* too long a form */
	assert_int_equal(span_utf8(SPAN("\xed\xa0\x80")), 0); /* a surrogate */
	assert_int_equal(span_utf8(SPAN("\xe2\x82x")), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(utf8),
		cmocka_unit_test(everything_accepts_the_empty_span),
		cmocka_unit_test(compares),
		cmocka_unit_test(cuts),
		cmocka_unit_test(numbers),
		cmocka_unit_test(names_for_system_calls),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
