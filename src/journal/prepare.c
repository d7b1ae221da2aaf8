/* The loop decides and keeps all lists; the thread gets one job, whose fields are its own until
 * it is done.  kick() is where decisions are made: called whenever something has changed, it
 * gives the next job, or sets the timer for what can't be done yet.
 *
 *   a fill fails         the half-filled file is removed: the space is there for others
 *   a rename fails       the spare is kept; a spare that is gone is forgotten
 *   sync or open fails   the file is seg-N already; the next try puts another one in its place
 *   killed at any point  fill- files are removed at the next start, spare- files are used, seg- files that no
 *                        head names are removed (commit_open.c) */
#include "journal/prepare.h"

#include "core/clock.h"
#include "core/log.h"
#include "core/pool.h"
#include "journal/format.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>

#define RETRY_MS  1000 /* a full disk, and a lock, are not looked at more often */
/* What a spare may have to wait for: some 10 ms of a fast disk. */
#define FILL_STEP (8 * 1024 * 1024)
/* Of the reserve, in the end: one for compaction, one for what is in flight. */
#define FLOOR 2

/* ---- the jobs; in the thread ---- */

static int open_for_writing(struct prepare *p, const char *name, struct disk_file **ret)
{
	int flags = DISK_WRITE | (p->o.direct ? DISK_DIRECT : 0);

	return p->disk->calls->open(p->disk, name, flags, ret);
}

static int fill_begin(struct prepare *p, const char *name)
{
	struct disk *d = p->disk;
	int e = d->calls->unlink(d, name);

	if (e && e != -ENOENT)
		return e;
	p->fill_at = 0;
	return d->calls->open(d, name, DISK_WRITE | DISK_CREATE, &p->fill_file);
}

static void fill_end(struct prepare *p)
{
	if (p->fill_file)
		p->disk->calls->close(p->disk, p->fill_file);
	p->fill_file = NULL;
}

static uint64_t fill_step(const struct prepare *p)
{
	return p->o.segment_size / 2 < FILL_STEP ? p->o.segment_size / 2 : FILL_STEP;
}

/* One step; after the last one it is a spare. */
static int fill(struct prepare *p)
{
	struct disk *d = p->disk;
	char name[SEGMENT_NAME_MAX], spare[SEGMENT_NAME_MAX];
	uint64_t to;
	int e = 0;

	segment_name(name, FILE_FILLING, p->fill_number);
	segment_name(spare, FILE_SPARE, p->fill_number);
	if (!p->fill_file)
		e = fill_begin(p, name);
	to = p->fill_at + fill_step(p);
	if (to > p->o.segment_size)
		to = p->o.segment_size;
	if (!e)
		e = d->calls->fill(d, p->fill_file, p->fill_at, to);
	if (!e) {
		p->fill_at = to;
		if (to < p->o.segment_size)
			return 0;
	}
	fill_end(p);
	if (!e)
		e = d->calls->rename(d, name, spare);
	if (e)
		(void)d->calls->unlink(d, name); /* the next start removes it else */
	return e;
}

/* p->spare is 0 when it is not a spare any more. */
static int take(struct prepare *p)
{
	char spare[SEGMENT_NAME_MAX], name[SEGMENT_NAME_MAX];
	int e;

	segment_name(spare, FILE_SPARE, p->spare);
	segment_name(name, FILE_SEGMENT, p->number);
	e = p->disk->calls->rename(p->disk, spare, name);
	if (!e || e == -ENOENT)
		p->spare = 0;
	if (!e)
		e = p->disk->calls->sync_dir(p->disk);
	return e ? e : open_for_writing(p, name, &p->file);
}

/* Tools lock what they read. */
static int lock_file(struct prepare *p, const char *name, struct disk_file **ret)
{
	int e = p->disk->calls->open(p->disk, name, DISK_READ, ret), fd;

	if (e)
		return e;
	fd = p->disk->calls->fd(*ret);
	if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) < 0)
		e = -errno;
	if (e)
		p->disk->calls->close(p->disk, *ret);
	return e;
}

/* A cache: the next start removes it else. */
static void remove_index(struct prepare *p, uint64_t number)
{
	char name[SEGMENT_NAME_MAX];

	snprintf(name, sizeof name, "idx-%016" PRIx64, number);
	(void)p->disk->calls->unlink(p->disk, name);
}

static int quarantine(struct prepare *p, const char *name)
{
	char bad[SEGMENT_NAME_MAX];

	snprintf(bad, sizeof bad, "bad-%016" PRIx64, p->leaving.number);
	return p->disk->calls->rename(p->disk, name, bad);
}

