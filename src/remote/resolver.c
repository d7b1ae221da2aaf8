/* resolver - see the header.
 *
 * An `entry` is a question and, if we have it, its answer; an `ask` is the work of getting it.
 *
 *   IDLE     no answer (any more), nobody asks
 *   QUEUED   all asks are in use; its turn comes
 *   ASKING   an ask is at work
 *   KNOWN    the answer holds until `expires_ms`
 *
 * An ask goes from try to try: by UDP on some socket, its reply found by socket and id; by TCP
 * after a truncated one.  Datagrams are sent at once, past the loop: that never waits, and a
 * descriptor may have one sending op only. */
#include "remote/resolver.h"

#include "core/clock.h"
#include "core/log.h"
#include "core/pool.h"
#include "core/rand.h"
#include "core/stream.h"
#include "core/table.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define CACHE_DEFAULT     131072                  /* 40 MB when full; 50,000 domains are 150,000 questions */
#define ASKS_MAX          1024                    /* in flight: more would only fill the server's socket */
#define SOCKETS           32                      /* to each server: as many ports to guess */
#define SOCKET_USES       1024                    /* then it gets a new port */
#define TRY_MS            1500                    /* first round; a local server may have to recurse */
#define ROUNDS            4                       /* 22 s in all with one server */
#define TRIES_MAX         12                      /* with many: no task should wait longer */
#define SEND_FAILED_MS    1                       /* what can't be sent counts as refused, from the loop */
#define TCP_MS            10000
#define TTL_MAX           86400                   /* RFC 2181 8 allows a cap; a day is what resolvers use */
#define NEGATIVE_TTL_MAX  10800                   /* RFC 2308 5 */
#define NO_SOA_TTL        60                      /* RFC 2308 5 would keep it not at all: this stops storms */
#define LATER_TTL         5                       /* RFC 2308 7: at most five minutes */
#define STRIKES_MAX       3                       /* timeouts in a row: another server is asked first */
#define PACKET_MAX        4096                    /* received by UDP; we announce DNS_EDNS_SIZE */

struct dns_answer {
	uint16_t type, n;
	uint32_t bytes_n;
	uint8_t  bytes[];                         /* 4 or 16 of an address; preference, length, name */
};

enum entry_state { IDLE, QUEUED, ASKING, KNOWN };
struct entry {
	struct link        use;                   /* of the cache, unused for longest first */
	struct link        queue;
	struct link        waiters;
	struct dns_answer *answer;
	uint64_t           expires_ms;
	uint32_t           refs;                  /* ops that will look at it: it must stay */
	uint8_t            state, status;
	uint16_t           key_n;
	struct ask        *ask;
	uint8_t            key[];                 /* type, then the name's wire form */
};

struct sock {
	struct resolver *r;
	struct op        recv;
	struct msghdr    msg;
	struct iovec     iov;
	struct link      asks;
	uint32_t         serial, uses;
	unsigned         server;
	int              fd;
	bool             retired;
	char             bytes[PACKET_MAX];
};

struct tcp {
	struct stream    stream;
	struct resolver *r;
	struct ask      *ask;                     /* NULL: nobody wants it any more */
	struct buf       in;
};

struct ask {
	struct resolver    *r;
	struct entry       *entry;
	struct dns_question q;
	struct timer        timer;
	struct sock        *sock;
	struct link         link;                 /* of the socket */
	struct tcp         *tcp;
	uint64_t            key;                  /* in the map: socket and id; 0: not in it */
	uint32_t            ttl;
	unsigned            tries, failures, server, aliases;
	uint16_t            id;
	bool                no_edns;
	size_t              packet_n;
	uint8_t             packet[2 + DNS_QUERY_MAX];  /* behind TCP's length */
};

struct resolver {
	struct loop           *loop;
	struct resolver_config cf;
	struct table           entries;
	struct link            by_use, queue, ready;
	struct deferred        give_ready;
	struct pool            asks;
	struct map             in_flight;
	struct sock           *socks[RESOLVER_SERVERS_MAX][SOCKETS];
	struct dns_reply       reply;             /* scratch */
	struct resolver_stats  stats;
	uint32_t               serial;
	unsigned               prefer, strikes, objects;
	bool                   freeing;
};

static op_done on_packet;
static void    on_try_over(struct timer *t);
static void    next_try(struct ask *a);
static void    start_queued(struct resolver *r);
static void    give_ready(struct deferred *d);

