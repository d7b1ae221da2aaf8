/* A deposit is in one of these states:
 *
 *   CLOSED      store == NULL
 *   OPEN        id == 0: nothing written; else PARTS_ONLY in the journal (docs/journal.md)
 *   REFUSED     refused: a limit, a full disk, no admission, or nonsense; verdict says which.
 *               Its parts are dead, its bytes are given back
 *   COMMITTING  its MSG is in the batch that gathers or is being written
 *
 * OPEN -> COMMITTING is the only step after which the message may exist.  What goes wrong:
 *
 *   the batch is full               PUT_WAIT: nothing was changed; the same call comes again
 *   a record is larger than any batch (tiny segments)
 *                                   REFUSED, STORED_LIMIT
 *   the source, or all, hold too much that is not committed
 *                                   REFUSED, STORED_LIMIT or STORED_FULL
 *   no room but in the reserve, or latched
 *                                   REFUSED, STORED_FULL; sources that are exempt go on, the
 *                                   commit path keeps segments in reserve for them
 *   no credit, draining             REFUSED at the MSG, STORED_LATER
 *   wrong numbers, sums, addresses  REFUSED, STORED_BAD, and one line in the log
 *   the sender is lost              CLOSED: parts without MSG, or a message nobody hears of */
#include "journal/store.h"

#include "core/clock.h"
#include "core/log.h"
#include "core/pool.h"
#include "journal/format.h"
#include "mail/addr.h"
#include "mail/envelope.h"

#include <string.h>

#define SEQ_MAX      ((1ull << (ID_SEQ_BITS)) - 1)
#define FRAME_MAX    (BODY_PART_MAX + BODY_PART_MAX / 128 + 1024)     /* zip's bound */
#define RCPT_IS_MANY (RCPT_PART_MAX / 2) /* the first part of so long a list is large already */
#define LOOK_MS      200                /* who waits for a segment that can't be had hears so */

static_check(sizeof(struct rec_msg) + STORE_PARTS_MAX * 8 +
		     UINT16_MAX * sizeof(struct msg_range) + ADDR_MAX <=
	     REC_MAX);

/* ---- what is common */

static void run_turns(struct deferred *d)
{
	struct store *s = owner_of(d, struct store, run_turns);
	struct link   now;

	list_init(&now);                          /* who waits again waits behind them */
	while (!list_is_empty(&s->turns)) {
		struct link *l = list_first(&s->turns);

		list_remove(l);
		list_add_end(&now, l);
	}
	while (!list_is_empty(&now)) {
		struct turn *t = owner_of(list_first(&now), struct turn, link);

		list_remove(&t->link);
		t->again(t);
	}
}

/* The batch stays full as long as no segment is prepared for it: new mail that waits is then
 * refused, what is exempt waits on. */
static void on_look(struct timer *t)
{
	struct store *s = owner_of(t, struct store, look);

	if (list_is_empty(&s->turns))
		return;
	if (store_is_full(s)) {
		s->changed(s->ctx);
		store_room(s);
	}
	timer_set(s->loop, &s->look, LOOK_MS);
}

void store_init(struct store *s, struct loop *l, struct ring *r, uint32_t shard,
		void (*changed)(void *ctx), void *ctx)
{
	*s = (struct store){.loop = l, .ring = r, .shard = shard};
	s->changed = changed;
	s->ctx = ctx;
	s->total_max = STORE_TOTAL_MIN;
	list_init(&s->turns);
	deferred_init(&s->run_turns, run_turns);
	timer_init(&s->look, on_look);
}

void store_fini(struct store *s)
{
	check(s->deposits == 0 && list_is_empty(&s->turns));
	deferred_cancel(&s->run_turns);
	timer_stop(s->loop, &s->look);
}

void turn_init(struct turn *t, void (*again)(struct turn *t))
{
	*t = (struct turn){.again = again};
}

void turn_cancel(struct turn *t)
{
	list_remove(&t->link);
}

bool turn_waits(const struct turn *t)
{
	return t->link.next != NULL;
}

void store_await_turn(struct store *s, struct turn *t)
{
	check(!turn_waits(t));
	list_add_end(&s->turns, &t->link);
	if (!timer_is_set(&s->look))
		timer_set(s->loop, &s->look, LOOK_MS);
}

