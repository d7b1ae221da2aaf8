/* quire journal - its verbs. */
#include "tools/quire_journal.h"

#include "tools/quire.h"

#include <string.h>

static const struct {
	const char *name, *what;
	int (*run)(int argc, char **argv);
} verbs[] = {
	{"info", "segments, spares, sizes, times", journal_info},
	{"ls", "the messages, queued or done", journal_ls},
	{"verify", "every checksum, every index, every rule; names what is wrong", journal_verify},
	{"dump", "records as text or JSON lines", journal_dump},
	{"cat", "one message, byte for byte", journal_cat},
	{"export", "messages to a Maildir, an mbox or a classic queue", journal_export},
	{"import", "the queue of a stopped qmail becomes ours", journal_import},
	{"replay", "deliver again what was delivered", journal_replay},
	{"compact", "give up now what can be given up", journal_compact},
	{"salvage", "what can be had of a damaged journal, into a new one", journal_salvage},
	{"train", "a dictionary from one's own mail, for packing it", journal_train},
};

static int usage(FILE *to, int code)
{
	fputs("usage: quire journal VERB [--home DIR | --dir JOURNAL] [--shard N] [--json] [--quiet] ...\n",
	      to);
	for (size_t i = 0; i < ARRAY_N(verbs); i++)
		fprintf(to, "  %-8s %s\n", verbs[i].name, verbs[i].what);
	fputs("quire journal VERB --help says more.  --dir names a journal's directory itself, a copy for\n"
	      "instance.  Exit: 0 fine, 99 damage was found, 100 wrong use, 111 could not be done now.\n",
	      to);
	return code;
}

int quire_journal(int argc, char **argv)
{
	char name[64];

	if (argc < 2)
		return usage(stderr, EXIT_WRONG);
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "help") == 0)
		return usage(stdout, EXIT_FINE);
	for (size_t i = 0; i < ARRAY_N(verbs); i++) {
		if (strcmp(argv[1], verbs[i].name) != 0)
			continue;
		snprintf(name, sizeof name, "journal %s", verbs[i].name);
		argv[1] = name;
		return verbs[i].run(argc - 1, argv + 1);
	}
	fprintf(stderr, "quire journal: no such verb: %s\n", argv[1]);
	return usage(stderr, EXIT_WRONG);
}
