/* fetch - the body of a message out of the journal, part by part, decoded or as it lies there.
 *
 * For one process beside a running journald: the feed gives it the ring; what the ring has
 * forgotten is read from the segments.  Reads block.  What can't be read is said in the log,
 * once a call, with the message's id and the position. */
#ifndef JOURNAL_FETCH_H
#define JOURNAL_FETCH_H

#include "journal/reader.h"
#include "journal/zip.h"

struct fetch {
	struct disk   *disk;
	uint32_t       shard;
	struct ring    ring;
	struct reader *reader;                    /* NULL: no feed yet */
	struct zip    *zip;
	char          *raw;                       /* BODY_PART_MAX bytes: the part at hand */
	enum read_result why;                     /* of the last failure; READ_DAMAGE: a bad frame, too */
};
void fetch_init(struct fetch *f, struct disk *d, uint32_t shard);
void fetch_fini(struct fetch *f);
/* ring_fd is closed.  The ring of an earlier feed is forgotten; dies where there is no other. */
void fetch_feed(struct fetch *f, const struct msg_feed *m, int ring_fd);
bool fetch_is_ready(const struct fetch *f);
/* Segments are given up: their files are not kept open. */
void fetch_forget(struct fetch *f);

struct located {                                  /* where a message's body lies */
	uint64_t  id, pos, size;
	uint32_t  parts;
	bool      looked;                         /* its MSG was read, or can't be */
	uint64_t *places;                         /* NULL: the only one is `first` */
	uint64_t  first;
};
void located_init(struct located *l, uint64_t id, uint64_t pos);
void located_fini(struct located *l);             /* fine on a zeroed one */

/* All three need a feed.  Spans are valid until the next call. */
bool fetch_locate(struct fetch *f, struct located *l) must_use;
bool fetch_frame(struct fetch *f, const struct located *l, uint32_t number,
		 struct rec_body *ret, struct span *ret_frame) must_use;
bool fetch_part(struct fetch *f, const struct located *l, uint32_t number,
                struct span *ret) must_use;
void fetch_note(const struct located *l, uint64_t pos, const char *why);

#endif
