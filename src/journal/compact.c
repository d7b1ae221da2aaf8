/* The steps of a round; each ends where the next one is begun:
 *
 *   read      errand    records of the victim until CHUNK bytes, or its end
 *   mark      loop      live_wants() of each; a bounce that is over leaves a STATE
 *   write     errand    copies; returns early where the output is full
 *   output    commit    gives a file for a cold segment
 *   written   loop      live_copied() of each; a pause that keeps the rate; then read again
 *   rest      errand    MSGs that lie elsewhere but whose parts were copied are read, as a chunk
 *
 * What the errands touch (chunk, cold, readers, places) the loop leaves alone while one is
 * given, and the other way round. */
#include "journal/compact.h"

#include "core/clock.h"
#include "core/pool.h"
#include "core/table.h"
#include "journal/cold.h"

#include <errno.h>
#include <string.h>

#define CHUNK_MAX  (1024 * 1024) /* read at a time; less of small segments */
#define DICTS_MAX  COLD_DICTS_MAX /* that a victim's frames use: they lie in front of them */
#define PLACES_MAX (1u << 20)    /* messages of one round whose parts were copied; more end it */
/* A round ends behind a victim, so there may be as many more as one of the largest segments holds, in
 * records of the smallest size. */
#define PLACES_CAP (PLACES_MAX + SEGMENT_SIZE_MAX / 40)
#define MOVED_CAP  ((COMPACT_MOVED_MAX + PLACES_CAP + SEGMENT_SIZE_MAX / 64) * sizeof(struct msg_moved))
#define BYTES_MAX  (2 * (CHUNK_MAX + 2 * REC_MAX)) /* settled ranges come on top */
/* Colds that may be begun while one hot segment is written: their numbers are made of its
 * number, so that none is ever used twice. */
#define COLDS_OF_HOT 8

struct place { /* where a part of a message lies now, and where it was */
	uint64_t pos, from;
	uint32_t number, n;
	uint8_t type;
};
struct places {
	uint64_t id;
	struct place *v;
	uint32_t n, cap;
};
struct item {
	struct record r; /* body: set from `at` when the chunk is complete */
	size_t at;
	uint64_t to;
	bool wanted;
};
struct kept_dict {
	uint32_t number;
	struct buf bytes;
};
struct chunk {
	struct buf bytes;
	struct item *v;
	uint32_t n, cap;
	uint32_t copied; /* so many items were put, or are not wanted */
	bool ended;      /* the victim has no more */
	bool rest;       /* MSGs, all wanted */
	uint64_t damage; /* a position; 0: none was met */
	int error;
};

struct compact {
	struct compact_options o;
	struct compact_round *round;
	uint64_t rate;
	uint32_t victim;
	struct reader *reader, *msgs; /* of the victim; of the whole journal */
	struct cold cold;
	struct map places; /* struct places by id */
	struct kept_dict dicts[DICTS_MAX];
	uint32_t dicts_n;
	struct chunk chunk;
	enum cold_put put;
	uint64_t read_n, cold_hot, cold_last, written_before;
	uint64_t *rest; /* positions of MSGs */
	uint64_t *rest_ids;
	uint32_t rest_n, rest_at;
	struct errand read, write, look;
	struct timer pause;
	bool closed, gave_up;
};

/* ---- a chunk */

static void chunk_clear(struct chunk *k)
{
	buf_clear(&k->bytes);
	k->n = k->copied = 0;
	k->ended = k->rest = false;
	k->damage = 0;
	k->error = 0;
}

/* Bodies begin where a struct may. */
static size_t reserve(struct chunk *k, size_t n)
{
	size_t at = k->bytes.n, padded = (n + 7) & ~(size_t)7;

	check(buf_room(&k->bytes, padded));
	k->bytes.n += padded;
	return at;
}

static struct item *chunk_add(struct chunk *k, const struct record *r)
{
	struct item *i;

