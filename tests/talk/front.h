/* front - what tests of a front end's driver need: a journald that is ours, and clients that
 * talk over real sockets while the loop under test runs in the same thread.
 *
 * The journald unpacks what it gets and keeps it; it answers as told.  Everything that waits
 * does so for at most FRONT_WAIT_MS. */
#ifndef TESTS_FRONT_H
#define TESTS_FRONT_H

#include "core/clock.h"
#include "core/loop.h"
#include "core/wire.h"
#include "journal/zip.h"
#include "mail/control.h"
#include "mail/envelope.h"
#include "mail/msg.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define FRONT_WAIT_MS 10000
#define FRONT_SUBS    4096
#define FRONT_BIG     (64 * 1024 * 1024)

static inline void front_must(bool ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "front: %s\n", what);
	abort();
}

/* ---- the loop, a bit at a time ---- */

static inline void front_tick(struct timer *t)
{
}

static inline void front_pass(struct loop *l)
{
	struct timer t;

	timer_init(&t, front_tick);
	timer_set(l, &t, 1);
	loop_pass(l);
	timer_stop(l, &t);
}

#define front_until(loop, cond) \
	do { \
		clock_refresh(); \
		uint64_t until_ = clock_mono_ms() + FRONT_WAIT_MS; \
		while (!(cond)) { \
			front_must(clock_mono_ms() < until_, "waited too long for " #cond); \
			front_pass(loop); \
		} \
	} while (0)

/* ---- a journald ---- */

struct front_sub {
	uint32_t   sub;
	bool       used;
	struct buf body, rcpts;
};
struct front_stored {
	char       sender[1024];
	struct buf body, rcpts;
	uint32_t   rcpts_n, sub;
};
struct front_journald {
	struct loop        *loop;
	struct wire         wire;
	struct zip         *zip;
	bool                up, hold;
	enum stored         verdict;
	uint64_t            id;
	struct front_sub    subs[FRONT_SUBS];
	struct front_stored stored[FRONT_SUBS];
	unsigned            stored_n, answered_n, abandoned_n;
};

static inline struct front_sub *front_sub(struct front_journald *j, uint32_t number)
{
	struct front_sub *s = &j->subs[number % FRONT_SUBS];

	if (!s->used) {
		s->used = true;
		s->sub = number;
		buf_init(&s->body, FRONT_BIG);
		buf_init(&s->rcpts, FRONT_BIG);
	}
	front_must(s->sub == number, "two submissions with one number");
	return s;
}

static inline void front_on_part(struct wire *w, struct wire_in *in)
{
	struct front_journald *j = w->ctx;
	const struct msg_part *p = in->body;
	struct front_sub      *s = front_sub(j, p->sub);
	char                  *at = buf_room(&s->body, p->raw_n);

	front_must(at && zip_unpack(j->zip, p->codec, p->dict, in->tail, p->raw_hash, at,
				    p->raw_n),
		   "a part is damaged");
	s->body.n += p->raw_n;
}

static inline void front_on_rcpts(struct wire *w, struct wire_in *in)
{
	const struct msg_rcpts *m = in->body;

	front_must(buf_add(&front_sub(w->ctx, m->sub)->rcpts, in->tail), "recipients");
}

static inline void front_answer(struct front_journald *j)
{
	struct front_stored *m = &j->stored[j->answered_n++];
	struct msg_stored    a = {.sub = m->sub, .verdict = j->verdict, .id = ++j->id};

	wire_send(&j->wire, MSG_STORED, &a, sizeof(a), SPAN_NONE);
}

static inline void front_on_submit(struct wire *w, struct wire_in *in)
{
	struct front_journald   *j = w->ctx;
	const struct msg_submit *m = in->body;
	struct front_sub        *s = front_sub(j, m->sub);
	struct front_stored     *to = &j->stored[j->stored_n++];

	front_must(j->stored_n < FRONT_SUBS, "too many messages");
	front_must(m->size == s->body.n && m->kind == SUBMIT_NETWORK, "the size is wrong");
	front_must(
		span_to_cstr(span_until(in->tail, m->sender_n), to->sender, sizeof(to->sender)),
		"sender");
	to->body = s->body;
	to->rcpts = s->rcpts;
	to->rcpts_n = m->rcpts;
	to->sub = m->sub;
	*s = (struct front_sub){0};
	if (!j->hold)
		front_answer(j);
}

static inline void front_sub_free(struct front_sub *s)
{
	buf_free(&s->body);
	buf_free(&s->rcpts);
	*s = (struct front_sub){0};
}

static inline void front_on_abandon(struct wire *w, struct wire_in *in)
{
	struct front_journald *j = w->ctx;
	const struct msg_sub  *m = in->body;

	j->abandoned_n++;
	front_sub_free(front_sub(j, m->sub));
}

static const struct wire_handler front_handlers[] = {
	{MSG_PART, sizeof(struct msg_part), true, false, front_on_part},
	{MSG_RCPTS, sizeof(struct msg_rcpts), true, false, front_on_rcpts},
	{MSG_SUBMIT, sizeof(struct msg_submit), true, false, front_on_submit},
	{MSG_ABANDON, sizeof(struct msg_sub), false, false, front_on_abandon},
};

static inline void front_on_lost(struct wire *w)
{
	struct front_journald *j = w->ctx;

	j->up = false;
	for (unsigned i = 0; i < FRONT_SUBS; i++)
		front_sub_free(&j->subs[i]);
}

static inline void front_admit(struct front_journald *j, bool open)
{
	struct msg_admit a = {.open = open};

	wire_send(&j->wire, MSG_ADMIT, &a, sizeof(a), SPAN_NONE);
}

static inline void front_journald_init(struct front_journald *j, struct loop *l)
{
	memset(j, 0, sizeof(*j));
	j->loop = l;
	j->id = 1000;
	j->zip = zip_new(1);
}

/* Returns the other end of its wire. */
static inline int front_journald_up(struct front_journald *j)
{
	int pair[2];

	front_must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) ==
			   0,
		   "socketpair");
	wire_init(&j->wire, j->loop, pair[0], "front", front_handlers, ARRAY_N(front_handlers),
		  front_on_lost, j);
	j->up = true;
	front_admit(j, true);
	return pair[1];
}

