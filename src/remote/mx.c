/* mx - see the header. */
#include "remote/mx.h"

#include "core/pool.h"
#include "core/rand.h"
#include "mail/addr.h"
#include "mail/suffix.h"

#include <string.h>

#define MXPS_FIRST 12800
#define MXPS_LAST  13055

bool mxps_is_qmtp(uint16_t p)
{
	return p >= MXPS_FIRST && p <= MXPS_LAST && p % 16 == 1;
}

static bool is_before(const struct mx_host *a, const struct mx_host *b)
{
	return a->preference != b->preference ? a->preference < b->preference
					      : a->dice < b->dice;
}

/* By insertion: stable, and the list is short. */
void mx_order(struct mx_host *host, unsigned n)
{
	for (unsigned i = 1; i < n; i++) {
		struct mx_host h = host[i];
		unsigned       at = i;

		for (; at > 0 && is_before(&h, &host[at - 1]); at--)
			host[at] = host[at - 1];
		host[at] = h;
	}
}

unsigned mx_cut_ours(const struct mx_host *host, unsigned n, struct own *own)
{
	unsigned ours = 0, left = 0;

	while (ours < n && !own_has(own, &host[ours].ip))
		ours++;
	if (ours == n)
		return n;
	while (left < ours && host[left].preference < host[ours].preference)
		left++;
	return left;
}

/* ---- routes ------------------------------------------------------------------------------- */

static bool route_at(const struct mx_world *w, struct span key, struct route *ret,
		     enum mx_via *ret_via)
{
	struct span value;

	if (control_map_get(w->qmtproutes, key, &value)) {
		route_parse(value, QMTP_PORT, ret);
		*ret_via = ret->host.n > 0 ? MX_VIA_QMTP : MX_VIA_DNS;
		return true;
	}
	if (control_map_get(w->smtproutes, key, &value)) {
		route_parse(value, SMTP_PORT, ret);
		*ret_via = ret->host.n > 0 ? MX_VIA_SMTP : MX_VIA_DNS;
		return true;
	}
	return false;
}

enum mx_via mx_route(const struct mx_world *w, struct span domain, struct route *ret)
{
	struct span key = domain;
	enum mx_via via;

	do
		if (route_at(w, key, ret, &via))
			return via;
	while (suffix_next(&key));
	return route_at(w, SPAN_NONE, ret, &via) ? via : MX_VIA_DNS;
}

/* ---- looking up --------------------------------------------------------------------------- */

static void tell(struct deferred *d)
{
	struct mx_find *f = owner_of(d, struct mx_find, soon);

	f->found(f);
}

/* found() may free us; called from the loop, it is the last thing done. */
static void end(struct mx_find *f, enum mx_result r)
{
	f->result = r;
	f->found(f);
}

static void end_soon(struct mx_find *f, enum mx_result r)
{
	f->result = r;
	loop_defer(f->loop, &f->soon, PHASE_WORK);
}

static struct mx_host host_of(const struct mx_find *f, const struct ip *ip,
			      const struct mx_name *n)
{
	struct mx_host h = {
		.ip = *ip, .preference = n ? n->preference : 0, .dice = n ? n->dice : 0};

	h.qmtp = f->via == MX_VIA_QMTP
		 || (f->via == MX_VIA_DNS && f->has_mx && mxps_is_qmtp(h.preference));
	if (f->via != MX_VIA_DNS)
		h.port = f->port;
	else
		h.port = h.qmtp ? f->world->qmtp_port : f->world->smtp_port;
	return h;
}

static void add_hosts(struct mx_find *f, const struct mx_name *n)
{
	for (unsigned i = 0; i < n->v4_n; i++) {
		struct ip ip = {.family = 4};

		memcpy(ip.b, n->v4[i], 4);
		f->list->host[f->list->n++] = host_of(f, &ip, n);
	}
	for (unsigned i = 0; i < n->v6_n; i++) {
		struct ip ip = {.family = 6};

		memcpy(ip.b, n->v6[i], 16);
		f->list->host[f->list->n++] = host_of(f, &ip, n);
	}
}

static struct mx_list *list_new(unsigned n)
{
	return mem_new(sizeof(struct mx_list) + n * sizeof(struct mx_host));
}

/* Every question about addresses is answered. */
static enum mx_result make_list(struct mx_find *f)
{
	unsigned n = 0;

	for (unsigned i = 0; i < f->names; i++)
		n += f->name[i]->v4_n + f->name[i]->v6_n;
	if (n == 0)
		return f->doubt ? MX_LATER : f->has_mx ? MX_NO_ADDRESS : MX_NO_HOST;
	f->list = list_new(n);
	for (unsigned i = 0; i < f->names; i++)
		add_hosts(f, f->name[i]);
	mx_order(f->list->host, f->list->n);
	if (f->via == MX_VIA_DNS)
		f->list->n = mx_cut_ours(f->list->host, f->list->n, f->world->own);
	return f->list->n > 0 ? MX_FOUND : MX_OURS;
}

static void address_done(struct mx_find *f)
{
	check(f->open > 0);
	if (--f->open == 0)
		end(f, make_list(f));
}

static void on_a(struct dns_op *op)
{
	struct mx_name   *n = owner_of(op, struct mx_name, a);
	struct dns_record rec;
	unsigned          at = 0;

	while (n->v4_n < MX_NAME_IPS_MAX && dns_answer_next(op->answer, &at, &rec))
		memcpy(n->v4[n->v4_n++], rec.ip.b, 4);
	n->find->doubt |= op->status == DNS_LATER;
	address_done(n->find);
}

