/* look() is the whole of it: once a second, and whenever something has changed, it looks at all
 * segments and takes the next step of each group.  Groups wait in one list, the oldest first, and
 * are named in that order: what a later one holds may be dead, or point to where it does, only
 * because of copies that an earlier one has made.
 *
 * Abandoned submissions are told to live when everything that they can have written has passed
 * the sweep: two batches later, or when nothing is on its way. */
#include "journal/keeper.h"

#include "core/clock.h"
#include "core/log.h"
#include "core/pool.h"
#include "core/table.h"
#include "journal/index.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LOOK_MS       1000
#define LIVE_WORK_MAX 20000 /* messages of segments that went, a look: some ms */
#define NUDGE_MS      2000   /* a body that came anew is asked again */
#define RETIRE_MOVED  10000  /* positions in one frame: 240 KB */
#define KNOWN_MAX     (2 * SEGMENTS_NAMED_MAX)
#define ABANDONED_MAX (1u << 20)
#define INDEX_AGE_MS  10000
#define INDEX_LIVE    4 /* a quarter of it must live to be worth an index */
#define ASKED_SWITCHES 2
#define FAILED_MS     60000 /* a victim that could not be copied is left alone so long */

enum leaving { COPYING, RETIRING, NAMED, ENTERED };
struct group {
	struct link link;
	struct compact_round round;
	enum leaving state;
	uint64_t name, after, edits, acked;
	uint32_t goes; /* files that it gives back */
	bool past;     /* HISTORY that goes: nobody holds positions in it */
};
struct known { /* what is not written anywhere else of a segment */
	uint64_t number, sealed_ms, failed_until_ms;
	bool leaving, damaged, indexed, history, seen;
};
struct abandoned {
	uint64_t id, batches;
};
struct index_job {
	struct errand errand;
	uint64_t number, end;
	bool remove;
	int result;
};

struct keeper {
	struct keeper_options o;
	struct errands *errands;
	struct sweep *sweep;
	struct live *live; /* NULL: LOADING */
	struct compact *compact;
	struct group *copying;
	struct link groups;
	struct map known;
	struct pool pool;
	struct keeper_counts counts;
	struct timer timer;
	struct deferred soon;
	struct abandoned *abandoned;
	uint32_t abandoned_n, abandoned_cap;
	struct index_job index;
	uint64_t *unindex; /* indexes to remove */
	uint32_t unindex_n, unindex_cap;
	uint64_t newest, switched, entered, bodies, nudged_ms;
	uint32_t serial, room, asked_switches;
	bool sched, asked, closed;
	/* of one look */
	struct space_segment *view_v;
	struct space_past *past_v;
	uint32_t view_cap;
};

static void wake(struct keeper *k)
{
	if (!k->closed)
		loop_defer(k->o.loop, &k->soon, PHASE_WORK);
}

/* ---- what is known of a segment */

static struct known *known_of(struct keeper *k, uint64_t number)
{
	struct known *s = map_get(&k->known, number);

	if (s)
		return s;
	s = pool_get(&k->pool);
	check(s && map_put(&k->known, number, s));
	s->number = number;
	s->sealed_ms = clock_mono_ms();
	return s;
}

static bool is_damaged(struct keeper *k, const struct known *s)
{
	return s->damaged || sweep_is_damaged(k->sweep, s->number);
}

static void forget_unseen(struct keeper *k)
{
	size_t at = 0;
	uint64_t number;
	struct known *s;

	while ((s = map_next(&k->known, &at, &number))) {
		if (!s->seen && !s->leaving) {
			(void)map_remove(&k->known, number);
			pool_put(&k->pool, s);
		} else {
			s->seen = false;
		}
	}
}

/* ---- a look at everything */

struct look {
	struct space_view view;
	uint32_t n, past_n, fresh; /* fresh: HISTORY since this head, which has to be seen durable first */
	uint64_t disk, history, quarantined;
};

static void view_room(struct keeper *k, uint32_t n)
{
	if (n <= k->view_cap)
		return;
	mem_free(k->view_v);
	mem_free(k->past_v);
	k->view_cap = 2 * n;
	k->view_v = mem_new(k->view_cap * sizeof(*k->view_v));
	k->past_v = mem_new(k->view_cap * sizeof(*k->past_v));
}

