/* The process as its peers see it: bodies in parts, early and late, lost peers, kept connections;
 * on both loops. */
#include "remote_world.h"

static const struct dns_rule rules[] = {
	{"s.example", DNS_A, .ttl = 300, .rr = {"A 127.0.0.11"}},
	{"s.example", DNS_MX, .ttl = 300, .rr = {"SOA 300"}},
	{"q.example", DNS_MX, .ttl = 300, .rr = {"MX 12817 qh.example"}},
	{"qh.example", DNS_A, .ttl = 300, .rr = {"A 127.0.0.12"}},
	{"slow.example", DNS_MX, MOOD_SILENT},
	{NULL},
};

/* 100 numbered lines, a NUL in front of each but the first; the last one without its end. */
static struct span long_body(void)
{
	static char b[5001];

	for (unsigned i = 0; i < 100; i++)
		snprintf(b + 50 * i, 51, "line %04u ......................................\n",
			 i);
	return span_of(b, 4990);
}

static void it_says_how_much_it_takes(enum loop_kind kind)
{
	world_begin(kind, rules);
	world_start((struct remote_config){.tasks_max = 77});
	world_run_for(10);
	assert_int_equal(w.jobs_max, 77);
	world_end();
}

static void bodies_come_in_parts(enum loop_kind kind)
{
	struct sink *s, *q;

	world_begin(kind, rules);
	s = world_sink(11, false, SINK_OK);
	q = world_sink(12, true, SINK_OK);
	world_start((struct remote_config){0});
	w.bytes = long_body();
	w.part = 300;
	world_one("r@s.example");
	assert_int_equal(s->last.n, 4991);        /* SMTP ends the last line */
	assert_memory_equal(s->last.p, w.bytes.p, 4990);
	assert_int_equal(w.wants, 16);
	world_one("r@q.example");
	assert_int_equal(q->last.n, 4990);
	assert_memory_equal(q->last.p, w.bytes.p, 4990);
	/* Five readers of one handle at once. */
	world_send_part(9, 0);
	for (uint32_t i = 1; i <= 5; i++)
		world_deliver(i, 9, "s@x", i % 2 ? "a@s.example b@s.example" : "a@q.example");
	for (uint32_t i = 1; i <= 5; i++) {
		world_result(i);
		assert_int_equal(w.job[i].outcome[0], OUTCOME_DELIVERED);
	}
	assert_int_equal(w.job[1].outcome[1], OUTCOME_DELIVERED);
	assert_int_equal(s->rcpts, 7);
	world_close(9);
	w.bytes = SPAN("");
	world_one("r@s.example");
	assert_int_equal(s->last.n, 0);
	world_one("r@q.example");
	assert_int_equal(q->last.n, 0);
	world_end();
}

static void a_body_may_come_late(enum loop_kind kind)
{
	struct sink *s;

	world_begin(kind, rules);
	s = world_sink(11, false, SINK_OK);
	world_start((struct remote_config){0});
	world_deliver(1, 1, "s@x", "r@s.example");
	world_deliver(2, 2, "s@x", "r@q.example");
	world_run_for(100);
	assert_int_equal(s->messages, 0);
	assert_false(w.job[1].done);
	world_send_part(1, 0);
	world_result(1);
	assert_int_equal(w.job[1].outcome[0], OUTCOME_DELIVERED);
	world_result(2);                          /* nobody listens there: its body was never needed */
	assert_int_equal(w.job[2].outcome[0], OUTCOME_DEFERRED);
	world_close(2);
	world_run_for(20);
	world_send_part(2, 0);                    /* late: forgotten, not kept */
	world_one("r@s.example");
	world_end();
}

static void a_body_that_fails_defers(enum loop_kind kind)
{
	struct msg_close fail = {.handle = 3};

	world_begin(kind, rules);
	world_sink(11, false, SINK_OK);
	world_sink(12, true, SINK_OK);
	world_start((struct remote_config){0});
	w.bytes = long_body();
	w.part = 300;
	w.refuse_from = 5;
	world_one("r@s.example");
	assert_string_equal(w.job[0].text, "Unable to read message. (#4.3.0)\n");
	assert_int_equal(w.job[0].outcome[0], OUTCOME_DEFERRED);
	world_one("r@q.example");
	assert_string_equal(w.job[0].text, "Unable to read message. (#4.3.0)\n");
	world_deliver(3, 3, "s@x", "r@s.example");
	world_run_for(50);
	wire_send(&w.body, MSG_BODYFAIL, &fail, sizeof(fail), SPAN_NONE);
	assert_string_equal(world_result(3), "Unable to read message. (#4.3.0)\n");
	assert_int_equal(w.sink[0].messages + w.sink[1].messages, 0);
	world_end();
}

