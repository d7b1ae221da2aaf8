/* view - the queue as JSON lines, for `quire status` and `quire queue`.
 *
 * A view writes as much as its outbuf wants and is asked again when there is room; what
 * changes between two pieces shows in the later one.  A view that stands in the middle of a
 * message follows its runs: the plan tells the views what it frees (plan.views). */
#ifndef SCHED_VIEW_H
#define SCHED_VIEW_H

#include "core/outbuf.h"
#include "sched/plan.h"

/* Answers on their way; each keeps 8 bytes a message */
#define VIEWS_MAX 8

struct view {                                     /* `quire queue`: a line a message */
	struct link     link;
	struct plan    *plan;
	uint64_t       *ids;
	size_t          n, at;
	struct message *message;                  /* NULL: between two lines */
	struct run     *run;                      /* comes next */
	bool            some;                     /* a recipient was written */
};

/* The messages of this moment, by id where they are few */
void view_init(struct view *v, struct plan *p);
void view_fini(struct view *v);
bool view_write(struct view *v, struct outbuf *o) must_use;   /* false: that was all */

void view_message_gone(struct plan *p, const struct message *m);
void view_run_gone(struct plan *p, const struct run *r);

/* Strings as JSON takes them: quotes, controls and what is no UTF-8 are escaped. */
void json_string(struct outbuf *o, struct span s);

#endif
