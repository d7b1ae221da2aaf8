/* quire journal salvage - out of a damaged journal what can be had, into a new one.
 *
 * Every file that matters is read by its blocks' tags (segment_scan), in any order and without believing
 * anything that does not check itself; messages are put together by id (salvage_mail), and those
 * that are whole and not over are written anew: same ids, arrival times, recipients' numbers, and all
 * that was recorded of them.  A new uuid keeps the two journals apart; a higher epoch, the ids.
 *
 * The damaged journal is only read.  What could not be saved is said, place by place and message by message.
 * An outcome may be among what is lost: such a message is delivered again rather than forgotten. */
#include "tools/quire_journal.h"

#include "core/clock.h"
#include "core/file.h"
#include "core/pool.h"
#include "mail/envelope.h"
#include "tools/journal_writer.h"
#include "tools/quire.h"
#include "tools/salvage_files.h"
#include "tools/salvage_mail.h"
#include "tools/segment_scan.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define WHY_MAX    1024
#define ZSTD_LEVEL 1

static const char help[] =
	"usage: quire journal salvage --into DIR [--pieces DIR] [--uuid HEX] [--home DIR | --dir JOURNAL]\n"
	"        [--shard N] [--json] [--quiet]\n"
	"Reads what can be read of a damaged journal of a stopped quire, and writes every message that is\n"
	"whole and not over into a new journal in DIR (which must be empty, or is made).  --pieces: what\n"
	"is left of messages that lack a part is written there, to be looked at by a person.  --uuid: which\n"
	"journal, where blocks of several are mixed.  Says what could not be saved.  The damaged journal is\n"
	"not changed.  Exit: 0 nothing was lost, 99 something was, 100 wrong use, 111 not now.";

struct salvage {
	struct journal_tool  tool;
	const char          *into, *pieces;
	uint8_t              uuid[16];
	bool                 has_uuid;
	int                  dir_fd, pieces_fd;
	struct salvage_files files;
	struct salvage_mails mails;
	struct journal_writer writer;
	struct progress      progress;
	uint32_t             file;                /* being scanned */
	int                 *fds;                 /* of files that are read */
	char                *room, *raw;          /* SCAN_ROOM; BODY_PART_MAX */
	struct zip          *zip;
	uint64_t             promised, last, records;     /* gaps */
	uint64_t             written, rcpts, over, cut, no_msg, missing, foreign;
	bool                 warned;
};

/* ---- what is said */

static const char *const lost_words[] = {
	[LOST_PROMISED] = "lost",
	[LOST_LAST] = "the last batch is bad; it may have been promised",
	[LOST_RECORD] = "a record is wrong in itself",
};

static void on_gap(void *ctx, const struct scan_gap *g)
{
	struct salvage            *s = ctx;
	const struct salvage_file *f = &s->files.v[s->file];

	s->promised += g->what == LOST_PROMISED;
	s->last += g->what == LOST_LAST;
	s->records += g->what == LOST_RECORD;
	if (s->tool.json)
		printf("{\"lost\":\"bytes\",\"file\":\"%s\",\"from\":%" PRIu64 ",\"to\":%" PRIu64 ",\"why\":\"%s\"}\n",
		       f->name, g->from, g->to, lost_words[g->what]);
	else
		printf("%s: offsets %" PRIu64 " to %" PRIu64 ": %s\n", f->name, g->from, g->to, lost_words[g->what]);
}

static void say_file(struct salvage *s, const struct salvage_file *f, const char *what)
{
	if (s->tool.json)
		printf("{\"lost\":\"file\",\"file\":\"%s\",\"why\":\"%s\"}\n", f->name, what);
	else
		printf("%s: %s\n", f->name, what);
}

