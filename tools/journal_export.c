/* quire journal export - messages out of the journal, byte for byte, to where others can read them.
 *
 * What is exported stays in the journal: this copies.  A message with damage inside is named and
 * left out, never written in part. */
#include "tools/journal_box.h"

#include "core/clock.h"
#include "core/pool.h"
#include "core/table.h"
#include "mail/bounce.h"
#include "mail/control.h"
#include "tools/quire.h"

#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define WHY_MAX    1024
#define LIST_MAX   (1024u * 1024 * 1024)          /* addresses of one message */
#define BOUNCE_MAX (64u * 1024 * 1024)
#define TEXTS_MAX  (1024u * 1024 * 1024)          /* failures that were not reported, all together */

static const char help[] =
	"usage: quire journal export (--maildir DIR | --mbox FILE | --qmail-queue DIR) [--queued | --all]\n"
	"        [--sender P] [--rcpt P] [--domain P] [--id N] [--since T] [--until T]\n"
	"        [--home DIR | --dir JOURNAL] [--shard N] [--json] [--quiet]\n"
	"Copies messages out of the journal, byte for byte.  --queued (default): those that are in the\n"
	"queue; --all: also those that are over, and history.  --maildir: one file a message, named by its\n"
	"id: what is there is not written again.  --mbox: appended.  --qmail-queue: a new classic queue\n"
	"with what is left to deliver, as a stopped qmail-send leaves it (needs --home for control/).\n"
	"Patterns and times as in quire journal ls.  Exit: 0 all of it, 99 damaged messages are named and\n"
	"left out, 100 wrong use, 111 not now.";

struct failure { uint64_t id; struct msg_range range; uint32_t at, n; }; /* text: at, n in texts */

struct export {
	struct journal_tool tool;
	struct mail_filter  filter;
	struct box          box;
	bool                all, to_queue;
	struct mail_index  *index;
	struct rewriter    *rewriter;             /* to_queue */
	struct buf          rewritten;
	struct box_rcpts    rcpts;
	struct buf          failures, texts;      /* struct failure; looked for when the first is needed */
	bool                failures_known;
	/* of the message at hand */
	uint64_t            id;
	bool                wanted, no_room;
	uint64_t            written, already, damaged;
};

/* ---- failures that were not reported: their reasons */

static bool take_failure(struct export *x, const struct record *r)
{
	struct state_view v;
	bool              ok = true;

	if (r->head.type != REC_STATE || !state_view(&r->head, r->body, &v) ||
	    (v.s->outcome != OUTCOME_FAILED && v.s->outcome != OUTCOME_CANCELLED))
		return true;
	for (uint32_t k = 0; k < v.s->ranges_n && ok; k++) {
		struct failure f = {r->head.id, range_at(v.ranges, k), (uint32_t)x->texts.n, (uint32_t)v.text.n};

		ok = buf_add(&x->failures, span_of(&f, sizeof(f)));
	}
	return ok && buf_add(&x->texts, v.text);
}

static void learn_failures(struct export *x)
{
	struct reader   *r = journal_tool_reader(&x->tool, false);
	struct record    rec;
	enum read_result got;

	x->failures_known = true;
	while (r && (got = reader_next(r, BODIES_PASS, &rec)) != READ_END && got != READ_ERROR)
		if (got == READ_OK && !take_failure(x, &rec))
			break;
	reader_free(r);
}

static struct span reason_of(struct export *x, uint32_t number)
{
	const struct failure *f;

	if (!x->failures_known)
		learn_failures(x);
	f = (const struct failure *)(const void *)x->failures.p;
	for (size_t i = 0; i < x->failures.n / sizeof(*f); i++)
		if (f[i].id == x->id && number >= f[i].range.first && number <= f[i].range.last)
			return span_of(x->texts.p + f[i].at, f[i].n);
	return SPAN("The reason of this failure could not be read back from the journal. (#5.0.0)\n");
}

/* ---- recipients */

static bool add_rcpt(struct buf *list, struct span addr)
{
	return buf_add_byte(list, 'T') && buf_add(list, addr) && buf_add_byte(list, '\0');
}

