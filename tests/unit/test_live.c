/* live against a model that recomputes everything from the records that are there, after each
 * step of random histories; and against a replay, which no segment's end may change. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "core/pool.h"
#include "journal/live.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SEGMENT   65536ull
#define RCPTS_MAX 128
#define IDS_MAX   400
#define RECS_MAX  8000
#define SEGS_MAX  800

struct rec {
	struct record r;
	char *body;
	uint64_t seg;
	/* gone: with its segment.  moved: a copy took its place.  nobody: it said nothing when it came */
	bool gone, moved, nobody;
};
struct mid {
	uint64_t id;
	bool known, over[RCPTS_MAX], failed[RCPTS_MAX];
	uint32_t rcpts;
	uint64_t settles; /* a bounce that settles failures of it; 0: none, or not any more */
	/* of the history, not of live: */
	bool committed, abandoned;
	uint32_t parts, bodies, attempt;
};
struct seg {
	uint64_t number, used;
	bool sealed, gone;
};
static struct world {
	struct live *l;
	struct rec recs[RECS_MAX];
	unsigned recs_n;
	struct mid ids[IDS_MAX];
	unsigned ids_n;
	struct seg segs[SEGS_MAX];
	unsigned segs_n, hot, cold;
	uint64_t hot_number, cold_number, below;
	bool ordered, racing;
} w;
static struct { unsigned copies, gone, restarts, races, again, instead, states, dead_late, work; } did;

static uint64_t seed;

static unsigned dice(unsigned n)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (unsigned)(seed >> 11) % n;
}

/* ---- the model ---- */

static struct mid *mid_of(uint64_t id)
{
	for (unsigned i = 0; i < w.ids_n; i++)
		if (w.ids[i].id == id)
			return &w.ids[i];
	return NULL;
}

static bool is_type(const struct rec *r, enum rec_type t, uint64_t id)
{
	return !r->gone && r->r.head.type == t && r->r.head.id == id;
}

static const struct rec *highest_msg(uint64_t id)
{
	const struct rec *best = NULL;

	for (unsigned i = 0; i < w.recs_n; i++)
		if (is_type(&w.recs[i], REC_MSG, id) && (!best || w.recs[i].r.pos > best->r.pos))
			best = &w.recs[i];
	return best;
}

static uint32_t over_count(const struct mid *m)
{
	uint32_t n = 0;

	for (unsigned i = 0; i < RCPTS_MAX; i++)
		n += m->over[i];
	return n;
}

static bool is_over(const struct mid *m)
{
	return m->known && highest_msg(m->id) && over_count(m) >= m->rcpts;
}

static bool is_queued(const struct mid *m)
{
	return m->known && highest_msg(m->id) && !is_over(m);
}

static bool over_needed(const struct mid *m, uint64_t seg)
{
	if (!m->known || !highest_msg(m->id))
		return false;
	if (!is_over(m))
		return true;
	for (unsigned i = 0; i < w.recs_n; i++)
		if (is_type(&w.recs[i], REC_MSG, m->id) && w.recs[i].seg != seg)
			return true;
	return false;
}

static struct state_view view_of(const struct rec *r)
{
	struct state_view v = {0};

	assert_true(state_view(&r->r.head, r->r.body, &v));
	return v;
}

static bool is_final(uint8_t o)
{
	return o == OUTCOME_DELIVERED || o == OUTCOME_SETTLED || o == OUTCOME_DROPPED;
}

static bool names(const struct state_view *v, uint32_t number)
{
	for (uint32_t i = 0; i < v->s->ranges_n; i++)
		if (number >= range_at(v->ranges, i).first && number <= range_at(v->ranges, i).last)
			return true;
	return false;
}

/* The deferral that a replay would take for this recipient. */
static const struct rec *latest(uint64_t id, uint32_t number)
{
	const struct rec *best = NULL;
	uint32_t attempt = 0;

	for (unsigned i = 0; i < w.recs_n; i++) {
		const struct rec *r = &w.recs[i];
		struct state_view v;

		if (!is_type(r, REC_STATE, id) || r->moved || r->nobody)
			continue;
		v = view_of(r);
		if (v.s->outcome != OUTCOME_DEFERRED || !names(&v, number))
			continue;
		if (best && (v.s->attempt < attempt || (v.s->attempt == attempt && r->r.pos < best->r.pos)))
			continue;
		best = r;
		attempt = v.s->attempt;
	}
	return best;
}

static bool state_wanted(const struct rec *r, const struct mid *m)
{
	struct state_view v = view_of(r);

	if (r->moved || r->nobody)
		return false;
	if (is_final(v.s->outcome))
		return over_needed(m, r->seg);
	if (!is_queued(m) || v.s->outcome != OUTCOME_DEFERRED)
		return is_queued(m);
	for (uint32_t i = 0; i < RCPTS_MAX; i++)
		if (names(&v, i) && !m->over[i] && !m->failed[i] && latest(m->id, i) == r)
			return true;
	return false;
}

