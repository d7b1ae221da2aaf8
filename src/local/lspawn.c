/* lspawn - see lspawn.h.
 *
 * A job is WAITING (its body is not there), QUEUED (no worker is free) or RUNNING; then it is
 * answered, once, and gone.  A body belongs to its handle and goes when sched closed the handle
 * and no job of it is left.  A worker is BUSY (has a job), IDLE, or ENDING; its slot is free
 * when its process is gone, which only the pidfd tells: a socket can be closed by a process
 * that lives on.
 *
 * When sched is lost, its jobs are forgotten; those that run go on, and nobody hears how they
 * ended: sched will ask again (at least once, not exactly). */
#include "local/lspawn.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/arena.h"
#include "core/clock.h"
#include "core/file.h"
#include "core/log.h"
#include "core/pool.h"
#include "core/table.h"
#include "local/report.h"
#include "local/worker.h"
#include "mail/addr.h"
#include "mail/envelope.h"
#include "mail/role.h"
#include "mail/route.h"
#include "mail/users.h"

#define CONCURRENCY_DEFAULT 10                    /* docs/qmail.md 1.4: concurrencylocal */
#define CONCURRENCY_MAX     4096                  /* processes; more is a mistake in a file */
#define JOBS_MAX            (2 * CONCURRENCY_MAX) /* sched asks for no more than it was told */
#define BODIES_MAX          (2 * JOBS_MAX)        /* some have come before their jobs */
#define ADDRESS_MAX         (REWRITE_MAX + ADDR_MAX) /* a VERP sender has a recipient in it */
#define JOB_MEMORY_MAX      (32 * 1024)           /* addresses and what users/cdb says */
#define FALLBACK_MAX        8192                  /* control/defaultdelivery */
#define WORKER_IDLE_MS      8000                  /* with the sweep's interval at most 10 s */
#define SWEEP_MS            2000
#define QUIT_MS             10
#define BODY_WAIT_MS        300000                /* a job whose body never comes */
#define JOB_MS_MAX          86400000              /* docs/qmail.md 14.14: a day for one */
#define TAIL_MAX            (sizeof(struct msg_result) + MSG_PAD8(REPORT_SHOWN))

static_check(REPORT_SHOWN <= RESULT_TEXT_MAX);
static_check(JOB_MEMORY_MAX >= 4 * ADDRESS_MAX);

struct lspawn;
struct peer {                                     /* one connection to sched or a body */
	struct wire    wire;
	struct lspawn *ls;
	uint32_t       role, index;
	char           name[24];
};

struct body {
	uint32_t    handle;
	int         fd;                           /* -1: not there yet */
	bool        failed, closed;
	bool        unlisted;                     /* its handle means another now, or none */
	uint64_t    id, size;
	uint64_t    since_ms;
	unsigned    jobs;                         /* that still need it */
	struct link waiting;
};

struct worker;
struct job {
	struct link    link;                      /* in body.waiting or lspawn.queue */
	uint32_t       number;
	uint64_t       id, size;
	bool           has_host;                  /* there is an '@' in it */
	bool           forgotten;                 /* its sched is gone */
	uint64_t       since_ms;                  /* waiting since, or running since */
	struct body   *body;
	struct arena   mem;
	struct span    sender, local, domain;
	struct user    user;
};

struct worker {
	struct link    link;
	struct lspawn *ls;
	struct op      answer, death;
	int            sock, pidfd;
	pid_t          pid;
	uid_t          uid;
	gid_t          gid;
	struct job    *job;                       /* NULL: idle or ending */
	bool           ending;
	uint64_t       idle_since_ms;
};

struct lspawn {
	struct role     *role;
	struct loop     *loop;
	struct peer     *sched;                   /* NULL: none now */
	struct peer     *bodies[ROLE_PEERS_MAX];
	struct map       by_handle;
	struct pool      body_pool, job_pool, worker_pool;
	struct link      queue, workers;
	unsigned         workers_n, ending_n, jobs_n, limit;
	struct cdb_file *cdb;
	bool             cdb_bad, draining;
	char            *alias_dir;               /* of this home: users.h */
	struct timer     sweep, quit;
};

static void pump(struct lspawn *ls);

/* --- bodies ----------------------------------------------------------------------------- */

static void sweep_soon(struct lspawn *ls)
{
	if (!timer_is_set(&ls->sweep))
		timer_set(ls->loop, &ls->sweep, SWEEP_MS);
}

