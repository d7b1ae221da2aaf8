/* reader_look - one record by its position: a single read, nearly always.
 *
 * A position is a hint.  What lies there must be of the segment's incarnation, of the type, id
 * and number that are asked for, and fit its checksum; else it is "gone", never another one. */
#include "journal/reader_in.h"

#include "core/pool.h"

#include <errno.h>
#include <string.h>

#define LOOK_FIRST ((size_t)4 * BLOCK_SIZE) /* most records are smaller: one read */
#define DICT_WITHIN ((uint64_t)64 * 1024) /* of a segment's beginning: behind a long manifest, too */
#define DICT_TRIES  64
#define LOOK_MAX   ((blocks_for(sizeof(struct rec_head) + REC_MAX) + 1) * BLOCK_SIZE)

static void forget_file(struct reader *r, struct open_file *o)
{
	if (!o->number)
		return;
	r->disk->calls->close(r->disk, o->file);
	o->number = 0;
}

/* A slot is taken over by the next one that needs it. */
static int file_for(struct reader *r, uint64_t number, struct disk_file **ret)
{
	struct open_file *o = &r->files[number % READER_FILES];
	int e;

	*ret = reader_held(r, number);
	if (*ret)
		return 0;
	if (o->number != number) {
		forget_file(r, o);
		e = walk_open(r->disk, number, &o->file);
		if (e)
			return e;
		o->number = number;
	}
	*ret = o->file;
	return 0;
}

void reader_forget(struct reader *r)
{
	for (unsigned i = 0; i < READER_FILES; i++)
		forget_file(r, &r->files[i]);
}

struct look {
	struct reader *r;
	uint64_t first; /* position of the first block that was read */
	uint64_t limit; /* of what may be read of this segment */
	size_t have, n; /* bytes read, and checked */
	uint64_t incarnation, seq;
	uint16_t index;
};

/* One part's size at most is kept; nearly all look-ups need the first pages only. */
void reader_look_grow(struct reader *r, size_t have, size_t n)
{
	char *raw, *look;

	if (n <= r->look_cap)
		return;
	raw = mem_new(n + DISK_ALIGN);
	look = raw + (DISK_ALIGN - (uintptr_t)raw % DISK_ALIGN) % DISK_ALIGN;
	if (have)
		memcpy(look, r->look, have);
	mem_free(r->look_raw);
	r->look_raw = raw;
	r->look = look;
	r->look_cap = n;
}

static int look_fetch(struct look *l, size_t n)
{
	struct reader *r = l->r;
	uint64_t number = l->first / r->segment_size;
	struct disk_file *f;
	int e;

	reader_look_grow(r, l->have, n);
	if (!reader_from_ring(r, r->look + l->have, n - l->have, l->first + l->have)) {
		e = file_for(r, number, &f);
		if (e)
			return e;
		e = walk_read(r->disk, f, r->look + l->have, n - l->have,
			      l->first + l->have - number * r->segment_size);
		if (e)
			return e;
	}
	l->have = n;
	return 0;
}

/* Blocks must be whole and follow on each other in one batch. */
static enum read_result look_check(struct look *l, size_t n)
{
	struct block_tag t;

	for (; l->n < n; l->n += BLOCK_SIZE) {
		if (!block_ok(l->r->look + l->n, &t))
			return READ_DAMAGE;
		if (t.incarnation != l->incarnation || !t.seq)
			return READ_GONE;
		if (l->n && (t.seq != l->seq || t.index != l->index + 1))
			return READ_DAMAGE;
		l->seq = t.seq;
		l->index = t.index;
	}
	return READ_OK;
}

static enum read_result look_more(struct look *l, size_t n)
{
	int e;

	if (n > LOOK_MAX || n > l->limit - l->first)
		return READ_GONE;
	e = n > l->have ? look_fetch(l, n) : 0;
	if (e)
		return e == -ENOENT ? READ_GONE : READ_ERROR;
	return look_check(l, n);
}

/* Most records need one read.  If it fails, the exact ones that follow say so. */
static void look_ahead(struct look *l)
{
	uint64_t n = l->limit - l->first;

	if (look_fetch(l, n < LOOK_FIRST ? n : LOOK_FIRST))
		l->have = 0;
}

uint64_t reader_limit(const struct reader *r, uint64_t number)
{
	const struct manifest_entry *e = reader_entry(r, number);
	uint64_t durable = reader_durable(r);

	/* Beside a running journald a cold segment may be longer than when it was named. */
	if (r->ring && number >= COLD_FIRST)
		return number * r->segment_size + segment_usable(r->segment_size);
	if (e && e->end)
		return e->end;
	if (durable / r->segment_size == number)
		return durable;
	return r->ring ? number * r->segment_size + segment_usable(r->segment_size) : 0;
}

