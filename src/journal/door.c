/* A guest is in one of these states:
 *
 *   WAITING    accepted, not read: its user, or all together, have too many conversations
 *   TALKING    the conversation goes on; what it says is gathered to parts
 *   PACKING    a part is with the packer's thread; what comes meanwhile stays in the socket
 *   TURN       a part, recipients or the MSG wait for room in the batch; the same
 *   COMMITTING everything was said; its MSG is on its way to the disk
 *   ANSWERED   one netstring is on its way out; then the stream closes
 *
 * What is owed to the journal (a packed part, a full list of recipients, the MSG) is flagged
 * and done by go_on(), in this order, before another byte is taken.  What goes wrong:
 *
 *   end of file before the envelope's end   Z54; parts without MSG stay dead
 *   lost or killed before that              the same, nobody hears it
 *   lost or killed after that               the message stays queued
 *   a malformed byte, a long address        Z91, D11
 *   a replay from who may not say so        Z91
 *   more than a day                         Z52
 *   refused by the store                    Z53 (full), Z71 (limit, no credit)
 *   too many of one user                    Z71 at once
 *   drained                                 Z71 unless COMMITTING */
#include "journal/door.h"

#include "core/acceptor.h"
#include "core/clock.h"
#include "core/log.h"
#include "core/pool.h"
#include "core/stream.h"
#include "core/table.h"
#include "mail/envelope.h"
#include "mail/netstring.h"
#include "mail/received.h"
#include "mail/submit.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define ANSWER_MAX 300
#define RAW_MAX    (BODY_PART_MAX + SUBMIT_CHUNK_MAX + RECEIVED_MAX) /* a part and the next */

struct user {                                     /* lives while somebody of it is here */
	uint32_t      uid, active, waiting;
	struct source source;
};

struct guest {
	struct door       *door;
	struct user       *user;
	struct link        link;                  /* in active or waiting */
	int                fd;                    /* WAITING only */
	uint32_t           pid;
	struct stream      stream;
	struct timer       day;
	struct submit_talk talk;
	struct deposit     deposit;
	struct turn        turn;
	struct pack_job    job;
	struct buf         raw, rcpts;
	uint32_t           rcpts_n;               /* in rcpts */
	struct msg_submit  submit;                /* what was counted so far */
	char               sender[ADDR_MAX];
	bool               owes_part, owes_rcpts, owes_submit;
	bool               body_ended, complete, answered, gone, replays;
};

struct door {
	struct loop    *loop;
	struct store   *store;
	struct packer  *packer;
	struct acceptor acceptor;
	int             fd;
	uint32_t        alias_uid;
	bool            is_open, closed;
	struct map      users;
	struct pool     guests, user_pool;
	struct link     active, waiting;
	uint32_t        active_n, waiting_n;
	struct deferred seat;
};

static void go_on(struct guest *g);
static void on_bytes(struct stream *st, struct span *in);
static void on_eof(struct stream *st);
static void on_lost(struct stream *st, enum lost why, int error);

static const struct stream_calls calls = {
	.bytes = on_bytes,
	.eof = on_eof,
	.lost = on_lost,
};

/* ---- the answer */

static void answer(struct guest *g, const char *text)
{
	if (g->answered || g->gone)
		return;
	g->answered = true;
	g->owes_part = g->owes_rcpts = g->owes_submit = false;
	turn_cancel(&g->turn);
	deposit_close(&g->deposit);
	timer_stop(g->door->loop, &g->day);
	netstring_put(stream_out(&g->stream), span_str(text));
	stream_close(&g->stream);
}

static void answer_code(struct guest *g, int code)
{
	char text[ANSWER_MAX];

	snprintf(text, sizeof(text), "%c%d %s", submit_letter(code), code, submit_text(code));
	answer(g, text);
}

static int code_of(enum stored verdict)
{
	switch (verdict) {
	case STORED_OK:    return SUBMIT_OK;
	case STORED_LATER:
	case STORED_LIMIT: return SUBMIT_LATER;
	case STORED_FULL:  return SUBMIT_WRITE;
	case STORED_BAD:   return SUBMIT_BUG;
	}
	return SUBMIT_BUG;
}

static void on_stored(struct deposit *d)
{
	struct guest *g = owner_of(d, struct guest, deposit);
	char          text[ANSWER_MAX];

	snprintf(text, sizeof(text), "K%llu", (unsigned long long)d->id);
	answer(g, text);
}

