/* After every event of a session, whatever it was, settle() runs: it sends what was said and
 * closes what is over.  Nothing else decides about either. */
#include "smtp/smtpd.h"

#include "core/acceptor.h"
#include "core/clock.h"
#include "core/log.h"
#include "core/pool.h"
#include "core/stream.h"
#include "journal/client.h"
#include "mail/front.h"
#include "mail/received.h"
#include "smtp/replies.h"
#include "smtp/smtp.h"

#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#define LISTENERS   ROLE_LISTENERS_MAX

/* A transaction: from MAIL to its answer. */
struct mail {
	struct mail      *next_spare;
	struct session   *session;
	struct envelope   envelope;
	struct submission submission;
};

struct session {
	struct smtpd *d;
	struct smtp   smtp;
	struct stream stream;
	struct timer  quiet;                      /* nothing came for policy.wait_ms */
	uint64_t      heard_ms;
	struct mail  *mail;
	struct link   all, starved;               /* starved: waits for room at the journal */
	bool          counted, eof;
};

struct smtpd {
	struct loop      *loop;
	struct policy     policy;
	struct buf        scratch;
	struct smtp_world world;
	struct client    *journal;
	struct counters  *counters;
	unsigned          column;
	struct pool       sessions, mails;
	struct mail      *spare;
	uint32_t          spare_n;
	struct link       all, starved;
	struct acceptor   doors[LISTENERS];
	unsigned          doors_n;
	struct deferred   last;
	bool              draining;
	void            (*over)(void *ctx);
	void             *over_ctx;
};

static struct session *session_of(struct smtp *s)
{
	return owner_of(s, struct session, smtp);
}

static void settle(struct session *c)
{
	if (c->stream.out.n > 0)
		stream_out(&c->stream);
	if (!smtp_is_over(&c->smtp) && !(c->eof && !smtp_is_committing(&c->smtp)))
		return;
	timer_stop(c->d->loop, &c->quiet);
	list_remove(&c->starved);
	stream_close(&c->stream);
}

/* ---- what a session asks of the world ---- */

static bool on_admits(struct smtp *s)
{
	return client_admits(session_of(s)->d->journal);
}

static bool on_disk_full(struct smtp *s)
{
	return client_disk_full(session_of(s)->d->journal);
}

static bool on_full(struct smtp *s)
{
	struct session *c = session_of(s);

	if (!client_full(c->d->journal))
		return false;
	if (!link_is_in(&c->starved))
		list_add_end(&c->d->starved, &c->starved);
	return true;
}

static struct mail *mail_get(struct smtpd *d)
{
	struct mail *m = d->spare;

	if (m) {
		d->spare = m->next_spare;
		d->spare_n--;
		return m;
	}
	m = pool_get(&d->mails);
	if (m)
		envelope_init(&m->envelope, SMTPD_RCPTS_BYTES_MAX);
	return m;
}

static void mail_put(struct smtpd *d, struct mail *m)
{
	submission_abandon(&m->submission);
	m->session = NULL;
	if (d->spare_n < SMTPD_SPARE_MAX) {
		envelope_clear(&m->envelope);
		m->next_spare = d->spare;
		d->spare = m;
		d->spare_n++;
		return;
	}
	submission_fini(&m->submission);
	envelope_fini(&m->envelope);
	pool_put(&d->mails, m);
}

static struct envelope *on_open(struct smtp *s)
{
	struct session *c = session_of(s);

	check(!c->mail);
	c->mail = mail_get(c->d);
	if (!c->mail)
		return NULL;
	c->mail->session = c;
	return &c->mail->envelope;
}

static void on_stored(struct submission *sub, enum stored verdict, uint64_t id)
{
	struct session *c = owner_of(sub, struct mail, submission)->session;

	c->heard_ms = clock_mono_ms();            /* the client's time begins now */
	smtp_committed(&c->smtp, verdict, id);
	settle(c);
	stream_again(&c->stream);
}

static void on_body_begin(struct smtp *s)
{
	struct session *c = session_of(s);

	submission_begin(&c->mail->submission, c->d->journal, on_stored);
}

static void on_body(struct smtp *s, struct span bytes)
{
	submission_body(&session_of(s)->mail->submission, bytes);
}

static void on_commit(struct smtp *s)
{
	static const struct submit_info network = {.kind = SUBMIT_NETWORK};
	struct mail                    *m = session_of(s)->mail;

	submission_commit(&m->submission, span_of(m->envelope.sender, m->envelope.sender_n),
	                  buf_span(&m->envelope.packed), m->envelope.rcpts, &network);
}

static void on_close(struct smtp *s)
{
	struct session *c = session_of(s);

	mail_put(c->d, c->mail);
	c->mail = NULL;
}

/* Bad grammar and slow peers are the client's affair, "not now" and a full disk the journal's:
 * its process says why.  The rest somebody may ask us about. */
