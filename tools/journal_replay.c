/* quire journal replay - deliver again what lies in the journal: in history, or done in the queue.
 *
 * As originally routed: each message is submitted anew to the running quire, by root, who may say of which
 * message it is a replay (mail/submit.h).  It gets a new id, its arrival is now, and its bytes,
 * sender and recipients are what they were; the log says "replay msg NEW: of msg OLD", and its MSG has the
 * old id among its extras, so that what was done by accident can be found.
 *
 * With --to the messages go to that host at once, by SMTP, past quire: nothing is queued, and the
 * results are printed.
 *
 * What goes wrong: a message that is damaged is named and left out; one that quire does not take
 * now (queue full) is tried again for LATER_TRIES seconds, then all ends, and what was done was
 * printed; a recipient that the host refuses is printed, and the exit code is 99. */
#include "tools/quire_journal.h"

#include "core/clock.h"
#include "mail/control.h"
#include "mail/envelope.h"
#include "mail/route.h"
#include "mail/submit.h"
#include "tools/quire.h"
#include "tools/replay_smtp.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#define WHY_MAX     1024
#define RCPTS_MAX   (1024u * 1024 * 1024)         /* packed recipients of one message */
#define BODY_MAX    (4ull * 1024 * 1024 * 1024)   /* with --to: a message is held in memory */
#define LATER_TRIES 600                           /* a second each */

static const char help[] =
	"usage: quire journal replay FILTER... [--to HOST[:PORT]] [--dry-run] [--unfinished] [--replays]\n"
	"        [--home DIR] [--dir JOURNAL] [--shard N] [--json] [--quiet]\n"
	"FILTER: --since T, --until T (of arrival), --sender P, --rcpt P, --domain P, --id N, as in quire\n"
	"journal ls; at least one.  Delivers the messages that fit again, to those of their recipients that\n"
	"fit and had been done: through the running quire of --home, as mail of their own; with --to to\n"
	"HOST by SMTP, past the queue.  --dir reads another journal, a copy for instance.\n"
	"--dry-run: only says what would be done.  --unfinished: also to recipients that are still in the\n"
	"queue.  --replays: also messages that are replays themselves.\n"
	"Exit: 0 all of it, 99 some were damaged or refused and are named, 100 wrong use, 111 not now.";

struct replay {
	struct journal_tool tool;
	struct mail_filter  filter;
	const char         *to;
	bool                dry_run, unfinished, replays;
	char                socket[4096];
	struct control     *control;
	struct rewriter    *rewriter;
	struct replay_smtp *smtp;
	struct mail_index  *index;
	/* of the message at hand */
	struct mail_record  m;
	struct buf          packed, body;
	uint32_t            rcpts;
	bool                too_many;
	struct submit       submit;
	/* all together */
	uint64_t            messages, recipients, refused, deferred, damaged;
};

/* ---- which recipients */

static void on_rcpt(void *ctx, uint32_t number, struct span addr, unsigned flags, enum rcpt_state s)
{
	struct replay *r = ctx;
	bool           fits = s == RCPT_DONE || s == RCPT_UNKNOWN || r->unfinished;

	if (!fits || !mail_filter_wants_rcpt(&r->filter, addr))
		return;
	/* It will be rewritten when it is delivered; an import's was already. */
	if (flags & REC_REWRITTEN && flags & REC_LOCAL && r->rewriter)
		addr = rewriter_strip(r->rewriter, addr);
	r->too_many |= !packed_add(&r->packed, addr);
	r->rcpts++;
}

/* What stands behind the fixed part of a MSG (format.h). */
static bool is_replay(const struct mail_record *m)
{
	struct msg_view v = {.m = m->msg};
	size_t          skip = sizeof(*m->msg) + 8ul * (m->msg->body_parts + m->msg->rcpt_parts) +
		      sizeof(struct msg_range) * m->msg->settles_n + m->msg->sender_n;
	struct span     of;

	v.extra = span_of((const char *)m->msg + skip, m->msg->extra_n);
	return msg_extra(&v, EXTRA_REPLAY, &of);
}

