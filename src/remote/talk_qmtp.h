/* talk_qmtp - QMTP seen from the client: packages out, one answer a recipient in.
 *
 * Several tasks share one connection: packages go out back to back, and answers belong to the
 * oldest package that lacks one.  The owner adds tasks while talk_qmtp_has_room(), offers what
 * arrives, calls talk_qmtp_more() when there is room in the outbuf or when bytes of a body have
 * come, and takes the tasks off `finished` after each call.  A finished task that is not settled
 * has sent nothing yet on a connection that had worked: it may go on a fresh one.  Of several tasks
 * given in a row one may end the talk; those behind it are finished at once.
 *
 * Servers that answer once a package instead of once a recipient exist (docs/qmail.md 9.22).
 * As long as we have not seen a host answer two recipients properly, nothing is sent behind a
 * package with several: an answer can never be taken for another package's.  A host whose
 * answers end early is `manners` QMTP_SHORT, to be remembered by the owner, and gets packages
 * with one recipient; answers that did not come are deferrals.
 *
 * An answer to a package that has not left yet, an answer nobody asked for, and what is no
 * netstring end the talk: what the server said before stands, the rest is deferred. */
#ifndef REMOTE_TALK_QMTP_H
#define REMOTE_TALK_QMTP_H

#include "core/outbuf.h"
#include "mail/ip.h"
#include "mail/netstring.h"
#include "remote/task.h"

/* on one connection at a time: then another is opened */
#define QMTP_TASKS_MAX    64
#define QMTP_PACKAGES_MAX 64                      /* out and not answered */
#define QMTP_RCPTS_MAX    1000                    /* in one package; more are split */
#define QMTP_ANSWER_MAX   65536                   /* longest answer we read */
#define QMTP_TEXT_MAX     5000                    /* kept of it, as of an SMTP reply */
#define QMTP_GAP_MS       60000                   /* between two answers of one package */

enum qmtp_manners { QMTP_UNKNOWN, QMTP_EACH, QMTP_SHORT };

struct qmtp_package {
	struct task *task;
	uint32_t    first, n, answered;
};

struct talk_qmtp {
	struct outbuf      *out;
	/* tasks with packages still to begin; the first one's is next */
	struct link         waiting;
	struct link         finished;             /* for the owner to take */
	struct qmtp_package package[QMTP_PACKAGES_MAX];
	uint32_t            first, n;             /* a ring; the last may still be leaving */
	uint32_t            tasks;                /* that are not finished */
	uint64_t            left;                 /* bytes of the body that is leaving */
	struct netstring    ns;
	struct buf          answer;
	uint8_t             manners;
	/* closing: no package will follow */
	bool                in_package, answered, closing, over;
	char                ip[IP_TEXT_MAX];
};

void talk_qmtp_begin(struct talk_qmtp *t, struct outbuf *out, const struct ip *ip,
		enum qmtp_manners m);
/* no task may be in it; fine on a zeroed one */
void talk_qmtp_fini(struct talk_qmtp *t);
bool talk_qmtp_has_room(const struct talk_qmtp *t);
void talk_qmtp_task(struct talk_qmtp *t, struct task *j);
void talk_qmtp_input(struct talk_qmtp *t, struct span *in);
void talk_qmtp_more(struct talk_qmtp *t);
bool talk_qmtp_is_idle(const struct talk_qmtp *t);
/* The next answer is one of several of a package: wait QMTP_GAP_MS for it only. */
bool talk_qmtp_awaits_more(const struct talk_qmtp *t);
void talk_qmtp_lost(struct talk_qmtp *t);

#endif
