/* commit - batches, laid out where they are written from.
 *
 * A batch is built in the ring at its position: records are copied in once, then the zeros,
 * the head and the tags; the write takes the ring's own bytes.  There are two batches: one
 * gathers, one may be in flight.  Nothing is allocated for a record or a batch.
 *
 * The commit point is on_written(): batch_is_durable() moves the durable position and runs
 * the waiters.  Nothing in front of it tells anybody anything.
 *
 * Bytes in flight are never overwritten: what lies between the beginning of the batch in
 * flight and the end of the one that gathers is at most that batch, the unused end of a
 * segment with its last block, a head, a long manifest and the other batch; each but these two
 * blocks is no larger than batch_blocks, and the ring holds RING_BATCHES of those.  Only where a segment ends early
 * (commit_switch()) its unused end is longer: there nothing gathers until the seal is durable.
 *
 * Segments: room for a seal is reserved in every batch.  A batch that would leave less than
 * the largest batch behind it is sealed, and goes out only when the next file is prepared.
 * When the seal is durable, the rest of a long manifest is written as the new segment's first
 * batch, then the head's copy at its end, then its head; only then the next batch.  So a durable
 * head speaks of durable things only, and a batch has a durable head above it, and a copy.
 *
 * The list of segments that a head names changes between heads (commit_space.c).  With the
 * seal it is settled: `entering` is what the next head names, `named` goes on changing. */
#include "journal/commit_in.h"

#include "core/clock.h"
#include "core/log.h"
#include "journal/segments.h"

#include <errno.h>
#include <string.h>

#define IDLE_MS   100 /* quiet for so long: say that the last batch is durable */
#define SEAL_SIZE (sizeof(struct rec_head) + sizeof(struct rec_seal))

/* ---- a batch while it gathers ---- */

static void batch_reset(struct batch *b)
{
	list_init(&b->waiters);
	b->pos = 0;
	b->blocks = b->seq = b->large = b->begun_us = 0;
	b->flags = 0;
	batch_layout_init(&b->layout);
}

static void batch_open(struct commit *c, struct batch *b, uint64_t pos)
{
	b->pos = pos;
	b->begun_us = clock_mono_us();
	b->blocks = 0;
	b->layout.blocks = ring_at(c->ring, pos);
}

/* Claims the blocks up to payload byte `end`, before they are written to. */
static void batch_grow(struct commit *c, struct batch *b, uint64_t end)
{
	uint64_t blocks = blocks_for(end);

	if (blocks <= b->blocks)
		return;
	b->blocks = blocks;
	ring_claim(c->ring, b->pos, blocks * BLOCK_SIZE);
}

static uint64_t batch_room(const struct commit *c)
{
	return c->batch_blocks * BLOCK_DATA - rec_size(sizeof(struct rec_seal));
}

static uint64_t first_size(const struct commit *c)
{
	return c->first.type ? rec_size(c->first.n) : 0;
}

size_t commit_record_max(const struct commit *c)
{
	return batch_room(c) - sizeof(struct batch_head) - first_size(c);
}

bool commit_fits(const struct commit *c, size_t bytes, unsigned flags)
{
	const struct batch *b = c->gather;
	uint64_t used = b->layout.used;

	if (!b->pos && c->first_due)
		used += first_size(c);
	if (c->dead || c->jumps || bytes > batch_room(c) - used)
		return false;
	return !(flags & COMMIT_LARGE) || b->large == 0 || b->large + bytes <= BATCH_LARGE_MAX;
}

static uint64_t put_record(struct commit *c, struct batch *b, const struct rec_head *h,
			   const struct span *pieces, int pieces_n)
{
	batch_grow(c, b, batch_layout_with(&b->layout, rec_size(h->n)));
	return b->pos +
	       payload_to_bytes(batch_layout_put(&b->layout, h, pieces, pieces_n));
}

/* In front of anything else, so that no durable byte of the segment ever lacks it. */
static void put_first(struct commit *c, struct batch *b)
{
	c->first_due = false;
	put_record(c, b, &c->first, &c->first_body, 1);
}

