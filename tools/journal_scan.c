#include "tools/journal_scan.h"

#include "core/disk.h"
#include "core/pool.h"
#include "journal/dict.h"
#include "journal/segments.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define CHUNK       ((size_t)2 * BATCH_BLOCKS_MAX * BLOCK_SIZE) /* holds the largest batch */
#define UNREADABLE  0xa5                          /* a tag of these bytes has no fitting checksum */

void scan_init(struct scan *s, int fd, uint64_t number, uint64_t segment_size, const uint8_t uuid[16])
{
	*s = (struct scan){.fd = fd, .number = number, .segment_size = segment_size};
	memcpy(s->uuid, uuid, sizeof s->uuid);
	s->incarnation = incarnation_of(s->uuid, number);
	s->raw_buf = mem_new(CHUNK + DISK_ALIGN);
	s->buf = s->raw_buf + (DISK_ALIGN - (uintptr_t)s->raw_buf % DISK_ALIGN) % DISK_ALIGN;
	s->payload = mem_new((size_t)BATCH_BLOCKS_MAX * BLOCK_DATA);
	s->part = mem_new(BODY_PART_MAX);
}

void scan_fini(struct scan *s)
{
	mem_free(s->raw_buf);
	mem_free(s->payload);
	mem_free(s->part);
	mem_free(s->manifest);
	*s = (struct scan){.fd = -1};
}

static void damage(struct scan *s, uint64_t offset, uint64_t n, const char *what)
{
	if (s->calls && s->calls->damage)
		s->calls->damage(s->ctx, offset, n, what);
}

static void lost(struct scan *s, uint64_t from, uint64_t to)
{
	if (to > from && s->calls && s->calls->lost)
		s->calls->lost(s->ctx, from, to);
}

/* ---- bytes ---- */

static bool read_all(int fd, char *dst, size_t n, uint64_t off)
{
	while (n) {
		ssize_t got = pread(fd, dst, n, (off_t)off);

		if (got < 0)
			return false;
		if (got == 0) { /* a truncated file: zeros, which are no batch */
			memset(dst, 0, n);
			return true;
		}
		dst += got;
		off += (uint64_t)got;
		n -= (size_t)got;
	}
	return true;
}

/* n bytes at off, until the next call.  What can't be read has no good tag. */
static char *bytes_at(struct scan *s, uint64_t off, size_t n)
{
	size_t take;

	if (off >= s->buf_off && off + n <= s->buf_off + s->buf_n)
		return s->buf + (off - s->buf_off);
	check(n <= CHUNK && off + n <= s->segment_size);
	take = CHUNK < s->segment_size - off ? CHUNK : s->segment_size - off;
	s->buf_off = off;
	s->buf_n = take;
	if (read_all(s->fd, s->buf, take, off))
		return s->buf;
	for (size_t i = 0; i < take; i += BLOCK_SIZE)
		if (!read_all(s->fd, s->buf + i, BLOCK_SIZE, off + i))
			memset(s->buf + i, UNREADABLE, BLOCK_SIZE);
	return s->buf;
}

static char *block_at(struct scan *s, uint64_t off)
{
	return bytes_at(s, off, BLOCK_SIZE);
}

static bool all_zero(const char *p, size_t n)
{
	return p[0] == 0 && memcmp(p, p + 1, n - 1) == 0;
}

/* NULL: it is ours and whole, and *t its tag. */
static const char *block_trouble(const struct scan *s, const char *p, struct block_tag *t)
{
	*t = (struct block_tag){0};
	if (!block_ok(p, t)) {
		*t = (struct block_tag){0};
		return all_zero(p, BLOCK_SIZE) ? "zeros" : "a checksum that does not fit";
	}
	if (t->incarnation != s->incarnation)
		return "a whole block of another segment or another time (stale)";
	return NULL;
}

/* ---- the head ---- */

static bool rest_of_manifest(struct scan *s)
{
	uint32_t rest = s->head.manifest_n - MANIFEST_IN_HEAD;
	struct batch_head b;
	struct rec_head r;
	struct block_tag t;
	const char *p = block_at(s, BLOCK_SIZE);

	memcpy(&b, p, sizeof b);
	if (block_trouble(s, p, &t) || !batch_head_ok(&b) || b.blocks > BATCH_BLOCKS_MAX ||
	    (uint64_t)b.blocks * BLOCK_SIZE > s->segment_size - BLOCK_SIZE)
		return false;
	p = bytes_at(s, BLOCK_SIZE, (size_t)b.blocks * BLOCK_SIZE);
	payload_get(p, sizeof b, &r, sizeof r);
	if (r.type != REC_MANIFEST || r.n != rest * sizeof *s->manifest ||
	    sizeof b + rec_size(r.n) > (uint64_t)b.blocks * BLOCK_DATA)
		return false;
	payload_get(p, sizeof b + sizeof r, s->manifest + MANIFEST_IN_HEAD, r.n);
	return rec_ok(&r, span_of(s->manifest + MANIFEST_IN_HEAD, r.n));
}

