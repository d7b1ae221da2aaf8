#include "core/disk.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static char         dir[] = "/tmp/quire-disk-XXXXXX";
static struct disk *disk;
static struct loop *loop;

static int setup(enum loop_kind kind)
{
	memcpy(dir + sizeof(dir) - 7, "XXXXXX", 6);
	if (!mkdtemp(dir))
		return -1;
	loop = loop_new(kind, 0);
	disk = disk_real_new(loop, open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	return 0;
}

static int setup_uring(void **state)
{
	return setup(LOOP_URING);
}

static int setup_epoll(void **state)
{
	return setup(LOOP_EPOLL);
}

static int teardown(void **state)
{
	disk->calls->unlink(disk, "a");
	disk->calls->unlink(disk, "b");
	disk->calls->unlink(disk, "lock");
	disk_real_free(disk);
	loop_free(loop);
	return rmdir(dir);
}

static int  written, write_res;
static void on_written(struct op *op, int res, unsigned flags)
{
	written++;
	write_res = res;
}

static void files_by_name(void **state)
{
	const struct disk_calls *c = disk->calls;
	struct disk_file        *f, *g;
	char                     text[8] = {0};

	assert_int_equal(c->open(disk, "a", DISK_READ, &f), -ENOENT);
	assert_int_equal(c->open(disk, "a", DISK_READ | DISK_WRITE | DISK_CREATE, &f), 0);
	assert_int_equal(c->open(disk, "a", DISK_WRITE | DISK_CREATE, &g), -EEXIST);
	assert_int_equal(c->size(disk, f), 0);
	assert_int_equal(c->write_now(disk, f, "hello", 5, 3), 5);
	assert_int_equal(c->size(disk, f), 8);
	assert_int_equal(c->read(disk, f, text, sizeof(text), 3), 5);
	assert_string_equal(text, "hello");
	assert_int_equal(c->read(disk, f, text, sizeof(text), 100), 0);
	assert_int_equal(c->sync(disk, f), 0);
	assert_true(c->fd(f) >= 0);
	assert_int_equal(c->rename(disk, "a", "b"), 0);
	assert_int_equal(c->rename(disk, "a", "b"), -ENOENT);
	assert_int_equal(c->sync_dir(disk), 0);
	c->close(disk, f);
	assert_int_equal(c->open(disk, "b", DISK_READ, &f), 0);
	assert_int_equal(c->write_now(disk, f, "x", 1, 0), -EBADF);
	c->close(disk, f);
	c->close(disk, NULL);
	assert_int_equal(c->unlink(disk, "b"), 0);
	assert_int_equal(c->unlink(disk, "b"), -ENOENT);
}

static char names[64];
static void note_name(void *ctx, const char *name, uint64_t size)
{
	assert_int_equal(size, 5);
	snprintf(names + strlen(names), sizeof(names) - strlen(names), "%s", name);
}

static void lists_files_only(void **state)
{
	struct disk_file *f;
	char              sub[64];

	names[0] = '\0';
	snprintf(sub, sizeof(sub), "%s/sub", dir);
	mkdir(sub, 0755);
	disk->calls->open(disk, "a", DISK_WRITE | DISK_CREATE, &f);
	disk->calls->write_now(disk, f, "12345", 5, 0);
	disk->calls->close(disk, f);
	assert_int_equal(disk->calls->list(disk, note_name, NULL), 0);
	assert_string_equal(names, "a");
	rmdir(sub);
}

static void a_write_completes_by_the_loop(void **state)
{
	static char       page[DISK_ALIGN] __attribute__((aligned(DISK_ALIGN)));
	const char       *why = NULL;
	bool              direct = disk_direct_works(disk, &why);
	struct disk_file *f;
	struct op         op;

	assert_true(direct == (why == NULL));
	assert_int_equal(disk->calls->open(disk, "a", DISK_READ | DISK_WRITE | DISK_CREATE | (direct ? DISK_DIRECT : 0), &f), 0);
	assert_int_equal(disk->calls->fill(disk, f, 0, 3 * 1024 * 1024 / 2), 0);
	assert_int_equal(disk->calls->size(disk, f), 3 * 1024 * 1024 / 2);
	memset(page, 'x', sizeof(page));
	written = 0;
	op_init(&op, on_written);
	disk->calls->write(disk, f, &op, page, sizeof(page), DISK_ALIGN);
	assert_int_equal(written, 0);
	while (!written)
		loop_pass(loop);
	assert_int_equal(write_res, sizeof(page));
	memset(page, 0, sizeof(page));
	assert_int_equal(disk->calls->read(disk, f, page, sizeof(page), DISK_ALIGN), sizeof(page));
	assert_int_equal(page[4095], 'x');
	disk->calls->close(disk, f);
}

/* A disk that can't take the probe for another reason is asked to write directly as before. */
static void a_full_disk_does_not_refuse_direct_writes(void **state)
{
	const char   *why = NULL;
	bool          direct = disk_direct_works(disk, &why);
	struct rlimit was, none;

	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &was), 0);
	none = (struct rlimit){0, was.rlim_max};
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &none), 0);
	assert_true(disk_direct_works(disk, &why) == direct);
	assert_true((why == NULL) == direct);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &was), 0);
}

/* A lock goes with its process, also with one that was killed. */
static void one_writer_at_a_time(void **state)
{
	int   tube[2], status;
	char  c;
	pid_t pid;

	assert_int_equal(pipe(tube), 0);
	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		struct disk *other = disk_real_new(NULL, open(dir, O_RDONLY | O_DIRECTORY));

		c = other->calls->lock(other) == 0 ? 'y' : 'n';
		if (write(tube[1], &c, 1) == 1)
			pause();
		_exit(1);
	}
	assert_int_equal(read(tube[0], &c, 1), 1);
	assert_int_equal(c, 'y');
	assert_int_equal(disk->calls->lock(disk), -EWOULDBLOCK);
	kill(pid, SIGKILL);
	assert_int_equal(disk->calls->lock(disk), 0);
	assert_int_equal(disk->calls->lock(disk), 0);
	waitpid(pid, &status, 0);
	close(tube[0]);
	close(tube[1]);
}

#define BOTH(f)                                                                             \
	{#f " (io_uring)", f, setup_uring, teardown, NULL},                                 \
	{                                                                                   \
		#f " (epoll)", f, setup_epoll, teardown, NULL                               \
	}

int main(void)
{
	const struct CMUnitTest tests[] = {
		BOTH(files_by_name),
		BOTH(lists_files_only),
		BOTH(a_write_completes_by_the_loop),
		BOTH(a_full_disk_does_not_refuse_direct_writes),
		BOTH(one_writer_at_a_time),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
