/* route: the table of docs/qmail.md 8 for rewriting, bounces' prefix, and routes for a host. */
#include "mail/route.h"
#include "tests/unit/mail_test.h"

static struct control *controls(void)
{
	struct control *c = control_new();

	assert_true(control_set(c, SPAN("me"), SPAN("mail.example.com\n")));
	assert_true(control_set(c, SPAN("percenthack"), SPAN("mail.example.com\nhack.org\n")));
	assert_true(control_set(c, SPAN("virtualdomains"),
	                        SPAN("vd.org:joe-v\nspecial@vd.org:joe-env\n.wild.org:joe-v\n"
	                             "ex.wild.org:\n:ali-catch\n")));
	return c;
}

static const struct {
	const char  *addr;
	enum channel channel;
	const char  *rewritten;
} cases[] = {
	{"u@vd.org", CHANNEL_LOCAL, "joe-v-u@vd.org"},
	{"SPECIAL@VD.ORG", CHANNEL_LOCAL, "joe-env-SPECIAL@VD.ORG"},
	{"u@sub.vd.org", CHANNEL_LOCAL, "ali-catch-u@sub.vd.org"},
	{"u@a.b.wild.org", CHANNEL_LOCAL, "joe-v-u@a.b.wild.org"},
	{"u@wild.org", CHANNEL_LOCAL, "ali-catch-u@wild.org"},
	{"u@ex.wild.org", CHANNEL_REMOTE, "u@ex.wild.org"},
	{"u@x.ex.wild.org", CHANNEL_LOCAL, "joe-v-u@x.ex.wild.org"},
	{"a@b@vd.org", CHANNEL_LOCAL, "joe-v-a@b@vd.org"},
	{"a%b%vd.org@mail.example.com", CHANNEL_LOCAL, "joe-v-a%b@vd.org"},
	{"a%b%hack.org@mail.example.com", CHANNEL_LOCAL, "ali-catch-a@b"},
	{"a%mail.example.com@hack.org", CHANNEL_LOCAL, "a@mail.example.com"},
	{"joe@mail.example.com", CHANNEL_LOCAL, "joe@mail.example.com"},
	{"Joe@MAIL.example.com", CHANNEL_LOCAL, "Joe@MAIL.example.com"},
	{"joe@mail.example.com.", CHANNEL_LOCAL, "ali-catch-joe@mail.example.com."},
	{"u@[127.0.0.1]", CHANNEL_LOCAL, "ali-catch-u@[127.0.0.1]"},
	{"noat", CHANNEL_LOCAL, "noat@mail.example.com"},
	{"no%vd.org", CHANNEL_LOCAL, "joe-v-no@vd.org"},
	{"", CHANNEL_LOCAL, "@mail.example.com"},
};

static void rewriting(void **state)
{
	struct control *c = controls();
	struct rewriter *r = rewriter_new(c);
	struct buf b;

	control_free(c);
	buf_init(&b, REWRITE_MAX);
	for (size_t i = 0; i < ARRAY_N(cases); i++) {
		struct span got;

		assert_int_equal(rewrite(r, span_str(cases[i].addr), &b, &got),
				 cases[i].channel);
		assert_span(got, cases[i].rewritten);
	}
	buf_free(&b);
	rewriter_free(r);
}

static void rewriting_without_virtual_domains(void **state)
{
	static const struct {
		const char  *addr;
		enum channel channel;
	} plain[] = {
		{"joe@here", CHANNEL_LOCAL},   {"joe@here.", CHANNEL_REMOTE},
		{"u@[127.0.0.1]", CHANNEL_REMOTE}, {"joe@sub.here", CHANNEL_REMOTE},
		{"a%b@here", CHANNEL_LOCAL},   {"@here", CHANNEL_LOCAL},
	};
	struct control *c = control_new();
	struct rewriter *r;
	struct buf b;

	assert_true(control_set(c, SPAN("locals"), SPAN("here\n")));
	assert_true(control_set(c, SPAN("envnoathost"), SPAN("there\n")));
	r = rewriter_new(c);
	buf_init(&b, REWRITE_MAX);
	for (size_t i = 0; i < ARRAY_N(plain); i++) {
		struct span got, addr = span_str(plain[i].addr);

		assert_int_equal(rewrite(r, addr, &b, &got), plain[i].channel);
		assert_ptr_equal(got.p, addr.p);  /* not copied: a million of these at a time */
		assert_int_equal(b.n, 0);
	}
	struct span got;
	assert_int_equal(rewrite(r, SPAN("noat"), &b, &got), CHANNEL_REMOTE);
	assert_span(got, "noat@there");
	buf_free(&b);
	rewriter_free(r);
	control_free(c);
}

