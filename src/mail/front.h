/* front - the process of a front end: what smtpd and qmtpd do besides speaking a protocol.
 *
 * front_run() maps the shared counters, makes the server, enters the sandbox, hands over the
 * listening sockets and every journald that start introduces, and runs the loop until start
 * says DRAIN and the server says that it is over. */
#ifndef MAIL_FRONT_H
#define MAIL_FRONT_H

#include "mail/control.h"
#include "mail/counters.h"
#include "mail/role.h"

struct front {
	enum role_kind     role;
	enum listener_kind listener;
	/* receive buffers that all connections share */
	unsigned           recv_bufs;
	void *(*make)(struct loop *l, const struct control *c, struct counters *counters,
		      unsigned column, int morercpthosts_fd);
	void  (*attach)(void *server, int journald_fd);
	void  (*listen)(void *server, int fd);
	void  (*drain)(void *server, void (*over)(void *ctx), void *ctx);
};

/* Returns when the last connection is gone after a DRAIN. */
void front_run(struct role *r, const struct front *f);

#endif
