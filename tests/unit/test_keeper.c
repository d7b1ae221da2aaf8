/* keeper beside a real commit, on a real disk; the test is sched and each body. */
#include "sweep_home.h"

#include "journal/keeper.h"

#define PATIENCE_MS 20000
#define SAID_MAX    256
#define FULL        (400)           /* messages of fill(): some twenty segments */

struct said {
	struct msg_retire m;
	bool answered;
};
struct kept {
	struct home home;
	struct keeper *keeper;
	struct timer tick;
	struct said said[SAID_MAX];
	unsigned said_n;
	uint64_t answers;           /* bodies that answer whatever is asked */
	uint64_t failed;
	uint64_t big;               /* in the midst of a body: blocks that hold nothing else */
};

static void keeper_on_moved(void *ctx, uint64_t durable)
{
	struct kept *k = owner_of((struct home *)ctx, struct kept, home);

	home_on_moved(ctx, durable);
	if (k->keeper)
		keeper_moved(k->keeper);
}

static void keeper_on_entered(void *ctx, uint64_t number, uint64_t edits)
{
	struct kept *k = owner_of((struct home *)ctx, struct kept, home);

	home_on_entered(ctx, number, edits);
	if (k->keeper)
		keeper_entered(k->keeper, number, edits);
}

static const struct commit_calls commit_says = {keeper_on_moved, home_on_room, home_on_failed,
						keeper_on_entered};

static void on_retire(void *ctx, const struct msg_retire *m, struct span moved)
{
	struct kept *k = ctx;

	assert_int_equal(moved.n % sizeof(struct msg_moved), 0);
	if (m->part != RETIRE_LAST)
		return;
	assert_true(k->said_n < SAID_MAX);
	k->said[k->said_n++] = (struct said){.m = *m};
}

static void on_no_room(void *ctx)
{
}

static void on_copy_failed(void *ctx, int error)
{
	((struct kept *)ctx)->failed++;
}

static const struct keeper_calls keeper_says = {on_retire, on_no_room, on_copy_failed};

static void on_tick(struct timer *t)
{
	struct kept *k = owner_of(t, struct kept, tick);

	timer_set(k->home.loop, &k->tick, 5);
}

static void answer(struct kept *k, const struct said *s, uint32_t body, uint32_t serial)
{
	struct msg_retired m = {.segment = s->m.segment, .serial = serial};

	keeper_retired(k->keeper, body, &m);
}

static void pass(struct kept *k)
{
	loop_pass(k->home.loop);
	for (unsigned i = 0; i < k->said_n && k->answers; i++) {
		if (k->said[i].answered)
			continue;
		k->said[i].answered = true;
		for (uint32_t body = 0; body < 64; body++)
			if (k->answers >> body & 1)
				answer(k, &k->said[i], body, k->said[i].m.serial);
	}
}

