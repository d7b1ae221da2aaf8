#include "core/clock.h"

#include <stdbool.h>
#include <time.h>

static uint64_t mono_us, wall_us;
static bool     is_set, is_simulated;

static uint64_t ask(clockid_t which)
{
	struct timespec ts;

	clock_gettime(which, &ts);
	return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

void clock_refresh(void)
{
	if (is_simulated)
		return;
	mono_us = ask(CLOCK_MONOTONIC);
	wall_us = ask(CLOCK_REALTIME);
	is_set = true;
}

void clock_set(uint64_t mono, uint64_t wall)
{
	is_set = is_simulated = true;
	mono_us = mono;
	wall_us = wall;
}

/* Start-up code asks before there is a loop. */
static void ensure_set(void)
{
	if (!is_set)
		clock_refresh();
}

uint64_t clock_mono_us(void)
{
	ensure_set();
	return mono_us;
}

uint64_t clock_mono_ms(void)
{
	return clock_mono_us() / 1000;
}

uint64_t clock_wall_us(void)
{
	ensure_set();
	return wall_us;
}

uint64_t clock_wall(void)
{
	return clock_wall_us() / 1000000;
}
