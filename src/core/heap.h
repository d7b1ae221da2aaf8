/* heap - the least of many: a 4-ary heap of entries that know their place.
 *
 * An entry is embedded in its owner; its key may change only through heap_move(). */
#ifndef CORE_HEAP_H
#define CORE_HEAP_H

#include "core/check.h"

#include <stdbool.h>
#include <stdint.h>

#define HEAP_OUT UINT32_MAX

struct heap_entry {
	uint64_t key;
	/* HEAP_OUT: in no heap; set by heap_entry_init */
	uint32_t at;
};

struct heap {
	struct heap_entry **v;
	uint32_t            n, cap;
};

void               heap_fini(struct heap *h);             /* a zeroed heap is an empty one */
void               heap_entry_init(struct heap_entry *e);
void               heap_add(struct heap *h, struct heap_entry *e, uint64_t key);
void               heap_move(struct heap *h, struct heap_entry *e, uint64_t key);
void               heap_remove(struct heap *h, struct heap_entry *e); /* fine when it is out */
struct heap_entry *heap_min(const struct heap *h);        /* NULL when empty */
bool               heap_has(const struct heap_entry *e);

#endif
