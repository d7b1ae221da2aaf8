/* Both maps probe linearly from the hash and are at most three quarters full, dead slots
 * counted.  Removal leaves a dead slot; growing, or many dead ones, rebuilds the array. */
#include "core/table.h"

#include "core/pool.h"
#include "core/rand.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#define TABLE_FIRST 16                            /* slots; a power of two, as every cap */

static char dead_mark;
#define DEAD ((void *)&dead_mark)

struct table_slot {
	uint64_t hash;
	void    *value;                           /* NULL: never used; DEAD: removed */
};

struct map_slot {
	uint64_t key;
	void    *value;
};

uint64_t hash_bytes(struct span s, uint64_t seed)
{
	return XXH3_64bits_withSeed(s.n ? s.p : "", s.n, seed);
}

/* Folds block by block, so that a key of any length needs no memory. */
static uint64_t hash_folded(struct span s, uint64_t seed)
{
	char block[128];

	do {
		struct span part = span_cut(&s, sizeof(block));

		for (size_t i = 0; i < part.n; i++)
			block[i] = span_lower(part.p[i]);
		seed = hash_bytes(span_of(block, part.n), seed);
	} while (s.n > 0);
	return seed;
}

/* Ids of messages that came one behind the other differ in bit 6 and the next ones
 * (docs/journal.md).  Four such neighbours have four neighbouring slots, one cache line: they are
 * asked for one behind the other, too. */
#define NEIGHBOURS(key) ((key) >> 6 & 3)

static uint64_t mix(uint64_t key, uint64_t seed)
{
	key = (key ^ seed) * 0x9e3779b97f4a7c15;
	key = (key ^ (key >> 32)) * 0xd6e8feb86659fd93;
	return key ^ (key >> 32);
}

static uint64_t hash_number(uint64_t key, uint64_t seed)
{
	return (mix(key >> 8 << 6 | (key & 63), seed) & ~(uint64_t)3) | NEIGHBOURS(key);
}

/* How many slots n entries want after one more was added: a power of two, at most half
 * full, so that the next rebuild is far away. */
static size_t cap_for(size_t n)
{
	size_t cap = TABLE_FIRST;

	while (cap / 2 < n + 1)
		cap *= 2;
	return cap;
}

static bool is_crowded(size_t taken, size_t cap)
{
	return taken + 1 > cap / 4 * 3;
}

void table_init(struct table *t, struct span (*key_of)(const void *), bool fold, size_t max)
{
	*t = (struct table){.key_of = key_of, .fold = fold, .max = max, .seed = rand_u64()};
}

void table_fini(struct table *t)
{
	mem_free(t->slots);
	t->slots = NULL;
	t->n = t->dead = t->cap = 0;
}

static uint64_t table_hash(const struct table *t, struct span key)
{
	return t->fold ? hash_folded(key, t->seed) : hash_bytes(key, t->seed);
}

static bool is_key(const struct table *t, const void *value, struct span key)
{
	struct span have = t->key_of(value);

	return t->fold ? span_ieq(have, key) : span_eq(have, key);
}

void *table_get(const struct table *t, struct span key)
{
	uint64_t hash;

	if (t->n == 0)
		return NULL;
	hash = table_hash(t, key);
	for (size_t at = hash & (t->cap - 1);; at = (at + 1) & (t->cap - 1)) {
		const struct table_slot *s = &t->slots[at];

		if (!s->value)
			return NULL;
		if (s->value != DEAD && s->hash == hash && is_key(t, s->value, key))
			return s->value;
	}
}

static void table_place(struct table *t, uint64_t hash, void *value)
{
	size_t at = hash & (t->cap - 1);

	while (t->slots[at].value)
		at = (at + 1) & (t->cap - 1);
	t->slots[at] = (struct table_slot){hash, value};
}

