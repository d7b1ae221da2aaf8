#include "tools/quire.h"

#include "core/check.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* quire-bench lies beside this program; it is one of its own, so that it can be left out of a
 * package. */
static int run_bench(int argc, char **argv)
{
	char path[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - sizeof("-bench"));

	if (n < 0) {
		perror("quire: /proc/self/exe");
		return 111;
	}
	memcpy(path + n, "-bench", sizeof("-bench"));
	argv[0] = path;
	execv(path, argv);
	fprintf(stderr, "quire: %s: %m\n", path);
	return 111;
}

static const struct {
	const char *name, *what;
	int (*run)(int argc, char **argv);
} verbs[] = {
	{"init", "make a home: control files, users, directories; never overwrites",
	 quire_init},
	{"start", "run the mail system in the foreground, or with --detach", quire_start},
	{"stop", "finish current deliveries, end everything", quire_stop},
	{"status", "what is running, how the journal does, how much is queued", quire_status},
	{"queue", "the messages in the queue", quire_queue},
	{"journal", "look into the journal, check it, get mail out of it", quire_journal},
	{"bench", "measure: the journal, the scheduler, a server (quire-bench)", run_bench},
};

static int usage(FILE *to, int code)
{
	fputs("usage: quire VERB [--home DIR] [OPTIONS]\n", to);
	for (size_t i = 0; i < ARRAY_N(verbs); i++)
		fprintf(to, "  %-8s %s\n", verbs[i].name, verbs[i].what);
	fputs("quire VERB --help says more.  The home is --home, else $QUIRE_HOME, else\n"
	      "/var/qmail.\n",
	      to);
	return code;
}

int main(int argc, char **argv)
{
	if (argc < 2)
		return usage(stderr, 100);
	if (strcmp(argv[1], "--version") == 0)
		return puts("quire " QUIRE_VERSION) < 0;
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "help") == 0)
		return usage(stdout, 0);
	for (size_t i = 0; i < ARRAY_N(verbs); i++)
		if (strcmp(argv[1], verbs[i].name) == 0)
			return verbs[i].run(argc - 1, argv + 1);
	fprintf(stderr, "quire: no such verb: %s\n", argv[1]);
	return usage(stderr, 100);
}
