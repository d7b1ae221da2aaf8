/* front - the process of a front end: what smtpd and qmtpd do besides speaking a protocol.
 *
 * front_run() maps the shared counters, makes the server, enters the sandbox, hands over every
 * journald that start introduces, and, when that takes mail, the listening sockets; it runs the
 * loop until start says DRAIN and the server says that it is over.
 *
 * Who listens before journald has said that it takes mail must send the first clients away.
 * So a front end waits for that, but no longer than FRONT_PATIENCE_MS: clients would rather hear
 * "not now" than nothing. */
#ifndef MAIL_FRONT_H
#define MAIL_FRONT_H

#include "mail/control.h"
#include "mail/counters.h"
#include "mail/role.h"

#define FRONT_PATIENCE_MS 2000

struct front {
	enum role_kind     role;
	enum listener_kind listener;
	/* receive buffers that all connections share */
	unsigned           recv_bufs;
	void *(*make)(struct loop *l, const struct control *c, struct counters *counters,
		      unsigned column, int morercpthosts_fd);
	void  (*attach)(void *server, int journald_fd);
	void  (*listen)(void *server, int fd);
	/* told() each time that journald takes mail, or has a full disk */
	void  (*await)(void *server, void (*told)(void *ctx), void *ctx);
	void  (*drain)(void *server, void (*over)(void *ctx), void *ctx);
};

/* Returns when the last connection is gone after a DRAIN. */
void front_run(struct role *r, const struct front *f);

#endif
