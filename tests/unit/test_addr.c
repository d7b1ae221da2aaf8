/* addr: quoting out, paths in (cut at every byte), literals, VERP; docs/qmail.md B, C. */
#include "mail/addr.h"
#include "mail/ip.h"
#include "tests/unit/mail_test.h"

static void split_is_at_the_last_at(void **state)
{
	static const struct {
		const char *addr, *local, *domain;
	} cases[] = {
		{"a@b", "a", "b"}, {"a@b@h", "a@b", "h"}, {"noat", "noat", ""},
		{"@h", "", "h"},   {"a@", "a", ""},       {"", "", ""},
	};

	for (size_t i = 0; i < ARRAY_N(cases); i++) {
		assert_span(addr_local(span_str(cases[i].addr)), cases[i].local);
		assert_span(addr_domain(span_str(cases[i].addr)), cases[i].domain);
	}
	assert_true(addr_has_at(SPAN("a@")));
	assert_false(addr_has_at(SPAN("a")));
}

static const struct {
	struct span addr;
	const char *quoted;
} quotes[] = {
	{SPAN("a b@x.y"), "\"a b\"@x.y"},
	{SPAN("\"q@h"), "\"\\\"q\"@h"},
	{SPAN("noat"), "noat"},
	{SPAN("#@[]"), "#@[]"},
	{SPAN(".x@h"), "\".x\"@h"},
	{SPAN("x.@h"), "\"x.\"@h"},
	{SPAN("a..b@h"), "\"a..b\"@h"},
	{SPAN("a.b@h"), "a.b@h"},
	{SPAN("@h"), "\"\"@h"},
	{SPAN("a@b@h"), "\"a@b\"@h"},
	{SPAN(""), ""},
	{SPAN("\xc3\xbc@h"), "\"\xc3\xbc\"@h"},
	{SPAN("a\\b\r\n@h"), "\"a\\\\b\\\r\\\n\"@h"},
	{SPAN("!#$%&'*+-/=?^_`{|}~@h"), "!#$%&'*+-/=?^_`{|}~@h"},
	{SPAN("a(b)@d o m"), "\"a(b)\"@d o m"},
	{SPAN("a@"), "a@"},
	{SPAN("."), "\".\""},
};

static void quoted_where_it_must_be(void **state)
{
	for (size_t i = 0; i < ARRAY_N(quotes); i++) {
		struct outbuf o;
		struct buf b, got;

		outbuf_init(&o);
		buf_init(&b, 100);
		buf_init(&got, 100);
		addr_quote(&o, quotes[i].addr);
		drain_outbuf(&o, &got);
		assert_span(buf_span(&got), quotes[i].quoted);
		assert_true(addr_quote_buf(&b, quotes[i].addr));
		assert_span(buf_span(&b), quotes[i].quoted);
		outbuf_fini(&o);
		buf_free(&b);
		buf_free(&got);
	}
}

static void quoting_adds_all_or_nothing(void **state)
{
	struct buf b;

	buf_init(&b, 6);
	assert_true(buf_add_byte(&b, 'x'));
	assert_false(addr_quote_buf(&b, SPAN("a b@h")));
	assert_span(buf_span(&b), "x");
	buf_free(&b);
}

static void bytes_that_smtp_cannot_say(void **state)
{
	assert_true(addr_fits_smtp(SPAN("a b@h")));
	assert_false(addr_fits_smtp(SPAN("a\r@h")));
	assert_false(addr_fits_smtp(SPAN("a@h\n")));
	assert_false(addr_fits_smtp(SPAN("a\0@h")));
}

static const struct {
	struct span      arg;
	enum path_result result;
	const char      *addr, *rest;
} paths[] = {
	{SPAN("<a@b>"), PATH_OK, "a@b", ""},
	{SPAN(" <a@b>"), PATH_OK, "a@b", ""},
	{SPAN("<a@b> SIZE=1 BODY=8BITMIME"), PATH_OK, "a@b", "SIZE=1 BODY=8BITMIME"},
	{SPAN("<>"), PATH_OK, "", ""},
	{SPAN("<> SIZE=1"), PATH_OK, "", "SIZE=1"},
	{SPAN(" sp@example.com SIZE=1"), PATH_OK, "sp@example.com", "SIZE=1"},
	{SPAN("sp@example.com"), PATH_OK, "sp@example.com", ""},
	{SPAN("<@r:q\"u o\"@sub.example.com>"), PATH_OK, "qu o@sub.example.com", ""},
	{SPAN("<@a.b,@c.d:u@e.f>"), PATH_OK, "u@e.f", ""},
	{SPAN("<noat>"), PATH_OK, "noat", ""},
	{SPAN("<\"a>b\"@c>"), PATH_OK, "a>b@c", ""},
	{SPAN("<\"a\\\"b\"@c>"), PATH_OK, "a\"b@c", ""},
	{SPAN("<a\\>b@c> X"), PATH_OK, "a>b@c", "X"},
	{SPAN("\"a b\"@c X"), PATH_OK, "a b@c", "X"},
	{SPAN("<a b@c>"), PATH_OK, "a b@c", ""},
	{SPAN("<postmaster>"), PATH_OK, "postmaster", ""},
	{SPAN("<\xc3\xbc@b>"), PATH_OK, "\xc3\xbc@b", ""},
	{SPAN("<123456789012@abcdef.xyz>"), PATH_OK, "123456789012@abcdef.xyz", ""},
	{SPAN("<1234567890123@abcdef.xyz> X"), PATH_OK, "1234567890123@abcdef.xyz", "X"},
	{SPAN("<12345678901234@abcdef.xyz>"), PATH_LONG, NULL, NULL},
	{SPAN("<1234567890123456789@abcdefghi.xyz>"), PATH_LONG, NULL, NULL},
	{SPAN(""), PATH_SYNTAX, NULL, NULL},
	{SPAN("  "), PATH_SYNTAX, NULL, NULL},
	{SPAN("<"), PATH_SYNTAX, NULL, NULL},
	{SPAN("<a@b"), PATH_SYNTAX, NULL, NULL},
	{SPAN("<a@b>SIZE=1"), PATH_SYNTAX, NULL, NULL},
	{SPAN("<\"a@b>"), PATH_SYNTAX, NULL, NULL},
	{SPAN("<a\\"), PATH_SYNTAX, NULL, NULL},
	{SPAN("<@route>"), PATH_SYNTAX, NULL, NULL},
	{SPAN("<@route> :a@b>"), PATH_SYNTAX, NULL, NULL},
	{SPAN("@route x:a@b"), PATH_SYNTAX, NULL, NULL},
	{SPAN("<a\0b@c>"), PATH_SYNTAX, NULL, NULL},
	{SPAN("<a\rb@c>"), PATH_SYNTAX, NULL, NULL},
	{SPAN("<\"a\\\nb\"@c>"), PATH_SYNTAX, NULL, NULL},
};

