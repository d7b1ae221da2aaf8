/* quire journal train: from directories and mboxes that the test makes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "core/log.h"
#include "core/rand.h"
#include "journal/dict.h"
#include "tools/quire.h"
#include "tools/quire_journal.h"

#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char home[64], path[128];

/* What quire's main has for its verbs. */
const char *quire_home(const char *option)
{
	return option;
}

int quire_say(int code, const char *verb, const char *fmt, ...)
{
	return code;
}

long quire_running(const char *of)
{
	return 0;
}

int quire_dial(const char *to)
{
	return -1;
}

/* Mail of one place: its own words in every message, and something that differs. */
static void write_mail(FILE *f, unsigned i)
{
	static const char *const words[] = {"Zwiebelkuchen", "Quittenmarmelade", "Bescheid",
					    "Vereinsabend",  "Kassenwart",       "Protokoll"};

	fprintf(f, "From: Kassenwart <kassenwart@verein.example>\nTo: mitglied%u@verein.example\n"
		   "Subject: Vereinsabend %u\n\nLiebe Mitglieder des Vereins,\n\n", i, i);
	for (unsigned k = 0; k < 40; k++)
		fprintf(f, "%s %llx%c", words[rand_u64() % ARRAY_N(words)],
			(unsigned long long)rand_u64() & 0xffff, k % 6 == 5 ? '\n' : ' ');
	fprintf(f, "\nMit freundlichen Vereinsgruessen, der Kassenwart und das Protokoll\n");
}

static const char *below(const char *name)
{
	snprintf(path, sizeof path, "%s/%s", home, name);
	return path;
}

static FILE *make(const char *name)
{
	FILE *f = fopen(below(name), "we");

	assert_non_null(f);
	return f;
}

static int setup(void **state)
{
	snprintf(home, sizeof home, "/tmp/quire-train.XXXXXX");
	assert_non_null(mkdtemp(home));
	assert_int_equal(mkdir(below("control"), 0700), 0);
	rand_seed(7);
	return 0;
}

static int teardown(void **state)
{
	char command[128];
	pid_t pid = fork();

	snprintf(command, sizeof command, "%s", home);
	if (pid == 0)
		execlp("rm", "rm", "-rf", command, (char *)NULL);
	return pid < 0 ? -1 : 0;
}

static void make_maildir(unsigned n)
{
	char name[64];

	assert_int_equal(mkdir(below("mail"), 0700), 0);
	assert_int_equal(mkdir(below("mail/cur"), 0700), 0);
	assert_int_equal(mkdir(below("mail/new"), 0700), 0);
	for (unsigned i = 0; i < n; i++) {
		FILE *f;

		snprintf(name, sizeof name, "mail/%s/%u.x", i % 2 ? "cur" : "new", i);
		f = make(name);
		write_mail(f, i);
		fclose(f);
	}
}

static int train(const char *from, const char *more)
{
	char from_path[128];
	char *argv[] = {"journal train", "--home", home, "--quiet", "--from", from_path,
			"--size", "4096", (char *)more, NULL};

	snprintf(from_path, sizeof from_path, "%s/%s", home, from);
	optind = 0;
	assert_non_null(freopen("/dev/null", "w", stdout));
	return journal_train(more ? 9 : 8, argv);
}

static struct dict installed(struct stat *ret)
{
	int fd = open(below("control/dictionary"), O_RDONLY | O_CLOEXEC);
	struct dict d = {0};

	if (fd < 0)
		return d;
	assert_int_equal(fstat(fd, ret), 0);
	d = dict_load(fd);
	close(fd);
	return d;
}

static void a_maildir_makes_one_that_is_installed(void **state)
{
	struct stat st;
	struct dict d;

	make_maildir(300);
	assert_int_equal(train("mail", NULL), 0);
	assert_int_equal(installed(&st).number, 0); /* not asked for */
	assert_int_equal(train("mail", "--install"), 0);
	d = installed(&st);
	assert_int_not_equal(d.number, 0);
	assert_int_not_equal(d.number, dict_built_in().number);
	assert_int_equal(st.st_mode & 0777, 0600); /* it holds pieces of mail */
	assert_true(d.bytes.n <= 4096);
	assert_non_null(memmem(d.bytes.p, d.bytes.n, "Vereins", 7));
}

static void an_mbox_is_cut_into_its_mails(void **state)
{
	FILE *f = make("mbox");
	struct stat st;

	for (unsigned i = 0; i < 300; i++) {
		fprintf(f, "From kassenwart@verein.example Mon Jan  6 10:00:00 2025\n");
		write_mail(f, i);
		fputc('\n', f);
	}
	fclose(f);
	assert_int_equal(train("mbox", "--install"), 0);
	struct dict d = installed(&st);
	assert_int_not_equal(d.number, 0);
	assert_null(memmem(d.bytes.p, d.bytes.n, "Mon Jan  6 10:00:00 2025", 24));
}

static void too_few_are_refused(void **state)
{
	struct stat st;

	make_maildir(90);
	assert_int_equal(train("mail", "--install"), EXIT_WRONG);
	assert_int_equal(installed(&st).number, 0);
	assert_int_equal(train("nowhere", NULL), EXIT_WRONG);
}

/* Noise can't be learnt: what would replace the built-in one must be better. */
static void what_gains_nothing_is_not_installed(void **state)
{
	FILE *f = make("noise");
	struct stat st;

	for (unsigned i = 0; i < 200; i++) {
		fprintf(f, "From a Mon Jan  6 10:00:00 2025\n");
		for (unsigned k = 0; k < 2000; k++)
			fputc((int)(33 + rand_u64() % 90), f);
		fputs("\n\n", f);
	}
	fclose(f);
	assert_int_equal(train("noise", "--install"), EXIT_WRONG);
	assert_int_equal(installed(&st).number, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_maildir_makes_one_that_is_installed, setup,
						teardown),
		cmocka_unit_test_setup_teardown(an_mbox_is_cut_into_its_mails, setup, teardown),
		cmocka_unit_test_setup_teardown(too_few_are_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(what_gains_nothing_is_not_installed, setup,
						teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