void commit_first(struct commit *c, const struct rec_head *h, struct span body)
{
	check(!c->first.type && !c->gather->pos && !c->flight);
	check(rec_size(body.n) <= batch_room(c) / 4);
	c->first = *h;
	c->first.version = REC_LAYOUT;
	c->first_body = body;
	c->first_due = true;
	rec_seal_head(&c->first, &body, 1);
}

uint64_t commit_add(struct commit *c, struct rec_head *h, const struct span *pieces,
		    int pieces_n, unsigned flags)
{
	struct batch *b = c->gather;
	uint64_t size;

	h->version = REC_LAYOUT;
	rec_seal_head(h, pieces, pieces_n);
	size = rec_size(h->n);
	check(size <= commit_record_max(c));
	if (!commit_fits(c, size, flags))
		return 0;
	if (!b->pos)
		batch_open(c, b, c->pos);
	if (c->first_due)
		put_first(c, b);
	if (flags & COMMIT_LARGE)
		b->large += size;
	if (flags & COMMIT_ACKED)
		b->flags |= BATCH_ACKED;
	loop_defer(c->loop, &c->pass, PHASE_COMMIT);
	return put_record(c, b, h, pieces, pieces_n);
}

void waiter_init(struct waiter *w, void (*done)(struct waiter *))
{
	*w = (struct waiter){.done = done};
}

void waiter_cancel(struct waiter *w)
{
	list_remove(&w->link);
}

void commit_wait(struct commit *c, struct waiter *w)
{
	check(c->gather->pos && !c->dead);
	list_add_end(&c->gather->waiters, &w->link);
}

bool commit_is_idle(const struct commit *c)
{
	return !c->gather->pos && c->writing == WRITING_NOTHING;
}

/* ---- a batch on its way ---- */

/* From here on the batch is bytes: head, chain and tags. */
static void seal_batch(struct commit *c, struct batch *b, uint16_t block_flags)
{
	struct batch_end e = {
		.incarnation = c->incarnation,
		.seq = ++c->seq,
		.watermark = c->durable_seq,
		.chain = c->chain,
		.time_us = clock_wall_us(),
		.flags = b->flags,
		.block_flags = block_flags,
	};

	b->seq = e.seq;
	c->chain = batch_layout_end(&b->layout, &e);
}

static void write_bytes(struct commit *c, enum writing what, const void *p, uint64_t pos,
			uint64_t n)
{
	c->writing = what;
	c->write_n = n;
	c->disk->calls->write(c->disk, c->file, &c->write, p, n, pos % c->segment_size);
}

static void start_write(struct commit *c, enum writing what, uint64_t pos, uint64_t n)
{
	write_bytes(c, what, ring_at(c->ring, pos), pos, n);
}

static void add_seal(struct commit *c, struct batch *b)
{
	struct rec_seal s = {
		.next_number = c->number + 1,
		.chain = c->chain,
		.first_seq = c->first_seq,
		.last_seq = c->seq + 1,
	};
	struct span body = span_of(&s, sizeof s);
	struct rec_head h = {.type = REC_SEAL, .version = REC_LAYOUT};

	rec_seal_head(&h, &body, 1);
	put_record(c, b, &h, &body, 1);
	b->flags |= BATCH_SEAL;
}

/* The rest of a manifest that is too long for a head: so many blocks; 0: it fits. */
static uint64_t manifest_blocks(uint64_t named_n)
{
	uint64_t rest;

	if (named_n <= MANIFEST_IN_HEAD)
		return 0;
	rest = (named_n - MANIFEST_IN_HEAD) * sizeof(struct manifest_entry);
	return blocks_for(sizeof(struct batch_head) + rec_size(rest));
}

/* Whether a batch of so many blocks, put here, has to be the segment's last. */
static bool must_seal(const struct commit *c, uint64_t pos, uint64_t blocks)
{
	uint64_t end = segment_start(c, c->number) + segment_usable(c->segment_size);

	return pos + blocks * BLOCK_SIZE + c->batch_blocks * BLOCK_SIZE > end;
}

