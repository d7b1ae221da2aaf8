/* conn - see the header.
 *
 *   DIALING   riders wait
 *   UP        the conversation has them
 *   LEAVING   no rider any more; the stream says its last word, or nothing
 *
 * After every event of a connection, whatever it was, settle() runs: it takes the tasks that are
 * over from the conversation, decides whether the connection rests, works on or leaves, and
 * only then lets the riders off, so that they find everything in order.
 *
 * Nothing is ever asked on a connection whose first answers tell that it is not wanted; which
 * answer belongs to the host and which to the recipients is the conversation's knowledge. */
#include "remote/conn.h"

#include "core/stream.h"

#include <errno.h>
#include <string.h>

enum conn_state { DIALING, UP, LEAVING };

struct conn {
	struct net       *net;
	struct stream     stream;
	struct idle_entry idle;
	struct deferred   soon;                   /* a rider got on: look again */
	struct link       all, riders;
	unsigned          riders_n;
	struct host_key   key;
	struct ip         ip;
	uint8_t           state;
	bool              qmtp, welcome;          /* welcome: a task was done on it */
	union {
		struct talk_smtp smtp;
		struct talk_qmtp qmtp;
	} talk;
};

static void settle(struct conn *c);

struct host_key conn_key(const struct mx_host *h)
{
	struct host_key k = host_key(&h->ip, h->port);

	k.bytes[sizeof(k.bytes) - 1] = h->qmtp;
	return k;
}

/* ---- riders ------------------------------------------------------------------------------- */

struct leaver {                                   /* who gets off, and how; gathered in a list of riders */
	struct link done, next, again;
};

static void leavers_init(struct leaver *v)
{
	list_init(&v->done);
	list_init(&v->next);
	list_init(&v->again);
}

static void let_off(struct link *riders, enum ride_end end)
{
	struct link *l;

	while ((l = list_first(riders))) {
		struct rider *r = owner_of(l, struct rider, link);

		list_remove(l);
		r->off(r, end);
	}
}

static void let_all_off(struct leaver *v)
{
	let_off(&v->done, RIDE_DONE);
	let_off(&v->next, RIDE_NEXT);
	let_off(&v->again, RIDE_AGAIN);
}

static void gather(struct conn *c, struct rider *r, struct link *to)
{
	list_remove(&r->link);
	list_add_end(to, &r->link);
	r->conn = NULL;
	c->riders_n--;
}

/* The conversation is through with this task. */
static void gather_finished(struct conn *c, struct task *t, bool was_reused, struct leaver *v)
{
	if (task_is_settled(t)) {
		c->welcome = true;
		gather(c, t->rider, &v->done);
	} else {
		gather(c, t->rider, was_reused ? &v->again : &v->next);
	}
}

static void gather_all_finished(struct conn *c, struct leaver *v)
{
	struct link *l;

	if (c->state != UP)
		return;
	if (!c->qmtp) {
		struct task *t = c->talk.smtp.finished;

		c->talk.smtp.finished = NULL;
		if (t)
			gather_finished(c, t, c->talk.smtp.reused, v);
		return;
	}
	while ((l = list_first(&c->talk.qmtp.finished))) {
		struct task *t = owner_of(l, struct task, link);

		list_remove(l);
		gather_finished(c, t, true, v);   /* only such are given back unsettled */
	}
}

static void give_to_talk(struct conn *c, struct rider *r)
{
	r->task->source->rewind(r->task->source);
	if (c->qmtp)
		talk_qmtp_task(&c->talk.qmtp, r->task);
	else
		talk_smtp_task(&c->talk.smtp, r->task);
	(void)stream_out(&c->stream);             /* it may have said something */
}

/* ---- deciding ----------------------------------------------------------------------------- */

static bool talk_is_over(const struct conn *c)
{
	return c->qmtp ? c->talk.qmtp.over : c->talk.smtp.state == TALK_OVER;
}

static bool has_room(const struct conn *c)
{
	if (c->state == LEAVING || !c->qmtp)
		return c->state == UP && c->riders_n == 0 && !talk_is_over(c)
		       && c->talk.smtp.tasks < SMTP_TASKS_MAX;
	if (c->state == DIALING)
		return c->riders_n < QMTP_TASKS_MAX;
	return talk_qmtp_has_room(&c->talk.qmtp);
}

