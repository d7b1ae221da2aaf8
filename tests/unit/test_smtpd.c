/* quire-smtpd's driver over real sockets, on both loops, with a journald of the test's own. */
#include "smtp/smtpd.h"

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
	struct smtpd         *smtpd;
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
	host.smtpd = smtpd_new(host.loop, host.control, host.counters, 3, -1);
	smtpd_listen(host.smtpd, front_listen(&host.port));
	smtpd_attach(host.smtpd, front_journald_up(&host.journald));
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
		smtpd_drain(host.smtpd, on_over, NULL);
	front_until(host.loop, host.over);
	assert_int_equal(smtpd_sessions(host.smtpd), 0);
	assert_int_equal(counters_all(host.counters), 0);
	smtpd_free(host.smtpd);
	front_journald_fini(&host.journald);
	for (int i = 0; i < 5; i++)
		front_pass(host.loop);
	counters_free(host.counters);
	control_free(host.control);
	loop_free(host.loop);
	log_capture(NULL, NULL);
	return 0;
}

static int client(void)
{
	int fd = front_connect(host.port);

	front_hear(host.loop, fd, "220 mail.example.com ESMTP\r\n");
	return fd;
}

static void hear(int fd, const char *line)
{
	front_hear_line(host.loop, fd, line);
}

static void say(int fd, const char *text)
{
	front_say(host.loop, fd, span_str(text));
}

static void into_the_body(int fd)
{
	say(fd, "MAIL FROM:<s@client.example>\r\nRCPT TO:<u@example.com>\r\nDATA\r\n");
	hear(fd, "250 2.1.0");
	hear(fd, "250 2.1.5");
	hear(fd, "354");
}

static void bye(int fd)
{
	say(fd, "QUIT\r\n");
	hear(fd, "221");
	front_hear_end(host.loop, fd);
	close(fd);
	front_until(host.loop, smtpd_sessions(host.smtpd) == 0);
}

static void a_pipelined_message_is_stored(void **state)
{
	const struct front_stored *m = &host.journald.stored[0];
	int                        fd;

	begin();
	fd = client();
	say(fd, "HELO c\r\nMAIL FROM:<s@client.example>\r\nRCPT "
		"TO:<u@example.com>\r\nDATA\r\nhi\r\n.\r\nQUIT\r\n");
	hear(fd, "250 mail.example.com");
	hear(fd, "250 2.1.0");
	hear(fd, "250 2.1.5");
	hear(fd, "354");
	hear(fd, "250 2.0.0 ok ");
	hear(fd, "221");
	front_hear_end(host.loop, fd);
	close(fd);
	assert_int_equal(host.journald.stored_n, 1);
	assert_string_equal(m->sender, "s@client.example");
	assert_int_equal(m->rcpts_n, 1);
	assert_true(span_starts(buf_span(&m->body),
				SPAN("Received: from unknown (HELO c) (127.0.0.1)\n")));
	assert_true(span_ends(buf_span(&m->body), SPAN("\nhi\n")));
}

static void a_client_that_half_closes_hears_the_answer(void **state)
{
	int fd;

	begin();
	host.journald.hold = true;
	fd = client();
	into_the_body(fd);
	say(fd, "hi\r\n.\r\n");
	shutdown(fd, SHUT_WR);
	front_until(host.loop, host.journald.stored_n == 1);
	front_hear_nothing(host.loop, fd);
	front_answer(&host.journald);
	hear(fd, "250 2.0.0");
	front_hear_end(host.loop, fd);
	close(fd);
}

static void a_client_that_leaves_leaves_nothing(void **state)
{
	static char line[1000];
	int         fd;

	begin();
	fd = client();
	into_the_body(fd);
	memset(line, 'x', sizeof(line));
	memcpy(line + sizeof(line) - 2, "\r\n", 2);
	for (int i = 0; i < 600; i++)
		front_say(host.loop, fd, span_of(line, sizeof(line)));
	close(fd);
	front_until(host.loop, smtpd_sessions(host.smtpd) == 0);
	front_until(host.loop, host.journald.abandoned_n == 1);
	assert_int_equal(host.journald.stored_n, 0);
}

