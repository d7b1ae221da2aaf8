/* conn - one connection to a host and the conversation on it; all of them are the `net`.
 *
 * A rider is a task that wants to travel on a connection.  conn_ride() puts it on one that is
 * there (a resting one; for QMTP any with room) or opens one.  It gets off exactly once, by
 * off(), called from the loop and never from within conn_ride():
 *
 *   RIDE_DONE     the task is settled
 *   RIDE_NEXT     this host can't be used: no connection, or no welcome; try the next one
 *   RIDE_AGAIN    a connection that had been kept turned out to be dead: try the same host */
#ifndef REMOTE_CONN_H
#define REMOTE_CONN_H

#include "core/pool.h"
#include "remote/hosts.h"
#include "remote/idle.h"
#include "remote/mx.h"
#include "remote/talk_smtp.h"

enum ride_end { RIDE_DONE, RIDE_NEXT, RIDE_AGAIN };

struct conn;
struct rider {
	struct link   link;                       /* of the connection */
	struct conn  *conn;                       /* NULL: on none */
	struct task  *task;
	void        (*off)(struct rider *r, enum ride_end end);
};

struct net {
	struct loop *loop;
	struct hosts hosts;
	struct idle  idle;
	struct pool  conns;
	struct link  all;
	char         hello[SMTP_HELLO_MAX + 1];
	uint64_t     connect_ms, talk_ms, gap_ms, keep_smtp_ms, keep_qmtp_ms;
	uint64_t     opened, reused;              /* counted */
	bool         dropping;                    /* within net_drop_all(): nobody goes on */
};

void net_init(struct net *n, struct loop *l, unsigned conns_max);
/* Ends all connections now: every rider gets off, and may not get on again meanwhile. */
void net_drop_all(struct net *n);
bool net_is_empty(const struct net *n);           /* then net_fini() is allowed */
void net_fini(struct net *n);

/* false: there can't be another connection now (too many, or no descriptor). */
bool conn_ride(struct net *n, const struct mx_host *h, struct rider *r) must_use;
void conn_more(struct conn *c);                   /* bytes of a rider's body have come */
struct host_key conn_key(const struct mx_host *h);

#endif
