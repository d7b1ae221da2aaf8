/* segments - the files of a journal, and what the newest valid head says must be there.
 *
 * The one place that lists the directory and reads heads; recovery and the reader start here. */
#ifndef JOURNAL_SEGMENTS_H
#define JOURNAL_SEGMENTS_H

#include "core/buf.h"
#include "core/disk.h"
#include "journal/format.h"

struct segments {
	struct segment_head    head;              /* the newest valid one */
	/* what it names, in order; then the newest itself, with end 0 */
	struct manifest_entry *v;
	uint32_t               n;
	/* numbers of all segment files there are, in order */
	uint64_t              *files;
	uint32_t               files_n;
	/* so many of them, the last ones, come after the newest valid head */
	uint32_t               headless;
};
enum segments_found { SEGMENTS_NONE, SEGMENTS_OK, SEGMENTS_FAILED /* and why */ };
enum segments_found segments_load(struct disk *d, struct segments *ret, struct buf *why);
void segments_fini(struct segments *s);           /* fine on a zeroed one */
bool segments_has_file(const struct segments *s, uint64_t number);

/* Is this block the head of segment `number`?  NEWER: of a format that we don't know. */
enum head_kind { HEAD_NONE, HEAD_OK, HEAD_NEWER };
enum head_kind segment_head_get(const char *block, uint64_t number, struct segment_head *ret);
/* copy: the one in the segment's last block */
void segment_head_put(char *block, const struct segment_head *h,
		const struct manifest_entry *v, bool copy);

#endif