static void take_manifest(struct scan *s, const char *block)
{
	uint32_t n = s->head.manifest_n < MANIFEST_IN_HEAD ? s->head.manifest_n : MANIFEST_IN_HEAD;

	mem_free(s->manifest);
	s->manifest = mem_new((s->head.manifest_n + 1) * sizeof *s->manifest);
	memcpy(s->manifest, block + sizeof s->head, n * sizeof *s->manifest);
	if (s->head.manifest_n > n && !rest_of_manifest(s)) {
		mem_free(s->manifest);
		s->manifest = NULL;
	}
}

/* A head in this block that says it is of this journal, this segment and this size? */
static bool is_head(const struct scan *s, const char *block, bool copy, struct segment_head *ret)
{
	enum head_kind kind = copy ? segment_copy_get(block, s->number, ret)
				   : segment_head_get(block, s->number, ret);

	return kind == HEAD_OK && memcmp(ret->uuid, s->uuid, sizeof s->uuid) == 0 &&
	       ret->segment_size == s->segment_size;
}

void scan_head(struct scan *s)
{
	char *first = mem_new(BLOCK_SIZE);
	uint64_t copy_off = s->segment_size - BLOCK_SIZE;
	struct segment_head copy;
	char *p;

	memcpy(first, block_at(s, 0), BLOCK_SIZE);
	s->head_ok = is_head(s, first, false, &s->head);
	p = block_at(s, copy_off);
	s->copy_ok = is_head(s, p, true, &copy);
	if (s->copy_ok && !s->head_ok)
		s->head = copy;
	if (s->copy_ok && s->head_ok && memcmp(p, first, BLOCK_DATA) != 0 && !s->loose)
		damage(s, copy_off, BLOCK_SIZE, "a copy of the head that says something else");
	if (!s->head_ok && !s->loose)
		damage(s, 0, BLOCK_SIZE, "no head of this segment");
	if (!s->copy_ok && !s->loose)
		damage(s, copy_off, BLOCK_SIZE, "no copy of this segment's head");
	if (s->head_ok || s->copy_ok) {
		memcpy(first, s->head_ok ? first : p, BLOCK_DATA);
		take_manifest(s, first);
		if (!s->manifest && !s->loose)
			damage(s, BLOCK_SIZE, BLOCK_SIZE, "the rest of the list of segments is not there");
	}
	mem_free(first);
}

/* ---- records ---- */

static bool unpacks(struct scan *s, struct span body)
{
	struct rec_body b;

	memcpy(&b, body.p, sizeof b);
	if (b.dict && !zip_has_dict(s->zip, b.dict) && s->calls->dict)
		s->calls->dict(s->ctx, b.dict);
	return b.raw_n <= BODY_PART_MAX && zip_unpack(s->zip, b.codec, b.dict, span_from(body, sizeof b),
						      b.raw_hash, s->part, b.raw_n);
}

static uint64_t offset_of(const struct scan *s, uint64_t q)
{
	return s->batch_off + payload_to_bytes(q);
}

static void take_seal(struct scan *s, uint64_t q, struct span body, const struct batch_head *b)
{
	memcpy(&s->seal, body.p, sizeof s->seal);
	s->sealed = true;
	if (!b || !s->chain_ok)
		return;
	if (s->seal.last_seq != b->seq || s->seal.chain != s->chain_before ||
	    ((s->head_ok || s->copy_ok) && s->seal.first_seq != s->head.first_seq))
		damage(s, offset_of(s, q), rec_size(body.n), "a seal that contradicts its segment");
}

