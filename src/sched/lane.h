/* lane - everything ready for one destination, and whose turn it is.
 *
 * A lane is a destination: one for all local mail, one for each remote domain.  A channel
 * has the ring of its open lanes, those that have something ready and room in their window;
 * channel_take() goes round the ring, one job a turn.  Runs of small messages and of huge
 * posts queue apart, so that a single mail never stands behind a million recipients of
 * somebody else's list: of SMALL_TURNS + 1 turns the huge ones get one while both wait.
 *
 * A lane's window grows by one with each job that went well, halves when the site asks to
 * slow down, and falls to one when it can't be reached: a dead site holds one agent slot.
 *
 * A lane lives while a run names it: lane_ref() and lane_unref(). */
#ifndef SCHED_LANE_H
#define SCHED_LANE_H

#include "core/list.h"
#include "core/table.h"
#include "mail/route.h"
#include "sched/run.h"

#define LANE_WINDOW_FIRST 10                      /* a new site may get so many at once */
#define LANE_WINDOW_MAX   65535
#define LANES_MAX         (64u * 1024 * 1024)     /* more domains than there are names */
#define SMALL_TURNS       4
/* A message of more recipients is a huge post */
#define SMALL_RCPTS_MAX   100

enum weight { SMALL, HUGE, WEIGHTS };
enum lane_news { LANE_WELL, LANE_SLOW, LANE_DEAD, LANE_NOTHING };

struct lane {
	struct run_queue ready[WEIGHTS];
	struct link      turn[WEIGHTS];           /* in the channel's ring while it is open */
	uint32_t         runs;                    /* that name it */
	/* In the order of their making: a key that repeats with the seed */
	uint32_t         number;
	uint16_t         running, window;         /* jobs */
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
	uint32_t       numbers;
	size_t         bytes;
};

void         lanes_init(struct lanes *ls);
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
