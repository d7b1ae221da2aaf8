/* A start takes over what recovery found, opens a segment of its own behind it, and removes
 * what nobody names. */
#include "journal/commit_in.h"

#include "core/clock.h"
#include "core/log.h"
#include "core/pool.h"
#include "core/rand.h"
#include "journal/reader.h"
#include "journal/walk.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* Every batch, and a manifest, must leave room for another one in a segment. */
static uint64_t batch_blocks_of(uint64_t segment_size, uint64_t ring_size)
{
	uint64_t blocks = (segment_usable(segment_size) / BLOCK_SIZE - 1) / 2;

	if (blocks > ring_size / BLOCK_SIZE / RING_BATCHES)
		blocks = ring_size / BLOCK_SIZE / RING_BATCHES;
	return blocks < BATCH_BLOCKS_MAX ? blocks : BATCH_BLOCKS_MAX;
}

static uint32_t named_max_of(uint64_t batch_blocks)
{
	uint64_t rest =
		batch_blocks * BLOCK_DATA - sizeof(struct batch_head) - sizeof(struct rec_head);
	uint64_t n;

	if (rest > REC_MAX)
		rest = REC_MAX;
	n = MANIFEST_IN_HEAD + rest / sizeof(struct manifest_entry);
	return n < SEGMENTS_NAMED_MAX ? (uint32_t)n : SEGMENTS_NAMED_MAX - 1;
}

static void take_lost(struct commit *c, const struct damages *d)
{
	for (uint32_t i = 0; i < d->n; i++)
		if (d->v[i].what == DAMAGE_MISSING || d->v[i].what == DAMAGE_SIZE ||
		    d->v[i].what == DAMAGE_FOREIGN)
			c->lost.v[c->lost.n++] = d->v[i];
	c->lost.more = d->more;
}

static void take_end(struct commit *c, const struct journal_end *end)
{
	if (end->number == 0) {
		uint64_t u[2] = {rand_u64(), rand_u64()};

		memcpy(c->uuid, u, sizeof c->uuid);
		c->epoch = 1;
		return;
	}
	memcpy(c->uuid, end->uuid, sizeof c->uuid);
	c->epoch = end->epoch + 1;
	c->seq = c->durable_seq = end->seq;
	c->chain = end->chain;
	c->dead_number = end->number;
	take_lost(c, &end->damages);
	for (uint32_t i = 0; i < end->segments_n; i++)
		manifest_put(&c->named, &end->segments[i]);
	if (c->lost.n || c->lost.more)
		manifest_copy(&c->found, &c->named);
	manifest_copy(&c->entering, &c->named);
}

/* Files that no head names: prepared by runs that ended before they used them, given up by runs
 * that ended before they could, written by compactions that came to nothing; and indexes of
 * segments that are not there. */
struct listing {
	const struct commit *c;
	uint64_t highest; /* of the hot ones */
	char (*unused)[SEGMENT_NAME_MAX];
	uint32_t n, cap;
};

static void add_unused(struct listing *l, const char *name)
{
	if (l->n == l->cap) {
		uint32_t cap = l->cap ? 2 * l->cap : 16;

		l->unused = mem_grow(l->unused, l->cap * sizeof *l->unused,
				     cap * sizeof *l->unused);
		l->cap = cap;
	}
	snprintf(l->unused[l->n++], SEGMENT_NAME_MAX, "%s", name);
}

static bool index_name_parse(const char *name, uint64_t *ret_number)
{
	char as_segment[SEGMENT_NAME_MAX];
	enum segment_file kind;

	if (strncmp(name, "idx-", 4) != 0)
		return false;
	snprintf(as_segment, sizeof as_segment, "seg-%s", name + 4);
	return segment_name_parse(as_segment, &kind, ret_number);
}

static void on_file(void *ctx, const char *name, uint64_t size)
{
	struct listing *l = ctx;
	enum segment_file kind;
	uint64_t number;
	bool is_index = index_name_parse(name, &number);

	if (!is_index &&
	    (!segment_name_parse(name, &kind, &number) || kind != FILE_SEGMENT))
		return;
	if (!is_index && number < COLD_FIRST && number > l->highest)
		l->highest = number;
	if (!manifest_find(&l->c->named, number))
		add_unused(l, name);
}

/* What a segment that was given up holds: damage is kept.  It was known to the run that gave the
 * segment up, but that one may have ended before the file had its other name, or before
 * that name was durable. */
enum content { CONTENT_GOOD, CONTENT_DAMAGED, CONTENT_UNKNOWN };

static enum content walk_through(struct reader *r)
{
	struct record rec;

	for (;;) {
		switch (reader_next(r, BODIES_WHOLE, &rec)) {
		case READ_OK: break;
		case READ_END: return CONTENT_GOOD;
		case READ_DAMAGE: return CONTENT_DAMAGED;
		case READ_GONE:
		case READ_ERROR: return CONTENT_UNKNOWN;
		}
	}
}

static enum content content_of(struct commit *c, uint64_t number)
{
	enum content got = CONTENT_UNKNOWN;
	struct reader *r;
	struct buf why;

