/* intake - a message as a program hands it to sendmail: standard input, up to its end.
 *
 * Two things are done to the bytes.  Where the first line ends in CR LF, every CR LF becomes LF
 * (a program that speaks as on the wire); else a CR is data.  Unless told otherwise (-i), a
 * line that is a lone "." ends the message. */
#ifndef TOOLS_INTAKE_H
#define TOOLS_INTAKE_H

#include "core/span.h"

struct intake {
	bool dot_ends, crlf, decided, over;
	bool seen_cr;                             /* before the first LF: was the last byte a CR */
	char held[3];                             /* ".", CR, ".\r": not known yet what they are */
	unsigned char held_n;
	bool line_begins;
};

void intake_begin(struct intake *t, bool dot_ends);
/* Filters in, all of it unless the message is over; dst has room for in.n + 3 bytes.  How many
 * bytes were written. */
size_t intake_take(struct intake *t, struct span in, char *dst);
size_t intake_end(struct intake *t, char dst[static 3]); /* at the end of the file */

#endif
