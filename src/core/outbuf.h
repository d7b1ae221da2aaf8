/* outbuf - what a conversation has said and the socket has not yet taken.
 *
 * A queue of chunks (4 KiB, malloc'd through one shared free list) and of borrowed spans.
 * Writing never fails; outbuf_full() tells a producer to stop until the owner is told that
 * there is room again.  Whoever can be made to write without limit by a peer must ask it. */
#ifndef CORE_OUTBUF_H
#define CORE_OUTBUF_H

#include "core/check.h"
#include "core/span.h"

#include <stdarg.h>
#include <sys/uio.h>

#define OUTBUF_CHUNK 4096
/* a producer stops here; RFC-less: a socket buffer's size */
#define OUTBUF_FULL  65536

struct outchunk;
struct outbuf {
	struct outchunk *first, *last;
	size_t           n;                       /* bytes waiting */
};

void   outbuf_init(struct outbuf *o);
void   outbuf_fini(struct outbuf *o);             /* releases borrowed spans too */
bool   outbuf_full(const struct outbuf *o);
void   out_span(struct outbuf *o, struct span s); /* copied */
void   out_str(struct outbuf *o, const char *s);
void   out_byte(struct outbuf *o, char c);
void   out_fmt(struct outbuf *o, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void   out_vfmt(struct outbuf *o, const char *fmt, va_list ap);
/* Not copied: the bytes stay until release(ctx) is called, which happens once, sent or not. */
void   out_borrow(struct outbuf *o, struct span s, void (*release)(void *ctx), void *ctx);
/* the first n bytes of from */
void   out_move(struct outbuf *to, struct outbuf *from, size_t n);
int    outbuf_iov(const struct outbuf *o, struct iovec *v, int max); /* what to send first */
void   outbuf_sent(struct outbuf *o, size_t n);   /* n bytes left */
/* for tests: the first bytes */
size_t outbuf_copy(const struct outbuf *o, char *dst, size_t cap);

#endif
