#include "journal/live_table.h"

#include "core/pool.h"
#include "journal/format.h"

#include <string.h>

#define PLACE_BITS 22
#define PLACE_MASK ((1u << PLACE_BITS) - 1)
#define FAR_MAX    1022u /* slots from where it belongs; further: the index grows */
#define RUN        8u    /* ids in a row, slots in a row */
#define SLOTS_MIN  64u
#define CHUNK_BITS 8
#define CHUNK      (1u << CHUNK_BITS)

/* Slot: (distance + 1) << PLACE_BITS | place; 0: empty. */
struct chunk {
	struct entry *v;     /* CHUNK of them: a size that an allocator has; NULL: given back */
	uint16_t used, free; /* free: the first free one, if used < CHUNK; `next` leads on */
	uint32_t more;       /* the next chunk with free ones, + 1 */
};
struct table_part {
	uint32_t *slots;
	uint32_t cap, n;
	struct chunk *chunks;
	uint32_t chunks_n, chunks_cap;
	uint32_t some; /* chunks with free ones, + 1 */
	uint32_t gone; /* chunks that were given back */
};

void live_table_init(struct live_table *t)
{
	*t = (struct live_table){.parts = mem_new(TABLE_PARTS * sizeof(*t->parts)),
				 .newest = ENTRY_NONE};
	t->bytes = TABLE_PARTS * sizeof(*t->parts);
}

void live_table_fini(struct live_table *t)
{
	for (unsigned i = 0; t->parts && i < TABLE_PARTS; i++) {
		struct table_part *p = &t->parts[i];

		for (uint32_t k = 0; k < p->chunks_n; k++)
			mem_free(p->chunks[k].v);
		mem_free(p->chunks);
		mem_free(p->slots);
	}
	mem_free(t->parts);
	*t = (struct live_table){0};
}

static uint64_t mix(uint64_t x)
{
	x *= 0x9e3779b97f4a7c15ull;
	x ^= x >> 32;
	x *= 0xd6e8feb86659fd93ull;
	return x ^ x >> 32;
}

static uint64_t hash_of(uint64_t id)
{
	return mix(id >> ID_SHARD_BITS >> 3 ^ (id & ((1u << ID_SHARD_BITS) - 1)) << 58);
}

static unsigned part_of(uint64_t hash)
{
	return hash >> 58;
}

/* Where it belongs. */
static uint32_t home_of(const struct table_part *p, uint64_t id, uint64_t hash)
{
	uint64_t run = (uint64_t)(uint32_t)hash * (p->cap / RUN) >> 32;

	return (uint32_t)run * RUN + (id >> ID_SHARD_BITS & (RUN - 1));
}

static struct entry *entry_at(const struct table_part *p, uint32_t place)
{
	return &p->chunks[place >> CHUNK_BITS].v[place & (CHUNK - 1)];
}

struct entry *live_table_at(const struct live_table *t, uint32_t handle)
{
	return entry_at(&t->parts[handle >> PLACE_BITS], handle & PLACE_MASK);
}

/* ---- the index ---- */

static uint32_t slot_make(uint32_t distance, uint32_t place)
{
	return (distance + 1) << PLACE_BITS | place;
}

static uint32_t slot_distance(uint32_t slot)
{
	return (slot >> PLACE_BITS) - 1;
}

/* The slot that holds the id, or UINT32_MAX. */
static uint32_t slot_find(const struct table_part *p, uint64_t id, uint64_t hash)
{
	uint32_t at, far = 0;

	if (p->n == 0)
		return UINT32_MAX;
	at = home_of(p, id, hash);
	for (;; far++) {
		uint32_t slot = p->slots[at];

		if (!slot || slot_distance(slot) < far)
			return UINT32_MAX;
		if (slot_distance(slot) == far && entry_at(p, slot & PLACE_MASK)->id == id)
			return at;
		at = at + 1 == p->cap ? 0 : at + 1;
	}
}

