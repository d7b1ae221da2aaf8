#include "journal/manifest.h"

#include "core/pool.h"

#include <string.h>

void manifest_fini(struct manifest *m)
{
	mem_free(m->v);
	*m = (struct manifest){0};
}

static void grow(struct manifest *m, uint32_t n)
{
	uint32_t cap = m->cap ? m->cap : 64;

	while (cap < n)
		cap *= 2;
	if (cap == m->cap)
		return;
	m->v = mem_grow(m->v, m->cap * sizeof *m->v, cap * sizeof *m->v);
	m->cap = cap;
}

/* Where it is, or would be. */
static uint32_t place_of(const struct manifest *m, uint64_t number)
{
	uint32_t low = 0, high = m->n;

	while (low < high) {
		uint32_t mid = low + (high - low) / 2;

		if (m->v[mid].number < number)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

struct manifest_entry *manifest_find(const struct manifest *m, uint64_t number)
{
	uint32_t i = place_of(m, number);

	return i < m->n && m->v[i].number == number ? &m->v[i] : NULL;
}

void manifest_put(struct manifest *m, const struct manifest_entry *e)
{
	uint32_t i = place_of(m, e->number);

	if (i == m->n || m->v[i].number != e->number) {
		grow(m, m->n + 1);
		memmove(m->v + i + 1, m->v + i, (m->n - i) * sizeof *m->v);
		m->n++;
	}
	m->v[i] = *e;
}

bool manifest_drop(struct manifest *m, uint64_t number)
{
	struct manifest_entry *e = manifest_find(m, number);

	if (!e)
		return false;
	m->n--;
	memmove(e, e + 1, (size_t)(m->v + m->n - e) * sizeof *e);
	return true;
}

void manifest_copy(struct manifest *to, const struct manifest *from)
{
	grow(to, from->n);
	to->n = from->n;
	if (from->n)
		memcpy(to->v, from->v, from->n * sizeof *from->v);
}

uint64_t manifest_oldest(const struct manifest *m)
{
	return m->n && m->v[0].number < COLD_FIRST ? m->v[0].number : 0;
}
