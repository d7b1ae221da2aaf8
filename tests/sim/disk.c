/* A disk that keeps exactly what it promised.
 *
 * What is synced is in `data`.  A write in flight is nowhere until it completes, or until the
 * power goes: then any of its sectors may have arrived.  Directory changes are kept in order:
 * after a power loss some first ones of those that were not synced are there. */
#include "world.h"

#include "core/clock.h"
#include "core/pool.h"
#include "core/rand.h"
#include "journal/format.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define NAME_N       48
#define FILES_MAX    1024
#define FLIGHT_MAX   8
#define SECTOR       512
#define DELAY_MIN_US 30
#define DELAY_MAX_US 900

struct inode {
	char *data, *was; /* was: of each block, what lay there before its last write */
	uint64_t size, cap;
};
struct name {
	char name[NAME_N];
	struct inode *inode;
};
struct dir {
	struct name v[FILES_MAX];
	unsigned n;
};
enum change { CREATED, RENAMED, REMOVED };
struct pending {
	enum change what;
	char from[NAME_N], to[NAME_N];
	struct inode *inode;
};
struct disk_file {
	struct inode *inode;
	int flags;
};
struct flight {
	struct op *op; /* NULL: nobody waits any more */
	struct inode *inode;
	const char *p;
	char *copy; /* of a dead process' write */
	uint64_t n, off, due_us, hash;
};
struct simdisk {
	struct disk disk;
	struct dir now, synced;
	struct pending pending[FILES_MAX];
	unsigned pending_n;
	struct inode **inodes;
	unsigned inodes_n;
	struct disk_file *open[FILES_MAX];
	struct flight flight[FLIGHT_MAX];
	unsigned flight_n;
	uint64_t fuse, eios, landed, fail_read;
	uint64_t enospc;
	bool dead, fail_write, full;
};

static struct simdisk *of(struct disk *d)
{
	return owner_of(d, struct simdisk, disk);
}

/* ---- directories ---- */

static struct name *find(struct dir *dir, const char *name)
{
	for (unsigned i = 0; i < dir->n; i++)
		if (strcmp(dir->v[i].name, name) == 0)
			return &dir->v[i];
	return NULL;
}

static void dir_remove(struct dir *dir, const char *name)
{
	struct name *e = find(dir, name);

	if (e)
		*e = dir->v[--dir->n];
}

static void dir_put(struct dir *dir, const char *name, struct inode *inode)
{
	dir_remove(dir, name);
	check(dir->n < FILES_MAX && strlen(name) < NAME_N);
	snprintf(dir->v[dir->n].name, NAME_N, "%s", name);
	dir->v[dir->n++].inode = inode;
}

static void apply(struct dir *dir, const struct pending *p)
{
	if (p->what != CREATED)
		dir_remove(dir, p->from);
	if (p->what != REMOVED)
		dir_put(dir, p->to, p->inode);
}

static void change(struct simdisk *s, enum change what, const char *from, const char *to,
		   struct inode *inode)
{
	struct pending *p = &s->pending[s->pending_n++];

	check(s->pending_n < FILES_MAX);
	*p = (struct pending){.what = what, .inode = inode};
	if (from)
		snprintf(p->from, sizeof p->from, "%s", from);
	if (to)
		snprintf(p->to, sizeof p->to, "%s", to);
	apply(&s->now, p);
}

static void dir_sync(struct simdisk *s)
{
	for (unsigned i = 0; i < s->pending_n; i++)
		apply(&s->synced, &s->pending[i]);
	s->pending_n = 0;
}

/* ---- power ---- */

/* true: the power is gone, now or already. */
static bool burn(struct simdisk *s)
{
	if (!s->dead && s->fuse && --s->fuse == 0)
		s->dead = true;
	return s->dead;
}

/* Any sectors of a write that was not finished. */
static void tear(struct inode *inode, const char *p, uint64_t n, uint64_t off)
{
	uint64_t how = rand_below(5), unit = rand_below(2) ? SECTOR : BLOCK_SIZE;
	uint64_t prefix = rand_below(n / unit + 1) * unit;

	if (off + n > inode->size)
		n = off < inode->size ? inode->size - off : 0;
	for (uint64_t at = 0; at < n; at += unit) {
		bool keep = how == 0   ? false
			    : how == 1 ? true
			    : how == 2 ? at < prefix
			    : how == 3 ? at >= prefix
				       : rand_below(2);

		if (keep)
			memcpy(inode->data + off + at, p + at, unit);
	}
}

