/* mbox: the golden case of docs/qmail.md 14.8, quoting, the lock, and what an error leaves. */
#include "tests/unit/local_test.h"

#include "local/mbox.h"

#include <signal.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/wait.h>

static struct nest home;
static struct letter letter;
static struct report report;

#define LINES                                                                                  \
	"From se-nder@joe.virt Sat Nov 21 01:40:50 2026\n"                                     \
	"Return-Path: <\"se nder\"@joe.virt>\n"                                                \
	"Delivered-To: joe@mail.example.com\n"

static int setup(void **state)
{
	nest_make(&home);
	assert_int_equal(chdir(home.dir), 0);
	report_init(&report);
	return 0;
}

static int teardown(void **state)
{
	letter_fini(&letter);
	report_fini(&report);
	nest_remove(&home);
	return 0;
}

static void write_letter(struct span body)
{
	assert_true(letter_init(&letter, body, SPAN("se nder@joe.virt"),
				SPAN("joe@mail.example.com"), NOV_21));
}

static void delivered(const char *file)
{
	if (!mbox_deliver(span_str(file), &letter, 5, &report))
		fail_msg("%.*s", SPAN_ARG(buf_span(&report.text)));
}

static void golden(void **state)
{
	struct stat st;

	write_letter(SPAN("Subject: t\n\nFrom here\n>From there\nbody\nlast"));
	delivered("./mbox");
	nest_file_is(&home, "mbox",
		     SPAN(LINES "Subject: t\n\n>From here\n>>From there\nbody\nlast\n\n"));
	assert_int_equal(stat("mbox", &st), 0);
	assert_int_equal(st.st_mode, S_IFREG | 0600);
	report_is(&report, 'K', "");
}

static void each_goes_behind(void **state)
{
	write_letter(SPAN("one\n"));
	nest_write(&home, "mbox", "before\n");
	delivered("./mbox");
	delivered(nest_path(&home, "mbox"));
	nest_file_is(&home, "mbox", SPAN("before\n" LINES "one\n\n" LINES "one\n\n"));
}

/* Also in the header, and only where it is all the line begins with. */
static void quoting(void **state)
{
	write_letter(SPAN("From x\nFrom: y\n From z\n>>>From a\n>> From b\nFrom\n\nFrom "));
	delivered("./mbox");
	nest_file_is(&home, "mbox",
		     SPAN(LINES ">From x\nFrom: y\n From z\n>>>>From a\n>> From b\nFrom\n\n"
				">From \n\n"));
}

static void larger_than_a_write(void **state)
{
	struct buf body, want;

	buf_init(&body, 4 << 20);
	buf_init(&want, 4 << 20);
	assert_true(buf_add(&want, SPAN(LINES)));
	for (unsigned i = 0; i < 50000; i++) {
		assert_true(buf_fmt(
			&body, "From %u %.*s\n", i, (int)(i % 60),
			"------------------------------------------------------------"));
		assert_true(buf_fmt(
			&want, ">From %u %.*s\n", i, (int)(i % 60),
			"------------------------------------------------------------"));
	}
	assert_true(buf_add(&want, SPAN("\n")));
	write_letter(buf_span(&body));
	delivered("./mbox");
	nest_file_is(&home, "mbox", buf_span(&want));
	buf_free(&body);
	buf_free(&want);
}

static void cannot_be_opened(void **state)
{
	write_letter(SPAN("x\n"));
	assert_false(mbox_deliver(SPAN("./no/mbox"), &letter, 5, &report));
	report_is(&report, 'Z',
		  "Unable to open ./no/mbox: No such file or directory. (#4.2.1)\n");
}

/* Nobody reads it: an answer, not a wait without end. */
static void a_fifo(void **state)
{
	write_letter(SPAN("x\n"));
	assert_int_equal(mkfifo("fifo", 0600), 0);
	assert_false(mbox_deliver(SPAN("./fifo"), &letter, 5, &report));
	report_is(&report, 'Z', "Unable to open ./fifo: No such device or address. (#4.2.1)\n");
}

static void a_lock_that_stays(void **state)
{
	int fd;

	write_letter(SPAN("x\n"));
	nest_write(&home, "mbox", "");
	fd = open("mbox", O_RDWR | O_CLOEXEC);
	assert_int_equal(flock(fd, LOCK_EX), 0);
	assert_false(mbox_deliver(SPAN("./mbox"), &letter, 1, &report));
	nest_file_is(&home, "mbox", SPAN_NONE);
	close(fd);
	report_is(&report, 'Z', "File has been locked for 1 seconds straight. (#4.3.0)\n");
}

static void a_lock_that_goes(void **state)
{
	int fd;
	pid_t pid;

	write_letter(SPAN("x\n"));
	nest_write(&home, "mbox", "");
	fd = open("mbox", O_RDWR | O_CLOEXEC);
	assert_int_equal(flock(fd, LOCK_EX), 0);
	pid = fork();
	if (pid == 0) { /* holds the lock with us, and longer */
		usleep(300000);
		_exit(write(fd, "mine\n", 5) != 5);
	}
	close(fd);
	delivered("./mbox");
	assert_int_equal(waitpid(pid, &fd, 0), pid);
	assert_int_equal(fd, 0);
	nest_file_is(&home, "mbox", SPAN("mine\n" LINES "x\n\n"));
}

/* As on a full disk: back to the old size. */
static void no_room(void **state)
{
	struct rlimit small = {.rlim_cur = 70000}, old;
	char *big = malloc(200000);
	bool ok;

	memset(big, 'x', 200000);
	write_letter(span_of(big, 200000));
	nest_write(&home, "mbox", "before\n");
	signal(SIGXFSZ, SIG_IGN); /* as in a worker */
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	small.rlim_max = old.rlim_max;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
	ok = mbox_deliver(SPAN("./mbox"), &letter, 5, &report);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	assert_false(ok);
	nest_file_is(&home, "mbox", SPAN("before\n"));
	report_is(&report, 'Z', "Unable to write ./mbox: File too large. (#4.3.0)\n");
	free(big);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(golden, setup, teardown),
		cmocka_unit_test_setup_teardown(each_goes_behind, setup, teardown),
		cmocka_unit_test_setup_teardown(quoting, setup, teardown),
		cmocka_unit_test_setup_teardown(larger_than_a_write, setup, teardown),
		cmocka_unit_test_setup_teardown(cannot_be_opened, setup, teardown),
		cmocka_unit_test_setup_teardown(a_fifo, setup, teardown),
		cmocka_unit_test_setup_teardown(a_lock_that_stays, setup, teardown),
		cmocka_unit_test_setup_teardown(a_lock_that_goes, setup, teardown),
		cmocka_unit_test_setup_teardown(no_room, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
