/* journal_verb - options, and the tables. */
#include "bench/journal.h"

#include "core/pool.h"
#include "mail/msg.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PROBE_MS       400 /* in front of each row: a disk has many users */
#define DISK_MS        1000
#define PROBE_SIZE     (64u << 20)
#define RING_MIN       (8u << 20) /* control/ringsize has the same */
#define SIZE_DEFAULT   4096
#define MAILS_MAX      65536
#define SUBMITTERS_MAX 4096
#define LIST_MAX       16

static const char help[] =
	"usage: quire-bench journal --dir DIR [--mails DIR] [--size BYTES|0] [--seconds N]\n"
	"         [--submitters N,...] [--level N|raw,...] [--dictionary FILE|none]\n"
	"         [--segment-size BYTES] [--ring-size BYTES] [--new] [--buffered]\n"
	"         [--loop uring|epoll] [--disk] [--json]";

struct options {
	struct bench_journal b;
	unsigned submitters[LIST_MAX];
	int levels[LIST_MAX];
	unsigned submitters_n, levels_n;
	uint64_t size, seconds;
	const char *mails;
	bool disk, json;
	double synced, zip; /* the machine's, measured in front of the row */
};

/* As they are, but of one part. */
static void cut_to_part(struct mails *m)
{
	m->bytes = 0;
	for (uint32_t i = 0; i < m->n; i++) {
		m->v[i] = span_until(m->v[i], BODY_PART_MAX);
		m->bytes += m->v[i].n;
	}
}

/* Mails of exactly `size` bytes: long ones are cut, short ones go on with the next. */
static void cut_to_size(struct mails *m, uint64_t size)
{
	struct mails all = *m;

	*m = (struct mails){.v = mem_new(MAILS_MAX * sizeof *m->v)};
	for (uint32_t i = 0; i < all.n && m->n < MAILS_MAX; i++) {
		char *p = mem_new(size);
		uint64_t n = 0;

		for (uint32_t k = i; n < size; k++) {
			struct span s = span_until(all.v[k % all.n], size - n);

			memcpy(p + n, s.p, s.n);
			n += s.n;
		}
		m->v[m->n++] = span_of(p, size);
		m->bytes += size;
	}
}

static bool take_list(const char *arg, unsigned *v, unsigned *n)
{
	struct span rest = span_str(arg);

	for (*n = 0; rest.n > 0 && *n < LIST_MAX;) {
		size_t at = span_find(rest, ',');
		struct span one = span_cut(&rest, at == SPAN_NPOS ? rest.n : at);
		uint64_t u;

		(void)span_cut(&rest, 1);
		if (!span_u64(one, SUBMITTERS_MAX, &u) || u == 0)
			return false;
		v[(*n)++] = (unsigned)u;
	}
	return *n > 0 && rest.n == 0;
}

static bool take_levels(const char *arg, struct options *o)
{
	struct span rest = span_str(arg);

	for (o->levels_n = 0; rest.n > 0 && o->levels_n < LIST_MAX;) {
		size_t at = span_find(rest, ',');
		struct span one = span_cut(&rest, at == SPAN_NPOS ? rest.n : at);
		bool minus = span_skip(&one, SPAN("-"));
		uint64_t u = BENCH_RAW;

		(void)span_cut(&rest, 1);
		if (!span_eq(one, SPAN("raw")) && !span_u64(one, 19, &u))
			return false;
		o->levels[o->levels_n++] = minus ? -(int)u : (int)u;
	}
	return o->levels_n > 0 && rest.n == 0;
}

static bool take_dict(const char *arg, struct dict *ret)
{
	FILE *f;

	*ret = (struct dict){0};
	if (strcmp(arg, "none") == 0)
		return true;
	f = fopen(arg, "re");
	if (!f) {
		perror(arg);
		return false;
	}
	*ret = dict_load(fileno(f));
	fclose(f);
	return true;
}

/* ---- what is printed ---- */

