/* plan_fake - a world for the plan: a journal of records in memory, agents that are told what
 * to answer, a body that makes bounces, and a clock that is moved by hand. */
#ifndef TESTS_PLAN_FAKE_H
#define TESTS_PLAN_FAKE_H

#include "core/clock.h"
#include "core/log.h"
#include "core/pool.h"
#include "core/rand.h"
#include "mail/envelope.h"
#include "mail/role.h"
#include "sched/plan.h"
#include "sched/view.h"
#include "tests/unit/mail_test.h"

#define FAKE_START_MONO 1000000000ull /* us */
#define FAKE_START_WALL 1700000000000000ull
#define FAKE_MAX        4096
#define PART_RCPTS      7 /* recipients in one RCPT part: several parts soon */

struct fake_rec {
	uint64_t pos;
	struct rec_head head;
	struct span body;
};
struct fake_delivery {
	uint32_t role, index;
	struct msg_deliver d;
	struct span sender, packed;
	bool answered;
};
struct fake_bounce {
	uint32_t body;
	struct msg_bounce b;
	struct span tail;
	bool done;
};

struct fake {
	struct plan plan;
	struct plan_world world;
	struct control *control;
	struct arena mem;
	struct fake_rec recs[FAKE_MAX];
	unsigned recs_n, fed;
	struct fake_delivery deliveries[FAKE_MAX];
	unsigned deliveries_n;
	struct fake_bounce bounces[64];
	unsigned bounces_n;
	struct buf outcomes, log;
	unsigned opened, closed;
	uint64_t mono, wall, next_pos;
};

static inline void fake_open(void *ctx, uint32_t body, const struct msg_open *o)
{
	((struct fake *)ctx)->opened++;
}

static inline void fake_close(void *ctx, uint32_t body, const struct msg_close *c)
{
	((struct fake *)ctx)->closed++;
}

static inline struct span fake_keep(struct fake *f, struct span s)
{
	struct span kept = arena_dup(&f->mem, s);

	assert_int_equal(kept.n, s.n);
	return kept;
}

static inline void fake_deliver(void *ctx, uint32_t role, uint32_t index,
				const struct msg_deliver *d, struct span sender,
				struct span packed)
{
	struct fake *f = ctx;

	assert_true(f->deliveries_n < FAKE_MAX);
	f->deliveries[f->deliveries_n++] = (struct fake_delivery){
		role, index, *d, fake_keep(f, sender), fake_keep(f, packed), false};
}

static inline void fake_outcomes(void *ctx, struct span bytes)
{
	assert_true(buf_add(&((struct fake *)ctx)->outcomes, bytes));
}

static inline void fake_bounce(void *ctx, uint32_t body, const struct msg_bounce *b,
			       struct span tail)
{
	struct fake *f = ctx;

	assert_true(f->bounces_n < ARRAY_N(f->bounces));
	f->bounces[f->bounces_n++] = (struct fake_bounce){body, *b, fake_keep(f, tail), false};
}

static inline enum read_result fake_read(void *ctx, uint64_t pos, enum rec_type type,
					 uint64_t id, uint32_t number, struct record *ret)
{
	struct fake *f = ctx;

	for (unsigned i = 0; i < f->recs_n; i++) {
		const struct fake_rec *r = &f->recs[i];

		if (r->pos != pos || r->head.type != type || r->head.id != id ||
		    r->head.number != number)
			continue;
		*ret = (struct record){r->pos, r->head, r->body};
		return READ_OK;
	}
	return READ_GONE;
}

static inline void fake_log(void *ctx, struct span line)
{
	struct fake *f = ctx;

	assert_true(buf_add(&f->log, line) && buf_add_byte(&f->log, '\n'));
}

static inline void fake_advance(struct fake *f, uint64_t s)
{
	f->mono += s * 1000000;
	f->wall += s * 1000000;
	clock_set(f->mono, f->wall);
}

