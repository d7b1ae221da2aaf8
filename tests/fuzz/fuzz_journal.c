/* Bytes of a segment, as a disk may give them back: recovery and the reader must end, say what
 * they find, and stay within bounds.
 *
 * The input is laid over a whole small journal that is made once: first an offset and a mode,
 * then bytes.  Checksums are made to fit again where the mode says so, as chance never would:
 * so that what lies behind them is reached. */
#include "core/disk.h"
#include "core/log.h"
#include "core/pool.h"
#include "journal/batch.h"
#include "journal/reader.h"
#include "journal/recover.h"
#include "journal/segments.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SEGMENT   (64 * 1024)
#define HOT       3
#define SEGMENTS  4 /* the last one is cold */
#define STEPS_MAX 100000 /* far more than such a journal has records */

struct disk_file {
	uint64_t number;
};
static _Alignas(4096) char files[SEGMENTS][SEGMENT];
static struct disk_file handles[SEGMENTS];

static uint64_t number_of(uint64_t i)
{
	return i < HOT ? i + 1 : COLD_FIRST + i;
}

static int mem_list(struct disk *d, void (*each)(void *, const char *, uint64_t), void *ctx)
{
	char name[SEGMENT_NAME_MAX];

	for (uint64_t i = 0; i < SEGMENTS; i++) {
		segment_name(name, FILE_SEGMENT, number_of(i));
		each(ctx, name, SEGMENT);
	}
	return 0;
}

static int mem_open(struct disk *d, const char *name, int flags, struct disk_file **ret)
{
	enum segment_file kind;
	uint64_t n;

	if (!segment_name_parse(name, &kind, &n) || kind != FILE_SEGMENT)
		return -ENOENT;
	for (uint64_t i = 0; i < SEGMENTS; i++)
		if (number_of(i) == n) {
			*ret = &handles[i];
			(*ret)->number = i;
			return 0;
		}
	return -ENOENT;
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

/* ---- a journal of four segments: sealed, sealed, open, and a cold one ---- */

static const uint8_t uuid[16] = "a fuzzed journal";
static uint64_t seq, chain;

static void put(struct batch_layout *b, enum rec_type type, uint64_t id, struct span body)
{
	struct rec_head h = {.type = (uint8_t)type, .id = id};

	rec_seal_head(&h, &body, 1);
	batch_layout_put(b, &h, &body, 1);
}

static uint64_t seal(struct batch_layout *b, uint64_t number, uint32_t flags)
{
	struct batch_end e = {
		.incarnation = incarnation_of(uuid, number),
		.seq = ++seq,
		.watermark = seq - 1,
		.chain = chain,
		.flags = flags,
		.block_flags = number >= COLD_FIRST ? BLOCK_COLD : 0,
	};

	chain = batch_layout_end(b, &e);
	return blocks_for(b->used);
}

static void put_mail(struct batch_layout *b, uint64_t id)
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
	put(b, REC_BODY, id, span_of(&body, sizeof body.b + 5000));
	put(b, REC_RCPT, id, span_of(&rcpt, sizeof rcpt));
	put(b, REC_MSG, id, span_of(&msg, sizeof msg));
	put(b, REC_STATE, id, span_of(&state, sizeof state));
}

static uint64_t make_batches(char *begin, uint64_t number)
{
	char *p = begin + BLOCK_SIZE;
	struct rec_seal s = {.next_number = number + 1};

	for (int i = 0; i < 5; i++) {
		bool last = i == 4 && number < HOT;
		struct batch_layout b;

		batch_layout_init(&b);
		b.blocks = p;
		if (i == 0)
			put(&b, REC_DICT, 0, SPAN("words"));
		put_mail(&b, number * 100 + (uint64_t)i);
		if (last)
			put(&b, REC_SEAL, 0, span_of(&s, sizeof s));
		p += seal(&b, number, last ? BATCH_SEAL : BATCH_ACKED) * BLOCK_SIZE;
	}
	return number * SEGMENT + (uint64_t)(p - begin);
}

static void make_segment(uint64_t number, char *p, struct manifest_entry *named,
			 uint32_t named_n)
{
	struct segment_head h = {
		.number = number,
		.segment_size = SEGMENT,
		.epoch = 1,
		.first_seq = seq + 1,
		.chain = chain,
		.oldest = 1,
		.manifest_n = named_n,
		.generation = number >= COLD_FIRST,
	};

	memcpy(h.uuid, uuid, sizeof uuid);
	segment_head_put(p, &h, named, false);
	segment_head_put(p + segment_usable(SEGMENT), &h, named, true);
}

static void make_journal(void)
{
	struct manifest_entry named[SEGMENTS], cold;

	memset(files, 0, sizeof files);
	for (uint64_t i = SEGMENTS; i-- > 0;) {
		uint64_t number = number_of(i);

		if (number < COLD_FIRST)
			break;
		seq = chain = 0;
		make_segment(number, files[i], NULL, 0);
		cold = (struct manifest_entry){.number = number,
					       .end = make_batches(files[i], number),
					       .state = SEGMENT_QUEUE,
					       .incarnation = incarnation_of(uuid, number)};
	}
	seq = chain = 0;
	for (uint64_t n = 1; n <= HOT; n++) {
		named[n - 1] = cold; /* behind the hot ones in front of this one */
		make_segment(n, files[n - 1], named, n == HOT ? HOT : (uint32_t)n - 1);
		named[n - 1] = (struct manifest_entry){
			.number = n,
			.end = make_batches(files[n - 1], n),
			.state = n == 1 ? SEGMENT_HISTORY : SEGMENT_QUEUE,
			.incarnation = incarnation_of(uuid, n),
		};
	}
}

/* ---- what must always end ---- */

static void walk(struct reader *r)
{
	struct record rec, one;
	struct read_batch b;
	enum read_result got;
	unsigned steps = 0;

	while ((got = reader_next(r, (enum read_bodies)(steps % 3), &rec)) == READ_OK ||
	       got == READ_DAMAGE) {
		check(++steps < STEPS_MAX);
		if (got == READ_OK && rec.body.n)
			check(hash64(rec.body.p, rec.body.n) != 1); /* touches every byte */
		if (reader_batch(r, &b))
			check(b.pos < b.end);
		if (steps % 16 == 0) {
			uint64_t pos = rec.pos;

			(void)reader_at(r, pos, (enum rec_type)rec.head.type, rec.head.id,
					rec.head.number, &one);
			(void)reader_dict(r, pos, 0, &one);
		}
	}
}

static void read_all(void)
{
	struct reader *r = reader_new(&disk, NULL, SEGMENT, 0);
	struct buf why;

	buf_init(&why, 512);
	reader_with_history(r);
	if (reader_open(r, &why) == 0)
		walk(r);
	reader_free(r);
	for (uint64_t i = 0; i < SEGMENTS; i++) {
		r = reader_new(&disk, NULL, SEGMENT, 0);
		if (i % 2)
			reader_use_uuid(r, uuid);
		if (reader_only(r, number_of(i), 0, &why) == 0)
			walk(r);
		reader_free(r);
	}
	buf_free(&why);
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
