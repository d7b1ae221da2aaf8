/* format - checksums, tags, and the checks that every reader and writer of the journal shares.
 *
 * Nothing here reads or writes a file.  What is asserted before a write is answered with
 * false after a read: bytes from the disk are never trusted, whatever their checksum. */
#include "journal/format.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#define BLOCK_SUMMED (BLOCK_SIZE - sizeof(uint64_t))

/* Hashing a record of a few pieces in one go, from a copy, is faster than to set up a stream
 * for it: nearly all MSG, RCPT and STATE records are that small. */
#define REC_SMALL 512

uint64_t hash64(const void *p, size_t n)
{
	return XXH3_64bits(p, n);
}

uint64_t hash64_chain(uint64_t chain, uint64_t hash, uint64_t seq)
{
	uint64_t v[3] = {chain, hash, seq};

	return XXH3_64bits(v, sizeof v);
}

/* Never 0: zeros are what an unused block holds. */
uint64_t incarnation_of(const uint8_t uuid[16], uint64_t segment_number)
{
	uint64_t h = XXH3_64bits_withSeed(uuid, 16, segment_number);

	return h ? h : 1;
}

/* ---- blocks ---- */

void block_seal(void *block, const struct block_tag *tag)
{
	char *p = block;
	struct block_tag t = *tag;

	memcpy(p + BLOCK_DATA, &t, sizeof t);
	t.checksum = XXH3_64bits(p, BLOCK_SUMMED);
	memcpy(p + BLOCK_SUMMED, &t.checksum, sizeof t.checksum);
}

bool block_ok(const void *block, struct block_tag *ret)
{
	const char *p = block;

	memcpy(ret, p + BLOCK_DATA, sizeof *ret);
	return ret->incarnation && ret->checksum == XXH3_64bits(p, BLOCK_SUMMED);
}

/* The longest run of payload from offset q that lies in one block. */
static size_t payload_run(uint64_t q, size_t n)
{
	size_t room = BLOCK_DATA - q % BLOCK_DATA;

	return n < room ? n : room;
}

void payload_put(void *blocks, uint64_t q, const void *src, size_t n)
{
	const char *s = src;

	for (size_t run; n; q += run, s += run, n -= run) {
		run = payload_run(q, n);
		memcpy((char *)blocks + payload_to_bytes(q), s, run);
	}
}

void payload_get(const void *blocks, uint64_t q, void *dst, size_t n)
{
	char *d = dst;

	for (size_t run; n; q += run, d += run, n -= run) {
		run = payload_run(q, n);
		memcpy(d, (const char *)blocks + payload_to_bytes(q), run);
	}
}

void payload_zero(void *blocks, uint64_t q, size_t n)
{
	for (size_t run; n; q += run, n -= run) {
		run = payload_run(q, n);
		memset((char *)blocks + payload_to_bytes(q), 0, run);
	}
}

uint64_t payload_hash(const void *blocks, uint64_t q, size_t n)
{
	const char *p = blocks;
	XXH3_state_t st;

	if (payload_run(q, n) == n)
		return XXH3_64bits(p + payload_to_bytes(q), n);
	XXH3_64bits_reset(&st);
	for (size_t run; n; q += run, n -= run) {
		run = payload_run(q, n);
		XXH3_64bits_update(&st, p + payload_to_bytes(q), run);
	}
	return XXH3_64bits_digest(&st);
}

/* ---- batch heads ---- */

static uint32_t batch_head_sum(const struct batch_head *h)
{
	return (uint32_t)XXH3_64bits(h, offsetof(struct batch_head, check));
}

void batch_head_seal(struct batch_head *h)
{
	h->magic = BATCH_MAGIC;
	h->check = batch_head_sum(h);
}

bool batch_head_ok(const struct batch_head *h)
{
	return h->magic == BATCH_MAGIC && h->check == batch_head_sum(h) && h->blocks > 0 &&
	       h->blocks <= BATCH_BLOCKS_MAX &&
	       blocks_for(sizeof *h + (uint64_t)h->payload_n) == h->blocks &&
	       h->watermark < h->seq;
}

/* ---- records ---- */

static const char *after_check(const struct rec_head *h)
{
	return (const char *)h + sizeof h->check;
}

#define REC_HEAD_SUMMED (sizeof(struct rec_head) - sizeof(uint32_t))

