/* letter - one mail as a user gets it: the body and the lines that a delivery puts in front.
 *
 * The body is borrowed (the mapped file that the worker got); the lines are the letter's own.
 * An LF inside an address is written '_' in all of them: it must not begin a new line. */
#ifndef LOCAL_LETTER_H
#define LOCAL_LETTER_H

#include "core/buf.h"

/* two quoted addresses and what is round them */
#define LETTER_LINES_MAX 16384

struct letter {
	struct span body;
	/* "From S Sat Nov 21 01:40:50 2026\n": mbox */
	struct span ufline;
	struct span rpline; /* "Return-Path: <s>\n" */
	struct span dtline; /* "Delivered-To: r\n" */
	struct buf lines;
};

/* wall: Unix seconds.  false: addresses longer than any that the queue takes. */
bool letter_init(struct letter *l, struct span body, struct span sender, struct span rcpt,
		 uint64_t wall) must_use;
void letter_fini(struct letter *l);
/* Has it been here before: a header line that is our Delivered-To line byte for byte? */
bool letter_loops(const struct letter *l);

#endif
