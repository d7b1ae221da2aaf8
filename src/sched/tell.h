/* tell - the log of the scheduler: each event in qmail's words, or as a line of JSON.
 *
 * qmail's lines are docs/qmail.md 12, byte for byte.  With control/logformat `json` the same
 * events are objects, one a line: "time" (seconds, wall clock) and "event" come first; ids are
 * strings, as in quire queue; addresses and texts are as they are, cut where a line would get
 * longer than the log takes. */
#ifndef SCHED_TELL_H
#define SCHED_TELL_H

#include "core/buf.h"
#include "mail/route.h"

enum tell_result { TELL_SUCCESS, TELL_FAILURE, TELL_DEFERRAL };

struct tell {
	bool json;
	struct buf safe, more; /* scratch */
};
void tell_init(struct tell *t);
void tell_fini(struct tell *t);

struct tell_info {
	uint64_t id, bytes;
	struct span sender;
	uint32_t qp, uid;
};
void tell_new(struct tell *t, const struct tell_info *i); /* two lines: new msg, info msg */
/* of: the message that it delivers again */
void tell_replay(struct tell *t, uint64_t id, uint64_t of);
void tell_start(struct tell *t, uint64_t delivery, uint64_t id, enum channel ch,
		struct span rcpt);
/* text, and behind it what we add to it */
void tell_end(struct tell *t, uint64_t delivery, uint64_t id, enum tell_result r,
	      struct span text, struct span more);
void tell_mangled(struct tell *t, uint64_t delivery, uint64_t id);
void tell_bounce(struct tell *t, uint64_t id, uint32_t qp);
void tell_triple(struct tell *t, uint64_t id);
void tell_damage(struct tell *t, uint64_t id, const char *what);
void tell_over(struct tell *t, uint64_t id);
void tell_warning(struct tell *t, const char *what);
struct tell_status {
	uint32_t local, local_limit, remote, remote_limit;
	bool draining;
};
void tell_status(struct tell *t, const struct tell_status *s);
void tell_exiting(struct tell *t);

/* docs/qmail.md 12.2: LF becomes '/', other bytes below 33 or above 126 and '%' become '_'. */
struct span log_safe(struct buf *b, struct span s);

#endif
