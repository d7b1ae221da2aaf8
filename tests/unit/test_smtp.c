/* The SMTP server against conversations in files (tests/talk/smtp), and what
 * files can't say. */
#include "smtp/smtp.h"

#include "core/log.h"
#include "mail/received.h"
#include "smtp/replies.h"
#include "tests/talk/talk.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

struct world {
	struct talk      *talk;
	struct smtp       smtp;
	struct smtp_world calls;
	struct policy     policy;
	struct buf        scratch, body;
	struct envelope   envelope;
	bool              open, body_open, committing;
};

static bool said[64];                             /* which of smtp_replies were heard */

static struct world *world_of(struct smtp *s)
{
	return owner_of(s, struct world, smtp);
}

static bool on_admits(struct smtp *s)
{
	return world_of(s)->talk->admits;
}

static bool on_full(struct smtp *s)
{
	return world_of(s)->talk->full;
}

static struct envelope *on_open(struct smtp *s)
{
	struct world *w = world_of(s);

	assert_false(w->open);
	if (!w->talk->memory)
		return NULL;
	w->open = true;
	return &w->envelope;
}

static void on_body_begin(struct smtp *s)
{
	struct world *w = world_of(s);

	assert_true(w->open);
	assert_false(w->body_open);
	w->body_open = true;
	buf_clear(&w->body);
}

static void on_body(struct smtp *s, struct span bytes)
{
	struct world *w = world_of(s);

	assert_true(w->body_open);
	assert_false(w->committing);
	assert_true(bytes.n > 0);
	assert_true(buf_add(&w->body, bytes));
}

static void on_commit(struct smtp *s)
{
	struct world *w = world_of(s);

	assert_true(w->body_open);
	w->committing = true;
	w->talk->commits_open = 1;
}

static void on_close(struct smtp *s)
{
	struct world *w = world_of(s);

	assert_true(w->open);
	w->open = w->body_open = w->committing = false;
	w->talk->commits_open = 0;
}

static void talk_smtp_begin(struct talk *t)
{
	struct world      *w = t->state;
	struct policy_peer peer;

	policy_init(&w->policy, t->control, -1);
	assert_true(ip_parse(SPAN("127.0.0.1"), &w->policy.own[0]));
	w->policy.own_n = 1;
	peer = policy_peer(&w->policy, &t->peer, &t->local);
	smtp_begin(&w->smtp, &w->calls, &t->out, &peer);
}

/* The answers heard are noted, so that the suite can tell which it never provoked. */
static void hear(struct talk *t)
{
	char        text[OUTBUF_FULL];
	struct span all = span_of(text, outbuf_copy(&t->out, text, sizeof(text)));

	while (all.n > 0) {
		size_t      lf = span_find(all, '\n');
		struct span line = span_cut(&all, lf);

		span_cut(&all, 1);
		for (unsigned i = 0; i < smtp_replies_n; i++)
			if (span_ends(span_trim_end(line, "\r"),
				      span_str(smtp_replies[i]->text)) &&
			    atoi(line.p) == smtp_replies[i]->code)
				said[i] = true;
	}
}

static void talk_smtp_input(struct talk *t, struct span *in)
{
	struct world     *w = t->state;
	enum smtp_verdict v = smtp_input(&w->smtp, in);

	assert_true(v != V_MORE);
	assert_int_equal(v == V_CLOSE, smtp_is_over(&w->smtp));
	hear(t);
}

static void talk_smtp_commit(struct talk *t, unsigned nth, enum stored verdict)
{
	struct world *w = t->state;

	assert_int_equal(nth, 0);
	assert_true(smtp_is_committing(&w->smtp));
	if (verdict == STORED_OK)
		talk_msg_is(talk_msg_new(t), &w->envelope, buf_span(&w->body));
	smtp_committed(&w->smtp, verdict, 77);
	assert_false(smtp_is_committing(&w->smtp));
	hear(t);
}

static void talk_smtp_event(struct talk *t, const char *name)
{
	struct world *w = t->state;

	if (strcmp(name, "drain") == 0)
		smtp_drain(&w->smtp);
	else if (strcmp(name, "timeout") == 0)
		smtp_timeout(&w->smtp);
	else
		assert_string_equal(name, "room");
	hear(t);
}

