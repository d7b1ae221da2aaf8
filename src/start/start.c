#include "start/start.h"

#include "core/clock.h"
#include "core/file.h"
#include "core/log.h"
#include "core/pool.h"
#include "core/wire.h"
#include "mail/counters.h"
#include "mail/role.h"
#include "start/listen.h"
#include "start/spawn.h"
#include "start/why.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define RESTART_MS_MIN  100
#define RESTART_MS_MAX  10000
#define RESTART_CALM_MS 30000
/* Two failed writes of journald within this time: the disk is not well.  Restarting goes on, for
 * deliveries; new mail is refused until an administrator has looked (HUP). */
#define LATCH_MS 60000
/* At a stop, for what clients are in the middle of: timeoutsmtpd alone would let one of them
 * hold it for 20 minutes. */
#define STOP_FRONT_MS   5000
#define CHILDREN_MAX    (ROLES * 2 * ROLE_PROCS_MAX)

enum child_state { CHILD_NONE, CHILD_STARTED, CHILD_READY };
struct child {
	struct start *st;
	const struct role_spec *spec;
	uint32_t index;
	enum child_state state;
	pid_t pid; /* 0: none */
	struct wire wire;
	bool wired, draining, wanted;
	struct timer again;
	uint64_t wait_ms, since_ms;
	char name[32];
};

enum stopping { RUNNING, STOP_FRONT, STOP_SCHED, STOP_REST };
struct start {
	const struct start_options *o;
	struct loop *loop;
	struct control *control;
	struct listeners listeners;
	struct buf packed, why;
	char home[4096], bin[4096];
	int home_fd, run_fd, submit_fd, control_fd, counters_fd;
	struct counters *counters;
	bool privileged, accepting;
	bool latched;
	uint64_t write_failed_ms; /* the last time; 0: never */
	enum stopping stopping;
	struct timer front_end; /* of their time */
	int exit_code;
	struct child children[CHILDREN_MAX];
	unsigned children_n;
};

static void start_child(struct child *c);
static void stop_on(struct start *st);

/* ---- what goes wrong before anything runs ---- */

static void say_ready(struct start *st, const char *line)
{
	if (st->o->ready_fd >= 0 && !file_write_all(st->o->ready_fd, span_str(line)))
		log_note("odd", "nobody waits for us to be ready", NULL);
}

