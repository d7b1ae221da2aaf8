/* sweep_home - a sweep beside a commit, on a real disk; who moves errands is the test's choice.
 * Included by test_sweep.c and test_sweep_behind.c. */
#ifndef UNIT_SWEEP_HOME_H
#define UNIT_SWEEP_HOME_H

#include "journal_home.h"

#include "journal/sweep.h"

static unsigned loaded, damages;
static uint64_t damaged_at[64];

static inline void on_loaded(void *ctx)
{
	loaded++;
}

static inline void on_damaged(void *ctx, uint64_t pos)
{
	damaged_at[damages++ % 64] = pos;
}

static const struct sweep_calls calls = {on_loaded, on_damaged};

struct swept {
	struct home home;
	struct errands *errands;
	struct sweep *sweep;
};
static struct swept *following; /* whose sweep is told of what moves */

static inline void on_moved(void *ctx, uint64_t durable)
{
	home_on_moved(ctx, durable);
	if (following && following->sweep)
		sweep_moved(following->sweep);
}

static inline void begin(struct swept *s)
{
	struct home *h = &s->home;
	static struct commit_calls moved;
	struct journal_end end;

	moved = home_calls;
	moved.moved = on_moved;
	loaded = damages = 0;
	following = s;
	assert_int_not_equal(home_recover(h, &end), RECOVERED_FAILED);
	assert_int_equal(ring_make(&h->ring, HOME_RING, HOME_SEGMENT), 0);
	assert_int_equal(commit_open(&h->commit, h->loop, h->disk, &h->ring, &end,
				     &(struct commit_options){.segment_size = HOME_SEGMENT,
							      .shard = 1,
							      .direct = h->direct},
				     &moved, h),
			 0);
	journal_end_fini(&end);
}

static inline void sweep_it(struct swept *s, bool one_thread)
{
	s->errands = errands_new(s->home.loop, one_thread);
	s->sweep = sweep_new(s->home.loop, s->errands, s->home.disk, &s->home.ring, HOME_SEGMENT, 1, &calls,
			     NULL);
}

static inline void stop(struct swept *s)
{
	home_settle(&s->home);
	if (s->errands) {
		errands_close(s->errands);
		while (!errands_is_closed(s->errands))
			loop_pass(s->home.loop);
		sweep_free(s->sweep);
		errands_free(s->errands);
	}
	s->sweep = NULL;
	s->errands = NULL;
	home_close(&s->home);
}

static inline uint64_t put(struct home *h, struct rec_head head, const void *a, size_t a_n, const void *b, size_t b_n)
{
	struct span pieces[2] = {span_of(a, a_n), span_of(b, b_n)};
	uint64_t pos;

	while (!(pos = commit_add(h->commit, &head, pieces, 2, 0)))
		loop_pass(h->loop);
	return pos;
}

static inline void send_mail(struct home *h, uint64_t id, size_t n)
{
	static char frame[BODY_PART_MAX];
	struct rec_body body = {.raw_n = (uint32_t)n};
	struct rec_rcpt rcpt = {0, 1};
	struct rec_msg msg = {.rcpts = 1, .body_parts = 1, .rcpt_parts = 1};
	uint64_t at[2];

	memset(frame, 'm', n);
	at[0] = put(h, (struct rec_head){.type = REC_BODY, .id = id}, &body, sizeof body, frame, n);
	at[1] = put(h, (struct rec_head){.type = REC_RCPT, .id = id}, &rcpt, sizeof rcpt, "\5\0a@b.c", 7);
	put(h, (struct rec_head){.type = REC_MSG, .id = id}, &msg, sizeof msg, at, sizeof at);
}

static inline void deliver(struct home *h, uint64_t id)
{
	struct rec_state s = {.outcome = OUTCOME_DELIVERED, .ranges_n = 1};
	struct msg_range r = {0, 0};

	put(h, (struct rec_head){.type = REC_STATE, .id = id}, &s, sizeof s, &r, sizeof r);
}

/* The same as a live that reads all of the stopped journal. */
static inline void agrees(struct swept *s, uint64_t below)
{
	struct live *x = live_new(HOME_SEGMENT), *y = sweep_live(s->sweep);
	const struct live_segment *v, *w;
	uint32_t n, m;
	struct reader *r;
	struct record rec;

	assert_non_null(y);
	home_settle(&s->home);
	r = reader_new(s->home.disk, &s->home.ring, HOME_SEGMENT, 1);
	struct buf why;
	buf_init(&why, 512);
	assert_int_equal(reader_open(r, &why), 0);
	buf_free(&why);
	for (;;) {
		enum read_result got = reader_next(r, BODIES_WHOLE, &rec);

		if (got == READ_OK)
			live_record(x, &rec);
		else if (got != READ_DAMAGE)
			break;
	}
	live_forget_parts(x, below);
	live_forget_parts(y, below);
	v = live_segments(x, &n);
	w = live_segments(y, &m);
	assert_true(n > 0);
	assert_int_equal(n, m);
	for (uint32_t i = 0; i < n; i++) {
		assert_int_equal(v[i].number, w[i].number);
		assert_int_equal(v[i].bytes, w[i].bytes);
		assert_int_equal(v[i].live, w[i].live);
		assert_int_equal(v[i].messages, w[i].messages);
		assert_int_equal(v[i].open, w[i].open);
	}
	reader_free(r);
	live_free(x);
}

static inline size_t size_of(unsigned i)
{
	return i % 7 == 3 ? 30000 : 100 + i * 37 % 6000;
}

static inline void fill(struct swept *s, uint64_t from, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		send_mail(&s->home, from + i * 64, size_of(i));
		if (i % 3)
			deliver(&s->home, from + i * 64);
		if (i % 5 == 0)
			loop_pass(s->home.loop);
	}
}

static inline void wait_loaded(struct swept *s)
{
	while (!loaded)
		loop_pass(s->home.loop);
}

#endif
