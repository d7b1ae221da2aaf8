#include "sched/job.h"

#include "mail/msg.h"

void jobs_init(struct jobs *js)
{
	*js = (struct jobs){0};
	pool_init(&js->jobs, sizeof(struct job), JOBS_MAX);
	pool_init(&js->handles, sizeof(struct handle), JOBS_MAX);
	map_init(&js->by_number, JOBS_MAX);
	for (unsigned c = 0; c < 2; c++)
		for (uint32_t i = 0; i < AGENTS_MAX; i++) {
			struct agent *a = &js->agents[c][i];

			list_init(&a->jobs);
			a->role = c == CHANNEL_LOCAL ? ROLE_LSPAWN : ROLE_REMOTE;
			a->index = i;
			a->channel = (uint8_t)c;
		}
}

void jobs_fini(struct jobs *js)
{
	pool_fini(&js->jobs);
	pool_fini(&js->handles);
	map_fini(&js->by_number);
}

struct agent *agent_of(struct jobs *js, uint32_t role, uint32_t index)
{
	if (index >= AGENTS_MAX || (role != ROLE_LSPAWN && role != ROLE_REMOTE))
		return NULL;
	return &js->agents[role == ROLE_LSPAWN ? CHANNEL_LOCAL : CHANNEL_REMOTE][index];
}

static bool has_room(const struct agent *a)
{
	return a->there && a->running < a->slots;
}

bool agents_have_room(const struct jobs *js, enum channel ch)
{
	for (uint32_t i = 0; i < AGENTS_MAX; i++)
		if (has_room(&js->agents[ch][i]))
			return true;
	return false;
}

/* A destination's own agent has its connections open; another one is better than waiting. */
struct agent *agent_free(struct jobs *js, const struct lane *l)
{
	struct agent *all = js->agents[l->channel];
	uint32_t n = 0;

	while (n < AGENTS_MAX && all[n].there)
		n++;
	if (n > 0 && has_room(&all[l->number % n]))
		return &all[l->number % n];
	for (uint32_t i = 0; i < AGENTS_MAX; i++)
		if (has_room(&all[i]))
			return &all[i];
	return NULL;
}

bool body_for(const struct jobs *js, uint64_t id, uint32_t *ret_index)
{
	uint64_t skip;

	if (js->bodies_n == 0)
		return false;
	skip = (id >> 6) % js->bodies_n; /* the lowest bits are the shard's */
	for (uint32_t i = 0; i < BODIES_MAX; i++) {
		if (!js->bodies[i] || skip-- > 0)
			continue;
		*ret_index = i;
		return true;
	}
	unreachable();
}

struct handle *handle_find(const struct link *handles, const struct agent *a)
{
	list_each(handles, l)
	{
		struct handle *h = owner_of(l, struct handle, link);

		if (h->agent == a && !h->stale)
			return h;
	}
	return NULL;
}

struct handle *handle_new(struct jobs *js, struct link *handles, struct agent *a, uint32_t body)
{
	struct handle *h = pool_get(&js->handles);

	check(h); /* no more handles than jobs */
	h->agent = a;
	h->body = body;
	h->number = ++js->handle_numbers;
	list_add_end(handles, &h->link);
	return h;
}

void handle_free(struct jobs *js, struct handle *h)
{
	list_remove(&h->link);
	pool_put(&js->handles, h);
}

uint64_t deliveries_take(struct jobs *js, uint32_t n)
{
	js->deliveries += n;
	return js->deliveries - n + 1;
}

struct job *job_begin(struct jobs *js, struct agent *a, struct handle *h, struct run *r)
{
	struct job *j = pool_get(&js->jobs);

	check(j); /* slots of all agents are bounded below JOBS_MAX */
	j->agent = a;
	j->handle = h;
	j->run = r;
	do
		j->number = ++js->job_numbers;
	while (map_get(&js->by_number, j->number));
	j->first_delivery = deliveries_take(js, r->count);
	list_add_end(&a->jobs, &j->link);
	a->running++;
	h->jobs++;
	check(map_put(&js->by_number, j->number, j));
	return j;
}

struct job *job_find(const struct jobs *js, uint32_t number)
{
	return map_get(&js->by_number, number);
}

void job_end(struct jobs *js, struct job *j)
{
	check(j->agent->running > 0 && j->handle->jobs > 0);
	map_remove(&js->by_number, j->number);
	list_remove(&j->link);
	j->agent->running--;
	j->handle->jobs--;
	pool_put(&js->jobs, j);
}