static void what_does_not_fit_is_left_alone(void **state)
{
	struct control *c = controls();
	struct rewriter *r = rewriter_new(c);
	struct span got;

	for (size_t max = 1; max < strlen("joe-v-no@vd.org"); max++) {
		struct buf b;

		buf_init(&b, max);
		assert_int_equal(rewrite(r, SPAN("u@vd.orgxxxxxxxx"), &b, &got),
				 CHANNEL_REMOTE);
		assert_span(got, "u@vd.orgxxxxxxxx");
		rewrite(r, SPAN("no%vd.org"), &b, &got);        /* anything but a crash */
		buf_free(&b);
	}
	rewriter_free(r);
	control_free(c);
}

static void the_prefix_goes_from_bounces(void **state)
{
	static const struct {
		const char *addr, *stripped;
	} strips[] = {
		{"joe-v-u@vd.org", "u@vd.org"},
		{"joe-v-u@a.wild.org", "u@a.wild.org"},
		{"ali-catch-u@sub.vd.org", "u@sub.vd.org"},
		{"joe-env-special@vd.org", "joe-env-special@vd.org"},
		{"joe-vu@vd.org", "joe-vu@vd.org"},
		{"u@ex.wild.org", "u@ex.wild.org"},
		{"joe-v-u", "joe-v-u"},
	};
	struct control *c = controls();
	struct rewriter *r = rewriter_new(c);

	for (size_t i = 0; i < ARRAY_N(strips); i++)
		assert_span(rewriter_strip(r, span_str(strips[i].addr)), strips[i].stripped);
	rewriter_free(r);
	control_free(c);
}

static void routes_by_domain(void **state)
{
	static const struct {
		const char *domain, *host;            /* host NULL: no route */
		unsigned    port;
	} finds[] = {
		{"a.b.c", "relay1", 25},
		{"A.B.C", "relay1", 25},
		{"x.b.c", "relay2", 26},
		{"y.x.b.c", "relay2", 26},
		{"b.c", "relay3", 27},
		{"ex.b.c", "", 25},
		{"v6.example", "[::1]", 2525},
		{"v6.plain", "[::1]", 25},
		{"bad.port", "relay", 25},
		{"twice", "second", 25},
		{"", "relay3", 27},
	};
	struct control *c = control_new();
	struct routes *r, *none = routes_new(c, "smtproutes", 25);
	struct route got;

	assert_true(control_set(c, SPAN("smtproutes"),
	                        SPAN("a.b.c:relay1\n.b.c:relay2:26\n:relay3:27\nex.b.c:\n"
	                             "v6.example:[::1]:2525\nv6.plain:[::1]\nbad.port:relay:x\n"
	                             "twice:first\ntwice:second\n")));
	r = routes_new(c, "smtproutes", 25);
	control_free(c);
	for (size_t i = 0; i < ARRAY_N(finds); i++) {
		assert_true(routes_find(r, span_str(finds[i].domain), &got));
		assert_span(got.host, finds[i].host);
		assert_int_equal(got.port, finds[i].port);
		assert_false(routes_find(none, span_str(finds[i].domain), &got));
	}
	routes_free(r);
	routes_free(none);
}

static void a_suffix_is_not_the_domain(void **state)
{
	struct control *c = control_new();
	struct routes *r;
	struct route got;

	assert_true(control_set(c, SPAN("qmtproutes"), SPAN(".b.c:relay\n")));
	r = routes_new(c, "qmtproutes", 209);
	assert_false(routes_find(r, SPAN("b.c"), &got));
	assert_false(routes_find(r, SPAN("ab.c"), &got));
	assert_true(routes_find(r, SPAN("a.b.c"), &got));
	assert_int_equal(got.port, 209);
	assert_true(routes_find(r, SPAN(".b.c"), &got));
	routes_free(r);
	control_free(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rewriting),
		cmocka_unit_test(rewriting_without_virtual_domains),
		cmocka_unit_test(what_does_not_fit_is_left_alone),
		cmocka_unit_test(the_prefix_goes_from_bounces),
		cmocka_unit_test(routes_by_domain),
		cmocka_unit_test(a_suffix_is_not_the_domain),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