static bool wanted(const struct rec *r)
{
	const struct mid *m = mid_of(r->r.head.id), *parent;

	if (r->r.head.type == REC_ACT) {
		for (unsigned i = 0; i < w.ids_n && !r->moved; i++)
			if (is_queued(&w.ids[i]) && (!r->r.head.id || w.ids[i].id < r->r.head.id))
				return !r->nobody;
		return false;
	}
	if (!m || !m->known)
		return false;
	switch (r->r.head.type) {
	case REC_BODY:
	case REC_RCPT: return !r->moved && !r->nobody && !is_over(m);
	case REC_MSG:
		parent = m->settles ? mid_of(m->settles) : NULL;
		return highest_msg(m->id) == r &&
		       (!is_over(m) || (parent && over_needed(parent, r->seg)));
	case REC_STATE: return state_wanted(r, m);
	default: return false;
	}
}

/* An ACT that nobody is left for stays out, whatever comes. */
static void model_acts(void)
{
	for (unsigned i = 0; i < w.recs_n; i++)
		if (w.recs[i].r.head.type == REC_ACT && w.ordered && !wanted(&w.recs[i]))
			w.recs[i].nobody = true;
}

static bool model_ranges(struct mid *m, struct span ranges, bool *set)
{
	bool news = false;

	for (uint32_t i = 0; i < ranges.n / sizeof(struct msg_range); i++) {
		struct msg_range g = range_at(ranges, i);

		for (uint32_t k = g.first; k <= g.last; k++) {
			news |= !set[k];
			set[k] = true;
		}
	}
	return news;
}

static bool model_knows(struct mid *m)
{
	if (!m->known && w.ordered)
		return false;
	m->known = true;
	return true;
}

static void model_state(struct rec *r, struct mid *m)
{
	struct state_view v = view_of(r);

	r->nobody = !model_knows(m) || is_over(m);
	if (r->nobody)
		did.dead_late++;
	else if (is_final(v.s->outcome))
		r->nobody = !model_ranges(m, v.ranges, m->over);
	else if (v.s->outcome != OUTCOME_DEFERRED)
		model_ranges(m, v.ranges, m->failed);
}

static void model_msg(struct rec *r, struct mid *m)
{
	struct msg_view v;
	struct mid *parent;

	assert_true(msg_view(&r->r.head, r->r.body, &v));
	m->known = true;
	m->rcpts = v.m->rcpts;
	if (!v.m->parent || m->settles)
		return;
	parent = mid_of(v.m->parent);
	if (model_knows(parent) && !is_over(parent) && model_ranges(parent, v.settles, parent->over))
		m->settles = parent->id;
}

static void model_record(struct rec *r)
{
	struct mid *m = mid_of(r->r.head.id);

	switch (r->r.head.type) {
	case REC_BODY:
	case REC_RCPT:
		r->nobody = (!m->known && m->id < w.below) || is_over(m);
		if (!r->nobody)
			m->known = true;
		break;
	case REC_MSG: model_msg(r, m); break;
	case REC_STATE: model_state(r, m); break;
	default: break;
	}
	model_acts();
}

static void model_forget(struct mid *m)
{
	*m = (struct mid){.id = m->id,
			  .committed = m->committed,
			  .abandoned = m->abandoned,
			  .parts = m->parts,
			  .bodies = m->bodies,
			  .rcpts = m->rcpts,
			  .attempt = m->attempt};
	for (unsigned i = 0; i < w.recs_n; i++)
		if (w.recs[i].r.head.id == m->id && w.recs[i].r.head.type != REC_ACT)
			w.recs[i].nobody = true;
}

/* ---- live and the model side by side ---- */

static void explain(uint64_t id)
{
	const struct mid *m = mid_of(id);

	if (m)
		printf("id %lu: known %d rcpts %u over %u queued %d settles %lu ordered %d\n", (unsigned long)id,
		       m->known, m->rcpts, over_count(m), is_queued(m), (unsigned long)m->settles, w.ordered);
	for (unsigned i = 0; i < w.recs_n; i++) {
		const struct rec *r = &w.recs[i];

		if (r->r.head.id != id)
			continue;
		printf("  %4u type %u pos %lu gone %d moved %d nobody %d wanted %d", i, r->r.head.type,
		       (unsigned long)r->r.pos, r->gone, r->moved, r->nobody, !r->gone && wanted(r));
		if (r->r.head.type == REC_STATE) {
			struct state_view v = view_of(r);

			printf(" outcome %u attempt %u:", v.s->outcome, v.s->attempt);
			for (uint32_t k = 0; k < v.s->ranges_n; k++)
				printf(" %u-%u", range_at(v.ranges, k).first, range_at(v.ranges, k).last);
		}
		printf("\n");
	}
}

