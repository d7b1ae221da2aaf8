/* The QMTP server against conversations in files (tests/talk/qmtp), and what
 * files can't say. */
#include "qmtp/qmtp.h"

#include "core/log.h"
#include "mail/received.h"
#include "tests/talk/talk.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define PARCELS 200

struct parcel {
	struct package package;
	struct buf     body;
	bool           open, body_open, committing;
};

struct world {
	struct talk       *talk;
	struct qmtp        qmtp;
	struct qmtp_world  calls;
	struct qmtp_policy policy;
	struct buf         scratch;
	struct parcel      parcels[PARCELS];
	struct parcel     *committing[PARCELS];
	uint64_t           id;
};

static struct world *world_of(struct qmtp *q)
{
	return owner_of(q, struct world, qmtp);
}

static struct parcel *parcel_of(struct package *p)
{
	return owner_of(p, struct parcel, package);
}

static bool on_admits(struct qmtp *q)
{
	return world_of(q)->talk->admits;
}

static bool on_full(struct qmtp *q)
{
	return world_of(q)->talk->full;
}

static struct package *on_open(struct qmtp *q)
{
	struct world *w = world_of(q);

	for (unsigned i = 0; i < PARCELS && w->talk->memory; i++) {
		struct parcel *p = &w->parcels[i];

		if (p->open)
			continue;
		p->open = true;
		p->body_open = p->committing = false;
		buf_clear(&p->body);
		package_clear(&p->package);
		return &p->package;
	}
	return NULL;
}

static void on_body_begin(struct qmtp *q, struct package *p)
{
	assert_true(parcel_of(p)->open);
	assert_false(parcel_of(p)->body_open);
	parcel_of(p)->body_open = true;
}

static void on_body(struct qmtp *q, struct package *p, struct span bytes)
{
	assert_true(parcel_of(p)->body_open);
	assert_true(bytes.n > 0);
	assert_true(buf_add(&parcel_of(p)->body, bytes));
}

static void on_body_drop(struct qmtp *q, struct package *p)
{
	parcel_of(p)->body_open = false;
}

static void on_commit(struct qmtp *q, struct package *package)
{
	struct world  *w = world_of(q);
	struct parcel *p = parcel_of(package);

	assert_true(p->body_open);
	assert_false(p->committing);
	p->committing = true;
	w->committing[w->talk->commits_open++] = p;
}

static void uncommit(struct world *w, unsigned nth)
{
	w->talk->commits_open--;
	memmove(&w->committing[nth], &w->committing[nth + 1],
		(w->talk->commits_open - nth) * sizeof(w->committing[0]));
}

static void on_close(struct qmtp *q, struct package *package)
{
	struct world  *w = world_of(q);
	struct parcel *p = parcel_of(package);

	assert_true(p->open);
	if (p->committing)
		for (unsigned i = 0; i < w->talk->commits_open; i++)
			if (w->committing[i] == p)
				uncommit(w, i);
	p->open = false;
}

static void talk_qmtp_begin(struct talk *t)
{
	struct world *w = t->state;

	qmtp_policy_init(&w->policy, t->control, -1);
	w->id = 100;
	qmtp_begin(&w->qmtp, &w->calls, &t->out, &t->peer);
}

static void talk_qmtp_input(struct talk *t, struct span *in)
{
	struct world *w = t->state;

	assert_true(qmtp_input(&w->qmtp, in) != QMTP_MORE);
}

static void talk_qmtp_commit(struct talk *t, unsigned nth, enum stored verdict)
{
	struct world  *w = t->state;
	struct parcel *p = w->committing[nth];

	uncommit(w, nth);
	p->committing = p->body_open = false;
	if (verdict == STORED_OK)
		talk_msg_is(talk_msg_new(t), &p->package.envelope, buf_span(&p->body));
	qmtp_committed(&w->qmtp, &p->package, verdict, verdict == STORED_OK ? w->id++ : 0);
}

static void talk_qmtp_event(struct talk *t, const char *name)
{
	struct world *w = t->state;

	if (strcmp(name, "drain") == 0)
		qmtp_drain(&w->qmtp);
	else if (strcmp(name, "room") == 0)
		qmtp_room(&w->qmtp);
	else
		qmtp_end(&w->qmtp);
}

static bool talk_qmtp_over(struct talk *t)
{
	struct world *w = t->state;

	return qmtp_is_over(&w->qmtp);
}

static void talk_qmtp_end(struct talk *t)
{
	struct world *w = t->state;

	qmtp_fini(&w->qmtp);
	for (unsigned i = 0; i < PARCELS; i++)
		assert_false(w->parcels[i].open);
	assert_int_equal(t->commits_open, 0);
	qmtp_policy_fini(&w->policy);
}

