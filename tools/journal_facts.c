#include "tools/journal_facts.h"

#include "core/pool.h"

#include <stdlib.h>
#include <string.h>

#define IDS_AROUND (1024ull << ID_SHARD_BITS)     /* submissions that may be open at once, and some */
#define KEY_RCPT   0x80000000u                    /* in a part's key: a RCPT; the rest is its number */

struct judge {
	struct facts *f;
	void (*say)(void *ctx, uint64_t id, const char *state, uint64_t pos, const char *what);
	void *ctx;
	/* the message at hand, and what belongs to it */
	const struct fact_msg *m;
	const struct fact_part *parts;
	const struct fact_range *ranges;
	size_t parts_n, ranges_n;
	const char *state;
};

void facts_init(struct facts *f, uint64_t segment_size)
{
	*f = (struct facts){.segment_size = segment_size};
}

void facts_fini(struct facts *f)
{
	mem_free(f->parts.v);
	mem_free(f->msgs.v);
	mem_free(f->hints.v);
	mem_free(f->ranges.v);
	mem_free(f->losses.v);
	*f = (struct facts){0};
}

static void *add(struct fact_list *l, size_t size)
{
	if (l->n == l->cap) {
		size_t cap = l->cap ? 2 * l->cap : 256;

		l->v = mem_grow(l->v, l->cap * size, cap * size);
		l->cap = cap;
	}
	return l->v + l->n++ * size;
}

static const struct fact_part *part_at(const struct facts *f, size_t i)
{
	return (const struct fact_part *)(const void *)f->parts.v + i;
}

static const struct fact_msg *msg_at(const struct facts *f, size_t i)
{
	return (const struct fact_msg *)(const void *)f->msgs.v + i;
}

static const struct fact_range *range_of(const struct facts *f, size_t i)
{
	return (const struct fact_range *)(const void *)f->ranges.v + i;
}

/* ---- what comes ---- */

static void take_part(struct facts *f, uint64_t pos, const struct rec_head *h, struct span body)
{
	struct fact_part *p = add(&f->parts, sizeof *p);

	*p = (struct fact_part){.id = h->id, .pos = pos, .key = h->number};
	if (h->type == REC_BODY) {
		struct rec_body b;

		memcpy(&b, body.p, sizeof b);
		p->hash = (uint32_t)b.raw_hash;
		p->count = b.raw_n;
	} else {
		struct rec_rcpt r;

		memcpy(&r, body.p, sizeof r);
		p->key |= KEY_RCPT;
		p->hash = (uint32_t)hash64(body.p, body.n);
		p->first = r.first;
		p->count = r.count;
	}
}

static void take_range(struct facts *f, uint64_t id, uint64_t pos, struct msg_range r, bool over)
{
	*(struct fact_range *)add(&f->ranges, sizeof(struct fact_range)) =
		(struct fact_range){id, pos, r.first, r.last, over};
}

static void take_msg(struct facts *f, uint64_t pos, const struct rec_head *h, const struct msg_view *v, bool queue)
{
	struct fact_msg *m = add(&f->msgs, sizeof *m);
	struct span said[] = {span_of(v->m, sizeof *v->m), v->settles, v->sender, v->extra};

	*m = (struct fact_msg){.id = h->id, .pos = pos, .size = v->m->size, .hints = f->hints.n,
			       .body_parts = v->m->body_parts, .rcpt_parts = v->m->rcpt_parts,
			       .rcpts = v->m->rcpts, .queued = queue};
	for (size_t i = 0; i < ARRAY_N(said); i++)
		m->hash = hash64_chain(m->hash, said[i].n ? hash64(said[i].p, said[i].n) : 0, i);
	for (uint32_t i = 0; i < m->body_parts + m->rcpt_parts; i++)
		*(uint64_t *)add(&f->hints, sizeof(uint64_t)) = msg_position(v, i);
	for (uint32_t i = 0; v->m->parent && i < v->m->settles_n; i++)
		take_range(f, v->m->parent, pos, range_at(v->settles, i), true);
}

void facts_record(struct facts *f, uint64_t pos, const struct rec_head *h, struct span body, bool queue)
{
	struct msg_view m;
	struct state_view s;

	if (h->type == REC_BODY || h->type == REC_RCPT)
		take_part(f, pos, h, body);
	else if (h->type == REC_MSG && msg_view(h, body, &m))
		take_msg(f, pos, h, &m, queue);
	else if (h->type == REC_STATE && state_view(h, body, &s))
		for (uint32_t i = 0; i < s.s->ranges_n; i++)
			take_range(f, h->id, pos, range_at(s.ranges, i),
				   s.s->outcome == OUTCOME_DELIVERED || s.s->outcome == OUTCOME_SETTLED ||
					   s.s->outcome == OUTCOME_DROPPED);
}

