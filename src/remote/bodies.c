/* bodies - see the header. */
#include "remote/bodies.h"

#include <string.h>

enum part_state { PART_NONE, PART_ASKED, PART_HERE };

struct part {
	uint32_t        number;
	enum part_state state;
	uint64_t        used;                     /* when, by bodies.turn */
	char           *bytes;
	uint32_t        n;
};

struct body {
	uint32_t    handle, of;
	unsigned    giver;
	bool        known, failed, closed;        /* known: part 0 came, and `of` with it */
	bool        eight_bit;
	struct part first, part[BODIES_PARTS];
	struct link readers, waiting, mark;
};

struct bodies {
	const struct bodies_calls *calls;
	void                      *ctx;
	struct map                 by_handle;
	struct link                marks;
	unsigned                   marks_n;
	uint64_t                   turn;
};

struct bodies *bodies_new(const struct bodies_calls *calls, void *ctx)
{
	struct bodies *b = mem_new(sizeof(*b));

	b->calls = calls;
	b->ctx = ctx;
	map_init(&b->by_handle, BODIES_MAX);
	list_init(&b->marks);
	return b;
}

static void drop_part(struct part *p)
{
	mem_free(p->bytes);
	*p = (struct part){0};
}

static void forget(struct bodies *b, struct body *body)
{
	check(list_is_empty(&body->readers));
	if (link_is_in(&body->mark))
		b->marks_n--;
	list_remove(&body->mark);
	map_remove(&b->by_handle, body->handle);
	drop_part(&body->first);
	for (unsigned i = 0; i < BODIES_PARTS; i++)
		drop_part(&body->part[i]);
	mem_free(body);
}

void bodies_free(struct bodies *b)
{
	size_t       at = 0;
	struct body *body;

	if (!b)
		return;
	while ((body = map_next(&b->by_handle, &at, &(uint64_t){0})))
		forget(b, body);
	map_fini(&b->by_handle);
	mem_free(b);
}

size_t bodies_n(const struct bodies *b)
{
	return b->by_handle.n;
}

static struct body *find_or_make(struct bodies *b, uint32_t handle)
{
	struct body *body = map_get(&b->by_handle, handle);

	if (body)
		return body;
	body = mem_new(sizeof(*body));
	body->handle = handle;
	list_init(&body->readers);
	list_init(&body->waiting);
	if (!map_put(&b->by_handle, handle, body)) {
		mem_free(body);
		return NULL;
	}
	return body;
}

/* A closed handle without readers goes; or stays as a mark while its part 0 may be on its way. */
static void maybe_forget(struct bodies *b, struct body *body)
{
	if (!body->closed || !list_is_empty(&body->readers) || link_is_in(&body->mark))
		return;
	if (body->known || body->failed) {
		forget(b, body);
		return;
	}
	list_add_end(&b->marks, &body->mark);
	if (++b->marks_n > BODIES_MARKS_MAX)
		forget(b, owner_of(list_first(&b->marks), struct body, mark));
}

/* ---- parts -------------------------------------------------------------------------------- */

static struct part *find_part(struct body *body, uint32_t number)
{
	if (number == 0)
		return body->known ? &body->first : NULL;
	for (unsigned i = 0; i < BODIES_PARTS; i++)
		if (body->part[i].state != PART_NONE && body->part[i].number == number)
			return &body->part[i];
	return NULL;
}

/* An empty place, or the one unused for longest.  NULL while a part is asked for: quire-body
 * keeps one wish a handle, and a second one would take its place. */
static struct part *place_for_part(struct body *body)
{
	struct part *best = NULL;

	for (unsigned i = 0; i < BODIES_PARTS; i++) {
		struct part *p = &body->part[i];

		if (p->state == PART_ASKED)
			return NULL;
		if (!best || p->state < best->state
		    || (p->state == best->state && p->used < best->used))
			best = p;
	}
	drop_part(best);
	return best;
}

/* Asks for it, unless that was done or another one is awaited: then whoever waits asks again. */
static void want_part(struct bodies *b, struct body *body, uint32_t number)
{
	struct part *p;

	if (number == 0 || !body->known || find_part(body, number))
		return;
	p = place_for_part(body);
	if (!p)
		return;
	*p = (struct part){.number = number, .state = PART_ASKED};
	b->calls->want(b->ctx, body->giver, body->handle, number);
}

/* Each waiting reader tries again, those first whose part has just come: the others may take
 * its place for theirs, and it must have been of use before. */
static void wake_readers(struct body *body, uint32_t number)
{
	struct link  awake;
	struct link *l;

	list_init(&awake);
	while ((l = list_first(&body->waiting))) {
		list_remove(l);
		if (owner_of(l, struct body_reader, waiting)->part == number)
			list_add_front(&awake, l);
		else
			list_add_end(&awake, l);
	}
	while ((l = list_first(&awake))) {
		struct body_reader *r = owner_of(l, struct body_reader, waiting);

		list_remove(l);
		r->wake(r);
	}
}

