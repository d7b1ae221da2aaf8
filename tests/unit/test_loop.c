/* Both loops must keep the same contract: every case runs on each. */
#include "core/loop.h"

#include "core/clock.h"
#include "core/log.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define BUFS       4
#define PASSES_MAX 10000

static struct loop *loop;

static int setup_uring(void **state)
{
	loop = loop_new(LOOP_URING, BUFS);
	return 0;
}

static int setup_epoll(void **state)
{
	loop = loop_new(LOOP_EPOLL, BUFS);
	return 0;
}

static int teardown(void **state)
{
	loop_free(loop);
	return 0;
}

/* An op that remembers what it was told. */
struct probe {
	struct op op;
	int       done_n, final_n, res[64];
	unsigned  flags;
	char      got[65536];
	size_t    got_n;
	bool      keep_bufs;
	uint32_t  bufs[64];
	int       bufs_n;
};

static void on_probe(struct op *op, int res, unsigned flags)
{
	struct probe *p = owner_of(op, struct probe, op);

	assert_true(op->armed == !!(flags & OP_MORE));
	if (p->done_n < 64)
		p->res[p->done_n] = res;
	p->done_n++;
	p->flags = flags;
	if (!(flags & OP_MORE))
		p->final_n++;
	if (op->kind != OP_RECV || res <= 0)
		return;
	struct span s = loop_bytes(loop, op);

	assert_int_equal(s.n, res);
	memcpy(p->got + p->got_n, s.p, s.n);
	p->got_n += s.n;
	if (p->keep_bufs)
		p->bufs[p->bufs_n++] = op->buf_id;
	else
		loop_buf_release(loop, op->buf_id);
}

static void probe_init(struct probe *p)
{
	memset(p, 0, sizeof(*p));
	op_init(&p->op, on_probe);
}

static void nothing(struct timer *t)
{
}

/* Passes until *n reaches want, or the time is over. */
static void run_until(const int *n, int want)
{
	struct timer guard;

	timer_init(&guard, nothing);
	timer_set(loop, &guard, 5000);
	for (int i = 0; i < PASSES_MAX && *n < want && timer_is_set(&guard); i++)
		loop_pass(loop);
	timer_stop(loop, &guard);
	assert_int_equal(*n, want);
}

static void run_ms(uint64_t ms)
{
	struct timer t;

	timer_init(&t, nothing);
	timer_set(loop, &t, ms);
	while (timer_is_set(&t))
		loop_pass(loop);
}

static void make_pair(int pair[2])
{
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
}

static int make_listener(struct sockaddr_in *ret)
{
	socklen_t n = sizeof(*ret);
	int       fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	*ret = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	assert_int_equal(bind(fd, (struct sockaddr *)ret, sizeof(*ret)), 0);
	assert_int_equal(listen(fd, 64), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)ret, &n), 0);
	return fd;
}

static void starting_never_calls_back(void **state)
{
	struct probe recv, send;
	int          pair[2];

	make_pair(pair);
	probe_init(&recv);
	probe_init(&send);
	loop_recv(loop, &recv.op, pair[0]);
	loop_send(loop, &send.op, pair[1], "hello", 5);
	assert_int_equal(recv.done_n + send.done_n, 0);
	run_until(&send.done_n, 1);
	run_until(&recv.done_n, 1);
	assert_int_equal(send.res[0], 5);
	assert_memory_equal(recv.got, "hello", 5);
	assert_true(recv.op.armed);
	close(pair[1]);
	run_until(&recv.final_n, 1);
	assert_int_equal(recv.res[1], 0);
	close(pair[0]);
}

static void receive_gets_everything_then_the_end(void **state)
{
	static char  text[40000];
	struct probe recv;
	int          pair[2];

	for (size_t i = 0; i < sizeof(text); i++)
		text[i] = (char)(i * 7 + i / 251);
	make_pair(pair);
	probe_init(&recv);
	loop_recv(loop, &recv.op, pair[0]);
	run_ms(1);
	assert_int_equal(write(pair[1], text, sizeof(text)), sizeof(text));
	close(pair[1]);
	while (recv.final_n == 0) {
		loop_pass(loop);
		if (recv.final_n && recv.res[recv.done_n - 1] > 0) {    /* ended without an end: allowed */
			recv.final_n = 0;
			loop_recv(loop, &recv.op, pair[0]);
		}
	}
	assert_int_equal(recv.res[recv.done_n - 1], 0);
	assert_int_equal(recv.got_n, sizeof(text));
	assert_memory_equal(recv.got, text, sizeof(text));
	close(pair[0]);
}

