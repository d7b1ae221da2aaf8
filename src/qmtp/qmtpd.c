/* After every event of a session, whatever it was, settle() runs: it sends what was said and
 * closes what is over.  Nothing else decides about either. */
#include "qmtp/qmtpd.h"

#include "core/acceptor.h"
#include "core/clock.h"
#include "core/log.h"
#include "core/pool.h"
#include "core/stream.h"
#include "journal/client.h"
#include "mail/front.h"
#include "mail/received.h"
#include "qmtp/qmtp.h"

#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#define LISTENERS   ROLE_LISTENERS_MAX

/* A package and its way to the journal. */
struct parcel {
	struct parcel    *next_spare;
	struct session   *session;
	struct package    package;
	struct submission submission;
};

struct session {
	struct qmtpd *d;
	struct qmtp   qmtp;
	struct stream stream;
	struct timer  quiet, life;
	uint64_t      heard_ms;
	struct link   all, starved;               /* starved: waits for room at the journal */
};

struct qmtpd {
	struct loop       *loop;
	struct qmtp_policy policy;
	struct buf         scratch;
	struct qmtp_world  world;
	struct client     *journal;
	struct counters   *counters;
	unsigned           column;
	struct pool        sessions, parcels;
	struct parcel     *spare;
	uint32_t           spare_n;
	struct link        all, starved;
	struct acceptor    doors[LISTENERS];
	unsigned           doors_n;
	struct deferred    last;
	bool               draining;
	void             (*over)(void *ctx);
	void              *over_ctx;
};

static struct session *session_of(struct qmtp *q)
{
	return owner_of(q, struct session, qmtp);
}

static struct parcel *parcel_of(struct package *p)
{
	return owner_of(p, struct parcel, package);
}

static void settle(struct session *c)
{
	if (c->stream.out.n > 0)
		stream_out(&c->stream);
	if (!qmtp_is_over(&c->qmtp))
		return;
	timer_stop(c->d->loop, &c->quiet);
	timer_stop(c->d->loop, &c->life);
	list_remove(&c->starved);
	stream_close(&c->stream);
}

/* ---- what a session asks of the world ---- */

static bool on_admits(struct qmtp *q)
{
	return client_admits(session_of(q)->d->journal);
}

static bool on_disk_full(struct qmtp *q)
{
	return client_disk_full(session_of(q)->d->journal);
}

static bool on_full(struct qmtp *q)
{
	struct session *c = session_of(q);

	if (!client_full(c->d->journal))
		return false;
	if (!link_is_in(&c->starved))
		list_add_end(&c->d->starved, &c->starved);
	return true;
}

static struct package *on_open(struct qmtp *q)
{
	struct session *c = session_of(q);
	struct qmtpd   *d = c->d;
	struct parcel  *p = d->spare;

	if (p) {
		d->spare = p->next_spare;
		d->spare_n--;
	} else {
		p = pool_get(&d->parcels);
		if (!p)
			return NULL;
		package_init(&p->package);
	}
	package_clear(&p->package);
	p->session = c;
	return &p->package;
}

static void on_close(struct qmtp *q, struct package *package)
{
	struct qmtpd  *d = session_of(q)->d;
	struct parcel *p = parcel_of(package);

	submission_abandon(&p->submission);
	p->session = NULL;
	if (d->spare_n < QMTPD_SPARE_MAX) {
		package_clear(package);
		p->next_spare = d->spare;
		d->spare = p;
		d->spare_n++;
		return;
	}
	submission_fini(&p->submission);
	package_fini(package);
	pool_put(&d->parcels, p);
}

/* Its answer may make room in flight for input that is held. */
static void on_stored(struct submission *sub, enum stored verdict, uint64_t id)
{
	struct parcel  *p = owner_of(sub, struct parcel, submission);
	struct session *c = p->session;

	c->heard_ms = clock_mono_ms();
	qmtp_committed(&c->qmtp, &p->package, verdict, id);
	settle(c);
	stream_again(&c->stream);
}

static void on_body_begin(struct qmtp *q, struct package *p)
{
	submission_begin(&parcel_of(p)->submission, session_of(q)->d->journal, on_stored);
}

static void on_body(struct qmtp *q, struct package *p, struct span bytes)
{
	submission_body(&parcel_of(p)->submission, bytes);
}

static void on_body_drop(struct qmtp *q, struct package *p)
{
	submission_abandon(&parcel_of(p)->submission);
}

static void on_commit(struct qmtp *q, struct package *p)
{
	static const struct submit_info network = {.kind = SUBMIT_NETWORK};

	submission_commit(&parcel_of(p)->submission,
			  span_of(p->envelope.sender, p->envelope.sender_n),
			  buf_span(&p->envelope.packed), p->envelope.rcpts, &network);
}

