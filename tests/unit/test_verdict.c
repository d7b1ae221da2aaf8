/* verdict: what becomes of results, and the bytes of outcomes. */
#include "tests/unit/plan_fake.h"

static struct fake f;

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

static void start(uint32_t rcpts)
{
	fake_plan(&f);
	fake_submit(&f, &(struct fake_msg){.id = 64,
					   .sender = "s@x.example",
					   .domain = "one.example",
					   .rcpts_n = rcpts});
	fake_ready(&f, 100);
}

static struct state_view state_at(unsigned i)
{
	struct state_view v;
	unsigned seen = 0;

	for (unsigned k = 0; k < f.recs_n; k++)
		if (f.recs[k].head.type == REC_STATE && seen++ == i) {
			assert_true(state_view(&f.recs[k].head, f.recs[k].body, &v));
			return v;
		}
	fail_msg("no STATE %u", i);
	return v;
}

static unsigned states(void)
{
	unsigned n = 0;

	for (unsigned k = 0; k < f.recs_n; k++)
		n += f.recs[k].head.type == REC_STATE;
	return n;
}

static void one_outcome_a_text(void **state)
{
	static const struct fake_result rs[] = {
		{OUTCOME_DELIVERED, 0, "ok 1"}, {OUTCOME_FAILED, 0, "no"},
		{OUTCOME_DELIVERED, 0, "ok 2"}, {OUTCOME_FAILED, 0, "no"},
		{OUTCOME_FAILED, 0, "never"},   {OUTCOME_DEFERRED, 0, "no"},
		{OUTCOME_DELIVERED, 0, "ok 3"}, {OUTCOME_DELIVERED, 0, ""}};
	struct state_view v;

	start(8);
	assert_true(fake_verdict(&f, &f.deliveries[0], rs, 8));
	fake_settle(&f);
	assert_int_equal(states(), 4);
	v = state_at(0);
	assert_int_equal(v.s->outcome, OUTCOME_DELIVERED);
	assert_int_equal(v.s->ranges_n, 3);
	assert_int_equal(range_at(v.ranges, 2).first, 6);
	assert_int_equal(range_at(v.ranges, 2).last, 7);
	assert_int_equal(v.text.n, 0); /* the log has it */
	v = state_at(1);
	assert_int_equal(v.s->outcome, OUTCOME_FAILED);
	assert_int_equal(v.s->ranges_n, 2);
	assert_span(v.text, "no");
	assert_span(state_at(2).text, "never");
	v = state_at(3);
	assert_int_equal(v.s->outcome, OUTCOME_DEFERRED);
	assert_int_equal(v.s->next_us,
			 f.plan.messages.n ? (FAKE_START_WALL / 1000000 + 400) * 1000000 : 0);
	assert_int_equal(v.s->attempt, 1);
}

static void attempts_count_up(void **state)
{
	start(1);
	for (unsigned i = 0; i < 5; i++) {
		fake_answer(&f, i, OUTCOME_DEFERRED, "later");
		fake_settle(&f);
		assert_int_equal(state_at(i).s->attempt, i + 1);
		fake_advance(&f, 10000);
		plan_tick(&f.plan);
	}
	fake_restart(&f, 10, false);
	fake_advance(&f, 10000);
	plan_tick(&f.plan);
	fake_answer(&f, f.deliveries_n - 1, OUTCOME_DEFERRED, "later");
	fake_settle(&f);
	assert_int_equal(state_at(5).s->attempt, 6);
}

/* Each text is its own outcome; the run is free when the last of them is durable. */
static void a_run_waits_for_all_its_outcomes(void **state)
{
	static const struct fake_result rs[] = {{OUTCOME_DEFERRED, 0, "a"},
						{OUTCOME_DEFERRED, 0, "b"}};

	start(2);
	assert_true(fake_verdict(&f, &f.deliveries[0], rs, 2));
	fake_advance_ms(&f, OUTCOME_DELAY_MS / 2);
	plan_tick(&f.plan);
	fake_write_outcomes(&f);
	assert_int_equal(f.recs_n - f.fed, 2);
	fake_feed_one(&f, f.fed++);
	plan_retry_all(&f.plan);
	fake_advance_ms(&f, 1);
	plan_tick(&f.plan);
	assert_int_equal(f.deliveries_n, 1);
	fake_feed_one(&f, f.fed++);
	fake_advance(&f, 1);
	plan_tick(&f.plan);
	assert_int_equal(f.deliveries_n, 2);
	assert_int_equal(f.deliveries[1].d.rcpts, 2);
}

