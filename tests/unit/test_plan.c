/* plan: what is tried when, and what the journal makes of it. */
#include "tests/unit/plan_fake.h"

static struct fake f;
static const char *const one_remote[] = {"joe@far.example"};
static const char *const one_local[] = {"joe@here.example"};

static int setup(void **state)
{
	fake_init(&f);
	return 0;
}

static int teardown(void **state)
{
	fake_fini(&f);
	return 0;
}

static void submit(uint64_t id, const char *sender, const char *const *rcpts, uint32_t n)
{
	fake_submit(&f, &(struct fake_msg){
				.id = id, .sender = sender, .rcpts = rcpts, .rcpts_n = n});
}

static void nothing_starts_before_the_replay_is_complete(void **state)
{
	fake_plan(&f);
	submit(64, "s@x.example", one_remote, 1);
	fake_feed(&f);
	plan_body(&f.plan, 0, true);
	assert_true(plan_agent(&f.plan, ROLE_REMOTE, 0, 10));
	plan_tick(&f.plan);
	assert_int_equal(f.deliveries_n, 0);
	plan_ready(&f.plan);
	plan_tick(&f.plan);
	assert_int_equal(f.deliveries_n, 1);
}

static void a_message_is_logged_as_qmail_does(void **state)
{
	fake_plan(&f);
	fake_ready(&f, 10);
	submit(64, "a b@x.example", one_remote, 1);
	fake_feed(&f);
	plan_tick(&f.plan);
	fake_answer(&f, 0, OUTCOME_DELIVERED, "1.2.3.4 accepted message.\nok%\n");
	fake_settle(&f);
	assert_span(buf_span(&f.log),
		    "status: local 0/10 remote 0/20\n"
		    "new msg 64\n"
		    "info msg 64: bytes 100 from <a_b@x.example> qp 77 uid 7\n"
		    "starting delivery 1: msg 64 to remote joe@far.example\n"
		    "status: local 0/10 remote 1/20\n"
		    "delivery 1: success: 1.2.3.4_accepted_message./ok_/\n"
		    "status: local 0/10 remote 0/20\n"
		    "end msg 64\n");
	assert_int_equal(f.plan.messages.n, 0);
	assert_int_equal(f.plan.bytes, 0);
	assert_int_equal(f.opened, 1);
	assert_int_equal(f.closed, 1);
}

static void a_message_ends_only_when_its_outcome_is_durable(void **state)
{
	fake_plan(&f);
	submit(64, "s@x.example", one_remote, 1);
	fake_ready(&f, 10);
	fake_answer(&f, 0, OUTCOME_DELIVERED, "");
	plan_tick(&f.plan);
	assert_false(fake_logged(&f, "end msg"));
	fake_settle(&f);
	assert_logged(&f, "end msg 64\n");
}

static void outcomes_wait_half_the_delay_and_no_longer(void **state)
{
	fake_plan(&f);
	submit(64, "s@x.example", one_remote, 1);
	fake_ready(&f, 10);
	fake_answer(&f, 0, OUTCOME_DELIVERED, "");
	plan_tick(&f.plan);
	assert_int_equal(f.outcomes.n, 0);
	assert_int_equal(plan_wait_ms(&f.plan), OUTCOME_DELAY_MS / 2);
	fake_advance_ms(&f, OUTCOME_DELAY_MS / 2);
	plan_tick(&f.plan);
	assert_true(f.outcomes.n > 0);
	assert_int_equal(plan_wait_ms(&f.plan), -1);
}

static void nothing_starts_while_an_outcome_is_owed_for_too_long(void **state)
{
	fake_plan(&f);
	submit(64, "s@x.example", one_remote, 1);
	fake_ready(&f, 10);
	fake_answer(&f, 0, OUTCOME_DELIVERED, "");
	fake_advance_ms(&f, 2 * OUTCOME_DELAY_MS + 1);
	submit(128, "s@x.example", one_remote, 1);
	fake_feed(&f);
	plan_tick(&f.plan);
	assert_int_equal(f.deliveries_n, 1);
	fake_settle(&f);
	assert_int_equal(f.deliveries_n, 2);
}

static void zero_recipients_end_at_once(void **state)
{
	fake_plan(&f);
	fake_ready(&f, 10);
	submit(64, "s@x.example", NULL, 0);
	fake_feed(&f);
	assert_logged(&f, "new msg 64\n");
	assert_logged(&f, "end msg 64\n");
	assert_int_equal(f.plan.messages.n, 0);
	fake_restart(&f, 10, false);
	assert_int_equal(f.plan.messages.n, 0);
}

static void recipients_of_a_destination_share_a_job(void **state)
{
	static const char *const rcpts[] = {"a@one.example", "b@two.example", "c@ONE.example",
					    "d@one.example", "e@here.example"};

	fake_plan(&f);
	submit(64, "s@x.example", rcpts, 5);
	fake_ready(&f, 10);
	assert_int_equal(f.deliveries_n, 3);
	assert_int_equal(f.deliveries[0].role, ROLE_LSPAWN);
	assert_int_equal(f.deliveries[1].d.rcpts, 3);
	assert_span(fake_rcpt(&f.deliveries[1], 0), "a@one.example");
	assert_span(fake_rcpt(&f.deliveries[1], 1), "c@ONE.example");
	assert_span(fake_rcpt(&f.deliveries[1], 2), "d@one.example");
	assert_int_equal(f.deliveries[2].d.rcpts, 1);
	assert_int_equal(f.opened, 2); /* once for each agent */
}

