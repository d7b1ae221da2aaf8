/* lane and run: whose turn it is, windows, and recipients packed. */
#include "core/clock.h"
#include "core/pool.h"
#include "sched/lane.h"
#include "sched/plan.h"
#include "tests/unit/mail_test.h"

#define S 1000000ull

static struct lanes ls;
static uint64_t now;

static void pass(uint64_t us)
{
	now += us;
	clock_set(now, now);
	lanes_wake(&ls, now);
}

static int setup(void **state)
{
	lanes_init(&ls);
	pass(S);
	ls.channels[CHANNEL_REMOTE].limit = ls.channels[CHANNEL_LOCAL].limit = 1000;
	return 0;
}

static int teardown(void **state)
{
	lanes_fini(&ls);
	return 0;
}

static struct run *run_to(const char *addr, unsigned n)
{
	struct lane *l = lane_of(&ls, CHANNEL_REMOTE, span_str(addr));
	struct run *r = run_new(NULL, l, n * 16);

	for (unsigned i = 0; i < n; i++) {
		char text[10];
		struct recipient rc = {.number = i * 3};

		snprintf(text, sizeof(text), "u%u", i);
		rc.text = span_str(text);
		run_add(r, &rc);
	}
	lane_ref(l);
	return r;
}

static void drop(struct run *r)
{
	lane_unref(&ls, r->lane);
	run_free(r);
}

static void domains_fold_and_lanes_go_with_their_last_run(void **state)
{
	struct run *a = run_to("x@One.example", 1), *b = run_to("y@oNE.EXAMPLE", 1);

	assert_ptr_equal(a->lane, b->lane);
	assert_span(lane_domain(a->lane), "One.example");
	assert_int_equal(ls.by_domain.n, 1);
	drop(a);
	assert_int_equal(ls.by_domain.n, 1);
	drop(b);
	assert_int_equal(ls.by_domain.n, 0);
	assert_true(lane_of(&ls, CHANNEL_LOCAL, SPAN("x@One.example")) == ls.local);
}

static void lanes_take_turns(void **state)
{
	static const char *const want[] = {"a.example", "b.example", "a.example", "b.example",
					   "a.example"};
	struct run *runs[] = {run_to("x@a.example", 1), run_to("x@a.example", 1),
			      run_to("x@a.example", 1), run_to("x@b.example", 1),
			      run_to("x@b.example", 1)};
	enum weight w;

	for (unsigned i = 0; i < ARRAY_N(runs); i++)
		lane_add(&ls, runs[i], SMALL);
	assert_int_equal(ls.channels[CHANNEL_REMOTE].ready, 5);
	for (unsigned i = 0; i < ARRAY_N(want); i++)
		assert_span(lane_domain(channel_take(&ls, CHANNEL_REMOTE, &w)->lane), want[i]);
	assert_null(channel_take(&ls, CHANNEL_REMOTE, &w));
	assert_int_equal(ls.channels[CHANNEL_REMOTE].ready, 0);
	for (unsigned i = 0; i < ARRAY_N(runs); i++)
		drop(runs[i]);
}

static void a_huge_post_gets_its_share_and_no_more(void **state)
{
	struct run *small[40], *huge[40];
	unsigned huge_n = 0;
	enum weight w;

	for (unsigned i = 0; i < 40; i++) {
		lane_add(&ls, huge[i] = run_to("x@a.example", 1), HUGE);
		lane_add(&ls, small[i] = run_to("x@a.example", 1), SMALL);
	}
	for (unsigned i = 0; i < 5 * (SMALL_TURNS + 1); i++) {
		assert_non_null(channel_take(&ls, CHANNEL_REMOTE, &w));
		huge_n += w == HUGE;
	}
	assert_int_equal(huge_n, 5);
	for (unsigned i = 0; i < 40; i++) {
		drop(small[i]);
		drop(huge[i]);
	}
}