static void refuse(struct start *st, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
static void refuse(struct start *st, const char *fmt, ...)
{
	char line[2048];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(line, sizeof line, fmt, ap);
	va_end(ap);
	log_line("quire-start: fatal: %s", line);
	log_flush();
	say_ready(st, line);
	st->exit_code = 111;
}

/* ---- control files ---- */

struct told {
	struct start *st;
	char first[1024];
};

static void on_told(void *ctx, bool error, struct span text)
{
	struct told *t = ctx;

	log_line("quire-start: %s: %.*s", error ? "error" : "warning", SPAN_ARG(text));
	if (error && !t->first[0])
		snprintf(t->first, sizeof t->first, "%.*s", SPAN_ARG(text));
}

/* A good snapshot, or NULL with the first thing that is wrong in st->why. */
static struct control *read_control(struct start *st)
{
	struct told told = {.st = st};
	struct control *c = control_new();
	char dir[4200];
	int err;

	snprintf(dir, sizeof dir, "%s/control", st->home);
	buf_clear(&st->why);
	err = control_load(c, dir, &st->why);
	if (err < 0) {
		snprintf(told.first, sizeof told.first, "%.*s: %s",
			 SPAN_ARG(buf_span(&st->why)), strerror(-err));
	} else if (control_validate(c, on_told, &told) == 0) {
		return c;
	}
	why_not(&st->why, "%s", told.first);
	control_free(c);
	return NULL;
}

static bool use_control(struct start *st, struct control *c)
{
	if (!listeners_sync(&st->listeners, c, &st->why))
		return false;
	buf_clear(&st->packed);
	check(control_pack(c, &st->packed));
	control_free(st->control);
	st->control = c;
	return true;
}

/* ---- talking to a child ---- */

static void on_ready(struct wire *w, struct wire_in *in);
static void on_trouble(struct wire *w, struct wire_in *in);
static const struct wire_handler handlers[] = {
	{MSG_READY, 0, false, false, on_ready},
	{MSG_TROUBLE, 0, true, false, on_trouble},
};

static void on_wire_lost(struct wire *w)
{
	struct child *c = w->ctx;

	c->wired = false; /* its end is told by SIGCHLD */
	if (c->pid && !c->draining && !c->st->stopping)
		/* alive without its wire: it could not be told anything */
		kill(c->pid, SIGKILL);
}

static int open_below(struct start *st, const char *name)
{
	return openat(st->home_fd, name, O_RDONLY | O_CLOEXEC);
}

/* -1: not there; the process knows what that means. */
static int open_file(struct start *st, uint32_t kind)
{
	switch ((enum file_kind)kind) {
	case FILE_JOURNAL_DIR:
		return openat(st->home_fd, "journal/0", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	case FILE_USERS_CDB: return open_below(st, "users/cdb");
	case FILE_MORERCPTHOSTS: return open_below(st, "control/morercpthosts.cdb");
	case FILE_COUNTERS: return fcntl(st->counters_fd, F_DUPFD_CLOEXEC, 0);
	case FILE_DICT: return open_below(st, "control/dictionary");
	case FILES: break;
	}
	unreachable();
}

static bool tell_file(struct start *st, int sock, uint32_t kind)
{
	struct msg_file m = {.kind = kind};
	int fd = open_file(st, kind);
	bool ok;

	if (fd < 0)
		return true;
	ok = wire_write_now(sock, MSG_FILE, &m, sizeof m, SPAN_NONE, fd);
	close(fd);
	return ok;
}

static bool tell_listeners(struct start *st, int sock, const struct role_spec *s)
{
	for (unsigned k = 0; k < ARRAY_N(s->listeners); k++) {
		struct msg_listener m = {.kind = s->listeners[k]};

		if (m.kind == LISTEN_SUBMIT &&
		    !wire_write_now(sock, MSG_LISTENER, &m, sizeof m, SPAN_NONE, st->submit_fd))
			return false;
		if (m.kind == LISTEN_CONTROL &&
		    !wire_write_now(sock, MSG_LISTENER, &m, sizeof m, SPAN_NONE,
				    st->control_fd))
			return false;
		for (unsigned i = 0; i < st->listeners.n; i++)
			if (st->listeners.v[i].kind == m.kind &&
			    !wire_write_now(sock, MSG_LISTENER, &m, sizeof m, SPAN_NONE,
					    st->listeners.v[i].fd))
				return false;
	}
	return true;
}

static bool are_linked(uint8_t a, uint8_t b)
{
	for (unsigned i = 0; i < role_links_n; i++)
		if ((role_links[i].a == a && role_links[i].b == b) ||
		    (role_links[i].a == b && role_links[i].b == a))
			return true;
	return false;
}

/* A pair of sockets for c and each running process that it talks to; both ends are told. */
static bool tell_peers(struct child *c, int sock)
{
	struct start *st = c->st;

	for (unsigned i = 0; i < st->children_n; i++) {
		struct child *p = &st->children[i];
		struct msg_peer to_c = {p->spec->kind, p->index},
				to_p = {c->spec->kind, c->index};
		int pair[2];
		bool ok;

		if (p == c || !p->wired || !are_linked(c->spec->kind, p->spec->kind))
			continue;
		if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) <
		    0)
			return false;
		ok = wire_write_now(sock, MSG_PEER, &to_c, sizeof to_c, SPAN_NONE, pair[0]);
		close(pair[0]);
		if (!ok) {
			close(pair[1]);
			return false;
		}
		wire_send_fd(&p->wire, MSG_PEER, &to_p, sizeof to_p, SPAN_NONE, pair[1]);
	}
	return true;
}