static void a_large_run_is_cut_into_jobs(void **state)
{
	fake_plan(&f);
	fake_submit(&f, &(struct fake_msg){.id = 64,
					   .sender = "s@x.example",
					   .domain = "one.example",
					   .rcpts_n = 250});
	fake_ready(&f, 10);
	assert_int_equal(f.deliveries_n, 3);
	assert_int_equal(f.deliveries[0].d.rcpts, 100);
	assert_int_equal(f.deliveries[2].d.rcpts, 50);
	assert_span(fake_rcpt(&f.deliveries[2], 49), "u249@one.example");
	fake_answer_all(&f, OUTCOME_DELIVERED, "");
	fake_settle(&f);
	assert_logged(&f, "end msg 64\n");
	assert_int_equal(f.closed, 1);
}

static void local_recipients_are_delivered_one_by_one(void **state)
{
	fake_plan(&f);
	fake_submit(&f, &(struct fake_msg){.id = 64,
					   .sender = "s@x.example",
					   .domain = "here.example",
					   .rcpts_n = 15});
	fake_ready(&f, 20);
	assert_int_equal(f.deliveries_n, 10); /* concurrencylocal */
	fake_answer_all(&f, OUTCOME_DELIVERED, "");
	fake_settle(&f);
	assert_int_equal(f.deliveries_n, 15);
}

/* 250 recipients: in pieces of what one job carries; the bounce names each once. */
static void what_never_gets_its_turn_fails_when_it_is_too_old(void **state)
{
	unsigned failed = 0;
	const char *at;

	fake_set(&f, "concurrencyremote", "0\n");
	fake_set(&f, "queuelifetime", "100000\n");
	fake_plan(&f);
	fake_submit(&f, &(struct fake_msg){
				.id = 64, .sender = "s@x.example", .domain = "one.example", .rcpts_n = 250});
	fake_ready(&f, 10);
	fake_advance(&f, 50000);
	fake_submit(&f, &(struct fake_msg){
				.id = 128, .sender = "s@x.example", .domain = "one.example", .rcpts_n = 1});
	fake_settle(&f);
	fake_advance(&f, 50001);
	fake_settle(&f);
	fake_settle(&f);
	assert_int_equal(f.deliveries_n, 0);
	assert_int_equal(f.plan.counts.failed, 250);
	assert_int_equal(f.plan.recipients, 1);
	assert_int_equal(f.bounces_n, 1);
	assert_int_equal(f.bounces[0].b.id, 64);
	assert_true(buf_add_byte(&f.log, '\0'));
	for (at = f.log.p; (at = strstr(at, ": failure: Sorry,")); at++)
		failed++;
	assert_int_equal(failed, 250);
	assert_int_equal(plan_wait_ms(&f.plan), EXPIRY_LOOK_S * 1000 - 2 * OUTCOME_DELAY_MS);
}

static void concurrency_zero_holds(void **state)
{
	fake_set(&f, "concurrencyremote", "0\n");
	fake_plan(&f);
	submit(64, "s@x.example", one_remote, 1);
	submit(128, "s@x.example", one_local, 1);
	fake_ready(&f, 10);
	assert_int_equal(f.deliveries_n, 1);
	assert_int_equal(f.deliveries[0].role, ROLE_LSPAWN);
	assert_int_equal(plan_wait_ms(&f.plan), EXPIRY_LOOK_S * 1000); /* is it too old? */
	fake_set(&f, "concurrencyremote", "300\n");
	plan_control(&f.plan, f.control);
	plan_tick(&f.plan);
	assert_int_equal(f.deliveries_n, 2);
	assert_logged(&f, "remote 1/300");
}

static void verp_is_applied_at_delivery(void **state)
{
	static const char *const rcpts[] = {"a@one.example", "b@one.example"};

	fake_plan(&f);
	submit(64, "list-@x.example-@[]", rcpts, 2);
	fake_ready(&f, 10);
	assert_int_equal(f.deliveries_n, 2);
	assert_span(f.deliveries[0].sender, "list-a=one.example@x.example");
	assert_span(f.deliveries[1].sender, "list-b=one.example@x.example");
	assert_span(fake_rcpt(&f.deliveries[1], 0), "b@one.example");
}

static void virtual_domains_are_rewritten_when_loaded(void **state)
{
	static const char *const rcpts[] = {"u@virt.example", "nobody"};

	fake_set(&f, "virtualdomains", "virt.example:joe-v\n");
	fake_set(&f, "envnoathost", "here.example\n");
	fake_plan(&f);
	submit(64, "s@x.example", rcpts, 2);
	fake_ready(&f, 10);
	assert_int_equal(f.deliveries_n, 2);
	assert_span(fake_rcpt(&f.deliveries[0], 0), "joe-v-u@virt.example");
	assert_span(fake_rcpt(&f.deliveries[1], 0), "nobody@here.example");
}

/* As an import writes them: docs/journal.md, Records. */
static void flag_last_rcpts(uint8_t flags)
{
	struct fake_rec *r = &f.recs[f.recs_n - 2];

	assert_int_equal(r->head.type, REC_RCPT);
	r->head.flags = flags;
	rec_seal_head(&r->head, &r->body, 1);
}

static void imported_recipients_keep_their_channel_and_address(void **state)
{
	static const char *const local[] = {"joe-v-u@virt.example"}, *const remote[] = {"u@virt.example"};

	fake_set(&f, "virtualdomains", "virt.example:joe-v\n");
	fake_plan(&f);
	submit(64, "s@x.example", local, 1);
	flag_last_rcpts(REC_REWRITTEN | REC_LOCAL);
	submit(128, "s@x.example", remote, 1);
	flag_last_rcpts(REC_REWRITTEN);
	fake_ready(&f, 10);
	assert_int_equal(f.deliveries_n, 2);
	for (unsigned i = 0; i < 2; i++) {
		bool is_local = f.deliveries[i].role == ROLE_LSPAWN;

		assert_span(fake_rcpt(&f.deliveries[i], 0), is_local ? local[0] : remote[0]);
	}
	assert_int_not_equal(f.deliveries[0].role, f.deliveries[1].role);
}

