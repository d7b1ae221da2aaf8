/* arena - memory that dies with its occasion: process, connection, message or pass.
 *
 * Blocks are taken from malloc as needed up to the limit given; arena_reset() keeps the first
 * block, arena_fini() gives all back.  arena_alloc() returns zeroed, 16-byte aligned memory,
 * or NULL where the limit would be passed. */
#ifndef CORE_ARENA_H
#define CORE_ARENA_H

#include "core/check.h"
#include "core/span.h"

struct arena_block;
struct arena {
	struct arena_block *blocks;
	size_t              used, limit, block_size;
};

/* takes no memory yet */
void        arena_init(struct arena *a, size_t block_size, size_t limit);
void        arena_reset(struct arena *a);
void        arena_fini(struct arena *a);
void       *arena_alloc(struct arena *a, size_t n) must_use;
/* {NULL, 0} if s.n > 0 and full */
struct span arena_dup(struct arena *a, struct span s) must_use;
/* NUL-terminated copy, or NULL */
const char *arena_cstr(struct arena *a, struct span s) must_use;
#define arena_new(a, type) ((type *)arena_alloc(a, sizeof(type)))

#endif
