/* listen - the listening sockets, all of them held by start.
 *
 * A listener is known by its text ("127.0.0.1:25"); on HUP those that stay in the control
 * file keep their socket, so that no connection is refused in between. */
#ifndef START_LISTEN_H
#define START_LISTEN_H

#include "core/buf.h"
#include "mail/control.h"
#include "mail/ip.h"
#include "mail/role.h"

struct listener {
	uint32_t kind;
	int      fd;
	char     text[IP_TEXT_MAX];
	bool     keep;
};
struct listeners {
	struct listener v[ROLE_LISTENERS_MAX];
	unsigned        n;
};

/* Makes l what the snapshot asks for: opens what is new, closes what is gone.  false: *why is one
 * line with file and line, and l is as it was. */
bool listeners_sync(struct listeners *l, const struct control *c, struct buf *why) must_use;
/* A unix stream listener `name` in run_dir, replacing a stale one.  -1: *why says so. */
int  listen_unix(int run_dir, const char *name, unsigned mode, struct buf *why) must_use;

#endif
