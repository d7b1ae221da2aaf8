/* A real journald, its peers played here; what it wrote is read back when it has stopped. */
#include "journal_world.h"

#include "mail/envelope.h"
#include "mail/submit.h"

#include <poll.h>
#include <pthread.h>

static struct world   w;
static struct client *c;
static struct history h;

static int begin(enum loop_kind kind)
{
	world_begin(&w, kind);
	c = client_new(w.loop, 1);
	client_attach(c, world_peer(&w, ROLE_SMTPD, 0));
	h = (struct history){0};
	return 0;
}

static int setup_uring(void **state)
{
	return begin(LOOP_URING);
}

static int setup_epoll(void **state)
{
	return begin(LOOP_EPOLL);
}

static int teardown(void **state)
{
	client_free(c);
	history_free(&h);
	world_end(&w);
	return 0;
}

static void open_door(void)
{
	world_grant(&w, 1000000);
	world_until(&w, client_admits(c));
}

static void stop_and_read(void)
{
	world_stop(&w);
	history_read(&w, &h);
}

/* ---- submissions */

static void test_stored(void **state)
{
	const char *const to[] = {"a@b.example", "", "c@d.example", NULL};
	struct letter     l = {0};
	struct rec_msg    m;
	struct rec_rcpt   r;
	struct span       body, packed, addr;
	const struct seen *msg, *rcpt;

	open_door();
	letter_begin(&l, c);
	submission_body(&l.s, SPAN("Subject: x\n\nhello\n"));
	letter_commit(&l, "s@a.example", to);
	world_until(&w, l.done);
	assert_int_equal(l.verdict, STORED_OK);
	submission_fini(&l.s);
	stop_and_read();
	msg = history_find(&h, REC_MSG, l.id, 0);
	assert_non_null(msg);
	memcpy(&m, msg->body, sizeof(m));
	assert_int_equal(m.size, 18);
	assert_int_equal(m.body_parts, 1);
	assert_int_equal(m.rcpt_parts, 1);
	assert_int_equal(m.rcpts, 3);
	assert_int_equal(m.uid, 7);
	assert_int_equal(m.pid, 8);
	assert_int_equal(m.kind, SUBMIT_NETWORK);
	assert_int_equal(m.sender_n, 11);
	assert_true(m.arrival_us > 1700000000ull * 1000000);
	assert_memory_equal(msg->body + sizeof(m) + 16, "s@a.example", 11);
	body = history_body(&h, l.id);
	assert_int_equal(body.n, 18);
	assert_memory_equal(body.p, "Subject: x\n\nhello\n", 18);
	free((void *)body.p);
	rcpt = history_find(&h, REC_RCPT, l.id, 0);
	assert_non_null(rcpt);
	memcpy(&r, rcpt->body, sizeof(r));
	assert_int_equal(r.first, 0);
	assert_int_equal(r.count, 3);
	packed = span_of(rcpt->body + sizeof(r), rcpt->n - sizeof(r));
	for (int i = 0; i < 3; i++) {
		assert_true(packed_next(&packed, &addr));
		assert_true(span_eq(addr, span_str(to[i])));
	}
}

#define MANY 300

static int by_id(const void *a, const void *b)
{
	const struct letter *x = a, *y = b;

	return x->id < y->id ? -1 : x->id > y->id;
}

static void test_many(void **state)
{
	static struct letter l[MANY];

	open_door();
	for (int i = 0; i < MANY; i++) {
		char text[64];

		snprintf(text, sizeof(text), "body %d\n", i);
		letter_send(&l[i], c, span_str(text));
	}
	for (int i = 0; i < MANY; i++)
		world_until(&w, l[i].done);
	for (int i = 0; i < MANY; i++) {
		assert_int_equal(l[i].verdict, STORED_OK);
		submission_fini(&l[i].s);
	}
	assert_int_equal(journald_store(w.j)->deposits, 0);
	qsort(l, MANY, sizeof(l[0]), by_id);
	for (int i = 1; i < MANY; i++)
		assert_true(l[i].id > l[i - 1].id);
	stop_and_read();
	assert_int_equal(history_count(&h, REC_MSG), MANY);
	memset(l, 0, sizeof(l));
}

/* A lone message is written in the pass in which it came. */
static void test_at_once(void **state)
{
	struct letter l = {0};
	uint64_t      before;
	int           passes = 0;

	open_door();
	world_passes(&w, 40);
	letter_send(&l, c, SPAN("x"));
	for (before = world_ms(); !l.done && world_ms() < before + 5000; passes++)
		loop_pass(w.loop);
	assert_true(l.done);
	/* sent, taken and written, durable, answered; io_uring may split some of these */
	assert_true(passes <= 12);
	submission_fini(&l.s);
}