/* The one that is nearer to where it belongs makes room.  false: too far, grow. */
static bool slot_put(struct table_part *p, uint32_t place, uint32_t at)
{
	uint32_t slot = slot_make(0, place);

	for (;;) {
		uint32_t there = p->slots[at];

		if (!there) {
			p->slots[at] = slot;
			return true;
		}
		if (slot_distance(there) < slot_distance(slot)) {
			p->slots[at] = slot;
			slot = there;
		}
		if (slot_distance(slot) == FAR_MAX)
			return false;
		slot += 1u << PLACE_BITS;
		at = at + 1 == p->cap ? 0 : at + 1;
	}
}

static void slot_clear(struct table_part *p, uint32_t at)
{
	for (;;) {
		uint32_t next = at + 1 == p->cap ? 0 : at + 1;

		if (!p->slots[next] || slot_distance(p->slots[next]) == 0)
			break;
		p->slots[at] = p->slots[next] - (1u << PLACE_BITS);
		at = next;
	}
	p->slots[at] = 0;
}

static bool chunk_is_free(const struct chunk *c, uint32_t i)
{
	return c->v[i].id == UINT64_MAX;
}

static bool fill_index(struct table_part *p)
{
	for (uint32_t k = 0; k < p->chunks_n; k++)
		for (uint32_t i = 0; p->chunks[k].v && i < CHUNK; i++) {
			uint64_t id = p->chunks[k].v[i].id;

			if (!chunk_is_free(&p->chunks[k], i) &&
			    !slot_put(p, k << CHUNK_BITS | i, home_of(p, id, hash_of(id))))
				return false;
		}
	return true;
}

/* All entries are in the chunks: the index is made from them. */
static void resize(struct live_table *t, struct table_part *p, uint32_t cap)
{
	do {
		cap = (cap < SLOTS_MIN ? SLOTS_MIN : cap) / RUN * RUN;
		t->bytes += (cap - (uint64_t)p->cap) * sizeof(*p->slots);
		mem_free(p->slots);
		p->cap = cap;
		p->slots = mem_new(cap * sizeof(*p->slots));
		cap += cap / 3;
	} while (!fill_index(p));
}

/* ---- chunks ---- */

static uint32_t chunk_number(struct live_table *t, struct table_part *p)
{
	uint32_t k = 0;

	while (p->gone && p->chunks[k].v)
		k++;
	if (p->gone) {
		p->gone--;
		return k;
	}
	k = p->chunks_n++;
	check(k < (1u << (PLACE_BITS - CHUNK_BITS)) - 1);
	if (k == p->chunks_cap) {
		uint32_t cap = k ? 2 * k : 8;

		p->chunks =
			mem_grow(p->chunks, k * sizeof(*p->chunks), cap * sizeof(*p->chunks));
		t->bytes += (cap - k) * sizeof(*p->chunks);
		p->chunks_cap = cap;
	}
	return k;
}

static void add_chunk(struct live_table *t, struct table_part *p)
{
	uint32_t k = chunk_number(t, p);
	struct chunk *c = &p->chunks[k];

	*c = (struct chunk){.v = mem_new(CHUNK * sizeof(*c->v)), .more = p->some};
	for (uint32_t i = 0; i < CHUNK; i++) {
		c->v[i].next = i + 1;
		c->v[i].id = UINT64_MAX;
	}
	p->some = k + 1;
	t->bytes += CHUNK * sizeof(*c->v);
}

static uint32_t take_place(struct live_table *t, struct table_part *p)
{
	struct chunk *c;
	uint32_t k, i;

	if (!p->some)
		add_chunk(t, p);
	k = p->some - 1;
	c = &p->chunks[k];
	i = c->free;
	c->free = (uint16_t)c->v[i].next;
	if (++c->used == CHUNK)
		p->some = c->more;
	c->v[i] = (struct entry){0};
	return k << CHUNK_BITS | i;
}

