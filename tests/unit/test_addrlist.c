/* Address lists and rewriting. */
#include "tools/addrlist.h"

#include "mail_test.h"

static const struct rewrite rw = {
	{ "mail.example.com", 16 }, { "example.com", 11 }, { "plus.example", 12 },
};

static void take(void *ctx, const struct mailbox *m)
{
	assert_true(rewrite_mailbox(&rw, m, ctx) && buf_add_byte(ctx, ' '));
}

static bool list(struct span text, struct buf *b)
{
	buf_clear(b);
	return addrlist_parse(text, take, b);
}

static void takes_every_form_of_address(void **state)
{
	static const struct { const char *text, *want; } cases[] = {
		{ "", "" },
		{ " \t\r\n ", "" },
		{ "joe@b.c", "joe@b.c " },
		{ "joe@b.c, ann@d.e,bob@f.g", "joe@b.c ann@d.e bob@f.g " },
		{ ",, joe@b.c,,", "joe@b.c " },
		{ "<joe@b.c>", "joe@b.c " },
		{ "Joe Q. Public <joe@b.c>", "joe@b.c " },
		{ "\"Public, Joe\" <joe@b.c>", "joe@b.c " },
		{ "\"a\\\"b\" <joe@b.c>", "joe@b.c " },
		{ "=?utf-8?q?J=C3=B6?= <j@b.c>", "j@b.c " },
		{ "J\xc3\xb6rg <j\xc3\xb6@b.c>", "j\xc3\xb6@b.c " },
		{ "joe @ b . c", "joe@b.c " },
		{ "joe\n\t@\n b.c", "joe@b.c " },
		{ "joe\r\n\t@\r\n b.c", "joe@b.c " },
		{ "joe.x.y@b.c", "joe.x.y@b.c " },
		{ "\"joe x\"@b.c", "joe x@b.c " },
		{ "\"joe\".x@b.c", "joe.x@b.c " },
		{ "\"a@b\"@c.d", "a@b@c.d " },
		{ "a@b@c.d", "a@b@c.d " },
		{ "joe\\@x@b.c", "joe@x@b.c " },
		{ "\"jo\n e\"@b.c", "jo e@b.c " },
		{ "\"jo\r\n e\"@b.c", "jo e@b.c " },
		{ "(a (nested, \\) one) here) joe (x)@(y)b.c(z)", "joe@b.c " },
		{ "joe@[1.2.3.4]", "joe@[1.2.3.4] " },
		{ "joe@[IPv6:::1]", "joe@[IPv6:::1] " },
		{ "<@r1,@r2:u@h.dom>", "u@h.dom " },
		{ "<@r1:u@h.dom>", "u@h.dom " },
		{ "djb fred", "djb@mail.example.com fred@mail.example.com " },
		{ "djb@a.b fred@c.d", "djb@a.b fred@c.d " },
		{ "<a@b.c> <d@e.f>", "a@b.c d@e.f " },
		{ "grp: a@b.c, d;", "a@b.c d@mail.example.com " },
		{ "grp: ;", "" },
		{ "recipient list not shown: ;", "" },
		{ "undisclosed-recipients:;", "" },
		{ "a@b.c, grp: Joe <d@e.f>; g@h.i", "a@b.c d@e.f g@h.i " },
		{ "<>", "" },
		{ "\"\"", "" },
		{ "\"\"@b.c", "@b.c " },
		{ "foo@", "foo@mail.example.com " },
		{ "foo.", "foo@mail.example.com " },
		{ "<foo@>", "foo@mail.example.com " },
		{ "foo@b.c.", "foo@b.c " },
		{ "\"foo.\"", "foo.@mail.example.com " },
		{ "@", "" },
		{ ".", "" },
		{ "fred, \"Bob A.\" <bob@sub+>, x@y, (comment) joe@[1.2.3.4], grp: a@b.c, d;, <@r1,@r2:u@h.dom>\n",
		  "fred@mail.example.com bob@sub.plus.example x@y.example.com joe@[1.2.3.4] a@b.c "
		  "d@mail.example.com u@h.dom " },
	};
	struct buf b;

	buf_init(&b, 4096);
	for (size_t i = 0; i < ARRAY_N(cases); i++) {
		if (!list(span_str(cases[i].text), &b))
			print_error("in %s\n", cases[i].text);
		assert_true(list(span_str(cases[i].text), &b));
		assert_span(buf_span(&b), cases[i].want);
	}
	buf_free(&b);
}

