/* The loop on epoll, for where io_uring is refused.
 *
 * A started op is on the list `fresh`; the next wait tries its system call before it sleeps.
 * On EAGAIN the op waits for its descriptor, which is registered edge-triggered: a descriptor
 * that was closed here but lives on in another process can then cause a stray event, never
 * a storm.  A descriptor has at most one reading and one writing op.
 *
 * File reads and writes go to one thread in the order they were started; it is made by the
 * first of them, blocks all signals, and touches nothing but the ops handed to it.  An
 * eventfd says that some are done. */
#include "core/loop.h"

#include "core/clock.h"
#include "core/file.h"
#include "core/log.h"
#include "core/pool.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#define EVENTS_AT_ONCE 512
#define ACCEPTS_A_TRY  64                         /* then others have their turn */
#define RECVS_A_TRY    4

struct fd_ops {
	struct op *in, *out;
	bool       in_registered;                 /* for the op that is in `in` */
};

struct syncer {
	pthread_t       thread;
	pthread_mutex_t lock;
	pthread_cond_t  wake;
	struct link     todo, done;               /* under the lock */
	bool            running, ending;
	int             event_fd;
};

struct epoller {
	struct loop    loop;
	int            fd;
	struct link    fresh, cancelled;
	struct fd_ops *fds;
	size_t         fds_n;
	struct syncer  syncer;
	char          *bufs;
	uint32_t      *bufs_free;                 /* a stack: the last one used is warm */
	uint32_t       bufs_n, bufs_free_n;
};

static struct epoller *epoller_of(struct loop *l)
{
	return owner_of(l, struct epoller, loop);
}

static bool is_file_op(const struct op *op)
{
	return op->kind == OP_PWRITE || op->kind == OP_PREAD;
}

static bool is_reading(const struct op *op)
{
	switch ((enum op_kind)op->kind) {
	case OP_ACCEPT:
	case OP_RECV:
	case OP_RECVMSG: return true;
	case OP_POLL:    return op->want & POLLIN;
	case OP_CONNECT:
	case OP_SEND:
	case OP_SENDMSG: return false;
	case OP_PWRITE:
	case OP_PREAD:   break;
	}
	unreachable();
}

static int result(ssize_t n)
{
	return n < 0 ? -errno : (int)n;
}

/* The sync thread. */

static int do_file_op(const struct op *op)
{
	struct iovec v;
	ssize_t      n;

	do {
		if (op->kind == OP_PREAD) {
			n = pread(op->fd, op->u.rd.in, op->u.rd.n, op->u.rd.off);
		} else {
			v = (struct iovec){(void *)op->u.io.out, op->u.io.n};
			n = pwritev2(op->fd, &v, 1, op->u.io.off, op->want ? RWF_DSYNC : 0);
		}
	} while (n < 0 && errno == EINTR);
	return result(n);
}

static void *syncer_main(void *arg)
{
	struct syncer *s = arg;
	struct link   *first;

	pthread_mutex_lock(&s->lock);
	for (;;) {
		struct op *op;
		uint64_t   one = 1;

		while (!(first = list_first(&s->todo)) && !s->ending)
			pthread_cond_wait(&s->wake, &s->lock);
		if (!first)
			break;
		list_remove(first);
		op = owner_of(first, struct op, link);
		pthread_mutex_unlock(&s->lock);
		op->res = do_file_op(op);
		pthread_mutex_lock(&s->lock);
		list_add_end(&s->done, &op->link);
		check(write(s->event_fd, &one, sizeof(one)) == sizeof(one));
	}
	pthread_mutex_unlock(&s->lock);
	return NULL;
}

static void syncer_begin(struct syncer *s)
{
	sigset_t all, old;
	int      error;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	error = pthread_create(&s->thread, NULL, syncer_main, s);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (error) {
		errno = error;
		die_sys(111, "sync thread", "");
	}
	s->running = true;
}

static void syncer_start(struct syncer *s, struct op *op)
{
	if (!s->running)
		syncer_begin(s);
	pthread_mutex_lock(&s->lock);
	list_add_end(&s->todo, &op->link);
	pthread_cond_signal(&s->wake);
	pthread_mutex_unlock(&s->lock);
}

