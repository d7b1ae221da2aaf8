/* journal_classic - a classic queue as a box: what a stopped qmail-send would have left.
 *
 * Each message is PREPROCESSED (tools/classic_queue.h): mess/N with N its inode's number, recipients
 * that are left in local and remote, rewritten as control/ says, failures that nobody was told of in
 * bounce, and last info/N, whose time is the arrival.  Until info/N is there, a message is a
 * leftover that qmail-send removes.  Files are made in pid/, synced and renamed.
 *
 * As root, where the users of qmail exist, files belong to them; else all is ours, and the one who
 * starts qmail-send on it has to see to that. */
#include "tools/journal_box.h"

#include "core/file.h"
#include "tools/classic_queue.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <inttypes.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define TCPTO_SIZE 1024                           /* of lock/tcpto, all zeros */

enum owner { QMAILQ, QMAILS, QMAILR };
struct made { const char *name; mode_t mode; enum owner owner; bool split; };

static const struct made dirs[] = {
	{"pid", 0700, QMAILQ, false},   {"intd", 0700, QMAILQ, false},  {"todo", 0750, QMAILQ, false},
	{"bounce", 0700, QMAILS, false}, {"lock", 0750, QMAILQ, false},  {"mess", 0750, QMAILQ, true},
	{"info", 0700, QMAILS, true},   {"local", 0700, QMAILS, true},  {"remote", 0700, QMAILS, true},
};

/* ---- whose it is */

static bool find_owners(struct box *b)
{
	const struct passwd *q, *s, *r;

	if (geteuid() != 0)
		return false;
	q = getpwnam("qmailq");
	b->qmailq = q ? q->pw_uid : 0;
	b->gid = q ? q->pw_gid : 0;
	s = getpwnam("qmails");
	b->qmails = s ? s->pw_uid : 0;
	r = getpwnam("qmailr");
	b->qmailr = r ? r->pw_uid : 0;
	return b->qmailq && b->qmails && b->qmailr;
}

static bool own(struct box *b, const char *name, enum owner who)
{
	uint32_t uid = who == QMAILQ ? b->qmailq : who == QMAILS ? b->qmails : b->qmailr;

	if (!b->owners || fchownat(b->dir, name, uid, b->gid, AT_SYMLINK_NOFOLLOW) == 0)
		return true;
	return box_fail(b, name, errno);
}

/* ---- the tree */

static bool make_dir(struct box *b, const char *name, const struct made *d)
{
	if (mkdirat(b->dir, name, d->mode) < 0)
		return errno == EEXIST || box_fail(b, name, errno);
	return own(b, name, d->owner);
}

static bool make_dirs(struct box *b)
{
	char name[64];

	for (size_t i = 0; i < ARRAY_N(dirs); i++) {
		if (!make_dir(b, dirs[i].name, &dirs[i]))
			return false;
		for (unsigned k = 0; dirs[i].split && k < CLASSIC_SPLIT; k++) {
			snprintf(name, sizeof(name), "%s/%u", dirs[i].name, k);
			if (!make_dir(b, name, &dirs[i]))
				return false;
		}
	}
	return true;
}

static bool make_file(struct box *b, const char *name, mode_t mode, enum owner who, struct span bytes)
{
	int  fd = openat(b->dir, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode);
	bool ok = fd >= 0 ? file_write_all(fd, bytes) && fchmod(fd, mode) == 0 : errno == EEXIST;

	if (!ok)
		(void)box_fail(b, name, errno);
	if (fd >= 0)
		close(fd);
	return ok && (fd < 0 || own(b, name, who));
}

static bool make_locks(struct box *b)
{
	static const char zeros[TCPTO_SIZE];
	struct stat       st;

	if (!make_file(b, "lock/sendmutex", 0600, QMAILS, SPAN_NONE) ||
	    !make_file(b, "lock/tcpto", 0644, QMAILR, span_of(zeros, sizeof(zeros))))
		return false;
	if (fstatat(b->dir, "lock/trigger", &st, AT_SYMLINK_NOFOLLOW) == 0)
		return true;
	if (mkfifoat(b->dir, "lock/trigger", 0622) < 0 || fchmodat(b->dir, "lock/trigger", 0622, 0) < 0)
		return box_fail(b, "lock/trigger", errno);
	return own(b, "lock/trigger", QMAILS);
}

/* Only an empty one: what is there already would be joined by its own copies. */
static int check_empty(struct box *b)
{
	struct classic_queue q;
	struct buf           why;
	int                  code;

	buf_init(&why, sizeof(b->why) - 1);
	code = classic_open(&q, b->path, &why);
	if (code) {
		snprintf(b->why, sizeof(b->why), "%s: %.*s", b->path, SPAN_ARG(buf_span(&why)));
	} else if (q.n > 0) {
		snprintf(b->why, sizeof(b->why), "%s: has messages; an empty or a new one is needed", b->path);
		code = EXIT_WRONG;
	} else {
		b->lock = dup(q.mutex);           /* keeps qmail-send away until we are done */
	}
	classic_close(&q);
	buf_free(&why);
	return code;
}

