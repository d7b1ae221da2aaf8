/* The submission client against a journald that the test plays. */
#include "journal_world.h"

#include "mail/envelope.h"

static struct world w;
static struct client *c;
static struct ear     ear;
static int            rooms;

static void on_room(void *ctx)
{
	rooms++;
}

/* No journald of ours: only the loop. */
static int begin(enum loop_kind kind)
{
	int fd[2];

	world_init(&w, kind);
	world_pair(fd);
	c = client_new(w.loop, 1);
	rooms = 0;
	client_on_room(c, on_room, NULL);
	client_attach(c, fd[0]);
	ear_open(&ear, w.loop, fd[1]);
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
	ear_close(&ear, &w);
	world_passes(&w, 5);
	world_end(&w);
	return 0;
}

static void say_stored(uint32_t sub, enum stored verdict, uint64_t id)
{
	struct msg_stored m = {.sub = sub, .verdict = verdict, .id = id};

	wire_send(&ear.wire, MSG_STORED, &m, sizeof(m), SPAN_NONE);
}

static void test_small(void **state)
{
	struct letter            l = {0};
	const struct msg_part   *part;
	const struct msg_rcpts  *rcpts;
	const struct msg_submit *submit;
	const char *const        to[] = {"a@b.example", "", "c@d.example", NULL};
	struct heard            *h;
	struct buf               packed;

	letter_begin(&l, c);
	submission_body(&l.s, SPAN("Subject: x\n"));
	submission_body(&l.s, SPAN("\nhello\n"));
	letter_commit(&l, "s@a.example", to);
	world_until(&w, ear.of[MSG_SUBMIT] == 1);
	assert_int_equal(ear.n, 3);
	h = ear_last(&ear, MSG_PART);
	part = (const void *)h->body;
	assert_int_equal(part->number, 0);
	assert_int_equal(part->raw_n, 18);
	assert_int_equal(part->codec, CODEC_RAW);
	assert_memory_equal(h->tail, "Subject: x\n\nhello\n", 18);
	h = ear_last(&ear, MSG_RCPTS);
	rcpts = (const void *)h->body;
	assert_int_equal(rcpts->count, 3);
	buf_init(&packed, 100);
	for (int i = 0; i < 3; i++)
		assert_true(packed_add(&packed, span_str(to[i])));
	assert_int_equal(h->tail_n, packed.n);
	assert_memory_equal(h->tail, packed.p, packed.n);
	buf_free(&packed);
	h = ear_last(&ear, MSG_SUBMIT);
	submit = (const void *)h->body;
	assert_int_equal(submit->sub, part->sub);
	assert_int_equal(submit->body_parts, 1);
	assert_int_equal(submit->rcpt_parts, 1);
	assert_int_equal(submit->rcpts, 3);
	assert_int_equal(submit->size, 18);
	assert_int_equal(submit->uid, 7);
	assert_int_equal(submit->pid, 8);
	assert_int_equal(submit->sender_n, 11);
	assert_memory_equal(h->tail, "s@a.example", 11);
	assert_false(l.done);
	say_stored(submit->sub, STORED_OK, 77);
	world_until(&w, l.done);
	assert_int_equal(l.verdict, STORED_OK);
	assert_int_equal(l.id, 77);
	submission_fini(&l.s);
}

/* Pieces that fit nothing; whole parts at once; and what comes out is what went in. */
static void large(size_t n, size_t piece)
{
	struct letter l = {0};
	char         *noise = world_noise(n, n + piece), *got = malloc(n);
	struct zip   *z = zip_new(1);
	size_t        at = 0;

	memset(noise, 'a', n / 2);                /* half of it packs well */
	letter_begin(&l, c);
	for (size_t i = 0; i < n; i += piece)
		submission_body(&l.s, span_until(span_of(noise + i, n - i), piece));
	letter_commit(&l, "", world_one_rcpt);
	world_until(&w, ear.of[MSG_SUBMIT] == 1);
	for (unsigned i = 0; i < ear.n; i++) {
		struct msg_part part;

		if (ear.v[i].type != MSG_PART)
			continue;
		memcpy(&part, ear.v[i].body, sizeof(part));
		assert_int_equal(part.number, i);
		assert_true(part.raw_n == BODY_PART_MAX || at + part.raw_n == n);
		assert_true(zip_unpack(z, part.codec, part.dict, span_of(ear.v[i].tail, ear.v[i].tail_n), part.raw_hash,
		                       got + at, part.raw_n));
		at += part.raw_n;
	}
	assert_int_equal(at, n);
	assert_memory_equal(got, noise, n);
	submission_fini(&l.s);
	zip_free(z);
	free(noise);
	free(got);
}

static void test_large(void **state)
{
	large(3 * BODY_PART_MAX + 17, 4099);
}

static void test_large_at_once(void **state)
{
	large(2 * BODY_PART_MAX + 1, SIZE_MAX / 2);
}

static void test_exactly_one_part(void **state)
{
	large(BODY_PART_MAX, 65536);
	assert_int_equal(ear.of[MSG_PART], 1);
}

