/* cdb_tool - see the header.  The old database stays until the new one is whole and on the
 * disk. */
#include "tools/cdb_tool.h"

#include "core/file.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SOURCE_MAX ((size_t)1 << 30)              /* a cdb ends at 4 GiB */

static int trouble(const struct cdb_tool *t, const char *what, const char *path, int error)
{
	fprintf(stderr, "%s: %s %s: %s\n", t->name, what, path, strerror(error));
	return 111;
}

static int write_cdb(const struct cdb_tool *t, const char *home, const char *source,
		     struct span text)
{
	char tmp[PATH_MAX], target[PATH_MAX];
	const char *why = "";
	struct cdb_writer *w;
	unsigned bad;

	if (snprintf(tmp, sizeof tmp, "%s/%s", home, t->tmp) >= (int)sizeof tmp ||
	    snprintf(target, sizeof target, "%s/%s", home, t->target) >= (int)sizeof target)
		return trouble(t, "home", home, ENAMETOOLONG);
	w = cdb_writer_new(tmp);
	if (!w)
		return trouble(t, "create", tmp, errno);
	bad = t->compile(text, w, &why);
	if (bad) {
		cdb_writer_abandon(w);
		fprintf(stderr, "%s: %s:%u: %s\n", t->name, source, bad, why);
		return 111;
	}
	if (!cdb_writer_finish(w, target, 0644))
		return trouble(t, "write", target, errno);
	return 0;
}

static int run(const struct cdb_tool *t, const char *home)
{
	char source[PATH_MAX];
	struct buf text;
	int error, status;

	if (snprintf(source, sizeof source, "%s/%s", home, t->source) >= (int)sizeof source)
		return trouble(t, "home", home, ENAMETOOLONG);
	buf_init(&text, SOURCE_MAX);
	error = file_read(AT_FDCWD, source, &text);
	status = error ? trouble(t, "read", source, -error)
		       : write_cdb(t, home, source, buf_span(&text));
	buf_free(&text);
	return status;
}

static int help(const struct cdb_tool *t, FILE *to, int status)
{
	fprintf(to,
	        "usage: %s [--home DIR]\n"
	        "%s.\n"
	        "The home is --home, else $QUIRE_HOME, else /var/qmail.  --version, --help.\n",
	        t->name, t->what);
	return status;
}

int cdb_tool_run(const struct cdb_tool *t, int argc, char **argv)
{
	static const struct option options[] = {
		{"home", required_argument, NULL, 'd'},
		{"help", no_argument, NULL, 'h'},
		{"version", no_argument, NULL, 'v'},
		{NULL},
	};
	const char *home = getenv("QUIRE_HOME");
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (c) {
		case 'd': home = optarg; break;
		case 'h': return help(t, stdout, 0);
		case 'v': printf("%s (quire) %s\n", t->name, QUIRE_VERSION); return 0;
		default: return help(t, stderr, 100);
		}
	}
	if (optind < argc)
		return help(t, stderr, 100);
	return run(t, home && *home ? home : "/var/qmail");
}