static void syncer_init(struct syncer *s)
{
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->wake, NULL);
	list_init(&s->todo);
	list_init(&s->done);
	s->event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (s->event_fd < 0)
		die_sys(111, "eventfd", "");
}

static void syncer_fini(struct syncer *s)
{
	if (s->running) {
		pthread_mutex_lock(&s->lock);
		s->ending = true;
		pthread_cond_signal(&s->wake);
		pthread_mutex_unlock(&s->lock);
		pthread_join(s->thread, NULL);
	}
	close(s->event_fd);
	pthread_cond_destroy(&s->wake);
	pthread_mutex_destroy(&s->lock);
}

static struct op *syncer_next_done(struct syncer *s)
{
	struct link *first;

	pthread_mutex_lock(&s->lock);
	first = list_first(&s->done);
	if (first)
		list_remove(first);
	pthread_mutex_unlock(&s->lock);
	return first ? owner_of(first, struct op, link) : NULL;
}

static void complete_file_ops(struct epoller *e)
{
	uint64_t   count;
	struct op *op;

	if (read(e->syncer.event_fd, &count, sizeof(count)) < 0)
		return;                           /* not yet */
	while ((op = syncer_next_done(&e->syncer)))
		op_complete(op, op->res, 0);
}

/* Readiness. */

static struct fd_ops *fd_ops_of(struct epoller *e, int fd)
{
	check(fd >= 0);
	if ((size_t)fd >= e->fds_n) {
		size_t n = e->fds_n ? e->fds_n : 64;

		while (n <= (size_t)fd)
			n *= 2;
		e->fds = mem_grow(e->fds, e->fds_n * sizeof(*e->fds), n * sizeof(*e->fds));
		e->fds_n = n;
	}
	return &e->fds[fd];
}

static void epoll_start(struct loop *l, struct op *op)
{
	struct epoller *e = epoller_of(l);
	struct fd_ops  *f;

	if (is_file_op(op)) {
		syncer_start(&e->syncer, op);
		return;
	}
	if (op->kind == OP_ACCEPT || op->kind == OP_CONNECT)
		fd_nonblock(op->fd);              /* the others say so in each call */
	f = fd_ops_of(e, op->fd);
	if (is_reading(op)) {
		check(!f->in);
		f->in = op;
		f->in_registered = false;
	} else {
		check(!f->out);
		f->out = op;
	}
	list_add_end(&e->fresh, &op->link);
}

static void finish(struct epoller *e, struct op *op, int res)
{
	struct fd_ops *f = fd_ops_of(e, op->fd);

	if (f->in == op)
		f->in = NULL;
	else
		f->out = NULL;
	list_remove(&op->link);
	op_complete(op, res, 0);
}

/* A file op is not cut short: it completes with its true result. */
static void epoll_cancel(struct loop *l, struct op *op)
{
	struct epoller *e = epoller_of(l);

	if (is_file_op(op))
		return;
	list_remove(&op->link);
	list_add_end(&e->cancelled, &op->link);
}

/* True: it can't even wait, and has been completed with the reason. */
static bool await(struct epoller *e, struct op *op)
{
	struct fd_ops     *f = fd_ops_of(e, op->fd);
	struct epoll_event ev = {.data.fd = op->fd};

	if (f->in == op && f->in_registered)
		return false;
	ev.events = EPOLLET | (f->in ? EPOLLIN | EPOLLRDHUP : 0) | (f->out ? EPOLLOUT : 0);
	if (epoll_ctl(e->fd, EPOLL_CTL_MOD, op->fd, &ev) < 0 &&
	    (errno != ENOENT || epoll_ctl(e->fd, EPOLL_CTL_ADD, op->fd, &ev) < 0)) {
		finish(e, op, -errno);
		return true;
	}
	f->in_registered = f->in != NULL;
	return false;
}

static int try_connect(struct op *op)
{
	int res = result(connect(op->fd, op->u.to.addr, op->u.to.n));

	if (res == -EINPROGRESS || res == -EALREADY)
		return -EAGAIN;
	if (res == -EAGAIN)                       /* a unix backlog: no event would come */
		return -ECONNREFUSED;
	return res == -EISCONN ? 0 : res;
}