/* NULL: there are too many. */
static struct body *body_of(struct lspawn *ls, uint32_t handle)
{
	struct body *b = map_get(&ls->by_handle, handle);

	if (b)
		return b;
	b = pool_get(&ls->body_pool);
	if (!b)
		return NULL;
	*b = (struct body){.handle = handle, .fd = -1, .since_ms = clock_mono_ms()};
	list_init(&b->waiting);
	check(map_put(&ls->by_handle, handle, b));
	sweep_soon(ls);
	return b;
}

static void body_drop(struct lspawn *ls, struct body *b)
{
	check(b->jobs == 0 && list_is_empty(&b->waiting));
	if (b->fd >= 0)
		close(b->fd);
	if (!b->unlisted)
		map_remove(&ls->by_handle, b->handle);
	pool_put(&ls->body_pool, b);
}

static void body_forget_file(struct body *b)
{
	if (b->fd >= 0)
		close(b->fd);
	b->fd = -1;
	b->failed = false;
}

static void body_drop_if_done(struct lspawn *ls, struct body *b)
{
	if (b->closed && b->jobs == 0)
		body_drop(ls, b);
}

/* --- jobs -------------------------------------------------------------------------------- */

static void job_free(struct lspawn *ls, struct job *j)
{
	struct body *b = j->body;

	list_remove(&j->link);
	arena_fini(&j->mem);
	pool_put(&ls->job_pool, j);
	ls->jobs_n--;
	check(b->jobs > 0);
	b->jobs--;
	b->since_ms = clock_mono_ms();            /* sched may have more of it under way */
	body_drop_if_done(ls, b);
}

/* Beside the letters of qmail's spawners: it was not tried, for want of its body. */
#define NO_BODY 'B'

static enum outcome outcome_of(char letter)
{
	switch (letter) {
	case 'K': return OUTCOME_DELIVERED;
	case 'D': return OUTCOME_FAILED;
	default: return OUTCOME_DEFERRED;
	}
}

static void send_verdict(struct lspawn *ls, uint32_t number, char letter, struct span text)
{
	struct msg_verdict v = {.job = number, .results = 1};
	struct msg_result  result = {.outcome = (uint8_t)outcome_of(letter),
				     .slow = letter == NO_BODY ? 3 : 0};
	char               tail[TAIL_MAX] = {0};

	text = span_until(text, REPORT_SHOWN);
	result.text_n = (uint16_t)text.n;
	memcpy(tail, &result, sizeof(result));
	if (text.n > 0)
		memcpy(tail + sizeof(result), text.p, text.n);
	wire_send(&ls->sched->wire, MSG_VERDICT, &v, sizeof(v),
	          span_of(tail, sizeof(result) + MSG_PAD8(text.n)));
}

/* The last verdicts must leave: one that is lost is a mail delivered twice. */
static void on_quit(struct timer *t)
{
	struct lspawn *ls = owner_of(t, struct lspawn, quit);

	if (ls->sched && (ls->sched->wire.out.n > 0 || ls->sched->wire.send.armed))
		timer_set(ls->loop, t, QUIT_MS);
	else
		loop_stop(ls->loop);
}

static void stop_if_drained(struct lspawn *ls)
{
	if (ls->draining && ls->jobs_n == 0)
		timer_set(ls->loop, &ls->quit, QUIT_MS);
}

/* The one way in which a job ends. */
static void job_done(struct lspawn *ls, struct job *j, char letter, struct span text)
{
	if (!j->forgotten && ls->sched)
		send_verdict(ls, j->number, letter, text);
	job_free(ls, j);
	stop_if_drained(ls);
}

static void users_trouble(struct lspawn *ls, struct job *j, enum users_result why)
{
	switch (why) {
	case USERS_NO_ALIAS:
		return job_done(ls, j, 'Z', SPAN("Unable to find alias user!\n"));
	case USERS_BAD_CDB:
		return job_done(ls, j, 'Z',
				SPAN("Trouble reading users/cdb in qmail-lspawn.\n"));
	case USERS_TEMP:
		return job_done(ls, j, 'Z', SPAN("Temporary failure in qmail-lspawn.\n"));
	case USERS_OK:
		break;
	}
	unreachable();
}

