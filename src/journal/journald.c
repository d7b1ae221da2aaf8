/* What a peer's submission may be (its deposit's states are in store.c):
 *
 *   UNKNOWN    no entry: a PART, RCPTS or SUBMIT opens one
 *   OPEN       parts come
 *   TOLD       refused, and STORED said so before its end; further parts are ignored, and its
 *              SUBMIT or ABANDON ends it without another word
 *   COMMITTING SUBMIT came; STORED goes out when the batch is durable
 *
 * A frame for which the batch has no room is kept (one a peer), the peer is not read any
 * further, and the frame is taken again when the peer's turn comes.
 *
 * What goes wrong:
 *   a peer is lost                its open submissions are parts without MSG; what commits
 *                                 goes on, unheard
 *   a peer comes anew             the old wire is read to its end (a dead sched's last outcomes
 *                                 count), then it is lost; bells and ADMIT go to the new one
 *   sched sends nonsense          its wire is closed; start makes a new one
 *   no entry can be had           STORED_LATER
 *   a write to the journal fails  one line, exit ROLE_EXIT_WRITE; start restarts it, recovery
 *                                 decides; after two of them it is told to refuse new mail
 *   the journal is locked, damaged beyond reading, or of a newer version
 *                                 role_trouble(): start gives up and says so
 *   a segment, the ring or memory can't be had at start
 *                                 one line, exit 111; start tries again */
#include "journal/journald.h"

#include "core/clock.h"
#include "core/file.h"
#include "core/log.h"
#include "core/pool.h"
#include "core/table.h"
#include "journal/door.h"
#include "journal/format.h"
#include "journal/keeper.h"
#include "journal/opening.h"
#include "journal/packer.h"
#include "journal/store.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define ENTRIES_MAX   (1u << 20) /* open submissions: more than descriptors can be */
#define SPACE_MS      5000                        /* how old the known free space may be */
#define DRAIN_LOOK_MS 20
#define FULL_LOOK_MS  1000                        /* is there room on the disk again */

struct peer {
	struct journald *j;
	struct wire      wire;
	struct link      link;
	uint32_t         role, index;
	char             name[32];
	struct map       subs;                    /* struct entry by the peer's number */
	struct source    source;
	struct turn      turn;
	uint16_t         kept_type;               /* the frame that waits for its turn, ... */
	size_t           kept_body_n, done_n;     /* ... and how much of OUTCOMES is done */
	struct buf       kept;
	int              bell;                    /* -1: it has no feed */
	bool             superseded;
};

struct entry {
	struct deposit deposit;
	struct peer   *peer;
	uint32_t       sub;
};

struct journald {
	struct journald_options o;
	struct opening          in;
	struct store            store;
	struct packer          *packer;
	struct dict             dict;             /* that every segment begins with */
	struct door            *door;
	struct keeper          *keeper;
	struct link             peers;
	struct pool             entries;
	uint64_t                space_known_ms;
	bool                    admits, full, draining, drained, closed;
	uint64_t                drain_end_ms;
	struct timer            drain_look, full_look;
};

/* ---- admission */

static bool takes_mail(const struct peer *p)
{
	return p->role == ROLE_SMTPD || p->role == ROLE_QMTPD || p->role == ROLE_BODY;
}

static bool has_feed(const struct peer *p)
{
	return p->role == ROLE_SCHED || p->role == ROLE_BODY;
}

static void tell_admission(struct peer *p)
{
	struct msg_admit m = {.open = p->j->admits, .full = p->j->full};

	if (takes_mail(p) && !p->superseded)
		wire_send(&p->wire, MSG_ADMIT, &m, sizeof(m), SPAN_NONE);
}

static void tell_dict(struct peer *p)
{
	const struct dict *d = &p->j->dict;
	struct msg_dict    m = {.number = d->number};

	if (takes_mail(p) && d->number)
		wire_send(&p->wire, MSG_DICT, &m, sizeof(m), d->bytes);
}

