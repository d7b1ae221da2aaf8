/* journal - how fast the journal itself is: the real commit, ring and disk, and nobody else.
 *
 * N submitters in a closed loop: each puts a message (BODY, RCPT, MSG) by the store, waits until
 * it is durable, and puts the next one.  With compression a thread of its own packs first, as
 * front ends do.  Beside it, in the same run and the same place: what the disk does with single
 * synced writes, and what one core does with zstd (journal_probe.c).  So a row says how much of
 * what the machine has the journal makes use of.
 *
 * Segments that are full are given up at once, and used again (--new: removed, so that each one
 * is filled anew).  The journal lies in a directory made below --dir, and is removed. */
#include "bench/journal.h"

#include "core/buf.h"
#include "core/clock.h"
#include "core/log.h"
#include "core/pool.h"
#include "journal/packer.h"
#include "journal/store.h"
#include "mail/envelope.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define ROWS_MAX       16
#define SUBMITTERS_MAX 4096
#define WARM_MS        300     /* before counting: files are prepared, caches filled */
#define SPARES_MS      30000   /* for the pool to be filled, before it begins */
#define GIVEN_UP_MAX   64      /* segments that wait for a head that names them no more */
#define SENDER         "sender@bench.example"
#define RCPT           "recipient@bench.example"

struct world;

/* IDLE -> (PACKING ->) PUTTING -> WAITING -> IDLE, for ever; ends when the world is over. */
struct submitter {
	struct world *world;
	struct deposit deposit;
	struct turn turn;
	struct pack_job job;
	struct msg_part part;
	struct span frame;
	uint64_t begun_us;
	unsigned stage; /* of PUTTING: body, recipient, the message itself */
};

struct world {
	const struct bench_journal *o;
	char path[512];
	struct loop *loop;
	struct disk *disk;
	struct ring ring;
	struct commit *commit;
	struct store store;
	struct source source;
	struct packer *packer;
	struct submitter *subs;
	unsigned subs_n, out;
	uint64_t mail; /* whose turn it is */
	struct timer clock;
	bool counting, over;
	struct buf rcpt;
	struct { uint64_t number, edit; } gone[GIVEN_UP_MAX];
	unsigned gone_n;

	struct hist hist;
	uint64_t done, raw, t0, t1, cpu0, cpu1, all0, all1;
	uint64_t batches0, bytes0, batches1, bytes1, segments;
};