static int classic_box_open(struct box *b)
{
	b->owners = find_owners(b);
	if (mkdir(b->path, 0750) < 0 && errno != EEXIST) {
		(void)box_fail(b, b->path, errno);
		return 111;
	}
	b->dir = open(b->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (b->dir < 0) {
		(void)box_fail(b, b->path, errno);
		return 111;
	}
	/* root of a namespace that has no such users: all is ours */
	if (b->owners && fchown(b->dir, b->qmailq, b->gid) < 0 && (errno == EINVAL || errno == EPERM))
		b->owners = false;
	if (!own(b, ".", QMAILQ) || !make_dirs(b) || !make_locks(b))
		return 111;
	return check_empty(b);
}

/* ---- a message */

static enum box_begin classic_box_begin(struct box *b, const struct mail_record *m, const struct box_rcpts *r)
{
	b->rcpts = r;
	b->sender = m->sender;
	b->arrival_s = m->arrival_us / 1000000;
	snprintf(b->tmp, sizeof(b->tmp), "pid/quire.%" PRIu64, m->id);
	(void)unlinkat(b->dir, b->tmp, 0);
	b->fd = openat(b->dir, b->tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0644);
	if (b->fd >= 0)
		return BOX_TAKE;
	(void)box_fail(b, b->tmp, errno);
	return BOX_FAILED;
}

static bool classic_box_bytes(struct box *b, struct span s)
{
	return file_write_all(b->fd, s) || box_fail(b, b->tmp, errno);
}

static void name_of(const struct box *b, const char *dir, bool split, char dst[128])
{
	if (split)
		snprintf(dst, 128, "%s/%" PRIu64 "/%" PRIu64, dir, b->number % CLASSIC_SPLIT, b->number);
	else
		snprintf(dst, 128, "%s/%" PRIu64, dir, b->number);
}

/* Empty ones are left out.  time_s 0: now. */
static bool put_file(struct box *b, const char *dir, bool split, struct span bytes, uint64_t time_s)
{
	struct timespec at[2] = {{.tv_sec = (time_t)time_s}, {.tv_sec = (time_t)time_s}};
	char            name[128];
	int             fd;
	bool            ok;

	if (bytes.n == 0)
		return true;
	name_of(b, dir, split, name);
	fd = openat(b->dir, b->tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	ok = fd >= 0 && file_write_all(fd, bytes) && (time_s == 0 || futimens(fd, at) == 0) && fsync(fd) == 0;
	if (fd >= 0)
		close(fd);
	ok = ok && own(b, b->tmp, QMAILS) && renameat(b->dir, b->tmp, b->dir, name) == 0;
	return ok || box_fail(b, name, errno);
}

static bool put_text(struct box *b)
{
	struct stat st;
	bool        ok = fsync(b->fd) == 0 && fchmod(b->fd, 0644) == 0 && fstat(b->fd, &st) == 0;

	if (!ok)
		return box_fail(b, b->tmp, errno);
	b->number = st.st_ino;
	name_of(b, "mess", true, b->name);
	if (!own(b, b->tmp, QMAILQ))
		return false;
	return renameat(b->dir, b->tmp, b->dir, b->name) == 0 || box_fail(b, b->name, errno);
}

static bool put_info(struct box *b)
{
	struct buf f;
	bool       ok;

	buf_init(&f, 4096);
	ok = buf_add_byte(&f, 'F') && buf_add(&f, b->sender) && buf_add_byte(&f, '\0') &&
	     put_file(b, "info", true, buf_span(&f), b->arrival_s ? b->arrival_s : 1);
	buf_free(&f);
	return ok;
}

static bool classic_box_end(struct box *b, bool whole)
{
	bool ok = !whole || put_text(b);

	close(b->fd);
	b->fd = -1;
	if (whole && ok)
		ok = put_file(b, "local", true, buf_span(&b->rcpts->local), 0) &&
		     put_file(b, "remote", true, buf_span(&b->rcpts->remote), 0) &&
		     put_file(b, "bounce", false, buf_span(&b->rcpts->bounce), 0) && put_info(b);
	(void)unlinkat(b->dir, b->tmp, 0);
	return ok;
}

/* Each file is synced; one sync of the file system for all of the names. */
static bool classic_box_close(struct box *b)
{
	bool ok = b->dir < 0 || syncfs(b->dir) == 0;

	if (b->dir >= 0)
		close(b->dir);
	if (b->lock >= 0)
		close(b->lock);
	b->dir = b->lock = -1;
	buf_free(&b->out);
	return ok || box_fail(b, b->path, errno);
}

const struct box_calls classic_box = {classic_box_open, classic_box_begin, classic_box_bytes, classic_box_end,
                                      classic_box_close};
