/* An ACT is for the messages with an id below its own (0: for all).  It stays while one of them
 * is in the queue.
 *
 * Acts are in order of their bounds; each counts the queue's messages between the bound before
 * it and its own.  So those that are not needed any more are the first ones, up to the first
 * that counts something. */
#include "journal/live_parts.h"

#include "core/pool.h"

#include <string.h>

/* The first act that is for this id. */
static uint32_t act_for(const struct live *l, uint64_t id)
{
	uint32_t low = 0, high = l->acts_n;

	while (low < high) {
		uint32_t mid = low + (high - low) / 2;

		if (l->acts[mid].bound <= id)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

static void set_live(struct live *l, struct act *a, bool is_live)
{
	uint64_t *live = &l->slots[ref_slot(a->at)].s.live;

	if (a->is_live != is_live)
		*live += is_live ? ref_size(a->at) : -ref_size(a->at);
	a->is_live = is_live;
}

static void refresh(struct live *l)
{
	uint32_t first = 0;

	while (first < l->acts_n && l->acts[first].below == 0)
		set_live(l, &l->acts[first++], false);
	for (uint32_t i = first; i < l->acts_n; i++)
		set_live(l, &l->acts[i], true);
}

/* Not while an entry is weighed: then a message is out of the count for a moment. */
void live_acts_tidy(struct live *l)
{
	uint32_t first = 0;

	while (l->ordered && first < l->acts_n && !l->acts[first].is_live)
		live_slot_unref(l, ref_slot(l->acts[first++].at));
	if (first == 0)
		return;
	l->bytes -=
		first * sizeof(*l->acts); /* the next live_grow() starts from what is left */
	l->acts_n -= first;
	memmove(l->acts, l->acts + first, l->acts_n * sizeof(*l->acts));
}

static uint64_t count_between(const struct live *l, uint64_t from, uint64_t to)
{
	uint64_t at = 0, n = 0;
	uint32_t h;

	while ((h = live_table_next(&l->table, &at)) != ENTRY_NONE) {
		const struct entry *e = live_table_at(&l->table, h);

		n += e->msg && !(e->flags & ENTRY_OVER) && e->id >= from && e->id < to;
	}
	return n;
}

void live_act(struct live *l, uint64_t bound, ref r)
{
	struct act a = {.bound = bound ? bound : UINT64_MAX, .at = r};
	uint32_t k = act_for(l, a.bound - 1);

	if (k == l->acts_n &&
	    a.bound > l->last_id) { /* nearly always: no need to look at all */
		a.below = l->messages;
		for (uint32_t i = 0; i < k; i++)
			a.below -= l->acts[i].below;
	} else {
		a.below = count_between(l, k ? l->acts[k - 1].bound : 0, a.bound);
	}
	if (k < l->acts_n)
		l->acts[k].below -= a.below;
	l->slots[ref_slot(r)].refs++;
	l->acts = live_grow(l, l->acts, l->acts_n * sizeof(*l->acts),
			    (l->acts_n + 1) * sizeof(*l->acts));
	memmove(l->acts + k + 1, l->acts + k, (l->acts_n - k) * sizeof(*l->acts));
	l->acts[k] = a;
	l->acts_n++;
	refresh(l);
	live_acts_tidy(l);
}

static struct act *act_at(const struct live *l, uint64_t place)
{
	for (uint32_t i = 0; i < l->acts_n; i++)
		if (ref_place(l->acts[i].at) == place)
			return &l->acts[i];
	return NULL;
}

bool live_act_wanted(const struct live *l, uint64_t place)
{
	const struct act *a = act_at(l, place);

	return a && a->is_live;
}

void live_act_moved(struct live *l, uint64_t from, ref r)
{
	struct act *a = act_at(l, from);

	if (!a)
		return;
	set_live(l, a, false);
	live_slot_unref(l, ref_slot(a->at));
	a->at = r;
	l->slots[ref_slot(r)].refs++;
	refresh(l);
}

void live_acts_count(struct live *l, uint64_t id, int sign)
{
	uint32_t k = act_for(l, id);

	if (k == l->acts_n)
		return;
	l->acts[k].below += (uint64_t)(int64_t)sign;
	if (l->acts[k].below == 0 || (l->acts[k].below == 1 && sign > 0))
		refresh(l);
}

void live_acts_gone(struct live *l, uint32_t slot)
{
	for (uint32_t i = l->acts_n; i-- > 0;) {
		if (ref_slot(l->acts[i].at) != slot)
			continue;
		if (i + 1 < l->acts_n)
			l->acts[i + 1].below += l->acts[i].below;
		live_slot_unref(l, slot);
		l->bytes -= sizeof(*l->acts);
		l->acts_n--;
		memmove(l->acts + i, l->acts + i + 1, (l->acts_n - i) * sizeof(*l->acts));
	}
}

void live_acts_fini(struct live *l)
{
	mem_free(l->acts);
}
