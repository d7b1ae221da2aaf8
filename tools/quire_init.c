/* quire init - a home, ready to start.  What is there is kept, whatever it holds. */
#include "core/buf.h"
#include "core/file.h"
#include "mail/ip.h"
#include "start/roles.h"
#include "start/spawn.h"
#include "tools/quire.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define FILE_TEXT_MAX 65536 /* --smtp a thousand times */

struct init {
	const char *home, *me;
	struct buf smtp, qmtp;
	bool privileged;
	int dir;
	unsigned made;
};

static int run_program(char *const argv[])
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		execvp(argv[0], argv);
		_exit(127);
	}
	if (pid < 0 || waitpid(pid, &status, 0) < 0 || !WIFEXITED(status))
		return -1;
	return WEXITSTATUS(status);
}

static int need_group(const char *name)
{
	char *const argv[] = {"groupadd", "--system", (char *)name, NULL};

	if (getgrnam(name))
		return 0;
	printf("quire init: making group %s\n", name);
	fflush(stdout);
	return run_program(argv);
}

static int need_user(const char *name, const char *group, const char *home)
{
	char *const argv[] = {"useradd",           "--system",   "--no-create-home",
			      "--home-dir",        (char *)home, "--shell",
			      "/usr/sbin/nologin", "--gid",      (char *)group,
			      (char *)name,        NULL};

	if (getpwnam(name))
		return 0;
	printf("quire init: making user %s\n", name);
	fflush(stdout);
	return run_program(argv);
}

static bool make_users(const struct init *in)
{
	char alias[4200];

	snprintf(alias, sizeof alias, "%s/alias", in->home);
	if (need_group("qmail") != 0 || need_group("nofiles") != 0 ||
	    need_user("alias", "nofiles", alias) != 0)
		return false;
	for (unsigned i = 0; i < role_specs_n; i++)
		if (role_specs[i].user &&
		    need_user(role_specs[i].user, role_specs[i].group, in->home) != 0)
			return false;
	return true;
}

/* A directory, with its owner where there are several users; an existing one is left alone. */
static bool make_dir(struct init *in, const char *name, unsigned mode, const char *user,
		     const char *group)
{
	const struct passwd *pw;
	const struct group *gr;

	if (mkdirat(in->dir, name, mode) < 0)
		return errno == EEXIST;
	in->made++;
	if (!in->privileged || !user)
		return fchmodat(in->dir, name, mode, 0) == 0;
	pw = getpwnam(user);
	gr = getgrnam(group);
	return pw && gr && fchownat(in->dir, name, pw->pw_uid, gr->gr_gid, 0) == 0 &&
	       fchmodat(in->dir, name, mode, 0) == 0;
}

static bool make_file(struct init *in, const char *name, struct span text)
{
	if (faccessat(in->dir, name, F_OK, 0) == 0) {
		printf("quire init: %s is there, kept\n", name);
		return true;
	}
	in->made++;
	return file_write_atomic(in->dir, name, text, 0644) == 0;
}

static bool make_dirs(struct init *in)
{
	return make_dir(in, "control", 0755, NULL, NULL) &&
	       make_dir(in, "users", 0755, NULL, NULL) &&
	       make_dir(in, "alias", in->privileged ? 02755 : 0755, "alias", "qmail") &&
	       make_dir(in, "bin", 0755, NULL, NULL) && make_dir(in, "run", 0755, NULL, NULL) &&
	       make_dir(in, "journal", 0755, NULL, NULL) &&
	       make_dir(in, "journal/0", 0750, "qmailq", "qmail");
}

static bool make_files(struct init *in)
{
	char me[1024];

	snprintf(me, sizeof me, "%s\n", in->me);
	return make_file(in, "control/me", span_str(me)) &&
	       make_file(in, "control/locals", span_str(me)) &&
	       make_file(in, "control/rcpthosts", span_str(me)) &&
	       make_file(in, "control/smtplisten", buf_span(&in->smtp)) &&
	       make_file(in, "control/qmtplisten", buf_span(&in->qmtp)) &&
	       make_file(in, "alias/.qmail-postmaster", SPAN("./Maildir/\n")) &&
	       make_file(in, "alias/.qmail-mailer-daemon", SPAN("./Maildir/\n")) &&
	       (in->privileged || make_file(in, "alias/.qmail-default", SPAN("./Maildir/\n")));
}

