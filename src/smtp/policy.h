/* policy - whom we take mail from, and for whom: the configuration of a server, read once.
 *
 * Holds everything that control/ says to an SMTP server.  A function returns NULL ("no
 * objection") or the reply that refuses.  The policy is constant while the process lives: a
 * changed configuration is a new process (design: front ends are replaced on HUP). */
#ifndef SMTP_POLICY_H
#define SMTP_POLICY_H

#include "mail/addr.h"
#include "mail/control.h"
#include "mail/ip.h"
#include "mail/rcpthosts.h"
#include "mail/reply.h"

#define POLICY_ADDR_MAX 899                       /* docs/qmail.md 5.6: longer is 555 */
#define POLICY_OWN_MAX  256                       /* addresses of this host that we remember */

struct policy {
	/* borrowed from the control snapshot */
	struct span          me, greeting, literal_host;
	uint64_t             databytes;           /* 0: no limit */
	uint64_t             rcpts_max;           /* 0: no limit but memory */
	uint64_t             conns_max, conns_ip_max; /* 0: no limit */
	uint64_t             wait_ms;
	struct control_set  *badmailfrom;
	struct rcpthosts    *hosts;
	struct relayclients *relays;
	struct ip            own[POLICY_OWN_MAX];
	unsigned             own_n;
};

/* The snapshot must outlive it. */
void policy_init(struct policy *p, const struct control *c, int morercpthosts_fd);
void policy_fini(struct policy *p);
/* The addresses of this host's interfaces (asks the kernel; before the sandbox). */
void policy_find_own(struct policy *p);

/* Who is at the other end of a connection, and what follows from that. */
struct policy_peer {
	struct ip   ip, local;                    /* family 0: not known */
	bool        relay;                        /* any recipient, with the suffix appended */
	struct span suffix;
};
struct policy_peer policy_peer(const struct policy *p, const struct ip *ip,
		const struct ip *local);

bool policy_sender_is_bad(const struct policy *p, struct span sender);
/* user@[own address] becomes user@localiphost.  addr lies in dst (cap bytes) and stays there;
 * false: does not fit. */
bool policy_name_literal(const struct policy *p, const struct policy_peer *peer, struct span *addr,
                         char *dst, size_t cap) must_use;
const struct reply *policy_rcpt(const struct policy *p, const struct policy_peer *peer,
		struct span rcpt);
const struct reply *policy_size(const struct policy *p, uint64_t size);

#endif
