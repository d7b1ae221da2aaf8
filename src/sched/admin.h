/* admin - questions on run/control: one line asks, JSON lines answer, then the end.
 *
 *   status    one object: processes' state, queue, ring, limits
 *   queue     one object a message, with the field names of postqueue -j
 *
 * Anything else is answered {"error":"..."}.  The socket itself is open to root and the
 * home's owner only. */
#ifndef SCHED_ADMIN_H
#define SCHED_ADMIN_H

#include "core/acceptor.h"
#include "sched/plan.h"

struct admin;
/* status() writes the object that "status" answers, without its line end. */
struct admin *admin_new(struct loop *l, int listener, struct plan *p,
                        void (*status)(void *ctx, struct outbuf *o), void *ctx);
void          admin_close(struct admin *a);       /* takes no more questions; answers go on */
/* Nobody asks any more; NULL: true */
bool          admin_is_closed(const struct admin *a);
void          admin_free(struct admin *a);        /* fine on NULL */

#endif
