/* States of a submission, and what every failure leads to:
 *
 *   GATHERING   not connected: the first chunk lies in `out`
 *   SENDING     connected: chunks, then the envelope, go out as `out` fills
 *   COMPLETE    the envelope's last NUL is in `out`: submit_end() sends it and hears the answer
 *   FAILED      code != 0: everything is ignored until submit_end()
 *
 *   no socket, nobody listens       tried again for wait_ms, then SUBMIT_REFUSED
 *   no answer, no progress          SUBMIT_SLOW after wait_ms (the message may be queued, as
 *                                   when any answer is lost: who repeats it makes a duplicate)
 *   the server ends while we send   its answer is read: it says why; none: SUBMIT_BROKEN
 *   envelope malformed              SUBMIT_FORMAT, SUBMIT_LONG; the server is not asked
 *   envelope incomplete             SUBMIT_READ; the socket is closed, nothing is queued */
#include "mail/submit.h"

#include "mail/netstring.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define RETRY_MS   100                            /* between two attempts to connect */
#define ANSWER_MAX 1000
#define CHUNK_HEAD 4

static void fail(struct submit *s, int code)
{
	if (s->code)
		return;
	s->code = code;
	snprintf(s->text, sizeof(s->text), "%s", submit_text(code));
}

void submit_begin(struct submit *s, const char *path)
{
	*s = (struct submit){.path = path, .wait_ms = SUBMIT_WAIT_MS, .fd = -1};
	submit_talk_envelope(&s->check);
	buf_init(&s->out, CHUNK_HEAD + SUBMIT_CHUNK_MAX);
}

/* ---- the connection */

static uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static void pause_ms(unsigned ms)
{
	struct timespec t = {.tv_nsec = (long)ms * 1000000};

	nanosleep(&t, NULL);
}

/* A path may be longer than an address holds: then it goes by its directory's descriptor. */
static bool address(const char *path, struct sockaddr_un *a, int *ret_dir)
{
	const char *slash = strrchr(path, '/');
	char        dir[4096];

	*a = (struct sockaddr_un){.sun_family = AF_UNIX};
	*ret_dir = -1;
	if (strlen(path) < sizeof(a->sun_path)) {
		memcpy(a->sun_path, path, strlen(path));
		return true;
	}
	if (!slash || (size_t)(slash - path) >= sizeof(dir) || strlen(slash) > 64)
		return false;
	memcpy(dir, path, (size_t)(slash - path));
	dir[slash - path] = '\0';
	*ret_dir = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (*ret_dir < 0)
		return false;
	snprintf(a->sun_path, sizeof(a->sun_path), "/proc/self/fd/%d%.65s", *ret_dir, slash);
	return true;
}

static int socket_with_timeouts(uint32_t wait_ms)
{
	struct timeval t = {.tv_sec = wait_ms / 1000, .tv_usec = wait_ms % 1000 * 1000};
	int            fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -1;
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &t, sizeof(t));
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof(t));
	return fd;
}

static int try_connect(const char *path, uint32_t wait_ms)
{
	struct sockaddr_un a;
	int                dir, fd, error;

	if (!address(path, &a, &dir))
		return -1;
	fd = socket_with_timeouts(wait_ms);
	if (fd >= 0 && connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0) {
		error = errno;
		close(fd);
		errno = error;
		fd = -1;
	}
	if (dir >= 0)
		close(dir);
	return fd;
}

static bool write_all(struct submit *s, struct span bytes)
{
	while (bytes.n > 0) {
		ssize_t n = send(s->fd, bytes.p, bytes.n, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return false;
		bytes = span_from(bytes, (size_t)n);
	}
	return true;
}

static bool await_connection(struct submit *s)
{
	uint64_t end = now_ms() + s->wait_ms;

	if (s->connected)
		return true;
	while ((s->fd = try_connect(s->path, s->wait_ms)) < 0) {
		if (now_ms() >= end) {
			fail(s, SUBMIT_REFUSED);
			return false;
		}
		pause_ms(RETRY_MS);
	}
	s->connected = true;
	return true;
}

/* ---- the answer */

/* "K123", "Z71 words", "D11 words" */
static void understand(struct submit *s, struct span answer)
{
	struct span letter = span_cut(&answer, 1), number = span_word(&answer);
	uint64_t    n;

	if (letter.n == 0 || !span_u64(number, UINT64_MAX, &n))
		return;
	if (letter.p[0] == 'K') {
		s->id = n;
		return;
	}
	if ((letter.p[0] != 'Z' && letter.p[0] != 'D') || n == 0 || n > 255)
		return;
	s->code = (int)n;
	snprintf(s->text, sizeof(s->text), "%.*s", SPAN_ARG(answer));
}

static void hear_answer(struct submit *s)
{
	struct netstring ns;
	char             got[256], kept[ANSWER_MAX];
	size_t           kept_n = 0;

	netstring_init(&ns, sizeof(kept), false);
	for (;;) {
		ssize_t     n = recv(s->fd, got, sizeof(got), 0);
		struct span in = span_of(got, n > 0 ? (size_t)n : 0), piece;

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			fail(s, n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)
					? SUBMIT_SLOW
					: SUBMIT_BROKEN);
			return;
		}
		while (in.n > 0) {
			enum netstring_event e = netstring_take(&ns, &in, &piece);

			if (e == NETSTRING_BYTES) {
				memcpy(kept + kept_n, piece.p, piece.n);
				kept_n += piece.n;
			} else if (e == NETSTRING_END) {
				understand(s, span_of(kept, kept_n));
				if (!s->code && !s->id)
					fail(s, SUBMIT_BROKEN);
				return;
			} else if (e == NETSTRING_LONG || e == NETSTRING_BAD) {
				fail(s, SUBMIT_BROKEN);
				return;
			}
		}
	}
}