void facts_lost(struct facts *f, uint64_t from, uint64_t to)
{
	*(struct fact_lost *)add(&f->losses, sizeof(struct fact_lost)) = (struct fact_lost){from, to, 0, 0};
}

/* ---- in order ---- */

static int by_part(const void *a, const void *b)
{
	const struct fact_part *x = a, *y = b;

	if (x->id != y->id)
		return x->id < y->id ? -1 : 1;
	if (x->key != y->key)
		return x->key < y->key ? -1 : 1;
	return (x->pos > y->pos) - (x->pos < y->pos);
}

static int by_msg(const void *a, const void *b)
{
	const struct fact_msg *x = a, *y = b;

	if (x->id != y->id)
		return x->id < y->id ? -1 : 1;
	return (x->pos > y->pos) - (x->pos < y->pos);
}

static int by_range(const void *a, const void *b)
{
	const struct fact_range *x = a, *y = b;

	if (x->id != y->id)
		return x->id < y->id ? -1 : 1;
	return (x->first > y->first) - (x->first < y->first);
}

static int by_from(const void *a, const void *b)
{
	const struct fact_lost *x = a, *y = b;

	return (x->from > y->from) - (x->from < y->from);
}

static void sort(struct fact_list *l, size_t size, int (*order)(const void *, const void *))
{
	if (l->n)
		qsort(l->v, l->n, size, order);
}

/* Losses do not overlap: each is of another stretch of a segment. */
static bool was_lost(const struct facts *f, uint64_t pos)
{
	const struct fact_lost *v = (const void *)f->losses.v;
	size_t low = 0, high = f->losses.n;

	while (low < high) {
		size_t mid = (low + high) / 2;

		if (v[mid].to <= pos)
			low = mid + 1;
		else
			high = mid;
	}
	return low < f->losses.n && v[low].from <= pos;
}

static bool is_cold(const struct facts *f, const struct fact_lost *l)
{
	return l->from / f->segment_size >= COLD_FIRST;
}

static int by_pos(const void *a, const void *b)
{
	const struct fact_msg *x = a, *y = b;

	return (x->pos > y->pos) - (x->pos < y->pos);
}

/* Ids grow with positions, but for those of submissions that were open together: around what was lost, from the
 * MSG in front of it to the one behind it, and some more. */
static void bound_losses(struct facts *f)
{
	struct fact_lost *v = (void *)f->losses.v;
	size_t m = 0;

	sort(&f->msgs, sizeof(struct fact_msg), by_pos);
	for (size_t i = 0; i < f->losses.n; i++) {
		while (m < f->msgs.n && msg_at(f, m)->pos < v[i].from)
			m++;
		v[i].low = m ? msg_at(f, m - 1)->id : 0;
		v[i].low -= v[i].low > IDS_AROUND ? IDS_AROUND : v[i].low;
		v[i].high = UINT64_MAX;
		for (size_t k = m; k < f->msgs.n; k++)
			if (msg_at(f, k)->pos >= v[i].to) {
				v[i].high = msg_at(f, k)->pos / f->segment_size < COLD_FIRST
						    ? msg_at(f, k)->id + IDS_AROUND
						    : UINT64_MAX;
				break;
			}
	}
}

/* The first loss behind a position, at most a segment away; 0: none. */
static uint64_t lost_behind(const struct facts *f, uint64_t pos)
{
	const struct fact_lost *v = (const void *)f->losses.v;

	for (size_t i = 0; i < f->losses.n; i++)
		if (v[i].to > pos && v[i].from - pos <= 2 * f->segment_size)
			return v[i].from;
	return 0;
}

/* ---- one message ---- */

static void say(struct judge *j, uint64_t pos, const char *what)
{
	j->say(j->ctx, j->m->id, j->state, pos, what);
}

/* The first of its copies; parts are in order of their key. */
static const struct fact_part *find_part(const struct judge *j, uint32_t key)
{
	size_t low = 0, high = j->parts_n;

	while (low < high) {
		size_t mid = (low + high) / 2;

		if (j->parts[mid].key < key)
			low = mid + 1;
		else
			high = mid;
	}
	return low < j->parts_n && j->parts[low].key == key ? &j->parts[low] : NULL;
}

