/* A journal in a directory of its own, on a real disk and a real loop; for unit tests. */
#ifndef UNIT_JOURNAL_HOME_H
#define UNIT_JOURNAL_HOME_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "core/clock.h"
#include "core/log.h"
#include "core/pool.h"
#include "journal/commit.h"
#include "journal/reader.h"
#include "journal/segments.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define HOME_SEGMENT (128 * 1024)
#define HOME_RING    (1024 * 1024)

struct home {
	char dir[64];
	struct loop *loop;
	struct disk *disk;
	struct ring ring;
	struct commit *commit;
	bool direct, careful;
	uint32_t pool, reserve;
	unsigned moved, rooms, done;
	uint64_t entered, edits; /* what commit said last */
	int failed;
	uint64_t durable;
};

static inline void home_on_moved(void *ctx, uint64_t durable)
{
	struct home *h = ctx;

	h->moved++;
	h->durable = durable;
}

static inline void home_on_room(void *ctx)
{
	((struct home *)ctx)->rooms++;
}

static inline void home_on_failed(void *ctx, int error)
{
	((struct home *)ctx)->failed = error;
}

static inline void home_on_entered(void *ctx, uint64_t number, uint64_t edits)
{
	struct home *h = ctx;

	h->entered = number;
	h->edits = edits;
}

static const struct commit_calls home_calls = {home_on_moved, home_on_room, home_on_failed,
					       home_on_entered};

static inline void home_drop_line(void *ctx, struct span line)
{
}

static inline void home_init(struct home *h, enum loop_kind kind)
{
	const char *why;

	*h = (struct home){.ring = {.fd = -1, .fd_read = -1}};
	log_capture(home_drop_line, NULL);
	snprintf(h->dir, sizeof h->dir, "/tmp/quire-journal-XXXXXX");
	assert_non_null(mkdtemp(h->dir));
	h->loop = loop_new(kind, 0);
	h->disk = disk_real_new(h->loop, open(h->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	h->direct = disk_direct_works(h->disk, &why);
}

static inline enum recovered home_recover(struct home *h, struct journal_end *end)
{
	return journal_recover(h->disk, end);
}

static inline enum recovered home_open(struct home *h)
{
	struct journal_end end;
	enum recovered verdict = home_recover(h, &end);

	if (verdict == RECOVERED_FAILED)
		fail_msg("%.*s", SPAN_ARG(buf_span(&end.why)));
	assert_int_equal(ring_make(&h->ring, HOME_RING, HOME_SEGMENT), 0);
	assert_int_equal(commit_open(&h->commit, h->loop, h->disk, &h->ring, &end,
				     &(struct commit_options){.segment_size = HOME_SEGMENT, .shard = 1, .direct = h->direct,
							      .pool = h->pool, .reserve = h->reserve,
							      .careful = h->careful},
				     &home_calls, h),
			 0);
	journal_end_fini(&end);
	return verdict;
}

static inline void home_settle(struct home *h)
{
	while (h->commit && !h->failed && !commit_is_idle(h->commit))
		loop_pass(h->loop);
}

static inline void home_close(struct home *h)
{
	home_settle(h);
	commit_free(h->commit);
	h->commit = NULL;
	ring_unmap(&h->ring);
}

static inline void home_fini(struct home *h)
{
	DIR *d;
	struct dirent *e;

	home_close(h);
	d = opendir(h->dir);
	while (d && (e = readdir(d)))
		if (e->d_name[0] != '.')
			unlinkat(dirfd(d), e->d_name, 0);
	closedir(d);
	rmdir(h->dir);
	disk_real_free(h->disk);
	loop_free(h->loop);
}

/* One record of `n` bytes that are made from id and number. */
static inline uint64_t home_add(struct home *h, enum rec_type type, uint64_t id,
				uint32_t number, size_t n, unsigned flags)
{
	static char bytes[REC_MAX];
	struct rec_head head = {.type = (uint8_t)type, .id = id, .number = number};
	struct span piece = span_of(bytes, n);

	for (size_t i = 0; i < n; i++)
		bytes[i] = (char)(id * 7 + number * 3 + i * (i >> 8 | 1));
	return commit_add(h->commit, &head, &piece, 1, flags);
}

/* Until there is room, through as many segments as it takes. */
static inline uint64_t home_put(struct home *h, enum rec_type type, uint64_t id,
				uint32_t number, size_t n, unsigned flags)
{
	uint64_t pos;

	while (!(pos = home_add(h, type, id, number, n, flags)))
		loop_pass(h->loop);
	return pos;
}

static inline bool home_is(const struct record *r, uint64_t id, uint32_t number, size_t n)
{
	if (r->head.id != id || r->head.number != number || r->body.n != n)
		return false;
	for (size_t i = 0; i < n; i++)
		if (r->body.p[i] != (char)(id * 7 + number * 3 + i * (i >> 8 | 1)))
			return false;
	return true;
}

static inline struct reader *home_reader(struct home *h, bool running)
{
	struct reader *r = reader_new(h->disk, running ? &h->ring : NULL, HOME_SEGMENT, 1);
	struct buf why;

	buf_init(&why, 512);
	assert_int_equal(reader_open(r, &why), 0);
	buf_free(&why);
	return r;
}

/* The next record that is mail (here: ACT), or what else the reader says. */
static inline enum read_result home_next(struct reader *r, struct record *ret)
{
	enum read_result got;

	do
		got = reader_next(r, true, ret);
	while (got == READ_OK && ret->head.type != REC_ACT);
	return got;
}

/* Changes one byte of a segment file: xor. */
static inline void home_flip(struct home *h, uint64_t pos, unsigned char x)
{
	char path[128];
	unsigned char c;
	int fd;

	snprintf(path, sizeof path, "%s/seg-%016llx", h->dir,
		 (unsigned long long)(pos / HOME_SEGMENT));
	fd = open(path, O_RDWR);
	assert_true(fd >= 0);
	assert_int_equal(pread(fd, &c, 1, (off_t)(pos % HOME_SEGMENT)), 1);
	c ^= x;
	assert_int_equal(pwrite(fd, &c, 1, (off_t)(pos % HOME_SEGMENT)), 1);
	assert_int_equal(fsync(fd), 0);
	close(fd);
}

#endif
