/* segments - the files of a journal, and what the newest valid head says must be there.
 *
 * The one place that lists the directory and reads heads; recovery and the reader start here.
 *
 * The newest head is that of the highest hot number with a valid one: in block 0, or, where
 * that is not whole, its copy in the last block.  It alone says which segments there are.  What it
 * names and is not as it should be is damage: listed, and gone on without.  FAILED is left for
 * what nobody but a person can decide: which of two journals this is, a newer version, a
 * newest segment that is lost (an older head may name what was given up since). */
#ifndef JOURNAL_SEGMENTS_H
#define JOURNAL_SEGMENTS_H

#include "core/buf.h"
#include "core/disk.h"
#include "journal/format.h"

/* ---- what is wrong, and where ---- */

enum damage_what {
	DAMAGE_BLOCKS,                            /* acknowledged bytes are bad */
	DAMAGE_LAST,                              /* the last batch is bad, and may have been acknowledged */
	DAMAGE_HEAD,                              /* block 0 is not the segment's head */
	DAMAGE_MISSING,                           /* a named segment is not there, or can't be opened */
	DAMAGE_SIZE,                              /* it has another size than it must have */
	DAMAGE_FOREIGN                            /* its head is that of another journal */
};
#define DAMAGES_MAX 64                            /* places that are listed; more are counted */
struct damage {
	enum damage_what what;
	uint64_t         from, to;                /* positions, of whole blocks */
};
struct damages {
	struct damage v[DAMAGES_MAX];
	uint32_t      n;
	uint64_t      more;                       /* that did not fit */
};
/* One that goes on where the last one of its kind ends makes that one longer. */
void        damages_add(struct damages *d, enum damage_what what, uint64_t from, uint64_t to);
const char *damage_text(enum damage_what what); /* "is named by the newest head and is missing" */

/* ---- the files ---- */

struct segments {
	struct segment_head    head;              /* the newest valid one */
	bool                   from_copy;         /* its block 0 is not whole: read from its copy */
	/* what it names, by number (hot, then cold); then the newest itself, with end 0 */
	struct manifest_entry *v;
	uint32_t               n;
	/* numbers of all segment files there are, in order: hot ones, then cold ones */
	uint64_t              *files;
	uint32_t               files_n, hot_n;
	/* so many of the hot ones, the last ones, come after the newest valid head */
	uint32_t               headless;
	struct damages         damages;           /* of segments that are named, and the newest's size */
};
enum segments_found { SEGMENTS_NONE, SEGMENTS_OK, SEGMENTS_FAILED /* and why */ };
/* Where it finds damage it looks twice: a running journald may have given a segment up since. */
enum segments_found segments_load(struct disk *d, struct segments *ret, struct buf *why);
void segments_fini(struct segments *s);           /* fine on a zeroed one */
bool segments_has_file(const struct segments *s, uint64_t number);

/* Is this block the head of segment `number`?  NEWER: of a format that we don't know. */
enum head_kind { HEAD_NONE, HEAD_OK, HEAD_NEWER };
enum head_kind segment_head_get(const char *block, uint64_t number, struct segment_head *ret);
/* The same for the block at the segment's end. */
enum head_kind segment_copy_get(const char *block, uint64_t number, struct segment_head *ret);
/* copy: the one in the segment's last block */
void segment_head_put(char *block, const struct segment_head *h,
		const struct manifest_entry *v, bool copy);

#endif