/* Its body is there: whose mail is it? */
static void job_ready(struct lspawn *ls, struct job *j)
{
	enum users_result found;

	list_remove(&j->link);
	if (j->body->failed)
		return job_done(ls, j, NO_BODY, SPAN("Unable to read message. (#4.3.0)\n"));
	if (j->body->size != j->size || (j->body->id != 0 && j->body->id != j->id))
		return job_done(ls, j, 'Z', SPAN("Message has a wrong body. (#4.3.0)\n"));
	if (!j->has_host)
		return job_done(ls, j, 'D',
				SPAN("Sorry, address must include host name. (#5.1.3)\n"));
	if (j->local.n == 0)                      /* docs/qmail.md 13.7: for trash */
		return job_done(ls, j, 'K', SPAN_NONE);
	if (ls->cdb_bad)
		return users_trouble(ls, j, USERS_BAD_CDB);
	found = users_find(ls->cdb, ls->alias_dir, !ls->role->privileged, j->local, &j->mem,
			   &j->user);
	if (found != USERS_OK)
		return users_trouble(ls, j, found);
	if (ls->role->privileged && j->user.uid == 0)
		return job_done(ls, j, 'Z',
				SPAN("Not allowed to perform deliveries as root.\n"));
	list_add_end(&ls->queue, &j->link);
	pump(ls);
}

static void body_is_here(struct lspawn *ls, struct body *b)
{
	struct link *l;

	b->jobs++;                                /* ours: the last job may drop the body */
	while ((l = list_first(&b->waiting)))
		job_ready(ls, owner_of(l, struct job, link));
	b->jobs--;
	body_drop_if_done(ls, b);
}

/* --- workers ----------------------------------------------------------------------------- */

static void worker_free(struct worker *w)
{
	struct lspawn *ls = w->ls;

	list_remove(&w->link);
	close(w->pidfd);
	ls->workers_n--;
	if (w->ending)
		ls->ending_n--;
	pool_put(&ls->worker_pool, w);
	pump(ls);
}

/* No more jobs for it.  The socket stays open until nothing waits on it. */
static void worker_end(struct worker *w)
{
	if (w->ending)
		return;
	w->ending = true;
	w->ls->ending_n++;
	pidfd_send_signal(w->pidfd, SIGKILL, NULL, 0);
	loop_cancel(w->ls->loop, &w->answer);
}

static void worker_close_if_over(struct worker *w)
{
	if (w->answer.armed || !w->ending)
		return;
	if (w->sock >= 0)
		close(w->sock);
	w->sock = -1;
	if (!w->death.armed)
		worker_free(w);
}

static void job_crashed(struct worker *w, struct span text)
{
	struct job *j = w->job;

	w->job = NULL;
	if (j)
		job_done(w->ls, j, 'Z', text);
}

static void on_death(struct op *op, int res, unsigned flags)
{
	struct worker *w = owner_of(op, struct worker, death);
	siginfo_t      si = {0};
	char           pid[24], status[24];

	if (waitid(P_PIDFD, (id_t)w->pidfd, &si, WEXITED | WNOHANG) == 0 && si.si_pid == 0) {
		loop_poll(w->ls->loop, &w->death, w->pidfd, POLLIN);
		return;                           /* woken for nothing */
	}
	if (!w->ending) {
		snprintf(pid, sizeof(pid), "%d", (int)w->pid);
		snprintf(status, sizeof(status), "%d", si.si_status);
		log_note("worker", pid, si.si_code == CLD_EXITED ? "exit" : "signal", status,
			 NULL);
	}
	worker_end(w);
	worker_close_if_over(w);
}

static bool letter_is_known(char letter)
{
	return letter == 'K' || letter == 'Z' || letter == 'D';
}

static void await_answer(struct worker *w)
{
	loop_poll(w->ls->loop, &w->answer, w->sock, POLLIN);
}

/* What it says counts for its own job only; what it says without one, or in another form, is
   the end of it. */
static void on_answer(struct op *op, int res, unsigned flags)
{
	struct worker *w = owner_of(op, struct worker, answer);
	struct lspawn *ls = w->ls;
	struct job    *j = w->job;
	char           said[WORKER_ANSWER_MAX];
	ssize_t        n;

	n = recv(w->sock, said, sizeof(said), MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR) && !w->ending)
		return await_answer(w);
	if (n < 1 || !j || !letter_is_known(said[0])) {
		worker_end(w);
		job_crashed(w, SPAN("qmail-local crashed.\n"));
		return worker_close_if_over(w);
	}
	w->job = NULL;
	w->idle_since_ms = clock_mono_ms();
	if (w->ending)
		worker_close_if_over(w);
	else
		await_answer(w);
	job_done(ls, j, said[0], span_of(said + 1, (size_t)n - 1));
	pump(ls);
}

