/* A journal of some runs: mail, marks, segments that are given up, kept as history, or copied
 * into cold ones and used again; and the end that was asked for. */
#include "damage.h"

#include "core/clock.h"
#include "core/pool.h"
#include "core/rand.h"
#include "journal/cold.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BODY_MAX 12000
#define START_US UINT64_C(1000000000)

static uint64_t seed_now;

_Noreturn void world_fail(const char *fmt, ...)
{
	va_list ap;

	fprintf(stderr, "damage: seed %llu: ", (unsigned long long)seed_now);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	abort();
}

/* ---- the loop ---- */

static void made_wait(struct loop *l, int64_t ms)
{
	struct made *m = l->body;
	uint64_t now = clock_mono_us(), next = simdisk_next(m->disk), due;

	due = ms < 0 ? now + 1000 : now + (uint64_t)ms * 1000;
	if (next < due)
		due = next > now ? next : now;
	clock_set(due, due + START_US);
	simdisk_run(m->disk, due);
}

static void made_start(struct loop *l, struct op *op)
{
	world_fail("an operation of kind %u has no place here", op->kind);
}

static void made_cancel(struct loop *l, struct op *op)
{
}

static const struct loop_calls loop_calls = {
	.name = "simulator",
	.start = made_start,
	.cancel = made_cancel,
	.wait = made_wait,
};

/* ---- what is in the mail ---- */

static size_t fill_with_fakes(char *p, size_t n)
{
	size_t at = 0;

	while (n - at >= sizeof(struct rec_head) + 64) {
		struct rec_head h = {.type = REC_ACT, .id = MADE_FAKE_ID, .number = (uint32_t)at};
		struct span body = span_of(p + at + sizeof h, 64);

		memset(p + at + sizeof h, 'f', 64);
		rec_seal_head(&h, &body, 1);
		memcpy(p + at, &h, sizeof h);
		at += rec_size(64);
	}
	return at;
}

/* Text, zeros, or bytes that look like records. */
static size_t make_body(char *p)
{
	size_t n = rand_below(4) ? rand_below(1500) : rand_below(BODY_MAX), at = 0;
	uint64_t x = rand_u64() | 1, how = rand_below(6);

	if (how == 0) {
		memset(p, 0, n);
		return n;
	}
	if (how == 1)
		at = fill_with_fakes(p, n);
	for (; at + 8 <= n; at += 8) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		memcpy(p + at, &x, 8);
	}
	memset(p + at, 'x', n - at);
	return n;
}

/* ---- adding ---- */

static void keep(struct made *m, const struct made_record *r)
{
	if (m->n == m->cap) {
		uint32_t cap = m->cap ? 2 * m->cap : 1024;

		m->v = mem_grow(m->v, m->cap * sizeof *m->v, cap * sizeof *m->v);
		m->moved = mem_grow(m->moved, m->cap * sizeof *m->moved, cap * sizeof *m->moved);
		m->cap = cap;
	}
	m->moved[m->n] = 0;
	m->v[m->n++] = *r;
}

static void add_one(struct made *m)
{
	static char body[BODY_MAX];
	size_t n = make_body(body);
	struct rec_head h = {.type = REC_ACT, .id = m->id_base + m->n + 1};
	struct span piece = span_of(body, n);
	uint64_t pos = commit_add(m->commit, &h, &piece, 1, COMMIT_ACKED);

	if (pos)
		keep(m, &(struct made_record){
				.pos = pos, .hash = hash64(body, n), .n = (uint32_t)n});
}

bool made_is(const struct made *m, const struct record *r)
{
	uint64_t i = r->head.id - m->id_base - 1;

	return r->head.type == REC_ACT && i < m->n && m->v[i].pos == r->pos &&
	       m->v[i].n == r->body.n && m->v[i].hash == hash64(r->body.p, r->body.n);
}

/* What is durable was promised. */
static void promise(struct made *m)
{
	uint64_t durable = ring_durable(&m->ring);

	for (uint32_t i = m->run; i < m->n; i++)
		if (m->v[i].pos < durable)
			m->v[i].promised = true;
}

static void pass(struct made *m)
{
	loop_pass(&m->loop);
}

static void settle(struct made *m)
{
	while (!commit_is_idle(m->commit))
		pass(m);
	promise(m);
}

static void rest(struct made *m, uint64_t ms)
{
	uint64_t until = clock_mono_ms() + ms;

	while (clock_mono_ms() < until || !commit_is_idle(m->commit))
		pass(m);
	promise(m);
}

