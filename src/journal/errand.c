/* Two lists under one mutex: given, and finished.  The thread moves errands from one to the
 * other, one at a time; an eventfd brings the loop back, which empties the second.  The loop
 * looks at the list anew for each errand, as done() may close all of it.
 *
 * On a disk of one thread run() and done() have a timer's firing each: the simulator may cut
 * the power in front of both. */
#include "journal/errand.h"

#include "core/log.h"
#include "core/pool.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define SIM_STEP_MS 1 /* from one firing to the next, on a disk of one thread */

struct errands {
	struct loop *loop;
	bool one_thread, closed;
	struct link given, finished; /* with a thread: under the lock, as is stop */

	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t some;
	bool stop;
	int event;
	struct op poll;

	struct timer step;
};

static struct errand *take(struct link *from)
{
	struct link *l = list_first(from);

	if (!l)
		return NULL;
	list_remove(l);
	return owner_of(l, struct errand, link);
}

static void end(struct errand *e)
{
	e->given = false;
	e->done(e);
}

/* ---- the thread ---- */

/* NULL: stop. */
static struct errand *await(struct errands *w)
{
	struct errand *e = NULL;

	pthread_mutex_lock(&w->lock);
	while (!w->stop && !(e = take(&w->given)))
		pthread_cond_wait(&w->some, &w->lock);
	pthread_mutex_unlock(&w->lock);
	return e;
}

static void hand_back(struct errands *w, struct errand *e)
{
	uint64_t one = 1;
	bool was_empty;

	pthread_mutex_lock(&w->lock);
	was_empty = list_is_empty(&w->finished);
	list_add_end(&w->finished, &e->link);
	pthread_mutex_unlock(&w->lock);
	if (was_empty)
		check(write(w->event, &one, sizeof(one)) == sizeof(one));
}

static void *work(void *arg)
{
	struct errands *w = arg;
	struct errand *e;

	while ((e = await(w))) {
		e->run(e);
		hand_back(w, e);
	}
	return NULL;
}

/* Signals are the loop's. */
static void start_thread(struct errands *w)
{
	sigset_t all, old;
	int error;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	error = pthread_create(&w->thread, NULL, work, w);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (error) {
		errno = error;
		die_sys(111, "pthread_create", "");
	}
}

/* ---- the loop ---- */

static struct errand *take_finished(struct errands *w)
{
	struct errand *e;

	pthread_mutex_lock(&w->lock);
	e = take(&w->finished);
	pthread_mutex_unlock(&w->lock);
	return e;
}

static void on_event(struct op *op, int res, unsigned flags)
{
	struct errands *w = owner_of(op, struct errands, poll);
	struct errand *e;
	uint64_t n;

	if (w->closed)
		return;
	if (read(w->event, &n, sizeof(n)) < 0 && errno != EAGAIN)
		die_sys(111, "read eventfd", "");
	while (!w->closed && (e = take_finished(w)))
		end(e);
	if (!w->closed)
		loop_poll(w->loop, &w->poll, w->event, POLLIN);
}

static void set_step(struct errands *w)
{
	if (!list_is_empty(&w->given) || !list_is_empty(&w->finished))
		timer_set(w->loop, &w->step, SIM_STEP_MS);
}

static void on_step(struct timer *t)
{
	struct errands *w = owner_of(t, struct errands, step);
	struct errand *e = take(&w->finished);

	if (e) {
		end(e);
	} else {
		e = take(&w->given);
		check(e);
		e->run(e);
		list_add_end(&w->finished, &e->link);
	}
	if (!w->closed)
		set_step(w);
}

static void init_thread(struct errands *w)
{
	pthread_mutex_init(&w->lock, NULL);
	pthread_cond_init(&w->some, NULL);
	w->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (w->event < 0)
		die_sys(111, "eventfd", "");
	loop_poll(w->loop, &w->poll, w->event, POLLIN);
	start_thread(w);
}

struct errands *errands_new(struct loop *l, bool one_thread)
{
	struct errands *w = mem_new(sizeof(*w));

	w->loop = l;
	w->one_thread = one_thread;
	w->event = -1;
	list_init(&w->given);
	list_init(&w->finished);
	op_init(&w->poll, on_event);
	timer_init(&w->step, on_step);
	if (!one_thread)
		init_thread(w);
	return w;
}

void errand_init(struct errand *e, void (*run)(struct errand *), void (*done)(struct errand *))
{
	*e = (struct errand){.run = run, .done = done};
}

void errand_give(struct errands *w, struct errand *e)
{
	check(!e->given && !w->closed);
	e->given = true;
	if (w->one_thread) {
		list_add_end(&w->given, &e->link);
		if (!timer_is_set(&w->step))
			set_step(w);
		return;
	}
	pthread_mutex_lock(&w->lock);
	list_add_end(&w->given, &e->link);
	pthread_cond_signal(&w->some);
	pthread_mutex_unlock(&w->lock);
}

/* ---- the end ---- */

static void stop_thread(struct errands *w)
{
	pthread_mutex_lock(&w->lock);
	w->stop = true;
	pthread_cond_signal(&w->some);
	pthread_mutex_unlock(&w->lock);
	pthread_join(w->thread, NULL);
	loop_cancel(w->loop, &w->poll);
}

static void forget(struct link *l)
{
	struct errand *e;

	while ((e = take(l)))
		e->given = false;
}

void errands_close(struct errands *w)
{
	if (w->closed)
		return;
	w->closed = true;
	if (w->one_thread)
		timer_stop(w->loop, &w->step);
	else
		stop_thread(w);
	forget(&w->given);
	forget(&w->finished);
}

bool errands_is_closed(const struct errands *w)
{
	return w->closed && !w->poll.armed;
}

void errands_free(struct errands *w)
{
	if (!w)
		return;
	check(errands_is_closed(w));
	if (!w->one_thread) {
		pthread_mutex_destroy(&w->lock);
		pthread_cond_destroy(&w->some);
		close(w->event);
	}
	mem_free(w);
}
