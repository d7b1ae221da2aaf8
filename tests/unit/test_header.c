/* header: hops as qmail counts them, cut at every byte, and fields one by one. */
#include "mail/header.h"
#include "tests/unit/mail_test.h"

static const struct {
	const char *text;
	uint32_t    hops;
	bool        over;
} hop_cases[] = {
	{"Received: x\nReceived: y\n\nbody\n", 2, true},
	{"RECEIVED: x\ndelivered-to: y\n", 2, false},
	{"Received-SPF: pass\nReceivedx\nDelivered\n", 3, false},
	{"received", 1, false},
	{"receive", 0, false},
	{"delivere\nreceiv\n\n", 0, true},
	{"Subject: x\n Received: folded\n\tDelivered-To: y\n\n", 0, true},
	{"Subject: Received: x\n\n", 0, true},
	{"\nReceived: in the body\n", 0, true},
	{"a\n\nReceived: in the body\n", 0, true},
	{"Rdelivered: x\ndReceived: x\n", 0, false},
	{"", 0, false},
};

static void hops_however_cut(void **state)
{
	for (size_t i = 0; i < ARRAY_N(hop_cases); i++) {
		struct span s = span_str(hop_cases[i].text);

		for (size_t cut = 0; cut <= s.n; cut++) {
			struct hops h;

			hops_begin(&h);
			hops_take(&h, span_until(s, cut));
			hops_take(&h, span_from(s, cut));
			assert_int_equal(h.count, hop_cases[i].hops);
			assert_int_equal(h.over, hop_cases[i].over);
		}
	}
}

static void hundred_hops_byte_by_byte(void **state)
{
	struct hops h;

	hops_begin(&h);
	for (int i = 0; i < HOPS_MAX; i++)
		for (const char *p = "Received: x\n"; *p; p++)
			hops_take(&h, span_of(p, 1));
	assert_int_equal(h.count, HOPS_MAX);
}

static void fields(void **state)
{
	struct span text = SPAN("Subject: a\n b\n\tc\nTo : x\nEmpty:\nLast: y\n\nbody: no\n");
	struct header_field f;

	assert_true(header_next(&text, &f));
	assert_span(f.name, "Subject");
	assert_span(f.body, " a\n b\n\tc\n");
	assert_span(f.whole, "Subject: a\n b\n\tc\n");
	assert_true(header_next(&text, &f));
	assert_span(f.name, "To");
	assert_span(f.body, " x\n");
	assert_true(header_next(&text, &f));
	assert_span(f.name, "Empty");
	assert_span(f.body, "\n");
	assert_true(header_next(&text, &f));
	assert_span(f.name, "Last");
	assert_false(header_next(&text, &f));
	assert_span(text, "body: no\n");
}

static void what_is_no_field_ends_the_header(void **state)
{
	static const char *texts[] = {"no colon\nTo: x\n", "From joe Sat Nov 21\n", ": x\n",
	                              " folded: first\n", "a b: c\n", "x\x80: y\n"};

	for (size_t i = 0; i < ARRAY_N(texts); i++) {
		struct span text = span_str(texts[i]);
		struct header_field f;

		assert_false(header_next(&text, &f));
		assert_span(text, texts[i]);      /* nothing was taken: it is body */
	}
}

static void a_header_cut_short(void **state)
{
	struct span whole = SPAN("A: b\n c\nD: e");
	struct header_field f;

	for (size_t cut = 0; cut <= whole.n; cut++) {
		struct span text = span_until(whole, cut);
		unsigned n = 0;

		while (header_next(&text, &f))
			n++;
		assert_int_equal(n, (cut >= 2) + (cut >= 10));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(hops_however_cut),
		cmocka_unit_test(hundred_hops_byte_by_byte),
		cmocka_unit_test(fields),
		cmocka_unit_test(what_is_no_field_ends_the_header),
		cmocka_unit_test(a_header_cut_short),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