/* More at a time than any batch takes: peers are paused, and all of it arrives. */
static void test_large_ones(void **state)
{
	static struct letter l[24];
	const size_t         n = 5 * BODY_PART_MAX + 100;
	char                *noise = world_noise(n, 3);
	struct client       *other = client_new(w.loop, 1);

	client_attach(other, world_peer(&w, ROLE_QMTPD, 0));
	open_door();
	memset(l, 0, sizeof(l));
	for (size_t i = 0; i < ARRAY_N(l); i++) {
		noise[0] = (char)i;
		letter_send(&l[i], i % 2 ? c : other, span_of(noise, n));
	}
	for (size_t i = 0; i < ARRAY_N(l); i++)
		world_until(&w, l[i].done);
	assert_int_equal(journald_store(w.j)->uncommitted, 0);
	client_free(other);
	stop_and_read();
	for (size_t i = 0; i < ARRAY_N(l); i++) {
		struct span body;

		assert_int_equal(l[i].verdict, STORED_OK);
		body = history_body(&h, l[i].id);
		noise[0] = (char)i;
		assert_int_equal(body.n, n);
		assert_memory_equal(body.p, noise, n);
		free((void *)body.p);
		submission_fini(&l[i].s);
	}
	free(noise);
}

static void test_small_passes_large(void **state)
{
	struct letter  big = {0}, small = {0};
	struct client *other = client_new(w.loop, 1);
	char          *noise = world_noise(40 * BODY_PART_MAX, 5);

	client_attach(other, world_peer(&w, ROLE_QMTPD, 0));
	open_door();
	letter_send(&big, c, span_of(noise, 40 * BODY_PART_MAX));
	letter_send(&small, other, SPAN("x"));
	world_until(&w, small.done);
	assert_false(big.done);
	world_until(&w, big.done);
	assert_int_equal(big.verdict, STORED_OK);
	submission_fini(&big.s);
	submission_fini(&small.s);
	client_free(other);
	free(noise);
}

static void test_many_recipients(void **state)
{
	struct letter      l = {0};
	struct submit_info info = {.kind = SUBMIT_NETWORK};
	struct buf         packed;
	const uint32_t     n = 50000;
	uint32_t           next = 0;

	open_door();
	buf_init(&packed, 8 << 20);
	for (uint32_t i = 0; i < n; i++)
		assert_true(packed_add(&packed, SPAN("somebody@somewhere.example")));
	letter_begin(&l, c);
	submission_body(&l.s, SPAN("x"));
	submission_commit(&l.s, SPAN("s"), buf_span(&packed), n, &info);
	world_until(&w, l.done);
	assert_int_equal(l.verdict, STORED_OK);
	submission_fini(&l.s);
	stop_and_read();
	for (uint32_t i = 0; i < history_count(&h, REC_RCPT); i++) {
		struct rec_rcpt r;

		memcpy(&r, history_find(&h, REC_RCPT, l.id, i)->body, sizeof(r));
		assert_int_equal(r.first, next);
		next += r.count;
	}
	assert_int_equal(next, n);
	buf_free(&packed);
}

/* ---- admission */

static void test_no_credit(void **state)
{
	struct letter  l = {0}, b = {0};
	struct client *body = client_new(w.loop, 1);
	struct submit_info info = {.kind = SUBMIT_BOUNCE, .parent = 5, .settles_n = 1, .settles = &(struct msg_range){0, 3}};
	struct rec_msg m;

	client_attach(body, world_peer(&w, ROLE_BODY, 0));
	world_passes(&w, 20);
	assert_false(client_admits(c));
	letter_send(&l, c, SPAN("x"));
	world_until(&w, l.done);
	assert_int_equal(l.verdict, STORED_LATER);
	submission_fini(&l.s);
	letter_begin(&b, body);
	submission_body(&b.s, SPAN("bounce"));
	submission_commit(&b.s, SPAN(""), SPAN("\1\0s"), 1, &info);
	world_until(&w, b.done);
	assert_int_equal(b.verdict, STORED_OK);
	submission_fini(&b.s);
	client_free(body);
	stop_and_read();
	assert_int_equal(history_count(&h, REC_MSG), 1);
	memcpy(&m, history_find(&h, REC_MSG, b.id, 0)->body, sizeof(m));
	assert_int_equal(m.parent, 5);
	assert_int_equal(m.settles_n, 1);
	assert_int_equal(m.kind, SUBMIT_BOUNCE);
}

static void say_credit(struct ear *sched, uint64_t messages, uint64_t bytes)
{
	struct msg_credit m = {.messages = messages, .bytes = bytes};

	wire_send(&sched->wire, MSG_CREDIT, &m, sizeof(m), SPAN_NONE);
}

static void test_credit_is_used_up(void **state)
{
	struct letter l = {0};
	struct ear    sched;

	ear_open(&sched, w.loop, world_peer(&w, ROLE_SCHED, 0));
	say_credit(&sched, 2, 1000);
	world_until(&w, client_admits(c));
	for (int i = 0; i < 2; i++) {
		assert_true(client_admits(c));
		letter_send(&l, c, SPAN("x"));
		world_until(&w, l.done);
		assert_int_equal(l.verdict, STORED_OK);
	}
	world_until(&w, !client_admits(c));
	letter_send(&l, c, SPAN("x"));
	world_until(&w, l.done);
	assert_int_equal(l.verdict, STORED_LATER);
	say_credit(&sched, 5, 0);                 /* both must be there */
	world_passes(&w, 20);
	assert_false(client_admits(c));
	say_credit(&sched, 1, 1);
	world_until(&w, client_admits(c));
	submission_fini(&l.s);
	ear_close(&sched, &w);
}

/* ---- bad peers */

