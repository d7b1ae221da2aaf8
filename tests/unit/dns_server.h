/* A name server in the test process: UDP and TCP on 127.0.0.1, driven by the loop under test.
 * What it answers is a table of rules; packets are built by hand, so that they can be wrong. */
#ifndef DNS_SERVER_H
#define DNS_SERVER_H

#include "core/loop.h"
#include "core/stream.h"
#include "remote/dns.h"
#include "remote_test.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

enum dns_mood {
	MOOD_OK, MOOD_SILENT, MOOD_SERVFAIL, MOOD_REFUSED, MOOD_TRUNCATED, MOOD_WRONG_ID_FIRST,
	MOOD_WRONG_QUESTION_FIRST, MOOD_NO_EDNS, MOOD_REFERRAL
};

struct dns_rule {
	const char *name;                         /* without the final dot */
	uint16_t    type;
	enum dns_mood mood;
	int         rcode;
	uint32_t    ttl;
	/* "A 1.2.3.4", "AAAA ::1", "MX 10 host", "CNAME host", "SOA 30", each with an optional owner:
	 * "owner=CNAME host"; NULL ends.  None: no records. */
	const char *rr[8];
};

struct dns_server {
	struct loop           *loop;
	const struct dns_rule *rules;             /* name NULL ends */
	int                    udp, tcp;
	uint16_t               port;
	struct op              recv, accept;
	struct msghdr          msg;
	struct iovec           iov;
	struct sockaddr_in     from;
	char                   bytes[4096];
	unsigned               asked, asked_tcp;  /* counted */
	unsigned               open;              /* TCP connections */
};

static inline size_t dns_put_name(uint8_t *p, const char *s)
{
	uint8_t *at = p;

	while (*s) {
		size_t n = strcspn(s, ".");

		*at++ = (uint8_t)n;
		memcpy(at, s, n);
		at += n;
		s += n + (s[n] == '.');
	}
	*at++ = 0;
	return (size_t)(at - p);
}

static inline uint8_t *dns_put16(uint8_t *p, unsigned v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
	return p + 2;
}

static inline uint8_t *dns_put_rr(uint8_t *p, const char *owner, const char *rr, uint32_t ttl)
{
	static const struct { const char *name; uint16_t type; } types[] = {
		{"A ", 1}, {"NS ", 2}, {"CNAME ", 5}, {"SOA ", 6}, {"MX ", 15}, {"AAAA ", 28},
	};
	const char *eq = strchr(rr, '=');
	char        name[256];
	uint16_t    type = 0;
	uint8_t    *len;

	snprintf(name, sizeof(name), "%s", owner);
	if (eq) {
		snprintf(name, sizeof(name), "%.*s", (int)(eq - rr), rr);
		rr = eq + 1;
	}
	for (size_t i = 0; i < ARRAY_N(types); i++)
		if (strncmp(rr, types[i].name, strlen(types[i].name)) == 0) {
			type = types[i].type;
			rr += strlen(types[i].name);
			break;
		}
	assert_int_not_equal(type, 0);
	p += dns_put_name(p, name);
	p = dns_put16(dns_put16(p, type), 1);
	p = dns_put16(dns_put16(p, ttl >> 16), ttl & 0xffff);
	len = p;
	p += 2;
	if (type == 1) {
		assert_int_equal(inet_pton(AF_INET, rr, p), 1);
		p += 4;
	} else if (type == 28) {
		assert_int_equal(inet_pton(AF_INET6, rr, p), 1);
		p += 16;
	} else if (type == 15) {
		char *host;

		p = dns_put16(p, (unsigned)strtoul(rr, &host, 10));
		p += dns_put_name(p, host[0] == ' ' ? host + 1 : host);
	} else if (type == 6) {
		p += dns_put_name(p, "ns");
		p += dns_put_name(p, "root");
		for (unsigned i = 0; i < 4; i++)
			p = dns_put16(dns_put16(p, 0), 1);
		p = dns_put16(dns_put16(p, 0), (unsigned)strtoul(rr, NULL, 10));
	} else {
		p += dns_put_name(p, rr);
	}
	dns_put16(len, (unsigned)(p - len - 2));
	return p;
}

/* Writes the answer to query; 0: none. */
static inline size_t dns_answer_to(struct dns_server *s, const uint8_t *q, size_t n, bool tcp, uint8_t *ret, const struct dns_rule **ret_rule)
{
	char     name[256] = "";
	size_t   at = 12, name_n = 0;
	uint16_t type;
	uint8_t *p = ret;
	unsigned answers = 0, authority = 0;
	bool     edns = n > 12 && q[11] > 0;

	while (at < n && q[at]) {
		name_n += (size_t)snprintf(name + name_n, sizeof(name) - name_n, "%s%.*s", name_n ? "." : "", q[at], (const char *)q + at + 1);
		at += 1u + q[at];
	}
	type = (uint16_t)(q[at + 1] << 8 | q[at + 2]);
	at += 5;
	const struct dns_rule *r = s->rules;
	while (r->name && (strcasecmp(r->name, name) != 0 || r->type != type))
		r++;
	*ret_rule = r;
	if (r->mood == MOOD_SILENT)
		return 0;
	memcpy(p, q, at);
	p[2] = 0x81;
	p[3] = 0x80;
	memset(p + 6, 0, 6);
	p += at;
	if (!r->name) {                           /* all other names do not exist */
		ret[3] |= 3;
		return (size_t)(p - ret);
	}
	ret[3] |= (uint8_t)r->rcode;
	if (r->mood == MOOD_SERVFAIL)
		ret[3] |= 2;
	if (r->mood == MOOD_REFUSED)
		ret[3] |= 5;
	if (r->mood == MOOD_NO_EDNS && edns) {
		ret[3] |= 1;
		return (size_t)(p - ret);
	}
	if (r->mood == MOOD_TRUNCATED && !tcp) {
		ret[2] |= 2;
		return (size_t)(p - ret);
	}
	for (unsigned i = 0; i < ARRAY_N(r->rr) && r->rr[i]; i++) {
		bool is_authority = strstr(r->rr[i], "SOA ") || strstr(r->rr[i], "NS ");

		p = dns_put_rr(p, name, r->rr[i], r->ttl);
		answers += !is_authority;
		authority += is_authority;
	}
	dns_put16(ret + 6, answers);
	dns_put16(ret + 8, authority);
	return (size_t)(p - ret);
}

