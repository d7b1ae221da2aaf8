/* The loop on io_uring.  An op's user_data is its address; a cancel's is 0 and its own
 * completion is ignored, for the op's own one always comes.
 *
 * Receive buffers are a ring shared with the kernel, which takes them in order when bytes
 * arrive; a receive polls first, so that an idle connection asks for none.
 *
 * On unix sockets receives are single ones that are submitted again here: since Linux 6.17 a
 * multishot one takes the bytes and then sleeps over an end of file that came together with
 * them.  TCP tells the kernel that there is more to read, but of a reset it does not: a multishot
 * one that polls first takes the bytes and sleeps over a reset that was there before it.  So the
 * first receive of a TCP socket is a single one that polls, the next a multishot one that does
 * not. */
#include "core/loop.h"

#include "core/clock.h"
#include "core/log.h"
#include "core/pool.h"

#include <errno.h>
#include <liburing.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#define SQ_ENTRIES     1024                       /* starts in one pass; more cost an enter more */
#define CQ_ENTRIES     8192                       /* completions; more wait in the kernel */
#define RECV_BUFS_MAX  32768                      /* the kernel's limit for one buffer ring */
#define SUBMIT_TRIES   100                        /* EAGAIN: the kernel is short of memory */
#define BUF_GROUP      0

/* op->want of a receive: single ones for ever; a single one, then multishot; multishot */
enum { RECV_ONCE, RECV_FIRST, RECV_MULTISHOT };

struct uring {
	struct loop     loop;
	struct io_uring ring;
	unsigned        bufs_n;
	char           *bufs;
	struct io_uring_buf_ring *buf_ring;
};

static struct uring *uring_of(struct loop *l)
{
	return owner_of(l, struct uring, loop);
}

/* SQ full: what is there goes to the kernel first. */
static struct io_uring_sqe *get_sqe(struct uring *u)
{
	for (int i = 0; i < SUBMIT_TRIES; i++) {
		struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring);
		int                  n;

		if (sqe)
			return sqe;
		n = io_uring_submit(&u->ring);
		if (n < 0 && n != -EAGAIN && n != -EBUSY && n != -EINTR) {
			errno = -n;
			die_sys(111, "io_uring submit", "");
		}
	}
	die(111, "io_uring takes no more submissions");
}

static bool is_unix_socket(int fd)
{
	socklen_t n = sizeof(int);
	int       domain = 0;

	return getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &n) == 0 && domain == AF_UNIX;
}

static void prep_recv(struct io_uring_sqe *sqe, int fd, uint32_t want)
{
	if (want == RECV_MULTISHOT) {
		io_uring_prep_recv_multishot(sqe, fd, NULL, 0, 0);
	} else {
		io_uring_prep_recv(sqe, fd, NULL, 0, 0);
		sqe->ioprio |= IORING_RECVSEND_POLL_FIRST;
	}
	sqe->flags |= IOSQE_BUFFER_SELECT;
	sqe->buf_group = BUF_GROUP;
}

static void prep(struct io_uring_sqe *sqe, const struct op *op)
{
	switch ((enum op_kind)op->kind) {
	case OP_ACCEPT:
		io_uring_prep_multishot_accept(sqe, op->fd, NULL, NULL,
		                               SOCK_CLOEXEC | SOCK_NONBLOCK);
		return;
	case OP_CONNECT:
		io_uring_prep_connect(sqe, op->fd, op->u.to.addr, op->u.to.n);
		return;
	case OP_RECV:
		prep_recv(sqe, op->fd, op->want);
		return;
	case OP_SEND:
		io_uring_prep_send(sqe, op->fd, op->u.io.out, op->u.io.n, MSG_NOSIGNAL);
		return;
	case OP_SENDMSG:
		io_uring_prep_sendmsg(sqe, op->fd, op->u.msg, MSG_NOSIGNAL);
		return;
	case OP_RECVMSG:
		io_uring_prep_recvmsg(sqe, op->fd, op->u.msg, MSG_CMSG_CLOEXEC);
		return;
	case OP_POLL:
		io_uring_prep_poll_add(sqe, op->fd, op->want);
		return;
	case OP_PWRITE:
		io_uring_prep_write(sqe, op->fd, op->u.io.out, (unsigned)op->u.io.n,
		                    (uint64_t)op->u.io.off);
		sqe->rw_flags = op->want ? RWF_DSYNC : 0;
		return;
	case OP_PREAD:
		io_uring_prep_read(sqe, op->fd, op->u.rd.in, (unsigned)op->u.rd.n,
		                   (uint64_t)op->u.rd.off);
		return;
	}
	unreachable();
}

static void submit(struct uring *u, struct op *op)
{
	struct io_uring_sqe *sqe = get_sqe(u);

	prep(sqe, op);
	io_uring_sqe_set_data(sqe, op);
}

static void uring_start(struct loop *l, struct op *op)
{
	struct uring *u = uring_of(l);

	if (op->kind == OP_RECV) {
		check(u->bufs_n > 0);
		op->want = is_unix_socket(op->fd) ? RECV_ONCE : RECV_FIRST;
	}
	submit(u, op);
}

