/* The packed numbers are unaligned and native: they never leave the process. */
#include "sched/run.h"

#include "core/pool.h"

#include <string.h>

#define RCPT_HEAD 6 /* u32 number, u16 length and flag */

static_check(offsetof(struct run, packed) <=
	     60); /* a short recipient and its run fit 80 bytes */
static_check(RUN_ADDR_MAX < 32768);

struct run *run_new(struct message *m, struct lane *l, size_t packed_n)
{
	size_t n = offsetof(struct run, packed) + packed_n;
	struct run *r = mem_new(n < sizeof(*r) ? sizeof(*r) : n);

	r->message = m;
	r->lane = l;
	return r;
}

void run_free(struct run *r)
{
	mem_free(r);
}

size_t run_bytes(const struct run *r)
{
	return offsetof(struct run, packed) + r->end;
}

size_t run_packed_n(const struct recipient *rc)
{
	return RCPT_HEAD + rc->text.n;
}

/* The caller made room for it in run_new(). */
void run_add(struct run *r, const struct recipient *rc)
{
	uint16_t n = (uint16_t)(rc->text.n << 1 | rc->whole);
	char *p = r->packed + r->end;

	check(rc->text.n <= RUN_ADDR_MAX);
	memcpy(p, &rc->number, 4);
	memcpy(p + 4, &n, 2);
	if (rc->text.n > 0)
		memcpy(p + RCPT_HEAD, rc->text.p, rc->text.n);
	r->end += (uint32_t)run_packed_n(rc);
	r->count++;
}

bool run_next(const struct run *r, uint32_t *at, struct recipient *ret)
{
	const char *p = r->packed + *at;
	uint16_t n;

	if (*at >= r->end)
		return false;
	memcpy(&ret->number, p, 4);
	memcpy(&n, p + 4, 2);
	ret->text = span_of(p + RCPT_HEAD, n >> 1);
	ret->whole = n & 1;
	*at += (uint32_t)run_packed_n(ret);
	check(*at <= r->end);
	return true;
}

struct run *run_split(struct run *r, uint32_t n)
{
	struct recipient rc;
	struct run *front;
	uint32_t cut = r->at;

	check(n > 0 && n < r->count);
	for (uint32_t i = 0; i < n; i++)
		check(run_next(r, &cut, &rc));
	front = run_new(r->message, r->lane, cut - r->at);
	memcpy(front->packed, r->packed + r->at, cut - r->at);
	front->end = cut - r->at;
	front->count = n;
	front->attempt = r->attempt;
	front->reason = r->reason;
	r->at = cut;
	r->count -= n;
	return front;
}

void run_keep(struct run *r, const bool *keep)
{
	struct recipient rc;
	uint32_t from = r->at, to = 0, count = r->count;

	r->count = 0;
	for (uint32_t i = 0; i < count; i++) {
		uint32_t begin = from;

		check(run_next(r, &from, &rc));
		if (!keep[i])
			continue;
		memmove(r->packed + to, r->packed + begin, from - begin);
		to += from - begin;
		r->count++;
	}
	r->at = 0;
	r->end = to;
}

void run_queue_add(struct run_queue *q, struct run *r)
{
	r->next = NULL;
	if (q->first)
		q->last->next = r;
	else
		q->first = r;
	q->last = r;
}

struct run *run_queue_take(struct run_queue *q)
{
	struct run *r = q->first;

	if (!r)
		return NULL;
	q->first = r->next;
	r->next = NULL;
	return r;
}
