/* One entry a message (live_table.h), whose records that matter are refs in it (live_parts.h).
 * This file says what each record means; live_entry.c what then counts. */
#include "journal/live_parts.h"

#include "core/pool.h"

#include <string.h>

#define GONE_AT_ONCE 1000 /* messages that live_gone() looks at: well below a millisecond */
#define GONE_A_TIME  64   /* and each record after it; a message has three records and more */

struct live *live_new(uint64_t segment_size)
{
	struct live *l = mem_new(sizeof(*l));

	l->segment_size = segment_size;
	live_table_init(&l->table);
	map_init(&l->by_number, SIZE_MAX / 64);
	return l;
}

void live_free(struct live *l)
{
	uint64_t at = 0;
	uint32_t h;

	if (!l)
		return;
	while ((h = live_table_next(&l->table, &at)) != ENTRY_NONE)
		live_entry_free(l, h);
	live_acts_fini(l);
	live_slots_fini(l);
	live_table_fini(&l->table);
	mem_free(l->leaving);
	mem_free(l);
}

/* ---- refs ---- */

/* Its segment becomes known. */
static ref ref_of(struct live *l, const struct record *r, enum item item)
{
	uint64_t slot = live_slot(l, r->pos);
	uint64_t at = r->pos - l->start; /* live_slot() remembers it */

	return slot << 48 | at / 8 << 21 | (uint64_t)item << 18 | rec_size(r->head.n) / 8;
}

/* false: of a segment that nothing is known of */
static bool place_of(const struct live *l, uint64_t pos, uint64_t *ret)
{
	uint32_t slot;

	if (!live_slot_find(l, pos, &slot))
		return false;
	*ret = (uint64_t)slot << 27 | pos % l->segment_size / 8;
	return true;
}

static struct entry *entry_of(const struct live *l, uint64_t id)
{
	uint32_t h = live_table_find(&l->table, id);

	return h == ENTRY_NONE ? NULL : live_table_at(&l->table, h);
}

/* In order, what is unknown is over and gone. */
static struct entry *entry_if_any(struct live *l, uint64_t id)
{
	uint32_t h = live_table_find(&l->table, id);

	if (h == ENTRY_NONE && l->ordered)
		return NULL;
	return live_table_at(&l->table, h == ENTRY_NONE ? live_table_add(&l->table, id) : h);
}

/* ---- parts ---- */

static bool has_part_in(const struct entry *e, uint32_t slot)
{
	uint32_t n;
	const ref *v = live_items(e, &n);

	for (uint32_t i = n; i-- > 0;) /* the last one nearly always */
		if (ref_item(v[i]) == ITEM_PART && ref_slot(v[i]) == slot)
			return true;
	return false;
}

static void on_part(struct live *l, const struct record *r)
{
	struct entry *e = entry_of(l, r->head.id);
	ref at;

	if (!e && r->head.id < l->below)
		return;
	if (!e)
		e = live_table_at(&l->table, live_table_add(&l->table, r->head.id));
	if (e->flags & ENTRY_OVER)
		return;
	at = ref_of(l, r, ITEM_PART);
	if (!e->msg && !has_part_in(e, ref_slot(at)))
		l->slots[ref_slot(at)].s.open++;
	live_item_add(l, e, at);
}

/* ---- recipients ---- */

static uint64_t left_of(const struct entry *e)
{
	uint32_t over = live_over_n(e);

	return e->msg && !(e->flags & ENTRY_OVER) && e->rcpts > over ? e->rcpts - over : 0;
}

/* true: it says something new. */
static bool ranges_over(struct live *l, struct entry *e, struct span ranges)
{
	uint64_t before = left_of(e);
	bool news = false;

	for (uint32_t i = 0; i < ranges.n / sizeof(struct msg_range); i++) {
		struct msg_range range = range_at(ranges, i);

		for (uint32_t k = range.first; live_range_ok(range) && k <= range.last; k++)
			if (live_over_set(l, e, k)) {
				live_not_deferred(l, e, k, false);
				news = true;
			}
	}
	l->left -= before - left_of(e);
	return news;
}

