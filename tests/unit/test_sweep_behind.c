/* The sweep's errands, a step at a time: the test decides when run() and done() are called. */
#include "sweep_home.h"

/* ---- errands of the test: instead of journal/errand.c ---- */

/* The sweep's are made for one thread, and are the test's to move.  Those that prepare segments
 * run from a timer. */
struct errands {
	struct loop *loop;
	struct errand *given; /* each of both gives one at a time */
	struct timer timer;
	bool manual, ran, closed;
};

static void on_timer(struct timer *t)
{
	struct errands *w = owner_of(t, struct errands, timer);
	struct errand *e = w->given;

	e->run(e);
	w->given = NULL;
	e->given = false;
	e->done(e);
}

struct errands *errands_new(struct loop *l, bool one_thread)
{
	struct errands *w = mem_new(sizeof(*w));

	w->loop = l;
	w->manual = one_thread;
	timer_init(&w->timer, on_timer);
	return w;
}

void errands_close(struct errands *w)
{
	timer_stop(w->loop, &w->timer);
	if (w->given)
		w->given->given = false;
	w->given = NULL;
	w->closed = true;
}

bool errands_is_closed(const struct errands *w)
{
	return w->closed;
}

void errands_free(struct errands *w)
{
	mem_free(w);
}

void errand_init(struct errand *e, void (*run)(struct errand *), void (*done)(struct errand *))
{
	*e = (struct errand){.run = run, .done = done};
}

void errand_give(struct errands *w, struct errand *e)
{
	assert_null(w->given);
	e->given = true;
	w->given = e;
	w->ran = false;
	if (!w->manual)
		timer_set(w->loop, &w->timer, 1);
}

static void run_one(struct swept *s)
{
	assert_non_null(s->errands->given);
	assert_false(s->errands->ran);
	s->errands->given->run(s->errands->given);
	s->errands->ran = true;
}

static void done_one(struct swept *s)
{
	struct errand *e = s->errands->given;

	assert_true(e && s->errands->ran);
	s->errands->given = NULL;
	e->given = false;
	e->done(e);
}

static unsigned all_errands(struct swept *s)
{
	unsigned n = 0;

	for (; s->errands->given; n++) {
		run_one(s);
		done_one(s);
	}
	return n;
}

/* ---- */

static unsigned behind_lines;

static void on_line(void *ctx, struct span line)
{
	behind_lines += memmem(line.p, line.n, "behind the ring", 15) != NULL;
}

static void begin_both(struct swept *s)
{
	home_init(&s->home, LOOP_EPOLL);
	log_capture(on_line, NULL);
	behind_lines = 0;
	begin(s);
	fill(s, 1000, 100);
	stop(s);
	begin(s);
	sweep_it(s, true);
}

static void end_both(struct swept *s)
{
	stop(s);
	following = NULL;
	log_capture(home_drop_line, NULL);
	home_fini(&s->home);
}

/* Mail of more than a ring, all of it durable. */
static void a_lap(struct swept *s, uint64_t from)
{
	uint64_t was = ring_durable(&s->home.ring);

	fill(s, from, 500);
	home_settle(&s->home);
	assert_true(ring_durable(&s->home.ring) > was + HOME_RING);
	assert_false(ring_holds(&s->home.ring, was));
}

static void nothing_is_touched_from_run_to_done(void **state)
{
	struct swept s = {0};

	begin_both(&s);
	fill(&s, 1000000, 20);
	home_settle(&s.home);
	assert_null(sweep_live(s.sweep)); /* given: not run yet */
	run_one(&s);
	/* The reader was at the end.  What comes now is told of, but live is the thread's. */
	fill(&s, 2000000, 20);
	home_settle(&s.home);
	assert_null(sweep_live(s.sweep));
	assert_int_equal(loaded, 0);
	done_one(&s);
	assert_null(s.errands->given);
	assert_int_equal(loaded, 1);
	agrees(&s, 0);
	end_both(&s);
}