static void a_message_of_many_parts_waits_for_a_slow_journald(void **state)
{
	static char  line[16000];
	const size_t lines = 1900;
	size_t       sent = 0, total = lines * sizeof(line), stuck = 0;
	int          fd;

	begin();
	fd = client();
	into_the_body(fd);
	wire_pause(&host.journald.wire);
	/* Each line is another: what does not compress fills the wire. */
	srand(1);
	for (size_t i = 0; i < sizeof(line); i++)
		line[i] = (char)(' ' + 1 + rand() % 90);
	memcpy(line + sizeof(line) - 2, "\r\n", 2);
	while (sent < total && stuck < 300) {
		size_t at = sent % sizeof(line), n;

		if (at == 0)
			for (size_t i = 0; i < sizeof(line) - 2; i++)
				line[i] = (char)('a' + rand() % 26);
		n = front_say_some(fd, span_of(line + at, sizeof(line) - at));
		stuck = n ? 0 : stuck + 1;
		sent += n;
		front_pass(host.loop);
	}
	assert_true(sent < total);                /* TCP holds it */
	wire_resume(&host.journald.wire);
	while (sent < total) {
		size_t at = sent % sizeof(line);

		if (at == 0)
			for (size_t i = 0; i < sizeof(line) - 2; i++)
				line[i] = (char)('a' + rand() % 26);
		sent += front_say_some(fd, span_of(line + at, sizeof(line) - at));
		front_pass(host.loop);
	}
	say(fd, ".\r\n");
	hear(fd, "250 2.0.0");
	assert_int_equal(host.journald.stored_n, 1);
	assert_true(host.journald.stored[0].body.n > total - lines);
	bye(fd);
}

static void without_a_journald_mail_waits_outside(void **state)
{
	int fd;

	begin();
	front_journald_down(&host.journald);
	for (int i = 0; i < 5; i++)
		front_pass(host.loop);
	fd = client();
	say(fd, "MAIL FROM:<s@client.example>\r\n");
	hear(fd, "451 4.3.0");
	smtpd_attach(host.smtpd, front_journald_up(&host.journald));
	for (int i = 0; i < 5; i++)
		front_pass(host.loop);
	into_the_body(fd);
	say(fd, ".\r\n");
	hear(fd, "250 2.0.0");
	front_admit(&host.journald, false);
	for (int i = 0; i < 5; i++)
		front_pass(host.loop);
	say(fd, "MAIL FROM:<s@client.example>\r\n");
	hear(fd, "451 4.3.0");
	bye(fd);
}

static void a_journald_that_dies_defers_and_the_client_stays(void **state)
{
	int fd;

	begin();
	host.journald.hold = true;
	fd = client();
	into_the_body(fd);
	say(fd, "hi\r\n.\r\n");
	front_until(host.loop, host.journald.stored_n == 1);
	front_journald_down(&host.journald);
	hear(fd, "451 4.3.0");
	host.journald.hold = false;
	host.journald.answered_n = 1;
	smtpd_attach(host.smtpd, front_journald_up(&host.journald));
	for (int i = 0; i < 5; i++)
		front_pass(host.loop);
	into_the_body(fd);
	say(fd, "hi\r\n.\r\n");
	hear(fd, "250 2.0.0");
	bye(fd);
}

static void a_full_disk_has_its_answer(void **state)
{
	int fd;

	begin();
	host.journald.verdict = STORED_FULL;
	fd = client();
	into_the_body(fd);
	say(fd, "hi\r\n.\r\n");
	hear(fd, "452 4.3.1");
	bye(fd);
}