/* What lspawn would refuse is never made: docs/qmail.md 8.4. */
static void an_absurd_prefix_leaves_the_address_alone(void **state)
{
	static const char *const rcpts[] = {"u@virt.example"};
	char map[4096] = "virt.example:";

	memset(map + strlen(map), 'a', 3000);
	fake_set(&f, "virtualdomains", map);
	fake_plan(&f);
	submit(64, "s@x.example", rcpts, 1);
	fake_ready(&f, 10);
	assert_int_equal(f.deliveries_n, 1);
	assert_span(fake_rcpt(&f.deliveries[0], 0), "u@virt.example");
}

/* Due times after birth when every try is quick: docs/qmail.md 10.1. */
static void follow_schedule(const char *const *rcpt, const uint64_t *due, unsigned n)
{
	uint64_t born;

	fake_plan(&f);
	fake_ready(&f, 10);
	submit(64, "s@x.example", rcpt, 1);
	fake_feed(&f);
	plan_tick(&f.plan);
	born = f.wall / 1000000;
	for (unsigned i = 0; i < n; i++) {
		int64_t ms;

		assert_int_equal(f.deliveries_n, i + 1);
		assert_int_equal(f.wall / 1000000 - born, due[i]);
		fake_answer(&f, i, OUTCOME_DEFERRED, "later");
		fake_settle(&f);
		f.wall -= OUTCOME_DELAY_MS * 1000;
		f.mono -= OUTCOME_DELAY_MS * 1000;
		clock_set(f.mono, f.wall);
		ms = plan_wait_ms(&f.plan);
		assert_true(ms > 0 && ms % 1000 == 0);
		fake_advance_ms(&f, (uint64_t)ms - 1000);
		plan_tick(&f.plan);
		if (due[i] + (uint64_t)ms / 1000 > due[i] + 1 && i + 1 < n &&
		    f.deliveries_n == i + 1)
			while (f.deliveries_n ==
			       i + 1) { /* the wheel may turn to a lower ring first */
				fake_advance(&f, 1);
				plan_tick(&f.plan);
			}
	}
}

static void remote_schedule(void **state)
{
	static const uint64_t due[] = {0,     400,   1600,  3600,  6400,
				       10000, 14400, 19600, 25600, 32400};

	follow_schedule(one_remote, due, ARRAY_N(due));
}

static void local_schedule(void **state)
{
	static const uint64_t due[] = {0,    100,  400,  900,  1600, 2500,
				       3600, 4900, 6400, 8100, 10000};

	follow_schedule(one_local, due, ARRAY_N(due));
}

static void defer_once_and_age(uint64_t age_s)
{
	fake_plan(&f);
	submit(64, "s@x.example", one_remote, 1);
	fake_ready(&f, 10);
	fake_answer(&f, 0, OUTCOME_DEFERRED, "later\n");
	fake_settle(&f);
	fake_advance(&f, age_s);
	plan_tick(&f.plan);
	assert_int_equal(f.deliveries_n, 2);
}

static void too_old_is_a_failure(void **state)
{
	defer_once_and_age(604801);
	fake_answer(&f, 1, OUTCOME_DEFERRED, "later still\n");
	assert_logged(
		&f,
		"delivery 2: failure: "
		"later_still/"
		"I'm_not_going_to_try_again;_this_message_has_been_in_the_queue_too_long./\n");
	fake_settle(&f);
	assert_int_equal(f.bounces_n, 1);
	assert_true(memmem(f.bounces[0].tail.p, f.bounces[0].tail.n, "in the queue too long.\n",
			   23) != NULL);
}

static void not_yet_too_old_is_a_deferral(void **state)
{
	defer_once_and_age(604700);
	fake_answer(&f, 1, OUTCOME_DEFERRED, "later still\n");
	fake_settle(&f);
	assert_logged(&f, "delivery 2: deferral: later_still/\n");
	assert_int_equal(f.bounces_n, 0);
}

/* A clock that jumps a year ahead must not bounce the queue. */
static void a_jump_of_the_wall_clock_suspends_expiry(void **state)
{
	fake_plan(&f);
	submit(64, "s@x.example", one_remote, 1);
	fake_ready(&f, 10);
	f.wall += 365ull * 86400 * 1000000;
	clock_set(f.mono, f.wall);
	fake_answer(&f, 0, OUTCOME_DEFERRED, "later\n");
	fake_settle(&f);
	plan_retry_all(&f.plan);
	plan_tick(&f.plan);
	fake_answer(&f, 1, OUTCOME_DEFERRED, "later\n");
	fake_settle(&f);
	assert_int_equal(f.bounces_n, 0);
	fake_advance(&f, CLOCK_STEP_S + 1);
	plan_retry_all(&f.plan);
	plan_tick(&f.plan);
	fake_answer(&f, 2, OUTCOME_DEFERRED, "later\n");
	fake_settle(&f);
	assert_int_equal(f.bounces_n, 1);
}

static void the_clock_back_delays_nothing_for_long(void **state)
{
	fake_plan(&f);
	submit(64, "s@x.example", one_remote, 1);
	fake_ready(&f, 10);
	f.wall -= 365ull * 86400 * 1000000;
	clock_set(f.mono, f.wall);
	fake_answer(&f, 0, OUTCOME_DEFERRED, "later\n");
	fake_settle(&f);
	fake_advance(&f, 100001);
	plan_tick(&f.plan);
	assert_int_equal(f.deliveries_n, 2);
	fake_answer(&f, 1, OUTCOME_DEFERRED, "later\n");
	fake_settle(&f);
	fake_advance(&f, 401);
	plan_tick(&f.plan);
	assert_int_equal(f.deliveries_n, 3);
}

