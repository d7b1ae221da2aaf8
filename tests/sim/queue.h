/* queue - the scheduler's plan as a guest of the simulated world (queue.c). */
#ifndef SIM_QUEUE_H
#define SIM_QUEUE_H

#include "world.h"

extern const struct guest queue_guest;

struct queue_counts {
	uint64_t submitted, outcomes, bounces, compared, replays, reconnections, repeats, agents_lost, bodies_lost,
		clock_steps, reads;
};
extern struct queue_counts queue_counts;

#endif