static void test_many_recipients(void **state)
{
	struct letter      l = {0};
	struct submit_info info = {.kind = SUBMIT_NETWORK};
	struct buf         packed;
	uint32_t           n = 20000, sum = 0;

	buf_init(&packed, 8 << 20);
	for (uint32_t i = 0; i < n; i++) {
		char addr[64];

		snprintf(addr, sizeof(addr), "user%u@host.example", i);
		assert_true(packed_add(&packed, span_str(addr)));
	}
	letter_begin(&l, c);
	submission_commit(&l.s, SPAN("s"), buf_span(&packed), n, &info);
	world_until(&w, ear.of[MSG_SUBMIT] == 1);
	assert_int_equal(ear.tail_bytes, packed.n + 1);
	for (unsigned i = 0; i + 1 < ear.n; i++) {
		const struct msg_rcpts *m = (const void *)ear.v[i].body;

		assert_int_equal(ear.v[i].type, MSG_RCPTS);
		assert_int_equal(m->number, i);
		assert_true(ear.v[i].tail_n <= RCPT_PART_MAX);
		sum += m->count;
	}
	assert_int_equal(sum, n);
	assert_true(ear.of[MSG_RCPTS] >= packed.n / RCPT_PART_MAX);
	assert_int_equal(((const struct msg_submit *)(const void *)ear_last(&ear, MSG_SUBMIT)->body)->rcpt_parts, ear.of[MSG_RCPTS]);
	buf_free(&packed);
	submission_fini(&l.s);
}

/* A count that is not the packing's, or a packing cut short, is our bug, not journald's problem. */
static void test_wrong_packing(void **state)
{
	struct letter      l = {0};
	struct submit_info info = {.kind = SUBMIT_NETWORK};

	letter_begin(&l, c);
	submission_commit(&l.s, SPAN("s"), SPAN("\1\0a\1\0b"), 3, &info);
	assert_false(l.done);
	world_until(&w, l.done);
	assert_int_equal(l.verdict, STORED_BAD);
	letter_begin(&l, c);
	submission_commit(&l.s, SPAN("s"), SPAN("\1\0a\5\0b"), 2, &info);
	world_until(&w, l.done);
	assert_int_equal(l.verdict, STORED_BAD);
	world_passes(&w, 5);
	assert_int_equal(ear.of[MSG_SUBMIT], 0);
	submission_fini(&l.s);
}

static uint32_t last_sub(void)
{
	return ((const struct msg_part *)(const void *)ear_last(&ear, MSG_PART)->body)->sub;
}

static void test_early_refusal(void **state)
{
	struct letter l = {0};
	char         *noise = world_noise(BODY_PART_MAX, 1);

	letter_begin(&l, c);
	submission_body(&l.s, span_of(noise, BODY_PART_MAX));
	world_until(&w, ear.of[MSG_PART] == 1);
	say_stored(last_sub(), STORED_LIMIT, 0);
	world_until(&w, l.s.refused);
	submission_body(&l.s, span_of(noise, BODY_PART_MAX));
	letter_commit(&l, "s", world_one_rcpt);
	assert_false(l.done);                     /* never from inside */
	world_until(&w, l.done && ear.of[MSG_ABANDON] == 1);
	assert_int_equal(l.verdict, STORED_LIMIT);
	assert_int_equal(ear.of[MSG_PART], 1);
	assert_int_equal(ear.of[MSG_SUBMIT], 0);
	letter_send(&l, c, SPAN("next"));         /* it can be used again */
	world_until(&w, ear.of[MSG_SUBMIT] == 1);
	submission_fini(&l.s);
	free(noise);
}

static void attach_again(void)
{
	int fd[2];

	ear_close(&ear, &w);
	world_pair(fd);
	client_attach(c, fd[0]);
	ear_open(&ear, w.loop, fd[1]);
}

static void test_journald_lost(void **state)
{
	struct letter committing = {0}, sending = {0}, gathering = {0};
	char         *noise = world_noise(BODY_PART_MAX, 1);

	letter_begin(&gathering, c);
	submission_body(&gathering.s, SPAN("begun"));
	letter_begin(&sending, c);
	submission_body(&sending.s, span_of(noise, BODY_PART_MAX));
	letter_send(&committing, c, SPAN("x"));
	world_until(&w, ear.of[MSG_SUBMIT] == 1);
	ear_close(&ear, &w);
	world_until(&w, committing.done);
	assert_int_equal(committing.verdict, STORED_LATER);
	assert_false(client_admits(c));
	assert_true(rooms > 0);
	assert_false(sending.done);
	assert_true(sending.s.refused);
	attach_again();
	letter_commit(&sending, "s", world_one_rcpt);
	submission_body(&gathering.s, SPAN(" and done"));
	letter_commit(&gathering, "s", world_one_rcpt);
	world_until(&w, sending.done && ear.of[MSG_SUBMIT] == 1);
	assert_int_equal(sending.verdict, STORED_LATER);
	assert_int_equal(ear_last(&ear, MSG_PART)->tail_n, 14);
	say_stored(last_sub(), STORED_OK, 5);
	world_until(&w, gathering.done);
	assert_int_equal(gathering.verdict, STORED_OK);
	submission_fini(&committing.s);
	submission_fini(&sending.s);
	submission_fini(&gathering.s);
	free(noise);
}