static void failures_wait_for_the_last_recipient_and_share_a_bounce(void **state)
{
	static const char *const rcpts[] = {"a@one.example", "b@two.example", "c@three.example",
					    "v@virt.example"};
	struct fake_bounce *b = &f.bounces[0];
	struct span text;

	fake_set(&f, "virtualdomains", "virt.example:joe\n");
	fake_plan(&f);
	submit(64, "s@x.example", rcpts, 4);
	fake_ready(&f, 10);
	assert_int_equal(f.deliveries_n, 4);
	fake_answer(&f, 0, OUTCOME_FAILED, "no v\n");
	fake_answer(&f, 1, OUTCOME_FAILED, "no a\n");
	fake_answer(&f, 2, OUTCOME_DEFERRED, "busy\n");
	fake_answer(&f, 3, OUTCOME_DELIVERED, "");
	fake_settle(&f);
	assert_int_equal(f.bounces_n, 0);
	fake_advance(&f, 400);
	plan_tick(&f.plan);
	fake_answer(&f, 4, OUTCOME_FAILED, "no b\n");
	assert_int_equal(f.bounces_n, 0); /* not durable yet */
	fake_settle(&f);
	assert_int_equal(f.bounces_n, 1);
	assert_span(fake_bounce_to(b), "s@x.example");
	assert_int_equal(b->b.sender_n, 0);
	assert_int_equal(b->b.settles_n, 2); /* 0-1, 3 */
	text = fake_bounce_text(b);
	assert_int_equal(text.n, b->b.text_n);
	assert_true(memmem(text.p, text.n, "<v@virt.example>:\nno v\n\n", 24) != NULL);
	assert_true(memmem(text.p, text.n, "<a@one.example>:\nno a\n\n", 23) != NULL);
	assert_true(memmem(text.p, text.n, "<b@two.example>:\nno b\n\n", 23) != NULL);
	assert_false(fake_logged(&f, "end msg 64"));
	fake_bounce_done(&f, 0, 128);
	assert_logged(&f, "bounce msg 64 qp 77\nend msg 64\nnew msg 128\n");
}

/* With bouncewait, one that is deferred for days holds up nobody's notice. */
static void failures_do_not_wait_longer_than_asked(void **state)
{
	static const char *const rcpts[] = {"a@one.example", "b@two.example", "c@three.example"};

	fake_set(&f, "bouncewait", "3600\n");
	fake_plan(&f);
	submit(64, "s@x.example", rcpts, 3);
	fake_ready(&f, 10);
	fake_answer(&f, 0, OUTCOME_FAILED, "no a\n");
	fake_answer(&f, 1, OUTCOME_FAILED, "no b\n");
	fake_answer(&f, 2, OUTCOME_DEFERRED, "busy\n");
	fake_settle(&f);
	fake_advance(&f, 3598);
	fake_settle(&f);
	assert_int_equal(f.bounces_n, 0);
	fake_advance(&f, 2);
	fake_settle(&f);
	assert_int_equal(f.bounces_n, 1);
	assert_int_equal(f.bounces[0].b.settles_n, 1); /* 0-1 */
	fake_bounce_done(&f, 0, 128);
	assert_logged(&f, "bounce msg 64 qp 77\n");
	assert_false(fake_logged(&f, "end msg 64"));
	/* The rest has its own notice, at once: nothing is left to try. */
	plan_retry_all(&f.plan);
	fake_settle(&f);
	for (unsigned i = 3; i < f.deliveries_n; i++)
		if (f.deliveries[i].d.id == 64)
			fake_answer(&f, i, OUTCOME_FAILED, "no c\n");
	fake_settle(&f);
	assert_int_equal(f.bounces_n, 2);
	assert_int_equal(f.bounces[1].b.settles_n, 1);
	fake_bounce_done(&f, 1, 192);
	assert_logged(&f, "end msg 64\n");
}

static void a_refused_bounce_is_made_again(void **state)
{
	fake_plan(&f);
	submit(64, "s@x.example", one_remote, 1);
	fake_ready(&f, 10);
	fake_answer(&f, 0, OUTCOME_FAILED, "no\n");
	fake_settle(&f);
	assert_int_equal(f.bounces_n, 1);
	plan_bounced(&f.plan, &(struct msg_bounced){.parent = 64, .verdict = STORED_FULL});
	assert_logged(&f, "warning: trouble injecting bounce message, will try later\n");
	assert_int_equal(plan_wait_ms(&f.plan), BOUNCE_AGAIN_S * 1000);
	fake_advance(&f, BOUNCE_AGAIN_S - 1);
	plan_tick(&f.plan);
	assert_int_equal(f.bounces_n, 1);
	fake_advance(&f, 1);
	plan_tick(&f.plan);
	assert_int_equal(f.bounces_n, 2);
	plan_bounced(&f.plan, &(struct msg_bounced){.parent = 64, .verdict = STORED_OK});
	fake_advance(&f, 10 * BOUNCE_AGAIN_S);
	plan_tick(&f.plan);
	assert_int_equal(f.bounces_n, 2);
	fake_bounce_done(&f, 1, 128);
	assert_logged(&f, "end msg 64\n");
}

/* The bounce was stored, its maker died before it could say so. */
static void a_bounce_seen_in_the_feed_is_not_made_again(void **state)
{
	fake_plan(&f);
	submit(64, "s@x.example", one_remote, 1);
	fake_ready(&f, 10);
	fake_answer(&f, 0, OUTCOME_FAILED, "no\n");
	fake_settle(&f);
	plan_body(&f.plan, 0, false);
	fake_bounce_done(&f, 0, 128);
	plan_body(&f.plan, 0, true);
	fake_advance(&f, 10 * BOUNCE_AGAIN_S);
	plan_tick(&f.plan);
	assert_int_equal(f.bounces_n, 1);
	assert_logged(&f, "end msg 64\n");
}