static void expect_bad(uint16_t type, const void *body, size_t body_n, struct span tail)
{
	struct ear peer;
	const struct msg_stored *m;

	ear_open(&peer, w.loop, world_peer(&w, ROLE_SMTPD, 9));
	wire_send(&peer.wire, type, body, body_n, tail);
	world_until(&w, peer.of[MSG_STORED] == 1);
	m = (const void *)ear_last(&peer, MSG_STORED)->body;
	assert_int_equal(m->verdict, STORED_BAD);
	assert_int_equal(m->sub, 3);
	ear_close(&peer, &w);
	world_passes(&w, 5);
	assert_int_equal(journald_store(w.j)->deposits, 0);
}

static void test_nonsense(void **state)
{
	struct msg_part   part = {.sub = 3, .raw_n = 5};
	struct msg_rcpts  rcpts = {.sub = 3, .count = 2};
	struct msg_submit submit = {.sub = 3, .sender_n = 1};

	open_door();
	expect_bad(MSG_PART, &part, sizeof(part), SPAN("123456"));    /* raw, of another length */
	part.number = 1;
	expect_bad(MSG_PART, &part, sizeof(part), SPAN("12345"));
	part = (struct msg_part){.sub = 3, .raw_n = BODY_PART_MAX + 1, .codec = CODEC_ZSTD};
	expect_bad(MSG_PART, &part, sizeof(part), SPAN("12345"));
	part = (struct msg_part){.sub = 3, .raw_n = 5, .codec = 7};
	expect_bad(MSG_PART, &part, sizeof(part), SPAN("12345"));
	expect_bad(MSG_RCPTS, &rcpts, sizeof(rcpts), SPAN("\1\0a"));
	expect_bad(MSG_RCPTS, &rcpts, sizeof(rcpts), SPAN("\1\0a\2\0b"));
	rcpts.number = 1;
	expect_bad(MSG_RCPTS, &rcpts, sizeof(rcpts), SPAN("\1\0a\1\0b"));
	submit.body_parts = 1;
	expect_bad(MSG_SUBMIT, &submit, sizeof(submit), SPAN("s"));
	submit.body_parts = 0;
	submit.size = 1;
	expect_bad(MSG_SUBMIT, &submit, sizeof(submit), SPAN("s"));
	submit.size = 0;
	expect_bad(MSG_SUBMIT, &submit, sizeof(submit), SPAN("ss"));
	submit.kind = SUBMIT_BOUNCE;              /* that is body's alone */
	expect_bad(MSG_SUBMIT, &submit, sizeof(submit), SPAN("s"));
	submit.kind = SUBMIT_LOCAL;               /* and that the door's */
	expect_bad(MSG_SUBMIT, &submit, sizeof(submit), SPAN("s"));
	submit.kind = SUBMIT_NETWORK;
	submit.parent = 1;
	expect_bad(MSG_SUBMIT, &submit, sizeof(submit), SPAN("s"));
	stop_and_read();
	assert_int_equal(history_count(&h, REC_MSG), 0);
}

/* Told once; its later frames are ignored; its SUBMIT ends it without a word. */
static void test_told_once(void **state)
{
	struct msg_part   bad = {.sub = 3, .raw_n = 5, .number = 4}, good = {.sub = 3, .raw_n = 5};
	struct msg_submit submit = {.sub = 3};
	struct ear        peer;

	open_door();
	ear_open(&peer, w.loop, world_peer(&w, ROLE_SMTPD, 9));
	wire_send(&peer.wire, MSG_PART, &bad, sizeof(bad), SPAN("12345"));
	wire_send(&peer.wire, MSG_PART, &good, sizeof(good), SPAN("12345"));
	wire_send(&peer.wire, MSG_SUBMIT, &submit, sizeof(submit), SPAN_NONE);
	submit.sub = 4;
	wire_send(&peer.wire, MSG_SUBMIT, &submit, sizeof(submit), SPAN_NONE);
	world_until(&w, peer.of[MSG_STORED] == 2);
	assert_int_equal(((const struct msg_stored *)(const void *)ear_last(&peer, MSG_STORED)->body)->sub, 4);
	world_passes(&w, 10);
	assert_int_equal(peer.of[MSG_STORED], 2);
	assert_int_equal(journald_store(w.j)->deposits, 0);
	ear_close(&peer, &w);
}

static void test_hang_up(void **state)
{
	struct letter l = {0}, other = {0};
	char         *noise = world_noise(BODY_PART_MAX, 2);

	open_door();
	letter_begin(&l, c);
	submission_body(&l.s, span_of(noise, BODY_PART_MAX));
	world_until(&w, journald_store(w.j)->uncommitted > BODY_PART_MAX);
	client_attach(c, world_peer(&w, ROLE_SMTPD, 0));
	world_until(&w, journald_store(w.j)->uncommitted == 0 && journald_store(w.j)->deposits == 0);
	world_until(&w, client_admits(c));
	letter_send(&other, c, SPAN("x"));
	world_until(&w, other.done);
	assert_int_equal(other.verdict, STORED_OK);
	submission_fini(&l.s);
	submission_fini(&other.s);
	stop_and_read();
	assert_int_equal(history_count(&h, REC_BODY), 2);     /* parts without MSG cost space only */
	assert_int_equal(history_count(&h, REC_MSG), 1);
	free(noise);
}

