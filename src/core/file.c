#include "core/file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_READ_STEP 16384

/* Reads until the end; a file that just fills b must show its end to be whole. */
static int read_all(int fd, struct buf *b)
{
	for (;;) {
		size_t  want = b->max - b->n < FILE_READ_STEP ? b->max - b->n : FILE_READ_STEP;
		char    probe, *at = want ? buf_room(b, want) : &probe;
		ssize_t n;

		if (!at)
			return -ENOMEM;
		n = read(fd, at, want ? want : 1);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return 0;
		if (want == 0)
			return -EFBIG;
		b->n += (size_t)n;
	}
}

int file_read(int dir_fd, const char *name, struct buf *b)
{
	/* A FIFO must not stop us. */
	int fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	int error;

	if (fd < 0)
		return -errno;
	error = read_all(fd, b);
	close(fd);
	return error;
}

bool file_write_all(int fd, struct span bytes)
{
	while (bytes.n > 0) {
		ssize_t n = write(fd, bytes.p, bytes.n);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return false;
		bytes = span_from(bytes, (size_t)n);
	}
	return true;
}

static int write_synced(int dir_fd, const char *name, struct span bytes, unsigned mode)
{
	const int how = O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW;
	int       fd = openat(dir_fd, name, how, mode), error = 0;

	if (fd < 0)
		return -errno;
	if (fchmod(fd, mode) < 0 || !file_write_all(fd, bytes) || fsync(fd) < 0)
		error = -errno;
	if (close(fd) < 0 && !error)
		error = -errno;
	return error;
}

static int sync_dir_of(int dir_fd, const char *name)
{
	char   dir[PATH_MAX];
	size_t slash = span_rfind(span_str(name), '/');
	int    fd, error;

	if (slash == SPAN_NPOS)
		return file_sync_dir(dir_fd);
	if (!span_to_cstr(span_until(span_str(name), slash + 1), dir, sizeof(dir)))
		return -ENAMETOOLONG;
	fd = openat(dir_fd, dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	error = fsync(fd) < 0 ? -errno : 0;
	close(fd);
	return error;
}

int file_write_atomic(int dir_fd, const char *name, struct span bytes, unsigned mode)
{
	char tmp[PATH_MAX];
	int  n = snprintf(tmp, sizeof(tmp), "%s.tmp", name);
	int  error;

	if (n < 0 || (size_t)n >= sizeof(tmp))
		return -ENAMETOOLONG;
	error = write_synced(dir_fd, tmp, bytes, mode);
	if (!error && renameat(dir_fd, tmp, dir_fd, name) < 0)
		error = -errno;
	if (error) {
		unlinkat(dir_fd, tmp, 0);
		return error;
	}
	return sync_dir_of(dir_fd, name);
}

int file_sync_dir(int dir_fd)
{
	int fd, error;

	if (dir_fd != AT_FDCWD)
		return fsync(dir_fd) < 0 ? -errno : 0;
	fd = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	error = fsync(fd) < 0 ? -errno : 0;
	close(fd);
	return error;
}

void fd_nonblock(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	check(flags >= 0);
	check(fcntl(fd, F_SETFL, flags | O_NONBLOCK) == 0);
}

void fd_cloexec(int fd, bool on)
{
	check(fcntl(fd, F_SETFD, on ? FD_CLOEXEC : 0) == 0);
}

bool fd_raise_limit(unsigned long want)
{
	struct rlimit r;

	if (getrlimit(RLIMIT_NOFILE, &r) < 0)
		return false;
	if (r.rlim_cur != RLIM_INFINITY && r.rlim_cur < want) {
		struct rlimit more = {want, r.rlim_max > want ? r.rlim_max : want};

		if (setrlimit(RLIMIT_NOFILE, &more) == 0)
			return true;              /* root may go past the hard limit */
		r.rlim_cur = r.rlim_max < want ? r.rlim_max : want;
		if (setrlimit(RLIMIT_NOFILE, &r) < 0)
			return false;
	}
	return r.rlim_cur >= want;
}