static bool is_at(const struct judge *j, const struct fact_part *p, uint64_t pos)
{
	uint32_t key = p->key;

	for (; p < j->parts + j->parts_n && p->key == key; p++)
		if (p->pos == pos)
			return true;
	return false;
}

/* Of some copies of a part one must be there, of a message that is still to be delivered; of one that is
 * over its segment may have been given up, which is no damage. */
static const struct fact_part *need_part(struct judge *j, uint32_t i, const char *what, bool needed)
{
	uint32_t key = i < j->m->body_parts ? i : (i - j->m->body_parts) | KEY_RCPT;
	uint64_t hint = ((const uint64_t *)(const void *)j->f->hints.v)[j->m->hints + i];
	const struct fact_part *p = find_part(j, key);

	if (!p && (needed || was_lost(j->f, hint)))
		say(j, hint, what);
	if (p && !is_at(j, p, hint))
		j->f->stale_hints++;
	return p;
}

static void judge_copies(struct judge *j)
{
	for (size_t i = 1; i < j->parts_n; i++) {
		const struct fact_part *a = &j->parts[i - 1], *b = &j->parts[i];

		if (a->key == b->key && (a->hash != b->hash || a->count != b->count || a->first != b->first))
			say(j, b->pos, "two copies of a part say different things");
	}
}

/* Numbers grow from part to part. */
static bool has_number(const struct judge *j, uint32_t number)
{
	uint32_t low = 0, high = j->m->rcpt_parts;

	while (low < high) {
		uint32_t mid = (low + high) / 2;
		const struct fact_part *p = find_part(j, mid | KEY_RCPT);

		if ((uint64_t)p->first + p->count <= number)
			low = mid + 1;
		else
			high = mid;
	}
	return low < j->m->rcpt_parts && find_part(j, low | KEY_RCPT)->first <= number;
}

static void judge_ranges(struct judge *j)
{
	for (size_t i = 0; i < j->ranges_n; i++) {
		const struct fact_range *r = &j->ranges[i];

		if (r->first > r->last || !has_number(j, r->first) || !has_number(j, r->last))
			say(j, r->pos, "an outcome of a recipient that is not there");
	}
}

/* All parts are here. */
static void judge_numbers(struct judge *j)
{
	uint64_t sum = 0, next = 0;

	for (uint32_t i = 0; i < j->m->rcpt_parts; i++) {
		const struct fact_part *p = find_part(j, i | KEY_RCPT);

		if (p->first < next)
			say(j, p->pos, "a recipient's number is given twice, or numbers do not grow");
		sum += p->count;
		next = (uint64_t)p->first + p->count;
	}
	if (sum != j->m->rcpts)
		say(j, j->m->pos, "it has another number of recipients than its MSG says");
	else
		judge_ranges(j);
}

/* Recipients with a final outcome: ranges are in order of their first. */
static uint64_t count_over(const struct judge *j)
{
	uint64_t n = 0, next = 0;

	for (size_t i = 0; i < j->ranges_n; i++) {
		uint64_t first = j->ranges[i].first, last = (uint64_t)j->ranges[i].last + 1;

		if (!j->ranges[i].over)
			continue;
		if (first < next)
			first = next;
		if (last > first) {
			n += last - first;
			next = last;
		}
	}
	return n;
}

static void judge_message(struct judge *j)
{
	bool over = count_over(j) >= j->m->rcpts, needed = j->m->queued && !over, whole = true;
	uint64_t bytes = 0;

	j->state = needed ? "queued" : "done";
	j->f->messages++;
	j->f->queued += needed;
	judge_copies(j);
	for (uint32_t i = 0; i < j->m->body_parts; i++) {
		const struct fact_part *p = need_part(j, i, "a part of its body is missing or damaged", needed);

		whole = whole && p;
		bytes += p ? p->count : 0;
	}
	if (whole && bytes != j->m->size)
		say(j, j->m->pos, "its body has another size than its MSG says");
	whole = true;
	for (uint32_t i = 0; i < j->m->rcpt_parts; i++)
		whole = need_part(j, j->m->body_parts + i, "some of its recipients are missing or damaged", needed) &&
			whole;
	if (whole)
		judge_numbers(j);
}

