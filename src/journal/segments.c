/* segments - finding the newest head and everything that it names.
 *
 * A head is written after everything it speaks of is durable, the rest of a long manifest
 * included; so a valid head is complete, and what is missing next to it is damage.
 *
 * Files are renamed to seg- only when they have their full size, and a number is taken away
 * only when a higher one has a durable head.  So a file of another size, or a number that is
 * missing between the newest head and a file behind it, says that something was there. */
#include "journal/segments.h"

#include "core/pool.h"
#include "journal/walk.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* Named ones, prepared ones, and given-up ones that somebody still has to remove. */
#define SEGMENT_FILES_MAX (2 * SEGMENTS_NAMED_MAX)

#define LOOKS_MAX 8 /* at the directory, while a running journald changes it */

/* More than one segment of another journal: so many of ours for each, or it's not clear whose this is. */
#define FOREIGN_FEW 4

static const char magic[8] = {'q', 'u', 'i', 'r', 'e', 's', 'e', 'g'};

struct found {
	uint64_t number, size;
	bool whole;   /* its head is as it should be, and of our journal */
	bool foreign; /* ... of another one */
};
struct listing {
	struct found *v;
	uint32_t n, cap, hot_n;
	bool too_many;
	uint32_t ours, foreign; /* heads of the newest one's journal, and of others */
	uint64_t foreign_number;
	uint8_t foreign_uuid[16];
};

/* ---- what is wrong ---- */

void damages_add(struct damages *d, enum damage_what what, uint64_t from, uint64_t to)
{
	struct damage *last = d->n ? &d->v[d->n - 1] : NULL;

	if (last && last->what == what && last->to == from)
		last->to = to;
	else if (d->n < DAMAGES_MAX)
		d->v[d->n++] = (struct damage){.what = what, .from = from, .to = to};
	else
		d->more++;
}

const char *damage_text(enum damage_what what)
{
	switch (what) {
	case DAMAGE_BLOCKS: return "acknowledged mail was there";
	case DAMAGE_LAST: return "the last batch may have been acknowledged";
	case DAMAGE_HEAD: return "has a damaged head";
	case DAMAGE_MISSING: return "is named by the newest head and is missing";
	case DAMAGE_SIZE: return "has a wrong size";
	case DAMAGE_FOREIGN: return "is named by the newest head and is of another journal";
	}
	unreachable();
}

/* The line for a person is cut at the buffer's maximum, never the fault hidden. */
static enum segments_found failed(struct buf *why, const char *what, uint64_t number)
{
	buf_clear(why);
	if (!buf_fmt(why, "seg-%016" PRIx64 " %s", number, what))
		buf_clear(why);
	return SEGMENTS_FAILED;
}

/* ---- heads ---- */

static void on_file(void *ctx, const char *name, uint64_t size)
{
	struct listing *l = ctx;
	enum segment_file kind;
	struct found f = {.size = size};

	if (!segment_name_parse(name, &kind, &f.number) || kind != FILE_SEGMENT || !f.number)
		return;
	if (l->n == SEGMENT_FILES_MAX) {
		l->too_many = true;
		return;
	}
	if (l->n == l->cap) {
		uint32_t cap = l->cap ? 2 * l->cap : 64;

		l->v = mem_grow(l->v, l->cap * sizeof *l->v, cap * sizeof *l->v);
		l->cap = cap;
	}
	l->v[l->n++] = f;
	l->hot_n += f.number < COLD_FIRST;
}

static int by_number(const void *a, const void *b)
{
	const struct found *x = a, *y = b;

	return (x->number > y->number) - (x->number < y->number);
}

static enum head_kind head_get(const char *block, uint64_t number, unsigned copy,
			       struct segment_head *ret)
{
	struct block_tag t;

