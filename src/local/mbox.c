/* mbox - see mbox.h.
 *
 * The lock is flock(2) alone, as qmail's; a file system that has none is used unlocked.  Only
 * under the lock is it known that what stands behind the old end is ours, so only then an
 * error may cut it off. */
#include "local/mbox.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include "core/file.h"

#define MBOX_MODE  0600
#define PATH_LEN   4096
#define CHUNK      (64 * 1024)                    /* one write */

struct writer {
	int        fd;
	struct buf buf;
	bool       failed;
};

static void flush(struct writer *w)
{
	if (!w->failed && !file_write_all(w->fd, buf_span(&w->buf)))
		w->failed = true;
	buf_clear(&w->buf);
}

static void put(struct writer *w, struct span s)
{
	while (s.n > 0 && !w->failed) {
		struct span piece = span_cut(&s, CHUNK - w->buf.n);

		check(buf_add(&w->buf, piece));
		if (w->buf.n == CHUNK)
			flush(w);
	}
}

static bool is_from_line(struct span line)
{
	while (span_skip(&line, SPAN(">")))
		;
	return span_starts(line, SPAN("From "));
}

static void put_quoted(struct writer *w, struct span body)
{
	while (body.n > 0) {
		size_t      lf = span_find(body, '\n');
		struct span line = span_cut(&body, lf == SPAN_NPOS ? body.n : lf);

		span_skip(&body, SPAN("\n"));
		if (is_from_line(line))
			put(w, SPAN(">"));
		put(w, line);
		put(w, SPAN("\n"));               /* a last line without one gets it */
	}
}

static bool write_letter(int fd, const struct letter *l)
{
	struct writer w = {.fd = fd};

	buf_init(&w.buf, CHUNK);
	put(&w, l->ufline);
	put(&w, l->rpline);
	put(&w, l->dtline);
	put_quoted(&w, l->body);
	put(&w, SPAN("\n"));
	flush(&w);
	buf_free(&w.buf);
	return !w.failed && fsync(fd) == 0;
}

static void on_alarm(int signo)
{
	/* nothing: that it ends flock() with EINTR is all that is wanted */
}

enum lock { LOCKED, UNLOCKED, LOCK_TIMEOUT };

/* The timer fires again each second: an alarm that came just before flock() began would
   otherwise be lost, and the wait without end. */
static enum lock lock_within(int fd, unsigned seconds)
{
	struct sigaction quiet = {.sa_handler = on_alarm}, old;
	struct itimerval wait = {.it_value = {.tv_sec = seconds}, .it_interval = {.tv_sec = 1}};
	struct itimerval off = {.it_value = {.tv_sec = 0}};
	enum lock        got;

	if (flock(fd, LOCK_EX | LOCK_NB) == 0)
		return LOCKED;
	if (errno != EWOULDBLOCK)
		return UNLOCKED;
	sigaction(SIGALRM, &quiet, &old);
	setitimer(ITIMER_REAL, &wait, NULL);
	if (flock(fd, LOCK_EX) == 0)
		got = LOCKED;
	else
		got = errno == EINTR ? LOCK_TIMEOUT : UNLOCKED;
	setitimer(ITIMER_REAL, &off, NULL);
	sigaction(SIGALRM, &old, NULL);
	return got;
}

/* A file that was empty may be new: its name must survive a power cut, too. */
static bool sync_parent(struct span path)
{
	char   dir[PATH_LEN];
	size_t slash = span_rfind(path, '/');
	int    fd, error;

	if (slash == SPAN_NPOS)
		path = SPAN(".");
	check(span_to_cstr(span_until(path, slash == 0 ? 1 : slash), dir, sizeof(dir)));
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return errno == EACCES;           /* not readable: not changed by us */
	error = file_sync_dir(fd);
	close(fd);
	return error == 0;
}

static bool append(int fd, const char *path, const struct letter *l, bool locked,
		   struct report *r)
{
	off_t end = lseek(fd, 0, SEEK_END);
	int   error;

	if (write_letter(fd, l) && (end != 0 || sync_parent(span_str(path))))
		return true;
	error = errno;
	/* Devices have no size to go back to; a failure leaves what a crash would. */
	if (locked && end >= 0 && ftruncate(fd, end) < 0)
		error = errno;
	return report_fail(r, 'Z', "Unable to write %s: %s. (#4.3.0)\n", path, strerror(error));
}

bool mbox_deliver(struct span file, const struct letter *l, unsigned lock_s, struct report *r)
{
	char      path[PATH_LEN];
	enum lock lock;
	int       fd;
	bool      ok;

	if (!span_to_cstr(file, path, sizeof(path)))
		return report_fail(r, 'Z',
				   "Unable to open mbox file: name too long. (#4.2.1)\n");
	fd = open(path, O_WRONLY | O_APPEND | O_NONBLOCK | O_NOCTTY | O_CREAT | O_CLOEXEC,
		  MBOX_MODE);
	if (fd < 0)
		return report_fail(r, 'Z', "Unable to open %s: %s. (#4.2.1)\n", path,
				   strerror(errno));
	lock = lock_within(fd, lock_s);
	if (lock == LOCK_TIMEOUT)
		ok = report_fail(r, 'Z',
				 "File has been locked for %u seconds straight. (#4.3.0)\n",
				 lock_s);
	else
		ok = append(fd, path, l, lock == LOCKED, r);
	close(fd);                                /* what it could still say, fsync has said */
	return ok;
}
