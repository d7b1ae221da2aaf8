#include "smtp/policy.h"

#include "core/log.h"
#include "smtp/replies.h"

#include <ifaddrs.h>
#include <string.h>

void policy_init(struct policy *p, const struct control *c, int morercpthosts_fd)
{
	*p = (struct policy){
		.me = control_me(c),
		.greeting = control_setting_line(c, "smtpgreeting"),
		.literal_host = control_setting_line(c, "localiphost"),
		.databytes = control_setting(c, "databytes"),
		.rcpts_max = control_setting(c, "maxrcpt"),
		.conns_max = control_setting(c, "concurrencyincoming"),
		.conns_ip_max = control_setting(c, "concurrencyperip"),
		.wait_ms = control_setting(c, "timeoutsmtpd") * 1000,
		.badmailfrom = control_set_new(c, "badmailfrom", false),
		.hosts = rcpthosts_new(c, morercpthosts_fd),
		.relays = relayclients_new(c),
	};
}

void policy_fini(struct policy *p)
{
	control_set_free(p->badmailfrom);
	rcpthosts_free(p->hosts);
	relayclients_free(p->relays);
	*p = (struct policy){0};
}

static void add_own(struct policy *p, const struct sockaddr *sa)
{
	union sockany any = {0};
	uint16_t      port;

	if (p->own_n == POLICY_OWN_MAX)
		return;
	if (sa->sa_family == AF_INET)
		memcpy(&any.v4, sa, sizeof(any.v4));
	else if (sa->sa_family == AF_INET6)
		memcpy(&any.v6, sa, sizeof(any.v6));
	else
		return;
	p->own[p->own_n++] = ip_of_sockaddr(&any, &port);
}

void policy_find_own(struct policy *p)
{
	struct ifaddrs *all;

	if (getifaddrs(&all) < 0) {
		log_note("odd", "can't list this host's addresses: [literals] stay as they are",
			 NULL);
		return;
	}
	for (const struct ifaddrs *i = all; i; i = i->ifa_next)
		if (i->ifa_addr)
			add_own(p, i->ifa_addr);
	freeifaddrs(all);
}

struct policy_peer policy_peer(const struct policy *p, const struct ip *ip,
			       const struct ip *local)
{
	struct policy_peer peer = {.ip = *ip, .local = *local};

	peer.relay = ip->family != 0 && relayclients_find(p->relays, ip, &peer.suffix);
	return peer;
}

/* Addresses are compared whole and as "@domain", case folded.  docs/qmail.md 5.9. */
bool policy_sender_is_bad(const struct policy *p, struct span sender)
{
	size_t at = span_rfind(sender, '@');

	if (sender.n == 0)
		return false;
	if (control_set_has(p->badmailfrom, sender))
		return true;
	return at != SPAN_NPOS && control_set_has(p->badmailfrom, span_from(sender, at));
}

static bool is_own(const struct policy *p, const struct policy_peer *peer, const struct ip *ip)
{
	static const uint8_t nowhere[16];

	if (memcmp(ip->b, nowhere, ip->family == 4 ? 4 : 16) == 0)
		return true; /* 0.0.0.0 and :: are this host (docs/qmail.md 5.8) */
	if (peer->local.family != 0 && ip_eq(ip, &peer->local))
		return true;
	for (unsigned i = 0; i < p->own_n; i++)
		if (ip_eq(ip, &p->own[i]))
			return true;
	return false;
}

bool policy_name_literal(const struct policy *p, const struct policy_peer *peer,
			 struct span *addr, char *dst, size_t cap)
{
	struct span domain = addr_domain(*addr), host = p->literal_host;
	struct ip   ip;
	size_t      box = addr->n - domain.n;     /* with its '@' */

	if (host.n == 0 || !addr_literal(domain, &ip) || !is_own(p, peer, &ip))
		return true;
	if (box + host.n > cap)
		return false;
	memcpy(dst + box, host.p, host.n);
	*addr = span_of(dst, box + host.n);
	return true;
}

const struct reply *policy_rcpt(const struct policy *p, const struct policy_peer *peer,
				struct span rcpt)
{
	if (peer->relay)
		return NULL;
	return rcpthosts_allow(p->hosts, rcpt) ? NULL : &reply_relay_denied;
}

const struct reply *policy_size(const struct policy *p, uint64_t size)
{
	return p->databytes > 0 && size > p->databytes ? &reply_too_large : NULL;
}
