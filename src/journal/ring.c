/* ring - a memfd: one page of head, then the data, which is mapped twice in a row.
 *
 * The order that keeps readers right: ring_claim() moves `oldest` before any byte is
 * overwritten, ring_publish() moves `durable` after every byte is there.  A reader copies
 * first and looks at `oldest` after that; the fences below make both sides agree.
 *
 * Seals forbid to change the memfd's size, so that no reader can be made to fault; readers
 * get a descriptor opened read-only, which can't be mapped for writing; the mode of the memfd
 * keeps other users from opening it anew for writing.  It is opened when the ring is made, as
 * there may be no /proc where the writer lives later. */
#include "journal/ring.h"

#include "journal/format.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define RING_HEAD_SIZE 4096 /* also keeps the data aligned for direct writes */
#define RING_SIZE_MIN  (1024 * 1024)
#define RING_SIZE_MAX  (1024 * 1024 * 1024)
static_check(sizeof(struct ring_head) <= RING_HEAD_SIZE);

static bool sizes_ok(uint64_t size, uint64_t segment_size)
{
	return size >= RING_SIZE_MIN && size <= RING_SIZE_MAX && (size & (size - 1)) == 0 &&
	       segment_size >= SEGMENT_SIZE_MIN && segment_size <= SEGMENT_SIZE_MAX &&
	       (segment_size % size == 0 || size % segment_size == 0);
}

static int map_at(char *at, size_t n, int prot, int fd, off_t off)
{
	if (mmap(at, n, prot, MAP_SHARED | MAP_FIXED, fd, off) == MAP_FAILED)
		return -errno;
	return 0;
}

/* head | data | data again, in one reservation. */
static int map_all(struct ring *r, uint64_t size, int fd, int prot)
{
	size_t total = RING_HEAD_SIZE + 2 * size;
	char *p = mmap(NULL, total, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int e;

	if (p == MAP_FAILED)
		return -errno;
	e = map_at(p, RING_HEAD_SIZE + size, prot, fd, 0);
	if (!e)
		e = map_at(p + RING_HEAD_SIZE + size, size, prot, fd, RING_HEAD_SIZE);
	if (e) {
		munmap(p, total);
		return e;
	}
	r->head = (struct ring_head *)(void *)p;
	r->data = p + RING_HEAD_SIZE;
	r->size = size;
	return 0;
}

static int memfd_sized(uint64_t size)
{
	int fd = memfd_create("quire-ring", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	int e;

	if (fd < 0)
		return -errno;
	if (ftruncate(fd, (off_t)(RING_HEAD_SIZE + size)) < 0 ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0) {
		e = -errno;
		close(fd);
		return e;
	}
	return fd;
}

/* Not sealed against writing, as the writer's own mapping exists: opened again, read-only. */
static int open_read_only(int memfd)
{
	char path[48];
	int fd;

	if (fchmod(memfd, 0400) < 0)
		return -errno;
	snprintf(path, sizeof path, "/proc/self/fd/%d", memfd);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

int ring_make(struct ring *r, uint64_t size, uint64_t segment_size)
{
	int fd, e;

	*r = (struct ring){.fd = -1, .fd_read = -1};
	if (!sizes_ok(size, segment_size))
		return -EINVAL;
	fd = memfd_sized(size);
	if (fd < 0)
		return fd;
	r->fd = fd;
	r->writer = true;
	r->fd_read = open_read_only(fd);
	e = r->fd_read < 0 ? r->fd_read : map_all(r, size, fd, PROT_READ | PROT_WRITE);
	if (e) {
		ring_unmap(r);
		return e;
	}
	r->head->magic = RING_MAGIC;
	r->head->size = size;
	r->head->segment_size = segment_size;
	return 0;
}

void ring_begin(struct ring *r, uint64_t pos)
{
	check(r->writer);
	r->head->first = pos;
	atomic_store(&r->head->oldest, pos);
	atomic_store(&r->head->durable, pos);
}

int ring_reader_fd(const struct ring *r)
{
	int fd = fcntl(r->fd_read, F_DUPFD_CLOEXEC, 3);

	return fd < 0 ? -errno : fd;
}

static int head_read(int fd, struct ring_head *ret)
{
	struct stat st;
	ssize_t n;

	if (fstat(fd, &st) < 0)
		return -errno;
	n = pread(fd, ret, sizeof *ret, 0);
	if (n < 0)
		return -errno;
	if (n != sizeof *ret || ret->magic != RING_MAGIC ||
	    !sizes_ok(ret->size, ret->segment_size) ||
	    (uint64_t)st.st_size != RING_HEAD_SIZE + ret->size)
		return -EINVAL;
	return 0;
}

int ring_map(struct ring *r, int fd)
{
	struct ring_head h;
	int e;

	*r = (struct ring){.fd = -1, .fd_read = -1};
	e = head_read(fd, &h);
	if (e)
		return e;
	return map_all(r, h.size, fd, PROT_READ);
}

void ring_unmap(struct ring *r)
{
	if (r->head)
		munmap(r->head, RING_HEAD_SIZE + 2 * r->size);
	if (r->writer) {
		close(r->fd);
		if (r->fd_read >= 0)
			close(r->fd_read);
	}
	*r = (struct ring){.fd = -1, .fd_read = -1};
}

char *ring_at(const struct ring *r, uint64_t pos)
{
	return r->data + (pos & (r->size - 1));
}

void ring_claim(struct ring *r, uint64_t pos, uint64_t n)
{
	uint64_t end = pos + n,
		 oldest = atomic_load_explicit(&r->head->oldest, memory_order_relaxed);

	check(r->writer && n <= r->size);
	if (end <= r->size || end - r->size <= oldest)
		return;
	atomic_store_explicit(&r->head->oldest, end - r->size, memory_order_relaxed);
	/* Whoever sees one of the bytes that are written next must see this first. */
	atomic_thread_fence(memory_order_seq_cst);
}

void ring_publish(struct ring *r, uint64_t durable)
{
	check(r->writer);
	atomic_store_explicit(&r->head->durable, durable, memory_order_release);
}

uint64_t ring_durable(const struct ring *r)
{
	return atomic_load_explicit(&r->head->durable, memory_order_acquire);
}

bool ring_holds(const struct ring *r, uint64_t pos)
{
	atomic_thread_fence(memory_order_seq_cst); /* the copy is over before this is read */
	return pos >= atomic_load_explicit(&r->head->oldest, memory_order_relaxed) &&
	       pos >= r->head->first;
}
