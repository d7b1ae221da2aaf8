#include "bench/journal.h"

#include "core/log.h"
#include "core/pool.h"
#include "journal/zip.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static void on_name(void *ctx, const char *name, uint64_t size)
{
	struct bench_files *f = ctx;

	if (f->n == f->cap) {
		f->names = mem_grow(f->names, f->cap * sizeof *f->names,
				    (f->cap * 2 + 16) * sizeof *f->names);
		f->cap = f->cap * 2 + 16;
	}
	snprintf(f->names[f->n++], sizeof *f->names, "%s", name);
}

void bench_list(struct disk *d, struct bench_files *ret)
{
	int e = d->calls->list(d, on_name, ret);

	if (e)
		die(111, "list a directory: %s", strerror(-e));
}

static int make_file(const char *dir, uint64_t size, bool direct, bool filled, char *page,
		     size_t n)
{
	char path[512];
	int fd;

	snprintf(path, sizeof path, "%s/quire-probe.XXXXXX", dir);
	fd = mkostemp(path, O_CLOEXEC | (direct ? O_DIRECT : 0));
	if (fd < 0)
		die_sys(111, "make a file ", path);
	unlink(path);
	if (!filled && posix_fallocate(fd, 0, (off_t)size) != 0)
		die(111, "%s: no room", path);
	for (uint64_t at = 0; filled && at + n <= size; at += n)
		if (pwrite(fd, page, n, (off_t)at) != (ssize_t)n)
			die_sys(111, "fill ", path);
	if (fsync(fd) < 0)
		die_sys(111, "sync ", path);
	return fd;
}

double probe_disk(const char *dir, size_t n, uint64_t size, enum probe_how how, bool direct,
		  bool filled, uint64_t ms)
{
	size_t fill_n = n < (1u << 20) ? 1u << 20 : n;
	uint64_t begun, now, writes = 0, at = 0;
	char *page;
	int fd;

	if (posix_memalign((void **)&page, 4096, fill_n) != 0)
		die(111, "no memory");
	memset(page, 'q', fill_n);
	fd = make_file(dir, size, direct, filled, page, fill_n);
	begun = bench_now_us();
	do {
		struct iovec v = {page, n};

		if (pwritev2(fd, &v, 1, (off_t)at, how == PROBE_DSYNC ? RWF_DSYNC : 0) !=
			    (ssize_t)n ||
		    (how == PROBE_FDATASYNC && fdatasync(fd) < 0))
			die_sys(111, "write a probe in ", dir);
		writes++;
		at = at + 2 * n <= size ? at + n : 0;
		now = bench_now_us();
		if (!filled && at == 0)
			break;            /* the second time round it would be filled */
	} while (now - begun < ms * 1000);
	close(fd);
	free(page);
	return (double)writes * 1e6 / (double)(now - begun);
}

static double cpu_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

struct packed {
	struct msg_part part;
	struct span frame;
};

static struct packed *pack_all(struct zip *z, const struct mails *m, size_t part, char *room,
			       struct zip_rate *ret, size_t *ret_n)
{
	struct packed *v = mem_new((m->bytes / part + m->n) * sizeof *v);
	uint64_t raw = 0, packed = 0, plain = 0;
	double begun = cpu_s();
	size_t n = 0;

	for (uint32_t i = 0; i < m->n; i++) {
		struct span rest = m->v[i];

		while (rest.n > 0) {
			struct span s = span_cut(&rest, part);
			struct span f = zip_pack(z, s, room, &v[n].part);

			v[n++].frame = f;
			raw += s.n;
			packed += f.n;
			plain += f.p != room;
			if (f.p == room)
				room += f.n;
		}
	}
	ret->pack_mb = (double)raw / (cpu_s() - begun) / 1e6;
	ret->ratio = (double)raw / (double)packed;
	ret->raw_share = (double)plain / (double)n;
	*ret_n = n;
	return v;
}

static double unpack_all(struct zip *z, const struct packed *v, size_t n)
{
	static char raw[BODY_PART_MAX];
	double begun = cpu_s();
	uint64_t bytes = 0;

	for (size_t i = 0; i < n; i++) {
		const struct msg_part *p = &v[i].part;

		if (!zip_unpack(z, p->codec, p->dict, v[i].frame, p->raw_hash, raw, p->raw_n))
			die(111, "what was packed can't be unpacked");
		bytes += p->raw_n;
	}
	return (double)bytes / (cpu_s() - begun) / 1e6;
}

/* The best of what fits into the time: other work on the machine only slows. */
struct zip_rate probe_zip(const struct mails *m, size_t part, int level, struct dict d,
			  uint64_t ms)
{
	struct zip *z = zip_new(level);
	char *room = mem_new(m->bytes + ZIP_BOUND);
	uint64_t begun = bench_now_us();
	struct zip_rate best = {0};

	zip_add_dict(z, d.number, d.bytes, true);
	do {
		struct zip_rate r;
		size_t n;
		struct packed *v = pack_all(z, m, part, room, &r, &n);

		r.unpack_mb = unpack_all(z, v, n);
		mem_free(v);
		if (r.pack_mb < best.pack_mb)
			r.pack_mb = best.pack_mb;
		if (r.unpack_mb < best.unpack_mb)
			r.unpack_mb = best.unpack_mb;
		best = r;
	} while (bench_now_us() - begun < 2 * ms * 1000);
	zip_free(z);
	mem_free(room);
	return best;
}