static void flight_drop(struct simdisk *s, unsigned i)
{
	mem_free(s->flight[i].copy);
	s->flight[i] = s->flight[--s->flight_n];
}

void simdisk_power_loss(struct disk *d)
{
	struct simdisk *s = of(d);
	unsigned keep = (unsigned)rand_below(s->pending_n + 1);

	while (s->flight_n) {
		struct flight *f = &s->flight[0];

		tear(f->inode, f->p, f->n, f->off);
		if (f->op)
			f->op->armed = false;
		flight_drop(s, 0);
	}
	for (unsigned i = 0; i < keep; i++)
		apply(&s->synced, &s->pending[i]);
	s->pending_n = 0;
	s->now = s->synced;
	s->dead = s->fail_write = false;
	s->fuse = 0;
}

void simdisk_kill(struct disk *d)
{
	struct simdisk *s = of(d);

	for (unsigned i = 0; i < s->flight_n; i++) {
		struct flight *f = &s->flight[i];

		if (!f->op)
			continue;
		f->op->armed = false;
		f->op = NULL;
		f->copy = mem_new(f->n);
		memcpy(f->copy, f->p, f->n);
		f->p = f->copy;
		f->due_us = clock_mono_us() + rand_below(50000);
	}
	s->dead = s->fail_write = false;
	s->fuse = 0;
}

uint64_t simdisk_fuse(struct disk *d, uint64_t calls)
{
	uint64_t was = of(d)->fuse;

	of(d)->fuse = calls;
	return was;
}

bool simdisk_is_dead(const struct disk *d)
{
	return owner_of(d, struct simdisk, disk)->dead;
}

void simdisk_fail_write(struct disk *d)
{
	of(d)->fail_write = true;
}

uint64_t simdisk_eios(const struct disk *d)
{
	return owner_of(d, struct simdisk, disk)->eios;
}

uint64_t simdisk_landed(const struct disk *d)
{
	return owner_of(d, struct simdisk, disk)->landed;
}

void simdisk_full(struct disk *d, bool full)
{
	of(d)->full = full;
}

uint64_t simdisk_enospc(const struct disk *d)
{
	return owner_of(d, struct simdisk, disk)->enospc;
}

bool simdisk_rot(struct disk *d, const char *name, uint64_t byte, unsigned bit)
{
	struct name *e = find(&of(d)->now, name);

	if (!e || byte >= e->inode->size)
		return false;
	e->inode->data[byte] ^= (char)(1u << bit);
	return true;
}

char *simdisk_bytes(struct disk *d, const char *name, uint64_t *ret_size)
{
	struct name *e = find(&of(d)->now, name);

	if (!e)
		return NULL;
	*ret_size = e->inode->size;
	return e->inode->data;
}

void simdisk_resize(struct disk *d, const char *name, uint64_t size)
{
	struct name *e = find(&of(d)->now, name);

	check(e && size <= e->inode->cap);
	e->inode->size = size;
}

bool simdisk_hurt(struct disk *d, const char *name, uint64_t block, bool stale, char *ret_was)
{
	struct name *e = find(&of(d)->now, name);
	char *p;

	if (!e || (block + 1) * BLOCK_SIZE > e->inode->size)
		return false;
	p = e->inode->data + block * BLOCK_SIZE;
	memcpy(ret_was, p, BLOCK_SIZE);
	if (stale)
		memcpy(p, e->inode->was + block * BLOCK_SIZE, BLOCK_SIZE);
	else
		memset(p, 0, BLOCK_SIZE);
	return memcmp(ret_was, p, BLOCK_SIZE) != 0;
}

void simdisk_heal(struct disk *d, const char *name, uint64_t block, const char *was)
{
	struct name *e = find(&of(d)->now, name);

	check(e && (block + 1) * BLOCK_SIZE <= e->inode->size);
	memcpy(e->inode->data + block * BLOCK_SIZE, was, BLOCK_SIZE);
}

uint64_t simdisk_fail_read(struct disk *d, uint64_t reads)
{
	uint64_t left = of(d)->fail_read;

	of(d)->fail_read = reads;
	return left;
}