static void table_rebuild(struct table *t)
{
	struct table_slot *old = t->slots;
	size_t             old_cap = t->cap;

	t->cap = cap_for(t->n);
	t->slots = mem_new(t->cap * sizeof(*t->slots));
	t->dead = 0;
	for (size_t i = 0; i < old_cap; i++)
		if (old[i].value && old[i].value != DEAD)
			table_place(t, old[i].hash, old[i].value);
	mem_free(old);
}

bool table_put(struct table *t, void *value)
{
	check(value && value != DEAD);
	if (t->n >= t->max)
		return false;
	if (is_crowded(t->n + t->dead, t->cap))
		table_rebuild(t);
	table_place(t, table_hash(t, t->key_of(value)), value);
	t->n++;
	return true;
}

void table_remove(struct table *t, void *value)
{
	uint64_t hash = table_hash(t, t->key_of(value));

	check(t->n > 0);
	for (size_t at = hash & (t->cap - 1);; at = (at + 1) & (t->cap - 1)) {
		struct table_slot *s = &t->slots[at];

		check(s->value);                  /* else it was not in the table */
		if (s->value != value)
			continue;
		s->value = DEAD;
		t->n--;
		t->dead++;
		return;
	}
}

void *table_next(const struct table *t, size_t *at)
{
	while (*at < t->cap) {
		void *value = t->slots[(*at)++].value;

		if (value && value != DEAD)
			return value;
	}
	return NULL;
}

void map_init(struct map *m, size_t max)
{
	*m = (struct map){.max = max, .seed = rand_u64()};
}

void map_fini(struct map *m)
{
	mem_free(m->slots);
	m->slots = NULL;
	m->n = m->dead = m->cap = 0;
}

static struct map_slot *map_slot_of(const struct map *m, uint64_t key)
{
	if (m->n == 0)
		return NULL;
	for (size_t at = hash_number(key, m->seed);; at++) {
		struct map_slot *s = &m->slots[at & (m->cap - 1)];

		if (!s->value)
			return NULL;
		if (s->value != DEAD && s->key == key)
			return s;
	}
}

void *map_get(const struct map *m, uint64_t key)
{
	struct map_slot *s = map_slot_of(m, key);

	return s ? s->value : NULL;
}

static void map_place(struct map *m, uint64_t key, void *value)
{
	size_t at = hash_number(key, m->seed) & (m->cap - 1);

	while (m->slots[at].value)
		at = (at + 1) & (m->cap - 1);
	m->slots[at] = (struct map_slot){key, value};
}

static void map_rebuild(struct map *m)
{
	struct map_slot *old = m->slots;
	size_t           old_cap = m->cap;

	m->cap = cap_for(m->n);
	m->slots = mem_new(m->cap * sizeof(*m->slots));
	m->dead = 0;
	for (size_t i = 0; i < old_cap; i++)
		if (old[i].value && old[i].value != DEAD)
			map_place(m, old[i].key, old[i].value);
	mem_free(old);
}

bool map_put(struct map *m, uint64_t key, void *value)
{
	struct map_slot *s = map_slot_of(m, key);

	check(value && value != DEAD);
	if (s) {
		s->value = value;
		return true;
	}
	if (m->n >= m->max)
		return false;
	if (is_crowded(m->n + m->dead, m->cap))
		map_rebuild(m);
	map_place(m, key, value);
	m->n++;
	return true;
}

void *map_remove(struct map *m, uint64_t key)
{
	struct map_slot *s = map_slot_of(m, key);
	void            *value;

	if (!s)
		return NULL;
	value = s->value;
	s->value = DEAD;
	m->n--;
	m->dead++;
	return value;
}

void *map_next(const struct map *m, size_t *at, uint64_t *ret_key)
{
	while (*at < m->cap) {
		struct map_slot *s = &m->slots[(*at)++];

		if (s->value && s->value != DEAD) {
			*ret_key = s->key;
			return s->value;
		}
	}
	return NULL;
}
