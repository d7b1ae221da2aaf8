/* quire journal dump - the records, in the order of the walk, as text or as JSON lines. */
#include "tools/quire_journal.h"

#include "core/pool.h"
#include "journal/dict.h"
#include "journal/zip.h"
#include "mail/envelope.h"
#include "tools/quire.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#define READ_TRIES   50                           /* 1 s */
#define READ_WAIT_US 20000
#define PLAIN_LEVEL  1

static const char help[] =
	"usage: quire journal dump [--home DIR | --dir JOURNAL] [--segment N] [--from POS] [--to POS]\n"
	"           [--since T] [--until T] [--queue] [--bodies] [--json]\n"
	"Every record with its position, its batch and what it says, the oldest segment first; --json: one\n"
	"object a line.  --segment: one segment only, named by the manifest or not (a quarantined\n"
	"one, too, if it is renamed back in a copy).  --from, --to: positions, or SEGMENT:OFFSET.  --since, --until:\n"
	"time of the batch: 2026-01-31, \"2026-01-31 23:59\" (UTC), or how long ago: 90s 5m 2h 3d 1w.\n"
	"--queue leaves out what is kept as history.  --bodies: bodies, too, decoded (JSON: base64).";

struct dump {
	struct journal_tool tool;
	struct reader *reader;                    /* the one that is walked */
	struct reader *side;                      /* for dictionaries */
	struct zip *zip;
	char *raw;
	uint64_t from, to, since_us, until_us, damage;
	bool bodies, queue;
};

/* ---- fields ---- */

/* "name value" for a person, "name":value in JSON. */
static void field_u64(const struct dump *d, const char *name, uint64_t v)
{
	printf(d->tool.json ? ",\"%s\":%" PRIu64 : " %s=%" PRIu64, name, v);
}

static void field_hex(const struct dump *d, const char *name, uint64_t v)
{
	printf(d->tool.json ? ",\"%s\":\"%016" PRIx64 "\"" : " %s=%016" PRIx64, name, v);
}

static void field_id(const struct dump *d, const char *name, uint64_t v)
{
	printf(d->tool.json ? ",\"%s\":\"%" PRIu64 "\"" : " %s=%" PRIu64, name, v);
}

static void field_span(const struct dump *d, const char *name, struct span s)
{
	printf(d->tool.json ? ",\"%s\":" : " %s=<", name);
	if (d->tool.json) {
		print_json(stdout, s);
	} else {
		print_plain(stdout, s);
		putchar('>');
	}
}

static void field_when(const struct dump *d, const char *name, uint64_t us)
{
	char when[WHEN_MAX];

	if (d->tool.json)
		printf(",\"%s_us\":%" PRIu64, name, us);
	else
		printf(" %s=\"%s\"", name, us ? when_text(when, us) : "-");
}

static void field_ranges(const struct dump *d, const char *name, struct span ranges, uint32_t n)
{
	printf(d->tool.json ? ",\"%s\":[" : " %s=", name);
	for (uint32_t i = 0; i < n; i++) {
		struct msg_range r = range_at(ranges, i);

		if (d->tool.json)
			printf("%s[%" PRIu32 ",%" PRIu32 "]", i ? "," : "", r.first, r.last);
		else if (r.first == r.last)
			printf("%s%" PRIu32, i ? "," : "", r.first);
		else
			printf("%s%" PRIu32 "-%" PRIu32, i ? "," : "", r.first, r.last);
	}
	if (d->tool.json)
		putchar(']');
}

static void field_base64(const struct dump *d, const char *name, struct span s)
{
	printf(",\"%s\":\"", name);
	print_base64(stdout, s);
	putchar('"');
}

/* ---- records ---- */

static bool use_dict(struct dump *d, uint64_t pos, uint32_t number)
{
	struct record rec;

	if (zip_has_dict(d->zip, number))
		return true;
	if (!d->side)
		d->side = journal_tool_reader(&d->tool, true);
	if (!d->side || reader_dict(d->side, pos, number, &rec) != READ_OK || dict_number(rec.body) != number)
		return false;
	zip_add_dict(d->zip, number, rec.body, false);
	return true;
}