/* The bounce was on its way when sched died: the next one must not make a second. */
static void a_bounce_of_the_last_sched_is_waited_for(void **state)
{
	fake_plan(&f);
	submit(64, "s@x.example", one_remote, 1);
	fake_ready(&f, 10);
	fake_answer(&f, 0, OUTCOME_FAILED, "no\n");
	fake_settle(&f);
	assert_int_equal(f.bounces_n, 1);
	f.bounces_n = 0;
	fake_restart(&f, 10, false);
	fake_advance(&f, BOUNCE_REPLAY_S - 1);
	plan_tick(&f.plan);
	assert_int_equal(f.bounces_n, 0);
	fake_submit(&f, &(struct fake_msg){.id = 128,
					   .parent = 64,
					   .sender = "",
					   .rcpts = one_local,
					   .rcpts_n = 1,
					   .settles = &(struct msg_range){0, 0},
					   .settles_n = 1});
	fake_feed(&f);
	fake_advance(&f, BOUNCE_AGAIN_S);
	plan_tick(&f.plan);
	assert_int_equal(f.bounces_n, 0);
	assert_logged(&f, "bounce msg 64 qp 77\nend msg 64\n");
}

static void double_and_triple_bounces(void **state)
{
	fake_plan(&f);
	submit(64, "", one_remote, 1);
	submit(128, "#@[]", one_remote, 1);
	fake_ready(&f, 10);
	fake_answer_all(&f, OUTCOME_FAILED, "no\n");
	fake_settle(&f);
	assert_int_equal(f.bounces_n, 1);
	assert_int_equal(f.bounces[0].b.id, 64);
	assert_span(fake_bounce_to(&f.bounces[0]), "postmaster@here.example");
	assert_span(span_until(f.bounces[0].tail, f.bounces[0].b.sender_n), "#@[]");
	assert_logged(&f, "triple bounce: discarding bounce/128\n");
	assert_false(fake_logged(&f, "end msg 128"));
	fake_settle(&f);
	assert_logged(&f, "end msg 128\n");
	fake_restart(&f, 10, true);
	assert_int_equal(f.bounces_n, 0);
	fake_advance(&f, BOUNCE_REPLAY_S);
	plan_tick(&f.plan);
	assert_int_equal(f.plan.messages.n, 1);
	assert_int_equal(f.bounces_n, 1);
}

static void an_agent_that_is_lost_loses_nothing(void **state)
{
	fake_plan(&f);
	submit(64, "s@x.example", one_remote, 1);
	fake_ready(&f, 10);
	assert_true(plan_agent(&f.plan, ROLE_REMOTE, 0, 0));
	plan_tick(&f.plan);
	assert_int_equal(f.deliveries_n, 1);
	assert_int_equal(f.closed, 1);
	assert_logged(&f, "delivery 1: deferral: ");
	assert_logged(&f, "status: local 0/10 remote 0/20\n");
	fake_advance(&f, AGENT_LOST_WAIT_S);
	plan_tick(&f.plan);
	assert_int_equal(f.deliveries_n, 1); /* nobody to do it */
	assert_true(plan_agent(&f.plan, ROLE_REMOTE, 0, 10));
	plan_tick(&f.plan);
	assert_int_equal(f.deliveries_n, 2);
	assert_int_equal(f.plan.owed_n, 0); /* it was no attempt */
}

static void an_agent_never_gets_more_than_it_takes(void **state)
{
	fake_plan(&f);
	for (unsigned i = 1; i <= 5; i++)
		submit(64 * i, "s@x.example", one_remote, 1);
	fake_ready(&f, 3);
	assert_int_equal(f.deliveries_n, 3);
	fake_answer(&f, 1, OUTCOME_DELIVERED, "");
	plan_tick(&f.plan);
	assert_int_equal(f.deliveries_n, 4);
}

static void a_body_that_is_lost_is_opened_anew(void **state)
{
	fake_plan(&f);
	fake_submit(&f, &(struct fake_msg){.id = 64,
					   .sender = "s@x.example",
					   .domain = "one.example",
					   .rcpts_n = 300});
	fake_ready(&f, 2);
	assert_int_equal(f.opened, 1);
	plan_body(&f.plan, 0, false);
	fake_answer(&f, 0, OUTCOME_DEFERRED, "body lost");
	plan_tick(&f.plan);
	assert_int_equal(f.deliveries_n, 2); /* no body, no start */
	plan_body(&f.plan, 0, true);
	plan_tick(&f.plan);
	assert_int_equal(f.deliveries_n, 3);
	assert_int_equal(f.opened, 2);
	fake_answer_all(&f, OUTCOME_DELIVERED, "");
	assert_int_equal(f.closed, 2);
}

/* What its death spoilt is tried soon, but not for ever: the message may be what kills it. */
/* The agent may notice before we do. */
static void what_an_agent_had_no_body_of_is_tried_soon(void **state)
{
	static const struct fake_result lost[] = {{OUTCOME_DEFERRED, 3, "Unable to read message."}};
	uint16_t window;

	fake_plan(&f);
	submit(64, "s@x.example", one_remote, 1);
	fake_ready(&f, 2);
	window = lane_of(&f.plan.lanes, CHANNEL_REMOTE, SPAN("joe@far.example"))->window;
	assert_true(fake_verdict(&f, &f.deliveries[0], lost, 1));
	assert_int_equal(f.plan.owed_n, 0);
	assert_int_equal(lane_of(&f.plan.lanes, CHANNEL_REMOTE, SPAN("joe@far.example"))->window, window);
	fake_advance(&f, AGENT_LOST_WAIT_S);
	plan_tick(&f.plan);
	assert_int_equal(f.deliveries_n, 2);
}

