/* smtp - one SMTP session seen from the server: bytes in, bytes out, no descriptors.
 *
 * The owner calls smtp_begin(), then offers whatever arrives to smtp_input(); what is not taken
 * must be offered again after the event that is waited for: smtp_committed(), room in the
 * outbuf, or room at the journal (world->full() fell).  Every call may write to the outbuf and
 * may end the session: ask smtp_is_over() after each.
 *
 * A transaction lives from MAIL to the answer to the final dot.  Its memory is the world's:
 * an idle session holds nothing but this struct. */
#ifndef SMTP_SMTP_H
#define SMTP_SMTP_H

#include "core/outbuf.h"
#include "mail/dots.h"
#include "mail/envelope.h"
#include "mail/header.h"
#include "mail/line.h"
#include "mail/msg.h"
#include "smtp/policy.h"

/* RFC 5321 4.5.3.1.4 asks for 512, and each parameter for more (RFC 1870: 26, RFC 6152: 17);
 * an address of POLICY_ADDR_MAX bytes, each behind a backslash, must fit. */
#define SMTP_LINE_MAX   2048
/* RFC 5321 4.5.3.1.2; the rest of a longer one is forgotten */
#define SMTP_HELO_MAX   255
/* 5.5.x answers before we hang up, anew after each message */
#define SMTP_ERRORS_MAX 20

struct smtp;
struct smtp_world {
	const struct policy *policy;
	/* RECEIVED_MAX, for whoever needs it within one call */
	struct buf          *scratch;
	/* no Received line: the submission path writes its own */
	bool                 untraced;
	bool               (*admits)(struct smtp *s);          /* may a transaction begin */
	bool               (*disk_full)(struct smtp *s);       /* why not; may be NULL */
	bool               (*full)(struct smtp *s);            /* no more body now */
	/* a transaction begins; NULL: too many */
	struct envelope   *(*open)(struct smtp *s);
	void               (*body_begin)(struct smtp *s);
	void               (*body)(struct smtp *s, struct span bytes);
	/* owes one smtp_committed(), later */
	void               (*commit)(struct smtp *s);
	/* it is over; forget what was not committed */
	void               (*close)(struct smtp *s);
	/* for the log; may be NULL */
	void               (*refused)(struct smtp *s, const struct reply *why,
			struct span about);
	/* the same */
	void               (*accepted)(struct smtp *s, uint64_t id);
};

/* Where a session is; the verb table says what may come. */
enum smtp_phase { SMTP_IDLE = 1, SMTP_SENDER = 2, SMTP_RCPT = 4, SMTP_ANY = 7 };
enum smtp_verdict { V_MORE, V_WAIT, V_CLOSE };
typedef enum smtp_verdict smtp_step(struct smtp *s, struct span *in);

struct smtp {
	const struct smtp_world *world;
	struct outbuf           *out;
	smtp_step               *step;
	struct policy_peer       peer;
	struct line              line;
	struct envelope         *envelope;        /* NULL: no transaction */
	struct dots_in           dots;
	struct hops              hops;
	uint64_t                 size;            /* body bytes, without our Received line */
	/* of this body: the rest is read and dropped */
	const struct reply      *refusal;
	uint8_t                  phase, errors;
	bool                     esmtp, draining, sender_is_bad;
	uint8_t                  helo_n;
	char                     helo[SMTP_HELO_MAX];
};
static_check(SMTP_HELO_MAX <= UINT8_MAX);

void smtp_begin(struct smtp *s, const struct smtp_world *w, struct outbuf *out,
		const struct policy_peer *peer);
/* closes an open transaction; fine on a zeroed one */
void smtp_fini(struct smtp *s);
enum smtp_verdict smtp_input(struct smtp *s, struct span *in);
void smtp_committed(struct smtp *s, enum stored verdict, uint64_t id);
void smtp_timeout(struct smtp *s);                /* nothing came for too long */
void smtp_drain(struct smtp *s);                  /* no new transaction; the open one may end */
bool smtp_is_over(const struct smtp *s);
bool smtp_is_committing(const struct smtp *s);    /* the journal's turn, not the client's */
bool smtp_is_idle(const struct smtp *s);          /* no transaction */

#endif
