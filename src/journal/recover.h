/* recover - what journald does before anything else: find the end of what was ever promised.
 *
 * Reads the directory, believes the newest valid segment head, checks that every segment it
 * names is there, walks the newest segment to its end, and says which of the named outcomes it
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
#include "journal/segments.h"

enum recovered {
	RECOVERED_EMPTY,                          /* no journal yet: make one */
	/* ended with a seal, an idle mark or a whole batch */
	RECOVERED_CLEAN,
	/* an unfinished tail that was never acknowledged: cut off */
	RECOVERED_TORN,
	/* a last batch that may have been acknowledged is bad: quarantined, loud */
	RECOVERED_AMBIGUOUS,
	/* acknowledged bytes are bad, or a named segment is missing, cut short, or another journal's:
	 * the places are named, loud; what is readable around them is delivered */
	RECOVERED_DAMAGED,
	/* can't go on: the newest segment is lost, two journals mixed, newer version, I/O error */
	RECOVERED_FAILED,
};
struct journal_end {
	uint8_t  uuid[16];
	uint64_t epoch, number, end, seq, chain, oldest, segment_size;
	uint32_t shard;
	/* DAMAGED or AMBIGUOUS: the batches of the newest segment that bad blocks are in, from the first to
	 * the last; if it has none, the first place */
	uint64_t damage_from, damage_to;
	/* every place that recovery knows: it looks at all heads, and at the newest segment's blocks */
	struct damages damages;
	/* all that the newest head names, by number (hot, then cold); the last is the newest */
	struct manifest_entry *segments;
	uint32_t segments_n;
	struct buf why;                           /* one line for a person */
};
enum recovered journal_recover(struct disk *d, struct journal_end *ret);
void journal_end_fini(struct journal_end *e);
/* One place as a line for a person: segment, offsets, what.  Cut at the buffer's maximum. */
void damage_say(struct buf *to, const struct damage *d, uint64_t segment_size);

#endif
