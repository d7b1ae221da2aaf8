/* space - which segments go, which are copied together, what history is kept.
 *
 * Only decisions, no I/O and no clock: keeper.c says what there is and does what is answered.
 *
 *   dead        nothing in it is live and nobody is submitting into it: it goes without a copy
 *   victims     what lives of them is less than half of their files, however much of those was
 *               used: copied together into a cold segment (or a few), then they go.  Only when
 *               the round frees at least one segment more than it fills
 *   history     what left the queue and is kept (control/journalkeep), the oldest goes first
 *
 * Rules of age keep mail that is just being delivered from being copied: what was sealed less
 * than SPACE_AGE_S ago is left alone.  They yield when the journal is tight: its segments are
 * more than twice what lives in them and SPACE_SLACK; when the disk is short; and when an
 * administrator says so.  Damaged segments are never copied from: they stay as they are until
 * nothing in them is live. */
#ifndef JOURNAL_SPACE_H
#define JOURNAL_SPACE_H

#include <stdbool.h>
#include <stdint.h>

#define SPACE_AGE_S      600
/* Segments: the one that is written, the one that compaction fills.  With one more that is sealed and one
 * that waits to be given up, the journal stays below twice the live bytes and four segments. */
#define SPACE_SLACK      2
#define SPACE_ROUND_MAX  64                       /* victims of one round */
/* Sealing early takes a segment that is not full: worth it where it gives back more. */
#define SPACE_SWITCH_MIN 2

struct space_segment {                            /* of the queue, sealed */
	uint64_t number;
	uint64_t used, live;                      /* bytes */
	uint64_t sealed_s;                        /* seconds ago */
	uint32_t open;                            /* submissions */
	bool     cold;
	bool     filling;                         /* compaction's open output */
	bool     leaving;                         /* a copy is being made, or it is on its way out */
	bool     damaged;
};
struct space_view {
	uint64_t segment_size;
	const struct space_segment *v;            /* without the newest */
	uint32_t n;
	uint64_t live;                            /* bytes in all of them, and in the newest */
	uint64_t cold_room;                       /* bytes that the filling one still takes */
	bool     disk_short;                      /* new mail is refused for want of room */
	bool     asked;                           /* quire journal compact */
};
bool     space_is_tight(const struct space_view *s);
/* Both return how many; ret has room for max. */
uint32_t space_dead(const struct space_view *s, uint64_t *ret, uint32_t max);
uint32_t space_victims(const struct space_view *s, uint64_t *ret, uint32_t max);

struct space_past { uint64_t number, closed_s; }; /* wall clock: when it left the queue */
struct space_keep { uint64_t bytes, days; };      /* either 0: nothing is kept */
/* How many of the oldest go; v in order of closed_s. */
uint32_t space_forget(const struct space_past *v, uint32_t n, const struct space_keep *k,
		uint64_t segment_size, uint64_t now_s, bool disk_short);
bool     space_keeps(const struct space_keep *k);

#endif