static struct worker *worker_new(struct lspawn *ls, const struct worker_who *who)
{
	struct worker *w = pool_get(&ls->worker_pool);

	if (!w)
		return NULL;
	*w = (struct worker){.ls = ls, .uid = who->uid, .gid = who->gid};
	w->pid = worker_start(who, ls->role->home, &w->sock, &w->pidfd);
	if (w->pid < 0) {
		pool_put(&ls->worker_pool, w);
		return NULL;
	}
	op_init(&w->answer, on_answer);
	op_init(&w->death, on_death);
	w->idle_since_ms = clock_mono_ms();
	list_add_end(&ls->workers, &w->link);
	ls->workers_n++;
	loop_poll(ls->loop, &w->death, w->pidfd, POLLIN);
	await_answer(w);
	sweep_soon(ls);
	return w;
}

static bool is_idle(const struct worker *w)
{
	return !w->job && !w->ending;
}

static struct worker *idle_of(struct lspawn *ls, const struct worker_who *who)
{
	list_each(&ls->workers, l) {
		struct worker *w = owner_of(l, struct worker, link);

		if (is_idle(w) && w->uid == who->uid && w->gid == who->gid)
			return w;
	}
	return NULL;
}

static struct worker *longest_idle(struct lspawn *ls)
{
	struct worker *longest = NULL;

	list_each(&ls->workers, l) {
		struct worker *w = owner_of(l, struct worker, link);

		if (is_idle(w) && (!longest || w->idle_since_ms < longest->idle_since_ms))
			longest = w;
	}
	return longest;
}

static struct worker_who who_of(const struct lspawn *ls, const struct job *j)
{
	if (ls->role->privileged)
		return (struct worker_who){
			.drop = true, .uid = j->user.uid, .gid = j->user.gid};
	return (struct worker_who){.drop = false, .uid = geteuid(), .gid = getegid()};
}

static struct span fallback_of(const struct lspawn *ls)
{
	bool        there;
	struct span text = control_raw(ls->role->control, "defaultdelivery", &there);

	text = span_trim_end(text, " \t\n");
	if (!there || text.n == 0 || text.n > FALLBACK_MAX)
		return SPAN("./Maildir/");
	return text;
}

static void hand_over(struct lspawn *ls, struct job *j, struct worker *w)
{
	struct local_job job = {
		.home = j->user.home,
		.local = j->local,
		.domain = j->domain,
		.dash = j->user.dash,
		.ext = j->user.ext,
		.sender = j->sender,
		.fallback = fallback_of(ls),
	};

	list_remove(&j->link);
	if (!worker_send(w->sock, &job, j->body->fd, j->size)) {
		worker_end(w);                    /* it is gone: nothing was done */
		return job_done(ls, j, 'Z', SPAN("Temporary failure in qmail-lspawn.\n"));
	}
	w->job = j;
	j->since_ms = clock_mono_ms();
}

/* Gives queued jobs to workers, in their order: where the first cannot run, none can. */
static void pump(struct lspawn *ls)
{
	struct link *l;

	while ((l = list_first(&ls->queue))) {
		struct job       *j = owner_of(l, struct job, link);
		struct worker_who who = who_of(ls, j);
		struct worker    *w = idle_of(ls, &who);

		if (!w && ls->workers_n >= ls->limit) {
			w = ls->ending_n == 0 ? longest_idle(ls) : NULL;
			if (w)
				worker_end(w);    /* its slot comes with its death */
			return;
		}
		if (!w)
			w = worker_new(ls, &who);
		if (w) {
			hand_over(ls, j, w);
		} else {
			log_note("error", "cannot start a worker", "why", strerror(errno),
				 NULL);
			job_done(ls, j, 'Z', SPAN("Temporary failure in qmail-lspawn.\n"));
		}
	}
}