static inline void fake_advance_ms(struct fake *f, uint64_t ms)
{
	f->mono += ms * 1000;
	f->wall += ms * 1000;
	clock_set(f->mono, f->wall);
}

static inline void fake_set(struct fake *f, const char *name, const char *value)
{
	assert_true(control_set(f->control, span_str(name), span_str(value)));
}

static inline void fake_init(struct fake *f)
{
	memset(f, 0, sizeof(*f));
	f->mono = FAKE_START_MONO;
	f->wall = FAKE_START_WALL;
	f->next_pos = 4096;
	clock_set(f->mono, f->wall);
	rand_seed(1);
	arena_init(&f->mem, 1 << 16, 1 << 30);
	buf_init(&f->outcomes, 1 << 26);
	buf_init(&f->log, 1 << 26);
	f->world = (struct plan_world){
		f, fake_open, fake_close, fake_deliver, fake_outcomes, fake_bounce, fake_read};
	f->control = control_new();
	fake_set(f, "me", "here.example\n");
	fake_set(f, "locals", "here.example\n");
	log_capture(fake_log, f);
}

static inline void fake_plan(struct fake *f)
{
	plan_init(&f->plan, &f->world, f->control);
}

static inline void fake_fini(struct fake *f)
{
	plan_fini(&f->plan);
	control_free(f->control);
	buf_free(&f->outcomes);
	buf_free(&f->log);
	arena_fini(&f->mem);
	log_capture(NULL, NULL);
}

/* ---- records */

static inline uint64_t fake_add(struct fake *f, enum rec_type type, uint64_t id,
				uint32_t number, struct span body)
{
	struct fake_rec *r = &f->recs[f->recs_n++];
	struct span piece;

	assert_true(f->recs_n <= FAKE_MAX);
	r->pos = f->next_pos;
	r->body = fake_keep(f, body);
	r->head = (struct rec_head){
		.type = (uint8_t)type, .id = id, .number = number, .version = REC_LAYOUT};
	piece = r->body;
	rec_seal_head(&r->head, &piece, 1);
	f->next_pos += sizeof(r->head) + (body.n + 7) / 8 * 8;
	return r->pos;
}

struct fake_msg {
	uint64_t id, parent;
	const char *sender;
	const char *const *rcpts; /* or, with NULL, rcpts_n made-up ones: u<i>@<domain> */
	const char *domain;
	uint32_t rcpts_n;
	const struct msg_range *settles;
	uint16_t settles_n;
};

/* Its RCPT parts, then its MSG, as journald writes them. */
static inline void fake_submit(struct fake *f, const struct fake_msg *fm)
{
	struct rec_msg m = {.arrival_us = f->wall,
			    .size = 100,
			    .parent = fm->parent,
			    .rcpts = fm->rcpts_n,
			    .uid = 7,
			    .pid = 77,
			    .settles_n = fm->settles_n,
			    .sender_n = (uint16_t)strlen(fm->sender)};
	struct buf b, parts;

	buf_init(&b, 1 << 20);
	buf_init(&parts, 1 << 20);
	for (uint32_t i = 0; i < fm->rcpts_n; i += PART_RCPTS) {
		uint32_t n = fm->rcpts_n - i < PART_RCPTS ? fm->rcpts_n - i : PART_RCPTS;
		struct rec_rcpt head = {i, n};
		uint64_t pos;

		buf_clear(&b);
		assert_true(buf_add(&b, span_of(&head, sizeof(head))));
		for (uint32_t k = i; k < i + n; k++) {
			char made[300];

			snprintf(made, sizeof(made), "u%u@%s", k, fm->domain ? fm->domain : "");
			assert_true(packed_add(&b, span_str(fm->rcpts ? fm->rcpts[k] : made)));
		}
		pos = fake_add(f, REC_RCPT, fm->id, m.rcpt_parts++, buf_span(&b));
		assert_true(buf_add(&parts, span_of(&pos, sizeof(pos))));
	}
	buf_clear(&b);
	assert_true(buf_add(&b, span_of(&m, sizeof(m))) && buf_add(&b, buf_span(&parts)));
	assert_true(buf_add(&b, span_of(fm->settles, fm->settles_n * sizeof(*fm->settles))));
	assert_true(buf_add(&b, span_str(fm->sender)));
	fake_add(f, REC_MSG, fm->id, 0, buf_span(&b));
	buf_free(&b);
	buf_free(&parts);
}

