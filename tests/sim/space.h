/* space - a journal that gives its segments up, in a world of power losses (space.c). */
#ifndef SIM_SPACE_H
#define SIM_SPACE_H

#include <stdint.h>

struct space_counts {
	uint64_t worlds, runs, power_losses, kills, fuses, messages, outcomes, bounces, abandoned, rounds, cut_rounds,
		cut_groups, recycled, given_up, moved, taken_back, quarantined, history, cold_read, looked_up, walks,
		compared, switches, ambiguous, index_lost, index_rotten, index_said;
};
extern struct space_counts space_counts;
void space_world_run(uint64_t seed);

#endif
