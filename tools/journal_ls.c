/* quire journal ls - the messages of a journal, in order of arrival. */
#include "tools/quire_journal.h"

#include "core/check.h"
#include "tools/quire.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <string.h>

static const char help[] =
	"usage: quire journal ls [--home DIR | --dir JOURNAL] [--state queued|done|all] [--sender P]\n"
	"           [--rcpt P] [--domain P] [--id N] [--since T] [--until T] [--recipients] [--json]\n"
	"Messages with id, state, recipients left/all, size, arrival (UTC), sender; with --recipients\n"
	"each recipient and its state.  P: a pattern with * and ?, case does not matter; --sender '<>' is\n"
	"the empty one.  T: 2026-01-31, \"2026-01-31 23:59\" (UTC), or how long ago: 90s 5m 2h 3d 1w.\n"
	"--state (default queued): done also lists what is kept as history.";

enum wanted { WANT_QUEUED = 1, WANT_DONE = 2, WANT_ALL = 3 };

struct ls {
	struct journal_tool tool;
	struct mail_filter filter;
	enum wanted state;
	bool recipients;
	uint64_t unreadable;
	/* of the message at hand */
	bool matches, some;
};

static const char *state_name(enum rcpt_state s)
{
	switch (s) {
	case RCPT_QUEUED: return "queued";
	case RCPT_DONE: return "done";
	case RCPT_FAILED: return "failed";
	case RCPT_UNKNOWN: return "unknown";
	}
	unreachable();
}

static void match_rcpt(void *ctx, uint32_t number, struct span addr, unsigned flags, enum rcpt_state s)
{
	struct ls *l = ctx;

	l->matches = l->matches || mail_filter_wants_rcpt(&l->filter, addr);
}

static void show_rcpt(void *ctx, uint32_t number, struct span addr, unsigned flags, enum rcpt_state s)
{
	struct ls *l = ctx;

	if (!l->tool.json) {
		printf("    %6" PRIu32 " %-8s ", number, state_name(s));
		print_plain(stdout, addr);
		putchar('\n');
		return;
	}
	printf("%s{\"number\":%" PRIu32 ",\"address\":", l->some ? "," : "", number);
	print_json(stdout, addr);
	printf(",\"rewritten\":%s,\"state\":\"%s\"}", flags & REC_REWRITTEN ? "true" : "false",
	       state_name(s));
	l->some = true;
}

/* Not queued and not over: what lies in history, and whose outcomes are not there any more. */
static const char *message_state(const struct mail_brief *b)
{
	return b->queued && b->left ? "queued" : b->queued || !b->left ? "done" : "unknown";
}

static void show_json(struct ls *l, struct mail_index *x, size_t i, const struct mail_record *m,
		      const struct mail_brief *b)
{
	bool whole = true;

	printf("{\"id\":\"%" PRIu64 "\",\"state\":\"%s\",\"arrival_us\":%" PRIu64 ",\"size\":%" PRIu64
	       ",\"left\":%" PRIu32 ",\"all\":%" PRIu32,
	       m->id, message_state(b), m->arrival_us, m->size, b->left, b->rcpts);
	printf(",\"position\":%" PRIu64 ",\"segment\":%" PRIu64 ",\"uid\":%" PRIu32 ",\"pid\":%" PRIu32
	       ",\"parent\":\"%" PRIu64 "\",\"kind\":\"%s\",\"sender\":",
	       m->pos, m->pos / l->tool.segment_size, m->uid, m->pid, m->parent,
	       m->kind == SUBMIT_BOUNCE ? "bounce" : m->kind == SUBMIT_LOCAL ? "local" : "network");
	print_json(stdout, m->sender);
	if (l->recipients) {
		fputs(",\"recipients\":[", stdout);
		l->some = false;
		whole = mail_index_rcpts(x, i, show_rcpt, l);
		fputs(whole ? "]" : "],\"damaged\":true", stdout);
	}
	l->unreadable += !whole;
	puts("}");
}

