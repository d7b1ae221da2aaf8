#include "bench/bench.h"

#include "core/buf.h"
#include "core/file.h"
#include "core/pool.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAIL_MAX (64u * 1024 * 1024)

void hist_add(struct hist *h, uint64_t us)
{
	unsigned power = us < HIST_STEPS ? 0 : 63 - (unsigned)__builtin_clzll(us) - 4;
	unsigned step = (unsigned)(power ? us >> (power - 1) : us) & (HIST_STEPS - 1);

	h->n++;
	if (us > h->max)
		h->max = us;
	h->count[power * HIST_STEPS + step]++;
}

uint64_t hist_at(const struct hist *h, double share)
{
	uint64_t want = (uint64_t)(share * (double)h->n), seen = 0;

	for (unsigned i = 0; i < ARRAY_N(h->count); i++) {
		unsigned power = i / HIST_STEPS, step = i % HIST_STEPS;

		seen += h->count[i];
		if (seen > want || seen == h->n)
			return power ? (uint64_t)(HIST_STEPS + step + 1) << (power - 1) : step;
	}
	return h->max;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static bool load_one(struct mails *m, int dir, const char *name)
{
	struct buf b;
	int err;

	buf_init(&b, MAIL_MAX);
	err = file_read(dir, name, &b);
	if (err < 0) {
		fprintf(stderr, "quire-bench: %s: %s\n", name, strerror(-err));
		return false;
	}
	m->v[m->n++] = buf_span(&b); /* kept for the life of the program */
	m->bytes += b.n;
	return true;
}

bool mails_load(struct mails *m, const char *path)
{
	DIR *d = opendir(path);
	char **names = NULL;
	size_t n = 0, cap = 0;
	bool ok = true;

	if (!d) {
		fprintf(stderr, "quire-bench: %s: %s\n", path, strerror(errno));
		return false;
	}
	for (struct dirent *e; (e = readdir(d));) {
		if (e->d_name[0] == '.')
			continue;
		if (n == cap) {
			names = mem_grow(names, cap * sizeof *names,
					 (cap * 2 + 64) * sizeof *names);
			cap = cap * 2 + 64;
		}
		names[n++] = strdup(e->d_name);
	}
	if (n)
		qsort(names, n, sizeof *names, by_name);
	*m = (struct mails){.v = mem_new((n + 1) * sizeof *m->v)};
	for (size_t i = 0; ok && i < n; i++)
		ok = load_one(m, dirfd(d), names[i]);
	closedir(d);
	if (ok && m->n == 0)
		fprintf(stderr, "quire-bench: %s: no mail there\n", path);
	return ok && m->n > 0;
}

/* Text that is neither constant nor noise: words by a small generator, the same in every run.
 */
void mails_make(struct mails *m, size_t size)
{
	static const char *const words[] = {
		"queue",   "segment", "of",        "the", "journal",  "a",
		"message", "and",     "to",        "in",  "delivery", "host",
		"commit",  "with",    "recipient", "for", "mail",     "is"};
	enum { VARIANTS = 64 };

	*m = (struct mails){.v = mem_new(VARIANTS * sizeof *m->v)};
	for (uint32_t k = 0; k < VARIANTS; k++) {
		uint64_t x = 0x9e3779b97f4a7c15ull * (k + 1);
		size_t line = 0, head;
		struct buf b;

		buf_init(&b, size + 4096);
		check(buf_fmt(&b,
			      "Subject: message %u\nFrom: sender@bench.example\nTo: "
			      "rcpt@bench.example\n\n",
			      k));
		head = b.n;
		while (b.n < size && b.n >= head) {
			x = x * 6364136223846793005ull + 1442695040888963407ull;
			check(buf_fmt(&b, "%s%x", words[(x >> 33) % ARRAY_N(words)],
				      (unsigned)(x >> 60)));
			line++;
			check(buf_add_byte(&b, line % 11 ? ' ' : '\n'));
		}
		if (b.n > size && size > head)
			b.n = size;
		b.p[b.n - 1] = '\n';
		m->v[m->n++] = buf_span(&b);
		m->bytes += b.n;
	}
}

bool bench_address(const char *text, uint16_t port, union sockany *ret, socklen_t *ret_n)
{
	struct ip ip;

	if (!ip_parse_port(span_str(text), port, &ip, &port) || ip.family == 0) {
		fprintf(stderr, "quire-bench: %s: not an ADDRESS:PORT\n", text);
		return false;
	}
	*ret_n = ip_to_sockaddr(&ip, port, ret);
	return true;
}