static void paths_are_taken_apart(void **state)
{
	for (size_t i = 0; i < ARRAY_N(paths); i++) {
		struct span arg = paths[i].arg, got;
		char dst[24];

		if (addr_take_path(&arg, dst, sizeof dst, &got) != paths[i].result)
			fail_msg("path %zu: %.*s", i, SPAN_ARG(paths[i].arg));
		if (paths[i].result != PATH_OK)
			continue;
		assert_span(got, paths[i].addr);
		assert_span(arg, paths[i].rest);
	}
}

/* However early a line ends: an answer, and in angle brackets never PATH_OK before the ">". */
static void a_path_cut_short_is_no_path(void **state)
{
	for (size_t i = 0; i < ARRAY_N(paths); i++) {
		for (size_t cut = 0; cut < paths[i].arg.n; cut++) {
			struct span arg = span_until(paths[i].arg, cut), got;
			char dst[24];
			enum path_result r = addr_take_path(&arg, dst, sizeof dst, &got);

			if (paths[i].arg.p[0] == '<' &&
			    !span_has(span_until(paths[i].arg, cut), '>'))
				assert_int_equal(r, PATH_SYNTAX);
		}
	}
}

static void literals(void **state)
{
	struct ip ip;
	char text[IP_TEXT_MAX];

	assert_true(addr_literal(SPAN("[1.2.3.4]"), &ip));
	assert_string_equal(ip_text(&ip, text), "1.2.3.4");
	assert_true(addr_literal(SPAN("[IPv6:::1]"), &ip));
	assert_string_equal(ip_text(&ip, text), "::1");
	assert_false(addr_literal(SPAN("[::1]"), &ip));
	assert_false(addr_literal(SPAN("[IPv6:1.2.3.4]"), &ip));
	assert_false(addr_literal(SPAN("[1.2.3.4]x"), &ip));
	assert_false(addr_literal(SPAN("[1.2.3]"), &ip));
	assert_false(addr_literal(SPAN("[1.2.3.400]"), &ip));
	assert_false(addr_literal(SPAN("1.2.3.4"), &ip));
	assert_false(addr_literal(SPAN("[]"), &ip));
	assert_false(addr_literal(SPAN("["), &ip));
	assert_false(addr_literal(SPAN(""), &ip));
}

static void verp(void **state)
{
	static const struct {
		const char *sender, *rcpt, *want;
	} cases[] = {
		{"list-owner-@h.org-@[]", "fred@x.com", "list-owner-fred=x.com@h.org"},
		{"l-@h-@[]", "a@b@c", "l-a@b=c@h"},
		{"l@x-@h-@[]", "a@b", "l@x-a=b@h"},
		{"l-@h-@[]", "noat", "l-@h-@[]"},
		{"noat-@[]", "a@b", "noat-@[]"},
		{"-@[]", "a@b", "-@[]"},
		{"#@[]", "a@b", "#@[]"},
		{"a@b", "c@d", "a@b"},
		{"", "c@d", ""},
	};
	struct buf b;

	buf_init(&b, 100);
	for (size_t i = 0; i < ARRAY_N(cases); i++)
		assert_span(addr_verp(span_str(cases[i].sender), span_str(cases[i].rcpt), &b),
		            cases[i].want);
	buf_free(&b);

	buf_init(&b, 10);
	assert_span(addr_verp(SPAN("list-@h-@[]"), SPAN("fred@x.com"), &b), "list-@h-@[]");
	buf_free(&b);

	assert_span(addr_verp_base(SPAN("list-owner-@h.org-@[]")), "list-owner-@h.org");
	assert_span(addr_verp_base(SPAN("#@[]")), "#@[]");
	assert_span(addr_verp_base(SPAN("a@b")), "a@b");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(split_is_at_the_last_at),
		cmocka_unit_test(quoted_where_it_must_be),
		cmocka_unit_test(quoting_adds_all_or_nothing),
		cmocka_unit_test(bytes_that_smtp_cannot_say),
		cmocka_unit_test(paths_are_taken_apart),
		cmocka_unit_test(a_path_cut_short_is_no_path),
		cmocka_unit_test(literals),
		cmocka_unit_test(verp),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