static int try_poll(struct op *op)
{
	struct pollfd p = {.fd = op->fd, .events = (short)op->want};
	int           n = poll(&p, 1, 0);

	if (n < 0)
		return -errno;
	return n == 0 ? -EAGAIN : p.revents;
}

/* Without a free buffer the answer depends on whether one is needed. */
static int try_recv(struct epoller *e, struct op *op)
{
	uint32_t id;
	char     probe, *at;
	int      n;

	if (e->bufs_free_n == 0) {
		n = result(recv(op->fd, &probe, 1, MSG_PEEK | MSG_DONTWAIT));
		return n > 0 ? -ENOBUFS : n;
	}
	id = e->bufs_free[e->bufs_free_n - 1];
	at = e->bufs + (size_t)id * LOOP_BUF_SIZE;
	n = result(recv(op->fd, at, LOOP_BUF_SIZE, MSG_DONTWAIT));
	if (n > 0) {
		e->bufs_free_n--;
		op->buf_id = id;
		op->buf_n = (uint32_t)n;
	}
	return n;
}

static int try_once(struct epoller *e, struct op *op)
{
	const int sending = MSG_NOSIGNAL | MSG_DONTWAIT, receiving = MSG_CMSG_CLOEXEC | MSG_DONTWAIT;
	const int accepted = SOCK_CLOEXEC | SOCK_NONBLOCK;

	switch ((enum op_kind)op->kind) {
	case OP_ACCEPT:  return result(accept4(op->fd, NULL, NULL, accepted));
	case OP_CONNECT: return try_connect(op);
	case OP_RECV:    return try_recv(e, op);
	case OP_SEND:    return result(send(op->fd, op->u.io.out, op->u.io.n, sending));
	case OP_SENDMSG: return result(sendmsg(op->fd, op->u.msg, sending));
	case OP_RECVMSG: return result(recvmsg(op->fd, op->u.msg, receiving));
	case OP_POLL:    return try_poll(op);
	case OP_PWRITE:
	case OP_PREAD:   break;
	}
	unreachable();
}

/* A multishot op that got something is fresh again before its handler runs: there it can be
 * cancelled like any other. */
static bool try_more(struct epoller *e, struct op *op, int turns)
{
	bool any = false;

	for (; turns > 0; turns--) {
		int res = try_once(e, op);

		if (res == -EINTR)
			continue;
		if (res == -EAGAIN) {
			list_remove(&op->link);
			return await(e, op) || any;
		}
		if (res < 0 || (res == 0 && op->kind == OP_RECV)) {
			finish(e, op, res);
			return true;
		}
		if (!link_is_in(&op->link))
			list_add_end(&e->fresh, &op->link);
		any = true;
		op_complete(op, res, OP_MORE);
		if (!op->armed || op->cancelling)
			return true;
	}
	return true;
}

/* True: something was completed. */
static bool try_op(struct epoller *e, struct op *op)
{
	int res;

	if (op->kind == OP_ACCEPT)
		return try_more(e, op, ACCEPTS_A_TRY);
	if (op->kind == OP_RECV)
		return try_more(e, op, RECVS_A_TRY);
	do
		res = try_once(e, op);
	while (res == -EINTR);
	if (res == -EAGAIN)
		return await(e, op);
	finish(e, op, res);
	return true;
}

static void take_all(struct link *from, struct link *to)
{
	struct link *first;

	list_init(to);
	while ((first = list_first(from))) {
		list_remove(first);
		list_add_end(to, first);
	}
}

/* Handlers may cancel ops of the list at hand: they leave it by themselves. */
static bool try_all(struct epoller *e, struct link *ops)
{
	struct link *first;
	bool         any = false;

	while ((first = list_first(ops))) {
		list_remove(first);
		any |= try_op(e, owner_of(first, struct op, link));
	}
	return any;
}

static bool complete_cancelled(struct epoller *e)
{
	struct link  now, *first;
	bool         any = false;

	take_all(&e->cancelled, &now);
	while ((first = list_first(&now))) {
		finish(e, owner_of(first, struct op, link), -ECANCELED);
		any = true;
	}
	return any;
}

