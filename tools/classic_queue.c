/* classic_queue - see the header. */
#include "tools/classic_queue.h"

#include "core/pool.h"
#include "mail/addr.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define ENTRIES_MAX  (100u * 1000 * 1000)
#define SPLIT_MAX    100003                       /* the largest that somebody may have compiled in */
#define LIST_MAX     (1024u * 1024 * 1024)        /* bytes of one message's recipients */
#define BOUNCE_MAX   (64u * 1024 * 1024)
#define NAME_LEN     64

static int say(struct buf *why, int code, const char *what, int error)
{
	buf_clear(why);
	if (!buf_fmt(why, error ? "%s: %s" : "%s", what, strerror(error)))
		buf_clear(why);
	return code;
}

/* ---- names */

static bool name_number(const char *name, uint64_t *ret)
{
	return span_u64(span_str(name), UINT64_MAX, ret) && *ret > 0;
}

static void split_name(char dst[static NAME_LEN], const char *dir, uint64_t number, unsigned split)
{
	if (split)
		snprintf(dst, NAME_LEN, "%s/%" PRIu64 "/%" PRIu64, dir, number % split, number);
	else
		snprintf(dst, NAME_LEN, "%s/%" PRIu64, dir, number);
}

static DIR *open_list(int at, const char *name)
{
	int  fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);

	if (fd >= 0 && !d)
		close(fd);
	return d;
}

/* How many directories 0, 1, ... it has: how the queue was compiled. */
static unsigned count_split(int at, const char *name)
{
	char     path[NAME_LEN];
	struct stat st;
	unsigned n = 0;

	for (; n < SPLIT_MAX; n++) {
		snprintf(path, sizeof(path), "%s/%u", name, n);
		if (fstatat(at, path, &st, 0) < 0 || !S_ISDIR(st.st_mode))
			break;
	}
	return n;
}

/* ---- the list */

static bool add_entry(struct classic_queue *q, size_t *cap, uint64_t number, bool in_todo)
{
	if (q->n == *cap) {
		size_t more = *cap ? 2 * *cap : 1024;

		if (more > ENTRIES_MAX)
			return false;
		q->v = mem_grow(q->v, *cap * sizeof(*q->v), more * sizeof(*q->v));
		*cap = more;
	}
	q->v[q->n++] = (struct classic_entry){number, in_todo};
	return true;
}

struct listing {
	struct classic_queue *q;
	size_t                cap, found;
	bool                  in_todo, count_only;
};

static int list_one(struct listing *l, const char *name)
{
	DIR           *d = open_list(l->q->dir, name);
	struct dirent *e;
	uint64_t       number;
	int            error;

	if (!d)
		return errno;
	errno = 0;
	while ((e = readdir(d))) {
		if (!name_number(e->d_name, &number))
			continue;
		l->found++;
		if (!l->count_only && !add_entry(l->q, &l->cap, number, l->in_todo))
			errno = ENOMEM;
		if (errno)
			break;
	}
	error = errno;
	closedir(d);
	return error;
}

static int list_split(struct listing *l, const char *dir, unsigned split)
{
	char path[NAME_LEN];
	int  e = 0;

	for (unsigned i = 0; i < split && !e; i++) {
		snprintf(path, sizeof(path), "%s/%u", dir, i);
		e = list_one(l, path);
	}
	return e;
}

static int by_number(const void *va, const void *vb)
{
	const struct classic_entry *a = va, *b = vb;

	if (a->number != b->number)
		return a->number < b->number ? -1 : 1;
	return b->in_todo - a->in_todo;
}

/* todo is what counts where both are there. */
static void drop_doubles(struct classic_queue *q)
{
	size_t kept = 0;

	if (q->n)
		qsort(q->v, q->n, sizeof(*q->v), by_number);
	for (size_t i = 0; i < q->n; i++)
		if (kept == 0 || q->v[kept - 1].number != q->v[i].number)
			q->v[kept++] = q->v[i];
	q->n = kept;
}

static int list_all(struct classic_queue *q, struct buf *why)
{
	struct listing l = {.q = q, .in_todo = true};
	struct listing mess = {.q = q, .count_only = true};
	int            e;

	e = q->todo_is_split ? list_split(&l, "todo", q->split) : list_one(&l, "todo");
	if (e)
		return say(why, 111, "todo", e);
	l.in_todo = false;
	e = list_split(&l, "info", q->split);
	if (e)
		return say(why, 111, "info", e);
	drop_doubles(q);
	e = list_split(&mess, "mess", q->split);
	if (e)
		return say(why, 111, "mess", e);
	q->garbage = mess.found > q->n ? mess.found - q->n : 0;
	return 0;
}

/* ---- the lock: qmail-send holds it by flock() or lockf(), as it was compiled */

static int take_mutex(struct classic_queue *q, struct buf *why)
{
	struct flock all = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

	q->mutex = openat(q->dir, "lock/sendmutex", O_WRONLY | O_CLOEXEC);
	if (q->mutex < 0 && errno == ENOENT)
		return 0;                         /* then no qmail-send can run on it */
	if (q->mutex < 0)
		return say(why, 111, "lock/sendmutex", errno);
	if (flock(q->mutex, LOCK_EX | LOCK_NB) < 0 || fcntl(q->mutex, F_SETLK, &all) < 0)
		return say(why, 111, "qmail-send is running on it: stop it first", 0);
	return 0;
}

