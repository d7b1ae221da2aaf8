/* reader - records by position: from the ring where it still has them, else from the segments.
 *
 * Used by sched and body (beside a running journald), by recovery's tests and by tools (without
 * a ring).  Blocking reads, 1 MiB at a time when walking, one part's size when asked for one.
 * Everything returned was checked: block tags, batch head, record checksum, bounds. */
#ifndef JOURNAL_READER_H
#define JOURNAL_READER_H

#include "core/buf.h"
#include "core/disk.h"
#include "journal/format.h"
#include "journal/ring.h"

struct record {
	uint64_t        pos;
	struct rec_head head;
	struct span     body;                     /* valid until the next call on this reader */
};
enum read_result {
	READ_OK, READ_END /* the durable position */, READ_DAMAGE /* *ret->pos: where; walking goes on behind it */,
	READ_GONE /* no such record there: recycled, moved */, READ_ERROR
};
enum read_bodies {
	BODIES_PASS,                              /* BODY records are passed over unread */
	BODIES_WHOLE,
	BODIES_HEADS                              /* a BODY's body is its struct rec_body only, not checked */
};
struct reader;
/* segs: the journal's directory; ring may be NULL (a stopped journal: reads to the end found by
 * journal_recover).  Walking begins with the oldest record of the queue.
 *
 * The ring is looked at in every call; when journald was started anew, its owner may map the
 * new ring into the same struct, and walking goes on where it was. */
struct reader *reader_new(struct disk *segs, const struct ring *ring, uint64_t segment_size,
		uint32_t shard);
void           reader_free(struct reader *r);
/* reads the heads; 0 or -errno and why */
int            reader_open(struct reader *r, struct buf *why);
/* Walking: everything durable, in order, across segments, NOP, SEAL and MANIFEST included; what
 * is of a kind we don't know and may be skipped is skipped.  bodies false: BODY records are
 * passed over unread.  After READ_END more may come; after READ_ERROR and a pause, too. */
enum read_result reader_next(struct reader *r, enum read_bodies bodies, struct record *ret);
/* everything below it was returned; READ_END: == durable */
uint64_t         reader_pos(const struct reader *r);
/* One record at a position; it must be of this type, id and number. */
enum read_result reader_at(struct reader *r, uint64_t pos, enum rec_type type, uint64_t id,
		uint32_t number, struct record *ret);

/* No file is kept open for look-ups any more, as segments are given up: one that is removed must give
 * its space back. */
void             reader_forget(struct reader *r);

/* For tools: walk what is HISTORY, too.  Before reader_open(). */
void             reader_with_history(struct reader *r);
/* Without a ring.  reader_open() opens all segments and locks them (flock, shared), so that none is
 * used again before reader_free(): what is read is one state of the journal.  Beside a running
 * journald, the newest is read up to `durable` (quire status says it); 0: the journal is stopped. */
void             reader_for_tool(struct reader *r, uint64_t durable);
/* Only one segment, named by the manifest or not; if there is no seg-<number>, bad-<number>.  to: its
 * end; 0: the last of its blocks.  With or without reader_open(). */
int              reader_only(struct reader *r, uint64_t number, uint64_t to, struct buf *why);
/* Where reader_open() can't be had: whose blocks reader_only() takes. */
void             reader_use_uuid(struct reader *r, const uint8_t uuid[16]);
/* The manifest that the reader walks by: entries in the order of walking (cold ones first). */
const struct manifest_entry *reader_manifest(const struct reader *r, uint32_t *ret_n);
const uint8_t   *reader_uuid(const struct reader *r);
/* Of the batch that the last record came from.  false: its head is lost; pos, end and seq are of what is
 * left of it. */
struct read_batch { uint64_t pos, end, seq, time_us; uint32_t flags; };
bool             reader_batch(const struct reader *r, struct read_batch *ret);
/* The DICT with this number in the segment that holds `pos`: it lies in front of the first frame that
 * needs it.  Where it can't be read there, another segment's.  READ_GONE: there is none. */
enum read_result reader_dict(struct reader *r, uint64_t pos, uint32_t number, struct record *ret);
/* A segment whose index (journal/index.h) is rotten; each once.  The segment itself is read instead. */
bool             reader_rotten(struct reader *r, uint64_t *ret_number);

#endif