static void name_segment(struct commit *c, uint64_t number, uint64_t end)
{
	manifest_put(&c->named, &(struct manifest_entry){
		.number = number,
		.end = end,
		.state = SEGMENT_QUEUE,
		.incarnation = incarnation_of(c->uuid, number),
	});
}

/* c->pos is where the segment ends.  What the next head will name is settled here, as what
 * gathers from now on has its place behind the manifest; later edits wait for the head after. */
static void leave_segment(struct commit *c, const struct batch *last)
{
	name_segment(c, c->number, c->pos);
	manifest_copy(&c->entering, &c->named);
	check(c->entering.n < c->named_max);
	c->entering_edits = c->edits;
	c->switching = false;
	c->pos = segment_start(c, c->number + 1) +
		 (1 + manifest_blocks(c->entering.n)) * BLOCK_SIZE;
	c->jumps = c->pos + c->batch_blocks * BLOCK_SIZE - last->pos > c->ring->size;
}

/* What is in flight needs one segment more when this one is the last. */
static void look_at_reserve(struct commit *c)
{
	if (!c->next_file && (c->switching || past_half(c)))
		prepare_last(&c->prepare);
}

/* Starts the batch that gathers, if it may go now. */
static void send_batch(struct commit *c)
{
	struct batch *b = c->gather;
	uint64_t blocks = blocks_for(b->layout.used);
	bool seal;

	if (b->pos / c->segment_size != c->number)
		return; /* the new segment is not entered yet */
	seal = must_seal(c, b->pos, blocks_for(b->layout.used + SEAL_SIZE));
	if (seal && !c->next_file) {
		prepare_last(&c->prepare);
		return; /* commit_prepared() comes back to it */
	}
	seal |= c->switching && c->next_file;
	if (seal) {
		add_seal(c, b);
		blocks = b->blocks;
		c->first_due = c->first.type != 0;
	}
	seal_batch(c, b, 0);
	c->pos = b->pos + blocks * BLOCK_SIZE;
	if (seal)
		leave_segment(c, b);
	else if (!c->next_file)
		look_at_reserve(c);
	c->flight = b;
	c->gather = b == &c->batches[0] ? &c->batches[1] : &c->batches[0];
	start_write(c, WRITING_BATCH, b->pos, blocks * BLOCK_SIZE);
	c->calls->room(c->ctx);
}

static void on_pass(struct deferred *d)
{
	struct commit *c = owner_of(d, struct commit, pass);

	if (!c->dead && c->writing == WRITING_NOTHING && c->gather->pos)
		send_batch(c);
}

/* ---- the commit point ---- */

static void publish(struct commit *c, uint64_t durable)
{
	ring_publish(c->ring, durable);
	c->calls->moved(c->ctx, durable);
}

static void add(_Atomic uint64_t *counter, uint64_t n)
{
	atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n,
			      memory_order_relaxed);
}

static void count_batch(struct commit *c, const struct batch *b)
{
	struct ring_head *h = c->ring->head;
	uint64_t us = clock_mono_us() - b->begun_us;

	add(&h->batches, 1);
	add(&h->syncs, 1);
	add(&h->records, b->layout.records);
	add(&h->bytes_written, b->blocks * BLOCK_SIZE);
	add(&h->commit_us_sum, us);
	if (us > atomic_load_explicit(&h->commit_us_max, memory_order_relaxed))
		atomic_store_explicit(&h->commit_us_max, us, memory_order_relaxed);
}

/* What vouches for the last batch is the watermark of a later one.  After mail was acked and
 * nothing follows, a mark does it. */
static void note_quiet(struct commit *c, const struct batch *b)
{
	c->unmarked = b->flags & BATCH_ACKED;
	c->quiet_since_ms = clock_mono_ms();
	if (c->unmarked && !timer_is_set(&c->idle))
		timer_set(c->loop, &c->idle, IDLE_MS);
}

static void batch_is_durable(struct commit *c, struct batch *b)
{
	struct link *l;

	c->durable_seq = b->seq;
	count_batch(c, b);
	note_quiet(c, b);
	publish(c, b->pos + b->blocks * BLOCK_SIZE);
	while ((l = list_first(&b->waiters))) {
		struct waiter *w = owner_of(l, struct waiter, link);

		list_remove(l);
		w->done(w);
	}
}