static bool is_worth_a_line(const struct reply *r)
{
	return !(r->code >= 500 && r->enhanced[2] == '5') && r != &reply_timeout &&
	       r != &reply_not_now && r != &reply_disk_full && r != &reply_going_down;
}

/* A stranger's words go to the log without their spaces: programs that read it look for " from <"
 * and " to local " anywhere in a line, and would count mail that never was. */
static void quote_stranger(char *to, size_t room, struct span words)
{
	size_t n = words.n < room ? words.n : room - 1;

	for (size_t i = 0; i < n; i++)
		to[i] = (char)(words.p[i] == ' ' || words.p[i] == '\0' ? '_' : words.p[i]);
	to[n] = '\0';
}

static void on_refused(struct smtp *s, const struct reply *why, struct span about)
{
	char ip[IP_TEXT_MAX], code[16], line[160];

	if (!is_worth_a_line(why))
		return;
	snprintf(code, sizeof(code), "%u", why->code);
	quote_stranger(line, sizeof(line), about);
	log_note("peer", ip_text(&s->peer.ip, ip), "refused", code, "why", why->text, "about",
		 line, NULL);
}

static void on_accepted(struct smtp *s, uint64_t id)
{
	char ip[IP_TEXT_MAX], number[24], size[24], rcpts[16];

	snprintf(number, sizeof(number), "%" PRIu64, id);
	snprintf(size, sizeof(size), "%" PRIu64, s->size);
	snprintf(rcpts, sizeof(rcpts), "%" PRIu32, s->envelope->rcpts);
	log_note("id", number, "peer", ip_text(&s->peer.ip, ip), "bytes", size, "rcpts", rcpts,
		 NULL);
}

/* ---- events ---- */

static void on_bytes(struct stream *st, struct span *in)
{
	struct session *c = owner_of(st, struct session, stream);

	if (!c->smtp.world) {
		*in = SPAN_NONE;                  /* turned away, on its way out */
		return;
	}
	c->heard_ms = clock_mono_ms();
	smtp_input(&c->smtp, in);
	settle(c);
}

/* It has said everything; it may still be waiting for its answer. */
static void on_eof(struct stream *st)
{
	struct session *c = owner_of(st, struct session, stream);

	c->eof = true;
	settle(c);
}

static void on_stream_room(struct stream *st)
{
	stream_again(st);
}

static void on_journal_room(void *ctx)
{
	struct smtpd *d = ctx;
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

	if (smtp_is_committing(&c->smtp) || link_is_in(&c->starved))
		since = 0;                        /* it waits for us */
	if (since < wait) {
		timer_set(c->d->loop, t, wait - since);
		return;
	}
	smtp_timeout(&c->smtp);
	settle(c);
}

/* From a pass of its own: whoever is told may free us, and a session's stream is
 * not done yet. */
static void on_last(struct deferred *df)
{
	struct smtpd *d = owner_of(df, struct smtpd, last);

	for (unsigned i = 0; i < d->doors_n; i++)
		if (!acceptor_is_gone(&d->doors[i])) {
			loop_defer(d->loop, df, PHASE_WORK);
			return;
		}
	if (!list_is_empty(&d->all))
		return;                           /* the last one's end comes back */
	if (d->over)
		d->over(d->over_ctx);
	d->over = NULL;
}

static void see_if_over(struct smtpd *d)
{
	if (d->draining && list_is_empty(&d->all))
		loop_defer(d->loop, &d->last, PHASE_FLUSH);
}

