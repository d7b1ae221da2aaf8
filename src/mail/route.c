/* route - see the header.  rewrite() runs once for each recipient that is loaded, a million
 * times for a large list; its tables answer in one or two look-ups where virtualdomains is
 * empty. */
#include "mail/route.h"

#include "core/pool.h"
#include "mail/suffix.h"

struct rewriter {
	struct control_set *locals, *virtuals, *percenthack;
	struct buf          envnoathost;
};

#define ENVNOATHOST_MAX 1000                      /* a domain has 253 (RFC 1035 2.3.4) */

struct rewriter *rewriter_new(const struct control *c)
{
	struct rewriter *r = mem_new(sizeof *r);

	r->locals = control_set_new(c, "locals", true);
	r->virtuals = control_map_new(c, "virtualdomains");
	r->percenthack = control_set_new(c, "percenthack", false);
	buf_init(&r->envnoathost, ENVNOATHOST_MAX);
	if (!buf_add(&r->envnoathost,
		     span_until(control_setting_line(c, "envnoathost"), ENVNOATHOST_MAX)))
		unreachable();
	return r;
}

void rewriter_free(struct rewriter *r)
{
	if (!r)
		return;
	control_set_free(r->locals);
	control_set_free(r->virtuals);
	control_set_free(r->percenthack);
	buf_free(&r->envnoathost);
	mem_free(r);
}

static bool add_host(const struct rewriter *r, struct span addr, struct buf *b)
{
	return buf_add(b, addr) && buf_add_byte(b, '@') &&
	       buf_add(b, buf_span(&r->envnoathost));
}

/* "a%b@here" becomes "a@b" while "here" is in percenthack.  Each turn shortens the address. */
static bool hack_percents(const struct rewriter *r, struct span *addr, struct buf *b)
{
	struct span a = *addr;

	while (control_set_has(r->percenthack, addr_domain(a))) {
		struct span local = addr_local(a);
		size_t percent = span_rfind(local, '%');

		if (percent == SPAN_NPOS)
			break;
		if (a.p != b->p) {
			buf_clear(b);
			if (!buf_add(b, local))
				return false;
			a.p = b->p;
		}
		b->p[percent] = '@';
		b->n = a.n = local.n;
	}
	*addr = a;
	return true;
}

/* The keys by domain: itself, its suffixes, the empty one. */
static bool virtual_of_domain(const struct rewriter *r, struct span domain, struct span *ret)
{
	struct span key = domain;

	do {
		if (control_map_get(r->virtuals, key, ret))
			return true;
	} while (suffix_next(&key));
	return control_map_get(r->virtuals, SPAN_NONE, ret);
}

static bool prepend(struct span prefix, struct span addr, struct buf *b)
{
	char *at;

	if (addr.p != b->p)
		buf_clear(b);
	size_t n = addr.p == b->p ? addr.n : 0;
	if (n == 0)
		return buf_add(b, prefix) && buf_add_byte(b, '-') && buf_add(b, addr);

	at = buf_room(b, prefix.n + 1);
	if (!at)
		return false;
	for (size_t i = n; i-- > 0;)
		b->p[i + prefix.n + 1] = b->p[i];
	for (size_t i = 0; i < prefix.n; i++)
		b->p[i] = prefix.p[i];
	b->p[prefix.n] = '-';
	b->n = n + prefix.n + 1;
	return true;
}

static enum channel route(const struct rewriter *r, struct span addr, struct buf *b,
			  struct span *ret)
{
	struct span prefix;

	*ret = addr;
	if (!addr_has_at(addr)) {
		if (!add_host(r, addr, b))
			return CHANNEL_REMOTE;
		*ret = buf_span(b);
	}
	if (!hack_percents(r, ret, b))
		return CHANNEL_REMOTE;
	if (control_set_has(r->locals, addr_domain(*ret)))
		return CHANNEL_LOCAL;
	if (control_set_size(r->virtuals) == 0)
		return CHANNEL_REMOTE;
	if (!control_map_get(r->virtuals, *ret, &prefix) &&
	    !virtual_of_domain(r, addr_domain(*ret), &prefix))
		return CHANNEL_REMOTE;
	if (prefix.n == 0 || !prepend(prefix, *ret, b))
		return CHANNEL_REMOTE;
	*ret = buf_span(b);
	return CHANNEL_LOCAL;
}

enum channel rewrite(const struct rewriter *r, struct span addr, struct buf *b,
		     struct span *ret_addr)
{
	buf_clear(b);
	return route(r, addr, b, ret_addr);
}

struct span rewriter_strip(const struct rewriter *r, struct span addr)
{
	struct span prefix, rest = addr;

	if (!addr_has_at(addr) || !virtual_of_domain(r, addr_domain(addr), &prefix))
		return addr;
	if (prefix.n == 0 || !span_skip(&rest, prefix) || !span_skip(&rest, SPAN("-")))
		return addr;
	return rest;
}

struct routes {
	struct control_set *map;
	uint16_t            default_port;
};

struct routes *routes_new(const struct control *c, const char *file, uint16_t default_port)
{
	struct routes *r = mem_new(sizeof *r);

	r->map = control_map_new(c, file);
	r->default_port = default_port;
	return r;
}

void routes_free(struct routes *r)
{
	if (!r)
		return;
	control_set_free(r->map);
	mem_free(r);
}

bool route_parse(struct span value, uint16_t default_port, struct route *ret)
{
	size_t bracket = value.n > 0 && value.p[0] == '[' ? span_find(value, ']') : 0;
	size_t from = bracket == SPAN_NPOS ? 0 : bracket;
	size_t colon = span_find(span_from(value, from), ':');
	uint64_t port = default_port;
	bool good = true;

	if (colon != SPAN_NPOS) {
		colon += from;
		good = span_u64(span_from(value, colon + 1), UINT16_MAX, &port) && port > 0;
		if (!good)
			port = default_port;
	}
	ret->host = span_until(value, colon);
	ret->port = (uint16_t)port;
	return good;
}

bool routes_find(const struct routes *r, struct span domain, struct route *ret)
{
	struct span key = domain, value;

	do {
		if (control_map_get(r->map, key, &value)) {
			route_parse(value, r->default_port, ret);
			return true;
		}
	} while (suffix_next(&key));
	if (!control_map_get(r->map, SPAN_NONE, &value))
		return false;
	route_parse(value, r->default_port, ret);
	return true;
}
