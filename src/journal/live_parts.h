/* live_parts - what the files of live share.  Internal to live.
 *
 * An entry's part in the live bytes follows from a few facts, its regime: has it a MSG, is it
 * over, in which segments do its MSGs lie.  Whatever changes the regime takes all of the
 * entry's bytes out (live_weigh -1), changes it, and puts them back; whatever adds or ends one
 * record accounts for that one. */
#ifndef JOURNAL_LIVE_PARTS_H
#define JOURNAL_LIVE_PARTS_H

#include "core/table.h"
#include "journal/live.h"
#include "journal/live_table.h"

/* Recipient numbers that count; keeps a bitmap below 16 MiB.  As in sched (sched/load.h) */
#define LIVE_NUMBERS_MAX (1u << 27)
/* Segments at a time: far more than a manifest can name */
#define LIVE_SLOTS_MAX   65536u

struct deferral { ref at; uint32_t attempt, left; }; /* at 0: free, left: the next free one + 1 */
#define LATEST_FAILED UINT32_MAX
struct fat {                                      /* what does not fit into an entry */
	ref             *items;                   /* in order of place; holes keep theirs */
	uint32_t         n, cap, holes;
	uint64_t        *over;
	uint32_t         over_words, over_n;
	uint32_t        *latest;                  /* by recipient: deferral + 1, LATEST_FAILED */
	uint32_t         latest_n;
	struct deferral *deferrals;
	uint32_t         deferrals_n, deferrals_free;
	ref             *stale;                   /* other MSGs of it */
	uint32_t         stale_n, stale_cap;
	/* Of a message: whose MSGs settle failures of it.  Of a bounce: whose failures; 0: none */
	uint64_t        *bounces, parent;
	uint32_t         bounces_n, bounces_cap;
};

struct slot {                                     /* a segment; a ref names it */
	struct live_segment s;                    /* number 0: it is gone */
	uint32_t  refs;                           /* used again when there are none */
	uint32_t  chain;                          /* entries whose first MSG lies here: handle + 1 */
	uint32_t *extra;                          /* and of which a later one does */
	uint32_t  extra_n, extra_cap;
};

struct act { uint64_t bound, below; ref at; bool is_live; };

struct live {
	uint64_t          segment_size;
	struct live_table table;
	struct slot      *slots;
	uint32_t          slots_n, slots_cap;     /* given so far */
	uint32_t          slot_last;              /* the one that was given last */
	struct map        by_number;              /* slot + 1 */
	uint32_t         *order;                  /* slots that are not gone, by number */
	uint32_t          order_n, order_cap;
	uint64_t          start, end;             /* positions of the segment that was looked up last */
	uint32_t          slot;
	struct live_segment *list;                /* of live_segments() */
	/* Records come in order: what is unknown is gone; parts below this id are nobody's */
	bool              ordered;
	uint64_t          below;
	uint64_t          messages, left, bytes, last_id;
	uint32_t         *leaving;                /* slots that are gone, whose messages do not know yet */
	uint32_t          leaving_n, leaving_cap;
	struct act       *acts;
	uint32_t          acts_n;
};

/* As in sched: a range that is not sane says nothing. */
static inline bool live_range_ok(struct msg_range r) { return r.first <= r.last && r.last < LIVE_NUMBERS_MAX; }

/* Numbers from here on are nobody's. */
static inline uint32_t live_numbers(const struct entry *e)
{
	return e->msg && e->rcpts < LIVE_NUMBERS_MAX ? e->rcpts : LIVE_NUMBERS_MAX;
}

static inline uint32_t ref_slot(ref r) { return (uint32_t)(r >> 48); }
static inline uint64_t ref_place(ref r) { return r >> 21; }
static inline enum item ref_item(ref r) { return (enum item)(r >> 18 & 7); }
static inline uint64_t ref_size(ref r) { return (r & 0x3ffff) * 8; }
static inline ref ref_as(ref r, enum item i) { return (r & ~((uint64_t)7 << 18)) | (uint64_t)i << 18; }

/* Memory that is counted. */
void *live_grow(struct live *l, void *old, size_t old_n, size_t n);
void  live_release(struct live *l, void *p, size_t n);

/* ---- live_segments.c: segments ---- */
/* Of a segment that is there, or is made. */
uint32_t     live_slot(struct live *l, uint64_t pos);
/* false: nothing is known of that segment */
bool         live_slot_find(const struct live *l, uint64_t pos, uint32_t *ret);
void         live_slot_unref(struct live *l, uint32_t slot);
uint64_t     live_pos(const struct live *l, ref r);
void         live_chain(struct live *l, uint32_t slot, uint32_t handle);
void         live_slots_fini(struct live *l);
/* Out of the list of segments; used again when nothing refers to it. */
void         live_slot_gone(struct live *l, uint32_t slot);

/* ---- live_entry.c: what is known of a message ---- */
struct fat  *live_fat(struct live *l, struct entry *e);
void         live_entry_free(struct live *l, uint32_t handle);
uint32_t     live_over_n(const struct entry *e);
bool         live_over_set(struct live *l, struct entry *e, uint32_t number); /* false: it was */
bool         live_over_has(const struct entry *e, uint32_t number);
void         live_item_add(struct live *l, struct entry *e, ref r);
/* The item at this place, or NULL; type HOLE: not any more. */
ref         *live_item(const struct entry *e, uint64_t place);
void         live_item_end(struct live *l, struct entry *e, ref *item);
/* *n of them */
ref         *live_items(const struct entry *e, uint32_t *ret_n);
void         live_weigh(struct live *l, struct entry *e, int sign);
/* Of one without MSG: only as an open submission. */
void         live_weigh_open(struct live *l, const struct entry *e, int sign);
/* Bytes of one record, if it counts now. */
void         live_count_item(struct live *l, const struct entry *e, ref r, int sign);
bool         live_settles(const struct live *l, const struct entry *e);
/* An OVER record in this segment is needed. */
bool         live_over_needed(const struct entry *e, uint32_t slot);
/* What this bounce settles is known from elsewhere, or not needed. */
void         live_unbind(struct live *l, struct fat *parent, uint64_t id);
void         live_regime(struct live *l, struct entry *e); /* over now? */

/* ---- live_defer.c ---- */
void         live_deferred(struct live *l, struct entry *e, ref r, const struct state_view *v);
void         live_not_deferred(struct live *l, struct entry *e, uint32_t number, bool failed);
/* NULL: it is not one of the latest */
ref         *live_deferral(const struct live *l, const struct entry *e, uint64_t place, const struct state_view *v);

void         live_deferral_moved(struct live *l, struct entry *e, ref *at, ref to);

/* ---- live_acts.c ---- */
void         live_act(struct live *l, uint64_t bound, ref r);
bool         live_act_wanted(const struct live *l, uint64_t place);
void         live_act_moved(struct live *l, uint64_t from, ref r);
void         live_acts_count(struct live *l, uint64_t id, int sign); /* a message of the queue */
void         live_acts_gone(struct live *l, uint32_t slot);
void         live_acts_tidy(struct live *l);      /* forgets those that nothing brings back */
void         live_acts_fini(struct live *l);

#endif