/* ---- the cache ---------------------------------------------------------------------------- */

static struct span entry_key(const void *value)
{
	const struct entry *e = value;

	return span_of(e->key, e->key_n);
}

static void entry_free(struct resolver *r, struct entry *e)
{
	check(e->refs == 0 && !e->ask && list_is_empty(&e->waiters));
	list_remove(&e->use);
	list_remove(&e->queue);
	table_remove(&r->entries, e);
	mem_free(e->answer);
	mem_free(e);
}

static bool make_place(struct resolver *r)
{
	list_each(&r->by_use, l) {
		struct entry *e = owner_of(l, struct entry, use);

		if (e->refs > 0 || e->state == ASKING || e->state == QUEUED)
			continue;
		entry_free(r, e);
		return true;
	}
	return false;                             /* all of them are being asked for */
}

static struct entry *entry_make(struct resolver *r, struct span key)
{
	struct entry *e;

	if (r->entries.n >= r->cf.cache_max && !make_place(r))
		return NULL;
	e = mem_new(sizeof(*e) + key.n);
	e->key_n = (uint16_t)key.n;
	memcpy(e->key, key.p, key.n);
	list_init(&e->waiters);
	if (!table_put(&r->entries, e)) {
		mem_free(e);
		return NULL;
	}
	list_add_end(&r->by_use, &e->use);
	return e;
}

static struct entry *entry_find(struct resolver *r, const struct dns_question *q)
{
	char key[2 + DNS_NAME_MAX];

	memcpy(key, &q->type, 2);
	memcpy(key + 2, q->name.wire, q->name.n);
	struct span   s = span_of(key, 2u + q->name.n);
	struct entry *e = table_get(&r->entries, s);
	if (!e)
		return entry_make(r, s);
	list_remove(&e->use);
	list_add_end(&r->by_use, &e->use);
	return e;
}

static struct dns_answer *answer_new(uint16_t type, const struct dns_reply *reply)
{
	size_t n = 0;

	for (unsigned i = 0; i < reply->n; i++)
		n += type == DNS_MX ? 3u + reply->record[i].name.n : type == DNS_A ? 4 : 16;
	struct dns_answer *a = mem_new(sizeof(*a) + n);

	a->type = type;
	a->n = (uint16_t)reply->n;
	a->bytes_n = (uint32_t)n;
	uint8_t *at = a->bytes;
	for (unsigned i = 0; i < reply->n; i++) {
		const struct dns_record *rec = &reply->record[i];
		size_t                   ip_n = type == DNS_A ? 4 : 16;

		if (type != DNS_MX) {
			memcpy(at, rec->ip.b, ip_n);
			at += ip_n;
			continue;
		}
		memcpy(at, &rec->preference, 2);
		at[2] = rec->name.n;
		memcpy(at + 3, rec->name.wire, rec->name.n);
		at += 3 + rec->name.n;
	}
	return a;
}

bool dns_answer_next(const struct dns_answer *a, unsigned *at, struct dns_record *ret)
{
	if (!a || *at >= a->bytes_n)
		return false;

	const uint8_t *b = a->bytes + *at;
	*ret = (struct dns_record){0};
	if (a->type == DNS_MX) {
		memcpy(&ret->preference, b, 2);
		ret->name.n = b[2];
		memcpy(ret->name.wire, b + 3, b[2]);
		*at += 3u + b[2];
		return true;
	}
	ret->ip.family = a->type == DNS_A ? 4 : 6;
	memcpy(ret->ip.b, b, a->type == DNS_A ? 4 : 16);
	*at += a->type == DNS_A ? 4 : 16;
	return true;
}

/* ---- the end of an ask -------------------------------------------------------------------- */

static void maybe_gone(struct resolver *r)
{
	if (!r->freeing || r->objects > 0)
		return;
	pool_fini(&r->asks);
	map_fini(&r->in_flight);
	table_fini(&r->entries);
	mem_free(r);
}

static void object_gone(struct resolver *r)
{
	r->objects--;
	maybe_gone(r);
}

static void maybe_close_sock(struct sock *s)
{
	if (s->retired && list_is_empty(&s->asks))
		loop_cancel(s->r->loop, &s->recv); /* on_packet() closes it */
}