/* A record whose bytes are all in good blocks. */
static void take_record(struct scan *s, uint64_t q, const struct rec_head *h, struct span body,
			const struct batch_head *b)
{
	uint64_t off = offset_of(s, q);
	bool known = h->type > 0 && h->type < REC_TYPES && h->version == REC_LAYOUT;

	s->records++;
	if (!rec_ok(h, body)) {
		damage(s, off, rec_size(h->n), "a record whose checksum or shape is wrong");
		lost(s, off, offset_of(s, q + rec_size(h->n)));
		return;
	}
	if (!known && !(h->flags & REC_SKIP)) {
		damage(s, off, rec_size(h->n), "a record of a kind that this version does not know");
		return;
	}
	if (h->type == REC_DICT && dict_number(body) != h->number) {
		damage(s, off, rec_size(h->n), "a dictionary that has another number than its bytes");
		return;
	}
	if (h->type == REC_DICT && s->zip && !zip_has_dict(s->zip, h->number))
		zip_add_dict(s->zip, h->number, body, false);
	if (h->type == REC_SEAL)
		take_seal(s, q, body, b);
	if (h->type == REC_BODY && s->zip && !unpacks(s, body)) {
		damage(s, off, rec_size(h->n), "a body that does not unpack to what was packed");
		lost(s, off, offset_of(s, q + rec_size(h->n)));
		return;
	}
	if (known && s->calls && s->calls->record)
		s->calls->record(s->ctx, s->number * s->segment_size + off, h, body);
}

/* The first record that begins at or behind payload block `from`, as the good blocks' tags say;
 * blocks * BLOCK_DATA: none. */
static uint64_t next_start(const uint16_t *firsts, uint32_t from, uint32_t blocks)
{
	for (uint32_t i = from; i < blocks; i++)
		if (firsts[i])
			return (uint64_t)i * BLOCK_DATA + (firsts[i] - 1u) * 8u;
	return (uint64_t)blocks * BLOCK_DATA;
}

static bool blocks_good(const bool *good, uint64_t from, uint64_t to)
{
	for (uint64_t i = from / BLOCK_DATA; i * BLOCK_DATA < to; i++)
		if (!good[i])
			return false;
	return true;
}

/* The records of a batch of which some blocks may be bad.  end: of the payload, as far as it
 * is known. Returns how many there were. */
static uint64_t take_records(struct scan *s, const bool *good, const uint16_t *firsts, uint32_t blocks,
			     uint64_t end, const struct batch_head *b)
{
	uint64_t all = (uint64_t)blocks * BLOCK_DATA, q = b ? sizeof *b : 0, n = 0, from;
	struct rec_head h;

	if (!good[0])
		q = next_start(firsts, 0, blocks);
	if (q > sizeof *b)
		lost(s, s->batch_off, offset_of(s, q < end ? q : end));
	while (q + sizeof h <= end) {
		uint64_t size = 0;

		from = q;
		if (blocks_good(good, q, q + sizeof h)) {
			memcpy(&h, s->payload + q, sizeof h);
			if (!b && h.type == 0 && h.n == 0 && h.check == 0)
				break; /* the zeros at the end of a batch whose head is lost */
			size = rec_size(h.n);
			if (size > end - q) {
				damage(s, offset_of(s, q), sizeof h, "a record that is longer than its batch");
				lost(s, offset_of(s, q), offset_of(s, end));
				break;
			}
			if (blocks_good(good, q, q + sizeof h + h.n)) {
				take_record(s, q, &h, span_of(s->payload + q + sizeof h, h.n), b);
				q += size;
				n++;
				continue;
			}
		}
		/* To the first good block behind the first bad one. */
		while (q < all && good[q / BLOCK_DATA])
			q = (q / BLOCK_DATA + 1) * BLOCK_DATA;
		while (q < all && !good[q / BLOCK_DATA])
			q = (q / BLOCK_DATA + 1) * BLOCK_DATA;
		q = next_start(firsts, (uint32_t)(q / BLOCK_DATA), blocks);
		lost(s, offset_of(s, from), offset_of(s, q < end ? q : end));
	}
	return n;
}

/* ---- batches ---- */

struct batch {
	struct batch_head head;
	bool head_ok;
	uint32_t blocks, bad;
	uint64_t seq;
	bool good[BATCH_BLOCKS_MAX];
	uint16_t firsts[BATCH_BLOCKS_MAX];        /* 0: none begins there, or the block is bad */
};

/* Each block by itself; bad ones are said, neighbours with the same trouble together. */
static void judge_blocks(struct scan *s, struct batch *b)
{
	const char *what, *said = NULL;
	uint64_t from = 0;

	for (uint32_t i = 0; i <= b->blocks; i++) {
		struct block_tag t;

		what = NULL;
		if (i < b->blocks) {
			const char *p = block_at(s, s->batch_off + (uint64_t)i * BLOCK_SIZE);

			what = block_trouble(s, p, &t);
			if (!what && (!b->seq || t.seq != b->seq || t.index != i))
				what = "a whole block of another batch";
			if (!what && b->head_ok &&
			    (!!(t.flags & BLOCK_LAST) != (i + 1 == b->blocks) ||
			     !!(t.flags & BLOCK_FIRST) != (i == 0) ||
			     t.watermark_lag != b->seq - b->head.watermark))
				what = "a tag that contradicts its batch";
			if (!what && !!(t.flags & BLOCK_COLD) != (s->number >= COLD_FIRST))
				what = "a tag that contradicts its segment";
			b->good[i] = !what;
			b->firsts[i] = what ? 0 : (uint16_t)(t.flags >> BLOCK_FIRST_SHIFT);
			b->bad += !b->good[i];
			memcpy(s->payload + (uint64_t)i * BLOCK_DATA, p, BLOCK_DATA);
		}
		if (said && what != said)
			damage(s, from, s->batch_off + (uint64_t)i * BLOCK_SIZE - from, said);
		if (what && what != said)
			from = s->batch_off + (uint64_t)i * BLOCK_SIZE;
		said = what;
	}
}