/* p->spare: what it becomes; 0: there are enough. */
static int recycle(struct prepare *p)
{
	char name[SEGMENT_NAME_MAX], spare[SEGMENT_NAME_MAX];
	struct disk_file *f;
	int e;

	segment_name(name, FILE_SEGMENT, p->leaving.number);
	remove_index(p, p->leaving.number);
	if (p->leaving.keep)
		return quarantine(p, name);
	e = lock_file(p, name, &f);
	if (e)
		return e;
	segment_name(spare, FILE_SPARE, p->spare);
	if (p->disk->calls->size(p->disk, f) != (int64_t)p->o.segment_size)
		p->spare = 0; /* somebody cut it */
	e = p->spare ? p->disk->calls->rename(p->disk, name, spare)
		     : p->disk->calls->unlink(p->disk, name);
	p->disk->calls->close(p->disk, f);
	return e;
}

static void run(struct errand *e)
{
	struct prepare *p = owner_of(e, struct prepare, errand);

	switch (p->job) {
	case JOB_FILL: p->result = fill(p); return;
	case JOB_TAKE:
	case JOB_TAKE_COLD: p->result = take(p); return;
	case JOB_RECYCLE: p->result = recycle(p); return;
	case JOB_NONE: break;
	}
	unreachable();
}

/* ---- what there is ---- */

static uint32_t floor_of(const struct prepare *p)
{
	return p->o.reserve / 2 < FLOOR ? p->o.reserve / 2 : FLOOR;
}

static void push_spare(struct prepare *p, uint64_t number)
{
	if (p->spares_n == p->spares_cap) {
		uint32_t cap = p->spares_cap ? 2 * p->spares_cap : 16;

		p->spares = mem_grow(p->spares, p->spares_cap * sizeof *p->spares,
				     cap * sizeof *p->spares);
		p->spares_cap = cap;
	}
	p->spares[p->spares_n++] = number;
	if (p->spares_n >= p->o.reserve)
		p->built = true;
	if (p->spares_n >= floor_of(p))
		p->last_taken = p->cold_taken = false;
}

/* Complete files that are kept. */
static uint32_t spares_max(const struct prepare *p)
{
	return p->o.pool + p->o.reserve;
}

static bool wants_more(const struct prepare *p)
{
	bool asked = p->wanted || p->cold;

	return p->spares_n < spares_max(p) || (asked && p->spares_n <= p->o.reserve);
}

static void look_at_room(struct prepare *p)
{
	uint32_t have = p->spares_n + (p->wanted == 0);

	if (!p->is_short && p->error && (have <= p->o.reserve || p->take_failed)) {
		p->is_short = true;
		log_note("journal", "no room for another segment", "error", strerror(-p->error),
			 "do", "make room; new mail waits, deliveries go on", NULL);
	} else if (p->is_short && have > p->o.reserve && !p->take_failed) {
		p->is_short = p->last_taken = p->cold_taken = false;
		log_note("journal", "there is room again", NULL);
	}
}

/* ---- who may take ---- */

bool prepare_has_more(const struct prepare *p)
{
	return p->spares_n > floor_of(p);
}

static bool may_take(const struct prepare *p)
{
	uint32_t last = p->cold_taken ? 0 : floor_of(p) / 2;

	if (p->is_short)
		return p->spares_n > floor_of(p) || (p->last_ok && p->spares_n > last);
	return p->spares_n > p->o.reserve || (!p->built && p->spares_n > 0);
}

static bool cold_is_cut(const struct prepare *p)
{
	return p->is_short || p->error;
}

static bool may_take_cold(const struct prepare *p)
{
	uint32_t last = p->last_taken ? 0 : (floor_of(p) + 1) / 2;

	if (p->spares_n > p->o.reserve)
		return true;
	return cold_is_cut(p) && p->spares_n > last;
}

static void note_taken(struct prepare *p, bool *flag)
{
	if (p->is_short && p->spares_n < floor_of(p))
		*flag = true;
}

/* ---- the next job ---- */

static struct prepare_past *past_due(const struct prepare *p, uint64_t now)
{
	for (uint32_t i = 0; i < p->past_n; i++)
		if (p->past[i].due_ms <= now)
			return &p->past[i];
	return NULL;
}

static void begin_take(struct prepare *p, enum prepare_job job, uint64_t number)
{
	p->job = job;
	p->number = number;
	p->spare = p->spares[--p->spares_n];
}

static void begin_recycle(struct prepare *p, struct prepare_past *which)
{
	p->job = JOB_RECYCLE;
	p->leaving = *which;
	*which = p->past[--p->past_n];
	p->spare = !p->leaving.keep && wants_more(p) ? ++p->spare_last : 0;
}