static void sweep_workers(struct lspawn *ls, uint64_t now)
{
	list_each(&ls->workers, l) {
		struct worker *w = owner_of(l, struct worker, link);

		if (is_idle(w) && (now - w->idle_since_ms >= WORKER_IDLE_MS ||
		                   ls->workers_n - ls->ending_n > ls->limit))
			worker_end(w);
		if (w->job && now - w->job->since_ms >= JOB_MS_MAX) {
			worker_end(w);
			job_crashed(w, SPAN("Timeout on local delivery. (#4.3.0)\n"));
		}
	}
}

/* Bodies that never came, and bodies that nobody asked for (their sched is gone). */
static void sweep_bodies(struct lspawn *ls, uint64_t now)
{
	size_t       at = 0;
	uint64_t     handle;
	struct body *b;

	while ((b = map_next(&ls->by_handle, &at, &handle))) {
		if (now - b->since_ms < BODY_WAIT_MS)
			continue;
		if (b->jobs == 0) {
			body_drop(ls, b);
		} else if (b->fd < 0 && !b->failed) {
			b->failed = true;
			body_is_here(ls, b);
		}
	}
}

static void on_sweep(struct timer *t)
{
	struct lspawn *ls = owner_of(t, struct lspawn, sweep);
	uint64_t       now = clock_mono_ms();

	sweep_workers(ls, now);
	sweep_bodies(ls, now);
	if (ls->workers_n > 0 || ls->by_handle.n > 0)
		sweep_soon(ls);
}

/* --- sched and body ---------------------------------------------------------------------- */

static struct lspawn *lspawn_of(struct wire *w)
{
	return ((struct peer *)w->ctx)->ls;
}

static bool is_current(struct lspawn *ls, const struct wire *w)
{
	return ls->sched && &ls->sched->wire == w;
}

/* false: not what sched may send. */
static bool job_fill(struct job *j, const struct msg_deliver *m, struct span tail)
{
	struct span sender = span_cut(&tail, m->sender_n);
	struct span rcpt;

	if (sender.n != m->sender_n || m->rcpts != 1 || !packed_next(&tail, &rcpt) ||
	    tail.n > 0)
		return false;
	if (sender.n > ADDRESS_MAX || rcpt.n > ADDRESS_MAX)
		return false;
	arena_init(&j->mem, 1024, JOB_MEMORY_MAX);
	j->sender = arena_dup(&j->mem, sender);
	rcpt = arena_dup(&j->mem, rcpt);
	j->local = addr_local(rcpt);
	j->domain = addr_domain(rcpt);
	j->has_host = addr_has_at(rcpt);
	j->number = m->job;
	j->id = m->id;
	j->size = m->size;
	j->since_ms = clock_mono_ms();
	return true;
}

static void on_deliver(struct wire *w, struct wire_in *in)
{
	const struct msg_deliver *m = in->body;
	struct lspawn            *ls = lspawn_of(w);
	struct body              *b;
	struct job               *j;

	if (!is_current(ls, w) || ls->draining)   /* sched takes it back when we are gone */
		return;
	j = pool_get(&ls->job_pool);
	b = j ? body_of(ls, m->handle) : NULL;
	if (!b) {
		pool_put(&ls->job_pool, j);
		return send_verdict(ls, m->job, 'Z', SPAN("Out of memory in qmail-lspawn.\n"));
	}
	if (!job_fill(j, m, in->tail)) {
		pool_put(&ls->job_pool, j);
		return wire_close(w);
	}
	j->body = b;
	b->jobs++;
	ls->jobs_n++;
	list_add_end(&b->waiting, &j->link);
	if (b->fd >= 0 || b->failed)
		job_ready(ls, j);
}

static void on_close(struct wire *w, struct wire_in *in)
{
	const struct msg_close *m = in->body;
	struct lspawn          *ls = lspawn_of(w);
	struct body            *b = map_get(&ls->by_handle, m->handle);

	if (!b || !is_current(ls, w))
		return;
	b->closed = true;
	body_drop_if_done(ls, b);
}

/* A worker maps the file: nobody may be able to cut it short meanwhile, or to write to it. */
static bool is_sealed(int fd, uint64_t size)
{
	const int   want = F_SEAL_SHRINK | F_SEAL_WRITE;
	struct stat st;

	return fstat(fd, &st) == 0 && (uint64_t)st.st_size == size &&
	       (fcntl(fd, F_GET_SEALS) & want) == want;
}

