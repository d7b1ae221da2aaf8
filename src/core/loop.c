/* What all loops share: timers, deferred work, signals, and the shape of a pass. */
#include "core/loop.h"

#include "core/clock.h"
#include "core/log.h"
#include "core/pool.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#define STARVED_MS      20                        /* a buffer may have come back unseen */
#define STARVED_AT_ONCE 16                        /* woken for one buffer: some want none */

struct loop_signals {
	struct loop *loop;
	struct op    ready;
	int          fd;
	void       (*on_signal)(void *ctx, int signo);
	void        *ctx;
};

static void on_starved_timer(struct timer *t);

void loop_init(struct loop *l, const struct loop_calls *calls, void *body)
{
	*l = (struct loop){.calls = calls, .body = body};
	for (int i = 0; i < PHASES; i++)
		list_init(&l->work[i]);
	list_init(&l->starved);
	timer_init(&l->starved_timer, on_starved_timer);
}

static enum loop_kind kind_from_environment(void)
{
	const char *name = getenv("QUIRE_LOOP");

	if (!name || !*name)
		return LOOP_AUTO;
	if (strcmp(name, "uring") == 0)
		return LOOP_URING;
	if (strcmp(name, "epoll") == 0)
		return LOOP_EPOLL;
	die(111, "QUIRE_LOOP is neither uring nor epoll: %s", name);
}

struct loop *loop_new(enum loop_kind want, unsigned recv_bufs)
{
	const char  *why_not = NULL;
	struct loop *l = NULL;

	if (want == LOOP_AUTO)
		want = kind_from_environment();
	if (want != LOOP_EPOLL) {
		l = loop_uring_new(recv_bufs, &why_not);
		if (l)
			return l;
		if (want == LOOP_URING)
			die(111, "no io_uring: %s", why_not);
	}
	l = loop_epoll_new(recv_bufs);
	l->why_not_uring = why_not ? why_not : "epoll was asked for";
	return l;
}

static void signals_free(struct loop *l)
{
	struct loop_signals *s = l->signals;

	if (!s)
		return;
	l->signals = NULL;
	loop_cancel(l, &s->ready);
	while (s->ready.armed)
		loop_pass(l);
	close(s->fd);
	mem_free(s);
}

void loop_free(struct loop *l)
{
	if (!l)
		return;
	signals_free(l);
	heap_fini(&l->timers);
	l->calls->free(l);
}

const char *loop_name(const struct loop *l)
{
	return l->calls->name;
}

const char *loop_why_not_uring(const struct loop *l)
{
	return l->why_not_uring;
}

/* How long the next wait may last.  Rounded up: a timer that is not quite due would only
 * cause a second, empty pass. */
static int64_t next_wait(const struct loop *l)
{
	const struct heap_entry *first = heap_min(&l->timers);
	uint64_t                 now, due;

	for (int i = 0; i < PHASES; i++)
		if (!list_is_empty(&l->work[i]))
			return 0;
	if (!first)
		return -1;
	clock_refresh();                          /* the pass may have taken its time */
	now = clock_mono_us();
	due = first->key * 1000;
	return due <= now ? 0 : (int64_t)((due - now + 999) / 1000);
}

/* A timer that sets itself to "now" must not hold up the pass: no more turns than timers. */
static void run_timers(struct loop *l)
{
	uint64_t now = clock_mono_ms();

	for (uint32_t turns = l->timers.n; turns > 0; turns--) {
		struct heap_entry *first = heap_min(&l->timers);
		struct timer      *t;

		if (!first || first->key > now)
			return;
		heap_remove(&l->timers, first);
		t = owner_of(first, struct timer, entry);
		t->fire(t);
	}
}

static void run_phase(struct link *work)
{
	struct link *first;

	while ((first = list_first(work))) {
		struct deferred *d = owner_of(first, struct deferred, link);

		list_remove(first);
		d->run(d);
	}
}

/* What was started here is handed to the kernel together with the next wait. */
void loop_pass(struct loop *l)
{
	l->calls->wait(l, next_wait(l));
	run_timers(l);
	for (int i = 0; i < PHASES; i++)
		run_phase(&l->work[i]);
	log_flush();
}

void loop_run(struct loop *l)
{
	while (!l->stopped)
		loop_pass(l);
	l->stopped = false;
}

void loop_stop(struct loop *l)
{
	l->stopped = true;
}

void op_init(struct op *op, op_done *done)
{
	*op = (struct op){.done = done, .fd = -1};
}

void op_complete(struct op *op, int res, unsigned flags)
{
	check(op->armed);
	if (!(flags & OP_MORE))
		op->armed = op->cancelling = false;
	op->res = res;
	op->done(op, res, flags);
}

static void start(struct loop *l, struct op *op, enum op_kind kind, int fd)
{
	check(!op->armed && op->done);
	op->armed = true;
	op->kind = kind;
	op->fd = fd;
	l->calls->start(l, op);
}

void loop_cancel(struct loop *l, struct op *op)
{
	if (!op->armed || op->cancelling)
		return;
	op->cancelling = true;
	l->calls->cancel(l, op);
}

void loop_accept(struct loop *l, struct op *op, int fd)
{
	start(l, op, OP_ACCEPT, fd);
}