static void take_queue_rcpt(struct export *x, uint32_t number, struct span addr, unsigned flags, enum rcpt_state s)
{
	struct span  to = addr;
	enum channel ch;

	if (flags & REC_REWRITTEN)
		ch = flags & REC_LOCAL ? CHANNEL_LOCAL : CHANNEL_REMOTE;
	else
		ch = rewrite(x->rewriter, addr, &x->rewritten, &to);
	if (s == RCPT_FAILED)
		x->no_room |= !bounce_paragraph(&x->rcpts.bounce, rewriter_strip(x->rewriter, to),
						reason_of(x, number));
	else if (s == RCPT_QUEUED)
		x->no_room |= !add_rcpt(ch == CHANNEL_LOCAL ? &x->rcpts.local : &x->rcpts.remote, to);
}

static void on_rcpt(void *ctx, uint32_t number, struct span addr, unsigned flags, enum rcpt_state s)
{
	struct export *x = ctx;

	if (!mail_filter_wants_rcpt(&x->filter, addr))
		return;
	x->wanted = true;
	if (x->to_queue)
		take_queue_rcpt(x, number, addr, flags, s);
}

/* false: parts of the list are damaged. */
static bool look_at_rcpts(struct export *x, size_t i)
{
	x->wanted = !mail_filter_has_rcpt(&x->filter);
	if (x->wanted && !x->to_queue)
		return true;
	buf_clear(&x->rcpts.local);
	buf_clear(&x->rcpts.remote);
	buf_clear(&x->rcpts.bounce);
	if (!mail_index_rcpts(x->index, i, on_rcpt, x))
		return false;
	if (x->to_queue)
		x->wanted = x->rcpts.local.n + x->rcpts.remote.n + x->rcpts.bounce.n > 0;
	return true;
}

/* ---- messages */

static bool on_bytes(void *ctx, struct span bytes)
{
	struct export *x = ctx;

	return x->box.calls->bytes(&x->box, bytes);
}

static void say_damaged(struct export *x, uint64_t pos)
{
	x->damaged++;
	quire_say(0, x->tool.verb, "message %" PRIu64 " is damaged at position %" PRIu64 ": left out", x->id, pos);
	if (x->tool.json)
		printf("{\"id\":\"%" PRIu64 "\",\"damaged\":true,\"position\":%" PRIu64 "}\n", x->id, pos);
}

static void say_written(struct export *x)
{
	x->written++;
	if (!x->tool.json)
		return;
	printf("{\"id\":\"%" PRIu64 "\",\"file\":", x->id);
	print_json(stdout, span_str(x->box.name));
	puts("}");
}

/* false: the box can't be written. */
static bool copy_one(struct export *x, size_t i, const struct mail_record *m)
{
	enum box_begin begun = x->box.calls->begin(&x->box, m, &x->rcpts);
	uint64_t       bad_pos = 0;
	bool           whole;

	if (begun == BOX_HAS)
		x->already++;
	if (begun != BOX_TAKE)
		return begun == BOX_HAS;
	x->box.why[0] = '\0';
	whole = mail_index_body(x->index, i, on_bytes, x, &bad_pos);
	if (!x->box.calls->end(&x->box, whole) || x->box.why[0])
		return false;
	if (whole)
		say_written(x);
	else
		say_damaged(x, bad_pos);
	return true;
}

static bool export_one(struct export *x, size_t i)
{
	struct mail_brief  b = mail_index_brief(x->index, i);
	struct mail_record m;

	x->id = b.id;
	if ((!b.queued || b.left == 0) && !x->all)
		return true;
	if (x->filter.id && x->filter.id != b.id)
		return true;
	if (!mail_index_at(x->index, i, &m)) {
		say_damaged(x, 0);
		return true;
	}
	if (!mail_filter_takes(&x->filter, &m))
		return true;
	if (!look_at_rcpts(x, i)) {
		say_damaged(x, m.pos);
		return true;
	}
	if (x->no_room) {
		quire_say(0, x->tool.verb, "message %" PRIu64 " has more recipients than fit", b.id);
		return false;
	}
	return !x->wanted || copy_one(x, i, &m);
}

static int export_all(struct export *x)
{
	struct progress p;
	uint64_t        damage;
	bool            ok = true;

	x->index = mail_index_new(&x->tool, &damage);
	if (!x->index)
		return EXIT_TRY_AGAIN;
	progress_begin(&p, &x->tool, "exporting", mail_index_n(x->index));
	p.unit = "messages";
	for (size_t i = 0; ok && i < mail_index_n(x->index); i++) {
		ok = export_one(x, i);
		progress_at(&p, i + 1);
	}
	progress_end(&p);
	mail_index_free(x->index);
	if (!ok)
		return quire_say(111, x->tool.verb, "%s", x->box.why);
	return damage || x->damaged ? EXIT_DAMAGE : EXIT_FINE;
}