static void on_aaaa(struct dns_op *op)
{
	struct mx_name   *n = owner_of(op, struct mx_name, aaaa);
	struct dns_record rec;
	unsigned          at = 0;

	while (n->v6_n < MX_NAME_IPS_MAX && dns_answer_next(op->answer, &at, &rec))
		memcpy(n->v6[n->v6_n++], rec.ip.b, 16);
	n->find->doubt |= op->status == DNS_LATER;
	address_done(n->find);
}

static void add_name(struct mx_find *f, const struct dns_name *name, uint16_t preference)
{
	struct mx_name *n = mem_new(sizeof(*n));

	n->find = f;
	n->name = *name;
	n->preference = preference;
	n->dice = (uint32_t)rand_u64();
	n->a.done = on_a;
	n->aaaa.done = on_aaaa;
	f->name[f->names++] = n;
}

/* All addresses of all names: only they tell whether we are among them. */
static void ask_addresses(struct mx_find *f)
{
	f->open = 2 * f->names;
	for (unsigned i = 0; i < f->names; i++) {
		struct dns_question q = {.name = f->name[i]->name, .type = DNS_A};

		resolver_ask(f->world->resolver, &f->name[i]->a, &q);
		q.type = DNS_AAAA;
		resolver_ask(f->world->resolver, &f->name[i]->aaaa, &q);
	}
}

/* The record's place among those kept, or -1: all of those are better. */
static int place_of(const struct mx_find *f, uint16_t preference)
{
	unsigned worst = 0;

	if (f->names < MX_NAMES_MAX)
		return (int)f->names;
	for (unsigned i = 1; i < f->names; i++)
		if (f->name[i]->preference > f->name[worst]->preference)
			worst = i;
	return f->name[worst]->preference > preference ? (int)worst : -1;
}

static void keep_exchanger(struct mx_find *f, const struct dns_record *rec)
{
	int at = place_of(f, rec->preference);

	if (at < 0 || dns_name_is_root(&rec->name))
		return;
	if ((unsigned)at < f->names) {
		f->name[at]->name = rec->name;
		f->name[at]->preference = rec->preference;
		return;
	}
	add_name(f, &rec->name, rec->preference);
}

static void on_mx(struct dns_op *op)
{
	struct mx_find   *f = owner_of(op, struct mx_find, mx);
	struct dns_record rec;
	unsigned          at = 0;

	if (op->status == DNS_LATER) {
		end(f, MX_LATER);
		return;
	}
	f->has_mx = op->status == DNS_FOUND;
	while (dns_answer_next(op->answer, &at, &rec))
		keep_exchanger(f, &rec);
	if (f->has_mx && f->names == 0) {
		end(f, MX_NULL);
		return;
	}
	if (!f->has_mx && op->status == DNS_NOWHERE) {
		end(f, MX_NO_HOST);
		return;
	}
	if (!f->has_mx)
		add_name(f, &f->question.name, 0);
	ask_addresses(f);
}

static bool parse_address(struct span host, struct ip *ret)
{
	if (addr_literal(host, ret))
		return true;
	return ip_parse(host, ret) && ret->family == 4;
}

/* A relay's address may stand with or without brackets. */
static bool parse_relay(struct span host, struct ip *ret)
{
	if (host.n > 1 && host.p[0] == '[' && host.p[host.n - 1] == ']')
		host = span_of(host.p + 1, host.n - 2);
	return ip_parse(host, ret);
}

static void use_address(struct mx_find *f, const struct ip *ip)
{
	f->list = list_new(1);
	f->list->host[f->list->n++] = host_of(f, ip, NULL);
	if (f->via == MX_VIA_DNS)
		f->list->n = mx_cut_ours(f->list->host, f->list->n, f->world->own);
	end_soon(f, f->list->n > 0 ? MX_FOUND : MX_OURS);
}

void mx_find(struct mx_find *f, const struct mx_world *w, struct loop *l, struct span domain,
	     void (*found)(struct mx_find *))
{
	struct route route = {.port = 0};
	struct ip    ip;

	*f = (struct mx_find){.world = w, .loop = l, .found = found};
	deferred_init(&f->soon, tell);
	f->mx.done = on_mx;
	f->via = mx_route(w, domain, &route);
	f->port = route.port;

	struct span host = f->via == MX_VIA_DNS ? domain : route.host;
	if (f->via == MX_VIA_DNS ? parse_address(host, &ip) : parse_relay(host, &ip)) {
		use_address(f, &ip);
	} else if (!dns_name_parse(host, &f->question.name)) {
		end_soon(f, MX_NO_HOST);
	} else if (f->via != MX_VIA_DNS) {
		add_name(f, &f->question.name, 0);
		ask_addresses(f);
	} else {
		f->question.type = DNS_MX;
		resolver_ask(w->resolver, &f->mx, &f->question);
	}
}

void mx_cancel(struct mx_find *f)
{
	if (!f->world)
		return;
	deferred_cancel(&f->soon);
	resolver_cancel(f->world->resolver, &f->mx);
	for (unsigned i = 0; i < f->names; i++) {
		resolver_cancel(f->world->resolver, &f->name[i]->a);
		resolver_cancel(f->world->resolver, &f->name[i]->aaaa);
		mem_free(f->name[i]);
	}
	f->names = 0;
	mem_free(f->list);
	f->list = NULL;
	f->world = NULL;
}
