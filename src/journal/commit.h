/* commit - many submissions, one durable write.
 *
 * Records that are added while a write is in flight form the next batch: one direct, dsynced
 * write out of the ring.  The completion of that write is the commit point: before it nothing
 * was promised, after it everything in the batch was.  No timer: a lone record is written in
 * the pass in which it came.  A failed write ends the process (die_sys): no retry; the next
 * start opens a new segment whose head says where this one ends.
 *
 * Positions are final when a record is added.  Batches complete in order.
 *
 * The next segment file is prepared by a thread of its own (journal/prepare.h) long before it
 * is needed.  Where it is not there in time, or can't be had (commit_room), records gather
 * until the batch is full, and wait: nothing fails.
 *
 * Waiting for more than one durable place has one seam: batch_is_durable() in commit.c runs
 * when the local write is complete, and is what publishes and answers.  A copy elsewhere would
 * be sent where that write is started, and counted there before that function is called. */
#ifndef JOURNAL_COMMIT_H
#define JOURNAL_COMMIT_H

#include "core/disk.h"
#include "journal/recover.h"
#include "journal/ring.h"

struct commit;
/* lives in its owner until done ran, or waiter_cancel() */
struct waiter {
	struct link link;
	void (*done)(struct waiter *w);           /* the batch is durable; from the loop */
};
struct commit_calls {
	/* the durable position moved: ring the bells */
	void (*moved)(void *ctx, uint64_t durable);
	/* a batch has left, the next one is empty: try again what did not fit */
	void (*room)(void *ctx);
	/* a write failed: journald dies here; after it the commit is dead and only
	 * commit_free() is legal */
	void (*failed)(void *ctx, int error);
	/* A segment was entered, its head is durable: the edits numbered up to `edits` hold now,
	 * and files that are named no more may be touched.  Not for the first one, which
	 * commit_open() enters.  May be NULL. */
	void (*entered)(void *ctx, uint64_t number, uint64_t edits);
};
/* Opens the next segment (blocking writes: its head, durable) after a recovery that did not end
 * in RECOVERED_FAILED.  ring: made for it.  direct: whether the directory takes O_DIRECT.  An
 * existing journal keeps its segment size (end->segment_size): another one is -EINVAL, as is one
 * too small for the ring.  0 or -errno. */
struct commit_options {
	uint64_t segment_size;
	uint32_t shard;
	bool     direct;
	/* segments: spares beyond the reserve that are kept; kept for outcomes, compaction, bounces */
	uint32_t pool, reserve;
	/* Recovery met damage: files that the newest head does not name may hold what it lost,
	 * and stay. */
	bool     careful;
};
int  commit_open(struct commit **ret, struct loop *l, struct disk *d, struct ring *r, const struct journal_end *end,
                 const struct commit_options *o, const struct commit_calls *calls, void *ctx);
/* nothing may be in flight; not from a callback */
void commit_free(struct commit *c);
uint64_t commit_epoch(const struct commit *c);

/* One record; body in pieces.  Returns its position, or 0: this batch is full (try after room()).
 * large: a part of mail that has more than one part (see BATCH_LARGE_MAX).  acked: somebody will be told yes. */
enum { COMMIT_LARGE = 1, COMMIT_ACKED = 2 };

/* ---- which segments there are (docs/journal.md, Compaction) ----
 *
 * A change of the manifest is durable with the next segment's head, never before; the newest
 * segment itself can't be changed.  Each returns its number; commit_calls.entered says when it
 * holds.  NAME: a segment that is complete and durable up to e->end, or has a new end; its
 * incarnation is filled in; 0: no more can be named now. */
uint64_t commit_name(struct commit *c, const struct manifest_entry *e);
uint64_t commit_to_history(struct commit *c, uint64_t number, uint32_t closed_s);
uint64_t commit_drop(struct commit *c, uint64_t number);
/* What the next head will name, in order of number, without the newest. */
const struct manifest_entry *commit_named(const struct commit *c, uint32_t *ret_n);
/* Was it missing, cut or another journal's when this run began?  Then nobody knows what lives in
 * it: it stays named, and each start says so again, until it is back. */
bool     commit_is_lost(const struct commit *c, uint64_t number);
/* The same for each segment that this run found, as long as one is lost: it may hold parts of what
 * is to come back, or outcomes without which that would be delivered twice. */
bool     commit_stays(const struct commit *c, uint64_t number);
/* The segment that is written. */
uint64_t commit_number(const struct commit *c);
const uint8_t *commit_uuid(const struct commit *c);
/* Seals the segment with the next batch, however full it is, as soon as the next file is
 * prepared; adds a NOP if nothing gathers.  Batches do not wait for it. */
void     commit_switch(struct commit *c);
/* The file of a segment that no durable head names is used again (its locks permitting), or
 * removed where there are enough; keep: it is renamed to bad-<number> and stays. */
void     commit_recycle(struct commit *c, uint64_t number, bool keep);
/* A file of the pool for compaction's output, named seg-<number>, number >= COLD_FIRST: ready()
 * from the loop, file NULL: none can be had.  One at a time. */
void     commit_cold_file(struct commit *c, uint64_t number,
		void (*ready)(void *ctx, struct disk_file *file), void *ctx);

/* ---- room (docs/journal.md, Room) ----
 *
 * RESERVE segments are really written and kept for outcomes (2), compaction's output (1), and
 * what is in flight when these are used up, bounces above all (1).  New mail waits or is refused
 * before any of them is touched. */
enum commit_room {
	ROOM_PLENTY,
	ROOM_NO_MAIL,                             /* new mail is refused: 452 4.3.1 */
	/* and no delivery starts: what is left is for what is in flight */
	ROOM_NO_DISPATCH
};
enum commit_room commit_room(const struct commit *c);
/* complete files: beyond the reserve; of the reserve */
struct commit_space { uint64_t spares, reserve, reserve_wanted; };
void     commit_space(const struct commit *c, struct commit_space *ret);

uint64_t commit_add(struct commit *c, struct rec_head *h, const struct span *pieces,
		int pieces_n, unsigned flags) must_use;
/* Once, before the first record: what every segment begins with, the open one included, as the rest can't
 * be read without it (a dictionary).  body stays as long as c. */
void     commit_first(struct commit *c, const struct rec_head *h, struct span body);
/* sum of rec_size(); then commit_add can't fail */
bool     commit_fits(const struct commit *c, size_t bytes, unsigned flags);
/* rec_size() of the largest record that ever fits */
size_t   commit_record_max(const struct commit *c);
/* 0, or why the next segment can't be prepared: -ENOSPC, ...; it is tried again */
int      commit_trouble(const struct commit *c);
/* for the batch that gathers now */
void     commit_wait(struct commit *c, struct waiter *w);
void     waiter_init(struct waiter *w, void (*done)(struct waiter *));
void     waiter_cancel(struct waiter *w);         /* fine when it does not wait */
bool     commit_is_idle(const struct commit *c);  /* nothing gathers, nothing in flight */

#endif
