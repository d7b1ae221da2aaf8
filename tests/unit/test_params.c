#include "smtp/params.h"

#include "core/check.h"
#include "smtp/replies.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

static void params_take_what_ehlo_offers(void **state)
{
	static const struct {
		const char      *text;
		bool             has_size;
		uint64_t         size;
		enum params_body body;
	} cases[] = {
		{"", false, 0, PARAMS_BODY_NONE},
		{"   ", false, 0, PARAMS_BODY_NONE},
		{"SIZE=0", true, 0, PARAMS_BODY_NONE},
		{" size=123 ", true, 123, PARAMS_BODY_NONE},
		{"SIZE=18446744073709551615", true, UINT64_MAX, PARAMS_BODY_NONE},
		{"SIZE=00000000000000000001", true, 1, PARAMS_BODY_NONE},
		{"BODY=7bit", false, 0, PARAMS_BODY_7BIT},
		{"Body=8BitMime  SIZE=9", true, 9, PARAMS_BODY_8BITMIME},
	};

	for (size_t i = 0; i < ARRAY_N(cases); i++) {
		struct params       p;
		const struct reply *no = params_parse(span_str(cases[i].text), &p);

		if (no)
			fail_msg("\"%s\": %s", cases[i].text, no->name);
		assert_int_equal(p.has_size, cases[i].has_size);
		assert_int_equal(p.size, cases[i].size);
		assert_int_equal(p.body, cases[i].body);
	}
}

static void params_refuse_the_rest(void **state)
{
	static const struct {
		const char         *text;
		const struct reply *no;
	} cases[] = {
		{"SIZE", &reply_param_value},
		{"SIZE=", &reply_param_value},
		{"SIZE=1a", &reply_param_value},
		{"SIZE=-1", &reply_param_value},
		{"SIZE=18446744073709551616", &reply_param_value},
		{"SIZE=000000000000000000001", &reply_param_value},
		{"SIZE=1 SIZE=1", &reply_param_twice},
		{"SIZE=0 BODY=7BIT size=0", &reply_param_twice},
		{"BODY", &reply_param_value},
		{"BODY=", &reply_param_value},
		{"BODY=BINARYMIME", &reply_param_value},
		{"BODY=7BIT BODY=8BITMIME", &reply_param_twice},
		{"SMTPUTF8", &reply_param_unknown},
		{"RET=HDRS", &reply_param_unknown},
		{"=", &reply_param_unknown},
		{"SIZES=1", &reply_param_unknown},
		{"SIZE=1 x", &reply_param_unknown},
	};

	for (size_t i = 0; i < ARRAY_N(cases); i++) {
		struct params       p;
		const struct reply *no = params_parse(span_str(cases[i].text), &p);

		if (no != cases[i].no)
			fail_msg("\"%s\": %s, not %s", cases[i].text, no ? no->name : "taken",
				 cases[i].no->name);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(params_take_what_ehlo_offers),
		cmocka_unit_test(params_refuse_the_rest),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
