/* resolver - questions to the name servers, many at a time, and what was learnt from them.
 *
 * resolver_ask() starts a question and never calls back; done() comes from the loop, with the
 * answer valid until it returns.  The same question asked twice is one on the wire.  Answers,
 * good and bad, are kept as long as their TTL says, in a table of bounded size; what was
 * unused for longest makes place.
 *
 * Each server has a set of connected UDP sockets with random ports; each question goes out on
 * one of them at random, with a random id.  A socket serves SOCKET_USES questions and is then
 * replaced.  No answer in time: the next server, in turn, for as many tries as there are.
 * Truncated answers are asked for again by TCP.  Only recursive servers will do. */
#ifndef REMOTE_RESOLVER_H
#define REMOTE_RESOLVER_H

#include "core/loop.h"
#include "remote/dns.h"

#define RESOLVER_SERVERS_MAX 8

/* SERVFAIL everywhere, or silence: DNS_LATER. */
enum dns_status { DNS_FOUND, DNS_NOTHING /* of this type */, DNS_NOWHERE /* no such name */, DNS_LATER };

struct dns_answer;
struct dns_op {
	void                   (*done)(struct dns_op *op);
	enum dns_status          status;          /* in done(), with the answer */
	const struct dns_answer *answer;          /* NULL: status says it all */
	struct link              link;            /* the resolver's */
	void                    *entry;
	bool                     ready;           /* answered from the cache, not told yet */
};

struct resolver_config {
	struct { struct ip ip; uint16_t port; } server[RESOLVER_SERVERS_MAX];
	unsigned servers;
	/* for the first round; doubled with each; 0: the default */
	unsigned try_ms;
	unsigned cache_max;                       /* entries; 0: the default */
};

struct resolver;
struct resolver *resolver_new(struct loop *l, const struct resolver_config *cf);
/* New servers for what is asked from now on. */
void resolver_configure(struct resolver *r, const struct resolver_config *cf);
/* No question may be open.  Its memory goes when the loop has let go of it, some passes later. */
void resolver_free(struct resolver *r);

void resolver_ask(struct resolver *r, struct dns_op *op, const struct dns_question *q);
void resolver_cancel(struct resolver *r, struct dns_op *op); /* fine when it is not asked */
/* *at = 0 first */
bool dns_answer_next(const struct dns_answer *a, unsigned *at, struct dns_record *ret);

struct resolver_stats { uint64_t asked, hits, merged, sent, timeouts, tcp, strange; };
const struct resolver_stats *resolver_stats(const struct resolver *r);

#endif
