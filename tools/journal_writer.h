/* journal_writer - appends to a journal that nobody runs, or makes a new one: import, salvage.
 *
 * It takes the journal's lock, recovers as journald would, and opens the next segment through the
 * same commit path; so what it leaves is what a journald that was stopped leaves.  Calls block.
 * After the first failure every call says false, and w->error has the reason; what was
 * synced before stays.
 *
 * As root it writes with the file rights of the directory's owner, so that journald can read what
 * it leaves; writer_as_root() lifts that for a moment, for reading files of others. */
#ifndef TOOLS_JOURNAL_WRITER_H
#define TOOLS_JOURNAL_WRITER_H

#include "journal/commit.h"
#include "journal/reader.h"
#include "journal/zip.h"

struct journal_writer {
	struct loop   *loop;
	struct disk   *disk;
	struct ring    ring;
	struct commit *commit;
	struct zip    *zip;
	char          *frame;                     /* ZIP_BOUND bytes */
	uint32_t       shard;
	uint64_t       seq;
	uint32_t       uid, gid;                  /* of the directory */
	int            error;                     /* -errno of a write */
	enum recovered how;                       /* what recovery found */
};
struct journal_writer_options {
	uint64_t segment_size;                    /* of a journal that is made */
	uint32_t shard;
	uint64_t epoch_min;                       /* ids begin above this epoch */
	bool     must_be_empty;
	int      zstd_level;
};
/* dir_fd is kept.  0, or an exit code and one line in *why. */
int      writer_open(struct journal_writer *w, int dir_fd, const struct journal_writer_options *o, struct buf *why);
int      writer_close(struct journal_writer *w);  /* syncs; 0 or -errno; fine on a zeroed one */
uint64_t writer_new_id(struct journal_writer *w);
/* One record; head's type, number, id and flags are set. */
bool     writer_add(struct journal_writer *w, struct rec_head *h, const struct span *pieces, int pieces_n,
		    unsigned flags, uint64_t *ret_pos) must_use;
bool     writer_sync(struct journal_writer *w) must_use;  /* all that was added is durable */

/* A message: its parts, then its MSG.  Numbers are counted here. */
struct writer_message {
	uint64_t       id;
	struct buf     places;                    /* of BODY parts, then of RCPT parts */
	struct rec_msg msg;
};
void     writer_message_init(struct writer_message *m, uint64_t id);
void     writer_message_fini(struct writer_message *m);
/* At most BODY_PART_MAX bytes; all but the last piece exactly so many. */
bool     writer_body(struct journal_writer *w, struct writer_message *m, struct span raw) must_use;
/* count addresses, packed (mail/envelope.h); flags: REC_REWRITTEN, REC_LOCAL. */
bool     writer_rcpts(struct journal_writer *w, struct writer_message *m, struct span packed, uint32_t count,
		      unsigned flags) must_use;
/* A part of another journal, as it is; its number is the next one. */
bool     writer_part(struct journal_writer *w, struct writer_message *m, const struct record *r) must_use;
/* m->msg: arrival, parent, uid, pid, kind are the caller's; settles: struct msg_range again and again */
bool     writer_msg(struct journal_writer *w, struct writer_message *m, struct span sender, struct span settles,
		    struct span extra) must_use;
bool     writer_state(struct journal_writer *w, uint64_t id, const struct rec_state *s, struct span ranges,
		      struct span text) must_use;

void     writer_as_root(struct journal_writer *w);
void     writer_as_owner(struct journal_writer *w);

#endif