void store_room(struct store *s)
{
	if (!list_is_empty(&s->turns))
		loop_defer(s->loop, &s->run_turns, PHASE_WORK);
}

void store_free_space(struct store *s, uint64_t bytes)
{
	s->total_max = bytes / STORE_SHARE;
	if (s->total_max < STORE_TOTAL_MIN)
		s->total_max = STORE_TOTAL_MIN;
}

void store_grant(struct store *s, const struct msg_credit *c)
{
	s->credit = *c;
	s->changed(s->ctx);
}

void store_drain(struct store *s)
{
	s->draining = true;
	s->changed(s->ctx);
}

void store_latch(struct store *s, bool on)
{
	s->latched = on;
	s->changed(s->ctx);
}

bool store_is_full(const struct store *s)
{
	return s->latched || commit_room(s->commit) != ROOM_PLENTY;
}

bool store_admits(const struct store *s)
{
	return !s->draining && s->credit.messages > 0 && s->credit.bytes > 0 &&
	       !store_is_full(s);
}

static size_t record_bytes(const struct span *pieces, int pieces_n)
{
	size_t n = 0;

	for (int i = 0; i < pieces_n; i++)
		n += pieces[i].n;
	return rec_size(n);
}

bool store_add(struct store *s, struct rec_head *h, const struct span *pieces, int pieces_n,
	       unsigned flags, uint64_t *ret_pos)
{
	uint64_t pos;

	if (!commit_fits(s->commit, record_bytes(pieces, pieces_n), flags))
		return false;
	pos = commit_add(s->commit, h, pieces, pieces_n, flags);
	check(pos != 0);
	if (ret_pos)
		*ret_pos = pos;
	return true;
}

/* ---- where the parts lie */

static const uint64_t *places_at(const struct places *p)
{
	return p->more ? p->more : p->few;
}

static void places_add(struct places *p, uint64_t pos)
{
	if (p->n < DEPOSIT_FEW && !p->more) {
		p->few[p->n++] = pos;
		return;
	}
	if (p->n >= p->cap) {
		uint32_t  cap = p->cap ? p->cap * 2 : 16;
		uint64_t *more = mem_grow(p->more, p->cap * sizeof(*more), cap * sizeof(*more));

		if (!p->more)
			memcpy(more, p->few, p->n * sizeof(*more));
		p->more = more;
		p->cap = cap;
	}
	p->more[p->n++] = pos;
}

static struct span places_span(const struct places *p)
{
	return span_of(places_at(p), p->n * sizeof(uint64_t));
}

static void places_fini(struct places *p)
{
	mem_free(p->more);
	*p = (struct places){0};
}

/* ---- a deposit */

static void on_durable(struct waiter *w);

static void count_open(struct store *s, int by)
{
	s->deposits += (uint32_t)by;
	atomic_store_explicit(&s->ring->head->open_submissions, s->deposits,
			      memory_order_relaxed);
}

static void count(_Atomic uint64_t *what, uint64_t by)
{
	atomic_fetch_add_explicit(what, by, memory_order_relaxed);
}

void deposit_open(struct deposit *d, struct store *s, struct source *from,
		  void (*stored)(struct deposit *d))
{
	*d = (struct deposit){.store = s, .source = from, .stored = stored};
	waiter_init(&d->waiter, on_durable);
	count_open(s, 1);
}

static void give_back(struct deposit *d)
{
	d->source->uncommitted -= d->held;
	d->store->uncommitted -= d->held;
	d->held = 0;
}

void deposit_close(struct deposit *d)
{
	struct store *s = d->store;

	if (!s)
		return;
	if (d->committing) {
		waiter_cancel(&d->waiter);
		s->committing--;
	} else if (d->id && s->abandoned) {
		s->abandoned(s->ctx, d->id);
	}
	give_back(d);
	places_fini(&d->body);
	places_fini(&d->rcpt);
	count_open(s, -1);
	d->store = NULL;
	d->committing = false;
}

static void on_durable(struct waiter *w)
{
	struct deposit *d = owner_of(w, struct deposit, waiter);

	deposit_close(d);
	d->stored(d);
}

