/* job - a delivery on its way: one run at one agent, and the open bodies that jobs share.
 *
 * An agent (remote/i, lspawn/0) takes so many jobs at once.  A handle is the number under
 * which quire-body gives a message to an agent: it is opened with the message's first job
 * there and closed when none is left.  A handle whose body process died takes no new jobs. */
#ifndef SCHED_JOB_H
#define SCHED_JOB_H

#include "core/list.h"
#include "core/pool.h"
#include "core/table.h"
#include "sched/lane.h"

/* RFC 5321 4.5.3.1.8: what every server takes in one transaction */
#define JOB_RCPTS_MAX 100
#define AGENTS_MAX    64                          /* of one channel; as ROLE_PEERS_MAX */
#define BODIES_MAX    64
#define JOBS_MAX      (1u << 20)

struct agent {
	struct link jobs;
	uint32_t    role, index;
	uint32_t    slots, running;
	uint8_t     channel;
	bool        there;
};

struct handle {
	struct link   link;                       /* of the message */
	struct agent *agent;
	uint32_t      number, body;
	uint32_t      jobs;
	bool          stale;                      /* its body is gone */
};

struct job {
	struct link    link;                      /* of the agent */
	struct agent  *agent;
	struct handle *handle;
	struct run    *run;
	uint64_t       first_delivery;            /* the log's number of its first recipient */
	uint32_t       number;
	/* Wall time of the next try, should this one be deferred */
	uint64_t       retry_s;
	bool           no_body;                   /* the agent lost the body on the way */
	bool           dying;                     /* its message is too old for one more try */
};

struct jobs {
	struct pool  jobs, handles;
	struct map   by_number;
	uint32_t     job_numbers, handle_numbers;
	uint64_t     deliveries;
	struct agent agents[2][AGENTS_MAX];       /* by enum channel, index */
	bool         bodies[BODIES_MAX];
	uint32_t     bodies_n;                    /* that are there */
};

void           jobs_init(struct jobs *js);
void           jobs_fini(struct jobs *js);        /* no job may be running */
/* NULL where role or index is none of an agent's. */
struct agent  *agent_of(struct jobs *js, uint32_t role, uint32_t index);
/* With a free slot; the lane's own if it can */
struct agent  *agent_free(struct jobs *js, const struct lane *l);
bool           agents_have_room(const struct jobs *js, enum channel ch);
bool           body_for(const struct jobs *js, uint64_t id, uint32_t *ret_index);

struct handle *handle_find(const struct link *handles, const struct agent *a);
struct handle *handle_new(struct jobs *js, struct link *handles, struct agent *a,
		uint32_t body);
void           handle_free(struct jobs *js, struct handle *h);

/* The log's numbers of n deliveries; the first. */
uint64_t       deliveries_take(struct jobs *js, uint32_t n);
struct job    *job_begin(struct jobs *js, struct agent *a, struct handle *h, struct run *r);
struct job    *job_find(const struct jobs *js, uint32_t number);
void           job_end(struct jobs *js, struct job *j);

#endif
