/* errand - blocking work for the disk, away from the loop that commits.
 *
 * One thread, one queue, in order.  run() is called in the thread and touches only what its
 * owner lends it until done() runs, from the loop.  No log lines in run().  On a disk of one thread
 * (the simulator) run() and done() are called from a timer of the loop, one errand at a time,
 * so that the power can go between any two. */
#ifndef JOURNAL_ERRAND_H
#define JOURNAL_ERRAND_H

#include "core/list.h"
#include "core/loop.h"

struct errand {
	struct link link;
	void      (*run)(struct errand *e);
	void      (*done)(struct errand *e);
	bool        given;                        /* until done() is called */
};
struct errands;
/* After the sandbox was entered: the thread inherits it. */
struct errands *errands_new(struct loop *l, bool one_thread);
/* Waits for the errand that runs; those that have not begun are forgotten.  No done() follows, not
 * even that one's; none is given any more.
 * As with packer: errands_close(), passes until errands_is_closed(), then free. */
void            errands_close(struct errands *w);
bool            errands_is_closed(const struct errands *w);
void            errands_free(struct errands *w);
void            errand_init(struct errand *e, void (*run)(struct errand *), void (*done)(struct errand *));
void            errand_give(struct errands *w, struct errand *e);     /* not given already */

#endif