/* ---- what is owed to the journal */

/* True: done.  False: its turn will come, or it was answered. */
static bool settle(struct guest *g, enum put put)
{
	if (put == PUT_OK)
		return true;
	if (put == PUT_WAIT)
		store_await_turn(g->door->store, &g->turn);
	else
		answer_code(g, code_of(g->deposit.verdict));
	return false;
}

static void on_turn(struct turn *t)
{
	go_on(owner_of(t, struct guest, turn));
}

static void drop_frame(struct guest *g)
{
	mem_free(g->job.frame);
	g->job.frame = NULL;
}

static bool give_part(struct guest *g)
{
	struct msg_part part = g->job.part;

	part.number = g->submit.body_parts;
	if (!settle(g, deposit_part(&g->deposit, &part, g->job.packed)))
		return false;
	g->owes_part = false;
	g->submit.body_parts++;
	g->submit.size += part.raw_n;
	buf_drop_front(&g->raw, part.raw_n);
	drop_frame(g);
	if (g->body_ended && g->raw.n == 0)
		buf_free(&g->raw);
	return true;
}

static bool give_rcpts(struct guest *g)
{
	struct msg_rcpts m = {.number = g->submit.rcpt_parts, .count = g->rcpts_n};

	if (!settle(g, deposit_rcpts(&g->deposit, &m, buf_span(&g->rcpts))))
		return false;
	g->owes_rcpts = false;
	g->submit.rcpt_parts++;
	g->submit.rcpts += g->rcpts_n;
	g->rcpts_n = 0;
	buf_clear(&g->rcpts);
	return true;
}

static bool give_submit(struct guest *g)
{
	if (!settle(g, deposit_submit(&g->deposit, &g->submit,
				      span_of(g->sender, g->submit.sender_n))))
		return false;
	g->owes_submit = false;
	return true;
}

static void on_packed(struct pack_job *j);

static void pack(struct guest *g)
{
	g->job.frame = mem_new(ZIP_BOUND);
	g->job.raw = span_until(buf_span(&g->raw), BODY_PART_MAX);
	g->job.part = (struct msg_part){0};
	g->job.done = on_packed;
	g->owes_part = true;
	packer_give(g->door->packer, &g->job);
}

/* A whole part, or what there is at the body's end. */
static bool wants_packing(const struct guest *g)
{
	return g->raw.n >= BODY_PART_MAX || (g->body_ended && g->raw.n > 0);
}

/* True: more input may be taken. */
static bool pay(struct guest *g)
{
	if (g->answered || g->gone || g->job.busy || turn_waits(&g->turn))
		return false;
	for (;;) {
		if (g->owes_part && !give_part(g))
			return false;
		if (!wants_packing(g))
			break;
		pack(g);
		return false;
	}
	if (g->owes_rcpts && !give_rcpts(g))
		return false;
	if (g->owes_submit && !give_submit(g))
		return false;
	return true;
}

static void go_on(struct guest *g)
{
	if (pay(g))
		stream_again(&g->stream);
}

static void guest_free(struct guest *g);

static void on_packed(struct pack_job *j)
{
	struct guest *g = owner_of(j, struct guest, job);

	if (g->gone)
		guest_free(g);
	else if (g->answered)
		drop_frame(g);
	else
		go_on(g);
}

/* ---- the conversation */

static void on_rcpt(struct guest *g, struct span addr)
{
	check(packed_add(&g->rcpts, addr));
	g->rcpts_n++;
	/* So that the next one always fits. */
	if (g->rcpts.n + sizeof(uint16_t) + ADDR_MAX > RCPT_PART_MAX)
		g->owes_rcpts = true;
}

static void on_said_all(struct guest *g)
{
	g->complete = true;
	g->owes_rcpts = g->rcpts_n > 0;
	g->owes_submit = true;
}

static void on_said(struct guest *g, enum submit_event e, struct span what)
{
	switch (e) {
	case SUBMIT_MORE: break;
	case SUBMIT_BODY:
		if (!buf_add(&g->raw, what))
			answer_code(g, SUBMIT_NO_MEMORY);
		break;
	case SUBMIT_BODY_END: g->body_ended = true; break;
	case SUBMIT_SENDER:
		memcpy(g->sender, what.p, what.n);
		g->submit.sender_n = (uint16_t)what.n;
		break;
	case SUBMIT_RCPT: on_rcpt(g, what); break;
	case SUBMIT_END:  on_said_all(g); break;
	case SUBMIT_BAD:  answer_code(g, g->talk.code); break;
	}
}