static void agree(void)
{
	uint64_t queued = 0, left = 0, all = 0;
	struct live_counts n;

	for (unsigned s = 0; s < w.segs_n; s++) {
		const struct live_segment *x = live_segment(w.l, w.segs[s].number);
		uint64_t live = 0, bytes = 0, said = 0;
		uint32_t open = 0, messages = 0;

		if (w.segs[s].gone) {
			assert_null(x);
			continue;
		}
		for (unsigned i = 0; i < w.recs_n; i++) {
			struct rec *r = &w.recs[i];
			struct mid *m = mid_of(r->r.head.id);
			bool first = true;

			if (r->gone || r->seg != w.segs[s].number)
				continue;
			bytes += rec_size(r->r.head.n);
			live += wanted(r) ? rec_size(r->r.head.n) : 0;
			said += live_wants(w.l, &r->r) ? rec_size(r->r.head.n) : 0;
			if (live_wants(w.l, &r->r) != wanted(r))
				explain(r->r.head.id);
			if (live_wants(w.l, &r->r) != wanted(r))
				fail_msg("type %u id %lu at %lu: live says %d", r->r.head.type,
					 (unsigned long)r->r.head.id, (unsigned long)r->r.pos,
					 live_wants(w.l, &r->r));
			messages += m && r->r.head.type == REC_MSG && is_queued(m) && highest_msg(m->id) == r;
			if (!m || !m->known || highest_msg(m->id) || r->nobody ||
			    (r->r.head.type != REC_BODY && r->r.head.type != REC_RCPT))
				continue;
			for (unsigned k = 0; k < i; k++)
				first &= !(w.recs[k].seg == r->seg && w.recs[k].r.head.id == m->id &&
					   !w.recs[k].gone && !w.recs[k].nobody &&
					   (w.recs[k].r.head.type == REC_BODY || w.recs[k].r.head.type == REC_RCPT));
			open += first;
		}
		if (!x) {
			assert_int_equal(bytes, 0);
			continue;
		}
		assert_int_equal(x->bytes, bytes);
		assert_int_equal(x->live, live);
		assert_int_equal(x->live, said);
		assert_int_equal(x->open, open);
		assert_int_equal(x->messages, messages);
		all += live;
	}
	for (unsigned i = 0; i < w.ids_n; i++) {
		const struct rec *msg = highest_msg(w.ids[i].id);

		assert_int_equal(live_msg_at(w.l, w.ids[i].id), is_queued(&w.ids[i]) ? msg->r.pos : 0);
		if (!is_queued(&w.ids[i]))
			continue;
		queued++;
		left += w.ids[i].rcpts - over_count(&w.ids[i]);
	}
	live_count(w.l, &n);
	assert_int_equal(n.messages, queued);
	assert_int_equal(n.recipients_left, left);
	assert_int_equal(n.live_bytes, all);
}

/* ---- a replay: what sched would know, of the records that are there ---- */

struct replayed {
	bool queued;
	uint32_t parts;
	struct { uint8_t state; uint32_t attempt; uint64_t at; } rcpt[RCPTS_MAX];
	uint64_t texts; /* of failures: the sum of their times */
};

static void replay_ranges(struct span ranges, bool *set)
{
	for (uint32_t i = 0; i < ranges.n / sizeof(struct msg_range); i++)
		for (uint32_t k = range_at(ranges, i).first; k <= range_at(ranges, i).last; k++)
			set[k] = true;
}

static void replay_one(const struct rec *r, uint64_t id, struct replayed *p, bool *over, bool *failed,
		       bool *have)
{
	struct msg_view m;
	struct state_view v;

	if (r->r.head.type == REC_MSG && msg_view(&r->r.head, r->r.body, &m) && m.m->parent == id)
		replay_ranges(m.settles, over);
	if (r->r.head.id != id)
		return;
	if (r->r.head.type == REC_BODY || r->r.head.type == REC_RCPT)
		have[r->r.head.number + (r->r.head.type == REC_RCPT ? 16 : 0)] = true;
	if (r->r.head.type != REC_STATE)
		return;
	v = view_of(r);
	if (is_final(v.s->outcome)) {
		replay_ranges(v.ranges, over);
	} else if (v.s->outcome != OUTCOME_DEFERRED) {
		replay_ranges(v.ranges, failed);
	}
	for (uint32_t k = 0; v.s->outcome == OUTCOME_DEFERRED && k < RCPTS_MAX; k++)
		if (names(&v, k) && (v.s->attempt > p->rcpt[k].attempt ||
				     (v.s->attempt == p->rcpt[k].attempt && r->r.pos >= p->rcpt[k].at))) {
			p->rcpt[k].attempt = v.s->attempt;
			p->rcpt[k].at = r->r.pos;
		}
}

/* Texts: failures whose records are there, each counted once however many copies there are. */
static uint64_t texts_of(uint64_t id)
{
	uint64_t seen[RECS_MAX], sum = 0;
	unsigned n = 0;

	for (unsigned i = 0; i < w.recs_n; i++) {
		struct state_view v;
		unsigned k = 0;

		if (!is_type(&w.recs[i], REC_STATE, id))
			continue;
		v = view_of(&w.recs[i]);
		if (v.s->outcome != OUTCOME_FAILED && v.s->outcome != OUTCOME_CANCELLED)
			continue;
		while (k < n && seen[k] != v.s->at_us)
			k++;
		if (k < n)
			continue;
		seen[n++] = v.s->at_us;
		sum += v.s->at_us;
	}
	return sum;
}

static void replay(uint64_t id, struct replayed *p)
{
	bool over[RCPTS_MAX] = {0}, failed[RCPTS_MAX] = {0}, have[32] = {0};
	const struct rec *msg = highest_msg(id);
	uint32_t n = 0;

	*p = (struct replayed){0};
	for (unsigned i = 0; i < w.recs_n; i++)
		if (!w.recs[i].gone)
			replay_one(&w.recs[i], id, p, over, failed, have);
	for (unsigned k = 0; k < RCPTS_MAX; k++)
		n += over[k];
	p->queued = msg && n < mid_of(id)->rcpts;
	for (unsigned k = 0; k < 32; k++)
		p->parts |= (uint32_t)have[k] << k;
	p->texts = texts_of(id);
	for (unsigned k = 0; k < RCPTS_MAX; k++) {
		p->rcpt[k].state = over[k] ? 3 : failed[k] ? 2 : p->rcpt[k].at ? 1 : 0;
		p->rcpt[k].at = 0; /* copies lie elsewhere */
		if (p->rcpt[k].state != 1)
			p->rcpt[k].attempt = 0;
	}
	if (!p->queued)
		*p = (struct replayed){0};
}

