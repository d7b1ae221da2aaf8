/* cdb_tool: qmail-newu's shell around users_compile(): the file made, the old one kept when the
 * new one is wrong, exit codes. */
#include "mail/users.h"
#include "tests/unit/mail_test.h"
#include "tools/cdb_tool.h"

#include "core/file.h"

#include <fcntl.h>
#include <getopt.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static const struct cdb_tool tool = {"qmail-newu", "Test", "assign",
				     "cdb.tmp",    "cdb",  users_compile};
static char home[] = "/tmp/quire-test-cdb-tool-XXXXXX", errors[] = "errors";
static int dir, real_stderr;

static int setup(void **state)
{
	if (!mkdtemp(home))
		return -1;
	dir = open(home, O_RDONLY | O_DIRECTORY);
	return dir < 0;
}

static int teardown(void **state)
{
	unlinkat(dir, "assign", 0);
	unlinkat(dir, "cdb", 0);
	unlinkat(dir, errors, 0);
	close(dir);
	return rmdir(home);
}

/* Runs the tool and gives what it said on stderr. */
static int run(struct buf *ret_said, int argc, char **argv)
{
	int status, fd = openat(dir, errors, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	assert_true(fd >= 0);
	real_stderr = dup(2);
	assert_true(dup2(fd, 2) == 2);
	optind = 0;                               /* getopt(3): starts over */
	status = cdb_tool_run(&tool, argc, argv);
	assert_true(dup2(real_stderr, 2) == 2);
	close(real_stderr);
	close(fd);
	buf_clear(ret_said);
	assert_int_equal(file_read(dir, errors, ret_said), 0);
	return status;
}

static void put_assign(const char *text)
{
	assert_int_equal(file_write_atomic(dir, "assign", span_str(text), 0644), 0);
}

static void makes_it_and_keeps_the_old_one(void **state)
{
	char *argv[] = {"qmail-newu", "--home", home, NULL}, want[200];
	struct stat before, after;
	struct buf said;

	buf_init(&said, 10000);
	snprintf(want, sizeof want, "qmail-newu: read %s/assign: No such file or directory\n",
		 home);
	assert_int_equal(run(&said, 3, argv), 111);
	assert_span(buf_span(&said), want);

	put_assign("=joe:games:5:60:/home/joe:::\n.\n");
	assert_int_equal(run(&said, 3, argv), 0);
	assert_int_equal(said.n, 0);
	assert_int_equal(fstatat(dir, "cdb", &before, 0), 0);
	assert_int_equal(before.st_mode & 0777, 0644);

	put_assign("=joe:games:5:60:/home/joe:::\n=bad\n.\n");
	snprintf(want, sizeof want, "qmail-newu: %s/assign:2: seven colons are needed\n", home);
	assert_int_equal(run(&said, 3, argv), 111);
	assert_span(buf_span(&said), want);
	assert_int_equal(fstatat(dir, "cdb", &after, 0), 0);
	assert_int_equal(before.st_ino, after.st_ino);
	assert_int_equal(faccessat(dir, "cdb.tmp", F_OK, 0), -1);
	buf_free(&said);
}

static void wrong_use(void **state)
{
	char *extra[] = {"qmail-newu", "extra", NULL}, *odd[] = {"qmail-newu", "--odd", NULL};
	struct buf said;

	buf_init(&said, 10000);
	assert_int_equal(run(&said, 2, extra), 100);
	assert_int_equal(run(&said, 2, odd), 100);
	buf_free(&said);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(makes_it_and_keeps_the_old_one),
		cmocka_unit_test(wrong_use),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
