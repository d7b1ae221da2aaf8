/* sched - the plan of quire-sched (src/sched/plan.c) alone: no wires, no agents, no disk.
 *
 * The records of a queue are made as journald writes them, kept outside the allocator's memory,
 * and fed to a plan.  Agents answer as soon as they are told; what the plan says of outcomes
 * becomes STATE records, which it is fed in turn.  Each case goes through it twice: everybody is
 * deferred, then, all due at once, everybody is delivered.  At the end a second plan is built from
 * what the journal held before the deliveries, as after a start.
 *
 * The log's lines are made, as making them is part of the work, and thrown away. */
#include "bench/bench.h"

#include "core/clock.h"
#include "core/log.h"
#include "core/memstat.h"
#include "core/pool.h"
#include "core/rand.h"
#include "mail/control.h"
#include "mail/envelope.h"
#include "mail/role.h"
#include "sched/plan.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#define STORE_MAX       ((size_t)64 << 30)        /* address space, not memory */
#define FIRST_POS       4096                      /* no record lies at 0 */
#define AGENTS          4
#define CONCURRENCY     1000                      /* jobs at once, all agents together */
#define DOMAINS         50000
#define LOCAL_MIN       4                         /* local parts: 4 to 20 bytes, 12 in the mean */
#define LOCAL_SPAN      17
#define SENDER_N        24
#define EPOCH           1
/* Outcomes wait for their delay only: nothing for so long is a bug */
#define STUCK_MS        20000

static const char help[] =
	"usage: quire-bench sched [--case list|single|mixed]... [--recipients N] [--domains N]\n"
	"         [--concurrency N] [--json]";

/* So many messages of so many recipients each. */
struct sort { uint64_t messages, rcpts; };
#define SORTS 4
struct kind {
	const char *name;
	struct sort sorts[SORTS];
};
static const struct kind kinds[] = {
	{"list", {{1, 1000000}}},
	{"single", {{1000000, 1}}},
	{"mixed", {{1000000, 1}, {100000, 10}, {1000, 1000}, {7, 1000000}}},
};

struct told { uint32_t index, job, rcpts; };      /* an agent was */
struct row {
	uint64_t messages, rcpts;
	size_t   fresh, deferred, loading, rebuilt, records;
	double   in_s, defer_s, deliver_s, rebuild_s;
	uint64_t lines;
};
struct bench {
	struct plan       *plan;
	struct plan_world  world;
	struct control    *control;
	char              *store;                 /* records, one behind the other */
	size_t             store_n, fed;
	struct told       *told;
	uint32_t           told_n, told_max;
	struct buf         parts, body, verdict[2];       /* all delivered; all deferred */
	uint64_t           domains, ids, lines;
};

/* The CPU's time of this process: one thread that never waits, so it is what the clock on the wall
 * would say were nothing else running here. */
static double cpu_s(void)
{
	struct timespec ts;

	if (clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts) < 0)
		die_sys(111, "clock_gettime", "");
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* ---- the plan's world ---- */

static void no_open(void *ctx, uint32_t body, const struct msg_open *o)
{
}

static void no_close(void *ctx, uint32_t body, const struct msg_close *c)
{
}

static void no_bounce(void *ctx, uint32_t body, const struct msg_bounce *b, struct span tail)
{
	die(111, "sched: a bounce, though nothing failed");
}

static enum read_result no_read(void *ctx, uint64_t pos, enum rec_type type, uint64_t id,
				uint32_t number, struct record *ret)
{
	return READ_GONE;
}

static void on_deliver(void *ctx, uint32_t role, uint32_t index, const struct msg_deliver *d,
		       struct span sender, struct span packed)
{
	struct bench *b = ctx;

	check(b->told_n < b->told_max);
	b->told[b->told_n++] = (struct told){index, d->job, d->rcpts};
}

static void on_line(void *ctx, struct span line)
{
	((struct bench *)ctx)->lines++;
}

/* ---- records ---- */