/* Only who could read the journal anyway may say so.  The message is delivered as it was: the line
 * that was put in front of it goes. */
static void note_replay(struct guest *g)
{
	if (g->replays || !g->talk.replay_of)
		return;
	g->replays = true;
	buf_clear(&g->raw);
	g->deposit.replay_of = g->talk.replay_of;
	if (g->user->uid != 0 && g->user->uid != geteuid())
		answer_code(g, SUBMIT_FORMAT);
}

static void on_bytes(struct stream *st, struct span *in)
{
	struct guest *g = owner_of(st, struct guest, stream);
	struct span   what;

	if (g->complete) {
		(void)span_cut(in, in->n);        /* docs/qmail.md 3.2: ignored */
		return;
	}
	while (in->n > 0 && pay(g) && !g->complete) {
		enum submit_event e = submit_talk_take(&g->talk, in, &what);

		if (e != SUBMIT_MORE)
			note_replay(g);
		on_said(g, e, what);
	}
	if (g->complete)
		(void)span_cut(in, in->n);
	(void)pay(g);
}

static void on_eof(struct stream *st)
{
	struct guest *g = owner_of(st, struct guest, stream);

	if (!g->complete)
		answer_code(g, SUBMIT_READ);
}

static void on_day_over(struct timer *t)
{
	answer_code(owner_of(t, struct guest, day), SUBMIT_TIMEOUT);
}

static void on_lost(struct stream *st, enum lost why, int error)
{
	struct guest *g = owner_of(st, struct guest, stream);

	g->gone = true;
	turn_cancel(&g->turn);
	deposit_close(&g->deposit);
	timer_stop(g->door->loop, &g->day);
	if (!g->job.busy)                         /* else on_packed() frees it */
		guest_free(g);
}

/* ---- coming and going */

static struct user *user_of(struct door *d, uint32_t uid)
{
	struct user *u = map_get(&d->users, uid);

	if (u)
		return u;
	u = pool_get(&d->user_pool);
	if (!u)
		return NULL;
	u->uid = uid;
	u->source = (struct source){.share = STORE_UID_SHARE};
	if (!map_put(&d->users, uid, u)) {
		pool_put(&d->user_pool, u);
		return NULL;
	}
	return u;
}

static void user_leaves(struct door *d, struct user *u)
{
	if (u->active + u->waiting > 0)
		return;
	check(u->source.uncommitted == 0);
	(void)map_remove(&d->users, u->uid);
	pool_put(&d->user_pool, u);
}

static void guest_free(struct guest *g)
{
	struct door *d = g->door;

	list_remove(&g->link);
	g->user->active--;
	d->active_n--;
	user_leaves(d, g->user);
	buf_free(&g->raw);
	buf_free(&g->rcpts);
	drop_frame(g);
	pool_put(&d->guests, g);
	if (!list_is_empty(&d->waiting))
		loop_defer(d->loop, &d->seat, PHASE_WORK);
}

/* docs/qmail.md 4.1: who is named in the line. */
static bool add_received(struct guest *g)
{
	char who[32];

	if (g->user->uid == g->door->alias_uid)
		snprintf(who, sizeof(who), "by alias");
	else
		snprintf(who, sizeof(who), "by uid %u", g->user->uid);
	return received_invoked(&g->raw, g->pid, who, clock_wall());
}

/* From WAITING to TALKING. */
static void begin(struct guest *g)
{
	struct door *d = g->door;

	list_remove(&g->link);
	list_add_end(&d->active, &g->link);
	d->waiting_n--;
	d->active_n++;
	g->user->waiting--;
	g->user->active++;
	submit_talk_init(&g->talk);
	buf_init(&g->raw, RAW_MAX);
	buf_init(&g->rcpts, RCPT_PART_MAX);
	turn_init(&g->turn, on_turn);
	timer_init(&g->day, on_day_over);
	timer_set(d->loop, &g->day, DOOR_TIME_MS);
	g->submit =
		(struct msg_submit){.uid = g->user->uid, .pid = g->pid, .kind = SUBMIT_LOCAL};
	deposit_open(&g->deposit, d->store, &g->user->source, on_stored);
	stream_init(&g->stream, d->loop, &calls);
	stream_take(&g->stream, g->fd);
	g->fd = -1;
	if (!add_received(g))
		answer_code(g, SUBMIT_NO_MEMORY);
	else if (!store_admits(d->store))
		answer_code(g, store_is_full(d->store) ? SUBMIT_WRITE : SUBMIT_LATER);
}

