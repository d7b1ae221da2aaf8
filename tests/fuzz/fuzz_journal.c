/* Bytes of a segment, as a disk may give them back: recovery and the reader must end, say what
 * they find, and stay within bounds.
 *
 * The input is laid over a whole small journal that is made once: first an offset and a mode,
 * then bytes.  Checksums are made to fit again where the mode says so, as chance never would:
 * so that what lies behind them is reached. */
#include "core/disk.h"
#include "core/log.h"
#include "core/pool.h"
#include "journal/commit.h"
#include "journal/reader.h"
#include "journal/segments.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SEGMENT   (64 * 1024)
#define SEGMENTS  3
#define STEPS_MAX 100000 /* far more than such a journal has records */

struct disk_file {
	uint64_t number;
};
static _Alignas(4096) char files[SEGMENTS][SEGMENT];
static struct disk_file handles[SEGMENTS];

static int mem_list(struct disk *d, void (*each)(void *, const char *, uint64_t), void *ctx)
{
	char name[SEGMENT_NAME_MAX];

	for (uint64_t i = 0; i < SEGMENTS; i++) {
		segment_name(name, FILE_SEGMENT, i + 1);
		each(ctx, name, SEGMENT);
	}
	return 0;
}

static int mem_open(struct disk *d, const char *name, int flags, struct disk_file **ret)
{
	enum segment_file kind;
	uint64_t n;

	if (!segment_name_parse(name, &kind, &n) || kind != FILE_SEGMENT || n < 1 ||
	    n > SEGMENTS)
		return -ENOENT;
	*ret = &handles[n - 1];
	(*ret)->number = n - 1;
	return 0;
}

static void mem_close(struct disk *d, struct disk_file *f)
{
}

static int64_t mem_size(struct disk *d, struct disk_file *f)
{
	return SEGMENT;
}

static int64_t mem_read(struct disk *d, struct disk_file *f, void *p, size_t n, uint64_t off)
{
	if (off >= SEGMENT)
		return 0;
	if (n > SEGMENT - off)
		n = SEGMENT - off;
	memcpy(p, files[f->number] + off, n);
	return (int64_t)n;
}

static const struct disk_calls calls = {
	.list = mem_list,
	.open = mem_open,
	.close = mem_close,
	.size = mem_size,
	.read = mem_read,
};
static struct disk disk = {.calls = &calls};

/* ---- a journal of three segments: sealed, sealed, open ---- */

static const uint8_t uuid[16] = "a fuzzed journal";
static uint64_t seq, chain;

static size_t put(char *blocks, size_t at, enum rec_type type, uint64_t id, struct span body)
{
	struct rec_head h = {.type = (uint8_t)type, .id = id};

	rec_seal_head(&h, &body, 1);
	payload_put(blocks, at, &h, sizeof h);
	payload_put(blocks, at + sizeof h, body.p, body.n);
	return at + rec_size(body.n);
}

static uint32_t seal(char *blocks, uint64_t number, size_t used, uint32_t flags)
{
	struct batch_head b = {
		.blocks = (uint32_t)blocks_for(used),
		.seq = ++seq,
		.watermark = seq - 1,
		.payload_n = (uint32_t)(used - sizeof b),
		.flags = flags,
	};
	struct block_tag t = {
		.incarnation = incarnation_of(uuid, number), .seq = seq, .watermark_lag = 1};

	b.payload_hash = payload_hash(blocks, sizeof b, b.payload_n);
	b.chain = chain = hash64_chain(chain, b.payload_hash, seq);
	batch_head_seal(&b);
	memcpy(blocks, &b, sizeof b);
	for (uint32_t i = 0; i < b.blocks; i++) {
		t.index = (uint16_t)i;
		t.flags = (uint16_t)((i == 0 ? BLOCK_FIRST : 0) |
				     (i == b.blocks - 1 ? BLOCK_LAST : 0));
		block_seal(blocks + (size_t)i * BLOCK_SIZE, &t);
	}
	return b.blocks;
}

