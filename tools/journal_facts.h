/* journal_facts - what a journal's records say of its messages, and whether it can all be true.
 *
 * For verify.  Fed with every good record and with every range where records may have been lost;
 * then judged: each message that is in the queue and not over has all its parts, they hold as many
 * bytes and recipients as its MSG says, no recipient number twice; copies of a MSG or a part say
 * the same; no outcome is of a recipient that is not there.  What was lost is named by the messages
 * it belongs to, as far as what is left tells.
 *
 * Memory: 32 bytes for each part, 72 for each MSG and 8 for each of its positions, 32 for each range of
 * recipients in an outcome. */
#ifndef TOOLS_JOURNAL_FACTS_H
#define TOOLS_JOURNAL_FACTS_H

#include "journal/format.h"

struct fact_part { uint64_t id, pos; uint32_t key, hash, first, count; };
struct fact_msg {
	uint64_t id, pos, size, hints;            /* hints: where its positions begin in the list */
	uint64_t hash;                            /* of all but its positions */
	uint32_t body_parts, rcpt_parts, rcpts, pad;
	bool     queued;
};
struct fact_range { uint64_t id, pos; uint32_t first, last; bool over; };
struct fact_lost { uint64_t from, to, low, high; };       /* low, high: ids that may have been there */
struct fact_list { char *v; size_t n, cap; };     /* of one of these */
struct facts {
	uint64_t segment_size;
	struct fact_list parts, msgs, hints, ranges, losses;
	/* after facts_judge() */
	uint64_t messages, queued, uncommitted, stale_hints;
};
void facts_init(struct facts *f, uint64_t segment_size);
void facts_fini(struct facts *f);
/* queue: its segment is part of the queue, not history or quarantine */
void facts_record(struct facts *f, uint64_t pos, const struct rec_head *h, struct span body, bool queue);
void facts_lost(struct facts *f, uint64_t from, uint64_t to);
/* Once. state: "queued", "done", "uncommitted" or, where only outcomes are left, "lost"; pos: where, or 0. */
void facts_judge(struct facts *f,
		 void (*say)(void *ctx, uint64_t id, const char *state, uint64_t pos, const char *what), void *ctx);

#endif
