/* mx - from a destination to the list of hosts that are tried for it, in order.
 *
 *   1. control/qmtproutes and control/smtproutes: the domain, each .suffix, the empty key; at each
 *      of these steps qmtproutes first.  A relay by name is resolved by its addresses only, and
 *      nothing is cut off: whoever routes to himself means it.  An empty relay: go on below.
 *   2. an address literal, or a bare IPv4 address (docs/qmail.md 9.2): that address.
 *   3. MX records by preference, equal ones shuffled; none: the domain's own addresses.  A
 *      preference of MXPS marks a host for QMTP.  "." alone: takes no mail (RFC 7505).
 *   4. If we are among them, only those with lower preferences stay (RFC 5321 5.1).
 *
 * mx_find() starts and never calls back; found() comes from the loop. */
#ifndef REMOTE_MX_H
#define REMOTE_MX_H

#include "core/loop.h"
#include "mail/control.h"
#include "mail/route.h"
#include "remote/own.h"
#include "remote/resolver.h"

#define SMTP_PORT        25
#define QMTP_PORT        209
/* exchangers looked at, the lowest preferences */
#define MX_NAMES_MAX     16
#define MX_NAME_IPS_MAX  8                        /* addresses of each kind and name */

enum mx_result {
	MX_FOUND,
	MX_LATER,                                 /* DNS did not say */
	MX_NO_HOST,                               /* there is no such host */
	MX_NO_ADDRESS,                            /* exchangers, but no address of any */
	MX_NULL,                                  /* it says that it takes no mail */
	MX_OURS                                   /* we are the best of them */
};

struct mx_host {
	struct ip ip;
	uint16_t  port;                           /* of the protocol below */
	uint16_t  preference;
	uint32_t  dice;                           /* the same for all addresses of a name */
	/* if it can't be connected: SMTP, same address */
	bool      qmtp;
};
struct mx_list {
	unsigned       n;
	struct mx_host host[];
};

/* 12800 <= p <= 13055 and p mod 16 == 1: QMTP (docs/qmail.md 9.6). */
bool mxps_is_qmtp(uint16_t preference);
/* By preference, then by dice; addresses of one name stay as they were. */
void mx_order(struct mx_host *host, unsigned n);
/* How many of an ordered list are left when we and all that is not better than us goes. */
unsigned mx_cut_ours(const struct mx_host *host, unsigned n, struct own *own);

/* all borrowed; ports for MX hosts and literals */
struct mx_world {
	struct resolver    *resolver;
	struct own         *own;
	struct control_set *qmtproutes, *smtproutes;
	uint16_t            smtp_port, qmtp_port;
};
enum mx_via { MX_VIA_DNS, MX_VIA_SMTP, MX_VIA_QMTP };
enum mx_via mx_route(const struct mx_world *w, struct span domain, struct route *ret);

struct mx_name {
	struct mx_find *find;
	struct dns_op   a, aaaa;
	uint16_t        preference;
	uint32_t        dice;
	struct dns_name name;
	uint8_t         v4_n, v6_n;
	uint8_t         v4[MX_NAME_IPS_MAX][4], v6[MX_NAME_IPS_MAX][16];
};
struct mx_find {
	const struct mx_world *world;
	struct loop           *loop;
	void                 (*found)(struct mx_find *f);
	enum mx_result         result;
	/* MX_FOUND: the owner takes it (mem_free), or mx_cancel() does */
	struct mx_list        *list;
	struct deferred        soon;
	struct dns_op          mx;
	struct dns_question    question;
	enum mx_via            via;
	uint16_t               port;              /* of a route */
	bool                   has_mx, doubt;     /* doubt: a name's addresses may exist */
	unsigned               names, open;       /* open: questions about addresses */
	struct mx_name        *name[MX_NAMES_MAX];
};
void mx_find(struct mx_find *f, const struct mx_world *w, struct loop *l, struct span domain,
             void (*found)(struct mx_find *));
/* gives all memory back; also after found() */
void mx_cancel(struct mx_find *f);

#endif
