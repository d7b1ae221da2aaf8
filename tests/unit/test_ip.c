/* ip: addresses, ports, networks, and the IPv4 address inside an IPv6 one. */
#include "mail/ip.h"
#include "tests/unit/mail_test.h"

#include <arpa/inet.h>

static void addresses_are_read_and_written(void **state)
{
	static const struct {
		const char *text, *again;             /* NULL: refused */
	} cases[] = {
		{"1.2.3.4", "1.2.3.4"},
		{"::1", "::1"},
		{"2001:DB8:0::1", "2001:db8::1"},
		{"::ffff:1.2.3.4", "::ffff:1.2.3.4"},
		{"fe80::1%7", "fe80::1%7"},
		{"fe80::1%lo", "fe80::1%1"},
		{"fe80::1%0", NULL},
		{"fe80::1%", NULL},
		{"1.2.3.4%1", NULL},
		{"1.2.3", NULL},
		{"1.2.3.256", NULL},
		{"1.2.3.4 ", NULL},
		{"01.2.3.4", NULL},
		{"[::1]", NULL},
		{"", NULL},
		{"1:2:3:4:5:6:7:8:9", NULL},
		{"1111:2222:3333:4444:5555:6666:7777:8888:9999:aaaa:bbbb:cccc", NULL},
	};

	for (size_t i = 0; i < ARRAY_N(cases); i++) {
		char text[IP_TEXT_MAX];
		struct ip ip;

		assert_int_equal(ip_parse(span_str(cases[i].text), &ip),
				 cases[i].again != NULL);
		if (cases[i].again)
			assert_string_equal(ip_text(&ip, text), cases[i].again);
	}
}

static void ports(void **state)
{
	static const struct {
		const char *text, *ip;                /* NULL: refused */
		unsigned    port;
	} cases[] = {
		{"1.2.3.4:25", "1.2.3.4", 25},
		{"1.2.3.4", "1.2.3.4", 209},
		{"[::1]:25", "::1", 25},
		{"[::1]", "::1", 209},
		{"::1", "::1", 209},
		{":25", "", 25},
		{"127.0.0.1:0", "127.0.0.1", 0},
		{"1.2.3.4:65535", "1.2.3.4", 65535},
		{"1.2.3.4:65536", NULL, 0},
		{"1.2.3.4:", NULL, 0},
		{"1.2.3.4:x", NULL, 0},
		{"1.2.3.4:25 ", NULL, 0},
		{"[::1", NULL, 0},
		{"[::1]25", NULL, 0},
		{"[1.2.3.4]:25", NULL, 0},
		{"", NULL, 0},
		{":", NULL, 0},
		{"host:25", NULL, 0},
	};

	for (size_t i = 0; i < ARRAY_N(cases); i++) {
		char text[IP_TEXT_MAX];
		uint16_t port = 1;
		struct ip ip;

		if (ip_parse_port(span_str(cases[i].text), 209, &ip, &port) != !!cases[i].ip)
			fail_msg("%s", cases[i].text);
		if (!cases[i].ip)
			continue;
		assert_string_equal(ip_text(&ip, text), cases[i].ip);
		assert_int_equal(port, cases[i].port);
	}
}

static void networks(void **state)
{
	static const struct {
		const char *net, *ip;
		bool        in;
	} cases[] = {
		{"10.0.0.0/8", "10.255.0.1", true},
		{"10.0.0.0/8", "11.0.0.1", false},
		{"10.0.0.0/9", "10.127.0.1", true},
		{"10.0.0.0/9", "10.128.0.1", false},
		{"10.1.2.3/31", "10.1.2.2", true},
		{"10.1.2.3", "10.1.2.3", true},
		{"10.1.2.3", "10.1.2.2", false},
		{"0.0.0.0/0", "9.9.9.9", true},
		{"0.0.0.0/0", "::1", false},
		{"10.0.0.0/8", "::ffff:10.1.1.1", true},
		{"::1", "::1", true},
		{"2001:db8::/33", "2001:db8:7fff::1", true},
		{"2001:db8::/33", "2001:db8:8000::1", false},
		{"::/0", "1.2.3.4", false},
	};
	static const char *wrong[] = {"",     "10.0.0.0/33", "::/129",    "10.0.0.0/",
				      "10/8", "x",           "1.2.3.4/-1"};
	bool valid;

	for (size_t i = 0; i < ARRAY_N(cases); i++) {
		struct ip ip;

		assert_true(ip_parse(span_str(cases[i].ip), &ip));
		assert_int_equal(ip_in_net(&ip, span_str(cases[i].net), &valid), cases[i].in);
		assert_true(valid);
	}
	for (size_t i = 0; i < ARRAY_N(wrong); i++) {
		struct ip ip = {.family = 4};

		assert_false(ip_in_net(&ip, span_str(wrong[i]), &valid));
		assert_false(valid);
	}
}

static void mapped_is_its_v4(void **state)
{
	struct ip mapped, v4, other, loop;
	union sockany sa;
	uint16_t port;

	assert_true(ip_parse(SPAN("::ffff:127.0.0.1"), &mapped));
	assert_true(ip_parse(SPAN("127.0.0.1"), &v4));
	assert_true(ip_parse(SPAN("127.0.0.2"), &other));
	assert_true(ip_eq(&mapped, &v4));
	assert_false(ip_eq(&mapped, &other));
	assert_true(ip_is_loopback(&mapped));
	assert_true(ip_is_loopback(&v4));
	assert_true(ip_parse(SPAN("::1"), &loop));
	assert_true(ip_is_loopback(&loop));
	assert_false(ip_eq(&loop, &v4));
	assert_true(ip_parse(SPAN("128.0.0.1"), &other));
	assert_false(ip_is_loopback(&other));
	assert_false(ip_is_loopback(&(struct ip){0}));

	assert_int_equal(ip_to_sockaddr(&mapped, 25, &sa), sizeof(struct sockaddr_in6));
	struct ip back = ip_of_sockaddr(&sa, &port);
	assert_int_equal(back.family, 4);
	assert_int_equal(port, 25);
}

static void sockaddrs_and_back(void **state)
{
	static const char *texts[] = {"1.2.3.4", "2001:db8::1", "fe80::1%3"};
	union sockany sa;
	uint16_t port;

	for (size_t i = 0; i < ARRAY_N(texts); i++) {
		struct ip ip, back;

		assert_true(ip_parse(span_str(texts[i]), &ip));
		assert_true(ip_to_sockaddr(&ip, 2525, &sa) <= sizeof sa);
		back = ip_of_sockaddr(&sa, &port);
		assert_true(ip_eq(&ip, &back));
		assert_int_equal(port, 2525);
	}
	ip_to_sockaddr(&(struct ip){0}, 25, &sa);
	assert_int_equal(sa.any.sa_family, AF_INET6);
	assert_memory_equal(&sa.v6.sin6_addr, &in6addr_any, 16);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(addresses_are_read_and_written),
		cmocka_unit_test(ports),
		cmocka_unit_test(networks),
		cmocka_unit_test(mapped_is_its_v4),
		cmocka_unit_test(sockaddrs_and_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
