/* retire - positions that have moved, from journald to the plan and on to each body.
 *
 * A RETIRE names records of segments that will be used again, and where their copies are.  It
 * waits until everything up to its `after` was applied, as a record before that may still bring
 * an old position; then the plan is corrected, and it goes on to the bodies, behind whatever was
 * sent with old positions.
 *
 * The copies count only when a durable head names them.  Should journald end before that, the
 * new one knows nothing of them: what was corrected is kept until RETIRE_OVER, and taken back,
 * here and in the bodies, when the newest manifest does not name them. */
#ifndef SCHED_RETIRE_H
#define SCHED_RETIRE_H

#include "core/buf.h"
#include "core/list.h"
#include "journal/format.h"

/* Bytes of a round's moves: some 24 MiB, and of the largest segments what a whole one adds. */
#define RETIRES_MAX ((size_t)2 << 30)
#define RETIRE_PIECE (240 * 1024)                  /* in one frame */

struct retires_calls {
	void (*correct)(void *ctx, const struct msg_moved *v, size_t n);
	void (*forward)(void *ctx, const struct msg_retire *m, struct span moved);
};
struct retires {
	const struct retires_calls *calls;
	void       *ctx;
	struct link waiting, done;
};
void retires_init(struct retires *rs, const struct retires_calls *calls, void *ctx);
void retires_fini(struct retires *rs);
/* moved: struct msg_moved, again and again; false: garbage */
bool retires_take(struct retires *rs, const struct msg_retire *m, struct span moved) must_use;
/* Everything below this position was applied. */
void retires_apply(struct retires *rs, uint64_t applied);
/* journald is gone: what waits is nobody's */
void retires_lost(struct retires *rs);
/* A new one is there, with this manifest. */
void retires_look(struct retires *rs, const struct manifest_entry *v, uint32_t n, uint64_t segment_size);

#endif