	if (k->n == k->cap) {
		uint32_t cap = k->cap ? 2 * k->cap : 256;

		k->v = mem_grow(k->v, k->cap * sizeof(*k->v), cap * sizeof(*k->v));
		k->cap = cap;
	}
	i = &k->v[k->n++];
	*i = (struct item){.r = *r, .at = reserve(k, r->body.n)};
	if (r->body.n > 0)
		memcpy(k->bytes.p + i->at, r->body.p, r->body.n);
	return i;
}

/* The bytes do not move any more. */
static void chunk_complete(struct chunk *k)
{
	for (uint32_t i = 0; i < k->n; i++)
		k->v[i].r.body = span_of(k->bytes.p + k->v[i].at, k->v[i].r.body.n);
}

static size_t chunk_size(const struct compact *c)
{
	return c->o.segment_size / 4 < CHUNK_MAX ? c->o.segment_size / 4 : CHUNK_MAX;
}

/* ---- read */

static struct compact_victim *victim(struct compact *c)
{
	return &c->round->victims[c->victim];
}

static struct kept_dict *kept_dict(struct compact *c, uint32_t number)
{
	for (uint32_t i = 0; i < c->dicts_n; i++)
		if (c->dicts[i].number == number)
			return &c->dicts[i];
	return NULL;
}

/* false: more than are ever written to a segment; without them frames would be lost. */
static bool keep_dict(struct compact *c, const struct record *r)
{
	struct kept_dict *d = &c->dicts[c->dicts_n];

	if (kept_dict(c, r->head.number))
		return true;
	if (c->dicts_n == DICTS_MAX)
		return false;
	d->number = r->head.number;
	buf_init(&d->bytes, REC_MAX);
	check(buf_add(&d->bytes, r->body));
	c->dicts_n++;
	return true;
}

static void forget_dicts(struct compact *c)
{
	for (uint32_t i = 0; i < c->dicts_n; i++)
		buf_free(&c->dicts[i].bytes);
	c->dicts_n = 0;
}

static bool is_of_interest(const struct record *r)
{
	switch ((enum rec_type)r->head.type) {
	case REC_BODY:
	case REC_RCPT:
	case REC_MSG:
	case REC_STATE:
	case REC_ACT: return true;
	case REC_NOP:
	case REC_MOVED:
	case REC_DICT:
	case REC_MANIFEST:
	case REC_SEAL:
	case REC_TYPES: break;
	}
	return false;
}

static int open_victim(struct compact *c)
{
	struct buf why;
	int e;

	buf_init(&why, 512);
	c->reader = reader_new(c->o.disk, NULL, c->o.segment_size, c->o.shard);
	reader_use_uuid(c->reader, commit_uuid(c->o.commit));
	e = reader_only(c->reader, victim(c)->number, victim(c)->end, &why);
	buf_free(&why);
	return e;
}

static void run_read(struct errand *e)
{
	struct compact *c = owner_of(e, struct compact, read);
	struct chunk *k = &c->chunk;
	struct record r;

	chunk_clear(k);
	if (!c->reader)
		k->error = open_victim(c);
	while (!k->error && !k->ended && k->bytes.n < chunk_size(c)) {
		switch (reader_next(c->reader, BODIES_WHOLE, &r)) {
		case READ_OK:
			if (r.head.type == REC_DICT && !keep_dict(c, &r))
				k->error = -E2BIG;
			else if (is_of_interest(&r))
				chunk_add(k, &r);
			break;
		case READ_END: k->ended = true; break;
		case READ_DAMAGE:
			if (!k->damage)
				k->damage = r.pos;
			break;
		case READ_GONE:
		case READ_ERROR: k->error = -EIO; break;
		}
	}
	chunk_complete(k);
}

/* ---- mark */

