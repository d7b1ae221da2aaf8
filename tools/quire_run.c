/* quire start, quire stop - quire-start in the foreground, or behind a pipe that says "ready".
 */
#include "core/file.h"
#include "tools/quire.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define STOP_POLL_US 20000

/* quire-start lies beside us. */
static bool start_path(char *dst, size_t cap)
{
	static const char name[] = "/quire-start";
	ssize_t n = readlink("/proc/self/exe", dst, cap - sizeof name);
	char *slash;

	if (n < 0)
		return false;
	dst[n] = '\0';
	slash = strrchr(dst, '/');
	if (!slash)
		return false;
	memcpy(slash, name, sizeof name);
	return true;
}

/* In the child that will be quire-start: a session of its own, the log in a file. */
_Noreturn static void run_detached(const char *program, const char *home, const char *log,
				   int ready)
{
	char fd[16], path[4096];
	char *argv[] = {(char *)program, "--home", (char *)home, "--ready-fd", fd, NULL};
	int out;

	if (!log && snprintf(path, sizeof path, "%s/run/log", home) < (int)sizeof path)
		log = path;
	out = log ? open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644) : -1;
	if (out < 0) {
		dprintf(ready, "%s: %s", log ? log : home, strerror(errno));
		_exit(111);
	}
	setsid();
	/* Nobody who waits for the end of our output may wait for the daemons. */
	dup2(open("/dev/null", O_RDONLY), 0);
	dup2(out, 1);
	dup2(out, 2);
	fd_cloexec(ready, false);
	snprintf(fd, sizeof fd, "%d", ready);
	execv(program, argv);
	dprintf(ready, "%s: %s", program, strerror(errno));
	_exit(111);
}

/* 0 when it accepts mail; else 111 and its own words why not. */
static int detach(const char *program, const char *home, const char *log)
{
	char line[2048];
	size_t n = 0;
	int pipefd[2];
	pid_t pid;

	if (pipe2(pipefd, O_CLOEXEC) < 0)
		return quire_say(111, "start", "pipe: %s", strerror(errno));
	pid = fork();
	if (pid < 0)
		return quire_say(111, "start", "fork: %s", strerror(errno));
	if (pid == 0)
		run_detached(program, home, log, pipefd[1]);
	close(pipefd[1]);
	while (n < sizeof line - 1) {
		ssize_t got = read(pipefd[0], line + n, sizeof line - 1 - n);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			break;
		n += (size_t)got;
		line[n] = '\0';
		if (strcmp(line, "ready") == 0)
			return 0;
	}
	line[n] = '\0';
	return quire_say(111, "start", "%s",
			 n ? line : "ended before it accepted mail; the log says why");
}

int quire_start(int argc, char **argv)
{
	static const struct option options[] = {{"home", required_argument, NULL, 'H'},
						{"detach", no_argument, NULL, 'd'},
						{"log", required_argument, NULL, 'l'},
						{"help", no_argument, NULL, 'h'},
						{0}};
	const char *home = NULL, *log = NULL;
	char program[4096];
	bool detached = false;
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1)
		switch (c) {
		case 'H': home = optarg; break;
		case 'd': detached = true; break;
		case 'l': log = optarg; break;
		case 'h':
			puts("usage: quire start [--home DIR] [--detach [--log FILE]]\n"
			     "Runs until TERM, logging to stderr.  --detach returns 0 as soon "
			     "as it accepts mail, or 111 and\n"
			     "why it can't; the log then goes to FILE (default DIR/run/log).  "
			     "Signals: TERM finishes current\n"
			     "deliveries, HUP rereads control files, ALRM tries everything "
			     "now.");
			return 0;
		default: return 100;
		}
	home = quire_home(home);
	if (!start_path(program, sizeof program))
		return quire_say(111, "start", "/proc is needed to find quire-start");
	if (log && !detached)
		return quire_say(
			100, "start",
			"--log goes with --detach; in the foreground the log is stderr");
	if (detached)
		return detach(program, home, log);
	execl(program, program, "--home", home, (char *)NULL);
	return quire_say(111, "start", "%s: %s", program, strerror(errno));
}

int quire_stop(int argc, char **argv)
{
	static const struct option options[] = {{"home", required_argument, NULL, 'H'},
						{"now", no_argument, NULL, 'n'},
						{"help", no_argument, NULL, 'h'},
						{0}};
	const char *home = NULL;
	bool now = false;
	long pid;
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1)
		switch (c) {
		case 'H': home = optarg; break;
		case 'n': now = true; break;
		case 'h':
			puts("usage: quire stop [--home DIR] [--now]\n"
			     "Takes no new mail, waits for running deliveries, ends; returns "
			     "when all is gone.\n"
			     "--now does not wait: nothing is lost, what was on its way is "
			     "sent again.");
			return 0;
		default: return 100;
		}
	home = quire_home(home);
	pid = quire_running(home);
	if (pid < 0)
		return quire_say(111, "stop", "%s: %s", home, strerror(errno));
	if (pid == 0)
		return quire_say(100, "stop", "%s: quire is not running", home);
	if (kill((pid_t)pid, SIGTERM) < 0)
		return quire_say(111, "stop", "process %ld: %s", pid, strerror(errno));
	while (quire_running(home) == pid) {
		usleep(STOP_POLL_US);
		if (now && kill((pid_t)pid, SIGTERM) < 0)
			break;
	}
	return 0;
}
