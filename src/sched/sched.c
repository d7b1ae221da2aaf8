/* Whatever happens in a pass ends in wake(), and wake() in one run of on_pass(): there the
 * plan starts what may start and says what it has to say, and the timer is set for what is
 * next.  The feed runs before it, in pieces of FEED_PASS_MAX records, so that wires and
 * timers are served during a long replay, too. */
#include "sched/sched.h"

#include "core/clock.h"
#include "core/disk.h"
#include "core/file.h"
#include "core/log.h"
#include "core/memstat.h"
#include "core/pool.h"
#include "core/sandbox.h"
#include "journal/commit.h"
#include "journal/reader.h"
#include "sched/admin.h"
#include "sched/plan.h"
#include "sched/rebuild.h"
#include "sched/retire.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define FEED_PASS_MAX 20000 /* records: some ten milliseconds */
#define ADMIN_BUFS    16    /* receive buffers: only the admin socket is a stream */
#define CREDIT_STEP   16    /* told anew when a sixteenth of it came or went */
#define MEMORY_SHARE  4     /* of the machine's, for the queue */
#define NO_BODY       BODIES_MAX

static_check((RUN_ADDR_MAX + 2) * JOB_RCPTS_MAX + RUN_ADDR_MAX + 4096 < WIRE_FRAME_MAX);
static_check(OUTCOMES_FLUSH + 65536 + RESULT_TEXT_MAX < WIRE_FRAME_MAX);
static_check(BODIES_MAX >= ROLE_PEERS_MAX && AGENTS_MAX >= ROLE_PEERS_MAX);

struct peer { /* one connection; a newer one may take its place */
	struct wire wire;
	struct sched *sched;
	uint32_t role, index;
	char name[24];
};

struct bell { /* gone when its poll is over and it is not wanted */
	struct op op;
	struct sched *sched;
	int fd;
};

struct sched {
	struct role *role;
	struct loop *loop;
	struct plan plan;
	struct plan_world world;
	struct retires retires;
	struct disk *disk;
	struct ring ring;
	struct reader *reader; /* NULL: no feed yet */
	struct bell *bell;
	struct peer *journald;
	struct peer *agents[2][AGENTS_MAX]; /* by enum channel */
	struct peer *bodies[BODIES_MAX];
	struct admin *admin;
	struct deferred feed, pass;
	struct timer timer;
	struct msg_feed from;     /* what journald said of itself */
	struct msg_credit credit; /* what it was told */
	uint64_t begun_us, replay_ms;
	struct rebuild rebuild;
	unsigned open; /* peers and bells that are not gone yet */
	bool caught_up, feed_more, done;
};

static void wake(struct sched *s)
{
	loop_defer(s->loop, &s->pass, PHASE_COMMIT);
}

static void wake_feed(struct sched *s)
{
	loop_defer(s->loop, &s->feed, PHASE_WORK);
	wake(s);
}

/* ---- what the plan wants done */

static struct peer **agent_slot(struct sched *s, uint32_t role, uint32_t index)
{
	return &s->agents[role == ROLE_LSPAWN ? CHANNEL_LOCAL : CHANNEL_REMOTE][index];
}

static void do_open_body(void *ctx, uint32_t body, const struct msg_open *o)
{
	struct sched *s = ctx;

	if (s->bodies[body])
		wire_send(&s->bodies[body]->wire, MSG_OPEN, o, sizeof(*o), SPAN_NONE);
}

static void do_close_body(void *ctx, uint32_t body, const struct msg_close *c)
{
	struct sched *s = ctx;
	struct peer *agent = *agent_slot(s, c->role, c->index);

	if (body != NO_BODY && s->bodies[body])
		wire_send(&s->bodies[body]->wire, MSG_CLOSE, c, sizeof(*c), SPAN_NONE);
	if (agent)
		wire_send(&agent->wire, MSG_CLOSE, c, sizeof(*c), SPAN_NONE);
}

static void do_deliver(void *ctx, uint32_t role, uint32_t index, const struct msg_deliver *d,
		       struct span sender, struct span packed)
{
	struct sched *s = ctx;
	struct peer *agent = *agent_slot(s, role, index);

	if (agent)
		wire_send2(&agent->wire, MSG_DELIVER, d, sizeof(*d), sender, packed);
}

