/* Starting: a run in turn, an agent with a free slot, the body opened once for both. */
#include "sched/plan_parts.h"

#include "core/clock.h"
#include "core/log.h"
#include "mail/addr.h"
#include "mail/envelope.h"

#include <inttypes.h>

uint32_t due_of_wall(const struct plan *p, uint64_t wall_us)
{
	uint64_t now = clock_wall_us(), wait = wall_us > now ? wall_us - now : 0;
	uint64_t longest = schedule_longest(&p->schedule) * 1000000ull;

	/* A clock that was wrong once must not park mail for years. */
	if (wait > longest)
		wait = longest;
	return (uint32_t)((clock_mono_us() + wait + 999999) / 1000000);
}

void run_wait(struct plan *p, struct run *r, uint32_t due)
{
	r->state = RUN_WAITING;
	due_add(&p->due, r, due);
}

bool plan_is_dying(const struct plan *p, const struct message *m)
{
	return clock_wall() > m->birth + p->limits.lifetime_s &&
	       clock_mono_us() >= p->expiry_from_us;
}

void log_start(struct plan *p, const struct job *j)
{
	struct run *r = j->run;
	struct recipient rc;
	uint32_t at = r->at;
	uint64_t delivery = j->first_delivery;

	while (run_next(r, &at, &rc))
		tell_start(&p->tell, delivery++, r->message->id, (enum channel)r->lane->channel,
			   recipient_address(r, &rc, &p->address));
}

static struct handle *handle_for(struct plan *p, struct message *m, struct agent *a,
				 uint32_t body)
{
	struct more *more = message_more(p, m);
	struct handle *h = handle_find(&more->handles, a);
	struct msg_open o = {.role = a->role, .index = a->index, .id = m->id, .pos = m->pos};

	if (h)
		return h;
	h = handle_new(&p->jobs, &more->handles, a, body);
	o.handle = h->number;
	o.how = a->role == ROLE_LSPAWN ? OPEN_FILE : OPEN_PARTS;
	p->world->open_body(p->world->ctx, body, &o);
	return h;
}

/* A VERP sender differs for each recipient: such runs have one. */
static void send_job(struct plan *p, const struct job *j)
{
	struct run *r = j->run;
	struct message *m = r->message;
	struct span sender = message_sender(m);
	struct recipient rc;
	uint32_t at = r->at;
	struct msg_deliver d = {
		.job = j->number, .handle = j->handle->number, .id = m->id, .size = m->size};

	buf_clear(&p->packed);
	while (run_next(r, &at, &rc)) {
		struct span to = recipient_address(r, &rc, &p->address);

		check(packed_add(&p->packed, to));
		if (m->verp)
			sender = addr_verp(sender, to, &p->address2);
	}
	d.rcpts = r->count;
	d.sender_n = (uint16_t)sender.n;
	p->world->deliver(p->world->ctx, j->agent->role, j->agent->index, &d, sender,
			  buf_span(&p->packed));
}

/* Cuts off what one job may carry; the rest waits its turn behind others of its lane. */
static struct run *job_sized(struct plan *p, struct run *r)
{
	struct message *m = r->message;
	bool single = r->lane->channel == CHANNEL_LOCAL || m->verp;
	uint32_t n = single ? 1 : r->lane->rcpts_max ? r->lane->rcpts_max : JOB_RCPTS_MAX;
	struct run *front;

	if (r->count <= n)
		return r;
	front = run_split(r, n);
	message_split_run(p, m, front);
	lane_add(&p->lanes, r, message_weight(m));
	return front;
}

static void start(struct plan *p, struct run *r, uint32_t body)
{
	struct agent *a = agent_free(&p->jobs, r->lane);
	struct job *j;

	check(a); /* asked for before the run was taken */
	r = job_sized(p, r);
	r->state = RUN_RUNNING;
	j = job_begin(&p->jobs, a, handle_for(p, r->message, a, body), r);
	j->dying = plan_is_dying(p, r->message);
	j->retry_s = schedule_next(&p->schedule, r->message->birth, clock_wall(),
				   r->lane->channel, r->attempt + 1u);
	lane_started(&p->lanes, r->lane);
	p->look_us = clock_mono_us() + NO_ROOM_LOOK_S * 1000000;
	log_start(p, j);
	send_job(p, j);
	p->changed = true;
}

static bool room_for_one(const struct plan *p)
{
	return !p->no_room || (p->lanes.channels[CHANNEL_LOCAL].running == 0 &&
			       p->lanes.channels[CHANNEL_REMOTE].running == 0 &&
			       clock_mono_us() >= p->look_us);
}

