/* journald - the only writer of the journal: takes submissions, outcomes and bounces, makes
 * them durable together, and answers.
 *
 *   from smtpd, qmtpd, body   PART, RCPTS, SUBMIT, ABANDON -> STORED when durable; ADMIT
 *   from run/submit           plain bytes (door.h)
 *   from sched                OUTCOMES, one REC_STATE each; CREDIT, which replaces what is left
 *                             of the last one: messages, and bytes of packed recipients
 *   to sched, body            FEED (the ring) and BELL (an eventfd, rung when it moved)
 *   to sched, from body       RETIRE, RETIRED: segments that are given up (keeper.h)
 *   to sched                  ROOM: may deliveries start
 *   from sched                COMPACT: now
 *
 * At start: lock, recover, ring, first segment; then the peers.  journald waits for nobody:
 * who reads the feed too slowly finds the segments, who sends faster than the disk is not
 * read until the batch has room.
 *
 * journald_run() is the process.  The rest is its body, for tests and the simulator. */
#ifndef JOURNAL_JOURNALD_H
#define JOURNAL_JOURNALD_H

#include "core/disk.h"
#include "journal/dict.h"
#include "journal/space.h"
#include "mail/role.h"

#define JOURNALD_DRAIN_MS 5000             /* for sched and what commits; then it ends anyway */

struct journald_options {
	struct loop *loop;
	struct disk *disk;                        /* the journal's directory; with the loop */
	int          dir_fd;                  /* of the same, for its free space; -1: unknown */
	int          submit_fd;                   /* listening, or -1; owned from then on */
	uint64_t     segment_size, ring_size; /* an old journal keeps its own */
	uint32_t     shard, alias_uid;            /* alias_uid: see door.h */
	int          zstd_level;                  /* for run/submit */
	uint32_t     pool, reserve;               /* segments; see commit.h */
	bool         latched;                     /* no new mail until CONTROL comes */
	struct dict  dict;                        /* for all mail; number 0: none */
	uint64_t     compact_rate;                /* bytes a second; 0: as fast as it goes */
	struct space_keep keep;                   /* control/journalkeep */
	void       (*drained)(void *ctx);         /* after journald_drain(), once */
	void        *ctx;
};
struct journald;
/* NULL: can't be, *why is one line for a person; for good: no use to try again. */
struct journald *journald_new(const struct journald_options *o, struct buf *why,
			      bool *ret_for_good);
void journald_peer(struct journald *j, uint32_t role, uint32_t index, int fd);
void journald_drain(struct journald *j); /* no new mail; drained() when all is durable */
/* The end, without draining: passes until journald_is_closed(), then free. */
void journald_close(struct journald *j);
bool journald_is_closed(const struct journald *j);
void journald_free(struct journald *j);
void journald_control(struct journald *j, uint64_t compact_rate, const struct space_keep *keep);
struct store  *journald_store(struct journald *j);   /* tests look at them */
struct keeper *journald_keeper(struct journald *j);

_Noreturn void journald_run(struct role *r);

#endif