static void do_outcomes(void *ctx, struct span bytes)
{
	struct sched *s = ctx;

	check(s->journald); /* the plan knows when it is away */
	wire_send(&s->journald->wire, MSG_OUTCOMES, NULL, 0, bytes);
}

static void do_bounce(void *ctx, uint32_t body, const struct msg_bounce *b, struct span tail)
{
	struct sched *s = ctx;

	if (s->bodies[body])
		wire_send(&s->bodies[body]->wire, MSG_BOUNCE, b, sizeof(*b), tail);
}

static enum read_result do_read(void *ctx, uint64_t pos, enum rec_type type, uint64_t id,
				uint32_t number, struct record *ret)
{
	struct sched *s = ctx;
	enum read_result got = reader_at(s->reader, pos, type, id, number, ret);

	/* It may be well again in a moment: no recipient fails for that. */
	if (got == READ_ERROR && type == REC_RCPT)
		die(111, "the journal can't be read");
	return got;
}

/* ---- the feed */

static void be_ready(struct sched *s)
{
	rebuild_end(&s->rebuild);
	plan_ready(&s->plan);
	s->replay_ms = (clock_mono_us() - s->begun_us) / 1000;
	role_ready(s->role);
}

/* The walk has reached the durable position. */
static void on_feed_end(struct sched *s)
{
	if (s->caught_up || !s->journald || reader_pos(s->reader) < s->from.recovered)
		return;
	s->caught_up = true;
	if (!s->plan.ready)
		be_ready(s);
	plan_journal(&s->plan, true);
}

/* READ_END: all that was durable a moment ago has been applied. */
static void on_feed_caught(struct sched *s)
{
	on_feed_end(s);
	if (s->caught_up)
		retires_apply(&s->retires, reader_pos(s->reader));
}

static void note_damage(uint64_t pos)
{
	char where[24];

	snprintf(where, sizeof(where), "%" PRIu64, pos);
	log_note("journal", "damaged", "position", where, NULL);
}

/* false: there is no more for now. */
static bool feed_one(struct sched *s)
{
	struct record r;

	switch (reader_next(s->reader, false, &r)) {
	case READ_OK: plan_record(&s->plan, &r); return true;
	case READ_DAMAGE:
		note_damage(r.pos);
		s->plan.counts.damaged++;
		return true;
	case READ_END: on_feed_caught(s); return false;
	case READ_GONE: die(111, "the journal moved on under the feed: starting over");
	case READ_ERROR: die(111, "the journal can't be read");
	}
	unreachable();
}

static void on_feed(struct deferred *d)
{
	struct sched *s = owner_of(d, struct sched, feed);

	s->feed_more = false;
	wake(s);
	if (!s->reader || !s->ring.head)
		return;
	for (unsigned n = 0; n < FEED_PASS_MAX; n++)
		if (!feed_one(s))
			return;
	if (!s->plan.ready)
		rebuild_at(&s->rebuild, s->reader, s->from.segment_size, s->from.recovered,
			   s->plan.loads.by_id.n);
	s->feed_more = true;
}

static void bell_free(struct bell *b)
{
	b->sched->open--;
	close(b->fd);
	mem_free(b);
}

static void on_bell(struct op *op, int res, unsigned flags)
{
	struct bell *b = owner_of(op, struct bell, op);
	struct sched *s = b->sched;
	uint64_t rung;

	if (s->bell != b) {
		bell_free(b);
		return;
	}
	if (res < 0)
		die(111, "the feed's bell is broken");
	if (read(b->fd, &rung, sizeof(rung)) < 0 && errno != EAGAIN)
		die_sys(111, "read ", "bell");
	loop_poll(s->loop, &b->op, b->fd, POLLIN);
	wake_feed(s);
}

static void drop_bell(struct sched *s)
{
	struct bell *b = s->bell;

	s->bell = NULL;
	if (b)
		loop_cancel(s->loop, &b->op); /* on_bell() frees it */
}