static inline void fake_feed_one(struct fake *f, unsigned i)
{
	struct record r = {f->recs[i].pos, f->recs[i].head, f->recs[i].body};

	assert_true(rec_ok(&r.head, r.body));
	plan_record(&f->plan, &r);
}

static inline void fake_feed(struct fake *f)
{
	while (f->fed < f->recs_n)
		fake_feed_one(f, f->fed++);
}

/* What the plan said becomes STATEs, as journald writes them. */
static inline void fake_write_outcomes(struct fake *f)
{
	struct span all = buf_span(&f->outcomes);
	struct buf b;

	buf_init(&b, 1 << 20);
	while (all.n > 0) {
		struct msg_outcome o;
		struct rec_state st;
		size_t n;

		memcpy(&o, span_cut(&all, sizeof(o)).p, sizeof(o));
		st = (struct rec_state){.at_us = o.at_us,
					.next_us = o.next_us,
					.attempt = o.attempt,
					.ranges_n = o.ranges_n,
					.text_n = o.text_n,
					.outcome = o.outcome};
		n = o.ranges_n * sizeof(struct msg_range) + o.text_n;
		buf_clear(&b);
		assert_true(buf_add(&b, span_of(&st, sizeof(st))) &&
			    buf_add(&b, span_until(all, n)));
		span_cut(&all, o.ranges_n * sizeof(struct msg_range) + MSG_PAD8(o.text_n));
		fake_add(f, REC_STATE, o.id, 0, buf_span(&b));
	}
	buf_clear(&f->outcomes);
	buf_free(&b);
}

/* A pass after the outcome delay, with journald answering at once. */
static inline void fake_settle(struct fake *f)
{
	plan_tick(&f->plan);
	fake_advance_ms(f, OUTCOME_DELAY_MS);
	plan_tick(&f->plan);
	fake_write_outcomes(f);
	fake_feed(f);
	plan_tick(&f->plan);
}

static inline void fake_ready(struct fake *f, uint32_t slots)
{
	fake_feed(f);
	plan_ready(&f->plan);
	plan_body(&f->plan, 0, true);
	assert_true(plan_agent(&f->plan, ROLE_REMOTE, 0, slots));
	assert_true(plan_agent(&f->plan, ROLE_LSPAWN, 0, slots));
	plan_tick(&f->plan);
}

/* The plan ends as by SIGKILL; a new one sees the journal, in a random order if shuffled. */
static inline void fake_restart(struct fake *f, uint32_t slots, bool shuffled)
{
	unsigned order[FAKE_MAX];

	plan_fini(&f->plan);
	buf_clear(&f->outcomes);
	f->deliveries_n = f->bounces_n = 0;
	fake_plan(f);
	for (unsigned i = 0; i < f->recs_n; i++)
		order[i] = i;
	for (unsigned i = f->recs_n; shuffled && i > 1; i--) {
		unsigned k = (unsigned)rand_below(i), t = order[k];

		order[k] = order[i - 1];
		order[i - 1] = t;
	}
	for (unsigned i = 0; i < f->recs_n; i++)
		fake_feed_one(f, order[i]);
	f->fed = f->recs_n;
	fake_ready(f, slots);
}

/* ---- agents and body */

struct fake_result {
	uint8_t outcome, slow;
	const char *text;
};

