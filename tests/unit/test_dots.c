/* dots: RFC 5321 4.5.2 and docs/qmail.md 5.10 to 5.12, 9.19, in and out, cut at every byte, and
 * the way out and back in for bodies made of the bytes that matter. */
#include "core/rand.h"
#include "mail/dots.h"
#include "tests/unit/mail_test.h"

static enum body_event decode(struct span stream, size_t cut, struct buf *ret, size_t *ret_rest)
{
	struct span piece[2] = {span_until(stream, cut), span_from(stream, cut)};
	enum body_event ev = BODY_MORE;
	struct dots_in d;

	dots_in_begin(&d);
	ev = dots_in_take(&d, &piece[0], gather, ret);
	if (ev == BODY_MORE) {
		assert_int_equal(piece[0].n, 0);
		ev = dots_in_take(&d, &piece[1], gather, ret);
	}
	*ret_rest = piece[0].n + piece[1].n;
	assert_int_equal(d.n, ret->n);
	return ev;
}

static const struct {
	const char     *wire;
	enum body_event event;
	const char     *body;
	size_t          rest;
} in_cases[] = {
	{".\r\n", BODY_END, "", 0},
	{"a\r\n.\r\nQUIT\r\n", BODY_END, "a\n", 6},
	{"Subject: x\r\n\r\n..dot\r\n.x\r\nbare\rcr\r\n.\r\n", BODY_END,
	 "Subject: x\n\n.dot\nx\nbare\rcr\n", 0},
	{"\r\n\r\n.\r\n", BODY_END, "\n\n", 0},
	{"..\r\n.\r\n", BODY_END, ".\n", 0},
	{"...\r\n.\r\n", BODY_END, "..\n", 0},
	{"a\r\r\n.\r\n", BODY_END, "a\r\n", 0},
	{"\r\r\r\n.\r\n", BODY_END, "\r\r\n", 0},
	{"a.\r\n.\r\n", BODY_END, "a.\n", 0},
	{"\r.\r\n.\r\n", BODY_END, "\r.\n", 0},
	{".\r.\r\n.\r\n", BODY_END, "\r.\n", 0},
	{".\r\r\n.\r\n", BODY_END, "\r\n", 0},
	{"a\r\n.\rb", BODY_MORE, "a\n\rb", 0},
	{"a\r\n.", BODY_MORE, "a\n", 0},
	{"a\r\n.\r", BODY_MORE, "a\n", 0},
	{"a\r", BODY_MORE, "a", 0},
	{"a", BODY_MORE, "a", 0},
	{"", BODY_MORE, "", 0},
	/* What ends a message elsewhere must not end it here. */
	{"\n", BODY_BARE_LF, "", 0},
	{".\n", BODY_BARE_LF, "", 0},
	{"a\n.\n", BODY_BARE_LF, "a", 2},
	{"a\n.\r\n", BODY_BARE_LF, "a", 3},
	{"a\r\n.\nb", BODY_BARE_LF, "a\n", 1},
	{"a\r\n\nb", BODY_BARE_LF, "a\n", 1},
	{"a\r.\r\nb", BODY_MORE, "a\r.\nb", 0},
	{"a\r\n.b\n", BODY_BARE_LF, "a\nb", 0},
};

static void in_however_cut(void **state)
{
	for (size_t i = 0; i < ARRAY_N(in_cases); i++) {
		struct span s = span_str(in_cases[i].wire);

		for (size_t cut = 0; cut <= s.n; cut++) {
			struct buf body;
			size_t rest;

			buf_init(&body, 1000);
			assert_int_equal(decode(s, cut, &body, &rest), in_cases[i].event);
			assert_span(buf_span(&body), in_cases[i].body);
			assert_int_equal(rest, in_cases[i].rest);
			buf_free(&body);
		}
	}
}

static void count_put(void *ctx, struct span run)
{
	++*(unsigned *)ctx;
}

static void in_gives_one_run_a_line(void **state)
{
	struct span wire = SPAN("one\r\ntwo\r\nthree\r\n.\r\n");
	struct dots_in d;
	unsigned puts = 0;

	/* One for each line and one for the last LF: what copies them is on every message's
	 * path. */
	dots_in_begin(&d);
	assert_int_equal(dots_in_take(&d, &wire, count_put, &puts), BODY_END);
	assert_int_equal(puts, 4);
}