/* Credit, drain and a full disk change it; everybody who takes mail is told once. */
static void look_at_admission(void *ctx)
{
	struct journald *j = ctx;
	bool             admits = !j->closed && store_admits(&j->store);
	bool             full = store_is_full(&j->store);

	atomic_store(&j->in.ring.head->full, full);
	atomic_store(&j->in.ring.head->latched, j->store.latched);
	if (full && !j->closed && !timer_is_set(&j->full_look))
		timer_set(j->o.loop, &j->full_look, FULL_LOOK_MS);
	if (admits == j->admits && full == j->full)
		return;
	j->admits = admits;
	j->full = full;
	list_each(&j->peers, l)
		tell_admission(owner_of(l, struct peer, link));
	if ((admits || full) && j->door) /* who finds the disk full at its start hears so */
		door_open(j->door);
}

static void on_full_look(struct timer *t)
{
	look_at_admission(owner_of(t, struct journald, full_look));
}

/* Asked for where bytes come in that may never be committed. */
static void look_at_space(struct journald *j)
{
	struct statvfs v;
	uint64_t       now = clock_mono_ms();

	if (j->o.dir_fd < 0 || (j->space_known_ms && now - j->space_known_ms < SPACE_MS))
		return;
	j->space_known_ms = now;
	if (fstatvfs(j->o.dir_fd, &v) == 0)
		store_free_space(&j->store, (uint64_t)v.f_bavail * v.f_frsize);
}

/* ---- the submissions of a peer */

static void on_durable(struct deposit *d);

static void say_stored(struct peer *p, uint32_t sub, enum stored verdict, uint64_t id)
{
	struct msg_stored m = {.sub = sub, .verdict = verdict, .id = id};

	wire_send(&p->wire, MSG_STORED, &m, sizeof(m), SPAN_NONE);
}

static struct entry *entry_of(struct peer *p, uint32_t sub)
{
	struct entry *e = map_get(&p->subs, sub);

	if (e)
		return e;
	e = pool_get(&p->j->entries);
	if (!e)
		return NULL;
	e->peer = p;
	e->sub = sub;
	if (!map_put(&p->subs, sub, e)) {
		pool_put(&p->j->entries, e);
		return NULL;
	}
	deposit_open(&e->deposit, &p->j->store, &p->source, on_durable);
	return e;
}

static void entry_free(struct entry *e)
{
	struct peer *p = e->peer;

	deposit_close(&e->deposit);
	(void)map_remove(&p->subs, e->sub);
	pool_put(&p->j->entries, e);
}

static void on_durable(struct deposit *d)
{
	struct entry *e = owner_of(d, struct entry, deposit);

	say_stored(e->peer, e->sub, STORED_OK, d->id);
	entry_free(e);
}

/* False: the frame is to be kept. */
static bool after_part(struct entry *e, enum put put)
{
	if (put == PUT_REFUSED)
		say_stored(e->peer, e->sub, e->deposit.verdict, 0);
	return put != PUT_WAIT;
}

static bool is_over(const struct entry *e)
{
	return e->deposit.refused || e->deposit.committing;
}

static bool do_part(struct peer *p, const void *body, struct span tail)
{
	const struct msg_part *m = body;
	struct entry          *e = entry_of(p, m->sub);

	if (!e)
		say_stored(p, m->sub, STORED_LATER, 0);
	if (!e || is_over(e))
		return true;
	look_at_space(p->j);
	return after_part(e, deposit_part(&e->deposit, m, tail));
}

static bool do_rcpts(struct peer *p, const void *body, struct span tail)
{
	const struct msg_rcpts *m = body;
	struct entry           *e = entry_of(p, m->sub);

	if (!e)
		say_stored(p, m->sub, STORED_LATER, 0);
	if (!e || is_over(e))
		return true;
	return after_part(e, deposit_rcpts(&e->deposit, m, tail));
}

