/* A block is a head and its bytes.  The newest block of the usual size is first in the list
 * and is the one allocated from; an allocation that would waste a good part of it gets a
 * block of its own, put behind it.  `used` counts what was taken from malloc. */
#include "core/arena.h"

#include <stdlib.h>
#include <string.h>

#define ARENA_ALIGN 16

struct arena_block {
	struct arena_block *next;
	size_t              n, cap;
	char                bytes[] __attribute__((aligned(ARENA_ALIGN)));
};

void arena_init(struct arena *a, size_t block_size, size_t limit)
{
	*a = (struct arena){.limit = limit, .block_size = block_size};
}

static void free_blocks(struct arena_block *b)
{
	while (b) {
		struct arena_block *next = b->next;

		free(b);
		b = next;
	}
}

void arena_fini(struct arena *a)
{
	free_blocks(a->blocks);
	a->blocks = NULL;
	a->used = 0;
}

/* Blocks of another size than the usual one are not kept: they were somebody's giant. */
void arena_reset(struct arena *a)
{
	struct arena_block *keep = a->blocks;

	if (!keep || keep->cap != a->block_size) {
		arena_fini(a);
		return;
	}
	free_blocks(keep->next);
	keep->next = NULL;
	keep->n = 0;
	a->used = keep->cap;
}

static struct arena_block *block_new(struct arena *a, size_t cap)
{
	struct arena_block *b = malloc(sizeof(*b) + cap);

	if (!b)
		return NULL;
	b->next = NULL;
	b->n = 0;
	b->cap = cap;
	a->used += cap;
	return b;
}

/* A block that has n bytes free, or NULL at the limit. */
static struct arena_block *block_with(struct arena *a, size_t n)
{
	struct arena_block *first = a->blocks, *b;
	size_t              left = a->limit - a->used;

	if (first && first->cap - first->n >= n)
		return first;
	if (n > left)
		return NULL;
	if (n <= a->block_size / 4)
		b = block_new(a, a->block_size < left ? a->block_size : left);
	else
		b = block_new(a, n);
	if (!b)
		return NULL;
	if (first && b->cap == n) {
		b->next = first->next;
		first->next = b;
		return b;
	}
	b->next = first;
	a->blocks = b;
	return b;
}

void *arena_alloc(struct arena *a, size_t n)
{
	struct arena_block *b;
	char               *p;

	if (n > a->limit)
		return NULL;
	n = (n + ARENA_ALIGN - 1) / ARENA_ALIGN * ARENA_ALIGN;
	b = block_with(a, n ? n : ARENA_ALIGN);
	if (!b)
		return NULL;
	p = b->bytes + b->n;
	b->n += n;
	return memset(p, 0, n);
}

struct span arena_dup(struct arena *a, struct span s)
{
	char *p;

	if (s.n == 0)
		return SPAN_NONE;
	p = arena_alloc(a, s.n);
	if (!p)
		return SPAN_NONE;
	memcpy(p, s.p, s.n);
	return span_of(p, s.n);
}

const char *arena_cstr(struct arena *a, struct span s)
{
	char *p = arena_alloc(a, s.n + 1);

	if (!p)
		return NULL;
	if (s.n > 0)
		memcpy(p, s.p, s.n);
	return p;
}