/* ---- the calls ---- */

static int sim_list(struct disk *d, void (*each)(void *ctx, const char *name, uint64_t size),
		    void *ctx)
{
	struct simdisk *s = of(d);

	if (burn(s))
		return -EIO;
	for (unsigned i = 0; i < s->now.n; i++)
		each(ctx, s->now.v[i].name, s->now.v[i].inode->size);
	return 0;
}

static struct inode *inode_new(struct simdisk *s)
{
	struct inode *inode = mem_new(sizeof *inode);

	s->inodes = mem_grow(s->inodes, s->inodes_n * sizeof *s->inodes,
			     (s->inodes_n + 1) * sizeof *s->inodes);
	s->inodes[s->inodes_n++] = inode;
	return inode;
}

static int sim_open(struct disk *d, const char *name, int flags, struct disk_file **ret)
{
	struct simdisk *s = of(d);
	struct name *e;
	unsigned slot = 0;

	if (burn(s))
		return -EIO;
	e = find(&s->now, name);
	if (flags & DISK_CREATE) {
		if (e)
			return -EEXIST;
		change(s, CREATED, NULL, name, inode_new(s));
		e = find(&s->now, name);
	}
	if (!e)
		return -ENOENT;
	while (s->open[slot])
		check(++slot < FILES_MAX);
	*ret = s->open[slot] = mem_new(sizeof **ret);
	(*ret)->inode = e->inode;
	(*ret)->flags = flags;
	return 0;
}

static void sim_close(struct disk *d, struct disk_file *f)
{
	struct simdisk *s = of(d);

	for (unsigned i = 0; i < FILES_MAX; i++)
		if (s->open[i] == f) {
			s->open[i] = NULL;
			mem_free(f);
			return;
		}
	world_fail("a file is closed that is not open");
}

static int64_t sim_size(struct disk *d, struct disk_file *f)
{
	return burn(of(d)) ? -EIO : (int64_t)f->inode->size;
}

static int sim_rename(struct disk *d, const char *from, const char *to)
{
	struct simdisk *s = of(d);
	struct name *e;

	if (burn(s))
		return -EIO;
	e = find(&s->now, from);
	if (!e)
		return -ENOENT;
	change(s, RENAMED, from, to, e->inode);
	return 0;
}

static int sim_unlink(struct disk *d, const char *name)
{
	struct simdisk *s = of(d);

	if (burn(s))
		return -EIO;
	if (!find(&s->now, name))
		return -ENOENT;
	change(s, REMOVED, name, NULL, NULL);
	return 0;
}

static int sim_sync_dir(struct disk *d)
{
	if (burn(of(d)))
		return -EIO;
	dir_sync(of(d));
	return 0;
}

static int sim_sync(struct disk *d, struct disk_file *f)
{
	return burn(of(d)) ? -EIO : 0;
}

static int sim_fill(struct disk *d, struct disk_file *f, uint64_t from, uint64_t to)
{
	struct inode *inode = f->inode;
	bool dead = burn(of(d));

	check(from <= inode->size);
	if (of(d)->full && !dead) {
		of(d)->enospc++;
		return -ENOSPC;
	}
	if (dead)
		to = from + rand_below((to - from) / BLOCK_SIZE + 1) * BLOCK_SIZE;
	if (to > inode->cap) {
		inode->data = mem_grow(inode->data, inode->cap, to);
		inode->was = mem_grow(inode->was, inode->cap, to);
		inode->cap = to;
	}
	if (to > from) {
		memset(inode->data + from, 0, to - from);
		memset(inode->was + from, 0, to - from);
	}
	if (to > inode->size)
		inode->size = to;
	return dead ? -EIO : 0;
}

static int64_t sim_read(struct disk *d, struct disk_file *f, void *p, size_t n, uint64_t off)
{
	if (burn(of(d)))
		return -EIO;
	check(f->flags & DISK_READ && off % DISK_ALIGN == 0 && n % DISK_ALIGN == 0 &&
	      (uintptr_t)p % DISK_ALIGN == 0);
	if (of(d)->fail_read && --of(d)->fail_read == 0)
		return -EIO;
	if (off >= f->inode->size)
		return 0;
	if (n > f->inode->size - off)
		n = f->inode->size - off;
	memcpy(p, f->inode->data + off, n);
	return (int64_t)n;
}