static bool do_submit(struct peer *p, const void *body, struct span tail)
{
	const struct msg_submit *m = body;
	struct entry            *e = entry_of(p, m->sub);
	enum put                 put;

	if (!e) {
		say_stored(p, m->sub, STORED_LATER, 0);
		return true;
	}
	if (e->deposit.committing)            /* its number is taken: that is no peer of ours */
		return true;
	if (e->deposit.refused) {                 /* TOLD */
		entry_free(e);
		return true;
	}
	if (m->kind == SUBMIT_LOCAL)              /* that is the door's word */
		put = PUT_REFUSED;
	else
		put = deposit_submit(&e->deposit, m, tail);
	if (put == PUT_REFUSED) {
		say_stored(p, e->sub, e->deposit.refused ? e->deposit.verdict : STORED_BAD, 0);
		entry_free(e);
	}
	return put != PUT_WAIT;
}

static bool do_abandon(struct peer *p, const void *body, struct span tail)
{
	const struct msg_sub *m = body;
	struct entry         *e = map_get(&p->subs, m->sub);

	if (e)
		entry_free(e);
	return true;
}

/* ---- what sched says */

/* The head of the outcome at the front of s, and all of its bytes; false: nonsense. */
static bool cut_outcome(struct span *s, struct msg_outcome *ret, struct span *ret_ranges,
			struct span *ret_text)
{
	struct span rest = *s;
	size_t      n;

	if (rest.n < sizeof(*ret))
		return false;
	memcpy(ret, span_cut(&rest, sizeof(*ret)).p, sizeof(*ret));
	n = ret->ranges_n * sizeof(struct msg_range) + ret->text_n;
	if (rest.n < MSG_PAD8(n) || ret->outcome < OUTCOME_DELIVERED ||
	    ret->outcome > OUTCOME_DROPPED || !ret->id)
		return false;
	*ret_ranges = span_cut(&rest, ret->ranges_n * sizeof(struct msg_range));
	*ret_text = span_cut(&rest, ret->text_n);
	(void)span_cut(&rest, MSG_PAD8(n) - n);
	for (uint32_t i = 0; i < ret->ranges_n; i++)
		if (range_at(*ret_ranges, i).first > range_at(*ret_ranges, i).last)
			return false;
	*s = rest;
	return true;
}

static bool add_state(struct journald *j, const struct msg_outcome *o, struct span ranges,
		      struct span text)
{
	struct rec_head  h = {.type = REC_STATE, .version = REC_LAYOUT, .id = o->id};
	struct rec_state s = {
		.at_us = o->at_us,
		.next_us = o->next_us,
		.attempt = o->attempt,
		.ranges_n = o->ranges_n,
		.text_n = o->text_n,
		.outcome = o->outcome,
	};
	struct span pieces[3] = {span_of(&s, sizeof(s)), ranges, text};

	return store_add(&j->store, &h, pieces, 3, 0, NULL);
}

static bool do_outcomes(struct peer *p, const void *body, struct span tail)
{
	struct span        rest = span_from(tail, p->done_n), ranges, text;
	struct msg_outcome o;

	while (rest.n > 0) {
		if (!cut_outcome(&rest, &o, &ranges, &text) ||
		    rec_size(sizeof(struct rec_state) + ranges.n + text.n) >
			    commit_record_max(p->j->in.commit)) {
			log_note("peer", p->name, "garbage", "outcomes", NULL);
			wire_close(&p->wire);
			break;
		}
		if (!add_state(p->j, &o, ranges, text))
			return false;
		p->done_n = tail.n - rest.n;
	}
	p->done_n = 0;
	return true;
}

static bool do_compact(struct peer *p, const void *body, struct span tail)
{
	keeper_compact(p->j->keeper);
	return true;
}

/* What body says: nobody there holds an old position. */
static bool do_retired(struct peer *p, const void *body, struct span tail)
{
	if (p->role == ROLE_BODY && !p->superseded)
		keeper_retired(p->j->keeper, p->index, body);
	return true;
}