static void test_limits(void **state)
{
	struct letter l = {0};
	char         *noise = world_noise(BODY_PART_MAX, 2);

	open_door();
	letter_begin(&l, c);
	submission_body(&l.s, span_of(noise, BODY_PART_MAX));
	world_until(&w, journald_store(w.j)->uncommitted > 0);
	journald_store(w.j)->total_max = STORE_PEER_SHARE * (BODY_PART_MAX + 1000);
	submission_body(&l.s, span_of(noise, BODY_PART_MAX));
	world_until(&w, l.s.refused);
	assert_int_equal(l.s.verdict, STORED_LIMIT);
	world_until(&w, journald_store(w.j)->uncommitted == 0);       /* dead at once */
	letter_commit(&l, "s", world_one_rcpt);
	world_until(&w, l.done && journald_store(w.j)->deposits == 0);
	assert_int_equal(l.verdict, STORED_LIMIT);
	letter_send(&l, c, SPAN("small"));
	world_until(&w, l.done);
	assert_int_equal(l.verdict, STORED_OK);
	submission_fini(&l.s);
	free(noise);
}

/* ---- sched */

static void add_outcome(struct buf *b, uint64_t id, uint8_t outcome, const struct msg_range *r, uint16_t n, const char *text)
{
	struct msg_outcome o = {.id = id, .at_us = 11, .next_us = 22, .attempt = 3, .ranges_n = n, .outcome = outcome};
	size_t             bytes = n * sizeof(*r) + strlen(text);

	o.text_n = (uint16_t)strlen(text);
	assert_true(buf_add(b, span_of(&o, sizeof(o))));
	assert_true(buf_add(b, span_of(r, n * sizeof(*r))));
	assert_true(buf_add(b, span_str(text)));
	assert_true(buf_add(b, span_of("\0\0\0\0\0\0\0", MSG_PAD8(bytes) - bytes)));
}

static void test_outcomes(void **state)
{
	const struct msg_range r[] = {{0, 4}, {7, 7}};
	struct rec_state       s;
	struct ear             sched;
	struct buf             b;
	const struct seen     *seen;

	buf_init(&b, 1 << 20);
	ear_open(&sched, w.loop, world_peer(&w, ROLE_SCHED, 0));
	add_outcome(&b, 100, OUTCOME_DELIVERED, r, 2, "");
	add_outcome(&b, 101, OUTCOME_FAILED, r, 1, "no such user");
	wire_send(&sched.wire, MSG_OUTCOMES, NULL, 0, buf_span(&b));
	world_until(&w, ring_durable(journald_store(w.j)->ring) > 0 && journald_store(w.j)->ring->head->records == 2);
	ear_close(&sched, &w);
	stop_and_read();
	assert_int_equal(history_count(&h, REC_STATE), 2);
	seen = history_find(&h, REC_STATE, 101, 0);
	assert_non_null(seen);
	memcpy(&s, seen->body, sizeof(s));
	assert_int_equal(s.at_us, 11);
	assert_int_equal(s.next_us, 22);
	assert_int_equal(s.attempt, 3);
	assert_int_equal(s.outcome, OUTCOME_FAILED);
	assert_int_equal(s.ranges_n, 1);
	assert_memory_equal(seen->body + sizeof(s), r, sizeof(r[0]));
	assert_memory_equal(seen->body + sizeof(s) + sizeof(r[0]), "no such user", 12);
	buf_free(&b);
}

/* Frames as large as they may be, more than batches take: each outcome once, in order. */
static void test_outcomes_flood(void **state)
{
	struct msg_range r[400];
	struct ear       sched;
	struct buf       b;
	uint64_t         id = 0, last = 0;

	for (uint32_t i = 0; i < ARRAY_N(r); i++)
		r[i] = (struct msg_range){2 * i, 2 * i};
	ear_open(&sched, w.loop, world_peer(&w, ROLE_SCHED, 0));
	buf_init(&b, 1 << 20);
	for (int frame = 0; frame < 6; frame++) {
		buf_clear(&b);
		while (b.n < 1000000)
			add_outcome(&b, ++id, OUTCOME_DEFERRED, r, ARRAY_N(r), "later");
		wire_send(&sched.wire, MSG_OUTCOMES, NULL, 0, buf_span(&b));
	}
	world_until(&w, journald_store(w.j)->ring->head->records >= id);
	ear_close(&sched, &w);
	stop_and_read();
	assert_int_equal(history_count(&h, REC_STATE), id);
	for (size_t i = 0; i < h.n; i++)
		if (h.v[i].type == REC_STATE)
			assert_int_equal(h.v[i].id, ++last);
	buf_free(&b);
}

static void test_mad_sched(void **state)
{
	const struct msg_range r = {5, 4}, good = {4, 5};
	struct ear             sched;
	struct buf             b;

	buf_init(&b, 1000);
	for (int i = 0; i < 3; i++) {
		buf_clear(&b);
		add_outcome(&b, 1, i == 1 ? 9 : OUTCOME_DELIVERED, i == 0 ? &r : &good, 1, "");
		ear_open(&sched, w.loop, world_peer(&w, ROLE_SCHED, 0));
		wire_send(&sched.wire, MSG_OUTCOMES, NULL, 0, span_until(buf_span(&b), i == 2 ? b.n - 1 : b.n));
		world_until(&w, sched.lost);
		ear_close(&sched, &w);
	}
	buf_free(&b);
	stop_and_read();
	assert_int_equal(history_count(&h, REC_STATE), 0);
}