static void seat(struct door *d)
{
	list_each_safe(&d->waiting, l) {
		struct guest *g = owner_of(l, struct guest, link);

		if (d->active_n >= DOOR_ACTIVE_MAX)
			return;
		if (g->user->active < DOOR_UID_MAX)
			begin(g);
	}
}

static void run_seat(struct deferred *def)
{
	seat(owner_of(def, struct door, seat));
}

/* Nobody waits for room to say this: it is the first thing in an empty socket. */
static void turn_away(int fd, const char *why)
{
	char text[ANSWER_MAX];
	int n = snprintf(text, sizeof(text), "%c%d %s", submit_letter(SUBMIT_LATER),
			 SUBMIT_LATER, why);
	char line[ANSWER_MAX + 8];

	n = snprintf(line, sizeof(line), "%d:%s,", n, text);
	if (send(fd, line, (size_t)n, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
		log_note("submit", "refused", "why", why, NULL);
	close(fd);
}

static void take(void *ctx, int fd)
{
	struct door  *d = ctx;
	struct ucred  cred;
	socklen_t     n = sizeof(cred);
	struct user  *u;
	struct guest *g = NULL;

	if (d->closed) {                          /* it was accepted just before */
		turn_away(fd, submit_text(SUBMIT_LATER));
		return;
	}
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &n) < 0) {
		close(fd);
		return;
	}
	u = user_of(d, cred.uid);
	if (u && u->waiting < DOOR_UID_WAITING && d->waiting_n < DOOR_WAITING_MAX)
		g = pool_get(&d->guests);
	if (!g) {
		turn_away(fd, "too many submissions at a time (#4.3.2)");
		if (u)
			user_leaves(d, u);
		return;
	}
	g->door = d;
	g->user = u;
	g->fd = fd;
	g->pid = (uint32_t)cred.pid;
	list_add_end(&d->waiting, &g->link);
	u->waiting++;
	d->waiting_n++;
	seat(d);
}

struct door *door_new(struct loop *l, int fd, struct store *s, struct packer *p,
		      uint32_t alias_uid)
{
	struct door *d = mem_new(sizeof(*d));

	d->loop = l;
	d->store = s;
	d->packer = p;
	d->fd = fd;
	d->alias_uid = alias_uid;
	map_init(&d->users, DOOR_ACTIVE_MAX + DOOR_WAITING_MAX + 1);
	pool_init(&d->guests, sizeof(struct guest), DOOR_ACTIVE_MAX + DOOR_WAITING_MAX);
	pool_init(&d->user_pool, sizeof(struct user), DOOR_ACTIVE_MAX + DOOR_WAITING_MAX + 1);
	list_init(&d->active);
	list_init(&d->waiting);
	deferred_init(&d->seat, run_seat);
	return d;
}

void door_open(struct door *d)
{
	if (d->is_open || d->closed)
		return;
	d->is_open = true;
	acceptor_open(&d->acceptor, d->loop, d->fd, take, d);
}

static void send_home(struct guest *g)
{
	struct door *d = g->door;
	struct user *u = g->user;

	turn_away(g->fd, submit_text(SUBMIT_LATER));
	list_remove(&g->link);
	d->waiting_n--;
	u->waiting--;
	user_leaves(d, u);
	pool_put(&d->guests, g);
}

void door_close(struct door *d)
{
	if (d->closed)
		return;
	d->closed = true;
	if (d->is_open)
		acceptor_close(&d->acceptor);
	else
		close(d->fd);
	list_each_safe(&d->waiting, l)
		send_home(owner_of(l, struct guest, link));
	list_each_safe(&d->active, l) {
		struct guest *g = owner_of(l, struct guest, link);

		if (!g->deposit.committing)
			answer_code(g, SUBMIT_LATER);
	}
}

bool door_is_closed(const struct door *d)
{
	return d->closed && d->active_n == 0 && (!d->is_open || acceptor_is_gone(&d->acceptor));
}

void door_free(struct door *d)
{
	if (!d)
		return;
	check(door_is_closed(d));
	deferred_cancel(&d->seat);
	map_fini(&d->users);
	pool_fini(&d->guests);
	pool_fini(&d->user_pool);
	mem_free(d);
}