static enum prepare_job choose(struct prepare *p, uint64_t now)
{
	struct prepare_past *past = past_due(p, now);

	if (p->wanted && p->take_due_ms <= now && may_take(p)) {
		begin_take(p, JOB_TAKE, p->wanted);
	} else if (p->cold && p->take_due_ms <= now && may_take_cold(p)) {
		begin_take(p, JOB_TAKE_COLD, p->cold);
	} else if (past) {
		begin_recycle(p, past);
	} else if (p->fill_due_ms <= now && (p->fill_file || wants_more(p))) {
		if (!p->fill_file)
			p->fill_number = ++p->spare_last;
		p->job = JOB_FILL;
	} else {
		p->job = JOB_NONE;
	}
	return p->job;
}

static void earlier(uint64_t *next, uint64_t due_ms, uint64_t now)
{
	if (due_ms > now && due_ms < *next)
		*next = due_ms;
}

static void wait_for_more(struct prepare *p, uint64_t now)
{
	uint64_t next = UINT64_MAX;

	if (wants_more(p))
		earlier(&next, p->fill_due_ms, now);
	if (p->wanted || p->cold)
		earlier(&next, p->take_due_ms, now);
	for (uint32_t i = 0; i < p->past_n; i++)
		earlier(&next, p->past[i].due_ms, now);
	if (next != UINT64_MAX)
		timer_set(p->loop, &p->timer, next - now);
}

static void answer_cold(struct prepare *p, struct disk_file *f)
{
	p->cold = 0;
	p->cold_ready(p->cold_ctx, f);
}

static void kick(struct prepare *p)
{
	uint64_t now = clock_mono_ms();

	if (p->errand.given)
		return;
	if (choose(p, now) != JOB_NONE) {
		p->result = 0;
		errand_give(p->errands, &p->errand);
		return;
	}
	wait_for_more(p, now);
	if (p->cold && cold_is_cut(p))
		answer_cold(p, NULL); /* last: it may ask again */
}

static void on_timer(struct timer *t)
{
	kick(owner_of(t, struct prepare, timer));
}

/* From anywhere: nobody is called back before the loop is. */
static void kick_later(struct prepare *p)
{
	timer_set(p->loop, &p->timer, 0);
}

/* ---- a job is done ---- */

static void filled(struct prepare *p)
{
	p->error = p->result;
	if (p->result)
		p->fill_due_ms = clock_mono_ms() + RETRY_MS;
	else if (!p->fill_file)
		push_spare(p, p->fill_number);
}

static struct disk_file *taken(struct prepare *p)
{
	struct disk_file *f = p->file;

	p->file = NULL;
	p->take_failed = p->result && p->result != -ENOENT;
	if (p->spare)
		push_spare(p, p->spare);
	if (p->take_failed) {
		p->error = p->result;
		p->take_due_ms = clock_mono_ms() + RETRY_MS;
	}
	return p->result ? NULL : f;
}

static void try_again(struct prepare *p, struct prepare_past past)
{
	char name[SEGMENT_NAME_MAX];

	segment_name(name, FILE_SEGMENT, past.number);
	if (!past.said)
		log_note("journal", "a segment can't be given up yet", "file", name, "why",
			 p->result == -EWOULDBLOCK ? "somebody reads it" : strerror(-p->result),
			 NULL);
	prepare_recycle(p, past.number, past.keep, clock_mono_ms() + RETRY_MS);
	p->past[p->past_n - 1].said = true;
}

static void recycled(struct prepare *p)
{
	char name[SEGMENT_NAME_MAX];

	if (p->result == -ENOENT)
		return;
	if (p->result) {
		try_again(p, p->leaving);
		return;
	}
	if (p->spare)
		push_spare(p, p->spare);
	if (!p->leaving.keep)
		return;
	snprintf(name, sizeof name, "bad-%016" PRIx64, p->leaving.number);
	log_note("journal", "a damaged segment is kept", "file", name, NULL);
}

static void done(struct errand *e)
{
	struct prepare *p = owner_of(e, struct prepare, errand);
	enum prepare_job job = p->job;
	struct disk_file *f = NULL;

	if (job == JOB_FILL)
		filled(p);
	else if (job == JOB_RECYCLE)
		recycled(p);
	else
		f = taken(p);
	if (f && job == JOB_TAKE) {
		note_taken(p, &p->last_taken);
		p->wanted = 0;
	} else if (f) {
		note_taken(p, &p->cold_taken);
		p->cold = 0; /* before kick(): one file for each that is asked for */
	}
	if (!wants_more(p) && !p->take_failed)
		p->error = 0; /* none is needed now */
	look_at_room(p);
	kick(p);
	if (f && job == JOB_TAKE)
		p->ready(p->ctx, f);
	else if (f)
		answer_cold(p, f);
}

