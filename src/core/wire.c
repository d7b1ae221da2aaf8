/* Receiving: one recvmsg asks for as much as the last ones filled, between IN_MIN and IN_MAX,
 * and always for the rest of the frame at hand; every whole frame in the buffer is handled,
 * then the rest of the bytes moves to the front.  The kernel hands a descriptor over with the
 * first byte of the frame it came with, so the oldest received descriptor belongs to the next
 * frame that says it has one.
 *
 * Sending: a sendmsg never reaches past the next frame that carries a descriptor, so that
 * each descriptor leaves with the first byte of its frame. */
#include "core/wire.h"

#include "core/log.h"
#include "core/pool.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define IN_MIN      4096                          /* what an idle wire holds */
#define IN_MAX      (256 * 1024)
#define SOCKET_BUF  (1024 * 1024)                 /* asked for; the kernel may give less */

static_check(sizeof(struct wire_head) % WIRE_ALIGN == 0);

struct wire_fd {
	struct wire_fd *next;
	uint64_t        at;                       /* its frame's place in all bytes queued */
	int             fd;
};

static op_done on_recv, on_sent;
static void    flush(struct deferred *d);
static void    resume(struct deferred *d);
static void    want_recv(struct wire *w);

static size_t padded(size_t n)
{
	return (n + WIRE_ALIGN - 1) / WIRE_ALIGN * WIRE_ALIGN;
}

static void widen(int sock, int forced, int plain)
{
	int n = SOCKET_BUF;

	if (setsockopt(sock, SOL_SOCKET, forced, &n, sizeof(n)) < 0)
		setsockopt(sock, SOL_SOCKET, plain, &n, sizeof(n));
}

void wire_init(struct wire *w, struct loop *l, int sock, const char *peer,
               const struct wire_handler *handlers, size_t handlers_n,
               void (*lost)(struct wire *w), void *ctx)
{
	*w = (struct wire){.loop = l, .handlers = handlers, .handlers_n = handlers_n};
	w->peer = peer;
	w->ctx = ctx;
	w->sock = sock;
	w->lost = lost;
	w->in_want = IN_MIN;
	op_init(&w->recv, on_recv);
	op_init(&w->send, on_sent);
	buf_init(&w->in, WIRE_FRAME_MAX + IN_MAX);
	outbuf_init(&w->out);
	deferred_init(&w->flush, flush);
	deferred_init(&w->resume, resume);
	widen(sock, SO_SNDBUFFORCE, SO_SNDBUF);
	want_recv(w);
}

static void flush_later(struct wire *w)
{
	loop_defer(w->loop, &w->flush, PHASE_FLUSH);
}

static void drop_first_fd(struct wire *w)
{
	struct wire_fd *f = w->fds;

	w->fds = f->next;
	close(f->fd);
	mem_free(f);
}

static void drop_output(struct wire *w)
{
	check(!w->send.armed);
	while (w->fds)
		drop_first_fd(w);
	outbuf_fini(&w->out);
}

void wire_close(struct wire *w)
{
	if (w->closing)
		return;
	w->closing = true;
	loop_cancel(w->loop, &w->recv);
	loop_cancel(w->loop, &w->send);
	deferred_cancel(&w->resume);
	flush_later(w);
}

static void finish(struct wire *w)
{
	if (w->recv.armed || w->send.armed)
		return;                           /* the last of them asks again */
	check(!w->handling);
	deferred_cancel(&w->resume);
	deferred_cancel(&w->flush);
	drop_output(w);
	while (w->got_n > 0)
		close(w->got_fds[--w->got_n]);
	buf_free(&w->in);
	close(w->sock);
	w->sock = -1;
	w->lost(w);
}

/* A peer of ours that is wrong: said once, for the administrator, and the end. */
static void garbage(struct wire *w, const char *what, unsigned type)
{
	char text[16];

	snprintf(text, sizeof(text), "%u", type);
	log_note("wire", w->peer, "garbage", what, "type", text, NULL);
	wire_close(w);
}

/* Receiving. */

static size_t in_room(const struct wire *w)
{
	struct wire_head h;
	size_t           rest;

	if (w->in.n < sizeof(h))
		return w->in_want;
	memcpy(&h, w->in.p, sizeof(h));
	rest = padded(h.n) - w->in.n;             /* handle_all() has seen that h.n is sound */
	return rest > w->in_want ? rest : w->in_want;
}

