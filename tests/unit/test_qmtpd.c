/* quire-qmtpd's driver over real sockets, on both loops, with a journald of the test's own. */
#include "qmtp/qmtpd.h"

#include "core/log.h"
#include "tests/talk/front.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

struct host {
	struct loop          *loop;
	struct control       *control;
	struct counters      *counters;
	struct qmtpd         *qmtpd;
	struct front_journald journald;
	uint16_t              port;
	bool                  over;
};
static struct host host;
static enum loop_kind kind;

static void set(const char *name, const char *value)
{
	assert_true(control_set(host.control, span_str(name), span_str(value)));
}

static void swallow(void *ctx, struct span line)
{
}

static int set_up(void **state)
{
	log_capture(swallow, NULL);
	clock_refresh();
	memset(&host, 0, sizeof(host));
	host.loop = loop_new(kind, 64);
	host.control = control_new();
	host.counters = counters_map(-1);
	set("me", "mail.example.com\n");
	set("rcpthosts", "example.com\n");
	front_journald_init(&host.journald, host.loop);
	return 0;
}

/* After the control files are set. */
static void begin(void)
{
	host.qmtpd = qmtpd_new(host.loop, host.control, host.counters, 3, -1);
	qmtpd_listen(host.qmtpd, front_listen(&host.port));
	qmtpd_attach(host.qmtpd, front_journald_up(&host.journald));
	for (int i = 0; i < 5; i++)
		front_pass(host.loop);
}

static void on_over(void *ctx)
{
	host.over = true;
}

static int tear_down(void **state)
{
	if (!host.over)
		qmtpd_drain(host.qmtpd, on_over, NULL);
	front_until(host.loop, host.over);
	assert_int_equal(qmtpd_sessions(host.qmtpd), 0);
	assert_int_equal(counters_all(host.counters), 0);
	qmtpd_free(host.qmtpd);
	front_journald_fini(&host.journald);
	for (int i = 0; i < 5; i++)
		front_pass(host.loop);
	counters_free(host.counters);
	control_free(host.control);
	loop_free(host.loop);
	log_capture(NULL, NULL);
	return 0;
}

#define ONE "3:\nm1,3:s@a,17:13:u@example.com,,"

static int client(void)
{
	return front_connect(host.port);
}

static void say(int fd, const char *text)
{
	front_say(host.loop, fd, span_str(text));
}

/* "<n>:K...," with whatever number; the rest is let go. */
static void hear_answer(int fd, const char *begins)
{
	char     got[4096], digits[8];
	size_t   n = 0;
	uint64_t want;

	for (;;) {
		front_until(host.loop, recv(fd, digits + n, 1, 0) == 1);
		if (digits[n++] == ':')
			break;
		assert_true(n < sizeof(digits));
	}
	assert_true(span_u64(span_of(digits, n - 1), sizeof(got) - 2, &want));
	for (n = 0; n <= want;) {
		ssize_t r = recv(fd, got + n, want + 1 - n, 0);

		if (r > 0)
			n += (size_t)r;
		else
			front_pass(host.loop);
	}
	assert_int_equal(got[want], ',');
	if (!span_starts(span_of(got, want), span_str(begins)))
		fail_msg("answer \"%.*s\", wanted \"%s\"", (int)want, got, begins);
}

static void gone(int fd)
{
	close(fd);
	front_until(host.loop, qmtpd_sessions(host.qmtpd) == 0);
}

static void packages_are_stored_and_answered_in_order(void **state)
{
	struct front_stored *m = host.journald.stored;
	int                  fd;

	begin();
	fd = client();
	say(fd, ONE "6:\nlater,0:,38:13:v@example.com,17:x@elsewhere.examp,,");
	hear_answer(fd, "Kok ");
	hear_answer(fd, "Kok ");
	hear_answer(fd, "Dno mail");
	assert_int_equal(host.journald.stored_n, 2);
	assert_string_equal(m[0].sender, "s@a");
	assert_true(span_starts(buf_span(&m[0].body),
				SPAN("Received: from unknown (127.0.0.1)\n")));
	assert_true(span_ends(buf_span(&m[0].body), SPAN("\nm1")));
	assert_true(span_ends(buf_span(&m[1].body), SPAN("\nlater")));
	assert_int_equal(m[1].rcpts_n, 1);
	gone(fd);
}

