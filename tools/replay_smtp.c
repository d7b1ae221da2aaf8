/* replay_smtp - see the header. */
#include "tools/replay_smtp.h"

#include "core/outbuf.h"
#include "core/pool.h"
#include "remote/talk_smtp.h"

#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define PORT_SMTP  "25"
#define WAIT_MS    300000                         /* for any step of the server: RFC 5321 4.5.3.2 */
#define IOV_MANY   64
#define PIECE      65536

struct replay_smtp {
	char              host[256], port[16];
	struct ip         ip;
	union sockany     addr;
	socklen_t         addr_n;
	char              hello[SMTP_HELLO_MAX + 1];
	int               fd;                     /* -1: not connected */
	bool              used;                   /* this connection had a message */
	struct outbuf     out;
	struct talk_smtp  talk;
	/* the body that is sent */
	struct source     source;
	struct span       body, rest;
};

/* ---- the body */

static enum source_event take(struct source *s, size_t max, struct span *ret)
{
	struct replay_smtp *r = owner_of(s, struct replay_smtp, source);

	if (r->rest.n == 0)
		return SOURCE_END;
	*ret = span_cut(&r->rest, max < PIECE ? max : PIECE);
	return SOURCE_BYTES;
}

static void rewind_body(struct source *s)
{
	struct replay_smtp *r = owner_of(s, struct replay_smtp, source);

	r->rest = r->body;
}

static bool eight_bit(const struct source *s)
{
	const struct replay_smtp *r = owner_of(s, const struct replay_smtp, source);

	for (size_t i = 0; i < r->body.n; i++)
		if (r->body.p[i] & 0x80)
			return true;
	return false;
}

/* ---- the connection */

static bool say(struct buf *why, const char *host, const char *what)
{
	buf_clear(why);
	if (!buf_fmt(why, "%s: %s", host, what))
		buf_clear(why);
	return false;
}

static void hang_up(struct replay_smtp *r)
{
	if (r->fd < 0)
		return;
	close(r->fd);
	r->fd = -1;
	talk_smtp_fini(&r->talk);
	outbuf_fini(&r->out);
}

