/* destinations: what an administrator allows a destination. */
#include "mail/destinations.h"
#include "tests/unit/mail_test.h"

static void fields(void **state)
{
	static const struct { const char *text; struct destination_limits d; } good[] = {
		{"", {0}}, {"5", {.connections = 5}}, {":10", {.interval_us = 100000}},
		{"::20", {.recipients = 20}}, {"65535:1000000:100", {1, 65535, 100}},
		{":0.5", {.interval_us = 2000000}}, {":0.001:", {.interval_us = 1000000000}},
		{":2.25", {.interval_us = 444444}}, {"7::3", {0, 7, 3}},
	};
	static const char *const bad[] = {"0", "x", "65536", "-1", ":0", ":0.0", ":1.", ":.5x", ":1.2345",
					  ":1000001", "::0", "::101", "1:2:3:4", "1:2:3:", " 1", ":1e3"};
	struct destination_limits d;

	for (size_t i = 0; i < ARRAY_N(good); i++) {
		assert_true(destination_parse(span_str(good[i].text), &d));
		assert_int_equal(d.interval_us, good[i].d.interval_us);
		assert_int_equal(d.connections, good[i].d.connections);
		assert_int_equal(d.recipients, good[i].d.recipients);
	}
	for (size_t i = 0; i < ARRAY_N(bad); i++)
		assert_false(destination_parse(span_str(bad[i]), &d));
}

static void the_nearest_key_counts(void **state)
{
	struct control *c = control_new();
	struct destinations *d;

	assert_true(control_set(c, SPAN("destinations"),
				SPAN("Big.example:1\n.example:2\n.sub.example:3\n:4\nodd.org:nonsense\n")));
	d = destinations_new(c);
	assert_int_equal(destinations_find(d, SPAN("bIG.example")).connections, 1);
	assert_int_equal(destinations_find(d, SPAN("x.big.example")).connections, 2);
	assert_int_equal(destinations_find(d, SPAN("x.sub.example")).connections, 3);
	assert_int_equal(destinations_find(d, SPAN("example")).connections, 4);
	assert_int_equal(destinations_find(d, SPAN("")).connections, 4);
	assert_int_equal(destinations_find(d, SPAN("odd.org")).connections, 0);
	destinations_free(d);
	control_free(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(fields),
		cmocka_unit_test(the_nearest_key_counts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
