#include "sched/book.h"

#include "core/pool.h"
#include "core/rand.h"
#include "sched/plan.h"

#define BOOK_FIRST 16 /* slots; a power of two, as every cap */

void book_init(struct book *b)
{
	*b = (struct book){.seed = rand_u64()};
}

void book_fini(struct book *b)
{
	mem_free(b->slots);
	*b = (struct book){0};
}

static size_t home_of(const struct book *b, uint64_t id)
{
	uint64_t h = (id ^ b->seed) * 0x9e3779b97f4a7c15;

	h = (h ^ h >> 32) * 0xd6e8feb86659fd93;
	return (h ^ h >> 32) & (b->cap - 1);
}

static size_t after(const struct book *b, size_t at)
{
	return (at + 1) & (b->cap - 1);
}

struct message *book_get(const struct book *b, uint64_t id)
{
	if (b->n == 0)
		return NULL;
	for (size_t at = home_of(b, id); b->slots[at]; at = after(b, at))
		if (b->slots[at]->id == id)
			return b->slots[at];
	return NULL;
}

static void place(struct book *b, struct message *m)
{
	size_t at = home_of(b, m->id);

	while (b->slots[at])
		at = after(b, at);
	b->slots[at] = m;
}

static void grow(struct book *b)
{
	struct book old = *b;

	b->cap = old.cap ? old.cap * 2 : BOOK_FIRST;
	b->slots = mem_new(b->cap * sizeof(struct message *));
	for (size_t i = 0; i < old.cap; i++)
		if (old.slots[i])
			place(b, old.slots[i]);
	mem_free(old.slots);
}

void book_reserve(struct book *b, size_t n)
{
	while (b->n + n > b->cap / 4 * 3)
		grow(b);
}

void book_put(struct book *b, struct message *m)
{
	if (b->n + 1 > b->cap / 4 * 3)
		grow(b);
	place(b, m);
	b->n++;
}

/* Whether what sits at `at` may move to the gap: its way from home leads past it. */
static bool may_fill(const struct book *b, size_t gap, size_t at)
{
	size_t home = home_of(b, b->slots[at]->id);

	return ((at - home) & (b->cap - 1)) >= ((at - gap) & (b->cap - 1));
}

void book_remove(struct book *b, struct message *m)
{
	size_t gap = home_of(b, m->id);

	while (b->slots[gap] != m) {
		check(b->slots[gap]);
		gap = after(b, gap);
	}
	b->slots[gap] = NULL;
	b->n--;
	for (size_t at = after(b, gap); b->slots[at]; at = after(b, at)) {
		if (!may_fill(b, gap, at))
			continue;
		b->slots[gap] = b->slots[at];
		b->slots[at] = NULL;
		gap = at;
	}
}

struct message *book_next(const struct book *b, size_t *at)
{
	while (*at < b->cap)
		if (b->slots[(*at)++])
			return b->slots[*at - 1];
	return NULL;
}