static void say_files(struct salvage *s)
{
	for (uint32_t i = 0; i < s->files.n; i++) {
		const struct salvage_file *f = &s->files.v[i];

		if (f->use == USE_MISSING) {
			s->missing++;
			say_file(s, f, "is part of the queue and is missing");
		} else if (f->use == USE_FOREIGN) {
			s->foreign++;
			say_file(s, f, "belongs to another journal: not read");
		} else if (f->use == USE_READ && !f->has_head) {
			s->warned = true;
			say_file(s, f, "has no head that can be read: read by its blocks");
		} else if (f->use == USE_READ && f->size != s->files.segment_size) {
			s->warned = true;
			say_file(s, f, "has a wrong size");
		}
	}
	if (s->files.newest < 0)
		quire_say(0, s->tool.verb, "%s: no head can be read: every file is read, some mail may be delivered "
			  "again", s->tool.path);
	else if (s->files.newest_lost)
		quire_say(0, s->tool.verb, "%s: the newest segment has lost its head: what it named is not known, "
			  "some mail may be delivered again", s->tool.path);
}

static void say_mail(struct salvage *s, const struct salvage_mail *m, const char *what)
{
	struct msg_view v;
	bool            has_msg = salvage_mail_msg(m, &v);

	if (!s->tool.json) {
		printf("message %" PRIu64 ": %s", m->id, what);
		if (has_msg) {
			printf(", %" PRIu32 " of %" PRIu32 " parts are lost, from <", m->lost,
			       v.m->body_parts + v.m->rcpt_parts);
			print_plain(stdout, v.sender);
			putchar('>');
		}
		putchar('\n');
		return;
	}
	printf("{\"lost\":\"message\",\"id\":\"%" PRIu64 "\",\"why\":\"%s\"", m->id, what);
	if (has_msg) {
		printf(",\"arrival_us\":%" PRIu64 ",\"parts\":%" PRIu32 ",\"parts_lost\":%" PRIu32 ",\"sender\":",
		       v.m->arrival_us, v.m->body_parts + v.m->rcpt_parts, m->lost);
		print_json(stdout, v.sender);
	}
	puts("}");
}

/* ---- reading */

static void on_record(void *ctx, const struct record *r)
{
	struct salvage            *s = ctx;
	const struct salvage_file *f = &s->files.v[s->file];

	salvage_mails_take(&s->mails, s->file, r->pos - f->number * s->files.segment_size, r);
}

static void on_moved(void *ctx, uint64_t bytes)
{
	struct salvage *s = ctx;

	progress_at(&s->progress, s->progress.done + bytes);
}