/* Of a group whose copies are not named yet: the manifest does not know its end. */
static bool is_output(const struct keeper *k, uint64_t number)
{
	list_each(&k->groups, at) {
		const struct group *g = owner_of(at, struct group, link);

		for (uint32_t i = 0; i < g->round.output_n && g->state < NAMED; i++)
			if (g->round.output[i].number == number)
				return true;
	}
	return false;
}

static struct space_segment see(struct keeper *k, const struct manifest_entry *e, struct known *s)
{
	const struct live_segment *l = live_segment(k->live, e->number);
	uint64_t room, age = clock_mono_ms() - s->sealed_ms;

	s->seen = true;
	return (struct space_segment){
		.number = e->number,
		.used = e->end - e->number * k->o.segment_size,
		.live = l ? l->live : 0,
		.open = l ? l->open : 0,
		.sealed_s = age / 1000,
		.cold = e->number >= COLD_FIRST,
		.filling = compact_output(k->compact, &room) == e->number ||
			   is_output(k, e->number),
		.leaving = s->leaving || s->failed_until_ms > clock_mono_ms() ||
			   commit_stays(k->o.commit, e->number),
		.damaged = is_damaged(k, s),
	};
}

static int by_closed(const void *va, const void *vb)
{
	const struct space_past *a = va, *b = vb;

	if (a->closed_s != b->closed_s)
		return a->closed_s < b->closed_s ? -1 : 1;
	return a->number < b->number ? -1 : a->number > b->number;
}

/* The next head will name it, but its last batches are on their way yet: live has not seen them. */
static bool is_being_left(const struct keeper *k, uint64_t number)
{
	return number >= k->newest && number < COLD_FIRST;
}

static void look_at_all(struct keeper *k, struct look *ret)
{
	uint32_t named_n;
	const struct manifest_entry *named = commit_named(k->o.commit, &named_n);
	struct live_counts counts;

	*ret = (struct look){0};
	view_room(k, named_n + 1);
	for (uint32_t i = 0; i < named_n; i++) {
		struct known *s;

		if (is_being_left(k, named[i].number))
			continue;
		s = known_of(k, named[i].number);
		s->seen = true;
		ret->quarantined += is_damaged(k, s);
		if (named[i].state == SEGMENT_QUEUE)
			k->view_v[ret->n++] = see(k, &named[i], s);
		else if (s->leaving)
			ret->fresh++;
		else
			k->past_v[ret->past_n++] =
				(struct space_past){named[i].number, named[i].closed_s};
		ret->history += named[i].state == SEGMENT_HISTORY;
	}
	qsort(k->past_v, ret->past_n, sizeof(*k->past_v), by_closed);
	forget_unseen(k);
	(void)live_work(k->live, LIVE_WORK_MAX);
	live_count(k->live, &counts);
	ret->disk = ret->n + 1;
	ret->view = (struct space_view){
		.segment_size = k->o.segment_size,
		.v = k->view_v,
		.n = ret->n,
		.live = counts.live_bytes,
		.disk_short = commit_room(k->o.commit) != ROOM_PLENTY,
		.asked = k->asked,
	};
	(void)compact_output(k->compact, &ret->view.cold_room);
}

static void publish(struct keeper *k, const struct look *l)
{
	struct ring_head *h = k->o.ring->head;
	struct commit_space space;
	uint64_t waiting = 0; /* named by no head, but their files are not given back yet */

	list_each(&k->groups, at) {
		const struct group *g = owner_of(at, struct group, link);

		waiting += g->state >= NAMED ? g->goes : 0;
	}
	commit_space(k->o.commit, &space);
	atomic_store(&h->segments, l->disk);
	atomic_store(&h->live_bytes, l->view.live);
	atomic_store(&h->disk_bytes, (l->disk + waiting) * k->o.segment_size);
	atomic_store(&h->history_bytes, l->history * k->o.segment_size);
	atomic_store(&h->copied_bytes, k->counts.copied_bytes);
	atomic_store(&h->given_up, k->counts.given_up);
	atomic_store(&h->rounds, k->counts.rounds);
	atomic_store(&h->spares, space.spares);
	atomic_store(&h->reserve, space.reserve);
	atomic_store(&h->reserve_wanted, space.reserve_wanted);
	atomic_store(&h->compacting, k->copying != NULL || k->asked);
	atomic_store(&h->quarantined, (uint32_t)l->quarantined);
}