static void ranges_failed(struct live *l, struct entry *e, struct span ranges)
{
	for (uint32_t i = 0; i < ranges.n / sizeof(struct msg_range); i++) {
		struct msg_range range = range_at(ranges, i);

		if (!live_range_ok(range))
			continue;
		for (uint32_t k = range.first; k <= range.last && k < live_numbers(e); k++)
			if (!live_over_has(e, k))
				live_not_deferred(l, e, k, true);
	}
}

static enum item item_of(const struct state_view *v)
{
	switch ((enum outcome)v->s->outcome) {
	case OUTCOME_DELIVERED:
	case OUTCOME_SETTLED:
	case OUTCOME_DROPPED: return ITEM_OVER;
	case OUTCOME_FAILED:
	case OUTCOME_CANCELLED: return ITEM_FAILED;
	case OUTCOME_DEFERRED: return ITEM_DEFER;
	}
	return ITEM_HOLE;
}

/* Of a message that is over, and of recipients that are, nothing more needs to be known. */
static void on_state(struct live *l, const struct record *r)
{
	struct state_view v;
	struct entry *e;

	if (!state_view(&r->head, r->body, &v))
		return;
	e = entry_if_any(l, r->head.id);
	if (!e || e->flags & ENTRY_OVER)
		return;
	switch (item_of(&v)) {
	case ITEM_OVER:
		if (ranges_over(l, e, v.ranges))
			live_item_add(l, e, ref_of(l, r, ITEM_OVER));
		live_regime(l, e);
		break;
	case ITEM_FAILED:
		ranges_failed(l, e, v.ranges);
		live_item_add(l, e, ref_of(l, r, ITEM_FAILED));
		break;
	case ITEM_DEFER: live_deferred(l, e, ref_of(l, r, ITEM_DEFER), &v); break;
	case ITEM_HOLE:
	case ITEM_PART:
	case ITEM_MSG: break;
	}
}

/* ---- messages ---- */

static bool has_msg_in(const struct entry *e, uint32_t slot)
{
	const struct fat *f = e->flags & ENTRY_FAT ? e->u.fat : NULL;

	if (e->msg && ref_slot(e->msg) == slot)
		return true;
	for (uint32_t i = 0; f && i < f->stale_n; i++)
		if (ref_slot(f->stale[i]) == slot)
			return true;
	return false;
}

static bool has_msg_at(const struct entry *e, uint64_t place)
{
	const struct fat *f = e->flags & ENTRY_FAT ? e->u.fat : NULL;

	if (e->msg && ref_place(e->msg) == place)
		return true;
	for (uint32_t i = 0; f && i < f->stale_n; i++)
		if (ref_place(f->stale[i]) == place)
			return true;
	return false;
}

static void add_stale(struct live *l, struct entry *e, ref r)
{
	struct fat *f = live_fat(l, e);

	if (f->stale_n == f->stale_cap) {
		f->stale = live_grow(l, f->stale, f->stale_cap * sizeof(*f->stale),
				     (f->stale_cap + 2) * sizeof(*f->stale));
		f->stale_cap += 2;
	}
	f->stale[f->stale_n++] = r;
}

/* The one at the highest position is the one that is kept. */
static void add_msg(struct live *l, uint32_t handle, ref r)
{
	struct entry *e = live_table_at(&l->table, handle);
	ref old = e->msg;

	if (has_msg_at(e, ref_place(r)))
		return;
	if (!has_msg_in(e, ref_slot(r)))
		live_chain(l, ref_slot(r), handle);
	l->slots[ref_slot(r)].refs++;
	live_weigh(l, e, -1);
	if (old && live_pos(l, old) > live_pos(l, r)) {
		add_stale(l, e, r);
	} else {
		e->msg = r;
		if (old)
			add_stale(l, e, old);
	}
	live_weigh(l, e, 1);
}

static void add_bounce(struct live *l, struct entry *parent, struct entry *bounce)
{
	struct fat *f = live_fat(l, parent);

	if (f->bounces_n == f->bounces_cap) {
		f->bounces = live_grow(l, f->bounces, f->bounces_cap * sizeof(*f->bounces),
				       (f->bounces_cap + 2) * sizeof(*f->bounces));
		f->bounces_cap += 2;
	}
	f->bounces[f->bounces_n++] = bounce->id;
	live_weigh(l, bounce, -1);
	live_fat(l, bounce)->parent = parent->id;
	live_weigh(l, bounce, 1);
}

