/* keeper - gives segments of the queue up: decided by space, copied by compact, agreed with
 * whoever reads.
 *
 * A group of segments leaves together:
 *
 *   COPYING    compact makes copies of what lives in them (dead ones skip this)
 *   RETIRING   MSG_RETIRE went to sched, and from there to each body, with what has moved.  Nobody
 *              may read by an old position when all of them have said MSG_RETIRED
 *   NAMED      the next hot head will not name them, and will name the copies
 *   ENTERED    that head is durable: live forgets them; files that became HISTORY stay, the
 *              others are used again, or kept as bad-<number> where damage was met
 *
 * A crash in any of these: the newest head decides, so either all of the group is there, or the
 * copies are.  A sched that comes anew may have read an old head: everything that has not been
 * given back is retired again, under a new serial, before it is.
 *
 * Starts when the sweep is done; before that nothing leaves.  All of it runs in the loop;
 * errands do what blocks. */
#ifndef JOURNAL_KEEPER_H
#define JOURNAL_KEEPER_H

#include "journal/compact.h"
#include "journal/space.h"
#include "journal/sweep.h"

#define KEEPER_BODIES_MAX 64                      /* as ROLE_PEERS_MAX */

struct keeper_calls {
	/* To sched, which is there.  moved: struct msg_moved, again and again. */
	void (*retire)(void *ctx, const struct msg_retire *m, struct span moved);
	/* May deliveries start; new mail be taken: look again. */
	void (*room)(void *ctx);
	void (*failed)(void *ctx, int error);     /* a copy can't be written */
};
struct keeper_options {
	struct loop        *loop;
	struct disk        *disk;
	struct commit      *commit;
	const struct ring  *ring;
	uint64_t            segment_size;
	uint32_t            shard;
	uint64_t            compact_rate;
	struct space_keep   keep;                 /* control/journalkeep */
	uint64_t            index_age_ms;         /* sealed so long: worth an index; 0: ten seconds */
	const struct keeper_calls *calls;
	void               *ctx;
};
struct keeper_counts {
	uint64_t rounds, victims, given_up, recycled, damaged, copied_bytes, failed_rounds, switches;
};
struct keeper;
struct keeper *keeper_new(const struct keeper_options *o);
void           keeper_moved(struct keeper *k);    /* the durable position moved */
void           keeper_entered(struct keeper *k, uint64_t number, uint64_t edits);
/* A submission that wrote something will not be committed. */
void           keeper_abandoned(struct keeper *k, uint64_t id);
/* sched is there, anew or not at all; which bodies are: bits by index; a body that came anew. */
void           keeper_sched(struct keeper *k, bool there);
void           keeper_bodies(struct keeper *k, uint64_t there);
void           keeper_body_came(struct keeper *k, uint32_t index);
void           keeper_retired(struct keeper *k, uint32_t body, const struct msg_retired *m);
void           keeper_control(struct keeper *k, uint64_t compact_rate, const struct space_keep *keep);
void           keeper_compact(struct keeper *k);  /* now, whatever their age */
void           keeper_count(const struct keeper *k, struct keeper_counts *ret);
/* NULL until the sweep is done. */
const struct live *keeper_live(const struct keeper *k);
/* Nothing is copied, given up or asked for. */
bool           keeper_is_idle(const struct keeper *k);
void           keeper_close(struct keeper *k);    /* passes until closed, then free */
bool           keeper_is_closed(const struct keeper *k);
void           keeper_free(struct keeper *k);

#endif
