/* line: lines whole and in pieces, the limit, the CR, and that storage is given back. */
#include "mail/line.h"
#include "tests/unit/mail_test.h"

/* All events of `stream` as text: "<line>" for LINE_OK, "!" for LINE_LONG. */
static void events(struct span stream, size_t cut, size_t max, struct buf *ret)
{
	struct span piece[2] = {span_until(stream, cut), span_from(stream, cut)};
	struct line l;

	line_init(&l, max);
	for (int i = 0; i < 2; i++) {
		enum line_event ev;
		struct span got;

		while ((ev = line_take(&l, &piece[i], &got)) != LINE_MORE) {
			if (ev == LINE_LONG)
				assert_true(buf_add_byte(ret, '!'));
			else
				assert_true(buf_fmt(ret, "<%.*s>", SPAN_ARG(got)));
		}
		assert_int_equal(piece[i].n, 0);
	}
	line_fini(&l);
}

static const struct {
	const char *stream, *events;
} cases[] = {
	{"", ""},
	{"abc", ""},
	{"abc\n", "<abc>"},
	{"abc\r\n", "<abc>"},
	{"\n\r\n", "<><>"},
	{"a\r\r\n", "<a\r>"},
	{"a\rb\n", "<a\rb>"},
	{"12345678\n", "<12345678>"},
	{"1234567\r\n", "<1234567>"},
	{"12345678\r\n", "!"},
	{"123456789\nx\n", "!<x>"},
	{"123456789 123456789 123456789\ny\r\n123456789\n\n", "!<y>!<>"},
	{"EHLO x\r\nQUIT\r\n", "<EHLO x><QUIT>"},
};

static void lines_however_cut(void **state)
{
	for (size_t i = 0; i < ARRAY_N(cases); i++) {
		struct span s = span_str(cases[i].stream);

		for (size_t cut = 0; cut <= s.n; cut++) {
			struct buf got;

			buf_init(&got, 1000);
			events(s, cut, 8, &got);
			assert_span(buf_span(&got), cases[i].events);
			buf_free(&got);
		}
	}
}

static void byte_by_byte(void **state)
{
	struct span stream = SPAN("MAIL FROM:<a@b>\r\nnot so long\n");
	struct buf got;
	struct line l;

	buf_init(&got, 1000);
	line_init(&l, 20);
	for (size_t i = 0; i < stream.n; i++) {
		struct span one = span_of(stream.p + i, 1), line;

		if (line_take(&l, &one, &line) == LINE_OK)
			assert_true(buf_fmt(&got, "<%.*s>", SPAN_ARG(line)));
	}
	assert_span(buf_span(&got), "<MAIL FROM:<a@b>><not so long>");
	line_fini(&l);
	buf_free(&got);
}

static void an_idle_line_holds_no_storage(void **state)
{
	struct span a = SPAN("NO"), b = SPAN("OP\r\n"), none = SPAN_NONE, got;
	struct line l;

	line_init(&l, 100);
	assert_int_equal(line_take(&l, &a, &got), LINE_MORE);
	assert_int_equal(line_take(&l, &b, &got), LINE_OK);
	assert_span(got, "NOOP");
	assert_int_equal(line_take(&l, &none, &got), LINE_MORE);
	assert_null(l.part.p);
	assert_int_equal(l.part.cap, 0);
	line_fini(&l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lines_however_cut),
		cmocka_unit_test(byte_by_byte),
		cmocka_unit_test(an_idle_line_holds_no_storage),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
