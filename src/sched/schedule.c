#include "sched/schedule.h"

#define QMAILS_LONGEST 100000 /* no step of it, while mail is younger than a month, is longer  \
			       */
#define SKIP_LOCAL  10
#define SKIP_REMOTE 20

struct reading {
	struct schedule *s;
	bool bad;
};

static void on_wait(void *ctx, struct span entry, unsigned line)
{
	struct reading *r = ctx;
	uint64_t wait;

	if (!duration_parse(entry, &wait) || wait < WAIT_MIN || wait > WAIT_MAX ||
	    r->s->n == WAITS_MAX)
		r->bad = true;
	else
		r->s->waits[r->s->n++] = (uint32_t)wait;
}

void schedule_init(struct schedule *s, const struct control *c)
{
	struct reading r = {.s = s};

	*s = (struct schedule){0};
	control_list(c, "retryschedule", on_wait, &r);
	if (r.bad)
		s->n = 0;
}

static uint64_t root_of(uint64_t n) /* rounded down */
{
	uint64_t root = 0;

	for (uint64_t bit = 1ull << 31; bit; bit >>= 1)
		if ((root + bit) * (root + bit) <= n)
			root += bit;
	return root;
}

static uint64_t qmails_next(uint64_t birth_s, uint64_t now_s, enum channel ch)
{
	uint64_t age = now_s > birth_s ? now_s - birth_s : 0;
	uint64_t n = root_of(age) + (ch == CHANNEL_LOCAL ? SKIP_LOCAL : SKIP_REMOTE);

	return (now_s > birth_s ? birth_s : now_s) + n * n;
}

uint64_t schedule_next(const struct schedule *s, uint64_t birth_s, uint64_t now_s,
		       enum channel ch, uint32_t tried)
{
	uint32_t i = tried > 0 ? tried - 1 : 0;

	if (s->n == 0)
		return qmails_next(birth_s, now_s, ch);
	return now_s + s->waits[i < s->n ? i : s->n - 1];
}

uint32_t schedule_longest(const struct schedule *s)
{
	uint32_t longest = s->n ? 0 : QMAILS_LONGEST;

	for (uint32_t i = 0; i < s->n; i++)
		if (s->waits[i] > longest)
			longest = s->waits[i];
	return longest;
}
