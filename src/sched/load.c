#include "sched/load.h"

#include "core/pool.h"

#include <string.h>

static char over_mark;
#define OVER ((void *)&over_mark)

static void bits_grow(struct bits *b, uint32_t words)
{
	uint32_t want = b->words ? b->words : 2;

	while (want < words)
		want *= 2;
	b->many = mem_grow(b->many, b->words * sizeof(*b->many), want * sizeof(*b->many));
	if (b->words == 0)
		b->many[0] = b->few;
	b->words = want;
}

/* The first 64 numbers need no memory of their own. */
static uint64_t *word_of(struct bits *b, uint32_t i)
{
	if (i < 64 && !b->many)
		return &b->few;
	if (i / 64 >= b->words)
		bits_grow(b, i / 64 + 1);
	return &b->many[i / 64];
}

bool bits_set(struct bits *b, uint32_t i)
{
	uint64_t *w = word_of(b, i), bit = 1ull << i % 64;

	if (*w & bit)
		return false;
	*w |= bit;
	b->count++;
	return true;
}

bool bits_has(const struct bits *b, uint32_t i)
{
	if (!b->many)
		return i < 64 && (b->few >> i & 1);
	return i / 64 < b->words && (b->many[i / 64] >> i % 64 & 1);
}

void bits_fini(struct bits *b)
{
	mem_free(b->many);
	*b = (struct bits){0};
}

void loads_init(struct loads *ls)
{
	*ls = (struct loads){0};
	map_init(&ls->by_id, SIZE_MAX / 64);
	list_init(&ls->open);
	list_init(&ls->committed);
}

static void free_parts(struct loads *ls, struct load *l)
{
	while (l->parts) {
		struct load_part *next = l->parts->next;

		mem_free(l->parts);
		l->parts = next;
	}
	if (!l->committed)
		ls->parts_bytes -= l->parts_bytes;
	l->parts_n = l->parts_bytes = 0;
}

void load_free(struct loads *ls, struct load *l)
{
	list_remove(&l->link);
	free_parts(ls, l);
	if (l->states) {
		bits_fini(&l->states->over);
		bits_fini(&l->states->failed);
		buf_free(&l->states->texts);
		buf_free(&l->states->deferrals);
		mem_free(l->states);
	}
	mem_free(l->sender);
	mem_free(l);
}

void loads_fini(struct loads *ls)
{
	size_t at = 0;
	uint64_t id;
	void *l;

	while ((l = map_next(&ls->by_id, &at, &id)))
		if (l != OVER)
			load_free(ls, l);
	map_fini(&ls->by_id);
}

struct load *loads_find(const struct loads *ls, uint64_t id)
{
	void *l = map_get(&ls->by_id, id);

	return l == OVER ? NULL : l;
}

bool loads_is_over(const struct loads *ls, uint64_t id)
{
	return map_get(&ls->by_id, id) == OVER;
}

struct load *loads_get(struct loads *ls, uint64_t id)
{
	struct load *l = map_get(&ls->by_id, id);

	check(l != OVER);
	if (l)
		return l;
	l = mem_new(sizeof(*l));
	l->id = id;
	list_add_end(&ls->open, &l->link);
	check(map_put(&ls->by_id, id, l));
	return l;
}

void loads_drop(struct loads *ls, struct load *l)
{
	map_remove(&ls->by_id, l->id);
	load_free(ls, l);
}

void loads_over(struct loads *ls, struct load *l)
{
	check(map_put(&ls->by_id, l->id, OVER));
	load_free(ls, l);
}

void loads_forget_over(struct loads *ls)
{
	size_t at = 0;
	uint64_t id;
	void *l;

	while ((l = map_next(&ls->by_id, &at, &id)))
		if (l == OVER)
			map_remove(&ls->by_id, id);
}

struct load *loads_take(struct loads *ls)
{
	struct link *first = list_first(&ls->committed);

	if (!first)
		return NULL;
	list_remove(first);
	return owner_of(first, struct load, link);
}

void loads_shrink(struct loads *ls)
{
	check(list_is_empty(&ls->open) && list_is_empty(&ls->committed));
	map_fini(&ls->by_id);
	map_init(&ls->by_id, SIZE_MAX / 64);
}

void loads_trim(struct loads *ls)
{
	while (ls->parts_bytes > LOAD_PARTS_MAX) {
		struct link *first = list_first(&ls->open);

		check(first);
		loads_drop(ls, owner_of(first, struct load, link));
	}
}

static struct load_part *part_new(const struct record *r)
{
	struct rec_rcpt head;
	struct span packed = span_from(r->body, sizeof(head));
	struct load_part *p = mem_new(sizeof(*p) + packed.n);

	memcpy(&head, r->body.p, sizeof(head));
	p->number = r->head.number;
	p->first = head.first;
	p->count = head.count;
	p->flags = r->head.flags;
	p->n = (uint32_t)packed.n;
	if (packed.n > 0)
		memcpy(p->packed, packed.p, packed.n);
	return p;
}

