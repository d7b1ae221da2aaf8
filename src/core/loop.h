/* loop - the one place where a process waits.
 *
 * A proactor with two real bodies, io_uring (loop_uring.c) and epoll with one sync thread
 * (loop_epoll.c), chosen at start; the simulator has a third.  Contract:
 *
 *  1. An op lives in its owner.  It is armed at most once; the owner is freed only when no
 *     op of it is armed.  `armed` falls before `done` runs, unless OP_MORE is in flags.
 *  2. Starting never calls back.  `done` runs from loop_pass() only.  Nothing re-enters.
 *  3. A pass is: wait; refresh the clock; run every ready completion and every due timer;
 *     then the deferred work in order of phase (PHASE_WORK, PHASE_COMMIT, PHASE_FLUSH; work
 *     deferred to a phase that is over runs in the next pass, which then does not wait);
 *     then log_flush() and submit.
 *  4. res is what the system call would return, or a negative errno.  A cancelled op
 *     completes too, with -ECANCELED or its true result.
 *  5. Buffers passed in must stay until `done`.
 *
 * Where something is refused (seccomp, sysctl) loop_new(LOOP_AUTO) falls back to epoll. */
#ifndef CORE_LOOP_H
#define CORE_LOOP_H

#include "core/check.h"
#include "core/heap.h"
#include "core/list.h"
#include "core/span.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

struct loop;
struct op;
typedef void op_done(struct op *op, int res, unsigned flags);

enum loop_kind { LOOP_AUTO, LOOP_URING, LOOP_EPOLL };
enum { OP_MORE = 1 };                             /* a multishot op: still armed */

struct op {
	op_done *done;
	bool     armed, cancelling;
	uint8_t  kind;                            /* the rest is the loop's */
	int      fd;
	unsigned want;
	int      res;
	struct link     link;
	union {
		struct { const void *out; size_t n; off_t off; } io;
		struct { void *in; size_t n; off_t off; } rd;
		struct msghdr *msg;
		struct { const struct sockaddr *addr; socklen_t n; } to;
	} u;
	/* a received buffer, until loop_buf_release() */
	uint32_t buf_id, buf_n;
};

/* `want` LOOP_AUTO: $QUIRE_LOOP (uring, epoll) if set, else uring, else epoll.  Dies with 111
 * if the one asked for can't be had.  recv_bufs: how many receive buffers (a power of two) of
 * LOOP_BUF_SIZE are shared by all streams; 0 if the process receives no streams. */
#define LOOP_BUF_SIZE 16384
struct loop *loop_new(enum loop_kind want, unsigned recv_bufs);
void         loop_free(struct loop *l);           /* no op may be armed */
const char  *loop_name(const struct loop *l);     /* "io_uring" or "epoll" */
const char  *loop_why_not_uring(const struct loop *l); /* NULL, or why epoll was chosen */

void loop_pass(struct loop *l);                   /* one pass, see 3 */
void loop_run(struct loop *l);                    /* passes until loop_stop() */
void loop_stop(struct loop *l);

void op_init(struct op *op, op_done *done);
void loop_cancel(struct loop *l, struct op *op);  /* fine when it is not armed */

/* multishot; each res >= 0 is a new CLOEXEC, non-blocking fd */
void loop_accept(struct loop *l, struct op *op, int fd);
void loop_connect(struct loop *l, struct op *op, int fd, const struct sockaddr *addr,
		socklen_t n);
/* multishot; bytes by loop_bytes(); res 0: EOF; -ENOBUFS: all buffers are held, arm again
 * later */
void loop_recv(struct loop *l, struct op *op, int fd);
/* valid in done, and after it until released */
struct span loop_bytes(struct loop *l, const struct op *op);
/* every res > 0 of loop_recv owes one */
void loop_buf_release(struct loop *l, uint32_t buf_id);
struct span loop_buf(struct loop *l, uint32_t buf_id, uint32_t n);
/* After -ENOBUFS: d runs in PHASE_WORK once a buffer was given back, or a few ms later. */
struct deferred;
void loop_await_buf(struct loop *l, struct deferred *d);
void loop_send(struct loop *l, struct op *op, int fd, const void *p, size_t n);
/* MSG_NOSIGNAL; m stays until done */
void loop_sendmsg(struct loop *l, struct op *op, int fd, struct msghdr *m);
/* MSG_CMSG_CLOEXEC */
void loop_recvmsg(struct loop *l, struct op *op, int fd, struct msghdr *m);
/* once; res = revents */
void loop_poll(struct loop *l, struct op *op, int fd, short events);
/* Positioned file I/O.  dsync: the completion means "on stable storage" (RWF_DSYNC). */
void loop_pwrite(struct loop *l, struct op *op, int fd, const void *p, size_t n, off_t off,
		bool dsync);
void loop_pread(struct loop *l, struct op *op, int fd, void *p, size_t n, off_t off);

/* Timers: on the monotonic clock, in milliseconds; due ones run in the pass, after completions. */
struct timer {
	struct heap_entry entry;
	void (*fire)(struct timer *t);
};
void timer_init(struct timer *t, void (*fire)(struct timer *));
void timer_set(struct loop *l, struct timer *t, uint64_t ms_from_now); /* again: moves it */
void timer_stop(struct loop *l, struct timer *t); /* fine when it is not set */
bool timer_is_set(const struct timer *t);

/* Work for the end of this pass, once, however often it is asked for.  What a phase defers to
 * itself runs in that phase. */
enum phase { PHASE_WORK, PHASE_COMMIT, PHASE_FLUSH, PHASES };
struct deferred {
	struct link link;
	void (*run)(struct deferred *d);
};
void deferred_init(struct deferred *d, void (*run)(struct deferred *));
void loop_defer(struct loop *l, struct deferred *d, enum phase phase);
void deferred_cancel(struct deferred *d);

/* Signals as events (signalfd); the process blocks them.  signo 0 ends the array. */
void loop_signals(struct loop *l, const int *signos, void (*on_signal)(void *ctx, int signo),
		void *ctx);

/* How the two real loops and the simulator plug in.  Not for users of the loop. */
struct loop_calls {
	const char *name;
	/* op->kind and its arguments are set */
	void (*start)(struct loop *l, struct op *op);
	void (*cancel)(struct loop *l, struct op *op);
	/* -1: for ever; runs completions by op_complete() */
	void (*wait)(struct loop *l, int64_t ms);
	void (*release)(struct loop *l, uint32_t buf_id);
	struct span (*buf)(struct loop *l, uint32_t buf_id, uint32_t n);
	void (*free)(struct loop *l);
};
enum op_kind { OP_ACCEPT = 1, OP_CONNECT, OP_RECV, OP_SEND, OP_SENDMSG, OP_RECVMSG, OP_POLL, OP_PWRITE, OP_PREAD };
struct loop {
	const struct loop_calls *calls;
	struct heap   timers;
	struct link   work[PHASES];
	bool          stopped;
	struct link   starved;                    /* deferred, by loop_await_buf() */
	struct timer  starved_timer;
	struct loop_signals *signals;
	const char   *why_not_uring;
	void         *body;                       /* the backend's own state */
};
void loop_init(struct loop *l, const struct loop_calls *calls, void *body);
/* clears armed unless OP_MORE, calls done */
void op_complete(struct op *op, int res, unsigned flags);
struct loop *loop_uring_new(unsigned recv_bufs, const char **ret_why_not); /* NULL: refused */
struct loop *loop_epoll_new(unsigned recv_bufs);

#endif