static void drop_chunk(struct live_table *t, struct table_part *p, uint32_t k)
{
	uint32_t *at = &p->some;

	while (*at != k + 1)
		at = &p->chunks[*at - 1].more;
	*at = p->chunks[k].more;
	mem_free(p->chunks[k].v);
	p->chunks[k].v = NULL;
	p->gone++;
	t->bytes -= CHUNK * sizeof(struct entry);
}

/* The first chunk with room stays, empty or not, so that one message coming and going costs
 * nothing. */
static void give_place(struct live_table *t, struct table_part *p, uint32_t place)
{
	uint32_t k = place >> CHUNK_BITS, i = place & (CHUNK - 1);
	struct chunk *c = &p->chunks[k];

	c->v[i].id = UINT64_MAX;
	c->v[i].next = c->free;
	c->free = (uint16_t)i;
	if (c->used-- == CHUNK) {
		uint32_t old = p->some;

		c->more = old;
		p->some = k + 1;
		if (old && p->chunks[old - 1].used == 0)
			drop_chunk(t, p, old - 1);
	}
	if (c->used == 0 && p->some != k + 1)
		drop_chunk(t, p, k);
}

/* ---- entries ---- */

static uint32_t handle_of(unsigned part, uint32_t place)
{
	return (uint32_t)part << PLACE_BITS | place;
}

uint32_t live_table_find(const struct live_table *t, uint64_t id)
{
	const struct table_part *p;
	uint64_t hash;
	uint32_t at;

	if (t->newest != ENTRY_NONE && live_table_at(t, t->newest)->id == id)
		return t->newest;
	hash = hash_of(id);
	p = &t->parts[part_of(hash)];
	at = slot_find(p, id, hash);
	return at == UINT32_MAX ? ENTRY_NONE
				: handle_of(part_of(hash), p->slots[at] & PLACE_MASK);
}

uint32_t live_table_add(struct live_table *t, uint64_t id)
{
	uint64_t hash = hash_of(id);
	struct table_part *p = &t->parts[part_of(hash)];
	uint32_t place = take_place(t, p);

	check(id != UINT64_MAX);
	entry_at(p, place)->id = id;
	p->n++;
	t->n++;
	if ((uint64_t)p->n * 4 > (uint64_t)p->cap * 3)
		resize(t, p, p->cap + p->cap / 3); /* with the new one */
	else if (!slot_put(p, place, home_of(p, id, hash)))
		resize(t, p, p->cap + p->cap / 3);
	t->newest = handle_of(part_of(hash), place);
	return t->newest;
}

void live_table_remove(struct live_table *t, uint32_t handle)
{
	struct table_part *p = &t->parts[handle >> PLACE_BITS];
	uint32_t place = handle & PLACE_MASK;
	uint64_t id = entry_at(p, place)->id;
	uint32_t at = slot_find(p, id, hash_of(id));

	check(at != UINT32_MAX);
	if (t->newest == handle)
		t->newest = ENTRY_NONE;
	slot_clear(p, at);
	give_place(t, p, place);
	p->n--;
	t->n--;
	if (p->cap > SLOTS_MIN && p->n < p->cap / 8)
		resize(t, p, p->cap / 2);
}

uint32_t live_table_next(const struct live_table *t, uint64_t *at)
{
	for (; *at >> PLACE_BITS < TABLE_PARTS; *at = ((*at >> PLACE_BITS) + 1) << PLACE_BITS) {
		const struct table_part *p = &t->parts[*at >> PLACE_BITS];

		while ((*at & PLACE_MASK) < p->chunks_n << CHUNK_BITS) {
			uint32_t place = *at & PLACE_MASK, k = place >> CHUNK_BITS;

			if (!p->chunks[k].v) {
				*at = (*at | (CHUNK - 1)) + 1;
				continue;
			}
			++*at;
			if (!chunk_is_free(&p->chunks[k], place & (CHUNK - 1)))
				return (uint32_t)(*at - 1);
		}
	}
	return ENTRY_NONE;
}
