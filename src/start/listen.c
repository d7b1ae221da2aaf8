#include "start/listen.h"

#include "core/file.h"
#include "start/why.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

/* a burst of list hosts; the kernel caps it at somaxconn */
#define LISTEN_BACKLOG 4096

/* A ring gives its sockets back some moments after its process was killed: a port that our own
 * dead still hold is free soon. */
#define BIND_TRIES   50
#define BIND_WAIT_US 20000

struct wanted {
	struct listeners *l;
	uint32_t kind;
	const char *file;
	uint16_t default_port;
	struct buf *why;
	bool bad;
};

static void blame(struct wanted *w, unsigned line, struct span entry, const char *text)
{
	if (w->bad)
		return;
	w->bad = !why_not(w->why, "control/%s:%u: %.*s: %s", w->file, line, SPAN_ARG(entry),
			  text);
}

static int try_tcp(const struct ip *ip, uint16_t port)
{
	union sockany sa;
	socklen_t n = ip_to_sockaddr(ip, port, &sa);
	int fd = socket(sa.any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int on = 1, saved;

	if (fd < 0)
		return -errno;
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0 &&
	    (ip->family == 4 ||
	     setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on) == 0) &&
	    bind(fd, &sa.any, n) == 0 && listen(fd, LISTEN_BACKLOG) == 0)
		return fd;
	saved = errno;
	close(fd);
	return -saved;
}

static int open_tcp(const struct ip *ip, uint16_t port)
{
	int fd = try_tcp(ip, port);

	for (int i = 0; i < BIND_TRIES && fd == -EADDRINUSE; i++) {
		usleep(BIND_WAIT_US);
		fd = try_tcp(ip, port);
	}
	return fd;
}

/* One address of one line: already there, or opened now. */
static void want_one(struct wanted *w, unsigned line, struct span entry, const struct ip *ip,
		     uint16_t port)
{
	struct listeners *l = w->l;
	char text[IP_TEXT_MAX], addr[IP_TEXT_MAX];
	int fd;

	snprintf(text, sizeof text, ip->family == 4 ? "%s:%u" : "[%s]:%u", ip_text(ip, addr),
		 port);
	for (unsigned i = 0; i < l->n; i++)
		if (l->v[i].kind == w->kind && strcmp(l->v[i].text, text) == 0) {
			l->v[i].keep = true;
			return;
		}
	if (l->n == ROLE_LISTENERS_MAX) {
		blame(w, line, entry, "too many addresses to listen on");
		return;
	}
	fd = open_tcp(ip, port);
	if (fd < 0) {
		blame(w, line, entry, strerror(-fd));
		return;
	}
	l->v[l->n] = (struct listener){.kind = w->kind, .fd = fd, .keep = true};
	memcpy(l->v[l->n].text, text, sizeof text);
	l->n++;
}

/* "All addresses" is two sockets; a machine without IPv6 has only the first. */
static void want_all(struct wanted *w, unsigned line, struct span entry, uint16_t port)
{
	const struct ip v4 = {.family = 4}, v6 = {.family = 6};
	int probe = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);

	want_one(w, line, entry, &v4, port);
	if (probe < 0)
		return;
	close(probe);
	if (access("/proc/net/if_inet6", R_OK) == 0)
		want_one(w, line, entry, &v6, port);
}

static void on_entry(void *ctx, struct span entry, unsigned line)
{
	struct wanted *w = ctx;
	struct ip ip;
	uint16_t port;

	if (w->bad)
		return;
	if (!ip_parse_port(entry, w->default_port, &ip, &port))
		blame(w, line, entry, "not an ADDRESS:PORT");
	else if (ip.family == 0)
		want_all(w, line, entry, port);
	else
		want_one(w, line, entry, &ip, port);
}

bool listeners_sync(struct listeners *l, const struct control *c, struct buf *why)
{
	struct wanted smtp = {l, LISTEN_SMTP, "smtplisten", 25, why, false};
	struct wanted qmtp = {l, LISTEN_QMTP, "qmtplisten", 209, why, false};
	unsigned before = l->n, kept = 0;
	bool ok;

	for (unsigned i = 0; i < l->n; i++)
		l->v[i].keep = false;
	control_list(c, smtp.file, on_entry, &smtp);
	if (!smtp.bad)
		control_list(c, qmtp.file, on_entry, &qmtp);
	ok = !smtp.bad && !qmtp.bad;
	for (unsigned i = 0; i < l->n; i++) {
		if (ok ? l->v[i].keep : i < before)
			l->v[kept++] = l->v[i];
		else
			close(l->v[i].fd);
	}
	l->n = kept;
	return ok;
}

/* bind() knows no directory descriptor and its paths are short: go there, and come back. */
int listen_unix(int run_dir, const char *name, unsigned mode, struct buf *why)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	int fd, cwd, ok = -1;

	check(strlen(name) < sizeof sa.sun_path);
	strncpy(sa.sun_path, name, sizeof sa.sun_path - 1);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	cwd = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd >= 0 && cwd >= 0 && fchdir(run_dir) == 0) {
		unlink(name);
		ok = bind(fd, (struct sockaddr *)&sa, sizeof sa);
		if (ok == 0)
			ok = chmod(name, mode);
		if (ok == 0)
			ok = listen(fd, LISTEN_BACKLOG);
		if (fchdir(cwd) < 0)
			ok = -1;
	}
	if (ok < 0)
		why_not(why, "run/%s: %s", name, strerror(errno));
	if (cwd >= 0)
		close(cwd);
	if (ok == 0)
		return fd;
	if (fd >= 0)
		close(fd);
	return -1;
}