static void on_told(struct qmtp *q, const struct package *p, const char *what)
{
	char ip[IP_TEXT_MAX], number[24], size[24], rcpts[16];

	snprintf(number, sizeof(number), "%" PRIu64, p->id);
	snprintf(size, sizeof(size), "%" PRIu64, p->size);
	snprintf(rcpts, sizeof(rcpts), "%" PRIu32, p->rcpts);
	if (p->id)
		log_note("id", number, "peer", ip_text(&q->ip, ip), "bytes", size, "rcpts",
			 rcpts, NULL);
	else
		log_note("peer", ip_text(&q->ip, ip), "refused", what, "bytes", size, "rcpts",
			 rcpts, NULL);
}

/* ---- events ---- */

static void on_bytes(struct stream *st, struct span *in)
{
	struct session *c = owner_of(st, struct session, stream);

	c->heard_ms = clock_mono_ms();
	qmtp_input(&c->qmtp, in);
	settle(c);
}

static void on_eof(struct stream *st)
{
	struct session *c = owner_of(st, struct session, stream);

	qmtp_end(&c->qmtp);
	settle(c);
}

static void on_stream_room(struct stream *st)
{
	struct session *c = owner_of(st, struct session, stream);

	qmtp_room(&c->qmtp);
	settle(c);
	stream_again(st);
}

static void on_journal_room(void *ctx)
{
	struct qmtpd *d = ctx;
	struct link  *first;

	while ((first = list_first(&d->starved))) {
		struct session *c = owner_of(first, struct session, starved);

		list_remove(first);
		stream_again(&c->stream);
	}
}

/* The timer is not moved with every byte; it looks when it fires. */
static void on_quiet(struct timer *t)
{
	struct session *c = owner_of(t, struct session, quiet);
	uint64_t        wait = c->d->policy.wait_ms, since = clock_mono_ms() - c->heard_ms;

	if (c->qmtp.flight_n > 0 || link_is_in(&c->starved))
		since = c->stream.out.n > 0 ? since : 0; /* it waits for us, or does not read */
	if (since < wait) {
		timer_set(c->d->loop, t, wait - since);
		return;
	}
	if (c->qmtp.flight_n > 0) {
		stream_drop(&c->stream);          /* answers that nobody reads */
		return;
	}
	qmtp_end(&c->qmtp);
	settle(c);
}

static void on_life_over(struct timer *t)
{
	struct session *c = owner_of(t, struct session, life);

	qmtp_end(&c->qmtp);
	settle(c);
}

/* From a pass of its own: whoever is told may free us, and a session's stream is
 * not done yet. */
static void on_last(struct deferred *df)
{
	struct qmtpd *d = owner_of(df, struct qmtpd, last);

	for (unsigned i = 0; i < d->doors_n; i++)
		if (!acceptor_is_gone(&d->doors[i])) {
			loop_defer(d->loop, df, PHASE_WORK);
			return;
		}
	if (d->over)
		d->over(d->over_ctx);
	d->over = NULL;
}

static void see_if_over(struct qmtpd *d)
{
	if (d->draining && list_is_empty(&d->all))
		loop_defer(d->loop, &d->last, PHASE_FLUSH);
}

static void on_lost(struct stream *st, enum lost why, int error)
{
	struct session *c = owner_of(st, struct session, stream);
	struct qmtpd   *d = c->d;

	timer_stop(d->loop, &c->quiet);
	timer_stop(d->loop, &c->life);
	list_remove(&c->starved);
	list_remove(&c->all);
	qmtp_fini(&c->qmtp);
	counters_leave(d->counters, d->column, &c->qmtp.ip);
	pool_put(&d->sessions, c);
	see_if_over(d);
}

static const struct stream_calls calls = {
	.bytes = on_bytes,
	.eof = on_eof,
	.room = on_stream_room,
	.lost = on_lost,
};

/* ---- connections ---- */

static struct ip peer_of(int fd)
{
	union sockany sa = {0};
	socklen_t     n = sizeof(sa);
	uint16_t      port;

	if (getpeername(fd, &sa.any, &n) < 0 ||
	    (sa.any.sa_family != AF_INET && sa.any.sa_family != AF_INET6))
		return (struct ip){0};
	return ip_of_sockaddr(&sa, &port);
}

static bool admit(struct qmtpd *d, const struct ip *ip)
{
	char text[IP_TEXT_MAX];

	if (d->draining)
		return false;
	if (counters_enter(d->counters, d->column, ip, d->policy.conns_max,
			   d->policy.conns_ip_max) == COUNTERS_OK)
		return true;
	log_note("peer", ip_text(ip, text), "refused", "too many connections", NULL);
	return false;
}

