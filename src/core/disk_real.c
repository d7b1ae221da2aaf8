#include "core/disk.h"

#include "core/file.h"
#include "core/pool.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define FILL_CHUNK    (1024 * 1024)
#define LOCK_NAME     "lock"
/* A ring keeps descriptors for some ms after a SIGKILL, and with them the dead one's lock. */
#define LOCK_TRIES    5
#define LOCK_WAIT_MS  50
#define PROBE_NAME    "direct-probe.tmp"

struct disk_file {
	int fd;
};

struct disk_real {
	struct disk disk;
	int         dir_fd, lock_fd;
};

static struct disk_real *real_of(struct disk *d)
{
	return owner_of(d, struct disk_real, disk);
}

static int status(int res)
{
	return res < 0 ? -errno : 0;
}

static int real_list(struct disk *d, void (*each)(void *ctx, const char *name, uint64_t size),
                     void *ctx)
{
	int            fd = openat(real_of(d)->dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR           *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;
	int            error = 0;

	if (!dir) {
		error = -errno;
		if (fd >= 0)
			close(fd);
		return error;
	}
	while (errno = 0, (e = readdir(dir))) {
		struct stat st;

		if (fstatat(fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			continue;         /* gone meanwhile */
		if (S_ISREG(st.st_mode))
			each(ctx, e->d_name, (uint64_t)st.st_size);
	}
	error = -errno;
	closedir(dir);
	return error;
}

static int open_flags(int flags)
{
	int how = O_CLOEXEC | O_NOFOLLOW;

	if (flags & DISK_WRITE)
		how |= flags & DISK_READ ? O_RDWR : O_WRONLY;
	if (flags & DISK_CREATE)
		how |= O_CREAT | O_EXCL;
	if (flags & DISK_DIRECT)
		how |= O_DIRECT;
	return how;
}

static int real_open(struct disk *d, const char *name, int flags, struct disk_file **ret)
{
	int fd = openat(real_of(d)->dir_fd, name, open_flags(flags), 0640);

	if (fd < 0)
		return -errno;
	*ret = mem_new(sizeof(**ret));
	(*ret)->fd = fd;
	return 0;
}

static void real_close(struct disk *d, struct disk_file *f)
{
	if (!f)
		return;
	close(f->fd);
	mem_free(f);
}

static int64_t real_size(struct disk *d, struct disk_file *f)
{
	struct stat st;

	return fstat(f->fd, &st) < 0 ? -errno : st.st_size;
}

static int real_rename(struct disk *d, const char *from, const char *to)
{
	int dir = real_of(d)->dir_fd;

	return status(renameat(dir, from, dir, to));
}

static int real_unlink(struct disk *d, const char *name)
{
	return status(unlinkat(real_of(d)->dir_fd, name, 0));
}

static int real_sync_dir(struct disk *d)
{
	return status(fsync(real_of(d)->dir_fd));
}

static int real_sync(struct disk *d, struct disk_file *f)
{
	return status(fsync(f->fd));
}

/* Until all n bytes are there, the file ends or something fails. */
static int64_t real_read(struct disk *d, struct disk_file *f, void *p, size_t n, uint64_t off)
{
	size_t done = 0;

	while (done < n) {
		ssize_t got = pread(f->fd, (char *)p + done, n - done, (off_t)(off + done));

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		if (got == 0)
			break;
		done += (size_t)got;
	}
	return (int64_t)done;
}

static int64_t write_all(int fd, const void *p, size_t n, uint64_t off, int how)
{
	size_t done = 0;

	while (done < n) {
		struct iovec v = {(char *)p + done, n - done};
		ssize_t      put = pwritev2(fd, &v, 1, (off_t)(off + done), how);

		if (put < 0 && errno == EINTR)
			continue;
		if (put < 0)
			return -errno;
		if (put == 0)
			return -EIO;
		done += (size_t)put;
	}
	return (int64_t)done;
}

static int64_t real_write_now(struct disk *d, struct disk_file *f, const void *p, size_t n,
                              uint64_t off)
{
	return write_all(f->fd, p, n, off, RWF_DSYNC);
}

static void real_write(struct disk *d, struct disk_file *f, struct op *op, const void *p,
                       size_t n, uint64_t off)
{
	check(d->loop);
	loop_pwrite(d->loop, op, f->fd, p, n, (off_t)off, true);
}

/* Aligned, for the file may have been opened with O_DIRECT; from and to are then aligned, too. */
static int real_fill(struct disk *d, struct disk_file *f, uint64_t from, uint64_t to)
{
	void   *zeros;
	int64_t n = 0;

	if (posix_memalign(&zeros, DISK_ALIGN, FILL_CHUNK) != 0)
		return -ENOMEM;
	memset(zeros, 0, FILL_CHUNK);
	for (uint64_t off = from; off < to && n >= 0; off += FILL_CHUNK) {
		size_t part = to - off < FILL_CHUNK ? to - off : FILL_CHUNK;

		n = write_all(f->fd, zeros, part, off, 0);
	}
	free(zeros);
	return n < 0 ? (int)n : real_sync(d, f);
}

static int real_lock(struct disk *d)
{
	struct disk_real *r = real_of(d);
	struct timespec   pause = {.tv_nsec = LOCK_WAIT_MS * 1000000L};

	if (r->lock_fd < 0)
		r->lock_fd = openat(r->dir_fd, LOCK_NAME,
		                    O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0640);
	if (r->lock_fd < 0)
		return -errno;
	for (int tries = LOCK_TRIES;; tries--) {
		if (flock(r->lock_fd, LOCK_EX | LOCK_NB) == 0)
			return 0;
		if (errno != EWOULDBLOCK || tries == 0)
			return -errno;
		nanosleep(&pause, NULL);
	}
}

static int real_fd(struct disk_file *f)
{
	return f->fd;
}

static const struct disk_calls real_calls = {
	.list = real_list,
	.open = real_open,
	.close = real_close,
	.size = real_size,
	.rename = real_rename,
	.unlink = real_unlink,
	.sync_dir = real_sync_dir,
	.sync = real_sync,
	.fill = real_fill,
	.read = real_read,
	.write_now = real_write_now,
	.write = real_write,
	.lock = real_lock,
	.fd = real_fd,
};

struct disk *disk_real_new(struct loop *l, int dir_fd)
{
	struct disk_real *r = mem_new(sizeof(*r));

	*r = (struct disk_real){.disk = {&real_calls, l}, .dir_fd = dir_fd, .lock_fd = -1};
	return &r->disk;
}

void disk_real_free(struct disk *d)
{
	struct disk_real *r;

	if (!d)
		return;
	r = real_of(d);
	if (r->lock_fd >= 0)
		close(r->lock_fd);
	close(r->dir_fd);
	mem_free(r);
}

static int direct_write(int fd)
{
	void   *page;
	int64_t n;

	if (posix_memalign(&page, DISK_ALIGN, DISK_ALIGN) != 0)
		return ENOMEM;
	memset(page, 0, DISK_ALIGN);
	n = write_all(fd, page, DISK_ALIGN, 0, RWF_DSYNC);
	free(page);
	return n < 0 ? (int)-n : 0;
}

/* Such a disk refuses direct writes; one that is full or broken says nothing about them, and
 * must not get buffered ones for a whole run. */
static bool is_refusal(int error)
{
	return error == EINVAL || error == EOPNOTSUPP;
}

bool disk_direct_works(struct disk *d, const char **why_not)
{
	struct disk_real *r = real_of(d);
	int               fd, error, how = open_flags(DISK_WRITE | DISK_CREATE | DISK_DIRECT);

	check(d->calls == &real_calls);
	unlinkat(r->dir_fd, PROBE_NAME, 0);       /* of one that was killed here */
	fd = openat(r->dir_fd, PROBE_NAME, how, 0600);
	error = fd < 0 ? errno : direct_write(fd);
	*why_not = is_refusal(error) ? strerror(error) : NULL;
	unlinkat(r->dir_fd, PROBE_NAME, 0);
	if (fd >= 0)
		close(fd);
	return *why_not == NULL;
}
