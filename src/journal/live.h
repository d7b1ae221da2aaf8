/* live - what of the journal must not be forgotten.
 *
 * Fed with every durable record (sweep.c), in any order and copies included, it knows of each
 * segment how many bytes are live: a record is live while forgetting it would change a replay.
 *
 *   BODY, RCPT   of an open submission: live, and its segment is pinned;
 *                of a message that is not over: live.  Else dead
 *   MSG          of a message that is not over: the copy at its highest position is live.
 *                A bounce's MSG settles failures of its parent: see STATE
 *   STATE        over (delivered, settled, dropped; what a bounce's MSG settles): live while its
 *                message is not over, and then while some other segment holds a MSG of it,
 *                whether that one is live or not: without it, that MSG would be replayed
 *                as new.  One that says nothing new is dead;
 *                deferred: live while its message is not over and no later attempt was
 *                recorded for the same recipients; failed, cancelled: while its message
 *                is not over (the bounce's text)
 *   ACT          live while a message with a lower id than its own is in the queue (its own 0: any)
 *   DICT         dead: whoever copies a frame takes its dictionary along
 *   others       dead
 *
 * A message is over when each recipient is delivered, settled or dropped.
 *
 * Pure: no I/O, no clock.  Memory: some 64 bytes for a message of up to 32 recipients that is in the
 * queue or whose MSG still lies in a segment, while three records and no more are to be remembered
 * beside its MSG.  Else some 100 bytes more, 8 for each such record, a bit for each recipient, and for
 * recipients that were deferred apart 16 bytes a deferral and 4 a recipient. */
#ifndef JOURNAL_LIVE_H
#define JOURNAL_LIVE_H

#include "journal/reader.h"

struct live;
struct live_segment {
	uint64_t number;
	uint64_t live;                            /* bytes: rec_size() of what is live, summed up */
	uint64_t bytes;                           /* of all records that were seen in it */
	uint32_t open;                            /* open submissions with parts in it */
	uint32_t messages;                        /* MSGs of messages that are not over */
};
struct live_counts { uint64_t messages, recipients_left, live_bytes, entries, memory; };

struct live *live_new(uint64_t segment_size);
void         live_free(struct live *l);
/* r: a record with its body; of a BODY its head and struct rec_body suffice. */
void         live_record(struct live *l, const struct record *r);
/* The submission will never be committed. */
void         live_abandon(struct live *l, uint64_t id);
/* The journal was read to its end.  All parts without MSG whose id is below this are nobody's: the run
 * that took them is over.  From now on records come in order: of a message that is not known, an
 * outcome says nothing. */
void         live_forget_parts(struct live *l, uint64_t below_id);
/* The segment is not part of the queue any more: what it held is not there. */
void         live_gone(struct live *l, uint64_t number);
/* What a segment's going means for its messages is worked out bit by bit, with the records that follow or
 * here: until then outcomes of theirs count as live.  true: there is more. */
bool         live_work(struct live *l, uint32_t messages);

/* Must a compaction of this record's segment copy it?  A STATE whose message's MSGs all lie in the
 * same segment needs no copy: they go together. */
bool         live_wants(const struct live *l, const struct record *r);
/* The MSG of a bounce that is over (live_msg_at() says 0) is wanted for what it settles: what is
 * copied is a STATE of its parent, settled, with the MSG's ranges; live_copied() takes it for that.
 *
 * While a segment is looked at and copied, messages become over.  So when all copies were said,
 * and live is not 0 in the segment, it is looked at once more; never is one dropped with
 * live bytes in it. */
/* A copy is durable in a segment that is not part of the queue yet: from now on it counts as a
 * copy as if live_record() had seen it, and the one at `from` is not wanted any more.  r: the copy. */
void         live_copied(struct live *l, const struct record *r, uint64_t from);
/* Where the MSG of a message that is not over lies; 0: none. */
uint64_t     live_msg_at(const struct live *l, uint64_t id);

/* NULL: nothing is known of it.  Pointers hold until the next change. */
const struct live_segment *live_segment(const struct live *l, uint64_t number);
/* All, by number. */
const struct live_segment *live_segments(const struct live *l, uint32_t *ret_n);
void         live_count(const struct live *l, struct live_counts *ret);

#endif
