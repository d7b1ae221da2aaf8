#include "tools/quire.h"

#include "core/check.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

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
};

const char *quire_home(const char *option)
{
	const char *env = getenv("QUIRE_HOME");

	return option ? option : env && *env ? env : "/var/qmail";
}

int quire_say(int code, const char *verb, const char *fmt, ...)
{
	va_list ap;

	fprintf(stderr, "quire %s: ", verb);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	return code;
}

/* The lock says whether start runs, the file's text only who it is. */
long quire_running(const char *home)
{
	char path[4096], text[32];
	ssize_t n;
	int fd;

	if (snprintf(path, sizeof path, "%s/run/start.pid", home) >= (int)sizeof path) {
		errno = ENAMETOOLONG;
		return -1;
	}
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT && access(home, X_OK) == 0 ? 0 : -1;
	if (flock(fd, LOCK_SH | LOCK_NB) == 0) {
		close(fd);
		return 0;
	}
	n = read(fd, text, sizeof text - 1);
	close(fd);
	if (n <= 0)
		return 0;
	text[n] = '\0';
	return strtol(text, NULL, 10);
}

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
