/* bounce - the text of a failure notice (QSBMF).  docs/qmail.md 11.
 *
 * Only the text in front of the copy is made here; the copy is the queued message itself. */
#ifndef MAIL_BOUNCE_H
#define MAIL_BOUNCE_H

#include "core/buf.h"

#define BOUNCE_TEXT_MAX (4 * 1024 * 1024)         /* ~ 10,000 failures in one notice */

struct bounce {
	struct span from, host;                   /* control/bouncefrom, bouncehost */
	struct span to;                           /* who gets it */
	struct span sender; /* of the failed message; VERP template shortened */
	bool        dbl;                          /* a double bounce */
	uint64_t    wall;
};
bool bounce_head(struct buf *b, const struct bounce *bo) must_use;
/* LF LF inside becomes LF '/' */
bool bounce_paragraph(struct buf *b, struct span rcpt, struct span text) must_use;
bool bounce_tail(struct buf *b, const struct bounce *bo) must_use; /* break line, Return-Path */
/* To whom does a failure of a message from `sender` go: false: to nobody (a triple bounce).
 * *ret_to is part of sender or lies in `to` (ADDR_MAX; if the two do not fit: "postmaster"). */
bool bounce_addresses(struct span sender, struct span doublebounceto,
		      struct span doublebouncehost, struct buf *to, struct span *ret_to,
		      struct span *ret_from_sender, bool *ret_dbl) must_use;

#endif
