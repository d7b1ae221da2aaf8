/* journal_box - Maildir and mbox.  See the header.
 *
 * Maildir: a file's name is made of the message's arrival and id, so an export that is repeated finds what is
 * there.  It is written in tmp/, synced, and linked into new/ (or found in new/: BOX_HAS).
 *
 * mbox: messages are appended under a lock, each with a From_ line; lines of the body that are ">"s
 * and "From " get one ">" more; an unfinished message is cut off again. */
#include "tools/journal_box.h"

#include "core/file.h"
#include "mail/date.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define CHUNK     65536                           /* one write */
#define FROM      "From "
#define DIR_MODE  0700
#define MAIL_MODE 0600

void box_init(struct box *b, const struct box_calls *calls, const char *path)
{
	*b = (struct box){.calls = calls, .path = path, .dir = -1, .fd = -1, .lock = -1};
	buf_init(&b->out, 2 * CHUNK);
}

bool box_fail(struct box *b, const char *what, int error)
{
	snprintf(b->why, sizeof(b->why), error ? "%s: %s" : "%s", what, strerror(error));
	return false;
}

static int made_dir(int at, const char *name)
{
	return mkdirat(at, name, DIR_MODE) < 0 && errno != EEXIST ? errno : 0;
}

/* ---- Maildir */