static void test_feed(void **state)
{
	struct letter    l = {0};
	struct ear       sched;
	struct msg_feed  f;
	struct ring      ring;
	struct record    rec;
	struct reader   *r;
	enum read_result got;
	struct pollfd    bell = {.events = POLLIN};
	uint64_t         n;

	open_door();
	ear_open(&sched, w.loop, world_peer(&w, ROLE_SCHED, 0));
	world_until(&w, sched.of[MSG_FEED] == 1 && sched.of[MSG_BELL] == 1);
	memcpy(&f, ear_last(&sched, MSG_FEED)->body, sizeof(f));
	assert_int_equal(f.segment_size, w.segment_size);
	assert_int_equal(f.epoch, 1);
	assert_int_equal(ring_map(&ring, ear_last(&sched, MSG_FEED)->fd), 0);
	assert_int_equal(ring_durable(&ring), f.recovered);
	bell.fd = ear_last(&sched, MSG_BELL)->fd;
	assert_int_equal(poll(&bell, 1, 0), 0);
	letter_send(&l, c, SPAN("x"));
	world_until(&w, l.done);
	assert_int_equal(poll(&bell, 1, 0), 1);
	assert_int_equal(read(bell.fd, &n, sizeof(n)), sizeof(n));
	r = reader_new(w.disk, &ring, f.segment_size, 0);
	assert_int_equal(reader_open(r, &w.why), 0);
	while ((got = reader_next(r, false, &rec)) == READ_OK && rec.head.type != REC_MSG)
		;
	assert_int_equal(got, READ_OK);
	assert_int_equal(rec.head.id, l.id);
	assert_true(rec.pos >= f.recovered);
	reader_free(r);
	ring_unmap(&ring);
	submission_fini(&l.s);
	ear_close(&sched, &w);
}

/* The old one's last words count; its credit does not. */
static void test_sched_comes_anew(void **state)
{
	const struct msg_range r = {0, 0};
	struct ear             old, new;
	struct buf             b;

	buf_init(&b, 1000);
	add_outcome(&b, 9, OUTCOME_DELIVERED, &r, 1, "");
	ear_open(&old, w.loop, world_peer(&w, ROLE_SCHED, 0));
	world_until(&w, old.of[MSG_BELL] == 1);
	ear_open(&new, w.loop, world_peer(&w, ROLE_SCHED, 0));
	world_until(&w, new.of[MSG_FEED] == 1 && new.of[MSG_BELL] == 1);
	say_credit(&old, 5, 5);
	wire_send(&old.wire, MSG_OUTCOMES, NULL, 0, buf_span(&b));
	world_until(&w, journald_store(w.j)->ring->head->records == 1);
	assert_false(store_admits(journald_store(w.j)));
	say_credit(&new, 5, 5);
	world_until(&w, store_admits(journald_store(w.j)));
	ear_close(&old, &w);
	ear_close(&new, &w);
	buf_free(&b);
}

/* ---- start and end */

