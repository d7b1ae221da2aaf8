/* role - see the header.  The same frames are read twice: blocking until GO, then on the loop.
 * start is trusted to be right; where it is not, the process ends and says why. */
#include "mail/role.h"

#include "core/file.h"
#include "core/log.h"
#include "core/pool.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define TROUBLE_MAX 1000                          /* one line for start and the log */

static const int ignored[] = {SIGTERM, SIGINT, SIGHUP, SIGALRM, SIGPIPE};

static void set_signals(void (*how)(int))
{
	for (size_t i = 0; i < ARRAY_N(ignored); i++)
		if (signal(ignored[i], how) == SIG_ERR)
			die_sys(111, "signal", "");
}

void role_signals_default(void)
{
	set_signals(SIG_DFL);
}

static _Noreturn void say_and_exit(FILE *to, int status, const char *name, const char *what)
{
	fprintf(to,
	        "quire-%s %s\n"
	        "It %s.\n"
	        "quire-start runs it, with --child; there is nothing to start by hand.\n"
	        "Options: --help, --version.  See quire-start(8).\n",
	        name, QUIRE_VERSION, what);
	exit(status);
}

static void take_arguments(const char *name, const char *what, int argc, char **argv)
{
	struct span arg = argc == 2 ? span_str(argv[1]) : SPAN_NONE;

	if (span_eq(arg, SPAN("--help")))
		say_and_exit(stdout, 0, name, what);
	if (span_eq(arg, SPAN("--version"))) {
		printf("quire-%s %s\n", name, QUIRE_VERSION);
		exit(0);
	}
	if (!span_eq(arg, SPAN("--child")))
		say_and_exit(stderr, 100, name, what);
}

/* Descriptor 3 is a socket, or nobody of ours started this. */
static void check_start_fd(const char *name, const char *what)
{
	socklen_t n = sizeof(int);
	int type;

	if (getsockopt(ROLE_START_FD, SOL_SOCKET, SO_TYPE, &type, &n) < 0 ||
	    type != SOCK_STREAM)
		say_and_exit(stderr, 100, name, what);
	fd_cloexec(ROLE_START_FD, true);
}

static void take_home(struct role *r, const struct msg_home *m, struct span path)
{
	if (path.n == 0)
		die(111, "start sent no home");
	mem_free(r->home);
	r->home = mem_new(path.n + 1);
	memcpy(r->home, path.p, path.n);
	r->privileged = m->privileged;
	r->latched = m->latched;
	r->shard = m->shard;
	r->index = m->index;
	r->count = m->count;
}

/* A snapshot when its last piece came, else NULL. */
static struct control *take_control(struct role *r, struct span piece)
{
	struct control *c;

	if (!buf_add(&r->frame, piece))
		die(111, "start sent too large a snapshot of control/");
	if (!control_packed_is_whole(buf_span(&r->frame)))
		return NULL;
	c = control_new();
	if (!control_unpack(c, buf_span(&r->frame)))
		die(111, "start sent a damaged snapshot of control/");
	buf_free(&r->frame);
	return c;
}

static void take_listener(struct role *r, const struct msg_listener *m, int fd)
{
	if (r->listeners_n == ROLE_LISTENERS_MAX)
		die(111, "start sent more than %d listeners", ROLE_LISTENERS_MAX);
	r->listeners[r->listeners_n++] = (struct role_listener){m->kind, fd};
}

/* A newer end to the same peer replaces the older. */
static void take_peer(struct role *r, const struct msg_peer *m, int fd)
{
	unsigned i = 0;

	while (i < r->peers_n && (r->peers[i].role != m->role || r->peers[i].index != m->index))
		i++;
	if (i == ROLE_PEERS_MAX)
		die(111, "start sent more than %d peers", ROLE_PEERS_MAX);
	if (i < r->peers_n)
		close(r->peers[i].fd);
	else
		r->peers_n++;
	r->peers[i] = (struct role_peer){m->role, m->index, fd};
}

/* The descriptor that it replaces, or -1. */
static int take_file(struct role *r, const struct msg_file *m, int fd)
{
	if (m->kind == 0 || m->kind >= FILES)
		die(111, "start sent a file of kind %u", m->kind);
	int old = r->files[m->kind];
	r->files[m->kind] = fd;
	return old;
}

static void replace_file(struct role *r, const struct msg_file *m, int fd)
{
	int old = take_file(r, m, fd);

	if (old >= 0)
		close(old);
}

static void replace_control(struct role *r, struct span piece)
{
	struct control *c = take_control(r, piece);

	if (!c)
		return;
	control_free(r->control);
	r->control = c;
}

/* What each frame before GO must look like. */
static const struct form {
	uint16_t type, body_n;
	bool     tail, fd;
} forms[] = {
	{MSG_HOME, sizeof(struct msg_home), true, false},
	{MSG_CONTROL, 0, true, false},
	{MSG_LISTENER, sizeof(struct msg_listener), false, true},
	{MSG_PEER, sizeof(struct msg_peer), false, true},
	{MSG_FILE, sizeof(struct msg_file), false, true},
	{MSG_GO, 0, false, false},
};