static void refuses_what_is_no_list(void **state)
{
	static const struct span cases[] = {
		{ "joe)", 4 }, { "(joe", 4 }, { "(joe\\", 5 }, { "\"joe", 4 }, { "\"joe\\", 5 }, { "<joe", 4 },
		{ "joe>", 4 }, { "<a b>", 5 }, { "<a,b>", 5 }, { "<@r:a,b@c>", 10 }, { "<a<b>>", 6 }, { "joe@[1.2", 8 }, { "[1.2]", 5 },
		{ "joe [1.2]", 9 }, { "joe]", 4 }, { "joe\\", 4 }, { "jo\0e", 4 }, { "\"jo\0e\"", 6 },
		{ "\"jo\\\ne\"", 7 }, { "\"jo\re\"", 6 }, { "jo\\\ne", 5 },
	};
	struct buf b;

	buf_init(&b, 4096);
	for (size_t i = 0; i < ARRAY_N(cases); i++) {
		if (list(cases[i], &b))
			print_error("taken: %.*s\n", SPAN_ARG(cases[i]));
		assert_false(list(cases[i], &b));
	}
	buf_free(&b);
}

static void names_have_a_limit_and_lists_have_none(void **state)
{
	struct buf text, b;

	buf_init(&text, 1 << 20);
	buf_init(&b, 1 << 20);
	for (unsigned i = 0; i < 300; i++)
		assert_true(buf_add(&text, SPAN("word ")));
	assert_false(list(buf_span(&text), &b));
	buf_clear(&text);
	for (unsigned i = 0; i < 30000; i++)
		assert_true(buf_add(&text, SPAN("a@b.c,")));
	assert_true(list(buf_span(&text), &b));
	assert_int_equal(b.n, 30000 * 6);
	buf_free(&text);
	buf_free(&b);
}

static void arguments_are_raw_addresses(void **state)
{
	static const struct { const char *arg, *want; } cases[] = {
		{ "fred", "fred@mail.example.com" },
		{ "x@y", "x@y.example.com" },
		{ "bob@sub+", "bob@sub.plus.example" },
		{ "joe@[1.2.3.4]", "joe@[1.2.3.4]" },
		{ "@bar", "@bar.example.com" },
		{ "a@b@c", "a@b@c.example.com" },
		{ "Joe Blow", "Joe Blow@mail.example.com" },
		{ "a, b", "a, b@mail.example.com" },
		{ "foo@", "foo@mail.example.com" },
		{ "foo@b.c.", "foo@b.c" },
		{ "", "" },
		{ "<>", "" },
		{ "<u@h.i>", "u@h.i" },
		{ "<u@h.i", "<u@h.i" },
		{ "#@[]", "#@[]" },
		{ "list-@host-@[]", "list-@host-@[]" },
	};
	struct buf b;

	buf_init(&b, 4096);
	for (size_t i = 0; i < ARRAY_N(cases); i++) {
		struct mailbox m = mailbox_of_argument(span_str(cases[i].arg));

		buf_clear(&b);
		assert_true(rewrite_mailbox(&rw, &m, &b));
		assert_span(buf_span(&b), cases[i].want);
	}
	buf_free(&b);
}

static void a_host_without_a_dot_gets_the_domain_too(void **state)
{
	const struct rewrite short_host = { SPAN("box"), SPAN("example.com"), SPAN("p") };
	struct mailbox       m = mailbox_of_argument(SPAN("joe"));
	struct buf           b;

	buf_init(&b, 4096);
	assert_true(rewrite_mailbox(&short_host, &m, &b));
	assert_span(buf_span(&b), "joe@box.example.com");
	buf_free(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(takes_every_form_of_address),
		cmocka_unit_test(refuses_what_is_no_list),
		cmocka_unit_test(names_have_a_limit_and_lists_have_none),
		cmocka_unit_test(arguments_are_raw_addresses),
		cmocka_unit_test(a_host_without_a_dot_gets_the_domain_too),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