int classic_open(struct classic_queue *q, const char *path, struct buf *why)
{
	int code;

	*q = (struct classic_queue){.dir = -1, .mutex = -1};
	q->dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (q->dir < 0)
		return say(why, errno == ENOENT || errno == ENOTDIR ? 100 : 111, path, errno);
	q->split = count_split(q->dir, "mess");
	if (q->split == 0) {
		classic_close(q);
		return say(why, 100, "is no queue of qmail: it has no mess/0", 0);
	}
	q->todo_is_split = count_split(q->dir, "todo") == q->split;
	code = take_mutex(q, why);
	if (!code)
		code = list_all(q, why);
	if (code)
		classic_close(q);
	return code;
}

void classic_close(struct classic_queue *q)
{
	if (q->dir >= 0)
		close(q->dir);
	if (q->mutex >= 0)
		close(q->mutex);
	mem_free(q->v);
	*q = (struct classic_queue){.dir = -1, .mutex = -1};
}

/* ---- one file */

/* All of it, with its time; 0, ENOENT, or what else went wrong. */
static int read_file(const struct classic_queue *q, const char *name, struct buf *b, uint64_t *ret_s)
{
	int         fd = openat(q->dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW), e = 0;
	struct stat st;

	buf_clear(b);
	if (fd < 0)
		return errno;
	if (fstat(fd, &st) < 0)
		e = errno;
	*ret_s = e ? 0 : (uint64_t)st.st_mtime;
	while (!e) {
		char   *dst = buf_room(b, 65536);
		ssize_t n = dst ? read(fd, dst, 65536) : -1;

		if (!dst)
			e = EFBIG;
		else if (n < 0 && errno != EINTR)
			e = errno;
		else if (n == 0)
			break;
		else if (n > 0)
			b->n += (size_t)n;
	}
	close(fd);
	return e;
}

static bool next_record(struct span *file, struct span *ret)
{
	size_t nul = span_find(*file, '\0');

	if (nul == SPAN_NPOS)
		return false;
	*ret = span_cut(file, nul);
	(void)span_cut(file, 1);
	return true;
}

bool classic_next(struct span *list, struct span *ret)
{
	return next_record(list, ret);
}

static enum classic_found bad(struct buf *why, const char *name, const char *what)
{
	buf_clear(why);
	if (!buf_fmt(why, "%s: %s", name, what))
		buf_clear(why);
	return CLASSIC_BAD;
}

static bool add_rcpt(struct classic_message *m, enum classic_list l, struct span addr)
{
	return addr.n <= ADDR_MAX && buf_add(&m->rcpts[l], addr) && buf_add_byte(&m->rcpts[l], '\0');
}

/* ---- QUEUED */

static bool take_todo_record(struct classic_message *m, struct span r)
{
	struct span what = span_cut(&r, 1);
	uint64_t    n;

	switch (what.n ? what.p[0] : '\0') {
	case 'u':
	case 'p':
		if (!span_u64(r, UINT32_MAX, &n))
			return false;
		*(what.p[0] == 'u' ? &m->uid : &m->pid) = (uint32_t)n;
		return true;
	case 'F': return r.n <= ADDR_MAX && buf_add(&m->sender, r);
	case 'T': return add_rcpt(m, LIST_SUBMITTED, r);
	}
	return true;                              /* what patches add */
}

static enum classic_found read_todo(const struct classic_queue *q, uint64_t number, struct classic_message *m,
				    struct buf *why)
{
	char        name[NAME_LEN];
	struct buf  b;
	struct span rest, r;
	bool        ok = true, has_sender = false;
	int         e;

	buf_init(&b, LIST_MAX);
	split_name(name, "todo", number, q->todo_is_split ? q->split : 0);
	e = read_file(q, name, &b, &m->birth_s);
	rest = buf_span(&b);
	while (!e && ok && next_record(&rest, &r)) {
		has_sender |= span_starts(r, SPAN("F"));
		ok = take_todo_record(m, r);
	}
	ok = ok && rest.n == 0 && has_sender;
	buf_free(&b);
	if (e)
		return bad(why, name, strerror(e));
	return ok ? CLASSIC_OK : bad(why, name, "malformed envelope");
}

/* ---- PREPROCESSED */

static enum classic_found read_info(const struct classic_queue *q, uint64_t number, struct classic_message *m,
				    struct buf *why)
{
	char        name[NAME_LEN];
	struct buf  b;
	struct span rest, r;
	bool        ok;
	int         e;

	buf_init(&b, LIST_MAX);
	split_name(name, "info", number, q->split);
	e = read_file(q, name, &b, &m->birth_s);
	rest = buf_span(&b);
	ok = !e && next_record(&rest, &r) && span_skip(&r, SPAN("F")) && r.n <= ADDR_MAX && buf_add(&m->sender, r);
	buf_free(&b);
	if (e)
		return bad(why, name, strerror(e));
	return ok ? CLASSIC_OK : bad(why, name, "malformed sender");
}

