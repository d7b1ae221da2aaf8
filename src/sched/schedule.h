/* schedule - when a deferred recipient is tried again.
 *
 * Without control/retryschedule qmail's: the square root of the age grows by 10 (local) or 20
 * (remote) with each try (docs/qmail.md 10.1).  With it: its waits one after the other, the
 * last again and again.  Seconds, wall clock. */
#ifndef SCHED_SCHEDULE_H
#define SCHED_SCHEDULE_H

#include "mail/control.h"
#include "mail/duration.h"
#include "mail/route.h"

struct schedule {
	uint32_t n; /* 0: qmail's */
	uint32_t waits[WAITS_MAX];
};
/* From control/retryschedule; what start would refuse counts as qmail's. */
void schedule_init(struct schedule *s, const struct control *c);
/* tried: deferrals so far, this one included (1, 2, ...) */
uint64_t schedule_next(const struct schedule *s, uint64_t birth_s, uint64_t now_s,
		       enum channel ch, uint32_t tried);

/* No wait of it is longer. */
uint32_t schedule_longest(const struct schedule *s);

#endif
