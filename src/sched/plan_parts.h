/* plan_parts - what the files of the plan say to each other; for nobody else.
 *
 *   plan.c      records, moments, limits          message.c   life and end of a message
 *   intake.c    a load becomes runs               dispatch.c  a run becomes a job
 *   verdict.c   a job becomes outcomes            notice.c    failures become a bounce */
#ifndef SCHED_PLAN_PARTS_H
#define SCHED_PLAN_PARTS_H

#include "sched/plan.h"

/* message.c */
struct message *message_new(struct plan *p, const struct load *l);
struct message *message_find(const struct plan *p, uint64_t id);
/* Its runs, too; no job may run */
void            message_free(struct plan *p, struct message *m);
struct span     message_sender(const struct message *m);
enum weight     message_weight(const struct message *m);
/* Makes it where there is none */
struct more    *message_more(struct plan *p, struct message *m);
/* Gives it back where it is empty */
void            message_tidy(struct plan *p, struct message *m);
/* Owns it; counts its recipients */
void            message_add_run(struct plan *p, struct message *m, struct run *r);
/* Its recipients are counted already */
void            message_split_run(struct plan *p, struct message *m, struct run *front);
void            message_run_over(struct plan *p, struct run *r);
void            message_failed(struct plan *p, struct message *m, uint32_t number,
		struct span addr);
void            message_settle(struct plan *p, struct message *m, struct msg_range range);
/* Ends it, or makes its bounce, if nothing is left to wait for.  It may be gone afterwards. */
void            message_check_end(struct plan *p, struct message *m);

/* intake.c: ready and waiting runs of a committed load; recipients whose part is lost fail. */
void intake_build(struct plan *p, struct load *l);

/* dispatch.c */
void     dispatch(struct plan *p);
/* One line a recipient */
void     log_start(struct plan *p, const struct job *j);
bool     dispatch_may_start(const struct plan *p);
/* Too old for one more try */
bool     plan_is_dying(const struct plan *p, const struct message *m);
/* Frees the job, not its run */
void     dispatch_ended(struct plan *p, struct job *j, enum lane_news news);
/* Wall time -> a second of the wheel */
uint32_t due_of_wall(const struct plan *p, uint64_t wall_us);
void     run_wait(struct plan *p, struct run *r, uint32_t due);

/* verdict.c */
struct result {
	enum outcome      outcome;
	uint64_t          next_us;
	uint32_t          attempt;
	struct run       *run;                    /* a deferral's */
	const struct msg_range *ranges;
	uint16_t          ranges_n;
	struct span       text, more_text;        /* one behind the other */
};
void outcome_owe(struct plan *p, struct message *m, const struct result *o);
void outcomes_flush(struct plan *p);
/* A run that nobody has, and that never will be tried: its recipients fail.  Its message may be
 * gone afterwards. */
void run_give_up(struct plan *p, struct run *r);
bool outcomes_wait(const struct plan *p);             /* to be flushed */
/* It was the oldest owed one */
bool outcome_seen(struct plan *p, const struct record *r, const struct state_view *v);

/* What is said of recipients whose message can't be read; the notice goes to the administrator,
 * as the sender can do nothing about it. */
#define DAMAGED_TEXT "This message was damaged in the journal and can't be delivered. (#5.3.0)\n"
/* Stands for the address of a recipient whose part is damaged. */
#define LOST_ADDRESS "(lost)"

/* notice.c */
/* All that failed and fits; or settles it at once */
void notice_send(struct plan *p, struct message *m);
void notice_later(struct plan *p, struct message *m, uint64_t wait_s);

#endif