/* e: of a bounce's MSG.  A copy of it says what is known. */
static void settle(struct live *l, struct entry *e, const struct msg_view *v)
{
	struct entry *parent;

	if (!v->m->parent || v->m->parent == e->id || v->m->parent == UINT64_MAX)
		return;
	parent = entry_if_any(l, v->m->parent);
	if (!parent || parent->flags & ENTRY_OVER || !ranges_over(l, parent, v->settles))
		return;
	add_bounce(l, parent, e);
	live_regime(l, parent);
}

static void on_msg(struct live *l, const struct record *r)
{
	struct msg_view v;
	struct entry *e;
	uint32_t h;

	if (!msg_view(&r->head, r->body, &v))
		return;
	h = live_table_find(&l->table, r->head.id);
	if (h == ENTRY_NONE)
		h = live_table_add(&l->table, r->head.id);
	e = live_table_at(&l->table, h);
	if (!e->msg)
		e->rcpts = v.m->rcpts;
	if (r->head.id > l->last_id)
		l->last_id = r->head.id;
	add_msg(l, h, ref_of(l, r, ITEM_MSG));
	live_regime(l, e);
	if (!(e->flags & ENTRY_FAT) || !e->u.fat->parent)
		settle(l, e, &v);
}

/* ---- what is fed ---- */

void live_record(struct live *l, const struct record *r)
{
	uint32_t slot;

	if (r->pos < l->segment_size || r->head.id == UINT64_MAX)
		return;
	if (l->leaving_n > 0)
		live_work(l, GONE_A_TIME);
	slot = live_slot(l, r->pos); /* may move all slots */
	l->slots[slot].s.bytes += rec_size(r->head.n);
	switch ((enum rec_type)r->head.type) {
	case REC_BODY:
	case REC_RCPT: on_part(l, r); break;
	case REC_MSG: on_msg(l, r); break;
	case REC_STATE: on_state(l, r); break;
	case REC_ACT: live_act(l, r->head.id, ref_of(l, r, ITEM_OVER)); break;
	case REC_NOP:
	case REC_MOVED:
	case REC_DICT:
	case REC_MANIFEST:
	case REC_SEAL:
	case REC_TYPES: break;
	}
	live_acts_tidy(l);
}

void live_abandon(struct live *l, uint64_t id)
{
	uint32_t h = live_table_find(&l->table, id);

	if (h != ENTRY_NONE && !live_table_at(&l->table, h)->msg)
		live_entry_free(l, h);
}

static bool has_parts(const struct entry *e)
{
	uint32_t n;
	const ref *v = live_items(e, &n);

	for (uint32_t i = 0; i < n; i++)
		if (ref_item(v[i]) == ITEM_PART)
			return true;
	return false;
}

void live_forget_parts(struct live *l, uint64_t below_id)
{
	uint64_t at = 0;
	uint32_t h;

	while ((h = live_table_next(&l->table, &at)) != ENTRY_NONE) {
		const struct entry *e = live_table_at(&l->table, h);

		if (!e->msg && (e->id < below_id || !has_parts(e)))
			live_entry_free(l, h);
	}
	l->ordered = true;
	l->below = below_id;
	live_acts_tidy(l);
}

/* ---- a segment goes ---- */

static bool has_msg_outside(const struct entry *e, uint32_t slot)
{
	const struct fat *f = e->flags & ENTRY_FAT ? e->u.fat : NULL;

	if (e->msg && ref_slot(e->msg) != slot)
		return true;
	for (uint32_t i = 0; f && i < f->stale_n; i++)
		if (ref_slot(f->stale[i]) != slot)
			return true;
	return false;
}

/* The highest of the others takes its place. */
static void promote(struct live *l, struct entry *e)
{
	struct fat *f = e->u.fat;
	uint32_t best = 0;

	for (uint32_t i = 1; i < f->stale_n; i++)
		if (live_pos(l, f->stale[i]) > live_pos(l, f->stale[best]))
			best = i;
	e->msg = f->stale[best];
	f->stale[best] = f->stale[--f->stale_n];
}

