/* netstring: what is taken, what is refused and at which byte, and the cut at every byte. */
#include "mail/netstring.h"
#include "tests/unit/mail_test.h"

struct result {
	enum netstring_event last;
	uint64_t             length;
	size_t               left_over;
	struct buf           content;
};

/* Feeds `stream` in pieces: [0, cut) and the rest; stops at the first end or refusal. */
static void feed(struct span stream, size_t cut, uint64_t max, bool lenient, struct result *r)
{
	struct netstring ns;
	struct span piece[2] = {span_until(stream, cut), span_from(stream, cut)};

	netstring_init(&ns, max, lenient);
	*r = (struct result){.last = NETSTRING_MORE};
	buf_init(&r->content, TEST_BYTES_MAX);
	for (int i = 0; i < 2; i++) {
		struct span run;

		while ((r->last = netstring_take(&ns, &piece[i], &run)) != NETSTRING_MORE) {
			if (r->last == NETSTRING_LENGTH)
				r->length = ns.left;
			if (r->last == NETSTRING_BYTES)
				gather(&r->content, run);
			if (r->last != NETSTRING_LENGTH && r->last != NETSTRING_BYTES) {
				r->left_over = piece[i].n + (i == 0 ? piece[1].n : 0);
				return;
			}
		}
	}
}

static const struct {
	const char          *stream;
	uint64_t             max;
	bool                 lenient;
	enum netstring_event last;
	const char          *content;
	size_t               left_over;
} cases[] = {
	{"12:hello world!,", 100, false, NETSTRING_END, "hello world!", 0},
	{"12:hello world!,next", 12, false, NETSTRING_END, "hello world!", 4},
	{"0:,", 0, false, NETSTRING_END, "", 0},
	{"3:abcX", 100, false, NETSTRING_BAD, "abc", 0},
	{"3:ab", 100, false, NETSTRING_MORE, "ab", 0},
	{"3", 100, false, NETSTRING_MORE, "", 0},
	{":,", 100, false, NETSTRING_BAD, "", 1},
	{"-1:,", 100, false, NETSTRING_BAD, "", 3},
	{" 1:a,", 100, false, NETSTRING_BAD, "", 4},
	{"1 :a,", 100, false, NETSTRING_BAD, "", 3},
	{"02:ab,", 100, false, NETSTRING_BAD, "", 4},
	{"02:ab,", 100, true, NETSTRING_END, "ab", 0},
	{"00:,", 100, true, NETSTRING_END, "", 0},
	{"00:,", 100, false, NETSTRING_BAD, "", 2},
	{"13:hello", 12, false, NETSTRING_LONG, "", 6},
	{"999:", 100, false, NETSTRING_LONG, "", 1},
	{"9999999999:", 9999999999, false, NETSTRING_MORE, "", 0},
	{"10000000000:", UINT64_MAX, false, NETSTRING_LONG, "", 1},
	{"00000000001:a,", 100, true, NETSTRING_LONG, "", 3},
};

static void taken_and_refused_however_cut(void **state)
{
	for (size_t i = 0; i < ARRAY_N(cases); i++) {
		struct span s = span_str(cases[i].stream);

		for (size_t cut = 0; cut <= s.n; cut++) {
			struct result r;

			feed(s, cut, cases[i].max, cases[i].lenient, &r);
			assert_int_equal(r.last, cases[i].last);
			assert_span(buf_span(&r.content), cases[i].content);
			assert_int_equal(r.left_over, cases[i].left_over);
			buf_free(&r.content);
		}
	}
}

static void length_is_known_before_content(void **state)
{
	struct result r;

	feed(SPAN("12345:x"), 0, 99999, false, &r);
	assert_int_equal(r.length, 12345);
	assert_span(buf_span(&r.content), "x");
	buf_free(&r.content);
}

static void a_refusal_stays(void **state)
{
	struct netstring ns;
	struct span run, in = SPAN("x3:abc,"), big = SPAN("9:");

	netstring_init(&ns, 5, false);
	assert_int_equal(netstring_take(&ns, &in, &run), NETSTRING_BAD);
	assert_int_equal(netstring_take(&ns, &in, &run), NETSTRING_BAD);
	netstring_init(&ns, 5, false);
	assert_int_equal(netstring_take(&ns, &big, &run), NETSTRING_LONG);
	assert_int_equal(netstring_take(&ns, &in, &run), NETSTRING_LONG);
}

static void many_in_a_row(void **state)
{
	struct netstring ns;
	struct span run, in = SPAN("1:a,0:,2:bc,");
	struct buf all;
	int ends = 0;

	buf_init(&all, 100);
	netstring_init(&ns, 10, false);
	for (;;) {
		enum netstring_event ev = netstring_take(&ns, &in, &run);

		if (ev == NETSTRING_MORE)
			break;
		ends += ev == NETSTRING_END;
		if (ev == NETSTRING_BYTES)
			gather(&all, run);
	}
	assert_int_equal(ends, 3);
	assert_span(buf_span(&all), "abc");
	buf_free(&all);
}

static void what_is_written_can_be_read(void **state)
{
	struct outbuf o;
	struct buf b, small;

	outbuf_init(&o);
	buf_init(&b, 100);
	netstring_put(&o, SPAN("hello world!"));
	netstring_put(&o, SPAN_NONE);
	drain_outbuf(&o, &b);
	assert_span(buf_span(&b), "12:hello world!,0:,");

	buf_clear(&b);
	assert_true(netstring_add(&b, SPAN("u@example.com")));
	assert_span(buf_span(&b), "13:u@example.com,");

	buf_init(&small, 6);
	assert_true(netstring_add(&small, SPAN("a")));
	assert_false(netstring_add(&small, SPAN("b")));
	assert_span(buf_span(&small), "1:a,");    /* all of it or nothing */
	buf_free(&small);
	buf_free(&b);
	outbuf_fini(&o);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(taken_and_refused_however_cut),
		cmocka_unit_test(length_is_known_before_content),
		cmocka_unit_test(a_refusal_stays),
		cmocka_unit_test(many_in_a_row),
		cmocka_unit_test(what_is_written_can_be_read),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
