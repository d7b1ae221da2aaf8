/* ip - see the header.  One spelling inside: what the kernel reports as an IPv4 address mapped
 * into IPv6 is turned into its IPv4 address where it comes in, and compared as that. */
#include "mail/ip.h"

#include "core/check.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>

static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

static struct ip unmap(const struct ip *ip)
{
	struct ip v4 = {.family = 4};

	if (ip->family != 6 || memcmp(ip->b, mapped, sizeof mapped) != 0)
		return *ip;
	memcpy(v4.b, ip->b + 12, 4);
	return v4;
}

/* "%2" or "%eth0" behind a link-local address (RFC 4007 11). */
static bool parse_scope(struct span s, uint32_t *ret)
{
	char name[IF_NAMESIZE];
	uint64_t number;

	if (span_u64(s, UINT32_MAX, &number)) {
		*ret = (uint32_t)number;
		return number > 0;
	}
	if (!span_to_cstr(s, name, sizeof name))
		return false;
	*ret = if_nametoindex(name);
	return *ret != 0;
}

bool ip_parse(struct span s, struct ip *ret)
{
	struct ip ip = {0};
	char text[INET6_ADDRSTRLEN];
	size_t percent = span_find(s, '%');

	if (!span_to_cstr(span_until(s, percent), text, sizeof text))
		return false;
	if (percent == SPAN_NPOS && inet_pton(AF_INET, text, ip.b) == 1)
		ip.family = 4;
	else if (inet_pton(AF_INET6, text, ip.b) == 1)
		ip.family = 6;
	else
		return false;
	if (percent != SPAN_NPOS && !parse_scope(span_from(s, percent + 1), &ip.scope))
		return false;
	*ret = ip;
	return true;
}

const char *ip_text(const struct ip *ip, char dst[static IP_TEXT_MAX])
{
	dst[0] = '\0';
	if (ip->family == 0)
		return dst;
	if (!inet_ntop(ip->family == 4 ? AF_INET : AF_INET6, ip->b, dst, IP_TEXT_MAX))
		unreachable();
	size_t n = strlen(dst);
	if (ip->family == 6 && ip->scope != 0)
		snprintf(dst + n, IP_TEXT_MAX - n, "%%%u", ip->scope);
	return dst;
}

bool ip_eq(const struct ip *a, const struct ip *b)
{
	struct ip x = unmap(a), y = unmap(b);

	if (x.family != y.family)
		return false;
	return memcmp(x.b, y.b, x.family == 4 ? 4 : 16) == 0 && x.scope == y.scope;
}

struct ip ip_of_sockaddr(const union sockany *sa, uint16_t *ret_port)
{
	struct ip ip = {0};

	*ret_port = 0;
	if (sa->any.sa_family == AF_INET) {
		ip.family = 4;
		memcpy(ip.b, &sa->v4.sin_addr, 4);
		*ret_port = ntohs(sa->v4.sin_port);
	}
	if (sa->any.sa_family == AF_INET6) {
		ip.family = 6;
		memcpy(ip.b, &sa->v6.sin6_addr, 16);
		ip.scope = sa->v6.sin6_scope_id;
		*ret_port = ntohs(sa->v6.sin6_port);
	}
	return unmap(&ip);
}

socklen_t ip_to_sockaddr(const struct ip *ip, uint16_t port, union sockany *ret)
{
	memset(ret, 0, sizeof *ret);
	if (ip->family == 4) {
		ret->v4.sin_family = AF_INET;
		ret->v4.sin_port = htons(port);
		memcpy(&ret->v4.sin_addr, ip->b, 4);
		return sizeof ret->v4;
	}
	ret->v6.sin6_family = AF_INET6;           /* family 0 has zeroed bytes: "::" */
	ret->v6.sin6_port = htons(port);
	ret->v6.sin6_scope_id = ip->scope;
	memcpy(&ret->v6.sin6_addr, ip->b, 16);
	return sizeof ret->v6;
}

/* ":25", or nothing. */
static bool parse_port(struct span s, uint16_t default_port, uint16_t *ret)
{
	uint64_t port = default_port;

	if (s.n > 0 && (!span_skip(&s, SPAN(":")) || !span_u64(s, UINT16_MAX, &port)))
		return false;
	*ret = (uint16_t)port;
	return true;
}

bool ip_parse_port(struct span s, uint16_t default_port, struct ip *ret, uint16_t *ret_port)
{
	struct ip ip = {0};
	struct span port;

	if (s.n == 0)
		return false;
	if (s.p[0] == '[') {
		size_t end = span_find(s, ']');

		if (end == SPAN_NPOS || !ip_parse(span_of(s.p + 1, end - 1), &ip) ||
		    ip.family != 6)
			return false;
		port = span_from(s, end + 1);
	} else if (ip_parse(s, &ip)) {            /* first: "::1" has colons, too */
		port = SPAN_NONE;
	} else {
		size_t colon = span_find(s, ':');
		struct span host = span_until(s, colon);

		if (host.n > 0 && (!ip_parse(host, &ip) || ip.family != 4))
			return false;
		port = span_from(s, colon);
	}
	if (!parse_port(port, default_port, ret_port))
		return false;
	*ret = ip;
	return true;
}

bool ip_net_parse(struct span s, struct ip_net *ret)
{
	size_t slash = span_find(s, '/');
	struct ip_net net;
	uint64_t bits;

	if (!ip_parse(span_until(s, slash), &net.ip))
		return false;
	unsigned whole = net.ip.family == 4 ? 32 : 128;
	bits = whole;
	if (slash != SPAN_NPOS && !span_u64(span_from(s, slash + 1), whole, &bits))
		return false;
	net.bits = (uint8_t)bits;
	*ret = net;
	return true;
}

bool ip_net_has(const struct ip_net *net, const struct ip *ip)
{
	struct ip x = net->ip.family == 4 ? unmap(ip) : *ip;
	unsigned bytes = net->bits / 8, rest = net->bits % 8;

	if (x.family != net->ip.family)
		return false;
	if (memcmp(x.b, net->ip.b, bytes) != 0)
		return false;
	return rest == 0 || ((x.b[bytes] ^ net->ip.b[bytes]) >> (8 - rest)) == 0;
}

bool ip_in_net(const struct ip *ip, struct span net, bool *ret_valid)
{
	struct ip_net parsed;

	*ret_valid = ip_net_parse(net, &parsed);
	return *ret_valid && ip_net_has(&parsed, ip);
}

bool ip_is_loopback(const struct ip *ip)
{
	static const uint8_t one[16] = {[15] = 1};
	struct ip x = unmap(ip);

	return x.family == 4 ? x.b[0] == 127 : x.family == 6 && memcmp(x.b, one, 16) == 0;
}