/* No reply on this socket will be taken for it any more. */
static void leave_wire(struct ask *a)
{
	if (a->key)
		map_remove(&a->r->in_flight, a->key);
	a->key = 0;
	timer_stop(a->r->loop, &a->timer);
	if (a->tcp) {
		a->tcp->ask = NULL;
		stream_drop(&a->tcp->stream);
		a->tcp = NULL;
	}
	if (a->sock) {
		list_remove(&a->link);
		maybe_close_sock(a->sock);
		a->sock = NULL;
	}
}

static void ask_put_away(struct ask *a)
{
	struct resolver *r = a->r;

	pool_put(&r->asks, a);
	if (!r->freeing)
		start_queued(r);
	object_gone(r);
}

static void hand_out(struct entry *e)
{
	struct link  waiters;
	struct link *l;

	list_init(&waiters);
	while ((l = list_first(&e->waiters))) {
		list_remove(l);
		list_add_end(&waiters, l);
	}
	e->refs++;                                /* done() may ask for more and need place */
	while ((l = list_first(&waiters))) {
		struct dns_op *op = owner_of(l, struct dns_op, link);

		list_remove(l);
		op->entry = NULL;
		op->status = (enum dns_status)e->status;
		op->answer = e->answer;
		op->done(op);
	}
	e->refs--;
}

static uint32_t seconds_to_keep(enum dns_status status, uint32_t ttl)
{
	switch (status) {
	case DNS_FOUND:   return ttl < TTL_MAX ? ttl : TTL_MAX;
	case DNS_LATER:   return LATER_TTL;
	case DNS_NOTHING:
	case DNS_NOWHERE: break;
	}
	return ttl == DNS_NO_TTL ? NO_SOA_TTL : ttl < NEGATIVE_TTL_MAX ? ttl : NEGATIVE_TTL_MAX;
}

static void finish(struct ask *a, enum dns_status status)
{
	struct resolver *r = a->r;
	struct entry    *e = a->entry;

	leave_wire(a);
	e->ask = NULL;
	e->state = KNOWN;
	e->status = (uint8_t)status;
	e->expires_ms = clock_mono_ms() + 1000 * (uint64_t)seconds_to_keep(status, a->ttl);
	mem_free(e->answer);
	e->answer = status == DNS_FOUND ? answer_new(a->q.type, &r->reply) : NULL;
	ask_put_away(a);
	hand_out(e);
}

/* ---- sockets ------------------------------------------------------------------------------ */

static void arm_sock(struct sock *s)
{
	s->iov = (struct iovec){.iov_base = s->bytes, .iov_len = sizeof(s->bytes)};
	s->msg = (struct msghdr){.msg_iov = &s->iov, .msg_iovlen = 1};
	loop_recvmsg(s->r->loop, &s->recv, s->fd, &s->msg);
}

static struct sock *sock_new(struct resolver *r, unsigned server)
{
	union sockany to;
	socklen_t n = ip_to_sockaddr(&r->cf.server[server].ip, r->cf.server[server].port, &to);
	int fd = socket(to.any.sa_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	/* Connected: the kernel drops what comes from elsewhere and tells us of ICMP errors. */
	if (fd >= 0 && connect(fd, &to.any, n) < 0) {
		close(fd);
		fd = -1;
	}
	if (fd < 0) {
		log_note("odd", "no socket for DNS", "error", strerror(errno), NULL);
		return NULL;
	}
	struct sock *s = mem_new(sizeof(*s));

	*s = (struct sock){.r = r, .fd = fd, .server = server, .serial = ++r->serial};
	list_init(&s->asks);
	op_init(&s->recv, on_packet);
	arm_sock(s);
	r->objects++;
	return s;
}

static void sock_retire(struct sock *s)
{
	s->retired = true;
	maybe_close_sock(s);
}

static struct sock *choose_sock(struct resolver *r, unsigned server)
{
	struct sock **place = &r->socks[server][rand_below(SOCKETS)];

	if (*place && (*place)->uses >= SOCKET_USES) {
		sock_retire(*place);
		*place = NULL;
	}
	if (!*place)
		*place = sock_new(r, server);
	return *place;
}

/* The network says that nobody is there: what is out on this socket need not wait. */
static void sock_refused(struct sock *s)
{
	struct link  asks;
	struct link *l;

	list_init(&asks);
	while ((l = list_first(&s->asks))) {
		list_remove(l);
		list_add_end(&asks, l);
	}
	while ((l = list_first(&asks)))
		next_try(owner_of(l, struct ask, link));
}

/* ---- replies ------------------------------------------------------------------------------ */

static void       ask_by_tcp(struct ask *a);
static struct ask *ask_of_packet(struct sock *s, struct span packet)
{
	const uint8_t *b = (const uint8_t *)packet.p;