/* Rings once by itself: what became durable before it was there. */
static void take_bell(struct wire *w, struct wire_in *in)
{
	struct peer *p = w->ctx;
	struct sched *s = p->sched;
	struct bell *b = mem_new(sizeof(*b));

	drop_bell(s);
	fd_nonblock(in->fd);
	*b = (struct bell){.sched = s, .fd = in->fd};
	op_init(&b->op, on_bell);
	s->open++;
	s->bell = b;
	loop_poll(s->loop, &b->op, b->fd, POLLIN);
	wake_feed(s);
}

static void open_reader(struct sched *s)
{
	struct buf why;
	int e;

	buf_init(&why, 1024);
	s->reader = reader_new(s->disk, &s->ring, s->from.segment_size, s->from.shard);
	e = reader_open(s->reader, &why);
	if (e < 0)
		die(111, "the journal can't be read: %.*s (%s)", SPAN_ARG(buf_span(&why)),
		    strerror(-e));
	buf_free(&why);
}

/* The new journald's manifest says whether what moved under the old one has moved. */
static void look_at_manifest(struct sched *s)
{
	struct reader *r = reader_new(s->disk, &s->ring, s->from.segment_size, s->from.shard);
	const struct manifest_entry *v;
	struct buf why;
	uint32_t n;
	int e;

	buf_init(&why, 1024);
	e = reader_open(r, &why);
	if (e < 0)
		die(111, "the journal can't be read: %.*s (%s)", SPAN_ARG(buf_span(&why)),
		    strerror(-e));
	v = reader_manifest(r, &n);
	retires_look(&s->retires, v, n, s->from.segment_size);
	reader_free(r);
	buf_free(&why);
}

static void take_feed(struct wire *w, struct wire_in *in)
{
	const struct msg_feed *f = in->body;
	struct peer *p = w->ctx;
	struct sched *s = p->sched;
	int e;

	if (s->reader && (f->segment_size != s->from.segment_size || f->shard != s->from.shard))
		die(111, "journald came back with another journal: starting over");
	ring_unmap(&s->ring);
	e = ring_map(&s->ring, in->fd);
	close(in->fd);
	if (e < 0)
		die(111, "the ring can't be mapped: %s", strerror(-e));
	s->from = *f;
	s->caught_up = false;
	if (s->reader)
		look_at_manifest(s);
	else
		open_reader(s);
	wake_feed(s);
}

static void take_retire(struct wire *w, struct wire_in *in)
{
	struct peer *p = w->ctx;

	if (!retires_take(&p->sched->retires, in->body, in->tail)) {
		log_note("peer", p->name, "odd", "positions that fit no frame", NULL);
		wire_close(w);
	}
	wake_feed(p->sched);
}

static void take_room(struct wire *w, struct wire_in *in)
{
	const struct msg_room *m = in->body;
	struct peer *p = w->ctx;

	plan_room(&p->sched->plan, m->dispatch != 0);
	wake(p->sched);
}

static void correct_moved(void *ctx, const struct msg_moved *v, size_t n)
{
	struct sched *s = ctx;

	plan_moved(&s->plan, v, n);
}

/* Behind every OPEN and BOUNCE that was sent with an old position. */
static void forward_retire(void *ctx, const struct msg_retire *m, struct span moved)
{
	struct sched *s = ctx;

	if (m->part == RETIRE_LAST && s->reader)
		reader_forget(s->reader);
	for (unsigned i = 0; i < BODIES_MAX; i++)
		if (s->bodies[i])
			wire_send(&s->bodies[i]->wire, MSG_RETIRE, m, sizeof(*m), moved);
}

static const struct retires_calls retires_calls = {.correct = correct_moved,
						   .forward = forward_retire};

/* ---- peers */

static void on_bounced(struct wire *w, struct wire_in *in)
{
	struct peer *p = w->ctx;

	plan_bounced(&p->sched->plan, in->body);
	wake(p->sched);
}

static void on_bodyfail(struct wire *w, struct wire_in *in)
{
	struct peer *p = w->ctx;

	plan_body_failed(&p->sched->plan, p->index, in->body);
}

static void on_agent(struct wire *w, struct wire_in *in)
{
	const struct msg_agent *a = in->body;
	struct peer *p = w->ctx;

	check(plan_agent(&p->sched->plan, p->role, p->index, a->jobs_max));
	wake(p->sched);
}