/* Starts until the window or the limit says no; returns how many. */
static unsigned start_all(struct run *r)
{
	enum weight w;
	unsigned n = 0;

	for (;;) {
		struct run *t = channel_take(&ls, CHANNEL_REMOTE, &w);

		if (!t)
			return n;
		assert_ptr_equal(t, r);
		lane_started(&ls, r->lane);
		lane_add(&ls, r, SMALL);
		n++;
	}
}

static void windows_grow_shrink_and_reopen(void **state)
{
	struct run *r = run_to("x@a.example", 1);

	lane_add(&ls, r, SMALL);
	assert_int_equal(start_all(r), LANE_WINDOW_FIRST);
	lane_ended(&ls, r->lane, LANE_WELL);
	assert_int_equal(start_all(r), 2); /* its place, and one more */
	lane_ended(&ls, r->lane, LANE_SLOW);
	assert_int_equal(start_all(r), 0);
	assert_int_equal(r->lane->window, 5);
	while (r->lane->running > 4)
		lane_ended(&ls, r->lane, LANE_SLOW); /* they began before the first said so */
	assert_int_equal(r->lane->window, 5);
	assert_int_equal(start_all(r), 1);
	while (r->lane->running > 1) /* after trouble: one more for a whole window */
		lane_ended(&ls, r->lane, LANE_WELL);
	assert_int_equal(r->lane->window, 5);
	lane_ended(&ls, r->lane, LANE_WELL);
	assert_int_equal(r->lane->window, 6);
	assert_int_equal(start_all(r), 6);
	while (r->lane->running > 0)
		lane_ended(&ls, r->lane, LANE_SLOW);
	assert_int_equal(r->lane->window, 3);
	drop(r);
}

static void a_dead_site_is_looked_at_less_and_less_often(void **state)
{
	struct run *r = run_to("x@a.example", 1);
	uint64_t wait = LANE_DEAD_FIRST_S * S;

	lane_add(&ls, r, SMALL);
	assert_int_equal(start_all(r), LANE_WINDOW_FIRST);
	assert_int_equal(lanes_next_us(&ls), UINT64_MAX);
	while (r->lane->running > 0)
		lane_ended(&ls, r->lane, LANE_DEAD); /* all of them say the same one thing */
	for (unsigned i = 0; i < 10; i++) {
		assert_int_equal(lanes_next_us(&ls), now + wait);
		pass(wait - 1);
		assert_int_equal(start_all(r), 0);
		pass(1);
		assert_int_equal(start_all(r), 1);
		lane_ended(&ls, r->lane, LANE_DEAD);
		wait = 2 * wait > LANE_DEAD_MAX_S * S ? LANE_DEAD_MAX_S * S : 2 * wait;
	}
	assert_int_equal(wait, LANE_DEAD_MAX_S * S);
	lanes_revive(&ls);
	assert_int_equal(lanes_next_us(&ls), UINT64_MAX);
	assert_int_equal(start_all(r), 1);
	lane_ended(&ls, r->lane, LANE_WELL);
	assert_int_equal(r->lane->window, 2);
	assert_int_equal(start_all(r), 2);
	lane_ended(&ls, r->lane, LANE_NOTHING);
	lane_ended(&ls, r->lane, LANE_DEAD); /* anew: the shortest wait */
	assert_int_equal(lanes_next_us(&ls), now + LANE_DEAD_FIRST_S * S);
	drop(r);
	assert_int_equal(lanes_next_us(&ls), UINT64_MAX);
}

static void limit_by(const char *file)
{
	struct control *c = control_new();

	assert_true(control_set(c, SPAN("destinations"), span_str(file)));
	lanes_limit(&ls, destinations_new(c));
	control_free(c);
}

