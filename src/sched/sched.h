/* sched - the process around the plan: its wires, its feed, its timer.
 *
 * The feed is the journal, walked by position from its oldest record: the replay and what is
 * new are one and the same.  The plan is ready when the walk first reaches the durable
 * position.  Then every pass ends in one plan_tick(), whatever happened in it.
 *
 * journald may be started anew beside a running sched: then nothing starts until the walk
 * has passed the position that its recovery ended at, outcomes that the feed did not show by
 * then were lost with it and are sent once more.  Jobs go on meanwhile; nothing is repeated.
 *
 * When sched itself ends without warning, agents drop what they have: what was in flight or
 * settled within control/outcomedelay is tried again by the next one.  Nothing else is. */
#ifndef SCHED_SCHED_H
#define SCHED_SCHED_H

#include "mail/role.h"

void sched_run(struct role *r);                   /* returns after a drain */

/* For tests: the parts of sched_run(). */
struct sched;
struct sched *sched_new(struct role *r, struct loop *l);
void          sched_peer(struct sched *s, uint32_t role, uint32_t index, int fd);
bool          sched_is_done(const struct sched *s);   /* drained */
/* Passes until sched_is_closed(), then free */
void          sched_close(struct sched *s);
bool          sched_is_closed(const struct sched *s);
void          sched_free(struct sched *s);
extern const struct role_calls sched_calls;       /* with role.ctx the sched */

#endif
