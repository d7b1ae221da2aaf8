/* role - what every daemon of ours has in common: it is a child of quire-start.
 *
 * start executes `quire-NAME --child` with descriptor 3 a wire to start, and sends HOME,
 * CONTROL, LISTENER*, FILE*, PEER*, GO.  role_begin() reads until GO, blocking.  After the loop
 * exists, role_watch() puts that wire on it.  When start is lost, the process ends: children
 * never outlive start (PR_SET_PDEATHSIG, too).
 *
 * A child ignores TERM, INT, HUP, ALRM and PIPE: start says by DRAIN when to go, also where a
 * terminal or systemd signals the whole group.  What a child executes must get them back
 * (role_signals_default()).
 *
 * A large CONTROL comes in several frames (control_piece()); start must send it so.
 *
 * Without --child the program says what it is (--help, --version) and exits 100. */
#ifndef MAIL_ROLE_H
#define MAIL_ROLE_H

#include "core/wire.h"
#include "mail/control.h"
#include "mail/msg.h"

#define ROLE_START_FD      3
#define ROLE_EXIT_WRITE    112 /* journald's when a write to the journal failed */
#define ROLE_PEERS_MAX     64
#define ROLE_LISTENERS_MAX 64 /* lines of smtplisten and qmtplisten together */

struct role_peer     { uint32_t role, index; int fd; };
struct role_listener { uint32_t kind; int fd; };

struct role;
/* NULL where a process does not want it: a peer's or file's descriptor is closed, the snapshot
 * stays the old one, DRAIN ends the process with 0. */
struct role_calls {
	/* fd is the callee's */
	void (*peer)(struct role *r, uint32_t role, uint32_t index, int fd);
	/* r->control is the new snapshot; the old one is freed after */
	void (*control)(struct role *r);
	/* also in r->files; the old one is closed after */
	void (*file)(struct role *r, uint32_t kind, int fd);
	void (*drain)(struct role *r);
	void (*retry)(struct role *r);
};
struct role {
	const char          *name;
	struct control      *control;
	char                *home;
	bool                 privileged;          /* started by root: separate users */
	bool                 latched;             /* journald: no new mail (struct msg_home) */
	uint32_t             shard, index, count;
	struct role_peer     peers[ROLE_PEERS_MAX];
	unsigned             peers_n;
	struct role_listener listeners[ROLE_LISTENERS_MAX];
	unsigned             listeners_n;
	int                  files[FILES];        /* -1: not sent */
	struct wire          start;
	struct buf           frame; /* pieces of a snapshot that is not whole yet */
	bool                 watched;
	const struct role_calls *calls;
	void                *ctx;
};

/* what: one line for --help.  Returns only in a child of start, after GO. */
void role_begin(struct role *r, const char *name, const char *what, int argc, char **argv);
void role_watch(struct role *r, struct loop *l, const struct role_calls *calls, void *ctx);
void role_ready(struct role *r);
void role_signals_default(void);                  /* in a child, before it executes a program */
/* Tells start why, in one line, and exits 111: start gives up instead of restarting. */
_Noreturn void role_trouble(struct role *r, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

#endif
