/* compact - what lives of a few segments is copied into a cold one.
 *
 * A round has its victims, in order of number.  Each is read a piece at a time by an errand;
 * the loop marks what live wants; another errand writes the copies, durably; then live hears of
 * them.  So the loop's share of a piece is a question for each of its records, and a record is
 * judged after all copies in front of it are known.
 *
 * A message's parts may be copied while its MSG lies elsewhere.  Then its MSG is copied behind
 * them at the end of the round, with the new positions; the old one stays where it is, stale.
 *
 * When done() is called everything that was copied is durable and nothing of it counts yet:
 * keeper.c lets sched and body correct their positions, then has the new manifest written.
 * A crash before that leaves bytes that nobody names.
 *
 *   a victim can't be read, or damage is met   it is `failed`: it stays in the queue, with what was
 *                                              copied of it in two places, which replay merges
 *   no file for the output                     the victims that are not through are `failed`
 *   a copy can't be written                    failed(): the process ends, as after a failed append */
#ifndef JOURNAL_COMPACT_H
#define JOURNAL_COMPACT_H

#include "core/buf.h"
#include "journal/commit.h"
#include "journal/errand.h"
#include "journal/live.h"

#define COMPACT_RATE       (32ull << 20) /* control/compactrate */
#define COMPACT_MOVED_MAX  (1u << 20)    /* moved positions of a round; more end it early */
#define COMPACT_OUTPUT_MAX 4                      /* cold segments that a round writes to */

struct compact_victim {
	uint64_t number, end;                     /* end: position */
	bool     failed, damaged;
};
struct compact_round {                            /* filled in until done() */
	struct compact_victim *victims;
	uint32_t     victims_n;
	/* what the next head has to name: number and end */
	struct manifest_entry output[COMPACT_OUTPUT_MAX];
	uint32_t     output_n;
	struct buf   moved;                       /* struct msg_moved of MSG and STATE records */
	uint64_t     bytes_read, bytes_written, records;
};
struct compact_options {
	struct loop       *loop;
	struct disk       *disk;
	struct errands    *errands;
	struct commit     *commit;
	const struct ring *ring;
	uint64_t           segment_size;
	uint32_t           shard;
	struct live       *live;
	void             (*done)(void *ctx);
	void             (*damaged)(void *ctx, uint64_t pos);
	void             (*failed)(void *ctx, int error);
	void              *ctx;
};
struct compact;
struct compact *compact_new(const struct compact_options *o);
/* Bytes read and written in a second; 0: as fast as it goes. */
void            compact_rate(struct compact *c, uint64_t bytes);
/* Not while one runs.  r is the caller's; victims in order. */
void            compact_begin(struct compact *c, struct compact_round *r);
bool            compact_is_busy(const struct compact *c);
/* The open output: its number, 0: none; what fits into it. */
uint64_t        compact_output(const struct compact *c, uint64_t *ret_room);
void            compact_close(struct compact *c);    /* no done() follows */
void            compact_free(struct compact *c);     /* after errands_is_closed(); fine on NULL */

void            compact_round_fini(struct compact_round *r);

#endif