/* In frames: a list of a million domains is larger than one. */
static bool tell_control(struct start *st, int sock)
{
	struct span rest = buf_span(&st->packed), piece;

	while (control_piece(&rest, &piece))
		if (!wire_write_now(sock, MSG_CONTROL, NULL, 0, piece, -1))
			return false;
	return true;
}

/* After a HUP: the new snapshot, and users/cdb, which qmail-newu may have made anew. */
static void retell(struct child *c)
{
	struct span rest = buf_span(&c->st->packed), piece;
	struct msg_file users = {.kind = FILE_USERS_CDB};
	int fd;

	while (control_piece(&rest, &piece))
		wire_send(&c->wire, MSG_CONTROL, NULL, 0, piece);
	if (c->spec->files[0] != FILE_USERS_CDB)
		return;
	fd = open_file(c->st, FILE_USERS_CDB);
	if (fd >= 0)
		wire_send_fd(&c->wire, MSG_FILE, &users, sizeof users, SPAN_NONE, fd);
}

static bool tell_everything(struct child *c, int sock)
{
	struct start *st = c->st;
	struct msg_home home = {.privileged = st->privileged,
				.index = c->index,
				.count = role_procs(c->spec, st->control),
				.latched = st->latched};

	if (!wire_write_now(sock, MSG_HOME, &home, sizeof home, span_str(st->home), -1) ||
	    !tell_control(st, sock) || !tell_listeners(st, sock, c->spec))
		return false;
	for (unsigned i = 0; i < ARRAY_N(c->spec->files); i++)
		if (c->spec->files[i] && !tell_file(st, sock, c->spec->files[i]))
			return false;
	return tell_peers(c, sock) && wire_write_now(sock, MSG_GO, NULL, 0, SPAN_NONE, -1);
}

/* ---- children ---- */

static void restart_later(struct child *c)
{
	uint64_t lived = clock_mono_ms() - c->since_ms;

	if (lived > RESTART_CALM_MS)
		c->wait_ms = 0;
	timer_set(c->st->loop, &c->again, c->wait_ms);
	c->wait_ms = c->wait_ms ? c->wait_ms * 2 : RESTART_MS_MIN;
	if (c->wait_ms > RESTART_MS_MAX)
		c->wait_ms = RESTART_MS_MAX;
}

static void on_again(struct timer *t)
{
	start_child(owner_of(t, struct child, again));
}

static void start_child(struct child *c)
{
	struct start *st = c->st;
	struct spawn_as as;
	int sock;
	pid_t pid;

	check(!c->pid);
	/* The old wire may still be telling its loss; wait for it: a wire is armed at most
	 * once. */
	if (c->wired) {
		timer_set(st->loop, &c->again, 1);
		return;
	}
	if (!spawn_lookup(c->spec, st->privileged, &as, &st->why)) {
		refuse(st, "%.*s", SPAN_ARG(buf_span(&st->why)));
		stop_on(st);
		return;
	}
	c->since_ms = clock_mono_ms();
	pid = spawn_child(st->bin, c->spec, &as, &sock);
	if (pid < 0) {
		log_note("child", c->name, "odd", "can't start", "error", strerror(-pid), NULL);
		restart_later(c);
		return;
	}
	c->pid = pid;
	c->state = CHILD_STARTED;
	c->draining = false;
	if (c->spec->front)
		counters_clear(st->counters, counters_column(c->spec->kind, c->index));
	if (!tell_everything(c, sock)) {
		close(sock); /* it died; SIGCHLD comes */
		return;
	}
	fd_nonblock(sock);
	wire_init(&c->wire, st->loop, sock, c->name, handlers, ARRAY_N(handlers), on_wire_lost,
		  c);
	c->wired = true;
}

static struct child *child_of(struct start *st, const struct role_spec *s, uint32_t index)
{
	struct child *c;

