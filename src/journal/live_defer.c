/* Which deferral is the latest of a recipient.
 *
 * Nearly always there is one recipient, and one deferral: an ITEM_DEFER among the entry's refs.
 * Else each recipient names its latest one, and a deferral that no recipient names is gone. */
#include "journal/live_parts.h"

#include "core/pool.h"

static bool is_newer(const struct live *l, uint32_t attempt, ref at, uint32_t than, ref than_at)
{
	return attempt != than ? attempt > than : live_pos(l, at) > live_pos(l, than_at);
}

static ref *inline_deferral(const struct entry *e)
{
	uint32_t n;
	ref *v = live_items(e, &n);

	for (uint32_t i = 0; i < n; i++)
		if (ref_item(v[i]) == ITEM_DEFER)
			return &v[i];
	return NULL;
}

static uint32_t attempt_of(const struct state_view *v)
{
	return v->s->attempt < (1u << 24) ? v->s->attempt : (1u << 24) - 1;
}

/* ---- one recipient ---- */

static void deferred_inline(struct live *l, struct entry *e, ref r, uint32_t attempt)
{
	ref *old = inline_deferral(e);

	if (e->flags & ENTRY_FAILED || e->over & 1)
		return;
	if (old && !is_newer(l, attempt, r, e->attempt, *old))
		return;
	if (old)
		live_item_end(l, e, old);
	e->attempt = attempt & ((1u << 24) - 1);
	live_item_add(l, e, r);
}

static bool is_inline(const struct entry *e, const struct state_view *v)
{
	struct msg_range range;
	uint32_t n;

	if (e->flags & ENTRY_FAT || v->s->ranges_n != 1)
		return false;
	range = range_at(v->ranges, 0);
	(void)live_items(e, &n);
	return range.first == 0 && range.last == 0 && (n < ITEMS_INLINE || inline_deferral(e));
}

/* ---- many ---- */

static uint32_t take_deferral(struct live *l, struct fat *f)
{
	uint32_t i = f->deferrals_free, n = f->deferrals_n;

	if (!i) {
		f->deferrals = live_grow(l, f->deferrals, n * sizeof(*f->deferrals),
					 (n ? 2 * n : 2) * sizeof(*f->deferrals));
		f->deferrals_n = n ? 2 * n : 2;
		for (i = f->deferrals_n; i > n; i--) {
			f->deferrals[i - 1].left = f->deferrals_free;
			f->deferrals_free = i;
		}
		i = n + 1;
	}
	f->deferrals_free = f->deferrals[i - 1].left;
	return i - 1;
}

static void give_deferral(struct fat *f, uint32_t i)
{
	f->deferrals[i] = (struct deferral){.left = f->deferrals_free};
	f->deferrals_free = i + 1;
}

static void end_deferral(struct live *l, struct entry *e, uint32_t i)
{
	ref at = e->u.fat->deferrals[i].at;

	live_count_item(l, e, at, -1);
	live_slot_unref(l, ref_slot(at));
	give_deferral(e->u.fat, i);
}

static uint32_t *latest_of(struct live *l, struct fat *f, uint32_t number)
{
	if (number >= f->latest_n) {
		uint32_t want = f->latest_n ? f->latest_n : 8;

		while (want <= number)
			want *= 2;
		f->latest = live_grow(l, f->latest, f->latest_n * sizeof(*f->latest),
				      want * sizeof(*f->latest));
		f->latest_n = want;
	}
	return &f->latest[number];
}

static void take_latest(struct live *l, struct entry *e, uint32_t number, uint32_t mine)
{
	struct fat *f = e->u.fat;
	struct deferral *d = &f->deferrals[mine], *old;
	uint32_t *latest;

	if (live_over_has(e, number))
		return;
	latest = latest_of(l, f, number);
	if (*latest == LATEST_FAILED || *latest == mine + 1)
		return;
	old = *latest ? &f->deferrals[*latest - 1] : NULL;
	if (old && !is_newer(l, d->attempt, d->at, old->attempt, old->at))
		return;
	if (old && --old->left == 0)
		end_deferral(l, e, *latest - 1);
	*latest = mine + 1;
	d->left++;
}

static void deferred_many(struct live *l, struct entry *e, ref r, const struct state_view *v)
{
	struct fat *f = live_fat(l, e);
	uint32_t mine = take_deferral(l, f);

	f->deferrals[mine] = (struct deferral){.at = r, .attempt = attempt_of(v)};
	for (uint32_t i = 0; i < v->s->ranges_n; i++) {
		struct msg_range range = range_at(v->ranges, i);

		if (!live_range_ok(range))
			continue;
		for (uint32_t k = range.first; k <= range.last && k < live_numbers(e); k++)
			take_latest(l, e, k, mine);
	}
	if (f->deferrals[mine].left == 0) {
		give_deferral(f, mine);
		return;
	}
	l->slots[ref_slot(r)].refs++;
	live_count_item(l, e, r, 1);
}

void live_deferred(struct live *l, struct entry *e, ref r, const struct state_view *v)
{
	if (is_inline(e, v))
		deferred_inline(l, e, r, attempt_of(v));
	else
		deferred_many(l, e, r, v);
}

void live_not_deferred(struct live *l, struct entry *e, uint32_t number, bool failed)
{
	struct fat *f;
	uint32_t *latest;
	ref *old;

	if (!(e->flags & ENTRY_FAT) && number == 0) {
		old = inline_deferral(e);
		if (old)
			live_item_end(l, e, old);
		if (failed)
			e->flags |= ENTRY_FAILED;
		return;
	}
	if (!failed && (!(e->flags & ENTRY_FAT) || number >= e->u.fat->latest_n))
		return;
	f = live_fat(l, e);
	latest = latest_of(l, f, number);
	if (*latest && *latest != LATEST_FAILED && --f->deferrals[*latest - 1].left == 0)
		end_deferral(l, e, *latest - 1);
	*latest = failed || *latest == LATEST_FAILED ? LATEST_FAILED : 0;
}

/* By way of the recipients it speaks of: there may be very many deferrals. */
ref *live_deferral(const struct live *l, const struct entry *e, uint64_t place,
		   const struct state_view *v)
{
	const struct fat *f = e->u.fat;
	ref *at;

	if (!(e->flags & ENTRY_FAT)) {
		at = inline_deferral(e);
		return at && ref_place(*at) == place ? at : NULL;
	}
	for (uint32_t i = 0; i < v->s->ranges_n; i++) {
		struct msg_range range = range_at(v->ranges, i);

		for (uint32_t k = range.first; k <= range.last && k < f->latest_n; k++) {
			uint32_t d = f->latest[k];

			if (d && d != LATEST_FAILED &&
			    ref_place(f->deferrals[d - 1].at) == place)
				return &f->deferrals[d - 1].at;
		}
	}
	return NULL;
}

void live_deferral_moved(struct live *l, struct entry *e, ref *at, ref to)
{
	if (!(e->flags & ENTRY_FAT)) {
		live_item_end(l, e, at);
		live_item_add(l, e, to);
		return;
	}
	live_count_item(l, e, *at, -1);
	live_slot_unref(l, ref_slot(*at));
	*at = to;
	l->slots[ref_slot(to)].refs++;
	live_count_item(l, e, to, 1);
}