static bool talk_smtp_over(struct talk *t)
{
	struct world *w = t->state;

	return smtp_is_over(&w->smtp);
}

static void talk_smtp_end(struct talk *t)
{
	struct world *w = t->state;

	smtp_fini(&w->smtp);
	assert_false(w->open);
	policy_fini(&w->policy);
	buf_clear(&w->body);
}

static const struct talk_side side = {
	.begin = talk_smtp_begin,
	.input = talk_smtp_input,
	.commit = talk_smtp_commit,
	.event = talk_smtp_event,
	.over = talk_smtp_over,
	.end = talk_smtp_end,
};

static void world_begin(struct world *w, struct talk *t)
{
	*w = (struct world){.talk = t};
	buf_init(&w->scratch, RECEIVED_MAX);
	buf_init(&w->body, TALK_BIG);
	envelope_init(&w->envelope, 1 << 20);
	w->calls = (struct smtp_world){
		.policy = &w->policy,
		.scratch = &w->scratch,
		.admits = on_admits,
		.full = on_full,
		.open = on_open,
		.body_begin = on_body_begin,
		.body = on_body,
		.commit = on_commit,
		.close = on_close,
	};
}

static void world_end(struct world *w)
{
	buf_free(&w->scratch);
	buf_free(&w->body);
	envelope_fini(&w->envelope);
}

static void every_conversation_goes_as_written(void **state)
{
	static struct talk  t;
	static struct world w;

	world_begin(&w, &t);
	t = (struct talk){.side = &side, .state = &w};
	assert_int_equal(talk_folder(&t, "tests/talk/smtp/*.talk"), 0);
	assert_true(t.played > 1000);
	world_end(&w);
}

/* The driver says these two before there is a session. */
static bool is_of_the_driver(const struct reply *r)
{
	return r == &reply_busy || r == &reply_busy_with_you;
}

static void every_reply_has_its_conversation(void **state)
{
	for (unsigned i = 0; i < smtp_replies_n; i++)
		if (!said[i] && !is_of_the_driver(smtp_replies[i]))
			fail_msg("no talk provokes %s", smtp_replies[i]->name);
}

/* RFC 2034: on 2xx, 4xx and 5xx, and of the same class. */
static void enhanced_codes_fit_their_codes(void **state)
{
	for (unsigned i = 0; i < smtp_replies_n; i++) {
		const struct reply *r = smtp_replies[i];

		assert_true(r->code >= 200 && r->code < 600);
		if (r->code / 100 == 3)
			assert_string_equal(r->enhanced, "");
		else
			assert_int_equal(r->enhanced[0], '0' + r->code / 100);
		assert_true(strlen(r->text) + 16 < 512);
	}
}

/* A peer that sends commands and reads nothing is not heard any more. */
static void a_peer_that_does_not_read_is_held(void **state)
{
	static struct talk  t;
	static struct world w;
	struct span         in;
	size_t              taken = 0;

	world_begin(&w, &t);
	t = (struct talk){.side = &side, .state = &w};
	outbuf_init(&t.out);
	buf_init(&t.said, TALK_BIG);
	talk_reset(&t);
	side.begin(&t);
	for (int i = 0; i < 100000 && taken == (size_t)i * 6; i++) {
		in = SPAN("NOOP\r\n");
		smtp_input(&w.smtp, &in);
		taken += 6 - in.n;
	}
	assert_true(outbuf_full(&t.out));
	assert_true(t.out.n < 2 * OUTBUF_FULL);
	outbuf_sent(&t.out, t.out.n);
	in = SPAN("NOOP\r\n");
	smtp_input(&w.smtp, &in);
	assert_int_equal(in.n, 0);
	side.end(&t);
	talk_reset(&t);
	control_free(t.control);
	world_end(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_conversation_goes_as_written),
		cmocka_unit_test(every_reply_has_its_conversation),
		cmocka_unit_test(enhanced_codes_fit_their_codes),
		cmocka_unit_test(a_peer_that_does_not_read_is_held),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