/* ---- what is said */

static void say_rcpts(const struct replay *r)
{
	struct span packed = buf_span(&r->packed), addr;
	bool        some = false;

	while (packed_next(&packed, &addr)) {
		if (r->tool.json) {
			fputs(some ? "," : "", stdout);
			print_json(stdout, addr);
		} else {
			fputs(" <", stdout);
			print_plain(stdout, addr);
			putchar('>');
		}
		some = true;
	}
}

/* new_id 0: it was not queued. */
static void say_mail(const struct replay *r, const char *what, uint64_t new_id)
{
	if (!r->tool.json) {
		printf("%s %" PRIu64, what, r->m.id);
		if (new_id)
			printf(" as %" PRIu64, new_id);
		fputs(" from <", stdout);
		print_plain(stdout, r->m.sender);
		fputs("> to", stdout);
		say_rcpts(r);
		putchar('\n');
		return;
	}
	printf("{\"event\":\"%s\",\"id\":\"%" PRIu64 "\"", what, r->m.id);
	if (new_id)
		printf(",\"new\":\"%" PRIu64 "\"", new_id);
	printf(",\"arrival_us\":%" PRIu64 ",\"size\":%" PRIu64 ",\"sender\":", r->m.arrival_us, r->m.size);
	print_json(stdout, r->m.sender);
	fputs(",\"recipients\":[", stdout);
	say_rcpts(r);
	puts("]}");
}

static void say_damaged(struct replay *r, uint64_t id)
{
	r->damaged++;
	quire_say(0, r->tool.verb, "message %" PRIu64 " is damaged: left out", id);
	if (r->tool.json)
		printf("{\"event\":\"damaged\",\"id\":\"%" PRIu64 "\"}\n", id);
}

/* ---- through quire */

static bool to_submit(void *ctx, struct span bytes)
{
	struct replay *r = ctx;

	return submit_body(&r->submit, bytes);
}

static void put_envelope(struct replay *r)
{
	struct span packed = buf_span(&r->packed), addr;

	(void)submit_sender(&r->submit, r->m.sender);
	while (packed_next(&packed, &addr))
		(void)submit_rcpt(&r->submit, addr);
}

static int submit_once(struct replay *r, size_t i, bool *ret_damaged)
{
	uint64_t bad;

	submit_begin(&r->submit, r->socket);
	r->submit.replay_of = r->m.id;
	*ret_damaged = !mail_index_body(r->index, i, to_submit, r, &bad) && r->submit.code == 0;
	if (*ret_damaged || r->submit.code) {
		int code = r->submit.code;

		submit_cancel(&r->submit);
		return code;
	}
	put_envelope(r);
	return submit_send(&r->submit);
}

/* 0, or an exit code: then nothing more is taken. */
static int through_quire(struct replay *r, size_t i)
{
	bool damaged;
	int  code = SUBMIT_LATER;

	for (int tries = 0; tries < LATER_TRIES && code == SUBMIT_LATER; tries++) {
		if (tries > 0)
			sleep(1);
		code = submit_once(r, i, &damaged);
	}
	if (damaged) {
		say_damaged(r, r->m.id);
		return 0;
	}
	if (code)
		return quire_say(EXIT_TRY_AGAIN, r->tool.verb, "message %" PRIu64 ": %s: %s", r->m.id, r->socket,
				 r->submit.text);
	say_mail(r, "replayed", r->submit.id);
	return 0;
}

/* ---- to a host */

static bool to_memory(void *ctx, struct span bytes)
{
	struct replay *r = ctx;

	return buf_add(&r->body, bytes);
}

