/* What the tests of local delivery share: a home of their own, files in it, and letters. */
#ifndef UNIT_LOCAL_TEST_H
#define UNIT_LOCAL_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/file.h"
#include "local/letter.h"
#include "local/report.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define NOV_21 1795225250 /* Sat Nov 21 01:40:50 2026 */

struct nest {
	char dir[64]; /* absolute */
};

static inline void nest_make(struct nest *h)
{
	umask(077);
	snprintf(h->dir, sizeof(h->dir), "/tmp/quire-local-XXXXXX");
	assert_non_null(mkdtemp(h->dir));
}

static inline int nest_remove_one(const char *path, const struct stat *st, int kind,
				  struct FTW *at)
{
	return remove(path);
}

static inline void nest_remove(struct nest *h)
{
	assert_int_equal(chdir("/"), 0);
	nftw(h->dir, nest_remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static inline const char *nest_path(const struct nest *h, const char *name)
{
	static char path[8][4400];
	static int next;

	next = (next + 1) % 8;
	snprintf(path[next], sizeof(path[next]), "%s/%s", h->dir, name);
	return path[next];
}

static inline void nest_write(const struct nest *h, const char *name, const char *text)
{
	int fd = open(nest_path(h, name), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	assert_true(fd >= 0);
	assert_true(file_write_all(fd, span_str(text)));
	close(fd);
}

static inline void nest_maildir(const struct nest *h, const char *name)
{
	static const char *const below[] = {"", "/tmp", "/new", "/cur"};
	char path[128];

	for (size_t i = 0; i < ARRAY_N(below); i++) {
		snprintf(path, sizeof(path), "%s%s", name, below[i]);
		assert_int_equal(mkdir(nest_path(h, path), 0700), 0);
	}
}

/* How many files there are; one of their names in `one`. */
static inline unsigned nest_count(const struct nest *h, const char *dir, char one[static 256])
{
	DIR *d = opendir(nest_path(h, dir));
	struct dirent *e;
	unsigned n = 0;

	assert_non_null(d);
	while ((e = readdir(d))) {
		if (e->d_name[0] == '.')
			continue;
		snprintf(one, 256, "%s", e->d_name);
		n++;
	}
	closedir(d);
	return n;
}

static inline void nest_file_is(const struct nest *h, const char *name, struct span want)
{
	struct buf b;

	buf_init(&b, 64 * 1024 * 1024);
	assert_int_equal(file_read(AT_FDCWD, nest_path(h, name), &b), 0);
	assert_int_equal(b.n, want.n);
	assert_memory_equal(b.p, want.p, b.n);
	buf_free(&b);
}

/* The one mail in a maildir. */
static inline void nest_maildir_has(const struct nest *h, const char *dir, struct span want)
{
	char name[256], path[512];

	snprintf(path, sizeof(path), "%s/tmp", dir);
	assert_int_equal(nest_count(h, path, name), 0);
	snprintf(path, sizeof(path), "%s/new", dir);
	assert_int_equal(nest_count(h, path, name), 1);
	snprintf(path, sizeof(path), "%s/new/%s", dir, name);
	nest_file_is(h, path, want);
}

static inline void report_is(struct report *r, char letter, const char *text)
{
	report_close(r);
	assert_int_equal(r->letter, letter);
	assert_true(buf_add_byte(&r->text, '\0'));
	assert_string_equal(r->text.p, text);
	report_fini(r);
}

#endif