/* ---- from one segment to the next ---- */

/* The head of the segment that comes after one that ended at `end`; 0: it is the first. */
static void make_head(struct commit *c, uint64_t number, uint64_t prev_number, uint64_t end)
{
	uint64_t oldest = manifest_oldest(&c->entering);

	c->head = (struct segment_head){
		.number = number,
		.segment_size = c->segment_size,
		.epoch = c->epoch,
		.first_seq = c->seq + 1,
		.chain = c->chain,
		.prev_number = prev_number,
		.prev_end = end,
		.created_us = clock_wall_us(),
		.oldest = oldest ? oldest : number,
		.shard = c->shard,
		.manifest_n = c->entering.n,
	};
	memcpy(c->head.uuid, c->uuid, sizeof c->uuid);
	c->number = number;
	c->first_seq = c->head.first_seq;
	c->incarnation = incarnation_of(c->uuid, number);
}

/* Lays the manifest's rest and then the head out in the ring, at their positions. */
static uint64_t lay_manifest(struct commit *c)
{
	struct batch b;
	struct span body;
	struct rec_head h = {.type = REC_MANIFEST, .version = REC_LAYOUT};

	if (!manifest_blocks(c->entering.n))
		return 0;
	body = span_of(c->entering.v + MANIFEST_IN_HEAD,
		       (c->entering.n - MANIFEST_IN_HEAD) * sizeof *c->entering.v);
	batch_reset(&b);
	batch_open(c, &b, segment_start(c, c->number) + BLOCK_SIZE);
	rec_seal_head(&h, &body, 1);
	put_record(c, &b, &h, &body, 1);
	seal_batch(c, &b, BLOCK_EARLY);
	return b.blocks;
}

static void lay_head(struct commit *c)
{
	uint64_t pos = segment_start(c, c->number);

	ring_claim(c->ring, pos, BLOCK_SIZE);
	segment_head_put(ring_at(c->ring, pos), &c->head, c->entering.v, false);
}

static uint64_t copy_pos(const struct commit *c)
{
	return segment_start(c, c->number) + segment_usable(c->segment_size);
}

/* Not in the ring: there the end of this segment is where the one before it still lies. */
static void write_copy(struct commit *c)
{
	segment_head_put(c->copy, &c->head, c->entering.v, true);
	write_bytes(c, WRITING_COPY, c->copy, copy_pos(c), BLOCK_SIZE);
}

static void write_head(struct commit *c)
{
	lay_head(c);
	start_write(c, WRITING_HEAD, segment_start(c, c->number), BLOCK_SIZE);
}

void commit_prepared(void *ctx, struct disk_file *file)
{
	struct commit *c = ctx;

	c->next_file = file;
	if (c->switching)
		commit_switch(c);
	loop_defer(c->loop, &c->pass, PHASE_COMMIT);
}

void commit_prepare_next(struct commit *c)
{
	c->waiting = !may_go_on(c);
	if (!c->waiting)
		prepare_begin(&c->prepare, c->number + 1);
	else
		log_note("journal", "too many segments", "do",
			 "let mail be delivered; new mail waits", NULL);
}

/* The seal is durable. */
static void enter_next(struct commit *c, uint64_t end)
{
	uint64_t blocks;

	c->disk->calls->close(c->disk, c->file);
	c->file = c->next_file;
	c->next_file = NULL;
	make_head(c, c->number + 1, c->number, end);
	blocks = lay_manifest(c);
	if (blocks)
		start_write(c, WRITING_MANIFEST, segment_start(c, c->number) + BLOCK_SIZE,
			    blocks * BLOCK_SIZE);
	else
		write_copy(c);
}

static void head_is_durable(struct commit *c)
{
	uint64_t blocks = manifest_blocks(c->entering.n);

	if (blocks)
		c->durable_seq = c->first_seq;
	add(&c->ring->head->bytes_written, (2 + blocks) * BLOCK_SIZE);
	add(&c->ring->head->syncs, blocks ? 3 : 2);
	publish(c, segment_start(c, c->number) + (1 + blocks) * BLOCK_SIZE);
	commit_prepare_next(c);
	if (c->calls->entered)
		c->calls->entered(c->ctx, c->number, c->entering_edits);
}