static void on_result(void *ctx, uint32_t i, unsigned outcome, struct span text)
{
	struct replay *r = ctx;
	struct span    packed = buf_span(&r->packed), addr = SPAN_NONE;
	const char    *name = outcome_name(outcome);

	for (uint32_t k = 0; k <= i; k++)
		(void)packed_next(&packed, &addr);
	r->refused += outcome == OUTCOME_FAILED;
	r->deferred += outcome != OUTCOME_FAILED && outcome != OUTCOME_DELIVERED;
	if (r->tool.json) {
		printf("{\"event\":\"%s\",\"id\":\"%" PRIu64 "\",\"recipient\":", name ? name : "unknown", r->m.id);
		print_json(stdout, addr);
		fputs(",\"text\":", stdout);
		print_json(stdout, span_trim_end(text, "\n"));
		puts("}");
		return;
	}
	printf("%s %" PRIu64 " to <", name ? name : "unknown", r->m.id);
	print_plain(stdout, addr);
	fputs(">: ", stdout);
	print_plain(stdout, span_trim_end(text, "\n"));
	putchar('\n');
}

static int to_host(struct replay *r, size_t i)
{
	struct replay_mail mail = {.id = r->m.id, .sender = r->m.sender, .packed = buf_span(&r->packed),
				   .rcpts = r->rcpts};
	struct buf         why;
	uint64_t           bad;
	int                code = 0;

	buf_clear(&r->body);
	if (!mail_index_body(r->index, i, to_memory, r, &bad)) {
		say_damaged(r, r->m.id);
		return 0;
	}
	mail.body = buf_span(&r->body);
	buf_init(&why, WHY_MAX);
	if (!replay_smtp_send(r->smtp, &mail, on_result, r, &why))
		code = quire_say(EXIT_TRY_AGAIN, r->tool.verb, "message %" PRIu64 ": %.*s", r->m.id,
				 SPAN_ARG(buf_span(&why)));
	buf_free(&why);
	return code;
}

/* ---- all of them */

static int replay_one(struct replay *r, size_t i)
{
	struct mail_brief b = mail_index_brief(r->index, i);

	if ((r->filter.id && r->filter.id != b.id))
		return 0;
	if (!mail_index_at(r->index, i, &r->m)) {
		say_damaged(r, b.id);
		return 0;
	}
	if (!mail_filter_takes(&r->filter, &r->m) || (is_replay(&r->m) && !r->replays))
		return 0;
	buf_clear(&r->packed);
	r->rcpts = 0;
	if (!mail_index_rcpts(r->index, i, on_rcpt, r)) {
		say_damaged(r, b.id);
		return 0;
	}
	if (r->too_many)
		return quire_say(EXIT_WRONG, r->tool.verb, "message %" PRIu64 " has more recipients than fit", b.id);
	if (r->rcpts == 0)
		return 0;
	r->messages++;
	r->recipients += r->rcpts;
	if (r->dry_run) {
		say_mail(r, "would replay", 0);
		return 0;
	}
	return r->to ? to_host(r, i) : through_quire(r, i);
}

static int replay_all(struct replay *r)
{
	struct progress p;
	uint64_t        damage;
	int             code = 0;

	r->index = mail_index_new(&r->tool, &damage);
	if (!r->index)
		return EXIT_TRY_AGAIN;
	progress_begin(&p, &r->tool, "replaying", mail_index_n(r->index));
	p.unit = "messages";
	for (size_t i = 0; !code && i < mail_index_n(r->index); i++) {
		code = replay_one(r, i);
		progress_at(&p, i + 1);
	}
	progress_end(&p);
	mail_index_free(r->index);
	if (code)
		return code;
	return r->damaged || r->refused || r->deferred ? EXIT_DAMAGE : EXIT_FINE;
}

