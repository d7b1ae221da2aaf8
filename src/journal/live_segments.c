/* Segments have slots, so that 16 bits name one.  A slot is given again only when no ref names
 * it any more, and then in a circle: refs of a message are in order of time nearly always, and
 * one that is added comes behind the others. */
#include "journal/live_parts.h"

#include "core/pool.h"

#include <stdlib.h>
#include <string.h>

void *live_grow(struct live *l, void *old, size_t old_n, size_t n)
{
	l->bytes += n - old_n;
	return mem_grow(old, old_n, n);
}

void live_release(struct live *l, void *p, size_t n)
{
	l->bytes -= n;
	mem_free(p);
}

uint64_t live_pos(const struct live *l, ref r)
{
	return l->slots[ref_slot(r)].s.number * l->segment_size +
	       (r >> 21 & ((1u << 27) - 1)) * 8;
}

static void remember(struct live *l, uint64_t number, uint32_t slot)
{
	l->start = number * l->segment_size;
	l->end = l->start + l->segment_size;
	l->slot = slot;
}

static bool is_free(const struct slot *s)
{
	return !s->s.number && !s->refs;
}

static void grow_slots(struct live *l)
{
	uint32_t cap = l->slots_cap ? 2 * l->slots_cap : 64;

	l->slots = live_grow(l, l->slots, l->slots_cap * sizeof(*l->slots),
			     cap * sizeof(*l->slots));
	l->slots_cap = cap;
}

static uint32_t take_slot(struct live *l)
{
	uint32_t at = l->slot_last;

	if (l->slots_n < LIVE_SLOTS_MAX) {
		if (l->slots_n == l->slots_cap)
			grow_slots(l);
		l->slot_last = l->slots_n;
		return l->slots_n++;
	}
	do {
		at = (at + 1) % LIVE_SLOTS_MAX;
		check(at != l->slot_last);
	} while (!is_free(&l->slots[at]));
	l->slot_last = at;
	return at;
}

/* Where a number is, or would be, among those that are not gone. */
static uint32_t order_find(const struct live *l, uint64_t number)
{
	uint32_t low = 0, high = l->order_n;

	while (low < high) {
		uint32_t mid = low + (high - low) / 2;

		if (l->slots[l->order[mid]].s.number < number)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

static uint32_t make_slot(struct live *l, uint64_t number)
{
	uint32_t slot = take_slot(l), at = order_find(l, number);

	if (l->order_n == l->order_cap) {
		uint32_t cap = l->order_cap ? 2 * l->order_cap : 64;

		l->order = live_grow(l, l->order, l->order_cap * sizeof(*l->order),
				     cap * sizeof(*l->order));
		l->order_cap = cap;
	}
	memmove(l->order + at + 1, l->order + at, (l->order_n - at) * sizeof(*l->order));
	l->order[at] = slot;
	l->order_n++;
	l->slots[slot].s.number = number;
	check(map_put(&l->by_number, number, (void *)(uintptr_t)(slot + 1)));
	return slot;
}

bool live_slot_find(const struct live *l, uint64_t pos, uint32_t *ret)
{
	uintptr_t slot;

	*ret = l->slot;
	if (pos >= l->start && pos < l->end)
		return true;
	slot = (uintptr_t)map_get(&l->by_number, pos / l->segment_size);
	*ret = (uint32_t)slot - 1;
	return slot;
}

uint32_t live_slot(struct live *l, uint64_t pos)
{
	uint32_t slot;

	if (pos >= l->start && pos < l->end)
		return l->slot;
	if (!live_slot_find(l, pos, &slot))
		slot = make_slot(l, pos / l->segment_size);
	remember(l, pos / l->segment_size, slot);
	return slot;
}

static void clear(struct live *l, struct slot *s)
{
	live_release(l, s->extra, s->extra_cap * sizeof(*s->extra));
	*s = (struct slot){0};
}

void live_slot_unref(struct live *l, uint32_t slot)
{
	struct slot *s = &l->slots[slot];

	check(s->refs > 0);
	if (--s->refs == 0 && !s->s.number)
		clear(l, s);
}

/* An entry whose first MSG is here costs nothing but its own link. */
void live_chain(struct live *l, uint32_t slot, uint32_t handle)
{
	struct slot *s = &l->slots[slot];
	struct entry *e = live_table_at(&l->table, handle);

	if (!(e->flags & ENTRY_CHAINED)) {
		e->flags |= ENTRY_CHAINED;
		e->next = s->chain;
		s->chain = handle + 1;
		return;
	}
	if (s->extra_n == s->extra_cap) {
		uint32_t cap = s->extra_cap ? 2 * s->extra_cap : 16;

		s->extra = live_grow(l, s->extra, s->extra_cap * sizeof(*s->extra),
				     cap * sizeof(*s->extra));
		s->extra_cap = cap;
	}
	s->extra[s->extra_n++] = handle;
}

void live_slot_gone(struct live *l, uint32_t slot)
{
	struct slot *s = &l->slots[slot];
	uint32_t at = order_find(l, s->s.number);

	memmove(l->order + at, l->order + at + 1, (l->order_n - at - 1) * sizeof(*l->order));
	l->order_n--;
	map_remove(&l->by_number, s->s.number);
	l->start = l->end = 0;
	s->s.number = 0;
	if (s->refs == 0)
		clear(l, s);
}

void live_slots_fini(struct live *l)
{
	for (uint32_t i = 0; i < l->slots_n; i++)
		mem_free(l->slots[i].extra);
	mem_free(l->slots);
	mem_free(l->order);
	mem_free(l->list);
	map_fini(&l->by_number);
}

const struct live_segment *live_segment(const struct live *l, uint64_t number)
{
	uint32_t slot;

	return live_slot_find(l, number * l->segment_size, &slot) ? &l->slots[slot].s : NULL;
}

const struct live_segment *live_segments(const struct live *l, uint32_t *ret_n)
{
	struct live *own = (struct live *)(uintptr_t)l; /* the list is only a copy */

	mem_free(own->list);
	own->list = mem_new((l->order_n + 1) * sizeof(*l->list));
	for (uint32_t i = 0; i < l->order_n; i++)
		own->list[i] = l->slots[l->order[i]].s;
	*ret_n = l->order_n;
	return l->list;
}