static void show_raw(struct dump *d, struct span raw)
{
	if (d->tool.json) {
		field_base64(d, "body", raw);
		return;
	}
	while (raw.n) {
		size_t end = span_find(raw, '\n');

		fputs("\n  | ", stdout);
		print_plain(stdout, span_cut(&raw, end == SPAN_NPOS ? raw.n : end));
		span_cut(&raw, 1);
	}
}

static void show_body(struct dump *d, const struct record *r)
{
	struct rec_body b;

	memcpy(&b, r->body.p, sizeof b);
	field_u64(d, "raw_n", b.raw_n);
	field_u64(d, "dict", b.dict);
	field_hex(d, "raw_hash", b.raw_hash);
	printf(d->tool.json ? ",\"codec\":\"%s\"" : " codec=%s", b.codec == CODEC_RAW ? "raw" : "zstd");
	if (!d->bodies)
		return;
	if (b.raw_n <= BODY_PART_MAX && (!b.dict || use_dict(d, r->pos, b.dict)) &&
	    zip_unpack(d->zip, b.codec, b.dict, span_from(r->body, sizeof b), b.raw_hash, d->raw,
		       b.raw_n)) {
		show_raw(d, span_of(d->raw, b.raw_n));
		return;
	}
	fputs(d->tool.json ? ",\"damaged\":true" : " damaged", stdout);
	d->damage++;
}

static void show_rcpt(const struct dump *d, const struct record *r)
{
	struct rec_rcpt head;
	struct span packed = span_from(r->body, sizeof head), addr;
	bool some = false;

	memcpy(&head, r->body.p, sizeof head);
	field_u64(d, "first", head.first);
	field_u64(d, "count", head.count);
	fputs(d->tool.json ? ",\"addresses\":[" : "", stdout);
	for (; packed_next(&packed, &addr); some = true) {
		if (d->tool.json) {
			fputs(some ? "," : "", stdout);
			print_json(stdout, addr);
		} else {
			fputs(" <", stdout);
			print_plain(stdout, addr);
			putchar('>');
		}
	}
	fputs(d->tool.json ? "]" : "", stdout);
}

static void show_positions(const struct dump *d, const struct msg_view *v)
{
	uint32_t n = v->m->body_parts + v->m->rcpt_parts;

	printf(d->tool.json ? ",\"%s\":[" : " %s=", "positions");
	for (uint32_t i = 0; i < n; i++)
		printf("%s%" PRIu64, i ? "," : "", msg_position(v, i));
	if (d->tool.json)
		putchar(']');
}

static void show_msg(const struct dump *d, const struct msg_view *v)
{
	const struct rec_msg *m = v->m;

	field_when(d, "arrival", m->arrival_us);
	field_u64(d, "size", m->size);
	field_id(d, "parent", m->parent);
	field_u64(d, "body_parts", m->body_parts);
	field_u64(d, "rcpt_parts", m->rcpt_parts);
	field_u64(d, "rcpts", m->rcpts);
	field_u64(d, "uid", m->uid);
	field_u64(d, "pid", m->pid);
	field_u64(d, "kind", m->kind);
	field_span(d, "sender", v->sender);
	field_ranges(d, "settles", v->settles, m->settles_n);
	show_positions(d, v);
	if (d->tool.json)
		field_base64(d, "extra", v->extra);
	else
		field_u64(d, "extra_n", m->extra_n);
}

static void show_state(const struct dump *d, const struct state_view *v)
{
	const char *name = outcome_name(v->s->outcome);

	printf(d->tool.json ? ",\"outcome\":\"%s\"" : " %s", name ? name : "?");
	field_when(d, "at", v->s->at_us);
	field_when(d, "next", v->s->next_us);
	field_u64(d, "attempt", v->s->attempt);
	field_ranges(d, "ranges", v->ranges, v->s->ranges_n);
	field_span(d, "text", span_trim_end(v->text, d->tool.json ? "" : "\n"));
}

static void show_manifest(const struct dump *d, const struct record *r)
{
	struct manifest_entry e;

	fputs(d->tool.json ? ",\"entries\":[" : "", stdout);
	for (size_t i = 0; i + sizeof e <= r->body.n; i += sizeof e) {
		memcpy(&e, r->body.p + i, sizeof e);
		printf(d->tool.json ? "%s{\"number\":%" PRIu64 ",\"end\":%" PRIu64 ",\"state\":%" PRIu32 "}"
				    : "%s %" PRIu64 "/%" PRIu64 "/%" PRIu32,
		       i && d->tool.json ? "," : "", e.number, e.end, e.state);
	}
	fputs(d->tool.json ? "]" : "", stdout);
}

