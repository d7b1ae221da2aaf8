#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "journal/errand.h"

#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#define N 100

struct job {
	struct errand errand;
	struct errands *again;       /* done() gives it once more */
	struct errands *close;       /* done() closes all of it */
	unsigned nth, ran, done;     /* nth: in which place run() came */
	pthread_t runner;
	unsigned slow_us;
};
static _Atomic unsigned begun, runs;
static unsigned dones;

static void run(struct errand *e)
{
	struct job *j = owner_of(e, struct job, errand);

	begun++;
	if (j->slow_us)
		usleep(j->slow_us);
	j->runner = pthread_self();
	j->nth = runs++;
	j->ran++;
}

static void done(struct errand *e)
{
	struct job *j = owner_of(e, struct job, errand);
	struct errands *again = j->again;

	assert_false(e->given);
	j->done++;
	dones++;
	j->again = NULL;
	if (again)
		errand_give(again, e);
	if (j->close)
		errands_close(j->close);
}

struct fixture {
	struct loop *loop;
	struct errands *w;
	struct job jobs[N];
};

static void begin(struct fixture *f, enum loop_kind kind, bool one_thread)
{
	*f = (struct fixture){.loop = loop_new(kind, 0)};
	f->w = errands_new(f->loop, one_thread);
	begun = runs = dones = 0;
	for (unsigned i = 0; i < N; i++)
		errand_init(&f->jobs[i].errand, run, done);
}

static void finish(struct fixture *f)
{
	errands_close(f->w);
	errands_close(f->w);
	while (!errands_is_closed(f->w))
		loop_pass(f->loop);
	errands_free(f->w);
	loop_free(f->loop);
}

static void in_order(enum loop_kind kind, bool one_thread)
{
	struct fixture f;

	begin(&f, kind, one_thread);
	for (unsigned i = 0; i < N; i++)
		errand_give(f.w, &f.jobs[i].errand);
	while (dones < N)
		loop_pass(f.loop);
	for (unsigned i = 0; i < N; i++) {
		assert_int_equal(f.jobs[i].nth, i);
		assert_int_equal(f.jobs[i].done, 1);
		assert_true(!!pthread_equal(f.jobs[i].runner, pthread_self()) == one_thread);
	}
	finish(&f);
}

static void they_run_in_order(void **state)
{
	in_order(LOOP_EPOLL, false);
	in_order(LOOP_AUTO, false);
	in_order(LOOP_EPOLL, true);
}

static void giving_never_runs(void **state)
{
	struct fixture f;

	begin(&f, LOOP_EPOLL, true);
	errand_give(f.w, &f.jobs[0].errand);
	assert_int_equal(f.jobs[0].ran, 0);
	while (!f.jobs[0].ran)
		loop_pass(f.loop);
	assert_int_equal(f.jobs[0].done, 0); /* the power may go here */
	assert_true(f.jobs[0].errand.given);
	while (!f.jobs[0].done)
		loop_pass(f.loop);
	finish(&f);
}

static void again(bool one_thread)
{
	struct fixture f;

	begin(&f, LOOP_AUTO, one_thread);
	f.jobs[0].again = f.w;
	errand_give(f.w, &f.jobs[0].errand);
	while (dones < 2)
		loop_pass(f.loop);
	assert_int_equal(f.jobs[0].ran, 2);
	errand_give(f.w, &f.jobs[0].errand); /* after a pause, too */
	while (dones < 3)
		loop_pass(f.loop);
	finish(&f);
}

static void one_may_be_given_again(void **state)
{
	again(false);
	again(true);
}

static void closed_with_work(bool one_thread)
{
	struct fixture f;

	begin(&f, LOOP_AUTO, one_thread);
	f.jobs[0].slow_us = 20000;
	for (unsigned i = 0; i < N; i++)
		errand_give(f.w, &f.jobs[i].errand);
	while (!one_thread && begun == 0)
		usleep(100); /* it sleeps now */
	errands_close(f.w);
	for (unsigned i = 0; i < 20; i++)
		if (!errands_is_closed(f.w))
			loop_pass(f.loop);
	assert_int_equal(dones, 0);
	assert_int_equal(runs, begun); /* the one that ran was waited for */
	for (unsigned i = 0; i < N; i++)
		assert_false(f.jobs[i].errand.given);
	finish(&f);
}

static void nothing_follows_a_close(void **state)
{
	closed_with_work(false);
	closed_with_work(true);
}

static void closed_by_done(bool one_thread)
{
	struct fixture f;

	begin(&f, LOOP_AUTO, one_thread);
	f.jobs[2].close = f.w;
	for (unsigned i = 0; i < N; i++)
		errand_give(f.w, &f.jobs[i].errand);
	while (!errands_is_closed(f.w))
		loop_pass(f.loop);
	assert_int_equal(dones, 3);
	finish(&f);
}

static void done_may_close(void **state)
{
	closed_by_done(false);
	closed_by_done(true);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(they_run_in_order),
		cmocka_unit_test(giving_never_runs),
		cmocka_unit_test(one_may_be_given_again),
		cmocka_unit_test(nothing_follows_a_close),
		cmocka_unit_test(done_may_close),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