static uint32_t rec_sum_small(const struct rec_head *h, const struct span *pieces, int pieces_n)
{
	char flat[REC_HEAD_SUMMED + REC_SMALL];
	size_t n = REC_HEAD_SUMMED;

	memcpy(flat, after_check(h), n);
	for (int i = 0; i < pieces_n; i++) {
		if (pieces[i].n)
			memcpy(flat + n, pieces[i].p, pieces[i].n);
		n += pieces[i].n;
	}
	return (uint32_t)XXH3_64bits(flat, n);
}

static uint32_t rec_sum(const struct rec_head *h, const struct span *pieces, int pieces_n)
{
	XXH3_state_t st;

	if (h->n <= REC_SMALL)
		return rec_sum_small(h, pieces, pieces_n);
	XXH3_64bits_reset(&st);
	XXH3_64bits_update(&st, after_check(h), REC_HEAD_SUMMED);
	for (int i = 0; i < pieces_n; i++)
		XXH3_64bits_update(&st, pieces[i].p, pieces[i].n);
	return (uint32_t)XXH3_64bits_digest(&st);
}

void rec_seal_head(struct rec_head *h, const struct span *pieces, int pieces_n)
{
	size_t n = 0;

	for (int i = 0; i < pieces_n; i++)
		n += pieces[i].n;
	check(n <= REC_MAX);
	h->n = (uint32_t)n;
	h->check = rec_sum(h, pieces, pieces_n);
}

static bool ranges_ok(struct span ranges)
{
	for (uint32_t i = 0; i < ranges.n / sizeof(struct msg_range); i++) {
		struct msg_range r = range_at(ranges, i);

		if (r.first > r.last)
			return false;
	}
	return true;
}

/* { u16 tag, u16 n, n bytes } again and again, to the last byte. */
static bool extras_ok(struct span s)
{
	uint16_t n;

	while (s.n) {
		if (s.n < 4)
			return false;
		memcpy(&n, s.p + 2, sizeof n);
		if (s.n - 4 < n)
			return false;
		s = span_from(s, 4u + n);
	}
	return true;
}

static bool body_ok(struct span body)
{
	struct rec_body b;
	size_t frame_n = body.n - sizeof b;

	if (body.n < sizeof b)
		return false;
	memcpy(&b, body.p, sizeof b);
	if (b.raw_n > BODY_PART_MAX)
		return false;
	if (b.codec == CODEC_RAW)
		return frame_n == b.raw_n;
	return b.codec == CODEC_ZSTD && frame_n > 0;
}

/* { u16 n, n bytes }, as many as the head says, to the last byte. */
static bool rcpt_ok(struct span body)
{
	struct rec_rcpt r;
	uint32_t count = 0;
	uint16_t n;

	if (body.n < sizeof r)
		return false;
	memcpy(&r, body.p, sizeof r);
	body = span_from(body, sizeof r);
	if (r.count > UINT32_MAX - r.first)
		return false;
	for (; body.n; body = span_from(body, 2u + n), count++) {
		if (body.n < 2)
			return false;
		memcpy(&n, body.p, sizeof n);
		if (body.n - 2 < n)
			return false;
	}
	return count == r.count;
}

static bool manifest_ok(struct span body)
{
	struct manifest_entry e;

	if (body.n % sizeof e)
		return false;
	for (; body.n; body = span_from(body, sizeof e)) {
		memcpy(&e, body.p, sizeof e);
		if (!e.number || (e.state != SEGMENT_QUEUE && e.state != SEGMENT_HISTORY))
			return false;
	}
	return true;
}

static bool rec_shape_ok(const struct rec_head *h, struct span body)
{
	struct msg_view m;
	struct state_view s;

	if (h->type == 0 || h->type >= REC_TYPES || h->version != REC_LAYOUT)
		return h->flags & REC_SKIP;
	switch ((enum rec_type)h->type) {
	case REC_BODY: return body_ok(body);
	case REC_RCPT: return rcpt_ok(body);
	case REC_MSG: return msg_view(h, body, &m);
	case REC_STATE: return state_view(h, body, &s);
	case REC_MANIFEST: return manifest_ok(body);
	case REC_SEAL: return body.n == sizeof(struct rec_seal);
	case REC_NOP:
	case REC_ACT:
	case REC_MOVED:
	case REC_DICT:
	case REC_TYPES: return true;
	}
	return false;
}

