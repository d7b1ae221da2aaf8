/* quire journal import - the queue of a stopped qmail becomes messages of a stopped quire.
 *
 * What a message of the classic queue becomes:
 *
 *   QUEUED        a message with the recipients as submitted
 *   PREPROCESSED  one with the recipients that are left, flagged as rewritten, with their channel
 *                 (format.h); the next try as the queue had planned it; each paragraph of
 *                 its bounce as one more recipient, failed with that reason, so that quire's
 *                 own notice will say it
 *   BEGUN         nothing: nobody was told yes
 *
 * The time of arrival is the classic queue's, since it says how long will be tried.
 *
 * Again, without duplicates: each MSG says which message it was (EXTRA_IMPORT).  What has been delivered
 * since may be gone from the journal, so the same is written to the file `imported` beside the
 * segments, synced, behind each group of messages; an import begins by reading both.  A crash
 * leaves whole messages, which the next import finds, or parts of one, which are nobody's. */
#include "tools/quire_journal.h"

#include "core/clock.h"
#include "core/file.h"
#include "core/pool.h"
#include "core/table.h"
#include "mail/addr.h"
#include "mail/control.h"
#include "mail/envelope.h"
#include "tools/classic_queue.h"
#include "tools/journal_writer.h"
#include "tools/quire.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define WHY_MAX     1024
#define NOTES_NAME  "imported"
#define NOTES_MAX   (1024u * 1024 * 1024)         /* 60 bytes a message */
#define GROUP_MAX   256                           /* messages between two syncs of the notes */
#define KNOWN_MAX   (100u * 1000 * 1000)
/* a planned try that lies further away is a clock gone wrong: it is tried at once */
#define DUE_MAX_S   (7 * 24 * 3600)

struct import {
	struct journal_tool   tool;
	const char           *queue_path;
	bool                  dry_run;
	struct classic_queue  queue;
	struct journal_writer writer;
	struct map            known;              /* hash of struct extra_import */
	struct buf            notes;              /* lines that are not in the file yet */
	int                   notes_fd;
	uint64_t              messages, rcpts, failures, already, gone, bad;
	bool                  damaged;            /* the journal that it goes into */
};

/* ---- what was imported before */

static uint64_t key_of(const struct extra_import *e)
{
	return hash64(e, sizeof(*e));
}

static bool is_known(const struct import *im, const struct extra_import *e)
{
	return map_get(&im->known, key_of(e)) != NULL;
}

static bool note(struct import *im, const struct extra_import *e)
{
	if (!map_put(&im->known, key_of(e), im))
		return false;
	return buf_fmt(&im->notes, "%" PRIu64 " %" PRIu64 " %" PRIu64 "\n", e->number, e->mtime_ns, e->size);
}

static bool take_note(struct import *im, struct span line)
{
	struct extra_import e;

	if (!span_u64(span_word(&line), UINT64_MAX, &e.number) ||
	    !span_u64(span_word(&line), UINT64_MAX, &e.mtime_ns) ||
	    !span_u64(line, UINT64_MAX, &e.size))
		return true;                      /* the torn end of a crash */
	return map_put(&im->known, key_of(&e), im);
}

static int read_notes(struct import *im)
{
	struct buf  b;
	struct span rest;
	bool        ok = true;
	int         e;

	buf_init(&b, NOTES_MAX);
	e = file_read(im->tool.dir_fd, NOTES_NAME, &b);
	rest = buf_span(&b);
	while (e == 0 && ok && rest.n > 0) {
		size_t lf = span_find(rest, '\n');

		if (lf == SPAN_NPOS)
			break;
		ok = take_note(im, span_cut(&rest, lf));
		(void)span_cut(&rest, 1);
	}
	buf_free(&b);
	if (e && e != -ENOENT)
		return quire_say(111, im->tool.verb, "%s/%s: %s", im->tool.path, NOTES_NAME, strerror(-e));
	return ok ? 0 : quire_say(100, im->tool.verb, "%s/%s: too long", im->tool.path, NOTES_NAME);
}