static void a_client_that_half_closes_hears_its_answers(void **state)
{
	int fd;

	begin();
	host.journald.hold = true;
	fd = client();
	say(fd, ONE ONE "3:\nm");
	shutdown(fd, SHUT_WR);
	front_until(host.loop, host.journald.stored_n == 2);
	front_hear_nothing(host.loop, fd);
	front_answer(&host.journald);
	hear_answer(fd, "Kok");
	front_answer(&host.journald);
	hear_answer(fd, "Kok");
	front_hear_end(host.loop, fd);
	gone(fd);
}

static void what_is_no_package_ends_it_without_a_word(void **state)
{
	int fd;

	begin();
	fd = client();
	say(fd, ONE "EHLO client.example\r\n");
	hear_answer(fd, "Kok");
	front_hear_end(host.loop, fd);
	gone(fd);
}

static void a_client_that_leaves_leaves_nothing(void **state)
{
	static char line[1000];
	int         fd;

	begin();
	fd = client();
	say(fd, "1000000:\n");
	memset(line, 'x', sizeof(line));
	for (int i = 0; i < 600; i++)
		front_say(host.loop, fd, span_of(line, sizeof(line)));
	gone(fd);
	front_until(host.loop, host.journald.abandoned_n == 1);
	assert_int_equal(host.journald.stored_n, 0);
}

static void two_thousand_packages_at_once(void **state)
{
	enum { PACKAGES = 2000 };
	static char all[PACKAGES * sizeof(ONE)];
	size_t      n = 0, sent = 0, got = 0, ends = 0;
	char        answers[4096];
	int         fd;

	begin();
	fd = client();
	for (int i = 0; i < PACKAGES; i++, n += sizeof(ONE) - 1)
		memcpy(all + n, ONE, sizeof(ONE) - 1);
	while (ends < PACKAGES) {
		ssize_t r = recv(fd, answers, sizeof(answers), 0);

		sent += front_say_some(fd, span_of(all + sent, n - sent));
		for (ssize_t i = 0; i < r; i++)
			ends += answers[i] == ',';
		got += r > 0 ? (size_t)r : 0;
		front_pass(host.loop);
		assert_true(got < sizeof(all) * 2);
	}
	assert_int_equal(host.journald.stored_n, PACKAGES);
	gone(fd);
}

static void without_a_journald_it_is_z(void **state)
{
	int fd;

	begin();
	front_journald_down(&host.journald);
	for (int i = 0; i < 5; i++)
		front_pass(host.loop);
	fd = client();
	say(fd, ONE);
	hear_answer(fd, "Zmessage not stored, try later (#4.3.0)");
	qmtpd_attach(host.qmtpd, front_journald_up(&host.journald));
	for (int i = 0; i < 5; i++)
		front_pass(host.loop);
	say(fd, ONE);
	hear_answer(fd, "Kok");
	gone(fd);
}

static void a_journald_that_dies_is_z_and_the_client_stays(void **state)
{
	int fd;

	begin();
	host.journald.hold = true;
	fd = client();
	say(fd, ONE ONE);
	front_until(host.loop, host.journald.stored_n == 2);
	front_journald_down(&host.journald);
	hear_answer(fd, "Z");
	hear_answer(fd, "Z");
	host.journald.hold = false;
	host.journald.answered_n = 2;
	qmtpd_attach(host.qmtpd, front_journald_up(&host.journald));
	for (int i = 0; i < 5; i++)
		front_pass(host.loop);
	say(fd, ONE);
	hear_answer(fd, "Kok");
	gone(fd);
}