static void test_replaced_link(void **state)
{
	struct letter l = {0};
	int           fd[2];

	letter_send(&l, c, SPAN("x"));
	world_pair(fd);
	client_attach(c, fd[0]);
	assert_false(l.done);
	world_until(&w, l.done);
	assert_int_equal(l.verdict, STORED_LATER);
	world_until(&w, ear.lost);
	ear_close(&ear, &w);
	ear_open(&ear, w.loop, fd[1]);
	submission_fini(&l.s);
}

static void test_no_journald(void **state)
{
	struct letter l = {0};

	client_attach(c, -1);
	assert_false(client_admits(c));
	assert_false(client_full(c));
	letter_send(&l, c, SPAN("x"));
	assert_false(l.done);
	world_until(&w, l.done);
	assert_int_equal(l.verdict, STORED_LATER);
	letter_send(&l, c, SPAN("x"));            /* abandoned while its answer waits */
	submission_abandon(&l.s);
	world_passes(&w, 3);
	assert_false(l.done);
	submission_fini(&l.s);
}

static void test_abandon(void **state)
{
	struct letter l = {0};
	char         *noise = world_noise(BODY_PART_MAX, 1);

	letter_begin(&l, c);
	submission_body(&l.s, SPAN("small"));
	submission_abandon(&l.s);                 /* nothing was sent: nothing is said */
	letter_begin(&l, c);
	submission_body(&l.s, span_of(noise, BODY_PART_MAX));
	submission_abandon(&l.s);
	world_until(&w, ear.of[MSG_ABANDON] == 1);
	assert_int_equal(ear.of[MSG_PART], 1);
	letter_send(&l, c, SPAN("gone on"));
	world_until(&w, ear.of[MSG_SUBMIT] == 1);
	submission_abandon(&l.s);                 /* too late for journald: it just isn't heard */
	say_stored(last_sub(), STORED_OK, 5);
	world_passes(&w, 20);
	assert_false(l.done);
	assert_int_equal(ear.of[MSG_ABANDON], 1);
	submission_fini(&l.s);
	free(noise);
}

static void test_admit(void **state)
{
	struct msg_admit m = {.open = 1};

	assert_false(client_admits(c));
	wire_send(&ear.wire, MSG_ADMIT, &m, sizeof(m), SPAN_NONE);
	world_until(&w, client_admits(c));
	m.open = 0;
	wire_send(&ear.wire, MSG_ADMIT, &m, sizeof(m), SPAN_NONE);
	world_until(&w, !client_admits(c));
}

/* Whole frames of another message, between bytes of our own. */
static void test_frames(void **state)
{
	struct letter   l = {0};
	struct msg_part part = {.raw_n = 6, .raw_hash = 99, .codec = CODEC_ZSTD, .dict = 3};
	const struct msg_part *got;

	letter_begin(&l, c);
	submission_body(&l.s, SPAN("front\n"));
	submission_frame(&l.s, &part, SPAN("frame"));
	submission_body(&l.s, SPAN("back\n"));
	letter_commit(&l, "", world_one_rcpt);
	world_until(&w, ear.of[MSG_SUBMIT] == 1);
	assert_int_equal(ear.of[MSG_PART], 3);
	got = (const void *)ear.v[1].body;
	assert_int_equal(got->number, 1);
	assert_int_equal(got->raw_n, 6);
	assert_int_equal(got->raw_hash, 99);
	assert_int_equal(got->dict, 3);
	assert_int_equal(((const struct msg_submit *)(const void *)ear_last(&ear, MSG_SUBMIT)->body)->size, 6 + 6 + 5);
	submission_fini(&l.s);
}

/* A journald that does not read: full, and room once it does. */
static void test_full(void **state)
{
	struct letter l = {0};
	char         *noise = world_noise(BODY_PART_MAX, 1);
	int           parts = 0;

	wire_pause(&ear.wire);
	letter_begin(&l, c);
	for (; !client_full(c); parts++) {
		submission_body(&l.s, span_of(noise, BODY_PART_MAX));
		loop_pass(w.loop);
		assert_true(parts < 1000);
	}
	assert_true(parts >= WIRE_FULL / BODY_PART_MAX);
	rooms = 0;
	wire_resume(&ear.wire);
	world_until(&w, !client_full(c) && rooms == 1);
	submission_fini(&l.s);
	free(noise);
}

#define BOTH(f)                                                                   \
	cmocka_unit_test_setup_teardown(f, setup_uring, teardown),                \
	cmocka_unit_test_setup_teardown(f, setup_epoll, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		BOTH(test_small),
		BOTH(test_large),
		BOTH(test_large_at_once),
		BOTH(test_exactly_one_part),
		BOTH(test_many_recipients),
		BOTH(test_wrong_packing),
		BOTH(test_early_refusal),
		BOTH(test_journald_lost),
		BOTH(test_replaced_link),
		BOTH(test_no_journald),
		BOTH(test_abandon),
		BOTH(test_admit),
		BOTH(test_frames),
		BOTH(test_full),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
