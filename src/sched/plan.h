/* plan - the queue in memory: who is tried when, by whom, and what became of it.
 *
 * The plan does no I/O and owns no wire and no timer: records, verdicts and moments come in
 * by the calls below, and what it wants done goes out through struct plan_world.  None of
 * the world's calls may call back into the plan.  It asks core/clock for the time.
 *
 * Its truth is the journal.  What an agent says becomes an outcome, the outcome goes to
 * journald, and only when its record is seen in the feed does it count: then a message may
 * end, a failure may be bounced.  Between, the recipient is in no run, so nobody tries it
 * again, and the outcome is owed; while one is owed for longer than twice control/outcomedelay,
 * no delivery starts.  That bounds what a crash can repeat.
 *
 * A recipient of a loaded message is in exactly one place: in a run (ready, waiting or
 * running), among the owed outcomes, among the failures that a bounce will report, or over. */
#ifndef SCHED_PLAN_H
#define SCHED_PLAN_H

#include "core/arena.h"
#include "core/heap.h"
#include "mail/control.h"
#include "sched/book.h"
#include "sched/due.h"
#include "sched/job.h"
#include "sched/load.h"
#include "sched/schedule.h"
#include "sched/tell.h"

#define OUTCOME_DELAY_MS   50                     /* control/outcomedelay */
/* Bytes of outcomes that wait no longer; below WIRE_FRAME_MAX */
#define OUTCOMES_FLUSH     (256 * 1024)
/* Bytes of outcomes not durable at which nothing new starts */
#define OUTCOMES_KEPT      (16 * 1024 * 1024)
/* Above it by what the running jobs may still say */
#define OUTCOMES_MAX       ((size_t)8 << 30)
/* Where nobody says how much this machine has */
#define PLAN_MEMORY        (1ull << 30)
/* docs/qmail.md 11.5: trouble injecting a bounce */
#define BOUNCE_AGAIN_S     123
/* After a replay: a bounce that the last sched asked for may be on its way yet */
#define BOUNCE_REPLAY_S    10
/* Tries that a body which died under them may spoil before the schedule counts: a message
 * that kills it must not do so every other second. */
#define SPOILT_TRIES       3
#define AGENT_LOST_WAIT_S  2                      /* start brings it back in about that time */
/* A larger step of the wall clock suspends expiry for as long */
#define CLOCK_STEP_S       3600
/* Jobs started in one pass, so that wires are served between */
#define DISPATCH_PASS_MAX  4096
/* Of a deferral in the journal: the log has all of it */
#define DEFER_TEXT_MAX     512

struct plan_world {
	void *ctx;
	void (*open_body)(void *ctx, uint32_t body, const struct msg_open *o);
	/* To the body (BODIES_MAX: none) and to the agent; either may be gone. */
	void (*close_body)(void *ctx, uint32_t body, const struct msg_close *c);
	void (*deliver)(void *ctx, uint32_t role, uint32_t index, const struct msg_deliver *d,
	                struct span sender, struct span packed);
	void (*outcomes)(void *ctx, struct span bytes);       /* a MSG_OUTCOMES tail */
	void (*bounce)(void *ctx, uint32_t body, const struct msg_bounce *b, struct span tail);
	enum read_result (*read)(void *ctx, uint64_t pos, enum rec_type type, uint64_t id, uint32_t number,
	                         struct record *ret);
};

struct plan_limits {                              /* from control; strings live in plan.names */
	uint64_t    lifetime_s, outcome_delay_ms, bounce_max;
	/* From the first failure to its bounce, 0: when all recipients are settled */
	uint64_t    bounce_wait_s;
	struct span bounce_from, bounce_host, double_to, double_host;
	/* Bytes the queue may take; bounds the credit */
	uint64_t    memory;
};

struct more {                                     /* what only some messages need */
	struct message   *message;
	struct link       handles;
	struct heap_entry again;                  /* when to try a bounce (once more) */
	/* again is control/bouncewait, and not needed once nothing is left to try */
	bool              early;
	bool              tell;                   /* it has come: whatever is left to try */
	/* struct failed_head and the address, packed */
	struct buf        failed;
	struct buf        texts;                  /* struct text_at */
	uint32_t          failed_n;               /* not settled */
	uint32_t          owed;                   /* outcomes */
	/* In plan.notices while a notice is on its way */
	struct link       notice;
	uint32_t          notice_body;            /* who makes it */
};
struct failed_head { uint32_t number; uint16_t n; uint8_t settled, pad; };
#define FAILED_BYTES_MAX (1u << 30)

struct message {
	uint64_t     id, pos;                     /* where its MSG is */
	/* damage: how surely its body is lost; DAMAGE_SURE: its recipients fail */
	/* lost: some of its recipients are (intake.c) */
	uint64_t     size : 43, lost : 1, damage : 2, huge : 1, verp : 1, sender_n : 16;
	struct run  *runs;                        /* those that are OVER too, until swept */
	struct more *more;                        /* NULL: none of it */
	uint32_t     birth;                       /* seconds, wall */
	uint32_t     left;                        /* recipients in runs */
	uint32_t     runs_n, runs_over;
	char         sender[];
};