static void drop_stale(struct live *l, struct fat *f, uint32_t slot)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < f->stale_n; i++) {
		if (ref_slot(f->stale[i]) == slot)
			live_slot_unref(l, slot);
		else
			f->stale[n++] = f->stale[i];
	}
	f->stale_n = n;
}

/* It has a MSG elsewhere, so it is fat. */
static void leave(struct live *l, struct entry *e, uint32_t slot)
{
	struct fat *f = e->u.fat;

	live_weigh(l, e, -1);
	drop_stale(l, f, slot);
	if (ref_slot(e->msg) == slot) {
		live_slot_unref(l, slot);
		promote(l, e);
	}
	live_weigh(l, e, 1);
}

static void msg_gone(struct live *l, uint32_t handle, uint32_t slot)
{
	struct entry *e = live_table_at(&l->table, handle);

	if (has_msg_outside(e, slot))
		leave(l, e, slot);
	else
		live_entry_free(l, handle);
}

/* One message of a segment that is gone; false: there is none left. */
static bool gone_one(struct live *l, uint32_t slot)
{
	struct slot *s = &l->slots[slot];
	struct entry *e;
	uint32_t h;

	if (s->chain) {
		h = s->chain - 1;
		e = live_table_at(&l->table, h);
		s->chain = e->next;
		e->flags &= ~(unsigned)ENTRY_CHAINED & 255;
	} else if (s->extra_n) {
		h = s->extra[--s->extra_n];
	} else {
		return false;
	}
	msg_gone(l, h, slot);
	return true;
}

bool live_work(struct live *l, uint32_t messages)
{
	while (l->leaving_n > 0) {
		while (messages > 0 && gone_one(l, l->leaving[0]))
			messages--;
		if (messages == 0)
			return true;
		live_slot_unref(l, l->leaving[0]);
		l->leaving_n--;
		memmove(l->leaving, l->leaving + 1, l->leaving_n * sizeof(*l->leaving));
	}
	live_acts_tidy(l);
	return false;
}

/* The ref that is taken keeps the slot until its last message is looked at. */
void live_gone(struct live *l, uint64_t number)
{
	uint32_t slot;

	if (!live_slot_find(l, number * l->segment_size, &slot))
		return;
	if (l->leaving_n == l->leaving_cap) {
		uint32_t cap = l->leaving_cap ? 2 * l->leaving_cap : 16;

		l->leaving = live_grow(l, l->leaving, l->leaving_cap * sizeof(*l->leaving),
				       cap * sizeof(*l->leaving));
		l->leaving_cap = cap;
	}
	l->leaving[l->leaving_n++] = slot;
	l->slots[slot].refs++;
	live_acts_gone(l, slot);
	live_slot_gone(l, slot);
	live_work(l, GONE_AT_ONCE);
}

/* ---- copies ---- */

static void move_item(struct live *l, struct entry *e, ref *item, ref to)
{
	bool open = !e->msg;

	if (open)
		live_weigh_open(l, e, -1);
	live_item_end(l, e, item);
	live_item_add(l, e, to);
	if (open)
		live_weigh_open(l, e, 1);
}

static void move_if(struct live *l, struct entry *e, uint64_t from, ref to)
{
	ref *item = live_item(e, from);

	if (item && ref_item(*item) == ref_item(to))
		move_item(l, e, item, to);
}

/* A bounce that is over was copied as what it says of its parent. */
static void settled_instead(struct live *l, struct entry *e, uint64_t from, ref to)
{
	struct fat *f = e->flags & ENTRY_FAT ? e->u.fat : NULL;

	for (uint32_t i = 0; f && i < f->bounces_n; i++) {
		struct entry *b = entry_of(l, f->bounces[i]);

		if (!b || !has_msg_at(b, from) || b->u.fat->parent != e->id)
			continue;
		live_weigh(l, b, -1);
		live_unbind(l, f, b->id);
		live_weigh(l, b, 1);
		live_item_add(l, e, to);
		return;
	}
}