static void test_second_journald(void **state)
{
	struct world other;

	world_init(&other, LOOP_EPOLL);
	close(other.dir_fd);
	disk_real_free(other.disk);
	rmdir(other.dir);
	other.dir_fd = open(w.dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	other.disk = disk_real_new(other.loop, dup(other.dir_fd));
	world_run(&other);
	assert_null(other.j);
	assert_true(other.for_good);
	assert_true(buf_add_byte(&other.why, '\0'));
	assert_non_null(strstr(other.why.p, "in use"));
	timer_stop(other.loop, &other.tick);
	disk_real_free(other.disk);
	loop_free(other.loop);
	close(other.dir_fd);
	buf_free(&other.why);
	unlink(other.path);
}

static void run_again(void)
{
	world_stop(&w);
	disk_real_free(w.disk);                   /* and the lock */
	w.disk = disk_real_new(w.loop, dup(w.dir_fd));
	world_run(&w);
	if (!w.j)
		fail_msg("%.*s", (int)w.why.n, w.why.p);
	client_attach(c, world_peer(&w, ROLE_SMTPD, 0));
	open_door();
}

static void test_restart(void **state)
{
	struct letter l = {0};
	uint64_t      last = 0;

	open_door();
	for (int i = 0; i < 4; i++) {
		letter_send(&l, c, SPAN("x"));
		world_until(&w, l.done);
		assert_int_equal(l.verdict, STORED_OK);
		assert_true(l.id > last);
		assert_int_equal(l.id, id_make((uint64_t)i + 1, 1, 0));
		last = l.id;
		if (i == 2)
			w.segment_size /= 2;      /* control/segmentsize changed: the journal keeps its own */
		run_again();
	}
	w.segment_size *= 2;
	submission_fini(&l.s);
	stop_and_read();
	assert_int_equal(history_count(&h, REC_MSG), 4);
}

static void test_drain(void **state)
{
	struct letter l = {0}, late = {0};
	struct ear    sched;

	open_door();
	ear_open(&sched, w.loop, world_peer(&w, ROLE_SCHED, 0));
	letter_send(&l, c, SPAN("x"));
	world_until(&w, journald_store(w.j)->committing == 1);
	journald_drain(w.j);
	world_until(&w, !client_admits(c) && l.done);
	assert_int_equal(l.verdict, STORED_OK);
	letter_send(&late, c, SPAN("x"));
	world_until(&w, late.done);
	assert_int_equal(late.verdict, STORED_LATER);
	world_passes(&w, 20);
	assert_false(w.drained);                  /* sched may have more to say */
	ear_close(&sched, &w);
	world_until(&w, w.drained);
	submission_fini(&l.s);
	submission_fini(&late.s);
}

/* ---- a full disk */

static struct disk_calls        full_calls;
static const struct disk_calls *real_calls;
static _Atomic int              is_full;

static int limited_fill(struct disk *d, struct disk_file *f, uint64_t from, uint64_t to)
{
	return is_full ? -ENOSPC : real_calls->fill(d, f, from, to);
}

static void remove_all(void)
{
	DIR           *d = opendir(w.dir);
	struct dirent *e;

	while ((e = readdir(d)))
		if (e->d_name[0] != '.')
			unlinkat(w.dir_fd, e->d_name, 0);
	closedir(d);
}

/* A journal of small segments, of which no third one can be made. */
static void fill_the_disk(void)
{
	struct letter l = {0};
	char         *noise = world_noise(BODY_PART_MAX, 5);
	int           n = 0;

	world_stop(&w);
	remove_all();
	disk_real_free(w.disk);
	w.disk = disk_real_new(w.loop, dup(w.dir_fd));
	w.segment_size = 4 << 20;
	is_full = 0;
	world_run(&w);
	real_calls = w.disk->calls;
	full_calls = *real_calls;
	full_calls.fill = limited_fill;
	w.disk->calls = &full_calls;
	is_full = 1;
	client_attach(c, world_peer(&w, ROLE_SMTPD, 0));
	open_door();
	while (!store_is_full(journald_store(w.j))) {
		letter_send(&l, c, span_of(noise, BODY_PART_MAX));
		world_until(&w, l.done);
		assert_true(n++ < 50);
	}
	submission_fini(&l.s);
	free(noise);
}

static void test_full_disk(void **state)
{
	struct letter      l = {0}, b = {0};
	struct submit_info info = {.kind = SUBMIT_BOUNCE};
	struct client     *body = client_new(w.loop, 1);

	fill_the_disk();
	client_attach(body, world_peer(&w, ROLE_BODY, 0));
	letter_send(&l, c, SPAN("x"));
	world_until(&w, l.done && !client_admits(c));
	assert_int_equal(l.verdict, STORED_FULL);
	letter_begin(&b, body);
	submission_body(&b.s, SPAN("bounce"));
	submission_commit(&b.s, SPAN(""), SPAN("\1\0s"), 1, &info);
	world_until(&w, b.done);
	assert_int_equal(b.verdict, STORED_OK);
	assert_int_equal(journald_store(w.j)->ring->head->full, 1);
	is_full = 0;
	world_until(&w, client_admits(c));
	assert_int_equal(journald_store(w.j)->ring->head->full, 0);
	letter_send(&l, c, SPAN("x"));
	world_until(&w, l.done);
	assert_int_equal(l.verdict, STORED_OK);
	submission_fini(&l.s);
	submission_fini(&b.s);
	client_free(body);
}

/* Everything that waits for a batch that can't be written hears so; outcomes wait on. */
static void test_full_disk_to_the_brim(void **state)
{
	struct letter   l = {0};
	struct ear      sched;
	struct buf      b;
	struct msg_range r[400] = {{0, 0}};
	uint64_t        id = 0;

	fill_the_disk();
	ear_open(&sched, w.loop, world_peer(&w, ROLE_SCHED, 0));
	buf_init(&b, 1 << 20);
	for (int frame = 0; frame < 8; frame++) {
		buf_clear(&b);
		while (b.n < 1000000)
			add_outcome(&b, ++id, OUTCOME_DEFERRED, r, ARRAY_N(r), "later");
		wire_send(&sched.wire, MSG_OUTCOMES, NULL, 0, buf_span(&b));
	}
	world_until(&w, !list_is_empty(&journald_store(w.j)->turns));
	letter_send(&l, c, SPAN("x"));
	world_until(&w, l.done);
	assert_int_equal(l.verdict, STORED_FULL);
	is_full = 0;
	world_until(&w, client_admits(c) && list_is_empty(&journald_store(w.j)->turns) && commit_is_idle(journald_store(w.j)->commit));
	letter_send(&l, c, SPAN("x"));
	world_until(&w, l.done);
	assert_int_equal(l.verdict, STORED_OK);
	world_until(&w, journald_store(w.j)->ring->head->records >= id);
	ear_close(&sched, &w);
	submission_fini(&l.s);
	buf_free(&b);
	stop_and_read();
	assert_int_equal(history_count(&h, REC_STATE), id);
}

/* ---- the door */

struct visitor {
	pthread_t   thread;
	struct span body;
	uint32_t    rcpts;
	uint64_t    replay_of;
	const char *envelope;                     /* instead of sender and recipients */
	size_t      envelope_n;
	struct submit s;
	int         code;
	_Atomic int done;
};

static void *visit(void *arg)
{
	struct visitor *v = arg;

	submit_begin(&v->s, w.path);
	v->s.replay_of = v->replay_of;
	(void)submit_body(&v->s, v->body);
	if (v->envelope) {
		(void)submit_envelope(&v->s, span_of(v->envelope, v->envelope_n));
		v->code = submit_end(&v->s);
	} else {
		(void)submit_sender(&v->s, SPAN("me@a.example"));
		for (uint32_t i = 0; i < v->rcpts; i++)
			(void)submit_rcpt(&v->s, SPAN("somebody@somewhere.example"));
		v->code = submit_send(&v->s);
	}
	v->done = 1;
	return NULL;
}

static void visitor_start(struct visitor *v)
{
	v->done = 0;
	assert_int_equal(pthread_create(&v->thread, NULL, visit, v), 0);
}

static void visitor_await(struct visitor *v)
{
	world_until(&w, v->done);
	pthread_join(v->thread, NULL);
}

static void test_door(void **state)
{
	struct visitor v = {.body = SPAN("Subject: x\n\nhello"), .rcpts = 2};
	struct rec_msg m;
	struct span    body;
	char           line[100];

	visitor_start(&v);
	world_passes(&w, 50);                     /* before sched is there nobody is turned away */
	assert_false(v.done);
	open_door();
	visitor_await(&v);
	assert_int_equal(v.code, 0);
	stop_and_read();
	memcpy(&m, history_find(&h, REC_MSG, v.s.id, 0)->body, sizeof(m));
	assert_int_equal(m.kind, SUBMIT_LOCAL);
	assert_int_equal(m.uid, getuid());
	assert_int_equal(m.pid, getpid());
	assert_int_equal(m.rcpts, 2);
	body = history_body(&h, v.s.id);
	snprintf(line, sizeof(line), "Received: (qmail %d invoked by uid %d); ", (int)getpid(), (int)getuid());
	assert_memory_equal(body.p, line, strlen(line));
	assert_memory_equal(body.p + body.n - v.body.n - 1, "\nSubject: x\n\nhello", v.body.n + 1);
	free((void *)body.p);
}

/* As it was, and its MSG says of what it is another delivery. */
static void test_door_replay(void **state)
{
	struct visitor  v = {.body = SPAN("Subject: x\n\nhello"), .rcpts = 1, .replay_of = 4711};
	struct rec_head head = {.type = REC_MSG};
	const struct seen *msg;
	struct msg_view m;
	struct span     body, of;
	uint64_t        id = 0;

	open_door();
	visitor_start(&v);
	visitor_await(&v);
	assert_int_equal(v.code, 0);
	stop_and_read();
	msg = history_find(&h, REC_MSG, v.s.id, 0);
	assert_true(msg_view(&head, span_of(msg->body, msg->n), &m));
	assert_true(msg_extra(&m, EXTRA_REPLAY, &of) && of.n == sizeof(id));
	memcpy(&id, of.p, sizeof(id));
	assert_int_equal(id, 4711);
	body = history_body(&h, v.s.id);
	assert_true(span_eq(body, v.body));
	free((void *)body.p);
}

static void test_door_large(void **state)
{
	const size_t   n = 3 * BODY_PART_MAX + 12345;
	char          *noise = world_noise(n, 77);
	struct visitor v = {.body = span_of(noise, n), .rcpts = 100000};
	struct span    body;
	struct rec_msg m;

	open_door();
	visitor_start(&v);
	visitor_await(&v);
	assert_int_equal(v.code, 0);
	assert_int_equal(journald_store(w.j)->uncommitted, 0);
	stop_and_read();
	memcpy(&m, history_find(&h, REC_MSG, v.s.id, 0)->body, sizeof(m));
	assert_int_equal(m.rcpts, 100000);
	assert_int_equal(m.rcpt_parts, history_count(&h, REC_RCPT));
	body = history_body(&h, v.s.id);
	assert_true(body.n > n);
	assert_memory_equal(body.p + body.n - n, noise, n);
	free((void *)body.p);
	free(noise);
}

static int visit_raw(const char *envelope, size_t n)
{
	struct visitor v = {.body = SPAN("x"), .envelope = envelope, .envelope_n = n};

	visitor_start(&v);
	visitor_await(&v);
	return v.code;
}

/* A client of another kind: just these bytes, then half closed; what it is answered. */
static void knock(struct span bytes, bool half_close, const char *want)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int                fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	char               got[400] = "";
	size_t             n = 0;
	struct pollfd      p = {.fd = fd, .events = POLLIN};

	memcpy(a.sun_path, w.path, strlen(w.path) + 1);
	assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	if (bytes.n > 0)
		assert_int_equal(write(fd, bytes.p, bytes.n), bytes.n);
	if (half_close)
		shutdown(fd, SHUT_WR);
	while (n < sizeof(got) - 1) {
		ssize_t k;

		world_until(&w, poll(&p, 1, 0) == 1);
		k = read(fd, got + n, sizeof(got) - 1 - n);
		if (k <= 0)
			break;
		n += (size_t)k;
	}
	if (!strstr(got, want))
		fail_msg("got \"%s\", not \"%s\"", got, want);
	close(fd);
}

