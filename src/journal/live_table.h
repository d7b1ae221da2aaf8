/* live_table - live's entries, one a message, found by id.  Internal to live.
 *
 * 64 parts by hash, so that growing one stalls nobody.  In each: entries in chunks, which never
 * move and are given back when they are empty, and an index of 4-byte slots with linear probing
 * (robin hood): a slot holds an entry's place and how far it is from where it belongs, so that
 * a search touches no entry but those that belong to the same slot, and removing needs no
 * marks.  Eight ids in a row belong to slots in a row: mail in order is near in memory. */
#ifndef JOURNAL_LIVE_TABLE_H
#define JOURNAL_LIVE_TABLE_H

#include "core/check.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A record that matters: 16 bits of its segment's slot, 27 of its offset / 8, 3 of enum item,
 * 18 of its size / 8.  0: none. */
typedef uint64_t ref;
enum item { ITEM_HOLE, ITEM_PART, ITEM_MSG, ITEM_OVER, ITEM_FAILED, ITEM_DEFER };
#define ITEMS_INLINE 3

struct fat;
enum { ENTRY_OVER = 1, ENTRY_FAILED = 2 /* recipient 0 */, ENTRY_FAT = 4, ENTRY_CHAINED = 8 };
struct entry {
	uint64_t id;
	ref      msg;                             /* the copy at the highest position */
	union {
		ref         items[ITEMS_INLINE];  /* in order of place, then zeros */
		struct fat *fat;                  /* ENTRY_FAT */
	} u;
	uint32_t next;                            /* handle + 1, in the chain of a segment */
	uint32_t rcpts;                           /* as the MSG says */
	uint32_t over;                            /* recipients below 32 that are over; fat: see there */
	uint32_t flags : 8, attempt : 24;         /* attempt: of the ITEM_DEFER */
};
static_check(sizeof(struct entry) == 56);

#define TABLE_PARTS   64
#define ENTRY_NONE    UINT32_MAX
struct table_part;
struct live_table {
	struct table_part *parts;
	uint64_t           n, bytes;              /* entries; memory, index and chunks */
	uint32_t           newest;                /* the one added last, which is asked for next; ENTRY_NONE: removed */
};
void          live_table_init(struct live_table *t);
void          live_table_fini(struct live_table *t);
/* ENTRY_NONE: not there.  A handle holds until live_table_remove(). */
uint32_t      live_table_find(const struct live_table *t, uint64_t id);
uint32_t      live_table_add(struct live_table *t, uint64_t id);  /* not there yet; zeroed */
void          live_table_remove(struct live_table *t, uint32_t handle);
struct entry *live_table_at(const struct live_table *t, uint32_t handle);
/* *at 0 first; ENTRY_NONE ends.  The one returned may be removed before the next call. */
uint32_t      live_table_next(const struct live_table *t, uint64_t *at);

#endif
