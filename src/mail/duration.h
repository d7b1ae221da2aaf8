/* duration - "90", "90s", "20m", "6h", "2d": a time in seconds, for control files and options.
 */
#ifndef MAIL_DURATION_H
#define MAIL_DURATION_H

#include "core/check.h"
#include "core/span.h"

#define DURATION_MAX (10ull * 365 * 86400) /* ten years: longer is a mistake */

/* control/retryschedule: a wait, and how many.  qmail's own steps stay below 100000 s; a week
 * is a whole queuelifetime, and more steps than these nobody tells apart. */
#define WAIT_MIN  1
#define WAIT_MAX  (7 * 86400)
#define WAITS_MAX 64

/* false: not a number with at most one unit, or above DURATION_MAX */
bool duration_parse(struct span s, uint64_t *ret_s) must_use;

#endif