static inline void front_journald_down(struct front_journald *j)
{
	if (j->up)
		wire_close(&j->wire);
	front_until(j->loop, !j->up);
}

static inline void front_journald_fini(struct front_journald *j)
{
	front_journald_down(j);
	for (unsigned i = 0; i < j->stored_n; i++) {
		buf_free(&j->stored[i].body);
		buf_free(&j->stored[i].rcpts);
	}
	zip_free(j->zip);
}

/* ---- clients ---- */

static inline int front_listen(uint16_t *ret_port)
{
	struct sockaddr_in a = {.sin_family = AF_INET,
				.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t          n = sizeof(a);
	int                fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	front_must(fd >= 0 && bind(fd, (struct sockaddr *)&a, n) == 0 && listen(fd, 4096) == 0,
		   "listen");
	front_must(getsockname(fd, (struct sockaddr *)&a, &n) == 0, "getsockname");
	*ret_port = ntohs(a.sin_port);
	return fd;
}

static inline int front_connect(uint16_t port)
{
	struct sockaddr_in a = {.sin_family = AF_INET,
				.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
				.sin_port = htons(port)};
	int                fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	front_must(fd >= 0 && connect(fd, (struct sockaddr *)&a, sizeof(a)) == 0, "connect");
	front_must(fcntl(fd, F_SETFL, O_NONBLOCK) == 0, "fcntl");
	return fd;
}

static inline void front_say(struct loop *l, int fd, struct span s)
{
	clock_refresh();
	uint64_t until = clock_mono_ms() + FRONT_WAIT_MS;

	while (s.n > 0) {
		ssize_t n = send(fd, s.p, s.n, MSG_NOSIGNAL);

		if (n > 0)
			span_cut(&s, (size_t)n);
		else
			front_must(errno == EAGAIN && clock_mono_ms() < until, "can't say it");
		front_pass(l);
	}
}

/* As much as fits without waiting. */
static inline size_t front_say_some(int fd, struct span s)
{
	ssize_t n = send(fd, s.p, s.n, MSG_NOSIGNAL);

	return n > 0 ? (size_t)n : 0;
}

/* Exactly these bytes come next. */
static inline void front_hear(struct loop *l, int fd, const char *want)
{
	char   got[4096];
	size_t n = 0, want_n = strlen(want);

	clock_refresh();
	uint64_t until = clock_mono_ms() + FRONT_WAIT_MS;

	front_must(want_n < sizeof(got), "want less");
	while (n < want_n) {
		ssize_t r = recv(fd, got + n, want_n - n, 0);

		if (r > 0) {
			n += (size_t)r;
			continue;
		}
		if (r == 0 || errno != EAGAIN || clock_mono_ms() >= until) {
			fprintf(stderr, "front: heard \"%.*s\", wanted \"%s\" (%s)\n", (int)n,
				got, want, r == 0 ? "end of file" : strerror(errno));
			abort();
		}
		front_pass(l);
	}
	if (memcmp(got, want, n) != 0) {
		fprintf(stderr, "front: heard \"%.*s\", wanted \"%s\"\n", (int)n, got, want);
		abort();
	}
}

/* A line that begins so; the rest of it is let go. */
static inline void front_hear_line(struct loop *l, int fd, const char *want)
{
	char c = 0;

	front_hear(l, fd, want);
	clock_refresh();
	uint64_t until = clock_mono_ms() + FRONT_WAIT_MS;
	while (c != '\n') {
		ssize_t r = recv(fd, &c, 1, 0);

		front_must(r == 1 || (r < 0 && errno == EAGAIN && clock_mono_ms() < until),
			   "the line has no end");
		if (r < 0)
			front_pass(l);
	}
}

static inline void front_hear_end(struct loop *l, int fd)
{
	char c;

	clock_refresh();
	uint64_t until = clock_mono_ms() + FRONT_WAIT_MS;
	for (;;) {
		ssize_t r = recv(fd, &c, 1, 0);

		if (r == 0 || (r < 0 && errno == ECONNRESET))
			return;
		front_must(r < 0 && errno == EAGAIN, "something was said before the end");
		front_must(clock_mono_ms() < until, "no end");
		front_pass(l);
	}
}

static inline void front_hear_nothing(struct loop *l, int fd)
{
	char c;

	for (int i = 0; i < 20; i++)
		front_pass(l);
	front_must(recv(fd, &c, 1, 0) < 0 && errno == EAGAIN, "something was said");
}

#endif
