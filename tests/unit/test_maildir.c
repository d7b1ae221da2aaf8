/* maildir: what lies in new/, under which name, and that nothing else is left anywhere. */
#include "tests/unit/local_test.h"

#include "local/maildir.h"

#include <regex.h>
#include <signal.h>
#include <sys/resource.h>

static struct nest home;
static struct letter letter;
static struct report report;

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

static void verbatim(void **state)
{
	write_letter(SPAN("Subject: t\n\nFrom here\n>From there\nbody\nlast"));
	nest_maildir(&home, "Maildir");
	assert_true(maildir_deliver(SPAN("./Maildir/"), &letter, &report));
	nest_maildir_has(&home, "Maildir",
			 SPAN("Return-Path: <\"se nder\"@joe.virt>\n"
			      "Delivered-To: joe@mail.example.com\n"
			      "Subject: t\n\nFrom here\n>From there\nbody\nlast"));
	report_is(&report, 'K', "");
}

static void an_empty_body(void **state)
{
	write_letter(SPAN_NONE);
	nest_maildir(&home, "M");
	assert_true(maildir_deliver(SPAN("M/"), &letter, &report));
	nest_maildir_has(&home, "M",
			 SPAN("Return-Path: <\"se nder\"@joe.virt>\n"
			      "Delivered-To: joe@mail.example.com\n"));
}

static void names_and_mode(void **state)
{
	struct stat st;
	regex_t re;
	char name[256], path[512];

	write_letter(SPAN("x\n"));
	nest_maildir(&home, "M");
	assert_int_equal(
		regcomp(&re, "^[0-9]{10,}\\.M[0-9]{1,6}P[0-9]+Q[0-9]+\\.[^:/]+$", REG_EXTENDED),
		0);
	assert_true(maildir_deliver(SPAN("./M/"), &letter, &report));
	assert_int_equal(nest_count(&home, "M/new", name), 1);
	assert_int_equal(regexec(&re, name, 0, NULL, 0), 0);
	regfree(&re);
	snprintf(path, sizeof(path), "M/new/%s", name);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode, S_IFREG | 0600);
	assert_int_equal(st.st_nlink, 1);
}

static void many_at_once(void **state)
{
	char name[256];

	write_letter(SPAN("x\n"));
	nest_maildir(&home, "M");
	for (int i = 0; i < 200; i++)
		assert_true(maildir_deliver(SPAN("./M/"), &letter, &report));
	assert_int_equal(nest_count(&home, "M/new", name), 200);
	assert_int_equal(nest_count(&home, "M/tmp", name), 0);
}

static void no_maildir(void **state)
{
	write_letter(SPAN("x\n"));
	assert_false(maildir_deliver(SPAN("./nodir/"), &letter, &report));
	report_is(&report, 'Z', "Unable to chdir to maildir. (#4.2.1)\n");
}

static void half_a_maildir(void **state)
{
	char name[256];

	write_letter(SPAN("x\n"));
	nest_maildir(&home, "M");
	assert_int_equal(rmdir("M/new"), 0);
	assert_false(maildir_deliver(SPAN("./M/"), &letter, &report));
	assert_int_equal(nest_count(&home, "M/tmp", name), 0);
	report_is(&report, 'Z', "Temporary error on maildir delivery. (#4.3.0)\n");
}

/* new/ cannot have it: it lies on another file system. */
static void new_refuses(void **state)
{
	char other[] = "/dev/shm/quire-local-XXXXXX", name[256];
	struct stat here, there;

	write_letter(SPAN("x\n"));
	nest_maildir(&home, "M");
	if (!mkdtemp(other))
		skip();
	assert_int_equal(stat(other, &there), 0);
	assert_int_equal(stat(home.dir, &here), 0);
	assert_int_equal(rmdir("M/new"), 0);
	assert_int_equal(symlink(other, "M/new"), 0);
	if (here.st_dev == there.st_dev) {
		rmdir(other);
		skip();
	}
	assert_false(maildir_deliver(SPAN("./M/"), &letter, &report));
	assert_int_equal(nest_count(&home, "M/tmp", name), 0);
	assert_int_equal(nest_count(&home, "M/new", name), 0);
	assert_int_equal(rmdir(other), 0);
	report_is(&report, 'Z', "Temporary error on maildir delivery. (#4.3.0)\n");
}

/* As on a full disk: what was written of it goes. */
static void no_room(void **state)
{
	struct rlimit small = {1000, RLIM_INFINITY}, old;
	char name[256];
	char *big = calloc(1, 100000);
	bool ok;

	write_letter(span_of(big, 100000));
	nest_maildir(&home, "M");
	signal(SIGXFSZ, SIG_IGN); /* as in a worker */
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	small.rlim_max = old.rlim_max;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
	ok = maildir_deliver(SPAN("./M/"), &letter, &report);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	assert_false(ok);
	assert_int_equal(nest_count(&home, "M/tmp", name), 0);
	assert_int_equal(nest_count(&home, "M/new", name), 0);
	report_is(&report, 'Z', "Temporary error on maildir delivery. (#4.3.0)\n");
	free(big);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(verbatim, setup, teardown),
		cmocka_unit_test_setup_teardown(an_empty_body, setup, teardown),
		cmocka_unit_test_setup_teardown(names_and_mode, setup, teardown),
		cmocka_unit_test_setup_teardown(many_at_once, setup, teardown),
		cmocka_unit_test_setup_teardown(no_maildir, setup, teardown),
		cmocka_unit_test_setup_teardown(half_a_maildir, setup, teardown),
		cmocka_unit_test_setup_teardown(new_refuses, setup, teardown),
		cmocka_unit_test_setup_teardown(no_room, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