static inline bool fake_verdict(struct fake *f, struct fake_delivery *d,
				const struct fake_result *rs, uint32_t n)
{
	struct msg_verdict v = {d->d.job, n};
	struct buf b;
	bool ok;

	buf_init(&b, 1 << 20);
	for (uint32_t i = 0; i < n; i++) {
		struct msg_result r = {.rcpt = i,
				       .outcome = rs[i].outcome,
				       .slow = rs[i].slow,
				       .text_n = (uint16_t)strlen(rs[i].text)};
		size_t pad = MSG_PAD8((size_t)r.text_n) - r.text_n;

		assert_true(buf_add(&b, span_of(&r, sizeof(r))) &&
			    buf_add(&b, span_str(rs[i].text)));
		assert_true(buf_add(&b, span_of("\0\0\0\0\0\0\0", pad)));
	}
	d->answered = true;
	ok = plan_verdict(&f->plan, d->role, d->index, &v, buf_span(&b));
	buf_free(&b);
	return ok;
}

/* The same for all recipients of delivery i. */
static inline void fake_answer(struct fake *f, unsigned i, uint8_t outcome, const char *text)
{
	struct fake_result rs[JOB_RCPTS_MAX];

	assert_true(i < f->deliveries_n && !f->deliveries[i].answered);
	for (uint32_t k = 0; k < f->deliveries[i].d.rcpts; k++)
		rs[k] = (struct fake_result){outcome, 0, text};
	assert_true(fake_verdict(f, &f->deliveries[i], rs, f->deliveries[i].d.rcpts));
}

static inline void fake_answer_all(struct fake *f, uint8_t outcome, const char *text)
{
	for (unsigned i = 0; i < f->deliveries_n; i++)
		if (!f->deliveries[i].answered)
			fake_answer(f, i, outcome, text);
}

static inline struct span fake_bounce_text(const struct fake_bounce *b)
{
	return span_from(b->tail, (size_t)b->b.sender_n + b->b.rcpt_n +
					  b->b.settles_n * sizeof(struct msg_range));
}

static inline struct span fake_bounce_to(const struct fake_bounce *b)
{
	return span_until(span_from(b->tail, b->b.sender_n), b->b.rcpt_n);
}

/* body and journald did their part: the bounce's MSG is in the journal. */
static inline void fake_bounce_done(struct fake *f, unsigned i, uint64_t id)
{
	struct fake_bounce *b = &f->bounces[i];
	struct msg_range ranges[64];
	char sender[64] = "", to[1024] = "";
	const char *rcpts[1] = {to};
	struct fake_msg m = {.id = id,
			     .parent = b->b.id,
			     .sender = sender,
			     .rcpts = rcpts,
			     .rcpts_n = 1,
			     .settles = ranges,
			     .settles_n = b->b.settles_n};

	assert_true(i < f->bounces_n && !b->done && b->b.settles_n <= ARRAY_N(ranges));
	b->done = true;
	memcpy(sender, b->tail.p, b->b.sender_n);
	memcpy(to, fake_bounce_to(b).p, b->b.rcpt_n);
	memcpy(ranges, b->tail.p + b->b.sender_n + b->b.rcpt_n,
	       b->b.settles_n * sizeof(*ranges));
	fake_submit(f, &m);
	fake_feed(f);
	plan_tick(&f->plan);
}

static inline struct span fake_rcpt(const struct fake_delivery *d, unsigned i)
{
	struct span packed = d->packed, addr = SPAN_NONE;

	for (unsigned k = 0; k <= i; k++)
		assert_true(packed_next(&packed, &addr));
	return addr;
}

static inline bool fake_logged(const struct fake *f, const char *what)
{
	return memmem(f->log.p, f->log.n, what, strlen(what)) != NULL;
}
#define assert_logged(f, what)                                                                 \
	do {                                                                                   \
		if (!fake_logged(f, what))                                                     \
			fail_msg("not logged: \"%s\" in\n%.*s", what,                          \
				 SPAN_ARG(buf_span(&(f)->log)));                               \
	} while (0)

#endif