static void a_lap_between_run_and_done_takes_another_errand(void **state)
{
	struct swept s = {0};

	begin_both(&s);
	run_one(&s);
	a_lap(&s, 1000000);
	assert_null(sweep_live(s.sweep));
	done_one(&s);
	assert_int_equal(loaded, 0);
	assert_null(sweep_live(s.sweep));
	assert_int_equal(all_errands(&s), 1);
	assert_int_equal(loaded, 1);
	assert_int_equal(behind_lines, 0);
	agrees(&s, 0);
	end_both(&s);
}

static void who_is_behind_the_ring_catches_up(void **state)
{
	struct swept s = {0};
	struct live_counts before, n;

	begin_both(&s);
	all_errands(&s);
	fill(&s, 1000000, 30);
	agrees(&s, 0);
	live_count(sweep_live(s.sweep), &before);
	for (unsigned lap = 1; lap <= 3; lap++) {
		following = NULL; /* nobody says that anything moved */
		a_lap(&s, 10000000 * lap);
		following = &s;
		assert_false(sweep_is_behind(s.sweep));
		sweep_moved(s.sweep);
		assert_true(sweep_is_behind(s.sweep));
		assert_int_equal(behind_lines, lap);
		/* live is the loop's, and as it was, while the errand runs and after it */
		sweep_moved(s.sweep);
		run_one(&s);
		fill(&s, 10000000 * lap + 5000000, 20);
		home_settle(&s.home);
		assert_non_null(sweep_live(s.sweep));
		live_count(sweep_live(s.sweep), &n);
		assert_memory_equal(&n, &before, sizeof(n));
		if (lap == 2) { /* once more before done() */
			a_lap(&s, 10000000 * lap + 7000000);
			done_one(&s);
			assert_true(sweep_is_behind(s.sweep));
		} else {
			done_one(&s);
		}
		all_errands(&s); /* it takes more than one when there is much */
		assert_false(sweep_is_behind(s.sweep));
		agrees(&s, 0);
		fill(&s, 10000000 * lap + 8000000, 20);
		agrees(&s, 0);
		live_count(sweep_live(s.sweep), &before);
	}
	assert_int_equal(loaded, 1);
	assert_int_equal(damages, 0);
	end_both(&s);
}

/* What was known before is not told again, damage included. */
static void damage_is_found_behind_the_ring(void **state)
{
	struct swept s = {0};
	uint64_t old, fresh;

	begin_both(&s);
	all_errands(&s);
	home_settle(&s.home);
	old = (commit_number(s.home.commit) - 1) * HOME_SEGMENT + 5 * BLOCK_SIZE + 1000;
	following = NULL;
	a_lap(&s, 1000000);
	fresh = (commit_number(s.home.commit) - 1 - HOME_RING / HOME_SEGMENT - 2) * HOME_SEGMENT + 5 * BLOCK_SIZE + 1000;
	home_flip(&s.home, old, 1);
	home_flip(&s.home, fresh, 1);
	following = &s;
	sweep_moved(s.sweep);
	all_errands(&s);
	assert_false(sweep_is_behind(s.sweep));
	assert_int_equal(damages, 1);
	assert_int_equal(damaged_at[0] / HOME_SEGMENT, fresh / HOME_SEGMENT);
	assert_true(sweep_is_damaged(s.sweep, fresh / HOME_SEGMENT));
	end_both(&s);
}

static void it_may_end_while_behind(void **state)
{
	struct swept s = {0};

	for (unsigned i = 0; i < 2; i++) {
		begin_both(&s);
		all_errands(&s);
		following = NULL;
		a_lap(&s, 1000000);
		following = &s;
		sweep_moved(s.sweep);
		if (i)
			run_one(&s);
		end_both(&s);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_is_touched_from_run_to_done),
		cmocka_unit_test(a_lap_between_run_and_done_takes_another_errand),
		cmocka_unit_test(who_is_behind_the_ring_catches_up),
		cmocka_unit_test(damage_is_found_behind_the_ring),
		cmocka_unit_test(it_may_end_while_behind),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
