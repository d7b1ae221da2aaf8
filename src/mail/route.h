/* route - where a recipient goes: rewriting, local or remote; and routes for a host.
 * docs/qmail.md has the order of the rules. */
#ifndef MAIL_ROUTE_H
#define MAIL_ROUTE_H

#include "mail/control.h"

enum channel { CHANNEL_LOCAL, CHANNEL_REMOTE };

struct rewriter;
struct rewriter *rewriter_new(const struct control *c);       /* envnoathost percenthack locals virtualdomains */
void             rewriter_free(struct rewriter *r);
/* The rewritten address is in b (cleared first) or is addr itself; *ret_addr says. */
enum channel     rewrite(const struct rewriter *r, struct span addr, struct buf *b, struct span *ret_addr);
/* For bounces: the address without the virtualdomains prefix that applies to its domain. */
struct span      rewriter_strip(const struct rewriter *r, struct span addr);

/* smtproutes, qmtproutes: domain, each .suffix, the empty key; an empty relay means "by MX". */
struct routes;
struct routes *routes_new(const struct control *c, const char *file, uint16_t default_port);
void           routes_free(struct routes *r);
struct route {
	struct span host;                         /* a name, or an address with or without brackets; empty: by MX */
	uint16_t    port;
};
bool           routes_find(const struct routes *r, struct span domain, struct route *ret);

#endif
