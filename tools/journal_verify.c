/* quire journal verify - everything that can be checked of a journal.
 *
 * First the files: each segment that the newest head names, its index, and each quarantined file, block by
 * block (journal_scan).  Then, over all of them: sequences and chains from segment to segment, the
 * lists of segments; and the messages (journal_facts): each has its parts, its recipients are
 * whole, its copies agree, its outcomes are of its recipients.
 *
 * Beside a running journald all files are opened and locked shared before the first is read, so that
 * none is used again meanwhile; compaction goes on and gives them up afterwards. */
#include "tools/journal_facts.h"
#include "tools/journal_scan.h"
#include "tools/quire_journal.h"

#include "core/file.h"
#include "core/pool.h"
#include "journal/dict.h"
#include "journal/index.h"
#include "journal/recover.h"
#include "journal/segments.h"
#include "tools/quire.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define OPEN_TRIES 20                             /* a running journald gives segments up */
#define OPEN_WAIT_US 50000
#define PLAIN_LEVEL 1                             /* nothing is packed here */
#define FILES_SPARE 64                            /* descriptors beside one for each segment */

static const char help[] =
	"usage: quire journal verify [--home DIR | --dir JOURNAL] [--json] [--quiet]\n"
	"Reads all of the journal and checks every checksum, every index and every rule; names segment, offset\n"
	"and messages of what is wrong.  Changes nothing.  Exit 0: all is well; 99: damage, or quarantined files\n"
	"(bad-*), whose messages are named, too.";

struct file { struct manifest_entry e; int fd; char name[SEGMENT_NAME_MAX]; bool bad; uint64_t size; };

struct verify {
	struct journal_tool tool;
	struct progress progress;
	struct file *v;                           /* as named; then quarantined ones */
	size_t n, cap;
	struct journal_end end;                   /* of a stopped journal */
	enum recovered how;
	struct facts facts;
	struct zip *zip;                          /* with the dictionaries of all segments so far */
	uint64_t wrong, bytes, batches, records, segments, indexes, unnamed;
	uint64_t passed;
	/* the file at hand */
	struct file *f;
	struct index index;
	bool has_index, index_wrong;
	/* of the hot segment before it */
	struct scan before;
	bool has_before;
};

/* ---- what is said ---- */

static void say_where(struct verify *x, const char *kind, const char *file, uint64_t offset, uint64_t n,
		      const char *what)
{
	x->wrong++;
	if (!x->tool.json) {
		printf("%s: offset %" PRIu64 ", %" PRIu64 " bytes: %s\n", file, offset, n, what);
		return;
	}
	printf("{\"kind\":\"%s\",\"file\":\"%s\",\"segment\":%" PRIu64 ",\"offset\":%" PRIu64 ",\"bytes\":%" PRIu64
	       ",\"position\":%" PRIu64 ",\"what\":",
	       kind, file, x->f ? x->f->e.number : 0, offset, n,
	       x->f ? x->f->e.number * x->tool.segment_size + offset : 0);
	print_json(stdout, span_str(what));
	puts("}");
}

static void say_file(struct verify *x, const char *file, const char *what)
{
	x->wrong++;
	if (!x->tool.json) {
		printf("%s: %s\n", file, what);
		return;
	}
	printf("{\"kind\":\"file\",\"file\":\"%s\",\"what\":", file);
	print_json(stdout, span_str(what));
	puts("}");
}

static void say_message(void *ctx, uint64_t id, const char *state, uint64_t pos, const char *what)
{
	struct verify *x = ctx;
	uint64_t segment = pos / x->tool.segment_size, offset = pos % x->tool.segment_size;

	x->wrong++;
	if (!x->tool.json) {
		printf("message %" PRIu64 " (%s): %s", id, state, what);
		if (pos)
			printf(" (segment %" PRIu64 ", offset %" PRIu64 ")", segment, offset);
		putchar('\n');
		return;
	}
	printf("{\"kind\":\"message\",\"id\":\"%" PRIu64 "\",\"state\":\"%s\",\"segment\":%" PRIu64
	       ",\"offset\":%" PRIu64 ",\"what\":",
	       id, state, segment, offset);
	print_json(stdout, span_str(what));
	puts("}");
}

/* ---- which files ---- */

static struct file *add_file(struct verify *x, const struct manifest_entry *e)
{
	struct file *f;