/* Moves the payloads of n bytes of blocks together. */
static void squeeze(char *p, size_t n)
{
	for (size_t i = 1; i < n / BLOCK_SIZE; i++)
		memmove(p + i * BLOCK_DATA, p + i * BLOCK_SIZE, BLOCK_DATA);
}

enum read_result reader_at(struct reader *r, uint64_t pos, enum rec_type type, uint64_t id,
			   uint32_t number, struct record *ret)
{
	uint64_t segment = pos / r->segment_size;
	uint64_t in_block = pos % BLOCK_SIZE;
	struct look l = {.r = r,
			 .first = pos - in_block,
			 .incarnation = incarnation_of(r->uuid, segment)};
	enum read_result got;
	size_t need;

	*ret = (struct record){.pos = pos};
	l.limit = reader_limit(r, segment);
	if (pos % 8 || in_block >= BLOCK_DATA || !segment || pos >= l.limit ||
	    pos % r->segment_size < BLOCK_SIZE)
		return READ_GONE;
	look_ahead(&l);
	got = look_more(&l, blocks_for(in_block + sizeof ret->head) * BLOCK_SIZE);
	if (got != READ_OK)
		return got;
	payload_get(r->look, in_block, &ret->head, sizeof ret->head);
	if (ret->head.type != type || ret->head.id != id || ret->head.number != number ||
	    ret->head.n > REC_MAX)
		return READ_GONE;
	need = blocks_for(in_block + sizeof ret->head + ret->head.n) * BLOCK_SIZE;
	got = look_more(&l, need);
	if (got != READ_OK)
		return got;
	squeeze(r->look, need);
	ret->body = span_of(r->look + in_block + sizeof ret->head, ret->head.n);
	return rec_ok(&ret->head, ret->body) ? READ_OK : READ_DAMAGE;
}

/* ---- dictionaries ---- */

/* Where the dictionary lies, by walking its segment from the beginning up to `pos`. */
static enum read_result find_dict(struct reader *r, uint64_t pos, uint32_t number,
				  uint64_t *ret_pos)
{
	uint64_t segment = pos / r->segment_size;
	struct reader *w = reader_new(r->disk, r->ring, r->segment_size, r->shard);
	enum read_result got;
	struct record rec;

	reader_use_uuid(w, r->uuid);
	w->run = r->ring && r->ring->head ? r->ring->head->first : 0;
	reader_take_one(w, segment, reader_limit(r, segment));
	while ((got = reader_next(w, BODIES_PASS, &rec)) == READ_OK || got == READ_DAMAGE) {
		if (rec.pos >= pos || rec.pos / r->segment_size != segment)
			break;
		if (got == READ_OK && rec.head.type == REC_DICT && rec.head.number == number)
			break;
	}
	*ret_pos = rec.pos;
	reader_free(w);
	if (got == READ_OK && rec.head.type == REC_DICT && rec.head.number == number)
		return READ_OK;
	return got == READ_ERROR ? READ_ERROR : READ_GONE;
}

static enum read_result dict_before(struct reader *r, uint64_t pos, uint32_t number,
				    struct record *ret)
{
	uint64_t segment = pos / r->segment_size, at;
	enum read_result got;

	*ret = (struct record){.pos = pos};
	for (uint32_t i = 0; i < READER_DICTS; i++)
		if (r->dicts[i].pos && r->dicts[i].segment == segment &&
		    r->dicts[i].number == number)
			return reader_at(r, r->dicts[i].pos, REC_DICT, 0, number, ret);
	got = find_dict(r, pos, number, &at);
	if (got != READ_OK)
		return got;
	r->dicts[r->dicts_n++ % READER_DICTS] =
		(struct dict_place){.segment = segment, .pos = at, .number = number};
	return reader_at(r, at, REC_DICT, 0, number, ret);
}

/* Where damage took it, all frames of the segment would be lost with it; but the others begin
 * with the same one, nearly always, and its number says that it is. */
enum read_result reader_dict(struct reader *r, uint64_t pos, uint32_t number,
			     struct record *ret)
{
	enum read_result got = dict_before(r, pos, number, ret);
	uint32_t tries = 0;

	if (got == READ_OK)
		return got;
	for (uint32_t i = r->n; i > 0 && tries < DICT_TRIES; i--) {
		uint64_t other = r->v[i - 1].number;

		if (other == pos / r->segment_size || other >= COLD_FIRST)
			continue;
		tries++;
		if (dict_before(r, other * r->segment_size + DICT_WITHIN, number, ret) ==
		    READ_OK)
			return READ_OK;
	}
	*ret = (struct record){.pos = pos};
	return got;
}
