/* qmtp - one QMTP session seen from the server: packages in, one answer a recipient out.
 *
 *   package = ns(marker text) ns(sender) ns(ns(rcpt) ns(rcpt) ...)
 *
 * marker 0x0A: lines end in LF, stored as they come; 0x0D: CR LF becomes LF, a CR that stands
 * alone stays.  A recipient is answered "K..." (taken), "Z..." (try later) or "D..." (never),
 * as a netstring, in the order given, and not before the package's last byte was here.
 *
 * Packages may follow each other without waiting: up to QMTP_FLIGHT_MAX of them may be on
 * their way to the disk at once, answered strictly in order.  What is not understood ends the
 * session without an answer of its own; packages that were complete before it keep theirs.
 *
 * The owner offers input to qmtp_input() and again after qmtp_committed(), after room in the
 * outbuf (qmtp_room) and at the journal.  After each call: qmtp_is_over(). */
#ifndef QMTP_QMTP_H
#define QMTP_QMTP_H

#include "core/list.h"
#include "core/outbuf.h"
#include "mail/control.h"
#include "mail/envelope.h"
#include "mail/header.h"
#include "mail/ip.h"
#include "mail/msg.h"
#include "mail/netstring.h"
#include "mail/rcpthosts.h"

#define QMTP_MESSAGE_MAX   2000000009ull          /* docs/qmail.md 6.4: qmail's limit */
#define QMTP_ADDR_MAX      999                    /* docs/qmail.md 6.3, with the suffix */
#define QMTP_FLIGHT_MAX    64                     /* packages complete and not answered */
/* in one package, taken or not: a byte each is kept */
#define QMTP_RCPTS_MAX     4000000
#define QMTP_RCPTLIST_MAX  (256 * 1024 * 1024)    /* the recipient list's length */
/* recipients taken, packed; the rest is told Z */
#define QMTP_PACKED_MAX    (64 * 1024 * 1024)

struct qmtp_policy {
	struct span          me;                  /* borrowed from the control snapshot */
	uint64_t             databytes;           /* 0: no limit */
	/* for peers that are no relay clients; 0: no limit */
	uint64_t             rcpts_max;
	uint64_t             conns_max, conns_ip_max, wait_ms;
	struct rcpthosts    *hosts;
	struct relayclients *relays;
};
void qmtp_policy_init(struct qmtp_policy *p, const struct control *c, int morercpthosts_fd);
void qmtp_policy_fini(struct qmtp_policy *p);

/* One package, from its first byte to its last answer.  The world owns the memory. */
struct package {
	struct link      flight;
	struct envelope  envelope;
	struct hops      hops;
	/* a byte for each recipient; empty while all were taken */
	struct buf       fates;
	uint64_t         size;                    /* decoded bytes of the text */
	uint64_t         id, wall;
	uint32_t         rcpts, answered;
	uint16_t         addr_n;
	uint8_t          marker;
	bool             body_open;               /* the journal has parts of it, or will */
	bool             sender_is_bad, addr_is_bad, done;
	/* when done, or refused from the start: of those taken */
	uint8_t          verdict;
	char             addr[QMTP_ADDR_MAX];     /* the recipient that is being read */
};
void package_init(struct package *p);
void package_clear(struct package *p);            /* keeps at most a page of storage */
void package_fini(struct package *p);

struct qmtp;
struct qmtp_world {
	const struct qmtp_policy *policy;
	struct buf               *scratch;        /* RECEIVED_MAX, within one call */
	bool                    (*admits)(struct qmtp *q);
	/* why not; may be NULL */
	bool                    (*disk_full)(struct qmtp *q);
	bool                    (*full)(struct qmtp *q);
	struct package         *(*open)(struct qmtp *q);       /* cleared; NULL: too many */
	void                    (*body_begin)(struct qmtp *q, struct package *p);
	void                    (*body)(struct qmtp *q, struct package *p, struct span bytes);
	/* owes one qmtp_committed(), later */
	void                    (*commit)(struct qmtp *q, struct package *p);
	/* fine in any state */
	void                    (*body_drop)(struct qmtp *q, struct package *p);
	/* drops the body too */
	void                    (*close)(struct qmtp *q, struct package *p);
	/* for the log; may be NULL */
	void                    (*told)(struct qmtp *q, const struct package *p,
			const char *what);
};

enum qmtp_verdict { QMTP_MORE, QMTP_WAIT, QMTP_CLOSE };
typedef enum qmtp_verdict qmtp_step(struct qmtp *q, struct span *in);

struct qmtp {
	const struct qmtp_world *world;
	struct outbuf           *out;
	qmtp_step               *step;
	struct ip                ip;
	bool                     relay;           /* any recipient, with the suffix */
	struct span              suffix;
	struct netstring         outer, inner;
	struct package          *now;             /* being read */
	struct link              flight;          /* read, not answered; in order */
	uint32_t                 flight_n;
	bool                     cr, in_rcpt, draining;
};

void qmtp_begin(struct qmtp *q, const struct qmtp_world *w, struct outbuf *out,
		const struct ip *ip);
void qmtp_fini(struct qmtp *q);                   /* forgets everything; fine on a zeroed one */
enum qmtp_verdict qmtp_input(struct qmtp *q, struct span *in);
void qmtp_committed(struct qmtp *q, struct package *p, enum stored verdict, uint64_t id);
void qmtp_room(struct qmtp *q);                   /* the outbuf has room: more answers */
/* end of input: a half package is forgotten, whole ones are answered */
void qmtp_end(struct qmtp *q);
/* the package that is being read is the last */
void qmtp_drain(struct qmtp *q);
bool qmtp_is_over(const struct qmtp *q);
bool qmtp_is_idle(const struct qmtp *q);          /* between packages, nothing in flight */
bool qmtp_is_reading(const struct qmtp *q);       /* in the middle of a package */

#endif
