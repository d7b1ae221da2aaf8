/* store - one message on its way into the journal, from its first part to its answer.
 *
 * A deposit is that message, however it comes: in frames from a front end (journald.c), or as
 * plain bytes from a program on this host (door.c).  Its parts are added to the batch that
 * gathers, as they come; deposit_submit() adds its MSG, and stored() tells when that is
 * durable.  The store holds what is common: the sequence of ids, who may fill how much, and
 * whether new mail is admitted.
 *
 * Nothing here waits or allocates (but for the places of a message of more than a few parts):
 * where the batch is full the answer is PUT_WAIT, and the same call is made again when the
 * caller's turn comes. */
#ifndef JOURNAL_STORE_H
#define JOURNAL_STORE_H

#include "core/list.h"
#include "journal/commit.h"

#define STORE_PARTS_MAX    60000 /* of one message: its MSG must stay below REC_MAX */
#define STORE_SHARE        20       /* uncommitted bytes: at most 1/20 of the free space, ... */
/* ... but so much always: spare segments aren't free */
#define STORE_TOTAL_MIN    (64ull << 20)
#define STORE_PEER_SHARE   2                      /* one front end: half of that */
#define STORE_UID_SHARE    4                      /* one user of the socket: a quarter */

/* Who may fill the disk with what is never committed: a front end's process, or a user id. */
struct source {
	uint64_t uncommitted;
	unsigned share;                           /* of the total: one share'th */
	bool     exempt;                          /* from admission: bounces */
};

struct turn {                                     /* who found the batch full */
	struct link link;
	void      (*again)(struct turn *t);       /* once, from the loop; may wait again */
};

struct store {
	struct loop     *loop;
	struct commit   *commit;                  /* set by the owner once it is open */
	struct ring     *ring;
	uint32_t         shard;
	/* the one that every segment holds; 0: none (journal/dict.h) */
	uint32_t         dict;
	uint64_t         epoch, seq;
	uint64_t         uncommitted, total_max;
	struct msg_credit credit;                 /* what sched granted, and is not used up */
	bool             draining;
	/* appends have failed again and again: no new mail until an administrator has looked */
	bool             latched;
	struct link      turns;
	struct deferred  run_turns;
	struct timer     look;                    /* while somebody waits: is the disk full */
	uint32_t         deposits, committing; /* open; of them, with their MSG on its way */
	void           (*changed)(void *ctx);     /* admission may be another now */
	/* parts of this id were written, and its MSG never will be; may be NULL */
	void           (*abandoned)(void *ctx, uint64_t id);
	void            *ctx;
};
void store_init(struct store *s, struct loop *l, struct ring *r, uint32_t shard,
		void (*changed)(void *ctx), void *ctx);
void store_fini(struct store *s);
void store_free_space(struct store *s, uint64_t bytes); /* of the file system: sets total_max */
void store_grant(struct store *s, const struct msg_credit *c); /* replaces what is left */
void store_drain(struct store *s);
void store_latch(struct store *s, bool on);
/* No room for new mail (commit_room()), or latched. */
bool store_is_full(const struct store *s);
bool store_admits(const struct store *s);         /* new mail is taken */
void store_room(struct store *s);                 /* commit has room again: the turns run */
void store_await_turn(struct store *s, struct turn *t);
void turn_init(struct turn *t, void (*again)(struct turn *t));
void turn_cancel(struct turn *t);                 /* fine when it does not wait */
bool turn_waits(const struct turn *t);
/* One record, or false: wait for a turn.  *ret_pos may be NULL. */
bool store_add(struct store *s, struct rec_head *h, const struct span *pieces, int pieces_n,
	       unsigned flags, uint64_t *ret_pos) must_use;

enum put { PUT_OK, PUT_WAIT /* the same again, after a turn */, PUT_REFUSED /* d->verdict */ };

#define DEPOSIT_FEW 2                             /* parts whose places need no memory */
struct places { uint32_t n, cap; uint64_t few[DEPOSIT_FEW], *more; };
struct deposit {
	struct store  *store;                     /* NULL: not open */
	struct source *source;
	uint64_t       id;                        /* 0: nothing was written yet */
	uint64_t       held;                      /* uncommitted bytes of this one */
	uint64_t       size, rcpt_bytes;          /* raw body; packed addresses */
	uint64_t       replay_of;                 /* its MSG says which message it delivers again; 0: none */
	uint32_t       rcpts;
	struct places  body, rcpt;
	uint8_t        verdict;
	bool           committing, refused;
	struct waiter  waiter;
	void         (*stored)(struct deposit *d); /* durable: d->id; d is closed before */
};
/* d is zeroed or closed. */
void deposit_open(struct deposit *d, struct store *s, struct source *from,
		  void (*stored)(struct deposit *d));
enum put deposit_part(struct deposit *d, const struct msg_part *m, struct span frame) must_use;
enum put deposit_rcpts(struct deposit *d, const struct msg_rcpts *m,
		       struct span packed) must_use;
/* rest: sender, then settles[].  After PUT_OK exactly one stored(), unless it is dropped. */
enum put deposit_submit(struct deposit *d, const struct msg_submit *m,
			struct span rest) must_use;
void     deposit_close(struct deposit *d); /* in any state: what it has is nobody's then */

#endif