	if (!block_ok(block, &t) || !(t.flags & BLOCK_HEAD) || t.seq ||
	    (t.flags & BLOCK_COPY) != copy)
		return HEAD_NONE;
	memcpy(ret, block, sizeof *ret);
	if (memcmp(ret->magic, magic, sizeof magic) != 0)
		return HEAD_NONE;
	if (ret->version > JOURNAL_VERSION)
		return HEAD_NEWER;
	if (ret->version != JOURNAL_VERSION || ret->head_n != sizeof *ret ||
	    ret->number != number || t.incarnation != incarnation_of(ret->uuid, number))
		return HEAD_NONE;
	if (ret->segment_size < SEGMENT_SIZE_MIN || ret->segment_size > SEGMENT_SIZE_MAX ||
	    ret->segment_size % BLOCK_SIZE || number > UINT64_MAX / ret->segment_size - 1 ||
	    ret->manifest_n >= SEGMENTS_NAMED_MAX || !ret->first_seq)
		return HEAD_NONE;
	return HEAD_OK;
}

enum head_kind segment_head_get(const char *block, uint64_t number, struct segment_head *ret)
{
	return head_get(block, number, 0, ret);
}

enum head_kind segment_copy_get(const char *block, uint64_t number, struct segment_head *ret)
{
	return head_get(block, number, BLOCK_COPY, ret);
}

void segment_head_put(char *block, const struct segment_head *h,
		      const struct manifest_entry *v, bool is_copy)
{
	struct block_tag t = {
		.incarnation = incarnation_of(h->uuid, h->number),
		.flags = BLOCK_HEAD | BLOCK_FIRST | BLOCK_LAST | (is_copy ? BLOCK_COPY : 0) |
			 (h->number >= COLD_FIRST ? BLOCK_COLD : 0),
	};
	uint32_t n = h->manifest_n < MANIFEST_IN_HEAD ? h->manifest_n : MANIFEST_IN_HEAD;
	struct segment_head copy = *h;

	memcpy(copy.magic, magic, sizeof magic);
	copy.version = JOURNAL_VERSION;
	copy.head_n = sizeof copy;
	memset(block, 0, BLOCK_SIZE);
	memcpy(block, &copy, sizeof copy);
	if (n)
		memcpy(block + sizeof copy, v, n * sizeof *v);
	block_seal(block, &t);
}

static int read_block(struct disk *d, uint64_t number, char *block, uint64_t off)
{
	struct disk_file *f = NULL;
	int e = walk_open(d, number, &f);

	if (e)
		return e;
	e = walk_read(d, f, block, BLOCK_SIZE, off);
	d->calls->close(d, f);
	return e;
}

static uint64_t copy_at(uint64_t size)
{
	return size / BLOCK_SIZE < 2 ? 0 : (size / BLOCK_SIZE - 1) * BLOCK_SIZE;
}

/* Reads a segment's head, from its copy where that is all there is.  0, or -errno where
 * neither could be read. */
static int read_head(struct disk *d, const struct found *f, char *block, bool *ret_copy,
		     enum head_kind *ret_kind, struct segment_head *ret)
{
	int e = read_block(d, f->number, block, 0);

	*ret_copy = false;
	*ret_kind = e ? HEAD_NONE : segment_head_get(block, f->number, ret);
	if (*ret_kind != HEAD_NONE || !copy_at(f->size) || (e && !walk_is_damage(e)))
		return e;
	*ret_copy = true;
	if (read_block(d, f->number, block, copy_at(f->size)))
		return e;
	*ret_kind = segment_copy_get(block, f->number, ret);
	return *ret_kind == HEAD_NONE ? e : 0;
}

/* Every copy is durable before its block 0 is written: where no batch follows, the power went
 * between the two, and nothing is damaged. */
static void count_head(struct disk *d, struct listing *l, struct found *f,
		       const struct segments *s, const struct segment_head *h, bool copy)
{
	if (memcmp(h->uuid, s->head.uuid, sizeof h->uuid) == 0) {
		l->ours++;
		f->whole = !copy || !walk_was_used(d, h->number,
						   incarnation_of(h->uuid, h->number));
		return;
	}
	f->foreign = true;
	if (!l->foreign++) {
		l->foreign_number = f->number;
		memcpy(l->foreign_uuid, h->uuid, sizeof h->uuid);
	}
}

