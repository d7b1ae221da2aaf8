/* forgetfs - a file system that keeps what was synced, and nothing else.
 *
 *   forgetfs BACKING MOUNTPOINT [delay=USEC] [keep=PERCENT] [seed=N] [lie=PERCENT]
 *
 * One flat directory.  Everything exists twice: as programs see it (BACKING/volatile, one file
 * for each number) and as the disk would have it after a power cut (BACKING/durable, the same
 * numbers, and BACKING/names, symbolic links from name to number).  What moves from the first
 * to the second:
 *
 *   fsync, fdatasync of a file     its bytes and its size; not its name
 *   a write with O_DSYNC, O_SYNC,  the bytes of this write, before it is answered
 *   or RWF_DSYNC
 *   fsync of the directory         all names as they are
 *
 * SIGUSR1 is the power cut: from then on every call is answered EIO, and of what was not durable
 * yet each sector (512 bytes) survives by itself with the probability `keep`, and of the
 * changes of names a beginning of random length.  A line in BACKING/cuts says what was lost.
 * Mounted again, what is durable is all there is.
 *
 * `delay` is what each sync that has something to do takes: a slow disk, and time for a cut
 * to hit a write in flight.  With `lie` so many of the syncs are answered and not done: a
 * test that can't tell has no value. */
#define FUSE_USE_VERSION 31
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fuse.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define SECTOR     512
#define NAME_LIMIT 64                             /* segments have 20 */
#define FILES_MAX  4096

struct node {                                     /* a file, named or only open */
	uint64_t number;
	int      volatile_fd, durable_fd;
	unsigned handles;
	char     name[NAME_LIMIT];                /* "": unlinked */
	uint8_t *dirty;                           /* a byte for each sector */
	size_t   dirty_cap;
	uint64_t dirty_n;
};

enum change_kind { CHANGE_LINK, CHANGE_UNLINK, CHANGE_RENAME };
struct change {                                   /* of a name, not durable yet */
	enum change_kind kind;
	uint64_t         number;
	char             name[NAME_LIMIT], to[NAME_LIMIT];
};

static struct {
	pthread_mutex_t lock;
	int             backing, names, durable_dir, volatile_dir;
	struct stat     root;                     /* the directory is seen as it was before */
	struct node    *nodes[FILES_MAX];
	unsigned        nodes_n;
	struct change   changes[FILES_MAX];
	unsigned        changes_n;
	uint64_t        last_number;
	bool            dead;
	unsigned        delay_us, keep, lie;
	uint64_t        dice;
} fs = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void fail(const char *what)
{
	fprintf(stderr, "forgetfs: %s: %s\n", what, strerror(errno));
	exit(111);
}

static uint64_t roll(void)                        /* splitmix64 */
{
	uint64_t z = fs.dice += 0x9e3779b97f4a7c15ull;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return z ^ (z >> 31);
}

static bool happens(unsigned percent)
{
	return roll() % 100 < percent;
}

/* ---- files */

static const char *number_name(uint64_t number, char ret[NAME_LIMIT])
{
	snprintf(ret, NAME_LIMIT, "%llu", (unsigned long long)number);
	return ret;
}

static struct node *node_open(uint64_t number, const char *name, int flags)
{
	struct node *n = calloc(1, sizeof(*n));
	char         file[NAME_LIMIT];