/* Each address takes its length at least; numbers stay where a bitmap can follow. */
static bool part_is_sane(const struct record *r)
{
	struct rec_rcpt head;

	memcpy(&head, r->body.p, sizeof(head));
	return head.count <= r->body.n / 2 && head.first < LOAD_NUMBERS_MAX &&
	       head.count < LOAD_NUMBERS_MAX - head.first;
}

/* A part that is here already is a copy and says the same. */
void load_part(struct loads *ls, struct load *l, const struct record *r)
{
	struct load_part **at = &l->parts, *p;

	check(r->body.n >= sizeof(struct rec_rcpt));
	if (!part_is_sane(r))
		return;
	while (*at && (*at)->number < r->head.number)
		at = &(*at)->next;
	if (*at && (*at)->number == r->head.number)
		return;
	p = part_new(r);
	p->next = *at;
	*at = p;
	l->parts_n++;
	l->parts_bytes += p->n;
	if (!l->committed)
		ls->parts_bytes += p->n;
}

void load_msg(struct loads *ls, struct load *l, const struct record *r,
	      const struct msg_view *v)
{
	struct span replay;

	if (r->pos > l->pos)                      /* of copies the one at the highest is kept */
		l->pos = r->pos;
	if (l->committed)
		return;
	list_remove(&l->link);
	list_add_end(&ls->committed, &l->link);
	ls->parts_bytes -= l->parts_bytes;
	l->committed = true;
	l->arrival_us = v->m->arrival_us;
	l->size = v->m->size;
	l->rcpts = v->m->rcpts;
	l->rcpt_parts = v->m->rcpt_parts;
	l->uid = v->m->uid;
	l->pid = v->m->pid;
	if (msg_extra(v, EXTRA_REPLAY, &replay) && replay.n == sizeof(l->replay_of))
		memcpy(&l->replay_of, replay.p, sizeof(l->replay_of));
	l->sender_n = (uint16_t)v->sender.n;
	if (v->sender.n == 0)
		return;
	l->sender = mem_new(v->sender.n);
	memcpy(l->sender, v->sender.p, v->sender.n);
}

static struct load_states *states_of(struct load *l)
{
	if (l->states)
		return l->states;
	l->states = mem_new(sizeof(*l->states));
	buf_init(&l->states->texts, LOAD_STATES_MAX);
	buf_init(&l->states->deferrals, LOAD_STATES_MAX);
	return l->states;
}

static bool range_is_sane(struct msg_range range)
{
	return range.first <= range.last && range.last < LOAD_NUMBERS_MAX;
}

void load_settle(struct load *l, struct msg_range range)
{
	struct load_states *s = states_of(l);

	if (!range_is_sane(range))
		return;
	for (uint32_t i = range.first; i <= range.last; i++)
		bits_set(&s->over, i);
}

static void load_failed(struct load *l, const struct record *r, const struct state_view *v)
{
	struct load_states *s = states_of(l);
	struct text_at at = {.pos = r->pos, .number = r->head.number};

	for (uint32_t k = 0; k < v->s->ranges_n; k++) {
		struct msg_range range = range_at(v->ranges, k);

		if (!range_is_sane(range))
			continue;
		for (uint32_t i = range.first; i <= range.last; i++)
			bits_set(&s->failed, i);
	}
	check(buf_add(&s->texts, span_of(&at, sizeof(at))));
}

static void load_deferred(struct load *l, const struct record *r, const struct state_view *v)
{
	for (uint32_t k = 0; k < v->s->ranges_n; k++) {
		struct load_deferral d = {
			.range = range_at(v->ranges, k),
			.next_us = v->s->next_us,
			.pos = r->pos,
			.attempt = v->s->attempt,
		};

		if (range_is_sane(d.range))
			check(buf_add(&states_of(l)->deferrals, span_of(&d, sizeof(d))));
	}
}

void load_state(struct load *l, const struct record *r, const struct state_view *v)
{
	switch ((enum outcome)v->s->outcome) {
	case OUTCOME_DELIVERED:
	case OUTCOME_SETTLED:
	case OUTCOME_DROPPED:
		for (uint32_t k = 0; k < v->s->ranges_n; k++)
			load_settle(l, range_at(v->ranges, k));
		break;
	case OUTCOME_FAILED:
	case OUTCOME_CANCELLED: load_failed(l, r, v); break;
	case OUTCOME_DEFERRED: load_deferred(l, r, v); break;
	}
}

bool load_is_over(const struct load *l)
{
	return l->committed && (l->states ? l->states->over.count : 0) >= l->rcpts;
}

bool load_is_whole(const struct load *l)
{
	return l->committed && l->parts_n >= l->rcpt_parts;
}
