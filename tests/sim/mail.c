/* Mail as front ends send it: parts of many messages mixed, abandoned ones, outcomes. */
#include "world.h"

#include "core/pool.h"
#include "core/rand.h"
#include "mail/envelope.h"

#include <string.h>

#define OPEN_MAX  6
#define KNOWN_MAX 64 /* messages that outcomes are made up for */
#define PARTS_MAX 4
#define PART_N    2500
#define BIG_N     20000

struct letter {
	bool open;
	uint64_t id;
	uint32_t body_parts, rcpt_parts, parts_wanted, rcpts;
	uint64_t at[PARTS_MAX + 2], size;
};
struct mail {
	struct world *world;
	struct letter letters[OPEN_MAX];
	uint64_t known[KNOWN_MAX];
	uint32_t serial;
	char noise[BIG_N + 4096];
};

struct mail *mail_new(struct world *w)
{
	struct mail *m = mem_new(sizeof *m);

	m->world = w;
	for (size_t i = 0; i < sizeof m->noise; i += 8) {
		uint64_t r = rand_u64();

		memcpy(m->noise + i, &r, 8);
	}
	/* Zeros look like what was never written. */
	memset(m->noise + 3000, 0, 1500);
	return m;
}

void mail_free(struct mail *m)
{
	mem_free(m);
}

static struct span noise(struct mail *m, size_t n)
{
	return span_of(m->noise + rand_below(sizeof m->noise - n), n);
}

static void begin(struct mail *m, struct letter *l)
{
	*l = (struct letter){.open = true, .id = world_new_id(m->world)};
	l->parts_wanted = (uint32_t)rand_below(PARTS_MAX + 1);
}

static void add_body(struct mail *m, struct letter *l)
{
	struct span raw = noise(m, rand_below(20) ? rand_below(PART_N) : rand_below(BIG_N));
	struct rec_body b = {
		.raw_n = (uint32_t)raw.n, .raw_hash = hash64(raw.p, raw.n), .codec = CODEC_RAW};
	struct rec_head h = {.type = REC_BODY, .id = l->id, .number = l->body_parts};
	uint64_t at =
		world_add(m->world, &h, (struct span[]){span_of(&b, sizeof b), raw}, 2, false);

	if (!at)
		return;
	l->at[l->body_parts++] = at;
	l->size += raw.n;
}

static void add_rcpts(struct mail *m, struct letter *l)
{
	struct rec_rcpt r = {.first = 0, .count = 1 + (uint32_t)rand_below(5)};
	struct rec_head h = {.type = REC_RCPT, .id = l->id};
	struct buf packed;
	uint64_t at;

	buf_init(&packed, 4096);
	for (uint32_t i = 0; i < r.count; i++)
		check(packed_add(&packed, SPAN("somebody@example.org")));
	at = world_add(m->world, &h, (struct span[]){span_of(&r, sizeof r), buf_span(&packed)},
		       2, false);
	buf_free(&packed);
	if (!at)
		return;
	l->at[l->body_parts] = at;
	l->rcpt_parts = 1;
	l->rcpts = r.count;
}

static void add_msg(struct mail *m, struct letter *l)
{
	struct span sender = SPAN("sender@example.net");
	struct rec_msg msg = {
		.size = l->size,
		.body_parts = l->body_parts,
		.rcpt_parts = l->rcpt_parts,
		.rcpts = l->rcpts,
		.sender_n = (uint16_t)sender.n,
	};
	struct rec_head h = {.type = REC_MSG, .id = l->id};
	size_t parts = l->body_parts + l->rcpt_parts;

	if (!world_add(m->world, &h,
		       (struct span[]){span_of(&msg, sizeof msg), span_of(l->at, parts * 8),
				       sender},
		       3, true))
		return;
	l->open = false;
	m->known[rand_below(KNOWN_MAX)] = l->id;
}

static void go_on(struct mail *m, struct letter *l)
{
	if (!l->open)
		begin(m, l);
	else if (rand_below(60) == 0)
		l->open = false; /* hung up: its parts are dead */
	else if (l->body_parts < l->parts_wanted)
		add_body(m, l);
	else if (!l->rcpt_parts)
		add_rcpts(m, l);
	else
		add_msg(m, l);
}

static void add_outcome(struct mail *m)
{
	uint64_t id = m->known[rand_below(KNOWN_MAX)];
	struct msg_range range = {.first = 0, .last = (uint32_t)rand_below(3)};
	struct msg_outcome o = {
		.id = id,
		.attempt = ++m->serial,
		.ranges_n = 1,
		.outcome = (uint8_t)(OUTCOME_DELIVERED + rand_below(2)),
	};

	if (id)
		(void)world_outcome(m->world, &o, &range, SPAN("250 ok"));
}

void mail_step(struct mail *m)
{
	for (uint64_t n = rand_below(6); n; n--)
		go_on(m, &m->letters[rand_below(OPEN_MAX)]);
	if (rand_below(3) == 0)
		add_outcome(m);
}
