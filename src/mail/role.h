/* role - what every daemon of ours has in common: it is a child of quire-start.
 *
 * start executes `quire-NAME --child` with descriptor 3 a wire to start, and sends HOME, CONTROL,
 * LISTENER*, FILE*, PEER*, GO.  role_begin() reads until GO, blocking.  After the loop exists,
 * role_watch() puts that wire on it.  When start is lost, the process ends: children never
 * outlive start (PR_SET_PDEATHSIG, too).
 *
 * Without --child the program says what it is (--help, --version) and exits 100. */
#ifndef MAIL_ROLE_H
#define MAIL_ROLE_H

#include "core/wire.h"
#include "mail/control.h"
#include "mail/msg.h"

#define ROLE_START_FD      3
#define ROLE_PEERS_MAX     64
#define ROLE_LISTENERS_MAX 64                     /* lines of smtplisten and qmtplisten together */

struct role_peer     { uint32_t role, index; int fd; };
struct role_listener { uint32_t kind; int fd; };

struct role;
struct role_calls {                               /* NULL where a process never gets it */
	void (*peer)(struct role *r, uint32_t role, uint32_t index, int fd);
	void (*control)(struct role *r);          /* r->control is the new snapshot; the old one is freed after */
	void (*file)(struct role *r, uint32_t kind, int fd);
	void (*drain)(struct role *r);
	void (*retry)(struct role *r);
};
struct role {
	const char          *name;
	struct control      *control;
	char                *home;
	bool                 privileged;          /* started by root: separate users */
	uint32_t             shard, index, count;
	struct role_peer     peers[ROLE_PEERS_MAX];
	unsigned             peers_n;
	struct role_listener listeners[ROLE_LISTENERS_MAX];
	unsigned             listeners_n;
	int                  files[FILES];        /* -1: not sent */
	struct wire          start;
	struct buf           frame;
	const struct role_calls *calls;
	void                *ctx;
};

/* what: one line for --help.  Returns only in a child of start, after GO. */
void role_begin(struct role *r, const char *name, const char *what, int argc, char **argv);
void role_watch(struct role *r, struct loop *l, const struct role_calls *calls, void *ctx);
void role_ready(struct role *r);
/* Tells start why, in one line, and exits 111: start gives up instead of restarting. */
_Noreturn void role_trouble(struct role *r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