/* ---- what the owner says ---- */

void prepare_begin(struct prepare *p, uint64_t number)
{
	check(!p->wanted && number);
	p->wanted = number;
	p->last_ok = false;
	look_at_room(p);
	kick(p);
}

void prepare_cold(struct prepare *p, uint64_t number,
		  void (*ready)(void *ctx, struct disk_file *file), void *ctx)
{
	check(!p->cold && number);
	p->cold = number;
	p->cold_ready = ready;
	p->cold_ctx = ctx;
	kick_later(p);
}

void prepare_recycle(struct prepare *p, uint64_t number, bool keep, uint64_t due_ms)
{
	if (p->past_n == p->past_cap) {
		uint32_t cap = p->past_cap ? 2 * p->past_cap : 16;

		p->past = mem_grow(p->past, p->past_cap * sizeof *p->past,
				   cap * sizeof *p->past);
		p->past_cap = cap;
	}
	p->past[p->past_n++] =
		(struct prepare_past){.number = number, .due_ms = due_ms, .keep = keep};
	kick_later(p);
}

void prepare_last(struct prepare *p)
{
	if (p->last_ok)
		return;
	p->last_ok = true;
	kick_later(p);
}

/* ---- begin and end ---- */

void prepare_init(struct prepare *p, struct loop *l, struct disk *d,
		  const struct prepare_options *o,
		  void (*ready)(void *ctx, struct disk_file *file), void *ctx)
{
	*p = (struct prepare){
		.loop = l,
		.disk = d,
		.o = *o,
		.ready = ready,
		.ctx = ctx,
		.built = o->reserve == 0,
	};
	timer_init(&p->timer, on_timer);
	errand_init(&p->errand, run, done);
	p->errands = errands_new(l, d->one_thread);
}

void prepare_fini(struct prepare *p)
{
	if (!p->errands)
		return;
	timer_stop(p->loop, &p->timer);
	errands_close(p->errands);
	while (!errands_is_closed(p->errands))
		loop_pass(p->loop);
	errands_free(p->errands);
	fill_end(p);
	if (p->file)
		p->disk->calls->close(p->disk, p->file);
	mem_free(p->spares);
	mem_free(p->past);
	*p = (struct prepare){0};
}

int prepare_now(struct prepare *p, uint64_t number, struct disk_file **ret)
{
	int e = 0;

	check(!p->errand.given && !p->wanted);
	p->fill_number = p->spare_last + 1;
	while (!e && p->spares_n == 0) {
		e = fill(p);
		if (!e && !p->fill_file)
			push_spare(p, ++p->spare_last);
	}
	if (e)
		return e;
	begin_take(p, JOB_NONE, number);
	e = take(p);
	*ret = p->file;
	p->file = NULL;
	return e;
}

/* ---- what an earlier run left ---- */

struct leftovers {
	struct prepare *p;
	struct {
		enum segment_file kind;
		uint64_t number, size;
	} *v;
	uint32_t n, cap;
};

static void on_file(void *ctx, const char *name, uint64_t size)
{
	struct leftovers *l = ctx;
	enum segment_file kind;
	uint64_t number;

	if (!segment_name_parse(name, &kind, &number) ||
	    (kind != FILE_SPARE && kind != FILE_FILLING))
		return;
	if (l->n == l->cap) {
		uint32_t cap = l->cap ? 2 * l->cap : 16;

		l->v = mem_grow(l->v, l->cap * sizeof *l->v, cap * sizeof *l->v);
		l->cap = cap;
	}
	l->v[l->n].kind = kind;
	l->v[l->n].number = number;
	l->v[l->n++].size = size;
}

int prepare_look(struct prepare *p)
{
	struct leftovers l = {.p = p};
	char name[SEGMENT_NAME_MAX];
	int e = p->disk->calls->list(p->disk, on_file, &l);

	for (uint32_t i = 0; i < l.n && !e; i++) {
		if (l.v[i].number > p->spare_last)
			p->spare_last = l.v[i].number;
		if (l.v[i].kind == FILE_SPARE && l.v[i].size == p->o.segment_size &&
		    (p->spares_n == 0 || p->spares_n < spares_max(p))) {
			push_spare(p, l.v[i].number);
			continue;
		}
		segment_name(name, l.v[i].kind, l.v[i].number);
		e = p->disk->calls->unlink(p->disk, name);
	}
	mem_free(l.v);
	return e;
}