static void print_head(const struct options *o)
{
	if (o->json)
		return;
	printf("%5s %5s %9s %7s %7s %6s %8s %7s %7s %7s %7s %8s %7s %7s %5s %8s %8s %6s\n",
	       "level", "subs", "msg/s", "MB/s", "disk", "cost", "batch/s", "mean", "p50us",
	       "p99us", "p99.9us", "max us", "cpu us", "others", "segs", "writes/s", "zstdMB/s",
	       "share");
}

/* Of what the machine could do: one submitter can't pass the disk's single writes, packed mail
 * can't pass the one core that packs it; the rest have no such bound. */
static double share_of(const struct options *o, int level, const struct bench_row *r)
{
	double disk = r->submitters == 1 ? r->rate / o->synced : 0;
	double zip = level == BENCH_RAW ? 0 : r->raw_mb / o->zip;

	return disk > zip ? disk : zip;
}

static void print_row(const struct options *o, int level, const struct bench_row *r)
{
	char name[16];

	snprintf(name, sizeof name, level == BENCH_RAW ? "raw" : "%d", level);
	if (!o->json) {
		printf("%5s %5u %9.0f %7.1f %7.1f %6.3f %8.0f %7.1f %7llu %7llu %7llu %8llu "
		       "%7.2f %7.2f %5llu %8.0f %8.0f %6.2f\n",
		       name, r->submitters, r->rate, r->raw_mb, r->disk_mb, r->cost, r->batches,
		       r->mean, (unsigned long long)r->p50, (unsigned long long)r->p99,
		       (unsigned long long)r->p999, (unsigned long long)r->max, r->cpu_us,
		       r->others_us, (unsigned long long)r->segments, o->synced, o->zip,
		       share_of(o, level, r));
		fflush(stdout);
		return;
	}
	printf("{\"level\":\"%s\",\"submitters\":%u,\"size\":%llu,\"rate\":%.0f,\"mb\":%.2f,"
	       "\"disk_mb\":%.2f,\"cost\":%.4f,\"batches\":%.0f,\"mean\":%.2f,\"p50_us\":%llu,"
	       "\"p99_us\":%llu,\"p999_us\":%llu,\"max_us\":%llu,\"cpu_us\":%.2f,"
	       "\"others_us\":%.2f,\"segments\":%llu,\"disk_synced\":%.0f,\"zstd_mb\":%.1f,"
	       "\"share\":%.3f}\n",
	       name, r->submitters, (unsigned long long)o->size, r->rate, r->raw_mb, r->disk_mb,
	       r->cost, r->batches, r->mean, (unsigned long long)r->p50,
	       (unsigned long long)r->p99, (unsigned long long)r->p999,
	       (unsigned long long)r->max, r->cpu_us, r->others_us,
	       (unsigned long long)r->segments, o->synced, o->zip, share_of(o, level, r));
	fflush(stdout);
}

/* --disk: ways to write that we did not take, too. */
static void print_disk(const struct options *o)
{
	static const struct {
		const char *name;
		enum probe_how how;
		bool direct, filled;
	} ways[] = {
		{"direct RWF_DSYNC, filled file", PROBE_DSYNC, true, true},
		{"direct + fdatasync, filled file", PROBE_FDATASYNC, true, true},
		{"buffered RWF_DSYNC, filled file", PROBE_DSYNC, false, true},
		{"buffered + fdatasync, filled file", PROBE_FDATASYNC, false, true},
		{"direct RWF_DSYNC, allocated file", PROBE_DSYNC, true, false},
		{"direct + fdatasync, allocated file", PROBE_FDATASYNC, true, false},
	};

	printf("%-36s %10s %10s %10s\n", "writes a second of", "4 KiB", "64 KiB", "1 MiB");
	for (size_t i = 0; i < ARRAY_N(ways); i++) {
		static const size_t sizes[] = {4096, 65536, 1 << 20};

		printf("%-36s", ways[i].name);
		for (size_t k = 0; k < ARRAY_N(sizes); k++)
			printf(" %10.0f",
			       probe_disk(o->b.dir, sizes[k], 4 * PROBE_SIZE, ways[i].how,
					  ways[i].direct, ways[i].filled, DISK_MS));
		printf("\n");
		fflush(stdout);
	}
}