static struct replayed *replay_all(void)
{
	struct replayed *v = mem_new((w.ids_n + 1) * sizeof *v);

	for (unsigned i = 0; i < w.ids_n; i++)
		replay(w.ids[i].id, &v[i]);
	return v;
}

static void same_replay(struct replayed *before)
{
	struct replayed *now = replay_all();

	for (unsigned i = 0; i < w.ids_n; i++)
		if (memcmp(&before[i], &now[i], sizeof *now) != 0)
			fail_msg("id %lu: a replay says something else", (unsigned long)w.ids[i].id);
	mem_free(before);
	mem_free(now);
}

/* ---- writing ---- */

static unsigned add_seg(uint64_t number)
{
	assert_true(w.segs_n < SEGS_MAX);
	w.segs[w.segs_n] = (struct seg){.number = number, .used = 4096};
	return w.segs_n++;
}

static struct seg *seg_of(uint64_t number)
{
	for (unsigned i = 0; i < w.segs_n; i++)
		if (w.segs[i].number == number)
			return &w.segs[i];
	return NULL;
}

/* A record at the end of that segment; not fed yet. */
static struct rec *make(struct seg *s, enum rec_type type, uint64_t id, uint32_t number, const void *a,
			size_t a_n, const void *b, size_t b_n)
{
	struct rec *r = &w.recs[w.recs_n++];

	assert_true(w.recs_n < RECS_MAX);
	*r = (struct rec){.seg = s->number};
	r->body = malloc(a_n + b_n + 1);
	if (a_n)
		memcpy(r->body, a, a_n);
	if (b_n)
		memcpy(r->body + a_n, b, b_n);
	r->r.head = (struct rec_head){.type = (uint8_t)type, .id = id, .number = number, .n = (uint32_t)(a_n + b_n)};
	r->r.body = span_of(r->body, a_n + b_n);
	r->r.pos = s->number * SEGMENT + s->used;
	s->used += rec_size(r->r.head.n);
	assert_true(s->used < SEGMENT);
	return r;
}

static void next_hot(void)
{
	if (w.segs_n)
		w.segs[w.hot].sealed = true;
	w.hot = add_seg(++w.hot_number);
}

static void add(enum rec_type type, uint64_t id, uint32_t number, const void *a, size_t a_n, const void *b,
		size_t b_n)
{
	struct rec *r;

	if (w.segs[w.hot].used > SEGMENT - 8192)
		next_hot();
	r = make(&w.segs[w.hot], type, id, number, a, a_n, b, b_n);
	model_record(r);
	live_record(w.l, &r->r);
}

/* ---- what happens ---- */

static void new_id(void)
{
	struct mid *m = &w.ids[w.ids_n];
	static const uint32_t rcpts[] = {1, 1, 1, 2, 2, 3, 3, 10, 31, 33, 100};

	if (w.ids_n == IDS_MAX)
		return;
	*m = (struct mid){.id = id_make(1 + w.ids_n / 50, w.ids_n, 1), .rcpts = rcpts[dice(ARRAY_N(rcpts))]};
	w.ids_n++;
}

static struct mid *some_id(void)
{
	unsigned back = dice(4) ? 12 : w.ids_n; /* most things happen to new mail */

	if (!w.ids_n)
		return NULL;
	return &w.ids[w.ids_n - 1 - dice(back < w.ids_n ? back : w.ids_n)];
}

static void add_part(struct mid *m)
{
	char junk[600];
	size_t n = sizeof(struct rec_body) + dice(500);

	memset(junk, 'x', sizeof junk);
	if (m->parts >= 12)
		return;
	if (m->parts && dice(2)) {
		add(REC_BODY, m->id, m->bodies++, junk, n, NULL, 0);
	} else {
		add(REC_RCPT, m->id, m->parts - m->bodies, junk, n, NULL, 0);
	}
	m->parts++;
}

static uint32_t some_ranges(const struct mid *m, struct msg_range *ranges, uint32_t max)
{
	uint32_t n = 1 + dice(max);

	for (uint32_t i = 0; i < n; i++) {
		ranges[i].first = dice(m->rcpts);
		ranges[i].last = ranges[i].first + dice(m->rcpts - ranges[i].first) / (1 + dice(4));
	}
	if (dice(w.racing ? 3 : 8) == 0)
		ranges[0] = (struct msg_range){0, m->rcpts - 1};
	return n;
}

static void commit(struct mid *m)
{
	struct mid *parent = dice(3) ? NULL : some_id();
	struct rec_msg msg = {.rcpts = m->rcpts, .size = 1};
	struct msg_range ranges[3];

	if (parent && parent->committed && parent != m) {
		msg.parent = parent->id;
		msg.kind = SUBMIT_BOUNCE;
		msg.settles_n = (uint16_t)some_ranges(parent, ranges, 3);
	}
	m->committed = true;
	add(REC_MSG, m->id, 0, &msg, sizeof msg, ranges, msg.settles_n * sizeof *ranges);
}