#define until(k, cond)                                                       \
	do {                                                                 \
		uint64_t end_ = clock_mono_ms() + PATIENCE_MS;               \
		while (!(cond)) {                                            \
			if (clock_mono_ms() > end_)                          \
				fail_msg("never: %s", #cond);                \
			pass(k);                                             \
		}                                                            \
	} while (0)

/* More than a look of the keeper's timer. */
static void for_a_while(struct kept *k)
{
	uint64_t end = clock_mono_ms() + 1200;

	while (clock_mono_ms() < end)
		pass(k);
}

static void begin_journal(struct kept *k)
{
	struct home *h = &k->home;
	struct journal_end end;

	assert_int_not_equal(home_recover(h, &end), RECOVERED_FAILED);
	assert_int_equal(ring_make(&h->ring, HOME_RING, HOME_SEGMENT), 0);
	assert_int_equal(commit_open(&h->commit, h->loop, h->disk, &h->ring, &end,
				     &(struct commit_options){.segment_size = HOME_SEGMENT,
							      .shard = 1,
							      .direct = h->direct,
							      .pool = 2},
				     &commit_says, h),
			 0);
	journal_end_fini(&end);
}

static void begin_keeper(struct kept *k, uint64_t bodies, struct space_keep keep)
{
	struct keeper_options o = {
		.loop = k->home.loop,
		.disk = k->home.disk,
		.commit = k->home.commit,
		.ring = &k->home.ring,
		.segment_size = HOME_SEGMENT,
		.shard = 1,
		.keep = keep,
		.calls = &keeper_says,
		.ctx = k,
	};

	k->keeper = keeper_new(&o);
	keeper_sched(k->keeper, true);
	keeper_bodies(k->keeper, bodies);
	until(k, keeper_live(k->keeper));
}

static void end_run(struct kept *k)
{
	home_settle(&k->home);
	if (k->keeper) {
		keeper_close(k->keeper);
		while (!keeper_is_closed(k->keeper))
			loop_pass(k->home.loop);
		keeper_free(k->keeper);
	}
	k->keeper = NULL;
	home_close(&k->home);
}

static void send_big(struct kept *k, uint64_t id)
{
	static char frame[40000];
	struct rec_body body = {.raw_n = sizeof(frame)};
	struct rec_rcpt rcpt = {0, 1};
	struct rec_msg msg = {.rcpts = 1, .body_parts = 1, .rcpt_parts = 1};
	uint64_t at[2];

	at[0] = put(&k->home, (struct rec_head){.type = REC_BODY, .id = id}, &body, sizeof(body),
		    frame, sizeof(frame));
	k->big = at[0] + sizeof(frame) / 2;
	at[1] = put(&k->home, (struct rec_head){.type = REC_RCPT, .id = id}, &rcpt, sizeof(rcpt),
		    "\5\0a@b.c", 7);
	put(&k->home, (struct rec_head){.type = REC_MSG, .id = id}, &msg, sizeof(msg), at,
	    sizeof(at));
	deliver(&k->home, id);
}

/* All of it delivered: of each `living`'th message nothing is. */
static void fill_dead(struct kept *k, uint64_t from, unsigned living)
{
	for (unsigned i = 0; i < FULL; i++) {
		send_mail(&k->home, from + i * 64, 100 + i * 37 % 6000);
		if (!living || i % living)
			deliver(&k->home, from + i * 64);
		if (i == FULL / 4)
			send_big(k, from + i * 64 + 32);
		if (i % 5 == 0)
			loop_pass(k->home.loop);
	}
	home_settle(&k->home);
}

/* An earlier run's segments lie there, dead; keeper runs, and bodies are there. */
static void begin_full(struct kept *k, uint64_t bodies, struct space_keep keep)
{
	*k = (struct kept){.said_n = 0};
	home_init(&k->home, LOOP_EPOLL);
	timer_init(&k->tick, on_tick);
	timer_set(k->home.loop, &k->tick, 5);
	begin_journal(k);
	fill_dead(k, 6400, 0);
	end_run(k);
	begin_journal(k);
	begin_keeper(k, bodies, keep);
}

static void end_all(struct kept *k)
{
	end_run(k);
	timer_stop(k->home.loop, &k->tick);
	home_fini(&k->home);
}

static const struct manifest_entry *named(const struct kept *k, uint64_t number)
{
	uint32_t n;
	const struct manifest_entry *v = commit_named(k->home.commit, &n);

	for (uint32_t i = 0; i < n; i++)
		if (v[i].number == number)
			return &v[i];
	return NULL;
}

static bool is_there(const struct kept *k, const char *kind, uint64_t number)
{
	char path[160];

	snprintf(path, sizeof(path), "%s/%s-%016llx", k->home.dir, kind,
		 (unsigned long long)number);
	return access(path, F_OK) == 0;
}

static uint64_t given_up(const struct kept *k)
{
	struct keeper_counts c;

	keeper_count(k->keeper, &c);
	return c.given_up;
}

static const struct space_keep nothing;

static void all_bodies_must_have_let_go(void **state)
{
	struct kept k;
	uint64_t number;

	begin_full(&k, 3, nothing);
	until(&k, k.said_n > 0);
	number = k.said[0].m.segment;
	assert_non_null(named(&k, number));
	answer(&k, &k.said[0], 0, k.said[0].m.serial);
	answer(&k, &k.said[0], 1, k.said[0].m.serial + 1); /* of another time */
	for_a_while(&k);
	assert_non_null(named(&k, number));
	assert_int_equal(given_up(&k), 0);
	answer(&k, &k.said[0], 1, k.said[0].m.serial);
	until(&k, !named(&k, number));
	k.answers = 3;
	until(&k, given_up(&k) > 0);
	until(&k, !is_there(&k, "seg", number));
	end_all(&k);
}

static void a_body_that_comes_anew_is_asked_again(void **state)
{
	struct kept k;
	uint64_t number;
	unsigned n;

	begin_full(&k, 3, nothing);
	until(&k, k.said_n > 0);
	number = k.said[0].m.segment;
	answer(&k, &k.said[0], 0, k.said[0].m.serial);
	keeper_body_came(k.keeper, 0);
	answer(&k, &k.said[0], 1, k.said[0].m.serial);
	n = k.said_n;
	pass(&k);
	assert_non_null(named(&k, number));
	until(&k, k.said_n > n);
	assert_non_null(named(&k, number));
	assert_int_equal(k.said[n].m.segment, number);
	answer(&k, &k.said[n], 0, k.said[n].m.serial);
	until(&k, !named(&k, number));
	end_all(&k);
}

static void a_new_sched_is_told_all_of_it(void **state)
{
	struct kept k;
	uint64_t number;
	uint32_t serial;
	unsigned n;

	begin_full(&k, 1, nothing);
	until(&k, k.said_n > 0);
	number = k.said[0].m.segment;
	serial = k.said[0].m.serial;
	keeper_sched(k.keeper, false);
	n = k.said_n;
	answer(&k, &k.said[0], 0, serial);
	for_a_while(&k);
	assert_int_equal(k.said_n, n); /* to whom? */
	assert_non_null(named(&k, number));
	keeper_sched(k.keeper, true);
	assert_true(k.said_n > n);
	assert_int_equal(k.said[n].m.segment, number);
	assert_int_not_equal(k.said[n].m.serial, serial);
	answer(&k, &k.said[n], 0, serial);
	for_a_while(&k);
	assert_non_null(named(&k, number));
	answer(&k, &k.said[n], 0, k.said[n].m.serial);
	until(&k, !named(&k, number));
	end_all(&k);
}

static void nothing_goes_without_sched_or_bodies(void **state)
{
	struct kept k;
	uint64_t number;

	begin_full(&k, 0, nothing);
	until(&k, k.said_n > 0);
	number = k.said[0].m.segment;
	for_a_while(&k);
	assert_non_null(named(&k, number));
	keeper_bodies(k.keeper, 1);
	k.answers = 1;
	until(&k, !named(&k, number));
	end_all(&k);
}

static unsigned history_of(const struct kept *k)
{
	uint32_t n, history = 0;
	const struct manifest_entry *v = commit_named(k->home.commit, &n);

	for (uint32_t i = 0; i < n; i++) {
		history += v[i].state == SEGMENT_HISTORY;
		if (v[i].state == SEGMENT_HISTORY)
			assert_true(is_there(k, "seg", v[i].number));
	}
	return history;
}

static void history_stays_as_much_as_was_said(void **state)
{
	struct kept k;

	begin_full(&k, 1, (struct space_keep){.bytes = 4 * HOME_SEGMENT, .days = 1});
	k.answers = 1;
	until(&k, given_up(&k) > 4);
	assert_int_equal(history_of(&k), 4);
	keeper_control(k.keeper, 0, &nothing);
	until(&k, history_of(&k) == 0);
	end_all(&k);
}

static void begin_hurt(struct kept *k, unsigned living)
{
	*k = (struct kept){.answers = 1};
	home_init(&k->home, LOOP_EPOLL);
	timer_init(&k->tick, on_tick);
	timer_set(k->home.loop, &k->tick, 5);
	begin_journal(k);
	fill_dead(k, 6400, living);
	end_run(k);
}

static void what_is_damaged_is_kept_under_another_name(void **state)
{
	struct kept k;
	struct keeper_counts c;
	uint64_t number;

	begin_hurt(&k, 0);
	home_flip(&k.home, k.big, 1);
	number = k.big / HOME_SEGMENT;
	begin_journal(&k);
	begin_keeper(&k, 1, nothing);
	until(&k, is_there(&k, "bad", number));
	assert_false(is_there(&k, "seg", number));
	assert_null(named(&k, number));
	keeper_count(k.keeper, &c);
	assert_int_equal(c.damaged, 1);
	assert_false(is_there(&k, "bad", number + 1));
	end_all(&k);
}

static void nothing_goes_while_a_segment_is_missing(void **state)
{
	struct kept k;
	char path[160];

	begin_hurt(&k, 0);
	snprintf(path, sizeof(path), "%s/seg-%016x", k.home.dir, 3);
	assert_int_equal(unlink(path), 0);
	begin_journal(&k);
	assert_true(commit_is_lost(k.home.commit, 3));
	begin_keeper(&k, 1, nothing);
	keeper_compact(k.keeper);
	for_a_while(&k);
	assert_non_null(named(&k, 3));
	assert_int_equal(named(&k, 3)->state, SEGMENT_QUEUE);
	assert_int_equal(given_up(&k), 0); /* what it held may be needed with what is here */
	assert_non_null(named(&k, 4));
	end_all(&k);
}

/* Damage that only compaction meets: the others of the round leave, with copies. */
static void a_victim_that_failed_stays(void **state)
{
	struct kept k;
	struct keeper_counts c = {0};
	struct live_counts before, after;

	begin_hurt(&k, 10);
	begin_journal(&k);
	begin_keeper(&k, 1, nothing);
	live_count(keeper_live(k.keeper), &before);
	assert_int_equal(before.messages, FULL / 10);
	home_flip(&k.home, 3 * HOME_SEGMENT + 5 * BLOCK_SIZE + 1000, 1);
	keeper_compact(k.keeper);
	until(&k, (keeper_count(k.keeper, &c), c.failed_rounds > 0) && given_up(&k) > 4);
	assert_non_null(named(&k, 3));
	assert_int_equal(named(&k, 3)->state, SEGMENT_QUEUE);
	assert_true(is_there(&k, "seg", 3));
	live_count(keeper_live(k.keeper), &after);
	assert_int_equal(after.messages, before.messages);
	assert_int_equal(k.failed, 0);
	end_all(&k);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_bodies_must_have_let_go),
		cmocka_unit_test(a_body_that_comes_anew_is_asked_again),
		cmocka_unit_test(a_new_sched_is_told_all_of_it),
		cmocka_unit_test(nothing_goes_without_sched_or_bodies),
		cmocka_unit_test(history_stays_as_much_as_was_said),
		cmocka_unit_test(what_is_damaged_is_kept_under_another_name),
		cmocka_unit_test(nothing_goes_while_a_segment_is_missing),
		cmocka_unit_test(a_victim_that_failed_stays),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
