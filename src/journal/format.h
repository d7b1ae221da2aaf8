/* format - every byte of the journal.  docs/journal.md explains; this page is the law.
 *
 * Position: a 64-bit number, segment number * segment size + offset in the file.  Segment
 * numbers start at 1, only grow and are never used twice; files are recycled by renaming.
 *
 * A segment file is `segment_size` bytes of 4096-byte blocks.  Each block is BLOCK_DATA bytes
 * of payload and a tag.  Block 0 is the segment's head.  What follows are batches: a batch
 * starts on a block, is written by one write, and its payload is the payloads of its blocks
 * joined: a batch_head, then records, then zeros.  A record may cross blocks.
 *
 * All numbers are little endian.  Checksums are XXH3-64, or its low 32 bits. */
#ifndef JOURNAL_FORMAT_H
#define JOURNAL_FORMAT_H

#include "core/buf.h"
#include "mail/msg.h"

#include <stdint.h>

#define JOURNAL_VERSION    1
#define BLOCK_SIZE         4096
#define BLOCK_TAG          32
#define BLOCK_DATA         (BLOCK_SIZE - BLOCK_TAG)
#define SEGMENT_SIZE_MIN   (64 * 1024)
#define SEGMENT_SIZE_MAX   (1024 * 1024 * 1024)
#define BATCH_BLOCKS_MAX   512                    /* 2 MiB: one write */
/* parts of large mail in one batch: small mail never waits behind more */
#define BATCH_LARGE_MAX    (256 * 1024)
#define SEGMENTS_NAMED_MAX 16384                  /* in a manifest: 1 TiB of 64 MiB segments */
/* Segments from this number on are cold: compaction wrote them.  They have numbers, sequences and
 * chains of their own; no position of theirs is ever in the ring.  Positions stay below 2^64:
 * 2^34 segments of SEGMENT_SIZE_MAX. */
#define COLD_FIRST (1ull << 33)

struct block_tag {                                /* the last 32 bytes of every block */
	/* of the segment file: uuid mixed with the segment's number */
	uint64_t incarnation;
	uint64_t seq;                             /* of the batch; 0 in the head of a segment */
	/* seq - (newest batch known durable when this was built) */
	uint32_t watermark_lag;
	uint16_t index;                           /* of the block in its batch */
	/* BLOCK_* in the low 6 bits; above them where the first record that begins in this
	 * block has its head: offset / 8 + 1, or 0: none begins here.  So what lies behind a bad
	 * block can be read, without ever looking for records in somebody's mail. */
	uint16_t flags;
	uint64_t checksum;                        /* of the 4088 bytes before it */
};
enum { BLOCK_FIRST = 1, BLOCK_LAST = 2, BLOCK_HEAD = 4,
       /* of a manifest's rest, which is written before the head: no proof that the segment
        * was used */
       BLOCK_EARLY = 8,
       BLOCK_COLD = 16, /* of a cold segment: no proof of anything until a head names it */
       BLOCK_COPY = 32 /* with BLOCK_HEAD: the head's copy, in the segment's last block */ };
#define BLOCK_FLAGS       63u
#define BLOCK_FIRST_SHIFT 6                       /* tag.flags >> this: offset / 8 + 1 */

/* payload of block 0; manifest entries follow in it and in a MANIFEST record */
struct segment_head {
	char     magic[8];                        /* "quireseg" */
	uint32_t version, head_n;                 /* JOURNAL_VERSION, sizeof of this struct */
	uint8_t  uuid[16];                        /* of the journal */
	uint64_t number;                          /* of this segment */
	uint64_t segment_size;
	/* of the start that made it; durable before its first id */
	uint64_t epoch;
	uint64_t first_seq;                       /* of its first batch */
	uint64_t chain;                           /* of the last batch before it */
	/* the segment that was active before; 0: none */
	uint64_t prev_number;
	/* position where it ends; what lands there later is ignored */
	uint64_t prev_end;
	uint64_t created_us;
	/* the oldest segment number that must exist */
	uint64_t oldest;
	uint32_t shard, generation;               /* generation > 0: compaction's output */
	uint32_t manifest_n, flags;
	/* struct manifest_entry[manifest_n]; more than fit in block 0 come first in the first batch */
};
enum segment_state { SEGMENT_QUEUE = 1, SEGMENT_HISTORY = 2 };
struct manifest_entry {
	uint64_t number, end;                     /* end: position behind its last batch */
	uint32_t state;
	uint32_t closed_s;                        /* HISTORY: when it left the queue, wall clock */
	uint64_t incarnation;
};
#define MANIFEST_IN_HEAD ((BLOCK_DATA - (int)sizeof(struct segment_head)) / (int)sizeof(struct manifest_entry))

