#include "journal/prepare.h"

#include "core/log.h"
#include "journal/format.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define RETRY_MS    1000 /* a full disk is not looked at more often */
#define SIM_STEP_MS 2    /* one step on a disk of one thread */
#define LOOK_NAMES  64   /* spares and half-filled files of earlier runs that are looked at */

enum stage { STAGE_BUSY, STAGE_READY /* the file, or its error */, STAGE_OVER };

/* ---- the steps; in the thread ---- */

static int open_for_writing(struct prepare *p, const char *name, int flags,
			    struct disk_file **ret)
{
	flags |= DISK_WRITE | (p->direct ? DISK_DIRECT : 0);
	return p->disk->calls->open(p->disk, name, flags, ret);
}

static int fill_file(struct prepare *p, const char *name)
{
	struct disk *d = p->disk;
	struct disk_file *f;
	int e = d->calls->unlink(d, name);

	if (e && e != -ENOENT)
		return e;
	e = d->calls->open(d, name, DISK_WRITE | DISK_CREATE, &f);
	if (e)
		return e;
	e = d->calls->fill(d, f, p->segment_size);
	d->calls->close(d, f);
	if (e)
		(void)d->calls->unlink(
			d, name); /* gives the space back; the next try removes it else */
	return e;
}

static int make_spare(struct prepare *p)
{
	char filling[SEGMENT_NAME_MAX], spare[SEGMENT_NAME_MAX];
	uint64_t number = p->spare_last + 1;
	int e;

	segment_name(filling, FILE_FILLING, number);
	segment_name(spare, FILE_SPARE, number);
	e = fill_file(p, filling);
	if (!e)
		e = p->disk->calls->rename(p->disk, filling, spare);
	if (e)
		return e;
	p->spare_last = number;
	p->spares[p->spares_n++] = number;
	return 0;
}

static int take_spare(struct prepare *p, uint64_t number, struct disk_file **ret)
{
	char spare[SEGMENT_NAME_MAX], name[SEGMENT_NAME_MAX];
	int e;

	segment_name(spare, FILE_SPARE, p->spares[p->spares_n - 1]);
	segment_name(name, FILE_SEGMENT, number);
	e = p->disk->calls->rename(p->disk, spare, name);
	if (e && e != -ENOENT)
		return e;
	p->spares_n--; /* taken, or removed by somebody */
	if (!e)
		e = p->disk->calls->sync_dir(p->disk);
	return e ? e : open_for_writing(p, name, 0, ret);
}

int prepare_now(struct prepare *p, uint64_t number, struct disk_file **ret)
{
	int e = 0;

	check(!p->running);
	if (p->spares_n == 0)
		e = make_spare(p);
	return e ? e : take_spare(p, number, ret);
}

static void ring_bell(struct prepare *p, enum stage s)
{
	uint64_t one = 1;
	ssize_t n;

	atomic_store(&p->stage, (int)s);
	do
		n = write(p->bell, &one, sizeof one);
	while (n < 0 && errno == EINTR);
}

static void *run(void *arg)
{
	struct prepare *p = arg;

	p->result = p->spares_n ? 0 : make_spare(p);
	if (!p->result)
		p->result = take_spare(p, p->job, &p->file);
	ring_bell(p, STAGE_READY);
	if (!p->result && p->spares_n == 0)
		(void)make_spare(p); /* its failure is met again when it is needed */
	ring_bell(p, STAGE_OVER);
	return NULL;
}

/* ---- the loop's side ---- */

static void start(struct prepare *p);

static void deliver(struct prepare *p)
{
	struct disk_file *f = p->file;

	p->delivered = true;
	p->error = p->result;
	if (p->result)
		return;
	p->file = NULL;
	p->wanted = 0;
	p->ready(p->ctx, f);
}

static void say_trouble(int error)
{
	log_note("journal", "the next segment can't be prepared", "error", strerror(-error),
		 "do", "make room; mail waits", NULL);
}

static void over(struct prepare *p)
{
	p->running = false;
	if (p->result)
		timer_set(p->loop, &p->timer, RETRY_MS);
	else if (p->wanted)
		start(p);
}