/* ---- giving segments up ---- */

/* An edit is durable: its segment's records are elsewhere, or nowhere. */
static void apply(struct made *m, const struct made_edit *e)
{
	for (uint32_t i = 0; i < m->n; i++) {
		struct made_record *r = &m->v[i];

		if (r->pos / MADE_SEGMENT != e->number)
			continue;
		if (e->cold && m->moved[i])
			r->pos = m->moved[i];
		else
			r->gone = true;
	}
	m->colds += e->cold != 0;
	m->dropped += e->cold == 0;
}

static void forget_moves(struct made *m)
{
	memset(m->moved, 0, m->cap * sizeof *m->moved);
}

static void on_entered(void *ctx, uint64_t number, uint64_t edits)
{
	struct made *m = ctx;

	if (!m->edits_n || m->edits[0].edit > edits)
		return;
	for (unsigned i = 0; i < m->edits_n; i++) {
		apply(m, &m->edits[i]);
		commit_recycle(m->commit, m->edits[i].number, false);
	}
	m->edits_n = 0;
	forget_moves(m);
}

/* A hot one in front of the one that is written; 0: none. */
static uint64_t pick_victim(struct made *m, uint64_t *ret_end)
{
	uint32_t n, hot = 0;
	const struct manifest_entry *v = commit_named(m->commit, &n);

	while (hot < n && v[hot].number < COLD_FIRST && v[hot].state == SEGMENT_QUEUE)
		hot++;
	if (hot < 3)
		return 0;
	v += rand_below(hot - 1);
	*ret_end = v->end;
	return v->number;
}

static void on_cold(void *ctx, struct disk_file *file)
{
	struct made *m = ctx;

	m->cold_file = file;
	m->cold_ready = true;
}

static bool copy_one(struct made *m, struct cold *c, const struct record *rec)
{
	struct rec_head h = rec->head;
	uint64_t pos;
	int e = 0;

	if (cold_put(c, &h, &rec->body, 1, &pos, &e) != COLD_OK)
		return false;
	m->moved[h.id - m->id_base - 1] = pos;
	return true;
}

/* Copies half of a segment's records into a cold one, which is named as the victim is dropped. */
static void compact(struct made *m, uint64_t victim, uint64_t end)
{
	struct reader *r = reader_new(m->disk, NULL, MADE_SEGMENT, MADE_SHARD);
	struct record rec;
	enum read_result got;
	struct cold c;
	struct buf why;
	bool all = true;

	buf_init(&why, 256);
	cold_init(&c, m->disk, MADE_SEGMENT, commit_uuid(m->commit), commit_epoch(m->commit),
		  MADE_SHARD);
	cold_take(&c, m->cold_number, m->cold_file);
	reader_use_uuid(r, commit_uuid(m->commit));
	if (reader_only(r, victim, end, &why))
		world_fail("segment %llx can't be read", (unsigned long long)victim);
	while ((got = reader_next(r, BODIES_WHOLE, &rec)) == READ_OK || got == READ_DAMAGE) {
		if (got == READ_DAMAGE)
			all = false; /* torn in an earlier run */
		else if (made_is(m, &rec) && rand_below(2))
			all = all && copy_one(m, &c, &rec);
		if (rand_below(6) == 0)
			all = all && cold_flush(&c) == 0;
	}
	all = all && cold_flush(&c) == 0 && cold_end(&c) > m->cold_number * MADE_SEGMENT;
	if (all && commit_name(m->commit,
			       &(struct manifest_entry){.number = m->cold_number,
							.end = cold_end(&c),
							.state = SEGMENT_QUEUE}))
		m->edits[m->edits_n++] =
			(struct made_edit){.edit = commit_drop(m->commit, victim),
					   .number = victim,
					   .cold = m->cold_number};
	else
		forget_moves(m);
	cold_fini(&c);
	reader_free(r);
	buf_free(&why);
}

static void give_up_one(struct made *m)
{
	uint64_t end, victim = pick_victim(m, &end);

	if (!victim || m->edits_n)
		return;
	switch (rand_below(4)) {
	case 0:
		commit_to_history(m->commit, victim, 1);
		m->kept++;
		break;
	case 1:
		m->edits[m->edits_n++] = (struct made_edit){
			.edit = commit_drop(m->commit, victim), .number = victim};
		break;
	default:
		m->cold_ready = false;
		m->cold_number = COLD_FIRST + m->cold_next++;
		commit_cold_file(m->commit, m->cold_number, on_cold, m);
		while (!m->cold_ready)
			pass(m);
		if (m->cold_file)
			compact(m, victim, end);
	}
	commit_switch(m->commit);
}