static void submission(void)
{
	struct mid *m = some_id();

	for (unsigned i = 0; m && i < 10 && (m->committed || m->abandoned); i++)
		m = some_id();
	if (!m || m->committed || m->abandoned)
		return;
	if (m->parts < 2 || dice(3)) {
		add_part(m);
	} else if (dice(12) == 0) {
		m->abandoned = true;
		model_forget(m);
		live_abandon(w.l, m->id);
	} else {
		commit(m);
	}
}

static void state(void)
{
	static const uint8_t outcomes[] = {OUTCOME_DELIVERED, OUTCOME_DELIVERED, OUTCOME_DELIVERED,
					   OUTCOME_DEFERRED, OUTCOME_DEFERRED, OUTCOME_FAILED,
					   OUTCOME_SETTLED, OUTCOME_CANCELLED, OUTCOME_DROPPED};
	static uint64_t at_us;
	struct mid *m = some_id();
	struct msg_range ranges[3];
	char both[sizeof ranges + 64];
	struct rec_state s = {.outcome = outcomes[dice(ARRAY_N(outcomes))], .text_n = (uint16_t)dice(40)};

	for (unsigned i = 0; m && i < 10 && (!m->committed || (is_over(m) && dice(5))); i++)
		m = some_id();
	if (!m || !m->committed)
		return;
	/* Some come late; no two deferrals of a recipient have the same attempt, but for copies. */
	m->attempt++;
	s.at_us = ++at_us;
	s.attempt = m->attempt * 1000;
	if (dice(3) == 0)
		s.attempt = dice(m->attempt) * 1000 + 1 + (uint32_t)(at_us % 999);
	s.ranges_n = (uint16_t)some_ranges(m, ranges, 3);
	memcpy(both, ranges, sizeof ranges);
	memset(both + s.ranges_n * sizeof *ranges, 't', s.text_n);
	did.states++;
	add(REC_STATE, m->id, 0, &s, sizeof s, both, s.ranges_n * sizeof *ranges + s.text_n);
}

static void act(void)
{
	add(REC_ACT, dice(3) && w.ids_n ? w.ids[w.ids_n - 1].id + 64 : 0, 0, "flush", 5, NULL, 0);
}

static void happen(void)
{
	switch (dice(10)) {
	case 0: new_id(); break;
	case 1:
	case 2:
	case 3:
	case 4: submission(); break;
	case 5:
	case 6:
	case 7: state(); break;
	case 8:
		if (dice(4) == 0)
			act();
		break;
	default:
		if (dice(3) == 0)
			next_hot();
	}
}

/* ---- compaction ---- */

static struct seg *cold_seg(void)
{
	if (!w.cold_number || w.segs[w.cold].sealed || w.segs[w.cold].used > SEGMENT / 2 || dice(6) == 0) {
		if (w.cold_number)
			w.segs[w.cold].sealed = true;
		w.cold_number = w.cold_number ? w.cold_number + 1 : COLD_FIRST;
		w.cold = add_seg(w.cold_number);
	}
	return &w.segs[w.cold];
}

static struct seg *victim(void)
{
	for (unsigned tries = 0; tries < 20; tries++) {
		struct seg *s = &w.segs[dice(w.segs_n)];
		const struct live_segment *x = live_segment(w.l, s->number);

		if (s->sealed && !s->gone && x && x->open == 0)
			return s;
	}
	return NULL;
}

static void copy_settles(struct seg *to, struct rec *from)
{
	struct msg_view v;
	struct rec_state s = {.outcome = OUTCOME_SETTLED};
	struct mid *m = mid_of(from->r.head.id);
	struct rec *copy;

	assert_true(msg_view(&from->r.head, from->r.body, &v));
	s.ranges_n = v.m->settles_n;
	copy = make(to, REC_STATE, v.m->parent, 0, &s, sizeof s, v.settles.p, v.settles.n);
	copy->nobody = !m->known || m->settles != v.m->parent || !mid_of(v.m->parent)->known;
	m->settles = copy->nobody ? m->settles : 0;
	live_copied(w.l, &copy->r, from->r.pos);
	did.instead++;
}

static bool is_latest(const struct rec *r)
{
	struct state_view v = view_of(r);
	struct mid *m = mid_of(r->r.head.id);

	for (uint32_t k = 0; k < RCPTS_MAX; k++)
		if (names(&v, k) && !m->over[k] && !m->failed[k] && latest(m->id, k) == r)
			return true;
	return false;
}

/* What the record means may be over since it was looked at. */
static void copy_one(struct seg *to, struct rec *from)
{
	struct mid *m = mid_of(from->r.head.id);
	uint8_t type = from->r.head.type;
	bool alive = type == REC_ACT ? !from->nobody : m->known && !from->nobody;
	struct rec *copy;

	if (type == REC_STATE && !is_final(view_of(from).s->outcome))
		alive = alive && !is_over(m) &&
			(view_of(from).s->outcome != OUTCOME_DEFERRED || is_latest(from));
	copy = make(to, (enum rec_type)type, from->r.head.id, from->r.head.number, from->r.body.p,
		    from->r.body.n, NULL, 0);
	if (type != REC_MSG) {
		copy->nobody = !alive;
		from->moved |= alive;
	}
	live_copied(w.l, &copy->r, from->r.pos);
	model_acts();
	did.copies++;
}