static void body_may_die_and_come_back(enum loop_kind kind)
{
	world_begin(kind, rules);
	world_sink(11, false, SINK_OK);
	world_start((struct remote_config){0});
	world_deliver(1, 1, "s@x", "r@s.example");
	world_run_for(50);
	wire_close(&w.body);
	assert_string_equal(world_result(1), "Unable to read message. (#4.3.0)\n");
	world_run_until(&w.body_lost);
	world_new_body();
	world_one("r@s.example");
	assert_int_equal(w.job[0].outcome[0], OUTCOME_DELIVERED);
	world_end();
}

/* What has not been handed over when sched dies, is not handed over any more. */
static void sched_may_die_and_come_back(enum loop_kind kind)
{
	struct sink *s;

	world_begin(kind, rules);
	s = world_sink(11, false, SINK_OK);
	world_sink(12, true, SINK_SILENT);
	world_start((struct remote_config){0});
	world_deliver(1, 1, "s@x", "r@s.example");       /* waits for its body */
	world_deliver(2, 2, "s@x", "r@slow.example");    /* waits for DNS */
	world_send_part(3, 0);
	world_deliver(3, 3, "s@x", "r@q.example");       /* waits for its answer */
	world_run_for(50);
	assert_int_equal(remote_tasks(w.remote), 3);
	wire_close(&w.sched);
	world_run_until(&w.sched_lost);
	world_run_for(20);
	assert_int_equal(remote_tasks(w.remote), 0);
	world_send_part(1, 0);
	world_run_for(50);
	assert_int_equal(s->messages, 0);
	world_new_sched();
	world_send_part(8, 0);
	world_deliver(4, 8, "s@x", "r@s.example");
	world_result(4);
	assert_int_equal(s->messages, 1);
	assert_int_equal(w.jobs_done, 1);
	world_end();
}

static void connections_are_kept_and_given_up(enum loop_kind kind)
{
	struct sink *s, *q;

	world_begin(kind, rules);
	s = world_sink(11, false, SINK_OK);
	q = world_sink(12, true, SINK_OK);
	world_start((struct remote_config){.keep_smtp_ms = 100, .keep_qmtp_ms = 200});
	for (unsigned i = 0; i < 5; i++) {
		world_one("r@s.example");
		world_one("r@q.example");
	}
	assert_int_equal(s->messages, 5);
	assert_int_equal(s->conns, 1);
	assert_int_equal(q->conns, 1);
	world_run_for(150);
	assert_int_equal(s->open, 0);
	assert_int_equal(q->open, 1);
	world_run_for(150);
	assert_int_equal(q->open, 0);
	world_one("r@s.example");
	assert_int_equal(s->conns, 2);
	/* The server closes after each task: the kept one is found dead, now or in use. */
	s->mood = q->mood = SINK_ONE_TASK;
	for (unsigned i = 0; i < 5; i++) {
		world_one("r@s.example");
		assert_int_equal(w.job[0].outcome[0], OUTCOME_DELIVERED);
	}
	world_end();
}

static void many_share_one_qmtp_connection(enum loop_kind kind)
{
	struct sink *q;

	world_begin(kind, rules);
	q = world_sink(12, true, SINK_OK);
	world_start((struct remote_config){0});
	world_send_part(1, 0);
	for (uint32_t i = 0; i < 1000; i++)
		world_deliver(i, 1, "s@x", i % 3 ? "a@q.example" : "a@q.example b@q.example");
	for (uint32_t i = 0; i < 1000; i++) {
		world_result(i);
		assert_int_equal(w.job[i].outcome[0], OUTCOME_DELIVERED);
	}
	assert_int_equal(q->messages, 1000);
	assert_true(q->conns <= 1000 / 64 + 1);
	world_end();
}

static void a_short_server_is_remembered(enum loop_kind kind)
{
	struct sink *q;

	world_begin(kind, rules);
	q = world_sink(12, true, SINK_ONE_ANSWER);
	world_start((struct remote_config){.gap_ms = 100});
	world_one("a@q.example b@q.example");
	assert_int_equal(w.job[0].outcome[0], OUTCOME_DELIVERED);
	assert_int_equal(w.job[0].outcome[1], OUTCOME_DEFERRED);
	assert_int_equal(q->messages, 1);
	world_one("a@q.example b@q.example");
	assert_int_equal(w.job[0].outcome[0], OUTCOME_DELIVERED);
	assert_int_equal(w.job[0].outcome[1], OUTCOME_DELIVERED);
	assert_int_equal(q->messages, 3);
	world_end();
}

static void silence_has_an_end(enum loop_kind kind)
{
	world_begin(kind, rules);
	world_sink(11, false, SINK_SILENT);
	world_sink(12, true, SINK_SILENT);
	world_start((struct remote_config){.talk_ms = 100});
	assert_string_equal(world_one("r@s.example"),
			    "Connected to 127.0.0.11 but connection died. (#4.4.2)\n");
	assert_int_equal(w.job[0].slow[0], 2);
	assert_string_equal(
		world_one("r@q.example"),
		"Connected to 127.0.0.12 but connection died. Possible duplicate! (#4.4.2)\n");
	world_end();
}