static void accept_gives_every_connection(void **state)
{
	struct sockaddr_in addr;
	struct probe       accept, dial[3];
	int                listener = make_listener(&addr), fds[3];

	probe_init(&accept);
	loop_accept(loop, &accept.op, listener);
	for (int i = 0; i < 3; i++) {
		probe_init(&dial[i]);
		fds[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		loop_connect(loop, &dial[i].op, fds[i], (struct sockaddr *)&addr, sizeof(addr));
	}
	run_until(&accept.done_n, 3);
	for (int i = 0; i < 3; i++) {
		run_until(&dial[i].done_n, 1);
		assert_int_equal(dial[i].res[0], 0);
		assert_true(accept.res[i] >= 0);
		assert_true(fcntl(accept.res[i], F_GETFL) & O_NONBLOCK);
		assert_true(fcntl(accept.res[i], F_GETFD) & FD_CLOEXEC);
		close(accept.res[i]);
		close(fds[i]);
	}
	assert_true(accept.op.armed);
	loop_cancel(loop, &accept.op);
	loop_cancel(loop, &accept.op);
	run_until(&accept.final_n, 1);
	assert_int_equal(accept.res[3], -ECANCELED);
	close(listener);
}

static void accept_says_when_descriptors_are_out(void **state)
{
	struct sockaddr_in addr;
	struct rlimit      old, none;
	struct probe       accept, again;
	int                listener = make_listener(&addr);
	int                fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	getrlimit(RLIMIT_NOFILE, &old);
	none = old;
	none.rlim_cur = (rlim_t)fd + 1;
	assert_int_equal(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	probe_init(&accept);
	loop_accept(loop, &accept.op, listener);
	setrlimit(RLIMIT_NOFILE, &none);
	run_until(&accept.final_n, 1);
	setrlimit(RLIMIT_NOFILE, &old);
	assert_int_equal(accept.done_n, 1);
	assert_int_equal(accept.res[0], -EMFILE);
	probe_init(&again);
	loop_accept(loop, &again.op, listener);
	run_until(&again.done_n, 1);
	assert_true(again.res[0] >= 0);
	close(again.res[0]);
	loop_cancel(loop, &again.op);
	run_until(&again.final_n, 1);
	close(fd);
	close(listener);
}

static void connect_is_refused(void **state)
{
	struct sockaddr_in addr;
	struct probe       dial;
	int                fd = make_listener(&addr);

	close(fd);
	fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	probe_init(&dial);
	loop_connect(loop, &dial.op, fd, (struct sockaddr *)&addr, sizeof(addr));
	run_until(&dial.final_n, 1);
	assert_int_equal(dial.res[0], -ECONNREFUSED);
	close(fd);
}

/* A listener whose backlog is full leaves further connects waiting. */
static void connect_is_cancelled(void **state)
{
	struct sockaddr_in addr;
	struct probe       dial;
	int                listener = make_listener(&addr), fds[3];

	listen(listener, 0);
	for (int i = 0; i < 2; i++) {
		fds[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		if (connect(fds[i], (struct sockaddr *)&addr, sizeof(addr)) < 0)
			assert_int_equal(errno, EINPROGRESS);
	}
	probe_init(&dial);
	fds[2] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	loop_connect(loop, &dial.op, fds[2], (struct sockaddr *)&addr, sizeof(addr));
	run_ms(20);
	assert_int_equal(dial.done_n, 0);
	loop_cancel(loop, &dial.op);
	run_until(&dial.final_n, 1);
	assert_int_equal(dial.done_n, 1);
	assert_int_equal(dial.res[0], -ECANCELED);
	for (int i = 0; i < 3; i++)
		close(fds[i]);
	close(listener);
}

/* Cancelled before the kernel has seen it, while it waits, and when it is already done. */
static void cancel_at_every_stage_completes_once(void **state)
{
	for (int stage = 0; stage < 3; stage++) {
		struct probe recv, poll_op;
		int          pair[2];

		make_pair(pair);
		probe_init(&recv);
		probe_init(&poll_op);
		loop_recv(loop, &recv.op, pair[0]);
		loop_poll(loop, &poll_op.op, pair[1], POLLIN);
		if (stage >= 1)
			run_ms(2);
		if (stage == 2) {
			assert_int_equal(write(pair[1], "x", 1), 1);
			assert_int_equal(write(pair[0], "y", 1), 1);
		}
		loop_cancel(loop, &recv.op);
		loop_cancel(loop, &poll_op.op);
		run_until(&recv.final_n, 1);
		run_until(&poll_op.final_n, 1);
		run_ms(2);
		assert_int_equal(recv.final_n, 1);
		assert_int_equal(poll_op.final_n, 1);
		assert_false(recv.op.armed || recv.op.cancelling);
		assert_true(poll_op.res[0] == -ECANCELED || (stage == 2 && poll_op.res[0] & POLLIN));
		close(pair[0]);
		close(pair[1]);
	}
}

static void send_waits_for_room_and_can_be_cancelled(void **state)
{
	static char  text[300000];
	struct probe send;
	ssize_t      n, all = 0;
	int          pair[2];

	make_pair(pair);
	while ((n = write(pair[1], text, sizeof(text))) > 0)
		all += n;
	probe_init(&send);
	loop_send(loop, &send.op, pair[1], "more", 4);
	run_ms(10);
	assert_int_equal(send.done_n, 0);
	while (all > 0) {
		n = read(pair[0], text, sizeof(text));
		assert_true(n > 0);
		all -= n;
	}
	run_until(&send.final_n, 1);
	assert_int_equal(send.res[0], 4);
	while (write(pair[1], text, sizeof(text)) > 0)
		;
	loop_send(loop, &send.op, pair[1], "more", 4);
	run_ms(5);
	loop_cancel(loop, &send.op);
	run_until(&send.final_n, 2);
	assert_int_equal(send.res[1], -ECANCELED);
	close(pair[0]);
	loop_send(loop, &send.op, pair[1], "more", 4);
	run_until(&send.final_n, 3);
	assert_int_equal(send.res[2], -EPIPE);
	close(pair[1]);
}

static void no_buffers_left_is_said(void **state)
{
	struct probe recv, other;
	int          pair[2], second[2];

	make_pair(pair);
	make_pair(second);
	probe_init(&recv);
	recv.keep_bufs = true;
	loop_recv(loop, &recv.op, pair[0]);
	for (int i = 0; i < BUFS; i++) {
		assert_int_equal(write(pair[1], "1234", 4), 4);
		run_until(&recv.bufs_n, i + 1);
	}
	assert_true(recv.op.armed);
	assert_int_equal(write(pair[1], "5678", 4), 4);
	run_until(&recv.final_n, 1);
	assert_int_equal(recv.res[recv.done_n - 1], -ENOBUFS);

	probe_init(&other);
	loop_recv(loop, &other.op, second[0]);    /* idle: needs none, so it is not refused */
	run_ms(5);
	assert_int_equal(other.done_n, 0);
	for (int i = 0; i < BUFS; i++)
		loop_buf_release(loop, recv.bufs[i]);
	recv.keep_bufs = false;
	recv.got_n = 0;
	loop_recv(loop, &recv.op, pair[0]);
	while (recv.got_n < 4)
		loop_pass(loop);
	assert_memory_equal(recv.got, "5678", 4);
	assert_int_equal(write(second[1], "z", 1), 1);
	run_until(&other.done_n, 1);
	loop_cancel(loop, &other.op);
	loop_cancel(loop, &recv.op);
	run_until(&other.final_n, 1);
	run_until(&recv.final_n, 2);
	for (int i = 0; i < 2; i++) {
		close(pair[i]);
		close(second[i]);
	}
}

static int  starved_n;
static void on_starved(struct deferred *d)
{
	starved_n++;
}

static void starved_are_woken_by_a_release_and_by_time(void **state)
{
	struct deferred d;
	struct probe    recv;
	int             pair[2];

	starved_n = 0;
	deferred_init(&d, on_starved);
	make_pair(pair);
	probe_init(&recv);
	recv.keep_bufs = true;
	loop_recv(loop, &recv.op, pair[0]);
	assert_int_equal(write(pair[1], "a", 1), 1);
	run_until(&recv.bufs_n, 1);
	loop_await_buf(loop, &d);
	loop_buf_release(loop, recv.bufs[0]);
	loop_pass(loop);
	assert_int_equal(starved_n, 1);
	loop_await_buf(loop, &d);
	run_until(&starved_n, 2);
	loop_await_buf(loop, &d);
	deferred_cancel(&d);
	run_ms(40);
	assert_int_equal(starved_n, 2);
	loop_cancel(loop, &recv.op);
	run_until(&recv.final_n, 1);
	close(pair[0]);
	close(pair[1]);
}

static void messages_carry_descriptors(void **state)
{
	struct probe  send, recv;
	char          in[16], ctl[CMSG_SPACE(sizeof(int))], in_ctl[CMSG_SPACE(sizeof(int))];
	struct iovec  v = {(void *)"fd", 2}, in_v = {in, sizeof(in)};
	struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = ctl, .msg_controllen = sizeof(ctl)};
	struct msghdr in_m = {.msg_iov = &in_v, .msg_iovlen = 1, .msg_control = in_ctl, .msg_controllen = sizeof(in_ctl)};
	int           pair[2], tube[2], got;

	make_pair(pair);
	assert_int_equal(pipe(tube), 0);
	memset(ctl, 0, sizeof(ctl));
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);

	*c = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int))};
	memcpy(CMSG_DATA(c), &tube[1], sizeof(int));
	probe_init(&send);
	probe_init(&recv);
	loop_recvmsg(loop, &recv.op, pair[0], &in_m);
	loop_sendmsg(loop, &send.op, pair[1], &m);
	run_until(&recv.final_n, 1);
	run_until(&send.final_n, 1);
	assert_int_equal(recv.res[0], 2);
	c = CMSG_FIRSTHDR(&in_m);
	assert_non_null(c);
	memcpy(&got, CMSG_DATA(c), sizeof(int));
	assert_true(fcntl(got, F_GETFD) & FD_CLOEXEC);
	close(tube[1]);
	assert_int_equal(write(got, "!", 1), 1);
	assert_int_equal(read(tube[0], in, 1), 1);
	close(got);
	close(tube[0]);
	close(pair[0]);
	close(pair[1]);
}