static inline void dns_server_arm(struct dns_server *s)
{
	s->iov = (struct iovec){s->bytes, sizeof(s->bytes)};
	s->msg = (struct msghdr){.msg_iov = &s->iov, .msg_iovlen = 1, .msg_name = &s->from, .msg_namelen = sizeof(s->from)};
	loop_recvmsg(s->loop, &s->recv, s->udp, &s->msg);
}

static inline void dns_server_on_packet(struct op *op, int res, unsigned flags)
{
	struct dns_server     *s = owner_of(op, struct dns_server, recv);
	const struct dns_rule *r;
	uint8_t                answer[4096], lie[4096];
	size_t                 n;

	if (res <= 0)
		return;
	s->asked++;
	n = dns_answer_to(s, (uint8_t *)s->bytes, (size_t)res, false, answer, &r);
	memcpy(lie, answer, n);
	if (n > 0 && r->mood == MOOD_WRONG_ID_FIRST)
		lie[1] ^= 1;
	if (n > 0 && r->mood == MOOD_WRONG_QUESTION_FIRST)
		lie[13] ^= 1;
	if (n > 0 && (r->mood == MOOD_WRONG_ID_FIRST || r->mood == MOOD_WRONG_QUESTION_FIRST)) {
		lie[n - 1] ^= 1;                  /* and a false address */
		sendto(s->udp, lie, n, 0, (struct sockaddr *)&s->from, sizeof(s->from));
	}
	if (n > 0)
		sendto(s->udp, answer, n, 0, (struct sockaddr *)&s->from, sizeof(s->from));
	dns_server_arm(s);
}

struct dns_tcp {
	struct stream      stream;
	struct dns_server *server;
	uint8_t            q[1024];
	size_t             n;
};

static inline void dns_tcp_bytes(struct stream *st, struct span *in)
{
	struct dns_tcp        *t = owner_of(st, struct dns_tcp, stream);
	const struct dns_rule *r;
	struct span            all = span_cut(in, in->n);
	uint8_t                answer[4096];
	size_t                 n;

	assert_true(t->n + all.n <= sizeof(t->q));
	memcpy(t->q + t->n, all.p, all.n);
	t->n += all.n;
	if (t->n < 2 || t->n < 2u + (t->q[0] << 8 | t->q[1]))
		return;
	t->server->asked_tcp++;
	n = dns_answer_to(t->server, t->q + 2, t->n - 2, true, answer + 2, &r);
	dns_put16(answer, (unsigned)n);
	out_span(stream_out(st), span_of(answer, n + 2));
	stream_close(st);
}

static inline void dns_tcp_lost(struct stream *st, enum lost why, int error)
{
	struct dns_tcp *t = owner_of(st, struct dns_tcp, stream);

	t->server->open--;
	mem_free(t);
}

static inline void dns_server_on_accept(struct op *op, int res, unsigned flags)
{
	static const struct stream_calls calls = {.bytes = dns_tcp_bytes, .lost = dns_tcp_lost};
	struct dns_server *s = owner_of(op, struct dns_server, accept);
	struct dns_tcp    *t;

	if (res < 0)
		return;
	t = mem_new(sizeof(*t));
	t->server = s;
	s->open++;
	stream_init(&t->stream, s->loop, &calls);
	stream_take(&t->stream, res);
}

static inline void dns_server_begin(struct dns_server *s, struct loop *l, const struct dns_rule *rules, const char *ip)
{
	struct sockaddr_in a = {.sin_family = AF_INET};
	socklen_t          n = sizeof(a);
	int                one = 1;

	*s = (struct dns_server){.loop = l, .rules = rules};
	assert_int_equal(inet_pton(AF_INET, ip, &a.sin_addr), 1);
	for (unsigned i = 0; i < 100; i++) {      /* until a port is free for both */
		a.sin_port = 0;
		s->udp = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		s->tcp = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		setsockopt(s->tcp, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
		assert_int_equal(bind(s->tcp, (struct sockaddr *)&a, sizeof(a)), 0);
		assert_int_equal(getsockname(s->tcp, (struct sockaddr *)&a, &n), 0);
		if (bind(s->udp, (struct sockaddr *)&a, sizeof(a)) == 0)
			break;
		close(s->udp);
		close(s->tcp);
	}
	s->port = ntohs(a.sin_port);
	assert_int_equal(listen(s->tcp, 10), 0);
	op_init(&s->recv, dns_server_on_packet);
	op_init(&s->accept, dns_server_on_accept);
	dns_server_arm(s);
	loop_accept(l, &s->accept, s->tcp);
}

static inline void dns_server_end(struct dns_server *s)
{
	loop_cancel(s->loop, &s->recv);
	loop_cancel(s->loop, &s->accept);
	while (s->recv.armed || s->accept.armed || s->open > 0)
		loop_pass(s->loop);
	close(s->udp);
	close(s->tcp);
}

#endif