	if (!walk_was_used(c->disk, number, incarnation_of(c->uuid, number)))
		return CONTENT_GOOD;
	buf_init(&why, 512);
	r = reader_new(c->disk, NULL, c->segment_size, c->shard);
	reader_use_uuid(r, c->uuid);
	if (reader_only(r, number, 0, &why) == 0)
		got = walk_through(r);
	reader_free(r);
	buf_free(&why);
	return got;
}

static int keep_damaged(struct commit *c, const char *name, uint64_t number)
{
	char bad[SEGMENT_NAME_MAX];

	segment_name(bad, FILE_BAD, number);
	log_note("journal", "a damaged segment is kept", "file", bad, NULL);
	return c->disk->calls->rename(c->disk, name, bad);
}

/* Only hot ones from before the newest head were surely part of the queue. */
static int remove_one(struct commit *c, const char *name, uint64_t newest)
{
	enum content content = CONTENT_GOOD;
	enum segment_file kind;
	uint64_t number;

	if (segment_name_parse(name, &kind, &number) && number < newest)
		content = content_of(c, number);
	switch (content) {
	case CONTENT_GOOD: return c->disk->calls->unlink(c->disk, name);
	case CONTENT_DAMAGED: return keep_damaged(c, name, number);
	case CONTENT_UNKNOWN: return 0; /* the next start looks again */
	}
	unreachable();
}

/* Numbers are not used again, and neither are these files: a dead process' last write may
 * still be on its way into one.  One that can't be removed means nothing but its room. */
static void remove_unused(struct commit *c, const struct listing *l, uint64_t newest)
{
	for (uint32_t i = 0; i < l->n; i++) {
		int e = remove_one(c, l->unused[i], newest);

		if (e && e != -ENOENT)
			log_note("journal", "a file that nobody needs stays", "file",
				 l->unused[i], "why", strerror(-e), NULL);
	}
}

/* What is unused goes last: a seal may name it, until there is a newer head. */
static int open_first(struct commit *c, const struct journal_end *end, bool careful)
{
	struct listing l = {.c = c, .highest = end->number};
	int e = prepare_look(&c->prepare);

	if (!e)
		e = c->disk->calls->list(c->disk, on_file, &l);
	if (!e && c->named.n >= c->named_max)
		e = -EMLINK;
	if (!e)
		e = prepare_now(&c->prepare, l.highest + 1, &c->file);
	if (!e)
		e = commit_write_first(c, end, l.highest + 1);
	if (!e && !careful)
		remove_unused(c, &l, end->number);
	mem_free(l.unused);
	return e;
}

int commit_open(struct commit **ret, struct loop *l, struct disk *d, struct ring *r,
		const struct journal_end *end, const struct commit_options *o,
		const struct commit_calls *calls, void *ctx)
{
	struct commit *c;
	int e;

	*ret = NULL;
	if (o->segment_size < SEGMENT_SIZE_MIN || o->segment_size > SEGMENT_SIZE_MAX ||
	    o->segment_size % BLOCK_SIZE || (end->number && end->segment_size != o->segment_size) ||
	    r->head->segment_size != o->segment_size)
		return -EINVAL;
	c = mem_new(sizeof *c);
	c->loop = l;
	c->disk = d;
	c->ring = r;
	c->calls = calls;
	c->ctx = ctx;
	c->segment_size = o->segment_size;
	c->shard = o->shard;
	c->copy_raw = mem_new(BLOCK_SIZE + DISK_ALIGN);
	c->copy = c->copy_raw +
		  (DISK_ALIGN - (uintptr_t)c->copy_raw % DISK_ALIGN) % DISK_ALIGN;
	c->batch_blocks = batch_blocks_of(o->segment_size, r->size);
	c->named_max = named_max_of(c->batch_blocks);
	commit_begin(c);
	c->begun_ms = clock_mono_ms();
	prepare_init(&c->prepare, l, d,
		     &(struct prepare_options){.segment_size = o->segment_size,
					       .direct = o->direct,
					       .pool = o->pool,
					       .reserve = o->reserve},
		     commit_prepared, c);
	take_end(c, end);
	e = open_first(c, end, o->careful);
	if (e) {
		commit_free(c);
		return e;
	}
	atomic_store(&r->head->direct, o->direct);
	commit_prepare_next(c);
	*ret = c;
	return 0;
}

void commit_free(struct commit *c)
{
	if (!c)
		return;
	check(!c->write.armed);
	timer_stop(c->loop, &c->idle);
	deferred_cancel(&c->pass);
	prepare_fini(&c->prepare);
	if (c->file)
		c->disk->calls->close(c->disk, c->file);
	if (c->next_file)
		c->disk->calls->close(c->disk, c->next_file);
	manifest_fini(&c->named);
	manifest_fini(&c->found);
	manifest_fini(&c->entering);
	mem_free(c->copy_raw);
	mem_free(c);
}

uint64_t commit_epoch(const struct commit *c)
{
	return c->epoch;
}