/* What a bounce that is over says of its parent has to stay; nothing else of it. */
static void make_settled(struct compact *c, struct item *i, const struct msg_view *v)
{
	struct chunk *k = &c->chunk;
	struct rec_state s = {
		.at_us = v->m->arrival_us,
		.outcome = OUTCOME_SETTLED,
		.ranges_n = v->m->settles_n,
	};
	uint64_t parent = v->m->parent;
	size_t ranges_n = v->settles.n, from = i->at + (size_t)(v->settles.p - i->r.body.p);

	i->at = reserve(k, sizeof(s) + ranges_n); /* v is in the old memory from here on */
	memcpy(k->bytes.p + i->at, &s, sizeof(s));
	memcpy(k->bytes.p + i->at + sizeof(s), k->bytes.p + from, ranges_n);
	i->r.head = (struct rec_head){
		.type = REC_STATE, .id = parent, .n = (uint32_t)(sizeof(s) + ranges_n)};
	i->r.body.n = sizeof(s) + ranges_n;
}

/* A MSG that is wanted and is not its message's own any more is one of a bounce. */
static bool is_wanted(struct compact *c, struct item *i)
{
	struct msg_view v;

	if (!live_wants(c->o.live, &i->r))
		return false;
	if (i->r.head.type != REC_MSG || live_msg_at(c->o.live, i->r.head.id) == i->r.pos)
		return true;
	if (!msg_view(&i->r.head, i->r.body, &v) || !v.m->parent || v.m->settles_n == 0)
		return false;
	make_settled(c, i, &v);
	return true;
}

static void mark(struct compact *c)
{
	struct chunk *k = &c->chunk;

	for (uint32_t n = 0; n < k->n; n++) {
		struct item *i = &k->v[n];

		i->r.body.p = k->bytes.p + i->at;
		i->wanted = k->rest || is_wanted(c, i);
	}
	chunk_complete(k);
}

/* ---- write */

static void note_place(struct compact *c, const struct item *i)
{
	struct places *p = map_get(&c->places, i->r.head.id);

	if (!p) {
		p = mem_new(sizeof(*p));
		p->id = i->r.head.id;
		check(map_put(&c->places, p->id, p));
	}
	if (p->n == p->cap) {
		uint32_t cap = p->cap ? 2 * p->cap : 2;

		p->v = mem_grow(p->v, p->cap * sizeof(*p->v), cap * sizeof(*p->v));
		p->cap = cap;
	}
	p->v[p->n++] = (struct place){
		.pos = i->to,
		.from = i->r.pos,
		.number = i->r.head.number,
		.n = i->r.head.n,
		.type = i->r.head.type};
}

static void places_free(struct compact *c, uint64_t id)
{
	struct places *p = map_remove(&c->places, id);

	if (!p)
		return;
	mem_free(p->v);
	mem_free(p);
}

/* New positions of parts go into the MSG's body, in place. */
static void point(struct compact *c, struct item *i)
{
	struct places *p = map_get(&c->places, i->r.head.id);
	char *body = c->chunk.bytes.p + i->at;
	struct rec_msg m;

	if (!p)
		return;
	memcpy(&m, body, sizeof(m));
	for (uint32_t k = 0; k < p->n; k++) {
		uint32_t n = p->v[k].number;
		bool is_body = p->v[k].type == REC_BODY;

		if (n >= (is_body ? m.body_parts : m.rcpt_parts))
			continue;
		n += is_body ? 0 : m.body_parts;
		memcpy(body + sizeof(m) + n * sizeof(uint64_t), &p->v[k].pos, sizeof(uint64_t));
	}
}

static enum cold_put put_dict_of(struct compact *c, const struct item *i, int *error)
{
	struct rec_body b;
	struct kept_dict *d;

	if (i->r.head.type != REC_BODY)
		return COLD_OK;
	memcpy(&b, i->r.body.p, sizeof(b));
	d = b.dict ? kept_dict(c, b.dict) : NULL;
	/* A frame without its dictionary is as damaged there as it was here. */
	return d ? cold_put_dict(&c->cold, d->number, buf_span(&d->bytes), error) : COLD_OK;
}

static enum cold_put put_item(struct compact *c, struct item *i, int *error)
{
	enum cold_put got = put_dict_of(c, i, error);

	if (got != COLD_OK)
		return got;
	if (i->r.head.type == REC_MSG)
		point(c, i);
	got = cold_put(&c->cold, &i->r.head, &i->r.body, 1, &i->to, error);
	if (got == COLD_OK && i->r.head.type == REC_MSG)
		places_free(c, i->r.head.id);
	if (got == COLD_OK && (i->r.head.type == REC_BODY || i->r.head.type == REC_RCPT))
		note_place(c, i);
	return got;
}