static void deferrals_of_a_lost_body_are_tried_soon(void **state)
{
	fake_plan(&f);
	submit(64, "s@x.example", one_remote, 1);
	fake_ready(&f, 2);
	for (unsigned i = 0; i < SPOILT_TRIES; i++) {
		plan_body(&f.plan, 0, false);
		plan_body(&f.plan, 0, true);
		fake_answer(&f, i, OUTCOME_DEFERRED, "body lost");
		assert_int_equal(f.plan.owed_n, 0);
		fake_advance(&f, AGENT_LOST_WAIT_S);
		plan_tick(&f.plan);
		assert_int_equal(f.deliveries_n, i + 2);
	}
	plan_body(&f.plan, 0, false);
	plan_body(&f.plan, 0, true);
	fake_answer(&f, SPOILT_TRIES, OUTCOME_DEFERRED, "body lost");
	fake_settle(&f);
	fake_advance(&f, 300);
	plan_tick(&f.plan);
	assert_int_equal(f.deliveries_n, SPOILT_TRIES + 1);
	fake_advance(&f, 200);
	plan_tick(&f.plan);
	assert_int_equal(f.deliveries_n, SPOILT_TRIES + 2);
}

static void everything_is_due_on_demand(void **state)
{
	fake_plan(&f);
	submit(64, "s@x.example", one_remote, 1);
	fake_ready(&f, 10);
	fake_answer(&f, 0, OUTCOME_DEFERRED, "later");
	plan_retry_all(&f.plan);
	plan_tick(&f.plan);
	assert_int_equal(f.deliveries_n, 1); /* its outcome is owed */
	fake_settle(&f);
	fake_advance(&f, 1);
	plan_tick(&f.plan);
	assert_int_equal(f.deliveries_n, 2);
	fake_answer(&f, 1, OUTCOME_DEFERRED, "later");
	fake_settle(&f);
	plan_retry_all(&f.plan);
	plan_tick(&f.plan);
	assert_int_equal(f.deliveries_n, 3);
}

static void draining_finishes_and_starts_nothing(void **state)
{
	static const char *const rcpts[] = {"a@one.example", "b@two.example"};

	fake_set(&f, "concurrencyremote", "1\n");
	fake_plan(&f);
	submit(64, "s@x.example", rcpts, 2);
	fake_ready(&f, 10);
	plan_drain(&f.plan);
	plan_tick(&f.plan);
	assert_logged(&f, "status: local 0/10 remote 1/1 exitasap\n");
	assert_false(plan_is_drained(&f.plan));
	fake_answer(&f, 0, OUTCOME_DELIVERED, "");
	plan_tick(&f.plan);
	assert_false(plan_is_drained(&f.plan));
	assert_true(f.outcomes.n > 0); /* at once */
	fake_write_outcomes(&f);
	fake_feed(&f);
	plan_tick(&f.plan);
	assert_true(plan_is_drained(&f.plan));
	assert_int_equal(f.deliveries_n, 1);
}

/* journald died with outcomes that it had not made durable. */
static void outcomes_that_were_lost_are_sent_again(void **state)
{
	static const char *const rcpts[] = {"a@one.example", "b@two.example",
					    "c@three.example"};

	fake_plan(&f);
	submit(64, "s@x.example", rcpts, 3);
	fake_ready(&f, 10);
	fake_answer(&f, 0, OUTCOME_DELIVERED, "");
	fake_settle(&f);
	fake_answer(&f, 1, OUTCOME_DELIVERED, "");
	fake_advance_ms(&f, 25);
	plan_tick(&f.plan);
	buf_clear(&f.outcomes); /* sent, lost */
	plan_journal(&f.plan, false);
	fake_answer(&f, 2, OUTCOME_DELIVERED, "");
	fake_settle(&f);
	assert_int_equal(f.outcomes.n, 0);
	submit(128, "s@x.example", one_remote, 1);
	fake_feed(&f);
	plan_tick(&f.plan);
	assert_int_equal(f.deliveries_n, 3);
	plan_journal(&f.plan, true);
	fake_settle(&f);
	assert_logged(&f, "end msg 64\n");
	assert_int_equal(f.deliveries_n, 4);
}

static size_t queue_text(char *dst, size_t cap)
{
	struct outbuf o;
	struct view v;
	size_t n = 0;
	bool more = true;

	outbuf_init(&o);
	view_init(&v, &f.plan);
	while (more) {
		more = view_write(&v, &o);
		n += outbuf_copy(&o, dst + n, cap - n);
		outbuf_sent(&o, o.n);
	}
	view_fini(&v);
	outbuf_fini(&o);
	return n;
}

static void any_order_of_replay_gives_the_same_queue(void **state)
{
	static const char *const rcpts[] = {"a@one.example",  "b@two.example", "c@one.example",
					    "d@here.example", "e@one.example", "f@two.example",
					    "g@one.example",  "h@two.example", "i@one.example"};
	static const struct fake_result mixed[] = {{OUTCOME_DELIVERED, 0, ""},
						   {OUTCOME_DEFERRED, 0, "busy"},
						   {OUTCOME_FAILED, 0, "no"},
						   {OUTCOME_DEFERRED, 0, "full"},
						   {OUTCOME_DELIVERED, 0, ""}};
	static char first[65536], again[65536];
	size_t n;

	fake_set(&f, "concurrencyremote", "2\n");
	fake_plan(&f);
	submit(64, "s@x.example", rcpts, 9);
	submit(128, "t@x.example", rcpts, 9);
	submit(192, "over@x.example", one_local, 1);
	submit(256, "", one_remote, 1);
	fake_ready(&f, 10);
	for (unsigned i = 0; i < f.deliveries_n; i++) {
		struct fake_delivery *d = &f.deliveries[i];

		if (d->d.id == 192)
			fake_answer(&f, i, OUTCOME_DELIVERED, "");
		else if (d->d.rcpts == 5)
			assert_true(fake_verdict(&f, d, mixed, 5));
		else if (d->d.rcpts == 3)
			fake_answer(&f, i, OUTCOME_FAILED, "never");
	}
	fake_settle(&f);
	fake_restart(&f, 0, false);
	n = queue_text(first, sizeof(first));
	assert_int_equal(f.plan.messages.n, 3);
	for (unsigned round = 0; round < 50; round++) {
		fake_restart(&f, 0, true);
		assert_int_equal(f.plan.messages.n, 3);
		assert_spans_eq(span_of(again, queue_text(again, sizeof(again))),
				span_of(first, n));
	}
	assert_true(memmem(first, n, "\"delay_reason\":\"busy\"", 21) != NULL);
	assert_true(memmem(first, n, "over@", 5) == NULL);
}