/* ---- a group */

static struct group *group_new(struct keeper *k, const uint64_t *numbers, uint32_t n)
{
	struct group *g = mem_new(sizeof(*g));
	uint32_t named_n;
	const struct manifest_entry *named = commit_named(k->o.commit, &named_n);

	g->name = numbers[0];
	g->round.victims = mem_new(n * sizeof(*g->round.victims));
	for (uint32_t i = 0, m = 0; i < n; i++) {
		while (m < named_n && named[m].number != numbers[i])
			m++;
		check(m < named_n);
		g->round.victims[g->round.victims_n++] =
			(struct compact_victim){.number = numbers[i], .end = named[m].end};
		known_of(k, numbers[i])->leaving = true;
	}
	list_add_end(&k->groups, &g->link);
	return g;
}

static void group_free(struct group *g)
{
	list_remove(&g->link);
	compact_round_fini(&g->round);
	mem_free(g);
}

static void say_retire(struct keeper *k, const struct group *g, enum retire_part part,
		       struct span moved)
{
	struct msg_retire m = {
		.segment = g->name, .after = g->after, .part = part, .serial = k->serial};

	if (k->sched)
		k->o.calls->retire(k->o.ctx, &m, moved);
}

static void retire(struct keeper *k, struct group *g)
{
	struct span moved = buf_span(&g->round.moved);

	g->acked = 0;
	while (moved.n > RETIRE_MOVED * sizeof(struct msg_moved))
		say_retire(k, g, RETIRE_MORE,
			   span_cut(&moved, RETIRE_MOVED * sizeof(struct msg_moved)));
	say_retire(k, g, RETIRE_LAST, moved);
}

static void begin_retiring(struct keeper *k, struct group *g)
{
	g->state = RETIRING;
	g->after = ring_durable(k->o.ring);
	retire(k, g);
}

static bool everybody_knows(const struct keeper *k, const struct group *g)
{
	return g->past || (k->sched && k->bodies && (g->acked & k->bodies) == k->bodies);
}

static bool may_be_kept(struct keeper *k, const struct look *l, const struct compact_victim *v)
{
	return space_keeps(&k->o.keep) && !l->view.disk_short && v->number < COLD_FIRST &&
	       !v->failed && !is_damaged(k, known_of(k, v->number));
}

/* So many of the group, the oldest of those that might be kept, are not: there is no room for more
 * beside those that a head does not name yet.  Older ones go in their place (take_past()). */
static uint32_t too_many(struct keeper *k, const struct group *g, const struct look *l)
{
	uint64_t room = k->o.keep.bytes / k->o.segment_size;
	uint32_t n = 0;

	room = room > l->fresh ? room - l->fresh : 0;
	for (uint32_t i = 0; i < g->round.victims_n; i++)
		n += may_be_kept(k, l, &g->round.victims[i]);
	return n > room ? n - (uint32_t)room : 0;
}

static uint32_t wall_s(void)
{
	return (uint32_t)clock_wall();
}

/* So far, or farther. */
static bool is_named(const struct keeper *k, const struct manifest_entry *e)
{
	uint32_t n;
	const struct manifest_entry *named = commit_named(k->o.commit, &n);

	for (uint32_t i = 0; i < n; i++)
		if (named[i].number == e->number)
			return named[i].end >= e->end;
	return false;
}

static void name_group(struct keeper *k, struct group *g, struct look *l)
{
	const struct compact_round *r = &g->round;
	uint32_t skip = g->past ? 0 : too_many(k, g, l);

	for (uint32_t i = 0; i < r->output_n; i++) {
		if (is_named(k, &r->output[i]))
			continue; /* by a later group, which was faster */
		g->edits = commit_name(k->o.commit, &r->output[i]);
		if (!g->edits)
			return; /* more than a manifest holds: tried again */
	}
	for (uint32_t i = 0; i < r->victims_n; i++) {
		struct known *s = known_of(k, r->victims[i].number);

		if (r->victims[i].failed)
			continue;
		s->history = !g->past && may_be_kept(k, l, &r->victims[i]);
		if (s->history && skip > 0) {
			s->history = false;
			skip--;
		}
		l->fresh += s->history;
		if (s->history) {
			g->edits = commit_to_history(k->o.commit, s->number, wall_s());
		} else {
			g->edits = commit_drop(k->o.commit, s->number);
			g->goes++;
		}
	}
	g->state = NAMED;
}