static bool dial(struct replay_smtp *r, struct buf *why)
{
	if (r->fd >= 0)
		return true;
	r->fd = socket(r->addr.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (r->fd < 0 || connect(r->fd, &r->addr.any, r->addr_n) < 0) {
		say(why, r->host, strerror(errno));
		if (r->fd >= 0)
			close(r->fd);
		r->fd = -1;
		return false;
	}
	outbuf_init(&r->out);
	r->used = false;
	talk_smtp_begin(&r->talk, &r->out, &r->ip, span_str(r->hello));
	return true;
}

static bool flush(struct replay_smtp *r)
{
	struct iovec v[IOV_MANY];
	struct msghdr m = {.msg_iov = v};

	while (r->out.n > 0) {
		struct pollfd p = {.fd = r->fd, .events = POLLOUT};
		ssize_t       n;

		m.msg_iovlen = (size_t)outbuf_iov(&r->out, v, IOV_MANY);
		if (poll(&p, 1, WAIT_MS) <= 0)
			return false;
		n = sendmsg(r->fd, &m, MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return false;
		outbuf_sent(&r->out, (size_t)n);
		talk_smtp_more(&r->talk);
	}
	return true;
}

static bool hear(struct replay_smtp *r)
{
	char          bytes[4096];
	struct pollfd p = {.fd = r->fd, .events = POLLIN};
	struct span   in;
	ssize_t       n;

	if (poll(&p, 1, WAIT_MS) <= 0)
		return false;
	do
		n = recv(r->fd, bytes, sizeof(bytes), 0);
	while (n < 0 && errno == EINTR);
	if (n <= 0)
		return false;
	in = span_of(bytes, (size_t)n);
	while (in.n > 0 && !r->talk.finished && r->talk.state != TALK_OVER) {
		size_t before = in.n;

		talk_smtp_input(&r->talk, &in);
		if (in.n == before)
			break;
	}
	return true;
}

/* Until the task is finished or the talk is over. */
static void converse(struct replay_smtp *r, struct task *j)
{
	bool given = false;

	while (!r->talk.finished) {
		if (r->talk.state == TALK_READY && !given) {
			talk_smtp_task(&r->talk, j);
			given = true;
		}
		if (r->talk.finished)
			break;
		if (r->talk.state == TALK_OVER || !flush(r) || (!r->talk.finished && !hear(r))) {
			if (!given)
				return;
			talk_smtp_lost(&r->talk);
			return;
		}
	}
}

/* ---- a message */

static struct task *task_of(struct replay_smtp *r, const struct replay_mail *m)
{
	struct msg_deliver d = {.id = m->id, .size = m->body.n, .rcpts = m->rcpts, .sender_n = (uint16_t)m->sender.n};
	struct buf         tail;
	struct task       *j;

	buf_init(&tail, m->sender.n + m->packed.n + 1);
	check(buf_add(&tail, m->sender) && buf_add(&tail, m->packed));
	j = task_new(&d, buf_span(&tail));
	buf_free(&tail);
	check(j);
	j->source = &r->source;
	return j;
}

/* true: every recipient has its result. */
static bool attempt(struct replay_smtp *r, struct task *j, struct buf *why)
{
	if (!dial(r, why))
		return false;
	r->rest = r->body;
	converse(r, j);
	r->talk.finished = NULL;
	r->talk.task = NULL;
	r->used = true;
	if (r->talk.state != TALK_READY)
		hang_up(r);
	if (task_is_settled(j))
		return true;
	if (j->trouble.n > 0)
		say(why, r->host, "");
	else
		say(why, r->host, "the connection was lost before it took anything");
	if (j->trouble.n > 0 && !buf_add(why, span_trim_end(j->trouble, "\n")))
		buf_clear(why);
	hang_up(r);
	return false;
}

bool replay_smtp_send(struct replay_smtp *r, const struct replay_mail *m,
		      void (*result)(void *ctx, uint32_t i, unsigned outcome, struct span text), void *ctx,
		      struct buf *why)
{
	struct task *j = task_of(r, m);
	bool         reused = r->fd >= 0 && r->used, ok;

	r->body = m->body;
	ok = attempt(r, j, why);
	if (!ok && reused)                        /* it was closed meanwhile: as good as none */
		ok = attempt(r, j, why);
	for (uint32_t i = 0; ok && i < m->rcpts; i++)
		result(ctx, i, j->result[i].outcome, j->result[i].text);
	task_free(j);
	return ok;
}

/* ---- the host */

static bool split(struct replay_smtp *r, const char *host)
{
	const char *colon = strrchr(host, ':');
	size_t      n = strlen(host);

	snprintf(r->port, sizeof(r->port), "%s", PORT_SMTP);
	/* more than one colon and no bracket: an IPv6 address without port */
	if (colon && (strchr(host, ':') == colon || (colon > host && colon[-1] == ']'))) {
		n = (size_t)(colon - host);
		snprintf(r->port, sizeof(r->port), "%s", colon + 1);
	}
	if (n > 1 && host[0] == '[' && host[n - 1] == ']') {
		host++;
		n -= 2;
	}
	return span_to_cstr(span_of(host, n), r->host, sizeof(r->host));
}

struct replay_smtp *replay_smtp_new(const char *host, struct span hello, struct buf *why)
{
	struct addrinfo     hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV}, *found = NULL;
	struct replay_smtp *r = mem_new(sizeof(*r));
	uint16_t            port;
	int                 e;

	r->fd = -1;
	r->source = (struct source){take, rewind_body, eight_bit};
	if (!split(r, host) || !span_to_cstr(hello, r->hello, sizeof(r->hello))) {
		say(why, host, "no host");
		mem_free(r);
		return NULL;
	}
	e = getaddrinfo(r->host, r->port, &hints, &found);
	if (e) {
		say(why, host, gai_strerror(e));
		mem_free(r);
		return NULL;
	}
	memcpy(&r->addr, found->ai_addr, found->ai_addrlen);
	r->addr_n = found->ai_addrlen;
	r->ip = ip_of_sockaddr(&r->addr, &port);
	freeaddrinfo(found);
	return r;
}

void replay_smtp_free(struct replay_smtp *r)
{
	if (!r)
		return;
	if (r->fd >= 0 && r->talk.state == TALK_READY) {
		talk_smtp_quit(&r->talk);
		(void)flush(r);
	}
	hang_up(r);
	mem_free(r);
}