static void uring_cancel(struct loop *l, struct op *op)
{
	struct io_uring_sqe *sqe = get_sqe(uring_of(l));

	io_uring_prep_cancel(sqe, op, 0);
	sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
	io_uring_sqe_set_data(sqe, NULL);
}

static void give_buf(struct uring *u, uint32_t id)
{
	/* The ring is an array behind a head of no size: indexed by hand, for the library's
	 * own declaration of it confuses bounds checkers. */
	struct io_uring_buf *slots = (struct io_uring_buf *)u->buf_ring;
	uint16_t             tail = u->buf_ring->tail;
	struct io_uring_buf *slot = &slots[tail & (u->bufs_n - 1)];

	slot->addr = (uintptr_t)(u->bufs + (size_t)id * LOOP_BUF_SIZE);
	slot->len = LOOP_BUF_SIZE;
	slot->bid = (uint16_t)id;
	io_uring_smp_store_release(&u->buf_ring->tail, (uint16_t)(tail + 1));
}

static void uring_release(struct loop *l, uint32_t id)
{
	struct uring *u = uring_of(l);

	check(id < u->bufs_n);
	give_buf(u, id);
}

static struct span uring_buf(struct loop *l, uint32_t id, uint32_t n)
{
	struct uring *u = uring_of(l);

	check(id < u->bufs_n && n <= LOOP_BUF_SIZE);
	return span_of(u->bufs + (size_t)id * LOOP_BUF_SIZE, n);
}

/* A single receive goes on as a multishot one would. */
static bool goes_on(const struct op *op, int res)
{
	return op->kind == OP_RECV && op->want != RECV_MULTISHOT && res > 0 && !op->cancelling;
}

static void complete(struct uring *u, struct op *op, int res, unsigned cqe_flags)
{
	bool more = cqe_flags & IORING_CQE_F_MORE;

	if (cqe_flags & IORING_CQE_F_BUFFER) {
		op->buf_id = cqe_flags >> IORING_CQE_BUFFER_SHIFT;
		op->buf_n = res > 0 ? (uint32_t)res : 0;
		if (res <= 0)                     /* nothing in it: nobody owes it back */
			give_buf(u, op->buf_id);
	}
	if (!more && goes_on(op, res)) {
		if (op->want == RECV_FIRST)
			op->want = RECV_MULTISHOT;
		submit(u, op);                    /* first: the handler may cancel it */
		more = true;
	}
	op_complete(op, res, more ? OP_MORE : 0);
}

static void submit_and_wait(struct uring *u, int64_t ms)
{
	struct __kernel_timespec ts = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
	struct io_uring_cqe     *cqe;
	int                      n;

	if (ms == 0)
		n = io_uring_submit_and_get_events(&u->ring);
	else
		n = io_uring_submit_and_wait_timeout(&u->ring, &cqe, 1, ms < 0 ? NULL : &ts,
		                                     NULL);
	if (n >= 0 || n == -ETIME || n == -EINTR || n == -EAGAIN || n == -EBUSY)
		return;
	errno = -n;
	die_sys(111, "io_uring wait", "");
}

/* Only what is there now: what its handlers start belongs to the next pass. */
static void uring_wait(struct loop *l, int64_t ms)
{
	struct uring        *u = uring_of(l);
	struct io_uring_cqe *cqe;

	submit_and_wait(u, ms);
	clock_refresh();
	for (unsigned n = io_uring_cq_ready(&u->ring); n > 0; n--) {
		struct op *op;
		unsigned   flags;
		int        res;

		if (io_uring_peek_cqe(&u->ring, &cqe) < 0)
			return;
		op = io_uring_cqe_get_data(cqe);
		res = cqe->res;
		flags = cqe->flags;
		io_uring_cqe_seen(&u->ring, cqe);
		if (op)
			complete(u, op, res, flags);
	}
}

static size_t buf_ring_bytes(const struct uring *u)
{
	return u->bufs_n * sizeof(struct io_uring_buf);
}

static void uring_free(struct loop *l)
{
	struct uring *u = uring_of(l);

	io_uring_queue_exit(&u->ring);
	if (u->buf_ring)
		munmap(u->buf_ring, buf_ring_bytes(u));
	if (u->bufs)
		munmap(u->bufs, (size_t)u->bufs_n * LOOP_BUF_SIZE);
	mem_free(u);
}

static const struct loop_calls uring_calls = {
	.name = "io_uring",
	.start = uring_start,
	.cancel = uring_cancel,
	.wait = uring_wait,
	.release = uring_release,
	.buf = uring_buf,
	.free = uring_free,
};

