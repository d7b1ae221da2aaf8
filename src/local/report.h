/* report - how one local delivery went: a letter and the words that the log and a bounce get.
 *
 * The letter is K (done), Z (try again) or D (never).  Every step of a delivery gets the report
 * and returns true, or says no with report_fail(), which returns false so that a caller can
 * write `return report_fail(...)`.  The text is what the person who reads the bounce sees. */
#ifndef LOCAL_REPORT_H
#define LOCAL_REPORT_H

#include "core/buf.h"

#define REPORT_SHOWN 3000 /* docs/qmail.md 14.12: more is cut ... */
/* ... to so much, and REPORT_TOO_LONG follows */
#define REPORT_CUT      2966
#define REPORT_TOO_LONG "\nError report too long, sorry.\n"
#define REPORT_MAX      16384 /* several addresses and file names */

static_check(REPORT_CUT + sizeof(REPORT_TOO_LONG) - 1 <= REPORT_SHOWN);

struct report {
	char letter;
	struct buf text;
};

void report_init(struct report *r); /* K, no words */
void report_fini(struct report *r);
/* Replaces what was said. */
bool report_fail(struct report *r, char letter, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
void report_add(struct report *r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Cuts the text at its first NUL and to REPORT_SHOWN bytes. */
void report_close(struct report *r);
/* True where another try may help: a full disk, a missing file server (docs/qmail.md 14.13). */
bool error_is_temporary(int error);

#endif
