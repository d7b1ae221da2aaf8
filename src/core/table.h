/* table - a map from bytes or from a number to a pointer; open addressing, a random seed.
 *
 * The table keeps no key: the owner's object holds it, and table_init() is told how to read
 * it back.  Values are never NULL.  At most `max` entries: table_put() answers false.
 * Entries never move but in a put, so what an iteration just returned may be removed. */
#ifndef CORE_TABLE_H
#define CORE_TABLE_H

#include "core/check.h"
#include "core/span.h"

struct table_slot;
struct table {
	struct table_slot *slots;
	size_t             n, dead, cap, max;     /* dead: slots that removed entries left */
	uint64_t           seed;
	struct span      (*key_of)(const void *value);
	bool               fold;                  /* keys compared with ASCII case folded */
};

void  table_init(struct table *t, struct span (*key_of)(const void *), bool fold, size_t max);
void  table_fini(struct table *t);
void *table_get(const struct table *t, struct span key);
bool  table_put(struct table *t, void *value) must_use;      /* the key must not be in it yet */
void  table_remove(struct table *t, void *value);
/* iterate: *at = 0 first, NULL ends */
void *table_next(const struct table *t, size_t *at);

struct map_slot;
/* the same for 64-bit keys; key 0 is allowed */
struct map {
	struct map_slot *slots;
	size_t           n, dead, cap, max;
	uint64_t         seed;
};

void  map_init(struct map *m, size_t max);
void  map_fini(struct map *m);
void *map_get(const struct map *m, uint64_t key);
bool  map_put(struct map *m, uint64_t key, void *value) must_use; /* replaces; false: max */
void *map_remove(struct map *m, uint64_t key);               /* what was there, or NULL */
void *map_next(const struct map *m, size_t *at, uint64_t *ret_key);
/* for buckets, never for the disk */
uint64_t hash_bytes(struct span s, uint64_t seed);

#endif