/* Looks at every head, the newest first: the first valid hot one wins. */
static enum segments_found find_newest(struct disk *d, struct listing *l, char *block,
				       struct segments *s, struct buf *why)
{
	bool have = false;

	for (uint32_t k = 0; k < l->n; k++) {
		/* The hot ones from the highest down, then the cold ones. */
		struct found *f = k < l->hot_n ? &l->v[l->hot_n - 1 - k] : &l->v[k];
		struct segment_head h;
		enum head_kind kind;
		bool copy;
		int e = read_head(d, f, block, &copy, &kind, &h);

		if (e == -ENOENT) /* gone since it was listed; if it is named, that is said */
			continue;
		if (e && (!have || !walk_is_damage(e)))
			return failed(why, "can't be read", f->number);
		if (kind == HEAD_NEWER)
			return failed(why, "was written by a newer version of quire", f->number);
		if (kind == HEAD_OK && !have && k < l->hot_n) {
			s->head = h;
			s->from_copy = copy;
			have = true;
		}
		if (kind == HEAD_OK && have)
			count_head(d, l, f, s, &h, copy);
		else if (kind == HEAD_OK)
			return failed(why, "is there, but not the segment that names it",
				      f->number);
		else if (!have && k < l->hot_n)
			s->headless++;
	}
	return have ? SEGMENTS_OK : SEGMENTS_NONE;
}

/* A file that has a number but no valid head was prepared and never used, or its head is
 * gone.  Batches in it prove the latter, and so does a size that is not whole; then going on
 * would lose them all.  Files are prepared one after the other: a number that is missing in
 * front of one was that of a newer head. */
static enum segments_found check_headless(struct disk *d, const struct listing *l,
					  const struct segments *s, struct buf *why)
{
	uint64_t size = s->head.segment_size;
	uint64_t last = s->headless == l->hot_n ? 0 : l->v[l->hot_n - s->headless - 1].number;

	for (uint32_t i = l->hot_n - s->headless; i < l->hot_n; i++) {
		const struct found *f = &l->v[i];

		if (f->size < SEGMENT_SIZE_MIN || f->size % BLOCK_SIZE || (size && f->size != size))
			return failed(why, "has lost its head and a part of its bytes", f->number);
		if (walk_was_used(d, f->number, size ? incarnation_of(s->head.uuid, f->number) : 0))
			return failed(why, "holds batches, but its head and the copy of it are damaged",
				      f->number);
		if (f->number != last + 1)
			return failed(why, "is missing, and a later one is there", last + 1);
		last = f->number;
	}
	return SEGMENTS_OK;
}

/* ---- what the newest head names ---- */

static const struct found *file_of(const struct listing *l, uint64_t number)
{
	struct found key = {.number = number};

	return l->n ? bsearch(&key, l->v, l->n, sizeof key, by_number) : NULL;
}

/* The entries that don't fit in block 0: the first record of the first batch. */
static bool manifest_rest(struct disk *d, struct disk_file *f, const struct segments *s,
			  char *blocks)
{
	uint32_t rest_n = s->head.manifest_n - MANIFEST_IN_HEAD;
	uint64_t inc = incarnation_of(s->head.uuid, s->head.number);
	struct manifest_entry *rest = s->v + MANIFEST_IN_HEAD;
	struct batch_head b;
	struct rec_head r;

	if (walk_read(d, f, blocks, BLOCK_SIZE, BLOCK_SIZE) || !batch_begins(blocks, inc, &b) ||
	    (uint64_t)(b.blocks + 1) * BLOCK_SIZE > s->head.segment_size ||
	    walk_read(d, f, blocks, (size_t)b.blocks * BLOCK_SIZE, BLOCK_SIZE) ||
	    batch_good_blocks(blocks, &b, inc) != b.blocks || b.payload_n < sizeof r)
		return false;
	payload_get(blocks, sizeof b, &r, sizeof r);
	if (r.type != REC_MANIFEST || r.n != rest_n * sizeof *rest ||
	    rec_size(r.n) > b.payload_n)
		return false;
	payload_get(blocks, sizeof b + sizeof r, rest, r.n);
	return rec_ok(&r, span_of(rest, r.n));
}