static void take_ready(struct epoller *e, const struct epoll_event *ev, struct link *ready)
{
	struct fd_ops *f = fd_ops_of(e, ev->data.fd);
	bool           bad = ev->events & (EPOLLERR | EPOLLHUP);

	if (f->in && !link_is_in(&f->in->link) && (bad || ev->events & (EPOLLIN | EPOLLRDHUP)))
		list_add_end(ready, &f->in->link);
	if (f->out && !link_is_in(&f->out->link) && (bad || ev->events & EPOLLOUT))
		list_add_end(ready, &f->out->link);
}

static void sleep_and_run(struct epoller *e, int64_t ms)
{
	struct epoll_event events[EVENTS_AT_ONCE];
	struct link        ready;
	bool               files = false;
	int                n;

	n = epoll_wait(e->fd, events, EVENTS_AT_ONCE, ms > INT_MAX ? INT_MAX : (int)ms);
	if (n < 0 && errno != EINTR)
		die_sys(111, "epoll_wait", "");
	clock_refresh();
	list_init(&ready);
	for (int i = 0; i < n; i++) {
		if (events[i].data.fd == e->syncer.event_fd)
			files = true;
		else
			take_ready(e, &events[i], &ready);
	}
	if (files)
		complete_file_ops(e);
	try_all(e, &ready);
}

static void epoll_wait_pass(struct loop *l, int64_t ms)
{
	struct epoller *e = epoller_of(l);
	struct link     now;
	bool            any;

	clock_refresh();
	any = complete_cancelled(e);
	take_all(&e->fresh, &now);
	any |= try_all(e, &now);
	if (any || !list_is_empty(&e->fresh) || !list_is_empty(&e->cancelled))
		ms = 0;
	sleep_and_run(e, ms);
}

static void epoll_release(struct loop *l, uint32_t id)
{
	struct epoller *e = epoller_of(l);

	check(id < e->bufs_n && e->bufs_free_n < e->bufs_n);
	e->bufs_free[e->bufs_free_n++] = id;
}

static struct span epoll_buf(struct loop *l, uint32_t id, uint32_t n)
{
	struct epoller *e = epoller_of(l);

	check(id < e->bufs_n && n <= LOOP_BUF_SIZE);
	return span_of(e->bufs + (size_t)id * LOOP_BUF_SIZE, n);
}

static void epoll_free(struct loop *l)
{
	struct epoller *e = epoller_of(l);

	syncer_fini(&e->syncer);
	close(e->fd);
	if (e->bufs)
		munmap(e->bufs, (size_t)e->bufs_n * LOOP_BUF_SIZE);
	mem_free(e->bufs_free);
	mem_free(e->fds);
	mem_free(e);
}

static const struct loop_calls epoll_calls = {
	.name = "epoll",
	.start = epoll_start,
	.cancel = epoll_cancel,
	.wait = epoll_wait_pass,
	.release = epoll_release,
	.buf = epoll_buf,
	.free = epoll_free,
};

static void add_bufs(struct epoller *e, uint32_t n)
{
	e->bufs = mmap(NULL, (size_t)n * LOOP_BUF_SIZE, PROT_READ | PROT_WRITE,
	               MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (e->bufs == MAP_FAILED)
		die_sys(111, "receive buffers", "");
	e->bufs_free = mem_new(n * sizeof(*e->bufs_free));
	e->bufs_n = n;
	while (n-- > 0)
		e->bufs_free[e->bufs_free_n++] = n;
}

struct loop *loop_epoll_new(unsigned recv_bufs)
{
	struct epoller    *e = mem_new(sizeof(*e));
	struct epoll_event ev = {.events = EPOLLIN};

	loop_init(&e->loop, &epoll_calls, NULL);
	list_init(&e->fresh);
	list_init(&e->cancelled);
	e->fd = epoll_create1(EPOLL_CLOEXEC);
	if (e->fd < 0)
		die_sys(111, "epoll", "");
	syncer_init(&e->syncer);
	ev.data.fd = e->syncer.event_fd;
	if (epoll_ctl(e->fd, EPOLL_CTL_ADD, e->syncer.event_fd, &ev) < 0)
		die_sys(111, "epoll", "");
	if (recv_bufs > 0)
		add_bufs(e, recv_bufs);
	return &e->loop;
}
