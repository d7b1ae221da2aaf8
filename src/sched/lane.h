/* lane - everything ready for one destination, and whose turn it is.
 *
 * A lane is a destination: one for all local mail, one for each remote domain.  A channel
 * has the ring of its open lanes, those that have something ready and room in their window;
 * channel_take() goes round the ring, one job a turn.  Runs of small messages and of huge
 * posts queue apart, so that a single mail never stands behind a million recipients of
 * somebody else's list: of SMALL_TURNS + 1 turns the huge ones get one while both wait.
 * Where more than LANE_FEW runs wait, senders take turns inside the lane: they are dealt into
 * SENDER_TURNS queues by their address, so that one who sends ten thousand messages to a domain
 * delays another by a few of them.
 *
 * A lane's window grows by one with each job that went well until there is trouble for the
 * first time, afterwards by one for each window of them; it halves when the site asks to slow
 * down.  A site that can't be reached is dead for a while: nothing starts there for
 * LANE_DEAD_FIRST_S, twice as long each time, then one job looks.  Jobs that were on their
 * way when the trouble was noticed say nothing more about it.
 *
 * control/destinations may allow less: jobs at once, jobs begun a second, recipients a job.
 * A lane that waits for a moment is in the heap `wakes`, and only if it has something ready.
 *
 * A lane lives while a run names it: lane_ref() and lane_unref(). */
#ifndef SCHED_LANE_H
#define SCHED_LANE_H

#include "core/heap.h"
#include "core/list.h"
#include "core/table.h"
#include "mail/destinations.h"
#include "mail/route.h"
#include "sched/run.h"

#define LANE_WINDOW_FIRST 10                      /* a new site may get so many at once */
#define LANE_WINDOW_MAX   65535
#define LANE_DEAD_FIRST_S 30
/* As qmail's tcpto: an hour at the most */
#define LANE_DEAD_MAX_S   3600
#define LANES_MAX         (64u * 1024 * 1024)     /* more domains than there are names */
#define SMALL_TURNS       4
/* So few need no turns: whoever comes next is soon there */
#define LANE_FEW          32
/* Two senders of a few share a queue once in so many times; 16 bytes each */
#define SENDER_TURNS      64
/* A message of more recipients is a huge post */
#define SMALL_RCPTS_MAX   100

enum weight { SMALL, HUGE, WEIGHTS };
enum lane_news { LANE_WELL, LANE_SLOW, LANE_DEAD, LANE_NOTHING };

/* What waits in a lane of many. */
struct senders {
	struct run_queue of[SENDER_TURNS];
	uint64_t         waiting;                 /* bits: which are not empty */
	unsigned         turn;                    /* the next one looked at */
};
struct lane;
/* What only some lanes need: a rate, or trouble. */
struct pace {
	struct heap_entry wake;
	struct lane      *lane;
	uint64_t          interval_us;            /* 0: no rate */
	/* Monotonic: no job begins before */
	uint64_t          next_us, dead_until_us;
	uint32_t          deaths;                 /* in a row */
};
struct lane {
	struct run_queue ready[WEIGHTS];          /* or, where many wait: */
	struct senders  *senders[WEIGHTS];
	uint32_t         waiting[WEIGHTS];        /* runs in either */
	struct link      turn[WEIGHTS];           /* in the channel's ring while it is open */
	uint32_t         runs;                    /* that name it */
	/* In the order of their making: a key that repeats with the seed */
	uint32_t         number;
	uint16_t         running, window;         /* jobs */
	uint16_t         allowed;                 /* jobs at once: control/destinations */
	uint16_t         good;                    /* jobs that went well since the window grew */
	uint16_t         old;                     /* jobs that began before the last trouble */
	uint8_t          rcpts_max;               /* of a job; 0: as many as a job takes */
	bool             troubled;                /* once */
	struct pace     *pace;                    /* NULL: none */
	uint16_t         domain_n;
	uint8_t          channel;
	char             domain[];                /* as it was first seen */
};

struct outlet {
	struct link turns[WEIGHTS];
	/* Jobs: concurrencylocal, concurrencyremote */
	uint32_t    limit, running;
	uint32_t    turn;
	uint64_t    ready;                        /* recipients */
};

struct lanes {
	struct table   by_domain;
	struct lane   *local;
	struct outlet  channels[2];              /* by enum channel */
	struct heap    wakes;                    /* struct pace */
	struct destinations *limits;             /* NULL: none */
	uint32_t       numbers;
	size_t         bytes;
};

void         lanes_init(struct lanes *ls);
/* Owned from then on; what is there already is limited, too. */
void         lanes_limit(struct lanes *ls, struct destinations *limits);
/* Those whose moment has come go on.  When the next one comes, UINT64_MAX: none waits. */
void         lanes_wake(struct lanes *ls, uint64_t mono_us);
uint64_t     lanes_next_us(const struct lanes *ls);
void         lanes_revive(struct lanes *ls);      /* ALRM: no site is dead */
/* Takes those out of what is ready in the lane for which wanted() says so, threaded by `next`. */
struct run  *lane_extract(struct lanes *ls, struct lane *l, bool (*wanted)(void *ctx, const struct run *r), void *ctx);
void         lanes_fini(struct lanes *ls);        /* no run may name a lane any more */
struct lane *lane_of(struct lanes *ls, enum channel ch, struct span addr);
struct span  lane_domain(const struct lane *l);
void         lane_ref(struct lane *l);
void         lane_unref(struct lanes *ls, struct lane *l);

void         lane_add(struct lanes *ls, struct run *r, enum weight w);        /* it is ready */
/* The next run in turn, out of its lane; NULL: nothing is ready or nothing may start. */
struct run  *channel_take(struct lanes *ls, enum channel ch, enum weight *ret_weight);
void         lane_started(struct lanes *ls, struct lane *l);
void         lane_ended(struct lanes *ls, struct lane *l, enum lane_news news);
/* "text@domain" of a recipient, in b (cleared first) or as it lies in the run. */
struct span  recipient_address(const struct run *r, const struct recipient *rc, struct buf *b);

#endif