void loop_connect(struct loop *l, struct op *op, int fd, const struct sockaddr *addr,
                  socklen_t n)
{
	op->u.to.addr = addr;
	op->u.to.n = n;
	start(l, op, OP_CONNECT, fd);
}

void loop_recv(struct loop *l, struct op *op, int fd)
{
	start(l, op, OP_RECV, fd);
}

struct span loop_bytes(struct loop *l, const struct op *op)
{
	return loop_buf(l, op->buf_id, op->buf_n);
}

struct span loop_buf(struct loop *l, uint32_t buf_id, uint32_t n)
{
	return l->calls->buf(l, buf_id, n);
}

static void wake_starved(struct loop *l, unsigned max)
{
	struct link *first;

	while (max-- > 0 && (first = list_first(&l->starved))) {
		list_remove(first);
		list_add_end(&l->work[PHASE_WORK], first);
	}
	if (list_is_empty(&l->starved))
		timer_stop(l, &l->starved_timer);
}

static void on_starved_timer(struct timer *t)
{
	wake_starved(owner_of(t, struct loop, starved_timer), UINT32_MAX);
}

void loop_buf_release(struct loop *l, uint32_t buf_id)
{
	l->calls->release(l, buf_id);
	wake_starved(l, STARVED_AT_ONCE);
}

void loop_await_buf(struct loop *l, struct deferred *d)
{
	if (link_is_in(&d->link))
		return;
	list_add_end(&l->starved, &d->link);
	if (!timer_is_set(&l->starved_timer))
		timer_set(l, &l->starved_timer, STARVED_MS);
}

void loop_send(struct loop *l, struct op *op, int fd, const void *p, size_t n)
{
	op->u.io.out = p;
	op->u.io.n = n;
	start(l, op, OP_SEND, fd);
}

void loop_sendmsg(struct loop *l, struct op *op, int fd, struct msghdr *m)
{
	op->u.msg = m;
	start(l, op, OP_SENDMSG, fd);
}

void loop_recvmsg(struct loop *l, struct op *op, int fd, struct msghdr *m)
{
	op->u.msg = m;
	start(l, op, OP_RECVMSG, fd);
}

void loop_poll(struct loop *l, struct op *op, int fd, short events)
{
	op->want = (unsigned short)events;
	start(l, op, OP_POLL, fd);
}

void loop_pwrite(struct loop *l, struct op *op, int fd, const void *p, size_t n, off_t off,
                 bool dsync)
{
	op->u.io.out = p;
	op->u.io.n = n;
	op->u.io.off = off;
	op->want = dsync;
	start(l, op, OP_PWRITE, fd);
}

void loop_pread(struct loop *l, struct op *op, int fd, void *p, size_t n, off_t off)
{
	op->u.rd.in = p;
	op->u.rd.n = n;
	op->u.rd.off = off;
	start(l, op, OP_PREAD, fd);
}

void timer_init(struct timer *t, void (*fire)(struct timer *))
{
	heap_entry_init(&t->entry);
	t->fire = fire;
}

void timer_set(struct loop *l, struct timer *t, uint64_t ms_from_now)
{
	uint64_t now = clock_mono_ms();
	uint64_t left = UINT64_MAX / 1000 - now;  /* due in microseconds must fit, too */
	uint64_t due = now + (ms_from_now < left ? ms_from_now : left);

	if (heap_has(&t->entry))
		heap_move(&l->timers, &t->entry, due);
	else
		heap_add(&l->timers, &t->entry, due);
}

void timer_stop(struct loop *l, struct timer *t)
{
	heap_remove(&l->timers, &t->entry);
}

bool timer_is_set(const struct timer *t)
{
	return heap_has(&t->entry);
}

void deferred_init(struct deferred *d, void (*run)(struct deferred *))
{
	*d = (struct deferred){.run = run};
}

void loop_defer(struct loop *l, struct deferred *d, enum phase phase)
{
	if (!link_is_in(&d->link))
		list_add_end(&l->work[phase], &d->link);
}

void deferred_cancel(struct deferred *d)
{
	list_remove(&d->link);
}

static void on_signals(struct op *op, int res, unsigned flags)
{
	struct loop_signals    *s = owner_of(op, struct loop_signals, ready);
	struct signalfd_siginfo info;

	if (res < 0)                              /* cancelled: the loop is being freed */
		return;
	while (read(s->fd, &info, sizeof(info)) == (ssize_t)sizeof(info))
		s->on_signal(s->ctx, (int)info.ssi_signo);
	loop_poll(s->loop, &s->ready, s->fd, POLLIN);
}

void loop_signals(struct loop *l, const int *signos, void (*on_signal)(void *ctx, int signo),
                  void *ctx)
{
	struct loop_signals *s = mem_new(sizeof(*s));
	sigset_t             set;

	check(!l->signals);
	sigemptyset(&set);
	for (; *signos; signos++)
		sigaddset(&set, *signos);
	if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
		die_sys(111, "sigprocmask", "");
	*s = (struct loop_signals){.loop = l, .on_signal = on_signal, .ctx = ctx};
	s->fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
	if (s->fd < 0)
		die_sys(111, "signalfd", "");
	op_init(&s->ready, on_signals);
	l->signals = s;
	loop_poll(l, &s->ready, s->fd, POLLIN);
}
