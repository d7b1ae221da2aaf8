/* cdb - see the header.  The format is the classic one: 256 pointers, records, hash tables;
 * docs/qmail.md E. */
#include "mail/cdb.h"

#include "core/file.h"
#include "core/pool.h"

#include <cdb.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

struct cdb_file {
	struct cdb cdb;
};

struct cdb_file *cdb_file_new(int fd)
{
	struct cdb_file *c = mem_new(sizeof *c);

	if (cdb_init(&c->cdb, fd) == 0)
		return c;
	mem_free(c);
	return NULL;
}

void cdb_file_free(struct cdb_file *c)
{
	if (!c)
		return;
	cdb_free(&c->cdb);
	mem_free(c);
}

enum cdb_answer cdb_file_look(const struct cdb_file *c, struct span key, struct span *ret)
{
	struct cdb at = c->cdb;                   /* a look-up leaves its position there */
	int found = cdb_find(&at, key.p, (unsigned)key.n);

	if (found == 0)
		return CDB_MISS;
	if (found < 0)
		return CDB_DAMAGED;
	const void *data = cdb_getdata(&at);
	if (!data)
		return CDB_DAMAGED;
	*ret = span_of(data, cdb_datalen(&at));
	return CDB_HIT;
}

bool cdb_file_get(const struct cdb_file *c, struct span key, struct span *ret)
{
	return cdb_file_look(c, key, ret) == CDB_HIT;
}

#define TMP_PATH_MAX 4096

struct cdb_writer {
	struct cdb_make make;
	char            tmp[TMP_PATH_MAX];
	int             fd;
};

struct cdb_writer *cdb_writer_new(const char *tmp_path)
{
	struct cdb_writer *w = mem_new(sizeof *w);

	errno = ENAMETOOLONG;
	if (!span_to_cstr(span_str(tmp_path), w->tmp, sizeof w->tmp))
		goto out;
	w->fd = open(w->tmp, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (w->fd < 0)
		goto out;
	if (cdb_make_start(&w->make, w->fd) == 0)
		return w;
	close(w->fd);
out:
	mem_free(w);
	return NULL;
}

bool cdb_writer_add(struct cdb_writer *w, struct span key, struct span data)
{
	return cdb_make_add(&w->make, key.p, (unsigned)key.n, data.p, (unsigned)data.n) == 0;
}

static bool sync_dir_of(const char *path)
{
	char dir[TMP_PATH_MAX];
	size_t slash = span_rfind(span_str(path), '/');
	int fd;

	if (slash == SPAN_NPOS)
		snprintf(dir, sizeof dir, ".");
	else if (!span_to_cstr(span_until(span_str(path), slash + 1), dir, sizeof dir))
		return false;
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return false;
	int error = file_sync_dir(fd);
	close(fd);
	errno = -error;
	return error == 0;
}

/* The writer is gone afterwards, and so is the temporary file unless it was renamed. */
static void writer_end(struct cdb_writer *w, bool unlink_tmp)
{
	int error = errno;

	close(w->fd);
	if (unlink_tmp)
		unlink(w->tmp);
	mem_free(w);
	errno = error;
}

bool cdb_writer_finish(struct cdb_writer *w, const char *path, unsigned mode)
{
	bool good = cdb_make_finish(&w->make) == 0 && fchmod(w->fd, mode) == 0 &&
	            fsync(w->fd) == 0 && rename(w->tmp, path) == 0;

	good = good && sync_dir_of(path);
	writer_end(w, !good);
	return good;
}

void cdb_writer_abandon(struct cdb_writer *w)
{
	if (!w)
		return;
	(void)cdb_make_finish(&w->make);          /* the library frees its lists nowhere else */
	writer_end(w, true);
}
