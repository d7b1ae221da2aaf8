/* lspawn as its peers see it: the test is start, sched and body of a real lspawn in a process
 * of its own; workers deliver into a real home, as root also under another user's id. */
#include "tests/unit/local_test.h"

#include "core/log.h"
#include "core/loop.h"
#include "core/pool.h"
#include "local/lspawn.h"
#include "mail/cdb.h"
#include "mail/envelope.h"
#include "mail/role.h"
#include "mail/users.h"

#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>

#define WAIT_MS 10000
#define NOBODY  65534
#define DAEMON  1

static struct nest home;
static pid_t pid;
static int start, sched, body; /* our ends */

/* ---- lspawn's process */

static void in_child(int end)
{
	static char *argv[] = {"quire-lspawn", "--child", NULL};
	struct role r;

	if (end != ROLE_START_FD && (dup2(end, ROLE_START_FD) < 0 || close(end) < 0))
		_exit(2);
	close_range(ROLE_START_FD + 1, ~0u, 0);
	role_begin(&r, "lspawn", "is tested", 2, argv);
	lspawn_run(&r);
	_exit(0);
}

static void tell(uint16_t type, const void *m, size_t n, struct span tail, int fd)
{
	assert_true(wire_write_now(start, type, m, n, tail, fd));
	if (fd >= 0)
		close(fd);
}

static int new_peer(uint32_t role)
{
	struct msg_peer m = {.role = role};
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	tell(MSG_PEER, &m, sizeof(m), SPAN_NONE, pair[1]);
	return pair[0];
}

static void tell_control(const char *concurrency, const char *fallback)
{
	struct control *c = control_new();
	struct buf packed;

	buf_init(&packed, CONTROL_PACKED_MAX);
	assert_true(control_set(c, SPAN("concurrencylocal"), span_str(concurrency)));
	if (fallback)
		assert_true(control_set(c, SPAN("defaultdelivery"), span_str(fallback)));
	assert_true(control_pack(c, &packed));
	tell(MSG_CONTROL, NULL, 0, buf_span(&packed), -1);
	control_free(c);
	buf_free(&packed);
}