static bool load_manifest(struct disk *d, struct segments *s, char *block)
{
	uint32_t n = s->head.manifest_n;
	uint32_t in_head = n < MANIFEST_IN_HEAD ? n : MANIFEST_IN_HEAD;
	struct disk_file *f = NULL;
	struct segment_head again;
	bool good = true;

	s->v = mem_new((n + 1) * sizeof *s->v);
	s->n = n + 1;
	if (walk_open(d, s->head.number, &f))
		return false;
	if (walk_read(d, f, block, BLOCK_SIZE,
		      s->from_copy ? copy_at(s->head.segment_size) : 0) ||
	    head_get(block, s->head.number, s->from_copy ? BLOCK_COPY : 0, &again) != HEAD_OK)
		good = false;
	memcpy(s->v, block + sizeof s->head, in_head * sizeof *s->v);
	if (n > in_head) {
		char *raw = mem_new((BATCH_BLOCKS_MAX + 1) * BLOCK_SIZE);

		good &= manifest_rest(
			d, f, s, raw + (DISK_ALIGN - (uintptr_t)raw % DISK_ALIGN) % DISK_ALIGN);
		mem_free(raw);
	}
	d->calls->close(d, f);
	s->v[n] = (struct manifest_entry){
		.number = s->head.number,
		.state = SEGMENT_QUEUE,
		.incarnation = incarnation_of(s->head.uuid, s->head.number),
	};
	return good;
}

static bool entry_ok(const struct segments *s, uint32_t i)
{
	const struct manifest_entry *e = &s->v[i];
	uint64_t size = s->head.segment_size, from = e->number * size;

	return e->number && (e->number < s->head.number || e->number >= COLD_FIRST) &&
	       e->number <= UINT64_MAX / size - 1 &&
	       (e->state == SEGMENT_QUEUE || e->state == SEGMENT_HISTORY) &&
	       (i == 0 || e->number > s->v[i - 1].number) && e->end >= from + BLOCK_SIZE &&
	       e->end <= from + size && e->end % BLOCK_SIZE == 0 &&
	       e->incarnation == incarnation_of(s->head.uuid, e->number);
}

/* A segment of another journal in the place of one of ours is damage.  If one has no place
 * here, or if it is not the odd one out, somebody has mixed two journals, and only a person
 * knows which of them is meant. */
static enum segments_found check_foreign(const struct listing *l, const struct segments *s,
					 struct buf *why)
{
	uint32_t placed = 0;
	const uint8_t *a = s->head.uuid, *b = l->foreign_uuid;

	for (uint32_t i = 0; i + 1 < s->n; i++) {
		const struct found *f = file_of(l, s->v[i].number);

		placed += f && f->foreign;
	}
	if (placed == l->foreign && l->foreign < l->ours &&
	    (l->foreign <= 1 || l->foreign <= l->ours / FOREIGN_FEW))
		return SEGMENTS_OK;
	buf_clear(why);
	if (!buf_fmt(why,
		     "two journals are mixed: seg-%016" PRIx64 " is of %02x%02x%02x%02x..., "
		     "seg-%016" PRIx64 " of %02x%02x%02x%02x...",
		     s->head.number, a[0], a[1], a[2], a[3], l->foreign_number, b[0], b[1], b[2],
		     b[3]))
		buf_clear(why);
	return SEGMENTS_FAILED;
}

