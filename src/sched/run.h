/* run - recipients of one message at one destination: the unit of delivery and of retry.
 *
 * A run is one piece of memory: the state that its recipients share, then the recipients,
 * packed.  An address whose domain is byte for byte that of the lane is kept without it.
 * A run is in exactly one place at a time, which its state names:
 *
 *   READY    in its lane's queue            WAITING  in due, until its time
 *   RUNNING  a job has it                   OVER     nowhere; freed with its message
 *
 * `next` threads the lane's queue or a slot of due; `sibling` threads the runs of a message. */
#ifndef SCHED_RUN_H
#define SCHED_RUN_H

#include "core/buf.h"

/* ADDR_MAX and the longest sane virtualdomains prefix */
#define RUN_ADDR_MAX 8191

struct lane;
struct message;

enum run_state { RUN_READY, RUN_WAITING, RUN_RUNNING, RUN_OVER };

struct run {
	struct run     *next, *sibling;
	struct message *message;
	struct lane    *lane;
	/* Position of the STATE of the last deferral; 0: none */
	uint64_t        reason;
	/* Seconds on the monotonic clock, while WAITING */
	uint32_t        due;
	uint32_t        count;                    /* recipients that are left */
	uint32_t        at, end;                  /* they are packed[at .. end) */
	uint16_t        attempt;                  /* tries that ended in a deferral */
	uint8_t         state;                    /* enum run_state */
	/* Deferrals that are not durable yet, one a text: not to be tried */
	uint8_t         owed;
	/* u32 number, u16 length * 2 + (domain included), bytes */
	char            packed[];
};

struct recipient {
	uint32_t    number;                       /* of the message, fixed at commit */
	/* The address, or what is in front of '@' + the lane's domain */
	struct span text;
	bool        whole;
};

struct run_queue { struct run *first, *last; };

struct run *run_new(struct message *m, struct lane *l, size_t packed_n);
void        run_free(struct run *r);
size_t      run_bytes(const struct run *r);       /* what it costs */
size_t      run_packed_n(const struct recipient *rc);         /* bytes that run_add will take */
void        run_add(struct run *r, const struct recipient *rc);
/* Iterate: *at = r->at first; false at the end. */
bool        run_next(const struct run *r, uint32_t *at, struct recipient *ret);
/* The first n recipients (n < count) become a run of their own, with the same message and lane. */
struct run *run_split(struct run *r, uint32_t n);
/* Keeps those recipients whose keep[i] is set; keep has count entries. */
void        run_keep(struct run *r, const bool *keep);

void        run_queue_add(struct run_queue *q, struct run *r);
struct run *run_queue_take(struct run_queue *q);  /* NULL: empty */

#endif
