/* dns - DNS packets: one question out, one answer in.  The one module that knows ldns.
 *
 * Names are used as they are given (docs/qmail.md 9.7): labels are the bytes between the dots,
 * no escapes; a trailing dot is allowed.  Inside, a name is its wire form in lower case, so
 * that two names are the same if their bytes are.  Nothing here waits or remembers: see
 * resolver.h. */
#ifndef REMOTE_DNS_H
#define REMOTE_DNS_H

#include "core/buf.h"
#include "mail/ip.h"

#define DNS_NAME_MAX    255                       /* RFC 1035 2.3.4 */
#define DNS_QUERY_MAX   512                       /* a question is far smaller */
#define DNS_EDNS_SIZE   1232                      /* fits every path unfragmented */
/* taken of one answer; nobody needs more exchangers */
#define DNS_RECORDS_MAX 64
#define DNS_CHAIN_MAX   10                        /* CNAMEs followed, docs/qmail.md 9.7 */

enum dns_type { DNS_A = 1, DNS_MX = 15, DNS_AAAA = 28 };

struct dns_name {
	uint8_t n;                                /* of wire bytes, the root's 0 included */
	uint8_t wire[DNS_NAME_MAX];
};
bool        dns_name_parse(struct span text, struct dns_name *ret); /* false: can't be a name */
/* for people: no escapes */
struct span dns_name_text(const struct dns_name *name, char *dst, size_t cap);
bool        dns_name_eq(const struct dns_name *a, const struct dns_name *b);
bool        dns_name_is_root(const struct dns_name *name);

struct dns_question {
	struct dns_name name;
	uint16_t        type;                     /* enum dns_type */
};
/* Recursion desired.  Returns the bytes written; 0 where it could not be built. */
size_t dns_build(const struct dns_question *q, uint16_t id, bool edns,
		uint8_t dst[static DNS_QUERY_MAX]);

enum dns_verdict {
	DNS_OK,                                   /* records, at least one */
	/* the name is there, with nothing of this type */
	DNS_NO_DATA,
	DNS_NO_NAME,                              /* NXDOMAIN */
	/* an alias whose end is not in this answer: ask for `target` */
	DNS_CHASE,
	DNS_TRUNCATED,                            /* ask again by TCP */
	/* FORMERR or NOTIMP: ask again without EDNS */
	DNS_NO_EDNS,
	/* SERVFAIL, REFUSED, a referral, nonsense: ask another server */
	DNS_SERVER_FAILED,
	/* no answer to this question: go on waiting */
	DNS_NOT_OURS
};
struct dns_record {
	uint16_t        preference;               /* MX */
	struct ip       ip;                       /* A, AAAA */
	struct dns_name name;                     /* MX */
};
struct dns_reply {
	uint32_t          ttl;                    /* of what is said, good or bad; seconds */
	unsigned          n, aliases;             /* records; CNAMEs passed on the way */
	struct dns_name   target;                 /* DNS_CHASE */
	struct dns_record record[DNS_RECORDS_MAX];
};
#define DNS_NO_TTL UINT32_MAX                     /* a negative answer without SOA */
/* id: of the query; negative: any (TCP and the fuzzer check it, too). */
enum dns_verdict dns_read(struct span packet, const struct dns_question *q, int32_t id,
		struct dns_reply *ret);

#endif