static void show_text(struct ls *l, struct mail_index *x, size_t i, const struct mail_record *m,
		      const struct mail_brief *b)
{
	char when[WHEN_MAX];

	printf("%-14" PRIu64 " %-7s %5" PRIu32 "/%-5" PRIu32 " %10" PRIu64 "  %.19s  <", m->id,
	       message_state(b), b->left, b->rcpts, m->size, when_text(when, m->arrival_us));
	print_plain(stdout, m->sender);
	puts(">");
	if (l->recipients && !mail_index_rcpts(x, i, show_rcpt, l)) {
		puts("           recipients are missing: damaged");
		l->unreadable++;
	}
}

static void list_one(struct ls *l, struct mail_index *x, size_t i)
{
	struct mail_brief b = mail_index_brief(x, i);
	bool queued = b.queued && b.left;
	struct mail_record m;

	if (!(l->state & (queued ? WANT_QUEUED : WANT_DONE)))
		return;
	if (l->filter.id && l->filter.id != b.id)
		return;
	if (!mail_index_at(x, i, &m)) {
		/* Beside a running journald its segment may be used again by now; it was over then. */
		if (!l->tool.running || queued) {
			l->unreadable++;
			quire_say(0, l->tool.verb, "%" PRIu64 ": can't be read any more", b.id);
		}
		return;
	}
	if (!mail_filter_takes(&l->filter, &m))
		return;
	if (mail_filter_has_rcpt(&l->filter)) {
		l->matches = false;
		mail_index_rcpts(x, i, match_rcpt, l);
		/* what was read for the recipients leaves the envelope where it was */
		if (!l->matches)
			return;
	}
	if (l->tool.json)
		show_json(l, x, i, &m, &b);
	else
		show_text(l, x, i, &m, &b);
}

static int list(struct ls *l)
{
	uint64_t damage = 0;
	struct mail_index *x = mail_index_new(&l->tool, &damage);

	if (!x)
		return EXIT_TRY_AGAIN;
	for (size_t i = 0; i < mail_index_n(x); i++)
		list_one(l, x, i);
	mail_index_free(x);
	if (fflush(stdout) != 0 || ferror(stdout))
		return quire_say(EXIT_TRY_AGAIN, l->tool.verb, "standard output: %s", strerror(errno));
	if (damage || l->unreadable)
		return quire_say(EXIT_DAMAGE, l->tool.verb,
				 "the journal is damaged in %" PRIu64 " places: quire journal verify says where",
				 damage + l->unreadable);
	return EXIT_FINE;
}

static bool take_state(struct ls *l, const char *arg)
{
	l->state = strcmp(arg, "queued") == 0 ? WANT_QUEUED : strcmp(arg, "done") == 0 ? WANT_DONE : WANT_ALL;
	return l->state != WANT_ALL || strcmp(arg, "all") == 0;
}

int journal_ls(int argc, char **argv)
{
	static const struct option options[] = {JOURNAL_TOOL_OPTIONS, MAIL_FILTER_OPTIONS,
						{"state", required_argument, NULL, 'a'},
						{"recipients", no_argument, NULL, 'R'},
						{0}};
	struct ls l = {.tool = {.verb = argv[0]}, .state = WANT_QUEUED};
	const char *why;
	int c, code;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c == 'h')
			return puts(help) < 0;
		if (c == 'R')
			l.recipients = true;
		else if (c == 'a' && !take_state(&l, optarg))
			return quire_say(EXIT_WRONG, l.tool.verb, "--state queued, done or all");
		else if (c != 'a' && mail_filter_option(&l.filter, c, optarg, &why) && why)
			return quire_say(EXIT_WRONG, l.tool.verb, "%s: %s", optarg, why);
		else if (c == '?' || c == ':')
			return EXIT_WRONG;
		else if (strchr("HDSJQ", c) && !journal_tool_option(&l.tool, c, optarg))
			return EXIT_WRONG;
	}
	if (optind < argc)
		return quire_say(EXIT_WRONG, l.tool.verb, "no arguments are taken: %s", argv[optind]);
	code = journal_tool_open(&l.tool, false, true);
	if (!code)
		code = list(&l);
	journal_tool_close(&l.tool);
	return code;
}
