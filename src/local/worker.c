/* worker - see worker.h.
 *
 * Between fork and the first job: every descriptor of lspawn is closed, its handlers of signals
 * are gone, the identity is the user's and cannot change back, and nobody may look into the
 * process (it was root's memory once).  It executes nothing; who adds that must call
 * role_signals_default() first.
 *
 * A worker whose lspawn died finishes the delivery at hand, and then finds nobody to tell. */
#include "local/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/file.h"
#include "core/log.h"
#include "local/forward.h"

#define WORKER_SOCK_FD 3
#define WORKER_UMASK   077                        /* docs/qmail.md 14.14 */

struct job_head {
	uint32_t n[WORKER_WORDS];
	uint32_t pad;
	uint64_t size;
};
static_check(sizeof(struct job_head) == 40);

union control_space {                             /* room for one descriptor, aligned */
	struct cmsghdr head;
	char           bytes[CMSG_SPACE(sizeof(int))];
};

static void words_of(const struct local_job *job, struct span w[static WORKER_WORDS])
{
	const struct span words[WORKER_WORDS] = {job->home,    job->local, job->domain,
						 job->dash,    job->ext,   job->sender,
						 job->fallback};

	memcpy(w, words, sizeof(words));
}

static void attach_fd(struct msghdr *m, union control_space *space, int fd)
{
	struct cmsghdr *c;

	m->msg_control = space;
	m->msg_controllen = sizeof(space->bytes);
	c = CMSG_FIRSTHDR(m);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &fd, sizeof(fd));
}

bool worker_send(int sock, const struct local_job *job, int body, uint64_t size)
{
	struct job_head     head = {.size = size};
	struct span         w[WORKER_WORDS];
	struct iovec        v[1 + WORKER_WORDS] = {{&head, sizeof(head)}};
	union control_space space = {0};
	struct msghdr       m = {.msg_iov = v, .msg_iovlen = ARRAY_N(v)};
	size_t              total = sizeof(head);

	words_of(job, w);
	for (unsigned i = 0; i < WORKER_WORDS; i++) {
		total += w[i].n;
		if (total > WORKER_JOB_MAX)
			return false;
		head.n[i] = (uint32_t)w[i].n;
		v[1 + i] = (struct iovec){(void *)(uintptr_t)w[i].p, w[i].n};
	}
	attach_fd(&m, &space, body);
	return sendmsg(sock, &m, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)total;
}

static bool unpack(struct span packet, struct local_job *ret, uint64_t *ret_size)
{
	struct job_head head;
	struct span     w[WORKER_WORDS];

	if (packet.n < sizeof(head))
		return false;
	memcpy(&head, packet.p, sizeof(head));
	span_cut(&packet, sizeof(head));
	for (unsigned i = 0; i < WORKER_WORDS; i++) {
		if (packet.n < head.n[i])
			return false;
		w[i] = span_cut(&packet, head.n[i]);
	}
	*ret = (struct local_job){.home = w[0], .local = w[1], .domain = w[2], .dash = w[3],
	                          .ext = w[4], .sender = w[5], .fallback = w[6]};
	*ret_size = head.size;
	return packet.n == 0;
}

static int fd_of(struct msghdr *m)
{
	struct cmsghdr *c = CMSG_FIRSTHDR(m);
	int             fd;

	if (!c || c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS ||
	    c->cmsg_len != CMSG_LEN(sizeof(int)))
		return -1;
	memcpy(&fd, CMSG_DATA(c), sizeof(fd));
	return fd;
}

/* The next packet; empty: lspawn has closed its end. */
static struct span receive(char *dst, size_t cap, int *ret_fd)
{
	struct iovec        v = {dst, cap};
	union control_space space = {0};
	struct msghdr       m = {.msg_iov = &v, .msg_iovlen = 1,
	                         .msg_control = &space, .msg_controllen = sizeof(space.bytes)};
	ssize_t             n;

	do {
		n = recvmsg(WORKER_SOCK_FD, &m, MSG_CMSG_CLOEXEC);
	} while (n < 0 && errno == EINTR);
	if (n < 0 || (m.msg_flags & (MSG_TRUNC | MSG_CTRUNC)))
		_exit(111);
	*ret_fd = fd_of(&m);
	return span_of(dst, (size_t)n);
}

/* The file cannot shrink under us: lspawn has looked at its seals. */
static bool map_body(int fd, uint64_t size, struct span *ret)
{
	void *p;

	*ret = SPAN_NONE;
	if (size == 0)
		return true;
	p = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (p == MAP_FAILED)
		return false;
	*ret = span_of(p, size);
	return true;
}