static void unindex(struct keeper *k, uint64_t number)
{
	if (k->unindex_n == k->unindex_cap) {
		uint32_t cap = k->unindex_cap ? 2 * k->unindex_cap : 64;

		k->unindex = mem_grow(k->unindex, k->unindex_cap * sizeof(*k->unindex),
				      cap * sizeof(*k->unindex));
		k->unindex_cap = cap;
	}
	k->unindex[k->unindex_n++] = number;
}

/* The head is durable: what the group held is where the new manifest says, or nowhere. */
static void enter_group(struct keeper *k, struct group *g)
{
	g->state = ENTERED;
	for (uint32_t i = 0; i < g->round.victims_n && !g->past; i++)
		if (!g->round.victims[i].failed)
			live_gone(k->live, g->round.victims[i].number);
}

static void give_back(struct keeper *k, struct group *g)
{
	for (uint32_t i = 0; i < g->round.victims_n; i++) {
		struct known *s = known_of(k, g->round.victims[i].number);
		bool damaged = is_damaged(k, s);

		s->leaving = false;
		if (g->round.victims[i].failed) {
			s->failed_until_ms = clock_mono_ms() + FAILED_MS;
			continue;
		}
		k->counts.given_up++;
		if (s->history)
			continue;
		k->counts.recycled += !damaged;
		k->counts.damaged += damaged;
		unindex(k, s->number);
		commit_recycle(k->o.commit, s->number, damaged);
	}
	if (!g->past)
		say_retire(k, g, RETIRE_OVER, SPAN_NONE);
	group_free(g);
}

static void step_groups(struct keeper *k, struct look *l)
{
	bool in_order = true;

	list_each_safe(&k->groups, at) {
		struct group *g = owner_of(at, struct group, link);

		if (g->state == RETIRING && in_order && everybody_knows(k, g))
			name_group(k, g, l);
		in_order = in_order && g->state >= NAMED;
		if (g->state == NAMED && g->edits <= k->entered)
			enter_group(k, g);
		if (g->state == ENTERED && everybody_knows(k, g))
			give_back(k, g);
	}
}

/* Bodies that came while a RETIRE was on its way: what they hold is new, but they have to say so. */
static void nudge(struct keeper *k)
{
	if (clock_mono_ms() - k->nudged_ms < NUDGE_MS)
		return;
	k->nudged_ms = clock_mono_ms();
	list_each(&k->groups, at) {
		const struct group *g = owner_of(at, struct group, link);

		if (g->state != COPYING && !everybody_knows(k, g))
			say_retire(k, g, RETIRE_LAST, SPAN_NONE);
	}
}

/* ---- what goes next */

static void take_dead(struct keeper *k, const struct look *l)
{
	uint64_t numbers[SPACE_ROUND_MAX];
	uint32_t n = space_dead(&l->view, numbers, SPACE_ROUND_MAX);

	if (n > 0)
		begin_retiring(k, group_new(k, numbers, n));
}

static void take_past(struct keeper *k, struct look *l)
{
	struct space_keep keep = k->o.keep;
	uint64_t number, fresh = l->fresh * k->o.segment_size;
	uint32_t n;

	keep.bytes = keep.bytes > fresh ? keep.bytes - fresh : 0;
	n = space_forget(k->past_v, l->past_n, &keep, k->o.segment_size, clock_wall(),
			 l->view.disk_short);
	l->history -= n;

	for (uint32_t i = 0; i < n; i++) {
		struct group *g;

		number = k->past_v[i].number;
		g = group_new(k, &number, 1);
		g->past = true;
		name_group(k, g, l);
	}
}

static void set_rate(struct keeper *k, const struct look *l)
{
	bool hurry = l->view.disk_short || l->view.asked || space_is_tight(&l->view);

	compact_rate(k->compact, hurry ? 0 : k->o.compact_rate);
}

