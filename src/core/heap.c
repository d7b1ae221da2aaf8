/* Four children a node: half the depth of a binary heap, and siblings share cache lines. */
#include "core/heap.h"

#include "core/pool.h"

#define HEAP_CHILDREN 4
#define HEAP_FIRST    16

void heap_fini(struct heap *h)
{
	for (uint32_t i = 0; i < h->n; i++)
		h->v[i]->at = HEAP_OUT;
	mem_free(h->v);
	*h = (struct heap){0};
}

void heap_entry_init(struct heap_entry *e)
{
	e->key = 0;
	e->at = HEAP_OUT;
}

bool heap_has(const struct heap_entry *e)
{
	return e->at != HEAP_OUT;
}

struct heap_entry *heap_min(const struct heap *h)
{
	return h->n ? h->v[0] : NULL;
}

static void put(struct heap *h, uint32_t at, struct heap_entry *e)
{
	h->v[at] = e;
	e->at = at;
}

static void sift_up(struct heap *h, struct heap_entry *e)
{
	uint32_t at = e->at;

	while (at > 0) {
		uint32_t up = (at - 1) / HEAP_CHILDREN;

		if (h->v[up]->key <= e->key)
			break;
		put(h, at, h->v[up]);
		at = up;
	}
	put(h, at, e);
}

static void sift_down(struct heap *h, struct heap_entry *e)
{
	uint32_t at = e->at;

	for (;;) {
		uint64_t first = (uint64_t)at * HEAP_CHILDREN + 1, end = first + HEAP_CHILDREN;
		uint64_t least = first;

		if (first >= h->n)
			break;
		if (end > h->n)
			end = h->n;
		for (uint64_t i = first + 1; i < end; i++)
			if (h->v[i]->key < h->v[least]->key)
				least = i;
		if (h->v[least]->key >= e->key)
			break;
		put(h, at, h->v[least]);
		at = (uint32_t)least;
	}
	put(h, at, e);
}

void heap_add(struct heap *h, struct heap_entry *e, uint64_t key)
{
	check(!heap_has(e));
	check(h->n < HEAP_OUT - 1);
	if (h->n == h->cap) {
		uint32_t cap = h->cap ? h->cap * 2 : HEAP_FIRST;

		check(cap > h->cap);
		h->v = mem_grow(h->v, h->cap * sizeof(*h->v), cap * sizeof(*h->v));
		h->cap = cap;
	}
	e->key = key;
	put(h, h->n++, e);
	sift_up(h, e);
}

void heap_move(struct heap *h, struct heap_entry *e, uint64_t key)
{
	uint64_t old = e->key;

	check(heap_has(e) && h->v[e->at] == e);
	e->key = key;
	if (key < old)
		sift_up(h, e);
	else
		sift_down(h, e);
}

void heap_remove(struct heap *h, struct heap_entry *e)
{
	struct heap_entry *last;
	uint32_t           at = e->at;

	if (!heap_has(e))
		return;
	check(at < h->n && h->v[at] == e);
	last = h->v[--h->n];
	e->at = HEAP_OUT;
	if (last == e)
		return;
	put(h, at, last);
	sift_up(h, last);
	sift_down(h, last);
}
