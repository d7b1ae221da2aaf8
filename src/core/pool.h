/* pool - objects of one size, at most `max` of them, kept in slabs.
 *
 * pool_get() gives zeroed memory, or NULL when the pool is empty: that is an answer (421, 451),
 * not an accident.  pool_put() accepts NULL.  mem_new/mem_free are for what is made once at
 * start-up, and are the only other way to memory outside this folder: they die on failure. */
#ifndef CORE_POOL_H
#define CORE_POOL_H

#include "core/check.h"

#include <stdint.h>

struct pool {
	void   *free, *slabs;
	size_t  size;
	uint32_t used, max;
};

void  pool_init(struct pool *p, size_t size, uint32_t max);
void  pool_fini(struct pool *p);                  /* everything, used or not */
void *pool_get(struct pool *p) must_use;
void  pool_put(struct pool *p, void *obj);

void *mem_new(size_t n) must_use;                 /* zeroed; dies with 111 when there is none */
/* keeps old_n bytes, zeroes the rest; dies */
void *mem_grow(void *old, size_t old_n, size_t n) must_use;
void  mem_free(void *p);

#endif