static void want_recv(struct wire *w)
{
	size_t room;
	char  *at;

	if (w->closing || w->paused || w->eof || w->recv.armed)
		return;
	room = in_room(w);
	at = buf_room(&w->in, room);
	if (!at)
		die(111, "out of memory: %zu bytes", room);
	w->in_iov = (struct iovec){at, room};
	w->in_msg = (struct msghdr){.msg_iov = &w->in_iov, .msg_iovlen = 1};
	w->in_msg.msg_control = w->in_ctl;
	w->in_msg.msg_controllen = sizeof(w->in_ctl);
	loop_recvmsg(w->loop, &w->recv, w->sock, &w->in_msg);
}

/* False: more than can be meant. */
static bool take_fds(const struct msghdr *m, int *fds, int max, int *n)
{
	bool ok = !(m->msg_flags & MSG_CTRUNC);

	for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR((struct msghdr *)m, c)) {
		size_t got = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t i = 0; i < got; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
			if (*n < max) {
				fds[(*n)++] = fd;
			} else {
				close(fd);
				ok = false;
			}
		}
	}
	return ok;
}

static const struct wire_handler *handler_of(const struct wire *w, uint16_t type)
{
	for (size_t i = 0; i < w->handlers_n; i++)
		if (w->handlers[i].type == type)
			return &w->handlers[i];
	return NULL;
}

static int next_got_fd(struct wire *w)
{
	int fd = w->got_fds[0];

	w->got_n--;
	memmove(w->got_fds, w->got_fds + 1, (size_t)w->got_n * sizeof(int));
	return fd;
}

/* frame: head, body and tail, without padding. */
static void handle(struct wire *w, const struct wire_head *h, struct span frame)
{
	const struct wire_handler *on = handler_of(w, h->type);
	struct wire_in             in = {.fd = -1};
	size_t                     body_end;

	if (!on) {
		garbage(w, "unknown type", h->type);
		return;
	}
	body_end = sizeof(*h) + on->body_n;
	if (frame.n < body_end || (frame.n > body_end && !on->tail)) {
		garbage(w, "wrong size", h->type);
		return;
	}
	if (h->fds > (on->fd ? 1 : 0) || h->fds > w->got_n) {
		garbage(w, "wrong descriptors", h->type);
		return;
	}
	in.body = frame.p + sizeof(*h);
	in.tail = span_from(frame, body_end);
	if (h->fds)
		in.fd = next_got_fd(w);
	w->handling = true;
	on->on(w, &in);
	w->handling = false;
}

/* Every whole frame, until the owner pauses or closes. */
static void handle_all(struct wire *w)
{
	size_t at = 0;

	while (!w->paused && !w->closing && w->in.n - at >= sizeof(struct wire_head)) {
		struct wire_head h;

		memcpy(&h, w->in.p + at, sizeof(h));
		if (h.n < sizeof(h) || h.n > WIRE_FRAME_MAX) {
			garbage(w, "wrong size", h.type);
			break;
		}
		if (w->in.n - at < padded(h.n))
			break;
		handle(w, &h, span_of(w->in.p + at, h.n));
		at += padded(h.n);
	}
	buf_drop_front(&w->in, at);
	if (w->in.n == 0 && w->in.cap > 2 * w->in_want)
		buf_free(&w->in);                 /* hold no more than the next receive wants */
}

/* The peer is gone and everything it said has been handled. */
static void maybe_over(struct wire *w)
{
	if (w->eof && !w->paused && !w->closing) {
		if (w->in.n > 0)
			log_note("wire", w->peer, "garbage", "half a frame at the end", NULL);
		wire_close(w);
	}
}

static void adapt(struct wire *w, size_t got)
{
	if (got >= w->in_want && w->in_want < IN_MAX)
		w->in_want *= 4;
	else if (got < w->in_want / 8 && w->in_want > IN_MIN)
		w->in_want /= 2;
}

static void on_recv(struct op *op, int res, unsigned flags)
{
	struct wire *w = owner_of(op, struct wire, recv);

	if (res > 0) {
		bool ok = take_fds(&w->in_msg, w->got_fds, WIRE_FDS, &w->got_n);

		w->in.n += (size_t)res;
		adapt(w, (size_t)res);
		if (!ok && !w->closing)
			garbage(w, "too many descriptors", 0);
	}
	if (w->closing) {
		flush_later(w);
		return;
	}
	if (res == 0 || (res < 0 && res != -EINTR && res != -EAGAIN && res != -ECANCELED))
		w->eof = true;
	handle_all(w);
	maybe_over(w);
	want_recv(w);
}

