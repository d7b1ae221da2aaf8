/* Which host is tried, by what, and what is said when it does not work; on both loops. */
#include "remote_world.h"

static const struct dns_rule rules[] = {
	{"plain.example", DNS_A, .ttl = 300, .rr = {"A 127.0.0.11"}},
	{"mx.example", DNS_MX, .ttl = 300, .rr = {"MX 20 h12.example", "MX 10 h11.example"}},
	{"equal.example", DNS_MX, .ttl = 0, .rr = {"MX 10 h12.example", "MX 10 h11.example"}},
	{"qmx.example", DNS_MX, .ttl = 300, .rr = {"MX 12801 h11.example"}},
	{"qmx12.example", DNS_MX, .ttl = 300, .rr = {"MX 12801 h12.example"}},
	{"many.example", DNS_MX, .ttl = 300, .rr = {"MX 5 h13.example", "MX 10 h11.example", "MX 20 h12.example"}},
	{"ours.example", DNS_MX, .ttl = 300, .rr = {"MX 10 h99.example", "MX 10 h11.example"}},
	{"backup.example", DNS_MX, .ttl = 300, .rr = {"MX 20 h99.example", "MX 10 h11.example", "MX 30 h12.example"}},
	{"null.example", DNS_MX, .ttl = 300, .rr = {"MX 0 "}},
	{"noaddr.example", DNS_MX, .ttl = 300, .rr = {"MX 10 gone.example"}},
	{"doubt.example", DNS_MX, .ttl = 300, .rr = {"MX 10 fail.example"}},
	{"half.example", DNS_MX, .ttl = 300, .rr = {"MX 10 fail.example", "MX 20 h11.example"}},
	{"fail.example", DNS_A, MOOD_SERVFAIL},
	{"broken.example", DNS_MX, MOOD_SERVFAIL},
	{"h11.example", DNS_A, .ttl = 300, .rr = {"A 127.0.0.11"}},
	{"h12.example", DNS_A, .ttl = 300, .rr = {"A 127.0.0.12"}},
	{"h13.example", DNS_A, .ttl = 300, .rr = {"A 127.0.0.13"}},
	{"h99.example", DNS_A, .ttl = 300, .rr = {"A 127.0.0.99"}},
	/* Names with addresses only: an MX question about them is answered "nothing". */
	{"plain.example", DNS_MX, .ttl = 300, .rr = {"SOA 300"}},
	{"noaddr.example", DNS_A, .ttl = 300, .rr = {"SOA 300"}},
	{NULL},
};

static void found_by_name(enum loop_kind kind)
{
	struct sink *a, *b;

	world_begin(kind, rules);
	a = world_sink(11, false, SINK_OK);
	b = world_sink(12, false, SINK_OK);
	world_start((struct remote_config){.keep_smtp_ms = 1});
	assert_string_equal(world_one("r@plain.example"),
			    "127.0.0.11 accepted message.\nRemote host said: 250 ok stored\n");
	assert_int_equal(w.job[0].outcome[0], OUTCOME_DELIVERED);
	assert_int_equal(w.job[0].slow[0], 0);
	assert_text(buf_span(&a->last), "Subject: x\n\nbody\n");
	assert_string_equal(a->last_mail, "MAIL FROM:<s@x.example> SIZE=17");
	world_one("r@mx.example");
	assert_int_equal(a->messages, 2);
	world_one("r@[127.0.0.12]");
	assert_int_equal(b->messages, 1);
	world_one("r@127.0.0.12");
	assert_int_equal(b->messages, 2);
	world_one("r@half.example");              /* one exchanger's name is in doubt, another's is not */
	assert_int_equal(a->messages, 3);
	world_one("r@backup.example");            /* we are the second of three */
	assert_int_equal(a->messages, 4);
	assert_int_equal(b->messages, 2);
	world_end();
}

static void equal_ones_share(enum loop_kind kind)
{
	struct sink *a, *b;

	world_begin(kind, rules);
	rand_seed(42);
	a = world_sink(11, false, SINK_OK);
	b = world_sink(12, false, SINK_OK);
	world_start((struct remote_config){.keep_smtp_ms = 1});
	for (unsigned i = 0; i < 40; i++)
		world_one("r@equal.example");
	assert_int_equal(a->messages + b->messages, 40);
	assert_true(a->messages > 5 && b->messages > 5);
	world_end();
}

