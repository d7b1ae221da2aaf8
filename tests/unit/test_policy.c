#include "smtp/policy.h"

#include "smtp/replies.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static struct control *control;
static struct policy   policy;

static void set(const char *name, const char *value)
{
	assert_true(control_set(control, span_str(name), span_str(value)));
}

static struct ip ip(const char *text)
{
	struct ip ret;

	assert_true(ip_parse(span_str(text), &ret));
	return ret;
}

static int set_up(void **state)
{
	control = control_new();
	set("me", "mail.example.com\n");
	return 0;
}

static void begin(void)
{
	policy_init(&policy, control, -1);
}

static int tear_down(void **state)
{
	policy_fini(&policy);
	control_free(control);
	return 0;
}

static void defaults_are_as_documented(void **state)
{
	begin();
	assert_true(span_eq(policy.greeting, SPAN("mail.example.com")));
	assert_true(span_eq(policy.literal_host, SPAN("mail.example.com")));
	assert_int_equal(policy.databytes, 0);
	assert_int_equal(policy.wait_ms, 1200 * 1000);
	assert_int_equal(policy.conns_max, 10000);
	assert_int_equal(policy.conns_ip_max, 1000);
	assert_int_equal(policy.rcpts_max, 1000);
}

static void without_rcpthosts_nothing_is_relayed(void **state)
{
	struct policy_peer peer = {0};

	begin();
	assert_ptr_equal(policy_rcpt(&policy, &peer, SPAN("u@example.com")),
			 &reply_relay_denied);
	assert_null(policy_rcpt(&policy, &peer, SPAN("noat")));
	peer.relay = true;
	assert_null(policy_rcpt(&policy, &peer, SPAN("u@example.com")));
}

static void senders_are_matched_whole_and_by_domain(void **state)
{
	static const struct {
		const char *sender;
		bool        bad;
	} cases[] = {
		{"bad@client.example", true},
		{"BAD@Client.Example", true},
		{"bad@client.example.org", false},
		{"xbad@client.example", false},
		{"any@spam.example", true},
		{"any@sub.spam.example", false},
		{"a@b@spam.example", true},
		{"spam.example", false},
		{"", false},
		{"@spam.example", true},
		{"bare", true},
	};

	set("badmailfrom", "bad@client.example\n\n# comment\n@spam.example\nbare\n");
	begin();
	for (size_t i = 0; i < ARRAY_N(cases); i++)
		if (policy_sender_is_bad(&policy, span_str(cases[i].sender)) != cases[i].bad)
			fail_msg("%s", cases[i].sender);
}

static void relay_clients_are_known_by_address(void **state)
{
	struct policy_peer peer;

	set("relayclients", "10.0.0.0/8\n192.0.2.9:@suffix\n");
	begin();
	peer = policy_peer(&policy, &(struct ip){0}, &(struct ip){0});
	assert_false(peer.relay);
	struct ip a = ip("10.1.2.3"), b = ip("192.0.2.9"), c = ip("192.0.2.8"),
		  d = ip("::ffff:10.1.2.3");

	peer = policy_peer(&policy, &a, &a);
	assert_true(peer.relay && peer.suffix.n == 0);
	peer = policy_peer(&policy, &b, &a);
	assert_true(peer.relay && span_eq(peer.suffix, SPAN("@suffix")));
	peer = policy_peer(&policy, &c, &a);
	assert_false(peer.relay);
	peer = policy_peer(&policy, &d, &a);
	assert_true(peer.relay);
}

static void own_literals_are_named(void **state)
{
	static const struct {
		const char *in, *out;
	} cases[] = {
		{"x@[127.0.0.1]", "x@here.example"},   {"x@[0.0.0.0]", "x@here.example"},
		{"x@[192.0.2.1]", "x@here.example"},   {"x@[192.0.2.2]", "x@[192.0.2.2]"},
		{"a@b@[127.0.0.1]", "a@b@here.example"}, {"x@[127.0.0.1] ", "x@[127.0.0.1] "},
		{"x@[IPv6:::1]", "x@here.example"},    {"[127.0.0.1]", "[127.0.0.1]"},
		{"x@127.0.0.1", "x@127.0.0.1"},        {"", ""},
	};
	struct policy_peer peer = {.local = ip("192.0.2.1")};

	set("localiphost", "here.example\n");
	begin();
	policy.own[0] = ip("127.0.0.1");
	policy.own[1] = ip("::1");
	policy.own_n = 2;
	for (size_t i = 0; i < ARRAY_N(cases); i++) {
		char        dst[64];
		struct span addr = span_of(dst, strlen(cases[i].in));

		memcpy(dst, cases[i].in, addr.n);
		assert_true(policy_name_literal(&policy, &peer, &addr, dst, sizeof(dst)));
		if (!span_eq(addr, span_str(cases[i].out)))
			fail_msg("%s became %.*s", cases[i].in, SPAN_ARG(addr));
	}
	char        small[16] = "x@[127.0.0.1]";
	struct span addr = span_of(small, 13);

	assert_false(policy_name_literal(&policy, &peer, &addr, small, 13));
}

static void loopback_is_found_among_our_own(void **state)
{
	struct ip loopback = ip("127.0.0.1");
	bool      found = false;

	begin();
	policy_find_own(&policy);
	for (unsigned i = 0; i < policy.own_n; i++)
		found = found || ip_eq(&policy.own[i], &loopback);
	if (policy.own_n > 0)
		assert_true(found);
}

static void size_is_compared_with_databytes(void **state)
{
	set("databytes", "10\n");
	begin();
	assert_null(policy_size(&policy, 10));
	assert_ptr_equal(policy_size(&policy, 11), &reply_too_large);
	policy.databytes = 0;
	assert_null(policy_size(&policy, UINT64_MAX));
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		CASE(defaults_are_as_documented),
		CASE(without_rcpthosts_nothing_is_relayed),
		CASE(senders_are_matched_whole_and_by_domain),
		CASE(relay_clients_are_known_by_address),
		CASE(own_literals_are_named),
		CASE(loopback_is_found_among_our_own),
		CASE(size_is_compared_with_databytes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
