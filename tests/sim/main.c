/* sim - the journal in a world of power losses.
 *
 *   sim [--seeds N] [--seed S] [--guest NAME]
 *
 * Runs worlds S, S+1, ...  Exits non-zero if one of them breaks a promise (its seed is said), and
 * if some kind of fault never happened: then nothing was shown. */
#include "world.h"

#include "core/log.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Guests: name and struct, NULL ends.  Each runs in as many worlds as the journal alone. */
static const struct guest *const guests[] = {
	NULL,
};

static uint64_t number_of(const char *s)
{
	uint64_t v;

	if (!s || !span_u64(span_str(s), UINT64_MAX, &v))
		die(100, "usage: sim [--seeds N] [--seed S] [--guest NAME]");
	return v;
}

static void on_line(void *ctx, struct span line)
{
}

static bool happened(const char *what, uint64_t n)
{
	printf("  %-32s %" PRIu64 "\n", what, n);
	return n > 0;
}

static bool report(uint64_t seeds)
{
	const struct world_counts *c = &world_counts;
	bool all = true;

	printf("sim: %" PRIu64 " worlds\n", seeds);
	all &= happened("runs of journald", c->rounds);
	all &= happened("records", c->records);
	all &= happened("answers", c->acked);
	all &= happened("power losses", c->power_losses);
	all &= happened("power losses while starting", c->fuses);
	all &= happened("kills of journald", c->kills);
	all &= happened("torn batches", c->torn);
	all &= happened("EIO on writes", c->eios);
	all &= happened("writes of the dead that landed", c->landed_late);
	all &= happened("seals read", c->seals);
	all &= happened("long manifests read", c->long_manifests);
	all &= happened("idle marks read", c->idle_marks);
	all &= happened("records read behind the ring", c->ring_missed);
	return all;
}

int main(int argc, char **argv)
{
	uint64_t seeds = 2000, first = 1;
	const struct guest *const *guest = guests;

	for (int i = 1; i < argc; i += 2) {
		if (strcmp(argv[i], "--seeds") == 0)
			seeds = number_of(argv[i + 1]);
		else if (strcmp(argv[i], "--seed") == 0)
			first = number_of(argv[i + 1]);
		else
			number_of(NULL);
	}
	log_capture(on_line, NULL);
	for (uint64_t s = first; s < first + seeds; s++)
		world_run(s, NULL);
	for (; *guest; guest++)
		for (uint64_t s = first; s < first + seeds; s++)
			world_run(s, *guest);
	if (!report(seeds) && seeds > 1) {
		printf("sim: some fault never happened\n");
		return 1;
	}
	return 0;
}
