/* qmtpd - the driver around qmtp.c: connections, limits, deadlines, the journal's client.
 *
 * Three ends that the protocol does not know: QMTPD_LIFE_MS after it was accepted a connection
 * takes no more; so it does after timeoutsmtpd seconds without a byte while nothing of it is
 * under way; and over concurrencyincoming or concurrencyperip it is closed at once, for QMTP
 * has no words for that.  Packages that were complete are answered first in the former two.
 * Tests use new/attach/listen; the program is qmtpd_run(). */
#ifndef QMTP_QMTPD_H
#define QMTP_QMTPD_H

#include "mail/control.h"
#include "mail/counters.h"
#include "mail/role.h"

#define QMTPD_LIFE_MS     (3600 * 1000)           /* the protocol's hour, docs/qmail.md 6.7 */
#define QMTPD_RECV_BUFS   512                     /* 8 MiB for all connections of a process */
#define QMTPD_PARCELS_MAX (1u << 20)              /* packages under way in a process */
/* kept ready, each with at most three pages */
#define QMTPD_SPARE_MAX   1024

struct loop;
struct qmtpd;
struct qmtpd *qmtpd_new(struct loop *l, const struct control *c, struct counters *counters,
                        unsigned column, int morercpthosts_fd);
void          qmtpd_attach(struct qmtpd *d, int journald_fd);
void          qmtpd_listen(struct qmtpd *d, int fd);
void          qmtpd_take(struct qmtpd *d, int fd); /* a connection, as if accepted */
/* Takes nothing new; calls over() from the loop, once, when the last connection has gone. */
void          qmtpd_drain(struct qmtpd *d, void (*over)(void *ctx), void *ctx);
uint32_t      qmtpd_sessions(const struct qmtpd *d);
void          qmtpd_free(struct qmtpd *d);        /* after over() */

void          qmtpd_run(struct role *r);          /* until start says DRAIN and all is done */

#endif