static void take_victims(struct keeper *k, const struct look *l)
{
	uint64_t numbers[SPACE_ROUND_MAX];
	uint32_t n;

	set_rate(k, l);
	if (k->copying || !k->sched || !k->bodies)
		return;
	n = space_victims(&l->view, numbers, SPACE_ROUND_MAX);
	if (n == 0)
		return;
	k->copying = group_new(k, numbers, n);
	compact_begin(k->compact, &k->copying->round);
}

static void on_copied(void *ctx)
{
	struct keeper *k = ctx;
	struct group *g = k->copying;
	uint32_t failed = 0;

	k->copying = NULL;
	k->counts.rounds++;
	k->counts.copied_bytes += g->round.bytes_written;
	for (uint32_t i = 0; i < g->round.victims_n; i++)
		failed += g->round.victims[i].failed;
	k->counts.failed_rounds += failed > 0;
	k->counts.victims += g->round.victims_n - failed;
	begin_retiring(k, g);
	wake(k);
}

/* A head costs what is left of the segment; two files pay for it.  Who asked gets a few for less. */
static void switch_if_worth(struct keeper *k)
{
	uint64_t goes = 0, edits = 0;
	bool asked = k->asked && k->asked_switches < ASKED_SWITCHES;

	list_each(&k->groups, at) {
		const struct group *g = owner_of(at, struct group, link);

		if (g->state != NAMED)
			continue;
		goes += g->goes;
		edits = g->edits > edits ? g->edits : edits;
	}
	if (goes < (asked ? 1 : SPACE_SWITCH_MIN) || edits <= k->switched)
		return;
	k->switched = edits;
	k->asked_switches += k->asked;
	k->counts.switches++;
	commit_switch(k->o.commit);
}

/* What was asked for has ended when nothing is copied or agreed on, and nothing more goes. */
static void end_asked(struct keeper *k)
{
	if (!k->asked || k->copying)
		return;
	list_each(&k->groups, at) {
		const struct group *g = owner_of(at, struct group, link);

		if (g->state != NAMED || k->switched >= g->edits)
			return;
	}
	k->asked = false;
	k->asked_switches = 0;
	atomic_store(&k->o.ring->head->asked_done,
		     atomic_load(&k->o.ring->head->asked_done) + 1);
}

/* ---- indexes */

static void run_index(struct errand *e)
{
	struct index_job *j = owner_of(e, struct index_job, errand);
	struct keeper *k = owner_of(j, struct keeper, index);
	struct index x;
	bool rotten;

	if (j->remove) {
		j->result = index_remove(k->o.disk, j->number);
		return;
	}
	if (index_load(k->o.disk, j->number, incarnation_of(commit_uuid(k->o.commit), j->number),
		       j->end, &x, &rotten)) {
		index_fini(&x);
		return;
	}
	j->result = index_make(k->o.disk, commit_uuid(k->o.commit), j->number,
			       k->o.segment_size, j->end);
}

static void on_index(struct errand *e)
{
	struct keeper *k = owner_of(owner_of(e, struct index_job, errand), struct keeper, index);

	if (k->index.result < 0 && !k->index.remove && !k->closed) {
		char number[24];

		snprintf(number, sizeof(number), "%" PRIu64, k->index.number);
		log_note("journal", "no index", "segment", number, "why",
			 strerror(-k->index.result), NULL);
	}
	wake(k);
}

static void give_index(struct keeper *k, uint64_t number, uint64_t end, bool remove)
{
	k->index.number = number;
	k->index.end = end;
	k->index.remove = remove;
	k->index.result = 0;
	errand_give(k->errands, &k->index.errand);
}

static bool is_worth_index(const struct keeper *k, const struct space_segment *g)
{
	const struct known *s = map_get(&k->known, g->number);

	return s && !s->indexed && !g->leaving && !g->filling && !g->damaged &&
	       clock_mono_ms() - s->sealed_ms >= k->o.index_age_ms && g->live >= g->used / INDEX_LIVE;
}