static void files_are_written_and_read(void **state)
{
	char         name[] = "/tmp/quire-loop-XXXXXX";
	char         back[16] = {0};
	struct probe ops[3];
	int          fd = mkstemp(name);

	unlink(name);
	for (int i = 0; i < 3; i++)
		probe_init(&ops[i]);
	loop_pwrite(loop, &ops[0].op, fd, "world", 5, 6, true);
	loop_pwrite(loop, &ops[1].op, fd, "hello ", 6, 0, false);
	run_until(&ops[0].final_n, 1);
	run_until(&ops[1].final_n, 1);
	assert_int_equal(ops[0].res[0], 5);
	assert_int_equal(ops[1].res[0], 6);
	loop_pread(loop, &ops[2].op, fd, back, sizeof(back), 0);
	run_until(&ops[2].final_n, 1);
	assert_int_equal(ops[2].res[0], 11);
	assert_string_equal(back, "hello world");
	close(fd);
	loop_pread(loop, &ops[2].op, fd, back, sizeof(back), 0);
	loop_cancel(loop, &ops[2].op);
	run_until(&ops[2].final_n, 2);
	assert_true(ops[2].res[1] == -EBADF || ops[2].res[1] == -ECANCELED);
}

static int  writes_n;
static void on_write(struct op *op, int res, unsigned flags)
{
	assert_int_equal(res, 1);
	writes_n++;
}

