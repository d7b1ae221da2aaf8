/* quire journal info - what files a journal is made of, and what the newest head says of them. */
#include "tools/quire_journal.h"

#include "core/pool.h"
#include "journal/segments.h"
#include "tools/quire.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char help[] =
	"usage: quire journal info [--home DIR | --dir JOURNAL] [--json]\n"
	"The journal's uuid, epoch and sizes; its segments with state, time and bytes used; what is\n"
	"prepared, quarantined (bad-) or indexed.  Beside a running journald: as of now.";

enum file_kind_seen { SEEN_SEGMENT, SEEN_SPARE, SEEN_FILLING, SEEN_BAD, SEEN_INDEX, SEEN_OTHER, SEEN_KINDS };
static const char *const kind_names[SEEN_KINDS] = {"segments", "spares", "filling",
						   "quarantined", "indexes", "others"};
static const struct { const char *prefix; enum file_kind_seen kind; } prefixes[] = {
	{"seg-", SEEN_SEGMENT}, {"spare-", SEEN_SPARE}, {"fill-", SEEN_FILLING}, {"bad-", SEEN_BAD},
	{"idx-", SEEN_INDEX}};

struct seen { char name[SEGMENT_NAME_MAX]; uint64_t size; enum file_kind_seen kind; };
struct info {
	struct journal_tool tool;
	struct seen *files;
	size_t files_n, files_cap;
	uint64_t count[SEEN_KINDS], bytes[SEEN_KINDS];
	struct segment_head newest;               /* number 0: none */
	uint64_t queue_bytes, history_bytes, missing;
	uint32_t queue_n, history_n;
};

static void see(void *ctx, const char *name, uint64_t size)
{
	struct info *x = ctx;
	struct seen s = {.size = size, .kind = SEEN_OTHER};

	for (size_t i = 0; i < ARRAY_N(prefixes); i++)
		if (strncmp(name, prefixes[i].prefix, strlen(prefixes[i].prefix)) == 0)
			s.kind = prefixes[i].kind;
	if (snprintf(s.name, sizeof s.name, "%s", name) >= (int)sizeof s.name)
		s.kind = SEEN_OTHER;
	x->count[s.kind]++;
	x->bytes[s.kind] += size;
	if (x->files_n == x->files_cap) {
		size_t cap = x->files_cap ? 2 * x->files_cap : 64;

		x->files = mem_grow(x->files, x->files_cap * sizeof s, cap * sizeof s);
		x->files_cap = cap;
	}
	x->files[x->files_n++] = s;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct seen *)a)->name, ((const struct seen *)b)->name);
}