static void connections_of_one_address_are_counted(void **state)
{
	int a, b, c;

	set("concurrencyperip", "2\n");
	begin();
	a = client();
	b = client();
	c = front_connect(host.port);
	hear(c, "421 4.7.0");
	front_hear_end(host.loop, c);
	close(c);
	close(a);
	front_until(host.loop, counters_all(host.counters) == 1);
	a = client();
	close(a);
	close(b);
	front_until(host.loop, smtpd_sessions(host.smtpd) == 0);
}

static void all_connections_are_counted(void **state)
{
	int a, b;

	set("concurrencyincoming", "1\n");
	begin();
	a = client();
	b = front_connect(host.port);
	hear(b, "421 4.3.2");
	say(b, "EHLO x\r\n");                     /* it is not heard any more */
	front_hear_end(host.loop, b);
	close(b);
	bye(a);
}

static void silence_ends_a_session(void **state)
{
	int fd;

	set("timeoutsmtpd", "1\n");
	begin();
	fd = client();
	hear(fd, "451 4.4.2");
	front_hear_end(host.loop, fd);
	close(fd);
}

static void waiting_for_the_journal_is_no_silence(void **state)
{
	uint64_t until;
	int      fd;

	set("timeoutsmtpd", "1\n");
	begin();
	host.journald.hold = true;
	fd = client();
	into_the_body(fd);
	say(fd, "hi\r\n.\r\n");
	clock_refresh();
	for (until = clock_mono_ms() + 1500; clock_mono_ms() < until;)
		front_pass(host.loop);
	front_hear_nothing(host.loop, fd);
	front_answer(&host.journald);
	hear(fd, "250 2.0.0");
	hear(fd, "451 4.4.2");                    /* but now it is the client's turn again */
	front_hear_end(host.loop, fd);
	close(fd);
}

static void draining_ends_the_idle_and_waits_for_the_busy(void **state)
{
	int idle, busy;

	begin();
	idle = client();
	busy = client();
	into_the_body(busy);
	smtpd_drain(host.smtpd, on_over, NULL);
	hear(idle, "421 4.3.2");
	front_hear_end(host.loop, idle);
	close(idle);
	assert_false(host.over);
	say(busy, "hi\r\n.\r\n");
	hear(busy, "250 2.0.0");
	hear(busy, "421 4.3.2");
	front_hear_end(host.loop, busy);
	close(busy);
	front_until(host.loop, host.over);
}

static void many_at_once(void **state)
{
	enum { CLIENTS = 200, EACH = 5 };
	int fds[CLIENTS];

	begin();
	for (int i = 0; i < CLIENTS; i++)
		fds[i] = client();
	for (int round = 0; round < EACH; round++) {
		for (int i = 0; i < CLIENTS; i++)
			say(fds[i], "MAIL FROM:<s@client.example>\r\nRCPT "
				    "TO:<u@example.com>\r\nDATA\r\nhi\r\n.\r\n");
		for (int i = 0; i < CLIENTS; i++) {
			hear(fds[i], "250 2.1.0");
			hear(fds[i], "250 2.1.5");
			hear(fds[i], "354");
			hear(fds[i], "250 2.0.0");
		}
	}
	assert_int_equal(host.journald.stored_n, CLIENTS * EACH);
	for (int i = 0; i < CLIENTS; i++)
		close(fds[i]);
	front_until(host.loop, smtpd_sessions(host.smtpd) == 0);
}

static const struct CMUnitTest tests[] = {
#define CASE(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
	CASE(a_pipelined_message_is_stored),
	CASE(a_client_that_half_closes_hears_the_answer),
	CASE(a_client_that_leaves_leaves_nothing),
	CASE(a_message_of_many_parts_waits_for_a_slow_journald),
	CASE(without_a_journald_mail_waits_outside),
	CASE(a_journald_that_dies_defers_and_the_client_stays),
	CASE(a_full_disk_has_its_answer),
	CASE(connections_of_one_address_are_counted),
	CASE(all_connections_are_counted),
	CASE(silence_ends_a_session),
	CASE(waiting_for_the_journal_is_no_silence),
	CASE(draining_ends_the_idle_and_waits_for_the_busy),
	CASE(many_at_once),
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