/* As compaction does: look at one after the other, write, then say so; things happen meanwhile. */
static void copy_wanted(struct seg *s, bool race)
{
	static unsigned marks[RECS_MAX];
	static bool instead[RECS_MAX];
	unsigned n = 0;
	struct seg *to = cold_seg();
	unsigned all = w.recs_n;

	w.racing = race;
	for (unsigned i = 0; i < all; i++) {
		struct rec *r = &w.recs[i];

		if (race && r->seg == s->number && dice(3) == 0)
			happen();
		if (r->gone || r->seg != s->number || !live_wants(w.l, &r->r))
			continue;
		instead[n] = r->r.head.type == REC_MSG && live_msg_at(w.l, r->r.head.id) == 0;
		marks[n++] = i;
	}
	for (unsigned i = race ? dice(30) : 0; i > 0; i--)
		happen();
	w.racing = false;
	did.races += race;
	for (unsigned i = 0; i < n; i++) {
		if (to->used > SEGMENT - 8192)
			to = cold_seg();
		if (instead[i])
			copy_settles(to, &w.recs[marks[i]]);
		else
			copy_one(to, &w.recs[marks[i]]);
		if (dice(8) == 0)
			agree();
	}
}

static void segment_goes(struct seg *s)
{
	for (unsigned i = 0; i < w.recs_n; i++)
		if (w.recs[i].seg == s->number)
			w.recs[i].gone = true;
	s->gone = true;
	for (unsigned i = 0; i < w.ids_n; i++) {
		struct mid *m = &w.ids[i];
		bool had = false;

		for (unsigned k = 0; k < w.recs_n; k++)
			had |= w.recs[k].seg == s->number && w.recs[k].r.head.type == REC_MSG &&
			       w.recs[k].r.head.id == m->id;
		if (had && !highest_msg(m->id))
			model_forget(m);
	}
	model_acts();
	live_gone(w.l, s->number);
	while (live_work(w.l, 1 + dice(3)))
		did.work++;
	did.gone++;
}

static void compact(void)
{
	struct seg *s = victim();
	struct replayed *before;

	if (!s)
		return;
	for (unsigned round = 0; live_segment(w.l, s->number)->live > 0; round++) {
		assert_true(round < 50);
		did.again += round > 0;
		copy_wanted(s, dice(2) && round < 3);
		agree();
	}
	before = replay_all();
	segment_goes(s);
	agree();
	same_replay(before);
}

/* All that is there is fed anew: cold ones first, then in order.  Records that were not fed yet are not
 * there for the model. */
static void restart(void)
{
	static bool later[RECS_MAX];

	live_free(w.l);
	w.l = live_new(SEGMENT);
	w.ordered = false;
	w.below = 0;
	for (unsigned i = 0; i < w.ids_n; i++) {
		struct mid *m = &w.ids[i];

		m->abandoned |= !m->committed;
		m->known = false;
		m->settles = 0;
		memset(m->over, 0, sizeof m->over);
		memset(m->failed, 0, sizeof m->failed);
	}
	for (unsigned i = 0; i < w.recs_n; i++) {
		later[i] = !w.recs[i].gone;
		w.recs[i].gone = true;
	}
	for (unsigned cold = 2; cold-- > 0;)
		for (unsigned i = 0; i < w.recs_n; i++)
			if (later[i] && (w.recs[i].seg >= COLD_FIRST) == cold) {
				w.recs[i].gone = w.recs[i].moved = w.recs[i].nobody = false;
				model_record(&w.recs[i]);
				live_record(w.l, &w.recs[i].r);
			}
	w.segs[w.hot].sealed = true;
	if (w.cold_number)
		w.segs[w.cold].sealed = true;
	agree();
	w.ordered = true;
	w.below = w.ids_n ? w.ids[w.ids_n - 1].id + 1 : 0;
	for (unsigned i = 0; i < w.ids_n; i++)
		if (w.ids[i].known && !highest_msg(w.ids[i].id))
			model_forget(&w.ids[i]);
	model_acts();
	live_forget_parts(w.l, w.below);
	next_hot();
	did.restarts++;
}

static void begin(void)
{
	memset(&w, 0, sizeof w);
	w.l = live_new(SEGMENT);
	w.ordered = true;
	live_forget_parts(w.l, 0);
	next_hot();
}

static void end(void)
{
	for (unsigned i = 0; i < w.recs_n; i++)
		free(w.recs[i].body);
	live_free(w.l);
}

static void history(uint64_t s, unsigned steps)
{
	seed = s * 0x9e3779b97f4a7c15ull | 1;
	begin();
	while (steps-- > 0 && w.recs_n < RECS_MAX / 2 && w.segs_n < SEGS_MAX / 2) {
		if (dice(25) == 0)
			compact();
		else if (dice(200) == 0)
			restart();
		else
			happen();
		if (dice(5) == 0)
			agree();
	}
	agree();
	end();
}

static void random_histories(void **state)
{
	const char *n = getenv("LIVE_HISTORIES"), *from = getenv("LIVE_SEED");
	unsigned long first = from ? strtoul(from, NULL, 10) : 1, all = n ? strtoul(n, NULL, 10) : 20;

	for (unsigned long i = first; i < first + all; i++) {
		if (n)
			printf("seed %lu\n", i);
		history(i, 900);
	}
	printf("%lu histories: %u records copied, %u segments gone, %u restarts, %u races, %u looked at again, "
	       "%u settled instead, %u of %u states dead on arrival\n",
	       all, did.copies, did.gone, did.restarts, did.races, did.again, did.instead, did.dead_late, did.states);
	assert_true(did.copies > all && did.gone > all && did.restarts > all / 2);
	assert_true(did.races > 0 && did.instead > 0 && did.dead_late > 0);
}