/* More starts in one pass than the submission queue holds. */
static void many_ops_in_one_pass(void **state)
{
	enum { N = 3000 };
	static struct op ops[N];
	char             name[] = "/tmp/quire-loop-XXXXXX";
	int              fd = mkstemp(name);

	writes_n = 0;
	unlink(name);
	for (int i = 0; i < N; i++) {
		op_init(&ops[i], on_write);
		loop_pwrite(loop, &ops[i], fd, "x", 1, i, false);
	}
	run_until(&writes_n, N);
	assert_int_equal(lseek(fd, 0, SEEK_END), N);
	close(fd);
}

static char order[64];
static void happened(char what)
{
	size_t n = strlen(order);

	assert_true(n + 1 < sizeof(order));
	order[n] = what;
	order[n + 1] = '\0';
}

static void note_a(struct timer *t) { happened('a'); }
static void note_b(struct timer *t) { happened('b'); }
static void note_c(struct timer *t) { happened('c'); loop_stop(loop); }
static void again_at_once(struct timer *t) { happened('.'); timer_set(loop, t, 0); }

static void timers_fire_in_order_and_not_early(void **state)
{
	struct timer a, b, c, never;
	uint64_t     from;

	order[0] = '\0';
	timer_init(&a, note_a);
	timer_init(&b, note_b);
	timer_init(&c, note_c);
	timer_init(&never, note_a);
	clock_refresh();
	from = clock_mono_us();
	timer_set(loop, &c, 30);
	timer_set(loop, &a, 50);
	timer_set(loop, &b, 20);
	timer_set(loop, &never, 10);
	timer_set(loop, &a, 10);                  /* moved */
	timer_stop(loop, &never);
	timer_stop(loop, &never);
	loop_run(loop);
	assert_string_equal(order, "abc");
	assert_true(clock_mono_us() - from >= 29000);
	assert_false(timer_is_set(&a));
}