/* ---- runs ---- */

static void on_moved(void *ctx, uint64_t durable)
{
}

static void on_room(void *ctx)
{
}

static void on_failed(void *ctx, int error)
{
	world_fail("a write failed that nobody made fail");
}

static const struct commit_calls commit_calls = {
	.moved = on_moved,
	.room = on_room,
	.failed = on_failed,
	.entered = on_entered,
};

static bool is_named(const struct journal_end *end, uint64_t number)
{
	for (uint32_t i = 0; i < end->segments_n; i++)
		if (end->segments[i].number == number)
			return true;
	return false;
}

/* The power may have gone when the head was durable, and nobody had been told. */
static void settle_edits(struct made *m, const struct journal_end *end)
{
	for (unsigned i = 0; i < m->edits_n; i++)
		if (!is_named(end, m->edits[i].number))
			apply(m, &m->edits[i]);
	m->edits_n = 0;
	if (m->cap)
		forget_moves(m);
}

static void open_journal(struct made *m)
{
	struct journal_end end;
	enum recovered verdict = journal_recover(m->disk, &end);

	if (verdict == RECOVERED_FAILED || verdict == RECOVERED_DAMAGED)
		world_fail("recovery of a journal that nobody damaged says %d: %.*s",
			   (int)verdict, SPAN_ARG(buf_span(&end.why)));
	settle_edits(m, &end);
	if (ring_make(&m->ring, MADE_RING, MADE_SEGMENT) ||
	    commit_open(&m->commit, &m->loop, m->disk, &m->ring, &end,
			&(struct commit_options){
				.segment_size = MADE_SEGMENT, .shard = MADE_SHARD, .direct = true},
			&commit_calls, m))
		world_fail("the journal can't be opened");
	m->run = m->n;
	journal_end_fini(&end);
}

static void close_journal(struct made *m)
{
	commit_free(m->commit);
	m->commit = NULL;
	ring_unmap(&m->ring);
}

static void cut_power(struct made *m)
{
	promise(m);
	simdisk_power_loss(m->disk);
	close_journal(m);
}

static void work(struct made *m, unsigned passes)
{
	while (passes--) {
		for (uint64_t n = rand_below(4); n--;)
			add_one(m);
		pass(m);
		promise(m);
		if (rand_below(40) == 0)
			rest(m, 150);
		if (rand_below(30) == 0)
			give_up_one(m);
	}
}

/* The power goes while a batch is on its way. */
static void end_under_load(struct made *m)
{
	settle(m);
	for (uint64_t n = 1 + rand_below(4); n--;)
		add_one(m);
	settle(m);
	do {
		add_one(m);
		pass(m);
	} while (commit_is_idle(m->commit));
	cut_power(m);
}

static void end_quiet(struct made *m)
{
	settle(m);
	for (uint64_t n = 1 + rand_below(4); n--;)
		add_one(m);
	settle(m);
	cut_power(m);
}

void made_make(struct made *m, uint64_t seed, enum made_end end, uint64_t id_base)
{
	*m = (struct made){.id_base = id_base, .ring = {.fd = -1, .fd_read = -1}};
	seed_now = seed;
	rand_seed(seed);
	clock_set(START_US, 2 * START_US);
	loop_init(&m->loop, &loop_calls, m);
	m->disk = simdisk_new(&m->loop);
	for (uint64_t runs = rand_below(3); runs--;) {
		open_journal(m);
		work(m, 10 + (unsigned)rand_below(60));
		if (rand_below(2))
			settle(m);
		cut_power(m);
	}
	open_journal(m);
	work(m, 40 + (unsigned)rand_below(100));
	switch (end) {
	case MADE_MARK:
		rest(m, 300);
		cut_power(m);
		break;
	case MADE_QUIET: end_quiet(m); break;
	case MADE_LOAD: end_under_load(m); break;
	case MADE_ENDS: unreachable();
	}
}

void made_fini(struct made *m)
{
	heap_fini(&m->loop.timers);
	simdisk_free(m->disk);
	mem_free(m->v);
	mem_free(m->moved);
}
