/* pack - what compression gains on mail: levels against dictionaries, as the journal packs it.
 *
 * Each mail is packed by itself, in parts of at most --part bytes; --join N joins mails until
 * they have N bytes first, to see what frames of many mails would gain.  --every K --from I takes
 * each Kth mail from the Ith on only: a dictionary that was trained on some is measured on others. */
#include "bench/journal.h"

#include "core/pool.h"
#include "mail/msg.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DICTS_MAX 8
#define PACK_MS   700

static const char help[] =
	"usage: quire-bench pack --mails DIR [--dictionary FILE|none|built-in]... [--part BYTES]\n"
	"         [--join BYTES] [--every K --from I]";

struct options {
	const char *mails, *names[DICTS_MAX];
	struct dict dicts[DICTS_MAX];
	unsigned dicts_n;
	uint64_t part, join, every, from;
};

static void take_some(struct mails *m, uint64_t every, uint64_t from)
{
	uint32_t n = 0;

	m->bytes = 0;
	for (uint64_t i = from; i < m->n; i += every) {
		m->v[n] = m->v[i];
		m->bytes += m->v[n++].n;
	}
	m->n = n;
}

static void join(struct mails *m, size_t size)
{
	struct mails all = *m;
	uint32_t n = 0;

	for (uint32_t i = 0; i < all.n; n++) {
		char *p = mem_new(size + all.v[i].n);
		size_t at = 0;

		for (; i < all.n && (at == 0 || at + all.v[i].n <= size); i++) {
			memcpy(p + at, all.v[i].p, all.v[i].n);
			at += all.v[i].n;
		}
		m->v[n] = span_of(p, at);
	}
	m->n = n;
}

static bool take_dict(struct options *o, const char *arg)
{
	struct dict *d = &o->dicts[o->dicts_n];
	FILE *f;

	if (o->dicts_n == DICTS_MAX)
		return false;
	o->names[o->dicts_n++] = arg;
	*d = (struct dict){0};
	if (strcmp(arg, "none") == 0)
		return true;
	if (strcmp(arg, "built-in") == 0) {
		*d = dict_built_in();
		return true;
	}
	f = fopen(arg, "re");
	if (!f) {
		perror(arg);
		return false;
	}
	*d = dict_load(fileno(f));
	fclose(f);
	return true;
}

static void print_table(const struct options *o, const struct mails *m)
{
	static const int levels[] = {-5, -3, -1, 1, 3};

	printf("%u mails, %.1f MB\n%-24s %5s %7s %9s %9s %8s %6s\n", m->n,
	       (double)m->bytes / 1e6, "dictionary", "level", "ratio", "pack", "unpack",
	       "us/mail", "raw");
	for (unsigned d = 0; d < o->dicts_n; d++)
		for (unsigned l = 0; l < ARRAY_N(levels); l++) {
			struct zip_rate r =
				probe_zip(m, o->part, levels[l], o->dicts[d], PACK_MS);

			printf("%-24.24s %5d %7.3f %4.0f MB/s %4.0f MB/s %8.1f %5.1f%%\n",
			       o->names[d], levels[l], r.ratio, r.pack_mb, r.unpack_mb,
			       (double)m->bytes / m->n / r.pack_mb, 100 * r.raw_share);
			fflush(stdout);
		}
}

static bool take_options(int argc, char **argv, struct options *o)
{
	static const struct option known[] = {{"mails", required_argument, NULL, 'm'},
					      {"dictionary", required_argument, NULL, 'D'},
					      {"part", required_argument, NULL, 'p'},
					      {"join", required_argument, NULL, 'j'},
					      {"every", required_argument, NULL, 'e'},
					      {"from", required_argument, NULL, 'f'},
					      {"help", no_argument, NULL, 'h'},
					      {0}};
	bool ok = true;
	int c;

	while ((c = getopt_long(argc, argv, "", known, NULL)) != -1)
		switch (c) {
		case 'm': o->mails = optarg; break;
		case 'D': ok &= take_dict(o, optarg); break;
		case 'p': ok &= span_u64(span_str(optarg), BODY_PART_MAX, &o->part); break;
		case 'j': ok &= span_u64(span_str(optarg), BODY_PART_MAX, &o->join); break;
		case 'e': ok &= span_u64(span_str(optarg), 1000, &o->every); break;
		case 'f': ok &= span_u64(span_str(optarg), 1000, &o->from); break;
		case 'h': exit(puts(help) < 0);
		default: return false;
		}
	return ok && o->mails && o->part > 0 && o->every > 0;
}

int bench_pack(int argc, char **argv)
{
	struct options o = {.part = BODY_PART_MAX, .every = 1};
	struct mails m;

	if (!take_options(argc, argv, &o)) {
		fprintf(stderr, "%s\n", help);
		return 100;
	}
	if (o.dicts_n == 0)
		check(take_dict(&o, "none") && take_dict(&o, "built-in"));
	if (!mails_load(&m, o.mails))
		return 111;
	take_some(&m, o.every, o.from);
	if (o.join)
		join(&m, o.join);
	if (m.n == 0) {
		fputs("quire-bench: no mail is left\n", stderr);
		return 100;
	}
	print_table(&o, &m);
	return 0;
}
