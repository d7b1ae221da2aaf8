/* received: both lines (docs/qmail.md 4.1, 4.2), and that no peer can write one of its own. */
#include "mail/received.h"
#include "tests/unit/mail_test.h"

#define WALL 1795225250
#define DATE "21 Nov 2026 01:40:50 -0000"

static const struct {
	struct received_from from;
	const char          *line;
} cases[] = {
	{{SPAN("client.host"), SPAN_NONE, SPAN_NONE, SPAN("10.0.0.9"), SPAN("srv.host"),
	  "QMTP"},
	 "Received: from client.host (10.0.0.9)\n  by srv.host with QMTP; " DATE "\n"},
	{{SPAN("client.host"), SPAN("other"), SPAN("joe"), SPAN("10.0.0.9"), SPAN("srv.host"),
	  "ESMTP"},
	 "Received: from client.host (HELO other) (joe@10.0.0.9)\n  by srv.host with "
	 "ESMTP; " DATE "\n"},
	{{SPAN("client.host"), SPAN("CLIENT.host"), SPAN_NONE, SPAN("::1"), SPAN("s"), "SMTP"},
	 "Received: from client.host (::1)\n  by s with SMTP; " DATE "\n"},
	{{SPAN_NONE, SPAN_NONE, SPAN("us er<x"), SPAN_NONE, SPAN_NONE, "SMTP"},
	 "Received: from unknown (us?er?x@unknown)\n  by unknown with SMTP; " DATE "\n"},
	{{SPAN("h"), SPAN("x)\n\nX: (\0\"\xff;"), SPAN_NONE, SPAN("[1.2.3.4]"), SPAN("s"),
	  "SMTP"},
	 "Received: from h (HELO x\?\?\?X:\?\?\?\?\?\?) ([1.2.3.4])\n  by s with SMTP; " DATE
	 "\n"},
};

static void network(void **state)
{
	struct buf b;

	buf_init(&b, RECEIVED_MAX);
	for (size_t i = 0; i < ARRAY_N(cases); i++) {
		buf_clear(&b);
		assert_true(received_network(&b, &cases[i].from, WALL));
		assert_span(buf_span(&b), cases[i].line);
	}
	buf_free(&b);
}

static void invoked(void **state)
{
	static const char *who[] = {"by uid 5", "by alias", "for bounce", "from network"};
	char want[200];
	struct buf b;

	buf_init(&b, RECEIVED_MAX);
	for (size_t i = 0; i < ARRAY_N(who); i++) {
		buf_clear(&b);
		assert_true(received_invoked(&b, 9329, who[i], WALL));
		snprintf(want, sizeof want, "Received: (qmail 9329 invoked %s); " DATE "\n",
			 who[i]);
		assert_span(buf_span(&b), want);
	}
	buf_free(&b);
}

static void all_or_nothing(void **state)
{
	struct buf b;

	for (size_t max = 1; max < 80; max++) {
		buf_init(&b, max);
		assert_true(buf_add_byte(&b, 'x'));
		assert_false(received_network(&b, &cases[1].from, WALL));
		assert_span(buf_span(&b), "x");
		buf_free(&b);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(network),
		cmocka_unit_test(invoked),
		cmocka_unit_test(all_or_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