static void an_administrator_allows_less(void **state)
{
	struct run *r, *other;

	limit_by("a.example:3\n.example:50:2:20\n");
	r = run_to("x@a.example", 1);
	lane_add(&ls, r, SMALL);
	assert_int_equal(start_all(r), 3);
	assert_int_equal(r->lane->rcpts_max, 0);
	other = run_to("x@b.example", 1);
	assert_int_equal(other->lane->rcpts_max, 20);
	assert_int_equal(other->lane->allowed, 50);
	limit_by("a.example:4\n"); /* HUP: what is there already, too */
	assert_int_equal(start_all(r), 1);
	assert_int_equal(other->lane->rcpts_max, 0);
	limit_by("");
	assert_int_equal(start_all(r), LANE_WINDOW_FIRST - 4);
	while (r->lane->running > 0)
		lane_ended(&ls, r->lane, LANE_NOTHING);
	drop(r);
	drop(other);
}

static void a_rate_spaces_deliveries(void **state)
{
	struct run *r;

	limit_by(":100:0.5\n");
	r = run_to("x@a.example", 1);
	lane_add(&ls, r, SMALL);
	for (unsigned i = 1; i <= 5; i++) {
		assert_int_equal(start_all(r), 1);
		assert_int_equal(r->lane->running, i);
		assert_int_equal(lanes_next_us(&ls), now + 2 * S);
		pass(2 * S - 1);
		assert_int_equal(start_all(r), 0);
		pass(1);
	}
	while (r->lane->running > 0)
		lane_ended(&ls, r->lane, LANE_NOTHING);
	pass(3600 * S); /* nothing is saved up */
	assert_int_equal(start_all(r), 1);
	lane_ended(&ls, r->lane, LANE_NOTHING);
	drop(r);
}

static struct run *run_from(const char *sender)
{
	struct message *m = mem_new(sizeof(*m) + strlen(sender));
	struct lane *l = lane_of(&ls, CHANNEL_REMOTE, SPAN("x@a.example"));
	struct run *r = run_new(m, l, 0);

	m->sender_n = strlen(sender) & 0xffff;
	memcpy(m->sender, sender, m->sender_n);
	lane_ref(l);
	lane_add(&ls, r, SMALL);
	return r;
}

static void drop_with_message(struct run *r)
{
	mem_free(r->message);
	drop(r);
}

static void senders_take_turns_where_many_wait(void **state)
{
	struct run *first = run_from("flood@x.example"), *others[4];
	enum weight w;
	unsigned seen = 0, n = 0;
	size_t bytes = ls.bytes;

	for (unsigned i = 1; i < 1000; i++)
		run_from("flood@x.example");
	assert_true(ls.bytes > bytes);
	others[0] = run_from("a@x.example");
	others[1] = run_from("b@x.example");
	others[2] = run_from("a@x.example");
	others[3] = run_from("c@x.example");
	for (; seen < ARRAY_N(others); n++) {
		struct run *r = channel_take(&ls, CHANNEL_REMOTE, &w);

		assert_non_null(r);
		assert_true(n > 0 || r == first || r == others[0] || r == others[1] || r == others[3]);
		for (unsigned i = 0; i < ARRAY_N(others); i++)
			seen += r == others[i];
		drop_with_message(r);
	}
	assert_in_range(n, 4, 12); /* and not 1004 */
	for (; n < 1004; n++)
		drop_with_message(channel_take(&ls, CHANNEL_REMOTE, &w));
	assert_null(channel_take(&ls, CHANNEL_REMOTE, &w));
	assert_int_equal(ls.channels[CHANNEL_REMOTE].ready, 0);
}

static bool is_even(void *ctx, const struct run *r)
{
	return r->count % 2 == 0;
}