static bool do_credit(struct peer *p, const void *body, struct span tail)
{
	if (!p->superseded)
		store_grant(&p->j->store, body);
	return true;
}

/* ---- frames, and the one that waits */

static const struct task {
	uint16_t type;
	bool   (*run)(struct peer *p, const void *body, struct span tail); /* false: no room */
} tasks[] = {
	{ MSG_PART,     do_part },
	{ MSG_RCPTS,    do_rcpts },
	{ MSG_SUBMIT,   do_submit },
	{ MSG_ABANDON,  do_abandon },
	{ MSG_OUTCOMES, do_outcomes },
	{ MSG_CREDIT,   do_credit },
	{ MSG_COMPACT,  do_compact },
	{ MSG_RETIRED,  do_retired },
};

static const struct task *task_of(uint16_t type)
{
	for (size_t i = 0; i < ARRAY_N(tasks); i++)
		if (tasks[i].type == type)
			return &tasks[i];
	unreachable();
}

static void keep(struct peer *p, uint16_t type, const void *body, size_t body_n,
		 struct span tail)
{
	buf_clear(&p->kept);
	if (!buf_add(&p->kept, span_of(body, body_n)) || !buf_add(&p->kept, tail))
		die(111, "out of memory: %zu bytes", body_n + tail.n);
	p->kept_type = type;
	p->kept_body_n = body_n;
	wire_pause(&p->wire);
	store_await_turn(&p->j->store, &p->turn);
}

static void on_turn(struct turn *t)
{
	struct peer *p = owner_of(t, struct peer, turn);
	struct span  all = buf_span(&p->kept);

	if (!task_of(p->kept_type)->run(p, all.p, span_from(all, p->kept_body_n))) {
		store_await_turn(&p->j->store, &p->turn);
		return;
	}
	buf_free(&p->kept);
	wire_resume(&p->wire);
}

static void take(struct wire *w, uint16_t type, size_t body_n, struct wire_in *in)
{
	struct peer *p = owner_of(w, struct peer, wire);

	if (!task_of(type)->run(p, in->body, in->tail))
		keep(p, type, in->body, body_n, in->tail);
}

#define TAKES(name, type, body_n)                              \
	static void name(struct wire *w, struct wire_in *in)   \
	{                                                      \
		take(w, type, body_n, in);                     \
	}
TAKES(on_part, MSG_PART, sizeof(struct msg_part))
TAKES(on_rcpts, MSG_RCPTS, sizeof(struct msg_rcpts))
TAKES(on_submit, MSG_SUBMIT, sizeof(struct msg_submit))
TAKES(on_abandon, MSG_ABANDON, sizeof(struct msg_sub))
TAKES(on_outcomes, MSG_OUTCOMES, 0)
TAKES(on_credit, MSG_CREDIT, sizeof(struct msg_credit))
TAKES(on_compact, MSG_COMPACT, 0)
TAKES(on_retired, MSG_RETIRED, sizeof(struct msg_retired))

static const struct wire_handler mail_handlers[] = {
	{ MSG_PART,    sizeof(struct msg_part),   true,  false, on_part },
	{ MSG_RCPTS,   sizeof(struct msg_rcpts),  true,  false, on_rcpts },
	{ MSG_SUBMIT,  sizeof(struct msg_submit), true,  false, on_submit },
	{ MSG_ABANDON, sizeof(struct msg_sub),    false, false, on_abandon },
	{ MSG_RETIRED, sizeof(struct msg_retired), false, false, on_retired },
};
static const struct wire_handler sched_handlers[] = {
	{ MSG_OUTCOMES, 0,                         true,  false, on_outcomes },
	{ MSG_CREDIT,   sizeof(struct msg_credit), false, false, on_credit },
	{ MSG_COMPACT,  0,                         false, false, on_compact },
};

/* ---- peers */

