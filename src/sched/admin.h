/* admin - questions on run/control: one line asks, JSON lines answer, then the end.
 *
 *   status    one object: processes' state, queue, ring, limits
 *   queue     one object a message, with the field names of postqueue -j
 *   compact   asks journald to compact, whatever the rules of age say; an object with "event" "begun",
 *             one with "working" twice a second, one with "done", each with what the space object of
 *             status holds
 *
 * Anything else is answered {"error":"..."}.  The socket itself is open to root and the
 * home's owner only. */
#ifndef SCHED_ADMIN_H
#define SCHED_ADMIN_H

#include "core/acceptor.h"
#include "sched/plan.h"

struct admin;
/* ask() hands out a ticket; false: journald is not there.  fields() writes some of an object, each behind
 * a comma. */
struct admin_compact {
	bool (*ask)(void *ctx, uint64_t *ret_ticket);
	bool (*is_over)(void *ctx, uint64_t ticket);
	void (*fields)(void *ctx, struct outbuf *o);
};
/* status() writes the object that "status" answers, without its line end. */
struct admin *admin_new(struct loop *l, int listener, struct plan *p,
                        void (*status)(void *ctx, struct outbuf *o),
                        const struct admin_compact *compact, void *ctx);
void          admin_close(struct admin *a);       /* takes no more questions; answers go on */
/* Nobody asks any more; NULL: true */
bool          admin_is_closed(const struct admin *a);
void          admin_free(struct admin *a);        /* fine on NULL */

#endif