static void on_bell(struct op *op, int res, unsigned flags)
{
	struct prepare *p = owner_of(op, struct prepare, on_bell);
	enum stage s = (enum stage)atomic_load(&p->stage);
	bool first = !p->error;

	if (res == -ECANCELED || !p->running)
		return;
	(void)!read(p->bell, &p->bell_read,
		    sizeof p->bell_read); /* it is non-blocking, and only a bell */
	if (s != STAGE_BUSY && !p->delivered) {
		deliver(p);
		if (p->error && first)
			say_trouble(p->error);
	}
	if (s != STAGE_OVER) {
		loop_poll(p->loop, &p->on_bell, p->bell, POLLIN);
		return;
	}
	pthread_join(p->thread, NULL);
	over(p);
}

/* One step at a time, where there is one thread only. */
static void on_step(struct prepare *p)
{
	if (p->delivered) {
		if (p->spares_n == 0)
			(void)make_spare(p);
		over(p);
		return;
	}
	p->result = p->spares_n ? take_spare(p, p->job, &p->file) : make_spare(p);
	if (p->result) {
		p->error = p->result;
		over(p);
		return;
	}
	if (p->file)
		deliver(p);
	timer_set(p->loop, &p->timer, SIM_STEP_MS);
}

static void start_thread(struct prepare *p)
{
	sigset_t all, old;
	int e;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	e = pthread_create(&p->thread, NULL, run, p);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (e) {
		p->result = p->error = -e;
		over(p);
		return;
	}
	loop_poll(p->loop, &p->on_bell, p->bell, POLLIN);
}

static void start(struct prepare *p)
{
	p->running = true;
	p->delivered = false;
	p->job = p->wanted;
	p->file = NULL;
	p->result = 0;
	atomic_store(&p->stage, STAGE_BUSY);
	if (p->disk->one_thread)
		timer_set(p->loop, &p->timer, SIM_STEP_MS);
	else
		start_thread(p);
}

static void on_timer(struct timer *t)
{
	struct prepare *p = owner_of(t, struct prepare, timer);

	if (p->running)
		on_step(p);
	else if (p->wanted)
		start(p);
}

void prepare_begin(struct prepare *p, uint64_t number)
{
	check(!p->wanted);
	p->wanted = number;
	if (!p->running && !timer_is_set(&p->timer))
		start(p);
}

void prepare_init(struct prepare *p, struct loop *l, struct disk *d, uint64_t segment_size,
		  bool direct, void (*ready)(void *ctx, struct disk_file *file), void *ctx)
{
	*p = (struct prepare){
		.loop = l,
		.disk = d,
		.segment_size = segment_size,
		.direct = direct,
		.ready = ready,
		.ctx = ctx,
		.bell = -1,
	};
	op_init(&p->on_bell, on_bell);
	timer_init(&p->timer, on_timer);
	if (d->one_thread)
		return;
	p->bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (p->bell < 0)
		die_sys(111, "eventfd", "");
}

void prepare_fini(struct prepare *p)
{
	timer_stop(p->loop, &p->timer);
	if (p->running && !p->disk->one_thread) {
		pthread_join(p->thread, NULL);
		p->running = false;
		loop_cancel(p->loop, &p->on_bell);
		while (p->on_bell.armed)
			loop_pass(p->loop);
	}
	if (p->file)
		p->disk->calls->close(p->disk, p->file);
	if (p->bell >= 0)
		close(p->bell);
	*p = (struct prepare){.bell = -1};
}

/* ---- what an earlier run left ---- */

struct leftovers {
	struct {
		enum segment_file kind;
		uint64_t number, size;
	} v[LOOK_NAMES];
	unsigned n;
};

static void on_file(void *ctx, const char *name, uint64_t size)
{
	struct leftovers *l = ctx;
	enum segment_file kind;
	uint64_t number;

	if (!segment_name_parse(name, &kind, &number) || kind == FILE_SEGMENT ||
	    l->n == LOOK_NAMES)
		return;
	l->v[l->n].kind = kind;
	l->v[l->n].number = number;
	l->v[l->n++].size = size;
}

int prepare_look(struct prepare *p)
{
	struct leftovers l = {.n = 0};
	char name[SEGMENT_NAME_MAX];
	int e = p->disk->calls->list(p->disk, on_file, &l);

	for (unsigned i = 0; i < l.n && !e; i++) {
		if (l.v[i].number > p->spare_last)
			p->spare_last = l.v[i].number;
		if (l.v[i].kind == FILE_SPARE && l.v[i].size == p->segment_size &&
		    p->spares_n < SPARES_MAX) {
			p->spares[p->spares_n++] = l.v[i].number;
			continue;
		}
		segment_name(name, l.v[i].kind, l.v[i].number);
		e = p->disk->calls->unlink(p->disk, name);
	}
	return e;
}
