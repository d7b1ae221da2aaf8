/* route - where a recipient goes: rewriting, local or remote; and routes for a host.
 * docs/qmail.md 8 has the order of the rules. */
#ifndef MAIL_ROUTE_H
#define MAIL_ROUTE_H

#include "mail/addr.h"
#include "mail/control.h"

enum channel { CHANNEL_LOCAL, CHANNEL_REMOTE };

struct rewriter;
/* envnoathost percenthack locals virtualdomains */
struct rewriter *rewriter_new(const struct control *c);
void             rewriter_free(struct rewriter *r);
/* The rewritten address is in b (cleared first) or is addr itself; *ret_addr says.  b should
 * have a maximum of REWRITE_MAX; what does not fit is left as it is, and remote. */
#define REWRITE_MAX (ADDR_MAX + 1024)
enum channel rewrite(const struct rewriter *r, struct span addr, struct buf *b,
		     struct span *ret_addr);
/* For bounces: the address without the virtualdomains prefix that applies to its domain. */
struct span      rewriter_strip(const struct rewriter *r, struct span addr);

/* smtproutes, qmtproutes: domain, each .suffix, the empty key; an empty relay means "by MX". */
struct routes;
struct routes *routes_new(const struct control *c, const char *file, uint16_t default_port);
void           routes_free(struct routes *r);
struct route {
	struct span host; /* a name, or an address with or without brackets; empty: by MX */
	uint16_t    port;
};
/* false: no key of the file covers the domain.  The first that does decides, even if it says
 * "by MX" (true, and an empty host). */
bool           routes_find(const struct routes *r, struct span domain, struct route *ret);

/* "relay", "relay:port", "[::1]:port".  A port that is none is the default, as in qmail; then
 * false. */
bool           route_parse(struct span value, uint16_t default_port, struct route *ret);

#endif