static void unmap_body(struct span body)
{
	if (body.n > 0)
		munmap((void *)(uintptr_t)body.p, body.n);
}

static void answer(struct report *r)
{
	struct iovec v[2] = {{&r->letter, 1}, {r->text.p, r->text.n}};

	report_close(r);
	v[1].iov_len = r->text.n;
	if (writev(WORKER_SOCK_FD, v, ARRAY_N(v)) != (ssize_t)(1 + r->text.n))
		_exit(111);
}

static void do_job(const struct local_world *w, const struct local_job *job, int fd,
		   uint64_t size)
{
	struct report r;
	struct span   body;

	report_init(&r);
	if (map_body(fd, size, &body)) {
		deliver(w, job, body, &r);
		unmap_body(body);
	} else {
		report_fail(&r, 'Z', "Unable to read message: %s. (#4.3.0)\n", strerror(errno));
	}
	close(fd);
	answer(&r);
	report_fini(&r);
}

static _Noreturn void run(const char *quire_home)
{
	struct local_world world = {.forward = forward_send,
				    .ctx = (void *)(uintptr_t)quire_home};
	struct local_job   job;
	uint64_t           size;
	char               packet[WORKER_JOB_MAX];
	struct span        got;
	int                fd;

	for (;;) {
		got = receive(packet, sizeof(packet), &fd);
		if (got.n == 0)
			_exit(0);
		if (fd < 0 || !unpack(got, &job, &size))
			_exit(111);
		do_job(&world, &job, fd, size);
	}
}

/* What role.h ignores stays ignored: a delivery that systemd's TERM to the whole group would
   break off would be done again.  A file beyond RLIMIT_FSIZE is an error, not a crash. */
static void reset_signals(void)
{
	static const int quiet[] = {SIGTERM, SIGINT, SIGHUP, SIGPIPE, SIGXFSZ};
	sigset_t         none;

	sigemptyset(&none);
	for (int signo = 1; signo < NSIG; signo++)
		signal(signo, SIG_DFL);           /* refused for some; those have no handlers */
	for (size_t i = 0; i < ARRAY_N(quiet); i++)
		signal(quiet[i], SIG_IGN);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

/* A delivery never runs as root, and never with a group that is not the user's. */
static void become(const struct worker_who *who)
{
	uid_t r, e, s;
	gid_t rg, eg, sg, group;

	check(who->uid != 0);
	if (setgroups(1, &who->gid) < 0 || setresgid(who->gid, who->gid, who->gid) < 0 ||
	    setresuid(who->uid, who->uid, who->uid) < 0)
		die_sys(111, "become the recipient's user", NULL);
	check(getresuid(&r, &e, &s) == 0 && r == who->uid && e == who->uid && s == who->uid);
	check(getresgid(&rg, &eg, &sg) == 0 && rg == who->gid && eg == who->gid &&
	      sg == who->gid);
	check(getgroups(1, &group) == 1 && group == who->gid);
	check(setuid(0) < 0 && seteuid(0) < 0);
}

static _Noreturn void child(const struct worker_who *who, const char *quire_home, int sock)
{
	if (sock == WORKER_SOCK_FD)
		fd_cloexec(sock, true);
	else if (dup3(sock, WORKER_SOCK_FD, O_CLOEXEC) < 0)
		_exit(111);
	if (close_range(WORKER_SOCK_FD + 1, ~0u, 0) < 0)
		_exit(111);
	reset_signals();
	setsid();                                 /* a terminal's interrupt is for start */
	prctl(PR_SET_NAME, "quire-local");
	if (who->drop)
		become(who);
	if (prctl(PR_SET_DUMPABLE, 0) < 0)
		_exit(111);
	umask(WORKER_UMASK);
	run(quire_home);
}

pid_t worker_start(const struct worker_who *who, const char *quire_home, int *ret_sock,
		   int *ret_pidfd)
{
	int   pair[2];
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return -1;
	log_flush();                              /* or the child has these lines, too */
	pid = fork();
	if (pid == 0)
		child(who, quire_home, pair[1]);
	close(pair[1]);
	if (pid > 0) {
		*ret_pidfd = pidfd_open(pid, 0);
		if (*ret_pidfd >= 0) {
			fd_nonblock(pair[0]);
			*ret_sock = pair[0];
			return pid;
		}
	}
	if (pid > 0) {                            /* cannot be watched: not wanted */
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
	}
	close(pair[0]);
	return -1;
}