	if (packet.n < 2)
		return NULL;
	return map_get(&s->r->in_flight,
		       (uint64_t)s->serial << 16 | (uint64_t)(b[0] << 8 | b[1]));
}

static void server_failed(struct ask *a)
{
	if (++a->failures >= a->r->cf.servers)
		finish(a, DNS_LATER);
	else
		next_try(a);
}

/* The alias leads to another name: that is asked for, for the same entry. */
static void chase(struct ask *a)
{
	struct dns_reply *reply = &a->r->reply;

	a->aliases += reply->aliases;
	if (a->aliases > DNS_CHAIN_MAX) {
		finish(a, DNS_LATER);
		return;
	}
	a->q.name = reply->target;
	a->tries = a->failures = 0;
	next_try(a);
}

static void ask_without_edns(struct ask *a)
{
	if (a->no_edns) {
		server_failed(a);
		return;
	}
	a->no_edns = true;
	a->tries--;                               /* the same server again */
	next_try(a);
}

static void take_reply(struct ask *a, enum dns_verdict v)
{
	struct resolver *r = a->r;

	if (v == DNS_NOT_OURS) {
		r->stats.strange++;
		return;
	}
	if (a->server == r->prefer)
		r->strikes = 0;
	if (r->reply.ttl < a->ttl)
		a->ttl = r->reply.ttl;
	switch (v) {
	case DNS_OK:            finish(a, DNS_FOUND); break;
	case DNS_NO_DATA:       finish(a, DNS_NOTHING); break;
	case DNS_NO_NAME:       finish(a, DNS_NOWHERE); break;
	case DNS_CHASE:         chase(a); break;
	case DNS_TRUNCATED:     ask_by_tcp(a); break;
	case DNS_NO_EDNS:       ask_without_edns(a); break;
	case DNS_SERVER_FAILED: server_failed(a); break;
	case DNS_NOT_OURS:      break;
	}
}

static void on_packet(struct op *op, int res, unsigned flags)
{
	struct sock     *s = owner_of(op, struct sock, recv);
	struct resolver *r = s->r;
	struct span      packet = span_of(s->bytes, res > 0 ? (size_t)res : 0);
	struct ask      *a = ask_of_packet(s, packet);

	if (a)
		take_reply(a, dns_read(packet, &a->q, a->id, &r->reply));
	else if (res > 0)
		r->stats.strange++;
	if (res == -ECONNREFUSED || res == -EHOSTUNREACH || res == -ENETUNREACH)
		sock_refused(s);
	if (s->retired && list_is_empty(&s->asks)) {
		close(s->fd);
		mem_free(s);
		object_gone(r);
		return;
	}
	arm_sock(s);
}

/* ---- TCP: two bytes of length in front.  RFC 7766 8 ---------------------------------------- */

static void tcp_connected(struct stream *st)
{
	struct tcp *t = owner_of(st, struct tcp, stream);

	if (t->ask)
		out_span(stream_out(st), span_of(t->ask->packet, 2 + t->ask->packet_n));
}

static void tcp_bytes(struct stream *st, struct span *in)
{
	struct tcp     *t = owner_of(st, struct tcp, stream);
	struct span     all = span_cut(in, in->n);
	const uint8_t  *b;

	if (!t->ask)
		return;
	if (!buf_add(&t->in, all)) {
		stream_drop(st);
		return;
	}
	b = (const uint8_t *)t->in.p;
	size_t n = t->in.n >= 2 ? (size_t)(b[0] << 8 | b[1]) : 0;
	if (t->in.n < 2 || t->in.n < 2 + n)
		return;

	enum dns_verdict v = dns_read(span_of(b + 2, n), &t->ask->q, t->ask->id, &t->r->reply);
	if (v == DNS_NOT_OURS || v == DNS_TRUNCATED)
		v = DNS_SERVER_FAILED;
	take_reply(t->ask, v);
	stream_drop(st);
}

static void tcp_lost(struct stream *st, enum lost why, int error)
{
	struct tcp      *t = owner_of(st, struct tcp, stream);
	struct resolver *r = t->r;
	struct ask      *a = t->ask;

	buf_free(&t->in);
	mem_free(t);
	if (a) {
		a->tcp = NULL;
		server_failed(a);
	}
	object_gone(r);
}

static const struct stream_calls tcp_calls = {
	.connected = tcp_connected, .bytes = tcp_bytes, .lost = tcp_lost};

static void ask_by_tcp(struct ask *a)
{
	struct resolver *r = a->r;
	union sockany    to;
	struct tcp      *t = mem_new(sizeof(*t));
	/* The servers may be others than when it was asked. */
	unsigned         server = a->server < r->cf.servers ? a->server : 0;

	leave_wire(a);
	t->r = r;
	t->ask = a;
	a->tcp = t;
	buf_init(&t->in, 2 + 65535);
	a->packet[0] = (uint8_t)(a->packet_n >> 8);
	a->packet[1] = (uint8_t)a->packet_n;
	r->objects++;
	r->stats.tcp++;
	socklen_t n = ip_to_sockaddr(&r->cf.server[server].ip, r->cf.server[server].port, &to);
	stream_init(&t->stream, r->loop, &tcp_calls);
	stream_connect(&t->stream, &to.any, n, NULL);
	stream_wait(&t->stream, TCP_MS);
}

/* ---- tries -------------------------------------------------------------------------------- */

static unsigned tries_max(const struct resolver *r)
{
	unsigned n = r->cf.servers * ROUNDS;

	return n < TRIES_MAX ? n : TRIES_MAX;
}

/* An id that is not out on this socket; SOCKET_USES of 65536 can be, so few throws do. */
static uint64_t free_id(struct resolver *r, const struct sock *s)
{
	uint64_t key;

	do
		key = (uint64_t)s->serial << 16 | rand_below(65536);
	while (map_get(&r->in_flight, key));
	return key;
}

static bool send_on(struct ask *a, struct sock *s)
{
	struct resolver *r = a->r;
	uint64_t         key = free_id(r, s);

	a->packet_n = dns_build(&a->q, (uint16_t)key, !a->no_edns, a->packet + 2);
	if (a->packet_n == 0 || !map_put(&r->in_flight, key, a))
		return false;
	a->key = key;
	a->id = (uint16_t)key;
	a->sock = s;
	s->uses++;
	list_add_end(&s->asks, &a->link);
	r->stats.sent++;
	/* The first may be told of an earlier one's ICMP error. */
	if (send(s->fd, a->packet + 2, a->packet_n, MSG_DONTWAIT | MSG_NOSIGNAL) < 0
	    && send(s->fd, a->packet + 2, a->packet_n, MSG_DONTWAIT | MSG_NOSIGNAL) < 0
	    && errno != EAGAIN)
		timer_set(r->loop, &a->timer, SEND_FAILED_MS);
	return true;
}

static void next_try(struct ask *a)
{
	struct resolver *r = a->r;

	leave_wire(a);
	if (a->tries >= tries_max(r)) {
		finish(a, DNS_LATER);
		return;
	}
	unsigned round = a->tries / r->cf.servers;
	a->server = (r->prefer + a->tries) % r->cf.servers;
	a->tries++;
	timer_set(r->loop, &a->timer, (uint64_t)r->cf.try_ms << round);
	struct sock *s = choose_sock(r, a->server);
	if (s && !send_on(a, s))
		a->tries = tries_max(r);          /* can't be built: it never will */
}

static void on_try_over(struct timer *t)
{
	struct ask      *a = owner_of(t, struct ask, timer);
	struct resolver *r = a->r;

	r->stats.timeouts++;
	if (a->server == r->prefer && ++r->strikes >= STRIKES_MAX) {
		r->prefer = (r->prefer + 1) % r->cf.servers;
		r->strikes = 0;
	}
	next_try(a);
}

/* ---- questions ---------------------------------------------------------------------------- */

static void start_ask(struct resolver *r, struct entry *e)
{
	struct ask *a = pool_get(&r->asks);

	if (!a) {
		e->state = QUEUED;
		list_add_end(&r->queue, &e->queue);
		return;
	}
	r->objects++;
	a->r = r;
	a->entry = e;
	a->ttl = DNS_NO_TTL;
	memcpy(&a->q.type, e->key, 2);
	a->q.name.n = (uint8_t)(e->key_n - 2);
	memcpy(a->q.name.wire, e->key + 2, a->q.name.n);
	timer_init(&a->timer, on_try_over);
	e->ask = a;
	e->state = ASKING;
	next_try(a);
}

static void start_queued(struct resolver *r)
{
	struct link *l = list_first(&r->queue);

	if (!l)
		return;
	list_remove(l);
	start_ask(r, owner_of(l, struct entry, queue));
}

static bool is_fresh(const struct entry *e)
{
	return e->state == KNOWN && clock_mono_ms() < e->expires_ms;
}

static void wait_for(struct resolver *r, struct entry *e, struct dns_op *op)
{
	op->entry = e;
	list_add_end(&e->waiters, &op->link);
	if (e->state == IDLE || e->state == KNOWN)
		start_ask(r, e);
	else
		r->stats.merged++;
}

void resolver_ask(struct resolver *r, struct dns_op *op, const struct dns_question *q)
{
	struct entry *e = r->cf.servers > 0 ? entry_find(r, q) : NULL;

	check(!link_is_in(&op->link));
	r->stats.asked++;
	if (e && !is_fresh(e)) {
		wait_for(r, e, op);
		return;
	}
	r->stats.hits++;
	op->entry = e;                            /* NULL: no server, or no place; an answer, too */
	op->ready = true;
	if (e)
		e->refs++;
	list_add_end(&r->ready, &op->link);
	loop_defer(r->loop, &r->give_ready, PHASE_WORK);
}

/* What was known when it was asked for; between then and now it may have been asked again. */
static void give_ready(struct deferred *d)
{
	struct resolver *r = owner_of(d, struct resolver, give_ready);
	struct link     *l;

	while ((l = list_first(&r->ready))) {
		struct dns_op *op = owner_of(l, struct dns_op, link);
		struct entry  *e = op->entry;

		list_remove(l);
		op->entry = NULL;
		op->ready = false;
		op->status = e ? (enum dns_status)e->status : DNS_LATER;
		op->answer = e ? e->answer : NULL;
		op->done(op);
		if (e)
			e->refs--;
	}
}

void resolver_cancel(struct resolver *r, struct dns_op *op)
{
	struct entry *e = op->entry;

	if (!link_is_in(&op->link))
		return;
	if (op->ready && e)
		e->refs--;
	op->ready = false;
	list_remove(&op->link);
	op->entry = NULL;
}

/* ---- the whole ---------------------------------------------------------------------------- */

struct resolver *resolver_new(struct loop *l, const struct resolver_config *cf)
{
	struct resolver *r = mem_new(sizeof(*r));