static void on_bodyfile(struct wire *w, struct wire_in *in)
{
	const struct msg_bodyfile *m = in->body;
	struct lspawn             *ls = lspawn_of(w);
	struct body               *b = body_of(ls, m->handle);
	char                       handle[24];

	if (b && b->jobs == 0)                    /* one that an earlier sched had asked for */
		body_forget_file(b);
	if (!b || b->fd >= 0 || b->failed) {      /* too many, or twice */
		snprintf(handle, sizeof(handle), "%" PRIu32, m->handle);
		log_note("odd", "a body that cannot be taken", "handle", handle, NULL);
		if (in->fd >= 0)
			close(in->fd);
		return;
	}
	b->id = m->id;
	b->size = m->size;
	b->fd = in->fd;
	b->failed = b->fd < 0 || !is_sealed(b->fd, b->size);
	body_is_here(ls, b);
}

static void on_bodyfail(struct wire *w, struct wire_in *in)
{
	const struct msg_close *m = in->body;
	struct lspawn          *ls = lspawn_of(w);
	struct body            *b = body_of(ls, m->handle);

	if (!b || b->fd >= 0 || b->failed)
		return;
	b->failed = true;
	body_is_here(ls, b);
}

static const struct wire_handler from_sched[] = {
	{MSG_DELIVER, sizeof(struct msg_deliver), true, false, on_deliver},
	{MSG_CLOSE, sizeof(struct msg_close), false, false, on_close},
};
static const struct wire_handler from_body[] = {
	{MSG_BODYFILE, sizeof(struct msg_bodyfile), false, true, on_bodyfile},
	{MSG_BODYFAIL, sizeof(struct msg_close), false, false, on_bodyfail},
};

/* Everything that sched asked for is void; so are its handles, which the next sched may give to
   other messages. */
static void forget_jobs(struct lspawn *ls)
{
	size_t       at = 0;
	uint64_t     handle;
	struct body *b;
	struct link *l;

	list_each(&ls->workers, wl) {
		struct worker *w = owner_of(wl, struct worker, link);

		if (w->job)
			w->job->forgotten = true;
	}
	while ((l = list_first(&ls->queue)))
		job_free(ls, owner_of(l, struct job, link));
	while ((b = map_next(&ls->by_handle, &at, &handle))) {
		map_remove(&ls->by_handle, handle);
		b->unlisted = b->closed = true;
		b->jobs++;                        /* ours */
		while ((l = list_first(&b->waiting)))
			job_free(ls, owner_of(l, struct job, link));
		b->jobs--;
		body_drop_if_done(ls, b);
	}
}

/* Which body process works at which handle only sched knows: what has not come may have been
   its, and is tried again. */
static void fail_missing_bodies(struct lspawn *ls)
{
	size_t       at = 0;
	uint64_t     handle;
	struct body *b;

	while ((b = map_next(&ls->by_handle, &at, &handle))) {
		if (b->fd < 0 && !b->failed) {
			b->failed = true;
			body_is_here(ls, b);
		}
	}
}

static void on_lost(struct wire *w)
{
	struct peer   *p = w->ctx;
	struct lspawn *ls = p->ls;

	if (ls->sched == p) {
		ls->sched = NULL;
		forget_jobs(ls);
	}
	if (p->role == ROLE_BODY && ls->bodies[p->index] == p) {
		ls->bodies[p->index] = NULL;
		fail_missing_bodies(ls);
	}
	mem_free(p);
	stop_if_drained(ls);
}

static void tell_sched_limit(struct lspawn *ls)
{
	struct msg_agent a = {.jobs_max = ls->limit};

	if (ls->sched)
		wire_send(&ls->sched->wire, MSG_AGENT, &a, sizeof(a), SPAN_NONE);
}

static void attach_sched(struct lspawn *ls, struct peer *p, int fd)
{
	struct peer *old = ls->sched;

	wire_init(&p->wire, ls->loop, fd, p->name, from_sched, ARRAY_N(from_sched), on_lost, p);
	ls->sched = p;
	if (old) {
		forget_jobs(ls);
		wire_close(&old->wire);
	}
	tell_sched_limit(ls);
}

static void attach_body(struct lspawn *ls, struct peer *p, int fd)
{
	struct peer *old = ls->bodies[p->index];

	wire_init(&p->wire, ls->loop, fd, p->name, from_body, ARRAY_N(from_body), on_lost, p);
	ls->bodies[p->index] = p;
	if (old) {
		fail_missing_bodies(ls);
		wire_close(&old->wire);
	}
}

