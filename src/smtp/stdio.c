#include "smtp/stdio.h"

#include "core/clock.h"
#include "core/file.h"
#include "mail/received.h"
#include "mail/submit.h"
#include "smtp/replies.h"
#include "smtp/smtp.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <unistd.h>

#define INPUT_MAX (64 * 1024)                     /* read at once */
#define RCPTS_BYTES_MAX (64 * 1024 * 1024)        /* packed: a million recipients and more */

struct terminal {
	struct smtp       smtp;
	struct smtp_world world;
	struct policy     policy;
	struct buf        scratch;
	struct outbuf     out;
	struct envelope   envelope;
	struct submit     submit;
	const char       *submit_path;
	int               in_fd, out_fd;
	bool              submitting;
	char              input[INPUT_MAX];
};

static struct terminal *terminal_of(struct smtp *s)
{
	return owner_of(s, struct terminal, smtp);
}

static bool on_admits(struct smtp *s)
{
	return true;
}

static bool on_full(struct smtp *s)
{
	return false;                             /* submit_body() blocks */
}

static struct envelope *on_open(struct smtp *s)
{
	return &terminal_of(s)->envelope;
}

static void on_body_begin(struct smtp *s)
{
	struct terminal *t = terminal_of(s);

	submit_begin(&t->submit, t->submit_path);
	t->submitting = true;
}

/* What fails here is told by submit_end(). */
static void on_body(struct smtp *s, struct span bytes)
{
	(void)submit_body(&terminal_of(s)->submit, bytes);
}

/* The envelope follows in finish_commit(): the session must not be answered from inside. */
static void on_commit(struct smtp *s)
{
}

static void on_close(struct smtp *s)
{
	struct terminal *t = terminal_of(s);

	if (t->submitting)
		submit_cancel(&t->submit);
	t->submitting = false;
	envelope_clear(&t->envelope);
}

static enum stored verdict_of(int code)
{
	if (code == SUBMIT_OK)
		return STORED_OK;
	return code == SUBMIT_WRITE ? STORED_FULL : STORED_LATER;
}

static void finish_commit(struct terminal *t)
{
	struct span rcpt, packed = buf_span(&t->envelope.packed);
	bool fine =
		submit_sender(&t->submit, span_of(t->envelope.sender, t->envelope.sender_n));

	while (fine && packed_next(&packed, &rcpt))
		fine = submit_rcpt(&t->submit, rcpt);
	t->submitting = false;
	smtp_committed(&t->smtp, verdict_of(submit_send(&t->submit)), t->submit.id);
}

static bool flush(struct terminal *t)
{
	struct iovec v;

	while (outbuf_iov(&t->out, &v, 1) == 1) {
		if (!file_write_all(t->out_fd, span_of(v.iov_base, v.iov_len)))
			return false;
		outbuf_sent(&t->out, v.iov_len);
	}
	return true;
}

/* Bytes, 0 at the end, -1 when it took too long or failed. */
static ssize_t read_some(struct terminal *t)
{
	struct pollfd p = {.fd = t->in_fd, .events = POLLIN};
	uint64_t      ms = t->policy.wait_ms < INT_MAX ? t->policy.wait_ms : INT_MAX;
	ssize_t       n;

	do {
		int ready = poll(&p, 1, (int)ms);

		if (ready == 0) {
			smtp_timeout(&t->smtp);
			return -1;
		}
		n = read(t->in_fd, t->input, sizeof(t->input));
	} while (n < 0 && (errno == EINTR || errno == EAGAIN));
	return n;
}

static bool serve(struct terminal *t)
{
	while (!smtp_is_over(&t->smtp)) {
		struct span in = SPAN_NONE;
		ssize_t     n;

		if (!flush(t))
			return false;
		n = read_some(t);
		if (n <= 0) {
			(void)flush(t);
			return false;
		}
		clock_refresh();
		in = span_of(t->input, (size_t)n);
		while (in.n > 0 && !smtp_is_over(&t->smtp)) {
			smtp_input(&t->smtp, &in);
			if (smtp_is_committing(&t->smtp))
				finish_commit(t);
			if (!flush(t))
				return false;
		}
	}
	return flush(t);
}

int smtp_stdio(int in, int out, const struct control *c, const char *submit_path)
{
	static struct terminal t;
	struct ip              nobody = {0};
	struct policy_peer     peer;
	bool                   fine;

	t.in_fd = in;
	t.out_fd = out;
	t.submit_path = submit_path;
	policy_init(&t.policy, c, -1);
	policy_find_own(&t.policy);
	buf_init(&t.scratch, RECEIVED_MAX);
	outbuf_init(&t.out);
	envelope_init(&t.envelope, RCPTS_BYTES_MAX);
	t.world = (struct smtp_world){
		.policy = &t.policy,
		.scratch = &t.scratch,
		.untraced = true,
		.admits = on_admits,
		.full = on_full,
		.open = on_open,
		.body_begin = on_body_begin,
		.body = on_body,
		.commit = on_commit,
		.close = on_close,
	};
	peer = policy_peer(&t.policy, &nobody, &nobody);
	peer.relay = true;
	smtp_begin(&t.smtp, &t.world, &t.out, &peer);
	fine = serve(&t);
	smtp_fini(&t.smtp);
	envelope_fini(&t.envelope);
	outbuf_fini(&t.out);
	buf_free(&t.scratch);
	policy_fini(&t.policy);
	return fine ? 0 : 1;
}