static void make_index(struct keeper *k, const struct look *l)
{
	if (k->index.errand.given || k->copying)
		return;
	if (k->unindex_n > 0) {
		give_index(k, k->unindex[--k->unindex_n], 0, true);
		return;
	}
	for (uint32_t i = 0; i < l->n; i++) {
		const struct space_segment *g = &k->view_v[i];

		if (!is_worth_index(k, g))
			continue;
		known_of(k, g->number)->indexed = true;
		give_index(k, g->number, g->number * k->o.segment_size + g->used, false);
		return;
	}
}

/* ---- the look */

static void pass_abandoned(struct keeper *k)
{
	uint64_t batches = atomic_load(&k->o.ring->head->batches);
	bool idle = commit_is_idle(k->o.commit);
	uint32_t n = 0;

	if (!k->live || sweep_is_behind(k->sweep))
		return;
	while (n < k->abandoned_n && (idle || k->abandoned[n].batches <= batches))
		live_abandon(k->live, k->abandoned[n++].id);
	if (n == 0)
		return;
	k->abandoned_n -= n;
	memmove(k->abandoned, k->abandoned + n, k->abandoned_n * sizeof(*k->abandoned));
}

static void look_at_room(struct keeper *k)
{
	uint32_t room = commit_room(k->o.commit);

	if (room == k->room)
		return;
	k->room = room;
	atomic_store(&k->o.ring->head->room, room);
	k->o.calls->room(k->o.ctx);
	wake(k);
}

static void look(struct keeper *k)
{
	struct look l;

	look_at_room(k);
	if (!k->live || sweep_is_behind(k->sweep))
		return;
	pass_abandoned(k);
	look_at_all(k, &l);
	take_dead(k, &l);
	look_at_all(k, &l); /* those are leaving now */
	take_victims(k, &l);
	step_groups(k, &l);
	look_at_all(k, &l);
	take_past(k, &l);
	switch_if_worth(k);
	end_asked(k);
	nudge(k);
	make_index(k, &l);
	publish(k, &l);
}

static void on_soon(struct deferred *d)
{
	struct keeper *k = owner_of(d, struct keeper, soon);

	if (!k->closed)
		look(k);
}

static void on_timer(struct timer *t)
{
	struct keeper *k = owner_of(t, struct keeper, timer);

	look(k);
	timer_set(k->o.loop, &k->timer, LOOK_MS);
}

/* ---- what others say */

void keeper_moved(struct keeper *k)
{
	if (k->closed)
		return;
	sweep_moved(k->sweep);
	if (k->abandoned_n > 0)
		pass_abandoned(k);
	look_at_room(k);
}

void keeper_entered(struct keeper *k, uint64_t number, uint64_t edits)
{
	k->entered = edits;
	if (k->newest)
		known_of(k, k->newest)->sealed_ms = clock_mono_ms();
	k->newest = number;
	wake(k);
}

void keeper_abandoned(struct keeper *k, uint64_t id)
{
	struct abandoned *a;

	if (k->abandoned_n == ABANDONED_MAX)
		return; /* until the next start its bytes count as live: that is all */
	if (k->abandoned_n == k->abandoned_cap) {
		uint32_t cap = k->abandoned_cap ? 2 * k->abandoned_cap : 64;

		k->abandoned = mem_grow(k->abandoned, k->abandoned_cap * sizeof(*a),
					cap * sizeof(*a));
		k->abandoned_cap = cap;
	}
	k->abandoned[k->abandoned_n++] =
		(struct abandoned){id, atomic_load(&k->o.ring->head->batches) + 2};
}

void keeper_sched(struct keeper *k, bool there)
{
	k->sched = there;
	k->serial++;
	if (!there)
		return;
	list_each(&k->groups, at) {
		struct group *g = owner_of(at, struct group, link);

		if (g->state != COPYING)
			retire(k, g);
	}
	wake(k);
}

void keeper_bodies(struct keeper *k, uint64_t there)
{
	k->bodies = there;
	wake(k);
}

void keeper_body_came(struct keeper *k, uint32_t index)
{
	list_each(&k->groups, at)
		owner_of(at, struct group, link)->acked &= ~(1ull << index % 64);
}