struct batch_head {
	uint32_t magic;                           /* BATCH_MAGIC */
	uint32_t blocks;                          /* of this batch */
	uint64_t seq;                             /* 1, 2, ... over the journal's life */
	/* the newest batch known durable when this was built */
	uint64_t watermark;
	/* XXH3 of (previous chain, payload_hash, seq) */
	uint64_t chain;
	/* XXH3 of the payload_n bytes behind this head */
	uint64_t payload_hash;
	uint32_t payload_n;                       /* records, without the zeros at the end */
	uint32_t records;
	uint64_t time_us;
	uint32_t flags;                           /* BATCH_* */
	uint32_t check;                           /* low 32 bits of XXH3 of the bytes before */
};
#define BATCH_MAGIC 0x48435142u                   /* "BQCH" */
enum { BATCH_ACKED = 1 /* holds mail somebody was told yes for */, BATCH_IDLE = 2 /* the mark after quiet */,
       BATCH_SEAL = 4 /* the segment's last batch; its last record is the SEAL */,
       BATCH_INDEX = 8 /* not written: indexes are files (journal/index.h) */ };

enum rec_type {
	REC_NOP = 1,
	/* number: part; body: struct rec_body, frame */
	REC_BODY,
	/* number: part; body: struct rec_rcpt, packed addresses */
	REC_RCPT,
	/* the commit point; body: struct rec_msg + what it says */
	REC_MSG,
	REC_STATE,                                /* body: struct rec_state, ranges, text */
	REC_ACT,                                  /* an administrator's predicate */
	REC_MOVED,                                /* not written any more */
	REC_DICT,                                 /* number: dictionary id; body: its bytes */
	REC_MANIFEST,                             /* body: manifest entries */
	REC_SEAL,                                 /* body: struct rec_seal */
	REC_TYPES
};
struct rec_head {
	/* low 32 bits of XXH3 of the rest of the head and the body */
	uint32_t check;
	/* body bytes behind this head; the next record is at the next multiple of 8 */
	uint32_t n;
	uint8_t  type, flags;
	/* of the body's layout; a reader skips what it does not know only if REC_SKIP is set */
	uint16_t version;
	uint32_t number;
	uint64_t id;                              /* of the message, or 0 */
	uint64_t spare;
};
enum { REC_SKIP = 1 /* may be skipped by a reader that does not know it */,
       REC_REWRITTEN = 2 /* RCPT: imported, addresses are rewritten already */,
       REC_LOCAL = 4 /* with REC_REWRITTEN: they are on the local channel; without it: the remote one */ };
#define REC_LAYOUT 0                              /* rec_head.version of every body below */
/* body bytes: a RCPT or BODY part, or a MSG of the largest mail */
#define REC_MAX (1024 * 1024)

struct rec_body {
	uint32_t raw_n, dict;
	uint64_t raw_hash;                        /* XXH3 of the raw bytes */
	uint8_t  codec, pad[7];
};
/* recipient numbers first .. first + count - 1 */
struct rec_rcpt { uint32_t first, count; };
struct rec_msg {
	uint64_t arrival_us;                      /* wall clock at commit */
	uint64_t size;                            /* raw bytes of the body */
	uint64_t parent;                          /* a bounce: whose failures it settles */
	uint32_t body_parts, rcpt_parts, rcpts;
	uint32_t uid, pid;
	uint16_t sender_n, settles_n;
	uint8_t  kind, pad[3];
	/* bytes of tagged extras at the end (DSN parameters, ...) */
	uint32_t extra_n;
	/* uint64_t positions[body_parts + rcpt_parts]: hints, checked by id, number and checksum;
	 * struct msg_range settles[settles_n]; sender_n bytes; extra_n bytes of { u16 tag, u16 n, bytes } */
};
/* tags of a MSG's extras */
enum extra_tag {
	EXTRA_REPLAY = 1,                         /* 8 bytes: the id that was delivered again */
	EXTRA_IMPORT = 2                          /* struct extra_import: where it came from */
};
/* a message of a classic queue: its number, and mtime and size of its mess file */
struct extra_import { uint64_t number, mtime_ns, size; };
struct rec_state {
	uint64_t at_us, next_us;
	uint32_t attempt;
	uint16_t ranges_n, text_n;
	uint8_t  outcome, pad[7];                 /* enum outcome */
	/* struct msg_range[ranges_n]; text_n bytes */
};
struct rec_seal { uint64_t next_number, chain; uint64_t first_seq, last_seq; uint64_t index_pos, index_n; };

