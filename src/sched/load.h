/* load - a message while it is put together from its records.
 *
 * Records of a message come in any order, and more than once where copies were made.  A load
 * merges them: RCPT parts by number, the MSG, and what STATEs and bounces say about
 * recipients.  A final outcome beats a deferral, delivered beats failed, and among deferrals
 * the highest attempt counts, so that the order does not matter.
 *
 * While the journal is replayed, a load waits for the end; a message that is over before is
 * forgotten at once, but for its number: loads_is_over() keeps a late copy from reviving it.
 * Afterwards a load lasts from a message's first part to its MSG.  Parts that nobody commits
 * are dropped when they take too much room; should the MSG come after all, its hints say
 * where to read them again. */
#ifndef SCHED_LOAD_H
#define SCHED_LOAD_H

#include "core/list.h"
#include "core/table.h"
#include "journal/reader.h"

/* Bytes of RCPT parts without MSG, all loads together, after replay */
#define LOAD_PARTS_MAX   (64u * 1024 * 1024)
/* Recipients of one message; keeps a bitmap below 16 MiB */
#define LOAD_NUMBERS_MAX (1u << 27)
/* Bytes of deferrals of one message: 32 each */
#define LOAD_STATES_MAX  (1024u * 1024 * 1024)

struct bits {                                     /* a set of recipient numbers that grows */
	uint64_t  few, *many;
	uint32_t  words, count;
};
bool bits_set(struct bits *b, uint32_t i);        /* false: it was set already */
bool bits_has(const struct bits *b, uint32_t i);
void bits_fini(struct bits *b);

struct load_part {
	struct load_part *next;
	uint32_t          number, first, count, n;
	uint8_t           flags;                  /* of its rec_head */
	char              packed[];
};
/* A STATE that holds a failure's text */
struct text_at { uint64_t pos; uint32_t number, pad; };
struct load_deferral {
	struct msg_range range;
	uint64_t         next_us, pos;
	uint32_t         attempt, pad;
};
struct load_states {
	/* Delivered or settled; failed and not reported */
	struct bits over, failed;
	struct buf  texts;                        /* struct text_at */
	struct buf  deferrals;                    /* struct load_deferral */
};
struct load {
	uint64_t            id;
	struct link         link;                 /* open or committed, the oldest first */
	struct load_part   *parts;                /* by number */
	struct load_states *states;               /* NULL: nothing was said yet */
	bool                committed;            /* what follows is known */
	uint16_t            sender_n;
	uint32_t            parts_n, parts_bytes;
	uint32_t            rcpts, rcpt_parts, uid, pid;
	uint64_t            pos, arrival_us, size;
	uint64_t            replay_of;            /* the message that it delivers again; 0: none */
	char               *sender;
};

struct loads {
	struct map  by_id;
	struct link open, committed;              /* without MSG, with it */
	size_t      parts_bytes;                  /* of open loads */
};

void         loads_init(struct loads *ls);
void         loads_fini(struct loads *ls);
struct load *loads_find(const struct loads *ls, uint64_t id);         /* NULL: none, or over */
bool         loads_is_over(const struct loads *ls, uint64_t id);
/* Makes it; not for one that is over */
struct load *loads_get(struct loads *ls, uint64_t id);
void         loads_drop(struct loads *ls, struct load *l);            /* and its number */
/* Dropped, and remembered as over */
void         loads_over(struct loads *ls, struct load *l);
/* Replay is done: no copies are to come */
void         loads_forget_over(struct loads *ls);
/* The first with MSG, in the order of their coming, out of ls; NULL: none.  Its number stays until
 * loads_shrink() takes all of them: load_free() is what it needs then. */
struct load *loads_take(struct loads *ls);
void         load_free(struct loads *ls, struct load *l);
/* There are none: gives the map's memory back */
void         loads_shrink(struct loads *ls);
void         loads_trim(struct loads *ls);                            /* to LOAD_PARTS_MAX */

void load_part(struct loads *ls, struct load *l, const struct record *r);
void load_msg(struct loads *ls, struct load *l, const struct record *r,
		const struct msg_view *v);
void load_state(struct load *l, const struct record *r, const struct state_view *v);
void load_settle(struct load *l, struct msg_range range);
bool load_is_over(const struct load *l);          /* every recipient is delivered or settled */
bool load_is_whole(const struct load *l);         /* MSG and every RCPT part are here */

#endif
