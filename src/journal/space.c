#include "journal/space.h"

#include "core/check.h"
#include "core/pool.h"

#include <stdlib.h>

/* A segment's head and its copy, and what batches leave unused. */
#define COLD_UNUSED(size) ((size) / 8)
/* New cold segments of a round, where one would free nothing: three that are nearly half full fit into two.
 * When the disk is short there is room for one. */
#define OUTPUTS_MAX 3

static uint64_t segments_in_use(const struct space_view *s)
{
	uint64_t n = 1; /* the newest */

	for (uint32_t i = 0; i < s->n; i++)
		n += !s->v[i].leaving;
	return n;
}

bool space_is_tight(const struct space_view *s)
{
	return segments_in_use(s) * s->segment_size >
	       2 * s->live + SPACE_SLACK * s->segment_size;
}

static bool may_go(const struct space_segment *g)
{
	return !g->filling && !g->leaving && g->open == 0;
}

uint32_t space_dead(const struct space_view *s, uint64_t *ret, uint32_t max)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < s->n && n < max; i++)
		if (may_go(&s->v[i]) && s->v[i].live == 0)
			ret[n++] = s->v[i].number;
	return n;
}

/* Little compared with its file: what was sealed early takes no less of the disk for that. */
static bool may_be_copied(const struct space_view *s, const struct space_segment *g, bool now)
{
	return may_go(g) && !g->damaged && g->live < s->segment_size / 2 &&
	       (now || g->sealed_s >= SPACE_AGE_S);
}

static int by_live(const void *va, const void *vb)
{
	const struct space_segment *a = *(const struct space_segment *const *)va;
	const struct space_segment *b = *(const struct space_segment *const *)vb;

	if (a->live != b->live)
		return a->live < b->live ? -1 : 1;
	return a->number < b->number ? -1 : a->number > b->number;
}

static int by_number(const void *a, const void *b)
{
	uint64_t na = *(const uint64_t *)a, nb = *(const uint64_t *)b;

	return na < nb ? -1 : na > nb;
}

/* How many of the best fit into what is open and so many segments more; 0: it would not free a
 * segment. */
static uint32_t choose(const struct space_view *s, const struct space_segment *const *c,
		       uint32_t n, uint32_t outputs)
{
	uint64_t copied = 0, each = s->segment_size - COLD_UNUSED(s->segment_size);
	uint32_t k = 0;

	while (k < n && copied + c[k]->live <= s->cold_room + outputs * each)
		copied += c[k++]->live;
	return k < 1 + (copied > s->cold_room ? outputs : 0) ? 0 : k;
}

/* In order of number: parts of a message come before it. */
uint32_t space_victims(const struct space_view *s, uint64_t *ret, uint32_t max)
{
	const struct space_segment **c;
	bool now = s->asked || s->disk_short || space_is_tight(s);
	uint32_t n = 0, k = 0, outputs_max = s->disk_short ? 1 : OUTPUTS_MAX;

	if (max > SPACE_ROUND_MAX)
		max = SPACE_ROUND_MAX;
	c = mem_new((s->n + 1) * sizeof(*c));
	for (uint32_t i = 0; i < s->n; i++)
		if (may_be_copied(s, &s->v[i], now))
			c[n++] = &s->v[i];
	qsort(c, n, sizeof(*c), by_live);
	n = n < max ? n : max;
	for (uint32_t outputs = 1; k == 0 && outputs <= outputs_max; outputs++)
		k = choose(s, c, n, outputs);
	for (uint32_t i = 0; i < k; i++)
		ret[i] = c[i]->number;
	qsort(ret, k, sizeof(*ret), by_number);
	mem_free(c);
	return k;
}

bool space_keeps(const struct space_keep *k)
{
	return k->bytes > 0 && k->days > 0;
}

/* When the disk is short a quarter goes at a time: each makes a spare without asking the file
 * system for room. */
uint32_t space_forget(const struct space_past *v, uint32_t n, const struct space_keep *k,
		      uint64_t segment_size, uint64_t now_s, bool disk_short)
{
	uint64_t kept = space_keeps(k) ? k->bytes / segment_size : 0;
	uint32_t go = n > kept ? (uint32_t)(n - kept) : 0;

	while (go < n && v[go].closed_s + k->days * 86400 < now_s)
		go++;
	if (disk_short && go < SPACE_SWITCH_MIN + n / 4)
		go = SPACE_SWITCH_MIN + n / 4;
	return go < n ? go : n;
}