static void parts_without_a_message_are_forgotten(void **state)
{
	fake_plan(&f);
	submit(64, "s@x.example", one_remote, 1);
	f.recs_n--; /* the MSG */
	fake_ready(&f, 10);
	assert_int_equal(f.plan.messages.n, 0);
	assert_int_equal(f.plan.loads.by_id.n, 0);
	f.recs_n++; /* it was a submission under way */
	fake_feed(&f);
	plan_tick(&f.plan);
	assert_int_equal(f.deliveries_n, 1);
}

static void copies_change_nothing(void **state)
{
	fake_plan(&f);
	submit(64, "s@x.example", one_remote, 1);
	submit(64, "s@x.example", one_remote, 1);
	fake_ready(&f, 10);
	assert_int_equal(f.deliveries_n, 1);
	submit(64, "s@x.example", one_remote, 1);
	fake_feed(&f);
	plan_tick(&f.plan);
	assert_int_equal(f.deliveries_n, 1);
	assert_int_equal(f.plan.messages.n, 1);
}

static void a_mad_agent_is_refused(void **state)
{
	static const struct fake_result two[] = {{OUTCOME_DELIVERED, 0, ""},
						 {OUTCOME_DELIVERED, 0, ""}};
	static const struct fake_result odd[] = {{OUTCOME_SETTLED, 0, ""}};
	struct msg_verdict v = {.job = 999, .results = 0};

	fake_plan(&f);
	submit(64, "s@x.example", one_remote, 1);
	fake_ready(&f, 10);
	assert_false(plan_verdict(&f.plan, ROLE_REMOTE, 0, &v, SPAN_NONE));
	assert_false(fake_verdict(&f, &f.deliveries[0], two, 2));
	assert_false(fake_verdict(&f, &f.deliveries[0], odd, 1));
	v = (struct msg_verdict){.job = f.deliveries[0].d.job, .results = 1};
	assert_false(plan_verdict(&f.plan, ROLE_REMOTE, 0, &v, SPAN("short")));
	assert_false(plan_verdict(&f.plan, ROLE_LSPAWN, 0, &v, SPAN_NONE));
	assert_false(plan_verdict(&f.plan, ROLE_REMOTE, 1, &v, SPAN_NONE));
	assert_int_equal(f.plan.owed_n, 0); /* what it said wrongly counted for nothing */
	f.deliveries[0].answered = false;
	fake_answer(&f, 0, OUTCOME_DELIVERED, "");
	v.results = 0; /* it is over */
	assert_false(plan_verdict(&f.plan, ROLE_REMOTE, 0, &v, SPAN_NONE));
	fake_settle(&f);
	assert_int_equal(f.plan.messages.n, 0);
}

static void what_is_not_said_is_a_deferral(void **state)
{
	static const char *const rcpts[] = {"a@one.example", "b@one.example"};
	static const struct fake_result one[] = {{OUTCOME_DELIVERED, 0, "ok"}};

	fake_plan(&f);
	submit(64, "s@x.example", rcpts, 2);
	fake_ready(&f, 10);
	assert_true(fake_verdict(&f, &f.deliveries[0], one, 1));
	assert_logged(&f, "delivery 1: success: ok\ndelivery 2: report mangled, will defer\n");
	fake_settle(&f);
	fake_advance(&f, 400);
	plan_tick(&f.plan);
	assert_int_equal(f.deliveries_n, 2);
	assert_int_equal(f.deliveries[1].d.rcpts, 1);
	assert_span(fake_rcpt(&f.deliveries[1], 0), "b@one.example");
}

static void a_single_mail_passes_a_huge_post(void **state)
{
	fake_set(&f, "concurrencyremote", "4\n");
	fake_plan(&f);
	fake_submit(&f, &(struct fake_msg){.id = 64,
					   .sender = "s@x.example",
					   .domain = "one.example",
					   .rcpts_n = 3000});
	fake_ready(&f, 100);
	assert_int_equal(f.deliveries_n, 4);
	submit(128, "s@x.example", (const char *const[]){"a@one.example"}, 1);
	fake_feed(&f);
	for (unsigned i = 0;
	     i < SMALL_TURNS + 1 && f.deliveries[f.deliveries_n - 1].d.id != 128; i++) {
		fake_answer(&f, i, OUTCOME_DELIVERED, "");
		plan_tick(&f.plan);
	}
	assert_int_equal(f.deliveries[f.deliveries_n - 1].d.id, 128);
	assert_true(f.deliveries_n <= 4 + 2);
}

static void credit_falls_with_the_queue(void **state)
{
	struct msg_credit before, after;

	fake_plan(&f);
	fake_ready(&f, 0);
	plan_credit(&f.plan, &before);
	fake_submit(&f, &(struct fake_msg){.id = 64,
					   .sender = "s@x.example",
					   .domain = "one.example",
					   .rcpts_n = 3000});
	fake_feed(&f);
	plan_credit(&f.plan, &after);
	assert_true(after.messages < before.messages && after.bytes < before.bytes);
	f.plan.limits.memory = 1;
	plan_credit(&f.plan, &after);
	assert_int_equal(after.messages, 0);
	assert_int_equal(after.bytes, 0);
}

