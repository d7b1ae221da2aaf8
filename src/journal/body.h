/* body - decodes bodies and hands them to agents; makes bounces.
 *
 *   from sched      OPEN, CLOSE: a handle is one message's body for one agent, until closed.
 *                   BOUNCE: a text, and whose message is returned -> BOUNCED
 *   to remote/i     PARTDATA: part 0 of a handle unasked, one more for each WANT
 *   to lspawn       BODYFILE: the whole body in a sealed memfd, positioned at 0
 *   to both         BODYFAIL: it can't be read; its jobs are to be deferred
 *   journald        FEED (the ring), and bounces by the submission protocol (client.h)
 *
 * A handle belongs to sched, not to a connection: when an agent comes anew, what is open for
 * it is sent again from part 0, as sched's OPEN may have overtaken the agent's new wire.  An
 * agent ignores handles that it does not know.  When sched is lost, all handles are.
 *
 * Reads block: a part comes out of the ring, or by one read of at most 300 KiB from a segment.
 * A wire that is full is fed again when it has room.
 *
 * body_run() is the process; the rest is for tests. */
#ifndef JOURNAL_BODY_H
#define JOURNAL_BODY_H

#include "core/disk.h"
#include "mail/role.h"

#define BODY_OPENS_MAX   (1u << 17)      /* handles at a time: more than concurrencies can be */
#define BODY_BOUNCES_MAX 1024                   /* being made; more are answered STORED_LATER */
#define BODY_AGENTS_MAX  128

struct body_options {
	struct loop *loop;
	struct disk *disk;                        /* the journal's directory, read only */
	uint32_t     shard;
	int          zstd_level;                  /* for the texts of bounces */
};
struct body;
struct body *body_new(const struct body_options *o);
void body_peer(struct body *b, uint32_t role, uint32_t index, int fd);
/* Passes until body_is_closed(), then free. */
void body_close(struct body *b);
bool body_is_closed(const struct body *b);
void body_free(struct body *b);

_Noreturn void body_run(struct role *r);

#endif