void qmtpd_take(struct qmtpd *d, int fd)
{
	struct ip       ip = peer_of(fd);
	struct session *c;

	if (!admit(d, &ip)) {
		close(fd);
		return;
	}
	c = pool_get(&d->sessions);
	if (!c) {
		counters_leave(d->counters, d->column, &ip);
		close(fd);
		return;
	}
	c->d = d;
	c->heard_ms = clock_mono_ms();
	list_add_end(&d->all, &c->all);
	timer_init(&c->quiet, on_quiet);
	timer_init(&c->life, on_life_over);
	stream_init(&c->stream, d->loop, &calls);
	qmtp_begin(&c->qmtp, &d->world, &c->stream.out, &ip);
	timer_set(d->loop, &c->quiet, d->policy.wait_ms);
	timer_set(d->loop, &c->life, QMTPD_LIFE_MS);
	stream_take(&c->stream, fd);
}

static void on_connection(void *ctx, int fd)
{
	qmtpd_take(ctx, fd);
}

void qmtpd_listen(struct qmtpd *d, int fd)
{
	check(d->doors_n < LISTENERS);
	acceptor_open(&d->doors[d->doors_n++], d->loop, fd, on_connection, d);
}

/* ---- the whole ---- */

struct qmtpd *qmtpd_new(struct loop *l, const struct control *c, struct counters *counters,
                        unsigned column, int morercpthosts_fd)
{
	struct qmtpd *d = mem_new(sizeof(*d));

	d->loop = l;
	d->counters = counters;
	d->column = column;
	qmtp_policy_init(&d->policy, c, morercpthosts_fd);
	buf_init(&d->scratch, RECEIVED_MAX);
	d->world = (struct qmtp_world){
		.policy = &d->policy,
		.scratch = &d->scratch,
		.admits = on_admits,
		.disk_full = on_disk_full,
		.full = on_full,
		.open = on_open,
		.body_begin = on_body_begin,
		.body = on_body,
		.body_drop = on_body_drop,
		.commit = on_commit,
		.close = on_close,
		.told = on_told,
	};
	d->journal = client_new(l, (int)(int64_t)control_setting(c, "zstdlevel"));
	client_on_room(d->journal, on_journal_room, d);
	pool_init(&d->sessions, sizeof(struct session), COUNTERS_MAX);
	pool_init(&d->parcels, sizeof(struct parcel), QMTPD_PARCELS_MAX);
	list_init(&d->all);
	list_init(&d->starved);
	deferred_init(&d->last, on_last);
	return d;
}

void qmtpd_attach(struct qmtpd *d, int journald_fd)
{
	client_attach(d->journal, journald_fd);
}

void qmtpd_drain(struct qmtpd *d, void (*over)(void *ctx), void *ctx)
{
	if (d->draining)
		return;
	d->draining = true;
	d->over = over;
	d->over_ctx = ctx;
	for (unsigned i = 0; i < d->doors_n; i++)
		acceptor_close(&d->doors[i]);
	list_each(&d->all, at) {
		struct session *c = owner_of(at, struct session, all);

		qmtp_drain(&c->qmtp);
		settle(c);
	}
	see_if_over(d);
}

uint32_t qmtpd_sessions(const struct qmtpd *d)
{
	return d->sessions.used;
}

void qmtpd_free(struct qmtpd *d)
{
	if (!d)
		return;
	check(list_is_empty(&d->all));
	for (struct parcel *p = d->spare; p; p = p->next_spare) {
		submission_fini(&p->submission);
		package_fini(&p->package);
	}
	client_free(d->journal);
	pool_fini(&d->parcels);
	pool_fini(&d->sessions);
	buf_free(&d->scratch);
	qmtp_policy_fini(&d->policy);
	mem_free(d);
}

/* ---- the process ---- */

static void *make(struct loop *l, const struct control *c, struct counters *counters,
                  unsigned column, int morercpthosts_fd)
{
	return qmtpd_new(l, c, counters, column, morercpthosts_fd);
}

static void attach(void *server, int journald_fd)
{
	qmtpd_attach(server, journald_fd);
}

static void listen_on(void *server, int fd)
{
	qmtpd_listen(server, fd);
}

static void await_admission(void *server, void (*told)(void *ctx), void *ctx)
{
	struct qmtpd *d = server;

	client_on_admission(d->journal, told, ctx);
}

static void drain(void *server, void (*over)(void *ctx), void *ctx)
{
	qmtpd_drain(server, over, ctx);
}

void qmtpd_run(struct role *r)
{
	static const struct front front = {
		.role = ROLE_QMTPD,
		.listener = LISTEN_QMTP,
		.recv_bufs = QMTPD_RECV_BUFS,
		.make = make,
		.attach = attach,
		.listen = listen_on,
		.await = await_admission,
		.drain = drain,
	};

	front_run(r, &front);
}
