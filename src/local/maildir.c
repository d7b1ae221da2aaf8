/* maildir - see maildir.h.
 *
 * What a crash can leave, by name:
 *   TMP_ONLY   a file in tmp/, perhaps not whole: readers ignore it, and delete it after a
 *              day and a half
 *   BOTH       linked but not yet unlinked (file systems without RENAME_NOREPLACE): as NEW
 *   NEW        delivered; whether the answer K left decides if it comes again
 * The rename is one change of two directories; syncing new/ is what makes it durable.  That
 * tmp/ forgets the name needs no sync: a name that comes back there is TMP_ONLY or BOTH.
 *
 * The name is TIME.M<usec>P<pid>Q<count>.HOST: no two processes of a host share time, pid and
 * count; '/' and ':' of the host's name are written \057 and \072, since readers give them a
 * meaning. */
#include "local/maildir.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/file.h"

#define MAILDIR_TRIES  3                          /* names; a taken one is a clock gone back */
#define MAILDIR_MODE   0644                       /* less the umask */
#define HOST_MAX       64                         /* as much of the host's name as fits */
#define NAME_LEN       (HOST_MAX * 4 + 96)
#define PATH_LEN       4096

static_check(NAME_LEN < 512);

struct maildir {
	int  tmp, new;                            /* the two directories */
	char name[NAME_LEN];
};

static void add_host(struct buf *b)
{
	char host[HOST_MAX + 1];

	if (gethostname(host, sizeof(host)) < 0)
		strncpy(host, "localhost", sizeof(host));
	host[HOST_MAX] = '\0';
	for (const char *p = host; *p; p++) {
		struct span byte = span_of(p, 1);

		if (*p == '/')
			byte = SPAN("\\057");
		else if (*p == ':')
			byte = SPAN("\\072");
		check(buf_add(b, byte));
	}
}

static void make_name(char dst[static NAME_LEN])
{
	static unsigned count;
	struct buf      b;
	uint64_t        us;

	clock_refresh();
	us = clock_wall_us();
	buf_init(&b, NAME_LEN - 1);
	check(buf_fmt(&b, "%" PRIu64 ".M%" PRIu64 "P%dQ%u.", us / 1000000, us % 1000000,
		      (int)getpid(), ++count));
	add_host(&b);
	memcpy(dst, b.p, b.n);
	dst[b.n] = '\0';
	buf_free(&b);
}

/* The lines and the body in one write where the kernel takes it whole. */
static bool write_letter(int fd, const struct letter *l)
{
	struct span  part[] = {l->rpline, l->dtline, l->body};
	struct iovec v[ARRAY_N(part)];
	ssize_t      n;

	for (size_t i = 0; i < ARRAY_N(part); i++)
		v[i] = (struct iovec){(void *)(uintptr_t)part[i].p, part[i].n};
	do {
		n = writev(fd, v, ARRAY_N(part));
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return false;
	for (size_t i = 0; i < ARRAY_N(part); i++) {
		size_t done = (size_t)n < part[i].n ? (size_t)n : part[i].n;

		n -= (ssize_t)done;
		if (!file_write_all(fd, span_from(part[i], done)))
			return false;
	}
	return true;
}

static int create_tmp(struct maildir *m)
{
	int fd = -1;

	for (unsigned i = 0; i < MAILDIR_TRIES && fd < 0; i++) {
		make_name(m->name);
		fd = openat(m->tmp, m->name,
			    O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, MAILDIR_MODE);
		if (fd < 0 && errno != EEXIST)
			break;
	}
	return fd;
}

static bool write_tmp(struct maildir *m, const struct letter *l)
{
	int  fd = create_tmp(m);
	bool ok;

	if (fd < 0)
		return false;
	ok = write_letter(fd, l) && fsync(fd) == 0;
	if (close(fd) < 0)
		ok = false;
	if (!ok)
		unlinkat(m->tmp, m->name, 0);
	return ok;
}

/* Never over a file that is there; file systems that cannot promise this with a rename have
   hard links. */
static bool move_to_new(struct maildir *m)
{
	if (renameat2(m->tmp, m->name, m->new, m->name, RENAME_NOREPLACE) == 0)
		return true;
	if (errno == EINVAL || errno == ENOSYS) {
		if (linkat(m->tmp, m->name, m->new, m->name, 0) == 0) {
			unlinkat(m->tmp, m->name, 0);
			return true;
		}
	}
	unlinkat(m->tmp, m->name, 0);
	return false;
}

/* The name in new/ is not known to be durable, so the answer will be "again": take it back,
   or the user sees the mail twice. */
static bool sync_new(struct maildir *m)
{
	if (fsync(m->new) == 0)
		return true;
	unlinkat(m->new, m->name, 0);
	return false;
}

static int open_dir(int at, const char *name)
{
	return openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static bool deliver_below(int dir, const struct letter *l)
{
	struct maildir m = {.tmp = open_dir(dir, "tmp"), .new = open_dir(dir, "new")};
	bool ok = m.tmp >= 0 && m.new >= 0 && write_tmp(&m, l) && move_to_new(&m) &&
	          sync_new(&m);

	if (m.tmp >= 0)
		close(m.tmp);
	if (m.new >= 0)
		close(m.new);
	return ok;
}

bool maildir_deliver(struct span dir, const struct letter *l, struct report *r)
{
	char path[PATH_LEN];
	int  fd;
	bool ok;

	if (!span_to_cstr(dir, path, sizeof(path)))
		return report_fail(r, 'Z', "Unable to chdir to maildir. (#4.2.1)\n");
	fd = open_dir(AT_FDCWD, path);
	if (fd < 0 && !error_is_temporary(errno))
		return report_fail(r, 'Z', "Unable to chdir to maildir. (#4.2.1)\n");
	ok = fd >= 0 && deliver_below(fd, l);
	if (fd >= 0)
		close(fd);
	if (!ok)
		return report_fail(r, 'Z', "Temporary error on maildir delivery. (#4.3.0)\n");
	return true;
}