static int maildir_open(struct box *b)
{
	static const char *const parts[] = {"tmp", "new", "cur"};
	int e = made_dir(AT_FDCWD, b->path);

	if (!e) {
		b->dir = open(b->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		e = b->dir < 0 ? errno : 0;
	}
	for (size_t i = 0; i < ARRAY_N(parts) && !e; i++)
		e = made_dir(b->dir, parts[i]);
	if (e)
		(void)box_fail(b, b->path, e);
	return e ? 111 : 0;
}

static enum box_begin maildir_begin(struct box *b, const struct mail_record *m, const struct box_rcpts *r)
{
	struct stat st;

	snprintf(b->name, sizeof(b->name), "new/%" PRIu64 ".M%06" PRIu64 "Q%" PRIu64 ".quire", m->arrival_us / 1000000,
		 m->arrival_us % 1000000, m->id);
	snprintf(b->tmp, sizeof(b->tmp), "tmp/%s", b->name + sizeof("new/") - 1);
	if (fstatat(b->dir, b->name, &st, AT_SYMLINK_NOFOLLOW) == 0)
		return BOX_HAS;
	(void)unlinkat(b->dir, b->tmp, 0);        /* of an export that was killed */
	b->fd = openat(b->dir, b->tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, MAIL_MODE);
	if (b->fd >= 0)
		return BOX_TAKE;
	(void)box_fail(b, b->tmp, errno);
	return BOX_FAILED;
}

static bool maildir_bytes(struct box *b, struct span s)
{
	return file_write_all(b->fd, s) || box_fail(b, b->tmp, errno);
}

static bool maildir_end(struct box *b, bool whole)
{
	bool ok = !whole || fsync(b->fd) == 0;

	close(b->fd);
	b->fd = -1;
	if (ok && whole)
		ok = linkat(b->dir, b->tmp, b->dir, b->name, 0) == 0 || errno == EEXIST;
	if (!ok)
		(void)box_fail(b, b->name, errno);
	(void)unlinkat(b->dir, b->tmp, 0);
	return ok;
}

static bool maildir_close(struct box *b)
{
	int  fd = b->dir < 0 ? -1 : openat(b->dir, "new", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	bool ok = fd < 0 || (file_sync_dir(fd) == 0 && file_sync_dir(b->dir) == 0);

	if (fd >= 0)
		close(fd);
	if (b->dir >= 0)
		close(b->dir);
	b->dir = -1;
	buf_free(&b->out);
	return ok || box_fail(b, b->path, errno);
}

const struct box_calls maildir_box = {maildir_open, maildir_begin, maildir_bytes, maildir_end, maildir_close};

/* ---- mbox */

static int mbox_open(struct box *b)
{
	b->fd = open(b->path, O_WRONLY | O_APPEND | O_CREAT | O_NOCTTY | O_CLOEXEC, MAIL_MODE);
	if (b->fd >= 0 && flock(b->fd, LOCK_EX | LOCK_NB) == 0)
		return 0;
	(void)box_fail(b, b->path, errno);
	return 111;
}

static bool mbox_flush(struct box *b)
{
	bool ok = file_write_all(b->fd, buf_span(&b->out)) || box_fail(b, b->path, errno);

	buf_clear(&b->out);
	return ok;
}

static bool mbox_put(struct box *b, struct span s)
{
	while (s.n > 0) {
		struct span piece = span_cut(&s, CHUNK);

		if (b->out.n + piece.n > CHUNK && !mbox_flush(b))
			return false;
		check(buf_add(&b->out, piece));
	}
	return true;
}

/* docs/qmail.md 14: blanks in the sender become '-'; without one it is MAILER-DAEMON. */
static bool put_from_line(struct box *b, const struct mail_record *m)
{
	char date[DATE_MAX];

	if (!mbox_put(b, SPAN(FROM)))
		return false;
	for (size_t i = 0; i < m->sender.n; i++) {
		char c = m->sender.p[i];

		if (!mbox_put(b, c == ' ' || c == '\t' || c == '\n' ? SPAN("-") : span_of(&c, 1)))
			return false;
	}
	if (m->sender.n == 0 && !mbox_put(b, SPAN("MAILER-DAEMON")))
		return false;
	return mbox_put(b, SPAN(" ")) && mbox_put(b, span_str(date_ctime(m->arrival_us / 1000000, date))) &&
	       mbox_put(b, SPAN("\n"));
}

static enum box_begin mbox_begin(struct box *b, const struct mail_record *m, const struct box_rcpts *r)
{
	b->begun = lseek(b->fd, 0, SEEK_END);
	b->marks = b->matched = 0;
	b->in_line = b->any = false;
	b->name[0] = '\0';
	buf_clear(&b->out);
	return put_from_line(b, m) ? BOX_TAKE : BOX_FAILED;
}

/* What was held at a line's begin, ">"s and some of "From ", is told apart now. */
static bool release(struct box *b, bool quote)
{
	bool ok = !quote || mbox_put(b, SPAN(">"));

	for (; ok && b->marks > 0; b->marks--)
		ok = mbox_put(b, SPAN(">"));
	ok = ok && mbox_put(b, span_until(SPAN(FROM), b->matched));
	b->matched = 0;
	b->in_line = true;
	return ok;
}

/* One byte of a line's begin. */
static bool hold(struct box *b, char c)
{
	if (b->matched == 0 && c == '>') {
		b->marks++;
		return true;
	}
	if (c == FROM[b->matched]) {
		b->matched++;
		return b->matched < sizeof(FROM) - 1 || release(b, true);
	}
	if (!release(b, false) || !mbox_put(b, span_of(&c, 1)))
		return false;
	b->in_line = c != '\n';
	return true;
}

static bool mbox_bytes(struct box *b, struct span s)
{
	b->any |= s.n > 0;
	while (s.n > 0) {
		size_t      lf;
		struct span part;

		if (!b->in_line) {
			if (!hold(b, span_cut(&s, 1).p[0]))
				return false;
			continue;
		}
		lf = span_find(s, '\n');
		part = span_cut(&s, lf == SPAN_NPOS ? s.n : lf + 1);
		b->in_line = lf == SPAN_NPOS;
		if (!mbox_put(b, part))
			return false;
	}
	return true;
}

static bool mbox_end(struct box *b, bool whole)
{
	bool ok = true;

	if (whole && (b->marks || b->matched))
		ok = release(b, false);
	if (ok && whole && b->in_line)
		ok = mbox_put(b, SPAN("\n"));
	ok = ok && whole && mbox_put(b, SPAN("\n")) && mbox_flush(b);
	if (ok)
		return true;
	buf_clear(&b->out);
	if (b->begun >= 0 && ftruncate(b->fd, b->begun) < 0)
		return box_fail(b, b->path, errno);
	return !whole;
}

static bool mbox_close(struct box *b)
{
	bool ok = b->fd < 0 || fsync(b->fd) == 0;

	if (b->fd >= 0)
		close(b->fd);
	b->fd = -1;
	buf_free(&b->out);
	return ok || box_fail(b, b->path, errno);
}

const struct box_calls mbox_box = {mbox_open, mbox_begin, mbox_bytes, mbox_end, mbox_close};