static void long_texts_of_deferrals_are_cut_and_of_failures_not(void **state)
{
	static char text[RESULT_TEXT_MAX + 1];

	memset(text, 'x', RESULT_TEXT_MAX);
	start(2);
	assert_true(fake_verdict(&f, &f.deliveries[0],
				 (const struct fake_result[]){{OUTCOME_DEFERRED, 0, text},
							      {OUTCOME_FAILED, 0, text}},
				 2));
	fake_settle(&f);
	assert_int_equal(state_at(0).text.n, DEFER_TEXT_MAX);
	assert_int_equal(state_at(1).text.n, RESULT_TEXT_MAX);
}

static void news_of_the_site_reach_its_lane(void **state)
{
	static const struct fake_result slow[] = {{OUTCOME_DEFERRED, 1, "slow"}},
					dead[] = {{OUTCOME_DEFERRED, 2, "dead"}};
	struct lane *l;

	fake_plan(&f);
	for (unsigned i = 1; i <= 3; i++)
		fake_submit(&f, &(struct fake_msg){.id = 64 * i,
						   .sender = "s@x.example",
						   .domain = "one.example",
						   .rcpts_n = 1});
	fake_ready(&f, 100);
	l = lane_of(&f.plan.lanes, CHANNEL_REMOTE, SPAN("u0@one.example"));
	fake_answer(&f, 0, OUTCOME_DEFERRED, "full mailbox");
	assert_int_equal(l->window, LANE_WINDOW_FIRST + 1);
	assert_true(fake_verdict(&f, &f.deliveries[1], slow, 1));
	assert_int_equal(l->window, (LANE_WINDOW_FIRST + 1) / 2);
	assert_true(fake_verdict(&f, &f.deliveries[2], dead, 1)); /* it began before that */
	assert_int_equal(l->window, (LANE_WINDOW_FIRST + 1) / 2);
	fake_submit(&f, &(struct fake_msg){
				.id = 256, .sender = "s@x.example", .domain = "one.example", .rcpts_n = 1});
	fake_settle(&f);
	assert_int_equal(f.deliveries_n, 4);
	assert_true(fake_verdict(&f, &f.deliveries[3], dead, 1));
	assert_int_equal(l->window, 1);
}

/* More failures than one notice holds go into the next ones; each is told once. */
static void many_failures_make_several_notices(void **state)
{
	static char text[RESULT_TEXT_MAX + 1];
	unsigned told = 0, notices;

	memset(text, 'x', RESULT_TEXT_MAX);
	start(300);
	fake_answer_all(&f, OUTCOME_FAILED, text);
	fake_settle(&f);
	for (unsigned i = 0; i < f.bounces_n; i++) {
		struct span all = fake_bounce_text(&f.bounces[i]);

		assert_true(f.bounces[i].tail.n < 1024 * 1024 - 1024);
		for (size_t at = 0; at + 2 < all.n; at++)
			told += all.p[at] == '\n' && all.p[at + 1] == '<' &&
				all.p[at + 2] == 'u';
		assert_false(fake_logged(&f, "end msg 64\n"));
		fake_bounce_done(&f, i, 1000 + i);
	}
	assert_true(f.bounces_n > 1);
	assert_int_equal(told, 300);
	assert_logged(&f, "end msg 64\n");
	notices = f.bounces_n;
	fake_restart(&f, 0, true);
	assert_int_equal(f.plan.messages.n, notices);
	assert_null(book_get(&f.plan.messages, 64));
}

