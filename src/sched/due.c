/* A run sits in the ring of the highest byte in which its second differs from `now`, in the
 * slot of that byte's value; so every used slot of a ring lies behind the byte of `now`, and
 * the earliest used slot of the lowest ring that has one is what comes next.  When the wheel
 * reaches a slot of a higher ring, its runs differ in a lower byte only and are put in again.
 */
#include "sched/due.h"

#include <string.h>

void due_init(struct due *d, uint32_t now)
{
	memset(d, 0, sizeof(*d));
	d->now = now;
}

static void put(struct due *d, struct run *r)
{
	uint32_t differ = r->due ^ d->now;
	unsigned ring, slot;

	if (r->due <= d->now) {
		run_queue_add(&d->ripe, r);
		return;
	}
	ring = (31 - (unsigned)__builtin_clz(differ)) / 8;
	slot = r->due >> (8 * ring) & 255;
	r->next = d->slots[ring][slot];
	d->slots[ring][slot] = r;
	d->used[ring][slot / 64] |= 1ull << slot % 64;
}

void due_add(struct due *d, struct run *r, uint32_t at)
{
	r->due = at;
	d->n++;
	put(d, r);
}

static int first_slot(const struct due *d, unsigned ring)
{
	for (unsigned w = 0; w < DUE_SLOTS / 64; w++)
		if (d->used[ring][w])
			return (int)(w * 64 + (unsigned)__builtin_ctzll(d->used[ring][w]));
	return -1;
}

static struct run *empty_slot(struct due *d, unsigned ring, unsigned slot)
{
	struct run *r = d->slots[ring][slot];

	d->slots[ring][slot] = NULL;
	d->used[ring][slot / 64] &= ~(1ull << slot % 64);
	return r;
}

/* The earliest used slot: its ring, and the second at which the wheel reaches it. */
static bool earliest(const struct due *d, unsigned *ret_ring, uint32_t *ret_at)
{
	for (unsigned ring = 0; ring < DUE_RINGS; ring++) {
		int slot = first_slot(d, ring);
		uint64_t above = ~0ull << (8 * (ring + 1));

		if (slot < 0)
			continue;
		*ret_ring = ring;
		*ret_at = (uint32_t)((d->now & above) | (uint32_t)slot << (8 * ring));
		return true;
	}
	return false;
}

uint32_t due_next(const struct due *d)
{
	unsigned ring;
	uint32_t at;

	if (d->ripe.first)
		return d->now;
	return earliest(d, &ring, &at) ? at : DUE_NEVER;
}

static void put_again(struct due *d, struct run *r)
{
	while (r) {
		struct run *next = r->next;

		put(d, r);
		r = next;
	}
}

struct run *due_take(struct due *d, uint32_t now)
{
	struct run *r;
	unsigned ring;
	uint32_t at;

	while (!d->ripe.first && earliest(d, &ring, &at) && at <= now) {
		d->now = at;
		put_again(d, empty_slot(d, ring, at >> (8 * ring) & 255));
	}
	if (!d->ripe.first && now > d->now)
		d->now = now;
	r = run_queue_take(&d->ripe);
	if (r)
		d->n--;
	return r;
}

void due_all(struct due *d)
{
	for (unsigned ring = 0; ring < DUE_RINGS; ring++) {
		int slot;

		while ((slot = first_slot(d, ring)) >= 0) {
			struct run *r = empty_slot(d, ring, (unsigned)slot);

			while (r) {
				struct run *next = r->next;

				run_queue_add(&d->ripe, r);
				r = next;
			}
		}
	}
}