static void a_timer_for_now_does_not_hold_up_the_pass(void **state)
{
	struct timer t;

	order[0] = '\0';
	timer_init(&t, again_at_once);
	timer_set(loop, &t, 0);
	loop_pass(loop);
	loop_pass(loop);
	assert_string_equal(order, "..");
	timer_stop(loop, &t);
}

static struct deferred work, commit, flush_d, late;
static void run_work(struct deferred *d)
{
	happened('w');
	loop_defer(loop, &commit, PHASE_COMMIT);
	loop_defer(loop, &commit, PHASE_FLUSH);   /* once, where it was asked for first */
}
static void run_commit(struct deferred *d)
{
	happened('c');
	loop_defer(loop, &late, PHASE_WORK);      /* that phase is over */
}
static void run_flush(struct deferred *d) { happened('f'); }
static void run_late(struct deferred *d) { happened('l'); }

static void deferred_work_runs_by_phase(void **state)
{
	order[0] = '\0';
	deferred_init(&work, run_work);
	deferred_init(&commit, run_commit);
	deferred_init(&flush_d, run_flush);
	deferred_init(&late, run_late);
	loop_defer(loop, &flush_d, PHASE_FLUSH);
	loop_defer(loop, &work, PHASE_WORK);
	loop_pass(loop);                          /* does not wait, or the test would hang */
	assert_string_equal(order, "wcf");
	loop_pass(loop);
	assert_string_equal(order, "wcfl");
	loop_defer(loop, &flush_d, PHASE_FLUSH);
	deferred_cancel(&flush_d);
	run_ms(1);
	assert_string_equal(order, "wcfl");
}

static int signal_got;
static void on_signal(void *ctx, int signo)
{
	assert_ptr_equal(ctx, &signal_got);
	signal_got = signo;
	loop_stop(loop);
}

static void signals_are_events(void **state)
{
	static const int wanted[] = {SIGUSR1, SIGUSR2, 0};

	loop_signals(loop, wanted, on_signal, &signal_got);
	kill(getpid(), SIGUSR1);
	loop_run(loop);
	assert_int_equal(signal_got, SIGUSR1);
	kill(getpid(), SIGUSR2);
	loop_run(loop);
	assert_int_equal(signal_got, SIGUSR2);
}

/* The sync thread is made with all signals blocked: ours still come by the loop. */
static void signals_are_not_lost_to_the_sync_thread(void **state)
{
	static const int wanted[] = {SIGUSR1, 0};
	struct probe     read_op;
	sigset_t         none;
	char             c;
	int              fd = open("/proc/self/stat", O_RDONLY | O_CLOEXEC);

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	probe_init(&read_op);
	loop_pread(loop, &read_op.op, fd, &c, 1, 0);
	run_until(&read_op.final_n, 1);
	loop_signals(loop, wanted, on_signal, &signal_got);
	signal_got = 0;
	kill(getpid(), SIGUSR1);
	loop_run(loop);
	assert_int_equal(signal_got, SIGUSR1);
	close(fd);
}