/* ---- single things ---- */

static void send_one(unsigned i, uint32_t rcpts)
{
	struct rec_msg msg = {.rcpts = rcpts, .size = 1};
	struct mid *m = &w.ids[i];
	char body[64] = {0};

	if (w.ids_n <= i)
		w.ids_n = i + 1;
	*m = (struct mid){.id = id_make(1, i + 1, 1), .rcpts = rcpts, .committed = true};
	add(REC_BODY, m->id, 0, body, sizeof body, NULL, 0);
	add(REC_RCPT, m->id, 0, body, 20, NULL, 0);
	add(REC_MSG, m->id, 0, &msg, sizeof msg, NULL, 0);
}

static void say(unsigned i, enum outcome o, uint32_t attempt, uint32_t first, uint32_t last)
{
	struct msg_range range = {first, last};
	struct rec_state s = {.outcome = (uint8_t)o, .attempt = attempt, .ranges_n = 1};

	add(REC_STATE, w.ids[i].id, 0, &s, sizeof s, &range, sizeof range);
}

static void a_delivered_message_leaves_nothing(void **state)
{
	begin();
	send_one(0, 1);
	assert_int_equal(live_segment(w.l, 1)->messages, 1);
	say(0, OUTCOME_DELIVERED, 0, 0, 0);
	assert_int_equal(live_segment(w.l, 1)->live, 0);
	assert_true(live_segment(w.l, 1)->bytes > 0);
	live_gone(w.l, 1);
	assert_null(live_segment(w.l, 1));
	end();
}

static void an_outcome_lives_as_long_as_its_message_lies_elsewhere(void **state)
{
	begin();
	send_one(0, 1);
	next_hot();
	say(0, OUTCOME_DELIVERED, 0, 0, 0);
	assert_int_equal(live_segment(w.l, 1)->live, 0);
	assert_int_equal(live_segment(w.l, 2)->live, rec_size(sizeof(struct rec_state) + 8));
	segment_goes(&w.segs[0]);
	assert_int_equal(live_segment(w.l, 2)->live, 0);
	agree();
	end();
}

static void later_attempts_replace_deferrals(void **state)
{
	begin();
	send_one(0, 3);
	next_hot();
	say(0, OUTCOME_DEFERRED, 1, 0, 2);
	next_hot();
	say(0, OUTCOME_DEFERRED, 2, 0, 1);
	assert_true(live_segment(w.l, 2)->live > 0);
	say(0, OUTCOME_FAILED, 2, 2, 2);
	assert_int_equal(live_segment(w.l, 2)->live, 0);
	agree();
	end();
}

static void open_submissions_pin(void **state)
{
	char part[100] = {0};

	begin();
	w.ids[0] = (struct mid){.id = id_make(1, 1, 1)};
	w.ids_n = 1;
	add(REC_BODY, w.ids[0].id, 0, part, sizeof part, NULL, 0);
	add(REC_BODY, w.ids[0].id, 1, part, sizeof part, NULL, 0);
	next_hot();
	add(REC_BODY, w.ids[0].id, 2, part, sizeof part, NULL, 0);
	assert_int_equal(live_segment(w.l, 1)->open, 1);
	assert_int_equal(live_segment(w.l, 2)->open, 1);
	agree();
	live_abandon(w.l, w.ids[0].id);
	assert_int_equal(live_segment(w.l, 1)->open, 0);
	assert_int_equal(live_segment(w.l, 1)->live, 0);
	end();
}

static void odd_records_do_no_harm(void **state)
{
	struct rec_head h = {.type = REC_MSG, .id = UINT64_MAX, .n = 3};
	struct {
		struct rec_state s;
		struct msg_range wild;
	} s = {{.outcome = OUTCOME_DELIVERED, .ranges_n = 1}, {5, 1u << 30}};

	begin();
	live_record(w.l, &(struct record){.pos = SEGMENT, .head = h, .body = span_of("abc", 3)});
	h.id = 5;
	live_record(w.l, &(struct record){.pos = SEGMENT + 4096, .head = h, .body = span_of("abc", 3)});
	live_record(w.l, &(struct record){.pos = 64, .head = h, .body = span_of("abc", 3)});
	send_one(0, 10);
	h = (struct rec_head){.type = REC_STATE, .id = w.ids[0].id, .n = sizeof s};
	live_record(w.l, &(struct record){.pos = SEGMENT + 32768, .head = h, .body = span_of((char *)&s, sizeof s)});
	assert_true(live_msg_at(w.l, w.ids[0].id) > 0);
	live_gone(w.l, 77);
	live_abandon(w.l, 12345);
	live_free(w.l);
	w.l = live_new(SEGMENT);
	end();
}

static unsigned rec_of(uint64_t seg, enum rec_type type)
{
	unsigned i = 0;

	while (w.recs[i].seg != seg || w.recs[i].r.head.type != type || w.recs[i].gone)
		i++;
	return i;
}