static void queue_lines_are_json(void **state)
{
	static const char *const rcpts[] = {"a\"b\\c\n\xff\xc3\xa9@one.example"};
	static char text[4096];

	fake_plan(&f);
	submit(64, "s@x.example", rcpts, 1);
	fake_ready(&f, 10);
	fake_answer(&f, 0, OUTCOME_DEFERRED, "try later\n");
	fake_settle(&f);
	assert_spans_eq(span_of(text, queue_text(text, sizeof(text))),
			SPAN("{\"queue_name\":\"deferred\",\"queue_id\":\"64\",\"arrival_"
			     "time\":1700000000,\"message_size\":100,"
			     "\"forced_expire\":false,\"sender\":\"s@x.example\","
			     "\"recipients\":[{\"address\":"
			     "\"a\\u0022b\\u005cc\\u000a\\u00ff\xc3\xa9@one.example\",\"delay_"
			     "reason\":\"try later\"}]}\n"));
}

/* A full disk: what succeeds makes room, what does not costs some. */
static void without_room_one_delivery_at_a_time(void **state)
{
	fake_plan(&f);
	for (unsigned i = 1; i <= 5; i++)
		submit(64 * i, "s@x.example", i % 2 ? one_remote : one_local, 1);
	plan_room(&f.plan, false);
	fake_ready(&f, 10);
	assert_int_equal(f.deliveries_n, 1);
	assert_int_equal(plan_wait_ms(&f.plan), NO_ROOM_LOOK_S * 1000);
	fake_advance(&f, 10);
	plan_tick(&f.plan);
	assert_int_equal(f.deliveries_n, 1);
	fake_answer(&f, 0, OUTCOME_DELIVERED, "");
	plan_tick(&f.plan);
	assert_int_equal(f.deliveries_n, 2); /* at once */
	fake_answer(&f, 1, OUTCOME_DEFERRED, "later\n");
	fake_advance_ms(&f, 1);
	fake_settle(&f);
	assert_int_equal(f.deliveries_n, 2);
	fake_advance(&f, NO_ROOM_LOOK_S);
	plan_tick(&f.plan);
	assert_int_equal(f.deliveries_n, 3);
	fake_answer(&f, 2, OUTCOME_DEFERRED, "later\n");
	plan_room(&f.plan, true);
	fake_settle(&f);
	assert_int_equal(f.deliveries_n, 5);
}

/* What stands behind a dead destination is not tried in this moment. */
static void mail_behind_a_dead_destination_is_deferred(void **state)
{
	static const struct fake_result dead[] = {{OUTCOME_DEFERRED, 2, "nobody there\n"}};
	static char text[4096];
	struct span all;

	fake_set(&f, "destinations", ":1\n");
	fake_plan(&f);
	submit(64, "s@x.example", one_remote, 1);
	submit(128, "s@x.example", one_remote, 1);
	fake_ready(&f, 10);
	assert_int_equal(f.deliveries_n, 1);
	assert_true(fake_verdict(&f, &f.deliveries[0], dead, 1));
	fake_settle(&f);
	assert_int_equal(f.deliveries_n, 1);
	all = span_of(text, queue_text(text, sizeof(text)));
	assert_true(memmem(all.p, all.n, "\"active\"", 8) == NULL);
	assert_true(memmem(all.p, all.n, "nobody there", 12) != NULL);
	assert_true(memmem(all.p, all.n, "could not be reached a short while ago", 38) != NULL);
	fake_advance(&f, LANE_DEAD_FIRST_S);
	plan_tick(&f.plan);
	assert_int_equal(f.deliveries_n, 2);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(nothing_starts_before_the_replay_is_complete),
		TEST(a_message_is_logged_as_qmail_does),
		TEST(a_message_ends_only_when_its_outcome_is_durable),
		TEST(outcomes_wait_half_the_delay_and_no_longer),
		TEST(nothing_starts_while_an_outcome_is_owed_for_too_long),
		TEST(zero_recipients_end_at_once),
		TEST(recipients_of_a_destination_share_a_job),
		TEST(a_large_run_is_cut_into_jobs),
		TEST(local_recipients_are_delivered_one_by_one),
		TEST(what_never_gets_its_turn_fails_when_it_is_too_old),
		TEST(concurrency_zero_holds),
		TEST(verp_is_applied_at_delivery),
		TEST(virtual_domains_are_rewritten_when_loaded),
		TEST(imported_recipients_keep_their_channel_and_address),
		TEST(an_absurd_prefix_leaves_the_address_alone),
		TEST(remote_schedule),
		TEST(local_schedule),
		TEST(too_old_is_a_failure),
		TEST(not_yet_too_old_is_a_deferral),
		TEST(a_jump_of_the_wall_clock_suspends_expiry),
		TEST(the_clock_back_delays_nothing_for_long),
		TEST(failures_wait_for_the_last_recipient_and_share_a_bounce),
		TEST(failures_do_not_wait_longer_than_asked),
		TEST(a_refused_bounce_is_made_again),
		TEST(a_bounce_seen_in_the_feed_is_not_made_again),
		TEST(a_bounce_of_the_last_sched_is_waited_for),
		TEST(double_and_triple_bounces),
		TEST(an_agent_that_is_lost_loses_nothing),
		TEST(an_agent_never_gets_more_than_it_takes),
		TEST(a_body_that_is_lost_is_opened_anew),
		TEST(what_an_agent_had_no_body_of_is_tried_soon),
		TEST(deferrals_of_a_lost_body_are_tried_soon),
		TEST(everything_is_due_on_demand),
		TEST(draining_finishes_and_starts_nothing),
		TEST(outcomes_that_were_lost_are_sent_again),
		TEST(any_order_of_replay_gives_the_same_queue),
		TEST(parts_without_a_message_are_forgotten),
		TEST(copies_change_nothing),
		TEST(a_mad_agent_is_refused),
		TEST(what_is_not_said_is_a_deferral),
		TEST(a_single_mail_passes_a_huge_post),
		TEST(credit_falls_with_the_queue),
		TEST(queue_lines_are_json),
		TEST(without_room_one_delivery_at_a_time),
		TEST(mail_behind_a_dead_destination_is_deferred),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
