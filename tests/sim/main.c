/* sim - the journal in a world of power losses.
 *
 *   sim [--seeds N] [--seed S] [--guest NAME]
 *
 * Runs worlds S, S+1, ..., for the journal alone ("none"), with each guest ("queue"), and where
 * segments are given up ("space"), or for the one that is named.  Exits non-zero if one of them
 * breaks a promise, and if some kind of fault never happened in more than one world: then nothing
 * was shown.  However a world ends the program, by a failed check or by a signal as well, the last
 * line says which it was and how to have it again. */
#include "queue.h"
#include "space.h"
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
	&queue_guest,
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

static bool report_queue(const struct queue_counts *c)
{
	bool all = true;

	all &= happened("replays of the queue", c->replays);
	all &= happened("recipients compared after them", c->compared);
	all &= happened("messages submitted", c->submitted);
	all &= happened("outcomes written", c->outcomes);
	all &= happened("bounces", c->bounces);
	all &= happened("failures read back", c->reads);
	all &= happened("deliveries repeated with reason", c->repeats);
	all &= happened("journald back beside a queue", c->reconnections);
	all &= happened("agents lost", c->agents_lost);
	all &= happened("bodies lost", c->bodies_lost);
	all &= happened("steps of the wall clock", c->clock_steps);
	return all;
}

static bool report_space(const struct space_counts *c)
{
	bool all = true;

	all &= happened("worlds that give segments up", c->worlds);
	all &= happened("runs of journald in them", c->runs);
	all &= happened("power losses", c->power_losses);
	all &= happened("power losses while starting", c->fuses);
	all &= happened("kills of journald", c->kills);
	all &= happened("messages", c->messages);
	all &= happened("submissions that hung up", c->abandoned);
	all &= happened("outcomes", c->outcomes);
	all &= happened("bounces", c->bounces);
	all &= happened("compactions", c->rounds);
	all &= happened("compactions cut by a crash", c->cut_rounds);
	all &= happened("groups cut on their way out", c->cut_groups);
	all &= happened("segments given up", c->given_up);
	all &= happened("files used again", c->recycled);
	(void)happened("kept for their damage", c->quarantined); /* too rare to ask for */
	all &= happened("runs that kept history", c->history);
	all &= happened("positions that moved", c->moved);
	all &= happened("and were taken back", c->taken_back);
	all &= happened("segments sealed for it", c->switches);
	all &= happened("bodies read by position", c->looked_up);
	all &= happened("of them out of copies", c->cold_read);
	all &= happened("queues read without their indexes", c->index_lost);
	all &= happened("and with a rotten one", c->index_rotten);
	all &= happened("of them said", c->index_said);
	all &= happened("walks after a crash", c->walks);
	all &= happened("messages compared in them", c->compared);
	return all;
}

static bool report_worlds(void)
{
	const struct world_counts *c = &world_counts;
	bool all = true;

	all &= happened("runs of journald", c->rounds);
	all &= happened("records", c->records);
	all &= happened("answers", c->acked);
	all &= happened("power losses", c->power_losses);
	all &= happened("power losses while starting", c->fuses);
	all &= happened("kills of journald", c->kills);
	all &= happened("torn batches", c->torn);
	all &= happened("batches torn inside a block", c->ambiguous);
	all &= happened("EIO on writes", c->eios);
	all &= happened("writes of the dead that landed", c->landed_late);
	all &= happened("bad bits in promised mail", c->rotten);
	all &= happened("of them found", c->rot_found);
	all &= happened("blocks of zeros", c->zeroed);
	all &= happened("blocks that are old", c->stale);
	all &= happened("of both found", c->hurt_found);
	all &= happened("of both a last, torn batch", c->hurt_tail);
	all &= happened("EIO on reads, once", c->read_eios);
	(void)happened("of them met as a bad block", c->eio_costs);
	all &= happened("seals read", c->seals);
	all &= happened("long manifests read", c->long_manifests);
	all &= happened("idle marks read", c->idle_marks);
	all &= happened("records read behind the ring", c->ring_missed);
	all &= happened("fills that found no room", c->enospc);
	all &= happened("segments sealed early", c->switches);
	return all;
}

static bool is_wanted(const char *only, const char *name)
{
	return !only || strcmp(only, name) == 0;
}

/* Of what ran. */
static bool report(const char *only)
{
	bool all = true;

	if (!only || strcmp(only, "space") != 0)
		all &= report_worlds();
	if (is_wanted(only, "queue"))
		all &= report_queue(&queue_counts);
	if (is_wanted(only, "space"))
		all &= report_space(&space_counts);
	return all;
}

/* ---- which world it is ---- */

static struct {
	const char *guest; /* NULL: none runs */
	uint64_t seed;
} running;

/* Of a sanitizer, where there is one: it ends the program without asking anybody else. */
void __sanitizer_set_death_callback(void (*say)(void)) __attribute__((weak));

static void say_world(void)
{
	char line[128];
	int n;

	if (!running.guest)
		return;
	n = snprintf(line, sizeof(line), "sim: make sim GUEST=%s SEED=%" PRIu64 " repeats it\n",
		     running.guest, running.seed);
	running.guest = NULL;
	(void)!write(STDERR_FILENO, line, (size_t)n);
}

static void on_signal(int number)
{
	say_world();
	signal(number, SIG_DFL);
	raise(number);
}

static void say_when_it_ends(void)
{
	static const int signals[] = {SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTERM};

	for (size_t i = 0; i < ARRAY_N(signals); i++)
		signal(signals[i], on_signal);
	atexit(say_world);
	if (__sanitizer_set_death_callback)
		__sanitizer_set_death_callback(say_world);
}

static void run_worlds(uint64_t first, uint64_t seeds, const char *name, const struct guest *guest)
{
	running.guest = name;
	for (running.seed = first; running.seed < first + seeds; running.seed++) {
		if (strcmp(name, "space") == 0)
			space_world_run(running.seed);
		else
			world_run(running.seed, guest);
	}
	running.guest = NULL;
}

int main(int argc, char **argv)
{
	uint64_t seeds = 2000, first = 1;
	const char *only = NULL;
	const struct guest *const *guest = guests;

	for (int i = 1; i < argc; i += 2) {
		if (strcmp(argv[i], "--seeds") == 0)
			seeds = number_of(argv[i + 1]);
		else if (strcmp(argv[i], "--seed") == 0)
			first = number_of(argv[i + 1]);
		else if (strcmp(argv[i], "--guest") == 0 && argv[i + 1])
			only = argv[i + 1];
		else
			number_of(NULL);
	}
	log_capture(on_line, NULL);
	say_when_it_ends();
	printf("sim: worlds %" PRIu64 " to %" PRIu64 ", guest: %s\n", first, first + seeds - 1,
	       only ? only : "all");
	if (is_wanted(only, "none"))
		run_worlds(first, seeds, "none", NULL);
	for (; *guest; guest++)
		if (is_wanted(only, (*guest)->name))
			run_worlds(first, seeds, (*guest)->name, *guest);
	if (is_wanted(only, "space"))
		run_worlds(first, seeds, "space", NULL);
	if (!report(only) && seeds > 1) {
		printf("sim: some fault never happened\n");
		return 1;
	}
	return 0;
}
