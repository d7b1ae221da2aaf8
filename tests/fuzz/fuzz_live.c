/* Live, with records that no journald would write, in an order that none would have: MSGs twice and with
 * other numbers of recipients, bounces of themselves, copies of what is not there, segments
 * that vanish.  Whatever comes: the live bytes of a segment are those of the records that live wants, and
 * when all segments are gone nothing is left. */
#include "core/pool.h"
#include "journal/live.h"

#include <string.h>

#define SEGMENT  65536ull
#define SEGMENTS 5
#define IDS      6
#define RECORDS  400

struct kept {
	struct record r;
	char body[128];
};
static struct kept records[RECORDS];
static unsigned records_n;
static uint64_t base[SEGMENTS], next[SEGMENTS]; /* base: number of what the segment is now */

static uint8_t take(const uint8_t **p, const uint8_t *end)
{
	return *p < end ? *(*p)++ : 0;
}

static uint32_t ranges(char *to, unsigned n, const uint8_t **p, const uint8_t *end)
{
	for (unsigned i = 0; i < n; i++) {
		struct msg_range r = {.first = take(p, end) % 70};

		r.last = r.first + take(p, end) % 40;
		memcpy(to + i * sizeof(r), &r, sizeof(r));
	}
	return n * (uint32_t)sizeof(struct msg_range);
}

static uint32_t make_msg(char *to, const uint8_t **p, const uint8_t *end)
{
	uint8_t x = take(p, end), y = take(p, end);
	struct rec_msg m = {.rcpts = x % 5 == 4 ? x : x % 5, .parent = y & 1 ? y / 2 % IDS + 1u : 0};

	m.settles_n = m.parent ? y / 32 % 4 : 0;
	ranges(to + sizeof(m), m.settles_n, p, end);
	memcpy(to, &m, sizeof(m));
	return (uint32_t)(sizeof(m) + m.settles_n * sizeof(struct msg_range));
}

static uint32_t make_state(char *to, const uint8_t **p, const uint8_t *end)
{
	uint8_t x = take(p, end);
	struct rec_state s = {.outcome = (uint8_t)(1 + x % 6), .attempt = take(p, end) % 6};

	s.ranges_n = x / 64;
	ranges(to + sizeof(s), s.ranges_n, p, end);
	memcpy(to, &s, sizeof(s));
	return (uint32_t)(sizeof(s) + s.ranges_n * sizeof(struct msg_range));
}

static void make(struct kept *k, const uint8_t **p, const uint8_t *end)
{
	static const uint8_t types[] = {REC_BODY, REC_RCPT, REC_MSG, REC_STATE, REC_STATE, REC_ACT, REC_MSG, REC_DICT};
	uint8_t x = take(p, end);

	memset(k, 0, sizeof(*k));
	k->r.head = (struct rec_head){.type = types[x % 8], .id = x / 8 % IDS + 1u, .n = 24};
	if (k->r.head.type == REC_MSG)
		k->r.head.n = make_msg(k->body, p, end);
	if (k->r.head.type == REC_STATE)
		k->r.head.n = make_state(k->body, p, end);
	k->r.body = span_of(k->body, k->r.head.n);
}

/* false: no room in that segment */
static bool place(struct kept *k, unsigned s)
{
	if (next[s] + rec_size(k->r.head.n) > SEGMENT)
		return false;
	k->r.pos = base[s] * SEGMENT + next[s];
	next[s] += rec_size(k->r.head.n);
	return true;
}

static void agree(struct live *l)
{
	struct live_counts n;
	uint64_t all = 0;

	for (unsigned s = 0; s < SEGMENTS; s++) {
		const struct live_segment *x = live_segment(l, base[s]);
		uint64_t live = 0;

		for (unsigned i = 0; i < records_n; i++)
			if (records[i].r.pos / SEGMENT == base[s] && live_wants(l, &records[i].r))
				live += rec_size(records[i].r.head.n);
		check(live == (x ? x->live : 0));
		all += live;
	}
	live_count(l, &n);
	check(n.live_bytes == all);
	check(n.entries <= IDS);
}

static void vanish(struct live *l, unsigned s)
{
	unsigned n = 0;

	live_gone(l, base[s]);
	while (live_work(l, 1))
		;
	for (unsigned i = 0; i < records_n; i++) {
		if (records[i].r.pos / SEGMENT == base[s])
			continue;
		records[n] = records[i];
		records[n].r.body.p = records[n].body;
		n++;
	}
	records_n = n;
	base[s] += SEGMENTS; /* a number is never used again */
	next[s] = 4096;
}

static void copy(struct live *l, const uint8_t **p, const uint8_t *end)
{
	struct kept *k = &records[records_n];
	const struct kept *from;

	if (records_n == 0)
		return;
	from = &records[take(p, end) % records_n];
	*k = *from;
	k->r.body.p = k->body;
	if (!place(k, take(p, end) % SEGMENTS))
		return;
	records_n++;
	live_copied(l, &k->r, from->r.pos);
}

static void step(struct live *l, const uint8_t **p, const uint8_t *end)
{
	uint8_t x = take(p, end);
	struct kept *k = &records[records_n];

	if (x < 160) {
		make(k, p, end);
		if (!place(k, x % SEGMENTS))
			return;
		records_n++;
		live_record(l, &k->r);
	} else if (x < 215) {
		copy(l, p, end);
	} else if (x < 235) {
		vanish(l, x % SEGMENTS);
	} else if (x < 245) {
		live_abandon(l, x % IDS + 1u);
	} else if (x < 250) {
		live_forget_parts(l, x % IDS + 1u);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	const uint8_t *end = p + (n < 2000 ? n : 2000);
	struct live *l = live_new(SEGMENT);
	struct live_counts left;

	records_n = 0;
	for (unsigned s = 0; s < SEGMENTS; s++) {
		base[s] = s + 1;
		next[s] = 4096;
	}
	for (unsigned i = 0; p < end && records_n < RECORDS - 1; i++) {
		step(l, &p, end);
		if (i % 8 == 0)
			agree(l);
	}
	agree(l);
	live_forget_parts(l, UINT64_MAX);
	agree(l);
	for (unsigned s = 0; s < SEGMENTS; s++)
		vanish(l, s);
	live_count(l, &left);
	check(left.messages == 0 && left.recipients_left == 0 && left.live_bytes == 0 && left.entries == 0);
	live_free(l);
	return 0;
}