static uint64_t add_record(struct bench *b, enum rec_type type, uint64_t id, uint32_t number,
			   const struct span *pieces, int n)
{
	struct rec_head h = {
		.type = (uint8_t)type, .id = id, .number = number, .version = REC_LAYOUT};
	uint64_t pos = FIRST_POS + b->store_n;
	char *to = b->store + b->store_n;

	rec_seal_head(&h, pieces, n);
	if (b->store_n + rec_size(h.n) > STORE_MAX)
		die(111, "sched: more records than it can keep");
	memcpy(to, &h, sizeof(h));
	to += sizeof(h);
	for (int i = 0; i < n; i++)
		if (pieces[i].n > 0) {
			memcpy(to, pieces[i].p, pieces[i].n);
			to += pieces[i].n;
		}
	b->store_n += rec_size(h.n);
	return pos;
}

/* What the plan says becomes STATEs: journald is as fast as that here. */
static void on_outcomes(void *ctx, struct span all)
{
	while (all.n > 0) {
		struct rec_state st = {0};
		struct msg_outcome o;
		struct span pieces[2];
		size_t n;

		memcpy(&o, span_cut(&all, sizeof(o)).p, sizeof(o));
		st = (struct rec_state){.at_us = o.at_us,
					.next_us = o.next_us,
					.attempt = o.attempt,
					.ranges_n = o.ranges_n,
					.text_n = o.text_n,
					.outcome = o.outcome};
		n = o.ranges_n * sizeof(struct msg_range);
		pieces[0] = span_of(&st, sizeof(st));
		pieces[1] = span_until(all, n + o.text_n);
		add_record(ctx, REC_STATE, o.id, 0, pieces, 2);
		span_cut(&all, n + MSG_PAD8((size_t)o.text_n));
	}
}

/* look: as a reader of segments looks at them; the ring's reader need not. */
static void feed(struct bench *b, size_t to, bool look)
{
	while (b->fed < to) {
		struct record r = {.pos = FIRST_POS + b->fed};

		memcpy(&r.head, b->store + b->fed, sizeof(r.head));
		r.body = span_of(b->store + b->fed + sizeof(r.head), r.head.n);
		check(!look || rec_ok(&r.head, r.body));
		b->fed += rec_size(r.head.n);
		plan_record(b->plan, &r);
	}
}

static uint64_t add_part(struct bench *b, uint64_t id, uint32_t number, uint32_t first,
			 uint32_t count)
{
	struct rec_rcpt head = {first, count};
	struct span pieces[] = {span_of(&head, sizeof(head)), buf_span(&b->body)};

	return add_record(b, REC_RCPT, id, number, pieces, 2);
}

static void add_recipient(struct bench *b, uint64_t i)
{
	char addr[64];
	int local = LOCAL_MIN + (int)rand_below(LOCAL_SPAN);
	int n = snprintf(addr, sizeof(addr), "%.*s@d%llu.example", local, "abcdefghijklmnopqrstuvwxyz",
			 (unsigned long long)(i % b->domains));

	check(packed_add(&b->body, span_of(addr, (size_t)n)));
}

/* A message, its recipients spread over the domains from the ith on. */
static void add_message(struct bench *b, uint32_t rcpts, uint64_t i)
{
	uint64_t id = id_make(EPOCH, ++b->ids, 0), pos;
	struct rec_msg m = {.arrival_us = clock_wall_us(),
			    .size = 4096,
			    .rcpts = rcpts,
			    .uid = 7,
			    .pid = 77,
			    .sender_n = SENDER_N};
	char sender[64];
	struct span pieces[3];
	uint32_t first = 0;

	buf_clear(&b->parts);
	for (uint32_t k = 0; k < rcpts;) {
		buf_clear(&b->body);
		for (first = k; k < rcpts && b->body.n + 64 < RCPT_PART_MAX; k++)
			add_recipient(b, i + k);
		pos = add_part(b, id, m.rcpt_parts++, first, k - first);
		check(buf_add(&b->parts, span_of(&pos, sizeof(pos))));
	}
	snprintf(sender, sizeof(sender), "s%08llu@senders.example", (unsigned long long)b->ids);
	pieces[0] = span_of(&m, sizeof(m));
	pieces[1] = buf_span(&b->parts);
	pieces[2] = span_of(sender, SENDER_N);
	add_record(b, REC_MSG, id, 0, pieces, 3);
}