static void tell_users(const char *assign)
{
	struct msg_file m = {.kind = FILE_USERS_CDB};
	struct cdb_writer *w = cdb_writer_new(nest_path(&home, "cdb.tmp"));
	const char *why;
	int fd;

	assert_non_null(w);
	assert_int_equal(users_compile(span_str(assign), w, &why), 0);
	assert_true(cdb_writer_finish(w, nest_path(&home, "cdb"), 0644));
	fd = open(nest_path(&home, "cdb"), O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	tell(MSG_FILE, &m, sizeof(m), SPAN_NONE, fd);
}

static void hear(int sock, uint16_t type, struct buf *frame)
{
	struct pollfd p = {.fd = sock, .events = POLLIN};
	struct wire_head h;
	int fd = -1;

	if (poll(&p, 1, WAIT_MS) != 1)
		fail_msg("nothing was said");
	assert_true(wire_read_now(sock, frame, &h, &fd));
	assert_int_equal(fd, -1);
	assert_int_equal(h.type, type);
}

static void agent_is(uint32_t jobs_max)
{
	struct buf frame;
	struct msg_agent m;

	buf_init(&frame, WIRE_FRAME_MAX);
	hear(sched, MSG_AGENT, &frame);
	memcpy(&m, frame.p, sizeof(m));
	assert_int_equal(m.jobs_max, jobs_max);
	buf_free(&frame);
}

static void begin(bool privileged, const char *concurrency, const char *fallback,
		  const char *assign)
{
	struct msg_home m = {.privileged = privileged, .count = 1};
	struct buf frame;
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		in_child(pair[1]);
	close(pair[1]);
	start = pair[0];
	tell(MSG_HOME, &m, sizeof(m), span_str(home.dir), -1);
	tell_control(concurrency, fallback);
	if (assign)
		tell_users(assign);
	sched = new_peer(ROLE_SCHED);
	body = new_peer(ROLE_BODY);
	tell(MSG_GO, NULL, 0, SPAN_NONE, -1);
	buf_init(&frame, WIRE_FRAME_MAX);
	hear(start, MSG_READY, &frame);
	buf_free(&frame);
	agent_is((uint32_t)atoi(concurrency));
}

static void begin_simply(void)
{
	begin(false, "10\n", NULL, NULL);
}

static int setup(void **state)
{
	nest_make(&home);
	assert_int_equal(chmod(home.dir, 0755), 0);
	assert_int_equal(mkdir(nest_path(&home, "alias"), 0755), 0);
	assert_int_equal(chmod(nest_path(&home, "alias"), 0755), 0);
	nest_maildir(&home, "alias/box");
	nest_write(&home, "alias/.qmail-joe", "./box/\n");
	nest_write(&home, "alias/.qmail-lock", "./mbox\n");
	pid = 0;
	sched = body = start = -1;
	setenv("QUIRE_LOOP", *state ? *state : "uring", 1);
	return 0;
}

static int teardown(void **state)
{
	int status;

	if (pid > 0) {
		kill(pid, SIGKILL);
		waitpid(pid, &status, 0);
	}
	close(start);
	close(sched);
	close(body);
	nest_remove(&home);
	return 0;
}

/* ---- sched and body */

static void deliver_of(uint32_t job, uint32_t handle, size_t size, const char *rcpt)
{
	struct span sender = SPAN("s@x");
	struct msg_deliver m = {.job = job,
				.handle = handle,
				.id = 100 + handle,
				.size = size,
				.rcpts = 1,
				.sender_n = (uint16_t)sender.n};
	struct buf tail;

	buf_init(&tail, 10000);
	assert_true(buf_add(&tail, sender) && packed_add(&tail, span_str(rcpt)));
	assert_true(wire_write_now(sched, MSG_DELIVER, &m, sizeof(m), buf_span(&tail), -1));
	buf_free(&tail);
}

static int memory_file(struct span text, unsigned seals)
{
	int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	assert_true(fd >= 0 && file_write_all(fd, text));
	assert_int_equal(fcntl(fd, F_ADD_SEALS, seals), 0);
	return fd;
}

static void bodyfile(uint32_t handle, uint64_t size, int fd)
{
	struct msg_bodyfile m = {.handle = handle, .size = size, .id = 100 + handle};

	assert_true(wire_write_now(body, MSG_BODYFILE, &m, sizeof(m), SPAN_NONE, fd));
	close(fd);
}

static void body_of(uint32_t handle, const char *text)
{
	bodyfile(handle, strlen(text),
		 memory_file(span_str(text), F_SEAL_WRITE | F_SEAL_SHRINK));
}

static void say_handle(int sock, uint16_t type, uint32_t handle)
{
	struct msg_close m = {.handle = handle};

	assert_true(wire_write_now(sock, type, &m, sizeof(m), SPAN_NONE, -1));
}

static char verdict_text[RESULT_TEXT_MAX + 1];

/* The next verdict; its job's number. */
static uint32_t verdict(enum outcome want, const char *text)
{
	struct buf frame;
	struct msg_verdict m;
	struct msg_result r;

	buf_init(&frame, WIRE_FRAME_MAX);
	hear(sched, MSG_VERDICT, &frame);
	memcpy(&m, frame.p, sizeof(m));
	memcpy(&r, frame.p + sizeof(m), sizeof(r));
	assert_int_equal(m.results, 1);
	assert_int_equal(r.rcpt, 0);
	assert_int_equal(frame.n, sizeof(m) + sizeof(r) + MSG_PAD8(r.text_n));
	memcpy(verdict_text, frame.p + sizeof(m) + sizeof(r), r.text_n);
	verdict_text[r.text_n] = '\0';
	if (text)
		assert_string_equal(verdict_text, text);
	assert_int_equal(r.outcome, want);
	buf_free(&frame);
	return m.job;
}

static void nothing_is_said(int sock, int ms)
{
	struct pollfd p = {.fd = sock, .events = POLLIN};

	assert_int_equal(poll(&p, 1, ms), 0);
}

/* ---- workers, as /proc shows them */

static unsigned workers(pid_t *ret_one)
{
	char name[64], text[4096];
	FILE *f;
	int one;
	unsigned n = 0;

	snprintf(name, sizeof(name), "/proc/%d/task/%d/children", (int)pid, (int)pid);
	f = fopen(name, "re");
	assert_non_null(f);
	text[0] = '\0';
	if (!fgets(text, sizeof(text), f))
		text[0] = '\0';
	fclose(f);
	for (char *p = text; sscanf(p, "%d", &one) == 1; p = strchr(p, ' ') + 1, n++)
		if (ret_one)
			*ret_one = one;
	return n;
}

static void workers_become(unsigned n)
{
	for (int i = 0; workers(NULL) != n; i++) {
		if (i == WAIT_MS / 10)
			fail_msg("%u workers, not %u", workers(NULL), n);
		usleep(10000);
	}
}

static void status_has(pid_t who, const char *want)
{
	char name[64];
	struct buf b;

	snprintf(name, sizeof(name), "/proc/%d/status", (int)who);
	buf_init(&b, 1 << 16);
	assert_int_equal(file_read(AT_FDCWD, name, &b), 0);
	assert_true(buf_add_byte(&b, '\0'));
	if (!strstr(b.p, want))
		fail_msg("no %s in %s", want, b.p);
	buf_free(&b);
}

static unsigned open_files(pid_t who)
{
	char name[64];
	DIR *d;
	unsigned n = 0;

	snprintf(name, sizeof(name), "/proc/%d/fd", (int)who);
	d = opendir(name);
	assert_non_null(d);
	for (struct dirent *e; (e = readdir(d));)
		n += e->d_name[0] != '.';
	closedir(d);
	return n;
}

static int hold_lock(const char *name)
{
	int fd;

	nest_write(&home, name, "");
	fd = open(nest_path(&home, name), O_RDWR | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(flock(fd, LOCK_EX), 0);
	return fd;
}

/* ---- one delivery */

static void body_before_and_after(void **state)
{
	char name[256];

	begin_simply();
	body_of(1, "Subject: t\n\nx\n");
	deliver_of(7, 1, 14, "joe@b.example");
	assert_int_equal(verdict(OUTCOME_DELIVERED, "did 1+0+0\n"), 7);
	nest_maildir_has(
		&home, "alias/box",
		SPAN("Return-Path: <s@x>\nDelivered-To: joe@b.example\nSubject: t\n\nx\n"));

	deliver_of(8, 2, 0, "joe@b.example");
	nothing_is_said(sched, 50);
	body_of(2, "");
	assert_int_equal(verdict(OUTCOME_DELIVERED, "did 1+0+0\n"), 8);
	deliver_of(9, 2, 0, "joe@b.example"); /* the same body again */
	assert_int_equal(verdict(OUTCOME_DELIVERED, "did 1+0+0\n"), 9);
	assert_int_equal(nest_count(&home, "alias/box/new", name), 3);
	assert_int_equal(workers(NULL), 1);
}

static void closed_handles_cost_nothing(void **state)
{
	unsigned before;

	begin_simply();
	for (uint32_t i = 1; i <= 20; i++) {
		body_of(i, "");
		deliver_of(i, i, 0, "joe@b.example");
		verdict(OUTCOME_DELIVERED, NULL);
		if (i == 1)
			before = open_files(pid);
		say_handle(sched, MSG_CLOSE, i);
	}
	deliver_of(100, 21, 0, "@trash");
	body_of(21, "");
	verdict(OUTCOME_DELIVERED, "");
	assert_int_equal(open_files(pid), before);
}

static void addresses(void **state)
{
	begin_simply();
	body_of(1, "");
	deliver_of(1, 1, 0, "@b.example");
	verdict(OUTCOME_DELIVERED, "");
	deliver_of(2, 1, 0, "joe");
	verdict(OUTCOME_FAILED, "Sorry, address must include host name. (#5.1.3)\n");
	deliver_of(3, 1, 0, "unknown@b.example");
	verdict(OUTCOME_FAILED, "Sorry, no mailbox here by that name. (#5.1.1)\n");
}

static void bodies_that_fail(void **state)
{
	const char *const unread = "Unable to read message. (#4.3.0)\n";

	begin_simply();
	deliver_of(1, 1, 5, "joe@b.example");
	say_handle(body, MSG_BODYFAIL, 1);
	verdict(OUTCOME_DEFERRED, unread);
	say_handle(body, MSG_BODYFAIL, 2);
	deliver_of(2, 2, 5, "joe@b.example");
	verdict(OUTCOME_DEFERRED, unread);

	bodyfile(3, 5, memory_file(SPAN("12345"), F_SEAL_WRITE)); /* may shrink */
	deliver_of(3, 3, 5, "joe@b.example");
	verdict(OUTCOME_DEFERRED, unread);
	bodyfile(4, 5, memory_file(SPAN("12345"), F_SEAL_SHRINK)); /* may be written */
	deliver_of(4, 4, 5, "joe@b.example");
	verdict(OUTCOME_DEFERRED, unread);
	bodyfile(5, 6, memory_file(SPAN("12345"), F_SEAL_WRITE | F_SEAL_SHRINK));
	deliver_of(5, 5, 6, "joe@b.example");
	verdict(OUTCOME_DEFERRED, unread);
	body_of(6, "1234");
	deliver_of(6, 6, 5, "joe@b.example");
	verdict(OUTCOME_DEFERRED, "Message has a wrong body. (#4.3.0)\n");
	assert_int_equal(workers(NULL), 0);
}

static void default_delivery(void **state)
{
	begin(false, "10\n", "./mbox2\n./box/\n\n", "=ann:x:1:1:/nowhere:::\n.\n");
	body_of(1, "x\n");
	nest_write(&home, "alias/.qmail-default", "");
	deliver_of(1, 1, 2, "any@b.example");
	verdict(OUTCOME_DELIVERED, "did 2+0+0\n");
	deliver_of(2, 1, 2, "ann@b.example");
	verdict(OUTCOME_DEFERRED,
		"Unable to switch to /nowhere: No such file or directory. (#4.3.0)\n");
}

static void a_long_report(void **state)
{
	char qmail[3600];

	begin_simply();
	memset(qmail, 'd', sizeof(qmail));
	memcpy(qmail, "./", 2);
	qmail[sizeof(qmail) - 1] = '\0';
	nest_write(&home, "alias/.qmail-joe", qmail);
	body_of(1, "");
	deliver_of(1, 1, 0, "joe@b.example");
	verdict(OUTCOME_DEFERRED, NULL);
	assert_int_equal(strlen(verdict_text), 2966 + 31);
	assert_string_equal(verdict_text + 2966, "\nError report too long, sorry.\n");
}

/* ---- several */

static void no_more_than_the_limit(void **state)
{
	int lock;

	begin(false, "2\n", NULL, NULL);
	lock = hold_lock("alias/mbox");
	body_of(1, "x\n");
	for (uint32_t i = 1; i <= 5; i++)
		deliver_of(i, 1, 2, "lock@b.example");
	workers_become(2);
	nothing_is_said(sched, 200);
	assert_int_equal(workers(NULL), 2);
	close(lock);
	for (uint32_t i = 1; i <= 5; i++)
		verdict(OUTCOME_DELIVERED, "did 1+0+0\n");
	assert_int_equal(workers(NULL), 2);

	tell_control("5\n", NULL);
	agent_is(5);
	lock = hold_lock("alias/mbox");
	for (uint32_t i = 1; i <= 6; i++)
		deliver_of(i, 1, 2, "lock@b.example");
	workers_become(5);
	close(lock);
	for (uint32_t i = 1; i <= 6; i++)
		verdict(OUTCOME_DELIVERED, "did 1+0+0\n");
	tell_control("1\n", NULL);
	agent_is(1);
	workers_become(1);
	workers_become(0); /* idle, for at most ten seconds */
}

static void a_worker_that_crashes(void **state)
{
	pid_t one = 0;
	int lock;

	begin(false, "1\n", NULL, NULL);
	lock = hold_lock("alias/mbox");
	body_of(1, "x\n");
	deliver_of(1, 1, 2, "lock@b.example");
	deliver_of(2, 1, 2, "joe@b.example"); /* waits for the slot, and survives */
	workers_become(1);
	workers(&one);
	usleep(50000);
	assert_int_equal(kill(one, SIGKILL), 0);
	assert_int_equal(verdict(OUTCOME_DEFERRED, "qmail-local crashed.\n"), 1);
	assert_int_equal(verdict(OUTCOME_DELIVERED, "did 1+0+0\n"), 2);

	workers(&one); /* an idle one */
	assert_int_equal(kill(one, SIGKILL), 0);
	usleep(200000);
	deliver_of(3, 1, 2, "joe@b.example");
	assert_int_equal(verdict(OUTCOME_DELIVERED, "did 1+0+0\n"), 3);
	close(lock);
}

/* A terminal or systemd signals everybody: deliveries go on. */
static void signals_to_all(void **state)
{
	static const int signals[] = {SIGTERM, SIGINT, SIGHUP, SIGPIPE};
	pid_t one = 0;
	int lock;

	begin_simply();
	lock = hold_lock("alias/mbox");
	body_of(1, "x\n");
	deliver_of(1, 1, 2, "lock@b.example");
	workers_become(1);
	workers(&one);
	usleep(50000);
	for (size_t i = 0; i < ARRAY_N(signals); i++) {
		kill(one, signals[i]);
		kill(pid, signals[i]);
	}
	nothing_is_said(sched, 100);
	close(lock);
	verdict(OUTCOME_DELIVERED, "did 1+0+0\n");
}

/* ---- who comes and goes */

static void sched_comes_again(void **state)
{
	int lock;

	begin_simply();
	lock = hold_lock("alias/mbox");
	body_of(1, "x\n");
	deliver_of(1, 1, 2, "lock@b.example"); /* runs */
	deliver_of(2, 2, 3, "joe@b.example");  /* waits for its body */
	workers_become(1);
	close(sched);
	sched = new_peer(ROLE_SCHED);
	agent_is(10);
	deliver_of(1, 1, 3, "joe@b.example"); /* a handle of before, for another body */
	nothing_is_said(sched, 50);
	body_of(1, "new");
	assert_int_equal(verdict(OUTCOME_DELIVERED, "did 1+0+0\n"), 1);
	nest_maildir_has(&home, "alias/box",
			 SPAN("Return-Path: <s@x>\nDelivered-To: joe@b.example\nnew"));
	close(lock);
	nothing_is_said(sched,
			300); /* the old job ended, for nobody, and took only its own body */
	deliver_of(2, 1, 3, "joe@b.example");
	assert_int_equal(verdict(OUTCOME_DELIVERED, "did 1+0+0\n"), 2);

	int old = sched; /* replaced while the old one is still there */

	sched = new_peer(ROLE_SCHED);
	agent_is(10);
	close(old);
	deliver_of(5, 5, 0, "joe@b.example");
	body_of(5, "");
	assert_int_equal(verdict(OUTCOME_DELIVERED, "did 1+0+0\n"), 5);
}

static void body_comes_again(void **state)
{
	begin_simply();
	deliver_of(1, 1, 3, "joe@b.example");
	deliver_of(2, 2, 3, "joe@b.example");
	nothing_is_said(sched, 50);
	close(body);
	verdict(OUTCOME_DEFERRED, "Unable to read message. (#4.3.0)\n");
	verdict(OUTCOME_DEFERRED, "Unable to read message. (#4.3.0)\n");
	body = new_peer(ROLE_BODY);
	deliver_of(3, 3, 3, "joe@b.example");
	body_of(3, "abc");
	assert_int_equal(verdict(OUTCOME_DELIVERED, "did 1+0+0\n"), 3);
}

static void users_come_again(void **state)
{
	begin(false, "10\n", NULL, "=ann:x:1:1:/nowhere:::\n.\n");
	tell_users("=ann:x:1:1:/nothing:::\n.\n");
	close(sched);
	sched = new_peer(ROLE_SCHED); /* takes a number that was the file's */
	agent_is(10);
	close(body);
	body = new_peer(ROLE_BODY);
	tell_users("=ann:x:1:1:/nil:::\n.\n");
	tell_users("=ann:x:1:1:/null:::\n.\n");
	tell_control("3\n", NULL);
	agent_is(3);
	body_of(1, "");
	deliver_of(1, 1, 0, "ann@b.example");
	verdict(OUTCOME_DEFERRED,
		"Unable to switch to /null: No such file or directory. (#4.3.0)\n");
}

static void a_damaged_users_file(void **state)
{
	struct msg_file m = {.kind = FILE_USERS_CDB};

	begin_simply();
	tell(MSG_FILE, &m, sizeof(m), SPAN_NONE, memory_file(SPAN("no cdb"), 0));
	body_of(1, "");
	tell_control("3\n", NULL);
	agent_is(3);
	deliver_of(1, 1, 0, "joe@b.example");
	verdict(OUTCOME_DEFERRED, "Trouble reading users/cdb in qmail-lspawn.\n");
	tell_users("=ann:x:1:1:/nothing:::\n.\n");
	tell_control("4\n", NULL);
	agent_is(4);
	deliver_of(2, 1, 0, "joe@b.example");
	verdict(OUTCOME_DELIVERED, "did 1+0+0\n");
}

static int status_of(pid_t who)
{
	int status;

	for (int i = 0; waitpid(who, &status, WNOHANG) != who; i++) {
		if (i == WAIT_MS / 10)
			return -1;
		usleep(10000);
	}
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

static void drained(void **state)
{
	int lock;

	begin_simply();
	lock = hold_lock("alias/mbox");
	body_of(1, "x\n");
	deliver_of(1, 1, 2, "lock@b.example");
	workers_become(1);
	tell(MSG_DRAIN, NULL, 0, SPAN_NONE, -1);
	usleep(100000);
	deliver_of(2, 1, 2, "joe@b.example"); /* nothing new */
	nothing_is_said(sched, 200);
	assert_int_equal(waitpid(pid, NULL, WNOHANG), 0);
	close(lock);
	assert_int_equal(verdict(OUTCOME_DELIVERED, "did 1+0+0\n"), 1);
	assert_int_equal(status_of(pid), 0);
	pid = 0;
}

static void drained_idle(void **state)
{
	begin_simply();
	tell(MSG_DRAIN, NULL, 0, SPAN_NONE, -1);
	assert_int_equal(status_of(pid), 0);
	pid = 0;
}

static void a_wrong_sched_is_cut_off(void **state)
{
	struct msg_deliver m = {.job = 1, .rcpts = 2, .sender_n = 500};
	char byte;

	begin_simply();
	assert_true(wire_write_now(sched, MSG_DELIVER, &m, sizeof(m), SPAN("junk"), -1));
	assert_int_equal(read(sched, &byte, 1), 0);
	close(sched);
	sched = new_peer(ROLE_SCHED);
	agent_is(10);
}

/* ---- as root */

static void own(const char *name, uid_t uid)
{
	assert_int_equal(lchown(nest_path(&home, name), uid, uid), 0);
}

static void user_home(const char *name, uid_t uid)
{
	static const char *const parts[] = {"", "/M", "/M/new", "/M/tmp", "/M/cur"};
	char path[128];

	assert_int_equal(mkdir(nest_path(&home, name), 0700), 0);
	snprintf(path, sizeof(path), "%s/M", name);
	nest_maildir(&home, path);
	for (size_t i = 0; i < ARRAY_N(parts); i++) {
		snprintf(path, sizeof(path), "%s%s", name, parts[i]);
		own(path, uid);
	}
}

static void as_the_user(void **state)
{
	char assign[1000], name[256], path[512], want[256];
	struct stat st;
	pid_t one = 0;
	gid_t extra[] = {0, 4, 27};
	char *h = home.dir;

	if (geteuid() != 0)
		skip();
	user_home("n", NOBODY);
	user_home("d", DAEMON);
	/* d: n's group; g: n's user and another group */
	snprintf(assign, sizeof(assign),
		 "=n:nobody:%d:%d:%s/n:::\n=d:daemon:%d:%d:%s/d:::\n=r:root:0:0:%s/n:::\n"
		 "=g:nobody:%d:%d:%s/n:::\n=f:nobody:%d:%d:%s/d:::\n.\n",
		 NOBODY, NOBODY, h, DAEMON, NOBODY, h, h, NOBODY, DAEMON, h, NOBODY, NOBODY, h);
	assert_int_equal(setgroups(3, extra), 0); /* lspawn's, not the worker's */
	begin(true, "1\n", "./M/\n", assign);
	assert_int_equal(setgroups(0, NULL), 0);
	body_of(1, "x\n");

	deliver_of(1, 1, 2, "n@b.example");
	verdict(OUTCOME_DELIVERED, "did 1+0+0\n");
	nest_maildir_has(&home, "n/M",
			 SPAN("Return-Path: <s@x>\nDelivered-To: n@b.example\nx\n"));
	nest_count(&home, "n/M/new", name);
	snprintf(path, sizeof(path), "n/M/new/%s", name);
	assert_int_equal(stat(nest_path(&home, path), &st), 0);
	assert_int_equal(st.st_uid, NOBODY);
	assert_int_equal(st.st_gid, NOBODY);
	assert_int_equal(st.st_mode & 07777, 0600);

	assert_int_equal(workers(&one), 1);
	snprintf(want, sizeof(want), "Uid:\t%d\t%d\t%d\t%d\n", NOBODY, NOBODY, NOBODY, NOBODY);
	status_has(one, want);
	snprintf(want, sizeof(want), "Gid:\t%d\t%d\t%d\t%d\nFDSize", NOBODY, NOBODY, NOBODY,
		 NOBODY);
	status_has(one, want);
	snprintf(want, sizeof(want), "Groups:\t%d \n", NOBODY);
	status_has(one, want);
	status_has(one, "CapPrm:\t0000000000000000\n");
	assert_int_equal(open_files(one), 4); /* 0, 1, 2 and its socket */

	deliver_of(2, 1, 2, "d@b.example"); /* takes the one slot */
	verdict(OUTCOME_DELIVERED, "did 1+0+0\n");
	assert_int_equal(workers(&one), 1);
	snprintf(want, sizeof(want), "Uid:\t%d\t", DAEMON);
	status_has(one, want);
	deliver_of(3, 1, 2, "r@b.example");
	verdict(OUTCOME_DEFERRED, "Not allowed to perform deliveries as root.\n");
	deliver_of(4, 1, 2, "f@b.example"); /* not nobody's home */
	snprintf(want, sizeof(want), "Unable to switch to %s/d: Permission denied. (#4.3.0)\n",
		 h);
	verdict(OUTCOME_DEFERRED, want);
	assert_int_equal(nest_count(&home, "d/M/new", name), 1);
	deliver_of(5, 1, 2, "g@b.example");
	verdict(OUTCOME_DELIVERED, "did 1+0+0\n");
	assert_int_equal(workers(&one), 1);
	snprintf(want, sizeof(want), "Gid:\t%d\t%d\t%d\t%d\nFDSize", DAEMON, DAEMON, DAEMON,
		 DAEMON);
	status_has(one, want);
}

/* The memory by which lspawn talks to the kernel is not the worker's. */
static void no_shared_rings(void **state)
{
	char name[64];
	struct buf b;
	pid_t one = 0;

	if (geteuid() != 0)
		skip(); /* a worker cannot be looked into */
	begin_simply();
	body_of(1, "x\n");
	deliver_of(1, 1, 2, "joe@b.example");
	verdict(OUTCOME_DELIVERED, NULL);
	assert_int_equal(workers(&one), 1);
	for (int i = 0; i < 2; i++) {
		snprintf(name, sizeof(name), "/proc/%d/maps", (int)(i == 0 ? pid : one));
		buf_init(&b, 1 << 20);
		assert_int_equal(file_read(AT_FDCWD, name, &b), 0);
		assert_true(buf_add_byte(&b, '\0'));
		if (i == 0)
			assert_non_null(strstr(b.p, "io_uring"));
		else
			assert_null(strstr(b.p, "io_uring"));
		buf_free(&b);
	}
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
#define EPOLL(name)                                                                            \
	{                                                                                      \
#name "_epoll", name, setup, teardown, "epoll"                                 \
	}

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(body_before_and_after),
		EPOLL(body_before_and_after),
		CASE(closed_handles_cost_nothing),
		EPOLL(closed_handles_cost_nothing),
		CASE(addresses),
		CASE(bodies_that_fail),
		CASE(default_delivery),
		CASE(a_long_report),
		CASE(no_more_than_the_limit),
		CASE(a_worker_that_crashes),
		EPOLL(a_worker_that_crashes),
		CASE(signals_to_all),
		CASE(sched_comes_again),
		EPOLL(sched_comes_again),
		CASE(body_comes_again),
		CASE(users_come_again),
		CASE(a_damaged_users_file),
		CASE(drained),
		EPOLL(drained),
		CASE(drained_idle),
		CASE(a_wrong_sched_is_cut_off),
		CASE(as_the_user),
		EPOLL(as_the_user),
		CASE(no_shared_rings),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