static void report(const struct export *x)
{
	if (x->tool.json)
		printf("{\"exported\":%" PRIu64 ",\"already\":%" PRIu64 ",\"damaged\":%" PRIu64 "}\n", x->written,
		       x->already, x->damaged);
	else
		printf("exported %" PRIu64 " messages; %" PRIu64 " were there, %" PRIu64 " are damaged\n", x->written,
		       x->already, x->damaged);
}

static int load_rewriter(struct export *x)
{
	struct control *c = control_new();
	struct buf      bad;
	char            path[4096];
	int             code = 0;

	buf_init(&bad, WHY_MAX);
	snprintf(path, sizeof(path), "%s/control", quire_home(x->tool.home));
	if (control_load(c, path, &bad) < 0)
		code = quire_say(EXIT_WRONG, x->tool.verb, "%s: %.*s can't be read: what is local is not known", path,
				 SPAN_ARG(buf_span(&bad)));
	else
		x->rewriter = rewriter_new(c);
	buf_free(&bad);
	control_free(c);
	return code;
}

static int run(struct export *x)
{
	int code = x->to_queue ? load_rewriter(x) : 0;

	if (!code)
		code = journal_tool_open(&x->tool, false, x->all);
	if (code)
		return code;
	code = x->box.calls->open(&x->box);
	if (code)
		quire_say(code, x->tool.verb, "%s", x->box.why);
	else
		code = export_all(x);
	if (!x->box.calls->close(&x->box) && code != 111)
		code = quire_say(111, x->tool.verb, "%s", x->box.why);
	if (code == EXIT_FINE || code == EXIT_DAMAGE)
		report(x);
	return code;
}

static int choose_box(struct export *x, const struct box_calls *calls, const char *path)
{
	if (x->box.calls)
		return quire_say(EXIT_WRONG, x->tool.verb, "one of --maildir, --mbox, --qmail-queue");
	box_init(&x->box, calls, path);
	x->to_queue = calls == &classic_box;
	return 0;
}

/* 0, an exit code, or -1: help was given. */
static int take_option(struct export *x, int c)
{
	const char *why;

	switch (c) {
	case 'M': return choose_box(x, &maildir_box, optarg);
	case 'B': return choose_box(x, &mbox_box, optarg);
	case 'q': return choose_box(x, &classic_box, optarg);
	case 'w': x->all = false; return 0;
	case 'a': x->all = true; return 0;
	case 'h': puts(help); return -1;
	}
	if (mail_filter_option(&x->filter, c, optarg, &why))
		return why ? quire_say(EXIT_WRONG, x->tool.verb, "%s: %s", optarg, why) : 0;
	return journal_tool_option(&x->tool, c, optarg) ? 0 : EXIT_WRONG;
}

int journal_export(int argc, char **argv)
{
	static const struct option options[] = {JOURNAL_TOOL_OPTIONS, MAIL_FILTER_OPTIONS,
						{"maildir", required_argument, NULL, 'M'},
						{"mbox", required_argument, NULL, 'B'},
						{"qmail-queue", required_argument, NULL, 'q'},
						{"queued", no_argument, NULL, 'w'},
						{"all", no_argument, NULL, 'a'},
						{0}};
	struct export x = {.tool = {.verb = argv[0]}};
	int           c, code;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1)
		if ((code = take_option(&x, c)) != 0)
			return code < 0 ? 0 : code;
	if (!x.box.calls || optind < argc)
		return quire_say(EXIT_WRONG, x.tool.verb,
				 "--maildir DIR, --mbox FILE or --qmail-queue DIR says where to");
	buf_init(&x.rewritten, REWRITE_MAX);
	buf_init(&x.rcpts.local, LIST_MAX);
	buf_init(&x.rcpts.remote, LIST_MAX);
	buf_init(&x.rcpts.bounce, BOUNCE_MAX);
	buf_init(&x.failures, TEXTS_MAX);
	buf_init(&x.texts, TEXTS_MAX);
	code = run(&x);
	rewriter_free(x.rewriter);
	buf_free(&x.rewritten);
	buf_free(&x.rcpts.local);
	buf_free(&x.rcpts.remote);
	buf_free(&x.rcpts.bounce);
	buf_free(&x.failures);
	buf_free(&x.texts);
	journal_tool_close(&x.tool);
	return code;
}
