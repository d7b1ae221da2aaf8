/* bodies - the bodies that quire-body gives us, by handle, in parts; and readers of them.
 *
 * Part 0 comes unasked, before or after the task that needs it, and stays until the handle is
 * closed.  Of the others at most BODIES_PARTS are held, and one is asked for at a time; the one
 * unused for longest makes place.  A reader pins nothing: it copies what it can send now and asks
 * again later, so a slow server never keeps a part from the others.
 *
 * A closed handle is forgotten with its last reader.  Was it closed before its part 0 came, a
 * mark stays behind, so that the late part is not kept for ever. */
#ifndef REMOTE_BODIES_H
#define REMOTE_BODIES_H

#include "core/list.h"
#include "core/pool.h"
#include "core/table.h"
#include "mail/msg.h"
#include "remote/source.h"

/* handles: sched has at most our tasks open, and late closes */
#define BODIES_MAX       131072
#define BODIES_PARTS     4                        /* of a handle, beside part 0: 1 MiB */
/* closed handles whose part 0 may still come */
#define BODIES_MARKS_MAX 4096

struct body;
struct bodies;
struct bodies_calls {
	/* Ask the process that gave part 0 (`giver`) for one more part. */
	void (*want)(void *ctx, unsigned giver, uint32_t handle, uint32_t number);
};

struct body_reader {
	struct source  source;
	struct bodies *bodies;
	struct body   *body;
	uint32_t       part, offset;
	struct link    link, waiting;
	/* what was waited for is there, or never will be */
	void         (*wake)(struct body_reader *r);
};

struct bodies *bodies_new(const struct bodies_calls *calls, void *ctx);
void bodies_free(struct bodies *b);               /* no reader may be open */
/* false: it makes no sense. */
bool bodies_part(struct bodies *b, unsigned giver, const struct msg_partdata *d,
                 struct span bytes) must_use;
void bodies_fail(struct bodies *b, uint32_t handle);
void bodies_giver_lost(struct bodies *b, unsigned giver);
void bodies_close(struct bodies *b, uint32_t handle);
size_t bodies_n(const struct bodies *b);          /* handles known, marks included */

/* false: too many handles. */
bool body_reader_open(struct bodies *b, struct body_reader *r, uint32_t handle,
                      void (*wake)(struct body_reader *)) must_use;
void body_reader_close(struct body_reader *r);              /* fine on a zeroed one */

#endif