/* From the journal into the file: what is delivered later must be known, too. */
static bool take_msg(struct import *im, const struct record *r)
{
	struct msg_view     v;
	struct span         bytes;
	struct extra_import e;

	if (r->head.type != REC_MSG || !msg_view(&r->head, r->body, &v) || !msg_extra(&v, EXTRA_IMPORT, &bytes) ||
	    bytes.n != sizeof(e))
		return true;
	memcpy(&e, bytes.p, sizeof(e));
	return is_known(im, &e) || note(im, &e);
}

static int read_journal(struct import *im)
{
	struct progress  p;
	struct record    r;
	enum read_result got;
	bool             ok = true;

	progress_begin(&p, &im->tool, "looking for what was imported before", 0);
	while (ok && (got = reader_next(im->tool.reader, BODIES_PASS, &r)) != READ_END) {
		if (got == READ_ERROR) {
			progress_end(&p);
			return quire_say(111, im->tool.verb, "%s: can't be read", im->tool.path);
		}
		im->damaged |= got != READ_OK;
		ok = got != READ_OK || take_msg(im, &r);
		progress_at(&p, p.done + rec_size(r.body.n));
	}
	progress_end(&p);
	return ok ? 0 : quire_say(100, im->tool.verb, "too many messages were imported before");
}

static void look_for_segment(void *ctx, const char *name, uint64_t size)
{
	enum segment_file kind;
	uint64_t          number;

	if (segment_name_parse(name, &kind, &number) && kind == FILE_SEGMENT)
		*(bool *)ctx = true;
}

/* A home that was never started has no journal to look at. */
static bool has_journal(struct import *im)
{
	bool found = false;
	int  fd = open(im->tool.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct disk *d;

	if (fd < 0)
		return false;
	d = disk_real_new(NULL, fd);
	if (d->calls->list(d, look_for_segment, &found) < 0)
		found = true;                     /* opening it will say why */
	disk_real_free(d);
	return found;
}

static int learn_what_is_known(struct import *im)
{
	int code = 0;

	if (im->tool.dir)
		snprintf(im->tool.path, sizeof(im->tool.path), "%s", im->tool.dir);
	else
		snprintf(im->tool.path, sizeof(im->tool.path), "%s/journal/%u", quire_home(im->tool.home),
			 im->tool.shard);
	if (has_journal(im)) {
		code = journal_tool_open(&im->tool, true, false);
		if (!code)
			code = read_notes(im);
		if (!code)
			code = read_journal(im);
		if (im->tool.disk)
			journal_tool_close(&im->tool);
	}
	return code;
}

/* Behind the messages that they name. */
static bool write_notes(struct import *im)
{
	bool ok = im->notes.n == 0 ||
		  (file_write_all(im->notes_fd, buf_span(&im->notes)) && fdatasync(im->notes_fd) == 0);

	if (!ok)
		quire_say(111, im->tool.verb, "%s/%s: %s", im->tool.path, NOTES_NAME, strerror(errno));
	buf_clear(&im->notes);
	return ok;
}

/* ---- one message */

static bool add_body(struct import *im, struct writer_message *m, int fd, struct buf *why)
{
	char  *piece = mem_new(BODY_PART_MAX);
	size_t have = 0;
	bool   ok = true;

	while (ok) {
		ssize_t n = read(fd, piece + have, BODY_PART_MAX - have);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			if (!buf_fmt(why, "its text can't be read: %s", strerror(errno)))
				buf_clear(why);
			ok = false;
			break;
		}
		have += (size_t)n;
		if (have > 0 && (n == 0 || have == BODY_PART_MAX)) {
			ok = writer_body(&im->writer, m, span_of(piece, have));
			have = 0;
		}
		if (n == 0)
			break;
	}
	mem_free(piece);
	return ok;
}

/* One list, in as many parts as it takes. */
static bool add_list(struct import *im, struct writer_message *m, struct span list, unsigned flags)
{
	struct buf  packed;
	struct span addr;
	uint32_t    n = 0;
	bool        ok = true;

	buf_init(&packed, RCPT_PART_MAX);
	while (ok && classic_next(&list, &addr)) {
		ok = packed_add(&packed, addr);
		n++;
		if (ok && packed.n + sizeof(uint16_t) + ADDR_MAX > RCPT_PART_MAX) {
			ok = writer_rcpts(&im->writer, m, buf_span(&packed), n, flags);
			buf_clear(&packed);
			n = 0;
		}
	}
	if (ok && n > 0)
		ok = writer_rcpts(&im->writer, m, buf_span(&packed), n, flags);
	buf_free(&packed);
	return ok;
}