static void too_many_connections_are_closed(void **state)
{
	int a, b;

	set("concurrencyperip", "1\n");
	begin();
	a = client();
	say(a, ONE);
	hear_answer(a, "Kok");
	b = client();
	front_hear_end(host.loop, b);
	close(b);
	say(a, ONE);
	hear_answer(a, "Kok");
	gone(a);
}

static void silence_ends_a_session(void **state)
{
	int fd;

	set("timeoutsmtpd", "1\n");
	begin();
	fd = client();
	say(fd, "3:\n");
	front_hear_end(host.loop, fd);
	gone(fd);
}

static void draining_ends_the_idle_and_waits_for_the_busy(void **state)
{
	int idle, busy;

	begin();
	host.journald.hold = true;
	idle = client();
	busy = client();
	say(busy, ONE "3:\n");
	front_until(host.loop, host.journald.stored_n == 1);
	qmtpd_drain(host.qmtpd, on_over, NULL);
	front_hear_end(host.loop, idle);
	close(idle);
	assert_false(host.over);
	front_answer(&host.journald);
	hear_answer(busy, "Kok");
	say(busy, "m2,0:,17:13:u@example.com,,");
	front_until(host.loop, host.journald.stored_n == 2);
	front_answer(&host.journald);
	hear_answer(busy, "Kok");
	front_hear_end(host.loop, busy);
	close(busy);
	front_until(host.loop, host.over);
}

static void a_package_of_a_hundred_thousand_recipients(void **state)
{
	enum { RCPTS = 100000 };
	char head[64];
	int  fd;

	set("relayclients", "127.0.0.0/8\n");
	begin();
	fd = client();
	snprintf(head, sizeof(head), "3:\nm1,0:,%u:", RCPTS * 10);
	say(fd, head);
	for (int i = 0; i < RCPTS / 10; i++)
		say(fd, "7:u@a.b.c,7:u@a.b.c,7:u@a.b.c,7:u@a.b.c,7:u@a.b.c,"
		        "7:u@a.b.c,7:u@a.b.c,7:u@a.b.c,7:u@a.b.c,7:u@a.b.c,");
	say(fd, ",");
	for (int i = 0; i < RCPTS; i++)
		hear_answer(fd, "Kok");
	front_hear_nothing(host.loop, fd);
	assert_int_equal(host.journald.stored_n, 1);
	assert_int_equal(host.journald.stored[0].rcpts_n, RCPTS);
	assert_int_equal(host.journald.stored[0].rcpts.n, RCPTS * 9);
	gone(fd);
}

static const struct CMUnitTest tests[] = {
#define CASE(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
	CASE(packages_are_stored_and_answered_in_order),
	CASE(a_client_that_half_closes_hears_its_answers),
	CASE(what_is_no_package_ends_it_without_a_word),
	CASE(a_client_that_leaves_leaves_nothing),
	CASE(two_thousand_packages_at_once),
	CASE(without_a_journald_it_is_z),
	CASE(a_journald_that_dies_is_z_and_the_client_stays),
	CASE(too_many_connections_are_closed),
	CASE(silence_ends_a_session),
	CASE(draining_ends_the_idle_and_waits_for_the_busy),
	CASE(a_package_of_a_hundred_thousand_recipients),
};

int main(void)
{
	const char *why = NULL;
	int         failed;
	struct loop *l;

	kind = LOOP_EPOLL;
	failed = cmocka_run_group_tests_name("epoll", tests, NULL, NULL);
	l = loop_uring_new(64, &why);
	if (!l) {
		fprintf(stderr, "io_uring is refused here: %s\n", why);
		return failed;
	}
	loop_free(l);
	kind = LOOP_URING;
	return failed + cmocka_run_group_tests_name("io_uring", tests, NULL, NULL);
}