static void big_bodies_meet_slow_sinks(enum loop_kind kind)
{
	static char big[3000000];
	struct sink *s, *q;

	for (size_t i = 0; i < sizeof(big); i++)
		big[i] = i % 70 == 69 ? '\n' : (char)('a' + i % 26);
	big[sizeof(big) - 1] = '\n';
	world_begin(kind, rules);
	s = world_sink(11, false, SINK_OK);
	s->pipelining = false;
	q = world_sink(12, true, SINK_OK);
	world_start((struct remote_config){0});
	w.bytes = span_of(big, sizeof(big));
	w.part = BODY_PART_MAX;
	world_send_part(1, 0);
	for (uint32_t i = 0; i < 6; i++)
		world_deliver(i, 1, "s@x", i % 2 ? "a@s.example" : "a@q.example");
	for (uint32_t i = 0; i < 6; i++) {
		world_result(i);
		assert_int_equal(w.job[i].outcome[0], OUTCOME_DELIVERED);
	}
	assert_int_equal(s->last.n, sizeof(big));
	assert_memory_equal(s->last.p, big, sizeof(big));
	assert_memory_equal(q->last.p, big, sizeof(big));
	world_end();
}

static void on_over(void *ctx)
{
	w.over = true;
}

static void it_drains(enum loop_kind kind)
{
	world_begin(kind, rules);
	world_sink(11, false, SINK_OK);
	world_start((struct remote_config){0});
	world_deliver(1, 1, "s@x", "r@s.example");
	world_run_for(30);
	remote_drain(w.remote, on_over, NULL);
	world_run_for(30);
	assert_false(w.over);
	world_send_part(1, 0);
	world_run_until(&w.over);
	world_run_until(&w.job[1].done);
	assert_int_equal(w.job[1].outcome[0], OUTCOME_DELIVERED);
	world_end();
}

static void a_new_configuration_holds_at_once(enum loop_kind kind)
{
	struct sink *s;
	char         text[128];

	world_begin(kind, rules);
	s = world_sink(11, false, SINK_OK);
	world_start((struct remote_config){0});
	world_one("r@elsewhere.example");
	assert_int_equal(w.job[0].outcome[0], OUTCOME_FAILED);
	snprintf(text, sizeof(text), ":127.0.0.11:%u\n", w.smtp_port);
	world_set("smtproutes", text);
	world_set("smtplisten", "127.0.0.11:25\n");
	remote_configure(w.remote, w.control);
	world_one("r@elsewhere.example");
	assert_int_equal(s->messages, 1);
	world_end();
}

static void garbage_from_sched_ends_the_wire(enum loop_kind kind)
{
	struct msg_deliver d = {.job = 1, .handle = 1, .rcpts = 5, .sender_n = 3};

	world_begin(kind, rules);
	world_start((struct remote_config){0});
	wire_send(&w.sched, MSG_DELIVER, &d, sizeof(d), SPAN("s@x\1"));
	world_run_until(&w.sched_lost);
	world_end();
}

#define ON_BOTH(f) \
	static void f##_uring(void **state) { f(LOOP_URING); } \
	static void f##_epoll(void **state) { f(LOOP_EPOLL); }
ON_BOTH(it_says_how_much_it_takes)
ON_BOTH(bodies_come_in_parts)
ON_BOTH(a_body_may_come_late)
ON_BOTH(a_body_that_fails_defers)
ON_BOTH(body_may_die_and_come_back)
ON_BOTH(sched_may_die_and_come_back)
ON_BOTH(connections_are_kept_and_given_up)
ON_BOTH(many_share_one_qmtp_connection)
ON_BOTH(a_short_server_is_remembered)
ON_BOTH(silence_has_an_end)
ON_BOTH(big_bodies_meet_slow_sinks)
ON_BOTH(it_drains)
ON_BOTH(a_new_configuration_holds_at_once)
ON_BOTH(garbage_from_sched_ends_the_wire)
#define BOTH(f) cmocka_unit_test(f##_uring), cmocka_unit_test(f##_epoll)

int main(void)
{
	const struct CMUnitTest tests[] = {
		BOTH(it_says_how_much_it_takes),
		BOTH(bodies_come_in_parts),
		BOTH(a_body_may_come_late),
		BOTH(a_body_that_fails_defers),
		BOTH(body_may_die_and_come_back),
		BOTH(sched_may_die_and_come_back),
		BOTH(connections_are_kept_and_given_up),
		BOTH(many_share_one_qmtp_connection),
		BOTH(a_short_server_is_remembered),
		BOTH(silence_has_an_end),
		BOTH(big_bodies_meet_slow_sinks),
		BOTH(it_drains),
		BOTH(a_new_configuration_holds_at_once),
		BOTH(garbage_from_sched_ends_the_wire),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
