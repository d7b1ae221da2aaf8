/* opening - everything that must hold before journald serves: the lock, recovery, the ring and
 * the first segment.  It blocks, and leaves a commit path that is ready. */
#ifndef JOURNAL_OPENING_H
#define JOURNAL_OPENING_H

#include "journal/commit.h"

struct opening {
	struct loop   *loop;
	struct disk   *disk;
	uint32_t       shard;
	uint64_t       segment_size, ring_size;   /* asked for; after opening: what it is */
	uint32_t       pool, reserve;             /* segments; see commit.h */

	struct ring    ring;
	struct commit *commit;
	uint64_t       recovered;                 /* the durable position when serving begins */
	bool           for_good;                  /* after a failure: no use to try again */
};
/* o lives as long as the commit.  false: *why is one line for a person. */
bool opening_run(struct opening *o, const struct commit_calls *calls, void *ctx,
		 struct buf *why);
void opening_undo(struct opening *o);       /* nothing may be in flight; fine after a failure */

#endif
