/* own - which addresses are ours: those that smtplisten and qmtplisten bind.
 *
 * A wildcard stands for the addresses of the interfaces as they are now (looked up again when
 * older than OWN_KEEP_MS), for all of 127.0.0.0/8, and for the unspecified address, which
 * reaches whoever listens on this host (docs/qmail.md 9.5). */
#ifndef REMOTE_OWN_H
#define REMOTE_OWN_H

#include "mail/control.h"
#include "mail/ip.h"

#define OWN_MAX     1024                          /* addresses in the two files */
#define OWN_KEEP_MS 30000

struct own {
	struct ip *bound, *interfaces;
	unsigned   bound_n, interfaces_n;
	uint64_t   looked_ms;
	bool       all_v4, all_v6;
};
void own_init(struct own *o, const struct control *c);
void own_fini(struct own *o);
bool own_has(struct own *o, const struct ip *ip);

#endif
