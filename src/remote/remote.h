/* remote - quire-remote: takes tasks from quire-sched and delivers them by SMTP and QMTP.
 *
 * sched: AGENT first, then DELIVER and CLOSE in, VERDICT out, one for each DELIVER, with a
 * result for every recipient.  body/i: PARTDATA and BODYFAIL in, WANT out.  When sched is lost,
 * everything under way is dropped: a message whose final dot has not left is not delivered,
 * and sched will rebuild its queue and say again what is to be done.
 *
 * Tests use new/configure/sched/body; the program is remote_run(). */
#ifndef REMOTE_REMOTE_H
#define REMOTE_REMOTE_H

#include "core/loop.h"
#include "mail/control.h"
#include "mail/role.h"

#define REMOTE_TASKS_MAX   16384                  /* at once, in a process */
/* processes that give us bodies, ROLE_PEERS_MAX */
#define REMOTE_BODIES      64
#define REMOTE_FDS_BESIDES 512                    /* wires, DNS sockets, what libraries open */
#define REMOTE_RECV_BUFS   256                    /* 4 MiB: answers are short */

struct remote_config {                            /* zero: the real thing */
	unsigned    tasks_max, conns_max;
	uint16_t    smtp_port, qmtp_port;         /* of exchangers and literals */
	unsigned    dns_try_ms;
	uint64_t    connect_ms, talk_ms, gap_ms;  /* instead of control files and constants */
	uint64_t    keep_smtp_ms, keep_qmtp_ms;
	struct span resolv_conf;                  /* the bytes of /etc/resolv.conf */
};

struct remote;
struct remote *remote_new(struct loop *l, const struct remote_config *cf,
		const struct control *c);
/* for what comes from now on */
void           remote_configure(struct remote *r, const struct control *c);
void           remote_sched(struct remote *r, int fd);       /* an older one is dead */
void           remote_body(struct remote *r, unsigned index, int fd);
/* Takes nothing new; calls over() from the loop when the last task is done. */
void           remote_drain(struct remote *r, void (*over)(void *ctx), void *ctx);
unsigned       remote_tasks(const struct remote *r);
/* Drops everything; then the loop must run until gone() is called, from the loop. */
void           remote_free(struct remote *r, void (*gone)(void *ctx), void *ctx);

void           remote_run(struct role *role);     /* until start says DRAIN and all is done */

#endif
