/* deliver - one mail to one local recipient, as qmail-local does it (docs/qmail.md 14).
 *
 * Straight blocking code that runs as the recipient's user, in a process of its own (worker.c):
 * it changes the working directory to the user's home and leaves it there.  What was done
 * stays done when a later instruction fails; the next try does it again. */
#ifndef LOCAL_DELIVER_H
#define LOCAL_DELIVER_H

#include "local/letter.h"
#include "local/report.h"

struct local_job {
	struct span home;          /* absolute */
	struct span local, domain; /* the recipient, as it was sent */
	struct span dash, ext;     /* which .qmail file: users.h */
	struct span sender;
	struct span fallback; /* instructions where the user has none */
};

struct local_world {
	/* Queues DTLINE and the mail again.  envelope: "F" sender NUL, "T" address NUL again
	   and again, NUL.  true: *ret_id is durable; else the report says why. */
	bool (*forward)(void *ctx, const struct letter *l, struct span envelope,
			struct report *r, uint64_t *ret_id);
	void *ctx;
};

/* The report has the verdict and what the log and a bounce show. */
void deliver(const struct local_world *w, const struct local_job *job, struct span body,
	     struct report *r);

#endif
