#include "journal_home.h"

#include "journal/index.h"
#include "journal/sweep.h"

static unsigned loaded, damages;
static uint64_t damaged_at[64];

static void on_loaded(void *ctx)
{
	loaded++;
}

static void on_damaged(void *ctx, uint64_t pos)
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

static void on_moved(void *ctx, uint64_t durable)
{
	home_on_moved(ctx, durable);
	if (following && following->sweep)
		sweep_moved(following->sweep);
}

static void begin(struct swept *s)
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

static void sweep_it(struct swept *s, bool one_thread)
{
	s->errands = errands_new(s->home.loop, one_thread);
	s->sweep = sweep_new(s->home.loop, s->errands, s->home.disk, &s->home.ring, HOME_SEGMENT, 1, &calls,
			     NULL);
}

static void stop(struct swept *s)
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

static uint64_t put(struct home *h, struct rec_head head, const void *a, size_t a_n, const void *b, size_t b_n)
{
	struct span pieces[2] = {span_of(a, a_n), span_of(b, b_n)};
	uint64_t pos;

	while (!(pos = commit_add(h->commit, &head, pieces, 2, 0)))
		loop_pass(h->loop);
	return pos;
}

static void send_mail(struct home *h, uint64_t id, size_t n)
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

static void deliver(struct home *h, uint64_t id)
{
	struct rec_state s = {.outcome = OUTCOME_DELIVERED, .ranges_n = 1};
	struct msg_range r = {0, 0};

	put(h, (struct rec_head){.type = REC_STATE, .id = id}, &s, sizeof s, &r, sizeof r);
}

/* The same as a live that reads all of the stopped journal. */
static void agrees(struct swept *s, uint64_t below)
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

static size_t size_of(unsigned i)
{
	return i % 7 == 3 ? 30000 : 100 + i * 37 % 6000;
}

static void fill(struct swept *s, uint64_t from, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		send_mail(&s->home, from + i * 64, size_of(i));
		if (i % 3)
			deliver(&s->home, from + i * 64);
		if (i % 5 == 0)
			loop_pass(s->home.loop);
	}
}

static void wait_loaded(struct swept *s)
{
	while (!loaded)
		loop_pass(s->home.loop);
}

/* What an earlier run left, and what comes while it is read and later. */
static void everything(enum loop_kind kind, bool one_thread, unsigned meanwhile)
{
	struct swept s = {0};
	struct live_counts n;

	home_init(&s.home, kind);
	begin(&s);
	fill(&s, 1000, 150);
	stop(&s);
	begin(&s);
	sweep_it(&s, one_thread);
	assert_null(sweep_live(s.sweep));
	fill(&s, 1000000, meanwhile);
	wait_loaded(&s);
	assert_int_equal(loaded, 1);
	agrees(&s, 0);
	fill(&s, 2000000, 150);
	agrees(&s, 0);
	assert_int_equal(loaded, 1);
	assert_int_equal(damages, 0);
	live_count(sweep_live(s.sweep), &n);
	assert_int_equal(n.messages, 100 + (meanwhile + 2) / 3);
	stop(&s);
	home_fini(&s.home);
}

static void what_was_and_what_comes_is_seen(void **state)
{
	everything(LOOP_EPOLL, false, 3);
	everything(LOOP_AUTO, false, 0);
	everything(LOOP_EPOLL, true, 3);
}

/* Much more than the ring holds is written before the first errand is done. */
static void the_ring_may_be_overtaken_while_loading(void **state)
{
	everything(LOOP_EPOLL, true, 900);
	everything(LOOP_AUTO, false, 900);
}

static void an_empty_journal_is_loaded_at_once(void **state)
{
	struct swept s = {0};

	home_init(&s.home, LOOP_EPOLL);
	begin(&s);
	sweep_it(&s, false);
	wait_loaded(&s);
	fill(&s, 1000, 40);
	agrees(&s, 0);
	stop(&s);
	home_fini(&s.home);
}

static void damage_is_said_once_a_place(void **state)
{
	struct swept s = {0};
	uint64_t bad[2];

	home_init(&s.home, LOOP_EPOLL);
	begin(&s);
	fill(&s, 1000, 100);
	bad[0] = commit_number(s.home.commit) - 2;
	bad[1] = bad[0] - 2;
	stop(&s);
	for (unsigned i = 0; i < 2; i++)
		home_flip(&s.home, bad[i] * HOME_SEGMENT + 5 * BLOCK_SIZE + 1000, 1);
	begin(&s);
	sweep_it(&s, false);
	wait_loaded(&s);
	assert_int_equal(damages, 2);
	assert_int_equal(damaged_at[0] / HOME_SEGMENT, bad[1]);
	assert_int_equal(damaged_at[1] / HOME_SEGMENT, bad[0]);
	assert_true(sweep_is_damaged(s.sweep, bad[0]));
	assert_true(sweep_is_damaged(s.sweep, bad[1]));
	assert_false(sweep_is_damaged(s.sweep, bad[0] + 1));
	agrees(&s, 0);
	fill(&s, 2000000, 100);
	assert_int_equal(damages, 2);
	stop(&s);
	home_fini(&s.home);
}

static unsigned rotten_lines;

static void on_line(void *ctx, struct span line)
{
	rotten_lines += line.n > 4 && memmem(line.p, line.n, "idx-0000000000000002", 20) != NULL;
}

static void a_rotten_index_is_named_and_the_rest_used(void **state)
{
	struct swept s = {0};
	struct journal_end end;
	char path[128];
	int fd;

	home_init(&s.home, LOOP_EPOLL);
	begin(&s);
	fill(&s, 1000, 100);
	stop(&s);
	assert_int_not_equal(home_recover(&s.home, &end), RECOVERED_FAILED);
	for (uint32_t i = 0; i < end.segments_n; i++)
		if (end.segments[i].end)
			assert_int_equal(index_make(s.home.disk, end.uuid, end.segments[i].number, HOME_SEGMENT,
						    end.segments[i].end),
					 0);
	journal_end_fini(&end);
	snprintf(path, sizeof path, "%s/idx-0000000000000002", s.home.dir);
	fd = open(path, O_WRONLY);
	assert_int_equal(pwrite(fd, "rot", 3, 200), 3);
	close(fd);
	rotten_lines = 0;
	log_capture(on_line, NULL);
	begin(&s);
	sweep_it(&s, false);
	wait_loaded(&s);
	assert_int_equal(rotten_lines, 1);
	assert_int_equal(damages, 0);
	agrees(&s, 0);
	stop(&s);
	log_capture(home_drop_line, NULL);
	home_fini(&s.home);
}

static void it_may_end_at_any_time(void **state)
{
	struct swept s = {0};

	home_init(&s.home, LOOP_EPOLL);
	begin(&s);
	fill(&s, 1000, 100);
	stop(&s);
	for (unsigned i = 0; i < 5; i++) {
		begin(&s);
		sweep_it(&s, i % 2);
		for (unsigned k = 0; k < i; k++)
			loop_pass(s.home.loop);
		stop(&s);
	}
	home_fini(&s.home);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_was_and_what_comes_is_seen),
		cmocka_unit_test(the_ring_may_be_overtaken_while_loading),
		cmocka_unit_test(an_empty_journal_is_loaded_at_once),
		cmocka_unit_test(damage_is_said_once_a_place),
		cmocka_unit_test(a_rotten_index_is_named_and_the_rest_used),
		cmocka_unit_test(it_may_end_at_any_time),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