static void scan_file(struct salvage *s, uint32_t i)
{
	static const struct scan_calls calls = {on_record, on_gap, on_moved};
	const struct salvage_file     *f = &s->files.v[i];
	struct segment_scan            scan = {.number = f->number, .segment_size = s->files.segment_size,
					       .incarnation = f->incarnation, .end = f->end, .calls = &calls, .ctx = s};

	s->file = i;
	s->fds[i] = openat(s->dir_fd, f->name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	scan.fd = s->fds[i];
	if (scan.fd < 0)
		say_file(s, f, strerror(errno));
	else
		segment_scan(&scan);
	s->missing += scan.fd < 0;
}

static void scan_all(struct salvage *s)
{
	uint64_t total = 0;

	s->fds = mem_new((s->files.n + 1) * sizeof(*s->fds));
	for (uint32_t i = 0; i < s->files.n; i++) {
		s->fds[i] = -1;
		if (s->files.v[i].use == USE_READ)
			total += s->files.v[i].end ? s->files.v[i].end : s->files.segment_size;
	}
	progress_begin(&s->progress, &s->tool, "reading", total);
	for (uint32_t i = 0; i < s->files.n; i++)
		if (s->files.v[i].use == USE_READ)
			scan_file(s, i);
	progress_end(&s->progress);
	salvage_mails_judge(&s->mails);
}

/* The part, whole and checked again; false: it can't be read any more. */
static bool read_part(struct salvage *s, const struct salvage_mail *m, const struct salvage_place *p,
		      struct record *ret)
{
	return segment_record(s->fds[p->file], p->off, s->room, &ret->head, &ret->body) && ret->head.id == m->id &&
	       ret->head.type == p->type && ret->head.number == p->number;
}

static bool learn_dict(struct salvage *s, uint32_t number)
{
	struct span     all = buf_span(&s->mails.dicts), body;
	struct rec_head h;

	while (salvage_record_next(&all, &h, &body))
		if (h.number == number) {
			zip_add_dict(s->zip, number, body, false);
			return true;
		}
	return false;
}

/* Its bytes in s->raw; false: it is damaged, or its dictionary is lost. */
static bool unpack(struct salvage *s, const struct record *r, struct rec_body *ret)
{
	struct span frame = span_from(r->body, sizeof(*ret));

	memcpy(ret, r->body.p, sizeof(*ret));
	if (zip_unpack(s->zip, ret->codec, ret->dict, frame, ret->raw_hash, s->raw, ret->raw_n))
		return true;
	return ret->dict && learn_dict(s, ret->dict) &&
	       zip_unpack(s->zip, ret->codec, ret->dict, frame, ret->raw_hash, s->raw, ret->raw_n);
}

/* ---- what is left of a message that lacks parts */

static bool put_piece(struct salvage *s, int fd, const struct salvage_mail *m, const struct salvage_place *p)
{
	struct record   r;
	struct rec_body b;
	struct span     packed, addr;
	bool            ok = true;

	if (!read_part(s, m, p, &r))
		return true;
	if (p->type == REC_BODY)
		return !unpack(s, &r, &b) || file_write_all(fd, span_of(s->raw, b.raw_n));
	packed = span_from(r.body, sizeof(struct rec_rcpt));
	while (ok && packed_next(&packed, &addr))
		ok = file_write_all(fd, addr) && file_write_all(fd, SPAN("\n"));
	return ok;
}

static bool put_gap(int fd, const struct salvage_place *p, uint32_t *next)
{
	bool ok = p->type != REC_BODY || p->number == *next ||
		  file_write_all(fd, SPAN("\n[quire journal salvage: a part of the message is missing here]\n"));

	*next = p->number + 1;
	return ok;
}

static bool put_pieces_of(struct salvage *s, const struct salvage_mail *m, uint8_t type, const char *suffix)
{
	char     name[64];
	int      fd;
	uint32_t next = 0;
	bool     ok = true;

	snprintf(name, sizeof(name), "%" PRIu64 ".%s", m->id, suffix);
	fd = openat(s->pieces_fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return false;
	for (uint32_t i = 0; ok && i < m->places_n; i++)
		if (m->places[i].type == type)
			ok = put_gap(fd, &m->places[i], &next) && put_piece(s, fd, m, &m->places[i]);
	return close(fd) == 0 && ok;
}

static bool put_pieces(struct salvage *s, const struct salvage_mail *m)
{
	return s->pieces_fd < 0 || (put_pieces_of(s, m, REC_BODY, "body") &&
				    put_pieces_of(s, m, REC_RCPT, "recipients"));
}

/* ---- writing */

/* A frame that needs a dictionary is packed again without one: the new journal has others. */
static bool write_part(struct salvage *s, struct writer_message *wm, const struct record *r, bool *ret_bad)
{
	struct rec_body b;

	if (r->head.type != REC_BODY)
		return writer_part(&s->writer, wm, r);
	memcpy(&b, r->body.p, sizeof(b));
	if (b.dict == 0)
		return writer_part(&s->writer, wm, r);
	*ret_bad = !unpack(s, r, &b);
	return !*ret_bad && writer_body(&s->writer, wm, span_of(s->raw, b.raw_n));
}

static bool write_parts(struct salvage *s, const struct salvage_mail *m, struct writer_message *wm, bool *ret_bad)
{
	for (uint32_t i = 0; i < m->places_n; i++) {
		const struct salvage_place *p = &m->places[i];
		struct record               r;

		if (p->number != (p->type == REC_BODY ? wm->msg.body_parts : wm->msg.rcpt_parts)) {
			*ret_bad = true;          /* more parts than its MSG speaks of: not ours to guess */
			return false;
		}
		*ret_bad = !read_part(s, m, p, &r);
		if (*ret_bad || !write_part(s, wm, &r, ret_bad))
			return false;
	}
	return true;
}

static bool write_states(struct salvage *s, const struct salvage_mail *m)
{
	struct span      all = buf_span(&m->states), body;
	struct rec_state settled = {.at_us = clock_wall_us(), .outcome = OUTCOME_SETTLED};
	struct rec_head  h;
	bool             ok = true;

	while (ok && salvage_record_next(&all, &h, &body))
		ok = writer_add(&s->writer, &h, &body, 1, 0, NULL);
	all = buf_span(&m->settled);
	while (ok && all.n > 0)
		ok = writer_state(&s->writer, m->id, &settled,
				  span_cut(&all, UINT16_MAX / 2 * sizeof(struct msg_range)), SPAN_NONE);
	return ok;
}

/* false: the new journal can't be written.  What is known of the recipients comes first: with the
 * MSG all of it counts. */
static bool write_mail(struct salvage *s, struct salvage_mail *m)
{
	struct writer_message wm;
	struct msg_view       v;
	bool                  bad = false, ok;

	if (!salvage_mail_msg(m, &v))
		return false;
	writer_message_init(&wm, m->id);
	ok = write_parts(s, m, &wm, &bad);
	if (ok) {
		uint32_t body_parts = wm.msg.body_parts, rcpt_parts = wm.msg.rcpt_parts;

		wm.msg = *v.m;
		wm.msg.body_parts = body_parts;
		wm.msg.rcpt_parts = rcpt_parts;
		ok = write_states(s, m) && writer_msg(&s->writer, &wm, v.sender, v.settles, v.extra);
	}
	writer_message_fini(&wm);
	if (bad) {
		m->lost++;
		m->what = SALVAGED_CUT;
		return true;
	}
	s->written += ok;
	s->rcpts += v.m->rcpts - m->over.count;
	return ok;
}

static bool write_all(struct salvage *s)
{
	bool ok = true;

	progress_begin(&s->progress, &s->tool, "writing", s->mails.n);
	s->progress.unit = "messages";
	for (size_t i = 0; ok && i < s->mails.n; i++) {
		if (s->mails.v[i]->what == SALVAGED_WHOLE)
			ok = write_mail(s, s->mails.v[i]);
		progress_at(&s->progress, i + 1);
	}
	progress_end(&s->progress);
	return ok && writer_sync(&s->writer);
}

/* Parts without MSG are common (clients hang up); they are named only where something was lost. */
static bool say_mails(struct salvage *s)
{
	bool damage = s->promised + s->last + s->records + s->missing + s->foreign > 0 || s->warned;
	bool ok = true;

	for (size_t i = 0; i < s->mails.n; i++) {
		struct salvage_mail *m = s->mails.v[i];

		switch (m->what) {
		case SALVAGED_WHOLE: break;
		case SALVAGED_OVER: s->over++; break;
		case SALVAGED_CUT:
			s->cut++;
			say_mail(s, m, "can't be saved whole");
			ok = put_pieces(s, m) && ok;
			break;
		case SALVAGED_NO_MSG:
			if (m->places_n == 0 || !damage)
				break;
			s->no_msg++;
			say_mail(s, m, "has parts, and no end: lost, or never handed in whole");
			ok = put_pieces(s, m) && ok;
			break;
		}
	}
	if (!ok)
		quire_say(0, s->tool.verb, "%s: %s", s->pieces, strerror(errno));
	return ok;
}

static void report(const struct salvage *s)
{
	if (s->tool.json)
		printf("{\"saved\":%" PRIu64 ",\"recipients\":%" PRIu64 ",\"over\":%" PRIu64 ",\"cut\":%" PRIu64
		       ",\"without_end\":%" PRIu64 ",\"gaps\":%" PRIu64 ",\"gaps_last\":%" PRIu64
		       ",\"bad_records\":%" PRIu64
		       ",\"files_missing\":%" PRIu64 ",\"files_foreign\":%" PRIu64 "}\n",
		       s->written, s->rcpts, s->over, s->cut, s->no_msg, s->promised, s->last, s->records, s->missing,
		       s->foreign);
	else
		printf("saved %" PRIu64 " messages with %" PRIu64 " recipients to deliver; %" PRIu64
		       " were over.  Lost: %" PRIu64
		       " messages in part, %" PRIu64 " without end, %" PRIu64 " places, %" PRIu64 " files\n",
		       s->written, s->rcpts, s->over, s->cut, s->no_msg, s->promised + s->last + s->records,
		       s->missing + s->foreign);
}

/* ---- all together */

static int open_source(struct salvage *s)
{
	int n, e;

	if (s->tool.dir)
		n = snprintf(s->tool.path, sizeof(s->tool.path), "%s", s->tool.dir);
	else
		n = snprintf(s->tool.path, sizeof(s->tool.path), "%s/journal/%u", quire_home(s->tool.home),
			     s->tool.shard);
	if (n >= (int)sizeof(s->tool.path))
		return quire_say(EXIT_WRONG, s->tool.verb, "the directory's name is too long");
	s->dir_fd = open(s->tool.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (s->dir_fd < 0)
		return quire_say(EXIT_WRONG, s->tool.verb, "%s: %s", s->tool.path, strerror(errno));
	s->tool.disk = disk_real_new(NULL, dup(s->dir_fd));
	e = faccessat(s->dir_fd, "lock", F_OK, 0) < 0 ? 0 : s->tool.disk->calls->lock(s->tool.disk);
	if (e == -EWOULDBLOCK)
		return quire_say(EXIT_TRY_AGAIN, s->tool.verb, "%s: in use: stop quire first", s->tool.path);
	if (e && e != -EROFS && e != -EACCES)     /* a copy that is read-only is nobody's */
		return quire_say(EXIT_TRY_AGAIN, s->tool.verb, "%s/lock: %s", s->tool.path, strerror(-e));
	e = salvage_files_find(&s->files, s->dir_fd, s->has_uuid ? s->uuid : NULL);
	if (e)
		return quire_say(EXIT_TRY_AGAIN, s->tool.verb, "%s: %s", s->tool.path, strerror(-e));
	if (s->files.n == 0 || s->files.segment_size < SEGMENT_SIZE_MIN)
		return quire_say(EXIT_WRONG, s->tool.verb, "%s: there is no segment", s->tool.path);
	return 0;
}

/* The new one belongs to whom the old one belongs to. */
static int open_target(struct salvage *s)
{
	struct journal_writer_options o = {.shard = s->files.newest >= 0 ? s->files.shard : s->tool.shard,
					   .segment_size = s->files.segment_size,
					   .must_be_empty = true,
					   .zstd_level = ZSTD_LEVEL};
	struct stat st;
	struct buf  why;
	int         fd, code;

	o.epoch_min = s->mails.epoch > s->files.epoch ? s->mails.epoch : s->files.epoch;
	if (mkdir(s->into, 0750) < 0 && errno != EEXIST)
		return quire_say(EXIT_TRY_AGAIN, s->tool.verb, "%s: %s", s->into, strerror(errno));
	fd = open(s->into, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return quire_say(EXIT_TRY_AGAIN, s->tool.verb, "%s: %s", s->into, strerror(errno));
	if (geteuid() == 0 && fstat(s->dir_fd, &st) == 0 && fchown(fd, st.st_uid, st.st_gid) < 0)
		quire_say(0, s->tool.verb, "%s: %s: it belongs to another user", s->into, strerror(errno));
	buf_init(&why, WHY_MAX);
	code = writer_open(&s->writer, fd, &o, &why);
	if (code)
		quire_say(code, s->tool.verb, "%s: %.*s", s->into, SPAN_ARG(buf_span(&why)));
	buf_free(&why);
	return code;
}

static int open_pieces(struct salvage *s)
{
	if (!s->pieces)
		return 0;
	if (mkdir(s->pieces, 0700) < 0 && errno != EEXIST)
		return quire_say(EXIT_TRY_AGAIN, s->tool.verb, "%s: %s", s->pieces, strerror(errno));
	s->pieces_fd = open(s->pieces, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return s->pieces_fd >= 0 ? 0 : quire_say(EXIT_TRY_AGAIN, s->tool.verb, "%s: %s", s->pieces, strerror(errno));
}

static int run(struct salvage *s)
{
	int  code = open_source(s), error;
	bool ok;

	if (!code)
		code = open_pieces(s);
	if (code)
		return code;
	say_files(s);
	scan_all(s);
	code = open_target(s);
	if (code)
		return code;
	ok = write_all(s);
	error = writer_close(&s->writer);
	if (!ok || error)
		return quire_say(EXIT_TRY_AGAIN, s->tool.verb, "%s: %s", s->into, strerror(error ? -error : EIO));
	ok = say_mails(s);
	report(s);
	if (s->cut + s->no_msg + s->promised + s->last + s->records + s->missing + s->foreign > 0 || s->warned)
		return EXIT_DAMAGE;
	return ok ? EXIT_FINE : EXIT_TRY_AGAIN;
}

static bool take_uuid(struct salvage *s, const char *text)
{
	unsigned n = 0, digit;

	for (; *text; text++) {
		if (*text == '-')
			continue;
		if (n == 32 || sscanf((char[]){*text, '\0'}, "%1x", &digit) != 1)
			return false;
		s->uuid[n / 2] = (uint8_t)(s->uuid[n / 2] << 4 | digit);
		n++;
	}
	s->has_uuid = n == 32;
	return s->has_uuid;
}

static void finish(struct salvage *s)
{
	for (uint32_t i = 0; s->fds && i < s->files.n; i++)
		if (s->fds[i] >= 0)
			close(s->fds[i]);
	mem_free(s->fds);
	mem_free(s->room);
	mem_free(s->raw);
	zip_free(s->zip);
	salvage_mails_fini(&s->mails);
	salvage_files_fini(&s->files);
	disk_real_free(s->tool.disk);
	if (s->dir_fd >= 0)
		close(s->dir_fd);
	if (s->pieces_fd >= 0)
		close(s->pieces_fd);
}

int journal_salvage(int argc, char **argv)
{
	static const struct option options[] = {JOURNAL_TOOL_OPTIONS,
						{"into", required_argument, NULL, 'I'},
						{"pieces", required_argument, NULL, 'P'},
						{"uuid", required_argument, NULL, 'U'},
						{0}};
	struct salvage s = {.tool = {.verb = argv[0]}, .dir_fd = -1, .pieces_fd = -1};
	int            c, code;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1)
		switch (c) {
		case 'I': s.into = optarg; break;
		case 'P': s.pieces = optarg; break;
		case 'U':
			if (!take_uuid(&s, optarg))
				return quire_say(EXIT_WRONG, s.tool.verb, "--uuid %s: not 32 hex digits", optarg);
			break;
		case 'h': puts(help); return EXIT_FINE;
		default:
			if (!journal_tool_option(&s.tool, c, optarg))
				return EXIT_WRONG;
		}
	if (!s.into || optind < argc)
		return quire_say(EXIT_WRONG, s.tool.verb, "--into DIR says where the new journal is made");
	clock_refresh();
	salvage_mails_init(&s.mails);
	s.room = mem_new(SCAN_ROOM);
	s.raw = mem_new(BODY_PART_MAX);
	s.zip = zip_new(ZSTD_LEVEL);
	code = run(&s);
	finish(&s);
	return code;
}
