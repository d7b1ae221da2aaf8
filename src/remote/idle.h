/* idle - connections that can take more work, by address, port and protocol.
 *
 * A connection is offered either `resting` (it has nothing to do, and expires after a while) or
 * working with room for more (QMTP).  The oldest resting one makes place when there are more
 * than IDLE_MAX.  Entries lie in their owners; expired() is told once, with the entry already
 * withdrawn. */
#ifndef REMOTE_IDLE_H
#define REMOTE_IDLE_H

#include "core/loop.h"
#include "core/table.h"
#include "remote/hosts.h"

#define IDLE_MAX     1024                         /* resting connections kept at a time */
#define IDLE_SMTP_MS 2000                         /* other mail may want the server's slot */
#define IDLE_QMTP_MS 10000

struct idle_site;
struct idle {
	struct loop *loop;
	struct table sites;
	struct link  resting;                     /* oldest first */
	unsigned     resting_n;
};
struct idle_entry {
	struct idle      *idle;
	struct idle_site *site;                   /* NULL: not offered */
	struct link       link, rest;
	struct timer      timer;
	void            (*expired)(struct idle_entry *e);
};

void idle_init(struct idle *i, struct loop *l, unsigned sites_max);
void idle_fini(struct idle *i);                   /* nothing may be offered */
void idle_entry_init(struct idle_entry *e, void (*expired)(struct idle_entry *));
/* keep_ms 0: working, with room.  Offering again changes what it is. */
void idle_offer(struct idle *i, struct idle_entry *e, const struct host_key *k,
		uint64_t keep_ms);
void idle_withdraw(struct idle_entry *e);         /* fine when it is not offered */
/* the one offered last, or NULL; it stays offered */
struct idle_entry *idle_find(struct idle *i, const struct host_key *k);
bool idle_expire_oldest(struct idle *i);          /* false: none is resting */

#endif
