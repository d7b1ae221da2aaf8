/* recover - what journald does before anything else: find the end of what was ever promised.
 *
 * Reads the directory, believes the newest valid segment head, checks that every segment it
 * names exists, walks the newest segment to its end, and says which of the named outcomes it
 * met.  It is read-only.  After it, journald opens a new segment whose head says where the
 * old one ends: that write is the only consequence of a recovery.
 *
 * What ret holds: after EMPTY zeros, after FAILED only `why`; else all, `end` being the
 * position behind the last batch that counts (an ambiguous batch counts: what is readable of
 * it is delivered).  `why` says something for a person except after EMPTY and CLEAN. */
#ifndef JOURNAL_RECOVER_H
#define JOURNAL_RECOVER_H

#include "core/buf.h"
#include "core/disk.h"
#include "journal/format.h"

enum recovered {
	RECOVERED_EMPTY,                          /* no journal yet: make one */
	/* ended with a seal, an idle mark or a whole batch */
	RECOVERED_CLEAN,
	/* an unfinished tail that was never acknowledged: cut off */
	RECOVERED_TORN,
	/* a last batch that may have been acknowledged is bad: quarantined, loud */
	RECOVERED_AMBIGUOUS,
	/* acknowledged bytes are bad: the range is named, loud */
	RECOVERED_DAMAGED,
	/* can't go on: a segment missing, another journal's, newer version, I/O error */
	RECOVERED_FAILED,
};
struct journal_end {
	uint8_t  uuid[16];
	uint64_t epoch, number, end, seq, chain, oldest, segment_size;
	uint32_t shard;
	uint64_t damage_from, damage_to;          /* positions, when DAMAGED or AMBIGUOUS */
	/* all that make the queue, in order; the last is the newest */
	struct manifest_entry *segments;
	uint32_t segments_n;
	struct buf why;                           /* one line for a person */
};
enum recovered journal_recover(struct disk *d, struct journal_end *ret);
void journal_end_fini(struct journal_end *e);

#endif