static_check(sizeof(struct block_tag) == BLOCK_TAG);
static_check(sizeof(struct batch_head) == 64);
static_check(sizeof(struct rec_head) == 32);
static_check(sizeof(struct segment_head) == 120);
static_check(sizeof(struct rec_body) == 24);
static_check(sizeof(struct rec_seal) == 48);
static_check(sizeof(struct manifest_entry) == 32);
static_check(sizeof(struct rec_msg) == 56);
static_check(sizeof(struct rec_state) == 32);

/* Message ids: ordered in time within a shard; what log, queue_id and `quire show` print. */
#define ID_SHARD_BITS 6
#define ID_SEQ_BITS   33
static inline uint64_t rec_size(uint64_t body_n)  /* with its head, up to the next record */
{
	return (sizeof(struct rec_head) + body_n + 7) & ~(uint64_t)7;
}
static inline uint64_t id_make(uint64_t epoch, uint64_t seq, uint32_t shard)
{
	return epoch << (ID_SEQ_BITS + ID_SHARD_BITS) | seq << ID_SHARD_BITS | shard;
}

uint64_t hash64(const void *p, size_t n);                       /* XXH3 */
uint64_t hash64_chain(uint64_t chain, uint64_t payload_hash, uint64_t seq);
uint64_t incarnation_of(const uint8_t uuid[16], uint64_t segment_number);

/* Tags of a whole batch, in place: p is blocks * BLOCK_SIZE bytes whose payload is laid out. */
void block_seal(void *block, const struct block_tag *tag);      /* fills in the checksum */
bool block_ok(const void *block, struct block_tag *ret);        /* checksum fits */
void batch_head_seal(struct batch_head *h);
bool batch_head_ok(const struct batch_head *h);
/* n and check from the body's pieces */
void rec_seal_head(struct rec_head *h, const struct span *pieces, int pieces_n);
/* checksum and the sanity of its type: all bounds inside */
bool rec_ok(const struct rec_head *h, struct span body);

/* Payload offset q of a batch that begins at block b <-> byte offset in its blocks. */
static inline uint64_t payload_to_bytes(uint64_t q)
{
	return q / BLOCK_DATA * BLOCK_SIZE + q % BLOCK_DATA;
}
static inline uint64_t blocks_for(uint64_t payload)
{
	return (payload + BLOCK_DATA - 1) / BLOCK_DATA;
}

/* Views into a checked record's body (spans into it). */
struct msg_view {
	const struct rec_msg *m;
	struct span positions, settles, sender, extra;
};
bool msg_view(const struct rec_head *h, struct span body, struct msg_view *ret);
/* The extra with this tag; false: there is none. */
bool msg_extra(const struct msg_view *v, enum extra_tag tag, struct span *ret);
/* body parts first, then recipient parts */
uint64_t msg_position(const struct msg_view *v, uint32_t i);
struct state_view { const struct rec_state *s; struct span ranges, text; };
bool state_view(const struct rec_head *h, struct span body, struct state_view *ret);
struct msg_range range_at(struct span ranges, uint32_t i);      /* unaligned read */

/* Bytes between a flat buffer and the payload of blocks, from payload offset q on. */
void payload_put(void *blocks, uint64_t q, const void *src, size_t n);
void payload_get(const void *blocks, uint64_t q, void *dst, size_t n);
void payload_zero(void *blocks, uint64_t q, size_t n);
/* XXH3 of these payload bytes */
uint64_t payload_hash(const void *blocks, uint64_t q, size_t n);

/* Bytes of a segment that heads and batches may take: its last block is the head's copy. */
static inline uint64_t segment_usable(uint64_t segment_size)
{
	return segment_size - BLOCK_SIZE;
}

/* Names below the journal's directory. */
#define SEGMENT_NAME_MAX 32
enum segment_file { FILE_SEGMENT /* seg- */, FILE_SPARE /* spare-: zeros, synced, or a segment that was given up */,
                    FILE_FILLING /* fill-: not yet */,
                    FILE_BAD /* bad-: a segment that was damaged, in quarantine */ };
void segment_name(char name[SEGMENT_NAME_MAX], enum segment_file kind, uint64_t number);
bool segment_name_parse(const char *name, enum segment_file *ret_kind, uint64_t *ret_number);

#endif
