/* The ways a stream ends all meet in lose(), which cancels what is in flight; finish() runs
 * at the end of a pass, once nothing is.  Every handler of an op that finds `dropping` set
 * does nothing but ask for that. */
#include "core/stream.h"

#include "core/pool.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

/* A received buffer of which the conversation has taken some.  More than STREAM_HELD_MAX can
 * be there for a moment: receiving stops one turn after we ask. */
struct stream_held {
	struct stream_held *next;
	uint32_t            id, n, taken;
};

#define HELD_POOL_MAX 65536                       /* there are no more buffer ids in a loop */

static op_done on_recv, on_sent, on_connected;
static void    on_deadline(struct timer *t);
static void    flush(struct deferred *d);
static void    offer(struct deferred *d);

static struct pool held_pool;

void stream_init(struct stream *st, struct loop *l, const struct stream_calls *calls)
{
	*st = (struct stream){.loop = l, .calls = calls, .fd = -1};
	op_init(&st->recv, on_recv);
	op_init(&st->send, on_sent);
	op_init(&st->dial, on_connected);
	outbuf_init(&st->out);
	timer_init(&st->deadline, on_deadline);
	deferred_init(&st->flush, flush);
	deferred_init(&st->offer, offer);
	if (!held_pool.size)
		pool_init(&held_pool, sizeof(struct stream_held), HELD_POOL_MAX);
}

static void flush_later(struct stream *st)
{
	loop_defer(st->loop, &st->flush, PHASE_FLUSH);
}

static void hold(struct stream *st, uint32_t id, uint32_t n)
{
	struct stream_held *h = pool_get(&held_pool);

	check(h);
	*h = (struct stream_held){.id = id, .n = n};
	if (st->held)
		st->held_last->next = h;
	else
		st->held = h;
	st->held_last = h;
	st->held_n++;
}

static void release_first(struct stream *st)
{
	struct stream_held *h = st->held;

	st->held = h->next;
	st->held_n--;
	loop_buf_release(st->loop, h->id);
	pool_put(&held_pool, h);
}

static void release_all(struct stream *st)
{
	while (st->held)
		release_first(st);
}

/* While bytes are being offered their buffer must stay; offer_held() releases it then. */
static void discard_input(struct stream *st)
{
	if (!st->offering)
		release_all(st);
}

static void lose(struct stream *st, enum lost why, int error)
{
	if (st->dropping)
		return;
	st->dropping = true;
	st->why = why;
	st->error = error;
	timer_stop(st->loop, &st->deadline);
	deferred_cancel(&st->offer);
	loop_cancel(st->loop, &st->dial);
	loop_cancel(st->loop, &st->recv);
	loop_cancel(st->loop, &st->send);
	discard_input(st);
	flush_later(st);
}

static void finish(struct stream *st)
{
	if (st->dial.armed || st->recv.armed || st->send.armed)
		return;                           /* the last of them asks again */
	check(!st->held && !st->offering);
	deferred_cancel(&st->offer);
	deferred_cancel(&st->flush);
	timer_stop(st->loop, &st->deadline);
	if (st->fd >= 0)
		close(st->fd);
	st->fd = -1;
	outbuf_fini(&st->out);
	st->calls->lost(st, st->why, st->error);
}

static void want_recv(struct stream *st)
{
	if (st->dropping || st->connecting || st->eof || st->recv.armed ||
	    st->held_n >= STREAM_HELD_MAX)
		return;
	loop_recv(st->loop, &st->recv, st->fd);
}

/* After a close the peer's end of file is what we linger for. */
static void maybe_closed(struct stream *st)
{
	if (st->closing && st->shut && st->eof)
		lose(st, LOST_CLOSED, 0);
}

static void tell_eof(struct stream *st)
{
	if (!st->eof || st->eof_told || st->held || st->dropping || st->closing)
		return;
	st->eof_told = true;
	if (st->calls->eof)
		st->calls->eof(st);
	else
		lose(st, LOST_EOF, 0);
}