static void keep_part(struct part *p, struct span bytes)
{
	p->bytes = mem_new(bytes.n + 1);          /* never NULL, even for an empty body */
	if (bytes.n > 0)
		memcpy(p->bytes, bytes.p, bytes.n);
	p->n = (uint32_t)bytes.n;
	p->state = PART_HERE;
}

static bool has_eight_bit(struct span s)
{
	unsigned char all = 0;

	for (size_t i = 0; i < s.n; i++)
		all |= (unsigned char)s.p[i];
	return all & 0x80;
}

static bool take_first_part(struct bodies *b, struct body *body, unsigned giver,
			    const struct msg_partdata *d, struct span bytes)
{
	if (body->known)
		return false;
	body->known = true;
	body->giver = giver;
	body->of = d->of;
	body->eight_bit = has_eight_bit(bytes);
	keep_part(&body->first, bytes);
	return true;
}

bool bodies_part(struct bodies *b, unsigned giver, const struct msg_partdata *d,
		 struct span bytes)
{
	struct body *body =
		d->number == 0 ? find_or_make(b, d->handle) : map_get(&b->by_handle, d->handle);

	if (bytes.n > BODY_PART_MAX || (d->number > 0 && d->number >= d->of))
		return false;
	if (!body)
		return d->number > 0;             /* it was closed while the part was on its way */
	if (link_is_in(&body->mark)) {
		forget(b, body);
		return true;
	}
	if (d->number == 0 && !take_first_part(b, body, giver, d, bytes))
		return false;
	if (d->number > 0) {
		struct part *p = find_part(body, d->number);

		if (!p || p->state != PART_ASKED)
			return false;
		keep_part(p, bytes);
	}
	wake_readers(body, d->number);            /* may close readers, and with them the body */
	return true;
}

void bodies_fail(struct bodies *b, uint32_t handle)
{
	struct body *body = find_or_make(b, handle);

	if (!body)
		return;
	if (link_is_in(&body->mark)) {
		forget(b, body);
		return;
	}
	body->failed = true;
	wake_readers(body, 0);
}

void bodies_giver_lost(struct bodies *b, unsigned giver)
{
	uint64_t     handle;
	size_t       at = 0;
	struct body *body;

	while ((body = map_next(&b->by_handle, &at, &handle)))
		if (!link_is_in(&body->mark) && (!body->known || body->giver == giver))
			body->failed = true;
	/* Readers that wake may close handles: the search begins anew after each. */
	for (at = 0; (body = map_next(&b->by_handle, &at, &handle));)
		if (body->failed && !list_is_empty(&body->waiting)) {
			wake_readers(body, 0);
			at = 0;
		}
}

void bodies_close(struct bodies *b, uint32_t handle)
{
	struct body *body = find_or_make(b, handle);

	if (!body)
		return;
	body->closed = true;
	maybe_forget(b, body);
}

/* ---- readers ------------------------------------------------------------------------------ */

static enum source_event wait_for_part(struct body_reader *r)
{
	if (r->body->failed)
		return SOURCE_GONE;
	want_part(r->bodies, r->body, r->part);
	if (!link_is_in(&r->waiting))
		list_add_end(&r->body->waiting, &r->waiting);
	return SOURCE_LATER;
}

static enum source_event body_reader_take(struct source *s, size_t max, struct span *ret)
{
	struct body_reader *r = owner_of(s, struct body_reader, source);
	struct body   *body = r->body;

	for (;;) {
		if (body->known && r->part >= body->of && r->part > 0)
			return SOURCE_END;
		struct part *p = find_part(body, r->part);

		if (!p || p->state != PART_HERE)
			return wait_for_part(r);
		if (r->offset < p->n) {
			p->used = ++r->bodies->turn;
			*ret = span_until(span_of(p->bytes + r->offset, p->n - r->offset), max);
			r->offset += (uint32_t)ret->n;
			return SOURCE_BYTES;
		}
		r->part++;
		r->offset = 0;
	}
}

static void body_reader_rewind(struct source *s)
{
	struct body_reader *r = owner_of(s, struct body_reader, source);

	r->part = r->offset = 0;
	list_remove(&r->waiting);
}

/* Before part 0 is here, a body is taken for what must be announced: that does no harm. */
static bool body_reader_eight_bit(const struct source *s)
{
	const struct body *body = owner_of(s, struct body_reader, source)->body;

	return !body->known || body->eight_bit || body->of > 1;
}

bool body_reader_open(struct bodies *b, struct body_reader *r, uint32_t handle,
		      void (*wake)(struct body_reader *))
{
	struct body *body = find_or_make(b, handle);

	if (!body)
		return false;
	*r = (struct body_reader){.bodies = b, .body = body, .wake = wake};
	r->source =
		(struct source){body_reader_take, body_reader_rewind, body_reader_eight_bit};
	list_add_end(&body->readers, &r->link);
	return true;
}

void body_reader_close(struct body_reader *r)
{
	if (!r->body)
		return;
	list_remove(&r->link);
	list_remove(&r->waiting);
	maybe_forget(r->bodies, r->body);
	r->body = NULL;
}
