/* The verb table: what is legal in which phase, and what each leaves behind. */
#include "smtp/verbs.h"

#include "mail/received.h"
#include "smtp/replies.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static struct control   *control;
static struct policy     policy;
static struct buf        scratch;
static struct envelope   envelope;
static struct outbuf     out;
static struct smtp       smtp;
static struct smtp_world world;
static unsigned          begun, closed;

static bool yes(struct smtp *s)
{
	return true;
}

static bool no(struct smtp *s)
{
	return false;
}

static struct envelope *on_open(struct smtp *s)
{
	return &envelope;
}

static void on_begin(struct smtp *s)
{
	begun++;
}

static void on_body(struct smtp *s, struct span bytes)
{
}

static void on_close(struct smtp *s)
{
	closed++;
}

static int set_up(void **state)
{
	struct policy_peer peer = {0};

	control = control_new();
	assert_true(control_set(control, SPAN("me"), SPAN("me.example\n")));
	assert_true(control_set(control, SPAN("rcpthosts"), SPAN("example.com\n")));
	policy_init(&policy, control, -1);
	buf_init(&scratch, RECEIVED_MAX);
	envelope_init(&envelope, 4096);
	outbuf_init(&out);
	world = (struct smtp_world){.policy = &policy,
				    .scratch = &scratch,
				    .admits = yes,
				    .full = no,
				    .open = on_open,
				    .body_begin = on_begin,
				    .body = on_body,
				    .commit = on_begin,
				    .close = on_close};
	begun = closed = 0;
	smtp_begin(&smtp, &world, &out, &peer);
	return 0;
}

static int tear_down(void **state)
{
	smtp_fini(&smtp);
	envelope_fini(&envelope);
	outbuf_fini(&out);
	buf_free(&scratch);
	policy_fini(&policy);
	control_free(control);
	return 0;
}

/* Brings the session to a phase by its own means. */
static void bring_to(enum smtp_phase phase)
{
	smtp_reset(&smtp);
	if (phase == SMTP_SENDER || phase == SMTP_RCPT)
		assert_ptr_equal(verbs_dispatch(&smtp, SPAN("MAIL FROM:<a@b.example>")),
				 &reply_sender_ok);
	if (phase == SMTP_RCPT)
		assert_ptr_equal(verbs_dispatch(&smtp, SPAN("RCPT TO:<u@example.com>")),
				 &reply_rcpt_ok);
	assert_int_equal(smtp.phase, phase);
}

/* NULL: said by the handler itself. */
static void each_verb_in_each_phase(void **state)
{
	static const struct {
		const char         *line;
		const struct reply *idle, *sender, *rcpt;
		enum smtp_phase after_rcpt; /* where it leaves a transaction with a recipient */
	} cases[] = {
		{"HELO x", NULL, NULL, NULL, SMTP_IDLE},
		{"ehlo x", NULL, NULL, NULL, SMTP_IDLE},
		{"MAIL FROM:<c@d.example>", &reply_sender_ok, &reply_sender_ok,
		 &reply_sender_ok, SMTP_SENDER},
		{"MAIL what", &reply_mail_syntax, &reply_mail_syntax, &reply_mail_syntax,
		 SMTP_RCPT},
		{"RCPT TO:<v@example.com>", &reply_mail_first, &reply_rcpt_ok, &reply_rcpt_ok,
		 SMTP_RCPT},
		{"RCPT what", &reply_mail_first, &reply_rcpt_syntax, &reply_rcpt_syntax,
		 SMTP_RCPT},
		{"DATA", &reply_mail_first, &reply_rcpt_first, &reply_go_ahead, SMTP_RCPT},
		{"RSET", &reply_flushed, &reply_flushed, &reply_flushed, SMTP_IDLE},
		{"NOOP", &reply_noop, &reply_noop, &reply_noop, SMTP_RCPT},
		{"VRFY x", &reply_vrfy, &reply_vrfy, &reply_vrfy, SMTP_RCPT},
		{"HELP", &reply_help, &reply_help, &reply_help, SMTP_RCPT},
		{"EXPN x", &reply_unknown_verb, &reply_unknown_verb, &reply_unknown_verb,
		 SMTP_RCPT},
		{"", &reply_unknown_verb, &reply_unknown_verb, &reply_unknown_verb, SMTP_RCPT},
		{" NOOP", &reply_unknown_verb, &reply_unknown_verb, &reply_unknown_verb,
		 SMTP_RCPT},
		{"NOOPS", &reply_unknown_verb, &reply_unknown_verb, &reply_unknown_verb,
		 SMTP_RCPT},
		{"NOO", &reply_unknown_verb, &reply_unknown_verb, &reply_unknown_verb,
		 SMTP_RCPT},
		{"NOOP\r", &reply_bad_bytes, &reply_bad_bytes, &reply_bad_bytes, SMTP_RCPT},
		{"QUIT", NULL, NULL, NULL, SMTP_IDLE},
	};

	for (size_t i = 0; i < ARRAY_N(cases); i++) {
		struct span line = span_str(cases[i].line);

		bring_to(SMTP_IDLE);
		assert_ptr_equal(verbs_dispatch(&smtp, line), cases[i].idle);
		bring_to(SMTP_SENDER);
		assert_ptr_equal(verbs_dispatch(&smtp, line), cases[i].sender);
		bring_to(SMTP_RCPT);
		assert_ptr_equal(verbs_dispatch(&smtp, line), cases[i].rcpt);
		assert_int_equal(smtp.phase, cases[i].after_rcpt);
	}
	assert_int_equal(begun, 1);
	assert_true(smtp_is_over(&smtp));         /* QUIT was the last */
}

static void a_transaction_is_closed_once(void **state)
{
	bring_to(SMTP_RCPT);
	assert_int_equal(closed, 0);
	verbs_dispatch(&smtp, SPAN("MAIL FROM:<>"));
	assert_int_equal(closed, 0);
	verbs_dispatch(&smtp, SPAN("RSET"));
	assert_int_equal(closed, 1);
	verbs_dispatch(&smtp, SPAN("RSET"));
	assert_int_equal(closed, 1);
}

static void a_long_helo_is_cut(void **state)
{
	char line[600];

	for (size_t i = 0; i < sizeof(line); i++)
		line[i] = "HELO x"[i < 5 ? i : 5];
	verbs_dispatch(&smtp, span_of(line, sizeof(line)));
	assert_int_equal(smtp.helo_n, SMTP_HELO_MAX);
	verbs_dispatch(&smtp, SPAN("EHLO  y "));
	assert_int_equal(smtp.helo_n, 1);
	assert_true(smtp.esmtp);
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		CASE(each_verb_in_each_phase),
		CASE(a_transaction_is_closed_once),
		CASE(a_long_helo_is_cut),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