/* What a named segment's file looks like from outside. */
static void check_file(struct segments *s, const struct manifest_entry *e,
		       const struct found *f)
{
	uint64_t from = e->number * s->head.segment_size;

	if (!f)
		damages_add(&s->damages, DAMAGE_MISSING, from, e->end);
	else if (f->foreign)
		damages_add(&s->damages, DAMAGE_FOREIGN, from, e->end);
	else if (f->size != s->head.segment_size)
		damages_add(&s->damages, DAMAGE_SIZE, from, e->end ? e->end : from);
	else if (!f->whole)
		damages_add(&s->damages, DAMAGE_HEAD, from, from + BLOCK_SIZE);
}

static enum segments_found check_named(const struct listing *l, struct segments *s,
				       struct buf *why)
{
	if (check_foreign(l, s, why) == SEGMENTS_FAILED)
		return SEGMENTS_FAILED;
	for (uint32_t i = 0; i + 1 < s->n; i++)
		if (!entry_ok(s, i))
			return failed(why, "has a head that contradicts itself",
				      s->head.number);
	for (uint32_t i = 0; i < s->n; i++)
		check_file(s, &s->v[i], file_of(l, s->v[i].number));
	return SEGMENTS_OK;
}

static void keep_numbers(struct segments *s, const struct listing *l)
{
	s->files = mem_new((l->n + 1) * sizeof *s->files);
	s->files_n = l->n;
	s->hot_n = l->hot_n;
	for (uint32_t i = 0; i < l->n; i++)
		s->files[i] = l->v[i].number;
}

static enum segments_found look(struct disk *d, struct listing *l, char *block,
				struct segments *s, struct buf *why)
{
	enum segments_found found;

	if (l->too_many)
		return failed(why, "and more: too many segment files", l->v[0].number);
	if (l->n)
		qsort(l->v, l->n, sizeof *l->v, by_number);
	keep_numbers(s, l);
	found = find_newest(d, l, block, s, why);
	if (found == SEGMENTS_FAILED || check_headless(d, l, s, why) == SEGMENTS_FAILED)
		return SEGMENTS_FAILED;
	if (found == SEGMENTS_NONE)
		return SEGMENTS_NONE;
	if (!load_manifest(d, s, block))
		return failed(why, "has a head whose list of segments can't be read",
			      s->head.number);
	return check_named(l, s, why);
}

static enum segments_found load(struct disk *d, char *block, struct segments *ret,
				struct buf *why)
{
	struct listing l = {0};
	enum segments_found found = SEGMENTS_FAILED;
	int e = d->calls->list(d, on_file, &l);

	*ret = (struct segments){0};
	if (!e) {
		found = look(d, &l, block, ret, why);
	} else {
		buf_clear(why);
		if (!buf_fmt(why, "the journal's directory can't be read: %s", strerror(-e)))
			buf_clear(why);
	}
	mem_free(l.v);
	return found;
}

enum segments_found segments_load(struct disk *d, struct segments *ret, struct buf *why)
{
	char *raw = mem_new(BLOCK_SIZE + DISK_ALIGN);
	char *block = raw + (DISK_ALIGN - (uintptr_t)raw % DISK_ALIGN) % DISK_ALIGN;
	enum segments_found found = load(d, block, ret, why);
	bool again = true;

	/* What was seen while a running journald entered a segment is seen differently now. */
	for (int i = 0; i < LOOKS_MAX && again; i++) {
		struct segments was = *ret;
		enum segments_found was_found = found;

		if (found == SEGMENTS_NONE || (found == SEGMENTS_OK && !was.damages.n))
			break;
		found = load(d, block, ret, why);
		again = found != was_found || ret->head.number != was.head.number ||
			ret->damages.n != was.damages.n || ret->files_n != was.files_n;
		segments_fini(&was);
	}
	mem_free(raw);
	return found;
}

void segments_fini(struct segments *s)
{
	mem_free(s->v);
	mem_free(s->files);
	*s = (struct segments){0};
}

bool segments_has_file(const struct segments *s, uint64_t number)
{
	for (uint32_t i = s->files_n; i-- > 0;)
		if (s->files[i] == number)
			return true;
	return false;
}