static void drop_submissions(struct peer *p)
{
	size_t        at = 0;
	uint64_t      sub;
	struct entry *e;

	while ((e = map_next(&p->subs, &at, &sub)))
		entry_free(e);
}

/* ---- who has the feed, for the keeper */

static struct peer *current_sched(const struct journald *j)
{
	list_each(&j->peers, l) {
		struct peer *p = owner_of(l, struct peer, link);

		if (p->role == ROLE_SCHED && !p->superseded)
			return p;
	}
	return NULL;
}

static void tell_bodies(struct journald *j)
{
	uint64_t there = 0;

	list_each(&j->peers, l) {
		const struct peer *p = owner_of(l, struct peer, link);

		if (p->role == ROLE_BODY && !p->superseded)
			there |= 1ull << p->index % KEEPER_BODIES_MAX;
	}
	keeper_bodies(j->keeper, there);
}

static void tell_dispatch(struct journald *j)
{
	struct peer    *p = current_sched(j);
	struct msg_room m = {.dispatch = commit_room(j->in.commit) != ROOM_NO_DISPATCH};

	if (p)
		wire_send(&p->wire, MSG_ROOM, &m, sizeof(m), SPAN_NONE);
}

/* Told after the feed was given. */
static void tell_keeper(struct journald *j, uint32_t role, uint32_t index, bool came)
{
	if (role == ROLE_SCHED) {
		keeper_sched(j->keeper, current_sched(j) != NULL);
		if (came)
			tell_dispatch(j);
	} else if (role == ROLE_BODY) {
		if (came)
			keeper_body_came(j->keeper, index);
		tell_bodies(j);
	}
}

static void on_peer_lost(struct wire *w)
{
	struct peer *p = owner_of(w, struct peer, wire);
	struct journald *j = p->j;
	uint32_t     role = p->role, index = p->index;
	bool         told = p->superseded;

	turn_cancel(&p->turn);
	drop_submissions(p);
	map_fini(&p->subs);
	buf_free(&p->kept);
	if (p->bell >= 0)
		close(p->bell);
	list_remove(&p->link);
	mem_free(p);
	if (!told)
		tell_keeper(j, role, index, false);
}

/* The ring and the bell.  Without descriptors for them the peer can't work: it is cut off, ends,
 * and comes again. */
static bool give_feed(struct peer *p)
{
	struct journald *j = p->j;
	struct msg_feed  m = {
		.ring_size = j->in.ring.size,
		.segment_size = j->in.segment_size,
		.recovered = j->in.recovered,
		.epoch = commit_epoch(j->in.commit),
		.shard = j->o.shard,
	};
	int ring = ring_reader_fd(&j->in.ring), bell;

	p->bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	bell = p->bell < 0 ? -1 : dup(p->bell);
	if (ring < 0 || bell < 0) {
		log_note("peer", p->name, "trouble", "no descriptors for the feed", NULL);
		if (ring >= 0)
			close(ring);
		if (bell >= 0)
			close(bell);
		return false;
	}
	fd_cloexec(bell, true);
	wire_send_fd(&p->wire, MSG_FEED, &m, sizeof(m), SPAN_NONE, ring);
	wire_send_fd(&p->wire, MSG_BELL, NULL, 0, SPAN_NONE, bell);
	return true;
}

static void supersede(struct journald *j, uint32_t role, uint32_t index)
{
	list_each(&j->peers, l) {
		struct peer *p = owner_of(l, struct peer, link);

		if (p->role == role && p->index == index)
			p->superseded = true;
	}
}

static const char *role_name(uint32_t role)
{
	switch (role) {
	case ROLE_SMTPD: return "smtpd";
	case ROLE_QMTPD: return "qmtpd";
	case ROLE_BODY:  return "body";
	case ROLE_SCHED: return "sched";
	}
	return NULL;
}

