/* tell: the scheduler's events in qmail's words, and as JSON. */
#include "core/clock.h"
#include "core/log.h"
#include "sched/tell.h"
#include "tests/unit/mail_test.h"

#include <stdlib.h>

static struct tell t;
static struct buf log_buf;

static void on_line(void *ctx, struct span line)
{
	assert_true(buf_add(&log_buf, line) && buf_add_byte(&log_buf, '\n'));
}

static int setup(void **state)
{
	clock_set(5000000, 1700000000000042ull);
	tell_init(&t);
	buf_init(&log_buf, 1 << 20);
	log_capture(on_line, NULL);
	return 0;
}

static int teardown(void **state)
{
	log_capture(NULL, NULL);
	tell_fini(&t);
	buf_free(&log_buf);
	return 0;
}

static void say_all(void)
{
	struct tell_info i = {64, 100, SPAN("a b%\xe4@x.example"), 77, 7};
	struct tell_status s = {1, 10, 2, 20, false};

	tell_new(&t, &i);
	tell_start(&t, 1, 64, CHANNEL_LOCAL, SPAN("joe@here"));
	tell_start(&t, 2, 64, CHANNEL_REMOTE, SPAN("\"q\\\"@far"));
	tell_status(&t, &s);
	tell_end(&t, 1, 64, TELL_SUCCESS, SPAN("did 1+0+0\n"), SPAN_NONE);
	tell_end(&t, 2, 64, TELL_FAILURE, SPAN("no\n"), SPAN("old\n"));
	tell_end(&t, 3, 64, TELL_DEFERRAL, SPAN_NONE, SPAN_NONE);
	tell_mangled(&t, 4, 64);
	tell_bounce(&t, 64, 78);
	tell_triple(&t, 65);
	tell_damage(&t, 66, "damaged in the journal");
	tell_over(&t, 64);
	tell_warning(&t, "trouble");
	s.draining = true;
	tell_status(&t, &s);
	tell_exiting(&t);
}

static void qmails_lines_byte_for_byte(void **state)
{
	say_all();
	assert_span(buf_span(&log_buf),
		    "new msg 64\n"
		    "info msg 64: bytes 100 from <a_b__@x.example> qp 77 uid 7\n"
		    "starting delivery 1: msg 64 to local joe@here\n"
		    "starting delivery 2: msg 64 to remote \"q\\\"@far\n"
		    "status: local 1/10 remote 2/20\n"
		    "delivery 1: success: did_1+0+0/\n"
		    "delivery 2: failure: no/old/\n"
		    "delivery 3: deferral: \n"
		    "delivery 4: report mangled, will defer\n"
		    "bounce msg 64 qp 78\n"
		    "triple bounce: discarding bounce/65\n"
		    "msg 66: damaged in the journal\n"
		    "end msg 64\n"
		    "warning: trouble\n"
		    "status: local 1/10 remote 2/20 exitasap\n"
		    "status: exiting\n");
}

#define T "{\"time\":1700000000.000042,\"event\":"
static void the_same_as_json(void **state)
{
	t.json = true;
	say_all();
	assert_span(buf_span(&log_buf), T
		    "\"new_msg\",\"id\":\"64\"}\n" T
		    "\"info_msg\",\"id\":\"64\",\"bytes\":100,\"sender\":\"a "
		    "b%\\u00e4@x.example\",\"qp\":77,\"uid\":7}\n" T
		    "\"starting_delivery\",\"delivery\":1,\"id\":\"64\",\"channel\":\"local\","
		    "\"recipient\":\"joe@here\"}\n" T
		    "\"starting_delivery\",\"delivery\":2,\"id\":\"64\",\"channel\":\"remote\","
		    "\"recipient\":\"\\\"q\\\\\\\"@far\"}\n" T
		    "\"status\",\"local\":1,\"local_limit\":10,\"remote\":2,\"remote_limit\":"
		    "20,\"exitasap\":false}\n" T
		    "\"delivery\",\"delivery\":1,\"id\":\"64\",\"result\":\"success\",\"text\":"
		    "\"did 1+0+0\\n\"}\n" T
		    "\"delivery\",\"delivery\":2,\"id\":\"64\",\"result\":\"failure\",\"text\":"
		    "\"no\\nold\\n\"}\n" T "\"delivery\",\"delivery\":3,\"id\":\"64\","
					   "\"result\":\"deferral\",\"text\":\"\"}\n" T
		    "\"report_mangled\",\"delivery\":4,\"id\":\"64\"}\n" T
		    "\"bounce_msg\",\"id\":\"64\",\"qp\":78}\n" T
		    "\"triple_bounce\",\"id\":\"65\"}\n" T
		    "\"damage\",\"id\":\"66\",\"text\":\"damaged in the journal\"}\n" T
		    "\"end_msg\",\"id\":\"64\"}\n" T "\"warning\",\"text\":\"trouble\"}\n" T
		    "\"status\",\"local\":1,\"local_limit\":10,\"remote\":2,\"remote_limit\":"
		    "20,\"exitasap\":true}\n" T "\"exiting\"}\n");
}

/* The worst text there is: each byte takes six. */
static void a_long_text_is_cut_and_the_line_stays_whole(void **state)
{
	static char text[100000];

	memset(text, '\n', sizeof(text));
	memset(text + 100, '\xff', sizeof(text) - 100);
	t.json = true;
	tell_end(&t, UINT64_MAX, UINT64_MAX, TELL_FAILURE, span_of(text, sizeof(text)),
		 SPAN("x"));
	assert_in_range(log_buf.n, 3000, 4096);
	assert_memory_equal(log_buf.p + log_buf.n - 3, "\"}\n", 3);
	buf_clear(&log_buf);
	t.json = false;
	tell_start(&t, 1, 2, CHANNEL_LOCAL, span_of(text, sizeof(text)));
	assert_in_range(log_buf.n, 1000, 4096);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(qmails_lines_byte_for_byte),
		TEST(the_same_as_json),
		TEST(a_long_text_is_cut_and_the_line_stays_whole),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