void wire_pause(struct wire *w)
{
	w->paused = true;
}

void wire_resume(struct wire *w)
{
	if (!w->paused || w->closing)
		return;
	w->paused = false;
	loop_defer(w->loop, &w->resume, PHASE_WORK);
}

static void resume(struct deferred *d)
{
	struct wire *w = owner_of(d, struct wire, resume);

	if (w->recv.armed)                        /* then no whole frame was left behind */
		return;
	handle_all(w);
	maybe_over(w);
	want_recv(w);
}

/* Sending. */

bool wire_full(const struct wire *w)
{
	return w->out.n >= WIRE_FULL;
}

static void remember_fd(struct wire *w, int fd)
{
	struct wire_fd *f = mem_new(sizeof(*f));

	*f = (struct wire_fd){.at = w->queued, .fd = fd};
	if (w->fds)
		w->fds_last->next = f;
	else
		w->fds = f;
	w->fds_last = f;
}

struct frame {
	uint16_t    type;
	struct span body, tail, more;
};

static void queue(struct wire *w, const struct frame *f, int fd)
{
	static const char zeros[WIRE_ALIGN];
	size_t            n = sizeof(struct wire_head) + f->body.n + f->tail.n + f->more.n;
	struct wire_head  h = {.n = (uint32_t)n, .type = f->type, .fds = fd >= 0};

	check(n <= WIRE_FRAME_MAX);
	if (w->closing || w->deaf) {              /* nobody reads it; lost() is on its way */
		if (fd >= 0)
			close(fd);
		return;
	}
	if (fd >= 0)
		remember_fd(w, fd);
	out_span(&w->out, span_of(&h, sizeof(h)));
	out_span(&w->out, f->body);
	out_span(&w->out, f->tail);
	out_span(&w->out, f->more);
	out_span(&w->out, span_of(zeros, padded(n) - n));
	w->queued += padded(n);
	if (wire_full(w))
		w->was_full = true;
	flush_later(w);
}

void wire_send(struct wire *w, uint16_t type, const void *body, size_t body_n, struct span tail)
{
	struct frame f = {.type = type, .body = span_of(body, body_n), .tail = tail};

	queue(w, &f, -1);
}

void wire_send2(struct wire *w, uint16_t type, const void *body, size_t body_n,
                struct span tail, struct span more)
{
	struct frame f = {type, span_of(body, body_n), tail, more};

	queue(w, &f, -1);
}

void wire_send_fd(struct wire *w, uint16_t type, const void *body, size_t body_n,
                  struct span tail, int fd)
{
	struct frame f = {.type = type, .body = span_of(body, body_n), .tail = tail};

	check(fd >= 0);
	queue(w, &f, fd);
}

static void attach_fd(struct msghdr *m, char *ctl, int fd)
{
	struct cmsghdr *c;

	m->msg_control = ctl;
	m->msg_controllen = CMSG_SPACE(sizeof(int));
	memset(ctl, 0, m->msg_controllen);
	c = CMSG_FIRSTHDR(m);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &fd, sizeof(int));
}

/* Cuts the pieces to be sent to n bytes. */
static int cut_iov(struct iovec *v, int pieces, uint64_t n)
{
	for (int i = 0; i < pieces; i++) {
		if (v[i].iov_len >= n) {
			v[i].iov_len = (size_t)n;
			return i + 1;
		}
		n -= v[i].iov_len;
	}
	return pieces;
}

static void send_some(struct wire *w)
{
	const struct wire_fd *next = w->fds;
	int                   n = outbuf_iov(&w->out, w->out_iov, WIRE_IOV);

	w->out_msg = (struct msghdr){.msg_iov = w->out_iov};
	w->sending_fd = next && next->at == w->sent;
	if (w->sending_fd) {
		attach_fd(&w->out_msg, w->out_ctl, next->fd);
		next = next->next;
	}
	if (next)
		n = cut_iov(w->out_iov, n, next->at - w->sent);
	w->out_msg.msg_iovlen = (size_t)n;
	loop_sendmsg(w->loop, &w->send, w->sock, &w->out_msg);
}

