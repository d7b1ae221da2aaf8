/* commit_in - what the parts of commit share.
 *
 *   commit.c        batches, the commit point, from one segment to the next
 *   commit_space.c  which segments are named, what becomes of their files, room
 *   commit_open.c   begin and end */
#ifndef JOURNAL_COMMIT_IN_H
#define JOURNAL_COMMIT_IN_H

#include "journal/batch.h"
#include "journal/commit.h"
#include "journal/manifest.h"
#include "journal/prepare.h"

#define BATCHES      2                            /* one in flight, one that gathers */
#define RING_BATCHES 8
/* Segments that only starts may take: a full journal can still be opened. */
#define STARTS_KEPT  64

struct batch {
	struct link waiters;
	uint64_t pos; /* 0: not open */
	uint64_t blocks, seq, large;
	uint64_t begun_us;
	uint32_t flags;
	struct batch_layout layout;
};

enum writing { WRITING_NOTHING, WRITING_BATCH, WRITING_MANIFEST, WRITING_COPY, WRITING_HEAD };

struct commit {
	struct loop *loop;
	struct disk *disk;
	struct ring *ring;
	const struct commit_calls *calls;
	void *ctx;
	uint64_t segment_size, batch_blocks;
	uint32_t shard;
	bool dead;

	uint8_t uuid[16];
	uint64_t epoch, begun_ms, dead_number; /* dead_number: the newest of the run before */
	struct manifest named;    /* what the next head names, the newest left out */
	struct manifest entering; /* what the head names that is being written */
	uint64_t edits, entering_edits;
	struct damages lost; /* commit_is_lost(): what recovery said of whole segments */
	struct manifest found; /* where one is lost: all that were named when this run began */
	uint32_t named_max;
	bool switching; /* commit_switch() */
	bool jumps;     /* the next batch would lie where the one in flight is: nothing gathers */
	bool waiting;   /* too many segments: the next one is not being prepared */

	struct disk_file *file, *next_file; /* next_file: prepared; NULL: not yet */
	uint64_t number, incarnation, first_seq;
	uint64_t pos;        /* where the next batch is opened */
	uint64_t seq, chain; /* of the last batch that was laid out */
	uint64_t durable_seq;
	struct batch batches[BATCHES], *gather, *flight;
	struct rec_head first; /* of every segment, from commit_first() on; type 0: none */
	struct span first_body;
	bool first_due; /* the next batch that is opened begins with it */
	struct segment_head head; /* of the segment that is being entered */
	char *copy, *copy_raw;    /* of its block, for the segment's end; copy: aligned */
	uint64_t write_n;
	enum writing writing;
	struct op write;
	struct deferred pass;
	struct prepare prepare;

	struct timer idle;
	bool unmarked; /* acked mail that no later batch vouches for yet */
	uint64_t quiet_since_ms;
};

static inline uint64_t segment_start(const struct commit *c, uint64_t number)
{
	return number * c->segment_size;
}

static inline bool past_half(const struct commit *c)
{
	return c->pos % c->segment_size > c->segment_size / 2;
}

/* More segments than a manifest can name are not begun: commit_trouble() says so, and what
 * gathers waits until some are given up. */
static inline bool may_go_on(const struct commit *c)
{
	return c->named.n + STARTS_KEPT < c->named_max;
}

/* commit.c: the batches and the ops of a zeroed commit; the first segment of a run, blocking:
 * named by nobody yet, then by its own head. */
void commit_begin(struct commit *c);
int  commit_write_first(struct commit *c, const struct journal_end *end, uint64_t number);
void commit_prepared(void *ctx, struct disk_file *file);
void commit_prepare_next(struct commit *c);

#endif
