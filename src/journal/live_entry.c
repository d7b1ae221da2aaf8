/* An entry begins small: three refs, 32 recipients.  What outgrows it gets a struct fat; of
 * that only what is needed is allocated.
 *
 * Refs are in order of place (slot, offset), so that one is found by where the record lies.  In
 * a fat one an ended ref becomes a hole, and holes are squeezed out when they are more than
 * half. */
#include "journal/live_parts.h"

#include "core/pool.h"

#include <string.h>

#define ITEMS_FIRST 8u

static void squeeze(struct fat *f)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < f->n; i++)
		if (ref_item(f->items[i]) != ITEM_HOLE)
			f->items[n++] = f->items[i];
	f->n = n;
	f->holes = 0;
}

/* ---- recipients that are over ---- */

uint32_t live_over_n(const struct entry *e)
{
	return e->flags & ENTRY_FAT ? e->u.fat->over_n : (uint32_t)__builtin_popcount(e->over);
}

bool live_over_has(const struct entry *e, uint32_t number)
{
	const struct fat *f = e->u.fat;

	if (!(e->flags & ENTRY_FAT))
		return number < 32 && e->over >> number & 1;
	return number / 64 < f->over_words && f->over[number / 64] >> number % 64 & 1;
}

static void over_grow(struct live *l, struct fat *f, uint32_t words)
{
	uint32_t want = f->over_words ? f->over_words : 1;

	while (want < words)
		want *= 2;
	f->over = live_grow(l, f->over, f->over_words * sizeof(*f->over),
			    want * sizeof(*f->over));
	f->over_words = want;
}

bool live_over_set(struct live *l, struct entry *e, uint32_t number)
{
	struct fat *f;

	if (live_over_has(e, number))
		return false;
	if (number < 32 && !(e->flags & ENTRY_FAT)) {
		e->over |= 1u << number;
		return true;
	}
	f = live_fat(l, e);
	if (number / 64 >= f->over_words)
		over_grow(l, f, number / 64 + 1);
	f->over[number / 64] |= 1ull << number % 64;
	f->over_n++;
	return true;
}

/* ---- refs ---- */

ref *live_items(const struct entry *e, uint32_t *ret_n)
{
	struct entry *own = (struct entry *)(uintptr_t)e;
	uint32_t n = 0;

	if (e->flags & ENTRY_FAT) {
		*ret_n = e->u.fat->n;
		return e->u.fat->items;
	}
	while (n < ITEMS_INLINE && e->u.items[n])
		n++;
	*ret_n = n;
	return own->u.items;
}