/* A tag that says wrongly where records begin is as bad as a checksum that does not fit: a reader would
 * look in the middle of somebody's mail. */
static void judge_first(struct scan *s, const struct batch *b, uint32_t block, uint32_t want)
{
	if (b->firsts[block] != want)
		damage(s, s->batch_off + (uint64_t)block * BLOCK_SIZE, BLOCK_SIZE,
		       "a tag that does not say where its first record is");
}

static void judge_firsts(struct scan *s, const struct batch *b)
{
	uint64_t q = sizeof b->head, end = sizeof b->head + (uint64_t)b->head.payload_n;
	uint32_t block = 0;
	struct rec_head h;

	for (; q + sizeof h <= end; q += rec_size(h.n)) {
		for (; block < q / BLOCK_DATA; block++)
			judge_first(s, b, block, 0);
		if (block == q / BLOCK_DATA)
			judge_first(s, b, block++, (uint32_t)(q % BLOCK_DATA / 8 + 1));
		memcpy(&h, s->payload + q, sizeof h);
	}
	for (; block < b->blocks; block++)
		judge_first(s, b, block, 0);
}

static void check_batch(struct scan *s, struct batch *b)
{
	uint64_t n, end = sizeof b->head + (uint64_t)b->head.payload_n;

	judge_blocks(s, b);
	if (end > (uint64_t)b->blocks * BLOCK_DATA) {
		damage(s, s->batch_off, BLOCK_SIZE, "a batch that is longer than its blocks");
		end = (uint64_t)b->blocks * BLOCK_DATA;
	}
	if (!b->bad && hash64(s->payload + sizeof b->head, b->head.payload_n) != b->head.payload_hash)
		damage(s, s->batch_off, (uint64_t)b->blocks * BLOCK_SIZE, "a payload hash that does not fit");
	if (b->head.watermark >= b->seq)
		damage(s, s->batch_off, BLOCK_SIZE, "a watermark that is not below its own batch");
	n = take_records(s, b->good, b->firsts, b->blocks, end, &b->head);
	if (!b->bad && n != b->head.records)
		damage(s, s->batch_off, BLOCK_SIZE, "another number of records than its head says");
	if (!b->bad && n == b->head.records)
		judge_firsts(s, b);
}

/* Does a batch of a later seq begin here, and go on as one?  A block that lies where it does not belong
 * may look like its first one; then what follows is not the next batch. */
static bool begins_later(struct scan *s, uint64_t off, uint64_t limit, uint64_t seq)
{
	struct batch_head h, next;
	struct block_tag t;
	const char *p = block_at(s, off);

	memcpy(&h, p, sizeof h);
	if (block_trouble(s, p, &t) || !(t.flags & BLOCK_FIRST) || t.flags & BLOCK_HEAD || t.index || t.seq <= seq ||
	    !batch_head_ok(&h) || h.seq != t.seq || !h.blocks || h.blocks > BATCH_BLOCKS_MAX ||
	    h.blocks * (uint64_t)BLOCK_SIZE > limit - off)
		return false;
	for (uint64_t i = 1; i <= h.blocks && off + i * BLOCK_SIZE < limit; i++) {
		p = block_at(s, off + i * BLOCK_SIZE);
		memcpy(&next, p, sizeof next);
		if (block_trouble(s, p, &t))
			continue;
		if (i < h.blocks ? t.seq != h.seq || t.index != i
				 : t.seq != h.seq + 1 || t.index ||
					   next.chain != hash64_chain(h.chain, next.payload_hash, next.seq))
			return false;
	}
	return true;
}

/* Where the next batch begins. */
static uint64_t next_batch(struct scan *s, uint64_t off, uint64_t limit, uint64_t seq)
{
	while (off < limit && !begins_later(s, off, limit, seq))
		off += BLOCK_SIZE;
	return off;
}