/* True: all of the first held buffer was taken, and there may be more to offer. */
static bool offer_first(struct stream *st)
{
	struct stream_held *h = st->held;
	struct span         in = span_from(loop_buf(st->loop, h->id, h->n), h->taken);
	size_t              before = in.n;

	st->offering = true;
	st->calls->bytes(st, &in);
	st->offering = false;
	check(in.n <= before);
	if (st->dropping || st->closing) {
		release_all(st);
		return false;
	}
	h->taken += (uint32_t)(before - in.n);
	if (in.n > 0)
		return false;
	release_first(st);
	return true;
}

static void offer_held(struct stream *st)
{
	while (st->held && offer_first(st))
		;
	tell_eof(st);
	if (st->held_n >= STREAM_HELD_MAX)
		loop_cancel(st->loop, &st->recv);
	want_recv(st);
}

/* Runs after stream_again(), and where receiving waited for a free buffer. */
static void offer(struct deferred *d)
{
	struct stream *st = owner_of(d, struct stream, offer);

	if (st->dropping)
		return;
	if (st->again) {
		st->again = false;
		offer_held(st);
	}
	want_recv(st);
}

static void got_bytes(struct stream *st)
{
	bool is_blocked = st->held != NULL;

	if (st->dropping || st->closing) {
		loop_buf_release(st->loop, st->recv.buf_id);
		return;
	}
	hold(st, st->recv.buf_id, st->recv.buf_n);
	if (is_blocked && st->held_n >= STREAM_HELD_MAX)
		loop_cancel(st->loop, &st->recv);
	else if (!is_blocked)
		offer_held(st);
}

static void on_recv(struct op *op, int res, unsigned flags)
{
	struct stream *st = owner_of(op, struct stream, recv);

	if (res > 0)
		got_bytes(st);
	if (st->dropping) {
		flush_later(st);
		return;
	}
	if (res == 0) {
		st->eof = true;
		tell_eof(st);
		maybe_closed(st);
	} else if (res == -ENOBUFS) {
		loop_await_buf(st->loop, &st->offer);
	} else if (res > 0 || res == -ECANCELED || res == -EAGAIN || res == -EINTR) {
		want_recv(st);
	} else if (st->shut) {
		lose(st, LOST_CLOSED, 0);         /* we had said everything */
	} else {
		lose(st, LOST_ERROR, -res);
	}
}

/* Everything is said: tell the peer, and wait for its end no longer than a while. */
static void shut_down(struct stream *st)
{
	if (st->shut)
		return;
	st->shut = true;
	shutdown(st->fd, SHUT_WR);
	timer_set(st->loop, &st->deadline, STREAM_LINGER_MS);
	maybe_closed(st);
	want_recv(st);
}

static void send_some(struct stream *st)
{
	int n = outbuf_iov(&st->out, st->u.iov, STREAM_IOV);

	if (n == 0) {                             /* nothing but empty chunks */
		outbuf_fini(&st->out);
		return;
	}
	st->msg = (struct msghdr){.msg_iov = st->u.iov, .msg_iovlen = (size_t)n};
	loop_sendmsg(st->loop, &st->send, st->fd, &st->msg);
}

static void flush(struct deferred *d)
{
	struct stream *st = owner_of(d, struct stream, flush);

	if (st->dropping) {
		finish(st);
		return;
	}
	if (outbuf_full(&st->out))
		st->was_full = true;
	if (st->connecting || st->send.armed || st->fd < 0)
		return;
	if (st->shut)
		outbuf_fini(&st->out);            /* said after the end */
	else if (st->out.n > 0)
		send_some(st);
	else if (st->closing)
		shut_down(st);
}