/* The first one that is not in front of this place. */
static uint32_t item_find(const ref *v, uint32_t n, uint64_t place)
{
	uint32_t low = 0, high = n;

	if (n == 0 || ref_place(v[n - 1]) < place)
		return n;
	while (low < high) {
		uint32_t mid = low + (high - low) / 2;

		if (ref_place(v[mid]) < place)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

ref *live_item(const struct entry *e, uint64_t place)
{
	uint32_t n, at;
	ref *v = live_items(e, &n);

	at = item_find(v, n, place);
	return at < n && ref_place(v[at]) == place ? &v[at] : NULL;
}

/* An entry that can't hold one more, or a bit more, becomes fat. */
struct fat *live_fat(struct live *l, struct entry *e)
{
	struct fat *f;
	uint32_t n;
	const ref *v;

	if (e->flags & ENTRY_FAT)
		return e->u.fat;
	f = live_grow(l, NULL, 0, sizeof(*f));
	v = live_items(e, &n);
	f->cap = ITEMS_FIRST;
	f->items = live_grow(l, NULL, 0, f->cap * sizeof(*f->items));
	for (uint32_t i = 0; i < n; i++) {
		if (ref_item(v[i]) == ITEM_DEFER) {
			f->deferrals = live_grow(l, NULL, 0, sizeof(*f->deferrals));
			f->deferrals_n = 1;
			f->deferrals[0] = (struct deferral){v[i], e->attempt, 1};
		} else {
			f->items[f->n++] = v[i];
		}
	}
	if (f->deferrals_n || e->flags & ENTRY_FAILED) {
		f->latest = live_grow(l, NULL, 0, sizeof(*f->latest));
		f->latest_n = 1;
		f->latest[0] = e->flags & ENTRY_FAILED ? LATEST_FAILED : 1;
	}
	if (e->over) {
		over_grow(l, f, 1);
		f->over[0] = e->over;
		f->over_n = (uint32_t)__builtin_popcount(e->over);
	}
	e->flags |= ENTRY_FAT;
	e->u.fat = f;
	return f;
}

static void insert(struct live *l, struct fat *f, ref r)
{
	uint32_t at;

	if (f->holes > f->n / 2)
		squeeze(f);
	if (f->n == f->cap) {
		uint32_t cap = f->cap ? 2 * f->cap : ITEMS_FIRST;

		f->items = live_grow(l, f->items, f->cap * sizeof(*f->items),
				     cap * sizeof(*f->items));
		f->cap = cap;
	}
	at = item_find(f->items, f->n, ref_place(r));
	memmove(f->items + at + 1, f->items + at, (f->n - at) * sizeof(*f->items));
	f->items[at] = r;
	f->n++;
}

/* Not for a place where there is one already. */
void live_item_add(struct live *l, struct entry *e, ref r)
{
	uint32_t n;
	ref *v = live_items(e, &n);

	l->slots[ref_slot(r)].refs++;
	if (!(e->flags & ENTRY_FAT) && n < ITEMS_INLINE) {
		uint32_t at = item_find(v, n, ref_place(r));

		memmove(v + at + 1, v + at, (n - at) * sizeof(*v));
		v[at] = r;
	} else {
		insert(l, live_fat(l, e), r);
	}
	live_count_item(l, e, r, 1);
}

void live_item_end(struct live *l, struct entry *e, ref *item)
{
	uint32_t n, at;
	ref *v, r = *item;

	live_count_item(l, e, r, -1);
	if (e->flags & ENTRY_FAT) {
		*item = ref_as(r, ITEM_HOLE);
		e->u.fat->holes++;
	} else {
		v = live_items(e, &n);
		at = (uint32_t)(item - v);
		memmove(v + at, v + at + 1, (n - at - 1) * sizeof(*v));
		v[n - 1] = 0;
	}
	live_slot_unref(l, ref_slot(r));
}

/* ---- what counts ---- */

static bool all_in(const struct entry *e, uint32_t slot)
{
	const struct fat *f = e->flags & ENTRY_FAT ? e->u.fat : NULL;

	if (ref_slot(e->msg) != slot)
		return false;
	for (uint32_t i = 0; f && i < f->stale_n; i++)
		if (ref_slot(f->stale[i]) != slot)
			return false;
	return true;
}

bool live_over_needed(const struct entry *e, uint32_t slot)
{
	return e->msg && (!(e->flags & ENTRY_OVER) || !all_in(e, slot));
}

/* The failures that this bounce settles would come back without its MSG. */
bool live_settles(const struct live *l, const struct entry *e)
{
	uint32_t parent;

	if (!(e->flags & ENTRY_FAT) || !e->u.fat->parent || !e->msg)
		return false;
	parent = live_table_find(&l->table, e->u.fat->parent);
	return parent != ENTRY_NONE &&
	       live_over_needed(live_table_at(&l->table, parent), ref_slot(e->msg));
}

void live_count_item(struct live *l, const struct entry *e, ref r, int sign)
{
	bool over = e->flags & ENTRY_OVER, counts = false;

	switch (ref_item(r)) {
	case ITEM_HOLE:
	case ITEM_MSG: return;
	case ITEM_PART: counts = !over; break;
	case ITEM_OVER: counts = live_over_needed(e, ref_slot(r)); break;
	case ITEM_FAILED:
	case ITEM_DEFER: counts = e->msg && !over; break;
	}
	if (counts)
		l->slots[ref_slot(r)].s.live += (uint64_t)((int64_t)ref_size(r) * sign);
}

static void weigh_msg(struct live *l, const struct entry *e, int sign)
{
	struct live_segment *s = &l->slots[ref_slot(e->msg)].s;
	bool queued = !(e->flags & ENTRY_OVER);

	if (queued) {
		uint32_t over = live_over_n(e);

		s->messages += (uint32_t)sign;
		l->messages += (uint64_t)(int64_t)sign;
		l->left += (uint64_t)((int64_t)(e->rcpts > over ? e->rcpts - over : 0) * sign);
		if (l->acts_n)
			live_acts_count(l, e->id, sign);
	}
	if (queued || live_settles(l, e))
		s->live += (uint64_t)((int64_t)ref_size(e->msg) * sign);
}

/* Bounces that are over themselves, and count for what they say of this one. */
static void weigh_bounces(struct live *l, const struct entry *e, const struct fat *f, int sign)
{
	for (uint32_t i = 0; i < f->bounces_n; i++) {
		uint32_t h = live_table_find(&l->table, f->bounces[i]);
		const struct entry *b;

		if (h == ENTRY_NONE)
			continue;
		b = live_table_at(&l->table, h);
		if (b->flags & ENTRY_OVER && live_settles(l, b))
			l->slots[ref_slot(b->msg)].s.live +=
				(uint64_t)((int64_t)ref_size(b->msg) * sign);
	}
}

/* An open submission is counted once in each segment that has parts of it. */
void live_weigh_open(struct live *l, const struct entry *e, int sign)
{
	uint32_t n, last = UINT32_MAX;
	const ref *v = live_items(e, &n);

	for (uint32_t i = 0; i < n; i++)
		if (ref_item(v[i]) == ITEM_PART && ref_slot(v[i]) != last) {
			last = ref_slot(v[i]);
			l->slots[last].s.open += (uint32_t)sign;
		}
}

void live_weigh(struct live *l, struct entry *e, int sign)
{
	const struct fat *f = e->flags & ENTRY_FAT ? e->u.fat : NULL;
	uint32_t n;
	const ref *v = live_items(e, &n);

	for (uint32_t i = 0; i < n; i++)
		live_count_item(l, e, v[i], sign);
	for (uint32_t i = 0; f && i < f->deferrals_n; i++)
		if (f->deferrals[i].at)
			live_count_item(l, e, f->deferrals[i].at, sign);
	if (e->msg)
		weigh_msg(l, e, sign);
	else
		live_weigh_open(l, e, sign);
	if (f)
		weigh_bounces(l, e, f, sign);
}

static void end_items(struct live *l, struct entry *e, bool all)
{
	uint32_t n;
	ref *v = live_items(e, &n);

	for (uint32_t i = n; i-- > 0;)
		if (ref_item(v[i]) != ITEM_HOLE && (all || ref_item(v[i]) != ITEM_OVER))
			live_item_end(l, e, &v[i]);
}

static void end_deferrals(struct live *l, struct fat *f)
{
	for (uint32_t i = 0; i < f->deferrals_n; i++)
		if (f->deferrals[i].at)
			live_slot_unref(l, ref_slot(f->deferrals[i].at));
	live_release(l, f->deferrals, f->deferrals_n * sizeof(*f->deferrals));
	live_release(l, f->latest, f->latest_n * sizeof(*f->latest));
	f->deferrals = NULL;
	f->latest = NULL;
	f->deferrals_n = f->deferrals_free = f->latest_n = 0;
}

/* What only a message in the queue needs. */
static void forget_details(struct live *l, struct entry *e)
{
	struct fat *f = e->u.fat;

	e->flags |= ENTRY_OVER; /* nothing below counts any more */
	end_items(l, e, false);
	if (!(e->flags & ENTRY_FAT))
		return;
	end_deferrals(l, f);
	squeeze(f);
}

void live_regime(struct live *l, struct entry *e)
{
	if (e->msg && !(e->flags & ENTRY_OVER) && live_over_n(e) >= e->rcpts) {
		live_weigh(l, e, -1);
		forget_details(l, e);
		live_weigh(l, e, 1);
	}
}

static void fat_free(struct live *l, struct fat *f)
{
	end_deferrals(l, f);
	for (uint32_t i = 0; i < f->stale_n; i++)
		live_slot_unref(l, ref_slot(f->stale[i]));
	live_release(l, f->stale, f->stale_cap * sizeof(*f->stale));
	live_release(l, f->bounces, f->bounces_cap * sizeof(*f->bounces));
	live_release(l, f->items, f->cap * sizeof(*f->items));
	live_release(l, f->over, f->over_words * sizeof(*f->over));
	live_release(l, f, sizeof(*f));
}

static struct fat *fat_of(const struct live *l, uint64_t id)
{
	uint32_t h = live_table_find(&l->table, id);
	const struct entry *e = h == ENTRY_NONE ? NULL : live_table_at(&l->table, h);

	return e && e->flags & ENTRY_FAT ? e->u.fat : NULL;
}

/* The caller weighs. */
void live_unbind(struct live *l, struct fat *parent, uint64_t id)
{
	struct fat *f = fat_of(l, id);
	uint32_t n = 0;

	if (f)
		f->parent = 0;
	for (uint32_t i = 0; i < parent->bounces_n; i++)
		if (parent->bounces[i] != id)
			parent->bounces[n++] = parent->bounces[i];
	parent->bounces_n = n;
}

/* Neither as a parent nor as a bounce is it known any more. */
static void unbind_all(struct live *l, struct entry *e)
{
	struct fat *f = e->u.fat, *parent = f->parent ? fat_of(l, f->parent) : NULL;

	if (parent)
		live_unbind(l, parent, e->id);
	while (f->bounces_n > 0)
		live_unbind(l, f, f->bounces[0]);
}

void live_entry_free(struct live *l, uint32_t handle)
{
	struct entry *e = live_table_at(&l->table, handle);

	live_weigh(l, e, -1);
	e->flags |= ENTRY_OVER;
	if (e->msg)
		live_slot_unref(l, ref_slot(e->msg));
	e->msg = 0; /* over and without MSG: nothing counts */
	end_items(l, e, true);
	if (e->flags & ENTRY_FAT) {
		unbind_all(l, e);
		fat_free(l, e->u.fat);
	}
	live_table_remove(&l->table, handle);
}