	for (unsigned i = 0; i < st->children_n; i++)
		if (st->children[i].spec == s && st->children[i].index == index)
			return &st->children[i];
	check(st->children_n < CHILDREN_MAX);
	c = &st->children[st->children_n++];
	c->st = st;
	c->spec = s;
	c->index = index;
	snprintf(c->name, sizeof c->name, "%s/%u", s->name, index);
	timer_init(&c->again, on_again);
	return c;
}

/* Everything of this stage that should run and does not yet. */
static void start_stage(struct start *st, enum stage stage)
{
	for (unsigned i = 0; i < role_specs_n; i++) {
		const struct role_spec *s = &role_specs[i];

		if (s->stage != stage)
			continue;
		for (uint32_t k = 0; k < role_procs(s, st->control); k++) {
			struct child *c = child_of(st, s, k);

			c->wanted = true;
			if (!c->pid && !timer_is_set(&c->again))
				start_child(c);
		}
	}
}

static bool stage_is_ready(const struct start *st, enum stage stage)
{
	for (unsigned i = 0; i < st->children_n; i++) {
		const struct child *c = &st->children[i];

		if (c->wanted && c->spec->stage == stage && c->state != CHILD_READY)
			return false;
	}
	return true;
}

static void on_ready(struct wire *w, struct wire_in *in)
{
	struct child *c = w->ctx;
	struct start *st = c->st;

	c->state = CHILD_READY;
	if (st->stopping || st->accepting)
		return;
	if (c->spec->stage == STAGE_JOURNAL) {
		start_stage(st, STAGE_QUEUE);
	} else if (stage_is_ready(st, STAGE_QUEUE)) {
		st->accepting = true;
		log_note("home", st->home, "event", "accepting mail", NULL);
		log_flush();
		say_ready(st, "ready");
	}
}

static void on_trouble(struct wire *w, struct wire_in *in)
{
	struct child *c = w->ctx;

	refuse(c->st, "%s: %.*s", c->spec->name, SPAN_ARG(in->tail));
	stop_on(c->st);
}

/* ---- stopping, step by step: each step waits for its processes to be gone ---- */

static bool belongs(const struct child *c, enum stopping step)
{
	switch (step) {
	case STOP_FRONT: return c->spec->front;
	case STOP_SCHED: return c->spec->kind == ROLE_SCHED;
	case STOP_REST: return true;
	case RUNNING: return false;
	}
	unreachable();
}

static void stop_on(struct start *st)
{
	for (;;) {
		bool left = false;

		for (unsigned i = 0; i < st->children_n; i++) {
			struct child *c = &st->children[i];

			c->wanted = false;
			timer_stop(st->loop, &c->again);
			if (!c->pid || !belongs(c, st->stopping))
				continue;
			left = true;
			if (c->draining)
				continue;
			c->draining = true;
			if (c->wired && st->exit_code == 0)
				wire_send(&c->wire, MSG_DRAIN, NULL, 0, SPAN_NONE);
			else
				kill(c->pid, SIGKILL);
		}
		if (left)
			return;
		if (st->stopping == STOP_REST) {
			loop_stop(st->loop);
			return;
		}
		st->stopping++;
	}
}

/* What a client was in the middle of was not promised; it comes again. */
static void cut_off(struct child *c)
{
	log_note("child", c->name, "event", "clients are cut off", NULL);
	kill(c->pid, SIGKILL);
}

static void on_front_end(struct timer *t)
{
	struct start *st = owner_of(t, struct start, front_end);

	for (unsigned i = 0; i < st->children_n; i++) {
		struct child *c = &st->children[i];

		if (c->spec->front && c->pid)
			cut_off(c);
	}
}

static void stop_now(struct start *st)
{
	for (unsigned i = 0; i < st->children_n; i++)
		if (st->children[i].pid)
			kill(st->children[i].pid, SIGKILL);
}

/* ---- signals ---- */

static void log_death(const struct child *c, int status)
{
	char how[64];

	if (WIFSIGNALED(status))
		snprintf(how, sizeof how, "signal %d", WTERMSIG(status));
	else
		snprintf(how, sizeof how, "exit %d", WEXITSTATUS(status));
	log_note("child", c->name, "event", "ended", "how", how, NULL);
}

