/* A slab is a head and as many objects as fit its size; free objects are a chain through
 * their first word.  Under AddressSanitizer what is free is poisoned, so that a use after
 * pool_put() is seen as one after free() would be. */
#include "core/pool.h"

#include "core/log.h"

#include <stdlib.h>
#include <string.h>

#ifdef QUIRE_SANITIZED
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(p, n)   ((void)(p), (void)(n))
#define ASAN_UNPOISON_MEMORY_REGION(p, n) ((void)(p), (void)(n))
#endif

#define SLAB_BYTES   65536                        /* malloc's own cost vanishes in it */
#define SLAB_OBJ_MIN 4                            /* where one object is huge */

struct slab {
	struct slab *next;
	size_t       bytes;
	char         objs[] __attribute__((aligned(16)));
};

struct free_obj {
	struct free_obj *next;
};

void pool_init(struct pool *p, size_t size, uint32_t max)
{
	check(size > 0);
	*p = (struct pool){.size = (size + 15) / 16 * 16, .max = max};
}

void pool_fini(struct pool *p)
{
	struct slab *s = p->slabs;

	while (s) {
		struct slab *next = s->next;

		ASAN_UNPOISON_MEMORY_REGION(s->objs, s->bytes);
		free(s);
		s = next;
	}
	p->free = p->slabs = NULL;
	p->used = 0;
}

/* Called when nothing is free, so that `used` is also how many objects exist. */
static bool add_slab(struct pool *p)
{
	size_t       n = SLAB_BYTES / p->size;
	struct slab *s;

	if (n < SLAB_OBJ_MIN)
		n = SLAB_OBJ_MIN;
	if (n > p->max - p->used)
		n = p->max - p->used;
	if (n == 0)
		return false;
	s = malloc(sizeof(*s) + n * p->size);
	if (!s)
		return false;
	s->next = p->slabs;
	s->bytes = n * p->size;
	p->slabs = s;
	for (size_t i = n; i-- > 0;) {
		struct free_obj *obj = (struct free_obj *)(s->objs + i * p->size);

		obj->next = p->free;
		p->free = obj;
	}
	ASAN_POISON_MEMORY_REGION(s->objs, s->bytes);
	return true;
}

void *pool_get(struct pool *p)
{
	struct free_obj *obj;

	if (!p->free && !add_slab(p))
		return NULL;
	obj = p->free;
	ASAN_UNPOISON_MEMORY_REGION(obj, p->size);
	p->free = obj->next;
	p->used++;
	return memset(obj, 0, p->size);
}

void pool_put(struct pool *p, void *obj)
{
	struct free_obj *o = obj;

	if (!o)
		return;
	check(p->used > 0);
	o->next = p->free;
	p->free = o;
	p->used--;
	ASAN_POISON_MEMORY_REGION(obj, p->size);
}

void *mem_new(size_t n)
{
	void *p = calloc(1, n ? n : 1);

	if (!p)
		die(111, "out of memory: %zu bytes", n);
	return p;
}

void *mem_grow(void *old, size_t old_n, size_t n)
{
	char *p = realloc(old, n ? n : 1);

	if (!p)
		die(111, "out of memory: %zu bytes", n);
	if (n > old_n)
		memset(p + old_n, 0, n - old_n);
	return p;
}

void mem_free(void *p)
{
	free(p);
}