static void some_are_taken_out_of_the_middle(void **state)
{
	struct run *v[5], *out;
	enum weight w;

	for (unsigned i = 0; i < 5; i++) {
		v[i] = run_to("x@a.example", i + 1);
		lane_add(&ls, v[i], i == 3 ? HUGE : SMALL);
	}
	out = lane_extract(&ls, v[0]->lane, is_even, NULL);
	assert_ptr_equal(out, v[1]);
	assert_ptr_equal(out->next, v[3]);
	assert_null(out->next->next);
	assert_int_equal(ls.channels[CHANNEL_REMOTE].ready, 1 + 3 + 5);
	assert_ptr_equal(channel_take(&ls, CHANNEL_REMOTE, &w), v[0]);
	assert_ptr_equal(channel_take(&ls, CHANNEL_REMOTE, &w), v[2]);
	assert_ptr_equal(channel_take(&ls, CHANNEL_REMOTE, &w), v[4]);
	assert_null(channel_take(&ls, CHANNEL_REMOTE, &w));
	for (unsigned i = 0; i < 5; i++)
		drop(v[i]);
}

static void a_dead_site_leaves_the_others_alone(void **state)
{
	struct run *dead = run_to("x@dead.example", 1), *good = run_to("x@good.example", 1);
	enum weight w;

	lane_started(&ls, dead->lane);
	lane_ended(&ls, dead->lane, LANE_DEAD);
	lane_started(&ls, dead->lane);
	lane_add(&ls, dead, SMALL);
	lane_add(&ls, good, SMALL);
	assert_ptr_equal(channel_take(&ls, CHANNEL_REMOTE, &w), good);
	assert_null(channel_take(&ls, CHANNEL_REMOTE, &w));
	lane_ended(&ls, dead->lane, LANE_NOTHING);
	assert_null(channel_take(&ls, CHANNEL_REMOTE, &w));
	pass(LANE_DEAD_FIRST_S * S);
	assert_ptr_equal(channel_take(&ls, CHANNEL_REMOTE, &w), dead);
	drop(dead);
	drop(good);
}

static void the_channel_has_a_limit(void **state)
{
	struct run *r = run_to("x@a.example", 1);
	enum weight w;

	ls.channels[CHANNEL_REMOTE].limit = 0;
	lane_add(&ls, r, SMALL);
	assert_null(channel_take(&ls, CHANNEL_REMOTE, &w));
	ls.channels[CHANNEL_REMOTE].limit = 3;
	assert_int_equal(start_all(r), 3);
	for (unsigned i = 0; i < 3; i++)
		lane_ended(&ls, r->lane, LANE_NOTHING);
	drop(r);
}

static void expect_run(const struct run *r, const uint32_t *numbers, unsigned n)
{
	struct recipient rc;
	uint32_t at = r->at;

	assert_int_equal(r->count, n);
	for (unsigned i = 0; i < n; i++) {
		char want[40];
		struct buf b;

		assert_true(run_next(r, &at, &rc));
		assert_int_equal(rc.number, numbers[i]);
		snprintf(want, sizeof(want), "u%u@a.example", numbers[i] / 3);
		buf_init(&b, 100);
		assert_span(recipient_address(r, &rc, &b), want);
		buf_free(&b);
	}
	assert_false(run_next(r, &at, &rc));
}

static void runs_split_and_shrink(void **state)
{
	struct run *r = run_to("x@a.example", 6), *front = run_split(r, 2);

	expect_run(front, (const uint32_t[]){0, 3}, 2);
	expect_run(r, (const uint32_t[]){6, 9, 12, 15}, 4);
	run_keep(r, (const bool[]){false, true, false, true});
	expect_run(r, (const uint32_t[]){9, 15}, 2);
	run_keep(r, (const bool[]){false, false});
	expect_run(r, NULL, 0);
	run_free(front);
	drop(r);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(domains_fold_and_lanes_go_with_their_last_run),
		TEST(lanes_take_turns),
		TEST(a_huge_post_gets_its_share_and_no_more),
		TEST(windows_grow_shrink_and_reopen),
		TEST(a_dead_site_leaves_the_others_alone),
		TEST(a_dead_site_is_looked_at_less_and_less_often),
		TEST(an_administrator_allows_less),
		TEST(a_rate_spaces_deliveries),
		TEST(some_are_taken_out_of_the_middle),
		TEST(senders_take_turns_where_many_wait),
		TEST(the_channel_has_a_limit),
		TEST(runs_split_and_shrink),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
