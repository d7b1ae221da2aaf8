/* smtpd - the driver around smtp.c: connections, limits, deadlines, the journal's client.
 *
 * A connection costs one struct session and its stream; what a transaction needs is taken at
 * MAIL from a list of spare ones and goes back after the answer.  Tests use new/attach/listen;
 * the program is smtpd_run(). */
#ifndef SMTP_SMTPD_H
#define SMTP_SMTPD_H

#include "mail/control.h"
#include "mail/counters.h"
#include "mail/role.h"

/* 8 MiB for all connections of a process; idle ones hold none */
#define SMTPD_RECV_BUFS  512
/* transactions open at once: no more than connections */
#define SMTPD_MAILS_MAX  COUNTERS_MAX
/* packed recipients of one message: a million and more */
#define SMTPD_RCPTS_BYTES_MAX (64 * 1024 * 1024)
/* transactions kept ready, each with at most two pages */
#define SMTPD_SPARE_MAX  256

struct loop;
struct smtpd;
/* Everything given is borrowed; morercpthosts_fd: -1 if there is none. */
struct smtpd *smtpd_new(struct loop *l, const struct control *c, struct counters *counters,
                        unsigned column, int morercpthosts_fd);
void          smtpd_attach(struct smtpd *d, int journald_fd);
void          smtpd_listen(struct smtpd *d, int fd);
void          smtpd_take(struct smtpd *d, int fd); /* a connection, as if accepted */
/* Takes nothing new; calls over() from the loop, once, when the last connection has gone. */
void          smtpd_drain(struct smtpd *d, void (*over)(void *ctx), void *ctx);
uint32_t      smtpd_sessions(const struct smtpd *d);
void          smtpd_free(struct smtpd *d);        /* after over() */

void          smtpd_run(struct role *r);          /* until start says DRAIN and all is done */

#endif