void journald_peer(struct journald *j, uint32_t role, uint32_t index, int fd)
{
	struct peer *p;
	bool         is_sched = role == ROLE_SCHED;

	if (!role_name(role) || j->closed) {
		close(fd);
		return;
	}
	supersede(j, role, index);
	p = mem_new(sizeof(*p));
	p->j = j;
	p->role = role;
	p->index = index;
	p->bell = -1;
	p->source = (struct source){.share = STORE_PEER_SHARE, .exempt = role == ROLE_BODY};
	snprintf(p->name, sizeof(p->name), "%s/%u", role_name(role), index);
	map_init(&p->subs, ENTRIES_MAX);
	buf_init(&p->kept, WIRE_FRAME_MAX);
	turn_init(&p->turn, on_turn);
	list_add_end(&j->peers, &p->link);
	wire_init(&p->wire, j->o.loop, fd, p->name, is_sched ? sched_handlers : mail_handlers,
	          is_sched ? ARRAY_N(sched_handlers) : ARRAY_N(mail_handlers), on_peer_lost, p);
	if (has_feed(p) && !give_feed(p))
		wire_close(&p->wire);
	tell_dict(p);
	tell_admission(p);
	tell_keeper(j, role, index, true);
}

/* ---- what commit says */

static void on_moved(void *ctx, uint64_t durable)
{
	struct journald *j = ctx;
	uint64_t         one = 1;

	list_each(&j->peers, l) {
		struct peer *p = owner_of(l, struct peer, link);

		/* EAGAIN: it has not looked for 2^64 batches; it will. */
		if (p->bell >= 0 && !p->superseded && write(p->bell, &one, sizeof(one)) < 0 &&
		    errno != EAGAIN)
			log_note("peer", p->name, "trouble", "bell", NULL);
	}
	keeper_moved(j->keeper);
	if (store_is_full(&j->store) == j->admits)
		look_at_admission(j);
}

static void on_entered(void *ctx, uint64_t number, uint64_t edits)
{
	struct journald *j = ctx;

	keeper_entered(j->keeper, number, edits);
}

static void on_room(void *ctx)
{
	struct journald *j = ctx;

	store_room(&j->store);
}

static void on_failed(void *ctx, int error)
{
	errno = error < 0 ? -error : error;
	die_sys(ROLE_EXIT_WRITE, "write to the journal", "");
}

static const struct commit_calls commit_calls = {
	.moved = on_moved,
	.room = on_room,
	.failed = on_failed,
	.entered = on_entered,
};

/* ---- what the keeper wants */

static void on_retire(void *ctx, const struct msg_retire *m, struct span moved)
{
	struct peer *p = current_sched(ctx);

	if (p)
		wire_send(&p->wire, MSG_RETIRE, m, sizeof(*m), moved);
}

static void on_space(void *ctx)
{
	tell_dispatch(ctx);
	look_at_admission(ctx);
}

static void on_abandoned(void *ctx, uint64_t id)
{
	struct journald *j = ctx;

	if (j->keeper && !j->closed)
		keeper_abandoned(j->keeper, id);
}

static const struct keeper_calls keeper_calls = {
	.retire = on_retire,
	.room = on_space,
	.failed = on_failed,
};

static void begin_keeping(struct journald *j)
{
	struct keeper_options o = {
		.loop = j->o.loop,
		.disk = j->o.disk,
		.commit = j->in.commit,
		.ring = &j->in.ring,
		.segment_size = j->in.segment_size,
		.shard = j->o.shard,
		.compact_rate = j->o.compact_rate,
		.keep = j->o.keep,
		.calls = &keeper_calls,
		.ctx = j,
	};

	j->keeper = keeper_new(&o);
	j->store.abandoned = on_abandoned;
}

/* ---- begin */

static void on_drain_look(struct timer *t);