static void state_copied(struct live *l, const struct record *r, struct entry *e, uint64_t from)
{
	struct state_view v;
	ref *item, to;

	if (!state_view(&r->head, r->body, &v))
		return;
	to = ref_of(l, r, item_of(&v));
	switch (item_of(&v)) {
	case ITEM_OVER:
		item = live_item(e, from);
		if (item && ref_item(*item) == ITEM_OVER)
			move_item(l, e, item, to);
		else
			settled_instead(l, e, from, to);
		break;
	case ITEM_FAILED: move_if(l, e, from, to); break;
	case ITEM_DEFER:
		item = live_deferral(l, e, from, &v);
		if (item)
			live_deferral_moved(l, e, item, to);
		break;
	case ITEM_HOLE:
	case ITEM_PART:
	case ITEM_MSG: break;
	}
}

void live_copied(struct live *l, const struct record *r, uint64_t from)
{
	uint32_t h = live_table_find(&l->table, r->head.id);
	struct entry *e = h == ENTRY_NONE ? NULL : live_table_at(&l->table, h);
	ref at = ref_of(l, r, ITEM_HOLE);

	l->slots[ref_slot(at)].s.bytes += ref_size(at);
	if (!place_of(l, from, &from))
		return;
	if (r->head.type == REC_ACT)
		live_act_moved(l, from, ref_as(at, ITEM_OVER));
	if (!e)
		return;
	if (r->head.type == REC_BODY || r->head.type == REC_RCPT)
		move_if(l, e, from, ref_as(at, ITEM_PART));
	else if (r->head.type == REC_MSG && e->msg)
		add_msg(l, h, ref_as(at, ITEM_MSG));
	else if (r->head.type == REC_STATE)
		state_copied(l, r, e, from);
	live_acts_tidy(l);
}

/* ---- questions ---- */

static bool state_wanted(const struct live *l, const struct record *r, const struct entry *e,
			 uint64_t place)
{
	bool queued = e->msg && !(e->flags & ENTRY_OVER);
	struct state_view v;
	const ref *item;

	if (!state_view(&r->head, r->body, &v))
		return false;
	if (item_of(&v) == ITEM_DEFER)
		return queued && live_deferral(l, e, place, &v);
	item = live_item(e, place);
	if (!item || ref_item(*item) != item_of(&v))
		return false;
	return item_of(&v) == ITEM_OVER ? live_over_needed(e, ref_slot(*item)) : queued;
}

bool live_wants(const struct live *l, const struct record *r)
{
	const struct entry *e = entry_of(l, r->head.id);
	const ref *item;
	uint64_t place;

	if (!place_of(l, r->pos, &place))
		return false;
	if (r->head.type == REC_ACT)
		return live_act_wanted(l, place);
	if (!e)
		return false;
	switch ((enum rec_type)r->head.type) {
	case REC_BODY:
	case REC_RCPT: item = live_item(e, place); return item && ref_item(*item) == ITEM_PART;
	case REC_MSG:
		return e->msg && ref_place(e->msg) == place &&
		       (!(e->flags & ENTRY_OVER) || live_settles(l, e));
	case REC_STATE: return state_wanted(l, r, e, place);
	case REC_NOP:
	case REC_ACT:
	case REC_MOVED:
	case REC_DICT:
	case REC_MANIFEST:
	case REC_SEAL:
	case REC_TYPES: return false;
	}
	return false;
}

uint64_t live_msg_at(const struct live *l, uint64_t id)
{
	const struct entry *e = entry_of(l, id);

	if (!e || !e->msg || e->flags & ENTRY_OVER || !l->slots[ref_slot(e->msg)].s.number)
		return 0;
	return live_pos(l, e->msg);
}

void live_count(const struct live *l, struct live_counts *ret)
{
	*ret = (struct live_counts){
		.messages = l->messages,
		.recipients_left = l->left,
		.entries = l->table.n,
		.memory = sizeof(*l) + l->table.bytes + l->bytes,
	};
	for (uint32_t i = 0; i < l->order_n; i++)
		ret->live_bytes += l->slots[l->order[i]].s.live;
}
