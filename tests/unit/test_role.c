/* role: a child is started as quire-start does it, told everything, and must hear it; and it
 * must end with what started it. */
#include "core/log.h"
#include "core/loop.h"
#include "mail/role.h"
#include "tests/unit/mail_test.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static char *child_argv[] = {"quire-test", "--child", NULL};

/* In the child: says what is wrong and ends; the parent sees the status. */
#define need(cond)                                                                             \
	((cond) ? (void)0                                                                      \
		: (fprintf(stderr, "child: line %d: %s\n", __LINE__, #cond), _exit(1)))

static pid_t start_child(void (*body)(void), int *ret_sock)
{
	int pair[2];
	pid_t pid;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		if (pair[1] != ROLE_START_FD &&
		    (dup2(pair[1], ROLE_START_FD) < 0 || close(pair[1]) < 0))
			_exit(2);
		if (pair[0] != ROLE_START_FD)
			close(pair[0]);
		body();
		_exit(0);
	}
	close(pair[1]);
	*ret_sock = pair[0];
	return pid;
}

static int status_of(pid_t pid)
{
	int status;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

static void send_frame(int sock, uint16_t type, const void *body, size_t body_n,
		       struct span tail, int fd)
{
	assert_true(wire_write_now(sock, type, body, body_n, tail, fd));
}

static void send_control(int sock, const char *me, size_t filler)
{
	struct control *c = control_new();
	struct buf packed, list;
	struct span rest, piece;

	buf_init(&packed, CONTROL_PACKED_MAX);
	buf_init(&list, CONTROL_FILE_MAX);
	while (list.n < filler)
		assert_true(buf_add(&list, SPAN("some.domain.example\n")));
	assert_true(control_set(c, SPAN("rcpthosts"), buf_span(&list)));
	assert_true(control_set(c, SPAN("me"), span_str(me)));
	assert_true(control_pack(c, &packed));
	rest = buf_span(&packed);
	while (control_piece(&rest, &piece))
		send_frame(sock, MSG_CONTROL, NULL, 0, piece, -1);
	control_free(c);
	buf_free(&packed);
	buf_free(&list);
}

static void send_home(int sock)
{
	struct msg_home m = {.privileged = 1, .shard = 2, .index = 3, .count = 4};

	send_frame(sock, MSG_HOME, &m, sizeof m, SPAN("/var/qmail"), -1);
}

static int an_fd(void)
{
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	return fd;
}

/* Sent as start does it; whether wire_write_now() closes the descriptor is its business. */
static void send_fds(int sock)
{
	struct msg_listener l = {.kind = LISTEN_SMTP};
	struct msg_peer p = {.role = ROLE_JOURNALD, .index = 0};
	struct msg_file f = {.kind = FILE_USERS_CDB};

	send_frame(sock, MSG_LISTENER, &l, sizeof l, SPAN_NONE, an_fd());
	send_frame(sock, MSG_PEER, &p, sizeof p, SPAN_NONE, an_fd());
	send_frame(sock, MSG_PEER, &p, sizeof p, SPAN_NONE, an_fd());
	p.index = 1;
	send_frame(sock, MSG_PEER, &p, sizeof p, SPAN_NONE, an_fd());
	send_frame(sock, MSG_FILE, &f, sizeof f, SPAN_NONE, an_fd());
}

static bool is_open(int fd)
{
	return fcntl(fd, F_GETFD) >= 0;
}

static void hears_everything_before_go(void)
{
	struct role r;
	bool there;

	role_begin(&r, "test", "is a test", 2, child_argv);
	need(strcmp(r.home, "/var/qmail") == 0);
	need(r.privileged && r.shard == 2 && r.index == 3 && r.count == 4);
	need(span_eq(control_me(r.control), SPAN("first")));
	need(control_raw(r.control, "rcpthosts", &there).n >= 3u << 20);
	need(r.listeners_n == 1 && r.listeners[0].kind == LISTEN_SMTP &&
	     is_open(r.listeners[0].fd));
	need(r.peers_n == 2 && r.peers[0].role == ROLE_JOURNALD && r.peers[1].index == 1);
	need(is_open(r.peers[0].fd) && is_open(r.peers[1].fd));
	need(r.files[FILE_USERS_CDB] >= 0 && r.files[FILE_JOURNAL_DIR] == -1);
	raise(SIGTERM);                           /* DRAIN is what ends us */
	raise(SIGINT);
	_exit(42);
}

static void before_go(void **state)
{
	int sock;
	pid_t pid = start_child(hears_everything_before_go, &sock);

	send_home(sock);
	send_control(sock, "first\n", 3 << 20);   /* more than a frame holds */
	send_fds(sock);
	send_frame(sock, MSG_GO, NULL, 0, SPAN_NONE, -1);
	assert_int_equal(status_of(pid), 42);
	close(sock);
}

static struct {
	unsigned peers, files, retries;
	bool     control;
} heard;

static void on_peer(struct role *r, uint32_t role, uint32_t index, int fd)
{
	need(role == ROLE_SCHED && index == 5 && is_open(fd));
	close(fd);
	heard.peers++;
}

static void on_control(struct role *r)
{
	need(span_eq(control_me(r->control), SPAN("second")));
	heard.control = true;
}

static void on_file(struct role *r, uint32_t kind, int fd)
{
	need(kind == FILE_MORERCPTHOSTS && r->files[kind] == fd && is_open(fd));
	heard.files++;
}

static void on_retry(struct role *r)
{
	heard.retries++;
}

static void on_drain(struct role *r)
{
	need(heard.peers == 1 && heard.files == 1 && heard.retries == 1 && heard.control);
	_exit(43);
}

static const struct role_calls calls = {on_peer, on_control, on_file, on_drain, on_retry};
static const struct role_calls no_calls;

static void run_loop(struct role *r, const struct role_calls *which)
{
	struct loop *l = loop_new(LOOP_EPOLL, 0);

	role_watch(r, l, which, NULL);
	role_ready(r);
	for (;;)
		loop_pass(l);
}

static void runs_with_calls(void)
{
	static struct role r;

	role_begin(&r, "test", "is a test", 2, child_argv);
	run_loop(&r, &calls);
}

static void runs_without_calls(void)
{
	static struct role r;

	role_begin(&r, "test", "is a test", 2, child_argv);
	run_loop(&r, &no_calls);
}

static void expect_ready(int sock)
{
	struct wire_head h;
	struct buf frame;
	int fd;

	buf_init(&frame, WIRE_FRAME_MAX);
	assert_true(wire_read_now(sock, &frame, &h, &fd));
	assert_int_equal(h.type, MSG_READY);
	buf_free(&frame);
}

static void send_later_frames(int sock)
{
	struct msg_peer p = {.role = ROLE_SCHED, .index = 5};
	struct msg_file f = {.kind = FILE_MORERCPTHOSTS};

	send_frame(sock, MSG_PEER, &p, sizeof p, SPAN_NONE, an_fd());
	send_frame(sock, MSG_FILE, &f, sizeof f, SPAN_NONE, an_fd());
	send_control(sock, "second\n", 2 << 20);
	send_frame(sock, MSG_RETRY, NULL, 0, SPAN_NONE, -1);
	send_frame(sock, MSG_DRAIN, NULL, 0, SPAN_NONE, -1);
}

static void after_go(void **state)
{
	static const struct {
		void (*body)(void);
		int    status;
	} cases[] = {{runs_with_calls, 43}, {runs_without_calls, 0}};

	for (size_t i = 0; i < ARRAY_N(cases); i++) {
		int sock;
		pid_t pid = start_child(cases[i].body, &sock);

		send_home(sock);
		send_control(sock, "first\n", 0);
		send_frame(sock, MSG_GO, NULL, 0, SPAN_NONE, -1);
		expect_ready(sock);
		send_later_frames(sock);
		assert_int_equal(status_of(pid), cases[i].status);
		close(sock);
	}
}

static void ends_with_start(void **state)
{
	int sock;
	pid_t pid = start_child(runs_with_calls, &sock);

	close(sock);                              /* before GO */
	assert_int_equal(status_of(pid), 111);

	pid = start_child(runs_with_calls, &sock);
	send_home(sock);
	send_control(sock, "first\n", 0);
	send_frame(sock, MSG_GO, NULL, 0, SPAN_NONE, -1);
	expect_ready(sock);
	close(sock);                              /* after it */
	assert_int_equal(status_of(pid), 111);
}

static void has_trouble(void)
{
	struct role r;

	role_begin(&r, "test", "is a test", 2, child_argv);
	role_trouble(&r, "journal/0: version %d", 7);
}

static void trouble_is_told_to_start(void **state)
{
	struct wire_head h;
	struct buf frame;
	int sock, fd;
	pid_t pid = start_child(has_trouble, &sock);

	buf_init(&frame, WIRE_FRAME_MAX);
	send_home(sock);
	send_control(sock, "first\n", 0);
	send_frame(sock, MSG_GO, NULL, 0, SPAN_NONE, -1);
	assert_true(wire_read_now(sock, &frame, &h, &fd));
	assert_int_equal(h.type, MSG_TROUBLE);
	assert_span(buf_span(&frame), "journal/0: version 7");
	assert_int_equal(status_of(pid), 111);
	buf_free(&frame);
	close(sock);
}

static void begins(void)
{
	struct role r;

	role_begin(&r, "test", "is a test", 2, child_argv);
	_exit(5);
}

static void wrong_frames_end_it(void **state)
{
	struct msg_file f = {.kind = FILES};
	int sock;
	pid_t pid = start_child(begins, &sock);

	send_frame(sock, MSG_STORED, NULL, 0, SPAN_NONE, -1);
	assert_int_equal(status_of(pid), 111);
	close(sock);

	pid = start_child(begins, &sock);
	send_frame(sock, MSG_FILE, &f, sizeof f, SPAN_NONE, an_fd());
	assert_int_equal(status_of(pid), 111);
	close(sock);

	pid = start_child(begins, &sock);
	send_frame(sock, MSG_GO, NULL, 0, SPAN_NONE, -1);       /* nothing was sent */
	assert_int_equal(status_of(pid), 111);
	close(sock);
}

static char *arg;
static void by_hand(void)
{
	char *argv[] = {"quire-test", arg, NULL};
	struct role r;

	if (!freopen("/dev/null", "w", stdout) || !freopen("/dev/null", "w", stderr))
		_exit(2);
	if (!arg || strcmp(arg, "--child") == 0)
		close(ROLE_START_FD);             /* a shell gives none */
	role_begin(&r, "test", "is a test", arg ? 2 : 1, argv);
}

static void by_hand_it_says_what_it_is(void **state)
{
	static const struct {
		char *arg;
		int   status;
	} cases[] = {{NULL, 100},
		     {"--help", 0},
		     {"--version", 0},
		     {"--what", 100},
		     {"--child", 100}};

	for (size_t i = 0; i < ARRAY_N(cases); i++) {
		int sock;

		arg = cases[i].arg;
		assert_int_equal(status_of(start_child(by_hand, &sock)), cases[i].status);
		close(sock);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(before_go),
		cmocka_unit_test(after_go),
		cmocka_unit_test(ends_with_start),
		cmocka_unit_test(trouble_is_told_to_start),
		cmocka_unit_test(wrong_frames_end_it),
		cmocka_unit_test(by_hand_it_says_what_it_is),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