static void on_lost(struct stream *st, enum lost why, int error)
{
	struct session *c = owner_of(st, struct session, stream);
	struct smtpd   *d = c->d;

	timer_stop(d->loop, &c->quiet);
	list_remove(&c->starved);
	list_remove(&c->all);
	smtp_fini(&c->smtp);
	if (c->counted)
		counters_leave(d->counters, d->column, &c->smtp.peer.ip);
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

static struct ip address_of(int fd, int (*ask)(int, struct sockaddr *, socklen_t *))
{
	union sockany sa = {0};
	socklen_t     n = sizeof(sa);
	uint16_t      port;

	if (ask(fd, &sa.any, &n) < 0 ||
	    (sa.any.sa_family != AF_INET && sa.any.sa_family != AF_INET6))
		return (struct ip){0};
	return ip_of_sockaddr(&sa, &port);
}

static const struct reply *admission(struct session *c, const struct ip *ip)
{
	struct smtpd *d = c->d;

	switch (counters_enter(d->counters, d->column, ip, d->policy.conns_max,
			       d->policy.conns_ip_max)) {
	case COUNTERS_OK: c->counted = true; return NULL;
	case COUNTERS_ALL_FULL: return &reply_busy;
	case COUNTERS_IP_FULL: return &reply_busy_with_you;
	}
	unreachable();
}

static void turn_away(struct session *c, const struct reply *why)
{
	reply_say(&c->stream.out, why);
	on_refused(&c->smtp, why, SPAN_NONE);
	stream_out(&c->stream);
	stream_close(&c->stream);
}

void smtpd_take(struct smtpd *d, int fd)
{
	struct session     *c = pool_get(&d->sessions);
	struct ip ip = address_of(fd, getpeername), local = address_of(fd, getsockname);
	struct policy_peer  peer;
	const struct reply *no;

	if (!c) {
		close(fd);
		return;
	}
	c->d = d;
	c->heard_ms = clock_mono_ms();
	list_add_end(&d->all, &c->all);
	timer_init(&c->quiet, on_quiet);
	stream_init(&c->stream, d->loop, &calls);
	stream_take(&c->stream, fd);

	peer = policy_peer(&d->policy, &ip, &local);
	c->smtp.peer = peer;
	/* It was accepted just before: not one is closed without a word. */
	no = d->draining ? &reply_going_down : admission(c, &ip);
	if (no) {
		turn_away(c, no);
		return;
	}
	smtp_begin(&c->smtp, &d->world, &c->stream.out, &peer);
	timer_set(d->loop, &c->quiet, d->policy.wait_ms);
	settle(c);
}

static void on_connection(void *ctx, int fd)
{
	smtpd_take(ctx, fd);
}

void smtpd_listen(struct smtpd *d, int fd)
{
	check(d->doors_n < LISTENERS);
	acceptor_open(&d->doors[d->doors_n++], d->loop, fd, on_connection, d);
}

/* ---- the whole ---- */

struct smtpd *smtpd_new(struct loop *l, const struct control *c, struct counters *counters,
                        unsigned column, int morercpthosts_fd)
{
	struct smtpd *d = mem_new(sizeof(*d));

	d->loop = l;
	d->counters = counters;
	d->column = column;
	policy_init(&d->policy, c, morercpthosts_fd);
	policy_find_own(&d->policy);
	buf_init(&d->scratch, RECEIVED_MAX);
	d->world = (struct smtp_world){
		.policy = &d->policy,
		.scratch = &d->scratch,
		.admits = on_admits,
		.disk_full = on_disk_full,
		.full = on_full,
		.open = on_open,
		.body_begin = on_body_begin,
		.body = on_body,
		.commit = on_commit,
		.close = on_close,
		.refused = on_refused,
		.accepted = on_accepted,
	};
	d->journal = client_new(l, (int)(int64_t)control_setting(c, "zstdlevel"));
	client_on_room(d->journal, on_journal_room, d);
	pool_init(&d->sessions, sizeof(struct session), COUNTERS_MAX);
	pool_init(&d->mails, sizeof(struct mail), SMTPD_MAILS_MAX);
	list_init(&d->all);
	list_init(&d->starved);
	deferred_init(&d->last, on_last);
	return d;
}

void smtpd_attach(struct smtpd *d, int journald_fd)
{
	client_attach(d->journal, journald_fd);
}

void smtpd_drain(struct smtpd *d, void (*over)(void *ctx), void *ctx)
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

		if (!c->smtp.world)
			continue;                 /* turned away, on its way out */
		smtp_drain(&c->smtp);
		settle(c);
	}
	see_if_over(d);
}

uint32_t smtpd_sessions(const struct smtpd *d)
{
	return d->sessions.used;
}

void smtpd_free(struct smtpd *d)
{
	if (!d)
		return;
	check(list_is_empty(&d->all));
	for (struct mail *m = d->spare; m; m = m->next_spare) {
		submission_fini(&m->submission);
		envelope_fini(&m->envelope);
	}
	client_free(d->journal);
	pool_fini(&d->mails);
	pool_fini(&d->sessions);
	buf_free(&d->scratch);
	policy_fini(&d->policy);
	mem_free(d);
}

/* ---- the process ---- */

static void *make(struct loop *l, const struct control *c, struct counters *counters,
                  unsigned column, int morercpthosts_fd)
{
	return smtpd_new(l, c, counters, column, morercpthosts_fd);
}

static void attach(void *server, int journald_fd)
{
	smtpd_attach(server, journald_fd);
}

static void listen_on(void *server, int fd)
{
	smtpd_listen(server, fd);
}

static void await_admission(void *server, void (*told)(void *ctx), void *ctx)
{
	struct smtpd *d = server;

	client_on_admission(d->journal, told, ctx);
}

static void drain(void *server, void (*over)(void *ctx), void *ctx)
{
	smtpd_drain(server, over, ctx);
}

void smtpd_run(struct role *r)
{
	static const struct front front = {
		.role = ROLE_SMTPD,
		.listener = LISTEN_SMTP,
		.recv_bufs = SMTPD_RECV_BUFS,
		.make = make,
		.attach = attach,
		.listen = listen_on,
		.await = await_admission,
		.drain = drain,
	};

	front_run(r, &front);
}
