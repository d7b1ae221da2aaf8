/* quire journal compact - asks a running quire to give up now what it would give up in time.
 *
 * The work is journald's (docs/journal.md, Compaction); this asks at run/control, shows how far it is,
 * and ends when nothing more can be given up.  A stopped journal can't be compacted: it needs sched
 * and body to say that nobody reads what goes. */
#include "tools/quire_journal.h"

#include "tools/quire.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char help[] = "usage: quire journal compact [--home DIR] [--json] [--quiet]\n"
			   "Asks the running quire to give up dead segments, and to copy what lives of nearly dead\n"
			   "ones, now.  Says what was freed.  --json: its answers as they come, one object a line.\n"
			   "Exit: 0 done, 100 wrong use or quire does not run, 111 it could not be asked.";

struct answer {
	char     event[16];
	uint64_t disk, live, segments, given_up, copied;
};

static uint64_t number(const json_t *o, const char *key)
{
	return (uint64_t)json_integer_value(json_object_get(o, key));
}

/* false: it is none, or it says why not. */
static bool understand(const char *line, struct answer *ret, const char *verb)
{
	json_error_t  why;
	json_t       *o = json_loads(line, JSON_ALLOW_NUL, &why);
	const json_t *space = json_object_get(o, "space");
	const char   *error = json_string_value(json_object_get(o, "error"));
	const char   *event = json_string_value(json_object_get(o, "event"));
	bool          ok = event != NULL;

	if (!o)
		quire_say(0, verb, "the answer is not JSON: %s", why.text);
	else if (!ok)
		quire_say(0, verb, "%s", error ? error : "the answer says nothing");
	else
		*ret = (struct answer){.disk = number(space, "disk_bytes"),
				       .live = number(space, "live_bytes"),
				       .segments = number(space, "segments"),
				       .given_up = number(space, "given_up"),
				       .copied = number(space, "compacted_bytes")};
	if (ok)
		snprintf(ret->event, sizeof(ret->event), "%s", event);
	json_decref(o);
	return ok;
}

static void report(const struct answer *a, const struct answer *b)
{
	double mib = 1 << 20;

	printf("gave up %" PRIu64 " segments, copied %.1f MiB; the journal has %" PRIu64
	       " segments, %.1f MiB of them in use, %.1f MiB live (before: %.1f MiB in use)\n",
	       b->given_up - a->given_up, (double)(b->copied - a->copied) / mib, b->segments, (double)b->disk / mib,
	       (double)b->live / mib, (double)a->disk / mib);
}

static int follow(const struct journal_tool *t, FILE *f)
{
	struct answer   first = {0}, last = {0};
	struct progress p;
	char           *line = NULL;
	size_t          cap = 0;
	bool            ok = true;

	progress_begin(&p, t, "compacting", 0);
	while (ok && strcmp(last.event, "done") != 0 && getline(&line, &cap, f) > 0) {
		ok = understand(line, &last, t->verb);
		if (ok && t->json)
			fputs(line, stdout);
		if (ok && strcmp(last.event, "begun") == 0)
			first = last;
		progress_at(&p, last.copied - first.copied);
	}
	progress_end(&p);
	free(line);
	if (!ok)
		return EXIT_TRY_AGAIN;
	if (strcmp(last.event, "done") != 0)
		return quire_say(EXIT_TRY_AGAIN, t->verb, "quire ended before it was done");
	if (!t->json)
		report(&first, &last);
	return EXIT_FINE;
}

static int run(struct journal_tool *t)
{
	const char *home = quire_home(t->home);
	long        pid = quire_running(home);
	int         fd, code;
	FILE       *f;

	if (pid < 0)
		return quire_say(EXIT_TRY_AGAIN, t->verb, "%s: %s", home, strerror(errno));
	if (pid == 0)
		return quire_say(EXIT_WRONG, t->verb,
				 "%s: quire is not running; a stopped journal can't be compacted", home);
	fd = quire_dial(home);
	f = fd < 0 ? NULL : fdopen(fd, "r");
	if (!f || write(fd, "compact\n", 8) != 8) {
		code = quire_say(EXIT_TRY_AGAIN, t->verb, "%s/run/control: %s", home, strerror(errno));
		if (f)
			fclose(f);
		else if (fd >= 0)
			close(fd);
		return code;
	}
	code = follow(t, f);
	fclose(f);
	return code;
}

int journal_compact(int argc, char **argv)
{
	static const struct option options[] = {JOURNAL_TOOL_OPTIONS, {0}};
	struct journal_tool        t = {.verb = argv[0]};
	int                        c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c == 'h') {
			puts(help);
			return EXIT_FINE;
		}
		if (!journal_tool_option(&t, c, optarg))
			return EXIT_WRONG;
	}
	if (optind < argc || t.dir)
		return quire_say(EXIT_WRONG, t.verb, t.dir ? "--dir: only a running quire can do it, see --home"
							    : "no arguments are taken");
	return run(&t);
}
