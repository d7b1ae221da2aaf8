/* sweep - feeds live with the journal: first what earlier runs left, then what becomes durable.
 *
 *   LOADING    errands read the segments, some MiB each, cold ones first, until the durable
 *              position is reached; live belongs to the thread while one runs
 *   FOLLOWING  sweep_moved(), once a batch, reads it out of the ring, from the loop
 *   BEHIND     the ring does not hold the next batch any more, as nobody said in time that it was
 *              there: errands read on out of the segments.  live stays the loop's, and is told in
 *              done(); until then it does not know all that is durable, so nothing may be given
 *              up.  FOLLOWING again as soon as the ring holds what comes next
 *
 * What could not be asked of the disk (not: what it answered wrong) is asked again each second.
 *
 * Damage that is met is reported once for each place, with segment and offset: the segment is
 * marked, and whoever gives it up keeps its file (docs/journal.md, Quarantine). */
#ifndef JOURNAL_SWEEP_H
#define JOURNAL_SWEEP_H

#include "core/disk.h"
#include "journal/errand.h"
#include "journal/live.h"

struct sweep;
struct sweep_calls {
	void (*loaded)(void *ctx);                /* once, from the loop: FOLLOWING, the first time */
	void (*damaged)(void *ctx, uint64_t pos); /* from the loop */
};
/* ring: the writer's own. */
struct sweep *sweep_new(struct loop *l, struct errands *w, struct disk *d, const struct ring *ring,
		uint64_t segment_size, uint32_t shard, const struct sweep_calls *calls, void *ctx);
void          sweep_free(struct sweep *s);        /* after errands_is_closed() */
void          sweep_moved(struct sweep *s);       /* the durable position moved */
/* NULL while LOADING */
struct live  *sweep_live(struct sweep *s);
bool          sweep_is_behind(const struct sweep *s);     /* live is right, but of some time ago */
bool          sweep_is_damaged(const struct sweep *s, uint64_t number);

#endif