static void test_door_bad(void **state)
{
	static char long_one[sizeof(SUBMIT_HELLO) + 3 + 2 + ADDR_MAX + 2] = SUBMIT_HELLO;
	struct visitor v = {.body = SPAN("x"), .rcpts = 1};

	open_door();
	assert_int_equal(visit_raw("Xs\0\0", 4), SUBMIT_FORMAT);
	assert_int_equal(visit_raw("Fs\0Tr\0", 6), SUBMIT_READ);
	knock(SPAN("GET / HTTP/1.0\r\n\r\n"), false, "Z91 ");
	knock(SPAN(SUBMIT_HELLO "\0\0\0\0Fs\0Xr\0\0"), false, "Z91 ");
	knock(SPAN(SUBMIT_HELLO "\1\0\0\0x\0\0\0\0Fs\0Tr\0"), true, "Z54 ");
	knock(SPAN(SUBMIT_HELLO "\5\0\0\0x"), true, "Z54 ");
	knock(SPAN_NONE, true, "Z54 ");
	memset(long_one + sizeof(SUBMIT_HELLO) - 1 + 4, 'a', ADDR_MAX + 2);
	long_one[sizeof(SUBMIT_HELLO) - 1 + 4] = 'F';
	knock(span_of(long_one, sizeof(SUBMIT_HELLO) - 1 + 4 + 1 + ADDR_MAX + 1), false, "D11 ");
	assert_int_equal(journald_store(w.j)->deposits, 0);
	visitor_start(&v);                        /* and it still works */
	visitor_await(&v);
	assert_int_equal(v.code, 0);
	world_grant(&w, 0);
	visitor_start(&v);
	visitor_await(&v);
	assert_int_equal(v.code, SUBMIT_LATER);
	assert_int_equal(journald_store(w.j)->deposits, 0);
	stop_and_read();
	assert_int_equal(history_count(&h, REC_MSG), 1);
}