static void names_that_lead_nowhere(enum loop_kind kind)
{
	static const struct {
		const char *rcpt;
		uint8_t outcome, slow;
		const char *text;
	} table[] = {
		{"r@nowhere.example", OUTCOME_FAILED, 0,
		 "Sorry, I couldn't find any host named nowhere.example. (#5.1.2)\n"},
		{"r@a..b", OUTCOME_FAILED, 0,
		 "Sorry, I couldn't find any host named a..b. (#5.1.2)\n"},
		{"r@b\x80", OUTCOME_FAILED, 0,
		 "Sorry, I couldn't find any host named b?. (#5.1.2)\n"},
		{"r", OUTCOME_FAILED, 0, "Sorry, I couldn't find any host named . (#5.1.2)\n"},
		{"r@noaddr.example", OUTCOME_FAILED, 0,
		 "Sorry, I couldn't find a mail exchanger or IP address. (#5.4.4)\n"},
		{"r@doubt.example", OUTCOME_DEFERRED, 2,
		 "Sorry, I couldn't find any host by that name. (#4.1.2)\n"},
		{"r@broken.example", OUTCOME_DEFERRED, 2,
		 "Sorry, I couldn't find any host by that name. (#4.1.2)\n"},
		{"r@plain.example", OUTCOME_DEFERRED, 2,
		 "Sorry, I wasn't able to establish an SMTP connection. (#4.4.1)\n"},
	};

	world_begin(kind, rules);
	world_start((struct remote_config){0});
	for (size_t i = 0; i < ARRAY_N(table); i++) {
		assert_string_equal(world_one(table[i].rcpt), table[i].text);
		assert_int_equal(w.job[0].outcome[0], table[i].outcome);
		assert_int_equal(w.job[0].slow[0], table[i].slow);
	}
	world_one("r@null.example");
	assert_non_null(strstr(w.job[0].text, "(#5.1.10)"));
	assert_int_equal(w.job[0].outcome[0], OUTCOME_FAILED);
	world_one("r@ours.example");
	assert_non_null(strstr(w.job[0].text, "(#5.4.6)"));
	assert_int_equal(w.job[0].outcome[0], OUTCOME_FAILED);
	world_one("r@[127.0.0.99]");
	assert_non_null(strstr(w.job[0].text, "(#5.4.6)"));
	world_end();
}

static void mxps_means_qmtp_first(enum loop_kind kind)
{
	struct sink *q, *s12;

	world_begin(kind, rules);
	q = world_sink(11, true, SINK_OK);
	s12 = world_sink(12, false, SINK_OK);
	world_start((struct remote_config){0});
	assert_string_equal(world_one("r@qmx.example"),
			    "127.0.0.11 accepted message.\n127.0.0.11 said: ok stored\n");
	assert_int_equal(q->messages, 1);
	assert_text(buf_span(&q->last), "Subject: x\n\nbody\n");
	assert_string_equal(q->last_mail, "s@x.example");
	/* No QMTP there: the connection fails, SMTP at the same host takes it. */
	assert_string_equal(world_one("r@qmx12.example"),
			    "127.0.0.12 accepted message.\nRemote host said: 250 ok stored\n");
	assert_int_equal(s12->messages, 1);
	world_end();
}

static void once_connected_qmtp_is_final(enum loop_kind kind)
{
	struct sink *q, *s;

	world_begin(kind, rules);
	q = world_sink(11, true, SINK_HANGS_UP);
	s = world_sink(11, false, SINK_OK);
	world_start((struct remote_config){0});
	world_one("r@qmx.example");
	assert_int_equal(w.job[0].outcome[0], OUTCOME_DEFERRED);
	q->mood = SINK_SAYS_Z;
	assert_string_equal(world_one("r@qmx.example"), "127.0.0.11 said: come back\n");
	assert_int_equal(w.job[0].outcome[0], OUTCOME_DEFERRED);
	q->mood = SINK_DIES_AFTER_DOT;
	assert_string_equal(world_one("r@qmx.example"),
	                    "Connected to 127.0.0.11 but connection died. Possible duplicate! (#4.4.2)\n");
	assert_int_equal(s->conns, 0);
	world_end();
}

/* The first of three does not listen; the second has a mood; the third is well. */
static void what_goes_on_to_the_next_host(enum loop_kind kind)
{
	static const struct { enum sink_mood mood; bool next; const char *text; } table[] = {
		{SINK_OK, false, "127.0.0.11 accepted message.\nRemote host said: 250 ok stored\n"},
		{SINK_GREETS_421, true, NULL},
		{SINK_GREETS_554, true, NULL},
		{SINK_HANGS_UP, true, NULL},
		{SINK_DIES_AFTER_MAIL, false, "Connected to 127.0.0.11 but connection died. (#4.4.2)\n"},
		{SINK_DIES_AFTER_DOT, false, "Connected to 127.0.0.11 but connection died. Possible duplicate! (#4.4.2)\n"},
		{SINK_REFUSES_RCPT, false, "127.0.0.11 does not like recipient.\nRemote host said: 550 5.1.1 nobody\n"
		                           "Giving up on 127.0.0.11.\n"},
	};

	for (size_t i = 0; i < ARRAY_N(table); i++) {
		struct sink *third;

		world_begin(kind, rules);
		world_sink(11, false, table[i].mood);
		third = world_sink(12, false, SINK_OK);
		world_start((struct remote_config){0});
		world_one("r@many.example");
		assert_int_equal(third->messages, table[i].next);
		if (table[i].text)
			assert_string_equal(w.job[0].text, table[i].text);
		else
			assert_string_equal(w.job[0].text,
					    "127.0.0.12 accepted message.\nRemote host said: "
					    "250 ok stored\n");
		world_end();
	}
}

