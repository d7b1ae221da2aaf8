/* header - what a server must see of a message as it streams by, and a walker for tools.
 *
 * The scanner counts hops: header lines that begin with "received" or "delivered", any case
 * (docs/qmail.md 4.5), up to the first empty line.  Input has LF line ends. */
#ifndef MAIL_HEADER_H
#define MAIL_HEADER_H

#include "core/span.h"

#define HOPS_MAX 100                              /* docs/qmail.md 4.5: 100 is refused */

struct hops {
	uint32_t count;
	uint8_t  at, match; /* position in the line; which names still match */
	bool     over;                            /* the header has ended */
};
void hops_begin(struct hops *h);
void hops_take(struct hops *h, struct span bytes);

/* One field: name (without colon), body (with its folded lines and last LF), whole.  Cuts it
 * off *text; false at the end of the header (an empty line, cut off, or something that is no
 * field). */
struct header_field {
	struct span name, body, whole;
};
bool header_next(struct span *text, struct header_field *ret);

#endif
