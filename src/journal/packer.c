/* The eventfd counts packed jobs; the loop polls it, takes the whole list of packed ones and
 * calls done() for each.  The thread sleeps on a condition while nothing is given. */
#include "journal/packer.h"

#include "core/log.h"
#include "core/pool.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct packer {
	struct loop    *loop;
	struct zip     *zip;
	pthread_t       thread;
	pthread_mutex_t lock;                     /* given, packed, stop */
	pthread_cond_t  some;
	struct link     given, packed;
	bool            stop, closed;
	int             event;
	struct op       poll;
};

static struct pack_job *take(struct link *from)
{
	struct link *l = list_first(from);

	if (!l)
		return NULL;
	list_remove(l);
	return owner_of(l, struct pack_job, link);
}

/* NULL: stop. */
static struct pack_job *await_job(struct packer *p)
{
	struct pack_job *j = NULL;

	pthread_mutex_lock(&p->lock);
	while (!p->stop && !(j = take(&p->given)))
		pthread_cond_wait(&p->some, &p->lock);
	pthread_mutex_unlock(&p->lock);
	return j;
}

static void hand_back(struct packer *p, struct pack_job *j)
{
	uint64_t one = 1;
	bool     was_empty;

	pthread_mutex_lock(&p->lock);
	was_empty = list_is_empty(&p->packed);
	list_add_end(&p->packed, &j->link);
	pthread_mutex_unlock(&p->lock);
	if (was_empty)
		check(write(p->event, &one, sizeof(one)) == sizeof(one));
}

static void *work(void *arg)
{
	struct packer   *p = arg;
	struct pack_job *j;

	while ((j = await_job(p))) {
		j->packed = zip_pack(p->zip, j->raw, j->frame, &j->part);
		hand_back(p, j);
	}
	return NULL;
}

static void on_event(struct op *op, int res, unsigned flags)
{
	struct packer *p = owner_of(op, struct packer, poll);
	struct link    now;
	uint64_t       n;

	if (p->closed)
		return;
	if (read(p->event, &n, sizeof(n)) < 0 && errno != EAGAIN)
		die_sys(111, "read eventfd", "");
	list_init(&now);
	pthread_mutex_lock(&p->lock);
	for (struct pack_job *j; (j = take(&p->packed));)
		list_add_end(&now, &j->link);
	pthread_mutex_unlock(&p->lock);
	for (struct pack_job *j; (j = take(&now));) {
		j->busy = false;
		j->done(j);
	}
	if (!p->closed)
		loop_poll(p->loop, &p->poll, p->event, POLLIN);
}

/* Signals are the loop's. */
static void start_thread(struct packer *p)
{
	sigset_t all, old;
	int      error;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	error = pthread_create(&p->thread, NULL, work, p);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (error) {
		errno = error;
		die_sys(111, "pthread_create", "");
	}
}

struct packer *packer_new(struct loop *l, int zstd_level, struct dict d)
{
	struct packer *p = mem_new(sizeof(*p));

	p->loop = l;
	p->zip = zip_new(zstd_level);
	zip_add_dict(p->zip, d.number, d.bytes, true);
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->some, NULL);
	list_init(&p->given);
	list_init(&p->packed);
	p->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (p->event < 0)
		die_sys(111, "eventfd", "");
	op_init(&p->poll, on_event);
	loop_poll(l, &p->poll, p->event, POLLIN);
	start_thread(p);
	return p;
}

void packer_give(struct packer *p, struct pack_job *j)
{
	check(!j->busy && !p->closed);
	j->busy = true;
	pthread_mutex_lock(&p->lock);
	list_add_end(&p->given, &j->link);
	pthread_cond_signal(&p->some);
	pthread_mutex_unlock(&p->lock);
}

void packer_close(struct packer *p)
{
	p->closed = true;
	loop_cancel(p->loop, &p->poll);
}

bool packer_is_closed(const struct packer *p)
{
	return p->closed && !p->poll.armed;
}

void packer_free(struct packer *p)
{
	if (!p)
		return;
	check(packer_is_closed(p));
	pthread_mutex_lock(&p->lock);
	p->stop = true;
	pthread_cond_signal(&p->some);
	pthread_mutex_unlock(&p->lock);
	pthread_join(p->thread, NULL);
	pthread_mutex_destroy(&p->lock);
	pthread_cond_destroy(&p->some);
	close(p->event);
	zip_free(p->zip);
	mem_free(p);
}
