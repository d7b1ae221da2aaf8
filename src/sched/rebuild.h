/* rebuild - says how far the queue is rebuilt, while that takes long.
 *
 * On a terminal one line that is drawn over itself, ten times a second; else a line in the log
 * each REBUILD_NOTE_MS.  Nothing is said where it is done within REBUILD_QUIET_MS. */
#ifndef SCHED_REBUILD_H
#define SCHED_REBUILD_H

#include "journal/reader.h"

#define REBUILD_QUIET_MS 1000
#define REBUILD_DRAW_MS  100
#define REBUILD_NOTE_MS  5000

struct rebuild {
	uint64_t begun_ms, said_ms;
	bool terminal; /* stderr */
	bool drawn;
};
void rebuild_begin(struct rebuild *b, bool terminal);
/* After each pass; until: what was durable when the feed came. */
void rebuild_at(struct rebuild *b, const struct reader *r, uint64_t segment_size,
		uint64_t until, uint64_t messages);
void rebuild_end(struct rebuild *b);
/* Per mille of the bytes of the segments that were walked; for tests, too. */
unsigned rebuild_share(const struct manifest_entry *v, uint32_t n, uint64_t segment_size,
		       uint64_t pos, uint64_t until);

#endif