/* Its MSG was copied, then it was over, then its first outcome was looked at. */
static void what_is_over_during_a_copy_needs_a_second_look(void **state)
{
	begin();
	send_one(0, 2);
	say(0, OUTCOME_DELIVERED, 0, 0, 0);
	next_hot();
	assert_true(live_wants(w.l, &w.recs[rec_of(1, REC_MSG)].r));
	say(0, OUTCOME_DELIVERED, 0, 1, 1);
	assert_false(live_wants(w.l, &w.recs[rec_of(1, REC_STATE)].r));
	copy_one(cold_seg(), &w.recs[rec_of(1, REC_MSG)]);
	agree();
	assert_true(live_wants(w.l, &w.recs[rec_of(1, REC_STATE)].r));
	assert_true(live_segment(w.l, 1)->live > 0);
	copy_one(cold_seg(), &w.recs[rec_of(1, REC_STATE)]);
	assert_int_equal(live_segment(w.l, 1)->live, 0);
	segment_goes(&w.segs[0]);
	agree();
	assert_false(is_queued(&w.ids[0]));
	end();
}

/* The copy goes before what it was copied from. */
static void an_older_copy_takes_over(void **state)
{
	begin();
	send_one(0, 1);
	next_hot();
	copy_one(cold_seg(), &w.recs[rec_of(1, REC_MSG)]);
	say(0, OUTCOME_DELIVERED, 0, 0, 0);
	agree();
	segment_goes(seg_of(COLD_FIRST));
	agree();
	assert_true(live_segment(w.l, 2)->live > 0);
	segment_goes(seg_of(1));
	agree();
	assert_int_equal(live_segment(w.l, 2)->live, 0);
	end();
	begin();
	send_one(0, 1);
	copy_one(cold_seg(), &w.recs[rec_of(1, REC_MSG)]);
	say(0, OUTCOME_DELIVERED, 0, 0, 0);
	assert_true(live_segment(w.l, 1)->live > 0);
	segment_goes(seg_of(COLD_FIRST));
	agree();
	assert_int_equal(live_segment(w.l, 1)->live, 0);
	end();
}

/* Much more than is looked at at once. */
static void a_large_segment_goes_bit_by_bit(void **state)
{
	struct live *l = live_new(1 << 26);
	struct rec_msg msg = {.rcpts = 1};
	struct {
		struct rec_state s;
		struct msg_range r;
	} done = {.s = {.outcome = OUTCOME_DELIVERED, .ranges_n = 1}};
	struct record r = {.pos = (1 << 26) + 4096};
	struct live_counts n;
	unsigned rounds = 0;

	live_forget_parts(l, 0);
	for (uint64_t i = 0; i < 5000; i++, r.pos += 96) {
		r.head = (struct rec_head){.type = REC_MSG, .id = id_make(1, i, 1), .n = sizeof msg};
		r.body = span_of(&msg, sizeof msg);
		live_record(l, &r);
	}
	r.pos = (2ull << 26) + 4096;
	for (uint64_t i = 0; i < 5000; i++, r.pos += 96) {
		r.head = (struct rec_head){.type = REC_STATE, .id = id_make(1, i, 1), .n = sizeof done};
		r.body = span_of((char *)&done, sizeof done);
		live_record(l, &r);
	}
	assert_int_equal(live_segment(l, 2)->live, 5000 * rec_size(sizeof done));
	live_gone(l, 1);
	assert_null(live_segment(l, 1));
	live_count(l, &n);
	assert_int_equal(n.entries, 4000);
	r.head = (struct rec_head){.type = REC_NOP};
	live_record(l, &r);
	live_count(l, &n);
	assert_in_range(n.entries, 3900, 3999);
	assert_int_equal(live_segment(l, 2)->live, n.entries * rec_size(sizeof done));
	while (live_work(l, 100))
		rounds++;
	assert_in_range(rounds, 30, 45);
	live_count(l, &n);
	assert_int_equal(n.entries, 0);
	assert_int_equal(live_segment(l, 2)->live, 0);
	live_free(l);
}

/* A segment that was lost takes all with it, and what refers to it does no harm. */
static void lost_segments_are_forgotten(void **state)
{
	struct live_counts n;

	begin();
	for (unsigned i = 0; i < 40; i++) {
		send_one(i, i % 3 ? 1 : 40);
		if (i % 7 == 6)
			next_hot();
	}
	for (unsigned i = 0; i < 40; i++)
		say(i, i % 2 ? OUTCOME_DEFERRED : OUTCOME_FAILED, 1, 0, i % 3 ? 0 : 20);
	for (uint64_t k = w.hot_number; k > 0; k--)
		live_gone(w.l, k);
	live_count(w.l, &n);
	assert_int_equal(n.entries, 0);
	assert_int_equal(n.live_bytes, 0);
	assert_int_equal(n.messages, 0);
	assert_int_equal(n.recipients_left, 0);
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_delivered_message_leaves_nothing),
		cmocka_unit_test(an_outcome_lives_as_long_as_its_message_lies_elsewhere),
		cmocka_unit_test(later_attempts_replace_deferrals),
		cmocka_unit_test(open_submissions_pin),
		cmocka_unit_test(odd_records_do_no_harm),
		cmocka_unit_test(what_is_over_during_a_copy_needs_a_second_look),
		cmocka_unit_test(an_older_copy_takes_over),
		cmocka_unit_test(a_large_segment_goes_bit_by_bit),
		cmocka_unit_test(lost_segments_are_forgotten),
		cmocka_unit_test(random_histories),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
