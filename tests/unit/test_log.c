#include "core/log.h"

#include "core/check.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static char got[8192];

static void take(void *ctx, struct span line)
{
	assert_true(line.n < sizeof(got));
	memcpy(got, line.p, line.n);
	got[line.n] = '\0';
}

static void notes_are_sanitised(void **state)
{
	log_begin("quire-test");
	log_capture(take, NULL);
	log_note("peer", "1.2.3.4", "odd", "slow answer", "empty", "", "none", NULL, NULL);
	assert_string_equal(got, "quire-test: peer=1.2.3.4 odd=\"slow answer\" empty= none=");
	log_note("a", "x\ny\"z\x80\t", "b", "q\" \r\n", NULL);
	assert_string_equal(got, "quire-test: a=x_y_z__ b=\"q_ __\"");
	log_line("delivery %d: success: a b/", 3);
	assert_string_equal(got, "delivery 3: success: a b/");
	log_line("two\nlines\r");
	assert_string_equal(got, "two_lines_");
	log_capture(NULL, NULL);
}

static void a_long_line_is_cut(void **state)
{
	static char longer[20000];

	memset(longer, 'x', sizeof(longer) - 1);
	log_capture(take, NULL);
	log_line("%s", longer);
	assert_int_equal(strlen(got), 4095);
	log_note("k", longer, NULL);
	assert_int_equal(strlen(got), 4095);
	log_capture(NULL, NULL);
}

/* Runs f with a pipe as stderr; what it said is in got, its wait status is returned. */
static int said_by(void (*f)(void))
{
	int   tube[2], status;
	size_t n = 0;
	ssize_t r;
	pid_t pid;

	assert_int_equal(pipe(tube), 0);
	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		struct rlimit none = {0, 0};

		setrlimit(RLIMIT_CORE, &none);
		signal(SIGABRT, SIG_DFL);
		dup2(tube[1], 2);
		f();
		_exit(0);
	}
	close(tube[1]);
	while (n < sizeof(got) - 1 && (r = read(tube[0], got + n, sizeof(got) - 1 - n)) > 0)
		n += (size_t)r;
	got[n] = '\0';
	close(tube[0]);
	waitpid(pid, &status, 0);
	return status;
}

static void say_and_die(void)
{
	log_note("before", "the end", NULL);
	die(111, "no %s", "hope\n");
}

static void die_of_the_system(void)
{
	errno = ENOENT;
	die_sys(100, "open ", "/var/x");
}

static void fail_a_check(void)
{
	log_line("last words");
	check(1 == 2);
}

static void dying_says_everything_first(void **state)
{
	int status = said_by(say_and_die);

	assert_int_equal(WEXITSTATUS(status), 111);
	assert_string_equal(got, "quire-test: before=\"the end\"\nquire-test: fatal: no hope_\n");
	status = said_by(die_of_the_system);
	assert_int_equal(WEXITSTATUS(status), 100);
	assert_string_equal(got, "quire-test: fatal: open /var/x: No such file or directory\n");
}

static void a_failed_check_aborts_with_its_place(void **state)
{
	int status = said_by(fail_a_check);

	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
	assert_non_null(strstr(got, "last words\ncheck failed: 1 == 2 at "));
	assert_non_null(strstr(got, "test_log.c:"));
}

/* Nobody reads: nothing blocks, lines are counted; when somebody reads, whole lines come and
 * the loss is told. */
static void a_reader_that_blocks_costs_counted_lines(void **state)
{
	enum { N = 20000 };
	int      tube[2], saved = dup(2);
	uint64_t lines = 0, told = 0;
	FILE    *in;
	char     line[256];

	assert_int_equal(pipe(tube), 0);
	dup2(tube[1], 2);
	for (int i = 0; i < N; i++) {
		log_note("number", "12345678901234567890", NULL);
		if (i % 100 == 0)
			log_flush();
	}
	assert_true(log_lost() > 0 && log_lost() < N);
	fcntl(tube[0], F_SETFL, O_NONBLOCK);
	in = fdopen(tube[0], "r");
	for (int turn = 0; turn < 200; turn++) {
		if (turn == 100)
			log_line("the end");
		log_flush();
		clearerr(in);
		while (fgets(line, sizeof(line), in)) {
			unsigned long long lost;

			if (sscanf(line, "quire-test: log_lines_lost=%llu", &lost) == 1)
				told += lost;
			else if (strcmp(line, "quire-test: number=12345678901234567890\n") == 0)
				lines++;
			else
				assert_string_equal(line, "the end\n");
		}
	}
	dup2(saved, 2);
	close(saved);
	close(tube[1]);
	fclose(in);
	assert_int_equal(told, log_lost());
	assert_int_equal(lines + told, N);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(notes_are_sanitised),
		cmocka_unit_test(a_long_line_is_cut),
		cmocka_unit_test(dying_says_everything_first),
		cmocka_unit_test(a_failed_check_aborts_with_its_place),
		cmocka_unit_test(a_reader_that_blocks_costs_counted_lines),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