static void run_write(struct errand *e)
{
	struct compact *c = owner_of(e, struct compact, write);
	struct chunk *k = &c->chunk;
	int error = 0;

	c->put = COLD_OK;
	while (c->put == COLD_OK && k->copied < k->n) {
		struct item *i = &k->v[k->copied];

		if (i->wanted)
			c->put = put_item(c, i, &error);
		k->copied += c->put == COLD_OK;
	}
	if (c->put != COLD_FAILED)
		error = cold_flush(&c->cold);
	if (error) {
		c->put = COLD_FAILED;
		k->error = error;
	}
}

/* ---- the output */

static void note_output(struct compact *c)
{
	struct compact_round *r = c->round;
	struct manifest_entry *m = NULL;

	if (!c->cold.file || c->cold.seq == 0)
		return;
	if (r->output_n > 0 && r->output[r->output_n - 1].number == c->cold.number)
		m = &r->output[r->output_n - 1];
	else
		m = &r->output[r->output_n++];
	*m = (struct manifest_entry){
		.number = c->cold.number,
		.end = cold_end(&c->cold),
		.state = SEGMENT_QUEUE,
		.incarnation = incarnation_of(c->cold.uuid, c->cold.number),
	};
}

static void give_up(struct compact *c);
static void give_write(struct compact *c);

static void on_file(void *ctx, struct disk_file *file)
{
	struct compact *c = ctx;

	if (c->closed) {
		if (file)
			c->o.disk->calls->close(c->o.disk, file);
		return;
	}
	if (!file) {
		c->cold_last--; /* not used: a full disk must not use them up */
		give_up(c);
		return;
	}
	cold_take(&c->cold, c->cold_last, file);
	give_write(c);
}

/* Behind every number that a cold segment has had: see COLDS_OF_HOT. */
static bool next_number(struct compact *c)
{
	uint64_t hot = commit_number(c->o.commit);
	uint64_t first = COLD_FIRST + hot * COLDS_OF_HOT;

	c->cold_last = c->cold_last >= first ? c->cold_last + 1 : first;
	return c->cold_last < first + COLDS_OF_HOT;
}

static void take_output(struct compact *c)
{
	note_output(c);
	if (c->round->output_n == COMPACT_OUTPUT_MAX || !next_number(c)) {
		give_up(c);
		return;
	}
	commit_cold_file(c->o.commit, c->cold_last, on_file, c);
}

/* ---- written */

static void note_moved(struct compact *c, const struct item *i)
{
	struct msg_moved m = {.id = i->r.head.id, .from = i->r.pos, .to = i->to};

	if (i->r.head.type == REC_MSG || i->r.head.type == REC_STATE)
		check(buf_add(&c->round->moved, span_of(&m, sizeof(m))));
}

static void tell_live(struct compact *c)
{
	struct chunk *k = &c->chunk;

	for (uint32_t n = 0; n < k->copied; n++) {
		struct item *i = &k->v[n];
		struct record copy = i->r;

		if (!i->wanted)
			continue;
		copy.pos = i->to;
		live_copied(c->o.live, &copy, i->r.pos);
		note_moved(c, i);
		c->round->records++;
	}
	k->n = k->copied = 0;
}

static bool is_full(const struct compact *c)
{
	return c->round->moved.n >= COMPACT_MOVED_MAX * sizeof(struct msg_moved) ||
	       c->places.n >= PLACES_MAX;
}

static void end_round(struct compact *c)
{
	size_t at = 0;
	uint64_t id;

	note_output(c);
	reader_free(c->reader);
	reader_free(c->msgs);
	c->reader = c->msgs = NULL;
	while (map_next(&c->places, &at, &id))
		places_free(c, id);
	forget_dicts(c);
	mem_free(c->rest);
	mem_free(c->rest_ids);
	c->rest = c->rest_ids = NULL;
	c->rest_n = 0;
	chunk_clear(&c->chunk);
	c->round->bytes_written = c->cold.written - c->written_before;
	c->round = NULL;
	c->o.done(c->o.ctx);
}