static uint64_t seq_at(struct scan *s, uint64_t off, uint64_t limit)
{
	struct block_tag t;

	return off < limit && !block_trouble(s, block_at(s, off), &t) ? t.seq : UINT64_MAX;
}

/* Blocks from s->off on that may be of one batch: those that say so have the same seq, with their index, between
 * the batch in front and the one behind; and the bad ones among them. */
static void gather(struct scan *s, struct batch *b, uint64_t n, uint64_t before, uint64_t behind)
{
	struct block_tag t;

	for (b->blocks = 0; b->blocks < n && b->blocks < BATCH_BLOCKS_MAX; b->blocks++) {
		const char *p = block_at(s, s->off + (uint64_t)b->blocks * BLOCK_SIZE);

		if (block_trouble(s, p, &t) || t.seq <= before || t.seq >= behind)
			continue;
		if (b->seq ? t.seq != b->seq : t.index != b->blocks)
			break;
		b->seq = t.seq;
	}
	if (!b->blocks)
		b->blocks = 1;
}

/* No batch begins at off as it should: what lies up to the next one, by the seq that its blocks say. */
static void lost_batches(struct scan *s, uint64_t limit)
{
	uint64_t before = s->seq, to = next_batch(s, s->off, limit, before), behind = seq_at(s, to, limit);

	while (s->off < to) {
		struct batch b = {.seq = 0};

		s->batch_off = s->off;
		gather(s, &b, (to - s->off) / BLOCK_SIZE, before, behind);
		judge_blocks(s, &b);
		if (!b.bad)
			damage(s, s->off, (uint64_t)b.blocks * BLOCK_SIZE, "blocks that are not where they belong");
		take_records(s, b.good, b.firsts, b.blocks, (uint64_t)b.blocks * BLOCK_DATA, NULL);
		s->off += (uint64_t)b.blocks * BLOCK_SIZE;
	}
	s->linked = false;
	s->chain_ok = false;
}

static const char *batch_trouble(const struct scan *s, const struct batch_head *h, uint64_t limit)
{
	if (!batch_head_ok(h))
		return "a batch's head whose checksum does not fit";
	if (!h->blocks || h->blocks > BATCH_BLOCKS_MAX || h->blocks * (uint64_t)BLOCK_SIZE > limit - s->off)
		return "a batch that is longer than its segment";
	if (s->linked && h->seq != s->seq + 1)
		return "a batch out of its order";
	if (!s->linked && h->seq <= s->seq)
		return "a batch out of its order";
	if (s->linked && h->chain != hash64_chain(s->chain, h->payload_hash, h->seq))
		return "a batch that does not follow on the one before (chain)";
	return NULL;
}

/* false: nothing that could be a batch begins here. */
static bool one_batch(struct scan *s, uint64_t limit)
{
	const char *p = block_at(s, s->off), *what;
	struct batch b = {.head_ok = true};
	struct block_tag t;

	if (block_trouble(s, p, &t) || !(t.flags & BLOCK_FIRST) || t.index || !t.seq)
		return false;
	memcpy(&b.head, p, sizeof b.head);
	if (b.head.seq != t.seq)
		return false;
	what = batch_trouble(s, &b.head, limit);
	if (what) {
		damage(s, s->off, BLOCK_SIZE, what);
		return false;
	}
	b.seq = b.head.seq;
	b.blocks = b.head.blocks;
	s->batch_off = s->off;
	s->chain_before = s->chain;
	s->chain_ok = s->linked;
	check_batch(s, &b);
	s->batches++;
	s->seq = b.seq;
	s->chain = b.head.chain;
	s->linked = true;
	if (!s->time_first_us)
		s->time_first_us = b.head.time_us;
	s->time_last_us = b.head.time_us;
	s->off += (uint64_t)b.blocks * BLOCK_SIZE;
	return true;
}

void scan_run(struct scan *s)
{
	uint64_t limit = s->end ? s->end : segment_usable(s->segment_size), before;
	struct block_tag t;

	s->linked = s->head_ok || s->copy_ok;
	if (s->linked) {
		s->seq = s->head.first_seq - 1;
		s->chain = s->head.chain;
	}
	for (s->off = BLOCK_SIZE; s->off < limit;) {
		before = s->off;
		/* Where nobody says how far it goes, it goes as far as blocks are ours. */
		if (!s->end && block_trouble(s, block_at(s, s->off), &t) &&
		    next_batch(s, s->off, limit, s->seq) == limit)
			break;
		if (!one_batch(s, limit))
			lost_batches(s, limit);
		s->bytes += s->off - before;
		if (s->calls && s->calls->progress)
			s->calls->progress(s->ctx, s->off - before);
	}
	s->chain_ok = s->linked;
}