static void note_failed_write(struct start *st)
{
	uint64_t now = clock_mono_ms();

	if (!st->latched && st->write_failed_ms && now - st->write_failed_ms <= LATCH_MS) {
		st->latched = true;
		log_note("journal", "writes fail", "event", "new mail is refused", "do",
			 "look at the disk, then HUP", NULL);
	}
	st->write_failed_ms = now;
}

static void on_death(struct start *st, struct child *c, int status)
{
	if (c->spec->kind == ROLE_JOURNALD && WIFEXITED(status) &&
	    WEXITSTATUS(status) == ROLE_EXIT_WRITE)
		note_failed_write(st);
	c->pid = 0;
	c->state = CHILD_NONE;
	if (c->wired)
		wire_close(&c->wire);
	if (c->spec->front)
		counters_clear(st->counters, counters_column(c->spec->kind, c->index));
	if (!(c->draining && status == 0))
		log_death(c, status);
	if (st->stopping)
		stop_on(st);
	else if (c->wanted)
		restart_later(c);
}

static void reap(struct start *st)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		for (unsigned i = 0; i < st->children_n; i++)
			if (st->children[i].pid == pid)
				on_death(st, &st->children[i], status);
}

/* A front end is replaced, not told: the new one has another index, so that both have wires. */
static void replace_front(struct start *st)
{
	for (unsigned i = 0; i < role_specs_n; i++) {
		const struct role_spec *s = &role_specs[i];
		bool upper = false;

		if (!s->front)
			continue;
		for (unsigned k = 0; k < st->children_n; k++) {
			struct child *c = &st->children[k];

			if (c->spec != s || !c->wanted)
				continue;
			upper = c->index < ROLE_PROCS_MAX;
			c->wanted = false;
			timer_stop(st->loop, &c->again);
			c->draining = c->pid != 0;
			if (c->wired)
				wire_send(&c->wire, MSG_DRAIN, NULL, 0, SPAN_NONE);
		}
		for (uint32_t k = 0; k < role_procs(s, st->control); k++) {
			struct child *c = child_of(st, s, k + (upper ? ROLE_PROCS_MAX : 0));

			c->wanted = true;
			if (!c->pid)
				start_child(c);
			else if (c->draining)
				/* Since the HUP before the last one, for clients in the
				 * middle of a message.  Until it is gone and its successor
				 * up, nobody answers at the port. */
				cut_off(c);
		}
	}
}

static void on_hup(struct start *st)
{
	struct control *c = st->accepting && !st->stopping ? read_control(st) : NULL;

	if (!c || !use_control(st, c)) {
		bool up = st->accepting && !st->stopping;

		control_free(c);
		log_line("quire-start: control files not reread: %.*s",
			 SPAN_ARG(up ? buf_span(&st->why)
				     : span_str(st->stopping ? "stopping" : "not up yet")));
		return;
	}
	st->latched = false; /* journald hears it from CONTROL */
	st->write_failed_ms = 0;
	for (unsigned i = 0; i < st->children_n; i++)
		if (st->children[i].wired && !st->children[i].spec->front)
			retell(&st->children[i]);
	replace_front(st);
	log_note("event", "control files reread", NULL);
}

static void on_alrm(struct start *st)
{
	for (unsigned i = 0; i < st->children_n; i++)
		if (st->children[i].wired && st->children[i].spec->kind == ROLE_SCHED)
			wire_send(&st->children[i].wire, MSG_RETRY, NULL, 0, SPAN_NONE);
}

static void on_signal(void *ctx, int signo)
{
	struct start *st = ctx;

	switch (signo) {
	case SIGCHLD: reap(st); break;
	case SIGHUP: on_hup(st); break;
	case SIGALRM: on_alrm(st); break;
	default:
		if (st->stopping) {
			stop_now(st);
		} else {
			st->stopping = STOP_FRONT;
			timer_set(st->loop, &st->front_end, STOP_FRONT_MS);
			stop_on(st);
		}
	}
}