static void on_verdict(struct wire *w, struct wire_in *in)
{
	struct peer *p = w->ctx;

	if (!plan_verdict(&p->sched->plan, p->role, p->index, in->body, in->tail)) {
		log_note("peer", p->name, "odd", "a verdict that fits no job", NULL);
		wire_close(w);
	}
	wake(p->sched);
}

static const struct wire_handler from_journald[] = {
	{.type = MSG_FEED, .body_n = sizeof(struct msg_feed), .fd = true, .on = take_feed},
	{.type = MSG_BELL, .body_n = 0, .fd = true, .on = take_bell},
	{.type = MSG_RETIRE,
	 .body_n = sizeof(struct msg_retire),
	 .tail = true,
	 .on = take_retire},
	{.type = MSG_ROOM, .body_n = sizeof(struct msg_room), .on = take_room},
};
static const struct wire_handler from_body[] = {
	{.type = MSG_BOUNCED, .body_n = sizeof(struct msg_bounced), .on = on_bounced},
	{.type = MSG_BODYFAIL, .body_n = sizeof(struct msg_close), .on = on_bodyfail},
};
static const struct wire_handler from_agent[] = {
	{.type = MSG_AGENT, .body_n = sizeof(struct msg_agent), .on = on_agent},
	{.type = MSG_VERDICT,
	 .body_n = sizeof(struct msg_verdict),
	 .tail = true,
	 .on = on_verdict},
};

static const struct {
	const struct wire_handler *handlers;
	size_t n;
	const char *name;
} kinds[ROLES] = {
	[ROLE_JOURNALD] = {from_journald, ARRAY_N(from_journald), "journald"},
	[ROLE_BODY] = {from_body, ARRAY_N(from_body), "body"},
	[ROLE_REMOTE] = {from_agent, ARRAY_N(from_agent), "remote"},
	[ROLE_LSPAWN] = {from_agent, ARRAY_N(from_agent), "lspawn"},
};

static struct peer **slot_of(struct sched *s, uint32_t role, uint32_t index)
{
	if (role == ROLE_JOURNALD)
		return &s->journald;
	return role == ROLE_BODY ? &s->bodies[index] : agent_slot(s, role, index);
}

static void journald_lost(struct sched *s)
{
	drop_bell(s);
	s->caught_up = false;
	s->credit = (struct msg_credit){0};
	retires_lost(&s->retires);
	plan_room(&s->plan, true); /* the next one says it anew */
	plan_journal(&s->plan, false);
}

/* Out of its slot: nothing is sent to it any more. */
static void unplug(struct peer *p)
{
	struct sched *s = p->sched;

	*slot_of(s, p->role, p->index) = NULL;
	if (p->role == ROLE_JOURNALD)
		journald_lost(s);
	else if (p->role == ROLE_BODY)
		plan_body(&s->plan, p->index, false);
	else
		check(plan_agent(&s->plan, p->role, p->index, 0));
	wake(s);
}

static void on_lost(struct wire *w)
{
	struct peer *p = w->ctx;

	if (*slot_of(p->sched, p->role, p->index) == p)
		unplug(p);
	p->sched->open--;
	mem_free(p);
}

void sched_peer(struct sched *s, uint32_t role, uint32_t index, int fd)
{
	struct peer **slot, *p;

	if (role >= ROLES || !kinds[role].handlers || index >= ROLE_PEERS_MAX) {
		close(fd); /* nobody we talk to */
		return;
	}
	slot = slot_of(s, role, index);
	if (*slot) {
		p = *slot;
		unplug(p);
		wire_close(&p->wire);
	}
	p = mem_new(sizeof(*p));
	s->open++;
	p->sched = s;
	p->role = role;
	p->index = index;
	snprintf(p->name, sizeof(p->name), "%s/%u", kinds[role].name, index);
	wire_init(&p->wire, s->loop, fd, p->name, kinds[role].handlers, kinds[role].n, on_lost,
		  p);
	*slot = p;
	if (role == ROLE_BODY)
		plan_body(&s->plan, index, true);
	wake(s);
}

/* ---- the pass */

static bool changed_much(uint64_t told, uint64_t now)
{
	uint64_t by = told > now ? told - now : now - told;

	return by > told / CREDIT_STEP;
}

