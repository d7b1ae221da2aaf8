/* own - see the header. */
#include "remote/own.h"

#include "core/check.h"
#include "core/clock.h"
#include "core/pool.h"

#include <ifaddrs.h>
#include <string.h>

static bool is_unspecified(const struct ip *ip)
{
	static const uint8_t zeros[16];

	return ip->family == 0 || memcmp(ip->b, zeros, ip->family == 4 ? 4 : 16) == 0;
}

static void add_bound(void *ctx, struct span entry, unsigned line)
{
	struct own *o = ctx;
	struct ip   ip;
	uint16_t    port;

	if (!ip_parse_port(entry, 25, &ip, &port))
		return;                           /* start has refused such a file */
	if (!is_unspecified(&ip)) {
		if (o->bound_n < OWN_MAX)
			o->bound[o->bound_n++] = ip;
		return;
	}
	o->all_v4 = o->all_v4 || ip.family != 6;
	o->all_v6 = o->all_v6 || ip.family != 4;
}

void own_init(struct own *o, const struct control *c)
{
	*o = (struct own){.bound = mem_new(OWN_MAX * sizeof(struct ip))};
	control_list(c, "smtplisten", add_bound, o);
	control_list(c, "qmtplisten", add_bound, o);
}

void own_fini(struct own *o)
{
	mem_free(o->bound);
	mem_free(o->interfaces);
	*o = (struct own){0};
}

static void look_at_interfaces(struct own *o)
{
	struct ifaddrs *all = NULL;
	unsigned        n = 0;

	if (o->interfaces && clock_mono_ms() - o->looked_ms < OWN_KEEP_MS)
		return;
	o->looked_ms = clock_mono_ms();
	if (getifaddrs(&all) < 0)
		return;                           /* those of last time are better than none */
	for (struct ifaddrs *i = all; i; i = i->ifa_next)
		n++;
	mem_free(o->interfaces);
	o->interfaces = mem_new((n + 1) * sizeof(struct ip));
	o->interfaces_n = 0;
	for (struct ifaddrs *i = all; i; i = i->ifa_next) {
		uint16_t port;

		if (i->ifa_addr
		    && (i->ifa_addr->sa_family == AF_INET
			|| i->ifa_addr->sa_family == AF_INET6))
			o->interfaces[o->interfaces_n++] =
				ip_of_sockaddr((const union sockany *)i->ifa_addr, &port);
	}
	freeifaddrs(all);
}

/* A scope says by which interface an address is reached, not whose it is. */
static bool has(const struct ip *list, unsigned n, const struct ip *ip)
{
	struct ip plain = *ip;

	plain.scope = 0;
	for (unsigned i = 0; i < n; i++) {
		struct ip other = list[i];

		other.scope = 0;
		if (ip_eq(&other, &plain))
			return true;
	}
	return false;
}

bool own_has(struct own *o, const struct ip *ip)
{
	bool all = ip->family == 4 ? o->all_v4 : o->all_v6;

	if (is_unspecified(ip) || has(o->bound, o->bound_n, ip))
		return true;
	if (!all)
		return false;
	if (ip->family == 4 && ip->b[0] == 127)
		return true;
	look_at_interfaces(o);
	return has(o->interfaces, o->interfaces_n, ip);
}