/* The head of a segment's file, or its copy. */
static bool head_of(const struct info *x, uint64_t number, struct segment_head *ret)
{
	char block[BLOCK_SIZE] __attribute__((aligned(8))), name[SEGMENT_NAME_MAX];
	off_t copy = (off_t)(x->tool.segment_size - BLOCK_SIZE);
	int fd = openat(x->tool.dir_fd, segment_file_name(name, number), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	bool good;

	if (fd < 0)
		return false;
	good = (pread(fd, block, sizeof block, 0) == (ssize_t)sizeof block &&
		segment_head_get(block, number, ret) == HEAD_OK) ||
	       (pread(fd, block, sizeof block, copy) == (ssize_t)sizeof block &&
		segment_copy_get(block, number, ret) == HEAD_OK);
	close(fd);
	return good;
}

static const char *segment_kind(const struct manifest_entry *e, bool newest)
{
	if (e->state == SEGMENT_HISTORY)
		return "history";
	return newest ? "newest" : e->number >= COLD_FIRST ? "cold" : "queue";
}

static bool has_file(const struct info *x, const char *name)
{
	struct seen key = {0};

	snprintf(key.name, sizeof key.name, "%s", name);
	return x->files_n && bsearch(&key, x->files, x->files_n, sizeof key, by_name);
}

static uint64_t end_of(const struct info *x, const struct manifest_entry *e)
{
	return e->end ? e->end : x->tool.durable;
}

static void count_segment(struct info *x, const struct manifest_entry *e)
{
	char name[SEGMENT_NAME_MAX];

	x->missing += !has_file(x, segment_file_name(name, e->number));
	if (e->state == SEGMENT_HISTORY) {
		x->history_n++;
		x->history_bytes += x->tool.segment_size;
	} else {
		x->queue_n++;
		x->queue_bytes += x->tool.segment_size;
	}
	if (e->number < COLD_FIRST && e->number > x->newest.number) {
		struct segment_head h;

		x->newest.number = e->number;
		if (head_of(x, e->number, &h))
			x->newest = h;
	}
}

static void uuid_text(const uint8_t uuid[16], char dst[33])
{
	for (int i = 0; i < 16; i++)
		snprintf(dst + 2 * i, 3, "%02x", uuid[i]);
}

/* ---- for a person ---- */

static void show_segment(const struct info *x, const struct manifest_entry *e)
{
	uint64_t start = e->number * x->tool.segment_size, end = end_of(x, e);
	char name[SEGMENT_NAME_MAX], when[WHEN_MAX], closed[WHEN_MAX];
	struct segment_head h;
	bool good = head_of(x, e->number, &h);

	segment_file_name(name, e->number);
	printf("  %-20s %-8s %12" PRIu64 " bytes  ", name, segment_kind(e, e->number == x->newest.number),
	       end > start ? end - start : 0);
	if (good)
		printf("epoch %-5" PRIu64 " batches from %-9" PRIu64 " made %.19s", h.epoch, h.first_seq,
		       when_text(when, h.created_us));
	else
		fputs(has_file(x, name) ? "ITS HEAD IS DAMAGED" : "MISSING", stdout);
	if (e->state == SEGMENT_HISTORY && e->closed_s)
		printf(" left the queue %.19s", when_text(closed, e->closed_s * 1000000ull));
	putchar('\n');
}

static void show_text(const struct info *x, const struct manifest_entry *v, uint32_t n)
{
	char uuid[33];

	uuid_text(x->tool.uuid, uuid);
	printf("journal       %s\nuuid          %s\nshard         %" PRIu32 "\nsegment size  %" PRIu64
	       "\nepoch         %" PRIu64 "\n",
	       x->tool.path, uuid, x->tool.shard, x->tool.segment_size, x->newest.epoch);
	if (x->tool.running)
		printf("journald      runs; durable up to %" PRIu64 " (segment %" PRIu64 ", offset %" PRIu64 ")\n",
		       x->tool.durable, x->tool.durable / x->tool.segment_size,
		       x->tool.durable % x->tool.segment_size);
	else
		puts("journald      does not run");
	printf("queue         %" PRIu32 " segments, %" PRIu64 " bytes\nhistory       %" PRIu32
	       " segments, %" PRIu64 " bytes\n",
	       x->queue_n, x->queue_bytes, x->history_n, x->history_bytes);
	for (int k = SEEN_SPARE; k < SEEN_KINDS; k++)
		printf("%-13s %" PRIu64 " files, %" PRIu64 " bytes\n", kind_names[k], x->count[k], x->bytes[k]);
	for (uint32_t i = 0; i < n; i++)
		show_segment(x, &v[i]);
	for (size_t i = 0; i < x->files_n; i++)
		if (x->files[i].kind == SEEN_BAD)
			printf("  %-20s quarantined: what was damaged is kept; quire journal verify says what\n",
			       x->files[i].name);
}

/* ---- for programs ---- */

static void json_segment(const struct info *x, const struct manifest_entry *e, bool more)
{
	uint64_t start = e->number * x->tool.segment_size, end = end_of(x, e);
	char name[SEGMENT_NAME_MAX];
	struct segment_head h;

	segment_file_name(name, e->number);
	printf("{\"file\":\"%s\",\"number\":%" PRIu64 ",\"kind\":\"%s\",\"start\":%" PRIu64 ",\"end\":%" PRIu64
	       ",\"used\":%" PRIu64 ",\"closed\":%" PRIu32,
	       name, e->number, segment_kind(e, e->number == x->newest.number), start, end,
	       end > start ? end - start : 0, e->closed_s);
	if (head_of(x, e->number, &h))
		printf(",\"epoch\":%" PRIu64 ",\"first_seq\":%" PRIu64 ",\"created_us\":%" PRIu64, h.epoch,
		       h.first_seq, h.created_us);
	else
		printf(",\"%s\":true", has_file(x, name) ? "head_damaged" : "missing");
	fputs(more ? "}," : "}", stdout);
}

static void show_json(const struct info *x, const struct manifest_entry *v, uint32_t n)
{
	char uuid[33];

	uuid_text(x->tool.uuid, uuid);
	fputs("{\"directory\":", stdout);
	print_json(stdout, span_str(x->tool.path));
	printf(",\"uuid\":\"%s\",\"shard\":%" PRIu32 ",\"segment_size\":%" PRIu64 ",\"epoch\":%" PRIu64
	       ",\"running\":%s,\"durable\":%" PRIu64 ",\"opens\":%s",
	       uuid, x->tool.shard, x->tool.segment_size, x->newest.epoch,
	       x->tool.running ? "true" : "false", x->tool.durable, x->tool.reader ? "true" : "false");
	printf(",\"queue\":{\"segments\":%" PRIu32 ",\"bytes\":%" PRIu64 "},\"history\":{\"segments\":%" PRIu32
	       ",\"bytes\":%" PRIu64 "}",
	       x->queue_n, x->queue_bytes, x->history_n, x->history_bytes);
	for (int k = SEEN_SPARE; k < SEEN_KINDS; k++)
		printf(",\"%s\":{\"files\":%" PRIu64 ",\"bytes\":%" PRIu64 "}", kind_names[k], x->count[k],
		       x->bytes[k]);
	fputs(",\"segments\":[", stdout);
	for (uint32_t i = 0; i < n; i++)
		json_segment(x, &v[i], i + 1 < n);
	fputs("]}\n", stdout);
}

static int info(struct info *x)
{
	const struct manifest_entry *v = NULL;
	uint32_t n = 0;
	int e = x->tool.disk->calls->list(x->tool.disk, see, x);

	if (e)
		return quire_say(EXIT_TRY_AGAIN, x->tool.verb, "%s: %s", x->tool.path, strerror(-e));
	if (x->files_n)
		qsort(x->files, x->files_n, sizeof *x->files, by_name);
	if (x->tool.reader)
		v = reader_manifest(x->tool.reader, &n);
	for (uint32_t i = 0; i < n; i++)
		count_segment(x, &v[i]);
	if (x->tool.json)
		show_json(x, v, n);
	else
		show_text(x, v, n);
	mem_free(x->files);
	if (fflush(stdout) != 0 || ferror(stdout))
		return quire_say(EXIT_TRY_AGAIN, x->tool.verb, "standard output: %s", strerror(errno));
	return x->missing || x->count[SEEN_BAD] ? EXIT_DAMAGE : EXIT_FINE;
}

int journal_info(int argc, char **argv)
{
	static const struct option options[] = {JOURNAL_TOOL_OPTIONS, {0}};
	struct info x = {.tool = {.verb = argv[0]}};
	int c, code, open_code;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c == 'h')
			return puts(help) < 0;
		if (!journal_tool_option(&x.tool, c, optarg))
			return EXIT_WRONG;
	}
	if (optind < argc)
		return quire_say(EXIT_WRONG, x.tool.verb, "no arguments are taken: %s", argv[optind]);
	code = open_code = journal_tool_open(&x.tool, false, true);
	/* Too damaged to be opened: its files can still be listed. */
	if (code == 0 || (code == EXIT_DAMAGE && x.tool.segment_size))
		code = info(&x);
	journal_tool_close(&x.tool);
	return code > open_code ? code : open_code;
}