	if (!n)
		fail("memory");
	n->number = number;
	snprintf(n->name, sizeof(n->name), "%s", name);
	number_name(number, file);
	n->volatile_fd = openat(fs.volatile_dir, file, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	n->durable_fd = openat(fs.durable_dir, file, O_RDWR | flags | O_CLOEXEC, 0600);
	if (n->volatile_fd < 0 || n->durable_fd < 0)
		fail(file);
	fs.nodes[fs.nodes_n++] = n;
	return n;
}

static struct node *node_find(const char *path)
{
	for (unsigned i = 0; i < fs.nodes_n; i++)
		if (strcmp(fs.nodes[i]->name, path + 1) == 0)
			return fs.nodes[i];
	return NULL;
}

/* Neither named nor open; what the disk has of it goes when its name is durably gone. */
static void node_put(struct node *n)
{
	char file[NAME_LIMIT];

	if (n->handles || n->name[0])
		return;
	for (unsigned i = 0; i < fs.nodes_n; i++)
		if (fs.nodes[i] == n)
			fs.nodes[i--] = fs.nodes[--fs.nodes_n];
	unlinkat(fs.volatile_dir, number_name(n->number, file), 0);
	close(n->volatile_fd);
	close(n->durable_fd);
	free(n->dirty);
	free(n);
}

static struct node *node_of(struct fuse_file_info *fi)
{
	return (struct node *)(uintptr_t)fi->fh;
}

static void mark_dirty(struct node *n, off_t off, size_t size)
{
	size_t from = (size_t)off / SECTOR, to = ((size_t)off + size + SECTOR - 1) / SECTOR;

	if (to > n->dirty_cap) {
		size_t cap = to * 2;

		n->dirty = realloc(n->dirty, cap);
		if (!n->dirty)
			fail("memory");
		memset(n->dirty + n->dirty_cap, 0, cap - n->dirty_cap);
		n->dirty_cap = cap;
	}
	for (size_t i = from; i < to; i++) {
		n->dirty_n += !n->dirty[i];
		n->dirty[i] = 1;
	}
}

/* From `from` on, or `to`. */
static size_t next_dirty(const struct node *n, size_t from, size_t to)
{
	const uint8_t *p = from < to ? memchr(n->dirty + from, 1, to - from) : NULL;

	return p ? (size_t)(p - n->dirty) : to;
}

static void make_durable(struct node *n, size_t sector)
{
	char    bytes[SECTOR];
	ssize_t got = pread(n->volatile_fd, bytes, SECTOR, (off_t)(sector * SECTOR));

	if (got < 0 || pwrite(n->durable_fd, bytes, (size_t)got, (off_t)(sector * SECTOR)) != got)
		fail("durable");
}

static int sync_range(struct node *n, size_t from, size_t to)
{
	int e = 0;

	if (fs.delay_us)
		usleep(fs.delay_us);
	pthread_mutex_lock(&fs.lock);
	if (to > n->dirty_cap)
		to = n->dirty_cap;
	if (fs.dead)
		e = -EIO;
	else if (happens(fs.lie))
		to = from;
	for (size_t i = from; !e && (i = next_dirty(n, i, to)) < to; i++) {
		make_durable(n, i);
		n->dirty[i] = 0;
		n->dirty_n--;
	}
	pthread_mutex_unlock(&fs.lock);
	return e;
}

/* ---- names */

static void change_add(enum change_kind kind, uint64_t number, const char *name, const char *to)
{
	struct change *c = &fs.changes[fs.changes_n++];

	c->kind = kind;
	c->number = number;
	snprintf(c->name, sizeof(c->name), "%s", name);
	snprintf(c->to, sizeof(c->to), "%s", to);
}

static void change_apply(const struct change *c)
{
	char number[NAME_LIMIT];
	int  e = 0;

	number_name(c->number, number);
	switch (c->kind) {
	case CHANGE_LINK:   e = symlinkat(number, fs.names, c->name); break;
	case CHANGE_UNLINK: e = unlinkat(fs.names, c->name, 0); break;
	case CHANGE_RENAME: e = renameat(fs.names, c->name, fs.names, c->to); break;
	}
	if (e < 0)
		fail(c->name);
	if (c->kind == CHANGE_UNLINK)
		unlinkat(fs.durable_dir, number, 0); /* open handles keep it */
}

static int names_commit(void)
{
	int e = 0;

	if (fs.delay_us)
		usleep(fs.delay_us);
	pthread_mutex_lock(&fs.lock);
	if (fs.dead)
		e = -EIO;
	for (unsigned i = 0; i < fs.changes_n && !e; i++)
		change_apply(&fs.changes[i]);
	if (!e)
		fs.changes_n = 0;
	pthread_mutex_unlock(&fs.lock);
	return e;
}

/* ---- the power cut */

static void cut(void)
{
	uint64_t dropped = 0, kept = 0;
	unsigned changes = fs.changes_n;
	FILE    *f;
	int      fd;

	fs.dead = true;
	for (unsigned i = 0; i < fs.nodes_n; i++) {
		struct node *n = fs.nodes[i];

		for (size_t s = 0; (s = next_dirty(n, s, n->dirty_cap)) < n->dirty_cap; s++) {
			if (happens(fs.keep)) {
				make_durable(n, s);
				kept++;
			} else {
				dropped++;
			}
		}
	}
	if (fs.keep == 0)
		changes = 0;
	else if (changes)
		changes = (unsigned)(roll() % (changes + 1));
	for (unsigned i = 0; i < changes; i++)
		change_apply(&fs.changes[i]);
	fd = openat(fs.backing, "cuts", O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	f = fd < 0 ? NULL : fdopen(fd, "a");
	if (!f)
		fail("cuts");
	fprintf(f, "%llu %llu %u %u\n", (unsigned long long)dropped, (unsigned long long)kept,
		fs.changes_n - changes, changes);
	fclose(f);
}

static void *wait_for_cut(void *arg)
{
	sigset_t *set = arg;
	int       sig;

	while (sigwait(set, &sig) == 0) {
		pthread_mutex_lock(&fs.lock);
		if (!fs.dead)
			cut();
		pthread_mutex_unlock(&fs.lock);
	}
	return NULL;
}

/* ---- what the kernel asks */

static int fs_getattr(const char *path, struct stat *st, struct fuse_file_info *fi)
{
	struct node *n;
	int          e = 0;

	pthread_mutex_lock(&fs.lock);
	if (fs.dead) {
		e = -EIO;
	} else if (!fi && strcmp(path, "/") == 0) {
		*st = fs.root;
	} else {
		n = fi ? node_of(fi) : node_find(path);
		e = !n ? -ENOENT : fstat(n->volatile_fd, st) < 0 ? -errno : 0;
		if (n)
			st->st_nlink = n->name[0] != 0;
	}
	pthread_mutex_unlock(&fs.lock);
	return e;
}

static int fs_create(const char *path, mode_t mode, struct fuse_file_info *fi)
{
	struct fuse_context *who = fuse_get_context();
	struct node         *n = NULL;
	int                  e = 0;

	pthread_mutex_lock(&fs.lock);
	if (fs.dead)
		e = -EIO;
	else if (strlen(path + 1) >= NAME_LIMIT || fs.nodes_n == FILES_MAX || fs.changes_n == FILES_MAX)
		e = -ENOSPC;
	else if (node_find(path))
		e = -EEXIST;
	if (!e) {
		n = node_open(++fs.last_number, path + 1, O_CREAT);
		if (fchown(n->volatile_fd, who->uid, who->gid) < 0 || fchown(n->durable_fd, who->uid, who->gid) < 0 ||
		    fchmod(n->volatile_fd, mode) < 0 || fchmod(n->durable_fd, mode) < 0)
			fail("owner");
		change_add(CHANGE_LINK, n->number, n->name, "");
		n->handles = 1;
		fi->fh = (uintptr_t)n;
		fi->direct_io = 1;
	}
	pthread_mutex_unlock(&fs.lock);
	return e;
}

static int fs_open(const char *path, struct fuse_file_info *fi)
{
	struct node *n;
	int          e = 0;

	pthread_mutex_lock(&fs.lock);
	n = node_find(path);
	if (fs.dead)
		e = -EIO;
	else if (!n)
		e = -ENOENT;
	if (!e) {
		n->handles++;
		fi->fh = (uintptr_t)n;
		fi->direct_io = 1;
	}
	pthread_mutex_unlock(&fs.lock);
	return e;
}

static int fs_release(const char *path, struct fuse_file_info *fi)
{
	struct node *n = node_of(fi);

	pthread_mutex_lock(&fs.lock);
	n->handles--;
	node_put(n);
	pthread_mutex_unlock(&fs.lock);
	return 0;
}

static int fs_read(const char *path, char *buf, size_t size, off_t off, struct fuse_file_info *fi)
{
	ssize_t got;

	pthread_mutex_lock(&fs.lock);
	got = fs.dead ? -EIO : pread(node_of(fi)->volatile_fd, buf, size, off);
	if (got < 0 && !fs.dead)
		got = -errno;
	pthread_mutex_unlock(&fs.lock);
	return (int)got;
}

static int fs_write(const char *path, const char *buf, size_t size, off_t off, struct fuse_file_info *fi)
{
	struct node *n = node_of(fi);
	ssize_t      put;
	int          e = 0;

	pthread_mutex_lock(&fs.lock);
	put = fs.dead ? -EIO : pwrite(n->volatile_fd, buf, size, off);
	if (put < 0 && !fs.dead)
		put = -errno;
	if (put > 0)
		mark_dirty(n, off, (size_t)put);
	pthread_mutex_unlock(&fs.lock);
	if (put > 0 && fi->flags & (O_DSYNC | O_SYNC))
		e = sync_range(n, (size_t)off / SECTOR, ((size_t)off + (size_t)put + SECTOR - 1) / SECTOR);
	return e ? e : (int)put;
}

/* A synced write is followed by one of these that finds nothing to do, and costs nothing. */
static int fs_fsync(const char *path, int datasync, struct fuse_file_info *fi)
{
	struct node *n = node_of(fi);
	bool         clean, dead;

	pthread_mutex_lock(&fs.lock);
	dead = fs.dead;
	clean = n->dirty_n == 0;
	pthread_mutex_unlock(&fs.lock);
	if (dead)
		return -EIO;
	return clean ? 0 : sync_range(n, 0, SIZE_MAX);
}

static int fs_fsyncdir(const char *path, int datasync, struct fuse_file_info *fi)
{
	return names_commit();
}

/* Its size is durable at once: nothing here makes files grow or shrink under load by this. */
static int fs_truncate(const char *path, off_t size, struct fuse_file_info *fi)
{
	struct node *n;
	int          e = 0;

	pthread_mutex_lock(&fs.lock);
	n = fi ? node_of(fi) : node_find(path);
	if (fs.dead)
		e = -EIO;
	else if (!n)
		e = -ENOENT;
	else if (ftruncate(n->volatile_fd, size) < 0 || ftruncate(n->durable_fd, size) < 0)
		e = -errno;
	pthread_mutex_unlock(&fs.lock);
	return e;
}

static int fs_unlink(const char *path)
{
	struct node *n;
	int          e = 0;

	pthread_mutex_lock(&fs.lock);
	n = node_find(path);
	if (fs.dead)
		e = -EIO;
	else if (!n)
		e = -ENOENT;
	else if (fs.changes_n == FILES_MAX)
		e = -ENOSPC;
	if (!e) {
		change_add(CHANGE_UNLINK, n->number, n->name, "");
		n->name[0] = 0;
		node_put(n);
	}
	pthread_mutex_unlock(&fs.lock);
	return e;
}

static int fs_rename(const char *from, const char *to, unsigned flags)
{
	struct node *n, *old;
	int          e = 0;

	pthread_mutex_lock(&fs.lock);
	n = node_find(from);
	old = node_find(to);
	if (fs.dead)
		e = -EIO;
	else if (!n)
		e = -ENOENT;
	else if (flags)
		e = -EINVAL;
	else if (strlen(to + 1) >= NAME_LIMIT || fs.changes_n == FILES_MAX)
		e = -ENOSPC;
	if (!e && n != old) {
		change_add(CHANGE_RENAME, n->number, n->name, to + 1);
		snprintf(n->name, sizeof(n->name), "%s", to + 1);
		if (old) {
			old->name[0] = 0;
			node_put(old);
		}
	}
	pthread_mutex_unlock(&fs.lock);
	return e;
}

static int fs_readdir(const char *path, void *buf, fuse_fill_dir_t fill, off_t off,
		      struct fuse_file_info *fi, enum fuse_readdir_flags flags)
{
	int e = 0;

	pthread_mutex_lock(&fs.lock);
	if (fs.dead)
		e = -EIO;
	fill(buf, ".", NULL, 0, 0);
	fill(buf, "..", NULL, 0, 0);
	for (unsigned i = 0; i < fs.nodes_n && !e; i++)
		if (fs.nodes[i]->name[0])
			fill(buf, fs.nodes[i]->name, NULL, 0, 0);
	pthread_mutex_unlock(&fs.lock);
	return e;
}

static int fs_statfs(const char *path, struct statvfs *st)
{
	return fstatvfs(fs.backing, st) < 0 ? -errno : 0;
}

static void *fs_init(struct fuse_conn_info *conn, struct fuse_config *cfg)
{
	static sigset_t set;
	pthread_t       thread;

	cfg->attr_timeout = cfg->entry_timeout = cfg->negative_timeout = 0;
	cfg->hard_remove = 1;                     /* what is unlinked while open is ours to keep */
	cfg->nullpath_ok = 1;
	cfg->use_ino = 0;
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	if (pthread_create(&thread, NULL, wait_for_cut, &set) != 0)
		fail("thread");
	return NULL;
}

static const struct fuse_operations calls = {
	.getattr = fs_getattr,
	.create = fs_create,
	.open = fs_open,
	.release = fs_release,
	.read = fs_read,
	.write = fs_write,
	.fsync = fs_fsync,
	.fsyncdir = fs_fsyncdir,
	.truncate = fs_truncate,
	.unlink = fs_unlink,
	.rename = fs_rename,
	.readdir = fs_readdir,
	.statfs = fs_statfs,
	.init = fs_init,
};

/* ---- what is durable becomes what is seen */

/* Holes stay holes: an image of a disk is mostly that. */
static void copy_data(int from, int to, off_t at, off_t end)
{
	static char bytes[1 << 20];

	while (at < end) {
		size_t  n = end - at < (off_t)sizeof(bytes) ? (size_t)(end - at) : sizeof(bytes);
		ssize_t got = pread(from, bytes, n, at);

		if (got <= 0 || pwrite(to, bytes, (size_t)got, at) != got)
			fail("volatile");
		at += got;
	}
}

static void copy_whole(int from, int to)
{
	struct stat st;
	off_t       at = 0, end;

	if (fstat(from, &st) < 0)
		fail("durable");
	while (at < st.st_size && (at = lseek(from, at, SEEK_DATA)) >= 0) {
		end = lseek(from, at, SEEK_HOLE);
		copy_data(from, to, at, end);
		at = end;
	}
	if (ftruncate(to, st.st_size) < 0 || fchown(to, st.st_uid, st.st_gid) < 0 ||
	    fchmod(to, st.st_mode & 0777) < 0)
		fail("volatile");
}

static void each_name(int dir_fd, void (*each)(const char *name))
{
	int            fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR           *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *d;

	if (!dir)
		fail("directory");
	while ((d = readdir(dir)))
		if (d->d_name[0] != '.')
			each(d->d_name);
	closedir(dir);
}

static void forget_volatile(const char *name)
{
	unlinkat(fs.volatile_dir, name, 0);
}

static void load_name(const char *name)
{
	char         number[NAME_LIMIT];
	ssize_t      size = readlinkat(fs.names, name, number, sizeof(number) - 1);
	struct node *n;

	if (size < 0 || fs.nodes_n == FILES_MAX)
		fail(name);
	number[size] = 0;
	n = node_open(strtoull(number, NULL, 10), name, 0);
	copy_whole(n->durable_fd, n->volatile_fd);
}

/* Bytes that no name leads to; and the last number that was given. */
static void forget_orphan(const char *name)
{
	uint64_t number = strtoull(name, NULL, 10);

	if (number > fs.last_number)
		fs.last_number = number;
	for (unsigned i = 0; i < fs.nodes_n; i++)
		if (fs.nodes[i]->number == number)
			return;
	unlinkat(fs.durable_dir, name, 0);
}

static int open_dir(const char *name)
{
	int fd;

	if (mkdirat(fs.backing, name, 0700) < 0 && errno != EEXIST)
		fail(name);
	fd = openat(fs.backing, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		fail(name);
	return fd;
}

static void load(const char *backing, const char *mountpoint)
{
	fs.backing = open(backing, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fs.backing < 0 || stat(mountpoint, &fs.root) < 0)
		fail(backing);
	fs.names = open_dir("names");
	fs.durable_dir = open_dir("durable");
	fs.volatile_dir = open_dir("volatile");
	each_name(fs.volatile_dir, forget_volatile);
	each_name(fs.names, load_name);
	each_name(fs.durable_dir, forget_orphan);
}

static void option(const char *arg)
{
	unsigned long long v;

	if (sscanf(arg, "lie=%llu", &v) == 1 && v <= 100)
		fs.lie = (unsigned)v;
	else if (sscanf(arg, "delay=%llu", &v) == 1)
		fs.delay_us = (unsigned)v;
	else if (sscanf(arg, "keep=%llu", &v) == 1 && v <= 100)
		fs.keep = (unsigned)v;
	else if (sscanf(arg, "seed=%llu", &v) == 1)
		fs.dice = v;
	else {
		fprintf(stderr, "forgetfs: what is %s?\n", arg);
		exit(100);
	}
}

int main(int argc, char **argv)
{
	char    *args[] = {argv[0], "-f", "-o", "allow_other,default_permissions,fsname=forgetfs", NULL, NULL};
	sigset_t set;

	if (argc < 3) {
		fputs("usage: forgetfs BACKING MOUNTPOINT [delay=USEC] [keep=PERCENT] [seed=N] [lie=PERCENT]\n", stderr);
		return 100;
	}
	for (int i = 3; i < argc; i++)
		option(argv[i]);
	umask(0);
	load(argv[1], argv[2]);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_BLOCK, &set, NULL);
	args[4] = argv[2];
	return fuse_main(5, args, &calls, NULL);
}
