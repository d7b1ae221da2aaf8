#include "start/spawn.h"

#include "core/file.h"
#include "mail/role.h"
#include "start/why.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

/* a whole batch of parts; the kernel gives what it allows */
#define WIRE_SOCKET_BYTES (1024 * 1024)

bool spawn_privileged(void)
{
	unsigned inside = 0, outside = 0, count = 0;
	FILE *f;

	if (geteuid() != 0)
		return false;
	f = fopen("/proc/self/uid_map", "re");
	if (!f)
		return true;
	if (fscanf(f, "%u %u %u", &inside, &outside, &count) != 3)
		count = 2;
	fclose(f);
	return count > 1;
}

bool spawn_lookup(const struct role_spec *s, bool privileged, struct spawn_as *ret,
		  struct buf *why)
{
	const struct passwd *pw;
	const struct group *gr;

	*ret = (struct spawn_as){0};
	if (!privileged || !s->user)
		return true;
	pw = getpwnam(s->user);
	if (!pw)
		return why_not(why, "no user %s: run quire init as root", s->user);
	ret->uid = pw->pw_uid;
	gr = getgrnam(s->group);
	if (!gr)
		return why_not(why, "no group %s: run quire init as root", s->group);
	ret->gid = gr->gr_gid;
	ret->change = true;
	return true;
}

/* In the child, between fork and exec: nothing but system calls, and the exit code says where.
 */
_Noreturn static void become(const char *path, const struct spawn_as *as, int sock)
{
	char *const argv[] = {(char *)path, (char *)"--child", NULL};
	sigset_t none;
	int null = open("/dev/null", O_RDONLY | O_CLOEXEC);

	if (null < 0 || dup2(null, 0) < 0 || dup2(2, 1) < 0)
		_exit(120);
	/* dup2() onto itself would leave close-on-exec set. */
	if (sock == ROLE_START_FD)
		fd_cloexec(sock, false);
	else if (dup2(sock, ROLE_START_FD) < 0)
		_exit(120);
	if (as->change &&
	    (setgroups(1, &as->gid) < 0 || setgid(as->gid) < 0 || setuid(as->uid) < 0))
		_exit(121);
	if (as->change && (getuid() != as->uid || geteuid() != as->uid || setuid(0) == 0))
		_exit(121);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	execv(path, argv);
	_exit(122);
}

pid_t spawn_child(const char *bin_dir, const struct role_spec *s, const struct spawn_as *as,
		  int *ret_sock)
{
	char path[4096];
	int pair[2], size = WIRE_SOCKET_BYTES, saved;
	pid_t pid;

	if (snprintf(path, sizeof path, "%s/quire-%s", bin_dir, s->name) >= (int)sizeof path)
		return -ENAMETOOLONG;
	if (access(path, X_OK) < 0)
		return -errno;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return -errno;
	setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
	pid = fork();
	if (pid == 0)
		become(path, as, pair[1]);
	saved = errno;
	close(pair[1]);
	if (pid < 0) {
		close(pair[0]);
		return -saved;
	}
	*ret_sock = pair[0];
	return pid;
}
