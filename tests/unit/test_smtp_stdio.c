/* sendmail -bs: a session over two pipes, mail through a run/submit of the test's own. */
#include "smtp/stdio.h"

#include "core/clock.h"
#include "mail/submit.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define WAIT_S 20 /* then something hangs, and SIGALRM says so */

static char dir[64], path[96], log_path[96];
static int  to_client[2], to_server[2], listener;

/* Answers one submission after the other, and writes down what they were. */
static void serve(void)
{
	FILE *log = fopen(log_path, "w");

	alarm(WAIT_S);
	for (unsigned id = 501;; id++) {
		struct submit_talk t;
		int                fd = accept(listener, NULL, NULL);
		char               bytes[4096];
		bool               over = false;

		submit_talk_init(&t);
		while (!over) {
			ssize_t     n = read(fd, bytes, sizeof(bytes));
			struct span in = span_of(bytes, n > 0 ? (size_t)n : 0), ret;
			enum submit_event ev;

			if (n <= 0)
				break;
			while ((ev = submit_talk_take(&t, &in, &ret)) != SUBMIT_MORE && !over) {
				if (ev == SUBMIT_BODY)
					fwrite(ret.p, 1, ret.n, log);
				else if (ev == SUBMIT_SENDER)
					fprintf(log, "F=%.*s\n", SPAN_ARG(ret));
				else if (ev == SUBMIT_RCPT)
					fprintf(log, "T=%.*s\n", SPAN_ARG(ret));
				else if (ev == SUBMIT_END || ev == SUBMIT_BAD)
					over = true;
			}
		}
		fflush(log);
		if (over && id == 502)
			dprintf(fd, "13:Z53 disk full,");
		else if (over)
			dprintf(fd, "4:K%u,", id);
		close(fd);
	}
}

static void run_session(void)
{
	struct control *c = control_new();
	bool            set = control_set(c, SPAN("me"), SPAN("me.example\n")) &&
	           control_set(c, SPAN("timeoutsmtpd"), SPAN("2\n"));

	alarm(WAIT_S);
	clock_refresh();
	close(to_server[1]);
	_exit(set ? smtp_stdio(to_server[0], to_client[1], c, path) : 99);
}

static pid_t server, session;

static int set_up(void **state)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};

	snprintf(dir, sizeof(dir), "/tmp/quire-stdio.XXXXXX");
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/submit", dir);
	snprintf(log_path, sizeof(log_path), "%s/log", dir);
	snprintf(a.sun_path, sizeof(a.sun_path), "%s", path);
	listener = socket(AF_UNIX, SOCK_STREAM, 0);
	assert_int_equal(bind(listener, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(listen(listener, 5), 0);
	assert_int_equal(pipe(to_client), 0);
	assert_int_equal(pipe(to_server), 0);
	server = fork();
	if (server == 0)
		serve();
	session = fork();
	if (session == 0)
		run_session();
	close(to_client[1]);
	close(to_server[0]);
	return 0;
}

static int tear_down(void **state)
{
	kill(server, SIGKILL);
	waitpid(server, NULL, 0);
	close(listener);
	close(to_client[0]);
	if (to_server[1] >= 0)
		close(to_server[1]);
	unlink(path);
	unlink(log_path);
	rmdir(dir);
	return 0;
}

static void say(const char *s)
{
	assert_int_equal(write(to_server[1], s, strlen(s)), strlen(s));
}

static void hear_line(const char *begins)
{
	char   line[512];
	size_t n = 0;

	alarm(WAIT_S);
	while (n < sizeof(line) && read(to_client[0], line + n, 1) == 1)
		if (line[n++] == '\n')
			break;
	alarm(0);
	if (!span_starts(span_of(line, n), span_str(begins)))
		fail_msg("heard \"%.*s\", wanted \"%s\"", (int)n, line, begins);
}

static int status_of_session(void)
{
	int status;

	assert_int_equal(waitpid(session, &status, 0), session);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void assert_log(const char *want)
{
	char   got[4096];
	FILE  *f = fopen(log_path, "r");
	size_t n;

	assert_non_null(f);
	n = fread(got, 1, sizeof(got) - 1, f);
	got[n] = '\0';
	fclose(f);
	assert_string_equal(got, want);
}

static void mail_goes_to_the_socket(void **state)
{
	hear_line("220 me.example ESMTP");
	say("HELO x\r\nMAIL FROM:<s@client.example>\r\nRCPT TO:<u@anywhere.example>\r\nRCPT "
	    "TO:<v@b>\r\nDATA\r\n");
	hear_line("250 me.example");
	hear_line("250 2.1.0");
	hear_line("250 2.1.5");
	hear_line("250 2.1.5");
	hear_line("354");
	say("Subject: x\r\n\r\n..\r\n.\r\nMAIL FROM:<>\r\nRCPT "
	    "TO:<u@b>\r\nDATA\r\ntwo\r\n.\r\nQUIT\r\n");
	hear_line("250 2.0.0 ok ");
	hear_line("250 2.1.0");
	hear_line("250 2.1.5");
	hear_line("354");
	hear_line("452 4.3.1");
	hear_line("221");
	assert_int_equal(status_of_session(), 0);
	/* No Received line: the socket's other end writes it. */
	assert_log("Subject: "
		   "x\n\n.\nF=s@client.example\nT=u@anywhere.example\nT=v@b\ntwo\nF=\nT=u@b\n");
}

static void a_client_that_leaves_within_the_body_queues_nothing(void **state)
{
	hear_line("220");
	say("MAIL FROM:<>\r\nRCPT TO:<u@b>\r\nDATA\r\nhalf");
	hear_line("250");
	hear_line("250");
	hear_line("354");
	close(to_server[1]);
	to_server[1] = -1;
	assert_int_equal(status_of_session(), 1);
}

static void silence_is_told(void **state)
{
	hear_line("220");
	hear_line("451 4.4.2");
	assert_int_equal(status_of_session(), 1);
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		CASE(mail_goes_to_the_socket),
		CASE(a_client_that_leaves_within_the_body_queues_nothing),
		CASE(silence_is_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