static const struct talk_side side = {
	.begin = talk_qmtp_begin,
	.input = talk_qmtp_input,
	.commit = talk_qmtp_commit,
	.event = talk_qmtp_event,
	.over = talk_qmtp_over,
	.end = talk_qmtp_end,
};

static struct talk  talk;
static struct world world;

static int set_up(void **state)
{
	struct world *w = &world;

	talk = (struct talk){.side = &side, .state = w};
	*w = (struct world){.talk = &talk};
	buf_init(&w->scratch, RECEIVED_MAX);
	for (unsigned i = 0; i < PARCELS; i++) {
		package_init(&w->parcels[i].package);
		buf_init(&w->parcels[i].body, TALK_BIG);
	}
	w->calls = (struct qmtp_world){
		.policy = &w->policy,
		.scratch = &w->scratch,
		.admits = on_admits,
		.full = on_full,
		.open = on_open,
		.body_begin = on_body_begin,
		.body = on_body,
		.body_drop = on_body_drop,
		.commit = on_commit,
		.close = on_close,
	};
	return 0;
}

static int tear_down(void **state)
{
	struct world *w = &world;

	buf_free(&w->scratch);
	for (unsigned i = 0; i < PARCELS; i++) {
		package_fini(&w->parcels[i].package);
		buf_free(&w->parcels[i].body);
	}
	return 0;
}

static void every_conversation_goes_as_written(void **state)
{
	assert_int_equal(talk_folder(&talk, "tests/talk/qmtp/*.talk"), 0);
	assert_true(talk.played > 1000);
}

/* Input that is not taken is offered again, as the driver does. */
static size_t feed(struct span s)
{
	struct span in = s;

	qmtp_input(&world.qmtp, &in);
	return s.n - in.n;
}

static void no_more_than_a_bound_is_in_flight(void **state)
{
	struct span one = SPAN("2:\nx,0:,17:13:u@example.com,,");
	unsigned    n = 0;

	buf_init(&talk.said, TALK_BIG);
	outbuf_init(&talk.out);
	talk_reset(&talk);
	side.begin(&talk);
	while (feed(one) == one.n)
		assert_true(++n <= QMTP_FLIGHT_MAX);
	assert_int_equal(n, QMTP_FLIGHT_MAX);
	assert_int_equal(talk.out.n, 0);

	/* All but the first are stored: still nothing may be said. */
	while (talk.commits_open > 1)
		side.commit(&talk, 1, STORED_OK);
	assert_int_equal(talk.out.n, 0);
	side.commit(&talk, 0, STORED_OK);
	assert_true(talk.out.n > 0);
	assert_true(qmtp_is_idle(&world.qmtp));
	assert_int_equal(feed(one), one.n);
	talk_collect(&talk);
	side.end(&talk);
	talk_reset(&talk);
	control_free(talk.control);
}

/* A million answers leave in pieces, as the client reads them. */
static void answers_wait_for_a_reader(void **state)
{
	enum { RCPTS = 300000 };
	struct buf b = {0};
	size_t     said = 0;
	unsigned   turns = 0;

	buf_init(&b, TALK_BIG);
	buf_init(&talk.said, TALK_BIG);
	outbuf_init(&talk.out);
	talk_reset(&talk);
	assert_true(control_set(talk.control, SPAN("relayclients"), SPAN("0.0.0.0/0")));
	side.begin(&talk);
	assert_true(buf_fmt(&b, "2:\nx,0:,%u:", RCPTS * 8));
	for (unsigned i = 0; i < RCPTS; i++)
		assert_true(buf_add(&b, i % 3 ? SPAN("5:a@b.c,") : SPAN("5:a@\0.c,")));
	assert_true(buf_add_byte(&b, ','));
	assert_int_equal(feed(buf_span(&b)), b.n);
	assert_int_equal(talk.commits_open, 1);
	side.commit(&talk, 0, STORED_OK);
	while (talk.out.n > 0) {
		assert_true(talk.out.n < OUTBUF_FULL + 256);
		said += talk.out.n;
		outbuf_sent(&talk.out, talk.out.n);
		qmtp_room(&world.qmtp);
		turns++;
	}
	assert_true(turns > 10);
	assert_int_equal(said,
			 RCPTS / 3 * strlen("39:Dcan't take an address like that (#5.1.3),") +
				 (RCPTS - RCPTS / 3) * strlen("24:Kok 1795225452 qp 100,"));
	assert_true(qmtp_is_idle(&world.qmtp));
	side.end(&talk);
	talk_reset(&talk);
	control_free(talk.control);
	buf_free(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(every_conversation_goes_as_written, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(no_more_than_a_bound_is_in_flight, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(answers_wait_for_a_reader, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