bool rec_ok(const struct rec_head *h, struct span body)
{
	return h->n == body.n && h->n <= REC_MAX && h->check == rec_sum(h, &body, 1) &&
	       rec_shape_ok(h, body);
}

/* ---- views ---- */

bool msg_view(const struct rec_head *h, struct span body, struct msg_view *ret)
{
	struct rec_msg m;
	uint64_t parts;

	if (h->type != REC_MSG || body.n < sizeof m)
		return false;
	memcpy(&m, body.p, sizeof m);
	parts = (uint64_t)m.body_parts + m.rcpt_parts;
	if (sizeof m + parts * 8 + (uint64_t)m.settles_n * sizeof(struct msg_range) +
		    m.sender_n + m.extra_n !=
	    body.n)
		return false;
	ret->m = (const struct rec_msg *)(const void *)body.p;
	body = span_from(body, sizeof m);
	ret->positions = span_cut(&body, parts * 8);
	ret->settles = span_cut(&body, m.settles_n * sizeof(struct msg_range));
	ret->sender = span_cut(&body, m.sender_n);
	ret->extra = body;
	return ranges_ok(ret->settles) && extras_ok(ret->extra);
}

bool msg_extra(const struct msg_view *v, enum extra_tag tag, struct span *ret)
{
	struct span rest = v->extra;

	while (rest.n >= 4) {
		uint16_t head[2];

		memcpy(head, span_cut(&rest, sizeof head).p, sizeof head);
		*ret = span_cut(&rest, head[1]);
		if (head[0] == tag)
			return true;
	}
	return false;
}

uint64_t msg_position(const struct msg_view *v, uint32_t i)
{
	uint64_t pos;

	check((uint64_t)i * sizeof pos < v->positions.n);
	memcpy(&pos, v->positions.p + (size_t)i * sizeof pos, sizeof pos);
	return pos;
}

bool state_view(const struct rec_head *h, struct span body, struct state_view *ret)
{
	struct rec_state s;

	if (h->type != REC_STATE || body.n < sizeof s)
		return false;
	memcpy(&s, body.p, sizeof s);
	if (sizeof s + (uint64_t)s.ranges_n * sizeof(struct msg_range) + s.text_n != body.n ||
	    s.outcome < OUTCOME_DELIVERED || s.outcome > OUTCOME_DROPPED)
		return false;
	ret->s = (const struct rec_state *)(const void *)body.p;
	body = span_from(body, sizeof s);
	ret->ranges = span_cut(&body, s.ranges_n * sizeof(struct msg_range));
	ret->text = body;
	return ranges_ok(ret->ranges);
}

struct msg_range range_at(struct span ranges, uint32_t i)
{
	struct msg_range r;

	check(((uint64_t)i + 1) * sizeof r <= ranges.n);
	memcpy(&r, ranges.p + (size_t)i * sizeof r, sizeof r);
	return r;
}

/* ---- names ---- */

static const char *const prefixes[] = {
	[FILE_SEGMENT] = "seg-",
	[FILE_SPARE] = "spare-",
	[FILE_FILLING] = "fill-",
	[FILE_BAD] = "bad-",
};

void segment_name(char name[SEGMENT_NAME_MAX], enum segment_file kind, uint64_t number)
{
	snprintf(name, SEGMENT_NAME_MAX, "%s%016" PRIx64, prefixes[kind], number);
}

static bool hex16(struct span s, uint64_t *ret)
{
	uint64_t v = 0;

	if (s.n != 16)
		return false;
	for (size_t i = 0; i < s.n; i++) {
		char c = s.p[i];

		if (c >= '0' && c <= '9')
			v = v << 4 | (uint64_t)(c - '0');
		else if (c >= 'a' && c <= 'f')
			v = v << 4 | (uint64_t)(c - 'a' + 10);
		else
			return false;
	}
	*ret = v;
	return true;
}

bool segment_name_parse(const char *name, enum segment_file *ret_kind, uint64_t *ret_number)
{
	for (unsigned k = 0; k < ARRAY_N(prefixes); k++) {
		struct span s = span_str(name);

		if (!span_skip(&s, span_str(prefixes[k])))
			continue;
		*ret_kind = (enum segment_file)k;
		return hex16(s, ret_number);
	}
	return false;
}
