/* prepare - segment files before anybody needs them, and after.
 *
 * A thread (journal/errand.h) does one job at a time, the first of these that can be done:
 *
 *   take      a spare is renamed to seg-N and the directory synced: the next segment, or
 *             compaction's output.  So a seg- file that exists is complete, and its name is
 *             durable before its number is written anywhere
 *   recycle   a segment that no durable head names becomes a spare as it is (its blocks are
 *             told by their incarnation), or is removed where there are enough.  A file that somebody holds
 *             a lock on is left alone until he is through.  A damaged one is renamed to bad-N and stays
 *   fill      a step of a new spare: fill-N gets zeros, really written and synced, and when it is
 *             complete becomes spare-N.  Steps are short: whoever wants a spare waits for one at the most
 *
 * What fails is tried again after a second.
 *
 * Spares: `reserve` of them are for what must go on when the disk is full, `pool` more are at hand.
 * Short of room (prepare_is_short()) is when a spare can't be made and no more than the reserve is
 * left, the prepared next segment counted.  It is over when there is more than the reserve again.
 * While it lasts the owner refuses new mail, and the reserve is taken from: by the next segment
 * while more than two are left; one of these two is compaction's, the other the next
 * segment's when prepare_last() was called (for a reserve of less than four: half of it).
 * The first time the reserve is built, mail may take from it as long as nothing fails; later
 * never. */
#ifndef JOURNAL_PREPARE_H
#define JOURNAL_PREPARE_H

#include "core/disk.h"
#include "journal/errand.h"

struct prepare_options { uint64_t segment_size; bool direct; uint32_t pool, reserve; };

struct prepare_past {                             /* a segment that nobody needs any more */
	uint64_t number, due_ms;                  /* not before; monotonic clock */
	bool     keep, said;
};
enum prepare_job { JOB_NONE, JOB_TAKE, JOB_TAKE_COLD, JOB_RECYCLE, JOB_FILL };

struct prepare {
	struct loop           *loop;
	struct disk           *disk;
	struct prepare_options o;
	/* open for writing; once for each prepare_begin() */
	void                 (*ready)(void *ctx, struct disk_file *file);
	void                  *ctx;

	uint64_t               wanted;            /* the number that is being prepared; 0: none */
	uint64_t               cold;              /* the same for compaction */
	void                 (*cold_ready)(void *ctx, struct disk_file *file);
	void                  *cold_ctx;
	uint64_t              *spares, spare_last;
	uint32_t               spares_n, spares_cap;
	struct prepare_past   *past;
	uint32_t               past_n, past_cap;

	int                    error;             /* why the last spare was not made or taken */
	bool                   take_failed, built, is_short;
	bool                   last_ok, last_taken, cold_taken;
	uint64_t               fill_due_ms, take_due_ms;
	struct errands        *errands;
	struct timer           timer;

	/* the job's: the thread's while errand.given */
	struct errand          errand;
	enum prepare_job       job;
	uint64_t               number, spare;     /* of the segment; of the spare it was or becomes */
	struct prepare_past    leaving;
	struct disk_file      *file, *fill_file;
	uint64_t               fill_number, fill_at;
	int                    result;
};

void prepare_init(struct prepare *p, struct loop *l, struct disk *d, const struct prepare_options *o,
                  void (*ready)(void *ctx, struct disk_file *file), void *ctx);
/* ends the thread's step; not from a callback */
void prepare_fini(struct prepare *p);
/* Looks what is there from an earlier run: complete spares are kept, the rest of them removed. 0 or -errno. */
int  prepare_look(struct prepare *p);
/* Blocking, at start, before prepare_begin(): seg-number, made durable and open for writing. 0 or -errno. */
int  prepare_now(struct prepare *p, uint64_t number, struct disk_file **ret);
void prepare_begin(struct prepare *p, uint64_t number);
/* One at a time.  file NULL: none can be had. */
void prepare_cold(struct prepare *p, uint64_t number, void (*ready)(void *ctx, struct disk_file *file), void *ctx);
void prepare_recycle(struct prepare *p, uint64_t number, bool keep, uint64_t due_ms);
/* The segment that is wanted may take the last of the reserve, if it comes to that. */
void prepare_last(struct prepare *p);
static inline bool prepare_is_short(const struct prepare *p)
{
	return p->is_short;
}
/* Can the next segment still be had without prepare_last()? */
bool prepare_has_more(const struct prepare *p);

#endif
