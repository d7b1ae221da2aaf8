/* stream - one TCP (or unix) connection of a conversation.
 *
 * The conversation is offered bytes; it cuts what it takes off the front of *in.  What it
 * does not take stays held (at most STREAM_HELD_MAX received buffers; then receiving stops
 * and TCP pushes back) and is offered again, joined with nothing, after stream_again().
 * A conversation that wants a whole line must therefore keep its partial line itself.
 * Output goes to stream_out() and leaves at the end of the pass in one send.
 *
 * lost() is the last call ever made for a stream: it comes from the loop, with no op armed and
 * the descriptor closed, whoever ended it and however; the owner may free itself in it.
 * A deadline, an error and an end of file are one event.
 *
 * stream_close() reads on, into nothing, until the peer ends too or STREAM_LINGER_MS pass: a
 * socket closed over unread bytes is reset, and the reset can overtake our last answer. */
#ifndef CORE_STREAM_H
#define CORE_STREAM_H

#include "core/loop.h"
#include "core/outbuf.h"

#define STREAM_HELD_MAX  2
/* chunks in one send: more go out with the next */
#define STREAM_IOV       8
#define STREAM_LINGER_MS 2000                     /* after a close, for the peer's own end */
/* after a close without a deadline, for the output */
#define STREAM_FLUSH_MS  30000

enum lost { LOST_EOF, LOST_ERROR, LOST_DEADLINE, LOST_CLOSED /* we ended it */ };

struct stream;
struct stream_calls {
	void (*connected)(struct stream *st);     /* after stream_connect(); may be NULL */
	void (*bytes)(struct stream *st, struct span *in);
	/* peer half-closed, all bytes offered and taken; NULL: lost(LOST_EOF) */
	void (*eof)(struct stream *st);
	/* output went below OUTBUF_FULL / 2; may be NULL */
	void (*room)(struct stream *st);
	void (*lost)(struct stream *st, enum lost why, int error /* errno or 0 */);
};

struct stream_held;
struct stream {
	struct loop               *loop;
	const struct stream_calls *calls;
	struct op       recv, send, dial;
	struct outbuf   out;
	struct timer    deadline;
	struct deferred flush, offer;
	struct msghdr   msg;
	union {
		struct iovec            iov[STREAM_IOV];
		struct sockaddr_storage to;       /* until connected: nothing is sent before */
	} u;
	struct stream_held *held, *held_last;     /* received, not yet taken */
	int             fd, error;
	uint32_t        held_n;
	uint8_t         why;
	bool            connecting, closing, shut, dropping, eof, eof_told, was_full, offering, again;
};

/* no fd yet */
void stream_init(struct stream *st, struct loop *l, const struct stream_calls *calls);
/* a connected, non-blocking fd: receiving starts */
void stream_take(struct stream *st, int fd);
/* Makes the socket too (bind_to may be NULL).  On failure lost(LOST_ERROR) comes from the loop. */
void stream_connect(struct stream *st, const struct sockaddr *to, socklen_t n,
		const struct sockaddr *bind_to);
struct outbuf *stream_out(struct stream *st);     /* schedules the flush */
/* offer held bytes once more, this pass, from the loop */
void stream_again(struct stream *st);
/* the deadline for what is awaited; 0: none */
void stream_wait(struct stream *st, uint64_t ms);
/* lingering: send what is said, shut down, then lost(LOST_CLOSED) */
void stream_close(struct stream *st);
void stream_drop(struct stream *st);              /* at once; may be called many times */

#endif