static void attach(struct lspawn *ls, uint32_t role, uint32_t index, int fd)
{
	bool wanted = role == ROLE_SCHED || (role == ROLE_BODY && index < ROLE_PEERS_MAX);
	struct peer *p;

	if (!wanted) {
		close(fd);
		return;
	}
	p = mem_new(sizeof(*p));
	*p = (struct peer){.ls = ls, .role = role, .index = index};
	snprintf(p->name, sizeof(p->name), "%s/%" PRIu32, role == ROLE_SCHED ? "sched" : "body",
		 index);
	if (role == ROLE_SCHED)
		attach_sched(ls, p, fd);
	else
		attach_body(ls, p, fd);
}

/* --- start ------------------------------------------------------------------------------- */

static void use_control(struct lspawn *ls)
{
	uint64_t want = control_int(ls->role->control, "concurrencylocal", CONCURRENCY_DEFAULT);

	if (want > CONCURRENCY_MAX) {
		log_note("control", "concurrencylocal", "odd", "too large, 4096 is taken",
			 NULL);
		want = CONCURRENCY_MAX;
	}
	ls->limit = (unsigned)want;
	/* A socket and a pidfd for each worker, a body for each job, and ours. */
	fd_raise_limit(4 * want + 256);
}

static void use_cdb(struct lspawn *ls, int fd)
{
	cdb_file_free(ls->cdb);
	ls->cdb = NULL;
	ls->cdb_bad = false;
	if (fd < 0)
		return;
	ls->cdb = cdb_file_new(fd);
	close(fd);
	if (!ls->cdb) {
		ls->cdb_bad = true;
		log_note("file", "users/cdb", "error", "damaged: all local mail waits", NULL);
	}
}

static void on_peer(struct role *r, uint32_t role, uint32_t index, int fd)
{
	attach(r->ctx, role, index, fd);
}

static void on_control(struct role *r)
{
	struct lspawn *ls = r->ctx;
	unsigned       old = ls->limit;

	use_control(ls);
	if (ls->limit != old)
		tell_sched_limit(ls);
	pump(ls);
}

/* What is closed here must not be closed again when the next one comes (mail/role.h). */
static void on_file(struct role *r, uint32_t kind, int fd)
{
	r->files[kind] = -1;
	if (kind == FILE_USERS_CDB)
		use_cdb(r->ctx, fd);
	else
		close(fd);
}

static void on_drain(struct role *r)
{
	struct lspawn *ls = r->ctx;

	ls->draining = true;
	stop_if_drained(ls);
}

static const struct role_calls calls = {
	.peer = on_peer, .control = on_control, .file = on_file, .drain = on_drain,
};

static char *alias_dir_of(const struct role *r)
{
	size_t n = strlen(r->home) + sizeof("/alias");
	char  *dir;

	if (!r->privileged)
		log_note("users", "one for all", "home", r->home, NULL);
	dir = mem_new(n);
	snprintf(dir, n, "%s/alias", r->home);
	return dir;
}

static void init(struct lspawn *ls, struct role *r)
{
	*ls = (struct lspawn){.role = r, .loop = loop_new(LOOP_AUTO, 0)};
	map_init(&ls->by_handle, BODIES_MAX);
	pool_init(&ls->body_pool, sizeof(struct body), BODIES_MAX);
	pool_init(&ls->job_pool, sizeof(struct job), JOBS_MAX);
	pool_init(&ls->worker_pool, sizeof(struct worker), CONCURRENCY_MAX);
	list_init(&ls->queue);
	list_init(&ls->workers);
	timer_init(&ls->sweep, on_sweep);
	timer_init(&ls->quit, on_quit);
	ls->alias_dir = alias_dir_of(r);
	use_control(ls);
	use_cdb(ls, r->files[FILE_USERS_CDB]);
	r->files[FILE_USERS_CDB] = -1;
}

void lspawn_run(struct role *r)
{
	static struct lspawn ls;

	init(&ls, r);
	for (unsigned i = 0; i < r->peers_n; i++)
		attach(&ls, r->peers[i].role, r->peers[i].index, r->peers[i].fd);
	role_watch(r, ls.loop, &calls, &ls);
	role_ready(r);
	loop_run(ls.loop);
	log_flush();
}