/* QMTP has no farewell, and a server that hears a half package only throws it away. */
static void leave(struct conn *c)
{
	check(c->riders_n == 0);
	bool polite = c->state == UP && !c->qmtp && !c->talk.smtp.abrupt;

	idle_withdraw(&c->idle);
	if (c->state == UP && c->qmtp)
		hosts_set_manners(&c->net->hosts, &c->key,
				  (enum qmtp_manners)c->talk.qmtp.manners);
	c->state = LEAVING;
	if (!polite) {
		stream_drop(&c->stream);
		return;
	}
	(void)stream_out(&c->stream);
	talk_smtp_quit(&c->talk.smtp);
	stream_close(&c->stream);
}

static void set_deadline(struct conn *c)
{
	struct net *n = c->net;

	if (c->state == DIALING)
		stream_wait(&c->stream, n->connect_ms);
	else if (c->riders_n == 0)
		stream_wait(&c->stream, 0);       /* it rests: idle has a timer */
	else if (c->qmtp && talk_qmtp_awaits_more(&c->talk.qmtp) && n->gap_ms < n->talk_ms)
		stream_wait(&c->stream, n->gap_ms);
	else
		stream_wait(&c->stream, n->talk_ms);
}

/* Only a connection that did something is worth keeping. */
static void rest_or_work(struct conn *c)
{
	uint64_t keep_ms = c->qmtp ? c->net->keep_qmtp_ms : c->net->keep_smtp_ms;

	if (talk_is_over(c)
	    || (c->riders_n == 0 && (!c->welcome || !has_room(c) || keep_ms == 0))) {
		leave(c);
		return;
	}
	if (has_room(c))
		idle_offer(&c->net->idle, &c->idle, &c->key, c->riders_n == 0 ? keep_ms : 0);
	else
		idle_withdraw(&c->idle);
	set_deadline(c);
}

static void settle(struct conn *c)
{
	struct leaver v;

	leavers_init(&v);
	gather_all_finished(c, &v);
	if (c->state == UP)
		rest_or_work(c);
	let_all_off(&v);
}

/* ---- events ------------------------------------------------------------------------------- */

static void on_connected(struct stream *st)
{
	struct conn *c = owner_of(st, struct conn, stream);
	struct net  *n = c->net;

	if (c->state != DIALING)
		return;
	c->state = UP;
	hosts_answered(&n->hosts, &c->key);
	if (c->qmtp)
		talk_qmtp_begin(&c->talk.qmtp, &st->out, &c->ip,
				hosts_manners(&n->hosts, &c->key));
	else
		talk_smtp_begin(&c->talk.smtp, &st->out, &c->ip, span_str(n->hello));
	list_each(&c->riders, l)
		give_to_talk(c, owner_of(l, struct rider, link));
	settle(c);
}

static void on_bytes(struct stream *st, struct span *in)
{
	struct conn *c = owner_of(st, struct conn, stream);

	if (c->state != UP) {
		span_cut(in, in->n);
		return;
	}
	if (c->qmtp)
		talk_qmtp_input(&c->talk.qmtp, in);
	else
		talk_smtp_input(&c->talk.smtp, in);
	(void)stream_out(st);
	settle(c);
}

void conn_more(struct conn *c)
{
	if (c->state != UP)
		return;
	if (c->qmtp)
		talk_qmtp_more(&c->talk.qmtp);
	else
		talk_smtp_more(&c->talk.smtp);
	(void)stream_out(&c->stream);
	settle(c);
}

static void on_room(struct stream *st)
{
	conn_more(owner_of(st, struct conn, stream));
}

/* All that is known now; whoever is still on it gets off. */
static void end_riders(struct conn *c, struct leaver *v)
{
	leavers_init(v);
	if (c->state == UP) {
		if (c->qmtp)
			talk_qmtp_lost(&c->talk.qmtp);
		else
			talk_smtp_lost(&c->talk.smtp);
		gather_all_finished(c, v);
		if (c->qmtp)
			hosts_set_manners(&c->net->hosts, &c->key,
					  (enum qmtp_manners)c->talk.qmtp.manners);
	}
	while (!list_is_empty(&c->riders))
		gather(c, owner_of(list_first(&c->riders), struct rider, link), &v->next);
}