static void with_no_host_left_the_last_trouble_counts(enum loop_kind kind)
{
	world_begin(kind, rules);
	world_sink(11, false, SINK_GREETS_421);
	world_start((struct remote_config){0});
	assert_string_equal(world_one("r@many.example"),
	                    "Connected to 127.0.0.11 but greeting failed.\nRemote host said: 421 4.3.2 busy\n");
	assert_int_equal(w.job[0].outcome[0], OUTCOME_DEFERRED);
	assert_int_equal(w.job[0].slow[0], 1);
	world_end();
}

static void routes_beat_the_mx(enum loop_kind kind)
{
	struct sink *s11, *s12, *q13;
	char         text[256];

	world_begin(kind, rules);
	s11 = world_sink(11, false, SINK_OK);
	s12 = world_sink(12, false, SINK_OK);
	q13 = world_sink(13, true, SINK_OK);
	snprintf(text, sizeof(text),
		 "mx.example:h12.example:%u\nnowhere.example:127.0.0.11:%u\nours.example:[127."
		 "0.0.12]:%u\n"
		 "qmx.example:h11.example:%u\n",
		 w.smtp_port, w.smtp_port, w.smtp_port, w.smtp_port);
	world_set("smtplisten", "127.0.0.12:25\n");  /* routing to oneself is allowed */
	world_set("smtproutes", text);
	snprintf(text, sizeof(text), "qmx.example:h13.example:%u\n", w.qmtp_port);
	world_set("qmtproutes", text);
	world_start((struct remote_config){.keep_smtp_ms = 1});
	world_one("r@mx.example");
	assert_int_equal(s12->messages, 1);
	world_one("r@nowhere.example");
	assert_int_equal(s11->messages, 1);
	world_one("r@ours.example");
	assert_int_equal(s12->messages, 2);
	world_one("r@qmx.example");
	assert_int_equal(q13->messages, 1);
	world_end();
}

static void a_silent_host_is_left_alone_for_a_while(enum loop_kind kind)
{
	struct sink *s;
	uint64_t     began;

	/* A listener whose queue is full does not answer to SYN: connecting times out. */
	world_begin(kind, rules);
	s = world_sink(12, false, SINK_OK);
	world_start((struct remote_config){.connect_ms = 100});
	uint16_t port = w.smtp_port;
	int      full = world_listen("127.0.0.11", &port), fill[8];

	assert_int_equal(listen(full, 0), 0);
	for (unsigned i = 0; i < 8; i++) {
		struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};

		fill[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		inet_pton(AF_INET, "127.0.0.11", &a.sin_addr);
		(void)connect(fill[i], (struct sockaddr *)&a, sizeof(a));
	}
	began = clock_mono_ms();
	world_one("r@mx.example");
	assert_int_equal(s->messages, 1);
	assert_true(clock_mono_ms() - began >= 95);
	assert_string_equal(world_one("r@plain.example"),
	                    "Sorry, I wasn't able to establish an SMTP connection. (#4.4.1)\n");
	for (unsigned i = 0; i < 8; i++)
		close(fill[i]);
	close(full);
	world_end();
}

#define ON_BOTH(f) \
	static void f##_uring(void **state) { f(LOOP_URING); } \
	static void f##_epoll(void **state) { f(LOOP_EPOLL); }
ON_BOTH(found_by_name)
ON_BOTH(equal_ones_share)
ON_BOTH(names_that_lead_nowhere)
ON_BOTH(mxps_means_qmtp_first)
ON_BOTH(once_connected_qmtp_is_final)
ON_BOTH(what_goes_on_to_the_next_host)
ON_BOTH(with_no_host_left_the_last_trouble_counts)
ON_BOTH(routes_beat_the_mx)
ON_BOTH(a_silent_host_is_left_alone_for_a_while)
#define BOTH(f) cmocka_unit_test(f##_uring), cmocka_unit_test(f##_epoll)

int main(void)
{
	const struct CMUnitTest tests[] = {
		BOTH(found_by_name),
		BOTH(equal_ones_share),
		BOTH(names_that_lead_nowhere),
		BOTH(mxps_means_qmtp_first),
		BOTH(once_connected_qmtp_is_final),
		BOTH(what_goes_on_to_the_next_host),
		BOTH(with_no_host_left_the_last_trouble_counts),
		BOTH(routes_beat_the_mx),
		BOTH(a_silent_host_is_left_alone_for_a_while),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