uint64_t bench_now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static uint64_t cpu_us(int who)
{
	struct rusage u;

	if (getrusage(who, &u) < 0)
		die_sys(111, "getrusage", "");
	return (uint64_t)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000000 +
	       (uint64_t)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

/* ---- a submitter ---- */

static void put_on(struct submitter *s);

static void begin(struct submitter *s)
{
	struct world *w = s->world;
	struct span mail = w->o->mails.v[w->mail++ % w->o->mails.n];

	if (w->over) {
		w->out--;
		return;
	}
	s->begun_us = bench_now_us();
	s->stage = 0;
	if (w->packer) {
		s->job.raw = mail;
		packer_give(w->packer, &s->job);
		return;
	}
	s->part = (struct msg_part){.raw_n = (uint32_t)mail.n,
				    .raw_hash = hash64(mail.p, mail.n)};
	s->frame = mail;
	put_on(s);
}

static void on_packed(struct pack_job *j)
{
	struct submitter *s = owner_of(j, struct submitter, job);

	s->part = j->part;
	s->frame = j->packed;
	put_on(s);
}

static void on_stored(struct deposit *d)
{
	struct submitter *s = owner_of(d, struct submitter, deposit);
	struct world *w = s->world;

	if (w->counting) {
		w->done++;
		w->raw += s->part.raw_n;
		hist_add(&w->hist, bench_now_us() - s->begun_us);
	}
	begin(s);
}

static enum put put_stage(struct submitter *s)
{
	struct msg_rcpts rcpts = {.count = 1};
	struct msg_submit m = {.body_parts = 1,
			       .rcpt_parts = 1,
			       .rcpts = 1,
			       .size = s->part.raw_n,
			       .sender_n = sizeof SENDER - 1};

	switch (s->stage) {
	case 0: return deposit_part(&s->deposit, &s->part, s->frame);
	case 1: return deposit_rcpts(&s->deposit, &rcpts, buf_span(&s->world->rcpt));
	default: return deposit_submit(&s->deposit, &m, SPAN(SENDER));
	}
}

static void put_on(struct submitter *s)
{
	struct world *w = s->world;

	if (s->stage == 0 && !s->deposit.store)
		deposit_open(&s->deposit, &w->store, &w->source, on_stored);
	for (; s->stage < 3; s->stage++)
		switch (put_stage(s)) {
		case PUT_OK: break;
		case PUT_WAIT: store_await_turn(&w->store, &s->turn); return;
		case PUT_REFUSED: die(111, "the journal refuses mail: %u", s->deposit.verdict);
		}
}

static void on_turn(struct turn *t)
{
	put_on(owner_of(t, struct submitter, turn));
}

/* ---- the journal ---- */

static void on_moved(void *ctx, uint64_t durable)
{
}

static void on_room(void *ctx)
{
	store_room(&((struct world *)ctx)->store);
}

static void on_failed(void *ctx, int error)
{
	die(111, "write to the journal: %s", strerror(error));
}

/* All segments but the one that is written are given up: nobody reads them. */
static void on_entered(void *ctx, uint64_t number, uint64_t edits)
{
	struct world *w = ctx;
	const struct manifest_entry *named;
	uint32_t named_n;
	unsigned kept = 0;

	w->segments++;
	for (unsigned i = 0; i < w->gone_n; i++)
		if (w->gone[i].edit <= edits)
			commit_recycle(w->commit, w->gone[i].number, false);
		else
			w->gone[kept++] = w->gone[i];
	w->gone_n = kept;
	named = commit_named(w->commit, &named_n);
	for (uint32_t i = named_n; i > 0 && w->gone_n < GIVEN_UP_MAX; i--) {
		uint64_t n = named[i - 1].number;

		w->gone[w->gone_n].edit = commit_drop(w->commit, n);
		w->gone[w->gone_n++].number = n;
	}
}

static const struct commit_calls calls = {
	.moved = on_moved, .room = on_room, .failed = on_failed, .entered = on_entered};

static void on_changed(void *ctx)
{
}

static void remove_files(struct world *w)
{
	struct bench_files files = {0};

	bench_list(w->disk, &files);
	for (unsigned i = 0; i < files.n; i++)
		(void)w->disk->calls->unlink(w->disk, files.names[i]);
	mem_free(files.names);
	rmdir(w->path);
}

static void journal_open(struct world *w)
{
	const struct bench_journal *o = w->o;
	const struct msg_credit credit = {UINT64_MAX / 2, UINT64_MAX / 2};
	struct commit_options how = {
		.segment_size = o->segment_size, .pool = o->pool, .reserve = o->reserve};
	struct journal_end end;
	const char *why_not;
	int e;

	snprintf(w->path, sizeof w->path, "%s/quire-bench.XXXXXX", o->dir);
	if (!mkdtemp(w->path))
		die_sys(111, "mkdtemp ", w->path);
	w->loop = loop_new(o->loop, 0);
	w->disk = disk_real_new(w->loop, open(w->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	how.direct = disk_direct_works(w->disk, &why_not) && !o->buffered;
	check(journal_recover(w->disk, &end) == RECOVERED_EMPTY);
	w->ring = (struct ring){.fd = -1, .fd_read = -1};
	e = ring_make(&w->ring, o->ring_size, o->segment_size);
	if (!e)
		e = commit_open(&w->commit, w->loop, w->disk, &w->ring, &end, &how, &calls, w);
	if (e)
		die(111, "open a journal in %s: %s", w->path, strerror(-e));
	journal_end_fini(&end);
	store_init(&w->store, w->loop, &w->ring, 0, on_changed, w);
	w->store.commit = w->commit;
	w->store.epoch = commit_epoch(w->commit);
	store_grant(&w->store, &credit);
	store_free_space(&w->store, UINT64_MAX / 2);
	w->source = (struct source){.share = 1};
	if (o->level != BENCH_RAW) {
		struct dict d = dict_for(o->dict, o->segment_size);

		dict_begin_with(w->commit, d);
		w->store.dict = d.number;
		w->packer = packer_new(w->loop, o->level, d);
	}
}

static void journal_close(struct world *w)
{
	while (w->out > 0 || !commit_is_idle(w->commit))
		loop_pass(w->loop);
	if (w->packer) {
		packer_close(w->packer);
		while (!packer_is_closed(w->packer))
			loop_pass(w->loop);
		packer_free(w->packer);
	}
	store_fini(&w->store);
	commit_free(w->commit);
	ring_unmap(&w->ring);
	remove_files(w);
	disk_real_free(w->disk);
	loop_free(w->loop);
}

/* ---- a row ---- */

static void look(struct world *w, uint64_t *t, uint64_t *cpu, uint64_t *all, uint64_t *batches,
		 uint64_t *bytes)
{
	*t = bench_now_us();
	*cpu = cpu_us(RUSAGE_THREAD);
	*all = cpu_us(RUSAGE_SELF);
	*batches = atomic_load(&w->ring.head->batches);
	*bytes = atomic_load(&w->ring.head->bytes_written);
}

static void on_tick(struct timer *t)
{
	struct world *w = owner_of(t, struct world, clock);

	timer_set(w->loop, &w->clock, 10);
}

static void on_clock(struct timer *t)
{
	struct world *w = owner_of(t, struct world, clock);

	if (!w->counting) {
		w->counting = true;
		w->segments = 0;
		look(w, &w->t0, &w->cpu0, &w->all0, &w->batches0, &w->bytes0);
		timer_set(w->loop, &w->clock, w->o->seconds_ms);
		return;
	}
	look(w, &w->t1, &w->cpu1, &w->all1, &w->batches1, &w->bytes1);
	w->counting = false;
	w->over = true;
}

/* Filling segments takes the disk, and comes once in a journal's life: it is no part of this. */
static void await_spares(struct world *w)
{
	uint64_t end = bench_now_us() + SPARES_MS * 1000;
	struct commit_space s;

	timer_init(&w->clock, on_tick);
	timer_set(w->loop, &w->clock, 10);
	do {
		loop_pass(w->loop);
		commit_space(w->commit, &s);
	} while (s.spares < w->o->pool && bench_now_us() < end);
	timer_stop(w->loop, &w->clock);
}

static void run(struct world *w, unsigned submitters)
{
	w->subs_n = w->out = submitters;
	w->subs = mem_new(submitters * sizeof *w->subs);
	buf_init(&w->rcpt, 256);
	check(packed_add(&w->rcpt, SPAN(RCPT)));
	await_spares(w);
	timer_init(&w->clock, on_clock);
	timer_set(w->loop, &w->clock, WARM_MS);
	for (unsigned i = 0; i < submitters; i++) {
		struct submitter *s = &w->subs[i];

		s->world = w;
		s->job.frame = mem_new(ZIP_BOUND);
		s->job.done = on_packed;
		turn_init(&s->turn, on_turn);
		begin(s);
	}
	while (!w->over)
		loop_pass(w->loop);
	while (w->out > 0)
		loop_pass(w->loop);
}

static void forget(struct world *w)
{
	for (unsigned i = 0; i < w->subs_n; i++)
		mem_free(w->subs[i].job.frame);
	mem_free(w->subs);
	buf_free(&w->rcpt);
}

struct bench_row bench_journal_run(const struct bench_journal *o, unsigned submitters)
{
	static struct world w; /* its histogram is large for a stack */
	struct bench_row r = {.submitters = submitters};
	double s, n;

	w = (struct world){.o = o};
	journal_open(&w);
	run(&w, submitters);
	journal_close(&w);
	s = (double)(w.t1 - w.t0) / 1e6;
	n = (double)w.done;
	if (w.done > 0 && w.batches1 > w.batches0) {
		r.rate = n / s;
		r.raw_mb = (double)w.raw / s / 1e6;
		r.disk_mb = (double)(w.bytes1 - w.bytes0) / s / 1e6;
		r.cost = (double)(w.bytes1 - w.bytes0) / (double)w.raw;
		r.batches = (double)(w.batches1 - w.batches0) / s;
		r.mean = n / (double)(w.batches1 - w.batches0);
		r.cpu_us = (double)(w.cpu1 - w.cpu0) / n;
		r.others_us = (double)(w.all1 - w.all0 - (w.cpu1 - w.cpu0)) / n;
	}
	r.p50 = hist_at(&w.hist, 0.5);
	r.p99 = hist_at(&w.hist, 0.99);
	r.p999 = hist_at(&w.hist, 0.999);
	r.max = w.hist.max;
	r.segments = w.segments;
	forget(&w);
	return r;
}
