/* bounce: the text byte by byte, what QSBMF asks, and who gets it. */
#include "mail/addr.h"
#include "mail/bounce.h"
#include "mail/date.h"
#include "tests/unit/mail_test.h"

static struct bounce sample(bool dbl)
{
	return (struct bounce){SPAN("MAILER-DAEMON"),
			       SPAN("mail.example.com"),
			       SPAN("se nder@x.y"),
			       SPAN("list-owner-@h.org-@[]"),
			       dbl,
			       1795225250};
}

static void starts(struct span *text, const char *prefix)
{
	if (!span_skip(text, span_str(prefix)))
		fail_msg("want \"%s\" at \"%.*s\"", prefix, SPAN_ARG(span_until(*text, 100)));
}

static void skip_line(struct span *text)
{
	size_t lf = span_find(*text, '\n');

	assert_true(lf != SPAN_NPOS && lf > 0);
	assert_true(text->p[0] != '<' && text->p[0] != '-');
	span_cut(text, lf + 1);
}

static void single_notice(void **state)
{
	struct bounce bo = sample(false);
	struct span text;
	struct buf b;

	buf_init(&b, BOUNCE_TEXT_MAX);
	assert_true(bounce_head(&b, &bo));
	assert_true(
		bounce_paragraph(&b, SPAN("a\nb@c"), SPAN("Sorry.\nNo mailbox.\n\nReally.\n")));
	assert_true(bounce_paragraph(&b, SPAN("d@e"), SPAN("  no LF")));
	assert_true(bounce_tail(&b, &bo));
	text = buf_span(&b);
	starts(&text, "Date: 21 Nov 2026 01:40:50 -0000\n"
	              "From: MAILER-DAEMON@mail.example.com\n"
	              "To: \"se nder\"@x.y\n"
	              "Subject: failure notice\n"
	              "\n"
	              "Hi. This is the qmail-send program at mail.example.com.\n");
	skip_line(&text);
	skip_line(&text);
	starts(&text, "\n"
	              "<a_b@c>:\nSorry.\nNo mailbox.\n/Really.\n\n"
	              "<d@e>:\nno LF\n\n"
	              "--- Below this line is a copy of the message.\n\n"
	              "Return-Path: <list-owner-@h.org>\n");
	assert_int_equal(text.n, 0);
	buf_free(&b);
}

static void double_notice(void **state)
{
	struct bounce bo = sample(true);
	struct span text;
	struct buf b;

	bo.sender = SPAN_NONE;
	buf_init(&b, BOUNCE_TEXT_MAX);
	assert_true(bounce_head(&b, &bo));
	assert_true(bounce_tail(&b, &bo));
	text = buf_span(&b);
	starts(&text, "Date: 21 Nov 2026 01:40:50 -0000\nFrom: MAILER-DAEMON@mail.example.com\n"
	              "To: \"se nder\"@x.y\nSubject: failure notice\n\n"
	              "Hi. This is the qmail-send program at mail.example.com.\n");
	skip_line(&text);
	starts(&text, "\n--- Below this line is the original bounce.\n\nReturn-Path: <>\n");
	assert_int_equal(text.n, 0);
	buf_free(&b);
}

/* Whatever a server said: one paragraph, which begins with "<" and ends in one empty line. */
static void a_paragraph_stays_one(void **state)
{
	static const struct {
		const char *text, *paragraph;
	} cases[] = {
		{"", "<x@y>:\n\n"},
		{"\n\n", "<x@y>:\n\n"},
		{"a", "<x@y>:\na\n\n"},
		{"a\n", "<x@y>:\na\n\n"},
		{"a\n\n\n", "<x@y>:\na\n\n"},
		{"a\n\nb", "<x@y>:\na\n/b\n\n"},
		{"a\n\n\nb", "<x@y>:\na\n/\nb\n\n"},
		{"a\n\n\n\nb", "<x@y>:\na\n/\n/b\n\n"},
		{"\na", "<x@y>:\n/a\n\n"},
		{" a", "<x@y>:\na\n\n"},
		{"- a\n- b", "<x@y>:\n- a\n- b\n\n"},
	};

	for (size_t i = 0; i < ARRAY_N(cases); i++) {
		struct buf b;

		buf_init(&b, 1000);
		assert_true(bounce_paragraph(&b, SPAN("x@y"), span_str(cases[i].text)));
		assert_span(buf_span(&b), cases[i].paragraph);
		buf_free(&b);
	}
}

static void no_room_adds_nothing(void **state)
{
	struct bounce bo = sample(false);
	struct buf b;

	for (size_t max = 1; max < 12; max++) {
		buf_init(&b, max);
		assert_true(buf_add_byte(&b, '.'));
		assert_false(bounce_paragraph(&b, SPAN("x@y"), SPAN("abc")));
		assert_false(bounce_head(&b, &bo));
		assert_false(bounce_tail(&b, &bo));
		assert_span(buf_span(&b), ".");
		buf_free(&b);
	}
}

static void no_address_can_write_a_field(void **state)
{
	struct bounce bo = sample(false);
	struct buf b;

	bo.to = SPAN("a\nBcc: all@x\r\n\n@x.y");
	bo.sender = SPAN("b\n\nX: y@z");
	buf_init(&b, 10000);
	assert_true(bounce_head(&b, &bo));
	assert_true(bounce_tail(&b, &bo));
	assert_non_null(strstr((assert_true(buf_add_byte(&b, '\0')), b.p),
			       "To: \"a_Bcc: all@x___\"@x.y\n"));
	assert_non_null(strstr(b.p, "Return-Path: <\"b__X: y\"@z>\n"));
	buf_free(&b);
}

static void who_gets_it(void **state)
{
	static const struct {
		const char *sender, *to, *from;       /* to NULL: nobody */
		bool        dbl;
	} cases[] = {
		{"a@b", "a@b", "", false},
		{"list-owner-@h.org-@[]", "list-owner-@h.org", "", false},
		{"", "postmaster@here", "#@[]", true},
		{"#@[]", NULL, NULL, false},
	};
	struct buf to;

	buf_init(&to, ADDR_MAX);
	for (size_t i = 0; i < ARRAY_N(cases); i++) {
		struct span got, from;
		bool dbl, some;

		some = bounce_addresses(span_str(cases[i].sender), SPAN("postmaster"),
					SPAN("here"), &to, &got, &from, &dbl);
		assert_int_equal(some, cases[i].to != NULL);
		if (!some)
			continue;
		assert_span(got, cases[i].to);
		assert_span(from, cases[i].from);
		assert_int_equal(dbl, cases[i].dbl);
	}
	buf_free(&to);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(single_notice),
		cmocka_unit_test(double_notice),
		cmocka_unit_test(a_paragraph_stays_one),
		cmocka_unit_test(no_room_adds_nothing),
		cmocka_unit_test(no_address_can_write_a_field),
		cmocka_unit_test(who_gets_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
