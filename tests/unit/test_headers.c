/* Where a header ends, what is taken out of it, what it lacks. */
#include "tools/headers.h"

#include "mail_test.h"

static const struct rewrite rw = {
	{ "mail.example.com", 16 }, { "example.com", 11 }, { "example.com", 11 },
};

/* ---- where it ends */

static const struct { const char *text; enum headers_end end; size_t at; } ends[] = {
	{ "", HEADERS_MORE, 0 },
	{ "\n", HEADERS_EMPTY_LINE, 0 },
	{ "\r\n", HEADERS_EMPTY_LINE, 0 },
	{ "\nTo: joe\n", HEADERS_EMPTY_LINE, 0 },
	{ "To: joe\n\nbody\n", HEADERS_EMPTY_LINE, 8 },
	{ "To: joe\r\n\r\nbody\r\n", HEADERS_EMPTY_LINE, 9 },
	{ "To: joe\n", HEADERS_MORE, 8 },
	{ "To: joe", HEADERS_MORE, 7 },
	{ "To : joe\n\n", HEADERS_EMPTY_LINE, 9 },
	{ "To: joe,\n ann\n\tbob\n\nbody", HEADERS_EMPTY_LINE, 19 },
	{ "To: joe\n \n\nbody", HEADERS_EMPTY_LINE, 10 },
	{ "To: joe\nbody\n", HEADERS_NO_FIELD, 8 },
	{ "To: joe\nbody", HEADERS_NO_FIELD, 8 },
	{ "To: joe\nbody: has\nfields: too", HEADERS_MORE, 29 },
	{ "To: joe\nno field: here\n", HEADERS_NO_FIELD, 8 },
	{ "To: joe\n: x\n", HEADERS_NO_FIELD, 8 },
	{ "T\xf6: joe\n", HEADERS_NO_FIELD, 0 },
	{ "body only\n", HEADERS_NO_FIELD, 0 },
	{ " folded at once\n", HEADERS_NO_FIELD, 0 },
	{ "From joe Sat Nov 21 01:37:59 2026\nTo: joe\n\n", HEADERS_EMPTY_LINE, 42 },
	{ "To: joe\nFrom joe Sat Nov 21 01:37:59 2026\n\n", HEADERS_NO_FIELD, 8 },
	{ "From joe Sat Nov 21 01:37:59 2026\n x\n", HEADERS_NO_FIELD, 34 },
};

static void knows_where_it_ends(void **state)
{
	for (size_t i = 0; i < ARRAY_N(ends); i++) {
		struct headers_scan s = {0};
		size_t              at;

		print_message("case %zu\n", i);
		assert_int_equal(headers_end(&s, span_str(ends[i].text), true, &at), ends[i].end);
		assert_int_equal(at, ends[i].at);
	}
}

/* The same when the text comes in two pieces, cut anywhere; and never too early. */
static void knows_it_wherever_the_text_is_cut(void **state)
{
	for (size_t i = 0; i < ARRAY_N(ends); i++) {
		struct span whole = span_str(ends[i].text);

		for (size_t n = 0; n <= whole.n; n++) {
			struct headers_scan s = {0};
			size_t              at;
			enum headers_end    end = headers_end(&s, span_until(whole, n), false, &at);

			if (end == HEADERS_MORE) {
				assert_int_equal(at, n);
				end = headers_end(&s, whole, true, &at);
			}
			assert_int_equal(end, ends[i].end);
			assert_int_equal(at, ends[i].at);
		}
	}
}

/* ---- what is in it */

struct golden {
	const char *name, *text, *kept, *rcpts, *return_path;
};

static const struct golden goldens[] = {
	{ "fields stay as they are",
	  "X-A:  b \nto : Joe\nSubject: x\n  y\n", "X-A:  b \nto : Joe\nSubject: x\n  y\n", "joe@mail.example.com ", NULL },
	{ "Bcc goes, To, Cc and Apparently-To stay",
	  "To: a\nBcc: b,\n c\nCC: d\nApparently-to: e\n", "To: a\nCC: d\nApparently-to: e\n",
	  "a@mail.example.com b@mail.example.com c@mail.example.com d@mail.example.com e@mail.example.com ", NULL },
	{ "an empty Bcc goes too", "Bcc:\nTo: a@b.c\n", "To: a@b.c\n", "a@b.c ", NULL },
	{ "Bcc-Not is another field", "Bcc-Not: a\nXBcc: b\n", "Bcc-Not: a\nXBcc: b\n", "", NULL },
	{ "Content-Length goes", "Content-Length: 5\nTo: a@b.c\n", "To: a@b.c\n", "a@b.c ", NULL },
	{ "resent: only its own recipients count, all Bcc go",
	  "Resent-To: q@w.e\nTo: x@y.z\nBcc: s@y.z\nResent-Bcc: t@y.z\nResent-Cc: u@y.z\n",
	  "Resent-To: q@w.e\nTo: x@y.z\nResent-Cc: u@y.z\n", "q@w.e t@y.z u@y.z ", NULL },
	{ "resent by any of its fields", "To: x@y.z\nResent-Sender: a\n", "To: x@y.z\nResent-Sender: a\n", "", NULL },
	{ "Return-Path goes and is the sender",
	  "Return-Path: <a@b>\nTo: x@y.z\n", "To: x@y.z\n", "x@y.z ", "a@b.example.com" },
	{ "an empty Return-Path is the empty sender", "Return-Path: <>\n", "", "", "" },
	{ "an mbox line gets a name", "From joe Sat\nTo: x@y.z\n", "MBOX-Line: From joe Sat\nTo: x@y.z\n", "x@y.z ", NULL },
	{ "a last line without LF gets one", "To: x@y.z", "To: x@y.z\n", "x@y.z ", NULL },
	{ "several To", "To: a@b.c\nTo: d@e.f\n", "To: a@b.c\nTo: d@e.f\n", "a@b.c d@e.f ", NULL },
	{ "nobody is no recipient", "To: <>, \"\"@\".\", a@b.c, @\n", "To: <>, \"\"@\".\", a@b.c, @\n", "a@b.c ", NULL },
	{ "CR LF stay", "To: a@b.c\r\nBcc: d@e.f\r\nSubject: x\r\n", "To: a@b.c\r\nSubject: x\r\n", "a@b.c d@e.f ", NULL },
};