/* The journal has lost the text: the recipient is told all the same. */
static void a_lost_text_loses_no_notice(void **state)
{
	struct span text;

	start(1);
	fake_answer(&f, 0, OUTCOME_FAILED, "no such user");
	fake_advance_ms(&f, OUTCOME_DELAY_MS);
	plan_tick(&f.plan);
	fake_write_outcomes(&f);
	f.recs[f.recs_n - 1].pos += 1; /* seen there, read elsewhere */
	fake_feed_one(&f, f.fed);
	f.recs[f.recs_n - 1].pos += 1;
	f.fed++;
	assert_int_equal(f.bounces_n, 1);
	text = fake_bounce_text(&f.bounces[0]);
	assert_true(memmem(text.p, text.n, "<u0@one.example>:\n", 18) != NULL);
}

/* Of 17 recipients the second part of 7 is damaged. */
static void recipients_whose_part_is_lost_fail_and_the_administrator_is_told(void **state)
{
	struct fake_msg m = {.id = 64, .sender = "s@x.example", .domain = "y.example", .rcpts_n = 17};
	const struct fake_bounce *b = &f.bounces[0];
	struct span text;
	const char *at;

	fake_plan(&f);
	fake_submit(&f, &m);
	f.recs[1] = f.recs[0]; /* a copy of the first in its place */
	fake_ready(&f, 10);
	assert_int_equal(f.plan.counts.lost_parts, 1);
	assert_logged(&f, "msg 64: recipients damaged in the journal\n");
	assert_int_equal(f.deliveries_n, 1);
	assert_int_equal(f.deliveries[0].d.rcpts, 10);
	fake_settle(&f);
	assert_int_equal(f.bounces_n, 0);
	fake_restart(&f, 10, true); /* their failure is not written twice */
	plan_tick(&f.plan);
	assert_int_equal(f.outcomes.n, 0);
	assert_int_equal(f.deliveries[0].d.rcpts, 10);
	fake_answer_all(&f, OUTCOME_DELIVERED, "");
	fake_settle(&f);
	assert_int_equal(f.bounces_n, 1);
	assert_span(fake_bounce_to(b), "postmaster@here.example");
	assert_int_equal(b->b.bare, 1);
	assert_int_equal(b->b.settles_n, 1);
	text = fake_bounce_text(b);
	assert_true(memmem(text.p, text.n, "message 64 from <s@x.example>", 29) != NULL);
	at = memmem(text.p, text.n, "<(lost)>:\nThis message was damaged", 34);
	assert_non_null(at);
	text = span_from(text, (size_t)(at - text.p));
	assert_null(memmem(text.p + 8, text.n - 8, "(lost)", 6)); /* one for all */
	fake_bounce_done(&f, 0, 128);
	assert_true(fake_logged(&f, "end msg 64\n"));
	assert_int_equal(f.plan.messages.n, 1); /* the notice */
}

static void a_message_without_any_recipient_left_is_told_too(void **state)
{
	fake_plan(&f);
	fake_submit(&f, &(struct fake_msg){.id = 64,
					   .sender = "s@x.example",
					   .domain = "y.example",
					   .rcpts_n = 1});
	f.recs[0] = f.recs[1];
	f.recs[0].head.id = 128;
	f.recs[0].pos = 1;
	f.fed = 1;
	fake_ready(&f, 10);
	assert_int_equal(f.deliveries_n, 0);
	assert_int_equal(f.plan.counts.lost_parts, 1);
	fake_settle(&f);
	assert_int_equal(f.bounces_n, 1);
	assert_span(fake_bounce_to(&f.bounces[0]), "postmaster@here.example");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(one_outcome_a_text),
		TEST(attempts_count_up),
		TEST(a_run_waits_for_all_its_outcomes),
		TEST(long_texts_of_deferrals_are_cut_and_of_failures_not),
		TEST(news_of_the_site_reach_its_lane),
		TEST(many_failures_make_several_notices),
		TEST(a_lost_text_loses_no_notice),
		TEST(recipients_whose_part_is_lost_fail_and_the_administrator_is_told),
		TEST(a_message_without_any_recipient_left_is_told_too),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
