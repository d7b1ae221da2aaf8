/* log - one event, one line on stderr; and the end of a process that cannot go on.
 *
 * Lines are key=value, gathered in a buffer and written once a pass (log_flush) or when the
 * buffer is full, each write whole lines only.  stderr is set non-blocking nowhere: a reader
 * that blocks costs counted lines: log_flush() polls first, what does not go out waits in
 * the buffer, and a new line that finds the buffer full is dropped and counted.  Values are
 * sanitised: bytes < 33, > 126 and '"' are written as '_'; a value that contains a space is
 * quoted, and keeps it.  Only the thread that runs the loop may log.
 *
 * die() and die_sys() flush, say one line "fatal: ..." with errno's text and exit. */
#ifndef CORE_LOG_H
#define CORE_LOG_H

#include "core/span.h"

#include <stdbool.h>
#include <stdint.h>

/* the name in front of key=value lines; borrowed */
void log_begin(const char *program);
/* tests; NULL ends it */
void log_capture(void (*take)(void *ctx, struct span line), void *ctx);

/* log_note("peer", "1.2.3.4", "odd", "slow answer", NULL): pairs of C strings, NULL ends. */
void log_note(const char *key, ...) __attribute__((sentinel));
/* raw: sched's grammar */
void log_line(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_flush(void);
uint64_t log_lost(void);                          /* lines dropped so far */

_Noreturn void die(int status, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* adds ": strerror(errno)" */
_Noreturn void die_sys(int status, const char *what, const char *name);

#endif