/* Recipients with a blank behind each. */
static struct span words(struct span list, struct buf *b)
{
	buf_clear(b);
	for (; list.n > 0; span_cut(&list, 1)) {
		char c = list.p[0];

		assert_true(buf_add_byte(b, c ? (c >= 'A' && c <= 'Z' ? (char)(c + 32) : c) : ' '));
	}
	return buf_span(b);
}

static void golden_headers(void **state)
{
	struct buf b;

	buf_init(&b, 4096);
	for (size_t i = 0; i < ARRAY_N(goldens); i++) {
		const struct golden *g = &goldens[i];
		struct headers       h;

		print_message("%s\n", g->name);
		headers_init(&h, &rw, true);
		assert_true(headers_read(&h, span_str(g->text)));
		assert_span(buf_span(&h.kept), g->kept);
		assert_span(words(headers_rcpts(&h), &b), g->rcpts);
		assert_int_equal(h.has_return_path, g->return_path != NULL);
		assert_span(buf_span(&h.return_path), g->return_path);
		headers_fini(&h);
	}
	buf_free(&b);
}

static void names_the_field_that_is_wrong(void **state)
{
	struct headers h;

	headers_init(&h, &rw, true);
	assert_false(headers_read(&h, SPAN("To: a\nCc: (b\nX: y\n")));
	assert_span(h.bad, "Cc: (b\n");
	headers_fini(&h);
}

static void does_not_care_where_recipients_are_not_wanted(void **state)
{
	struct headers h;

	headers_init(&h, &rw, false);
	assert_true(headers_read(&h, SPAN("To: a\nCc: (b\nBcc: )\n")));
	assert_span(buf_span(&h.kept), "To: a\nCc: (b\n");
	assert_int_equal(headers_rcpts(&h).n, 0);
	headers_fini(&h);
}

static void says_when_recipients_do_not_fit(void **state)
{
	struct headers h;

	headers_init(&h, &rw, true);
	h.plain.max = 20;
	assert_false(headers_read(&h, SPAN("To: a@b.c, joseph@example.com\n")));
	assert_true(h.full);
	headers_fini(&h);
}

/* ---- what it lacks */

static struct span lacking(const char *text, const char *from, const char *name, struct buf *b)
{
	struct headers           h;
	const struct headers_new n = {
		.from = span_str(from), .name = span_str(name), .idhost = SPAN("id.example"),
		.wall = 1795225079, .pid = 7457,
	};

	buf_clear(b);
	headers_init(&h, &rw, true);
	assert_true(headers_read(&h, span_str(text)));
	assert_true(headers_missing(&h, &n, b));
	headers_fini(&h);
	return buf_span(b);
}

#define DATE    "Date: 21 Nov 2026 01:37:59 -0000\n"
#define ID      "Message-ID: <20261121013759.7457.qmail@id.example>\n"

static void adds_what_is_missing(void **state)
{
	struct buf b;

	buf_init(&b, 4096);
	assert_span(lacking("", "joe@a.b", NULL, &b), DATE ID "From: joe@a.b\n");
	assert_span(lacking("DATE: x\n", "joe@a.b", NULL, &b), ID "From: joe@a.b\n");
	assert_span(lacking("message-id: x\nDate: y\n", "joe@a.b", NULL, &b), "From: joe@a.b\n");
	assert_span(lacking("From: x\nMessage-ID: y\nDate: z\n", "joe@a.b", NULL, &b), "");
	assert_span(lacking("From: x\nMessage-ID: y\nDate: z\nResent-To: a@b.c\n", "joe@a.b", NULL, &b),
	            "Resent-" DATE "Resent-" ID "Resent-From: joe@a.b\n");
	assert_span(lacking("Resent-From: x\nResent-Message-ID: y\nResent-Date: z\n", "joe@a.b", NULL, &b), "");
	buf_free(&b);
}

static void names_and_boxes_are_quoted(void **state)
{
	const char *have = "Date: x\nMessage-ID: y\n";
	struct buf  b;

	buf_init(&b, 4096);
	assert_span(lacking(have, "joe@a.b", "Joe Q. Public", &b), "From: \"Joe Q. Public\" <joe@a.b>\n");
	assert_span(lacking(have, "joe@a.b", "a\"b\\c", &b), "From: \"a\\\"b\\\\c\" <joe@a.b>\n");
	assert_span(lacking(have, "joe@a.b", "a\nBcc: x\r", &b), "From: \"a Bcc: x \" <joe@a.b>\n");
	assert_span(lacking(have, "joe x@a.b", NULL, &b), "From: \"joe x\"@a.b\n");
	buf_free(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(knows_where_it_ends),
		cmocka_unit_test(knows_it_wherever_the_text_is_cut),
		cmocka_unit_test(golden_headers),
		cmocka_unit_test(names_the_field_that_is_wrong),
		cmocka_unit_test(does_not_care_where_recipients_are_not_wanted),
		cmocka_unit_test(says_when_recipients_do_not_fit),
		cmocka_unit_test(adds_what_is_missing),
		cmocka_unit_test(names_and_boxes_are_quoted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
