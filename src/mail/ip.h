/* ip - an Internet address, v4 or v6, and lists of networks. */
#ifndef MAIL_IP_H
#define MAIL_IP_H

#include "core/span.h"

#include <netinet/in.h>
#include <sys/socket.h>

#define IP_TEXT_MAX 64                            /* [v6%scope]:port */

struct ip {
	uint8_t family;                           /* 4, 6; 0: none */
	uint8_t b[16];                            /* v4: the first four */
	uint32_t scope;                           /* v6 link-local only */
};
union sockany {
	struct sockaddr     any;
	struct sockaddr_in  v4;
	struct sockaddr_in6 v6;
};

bool        ip_parse(struct span s, struct ip *ret);            /* no brackets, no port */
const char *ip_text(const struct ip *ip, char dst[static IP_TEXT_MAX]); /* no brackets */
bool        ip_eq(const struct ip *a, const struct ip *b);      /* a mapped v4 equals its v4 */
/* Family 0 for what is neither IPv4 nor IPv6; a mapped v4 comes back as its v4. */
struct ip   ip_of_sockaddr(const union sockany *sa, uint16_t *ret_port);
/* Family 0 gives "::": all addresses, on a socket that is not IPV6_V6ONLY. */
socklen_t   ip_to_sockaddr(const struct ip *ip, uint16_t port, union sockany *ret);
/* "1.2.3.4:25", "[::1]:25", "1.2.3.4", "::1", ":25" (all addresses: family 0); default_port
 * without one. */
bool ip_parse_port(struct span s, uint16_t default_port, struct ip *ret, uint16_t *ret_port);
/* "10.0.0.0/8", "::1", "1.2.3.4". */
struct ip_net {
	struct ip ip;
	uint8_t   bits;
};
bool        ip_net_parse(struct span s, struct ip_net *ret);
bool        ip_net_has(const struct ip_net *net, const struct ip *ip);
bool        ip_in_net(const struct ip *ip, struct span net, bool *ret_valid);
bool        ip_is_loopback(const struct ip *ip);

#endif