	if (x->n == x->cap) {
		size_t cap = x->cap ? 2 * x->cap : 64;

		x->v = mem_grow(x->v, x->cap * sizeof *x->v, cap * sizeof *x->v);
		x->cap = cap;
	}
	f = &x->v[x->n++];
	*f = (struct file){.e = *e, .fd = -1};
	segment_file_name(f->name, e->number);
	return f;
}

static void forget_files(struct verify *x)
{
	for (size_t i = 0; i < x->n; i++)
		if (x->v[i].fd >= 0)
			close(x->v[i].fd);
	x->n = 0;
}

static bool open_file(struct verify *x, struct file *f)
{
	struct stat st;

	f->fd = openat(x->tool.dir_fd, f->name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (f->fd < 0)
		return false;
	/* Held until the end.  Who is busy with it now has given it up. */
	if (x->tool.running && flock(f->fd, LOCK_SH | LOCK_NB) < 0)
		return false;
	if (fstat(f->fd, &st) == 0)
		f->size = (uint64_t)st.st_size;
	return true;
}

/* true: it is this segment still, and not used again. */
static bool is_same(struct verify *x, const struct file *f)
{
	struct scan s;
	bool same;

	scan_init(&s, f->fd, f->e.number, x->tool.segment_size, x->tool.uuid);
	s.loose = true;
	scan_head(&s);
	same = s.head_ok || s.copy_ok;
	scan_fini(&s);
	return same;
}

static bool list_running(struct verify *x)
{
	uint32_t n;
	const struct manifest_entry *v = reader_manifest(x->tool.reader, &n);
	bool all = true;

	forget_files(x);
	fd_raise_limit(n + FILES_SPARE);
	for (uint32_t i = 0; i < n; i++) {
		struct file *f = add_file(x, &v[i]);

		all = open_file(x, f) && is_same(x, f) && all;
	}
	return all;
}

/* A segment that was given up between the list and the lock: look again. */
static int open_running(struct verify *x)
{
	for (int i = 0; i < OPEN_TRIES && !list_running(x); i++) {
		usleep(OPEN_WAIT_US);
		reader_free(x->tool.reader);
		x->tool.reader = journal_tool_reader(&x->tool, true);
		if (!x->tool.reader)
			return EXIT_DAMAGE;
	}
	return 0;
}

static bool is_named(const struct verify *x, uint64_t number)
{
	for (size_t i = 0; i < x->n; i++)
		if (!x->v[i].bad && x->v[i].e.number == number)
			return true;
	return false;
}

/* A journal that recovery gives up on: everything that is there. */
static void add_any(void *ctx, const char *name, uint64_t size)
{
	struct verify *x = ctx;
	struct manifest_entry e = {.state = SEGMENT_QUEUE};
	enum segment_file kind;

	if (segment_name_parse(name, &kind, &e.number) && kind == FILE_SEGMENT && e.number &&
	    size == x->tool.segment_size)
		open_file(x, add_file(x, &e));
}

static int by_number(const void *a, const void *b)
{
	const struct file *x = a, *y = b;
	bool cold_x = x->e.number >= COLD_FIRST, cold_y = y->e.number >= COLD_FIRST;

	if (x->bad != y->bad)
		return x->bad ? 1 : -1;
	if (cold_x != cold_y)
		return cold_x ? 1 : -1;
	return (x->e.number > y->e.number) - (x->e.number < y->e.number);
}

static void open_stopped(struct verify *x)
{
	x->how = journal_recover(x->tool.disk, &x->end);
	if (x->how == RECOVERED_FAILED || x->how == RECOVERED_EMPTY) {
		say_file(x, "journal", x->end.why.n ? "" : "it can't be opened");
		if (x->end.why.n) {
			printf(x->tool.json ? "{\"kind\":\"recovery\",\"what\":" : "recovery: ");
			if (x->tool.json)
				print_json(stdout, buf_span(&x->end.why));
			else
				print_plain(stdout, buf_span(&x->end.why));
			puts(x->tool.json ? "}" : "");
		}
		x->tool.disk->calls->list(x->tool.disk, add_any, x);
		return;
	}
	fd_raise_limit(x->end.segments_n + FILES_SPARE);
	for (uint32_t i = 0; i < x->end.segments_n; i++)
		open_file(x, add_file(x, &x->end.segments[i]));
}

/* bad-<number>: what was quarantined; and files that no list names. */
static void add_other(void *ctx, const char *name, uint64_t size)
{
	struct verify *x = ctx;
	struct manifest_entry e = {.state = SEGMENT_HISTORY};
	enum segment_file kind;
	char as_segment[SEGMENT_NAME_MAX];
	struct file *f;

	if (segment_name_parse(name, &kind, &e.number) && kind == FILE_SEGMENT) {
		x->unnamed += !is_named(x, e.number);
		return;
	}
	if (strncmp(name, "bad-", 4) != 0 ||
	    snprintf(as_segment, sizeof as_segment, "seg-%s", name + 4) >= (int)sizeof as_segment ||
	    !segment_name_parse(as_segment, &kind, &e.number) || !e.number)
		return;
	f = add_file(x, &e);
	f->bad = true;
	snprintf(f->name, sizeof f->name, "%s", name);
	open_file(x, f);
}

/* ---- one file ---- */

static const struct scan_calls scan_calls;

static void on_damage(void *ctx, uint64_t offset, uint64_t n, const char *what)
{
	struct verify *x = ctx;

	say_where(x, x->f->bad ? "quarantined" : "damage", x->f->name, offset, n, what);
}

static void on_lost(void *ctx, uint64_t from, uint64_t to)
{
	struct verify *x = ctx;
	uint64_t start = x->f->e.number * x->tool.segment_size;

	facts_lost(&x->facts, start + from, start + to);
}

static void on_progress(void *ctx, uint64_t bytes)
{
	struct verify *x = ctx;

	x->passed += bytes;
	progress_at(&x->progress, x->passed);
}

/* The index says the same as the segment, record by record; of bodies only their heads. */
static void against_index(struct verify *x, uint64_t pos, const struct rec_head *h, struct span body)
{
	struct record r;

	if (!x->has_index || x->index_wrong)
		return;
	if (h->type == REC_BODY)
		body = span_until(body, sizeof(struct rec_body));
	x->index_wrong = !index_next(&x->index, &r) || r.pos != pos || memcmp(&r.head, h, sizeof *h) != 0 ||
			 !span_eq(r.body, body);
}

static void on_record(void *ctx, uint64_t pos, const struct rec_head *h, struct span body)
{
	struct verify *x = ctx;

	facts_record(&x->facts, pos, h, body, !x->f->bad && x->f->e.state == SEGMENT_QUEUE);
	against_index(x, pos, h, body);
}

/* Each segment begins with the dictionary that its frames need.  Where damage took it, it is told already, and
 * another segment has nearly always the same one: what can be delivered is not called lost. */
static void on_dict(void *ctx, uint32_t number)
{
	static const struct scan_calls quiet;
	struct verify *x = ctx;

	for (size_t i = 0; i < x->n && !zip_has_dict(x->zip, number); i++) {
		struct scan s;

		if (x->v[i].fd < 0 || &x->v[i] == x->f)
			continue;
		scan_init(&s, x->v[i].fd, x->v[i].e.number, x->tool.segment_size, x->tool.uuid);
		s.loose = true;
		s.calls = &quiet;
		s.zip = x->zip;
		s.end = 2 * BLOCK_SIZE + DICT_MAX / BLOCK_DATA * BLOCK_SIZE;
		if (s.end > segment_usable(x->tool.segment_size))
			s.end = segment_usable(x->tool.segment_size);
		scan_head(&s);
		scan_run(&s);
		scan_fini(&s);
	}
}

static const struct scan_calls scan_calls = {on_record, on_damage, on_lost, on_progress, on_dict};

static void open_index(struct verify *x)
{
	bool rotten = false;
	char name[SEGMENT_NAME_MAX];

	x->has_index = false;
	x->index_wrong = false;
	if (x->f->bad || !x->f->e.end)
		return;
	x->has_index = index_load(x->tool.disk, x->f->e.number,
				  incarnation_of(x->tool.uuid, x->f->e.number), x->f->e.end, &x->index,
				  &rotten);
	snprintf(name, sizeof name, "idx-%016" PRIx64, x->f->e.number);
	if (rotten)
		say_file(x, name, "an index that is rotten; the segment itself is read");
}

static void close_index(struct verify *x)
{
	char name[SEGMENT_NAME_MAX];
	struct record r;

	if (!x->has_index)
		return;
	x->indexes++;
	snprintf(name, sizeof name, "idx-%016" PRIx64, x->f->e.number);
	if (x->index_wrong || index_next(&x->index, &r))
		say_file(x, name, "an index that says something else than its segment");
	index_fini(&x->index);
}

/* From the hot segment before to this one: sequence and chain go on. */
static void against_before(struct verify *x, const struct scan *s)
{
	const struct scan *b = &x->before;

	if (!x->has_before || !(s->head_ok || s->copy_ok) || s->head.prev_number != b->number)
		return;
	if (b->chain_ok && (s->head.first_seq != b->seq + 1 || s->head.chain != b->chain))
		say_where(x, "rule", x->f->name, 0, BLOCK_SIZE, "does not go on where the segment before it ends");
	if (b->sealed && b->seal.next_number != x->f->e.number && s->head.epoch == b->head.epoch)
		say_where(x, "rule", x->f->name, 0, BLOCK_SIZE, "is not the one that the seal before it names");
	if (s->head.prev_end % x->tool.segment_size > BLOCK_SIZE && b->chain_ok &&
	    s->head.prev_end != b->number * x->tool.segment_size + b->off)
		say_where(x, "rule", x->f->name, 0, BLOCK_SIZE, "says another end of the segment before it");
}

static void against_manifest(struct verify *x, const struct scan *s)
{
	uint64_t before = 0;

	if (!s->manifest)
		return;
	for (uint32_t i = 0; i < s->head.manifest_n; i++) {
		const struct manifest_entry *e = &s->manifest[i];
		uint64_t start = e->number * x->tool.segment_size;

		if (e->number <= before || e->number == s->number || e->end <= start ||
		    e->end > start + x->tool.segment_size || e->end % BLOCK_SIZE ||
		    e->incarnation != incarnation_of(x->tool.uuid, e->number) ||
		    (e->state != SEGMENT_QUEUE && e->state != SEGMENT_HISTORY))
			say_where(x, "rule", x->f->name, 0, BLOCK_SIZE, "a list of segments that contradicts itself");
		before = e->number;
	}
}

/* Where this file's batches end.  A quarantined one was closed, but nobody says where any more. */
static uint64_t limit_of(const struct verify *x, const struct file *f)
{
	uint64_t start = f->e.number * x->tool.segment_size;

	if (f->bad)
		return 0;
	if (f->e.end)
		return f->e.end - start;
	if (!x->tool.running)
		return 0;
	return x->tool.durable > start + BLOCK_SIZE && x->tool.durable <= start + x->tool.segment_size
		       ? x->tool.durable - start
		       : BLOCK_SIZE;
}

static void lost_file(struct verify *x, const struct file *f)
{
	uint64_t start = f->e.number * x->tool.segment_size;

	x->has_before = false;
	if (!f->bad)
		facts_lost(&x->facts, start, start + x->tool.segment_size);
}

static void verify_file(struct verify *x, struct file *f)
{
	struct scan s;

	x->f = f;
	if (f->fd < 0) {
		say_file(x, f->name, "is named, and is not there");
		lost_file(x, f);
		return;
	}
	if (f->size != x->tool.segment_size)
		say_file(x, f->name, "has another size than a segment");
	scan_init(&s, f->fd, f->e.number, x->tool.segment_size, x->tool.uuid);
	s.end = limit_of(x, f);
	s.calls = &scan_calls;
	s.zip = x->zip;
	s.ctx = x;
	scan_head(&s);
	open_index(x);
	scan_run(&s);
	close_index(x);
	x->segments++;
	x->batches += s.batches;
	x->records += s.records;
	x->bytes += s.bytes;
	if (!f->bad && f->e.number < COLD_FIRST) {
		against_before(x, &s);
		x->before = s; /* what it found; its memory is gone */
		x->has_before = true;
	}
	if (!f->bad)
		against_manifest(x, &s);
	scan_fini(&s);
}

/* ---- all of it ---- */

static const char *how_text(const struct verify *x)
{
	if (x->tool.running)
		return "running";
	switch (x->how) {
	case RECOVERED_EMPTY: return "empty";
	case RECOVERED_CLEAN: return "clean";
	case RECOVERED_TORN: return "unfinished tail, as after a power cut: nothing that was promised is lost";
	case RECOVERED_AMBIGUOUS: return "damaged last batch, which may have been promised";
	case RECOVERED_DAMAGED: return "damaged";
	case RECOVERED_FAILED: return "can't be opened";
	}
	unreachable();
}

static void say_end(struct verify *x)
{
	if (x->how == RECOVERED_AMBIGUOUS || (x->how == RECOVERED_DAMAGED && !x->wrong))
		say_file(x, "journal", x->how == RECOVERED_DAMAGED ? "recovery finds damage" : how_text(x));
	if (x->tool.json) {
		printf("{\"kind\":\"summary\",\"end\":\"%s\",\"segments\":%" PRIu64 ",\"batches\":%" PRIu64
		       ",\"records\":%" PRIu64 ",\"bytes\":%" PRIu64 ",\"messages\":%" PRIu64
		       ",\"queued\":%" PRIu64 ",\"uncommitted\":%" PRIu64 ",\"stale_hints\":%" PRIu64
		       ",\"indexes\":%" PRIu64 ",\"unnamed\":%" PRIu64 ",\"wrong\":%" PRIu64 "}\n",
		       how_text(x), x->segments, x->batches, x->records, x->bytes, x->facts.messages,
		       x->facts.queued, x->facts.uncommitted, x->facts.stale_hints, x->indexes, x->unnamed, x->wrong);
		return;
	}
	printf("%" PRIu64 " segments, %" PRIu64 " batches, %" PRIu64 " records, %" PRIu64 " messages (%" PRIu64
	       " queued), %" PRIu64 " indexes\n",
	       x->segments, x->batches, x->records, x->facts.messages, x->facts.queued, x->indexes);
	if (x->facts.uncommitted)
		printf("%" PRIu64 " submissions were not finished: nobody was told yes\n", x->facts.uncommitted);
	if (x->unnamed)
		printf("%" PRIu64 " segment files are named by no head: ignored\n", x->unnamed);
	printf("end: %s\n%s\n", how_text(x), x->wrong ? "DAMAGED" : "all is well");
}

static int verify(struct verify *x)
{
	int code = 0;

	facts_init(&x->facts, x->tool.segment_size);
	buf_init(&x->end.why, 1);
	x->zip = zip_new(PLAIN_LEVEL);
	zip_add_dict(x->zip, dict_built_in().number, dict_built_in().bytes, false);
	if (x->tool.running) {
		x->tool.reader = journal_tool_reader(&x->tool, true);
		code = x->tool.reader ? open_running(x) : EXIT_DAMAGE;
	} else {
		open_stopped(x);
	}
	x->f = NULL;
	x->tool.disk->calls->list(x->tool.disk, add_other, x);
	if (x->n)
		qsort(x->v, x->n, sizeof *x->v, by_number);
	for (size_t i = 0; i < x->n; i++)
		x->progress.total += x->v[i].e.end ? x->v[i].e.end % x->tool.segment_size : x->tool.segment_size;
	progress_begin(&x->progress, &x->tool, "verifying", x->progress.total);
	for (size_t i = 0; i < x->n; i++)
		verify_file(x, &x->v[i]);
	progress_end(&x->progress);
	x->f = NULL;
	facts_judge(&x->facts, say_message, x);
	say_end(x);
	forget_files(x);
	facts_fini(&x->facts);
	zip_free(x->zip);
	mem_free(x->v);
	journal_end_fini(&x->end);
	if (fflush(stdout) != 0 || ferror(stdout))
		return quire_say(EXIT_TRY_AGAIN, x->tool.verb, "standard output: %s", strerror(errno));
	return x->wrong ? EXIT_DAMAGE : code;
}

int journal_verify(int argc, char **argv)
{
	static const struct option options[] = {JOURNAL_TOOL_OPTIONS, {0}};
	struct verify x = {.tool = {.verb = argv[0]}};
	int c, code;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c == 'h')
			return puts(help) < 0;
		if (!journal_tool_option(&x.tool, c, optarg))
			return EXIT_WRONG;
	}
	if (optind < argc)
		return quire_say(EXIT_WRONG, x.tool.verb, "no arguments are taken: %s", argv[optind]);
	code = journal_tool_beside(&x.tool);
	if (!code)
		code = verify(&x);
	journal_tool_close(&x.tool);
	return code;
}