/* More at a time than are served: they wait, and all are served. */
static void test_door_crowd(void **state)
{
	static struct visitor v[3 * DOOR_UID_MAX];
	char                 *noise = world_noise(BODY_PART_MAX + 10, 5);
	unsigned              most = 0;

	open_door();
	for (size_t i = 0; i < ARRAY_N(v); i++) {
		v[i] = (struct visitor){.body = span_of(noise, i % 2 ? 10 : BODY_PART_MAX + 10), .rcpts = 1};
		visitor_start(&v[i]);
	}
	for (size_t i = 0; i < ARRAY_N(v); i++) {
		while (!v[i].done) {
			loop_pass(w.loop);
			if (journald_store(w.j)->deposits > most)
				most = journald_store(w.j)->deposits;
		}
		pthread_join(v[i].thread, NULL);
		assert_int_equal(v[i].code, 0);
	}
	assert_true(most <= DOOR_UID_MAX);
	free(noise);
}

/* Hung up in the middle, at every stage: nothing stays, nothing is queued. */
static void test_door_hang_up(void **state)
{
	const char         say[] = SUBMIT_HELLO "\3\0\0\0abc\0\0\0\0Fs\0Tr\0";
	struct sockaddr_un a = {.sun_family = AF_UNIX};

	open_door();
	memcpy(a.sun_path, w.path, strlen(w.path) + 1);
	for (size_t n = 0; n <= sizeof(say) - 1; n++) {
		int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

		assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
		if (n > 0)
			assert_int_equal(write(fd, say, n), n);
		world_passes(&w, n % 3);
		close(fd);
	}
	world_passes(&w, 50);
	world_until(&w, journald_store(w.j)->deposits == 0);
	stop_and_read();
	assert_int_equal(history_count(&h, REC_MSG), 0);
}

static void test_door_limit(void **state)
{
	char          *noise = world_noise(4 * BODY_PART_MAX, 5);
	struct visitor v = {.body = span_of(noise, 4 * BODY_PART_MAX), .rcpts = 1};

	open_door();
	journald_store(w.j)->total_max = STORE_UID_SHARE * (2 * BODY_PART_MAX);
	visitor_start(&v);
	visitor_await(&v);
	assert_int_equal(v.code, SUBMIT_LATER);
	world_until(&w, journald_store(w.j)->uncommitted == 0);
	free(noise);
}

#define BOTH(f)                                                                   \
	cmocka_unit_test_setup_teardown(f, setup_uring, teardown),                \
	cmocka_unit_test_setup_teardown(f, setup_epoll, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		BOTH(test_stored),
		BOTH(test_many),
		BOTH(test_at_once),
		BOTH(test_large_ones),
		BOTH(test_small_passes_large),
		BOTH(test_many_recipients),
		BOTH(test_no_credit),
		BOTH(test_credit_is_used_up),
		BOTH(test_nonsense),
		BOTH(test_told_once),
		BOTH(test_hang_up),
		BOTH(test_limits),
		BOTH(test_outcomes),
		BOTH(test_outcomes_flood),
		BOTH(test_mad_sched),
		BOTH(test_feed),
		BOTH(test_sched_comes_anew),
		cmocka_unit_test_setup_teardown(test_second_journald, setup_uring, teardown),
		BOTH(test_restart),
		BOTH(test_drain),
		BOTH(test_full_disk),
		BOTH(test_full_disk_to_the_brim),
		BOTH(test_door),
		BOTH(test_door_replay),
		BOTH(test_door_large),
		BOTH(test_door_bad),
		BOTH(test_door_crowd),
		BOTH(test_door_hang_up),
		BOTH(test_door_limit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