/* Its parts are there and no MSG: nobody was told yes, unless the MSG lies in what is damaged. */
static void judge_orphan(struct judge *j, const struct fact_part *last)
{
	struct fact_msg m = {.id = last->id};
	uint64_t at = lost_behind(j->f, last->pos);

	j->f->uncommitted++;
	j->m = &m;
	j->state = "uncommitted";
	if (at)
		say(j, at, "its parts are there, its MSG is not: it may have been in what is damaged");
}

/* Outcomes of a message, and nothing else: fine where its segment was given up in good order, but not when
 * something was lost where messages of its time lie. */
static void judge_outcomes(struct judge *j, const struct fact_range *v, size_t n)
{
	const struct fact_lost *lost = (const void *)j->f->losses.v;
	struct fact_msg m = {.id = v->id};
	bool open = false;

	for (size_t i = 0; i < n; i++)
		open = open || !v[i].over;
	j->m = &m;
	j->state = "lost";
	for (size_t i = 0; i < j->f->losses.n; i++) {
		/* In a cold segment may be any; there, only what is not over tells. */
		if (is_cold(j->f, &lost[i]) ? !open : m.id < lost[i].low || m.id > lost[i].high)
			continue;
		say(j, lost[i].from, "its outcomes are there, it is not: it may have been in what is damaged");
		return;
	}
}

static void judge_group(struct judge *j, const struct fact_msg *v, size_t n)
{
	struct fact_msg best = v[n - 1];

	j->m = &best;
	j->state = "queued";
	for (size_t i = 0; i < n; i++) {
		best.queued = best.queued || v[i].queued;
		if (v[i].hash != best.hash)
			say(j, v[i].pos, "two messages have this id, or two copies of it differ");
	}
	judge_message(j);
}

/* How many entries from `at` on are of the same message. */
static size_t same_parts(const struct facts *f, size_t at)
{
	size_t n = 1;

	while (at + n < f->parts.n && part_at(f, at + n)->id == part_at(f, at)->id)
		n++;
	return n;
}

static size_t same_ranges(const struct facts *f, size_t at)
{
	size_t n = 1;

	while (at + n < f->ranges.n && range_of(f, at + n)->id == range_of(f, at)->id)
		n++;
	return n;
}

static size_t same_msgs(const struct facts *f, size_t at)
{
	size_t n = 1;

	while (at + n < f->msgs.n && msg_at(f, at + n)->id == msg_at(f, at)->id)
		n++;
	return n;
}

/* The message with the lowest id of those that are left in any of the three lists. */
static uint64_t next_id(const struct facts *f, size_t part, size_t range, size_t msg)
{
	uint64_t id = UINT64_MAX;

	if (part < f->parts.n)
		id = part_at(f, part)->id;
	if (range < f->ranges.n && range_of(f, range)->id < id)
		id = range_of(f, range)->id;
	if (msg < f->msgs.n && msg_at(f, msg)->id < id)
		id = msg_at(f, msg)->id;
	return id;
}

void facts_judge(struct facts *f,
		 void (*say_it)(void *ctx, uint64_t id, const char *state, uint64_t pos, const char *what), void *ctx)
{
	struct judge j = {.f = f, .say = say_it, .ctx = ctx};
	size_t part = 0, range = 0, msg = 0;

	sort(&f->parts, sizeof(struct fact_part), by_part);
	sort(&f->losses, sizeof(struct fact_lost), by_from);
	bound_losses(f);
	sort(&f->msgs, sizeof(struct fact_msg), by_msg);
	sort(&f->ranges, sizeof(struct fact_range), by_range);
	while (part < f->parts.n || range < f->ranges.n || msg < f->msgs.n) {
		uint64_t id = next_id(f, part, range, msg);
		size_t msgs = msg < f->msgs.n && msg_at(f, msg)->id == id ? same_msgs(f, msg) : 0;

		j.parts = part_at(f, part);
		j.parts_n = part < f->parts.n && j.parts->id == id ? same_parts(f, part) : 0;
		j.ranges = range_of(f, range);
		j.ranges_n = range < f->ranges.n && j.ranges->id == id ? same_ranges(f, range) : 0;
		if (msgs)
			judge_group(&j, msg_at(f, msg), msgs);
		else if (j.parts_n)
			judge_orphan(&j, j.parts + j.parts_n - 1);
		else
			judge_outcomes(&j, j.ranges, j.ranges_n);
		part += j.parts_n;
		range += j.ranges_n;
		msg += msgs;
	}
}