/* The server may have answered early, and closed: then that is the reason. */
static void broke(struct submit *s)
{
	if (errno == EAGAIN || errno == EWOULDBLOCK) {
		fail(s, SUBMIT_SLOW);
		return;
	}
	hear_answer(s);
	if (!s->code)                             /* a yes to half a message is none */
		fail(s, SUBMIT_BROKEN);
}

/* ---- sending */

static bool put(struct submit *s, struct span bytes)
{
	if (s->code || !await_connection(s))
		return false;
	if (!write_all(s, bytes)) {
		broke(s);
		return false;
	}
	return true;
}

static bool put_hello(struct submit *s)
{
	char id[8];

	if (!s->replay_of)
		return put(s, SPAN(SUBMIT_HELLO));
	for (unsigned i = 0; i < sizeof(id); i++)
		id[i] = (char)(s->replay_of >> 8 * i);
	return put(s, SPAN(SUBMIT_REPLAY)) && put(s, span_of(id, sizeof(id)));
}

/* In front of the body's first chunk stands the greeting. */
static bool put_chunk(struct submit *s, struct span bytes)
{
	uint32_t n = (uint32_t)bytes.n;
	char     head[CHUNK_HEAD] = {(char)n, (char)(n >> 8), (char)(n >> 16), (char)(n >> 24)};

	if (!s->connected && !put_hello(s))
		return false;
	return put(s, span_of(head, sizeof(head))) && put(s, bytes);
}

static bool put_gathered(struct submit *s)
{
	bool ok = s->body_ended ? put(s, buf_span(&s->out)) : put_chunk(s, buf_span(&s->out));

	buf_clear(&s->out);
	return ok;
}

static bool gather(struct submit *s, struct span bytes)
{
	while (bytes.n > 0 && !s->code) {
		struct span piece = span_cut(&bytes, SUBMIT_CHUNK_MAX - s->out.n);

		if (!buf_add(&s->out, piece)) {
			fail(s, SUBMIT_NO_MEMORY);
			break;
		}
		if (s->out.n == SUBMIT_CHUNK_MAX && !put_gathered(s))
			break;
	}
	return s->code == 0;
}

bool submit_body(struct submit *s, struct span bytes)
{
	check(!s->body_ended);
	return gather(s, bytes);
}

static void end_body(struct submit *s)
{
	if (s->body_ended)
		return;
	if (s->out.n > 0)
		(void)put_gathered(s);
	if (!s->code)
		(void)put_chunk(s, SPAN_NONE);
	s->body_ended = true;
	buf_clear(&s->out);
}

bool submit_envelope(struct submit *s, struct span bytes)
{
	struct span in = bytes, ret;

	end_body(s);
	while (!s->code && !s->complete && in.n > 0) {
		enum submit_event e = submit_talk_take(&s->check, &in, &ret);

		if (e == SUBMIT_BAD)
			fail(s, s->check.code);
		s->complete = e == SUBMIT_END;
	}
	if (s->code)
		return false;
	return gather(s, span_until(bytes, bytes.n - in.n));
}

static bool put_record(struct submit *s, const char *letter, struct span addr)
{
	if (span_has(addr, '\0'))            /* an address can't hold one: it would end there */
		fail(s, SUBMIT_FORMAT);
	return submit_envelope(s, span_str(letter)) && submit_envelope(s, addr) &&
	       submit_envelope(s, span_of("", 1));
}

bool submit_sender(struct submit *s, struct span sender)
{
	return put_record(s, "F", sender);
}

bool submit_rcpt(struct submit *s, struct span rcpt)
{
	return put_record(s, "T", rcpt);
}

int submit_send(struct submit *s)
{
	(void)submit_envelope(s, span_of("", 1));
	return submit_end(s);
}

int submit_end(struct submit *s)
{
	if (!s->complete)
		fail(s, SUBMIT_READ);
	if (!s->code && put_gathered(s)) {
		shutdown(s->fd, SHUT_WR);
		hear_answer(s);
	}
	if (s->fd >= 0)
		close(s->fd);
	s->fd = -1;
	buf_free(&s->out);
	return s->code;
}

void submit_cancel(struct submit *s)
{
	fail(s, SUBMIT_READ);
	(void)submit_end(s);
}