static void dispatch_channel(struct plan *p, enum channel ch)
{
	enum weight w;

	for (unsigned n = 0; n < DISPATCH_PASS_MAX && agents_have_room(&p->jobs, ch); n++) {
		if (!room_for_one(p))
			return;
		struct run *r = channel_take(&p->lanes, ch, &w);
		uint32_t body;

		if (!r)
			return;
		check(body_for(&p->jobs, r->message->id, &body));
		start(p, r, body);
	}
}

bool dispatch_may_start(const struct plan *p)
{
	return p->ready && !p->draining && !p->journal_away && room_for_one(p) &&
	       p->jobs.bodies_n > 0 &&
	       plan_owed_age_us(p) <= 2000 * p->limits.outcome_delay_ms &&
	       p->outcomes.n - p->outcomes_gone < OUTCOMES_KEPT;
}

void dispatch(struct plan *p)
{
	if (!dispatch_may_start(p))
		return;
	dispatch_channel(p, CHANNEL_LOCAL);
	dispatch_channel(p, CHANNEL_REMOTE);
}

void dispatch_ended(struct plan *p, struct job *j, enum lane_news news)
{
	struct handle *h = j->handle;
	struct agent *a = j->agent;

	lane_ended(&p->lanes, j->run->lane, news);
	job_end(&p->jobs, j);
	p->changed = true;
	if (h->jobs > 0)
		return;
	p->world->close_body(
		p->world->ctx, h->stale ? BODIES_MAX : h->body,
		&(struct msg_close){.role = a->role, .index = a->index, .handle = h->number});
	handle_free(&p->jobs, h);
}

/* What it had said about them is not known; at worst they are delivered twice. */
static void agent_lost(struct plan *p, struct agent *a)
{
	uint32_t again = (uint32_t)(clock_mono_us() / 1000000) + AGENT_LOST_WAIT_S;

	while (!list_is_empty(&a->jobs)) {
		struct job *j = owner_of(list_first(&a->jobs), struct job, link);
		struct run *r = j->run;
		struct message *m = r->message;

		for (uint32_t i = 0; i < r->count; i++)
			tell_end(&p->tell, j->first_delivery + i, m->id, TELL_DEFERRAL,
				 a->role == ROLE_LSPAWN
					 ? SPAN("quire-lspawn ended, will try again soon.\n")
					 : SPAN("quire-remote ended, will try again soon.\n"),
				 SPAN_NONE);
		dispatch_ended(p, j, LANE_NOTHING);
		run_wait(p, r, again);
		message_check_end(p, m);
	}
}

bool plan_agent(struct plan *p, uint32_t role, uint32_t index, uint32_t slots)
{
	struct agent *a = agent_of(&p->jobs, role, index);

	if (!a)
		return false;
	if (a->there)
		agent_lost(p, a);
	a->there = slots > 0;
	a->slots = slots;
	return true;
}

void plan_body_failed(struct plan *p, uint32_t body, const struct msg_close *m)
{
	struct agent *a = agent_of(&p->jobs, m->role, m->index);
	uint64_t damage = m->why == BODY_DAMAGED ? DAMAGE_SURE : m->why == BODY_GONE ? 1 : 0;

	if (!a || damage == 0)
		return;
	list_each(&a->jobs, l)
	{
		struct job *j = owner_of(l, struct job, link);
		struct message *msg = j->run->message;

		if (j->handle->number != m->handle || j->handle->body != body)
			continue;
		damage += msg->damage;
		msg->damage = damage < DAMAGE_SURE ? damage : DAMAGE_SURE;
		tell_damage(&p->tell, msg->id,
			 msg->damage == DAMAGE_SURE ? "damaged in the journal" :
						      "not found in the journal");
		return;                           /* the others are of the same message */
	}
}

static void notices_lost(struct plan *p, uint32_t body)
{
	list_each_safe(&p->notices, l)
	{
		struct more *more = owner_of(l, struct more, notice);

		if (more->notice_body == body)
			notice_later(p, more->message, BOUNCE_AGAIN_S);
	}
}

void plan_body(struct plan *p, uint32_t index, bool there)
{
	if (index >= BODIES_MAX || (p->jobs.bodies[index] == there && !there))
		return;
	for (unsigned c = 0; c < 2; c++) /* also when a new one takes an old one's place */
		for (uint32_t i = 0; i < AGENTS_MAX; i++)
			list_each(&p->jobs.agents[c][i].jobs, l)
			{
				struct job *j = owner_of(l, struct job, link);

				if (j->handle->body == index)
					j->handle->stale = true;
			}
	notices_lost(p, index);
	if (p->jobs.bodies[index] != there)
		p->jobs.bodies_n += there ? 1 : -1u;
	p->jobs.bodies[index] = there;
}