struct journald *journald_new(const struct journald_options *o, struct buf *why,
			      bool *ret_for_good)
{
	struct journald *j = mem_new(sizeof(*j));

	j->o = *o;
	j->in = (struct opening){
		.loop = o->loop,
		.disk = o->disk,
		.shard = o->shard,
		.segment_size = o->segment_size,
		.ring_size = o->ring_size,
		.pool = o->pool,
		.reserve = o->reserve,
	};
	list_init(&j->peers);
	pool_init(&j->entries, sizeof(struct entry), ENTRIES_MAX);
	timer_init(&j->drain_look, on_drain_look);
	timer_init(&j->full_look, on_full_look);
	if (!opening_run(&j->in, &commit_calls, j, why)) {
		*ret_for_good = j->in.for_good;
		mem_free(j);
		return NULL;
	}
	store_init(&j->store, o->loop, &j->in.ring, o->shard, look_at_admission, j);
	j->store.commit = j->in.commit;
	j->store.latched = o->latched;
	j->store.epoch = commit_epoch(j->in.commit);
	j->dict = dict_for(o->dict, j->in.segment_size);
	dict_begin_with(j->in.commit, j->dict);
	j->store.dict = j->dict.number;
	begin_keeping(j);
	look_at_space(j);
	if (o->submit_fd >= 0) {
		j->packer = packer_new(o->loop, o->zstd_level, j->dict);
		j->door = door_new(o->loop, o->submit_fd, &j->store, j->packer, o->alias_uid);
	}
	return j;
}

void journald_control(struct journald *j, uint64_t compact_rate, const struct space_keep *keep)
{
	keeper_control(j->keeper, compact_rate, keep);
}

struct keeper *journald_keeper(struct journald *j)
{
	return j->keeper;
}

struct store *journald_store(struct journald *j)
{
	return &j->store;
}

/* ---- the end */

static bool feeds_are_gone(const struct journald *j)
{
	list_each(&j->peers, l)
		if (owner_of(l, struct peer, link)->role == ROLE_SCHED)
			return false;
	return true;
}

/* Sched's last outcomes are waited for, then everything that gathers or is being written. */
static void on_drain_look(struct timer *t)
{
	struct journald *j = owner_of(t, struct journald, drain_look);
	bool             late = clock_mono_ms() >= j->drain_end_ms;

	if (j->drained)
		return;
	if (late ||
	    (feeds_are_gone(j) && j->store.committing == 0 && commit_is_idle(j->in.commit))) {
		j->drained = true;
		if (j->o.drained)
			j->o.drained(j->o.ctx);
		return;
	}
	timer_set(j->o.loop, &j->drain_look, DRAIN_LOOK_MS);
}

void journald_drain(struct journald *j)
{
	if (j->draining)
		return;
	j->draining = true;
	j->drain_end_ms = clock_mono_ms() + JOURNALD_DRAIN_MS;
	store_drain(&j->store);
	if (j->door)
		door_close(j->door);
	timer_set(j->o.loop, &j->drain_look, DRAIN_LOOK_MS);
}

void journald_close(struct journald *j)
{
	j->closed = true;
	timer_stop(j->o.loop, &j->drain_look);
	timer_stop(j->o.loop, &j->full_look);
	if (j->door)
		door_close(j->door);
	list_each(&j->peers, l)
		wire_close(&owner_of(l, struct peer, link)->wire);
	keeper_close(j->keeper);
}

bool journald_is_closed(const struct journald *j)
{
	if (!j->closed || !list_is_empty(&j->peers) || !commit_is_idle(j->in.commit) ||
	    !keeper_is_closed(j->keeper))
		return false;
	if (!j->door || !door_is_closed(j->door))
		return !j->door;
	if (!j->packer)
		return true;
	if (!packer_is_closed(j->packer))
		packer_close(j->packer);
	return packer_is_closed(j->packer);
}

void journald_free(struct journald *j)
{
	if (!j)
		return;
	check(journald_is_closed(j));
	door_free(j->door);
	packer_free(j->packer);
	keeper_free(j->keeper);
	store_fini(&j->store);
	opening_undo(&j->in);
	pool_fini(&j->entries);
	mem_free(j);
}