static void on_sent(struct op *op, int res, unsigned flags)
{
	struct stream *st = owner_of(op, struct stream, send);

	flush_later(st);
	if (st->dropping)
		return;
	if (res < 0 && res != -EAGAIN && res != -EINTR) {
		lose(st, LOST_ERROR, -res);
		return;
	}
	if (outbuf_full(&st->out))
		st->was_full = true;
	outbuf_sent(&st->out, res > 0 ? (size_t)res : 0);
	if (!st->was_full || st->out.n >= OUTBUF_FULL / 2)
		return;
	st->was_full = false;
	if (st->calls->room && !st->closing)
		st->calls->room(st);
}

void stream_take(struct stream *st, int fd)
{
	int one = 1;

	check(fd >= 0 && st->fd < 0);
	st->fd = fd;
	/* What is said in a pass leaves in one piece anyway; a unix socket refuses, rightly. */
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	want_recv(st);
	if (st->out.n > 0)
		flush_later(st);
}

static socklen_t addr_n(const struct sockaddr *a)
{
	switch (a->sa_family) {
	case AF_INET:  return sizeof(struct sockaddr_in);
	case AF_INET6: return sizeof(struct sockaddr_in6);
	case AF_UNIX:  return sizeof(struct sockaddr_un);
	}
	return sizeof(struct sockaddr);
}

/* 0, or the errno of what failed. */
static int make_socket(struct stream *st, int family, const struct sockaddr *bind_to)
{
	int one = 1;

	st->fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (st->fd < 0)
		return errno;
	setsockopt(st->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (!bind_to)
		return 0;
	/* Else the port would be taken now, and not shared by connections to other hosts. */
	setsockopt(st->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof(one));
	return bind(st->fd, bind_to, addr_n(bind_to)) < 0 ? errno : 0;
}

void stream_connect(struct stream *st, const struct sockaddr *to, socklen_t n,
                    const struct sockaddr *bind_to)
{
	int error;

	check(st->fd < 0 && n <= sizeof(st->u.to));
	error = make_socket(st, to->sa_family, bind_to);
	if (error) {
		lose(st, LOST_ERROR, error);
		return;
	}
	memcpy(&st->u.to, to, n);
	st->connecting = true;
	loop_connect(st->loop, &st->dial, st->fd, (struct sockaddr *)&st->u.to, n);
}

static void on_connected(struct op *op, int res, unsigned flags)
{
	struct stream *st = owner_of(op, struct stream, dial);

	st->connecting = false;
	flush_later(st);
	if (st->dropping)
		return;
	if (res < 0) {
		lose(st, LOST_ERROR, -res);
		return;
	}
	want_recv(st);
	if (st->calls->connected)
		st->calls->connected(st);
}

struct outbuf *stream_out(struct stream *st)
{
	flush_later(st);
	return &st->out;
}

void stream_again(struct stream *st)
{
	if (st->dropping || st->closing || st->fd < 0)
		return;
	st->again = true;
	deferred_cancel(&st->offer);              /* it may be waiting for a buffer */
	loop_defer(st->loop, &st->offer, PHASE_WORK);
}

void stream_wait(struct stream *st, uint64_t ms)
{
	if (st->dropping || st->closing)
		return;                           /* the close has its own */
	if (ms == 0)
		timer_stop(st->loop, &st->deadline);
	else
		timer_set(st->loop, &st->deadline, ms);
}

static void on_deadline(struct timer *t)
{
	struct stream *st = owner_of(t, struct stream, deadline);

	if (st->shut)
		lose(st, LOST_CLOSED, 0);
	else
		lose(st, LOST_DEADLINE, ETIMEDOUT);
}

void stream_close(struct stream *st)
{
	if (st->dropping || st->closing)
		return;
	if (st->connecting || st->fd < 0) {       /* nobody is there to be told anything */
		lose(st, LOST_CLOSED, 0);
		return;
	}
	st->closing = true;
	discard_input(st);
	if (!timer_is_set(&st->deadline))
		timer_set(st->loop, &st->deadline, STREAM_FLUSH_MS);
	flush_later(st);
	want_recv(st);                            /* to hear of its end */
}

void stream_drop(struct stream *st)
{
	lose(st, LOST_CLOSED, 0);
}