static void report(const struct replay *r)
{
	if (r->tool.json)
		printf("{\"event\":\"total\",\"dry_run\":%s,\"messages\":%" PRIu64 ",\"recipients\":%" PRIu64
		       ",\"refused\":%" PRIu64 ",\"deferred\":%" PRIu64 ",\"damaged\":%" PRIu64 "}\n",
		       r->dry_run ? "true" : "false", r->messages, r->recipients, r->refused, r->deferred, r->damaged);
	else
		printf("%s %" PRIu64 " messages to %" PRIu64 " recipients; %" PRIu64 " refused, %" PRIu64
		       " deferred, %" PRIu64 " messages damaged\n",
		       r->dry_run ? "would replay" : "replayed", r->messages, r->recipients, r->refused, r->deferred,
		       r->damaged);
}

static int prepare(struct replay *r)
{
	const char *home = quire_home(r->tool.home);
	struct buf  why;
	char        path[4096];
	int         code = 0;

	buf_init(&why, WHY_MAX);
	r->control = control_new();
	snprintf(path, sizeof(path), "%s/control", home);
	if (control_load(r->control, path, &why) == 0)
		r->rewriter = rewriter_new(r->control);
	if (snprintf(r->socket, sizeof(r->socket), "%s/run/submit", home) >= (int)sizeof(r->socket))
		code = quire_say(EXIT_WRONG, r->tool.verb, "%s: too long", home);
	else if (!r->to && !r->dry_run && quire_running(home) <= 0)
		code = quire_say(EXIT_WRONG, r->tool.verb, "%s: quire is not running: it has to take the "
				 "messages; or see --to", home);
	if (!code && r->to && !r->dry_run) {
		struct span me = control_me(r->control);

		r->smtp = replay_smtp_new(r->to, me.n ? me : SPAN("localhost"), &why);
		if (!r->smtp)
			code = quire_say(EXIT_TRY_AGAIN, r->tool.verb, "%.*s", SPAN_ARG(buf_span(&why)));
	}
	buf_free(&why);
	return code;
}

static bool has_filter(const struct mail_filter *f)
{
	return f->sender || f->id || f->since_us || f->until_us || mail_filter_has_rcpt(f);
}

static int run(struct replay *r)
{
	int code = prepare(r);

	if (!code)
		code = journal_tool_open(&r->tool, false, true);
	if (!code) {
		code = replay_all(r);
		report(r);
	}
	replay_smtp_free(r->smtp);
	rewriter_free(r->rewriter);
	control_free(r->control);
	journal_tool_close(&r->tool);
	return code;
}

/* 0, an exit code, or -1: help was given. */
static int take_option(struct replay *r, int c)
{
	const char *why;

	switch (c) {
	case 'T': r->to = optarg; return 0;
	case 'n': r->dry_run = true; return 0;
	case 'q': r->unfinished = true; return 0;
	case 'R': r->replays = true; return 0;
	case 'h': puts(help); return -1;
	}
	if (mail_filter_option(&r->filter, c, optarg, &why))
		return why ? quire_say(EXIT_WRONG, r->tool.verb, "%s: %s", optarg, why) : 0;
	return journal_tool_option(&r->tool, c, optarg) ? 0 : EXIT_WRONG;
}

int journal_replay(int argc, char **argv)
{
	static const struct option options[] = {JOURNAL_TOOL_OPTIONS, MAIL_FILTER_OPTIONS,
						{"to", required_argument, NULL, 'T'},
						{"dry-run", no_argument, NULL, 'n'},
						{"unfinished", no_argument, NULL, 'q'},
						{"replays", no_argument, NULL, 'R'},
						{0}};
	struct replay r = {.tool = {.verb = argv[0]}};
	int           c, code;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1)
		if ((code = take_option(&r, c)) != 0)
			return code < 0 ? 0 : code;
	if (optind < argc || !has_filter(&r.filter))
		return quire_say(EXIT_WRONG, r.tool.verb,
				 "which messages? --since --until --sender --rcpt --domain --id (--dry-run first)");
	buf_init(&r.packed, RCPTS_MAX);
	buf_init(&r.body, BODY_MAX);
	clock_refresh();
	code = run(&r);
	buf_free(&r.packed);
	buf_free(&r.body);
	return code;
}