/* ---- the beginning ---- */

static bool find_bin(struct start *st)
{
	ssize_t n = readlink("/proc/self/exe", st->bin, sizeof st->bin - 1);
	char *slash;

	if (n < 0)
		return false;
	st->bin[n] = '\0';
	slash = strrchr(st->bin, '/');
	if (!slash)
		return false;
	*slash = '\0';
	return true;
}

/* One start a home: run/start.pid is locked for as long as we live, and says who. */
static bool take_home(struct start *st)
{
	char pid[32];
	int lock;

	if (!realpath(st->o->home, st->home)) {
		refuse(st, "home %s: %s", st->o->home, strerror(errno));
		return false;
	}
	st->home_fd = open(st->home, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (st->home_fd < 0 || faccessat(st->home_fd, "control", F_OK, 0) < 0) {
		refuse(st,
		       "%s is not a home of quire: no control directory (quire init makes one)",
		       st->home);
		return false;
	}
	st->run_fd = openat(st->home_fd, "run", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (st->run_fd < 0) {
		refuse(st, "%s/run: %s", st->home, strerror(errno));
		return false;
	}
	lock = openat(st->run_fd, "start.pid", O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	if (lock < 0 || flock(lock, LOCK_EX | LOCK_NB) < 0) {
		refuse(st,
		       errno == EWOULDBLOCK ? "%s: quire is running already"
					    : "%s/run/start.pid can't be locked",
		       st->home);
		return false;
	}
	snprintf(pid, sizeof pid, "%ld\n", (long)getpid());
	return ftruncate(lock, 0) == 0 && file_write_all(lock, span_str(pid));
}

static bool open_all(struct start *st)
{
	struct control *c = read_control(st);

	if (!c || !use_control(st, c)) {
		control_free(c);
		refuse(st, "%.*s", SPAN_ARG(buf_span(&st->why)));
		return false;
	}
	st->submit_fd = listen_unix(st->run_fd, "submit", 0666, &st->why);
	if (st->submit_fd >= 0)
		st->control_fd = listen_unix(st->run_fd, "control", 0600, &st->why);
	if (st->submit_fd < 0 || st->control_fd < 0) {
		refuse(st, "%.*s", SPAN_ARG(buf_span(&st->why)));
		return false;
	}
	st->counters_fd = counters_make();
	if (st->counters_fd < 0) {
		refuse(st, "shared counters: %s", strerror(-st->counters_fd));
		return false;
	}
	st->counters = counters_map(st->counters_fd);
	check(st->counters);
	return true;
}

int start_run(const struct start_options *o)
{
	static const int signos[] = {SIGTERM, SIGINT, SIGHUP, SIGALRM, SIGCHLD, 0};
	struct start *st = mem_new(sizeof *st);
	int code;

	st->o = o;
	st->control_fd = st->submit_fd = -1;
	buf_init(&st->packed, CONTROL_PACKED_MAX);
	buf_init(&st->why, 4096);
	umask(022);
	signal(SIGPIPE, SIG_IGN);
	if (!find_bin(st))
		refuse(st, "/proc is needed to find our programs");
	else if (take_home(st) && open_all(st)) {
		st->privileged = spawn_privileged();
		/* a handful of events a day: the plain one */
		st->loop = loop_new(LOOP_EPOLL, 0);
		timer_init(&st->front_end, on_front_end);
		if (!st->privileged)
			log_note("home", st->home, "event", "all processes run as one user",
				 NULL);
		loop_signals(st->loop, signos, on_signal, st);
		start_stage(st, STAGE_JOURNAL);
		loop_run(st->loop);
	}
	log_flush();
	code = st->exit_code;
	if (st->submit_fd >= 0)
		unlinkat(st->run_fd, "submit", 0);
	if (st->control_fd >= 0)
		unlinkat(st->run_fd, "control", 0);
	return code;
}
