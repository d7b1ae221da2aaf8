/* The outcomes of recovery have names (recover.h); each is logged by its own.  FAILED, like a
 * lock that somebody holds, is for good: start gives up and says why.  What fails after it (no
 * room for a segment, no memory for the ring) may pass: the process ends, and start tries
 * again later. */
#include "journal/opening.h"

#include "core/log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define RING_MIN    (8 * 1024 * 1024) /* a batch is an eighth, and must hold any record */
#define SEGMENT_MIN (4 * 1024 * 1024)             /* the same: two batches fit a segment */
#define LOCK_TRIES  12      /* a killed one's lock can outlive it: 3 s, with the disk's tries */

static const char *const names[] = {
	[RECOVERED_EMPTY] = "empty",
	[RECOVERED_CLEAN] = "clean",
	[RECOVERED_TORN] = "torn",
	[RECOVERED_AMBIGUOUS] = "ambiguous",
	[RECOVERED_DAMAGED] = "damaged",
	[RECOVERED_FAILED] = "failed",
};

static bool say(struct buf *why, const char *what, int error)
{
	if (!buf_fmt(why, "%s: %s", what, strerror(-error)))
		log_note("trouble", what, NULL);
	return false;
}

static bool lock(struct disk *d, struct buf *why)
{
	int error = -EWOULDBLOCK;

	for (int i = 0; i < LOCK_TRIES && error == -EWOULDBLOCK; i++)
		error = d->calls->lock(d);
	if (error == -EWOULDBLOCK) {
		if (!buf_add(why, SPAN("journal is in use by another quire-journald")))
			log_note("trouble", "journal is in use", NULL);
		return false;
	}
	return error == 0 || say(why, "lock journal", error);
}

static bool is_damaged(enum recovered how)
{
	return how == RECOVERED_AMBIGUOUS || how == RECOVERED_DAMAGED;
}

/* Each place that recovery knows, one line. */
static void note_damages(const struct journal_end *end)
{
	struct buf line;

	buf_init(&line, 256);
	for (uint32_t i = 0; i < end->damages.n; i++) {
		buf_clear(&line);
		damage_say(&line, &end->damages.v[i], end->segment_size);
		log_line("journald: WARNING: %.*s", SPAN_ARG(buf_span(&line)));
	}
	if (end->damages.more)
		log_line("journald: WARNING: and %" PRIu64 " more damaged places",
			 end->damages.more);
	buf_free(&line);
}

static void note_recovery(const struct journal_end *end, enum recovered how)
{
	char epoch[24], at[24];

	snprintf(epoch, sizeof(epoch), "%" PRIu64, end->epoch);
	snprintf(at, sizeof(at), "%" PRIu64, end->end);
	log_note("journal", "recovered", "how", names[how], "epoch", epoch, "end", at, NULL);
	if (is_damaged(how))
		log_line("journald: WARNING: journal %s, positions %" PRIu64 " to %" PRIu64
			 ": %.*s",
			 names[how], end->damage_from, end->damage_to,
			 SPAN_ARG(buf_span(&end->why)));
	note_damages(end);
}

static bool recover(struct opening *o, struct journal_end *end, enum recovered *how,
		    struct buf *why)
{
	*how = journal_recover(o->disk, end);
	if (*how == RECOVERED_FAILED) {
		if (!buf_add(why, buf_span(&end->why)))
			log_note("journal", "failed", NULL);
		return false;
	}
	note_recovery(end, *how);
	if (*how != RECOVERED_EMPTY && end->segment_size != o->segment_size) {
		log_note("control", "segmentsize", "kept",
			 "a journal keeps the one it was made with", NULL);
		o->segment_size = end->segment_size;
	}
	return true;
}

static uint64_t at_least(uint64_t n, uint64_t min, const char *what)
{
	char text[24];

	if (n >= min)
		return n;
	snprintf(text, sizeof(text), "%" PRIu64, min);
	log_note("control", what, "used", text, NULL);
	return min;
}

static void note_how(const struct opening *o, bool direct, const char *why_not)
{
	const char *no_ring = loop_why_not_uring(o->loop);

	atomic_store(&o->ring.head->direct, direct);
	atomic_store(&o->ring.head->uring, no_ring == NULL);
	log_note("journal", "open", "loop", loop_name(o->loop), "writes",
	         direct ? "direct" : "buffered", "why", direct ? "ok" : why_not,
	         no_ring ? "uring" : NULL, no_ring, NULL);
}

static bool begin(struct opening *o, const struct journal_end *end, enum recovered recovered,
		  const struct commit_calls *calls, void *ctx, struct buf *why)
{
	const char *why_not = "refused";
	struct commit_options how = {
		.segment_size = o->segment_size,
		.shard = o->shard,
		.pool = o->pool,
		.reserve = o->reserve,
		.careful = recovered == RECOVERED_DAMAGED,
	};
	int         error = ring_make(&o->ring, o->ring_size, o->segment_size);

	if (error)
		return say(why, "control/ringsize: ring of recent batches", error);
	how.direct = disk_direct_works(o->disk, &why_not);
	error = commit_open(&o->commit, o->loop, o->disk, &o->ring, end, &how, calls, ctx);
	if (error)
		return say(why, "open a segment", error);
	note_how(o, how.direct, why_not);
	o->recovered = ring_durable(&o->ring);
	return true;
}

bool opening_run(struct opening *o, const struct commit_calls *calls, void *ctx,
		 struct buf *why)
{
	struct journal_end end = {0};
	enum recovered     how;
	bool               ok;

	o->ring = (struct ring){.fd = -1, .fd_read = -1};
	o->commit = NULL;
	o->for_good = true;
	o->segment_size = at_least(o->segment_size, SEGMENT_MIN, "segmentsize");
	o->ring_size = at_least(o->ring_size, RING_MIN, "ringsize");
	ok = lock(o->disk, why) && recover(o, &end, &how, why);
	if (ok) {
		o->for_good = false;
		ok = begin(o, &end, how, calls, ctx, why);
	}
	if (ok)
		atomic_store(&o->ring.head->damaged, is_damaged(how));
	journal_end_fini(&end);
	if (!ok)
		opening_undo(o);
	return ok;
}

void opening_undo(struct opening *o)
{
	commit_free(o->commit);
	o->commit = NULL;
	ring_unmap(&o->ring);
}