static void make(struct bench *b, const struct sort *sorts, struct row *r)
{
	uint64_t at = 0;

	for (const struct sort *s = sorts; s < sorts + SORTS; s++)
		for (uint64_t i = 0; i < s->messages; i++, at += s->rcpts)
			add_message(b, (uint32_t)s->rcpts, at);
	r->messages = b->ids;
	r->rcpts = at;
	r->records = b->store_n;
}

/* ---- agents that know at once ---- */

static void make_verdict(struct buf *b, uint8_t outcome, const char *text)
{
	struct msg_result r = {.outcome = outcome, .text_n = (uint16_t)strlen(text)};

	buf_init(b, 1 << 20);
	for (r.rcpt = 0; r.rcpt < JOB_RCPTS_MAX; r.rcpt++)
		check(buf_add(b, span_of(&r, sizeof(r))) && buf_add(b, span_str(text)) &&
		      buf_add(b, span_of("\0\0\0\0\0\0\0", MSG_PAD8((size_t)r.text_n) - r.text_n)));
}

static void answer(struct bench *b, const struct buf *verdict)
{
	size_t each = verdict->n / JOB_RCPTS_MAX;

	for (uint32_t i = 0; i < b->told_n; i++) {
		const struct told *t = &b->told[i];
		struct msg_verdict v = {t->job, t->rcpts};

		check(plan_verdict(b->plan, ROLE_REMOTE, t->index, &v,
				   span_of(verdict->p, t->rcpts * each)));
	}
	b->told_n = 0;
}

static void plan_begin(struct bench *b)
{
	clock_refresh();
	b->fed = 0;
	b->plan = mem_new(sizeof(*b->plan));
	plan_init(b->plan, &b->world, b->control);
}

static void plan_end(struct bench *b)
{
	plan_fini(b->plan);
	mem_free(b->plan);
}

static void agents_come(struct bench *b, uint32_t concurrency)
{
	plan_body(b->plan, 0, true);
	for (uint32_t i = 0; i < AGENTS; i++)
		check(plan_agent(b->plan, ROLE_REMOTE, i, concurrency / AGENTS + 1));
}

/* Until nothing is ready, on its way or owed. */
static double round_trip(struct bench *b, const struct buf *verdict)
{
	const struct plan *p = b->plan;
	uint64_t moved_ms = clock_mono_ms();
	double begin = cpu_s();

	do {
		size_t before = b->fed;

		clock_refresh();
		plan_tick(b->plan);
		answer(b, verdict);
		feed(b, b->store_n, false);
		if (b->fed != before)
			moved_ms = clock_mono_ms();
		else if (clock_mono_ms() > moved_ms + STUCK_MS)
			die(111, "sched: nothing goes on any more");
	} while (p->owed_n > 0 || p->lanes.channels[CHANNEL_REMOTE].ready > 0);
	return cpu_s() - begin;
}

static void expect(const char *what, uint64_t is, uint64_t should)
{
	if (is != should)
		die(111, "sched: %s: %llu instead of %llu", what, (unsigned long long)is,
		    (unsigned long long)should);
}

/* Pages of a plan before this one may be given back in between. */
static size_t grown(size_t before)
{
	size_t now = memstat_active();

	return now > before ? now - before : 0;
}

static void rebuild(struct bench *b, size_t journal, size_t before, struct row *r)
{
	double begin = cpu_s();

	plan_begin(b);
	feed(b, journal, true);
	r->loading = grown(before);
	plan_ready(b->plan);
	r->rebuild_s = cpu_s() - begin;
	r->rebuilt = grown(before);
	expect("recipients after a start", b->plan->recipients, r->rcpts);
	plan_end(b);
}