static bool make_alias_maildir(struct init *in)
{
	return make_dir(in, "alias/Maildir", 0700, "alias", "nofiles") &&
	       make_dir(in, "alias/Maildir/tmp", 0700, "alias", "nofiles") &&
	       make_dir(in, "alias/Maildir/new", 0700, "alias", "nofiles") &&
	       make_dir(in, "alias/Maildir/cur", 0700, "alias", "nofiles");
}

static bool add_address(struct buf *b, const char *text, uint16_t port)
{
	struct ip ip;
	uint16_t got;

	return ip_parse_port(span_str(text), port, &ip, &got) && buf_fmt(b, "%s\n", text);
}

static bool me_is_good(const char *me)
{
	size_t n = strlen(me);

	return n > 0 && n < 256 &&
	       strspn(me,
		      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_") == n;
}

static int help(void)
{
	puts("usage: quire init --me HOST [--home DIR] [--smtp ADDR:PORT]... [--qmtp "
	     "ADDR:PORT]...\n"
	     "Makes DIR a home: control/{me,locals,rcpthosts,smtplisten,qmtplisten}, users, "
	     "alias, journal,\n"
	     "run.  As root the users that are missing are made, and it listens on all "
	     "addresses, ports 25\n"
	     "and 209; else on 127.0.0.1:2525 and 127.0.0.1:2209.  What exists is kept as it "
	     "is.");
	return 0;
}

static int make_home(struct init *in)
{
	if (mkdir(in->home, 0755) < 0 && errno != EEXIST)
		return quire_say(111, "init", "%s: %s", in->home, strerror(errno));
	in->dir = open(in->home, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (in->dir < 0)
		return quire_say(111, "init", "%s: %s", in->home, strerror(errno));
	if (in->privileged && !make_users(in))
		return quire_say(111, "init",
				 "users can't be made: groupadd or useradd failed");
	if (!make_dirs(in) || !make_files(in) || !make_alias_maildir(in))
		return quire_say(111, "init", "%s: %s", in->home, strerror(errno));
	printf("quire init: %s is a home for %s; %u files and directories made\n", in->home,
	       in->me, in->made);
	return 0;
}

int quire_init(int argc, char **argv)
{
	static const struct option options[] = {
		{"home", required_argument, NULL, 'H'}, {"me", required_argument, NULL, 'm'},
		{"smtp", required_argument, NULL, 's'}, {"qmtp", required_argument, NULL, 'q'},
		{"help", no_argument, NULL, 'h'},       {0}};
	struct init in = {.privileged = spawn_privileged()};
	const char *home = NULL;
	char path[4096];
	int c;

	buf_init(&in.smtp, FILE_TEXT_MAX);
	buf_init(&in.qmtp, FILE_TEXT_MAX);
	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1)
		switch (c) {
		case 'H': home = optarg; break;
		case 'm': in.me = optarg; break;
		case 's':
			if (!add_address(&in.smtp, optarg, 25))
				return quire_say(100, "init", "--smtp %s: not an ADDRESS:PORT",
						 optarg);
			break;
		case 'q':
			if (!add_address(&in.qmtp, optarg, 209))
				return quire_say(100, "init", "--qmtp %s: not an ADDRESS:PORT",
						 optarg);
			break;
		case 'h': return help();
		default: return 100;
		}
	if (!in.me || !me_is_good(in.me))
		return quire_say(100, "init",
				 in.me ? "--me %s: not a host name" : "--me HOST is needed%s",
				 in.me ? in.me : "");
	if (!in.smtp.n && !add_address(&in.smtp, in.privileged ? ":25" : "127.0.0.1:2525", 25))
		return 111;
	if (!in.qmtp.n &&
	    !add_address(&in.qmtp, in.privileged ? ":209" : "127.0.0.1:2209", 209))
		return 111;
	in.home = quire_home(home);
	/* useradd wants an absolute home. */
	if (in.home[0] != '/' && getcwd(path, sizeof path / 2) &&
	    strlen(in.home) < sizeof path / 2 - 2) {
		strncat(path, "/", 2);
		strncat(path, in.home, sizeof path / 2 - 2);
		in.home = path;
	}
	c = make_home(&in);
	buf_free(&in.smtp);
	buf_free(&in.qmtp);
	return c;
}