static void on_lost(struct stream *st, enum lost why, int error)
{
	struct conn  *c = owner_of(st, struct conn, stream);
	struct net   *n = c->net;
	struct leaver v;

	if (c->state == DIALING && (why == LOST_DEADLINE || error == ETIMEDOUT))
		hosts_timed_out(&n->hosts, &c->key);
	else if (c->state == DIALING)
		hosts_answered(&n->hosts, &c->key);
	end_riders(c, &v);
	idle_withdraw(&c->idle);
	deferred_cancel(&c->soon);
	if (c->qmtp)
		talk_qmtp_fini(&c->talk.qmtp);
	else
		talk_smtp_fini(&c->talk.smtp);
	list_remove(&c->all);
	pool_put(&n->conns, c);
	let_all_off(&v);
}

/* A conversation may end a task without a word; then no other event comes. */
static void look_again(struct deferred *d)
{
	settle(owner_of(d, struct conn, soon));
}

static void on_expired(struct idle_entry *e)
{
	leave(owner_of(e, struct conn, idle));
}

static const struct stream_calls calls = {
	.connected = on_connected, .bytes = on_bytes, .room = on_room, .lost = on_lost,
};

/* ---- the net ------------------------------------------------------------------------------ */

void net_init(struct net *n, struct loop *l, unsigned conns_max)
{
	*n = (struct net){.loop = l, .gap_ms = QMTP_GAP_MS, .keep_smtp_ms = IDLE_SMTP_MS, .keep_qmtp_ms = IDLE_QMTP_MS};
	hosts_init(&n->hosts);
	idle_init(&n->idle, l, conns_max);
	pool_init(&n->conns, sizeof(struct conn), conns_max);
	list_init(&n->all);
}

void net_drop_all(struct net *n)
{
	n->dropping = true;
	list_each_safe(&n->all, l) {
		struct conn  *c = owner_of(l, struct conn, all);
		struct leaver v;

		if (c->state == LEAVING) {
			stream_drop(&c->stream);
			continue;
		}
		end_riders(c, &v);
		idle_withdraw(&c->idle);
		c->state = LEAVING;
		stream_drop(&c->stream);
		let_all_off(&v);
	}
	n->dropping = false;
}

bool net_is_empty(const struct net *n)
{
	return list_is_empty(&n->all);
}

void net_fini(struct net *n)
{
	check(net_is_empty(n));
	hosts_fini(&n->hosts);
	idle_fini(&n->idle);
	pool_fini(&n->conns);
}

static struct conn *conn_open(struct net *n, const struct mx_host *h)
{
	struct conn  *c = pool_get(&n->conns);
	union sockany to;

	if (!c)
		return NULL;
	c->net = n;
	c->key = conn_key(h);
	c->ip = h->ip;
	c->qmtp = h->qmtp;
	c->state = DIALING;
	list_init(&c->riders);
	list_add_end(&n->all, &c->all);
	idle_entry_init(&c->idle, on_expired);
	deferred_init(&c->soon, look_again);
	n->opened++;
	socklen_t len = ip_to_sockaddr(&h->ip, h->port, &to);
	stream_init(&c->stream, n->loop, &calls);
	stream_connect(&c->stream, &to.any, len, NULL);
	set_deadline(c);
	return c;
}

static struct conn *find_open(struct net *n, const struct mx_host *h)
{
	struct host_key    k = conn_key(h);
	struct idle_entry *e = idle_find(&n->idle, &k);
	struct conn       *c = e ? owner_of(e, struct conn, idle) : NULL;

	if (c)
		n->reused++;
	return c;
}

bool conn_ride(struct net *n, const struct mx_host *h, struct rider *r)
{
	struct conn *c = find_open(n, h);

	check(!r->conn);
	if (!c)
		c = conn_open(n, h);
	if (!c && idle_expire_oldest(&n->idle))
		c = conn_open(n, h);
	if (!c)
		return false;
	r->conn = c;
	r->task->rider = r;
	list_add_end(&c->riders, &r->link);
	c->riders_n++;
	if (c->state == UP) {
		give_to_talk(c, r);
		loop_defer(n->loop, &c->soon, PHASE_WORK);
	}
	if (has_room(c))
		idle_offer(&n->idle, &c->idle, &c->key, 0);
	else
		idle_withdraw(&c->idle);
	set_deadline(c);
	return true;
}