static enum put refuse(struct deposit *d, enum stored verdict)
{
	d->refused = true;
	d->verdict = (uint8_t)verdict;
	give_back(d);
	places_fini(&d->body);
	places_fini(&d->rcpt);
	count(&d->store->ring->head->refused, 1);
	if (verdict == STORED_FULL)
		d->store->changed(d->store->ctx);
	return PUT_REFUSED;
}

static enum put bad(struct deposit *d, const char *what)
{
	log_note("submission", "refused", "odd", what, NULL);
	return refuse(d, STORED_BAD);
}

/* May so many more bytes lie in the journal without a MSG? */
static enum stored limit(const struct deposit *d, size_t n)
{
	const struct store *s = d->store;

	if (store_is_full(s) && !d->source->exempt)
		return STORED_FULL;
	if (d->source->uncommitted + n > s->total_max / d->source->share)
		return STORED_LIMIT;
	if (s->uncommitted + n > s->total_max)
		return STORED_FULL;
	if (d->body.n + d->rcpt.n >= STORE_PARTS_MAX || n > commit_record_max(s->commit))
		return STORED_LIMIT;              /* the latter where segments were made tiny */
	return STORED_OK;
}

/* Ids are given where the first record needs one, so that what is refused at once takes none. */
static uint64_t id_of(struct deposit *d)
{
	struct store *s = d->store;

	if (d->id)
		return d->id;
	if (s->seq == SEQ_MAX)
		die(111, "all ids of this start are used up"); /* the next has others */
	d->id = id_make(s->epoch, ++s->seq, s->shard);
	return d->id;
}

static enum put add_part(struct deposit *d, enum rec_type type, struct places *places,
			 const struct span *pieces, unsigned flags)
{
	size_t          n = record_bytes(pieces, 2);
	struct rec_head h = {.type = (uint8_t)type, .version = REC_LAYOUT, .number = places->n};
	enum stored     no = limit(d, n);
	uint64_t        pos;

	if (no != STORED_OK)
		return refuse(d, no);
	if (!commit_fits(d->store->commit, n, flags))
		return PUT_WAIT;
	h.id = id_of(d);
	if (!store_add(d->store, &h, pieces, 2, flags, &pos))
		return PUT_WAIT;
	places_add(places, pos);
	d->held += n;
	d->source->uncommitted += n;
	d->store->uncommitted += n;
	return PUT_OK;
}

static bool part_is_sound(const struct deposit *d, const struct msg_part *m, struct span frame)
{
	if (m->number != d->body.n || m->raw_n > BODY_PART_MAX)
		return false;
	if (m->codec == CODEC_RAW)
		return frame.n == m->raw_n && m->dict == 0;
	if (m->dict && m->dict != d->store->dict)
		return false;                     /* its segment would lack it */
	return m->codec == CODEC_ZSTD && frame.n > 0 && frame.n <= FRAME_MAX;
}

enum put deposit_part(struct deposit *d, const struct msg_part *m, struct span frame)
{
	struct rec_body b = {
		.raw_n = m->raw_n, .dict = m->dict, .raw_hash = m->raw_hash, .codec = m->codec};
	struct span     pieces[2] = {span_of(&b, sizeof(b)), frame};
	bool            is_large = m->number > 0 || m->raw_n == BODY_PART_MAX;
	enum put        put;

	check(d->store && !d->refused && !d->committing);
	if (!part_is_sound(d, m, frame))
		return bad(d, "body part");
	put = add_part(d, REC_BODY, &d->body, pieces, is_large ? COMMIT_LARGE : 0);
	if (put == PUT_OK) {
		d->size += m->raw_n;
		count(&d->store->ring->head->bytes_raw, m->raw_n);
		count(&d->store->ring->head->bytes_packed, frame.n);
	}
	return put;
}

static bool rcpts_are_sound(const struct deposit *d, const struct msg_rcpts *m,
			    struct span packed)
{
	struct span rest = packed, addr;
	uint32_t    n = 0;

	if (m->number != d->rcpt.n || packed.n > RCPT_PART_MAX ||
	    m->count > UINT32_MAX - d->rcpts)
		return false;
	for (; packed_next(&rest, &addr); n++)
		if (addr.n > ADDR_MAX)
			return false;
	return rest.n == 0 && n == m->count && n > 0;
}