static bool add_failed(struct import *im, struct writer_message *m, struct span bounce, unsigned flags)
{
	struct buf  list;
	struct span addr, why;
	bool        ok = true;

	buf_init(&list, bounce.n + 1);
	while (ok && classic_paragraph(&bounce, &addr, &why))
		ok = buf_add(&list, addr) && buf_add_byte(&list, '\0');
	if (ok)
		ok = add_list(im, m, buf_span(&list), flags);
	buf_free(&list);
	return ok;
}

/* The texts of the failures, for recipients `first` and on, and when the others are due. */
static bool add_failures(struct import *im, uint64_t id, uint32_t first, struct span bounce)
{
	struct rec_state s = {.at_us = clock_wall_us(), .attempt = 1, .outcome = OUTCOME_FAILED};
	struct span      addr, why;

	for (; classic_paragraph(&bounce, &addr, &why); first++) {
		struct msg_range range = {first, first};

		if (!writer_state(&im->writer, id, &s, span_of(&range, sizeof(range)),
				  span_until(why, UINT16_MAX)))
			return false;
		im->failures++;
	}
	return true;
}

static bool add_due(struct import *im, uint64_t id, uint32_t first, uint32_t end, uint64_t due_s)
{
	uint64_t         now_s = clock_wall_us() / 1000000;
	struct msg_range range = {first, end - 1};
	struct rec_state s = {.at_us = now_s * 1000000,
			      .next_us = due_s * 1000000,
			      .attempt = 1,
			      .outcome = OUTCOME_DEFERRED};

	if (first == end || due_s <= now_s || due_s > now_s + DUE_MAX_S)
		return true;
	return writer_state(&im->writer, id, &s, span_of(&range, sizeof(range)),
			    SPAN("Imported from a queue of qmail-send. (#4.0.0)\n"));
}

static bool add_message(struct import *im, const struct classic_message *cm, const struct extra_import *from,
			struct buf *why)
{
	struct writer_message m;
	struct { uint16_t tag, n; struct extra_import e; } __attribute__((packed)) extra = {
		EXTRA_IMPORT, sizeof(*from), *from};
	uint32_t end[LISTS];
	bool     ok;

	writer_message_init(&m, writer_new_id(&im->writer));
	m.msg.arrival_us = cm->birth_s * 1000000;
	m.msg.uid = cm->uid;
	m.msg.pid = cm->pid;
	m.msg.kind = SUBMIT_LOCAL;
	ok = add_body(im, &m, cm->mess, why) && add_list(im, &m, buf_span(&cm->rcpts[LIST_SUBMITTED]), 0);
	end[LIST_SUBMITTED] = m.msg.rcpts;
	ok = ok && add_list(im, &m, buf_span(&cm->rcpts[LIST_LOCAL]), REC_REWRITTEN | REC_LOCAL);
	end[LIST_LOCAL] = m.msg.rcpts;
	ok = ok && add_list(im, &m, buf_span(&cm->rcpts[LIST_REMOTE]), REC_REWRITTEN);
	end[LIST_REMOTE] = m.msg.rcpts;
	/* What is known of the recipients comes first: with the MSG all of it counts. */
	ok = ok && add_failed(im, &m, buf_span(&cm->bounce), REC_REWRITTEN) &&
	     add_failures(im, m.id, end[LIST_REMOTE], buf_span(&cm->bounce)) &&
	     add_due(im, m.id, end[LIST_SUBMITTED], end[LIST_LOCAL], cm->due_s[LIST_LOCAL]) &&
	     add_due(im, m.id, end[LIST_LOCAL], end[LIST_REMOTE], cm->due_s[LIST_REMOTE]) &&
	     writer_msg(&im->writer, &m, buf_span(&cm->sender), SPAN_NONE, span_of(&extra, sizeof(extra)));
	if (ok) {
		im->messages++;
		im->rcpts += end[LIST_REMOTE];
	}
	writer_message_fini(&m);
	return ok;
}

