/* attempt - one task from its arrival to its results: where, by what, and what if not there.
 *
 * The hosts of the destination are tried in their order (mx.h).  Which trouble goes on to the
 * next host, and which is the result:
 *
 *   no connection (refused, unreachable, timed out)        SMTP: the next host
 *                                                          QMTP: the same address by SMTP, then the next
 *   an address that timed out twice lately                 is skipped, as if not connected
 *   SMTP: a greeting that is not 220; EHLO and HELO
 *     refused; no SMTP at all; lost before MAIL            the next host
 *   SMTP: anything from the answer to MAIL on              the result
 *   QMTP: anything once it is connected                    the result
 *   a kept connection lost, or closed by 421, before
 *     it answered anything of this task                    the same host, on a fresh connection
 *
 * qmail stays with the first host that can be connected (docs/qmail.md 9.9); we go on as long
 * as no server can have taken the message.  With no host left, the last one's trouble is the
 * result, a deferral: nothing that happens before MAIL fails a message for good. */
#ifndef REMOTE_ATTEMPT_H
#define REMOTE_ATTEMPT_H

#include "remote/bodies.h"
#include "remote/conn.h"
#include "remote/mx.h"

/* dead kept connections in a row: then the host counts as dead */
#define ATTEMPT_AGAIN_MAX 3

struct attempt {
	struct net            *net;
	const struct mx_world *world;
	struct task           *task;
	struct body_reader     reader;
	struct rider           rider;
	struct mx_find         find;
	struct mx_list        *list;
	struct link            link;              /* the owner's */
	unsigned               at, again;
	/* the QMTP host at `at` could not be connected */
	bool                   by_smtp;
	void                 (*over)(struct attempt *a);
};

/* Takes the task; over() comes from the loop, once, with every recipient settled. */
void attempt_start(struct attempt *a, struct net *n, const struct mx_world *w, struct bodies *b,
                   struct task *t, void (*over)(struct attempt *a));
/* frees the task, too; it must not be on a connection */
void attempt_fini(struct attempt *a);
/* Gives up what has no connection yet: everybody is deferred, over() is not called. */
void attempt_abandon(struct attempt *a);

#endif