static void on_batch_written(struct commit *c)
{
	struct batch *b = c->flight;
	uint64_t end = b->pos + b->blocks * BLOCK_SIZE;
	bool sealed = b->flags & BATCH_SEAL;

	c->flight = NULL;
	batch_is_durable(c, b);
	batch_reset(b);
	if (sealed)
		enter_next(c, end);
	if (c->jumps) {
		c->jumps = false;
		c->calls->room(c->ctx);
	}
}

static void on_written(struct op *op, int res, unsigned flags)
{
	struct commit *c = owner_of(op, struct commit, write);
	enum writing what = c->writing;

	if (res < 0 || (uint64_t)res != c->write_n) {
		c->dead = true;
		timer_stop(c->loop, &c->idle);
		c->calls->failed(c->ctx, res < 0 ? -res : EIO);
		return; /* c may be gone */
	}
	c->writing = WRITING_NOTHING;
	switch (what) {
	case WRITING_BATCH: on_batch_written(c); break;
	case WRITING_MANIFEST: write_copy(c); break;
	case WRITING_COPY: write_head(c); break;
	case WRITING_HEAD: head_is_durable(c); break;
	case WRITING_NOTHING: unreachable();
	}
	loop_defer(c->loop, &c->pass, PHASE_COMMIT);
}

/* ---- the mark after quiet ---- */

static bool add_nop(struct commit *c)
{
	struct rec_head h = {.type = REC_NOP, .flags = REC_SKIP};

	return commit_add(c, &h, NULL, 0, 0) != 0;
}

static void on_idle(struct timer *t)
{
	struct commit *c = owner_of(t, struct commit, idle);
	uint64_t quiet_ms = clock_mono_ms() - c->quiet_since_ms;

	if (!c->unmarked || !commit_is_idle(c))
		return; /* a later batch vouches, or sets this timer again */
	if (quiet_ms < IDLE_MS) {
		timer_set(c->loop, &c->idle, IDLE_MS - quiet_ms);
		return;
	}
	if (add_nop(c))
		c->gather->flags |= BATCH_IDLE;
}

void commit_switch(struct commit *c)
{
	c->switching = true;
	if (c->dead)
		return;
	if (!c->next_file)
		look_at_reserve(c);
	else if (!c->gather->pos)
		(void)add_nop(c); /* an empty batch has room for it */
}

/* ---- the beginning ---- */

static int write_now(struct commit *c, const void *p, uint64_t pos, uint64_t n)
{
	int64_t got =
		c->disk->calls->write_now(c->disk, c->file, p, n, pos % c->segment_size);

	if (got < 0)
		return (int)got;
	return (uint64_t)got == n ? 0 : -EIO;
}

int commit_write_first(struct commit *c, const struct journal_end *end, uint64_t number)
{
	uint64_t start = segment_start(c, number), blocks;
	int e = 0;

	ring_begin(c->ring, start);
	make_head(c, number, end->number, end->end);
	blocks = lay_manifest(c);
	if (blocks)
		e = write_now(c, ring_at(c->ring, start + BLOCK_SIZE), start + BLOCK_SIZE,
			      blocks * BLOCK_SIZE);
	segment_head_put(c->copy, &c->head, c->entering.v, true);
	lay_head(c);
	if (!e)
		e = write_now(c, c->copy, copy_pos(c), BLOCK_SIZE);
	if (!e)
		e = write_now(c, ring_at(c->ring, start), start, BLOCK_SIZE);
	if (e)
		return e;
	c->durable_seq = c->seq;
	c->pos = start + (1 + blocks) * BLOCK_SIZE;
	ring_publish(c->ring, c->pos);
	return 0;
}

void commit_begin(struct commit *c)
{
	batch_reset(&c->batches[0]);
	batch_reset(&c->batches[1]);
	c->gather = &c->batches[0];
	op_init(&c->write, on_written);
	deferred_init(&c->pass, on_pass);
	timer_init(&c->idle, on_idle);
}