/* The best flags the kernel knows: 6.1, 5.19, older. */
static int ring_new(struct io_uring *ring)
{
	static const unsigned flags[] = {
		IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
			IORING_SETUP_SUBMIT_ALL,
		IORING_SETUP_COOP_TASKRUN | IORING_SETUP_SUBMIT_ALL,
		0,
	};
	int error = -EINVAL;

	for (size_t i = 0; i < ARRAY_N(flags) && error == -EINVAL; i++) {
		struct io_uring_params p = {.flags = flags[i] | IORING_SETUP_CQSIZE,
		                            .cq_entries = CQ_ENTRIES};

		error = io_uring_queue_init_params(SQ_ENTRIES, ring, &p);
	}
	if (error < 0)
		return error;
	/* lspawn forks workers of other users: they must not write our orders to the kernel. */
	error = io_uring_ring_dontfork(ring);
	if (error < 0)
		io_uring_queue_exit(ring);
	return error;
}

static bool has_ops(struct io_uring *ring)
{
	static const int needed[] = {
		IORING_OP_ACCEPT,  IORING_OP_CONNECT,  IORING_OP_RECV,
		IORING_OP_SEND,    IORING_OP_SENDMSG,  IORING_OP_RECVMSG,
		IORING_OP_WRITE,   IORING_OP_READ,     IORING_OP_POLL_ADD,
		IORING_OP_ASYNC_CANCEL,
	};
	const unsigned features = IORING_FEAT_EXT_ARG | IORING_FEAT_NODROP | IORING_FEAT_CQE_SKIP;
	struct io_uring_probe *p = io_uring_get_probe_ring(ring);
	bool                   all = p != NULL;

	for (size_t i = 0; all && i < ARRAY_N(needed); i++)
		all = io_uring_opcode_supported(p, needed[i]);
	io_uring_free_probe(p);
	return all && (ring->features & features) == features;
}

static void *map_pages(size_t n)
{
	void *p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		die_sys(111, "receive buffers", "");
	return p;
}

static bool add_bufs(struct uring *u, unsigned n)
{
	struct io_uring_buf_reg reg = {.ring_entries = n, .bgid = BUF_GROUP};

	u->bufs_n = n;
	u->buf_ring = map_pages(buf_ring_bytes(u));
	u->bufs = map_pages((size_t)n * LOOP_BUF_SIZE);
	reg.ring_addr = (uintptr_t)u->buf_ring;
	if (io_uring_register_buf_ring(&u->ring, &reg, 0) < 0)
		return false;
	for (unsigned i = 0; i < n; i++)
		give_buf(u, i);
	return true;
}

/* Multishot receive is a flag, not an op: the only way to know is to do it. */
static bool recv_multishot_works(struct uring *u)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring);
	struct io_uring_cqe *cqe;
	bool                 works = false;
	int                  pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		die_sys(111, "socketpair", "");
	prep_recv(sqe, pair[0], RECV_MULTISHOT);
	if (write(pair[1], "?", 1) == 1 && io_uring_submit_and_wait(&u->ring, 1) == 1 &&
	    io_uring_peek_cqe(&u->ring, &cqe) == 0) {
		works = cqe->res == 1 && (cqe->flags & IORING_CQE_F_MORE) &&
		        (cqe->flags & IORING_CQE_F_BUFFER);
		if (cqe->flags & IORING_CQE_F_BUFFER)
			give_buf(u, cqe->flags >> IORING_CQE_BUFFER_SHIFT);
		io_uring_cqe_seen(&u->ring, cqe);
	}
	close(pair[1]);                           /* its last completion, an end of file */
	if (works && io_uring_wait_cqe(&u->ring, &cqe) == 0)
		io_uring_cqe_seen(&u->ring, cqe);
	close(pair[0]);
	return works;
}

/* What an administrator can do about it, where we know. */
static const char *reason(int error)
{
	static char text[128];
	char        disabled = '0';
	FILE       *f;

	f = fopen("/proc/sys/kernel/io_uring_disabled", "re");
	if (f) {
		if (fread(&disabled, 1, 1, f) != 1)
			disabled = '0';
		fclose(f);
	}
	if (error == -EPERM && disabled != '0')
		snprintf(text, sizeof(text), "kernel.io_uring_disabled is %c", disabled);
	else if (error == -EPERM)
		snprintf(text, sizeof(text), "not permitted (a seccomp profile?)");
	else if (error == -ENOSYS)
		snprintf(text, sizeof(text), "this kernel or a seccomp profile has none");
	else
		snprintf(text, sizeof(text), "%s", strerror(-error));
	return text;
}

struct loop *loop_uring_new(unsigned recv_bufs, const char **ret_why_not)
{
	struct uring *u = mem_new(sizeof(*u));
	int           error = ring_new(&u->ring);

	check((recv_bufs & (recv_bufs - 1)) == 0 && recv_bufs <= RECV_BUFS_MAX);
	if (error < 0) {
		*ret_why_not = reason(error);
		mem_free(u);
		return NULL;
	}
	loop_init(&u->loop, &uring_calls, NULL);
	*ret_why_not = NULL;
	if (!has_ops(&u->ring))
		*ret_why_not = "this kernel's io_uring is too old";
	else if (recv_bufs > 0 && (!add_bufs(u, recv_bufs) || !recv_multishot_works(u)))
		*ret_why_not = "this kernel's io_uring has no multishot receive";
	if (*ret_why_not) {
		uring_free(&u->loop);
		return NULL;
	}
	return &u->loop;
}
