/* What all verbs of quire share: which home, is it running, how to complain. */
#include "tools/quire.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <unistd.h>

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
