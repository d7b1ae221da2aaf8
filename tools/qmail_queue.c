/* qmail_queue - see the header.
 *
 *   the home can't be entered               QMAIL_QUEUE_HOME; nothing was read
 *   a descriptor is closed or can't be read SUBMIT_READ, nothing is queued
 *   the envelope ends before its last NUL   SUBMIT_READ, nothing is queued
 *   everything else                         as mail/submit.h says */
#include "tools/qmail_queue.h"

#include "mail/submit.h"
#include "tools/intake.h"

#include <fcntl.h>
#include <unistd.h>

/* false: the reason is in s->code, or the descriptor failed. */
static bool take_message(struct submit *s, int fd)
{
	char piece[INTAKE_PIECE];
	long n;

	while ((n = intake_read(fd, piece, sizeof(piece))) > 0) {
		if (!submit_body(s, span_of(piece, (size_t)n)))
			return false;
	}
	return n == 0;
}

/* What stands behind the last NUL may never end, so it is not waited for. */
static bool take_envelope(struct submit *s, int fd)
{
	char piece[INTAKE_PIECE];

	while (!s->complete) {
		long n = intake_read(fd, piece, sizeof(piece));

		if (n <= 0 || !submit_envelope(s, span_of(piece, (size_t)n)))
			return false;
	}
	return true;
}

static bool is_open(int fd)
{
	return fcntl(fd, F_GETFD) >= 0;
}

int qmail_queue(const char *home, int message_fd, int envelope_fd, uint32_t wait_ms)
{
	struct submit s;

	/* A closed one would be the socket's number, and the envelope be read from there. */
	if (!is_open(message_fd) || !is_open(envelope_fd))
		return SUBMIT_READ;
	if (chdir(home) < 0)
		return QMAIL_QUEUE_HOME;
	submit_begin(&s, "run/submit");
	s.wait_ms = wait_ms;
	if (!take_message(&s, message_fd) || !take_envelope(&s, envelope_fd)) {
		submit_cancel(&s);
		return s.code;
	}
	return submit_end(&s);
}