static void probe(struct options *o, int level)
{
	int zip_level = level == BENCH_RAW ? 1 : level;

	o->synced = probe_disk(o->b.dir, 4096, PROBE_SIZE, PROBE_DSYNC, !o->b.buffered, true,
			       PROBE_MS);
	o->zip = probe_zip(&o->b.mails, BODY_PART_MAX, zip_level, o->b.dict, PROBE_MS).pack_mb;
}

static void measure(struct options *o)
{
	print_head(o);
	for (unsigned l = 0; l < o->levels_n; l++)
		for (unsigned i = 0; i < o->submitters_n; i++) {
			struct bench_row r;

			o->b.level = o->levels[l];
			probe(o, o->b.level);
			r = bench_journal_run(&o->b, o->submitters[i]);
			print_row(o, o->levels[l], &r);
		}
}

static bool take_options(int argc, char **argv, struct options *o)
{
	static const struct option known[] = {{"dir", required_argument, NULL, 'd'},
					      {"mails", required_argument, NULL, 'm'},
					      {"size", required_argument, NULL, 's'},
					      {"seconds", required_argument, NULL, 't'},
					      {"submitters", required_argument, NULL, 'n'},
					      {"level", required_argument, NULL, 'l'},
					      {"dictionary", required_argument, NULL, 'D'},
					      {"segment-size", required_argument, NULL, 'S'},
					      {"ring-size", required_argument, NULL, 'R'},
					      {"loop", required_argument, NULL, 'L'},
					      {"new", no_argument, NULL, 'N'},
					      {"buffered", no_argument, NULL, 'B'},
					      {"disk", no_argument, NULL, 'k'},
					      {"json", no_argument, NULL, 'J'},
					      {"help", no_argument, NULL, 'h'},
					      {0}};
	bool ok = true;
	int c;

	while ((c = getopt_long(argc, argv, "", known, NULL)) != -1)
		switch (c) {
		case 'd': o->b.dir = optarg; break;
		case 'm': o->mails = optarg; break;
		case 's': ok &= span_u64(span_str(optarg), BODY_PART_MAX, &o->size); break;
		case 't': ok &= span_u64(span_str(optarg), 3600, &o->seconds); break;
		case 'n': ok &= take_list(optarg, o->submitters, &o->submitters_n); break;
		case 'l': ok &= take_levels(optarg, o); break;
		case 'D': ok &= take_dict(optarg, &o->b.dict); break;
		case 'S':
			ok &= span_u64(span_str(optarg), 1 << 30, &o->b.segment_size);
			break;
		case 'R': ok &= span_u64(span_str(optarg), 1 << 30, &o->b.ring_size); break;
		case 'L':
			o->b.loop = strcmp(optarg, "epoll") == 0 ? LOOP_EPOLL : LOOP_URING;
			break;
		case 'N': o->b.pool = 0; break;
		case 'B': o->b.buffered = true; break;
		case 'k': o->disk = true; break;
		case 'J': o->json = true; break;
		case 'h': exit(puts(help) < 0);
		default: return false;
		}
	return ok && o->b.dir && o->seconds > 0 && (o->size == 0 || o->size >= 64) &&
	       o->b.ring_size >= RING_MIN;
}

int bench_journal(int argc, char **argv)
{
	struct options o = {
		.b = {.segment_size = 64u << 20, .ring_size = 64u << 20, .pool = 4},
		.submitters = {1, 8, 64, 256},
		.submitters_n = 4,
		.levels = {BENCH_RAW, 1},
		.levels_n = 2,
		.size = SIZE_DEFAULT,
		.seconds = 3};

	o.b.dict = dict_built_in();
	if (!take_options(argc, argv, &o)) {
		fprintf(stderr, "%s\n", help);
		return 100;
	}
	if (o.disk) {
		print_disk(&o);
		return 0;
	}
	if (!o.mails)
		mails_make(&o.b.mails, o.size ? o.size : SIZE_DEFAULT);
	else if (!mails_load(&o.b.mails, o.mails))
		return 111;
	if (o.size)
		cut_to_size(&o.b.mails, o.size);
	else
		cut_to_part(&o.b.mails);
	o.b.seconds_ms = o.seconds * 1000;
	measure(&o);
	return 0;
}