static void tell_credit(struct sched *s)
{
	struct msg_credit c;

	if (!s->journald || !s->plan.ready)
		return;
	plan_credit(&s->plan, &c);
	if (!changed_much(s->credit.messages, c.messages) &&
	    !changed_much(s->credit.bytes, c.bytes))
		return;
	s->credit = c;
	wire_send(&s->journald->wire, MSG_CREDIT, &c, sizeof(c), SPAN_NONE);
}

static bool drained(const struct sched *s)
{
	if (plan_is_drained(&s->plan))
		return true;
	/* Nobody is left who could make the last outcomes durable. */
	return s->plan.draining && !s->journald && s->plan.jobs.jobs.used == 0;
}

static void on_pass(struct deferred *d)
{
	struct sched *s = owner_of(d, struct sched, pass);
	int64_t ms;

	plan_tick(&s->plan);
	tell_credit(s);
	if (drained(s)) {
		s->done = true;
		loop_stop(s->loop);
		return;
	}
	if (s->feed_more)
		loop_defer(s->loop, &s->feed, PHASE_WORK); /* the next pass, which does not wait */
	ms = plan_wait_ms(&s->plan);
	if (ms < 0)
		timer_stop(s->loop, &s->timer);
	else
		timer_set(s->loop, &s->timer, (uint64_t)ms);
}

static void on_timer(struct timer *t)
{
	wake(owner_of(t, struct sched, timer));
}

/* ---- run/control */

static const char *room_name(uint32_t room)
{
	static const char *const names[] = {[ROOM_PLENTY] = "plenty",
					    [ROOM_NO_MAIL] = "no mail",
					    [ROOM_NO_DISPATCH] = "no dispatch"};

	return room < ARRAY_N(names) ? names[room] : "?";
}

static void say_space(struct outbuf *o, const struct ring_head *h)
{
	out_fmt(o,
		",\"space\":{\"room\":\"%s\",\"latched\":%s,\"spares\":%" PRIu64
		",\"reserve\":%" PRIu64 ",\"reserve_wanted\":%" PRIu64,
		room_name(h->room), h->latched ? "true" : "false", h->spares, h->reserve,
		h->reserve_wanted);
	out_fmt(o,
		",\"segments\":%" PRIu64 ",\"live_bytes\":%" PRIu64 ",\"disk_bytes\":%" PRIu64
		",\"history_bytes\":%" PRIu64,
		h->segments, h->live_bytes, h->disk_bytes, h->history_bytes);
	out_fmt(o,
		",\"compacting\":%s,\"rounds\":%" PRIu64 ",\"compacted_bytes\":%" PRIu64
		",\"given_up\":%" PRIu64 ",\"quarantined\":%" PRIu32 "}",
		h->compacting ? "true" : "false", h->rounds, h->copied_bytes, h->given_up,
		h->quarantined);
}

static void say_ring(struct outbuf *o, const struct ring_head *h)
{
	out_fmt(o,
		",\"ring\":{\"batches\":%" PRIu64 ",\"records\":%" PRIu64
		",\"messages\":%" PRIu64 ",\"syncs\":%" PRIu64,
		h->batches, h->records, h->messages, h->syncs);
	out_fmt(o,
		",\"bytes_raw\":%" PRIu64 ",\"bytes_packed\":%" PRIu64
		",\"bytes_written\":%" PRIu64,
		h->bytes_raw, h->bytes_packed, h->bytes_written);
	out_fmt(o,
		",\"open_submissions\":%" PRIu64 ",\"refused\":%" PRIu64
		",\"commit_us_max\":%" PRIu64 ",\"commit_us_sum\":%" PRIu64,
		h->open_submissions, h->refused, h->commit_us_max, h->commit_us_sum);
	out_fmt(o,
		",\"durable\":%" PRIu64
		",\"direct\":%s,\"uring\":%s,\"full\":%s,\"damaged\":%s}",
		h->durable, h->direct ? "true" : "false", h->uring ? "true" : "false",
		h->full ? "true" : "false", h->damaged ? "true" : "false");
	say_space(o, h);
}

static bool ask_compact(void *ctx, uint64_t *ret_ticket)
{
	struct sched *s = ctx;

	if (!s->journald || !s->ring.head)
		return false;
	*ret_ticket = s->ring.head->asked_done;
	wire_send(&s->journald->wire, MSG_COMPACT, NULL, 0, SPAN_NONE);
	return true;
}