static void an_idle_loop_sleeps(void **state)
{
	struct timespec before, after;
	struct probe    recv;
	int             pair[2];

	make_pair(pair);
	probe_init(&recv);
	loop_recv(loop, &recv.op, pair[0]);
	run_ms(1);
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &before);
	run_ms(100);
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &after);
	assert_true((after.tv_sec - before.tv_sec) * 1000000000L + after.tv_nsec - before.tv_nsec < 20000000);
	close(pair[1]);
	run_until(&recv.final_n, 1);
	close(pair[0]);
}

static void the_environment_chooses(void **state)
{
	struct loop *l;

	setenv("QUIRE_LOOP", "epoll", 1);
	l = loop_new(LOOP_AUTO, 0);
	assert_string_equal(loop_name(l), "epoll");
	assert_non_null(loop_why_not_uring(l));
	loop_free(l);
	setenv("QUIRE_LOOP", "uring", 1);
	l = loop_new(LOOP_AUTO, 0);
	assert_string_equal(loop_name(l), "io_uring");
	assert_null(loop_why_not_uring(l));
	loop_free(l);
	unsetenv("QUIRE_LOOP");
}

/* As container run times do it: io_uring_setup fails, all else works. */
static bool refuse_io_uring(int error)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)error),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {ARRAY_N(code), code};

	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
	       prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

static int loop_where_refused(int error, const char *expect)
{
	struct loop *l;

	if (!refuse_io_uring(error))
		return 1;
	l = loop_new(LOOP_AUTO, 4);
	if (strcmp(loop_name(l), "epoll") != 0 || !strstr(loop_why_not_uring(l), expect))
		return 2;
	loop_free(l);
	close(2);
	loop_new(LOOP_URING, 4);                  /* dies with 111 */
	return 3;
}

static void falls_back_where_io_uring_is_refused(void **state)
{
	static const struct {
		int         error;
		const char *expect;
	} cases[] = {{EPERM, "not permitted"}, {ENOSYS, "has none"}, {ENOMEM, "memory"}};

	unsetenv("QUIRE_LOOP");
	for (size_t i = 0; i < ARRAY_N(cases); i++) {
		int   status;
		pid_t pid;

		fflush(NULL);
		pid = fork();
		if (pid == 0)
			_exit(loop_where_refused(cases[i].error, cases[i].expect));
		waitpid(pid, &status, 0);
		assert_true(WIFEXITED(status));
		assert_int_equal(WEXITSTATUS(status), 111);
	}
}

#define BOTH(f)                                                                             \
	{#f " (io_uring)", f, setup_uring, teardown, NULL},                                 \
	{                                                                                   \
		#f " (epoll)", f, setup_epoll, teardown, NULL                               \
	}

int main(void)
{
	const struct CMUnitTest tests[] = {
		BOTH(starting_never_calls_back),
		BOTH(receive_gets_everything_then_the_end),
		BOTH(accept_gives_every_connection),
		BOTH(accept_says_when_descriptors_are_out),
		BOTH(connect_is_refused),
		BOTH(connect_is_cancelled),
		BOTH(cancel_at_every_stage_completes_once),
		BOTH(send_waits_for_room_and_can_be_cancelled),
		BOTH(no_buffers_left_is_said),
		BOTH(starved_are_woken_by_a_release_and_by_time),
		BOTH(messages_carry_descriptors),
		BOTH(files_are_written_and_read),
		BOTH(many_ops_in_one_pass),
		BOTH(timers_fire_in_order_and_not_early),
		BOTH(a_timer_for_now_does_not_hold_up_the_pass),
		BOTH(deferred_work_runs_by_phase),
		BOTH(signals_are_events),
		BOTH(signals_are_not_lost_to_the_sync_thread),
		BOTH(an_idle_loop_sleeps),
		cmocka_unit_test(the_environment_chooses),
		cmocka_unit_test(falls_back_where_io_uring_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