static uint64_t count_rcpts(const struct classic_message *cm)
{
	uint64_t n = 0;

	for (int l = 0; l < LISTS; l++)
		for (size_t i = 0; i < cm->rcpts[l].n; i++)
			n += cm->rcpts[l].p[i] == '\0';
	return n;
}

static void say_bad(struct import *im, uint64_t number, struct span why)
{
	im->bad++;
	quire_say(0, im->tool.verb, "message %" PRIu64 " is not imported: %.*s", number, SPAN_ARG(why));
	if (!im->tool.json)
		return;
	printf("{\"number\":%" PRIu64 ",\"error\":", number);
	print_json(stdout, why);
	puts("}");
}

/* false: the journal can't be written any more. */
static bool import_one(struct import *im, const struct classic_message *cm)
{
	struct extra_import from = {cm->number, cm->mtime_ns, cm->size};
	struct buf          why;
	bool                ok = true;

	if (is_known(im, &from)) {
		im->already++;
		return true;
	}
	if (im->dry_run) {
		im->messages++;
		im->rcpts += count_rcpts(cm);
		return true;
	}
	buf_init(&why, WHY_MAX);
	if (!add_message(im, cm, &from, &why)) {
		ok = im->writer.error == 0;
		if (ok)
			say_bad(im, cm->number, buf_span(&why));
	} else if (!note(im, &from)) {
		ok = false;
	}
	buf_free(&why);
	return ok;
}

static bool next_one(struct import *im, size_t i, struct buf *why)
{
	struct classic_message cm;
	enum classic_found     got;
	bool                   ok = true;

	writer_as_root(&im->writer);
	got = classic_read(&im->queue, i, &cm, why);
	if (!im->dry_run)
		writer_as_owner(&im->writer);
	if (got == CLASSIC_BAD)
		say_bad(im, im->queue.v[i].number, buf_span(why));
	else if (got == CLASSIC_GONE)
		im->gone++;
	else
		ok = import_one(im, &cm);
	classic_message_fini(&cm);
	return ok;
}

/* ---- all of them */

static int go(struct import *im)
{
	struct progress p;
	struct buf      why;
	bool            ok = true;

	buf_init(&why, WHY_MAX);
	progress_begin(&p, &im->tool, "importing", im->queue.n);
	p.unit = "messages";
	for (size_t i = 0; ok && i < im->queue.n; i++) {
		ok = next_one(im, i, &why);
		if (ok && !im->dry_run && (i + 1) % GROUP_MAX == 0)
			ok = writer_sync(&im->writer) && write_notes(im);
		progress_at(&p, i + 1);
	}
	if (ok && !im->dry_run)
		ok = writer_sync(&im->writer) && write_notes(im);
	progress_end(&p);
	buf_free(&why);
	if (ok)
		return im->bad || im->damaged ? EXIT_DAMAGE : EXIT_FINE;
	return quire_say(111, im->tool.verb,
			 "%s: %s; repeat the import when there is room: what was imported is not taken twice",
			 im->tool.path, strerror(im->writer.error ? -im->writer.error : EIO));
}

static void read_settings(struct import *im, struct journal_writer_options *o)
{
	struct control *c = control_new();
	struct buf      bad;
	char            path[4096];

	buf_init(&bad, WHY_MAX);
	snprintf(path, sizeof(path), "%s/control", quire_home(im->tool.home));
	if (!im->tool.dir && control_load(c, path, &bad) < 0)
		quire_say(0, im->tool.verb, "%s: %.*s can't be read; defaults are used", path,
			  SPAN_ARG(buf_span(&bad)));
	o->segment_size = control_setting(c, "segmentsize");
	o->zstd_level = (int)(int64_t)control_setting(c, "zstdlevel");
	buf_free(&bad);
	control_free(c);
}