/* A journald that came anew has forgotten it. */
static bool compact_is_over(void *ctx, uint64_t ticket)
{
	const struct sched *s = ctx;

	return !s->journald || !s->ring.head || s->ring.head->asked_done != ticket;
}

static void say_compact(void *ctx, struct outbuf *o)
{
	const struct sched *s = ctx;

	if (s->ring.head)
		say_space(o, s->ring.head);
}

static const struct admin_compact compact_calls = {
	.ask = ask_compact, .is_over = compact_is_over, .fields = say_compact};

static void say_channel(struct outbuf *o, const char *name, const struct outlet *c)
{
	out_fmt(o,
		",\"%s\":{\"running\":%" PRIu32 ",\"limit\":%" PRIu32 ",\"ready\":%" PRIu64 "}",
		name, c->running, c->limit, c->ready);
}

static void say_status(void *ctx, struct outbuf *o)
{
	struct sched *s = ctx;
	const struct plan *p = &s->plan;

	out_fmt(o,
		"{\"version\":\"%s\",\"pid\":%d,\"loop\":\"%s\",\"shard\":%" PRIu32
		",\"epoch\":%" PRIu64,
		QUIRE_VERSION, getpid(), loop_name(s->loop), s->from.shard, s->from.epoch);
	out_fmt(o, ",\"ready\":%s,\"draining\":%s,\"journald\":%s", p->ready ? "true" : "false",
		p->draining ? "true" : "false", p->journal_away ? "false" : "true");
	out_fmt(o, ",\"uptime_ms\":%" PRIu64 ",\"replay_ms\":%" PRIu64,
		(clock_mono_us() - s->begun_us) / 1000, s->replay_ms);
	out_fmt(o,
		",\"messages\":%zu,\"recipients\":%" PRIu64 ",\"waiting_runs\":%" PRIu32
		",\"bounces_on_their_way\":%s",
		p->messages.n, p->recipients, p->due.n,
		list_is_empty(&p->notices) ? "false" : "true");
	say_channel(o, "local", &p->lanes.channels[CHANNEL_LOCAL]);
	say_channel(o, "remote", &p->lanes.channels[CHANNEL_REMOTE]);
	out_fmt(o,
		",\"destinations\":%zu,\"delivered\":%" PRIu64 ",\"deferred\":%" PRIu64
		",\"failed\":%" PRIu64 ",\"bounced\":%" PRIu64 ",\"ended\":%" PRIu64,
		p->lanes.by_domain.n, p->counts.delivered, p->counts.deferred, p->counts.failed,
		p->counts.bounced, p->counts.ended);
	out_fmt(o,
		",\"outcomedelay_ms\":%" PRIu64
		",\"outcomes_owed\":%zu,\"outcomes_owed_ms\":%" PRIu64,
		p->limits.outcome_delay_ms, p->owed_n, plan_owed_age_us(p) / 1000);
	out_fmt(o, ",\"outcomes_owed_ms_max\":%" PRIu64 ",\"duplicates_window_ms\":%" PRIu64,
		p->counts.owed_us_max / 1000, 2 * p->limits.outcome_delay_ms);
	out_fmt(o, ",\"credit_messages\":%" PRIu64 ",\"credit_bytes\":%" PRIu64,
		s->credit.messages, s->credit.bytes);
	out_fmt(o,
		",\"queue_bytes\":%zu,\"memory_active\":%zu,\"memory_resident\":%zu,\"log_lost\":%" PRIu64,
		p->bytes + p->lanes.bytes, memstat_active(), memstat_resident(), log_lost());
	if (s->ring.head)
		say_ring(o, s->ring.head);
	out_byte(o, '}');
}

/* ---- the process */

static uint64_t memory_limit(const struct control *c)
{
	uint64_t said = control_int(c, "queuememory", 0);
	long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);

	if (said > 0 || pages <= 0 || size <= 0)
		return said;
	return (uint64_t)pages * (uint64_t)size / MEMORY_SHARE;
}

static void take_control(struct sched *s)
{
	plan_control(&s->plan, s->role->control);
	s->plan.limits.memory = memory_limit(s->role->control);
	if (s->plan.limits.memory == 0)
		s->plan.limits.memory = PLAN_MEMORY;
	wake(s);
}

