#include "core/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static char dir[] = "/tmp/quire-file-XXXXXX";
static int  dir_fd;

static int setup(void **state)
{
	if (!mkdtemp(dir))
		return -1;
	dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return dir_fd < 0;
}

static int teardown(void **state)
{
	unlinkat(dir_fd, "sub/name", 0);
	unlinkat(dir_fd, "sub", AT_REMOVEDIR);
	unlinkat(dir_fd, "name", 0);
	close(dir_fd);
	return rmdir(dir);
}

static void what_is_written_is_read(void **state)
{
	struct buf  b;
	struct stat st;

	buf_init(&b, 100);
	assert_int_equal(file_read(dir_fd, "name", &b), -ENOENT);
	assert_int_equal(file_write_atomic(dir_fd, "name", SPAN("first"), 0644), 0);
	umask(077);                               /* the mode is meant as it is said */
	assert_int_equal(file_write_atomic(dir_fd, "name", SPAN("second"), 0640), 0);
	umask(022);
	assert_int_equal(file_read(dir_fd, "name", &b), 0);
	assert_true(span_eq(buf_span(&b), SPAN("second")));
	assert_int_equal(fstatat(dir_fd, "name", &st, 0), 0);
	assert_int_equal(st.st_mode & 0777, 0640);
	assert_int_equal(fstatat(dir_fd, "name.tmp", &st, 0), -1);
	assert_int_equal(mkdirat(dir_fd, "sub", 0755), 0);
	assert_int_equal(file_write_atomic(dir_fd, "sub/name", SPAN("x"), 0644), 0);
	assert_int_equal(file_write_atomic(dir_fd, "nowhere/name", SPAN("x"), 0644), -ENOENT);
	assert_int_equal(file_write_atomic(dir_fd, "sub", SPAN("x"), 0644), -EISDIR);
	assert_int_equal(file_sync_dir(dir_fd), 0);
	assert_int_equal(file_sync_dir(AT_FDCWD), 0);
	buf_free(&b);
}

static void the_maximum_is_exact(void **state)
{
	static char text[50000];
	struct buf  b;

	memset(text, 'x', sizeof(text));
	assert_int_equal(file_write_atomic(dir_fd, "name", span_of(text, sizeof(text)), 0644), 0);
	buf_init(&b, sizeof(text));
	assert_int_equal(file_read(dir_fd, "name", &b), 0);
	assert_int_equal(b.n, sizeof(text));
	buf_free(&b);
	buf_init(&b, sizeof(text) - 1);
	assert_int_equal(file_read(dir_fd, "name", &b), -EFBIG);
	buf_free(&b);
	assert_int_equal(file_read(dir_fd, ".", &b), -EISDIR);
	buf_free(&b);
}

static void all_is_written_or_not(void **state)
{
	int tube[2];

	assert_int_equal(pipe(tube), 0);
	assert_true(file_write_all(tube[1], SPAN("abc")));
	assert_true(file_write_all(tube[1], SPAN_NONE));
	assert_false(file_write_all(tube[0], SPAN("abc")));
	fd_nonblock(tube[0]);
	assert_true(fcntl(tube[0], F_GETFL) & O_NONBLOCK);
	fd_cloexec(tube[0], true);
	assert_true(fcntl(tube[0], F_GETFD) & FD_CLOEXEC);
	fd_cloexec(tube[0], false);
	assert_false(fcntl(tube[0], F_GETFD) & FD_CLOEXEC);
	close(tube[0]);
	close(tube[1]);
}

static void the_descriptor_limit_is_raised(void **state)
{
	struct rlimit old, low;

	getrlimit(RLIMIT_NOFILE, &old);
	low = old;
	low.rlim_cur = 100;
	setrlimit(RLIMIT_NOFILE, &low);
	assert_true(fd_raise_limit(200));
	getrlimit(RLIMIT_NOFILE, &low);
	assert_int_equal(low.rlim_cur, 200);
	assert_true(fd_raise_limit(50));          /* never lowered */
	getrlimit(RLIMIT_NOFILE, &low);
	assert_int_equal(low.rlim_cur, 200);
	assert_false(fd_raise_limit(1UL << 40));
	setrlimit(RLIMIT_NOFILE, &old);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_written_is_read),
		cmocka_unit_test(the_maximum_is_exact),
		cmocka_unit_test(all_is_written_or_not),
		cmocka_unit_test(the_descriptor_limit_is_raised),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