static void check_write(const struct disk_file *f, const void *p, size_t n, uint64_t off)
{
	check(f->flags & DISK_WRITE && off % DISK_ALIGN == 0 && n % DISK_ALIGN == 0 &&
	      (uintptr_t)p % DISK_ALIGN == 0);
	check(off + n <= f->inode->size); /* a prepared segment never grows */
}

static int64_t sim_write_now(struct disk *d, struct disk_file *f, const void *p, size_t n,
			     uint64_t off)
{
	struct simdisk *s = of(d);
	bool was_dead = s->dead;

	check_write(f, p, n, off);
	if (burn(s)) {
		if (!was_dead)
			tear(f->inode, p, n, off);
		return -EIO;
	}
	memcpy(f->inode->was + off, f->inode->data + off, n);
	memcpy(f->inode->data + off, p, n);
	return (int64_t)n;
}

static void sim_write(struct disk *d, struct disk_file *f, struct op *op, const void *p,
		      size_t n, uint64_t off)
{
	struct simdisk *s = of(d);
	uint64_t slow = rand_below(40) == 0 ? 20 : 1;

	check_write(f, p, n, off);
	check(!op->armed && s->flight_n < FLIGHT_MAX);
	op->armed = true;
	s->flight[s->flight_n++] = (struct flight){
		.op = op,
		.inode = f->inode,
		.p = p,
		.n = n,
		.off = off,
		.hash = hash64(p, n),
		.due_us = clock_mono_us() + (DELAY_MIN_US + rand_below(DELAY_MAX_US)) * slow,
	};
}

static int sim_lock(struct disk *d)
{
	return 0;
}

static int sim_fd(struct disk_file *f)
{
	return -1;
}

static const struct disk_calls calls = {
	.list = sim_list,
	.open = sim_open,
	.close = sim_close,
	.size = sim_size,
	.rename = sim_rename,
	.unlink = sim_unlink,
	.sync_dir = sim_sync_dir,
	.sync = sim_sync,
	.fill = sim_fill,
	.read = sim_read,
	.write_now = sim_write_now,
	.write = sim_write,
	.lock = sim_lock,
	.fd = sim_fd,
};

/* ---- time ---- */

uint64_t simdisk_next(struct disk *d)
{
	struct simdisk *s = of(d);
	uint64_t next = UINT64_MAX;

	for (unsigned i = 0; i < s->flight_n; i++)
		if (s->flight[i].due_us < next)
			next = s->flight[i].due_us;
	return next;
}

static void land(struct simdisk *s, struct flight f)
{
	int res = (int)f.n;

	if (hash64(f.p, f.n) != f.hash)
		world_fail("bytes of a write in flight were changed");
	if (f.op && s->fail_write) {
		s->fail_write = false;
		s->eios++;
		tear(f.inode, f.p, f.n, f.off);
		res = -EIO;
	} else {
		memcpy(f.inode->was + f.off, f.inode->data + f.off, f.n);
		memcpy(f.inode->data + f.off, f.p, f.n);
		s->landed += !f.op;
	}
	mem_free(f.copy);
	if (f.op)
		op_complete(f.op, res, 0);
}

void simdisk_run(struct disk *d, uint64_t now_us)
{
	struct simdisk *s = of(d);

	for (unsigned i = 0; i < s->flight_n;) {
		struct flight f = s->flight[i];

		if (f.due_us > now_us) {
			i++;
			continue;
		}
		s->flight[i] = s->flight[--s->flight_n];
		land(s, f);
		i = 0;
	}
}

struct disk *simdisk_new(struct loop *l)
{
	struct simdisk *s = mem_new(sizeof *s);

	s->disk = (struct disk){.calls = &calls, .loop = l, .one_thread = true};
	return &s->disk;
}

void simdisk_free(struct disk *d)
{
	struct simdisk *s = of(d);

	while (s->flight_n)
		flight_drop(s, 0);
	for (unsigned i = 0; i < FILES_MAX; i++)
		if (s->open[i])
			world_fail("a file is left open");
	for (unsigned i = 0; i < s->inodes_n; i++) {
		mem_free(s->inodes[i]->data);
		mem_free(s->inodes[i]->was);
		mem_free(s->inodes[i]);
	}
	mem_free(s->inodes);
	mem_free(s);
}