static size_t put_mail(char *blocks, size_t at, uint64_t id)
{
	static char raw[5000];
	struct {
		struct rec_body b;
		char p[5000];
	} body = {{.raw_n = 5000, .codec = CODEC_RAW}, ""};
	struct {
		struct rec_rcpt r;
		char p[6];
	} __attribute__((packed)) rcpt = {{0, 2}, "\1\0a\1\0b"};
	struct {
		struct rec_msg m;
		uint64_t at[2];
		char s[4];
	} __attribute__((packed))
	msg = {{.body_parts = 1, .rcpt_parts = 1, .rcpts = 2, .sender_n = 4}, {0, 0}, "a@bc"};
	struct {
		struct rec_state s;
		struct msg_range r;
	} state = {{.outcome = OUTCOME_DELIVERED, .ranges_n = 1}, {0, 1}};

	memset(raw, (int)id, sizeof raw);
	memcpy(body.p, raw, sizeof raw);
	at = put(blocks, at, REC_BODY, id, span_of(&body, sizeof body.b + 5000));
	at = put(blocks, at, REC_RCPT, id, span_of(&rcpt, sizeof rcpt));
	at = put(blocks, at, REC_MSG, id, span_of(&msg, sizeof msg));
	return put(blocks, at, REC_STATE, id, span_of(&state, sizeof state));
}

static void make_segment(uint64_t number, struct manifest_entry *named, uint32_t named_n)
{
	char *p = files[number - 1];
	struct segment_head h = {
		.number = number,
		.segment_size = SEGMENT,
		.epoch = 1,
		.first_seq = seq + 1,
		.chain = chain,
		.oldest = 1,
		.manifest_n = named_n,
	};
	struct rec_seal s = {.next_number = number + 1};
	size_t at;

	memcpy(h.uuid, uuid, sizeof uuid);
	segment_head_put(p, &h, named, false);
	p += BLOCK_SIZE;
	for (int i = 0; i < 5; i++) {
		bool last = i == 4 && number < SEGMENTS;

		at = put_mail(p, sizeof(struct batch_head), number * 100 + (uint64_t)i);
		if (last)
			at = put(p, at, REC_SEAL, 0, span_of(&s, sizeof s));
		p += (size_t)seal(p, number, at, last ? BATCH_SEAL : BATCH_ACKED) * BLOCK_SIZE;
	}
	named[named_n] = (struct manifest_entry){
		.number = number,
		.end = number * SEGMENT + (uint64_t)(p - files[number - 1]),
		.state = SEGMENT_QUEUE,
		.incarnation = incarnation_of(uuid, number),
	};
}

static void make_journal(void)
{
	struct manifest_entry named[SEGMENTS];

	memset(files, 0, sizeof files);
	seq = 0;
	chain = 0;
	for (uint64_t n = 1; n <= SEGMENTS; n++)
		make_segment(n, named, (uint32_t)n - 1);
}

/* ---- what must always end ---- */

static void read_all(void)
{
	struct reader *r = reader_new(&disk, NULL, SEGMENT, 0);
	struct record rec;
	enum read_result got;
	struct buf why;
	unsigned steps = 0;

	buf_init(&why, 512);
	if (reader_open(r, &why) == 0) {
		while ((got = reader_next(r, steps % 2, &rec)) == READ_OK ||
		       got == READ_DAMAGE) {
			struct record one;

			check(++steps < STEPS_MAX);
			if (got == READ_OK && rec.body.n)
				check(hash64(rec.body.p, rec.body.n) !=
				      1); /* touches every byte */
			(void)reader_at(r, rec.pos, (enum rec_type)rec.head.type, rec.head.id,
					rec.head.number, &one);
		}
	}
	buf_free(&why);
	reader_free(r);
}

static void reseal(char *block)
{
	struct batch_head b;
	struct block_tag t;

	memcpy(&b, block, sizeof b);
	memcpy(&t, block + BLOCK_DATA, sizeof t);
	if (b.magic == BATCH_MAGIC) {
		batch_head_seal(&b);
		memcpy(block, &b, sizeof b);
	}
	block_seal(block, &t);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	struct journal_end end;
	uint32_t at;

	if (n < 5)
		return 0;
	memcpy(&at, p, sizeof at);
	at %= sizeof files;
	make_journal();
	n -= 5;
	if (n > sizeof files - at)
		n = sizeof files - at;
	memcpy(&files[0][0] + at, p + 5, n);
	for (uint64_t b = at / BLOCK_SIZE;
	     p[4] & 1 && b < sizeof files / BLOCK_SIZE && b * BLOCK_SIZE < at + n; b++)
		reseal(&files[0][0] + b * BLOCK_SIZE);
	(void)journal_recover(&disk, &end);
	journal_end_fini(&end);
	read_all();
	return 0;
}