static void measure(struct bench *b, const struct sort *sorts, uint32_t concurrency,
		    struct row *r)
{
	size_t before, journal;
	double begin;

	make(b, sorts, r);
	before = memstat_active();
	plan_begin(b);
	plan_ready(b->plan);
	begin = cpu_s();
	feed(b, b->store_n, false);
	r->in_s = cpu_s() - begin;
	r->fresh = grown(before);
	b->lines = 0;
	agents_come(b, concurrency);
	r->defer_s = round_trip(b, &b->verdict[1]);
	r->deferred = grown(before);
	expect("deferred recipients", b->plan->recipients, r->rcpts);
	expect("deferrals", b->plan->counts.deferred, r->rcpts);
	journal = b->store_n;
	begin = cpu_s();
	plan_retry_all(b->plan);
	r->deliver_s = cpu_s() - begin + round_trip(b, &b->verdict[0]);
	r->lines = b->lines;
	expect("deliveries", b->plan->counts.delivered, r->rcpts);
	expect("messages that ended", b->plan->counts.ended, r->messages);
	plan_end(b);
	rebuild(b, journal, before, r);
}

/* ---- what is printed ---- */

static void print_row(const char *name, const struct row *r, bool json)
{
	double n = (double)r->rcpts;

	if (json)
		printf("{\"case\":\"%s\",\"messages\":%llu,\"recipients\":%llu,\"journal_bytes\":%zu,"
		       "\"in_s\":%.3f,\"fresh_bytes\":%.1f,\"deferred_bytes\":%.1f,"
		       "\"loading_bytes\":%.1f,\"rebuilt_bytes\":%.1f,\"defer_rate\":%.0f,\"deliver_rate\":%.0f,"
		       "\"rebuild_s\":%.3f,\"log_lines\":%llu}\n",
		       name, (unsigned long long)r->messages, (unsigned long long)r->rcpts,
		       r->records, r->in_s, (double)r->fresh / n, (double)r->deferred / n,
		       (double)r->loading / n, (double)r->rebuilt / n, n / r->defer_s,
		       n / r->deliver_s, r->rebuild_s, (unsigned long long)r->lines);
	else
		printf("%-7s %9llu %10llu %7.2f %7.1f %7.1f %7.1f %9.0f %9.0f %9.2f\n", name,
		       (unsigned long long)r->messages, (unsigned long long)r->rcpts, r->in_s,
		       (double)r->fresh / n, (double)r->deferred / n, (double)r->rebuilt / n,
		       n / r->defer_s, n / r->deliver_s, r->rebuild_s);
	fflush(stdout);
}

/* The same mix with about `rcpts` recipients in all. */
static void scale(struct sort *sorts, uint64_t rcpts)
{
	uint64_t all = 0;

	for (unsigned i = 0; i < SORTS; i++)
		all += sorts[i].messages * sorts[i].rcpts;
	for (unsigned i = 0; i < SORTS; i++) {
		double share = (double)(sorts[i].messages * sorts[i].rcpts) / (double)all;
		uint64_t n = (uint64_t)(share * (double)rcpts + 0.5);

		if (n < sorts[i].rcpts)
			sorts[i].rcpts = n;
		sorts[i].messages = sorts[i].rcpts ? n / sorts[i].rcpts : 0;
	}
}

struct options {
	const struct kind *kinds[ARRAY_N(kinds)];
	unsigned kinds_n;
	uint64_t rcpts, domains, concurrency;
	bool json;
};