#define DAMAGE_SURE 2

struct owed {                                     /* an outcome that is not durable yet */
	uint64_t        id, at_us;                /* at_us is unique in this process */
	uint64_t        mono_us;
	struct run     *run;                      /* a deferral's */
	uint32_t        n;                        /* bytes in plan.outcomes */
	uint8_t         outcome;
};

/* Where the look for what is too old is; see expire() in plan.c. */
struct expiry {
	size_t   at;
	uint64_t next_us;
	bool     looking;
};
#define EXPIRY_LOOK_S   60
#define NO_ROOM_LOOK_S  1                         /* some hundred bytes each */
#define EXPIRY_TICK_MAX 4096                      /* messages: far below a millisecond */

struct plan_counts {
	uint64_t delivered, deferred, failed, bounced, ended, lost_parts, damaged, owed_us_max;
};

struct plan {
	const struct plan_world *world;
	struct plan_limits limits;
	struct schedule    schedule;
	struct tell        tell;
	struct arena       names;
	struct rewriter   *rewriter;
	struct lanes       lanes;
	struct due         due;
	struct jobs        jobs;
	struct loads       loads;
	struct book        messages;
	struct pool        mores;
	struct heap        again;
	struct link        notices;
	struct link        views;                 /* sched/view.h */
	struct buf         outcomes;              /* those that are owed, as they are sent */
	size_t             outcomes_gone;         /* bytes in front that are durable */
	/* Bytes that journald was given, gone ones included */
	size_t             outcomes_sent;
	/* Monotonic, of the oldest that was not sent */
	uint64_t           outcomes_since_us;
	uint64_t           last_at_us;
	struct owed       *owed;                  /* a ring, the oldest at owed_at */
	size_t             owed_at, owed_n, owed_cap;
	size_t             bytes;                 /* messages and runs */
	uint64_t           recipients;            /* in runs */
	/* scratch, with the limit of mail/route.h */
	struct buf         rewritten;
	struct buf         address, address2, packed;     /* scratch */
	int64_t            clock_offset_us;       /* wall - monotonic */
	uint64_t           expiry_from_us;        /* monotonic: nothing is too old before */
	struct expiry      expiry;
	struct plan_counts counts;
	bool               ready, draining;
	/* plan_ready() builds what the journal holds */
	bool               replaying;
	bool               journal_away;          /* nothing starts, nothing is sent */
	/* journald says: next to nothing can be written (MSG_ROOM).  One delivery at a time then: each
	 * that succeeds makes room, and is followed by the next; after any other one a wait. */
	bool               no_room;
	uint64_t           look_us;               /* monotonic: when the next may start */
	bool               changed;               /* since the last status line */
};

void plan_init(struct plan *p, const struct plan_world *w, const struct control *c);
void plan_fini(struct plan *p);
/* New values; what is queued keeps its channel */
void plan_control(struct plan *p, const struct control *c);

void plan_record(struct plan *p, const struct record *r);
void plan_ready(struct plan *p);                  /* every durable record has been applied */
/* journald is lost; or it is back, and all that is durable was applied: what the feed did not
 * show is sent once more. */
void plan_journal(struct plan *p, bool there);
/* Records have copies elsewhere (sched/retire.h). */
void plan_moved(struct plan *p, const struct msg_moved *v, size_t n);
void plan_room(struct plan *p, bool dispatch);
/* The body of a handle can't be read: enum body_why. */
void plan_body_failed(struct plan *p, uint32_t body, const struct msg_close *m);
/* An agent came (slots > 0), or is lost (0): its jobs are tried again soon. */
/* False: no such agent */
bool plan_agent(struct plan *p, uint32_t role, uint32_t index, uint32_t slots) must_use;
void plan_body(struct plan *p, uint32_t index, bool there);
/* False: the agent is mad */
bool plan_verdict(struct plan *p, uint32_t role, uint32_t index, const struct msg_verdict *v,
                  struct span tail) must_use;
void plan_bounced(struct plan *p, const struct msg_bounced *b);
void plan_retry_all(struct plan *p);
void plan_drain(struct plan *p);
bool plan_is_drained(const struct plan *p);

/* At the end of each pass: starts, sends, says */
void    plan_tick(struct plan *p);
/* Until the next tick is wanted; -1: not by time */
int64_t plan_wait_ms(const struct plan *p);
/* How much more new mail fits into limits.memory; journald gets it anew when it changed much. */
void    plan_credit(const struct plan *p, struct msg_credit *ret);
/* Of the oldest outcome that is not durable; 0: none */
uint64_t plan_owed_age_us(const struct plan *p);

#endif
