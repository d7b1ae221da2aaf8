/* MXPS, order, cut-off and routes: tables.  The look-up itself is in test_attempt and test_dns. */
#include "remote_test.h"

#include "remote/mx.h"

static void sixteen_preferences_mean_qmtp(void **state)
{
	unsigned n = 0;

	for (unsigned p = 0; p <= UINT16_MAX; p++)
		n += mxps_is_qmtp((uint16_t)p);
	assert_int_equal(n, 16);
	for (unsigned p = 12801; p <= 13041; p += 16) {
		assert_true(mxps_is_qmtp((uint16_t)p));
		assert_false(mxps_is_qmtp((uint16_t)(p - 1)));
		assert_false(mxps_is_qmtp((uint16_t)(p + 1)));
	}
	assert_false(mxps_is_qmtp(12785));
	assert_false(mxps_is_qmtp(13057));
	assert_false(mxps_is_qmtp(1));
}

static struct mx_host host(uint8_t last, uint16_t preference, uint32_t dice)
{
	return (struct mx_host){.ip = {.family = 4, .b = {10, 0, 0, last}},
				.preference = preference,
				.dice = dice};
}

static void lower_first_equals_by_dice_names_together(void **state)
{
	struct mx_host h[] = {host(1, 20, 5), host(2, 10, 9), host(3, 10, 9),
			      host(4, 10, 2), host(5, 0, 7),  host(6, 20, 1)};
	const uint8_t  want[] = {5, 4, 2, 3, 6, 1};

	mx_order(h, ARRAY_N(h));
	for (unsigned i = 0; i < ARRAY_N(h); i++)
		assert_int_equal(h[i].ip.b[3], want[i]);
	mx_order(h, 0);
}

static struct control *control_with(const char *name, const char *text)
{
	struct control *c = control_new();

	assert_true(control_set(c, span_str(name), span_str(text)));
	return c;
}

static void we_and_worse_than_us_go(void **state)
{
	struct control *c = control_with("smtplisten", "10.0.0.3:25\n[2001:db8::1]:25\n");
	struct mx_host  h[] = {host(1, 5, 0), host(2, 10, 0), host(3, 10, 1), host(4, 20, 0)};
	struct own      own;

	own_init(&own, c);
	assert_int_equal(mx_cut_ours(h, 4, &own), 1);
	assert_int_equal(mx_cut_ours(h, 2, &own), 2);
	assert_int_equal(mx_cut_ours(h + 1, 3, &own), 0);
	h[0].preference = 10;
	assert_int_equal(mx_cut_ours(h, 4, &own), 0);
	assert_int_equal(mx_cut_ours(h, 0, &own), 0);
	own_fini(&own);
	control_free(c);
}

static bool ours(struct own *o, const char *text)
{
	struct ip ip;

	assert_true(ip_parse(span_str(text), &ip));
	return own_has(o, &ip);
}

static void ourselves_is_what_we_bind(void **state)
{
	struct control *c = control_with("qmtplisten", "127.0.0.2:209\n");
	struct own      own;

	own_init(&own, c);
	assert_true(ours(&own, "127.0.0.2"));
	assert_false(ours(&own, "127.0.0.1"));
	assert_false(ours(&own, "::1"));
	assert_true(ours(&own, "0.0.0.0"));       /* reaches this host, whoever listens */
	assert_true(ours(&own, "::"));
	own_fini(&own);
	control_free(c);

	c = control_with("smtplisten", "0.0.0.0:25\n");
	own_init(&own, c);
	assert_true(ours(&own, "127.0.0.1"));
	assert_true(ours(&own, "127.9.9.9"));
	assert_false(ours(&own, "192.0.2.77"));
	assert_false(ours(&own, "::1"));
	own_fini(&own);
	control_free(c);

	c = control_with("smtplisten", ":25\n");
	own_init(&own, c);
	assert_true(ours(&own, "127.0.0.1"));
	assert_false(ours(&own, "2001:db8::77"));
	own_fini(&own);
	control_free(c);
}

static void routes_are_searched_step_by_step(void **state)
{
	static const struct {
		const char *domain;
		enum mx_via via;
		const char *host;
		uint16_t port;
	} table[] = {
		{"a.b.c", MX_VIA_SMTP, "s1", 25}, /* whole name before any suffix */
		{"A.B.C", MX_VIA_SMTP, "s1", 25},
		{"x.b.c", MX_VIA_QMTP, "q1", 209}, /* same step: qmtproutes */
		{"b.c", MX_VIA_SMTP, "s3", 2525},  /* .b.c does not match b.c; .c does */
		{"both.example", MX_VIA_QMTP, "q2", 2209},
		{"mx.example", MX_VIA_DNS, "", 0}, /* an empty relay decides, too */
		{"qmx.example", MX_VIA_DNS, "", 0},
		{"other", MX_VIA_SMTP, "[::1]", 26}, /* the empty key */
		{"", MX_VIA_SMTP, "[::1]", 26},
	};
	struct control *c = control_new();
	struct mx_world w = {0};

	assert_true(
		control_set(c, SPAN("smtproutes"),
			    SPAN("a.b.c:s1\n.b.c:s2\n.c:s3:2525\nboth.example:s9\nmx.example:\n"
				 "qmx.example:s8\n:[::1]:26\n")));
	assert_true(control_set(
		c, SPAN("qmtproutes"),
		SPAN(".b.c:q1\nboth.example:q2:2209\nqmx.example:\n.example:q7\n")));
	w.smtproutes = control_map_new(c, "smtproutes");
	w.qmtproutes = control_map_new(c, "qmtproutes");
	for (size_t i = 0; i < ARRAY_N(table); i++) {
		struct route r = {.port = 0};

		assert_int_equal(mx_route(&w, span_str(table[i].domain), &r), table[i].via);
		if (table[i].via == MX_VIA_DNS)
			continue;
		assert_text(r.host, table[i].host);
		assert_int_equal(r.port, table[i].port);
	}
	control_set_free(w.smtproutes);
	control_set_free(w.qmtproutes);
	control_free(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sixteen_preferences_mean_qmtp),
		cmocka_unit_test(lower_first_equals_by_dice_names_together),
		cmocka_unit_test(we_and_worse_than_us_go),
		cmocka_unit_test(ourselves_is_what_we_bind),
		cmocka_unit_test(routes_are_searched_step_by_step),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