static void show_seal(const struct dump *d, const struct record *r)
{
	struct rec_seal s;

	memcpy(&s, r->body.p, sizeof s);
	field_u64(d, "next_number", s.next_number);
	field_hex(d, "chain", s.chain);
	field_u64(d, "first_seq", s.first_seq);
	field_u64(d, "last_seq", s.last_seq);
}

static void show_what(struct dump *d, const struct record *r)
{
	struct msg_view m;
	struct state_view s;

	switch ((enum rec_type)r->head.type) {
	case REC_BODY: show_body(d, r); return;
	case REC_RCPT: show_rcpt(d, r); return;
	case REC_MSG:
		if (msg_view(&r->head, r->body, &m))
			show_msg(d, &m);
		return;
	case REC_STATE:
		if (state_view(&r->head, r->body, &s))
			show_state(d, &s);
		return;
	case REC_MANIFEST: show_manifest(d, r); return;
	case REC_SEAL: show_seal(d, r); return;
	case REC_ACT:
		if (d->tool.json)
			field_base64(d, "bytes", r->body);
		return;
	case REC_DICT:
		field_hex(d, "hash", hash64(r->body.p, r->body.n));
		return;
	case REC_NOP:
	case REC_MOVED:
	case REC_TYPES: return;
	}
}

/* As far as the walk is: the batch of this record is what a time means. */
static void show_record(struct dump *d, const struct record *r)
{
	const char *name = record_name(r->head.type);
	struct read_batch b = {0};

	reader_batch(d->reader, &b);
	if (r->pos < d->from || (d->to && r->pos >= d->to) || b.time_us < d->since_us ||
	    (d->until_us && b.time_us >= d->until_us))
		return;
	if (d->tool.json) {
		printf("{\"position\":%" PRIu64 ",\"segment\":%" PRIu64 ",\"offset\":%" PRIu64 ",\"batch\":%" PRIu64
		       ",\"time_us\":%" PRIu64 ",\"type\":\"%s\"",
		       r->pos, r->pos / d->tool.segment_size, r->pos % d->tool.segment_size, b.seq, b.time_us,
		       name ? name : "?");
	} else {
		char when[WHEN_MAX];

		printf("%" PRIu64 ":%" PRIu64 " batch=%" PRIu64 " %s %s", r->pos / d->tool.segment_size,
		       r->pos % d->tool.segment_size, b.seq, when_text(when, b.time_us), name ? name : "?");
	}
	field_id(d, "id", r->head.id);
	field_u64(d, "number", r->head.number);
	field_u64(d, "flags", r->head.flags);
	/* Of a body that was not read only its head is here. */
	if (r->head.type != REC_BODY || d->bodies)
		field_u64(d, "n", r->body.n);
	show_what(d, r);
	puts(d->tool.json ? "}" : "");
}

static void show_damage(struct dump *d, uint64_t pos)
{
	d->damage++;
	if (d->tool.json)
		printf("{\"position\":%" PRIu64 ",\"segment\":%" PRIu64 ",\"offset\":%" PRIu64
		       ",\"type\":\"damage\"}\n",
		       pos, pos / d->tool.segment_size, pos % d->tool.segment_size);
	else
		printf("%" PRIu64 ":%" PRIu64 " DAMAGE\n", pos / d->tool.segment_size,
		       pos % d->tool.segment_size);
}

/* ---- the walk ---- */

static int walk(struct dump *d)
{
	struct progress p;
	struct record r;
	uint64_t passed = 0, last = 0;
	int tries = 0;

	progress_begin(&p, &d->tool, "dumping", journal_tool_bytes(&d->tool, !d->queue));
	p.on = p.on && !isatty(STDOUT_FILENO);
	for (;;) {
		enum read_result got =
			reader_next(d->reader, d->bodies ? BODIES_WHOLE : BODIES_HEADS, &r);

		if (got == READ_END)
			break;
		if (got == READ_ERROR && ++tries < READ_TRIES) {
			usleep(READ_WAIT_US);
			continue;
		}
		if (got == READ_ERROR)
			return quire_say(EXIT_TRY_AGAIN, d->tool.verb, "can't be read at position %" PRIu64,
					 reader_pos(d->reader));
		tries = 0;
		if (got == READ_OK)
			show_record(d, &r);
		else
			show_damage(d, r.pos);
		if (reader_pos(d->reader) > last && last)
			passed += reader_pos(d->reader) - last;
		last = reader_pos(d->reader);
		progress_at(&p, passed);
	}
	progress_end(&p);
	if (fflush(stdout) != 0 || ferror(stdout))
		return quire_say(EXIT_TRY_AGAIN, d->tool.verb, "standard output: %s", strerror(errno));
	if (d->damage)
		return quire_say(EXIT_DAMAGE, d->tool.verb, "damage in %" PRIu64 " places", d->damage);
	return EXIT_FINE;
}