	r->loop = l;
	list_init(&r->by_use);
	list_init(&r->queue);
	list_init(&r->ready);
	deferred_init(&r->give_ready, give_ready);
	pool_init(&r->asks, sizeof(struct ask), ASKS_MAX);
	map_init(&r->in_flight, ASKS_MAX);
	resolver_configure(r, cf);
	table_init(&r->entries, entry_key, false, r->cf.cache_max);
	return r;
}

static void retire_all(struct resolver *r)
{
	for (unsigned i = 0; i < RESOLVER_SERVERS_MAX; i++)
		for (unsigned k = 0; k < SOCKETS; k++) {
			if (r->socks[i][k])
				sock_retire(r->socks[i][k]);
			r->socks[i][k] = NULL;
		}
}

void resolver_configure(struct resolver *r, const struct resolver_config *cf)
{
	uint32_t cache_max = r->cf.cache_max;

	retire_all(r);
	r->cf = *cf;
	if (r->cf.try_ms == 0)
		r->cf.try_ms = TRY_MS;
	if (cache_max > 0)                        /* the table was made with it */
		r->cf.cache_max = cache_max;
	else if (r->cf.cache_max == 0)
		r->cf.cache_max = CACHE_DEFAULT;
	r->prefer = r->strikes = 0;
}

void resolver_free(struct resolver *r)
{
	struct link *l;

	if (!r)
		return;
	check(list_is_empty(&r->ready));
	r->freeing = true;
	r->objects++;
	deferred_cancel(&r->give_ready);
	while ((l = list_first(&r->by_use))) {
		struct entry *e = owner_of(l, struct entry, use);
		struct ask   *a = e->ask;

		e->ask = NULL;
		if (a) {
			leave_wire(a);
			ask_put_away(a);
		}
		entry_free(r, e);
	}
	retire_all(r);
	object_gone(r);
}

const struct resolver_stats *resolver_stats(const struct resolver *r)
{
	return &r->stats;
}
