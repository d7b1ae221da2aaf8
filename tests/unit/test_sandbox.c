#include "core/sandbox.h"

#include "core/log.h"
#include "core/loop.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static char dir[] = "/tmp/quire-sand-XXXXXX";
static int  abi;

static int setup(void **state)
{
	char name[64];
	int  fd;

	abi = (int)syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
	if (!mkdtemp(dir))
		return -1;
	chmod(dir, 0777);
	snprintf(name, sizeof(name), "%s/a", dir);
	fd = open(name, O_CREAT | O_WRONLY, 0666);
	fchmod(fd, 0666);
	close(fd);
	return 0;
}

static int teardown(void **state)
{
	char name[64];

	snprintf(name, sizeof(name), "%s/a", dir);
	unlink(name);
	snprintf(name, sizeof(name), "%s/b", dir);
	unlink(name);
	return rmdir(dir);
}

static bool can_open(const char *name, int flags)
{
	char path[64];
	int  fd;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(name[0] == '/' ? name : path, flags, 0600);
	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

static bool can_connect(int fd)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(1), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};

	return connect(fd, (struct sockaddr *)&to, sizeof(to)) == 0 || errno == ECONNREFUSED;
}

static int tcp(void)
{
	return socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
}

/* In a child, for there is no way back. Its exit status is the number of the failed line. */
#define want(cond)                                                                          \
	do                                                                                  \
		if (!(cond))                                                                \
			_exit(__LINE__ % 250 + 1);                                          \
	while (0)

static void in_child(void (*f)(void), uid_t uid)
{
	int   status;
	pid_t pid;

	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		if (uid && setuid(uid) < 0)
			_exit(255);
		f();
		_exit(0);
	}
	waitpid(pid, &status, 0);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

static void server(void)
{
	struct loop *l = loop_new(LOOP_AUTO, 2);

	sandbox_enter(SANDBOX_NET_SERVER, NULL);
	want(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1);
#ifndef QUIRE_SANITIZED
	want(prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 0);
#endif
	if (abi >= 1) {
		want(!can_open("a", O_RDONLY) && !can_open("b", O_CREAT | O_WRONLY));
		want(!can_open("/etc/passwd", O_RDONLY) && !can_open("/", O_RDONLY | O_DIRECTORY));
		want(execl("/bin/true", "true", NULL) < 0 && errno == EACCES);
	}
	if (abi >= 4)
		want(!can_connect(tcp()));
	loop_free(l);
}

static void client(void)
{
	struct sockaddr_in from = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int                fd = tcp();

	sandbox_enter(SANDBOX_NET_CLIENT, NULL);
	want(bind(fd, (struct sockaddr *)&from, sizeof(from)) == 0);
	want(can_connect(fd));
	if (abi >= 1)
		want(!can_open("a", O_RDONLY));
}

static void journal(void)
{
	char name[64], other[64];

	sandbox_enter(SANDBOX_JOURNAL, dir);
	want(can_open("a", O_RDWR) && can_open("b", O_CREAT | O_RDWR | O_EXCL));
	want(can_open(".", O_RDONLY | O_DIRECTORY));
	snprintf(name, sizeof(name), "%s/b", dir);
	snprintf(other, sizeof(other), "%s/c", dir);
	want(rename(name, other) == 0);
	want(truncate(other, 10) == 0);
	want(unlink(other) == 0);
	if (abi >= 1)
		want(!can_open("/etc/passwd", O_RDONLY));
	if (abi >= 4)
		want(!can_connect(tcp()));
}

static void queue(void)
{
	sandbox_enter(SANDBOX_QUEUE, dir);
	want(can_open("a", O_RDONLY));
	if (abi >= 1)
		want(!can_open("a", O_WRONLY) && !can_open("b", O_CREAT | O_WRONLY));
}

static void local(void)
{
	sandbox_enter(SANDBOX_LOCAL, NULL);
	want(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 0);
	want(can_open("a", O_RDWR) && can_open("/etc/passwd", O_RDONLY));
}

static int noted;
static void note(void *ctx, struct span line)
{
	noted++;
}

static void missing_directory(void)
{
	log_capture(note, NULL);
	sandbox_enter(SANDBOX_QUEUE, "/nowhere/at/all");
	want(abi < 1 || noted == 1);
}

static void each_kind(uid_t uid)
{
	in_child(server, uid);
	in_child(client, uid);
	in_child(journal, uid);
	in_child(queue, uid);
	in_child(local, uid);
	in_child(missing_directory, uid);
}

static void each_kind_as_we_are(void **state)
{
	each_kind(0);
}

static void each_kind_unprivileged(void **state)
{
	if (getuid() == 0)
		each_kind(65534);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_kind_as_we_are),
		cmocka_unit_test(each_kind_unprivileged),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