/* The MSG still points to the old parts, and nobody looks elsewhere: these are the ones that live. */
static void take_parts_back(struct compact *c)
{
	size_t at = 0;
	uint64_t id;
	const struct places *p;

	while ((p = map_next(&c->places, &at, &id)))
		for (uint32_t k = 0; k < p->n; k++) {
			struct record old = {.pos = p->v[k].from,
					     .head = {.type = p->v[k].type,
						      .id = id,
						      .number = p->v[k].number,
						      .n = p->v[k].n}};

			live_copied(c->o.live, &old, p->v[k].pos);
		}
}

/* Where parts were copied whose MSG still points to the old ones, all victims stay. */
static void give_up(struct compact *c)
{
	uint32_t from = c->chunk.rest || c->places.n > 0 ? 0 : c->victim;

	tell_live(c);
	take_parts_back(c);
	for (uint32_t i = from; i < c->round->victims_n; i++)
		c->round->victims[i].failed = true;
	end_round(c);
}

static void give_rest(struct compact *c);
static void give_read(struct compact *c);
static void go_on(struct compact *c);

static void next_victim(struct compact *c)
{
	reader_free(c->reader);
	c->reader = NULL;
	forget_dicts(c);
	c->victim++;
	if (is_full(c))
		for (; c->victim < c->round->victims_n; c->victim++)
			c->round->victims[c->victim].failed = true;
	if (c->victim < c->round->victims_n)
		give_read(c);
	else
		give_rest(c);
}

static void go_on(struct compact *c)
{
	if (c->chunk.rest && c->rest_at < c->rest_n)
		errand_give(c->o.errands, &c->look);
	else if (c->chunk.rest)
		end_round(c);
	else if (c->chunk.ended)
		next_victim(c);
	else
		give_read(c);
}

static void on_pause(struct timer *t)
{
	go_on(owner_of(t, struct compact, pause));
}

static void keep_rate(struct compact *c, uint64_t bytes)
{
	if (c->rate == 0) {
		go_on(c);
		return;
	}
	timer_set(c->o.loop, &c->pause, bytes * 1000 / c->rate);
}

static void on_write(struct errand *e)
{
	struct compact *c = owner_of(e, struct compact, write);
	uint64_t written;

	if (c->closed)
		return;
	if (c->put == COLD_FAILED) {
		c->o.failed(c->o.ctx, c->chunk.error);
		return;
	}
	if (c->put == COLD_FULL) {
		take_output(c);
		return;
	}
	tell_live(c);
	written = c->cold.written - c->written_before - c->round->bytes_written;
	c->round->bytes_written += written;
	keep_rate(c, c->read_n + written);        /* may end the round */
}

static void give_write(struct compact *c)
{
	c->cold.time_us = clock_wall_us();
	errand_give(c->o.errands, &c->write);
}

/* The victim stays in the queue, and the round goes on without the rest of it. */
static void victim_failed(struct compact *c, bool damaged)
{
	victim(c)->failed = true;
	victim(c)->damaged = damaged;
	if (damaged)
		c->o.damaged(c->o.ctx, c->chunk.damage);
}

static void on_read(struct errand *e)
{
	struct compact *c = owner_of(e, struct compact, read);
	struct chunk *k = &c->chunk;

	if (c->closed)
		return;
	c->read_n = k->bytes.n + k->n * sizeof(struct rec_head);
	c->round->bytes_read += c->read_n;
	if (k->error || k->damage) {
		victim_failed(c, k->damage != 0);
		next_victim(c);
		return;
	}
	mark(c);
	give_write(c);
}

static void give_read(struct compact *c)
{
	errand_give(c->o.errands, &c->read);
}

/* ---- rest: MSGs that lie elsewhere */

