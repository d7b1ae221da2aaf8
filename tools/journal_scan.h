/* journal_scan - one segment's file, every byte that counts checked, what is whole handed out.
 *
 * For verify: by itself, without the reader and without recovery.  Checked are the head, its
 * copy, each block's tag, each batch's head, place, payload hash and chain, each record's checksum and
 * shape, each body's frame (it must unpack to its hash), the seal, and the index beside it.
 * In a damaged batch the records that lie wholly in good blocks are still handed out: each good
 * block's tag says where the first record begins in it. */
#ifndef TOOLS_JOURNAL_SCAN_H
#define TOOLS_JOURNAL_SCAN_H

#include "journal/format.h"
#include "journal/zip.h"

struct scan_calls {
	/* A good record.  Of what a BODY holds, the frame has been unpacked already. */
	void (*record)(void *ctx, uint64_t pos, const struct rec_head *h, struct span body);
	/* Bytes that are not what was written there: from offset, so many; what: a few words */
	void (*damage)(void *ctx, uint64_t offset, uint64_t n, const char *what);
	/* Records may have been lost between these two offsets */
	void (*lost)(void *ctx, uint64_t from, uint64_t to);
	void (*progress)(void *ctx, uint64_t bytes);      /* so many more were read */
	/* A frame names a dictionary that zip does not have: it may be in another segment */
	void (*dict)(void *ctx, uint32_t number);
};
struct scan {
	/* the caller's */
	int            fd;
	uint64_t       number, segment_size;
	uint8_t        uuid[16];
	uint64_t       end;                       /* offset behind the last batch; 0: where good blocks end */
	bool           loose;                     /* damage to the head is known, or of no matter */
	const struct scan_calls *calls;
	void          *ctx;
	struct zip    *zip;                       /* takes the dictionaries; NULL: bodies stay packed */
	/* what was found */
	bool           head_ok, copy_ok, sealed;
	struct segment_head head;                 /* where one of them is */
	struct manifest_entry *manifest;          /* all of it; NULL: it could not be read */
	struct rec_seal seal;
	uint64_t       seq, chain;                /* of the last batch */
	uint64_t       batches, records, bytes, time_first_us, time_last_us;
	bool           chain_ok;                  /* seq and chain are known at the end */
	/* its own */
	uint64_t       incarnation, off, batch_off;
	char          *raw_buf, *buf, *payload, *part;
	uint64_t       buf_off;
	size_t         buf_n;
	bool           linked;
	uint64_t       chain_before;              /* of the batch before the one at hand */
};
void scan_init(struct scan *s, int fd, uint64_t number, uint64_t segment_size, const uint8_t uuid[16]);
void scan_fini(struct scan *s);                   /* fd stays open */
/* The head, into s->head, head_ok, copy_ok: before scan_run(), or alone. */
void scan_head(struct scan *s);
void scan_run(struct scan *s);                    /* its batches */

#endif
