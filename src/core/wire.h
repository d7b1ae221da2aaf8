/* wire - frames between our own processes, with descriptors, on a unix stream socket.
 *
 * A frame is a head, a fixed body of the size its type has in the table, and a tail.  What is
 * not in the receiver's handler table, or has another size, ends the connection: a wire's peer
 * is one of ours and must be right.  Bodies are native structs: both ends are one build.
 *
 * Sending queues; it leaves at the end of the pass.  A sender that can run ahead of its reader
 * asks wire_full() first.  A received descriptor belongs to the handler.
 *
 * On the socket each frame is padded to WIRE_ALIGN, so that bodies lie aligned where they were
 * received; `n` counts no padding.
 *
 * What the peer said before it went away is still handled: lost() comes after the last frame,
 * and on a paused wire only after wire_resume().  wire_close() drops what is queued both ways. */
#ifndef CORE_WIRE_H
#define CORE_WIRE_H

#include "core/buf.h"
#include "core/loop.h"
#include "core/outbuf.h"

/* a part of 256 KiB that grew in zstd, and room */
#define WIRE_FRAME_MAX (1024 * 1024)
/* queued bytes at which wire_full() says so */
#define WIRE_FULL      (4 * 1024 * 1024)

#define WIRE_ALIGN     8
#define WIRE_FDS       16                         /* received, their frames not complete */
#define WIRE_IOV       16

struct wire_head {
	uint32_t n;                               /* of the whole frame, head included */
	uint16_t type;
	uint16_t fds;                             /* 0 or 1 */
};

struct wire;
/* one received frame, valid in the handler only */
struct wire_in {
	const void *body;
	struct span tail;
	int         fd;                           /* -1: none */
};
struct wire_handler {
	uint16_t type, body_n;
	bool     tail, fd;                        /* may it have them */
	void   (*on)(struct wire *w, struct wire_in *in);
};
struct wire_fd;
struct wire {
	struct loop               *loop;
	const struct wire_handler *handlers;
	size_t                     handlers_n;
	const char                *peer;          /* for the log: "smtpd/0" */
	void                      *ctx;
	int                        sock;
	struct op                  recv, send;
	struct buf                 in;
	struct outbuf              out;
	struct msghdr              in_msg, out_msg;
	struct iovec               in_iov, out_iov[WIRE_IOV];
	char                       in_ctl[64] __attribute__((aligned(8)));
	char                       out_ctl[64] __attribute__((aligned(8)));
	struct wire_fd            *fds, *fds_last; /* to be sent, each with its byte position */
	uint64_t                   queued, sent;  /* bytes, ever */
	size_t                     in_want;       /* how much the next receive asks for */
	int                        got_fds[WIRE_FDS], got_n;
	struct deferred            flush, resume;
	bool                       paused, closing, eof, deaf /* the peer reads no more */;
	bool                       was_full, sending_fd, handling;
	void (*lost)(struct wire *w);             /* last call, nothing armed, socket closed */
	void (*room)(struct wire *w);             /* below WIRE_FULL / 2 again; may be NULL */
};

/* handlers and peer are borrowed for ever.  sock must be a unix stream socket. */
void wire_init(struct wire *w, struct loop *l, int sock, const char *peer,
               const struct wire_handler *handlers, size_t handlers_n,
               		void (*lost)(struct wire *w), void *ctx);
void wire_send(struct wire *w, uint16_t type, const void *body, size_t body_n,
		struct span tail);
/* tail in two pieces */
void wire_send2(struct wire *w, uint16_t type, const void *body, size_t body_n,
		struct span tail, struct span more);
/* fd is closed after it left */
void wire_send_fd(struct wire *w, uint16_t type, const void *body, size_t body_n,
		struct span tail, int fd);
bool wire_full(const struct wire *w);
void wire_pause(struct wire *w);                  /* stop reading: no handler runs any more */
void wire_resume(struct wire *w);
void wire_close(struct wire *w);                  /* then lost(); fine to call again */

/* Blocking, before a process has its loop (role_begin) and for start.  false: EOF or error. */
bool wire_write_now(int sock, uint16_t type, const void *body, size_t body_n, struct span tail,
		int fd) must_use;
/* frame: body and tail */
bool wire_read_now(int sock, struct buf *frame, struct wire_head *ret, int *ret_fd) must_use;

#endif
