/* date: the three forms, the first and the last second. */
#include "mail/date.h"
#include "tests/unit/mail_test.h"

static void forms(void **state)
{
	static const struct {
		uint64_t    wall;
		const char *rfc822, *ctime, *stamp;
	} cases[] = {
		{1795225250, "21 Nov 2026 01:40:50 -0000", "Sat Nov 21 01:40:50 2026",
		 "20261121014050"},
		{0, "1 Jan 1970 00:00:00 -0000", "Thu Jan 01 00:00:00 1970", "19700101000000"},
		{951782400, "29 Feb 2000 00:00:00 -0000", "Tue Feb 29 00:00:00 2000",
		 "20000229000000"},
		{4102444799, "31 Dec 2099 23:59:59 -0000", "Thu Dec 31 23:59:59 2099",
		 "20991231235959"},
		{UINT64_MAX, "31 Dec 9999 23:59:59 -0000", "Fri Dec 31 23:59:59 9999",
		 "99991231235959"},
	};

	for (size_t i = 0; i < ARRAY_N(cases); i++) {
		char text[DATE_MAX];

		assert_string_equal(date_822(cases[i].wall, text), cases[i].rfc822);
		assert_string_equal(date_ctime(cases[i].wall, text), cases[i].ctime);
		assert_string_equal(date_stamp(cases[i].wall, text), cases[i].stamp);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(forms)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