static enum classic_found read_list(const struct classic_queue *q, uint64_t number, enum classic_list l,
				    struct classic_message *m, struct buf *why)
{
	char        name[NAME_LEN];
	struct buf  b;
	struct span rest, r;
	bool        ok = true;
	int         e;

	buf_init(&b, LIST_MAX);
	split_name(name, l == LIST_LOCAL ? "local" : "remote", number, q->split);
	e = read_file(q, name, &b, &m->due_s[l]);
	rest = buf_span(&b);
	while (!e && ok && next_record(&rest, &r)) {
		if (span_skip(&r, SPAN("T")))
			ok = add_rcpt(m, l, r);
		else if (span_skip(&r, SPAN("D")))
			m->done++;
		else
			ok = false;
	}
	ok = ok && rest.n == 0;
	buf_free(&b);
	if (e && e != ENOENT)
		return bad(why, name, strerror(e));
	return ok ? CLASSIC_OK : bad(why, name, "malformed list of recipients");
}

static enum classic_found read_preprocessed(const struct classic_queue *q, uint64_t number,
					    struct classic_message *m, struct buf *why)
{
	char               name[NAME_LEN];
	uint64_t           when;
	enum classic_found got = read_info(q, number, m, why);
	int                e;

	if (got == CLASSIC_OK)
		got = read_list(q, number, LIST_LOCAL, m, why);
	if (got == CLASSIC_OK)
		got = read_list(q, number, LIST_REMOTE, m, why);
	if (got != CLASSIC_OK)
		return got;
	split_name(name, "bounce", number, 0);
	e = read_file(q, name, &m->bounce, &when);
	if (e && e != ENOENT)
		return bad(why, name, strerror(e));
	return CLASSIC_OK;
}

/* ---- a message */

static enum classic_found open_mess(const struct classic_queue *q, uint64_t number, struct classic_message *m,
				    struct buf *why)
{
	char        name[NAME_LEN];
	struct stat st;

	split_name(name, "mess", number, q->split);
	m->mess = openat(q->dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (m->mess < 0 || fstat(m->mess, &st) < 0)
		return bad(why, name, strerror(errno));
	if (!S_ISREG(st.st_mode))
		return bad(why, name, "is no file");
	m->size = (uint64_t)st.st_size;
	m->mtime_ns = (uint64_t)st.st_mtim.tv_sec * 1000000000u + (uint64_t)st.st_mtim.tv_nsec;
	return CLASSIC_OK;
}

enum classic_found classic_read(const struct classic_queue *q, size_t i, struct classic_message *ret, struct buf *why)
{
	const struct classic_entry *e = &q->v[i];
	enum classic_found          got;
	size_t                      left;

	*ret = (struct classic_message){.number = e->number, .mess = -1};
	buf_init(&ret->sender, ADDR_MAX);
	buf_init(&ret->bounce, BOUNCE_MAX);
	for (int l = 0; l < LISTS; l++)
		buf_init(&ret->rcpts[l], LIST_MAX);
	got = e->in_todo ? read_todo(q, e->number, ret, why) : read_preprocessed(q, e->number, ret, why);
	left = ret->bounce.n;
	for (int l = 0; l < LISTS; l++)
		left += ret->rcpts[l].n;
	if (got == CLASSIC_OK && left == 0)
		return CLASSIC_GONE;
	return got == CLASSIC_OK ? open_mess(q, e->number, ret, why) : got;
}

void classic_message_fini(struct classic_message *m)
{
	buf_free(&m->sender);
	buf_free(&m->bounce);
	for (int l = 0; l < LISTS; l++)
		buf_free(&m->rcpts[l]);
	if (m->mess >= 0)
		close(m->mess);
	m->mess = -1;
}

/* ---- bounces */

/* Up to an empty line, or the end. */
static struct span cut_paragraph(struct span *bounce)
{
	size_t at = 0;

	while (span_skip(bounce, SPAN("\n")))
		;
	while (at < bounce->n) {
		size_t lf = span_find(span_from(*bounce, at), '\n');

		if (lf == SPAN_NPOS)
			at = bounce->n;
		else if (lf == 0)
			break;
		else
			at += lf + 1;
	}
	return span_cut(bounce, at);
}

bool classic_paragraph(struct span *bounce, struct span *ret_addr, struct span *ret_why)
{
	struct span all = cut_paragraph(bounce), line;
	size_t      lf = span_find(all, '\n');

	if (all.n == 0)
		return false;
	*ret_addr = SPAN_NONE;
	*ret_why = all;
	line = span_until(all, lf == SPAN_NPOS ? all.n : lf);
	if (lf == SPAN_NPOS || !span_skip(&line, SPAN("<")) || !span_ends(line, SPAN(">:")) ||
	    line.n - 2 > ADDR_MAX)
		return true;
	*ret_addr = span_until(line, line.n - 2);
	*ret_why = span_from(all, lf + 1);
	return true;
}
