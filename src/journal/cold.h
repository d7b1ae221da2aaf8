/* cold - the segment that compaction fills: heads, batches, blocking durable writes.
 *
 * Everything but cold_take() and cold_drop() blocks, and runs in an errand.  Positions are final
 * when a record is put; it is durable after cold_flush().  Nothing in it counts before a hot
 * segment's head names it, with its end (docs/journal.md, Compaction).
 *
 * A cold segment has a sequence and a chain of its own, from 1 and from 0.  Frames that need a
 * dictionary have it in front of them, once a segment. */
#ifndef JOURNAL_COLD_H
#define JOURNAL_COLD_H

#include "core/disk.h"
#include "journal/batch.h"

#define COLD_DICTS_MAX 16                         /* of one segment; then it counts as full */

struct cold {
	struct disk        *disk;
	uint64_t            segment_size, epoch;
	uint8_t             uuid[16];
	uint32_t            shard;

	struct disk_file   *file;                 /* NULL: none is open */
	uint64_t            number, at;           /* at: offset of the next batch; 0: no head yet */
	uint64_t            seq, chain;
	uint64_t            time_us;              /* wall clock, set by the loop before an errand */
	uint32_t            dicts[COLD_DICTS_MAX], dicts_n;
	struct batch_layout layout;
	char               *memory, *blocks;      /* of one batch, aligned */
	uint64_t            written;              /* bytes, all segments together */
};
void     cold_init(struct cold *c, struct disk *d, uint64_t segment_size, const uint8_t uuid[16],
		uint64_t epoch, uint32_t shard);
void     cold_fini(struct cold *c);
/* A fresh file under this number; what was open before is closed. */
void     cold_take(struct cold *c, uint64_t number, struct disk_file *file);
void     cold_drop(struct cold *c);               /* closes the file; fine where none is open */
/* Bytes of records that surely still fit. */
uint64_t cold_room(const struct cold *c);
uint64_t cold_end(const struct cold *c);          /* position behind the last batch */

enum cold_put { COLD_OK, COLD_FULL /* take another file, then again */, COLD_FAILED /* *error */ };
/* h is completed.  COLD_FULL may come before anything was put. */
enum cold_put cold_put(struct cold *c, struct rec_head *h, const struct span *pieces, int pieces_n,
		uint64_t *ret_pos, int *error) must_use;
enum cold_put cold_put_dict(struct cold *c, uint32_t number, struct span bytes, int *error) must_use;
int           cold_flush(struct cold *c) must_use; /* 0 or -errno */

#endif