static void flush(struct deferred *d)
{
	struct wire *w = owner_of(d, struct wire, flush);

	if (w->closing) {
		finish(w);
		return;
	}
	if (!w->send.armed && w->out.n > 0)
		send_some(w);
}

static void on_sent(struct op *op, int res, unsigned flags)
{
	struct wire *w = owner_of(op, struct wire, send);

	flush_later(w);
	if (w->closing)
		return;
	if (res < 0 && res != -EAGAIN && res != -EINTR) {
		w->deaf = true;                   /* what it said before is still to be read */
		drop_output(w);
		return;
	}
	if (res <= 0)
		return;
	w->sent += (size_t)res;
	outbuf_sent(&w->out, (size_t)res);
	if (w->sending_fd)
		drop_first_fd(w);
	if (!w->was_full || w->out.n >= WIRE_FULL / 2)
		return;
	w->was_full = false;
	if (w->room)
		w->room(w);
}

/* Blocking. */

static bool wait_for(int sock, short events)
{
	struct pollfd p = {.fd = sock, .events = events};

	return (errno == EAGAIN || errno == EINTR) && (poll(&p, 1, -1) >= 0 || errno == EINTR);
}

static bool send_now(int sock, struct span bytes, int fd)
{
	char ctl[CMSG_SPACE(sizeof(int))] __attribute__((aligned(8)));

	while (bytes.n > 0) {
		struct iovec  v = {(void *)bytes.p, bytes.n};
		struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1};
		ssize_t       n;

		if (fd >= 0)
			attach_fd(&m, ctl, fd);
		n = sendmsg(sock, &m, MSG_NOSIGNAL);
		if (n < 0 && !wait_for(sock, POLLOUT))
			return false;
		if (n <= 0)
			continue;
		fd = -1;
		bytes = span_from(bytes, (size_t)n);
	}
	return true;
}

bool wire_write_now(int sock, uint16_t type, const void *body, size_t body_n, struct span tail,
                    int fd)
{
	size_t           n = sizeof(struct wire_head) + body_n + tail.n;
	struct wire_head h = {.n = (uint32_t)n, .type = type, .fds = fd >= 0};
	char            *frame;
	bool             ok;

	check(n <= WIRE_FRAME_MAX);
	frame = mem_new(padded(n));
	memcpy(frame, &h, sizeof(h));
	if (body_n > 0)
		memcpy(frame + sizeof(h), body, body_n);
	if (tail.n > 0)
		memcpy(frame + sizeof(h) + body_n, tail.p, tail.n);
	ok = send_now(sock, span_of(frame, padded(n)), fd);
	mem_free(frame);
	return ok;
}

/* All n bytes; a descriptor that comes with them goes to *fd. */
static bool recv_now(int sock, char *p, size_t n, int *fd)
{
	char ctl[CMSG_SPACE(sizeof(int))] __attribute__((aligned(8)));

	while (n > 0) {
		struct iovec  v = {p, n};
		struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1};
		ssize_t       got;
		int           fds_n = *fd >= 0;

		m.msg_control = ctl;
		m.msg_controllen = sizeof(ctl);
		got = recvmsg(sock, &m, MSG_CMSG_CLOEXEC);
		if (got == 0 || (got < 0 && !wait_for(sock, POLLIN)))
			return false;
		if (got < 0)
			continue;
		if (!take_fds(&m, fd, 1, &fds_n))
			return false;
		p += got;
		n -= (size_t)got;
	}
	return true;
}

static bool read_frame(int sock, struct buf *frame, struct wire_head *h, int *fd)
{
	size_t rest;
	char  *at;

	if (!recv_now(sock, (char *)h, sizeof(*h), fd))
		return false;
	if (h->n < sizeof(*h) || h->n > WIRE_FRAME_MAX || h->fds != (*fd >= 0))
		return false;
	rest = padded(h->n) - sizeof(*h);
	buf_clear(frame);
	at = buf_room(frame, rest);
	if (!at || !recv_now(sock, at, rest, fd))
		return false;
	frame->n = h->n - sizeof(*h);
	return true;
}

bool wire_read_now(int sock, struct buf *frame, struct wire_head *ret, int *ret_fd)
{
	int fd = -1;

	*ret_fd = -1;
	if (!read_frame(sock, frame, ret, &fd)) {
		if (fd >= 0)
			close(fd);
		return false;
	}
	*ret_fd = fd;
	return true;
}
