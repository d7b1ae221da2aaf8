/* index - a sealed segment's metadata in one piece, so that a replay reads no body.
 *
 * idx-<number> beside seg-<number>: a cache.  It is made from the sealed segment, names it by
 * incarnation and end, and carries a hash of all of it.  What is missing, torn or does not fit
 * is not used: the segment itself is read; removing all of them changes nothing but the time.
 *
 * File: struct index_head; then for each record, in order: its position (8 bytes), its head (32),
 * its body (of BODY records only struct rec_body), zeros to the next multiple of 8. */
#ifndef JOURNAL_INDEX_H
#define JOURNAL_INDEX_H

#include "core/disk.h"
#include "journal/reader.h"

/* The reader uses indexes by itself when bodies are passed over (not where the ring or a segment's
 * file must be asked: the newest segment, one that is not whole). */

/* A segment with more metadata has none: an index is read into memory in one piece. */
#define INDEX_BYTES_MAX (256ull * 1024 * 1024)
#define INDEX_MAGIC 0x7865646e69657571ull
struct index_head {
	uint64_t magic, number, incarnation, end; /* end: of the segment, as the manifest says it */
	uint64_t bytes, records;                  /* behind this head */
	uint64_t hash;                            /* XXH3 of these bytes */
	uint64_t check;                           /* XXH3 of the fields before */
};
static_check(sizeof(struct index_head) == 64);

struct index { char *p; size_t n, at; uint64_t records; char *raw; }; /* p: in raw, aligned */
/* Reads all of it, checks it. false: none that can be used; *ret_bad: there is one, and it is rotten. */
bool index_load(struct disk *d, uint64_t number, uint64_t incarnation, uint64_t end, struct index *ret, bool *ret_bad);
/* Of bytes that were read: as index_load(). */
bool index_parse(struct index *x, uint64_t number, uint64_t incarnation, uint64_t end, bool *ret_bad);
bool index_next(struct index *x, struct record *ret);             /* false: the end */
void index_fini(struct index *x);
/* Blocking (an errand): reads the segment once, writes fill-idx, renames.  0 or -errno; -EIO: the segment is
 * damaged and gets none; -EFBIG: it would be too large. */
int  index_make(struct disk *d, const uint8_t uuid[16], uint64_t number, uint64_t segment_size, uint64_t end);
int  index_remove(struct disk *d, uint64_t number);               /* fine where there is none */

#endif