/* A position, or SEGMENT:OFFSET. */
static bool parse_pos(const struct dump *d, const char *s, uint64_t *ret)
{
	struct span text = span_str(s);
	size_t colon = span_find(text, ':');
	uint64_t segment, offset;

	if (!s || colon == SPAN_NPOS)
		return !s || span_u64(text, UINT64_MAX, ret);
	if (!span_u64(span_until(text, colon), UINT64_MAX / d->tool.segment_size - 1, &segment) ||
	    !span_u64(span_from(text, colon + 1), d->tool.segment_size - 1, &offset))
		return false;
	*ret = segment * d->tool.segment_size + offset;
	return true;
}

static int only(struct dump *d, uint64_t number)
{
	struct buf why;
	int e;

	buf_init(&why, 1024);
	e = reader_only(d->reader, number, 0, &why);
	if (e)
		quire_say(0, d->tool.verb, "segment %" PRIu64 ": %.*s", number, SPAN_ARG(buf_span(&why)));
	buf_free(&why);
	return e ? EXIT_WRONG : 0;
}

struct asked { const char *from, *to; uint64_t segment; };

static bool take_option(struct dump *d, struct asked *a, int c)
{
	switch (c) {
	case 'n': return span_u64(span_str(optarg), UINT64_MAX, &a->segment) && a->segment;
	case 'a': a->from = optarg; return true;
	case 'z': a->to = optarg; return true;
	case 'f': return when_parse(optarg, &d->since_us);
	case 'u': return when_parse(optarg, &d->until_us);
	case 'q': d->queue = true; return true;
	case 'b': d->bodies = true; return true;
	default: return journal_tool_option(&d->tool, c, optarg);
	}
}

static int dump(struct dump *d, const struct asked *a)
{
	int code = journal_tool_open(&d->tool, false, !d->queue);

	if (code)
		return code;
	if (!parse_pos(d, a->from, &d->from) || !parse_pos(d, a->to, &d->to))
		return quire_say(EXIT_WRONG, d->tool.verb, "--from, --to: a position or SEGMENT:OFFSET");
	d->reader = d->tool.reader;
	d->zip = zip_new(PLAIN_LEVEL);
	zip_add_dict(d->zip, dict_built_in().number, dict_built_in().bytes, false);
	d->raw = mem_new(BODY_PART_MAX);
	if (a->segment)
		code = only(d, a->segment);
	if (!code)
		code = walk(d);
	zip_free(d->zip);
	mem_free(d->raw);
	reader_free(d->side);
	return code;
}

int journal_dump(int argc, char **argv)
{
	static const struct option options[] = {JOURNAL_TOOL_OPTIONS,
						{"segment", required_argument, NULL, 'n'},
						{"from", required_argument, NULL, 'a'},
						{"to", required_argument, NULL, 'z'},
						{"since", required_argument, NULL, 'f'},
						{"until", required_argument, NULL, 'u'},
						{"queue", no_argument, NULL, 'q'},
						{"bodies", no_argument, NULL, 'b'},
						{0}};
	struct dump d = {.tool = {.verb = argv[0]}};
	struct asked asked = {0};
	int c, code;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c == 'h')
			return puts(help) < 0;
		if (c == '?')
			return EXIT_WRONG;
		if (!take_option(&d, &asked, c))
			return quire_say(EXIT_WRONG, d.tool.verb, "%s: not understood; --help says more",
					 optarg ? optarg : "an option");
	}
	if (optind < argc)
		return quire_say(EXIT_WRONG, d.tool.verb, "no arguments are taken: %s", argv[optind]);
	code = dump(&d, &asked);
	journal_tool_close(&d.tool);
	return code;
}