static void run(const struct options *o, const struct kind *k)
{
	struct sort sorts[SORTS];
	struct row r = {0};
	struct bench b = {.domains = o->domains, .told_max = (uint32_t)o->concurrency + AGENTS};
	char concurrency[24];

	memcpy(sorts, k->sorts, sizeof(sorts));
	if (o->rcpts)
		scale(sorts, o->rcpts);
	b.world = (struct plan_world){&b, no_open, no_close, on_deliver, on_outcomes, no_bounce, no_read};
	b.store = mmap(NULL, STORE_MAX, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (b.store == MAP_FAILED)
		die_sys(111, "mmap", "");
	b.told = mem_new(b.told_max * sizeof(*b.told));
	buf_init(&b.parts, REC_MAX);
	buf_init(&b.body, RCPT_PART_MAX);
	make_verdict(&b.verdict[0], OUTCOME_DELIVERED,
		     "192.0.2.1 accepted message./Remote host said: 250 ok 1700000000 qp 77");
	make_verdict(&b.verdict[1], OUTCOME_DEFERRED,
		     "Connected to 192.0.2.1 but sender was rejected./Remote host said: 451 later");
	b.control = control_new();
	snprintf(concurrency, sizeof(concurrency), "%llu\n", (unsigned long long)o->concurrency);
	check(control_set(b.control, SPAN("me"), SPAN("here.example\n")) &&
	      control_set(b.control, SPAN("locals"), SPAN("here.example\n")) &&
	      control_set(b.control, SPAN("concurrencyremote"), span_str(concurrency)));
	log_capture(on_line, &b);
	measure(&b, sorts, (uint32_t)o->concurrency, &r);
	log_capture(NULL, NULL);
	print_row(k->name, &r, o->json);
	control_free(b.control);
	mem_free(b.told);
	buf_free(&b.parts);
	buf_free(&b.body);
	buf_free(&b.verdict[0]);
	buf_free(&b.verdict[1]);
	munmap(b.store, STORE_MAX);
}

static bool take_kind(struct options *o, const char *name)
{
	for (size_t i = 0; i < ARRAY_N(kinds) && o->kinds_n < ARRAY_N(kinds); i++)
		if (strcmp(kinds[i].name, name) == 0) {
			o->kinds[o->kinds_n++] = &kinds[i];
			return true;
		}
	return false;
}

static bool take_options(int argc, char **argv, struct options *o)
{
	static const struct option known[] = {{"case", required_argument, NULL, 'c'},
					      {"recipients", required_argument, NULL, 'n'},
					      {"domains", required_argument, NULL, 'd'},
					      {"concurrency", required_argument, NULL, 'p'},
					      {"json", no_argument, NULL, 'J'},
					      {"help", no_argument, NULL, 'h'},
					      {0}};
	bool ok = true;
	int c;

	while ((c = getopt_long(argc, argv, "", known, NULL)) != -1)
		switch (c) {
		case 'c': ok &= take_kind(o, optarg); break;
		case 'n': ok &= span_u64(span_str(optarg), 100000000, &o->rcpts) && o->rcpts > 0; break;
		case 'd': ok &= span_u64(span_str(optarg), 1u << 30, &o->domains); break;
		case 'p':
			ok &= span_u64(span_str(optarg), JOBS_MAX / 2, &o->concurrency);
			break;
		case 'J': o->json = true; break;
		case 'h': exit(puts(help) < 0);
		default: return false;
		}
	if (o->kinds_n == 0)
		for (size_t i = 0; i < ARRAY_N(kinds); i++)
			o->kinds[o->kinds_n++] = &kinds[i];
	return ok && optind == argc && o->domains > 0 && o->concurrency > 0;
}

int bench_sched(int argc, char **argv)
{
	struct options o = {.domains = DOMAINS, .concurrency = CONCURRENCY};

	if (!take_options(argc, argv, &o)) {
		fprintf(stderr, "%s\n", help);
		return 100;
	}
	if (!o.json)
		printf("%-7s %9s %10s %7s %7s %7s %7s %9s %9s %9s\n", "case", "messages", "rcpts",
		       "in s", "fresh B", "defer B", "start B", "defer/s", "deliver/s",
		       "start s");
	for (unsigned i = 0; i < o.kinds_n; i++)
		run(&o, o.kinds[i]);
	return 0;
}
