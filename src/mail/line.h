/* line - command and reply lines out of a stream, bounded.
 *
 * A line ends at LF; one CR before it is dropped.  A line that lies whole in the input is given
 * without a copy; only a partial one is kept (storage is taken then, and given back after). */
#ifndef MAIL_LINE_H
#define MAIL_LINE_H

#include "core/buf.h"

struct line {
	struct buf part;
	bool       skipping;                      /* a line too long: until its LF */
	bool       given; /* part was handed out; the next call frees it */
};
enum line_event { LINE_MORE, LINE_OK, LINE_LONG /* once, when its LF came */ };

void line_init(struct line *l, size_t max);   /* max: bytes before the LF, a CR included */
void line_fini(struct line *l);
/* *ret is valid until the next call. */
enum line_event line_take(struct line *l, struct span *in, struct span *ret);

#endif
