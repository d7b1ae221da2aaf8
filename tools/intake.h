/* intake - a message as a program hands it over: a descriptor of any kind, and where it ends.
 *
 * The descriptor may be a pipe, a socket or a file, blocking or not.  It may end in its middle:
 * to sendmail, unless told otherwise (-i), a line that is a lone "." is the end.  Nothing else
 * is done to the bytes. */
#ifndef TOOLS_INTAKE_H
#define TOOLS_INTAKE_H

#include "core/check.h"
#include "core/span.h"

#define INTAKE_PIECE (64 * 1024)                  /* as much as a pipe holds */

/* How many bytes, 0 at the end of the file, or -errno; waits for a descriptor that would not. */
long intake_read(int fd, char *dst, size_t n) must_use;

struct dot_end {
	bool over;
	enum { DOT_INSIDE, DOT_LINE_BEGINS, DOT_SEEN, DOT_CR_SEEN } at;
};
#define DOT_END_ROOM 2                            /* ".\r", held while it may be the end */

void   dot_end_begin(struct dot_end *t);
/* Takes all of in, unless the message is over; dst has room for in.n + DOT_END_ROOM bytes.
 * How many bytes were written. */
size_t dot_end_take(struct dot_end *t, struct span in, char *dst);
/* At the end of the file: what was held.  A "." without LF ends the message, too. */
size_t dot_end_finish(struct dot_end *t, char dst[static DOT_END_ROOM]);

#endif
