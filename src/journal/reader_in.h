/* What the files of the reader share, and nobody else sees. */
#ifndef JOURNAL_READER_IN_H
#define JOURNAL_READER_IN_H

#include "journal/extent.h"
#include "journal/index.h"
#include "journal/reader.h"
#include "journal/walk.h"

#define READER_FILES 16 /* kept open for single look-ups */
#define READER_ROTTEN 64 /* names of rotten indexes that wait to be told */
#define READER_DICTS 16 /* places of dictionaries that were looked for */

struct open_file {
	uint64_t          number;                 /* 0: none */
	struct disk_file *file;
};
struct dict_place { uint64_t segment, pos; uint32_t number; };
struct reader {
	struct disk       *disk;
	const struct ring *ring;
	uint64_t           segment_size;
	uint32_t           shard;
	uint8_t            uuid[16];
	bool               has_uuid, history, tool;
	uint64_t           durable;               /* of a tool's, beside a running journald */
	struct manifest_entry *v;                 /* in the order of walking; end 0: not known yet */
	struct disk_file **held;                  /* a tool's: v's files, locked; NULL each: not there */
	uint32_t           n;
	uint64_t           run;                   /* the ring's first position when v was read */

	struct window      window;
	struct disk_file  *file;                  /* of the segment that is walked */
	bool               file_held;             /* it is one of held[] */
	bool               lost;                  /* it can't be opened, and that is damage */
	int                trouble;               /* an error that says nothing about the bytes */
	uint64_t           number, incarnation;
	/* of the next batch; the segment's first byte: its head comes first */
	uint64_t           pos;
	uint64_t           seq, chain;            /* of the batch before it */
	bool               linked;                /* they are known: the next one must follow on them */
	struct extent      x;                     /* the batch at hand */
	struct read_batch  batch;
	bool               batch_known;           /* its head was read */

	/* index.c: what stands for the segment's batches; p NULL: nothing does */
	struct index       index;
	enum read_bodies   bodies;                /* of this call */
	bool               no_index;
	uint64_t           rotten[READER_ROTTEN]; /* segments whose index can't be used */
	uint32_t           rotten_n;

	char              *look_raw, *look;       /* for reader_at */
	size_t             look_cap;
	struct open_file   files[READER_FILES];
	struct dict_place  dicts[READER_DICTS];
	uint32_t           dicts_n;
};

bool reader_from_ring(const struct reader *r, char *dst, size_t n, uint64_t pos);
/* The file of a segment that a tool holds; NULL: it does not. */
struct disk_file *reader_held(const struct reader *r, uint64_t number);
const struct manifest_entry *reader_entry(const struct reader *r, uint64_t number);
/* The newest position that is durable, as far as this reader knows; 0: it does not. */
uint64_t reader_durable(const struct reader *r);
/* How far a record of this segment may reach; 0: it is not known. */
uint64_t reader_limit(const struct reader *r, uint64_t number);
/* At least n bytes at r->look; the first `have` of them are kept. */
void     reader_look_grow(struct reader *r, size_t have, size_t n);
/* Walks one segment only, from its head to `end`. */
void     reader_take_one(struct reader *r, uint64_t number, uint64_t end);

/* index.c.  Behind the segment's head: true: records come from the index, and the batches are behind us. */
bool     reader_index_begin(struct reader *r);
uint64_t reader_index_pos(const struct reader *r);        /* of the next record */
bool     reader_index_next(struct reader *r, enum read_bodies bodies, struct record *ret);

#endif