void keeper_retired(struct keeper *k, uint32_t body, const struct msg_retired *m)
{
	if (m->serial != k->serial)
		return;
	list_each(&k->groups, at) {
		struct group *g = owner_of(at, struct group, link);

		if (g->name == m->segment && g->state != COPYING && !g->past)
			g->acked |= 1ull << body % 64;
	}
	wake(k);
}

void keeper_control(struct keeper *k, uint64_t rate, const struct space_keep *keep)
{
	k->o.compact_rate = rate;
	k->o.keep = *keep;
	wake(k);
}

void keeper_compact(struct keeper *k)
{
	k->asked = true;
	wake(k);
}

void keeper_count(const struct keeper *k, struct keeper_counts *ret)
{
	*ret = k->counts;
}

const struct live *keeper_live(const struct keeper *k)
{
	return k->live;
}

bool keeper_is_idle(const struct keeper *k)
{
	return k->live && !k->asked && !k->copying && list_is_empty(&k->groups);
}

/* ---- begin and end */

static void on_damaged(void *ctx, uint64_t pos)
{
	struct keeper *k = ctx;
	char segment[24], at[24];

	snprintf(segment, sizeof(segment), "%" PRIu64, pos / k->o.segment_size);
	snprintf(at, sizeof(at), "%" PRIu64, pos % k->o.segment_size);
	log_note("journal", "damaged", "segment", segment, "offset", at, NULL);
	known_of(k, pos / k->o.segment_size)->damaged = true;
	atomic_store(&k->o.ring->head->damaged, 1);
}

static void on_copy_failed(void *ctx, int error)
{
	struct keeper *k = ctx;

	k->o.calls->failed(k->o.ctx, error);
}

static void on_loaded(void *ctx)
{
	struct keeper *k = ctx;
	struct compact_options o = {
		.loop = k->o.loop,
		.disk = k->o.disk,
		.errands = k->errands,
		.commit = k->o.commit,
		.ring = k->o.ring,
		.segment_size = k->o.segment_size,
		.shard = k->o.shard,
		.live = sweep_live(k->sweep),
		.done = on_copied,
		.damaged = on_damaged,
		.failed = on_copy_failed,
		.ctx = k,
	};

	k->live = sweep_live(k->sweep);
	live_forget_parts(k->live, id_make(commit_epoch(k->o.commit), 0, 0));
	k->compact = compact_new(&o);
	wake(k);
}

static const struct sweep_calls sweep_calls = {.loaded = on_loaded, .damaged = on_damaged};

struct keeper *keeper_new(const struct keeper_options *o)
{
	struct keeper *k = mem_new(sizeof(*k));

	k->o = *o;
	if (!k->o.index_age_ms)
		k->o.index_age_ms = INDEX_AGE_MS;
	list_init(&k->groups);
	map_init(&k->known, KNOWN_MAX);
	pool_init(&k->pool, sizeof(struct known), KNOWN_MAX);
	timer_init(&k->timer, on_timer);
	deferred_init(&k->soon, on_soon);
	errand_init(&k->index.errand, run_index, on_index);
	k->newest = commit_number(o->commit);
	k->errands = errands_new(o->loop, o->disk->one_thread);
	k->sweep = sweep_new(o->loop, k->errands, o->disk, o->ring, o->segment_size, o->shard,
			     &sweep_calls, k);
	timer_set(o->loop, &k->timer, LOOK_MS);
	return k;
}

void keeper_close(struct keeper *k)
{
	if (k->closed)
		return;
	k->closed = true;
	timer_stop(k->o.loop, &k->timer);
	deferred_cancel(&k->soon);
	if (k->compact)
		compact_close(k->compact);
	errands_close(k->errands);
}

bool keeper_is_closed(const struct keeper *k)
{
	return k->closed && errands_is_closed(k->errands);
}

void keeper_free(struct keeper *k)
{
	if (!k)
		return;
	check(keeper_is_closed(k));
	list_each_safe(&k->groups, at)
		group_free(owner_of(at, struct group, link));
	compact_free(k->compact);
	sweep_free(k->sweep);
	errands_free(k->errands);
	map_fini(&k->known);
	pool_fini(&k->pool);
	mem_free(k->abandoned);
	mem_free(k->unindex);
	mem_free(k->view_v);
	mem_free(k->past_v);
	mem_free(k);
}
