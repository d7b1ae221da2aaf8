/* due - what waits for its time: a wheel of seconds on the monotonic clock.
 *
 * Four rings of 256 slots, one for each byte of a 32-bit second: adding and taking cost the
 * same however many wait, and due_next() names the one moment at which there is work, so
 * that a million waiting runs need one timer.  Runs are threaded through `next`. */
#ifndef SCHED_DUE_H
#define SCHED_DUE_H

#include "sched/run.h"

#define DUE_NEVER UINT32_MAX
#define DUE_RINGS 4
#define DUE_SLOTS 256

struct due {
	uint32_t         now;                     /* how far the wheel has turned */
	uint32_t         n;                       /* runs in it */
	struct run_queue ripe;
	struct run      *slots[DUE_RINGS][DUE_SLOTS];
	uint64_t         used[DUE_RINGS][DUE_SLOTS / 64];     /* which slots are not empty */
};

void        due_init(struct due *d, uint32_t now);
void        due_add(struct due *d, struct run *r, uint32_t at);       /* sets r->due */
/* When due_take() has something to do, or DUE_NEVER */
uint32_t    due_next(const struct due *d);
struct run *due_take(struct due *d, uint32_t now); /* one that is due, or NULL */
void        due_all(struct due *d);               /* everything is due now */

#endif