static int open_msgs(struct compact *c)
{
	struct buf why;
	int e;

	buf_init(&why, 512);
	c->msgs = reader_new(c->o.disk, c->o.ring, c->o.segment_size, c->o.shard);
	e = reader_open(c->msgs, &why);
	buf_free(&why);
	return e;
}

static void run_look(struct errand *e)
{
	struct compact *c = owner_of(e, struct compact, look);
	struct chunk *k = &c->chunk;
	struct record r;

	chunk_clear(k);
	k->rest = true;
	k->error = c->msgs ? 0 : open_msgs(c);
	for (; c->rest_at < c->rest_n && !k->error && k->bytes.n < chunk_size(c); c->rest_at++) {
		if (reader_at(c->msgs, c->rest[c->rest_at], REC_MSG, c->rest_ids[c->rest_at],
			      0, &r) != READ_OK)
			k->error = -EIO;
		else
			chunk_add(k, &r);
	}
	chunk_complete(k);
}

static void on_look(struct errand *e)
{
	struct compact *c = owner_of(e, struct compact, look);

	if (c->closed)
		return;
	if (c->chunk.error) {
		c->chunk.n = 0;
		give_up(c);
		return;
	}
	mark(c);
	give_write(c);
}

static void give_rest(struct compact *c)
{
	size_t at = 0;
	uint64_t id;

	c->rest = mem_new((c->places.n + 1) * sizeof(*c->rest));
	c->rest_ids = mem_new((c->places.n + 1) * sizeof(*c->rest_ids));
	c->rest_n = 0;
	while (map_next(&c->places, &at, &id)) {
		uint64_t pos = live_msg_at(c->o.live, id);

		if (!pos) { /* over since then */
			places_free(c, id);
			continue;
		}
		c->rest_ids[c->rest_n] = id;
		c->rest[c->rest_n++] = pos;
	}
	c->chunk.rest = true;
	c->rest_at = 0;
	go_on(c);
}

/* ---- begin and end */

struct compact *compact_new(const struct compact_options *o)
{
	struct compact *c = mem_new(sizeof(*c));

	c->o = *o;
	c->rate = COMPACT_RATE;
	cold_init(&c->cold, o->disk, o->segment_size, commit_uuid(o->commit),
		  commit_epoch(o->commit), o->shard);
	map_init(&c->places, PLACES_CAP);
	buf_init(&c->chunk.bytes, BYTES_MAX);
	errand_init(&c->read, run_read, on_read);
	errand_init(&c->write, run_write, on_write);
	errand_init(&c->look, run_look, on_look);
	timer_init(&c->pause, on_pause);
	return c;
}

void compact_rate(struct compact *c, uint64_t bytes)
{
	c->rate = bytes;
}

void compact_begin(struct compact *c, struct compact_round *r)
{
	check(!c->round && r->victims_n > 0);
	c->round = r;
	c->victim = 0;
	c->written_before = c->cold.written;
	buf_init(&r->moved, MOVED_CAP);
	give_read(c);
}

bool compact_is_busy(const struct compact *c)
{
	return c->round != NULL;
}

uint64_t compact_output(const struct compact *c, uint64_t *ret_room)
{
	bool open = c->cold.file && !c->round;

	*ret_room = open ? cold_room(&c->cold) : 0;
	return c->cold.file ? c->cold.number : 0;
}

void compact_close(struct compact *c)
{
	c->closed = true;
	timer_stop(c->o.loop, &c->pause);
}

void compact_free(struct compact *c)
{
	size_t at = 0;
	uint64_t id;

	if (!c)
		return;
	check(c->closed);
	reader_free(c->reader);
	reader_free(c->msgs);
	while (map_next(&c->places, &at, &id))
		places_free(c, id);
	map_fini(&c->places);
	forget_dicts(c);
	cold_fini(&c->cold);
	buf_free(&c->chunk.bytes);
	mem_free(c->chunk.v);
	mem_free(c->rest);
	mem_free(c->rest_ids);
	mem_free(c);
}

void compact_round_fini(struct compact_round *r)
{
	mem_free(r->victims);
	buf_free(&r->moved);
	*r = (struct compact_round){0};
}