static int open_journal(struct import *im)
{
	struct journal_writer_options o = {.shard = im->tool.shard};
	struct buf                    why;
	int                           code, fd;

	read_settings(im, &o);
	fd = open(im->tool.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return quire_say(111, im->tool.verb, "%s: %s", im->tool.path, strerror(errno));
	buf_init(&why, WHY_MAX);
	code = writer_open(&im->writer, fd, &o, &why);
	if (code)
		quire_say(code, im->tool.verb, "%s: %.*s", im->tool.path, SPAN_ARG(buf_span(&why)));
	buf_free(&why);
	if (code)
		return code;
	im->notes_fd = openat(fd, NOTES_NAME, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0640);
	if (im->notes_fd < 0 || file_sync_dir(fd) < 0)
		return quire_say(111, im->tool.verb, "%s/%s: %s", im->tool.path, NOTES_NAME, strerror(errno));
	/* A line that a crash tore must not swallow the next one. */
	return buf_add_byte(&im->notes, '\n') && write_notes(im) ? 0 : 111;
}

static void report(const struct import *im)
{
	if (im->tool.json)
		printf("{\"dry_run\":%s,\"imported\":%" PRIu64 ",\"recipients\":%" PRIu64 ",\"failures\":%" PRIu64
		       ",\"already\":%" PRIu64 ",\"over\":%" PRIu64 ",\"bad\":%" PRIu64 ",\"leftovers\":%zu}\n",
		       im->dry_run ? "true" : "false", im->messages, im->rcpts, im->failures, im->already, im->gone,
		       im->bad, im->queue.garbage);
	else
		printf("%s %" PRIu64 " messages to %" PRIu64 " recipients, %" PRIu64
		       " failures to be reported; %" PRIu64 " were imported before, %" PRIu64 " were over, %" PRIu64
		       " are bad, %zu leftovers\n",
		       im->dry_run ? "would import" : "imported", im->messages, im->rcpts, im->failures, im->already,
		       im->gone, im->bad, im->queue.garbage);
}

static int run(struct import *im)
{
	struct buf why;
	int        code, error;

	buf_init(&why, WHY_MAX);
	code = classic_open(&im->queue, im->queue_path, &why);
	if (code)
		quire_say(code, im->tool.verb, "%s: %.*s", im->queue_path, SPAN_ARG(buf_span(&why)));
	buf_free(&why);
	if (!code)
		code = learn_what_is_known(im);
	if (!code && !im->dry_run)
		code = open_journal(im);
	if (!code) {
		code = go(im);
		report(im);
	}
	error = writer_close(&im->writer);
	if (error && !code)
		code = quire_say(111, im->tool.verb, "%s: %s", im->tool.path, strerror(-error));
	if (im->notes_fd >= 0)
		close(im->notes_fd);
	classic_close(&im->queue);
	return code;
}

static int help(void)
{
	puts("usage: quire journal import --qmail-queue DIR [--dry-run] [--home DIR | --dir JOURNAL]\n"
	     "        [--shard N] [--json] [--quiet]\n"
	     "Takes the messages of a classic queue (of a stopped qmail-send) into the journal of a stopped\n"
	     "quire.  Arrival times are kept, recipients that are done are left out, bounces that were not\n"
	     "sent yet will be.  The classic queue is not changed.  It can be repeated: nothing is taken\n"
	     "twice.  Exit: 0 all of it, 99 some messages are bad and named, 100 wrong use, 111 not now.");
	return 0;
}

int journal_import(int argc, char **argv)
{
	static const struct option options[] = {JOURNAL_TOOL_OPTIONS,
						{"qmail-queue", required_argument, NULL, 'q'},
						{"dry-run", no_argument, NULL, 'n'},
						{0}};
	struct import im = {.tool = {.verb = argv[0]}, .notes_fd = -1, .queue = {.dir = -1, .mutex = -1},
			    .writer = {.ring = {.fd = -1, .fd_read = -1}}};
	int           c, code;

	clock_refresh();
	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1)
		switch (c) {
		case 'q': im.queue_path = optarg; break;
		case 'n': im.dry_run = true; break;
		case 'h': return help();
		default:
			if (!journal_tool_option(&im.tool, c, optarg))
				return EXIT_WRONG;
		}
	if (!im.queue_path || optind < argc)
		return quire_say(EXIT_WRONG, im.tool.verb, "--qmail-queue DIR says what is to be imported");
	map_init(&im.known, KNOWN_MAX);
	buf_init(&im.notes, NOTES_MAX);
	code = run(&im);
	map_fini(&im.known);
	buf_free(&im.notes);
	return code;
}