enum put deposit_rcpts(struct deposit *d, const struct msg_rcpts *m, struct span packed)
{
	struct rec_rcpt r = {.first = d->rcpts, .count = m->count};
	struct span     pieces[2] = {span_of(&r, sizeof(r)), packed};
	bool            is_large = m->number > 0 || packed.n > RCPT_IS_MANY;
	enum put        put;

	check(d->store && !d->refused && !d->committing);
	if (!rcpts_are_sound(d, m, packed))
		return bad(d, "recipients");
	put = add_part(d, REC_RCPT, &d->rcpt, pieces, is_large ? COMMIT_LARGE : 0);
	if (put == PUT_OK) {
		d->rcpts += m->count;
		d->rcpt_bytes += packed.n;
	}
	return put;
}

static bool submit_is_sound(const struct deposit *d, const struct msg_submit *m,
			    struct span rest)
{
	struct span settles = span_from(rest, m->sender_n);

	if (m->body_parts != d->body.n || m->rcpt_parts != d->rcpt.n || m->rcpts != d->rcpts ||
	    m->size != d->size)
		return false;
	if (m->sender_n > ADDR_MAX ||
	    rest.n != m->sender_n + m->settles_n * sizeof(struct msg_range))
		return false;
	if (m->kind > SUBMIT_BOUNCE || (m->kind == SUBMIT_BOUNCE) != d->source->exempt)
		return false;
	if (m->kind != SUBMIT_BOUNCE && (m->parent || m->settles_n))
		return false;
	for (uint32_t i = 0; i < m->settles_n; i++)
		if (range_at(settles, i).first > range_at(settles, i).last)
			return false;
	return true;
}

static void use_credit(struct store *s, uint64_t bytes)
{
	struct msg_credit *c = &s->credit;

	c->messages -= c->messages > 0;
	c->bytes -= bytes < c->bytes ? bytes : c->bytes;
	if (!store_admits(s))
		s->changed(s->ctx);
}

enum put deposit_submit(struct deposit *d, const struct msg_submit *m, struct span rest)
{
	struct store   *s = d->store;
	struct rec_head h = {.type = REC_MSG, .version = REC_LAYOUT};
	struct rec_msg  msg = {
		.arrival_us = clock_wall_us(),
		.size = m->size,
		.parent = m->parent,
		.body_parts = m->body_parts,
		.rcpt_parts = m->rcpt_parts,
		.rcpts = m->rcpts,
		.uid = m->uid,
		.pid = m->pid,
		.sender_n = m->sender_n,
		.settles_n = m->settles_n,
		.kind = m->kind,
	};
	struct { uint16_t tag, n; uint64_t id; } __attribute__((packed)) replay = {
		EXTRA_REPLAY, sizeof(uint64_t), d->replay_of};
	struct span pieces[6];

	check(s && !d->refused && !d->committing);
	if (!submit_is_sound(d, m, rest))
		return bad(d, "message");
	if (!d->source->exempt && !store_admits(s))
		return refuse(d, store_is_full(s) ? STORED_FULL : STORED_LATER);
	pieces[0] = span_of(&msg, sizeof(msg));
	pieces[1] = places_span(&d->body);
	pieces[2] = places_span(&d->rcpt);
	pieces[3] = span_from(rest, m->sender_n); /* the record has settles[] first */
	pieces[4] = span_until(rest, m->sender_n);
	pieces[5] = span_of(&replay, d->replay_of ? sizeof(replay) : 0);
	msg.extra_n = (uint32_t)pieces[5].n;
	if (record_bytes(pieces, 6) > commit_record_max(s->commit))
		return refuse(d, STORED_LIMIT);
	if (!commit_fits(s->commit, record_bytes(pieces, 6), COMMIT_ACKED))
		return PUT_WAIT;
	h.id = id_of(d);
	if (!store_add(s, &h, pieces, 6, COMMIT_ACKED, NULL))
		return PUT_WAIT;
	commit_wait(s->commit, &d->waiter);
	d->committing = true;
	s->committing++;
	give_back(d);
	count(&s->ring->head->messages, 1);
	use_credit(s, d->rcpt_bytes);
	return PUT_OK;
}
