/* answer - the replies of an SMTP server, put together from whatever pieces come.
 *
 * Three digits, then SP, '-' (more lines follow) or the end of the line; RFC 5321 4.2.1.  The
 * code of the first line counts (docs/qmail.md 9.12).  The text is what the bounce will quote:
 * all lines, each ended by LF, up to ANSWER_TEXT_MAX.  What is no reply at all, or has no end,
 * is garbled: nothing that such a server says later can be believed. */
#ifndef REMOTE_ANSWER_H
#define REMOTE_ANSWER_H

#include "mail/line.h"

#define ANSWER_LINE_MAX  4096                     /* RFC 5321 4.5.3.1.5 asks for 512 */
#define ANSWER_LINES_MAX 1000                     /* of one reply: it must end some day */
#define ANSWER_TEXT_MAX  5000                     /* docs/qmail.md 9.12: kept of a reply */

enum answer_event { ANSWER_MORE, ANSWER_OK, ANSWER_GARBLED };

struct answer {
	struct line line;
	struct buf  text;                         /* valid until the next answer_take() */
	uint16_t    code, lines;
	bool        complete;
};

void              answer_init(struct answer *a);
void              answer_fini(struct answer *a);
enum answer_event answer_take(struct answer *a, struct span *in);
/* The class and subject of an enhanced code (RFC 2034) behind the code: "4.7." of "421 4.7.0 x". */
bool              answer_has_enhanced(const struct answer *a, struct span prefix);

#endif