static uint64_t encode(struct span body, size_t cut, struct buf *ret)
{
	struct dots_out d;
	struct outbuf o;

	outbuf_init(&o);
	dots_out_begin(&d);
	dots_out_put(&d, &o, span_until(body, cut));
	dots_out_put(&d, &o, span_from(body, cut));
	dots_out_end(&d, &o);
	drain_outbuf(&o, ret);
	outbuf_fini(&o);
	return d.stray_cr;
}

static const struct {
	const char *body, *wire;
	unsigned    stray;
} out_cases[] = {
	{"", ".\r\n", 0},
	{"\n", "\r\n.\r\n", 0},
	{"Subject: x\n\n.dot\n..d\nend\n", "Subject: x\r\n\r\n..dot\r\n...d\r\nend\r\n.\r\n",
	 0},
	{"a\nb", "a\r\nb\r\n.\r\n", 0},
	{".", "..\r\n.\r\n", 0},
	{"a\r\nb\r\n", "a\r\nb\r\n.\r\n", 0},
	{"a\rb\n", "a b\r\n.\r\n", 1},
	{"a\r\r\n", "a \r\n.\r\n", 1},
	{"a\r", "a \r\n.\r\n", 1},
	{"\r", " \r\n.\r\n", 1},
	{"\r\n.\r\n", "\r\n..\r\n.\r\n", 0},
	{"x\r.\n", "x .\r\n.\r\n", 1},
	{"\r.\n", " .\r\n.\r\n", 1},
	{"x\r.\r\n.\r\ny", "x .\r\n..\r\ny\r\n.\r\n", 1},
	{"\r\r\r", "   \r\n.\r\n", 3},
};

static void out_however_cut(void **state)
{
	for (size_t i = 0; i < ARRAY_N(out_cases); i++) {
		struct span s = span_str(out_cases[i].body);

		for (size_t cut = 0; cut <= s.n; cut++) {
			struct buf wire;

			buf_init(&wire, 1000);
			assert_int_equal(encode(s, cut, &wire), out_cases[i].stray);
			assert_span(buf_span(&wire), out_cases[i].wire);
			buf_free(&wire);
		}
	}
}

/* Only what the header says may differ: CR LF is one line end, a stray CR a space, the last
 * line is ended. */
static void expected_back(struct span body, struct buf *ret)
{
	for (size_t i = 0; i < body.n; i++) {
		char c = body.p[i];

		if (c == '\r' && i + 1 < body.n && body.p[i + 1] == '\n')
			continue;
		assert_true(buf_add_byte(ret, c == '\r' ? ' ' : c));
	}
	if (ret->n > 0 && ret->p[ret->n - 1] != '\n')
		assert_true(buf_add_byte(ret, '\n'));
}

static void out_and_back_in(void **state)
{
	rand_seed(20260101);
	for (int round = 0; round < 20000; round++) {
		static const char letters[] = {'\r', '\n', '.', 'a', '\0'};
		struct buf body, wire, want, back;
		size_t rest, n = (size_t)rand_below(14);

		buf_init(&body, 100);
		buf_init(&wire, 1000);
		buf_init(&want, 1000);
		buf_init(&back, 1000);
		while (body.n < n)
			assert_true(buf_add_byte(&body, letters[rand_below(sizeof letters)]));
		expected_back(buf_span(&body), &want);
		encode(buf_span(&body), (size_t)rand_below(n + 1), &wire);
		for (size_t i = 0; i < wire.n; i++) {
			if (wire.p[i] == '\n')
				assert_true(i > 0 && wire.p[i - 1] == '\r');
			if (wire.p[i] == '\r')
				assert_true(i + 1 < wire.n && wire.p[i + 1] == '\n');
		}
		assert_int_equal(
			decode(buf_span(&wire), (size_t)rand_below(wire.n + 1), &back, &rest),
			BODY_END);
		assert_int_equal(rest, 0);
		assert_spans_eq(buf_span(&back), buf_span(&want));
		buf_free(&body);
		buf_free(&wire);
		buf_free(&want);
		buf_free(&back);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(in_however_cut),
		cmocka_unit_test(in_gives_one_run_a_line),
		cmocka_unit_test(out_however_cut),
		cmocka_unit_test(out_and_back_in),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