static void on_peer(struct role *r, uint32_t role, uint32_t index, int fd)
{
	sched_peer(r->ctx, role, index, fd);
}

static void on_control(struct role *r)
{
	take_control(r->ctx);
}

static void on_drain(struct role *r)
{
	struct sched *s = r->ctx;

	plan_drain(&s->plan);
	admin_close(s->admin);
	wake(s);
}

static void on_retry(struct role *r)
{
	struct sched *s = r->ctx;

	plan_retry_all(&s->plan);
	wake(s);
}

const struct role_calls sched_calls = {
	.peer = on_peer, .control = on_control, .drain = on_drain, .retry = on_retry};

static const struct plan_world calls_of_plan = {.open_body = do_open_body,
						.close_body = do_close_body,
						.deliver = do_deliver,
						.outcomes = do_outcomes,
						.bounce = do_bounce,
						.read = do_read};

static struct disk *open_disk(struct loop *l, int dir_fd)
{
	int fd = fcntl(dir_fd, F_DUPFD_CLOEXEC, 0); /* the disk closes its own */

	if (fd < 0)
		die_sys(111, "dup ", "the journal's directory");
	return disk_real_new(l, fd);
}

struct sched *sched_new(struct role *r, struct loop *l)
{
	struct sched *s = mem_new(sizeof(*s));

	s->role = r;
	s->loop = l;
	s->begun_us = clock_mono_us();
	rebuild_begin(&s->rebuild, isatty(STDERR_FILENO));
	s->disk = open_disk(l, r->files[FILE_JOURNAL_DIR]);
	deferred_init(&s->feed, on_feed);
	deferred_init(&s->pass, on_pass);
	timer_init(&s->timer, on_timer);
	s->world = calls_of_plan;
	s->world.ctx = s;
	plan_init(&s->plan, &s->world, r->control);
	retires_init(&s->retires, &retires_calls, s);
	plan_journal(&s->plan, false);
	take_control(s);
	for (unsigned i = 0; i < r->peers_n; i++)
		sched_peer(s, r->peers[i].role, r->peers[i].index, r->peers[i].fd);
	for (unsigned i = 0; i < r->listeners_n; i++)
		if (r->listeners[i].kind == LISTEN_CONTROL && !s->admin)
			s->admin = admin_new(l, r->listeners[i].fd, &s->plan, say_status,
					     &compact_calls, s);
	return s;
}

bool sched_is_done(const struct sched *s)
{
	return s->done;
}

static void close_all(struct peer **slots, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (slots[i])
			wire_close(&slots[i]->wire);
}

void sched_close(struct sched *s)
{
	close_all(&s->journald, 1);
	close_all(s->agents[CHANNEL_LOCAL], AGENTS_MAX);
	close_all(s->agents[CHANNEL_REMOTE], AGENTS_MAX);
	close_all(s->bodies, BODIES_MAX);
	drop_bell(s);
	admin_close(s->admin);
}

bool sched_is_closed(const struct sched *s)
{
	return s->open == 0 && admin_is_closed(s->admin);
}

void sched_free(struct sched *s)
{
	deferred_cancel(&s->feed);
	deferred_cancel(&s->pass);
	timer_stop(s->loop, &s->timer);
	reader_free(s->reader);
	ring_unmap(&s->ring);
	retires_fini(&s->retires);
	plan_fini(&s->plan);
	admin_free(s->admin);
	disk_real_free(s->disk);
	mem_free(s);
}

void sched_run(struct role *r)
{
	struct sched *s;
	struct loop *l;
	char journal[32];

	if (r->files[FILE_JOURNAL_DIR] < 0)
		role_trouble(r, "no journal directory was given");
	l = loop_new(LOOP_AUTO, ADMIN_BUFS);
	s = sched_new(r, l);
	snprintf(journal, sizeof(journal), "/proc/self/fd/%d", r->files[FILE_JOURNAL_DIR]);
	sandbox_enter(SANDBOX_QUEUE, journal);
	role_watch(r, l, &sched_calls, s);
	loop_run(l);
	tell_exiting(&s->plan.tell);
	log_flush(); /* what is open ends with the process */
}