static const struct form *form_of(const struct wire_head *h, struct span frame, int fd)
{
	for (size_t i = 0; i < ARRAY_N(forms); i++) {
		const struct form *f = &forms[i];

		if (f->type == h->type)
			return frame.n >= f->body_n && (f->tail || frame.n == f->body_n) &&
			       f->fd == (fd >= 0) ? f : NULL;
	}
	return NULL;
}

static void take_frame(struct role *r, const struct wire_head *h, struct span frame, int fd)
{
	const struct form *f = form_of(h, frame, fd);

	if (!f)
		die(111, "start sent a wrong frame of type %u", h->type);
	const void *body = frame.p;
	struct span tail = span_from(frame, f->body_n);
	switch (h->type) {
	case MSG_HOME: take_home(r, body, tail); break;
	case MSG_LISTENER: take_listener(r, body, fd); break;
	case MSG_PEER: take_peer(r, body, fd); break;
	case MSG_FILE: replace_file(r, body, fd); break;
	case MSG_CONTROL: replace_control(r, tail); break;
	}
}

/* start may die at any time: then there is nothing to do and nobody to tell. */
static void read_until_go(struct role *r)
{
	struct wire_head h = {.type = 0};
	struct buf frame;

	buf_init(&frame, WIRE_FRAME_MAX);
	while (h.type != MSG_GO) {
		int fd = -1;

		if (!wire_read_now(ROLE_START_FD, &frame, &h, &fd))
			exit(111);
		take_frame(r, &h, buf_span(&frame), fd);
	}
	buf_free(&frame);
	if (!r->home || !r->control)
		die(111, "start said GO before home and control/");
}

void role_begin(struct role *r, const char *name, const char *what, int argc, char **argv)
{
	take_arguments(name, what, argc, argv);
	check_start_fd(name, what);
	log_begin(name);
	set_signals(SIG_IGN);
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
		die_sys(111, "prctl", "");

	*r = (struct role){.name = name};
	for (unsigned i = 0; i < FILES; i++)
		r->files[i] = -1;
	buf_init(&r->frame, CONTROL_PACKED_MAX);
	read_until_go(r);
}

static struct role *role_of(struct wire *w)
{
	return owner_of(w, struct role, start);
}

static void on_control(struct wire *w, struct wire_in *in)
{
	struct role *r = role_of(w);
	struct control *old = r->control, *new = take_control(r, in->tail);

	if (!new)
		return;
	if (!r->calls->control) {
		control_free(new);
		return;
	}
	r->control = new;
	r->calls->control(r);
	control_free(old);
}

static void on_peer(struct wire *w, struct wire_in *in)
{
	struct role *r = role_of(w);
	const struct msg_peer *m = in->body;

	if (in->fd < 0)
		die(111, "start sent a peer without a socket");
	if (r->calls->peer)
		r->calls->peer(r, m->role, m->index, in->fd);
	else
		close(in->fd);
}

static void on_file(struct wire *w, struct wire_in *in)
{
	struct role *r = role_of(w);
	const struct msg_file *m = in->body;

	if (in->fd < 0)
		die(111, "start sent a file without a descriptor");
	int old = take_file(r, m, in->fd);
	if (r->calls->file)
		r->calls->file(r, m->kind, in->fd);
	if (old >= 0)
		close(old);
}

static void on_drain(struct wire *w, struct wire_in *in)
{
	struct role *r = role_of(w);

	if (r->calls->drain) {
		r->calls->drain(r);
		return;
	}
	log_flush();
	_exit(0);
}

static void on_retry(struct wire *w, struct wire_in *in)
{
	struct role *r = role_of(w);

	if (r->calls->retry)
		r->calls->retry(r);
}

static void on_start_lost(struct wire *w)
{
	log_flush();
	_exit(111);
}

static const struct wire_handler handlers[] = {
	{MSG_CONTROL, 0, true, false, on_control},
	{MSG_PEER, sizeof(struct msg_peer), false, true, on_peer},
	{MSG_FILE, sizeof(struct msg_file), false, true, on_file},
	{MSG_DRAIN, 0, false, false, on_drain},
	{MSG_RETRY, 0, false, false, on_retry},
};

void role_watch(struct role *r, struct loop *l, const struct role_calls *calls, void *ctx)
{
	static const struct role_calls none;

	r->calls = calls ? calls : &none;
	r->ctx = ctx;
	r->watched = true;
	wire_init(&r->start, l, ROLE_START_FD, "start", handlers, ARRAY_N(handlers),
		  on_start_lost, r);
}

void role_ready(struct role *r)
{
	check(r->watched);
	wire_send(&r->start, MSG_READY, NULL, 0, SPAN_NONE);
}

void role_trouble(struct role *r, const char *fmt, ...)
{
	char text[TROUBLE_MAX];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	/* Bytes that the wire has queued and not sent would be torn by a frame beside it. */
	bool quiet = !r->watched || (r->start.out.n == 0 && !r->start.send.armed);
	if (quiet && !wire_write_now(ROLE_START_FD, MSG_TROUBLE, NULL, 0, span_str(text), -1))
		log_note("start", "lost", NULL);
	die(111, "%s", text);
}
