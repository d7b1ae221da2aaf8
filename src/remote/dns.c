/* dns - see the header.
 *
 * What is believed of an answer: the answer section, followed from the name that was asked for
 * through its CNAMEs.  Additional records are not used (docs/qmail.md 9.3), nor is anything
 * else that was not asked for. */
#include "remote/dns.h"

#include <ldns/ldns.h>
#include <stdlib.h>
#include <string.h>

#define LABEL_MAX 63                              /* RFC 1035 2.3.4 */

/* ---- names -------------------------------------------------------------------------------- */

bool dns_name_parse(struct span text, struct dns_name *ret)
{
	struct dns_name name = {0};

	if (span_ends(text, SPAN(".")))
		text.n--;
	while (text.n > 0) {
		struct span label = span_cut(&text, span_find(text, '.'));

		if (label.n == 0 || label.n > LABEL_MAX
		    || name.n + 1 + label.n + 1 > DNS_NAME_MAX)
			return false;
		if (text.n == 1)                  /* a dot with nothing behind it: there were two */
			return false;
		span_cut(&text, 1);
		name.wire[name.n++] = (uint8_t)label.n;
		for (size_t i = 0; i < label.n; i++)
			name.wire[name.n++] = (uint8_t)span_lower(label.p[i]);
	}
	if (name.n == 0)                          /* "" and "." are no host */
		return false;
	name.wire[name.n++] = 0;
	*ret = name;
	return true;
}

struct span dns_name_text(const struct dns_name *name, char *dst, size_t cap)
{
	size_t n = 0;

	for (unsigned at = 0; at < name->n && name->wire[at] > 0; at += 1u + name->wire[at]) {
		struct span label = span_of(name->wire + at + 1, name->wire[at]);

		if (n + label.n + 1 > cap)
			break;
		if (n > 0)
			dst[n++] = '.';
		memcpy(dst + n, label.p, label.n);
		n += label.n;
	}
	return span_of(dst, n);
}

bool dns_name_eq(const struct dns_name *a, const struct dns_name *b)
{
	return a->n == b->n && memcmp(a->wire, b->wire, a->n) == 0;
}

bool dns_name_is_root(const struct dns_name *name)
{
	return name->n == 1;
}

static bool name_of_rdf(const ldns_rdf *rdf, struct dns_name *ret)
{
	size_t n = rdf ? ldns_rdf_size(rdf) : 0;

	if (n == 0 || n > DNS_NAME_MAX)
		return false;
	ret->n = (uint8_t)n;
	/* Lengths are below 64 and so are no letters: all bytes may be folded. */
	for (size_t i = 0; i < n; i++)
		ret->wire[i] = (uint8_t)span_lower((char)ldns_rdf_data(rdf)[i]);
	return true;
}

/* ---- the question ------------------------------------------------------------------------- */

size_t dns_build(const struct dns_question *q, uint16_t id, bool edns,
		 uint8_t dst[static DNS_QUERY_MAX])
{
	ldns_rdf *name = ldns_rdf_new_frm_data(LDNS_RDF_TYPE_DNAME, q->name.n, q->name.wire);
	ldns_pkt *pkt = name ? ldns_pkt_query_new(name, (ldns_rr_type)q->type, LDNS_RR_CLASS_IN,
						  LDNS_RD)
			     : NULL;
	uint8_t  *wire = NULL;
	size_t    n = 0;

	if (!pkt) {
		ldns_rdf_deep_free(name);
		return 0;
	}
	ldns_pkt_set_id(pkt, id);
	if (edns)
		ldns_pkt_set_edns_udp_size(pkt, DNS_EDNS_SIZE);
	if (ldns_pkt2wire(&wire, pkt, &n) != LDNS_STATUS_OK || n > DNS_QUERY_MAX)
		n = 0;
	if (n > 0)
		memcpy(dst, wire, n);
	free(wire);
	ldns_pkt_free(pkt);
	return n;
}

/* ---- the answer --------------------------------------------------------------------------- */

static bool answers_question(const ldns_pkt *pkt, const struct dns_question *q, int32_t id)
{
	const ldns_rr_list *qs = ldns_pkt_question(pkt);
	const ldns_rr      *rr = ldns_rr_list_rr_count(qs) == 1 ? ldns_rr_list_rr(qs, 0) : NULL;
	struct dns_name     name;

	if (!ldns_pkt_qr(pkt) || ldns_pkt_get_opcode(pkt) != LDNS_PACKET_QUERY)
		return false;
	if (id >= 0 && ldns_pkt_id(pkt) != (uint16_t)id)
		return false;
	return rr && ldns_rr_get_type(rr) == (ldns_rr_type)q->type
	       && ldns_rr_get_class(rr) == LDNS_RR_CLASS_IN
	       && name_of_rdf(ldns_rr_owner(rr), &name) && dns_name_eq(&name, &q->name);
}

static void lower_ttl(struct dns_reply *ret, uint32_t ttl)
{
	if (ttl > INT32_MAX)                      /* RFC 2181 8: taken as 0 */
		ttl = 0;
	if (ttl < ret->ttl)
		ret->ttl = ttl;
}

static bool rr_is(const ldns_rr *rr, const struct dns_name *owner, ldns_rr_type type)
{
	struct dns_name name;

	return ldns_rr_get_type(rr) == type && ldns_rr_get_class(rr) == LDNS_RR_CLASS_IN
	       && name_of_rdf(ldns_rr_owner(rr), &name) && dns_name_eq(&name, owner);
}

/* The end of the chain of aliases that begins at *name; false: too long, or a circle. */
static bool follow_aliases(const ldns_rr_list *answer, struct dns_name *name,
			   struct dns_reply *ret)
{
	size_t n = ldns_rr_list_rr_count(answer);

	for (size_t i = 0; i < n;) {
		const ldns_rr *rr = ldns_rr_list_rr(answer, i);

		if (!rr_is(rr, name, LDNS_RR_TYPE_CNAME)) {
			i++;
			continue;
		}
		if (++ret->aliases > DNS_CHAIN_MAX || !name_of_rdf(ldns_rr_rdf(rr, 0), name))
			return false;
		lower_ttl(ret, ldns_rr_ttl(rr));
		i = 0;                            /* aliases may stand in any order */
	}
	return true;
}

static bool take_address(const ldns_rdf *rdf, uint8_t family, struct ip *ret)
{
	size_t n = family == 4 ? 4 : 16;

	if (!rdf || ldns_rdf_size(rdf) != n)
		return false;
	*ret = (struct ip){.family = family};
	memcpy(ret->b, ldns_rdf_data(rdf), n);
	return true;
}

static bool take_record(const ldns_rr *rr, uint16_t type, struct dns_record *ret)
{
	const ldns_rdf *first = ldns_rr_rdf(rr, 0);

	*ret = (struct dns_record){0};
	if (type == DNS_A)
		return take_address(first, 4, &ret->ip);
	if (type == DNS_AAAA)
		return take_address(first, 6, &ret->ip);
	if (!first || ldns_rdf_get_type(first) != LDNS_RDF_TYPE_INT16)
		return false;
	ret->preference = ldns_rdf2native_int16(first);
	return name_of_rdf(ldns_rr_rdf(rr, 1), &ret->name);
}

static void take_records(const ldns_rr_list *answer, const struct dns_name *owner,
			 uint16_t type, struct dns_reply *ret)
{
	size_t n = ldns_rr_list_rr_count(answer);

	for (size_t i = 0; i < n && ret->n < DNS_RECORDS_MAX; i++) {
		const ldns_rr *rr = ldns_rr_list_rr(answer, i);

		if (!rr_is(rr, owner, (ldns_rr_type)type)
		    || !take_record(rr, type, &ret->record[ret->n]))
			continue;
		ret->n++;
		lower_ttl(ret, ldns_rr_ttl(rr));
	}
}

/* RFC 2308 5: the lesser of the SOA's own TTL and its minimum.  True: there was one. */
static bool take_negative_ttl(const ldns_pkt *pkt, struct dns_reply *ret)
{
	const ldns_rr_list *authority = ldns_pkt_authority(pkt);
	size_t              n = ldns_rr_list_rr_count(authority);

	for (size_t i = 0; i < n; i++) {
		const ldns_rr *rr = ldns_rr_list_rr(authority, i);

		if (ldns_rr_get_type(rr) != LDNS_RR_TYPE_SOA || !ldns_rr_rdf(rr, 6))
			continue;
		lower_ttl(ret, ldns_rr_ttl(rr));
		lower_ttl(ret, ldns_rdf2native_int32(ldns_rr_rdf(rr, 6)));
		return true;
	}
	return false;
}

/* Nothing said and others named: the server knows no more than whom to ask. */
static bool is_referral(const ldns_pkt *pkt)
{
	const ldns_rr_list *authority = ldns_pkt_authority(pkt);

	if (ldns_pkt_aa(pkt) || ldns_pkt_ancount(pkt) > 0
	    || ldns_rr_list_rr_count(authority) == 0)
		return false;
	return ldns_rr_get_type(ldns_rr_list_rr(authority, 0)) == LDNS_RR_TYPE_NS;
}

static enum dns_verdict read_sections(const ldns_pkt *pkt, const struct dns_question *q,
				      struct dns_reply *ret)
{
	struct dns_name end = q->name;

	if (!follow_aliases(ldns_pkt_answer(pkt), &end, ret))
		return DNS_SERVER_FAILED;
	take_records(ldns_pkt_answer(pkt), &end, q->type, ret);
	if (ret->n > 0)
		return DNS_OK;
	if (take_negative_ttl(pkt, ret))
		return ldns_pkt_get_rcode(pkt) == LDNS_RCODE_NXDOMAIN ? DNS_NO_NAME
								      : DNS_NO_DATA;
	if (ldns_pkt_get_rcode(pkt) == LDNS_RCODE_NXDOMAIN)
		return DNS_NO_NAME;
	if (ret->aliases > 0) {
		ret->target = end;
		return DNS_CHASE;
	}
	return is_referral(pkt) ? DNS_SERVER_FAILED : DNS_NO_DATA;
}

static enum dns_verdict read_packet(const ldns_pkt *pkt, const struct dns_question *q,
				    int32_t id, struct dns_reply *ret)
{
	if (!answers_question(pkt, q, id))
		return DNS_NOT_OURS;
	if (ldns_pkt_tc(pkt))
		return DNS_TRUNCATED;
	ldns_pkt_rcode rcode = ldns_pkt_get_rcode(pkt);

	if (rcode == LDNS_RCODE_NOERROR || rcode == LDNS_RCODE_NXDOMAIN)
		return read_sections(pkt, q, ret);
	return rcode == LDNS_RCODE_FORMERR || rcode == LDNS_RCODE_NOTIMPL ? DNS_NO_EDNS
									  : DNS_SERVER_FAILED;
}

/* A truncated packet may end within a record, where ldns refuses it: its head says enough. */
static bool head_is_ours(struct span p, int32_t id)
{
	const uint8_t *b = (const uint8_t *)p.p;

	return p.n >= 12 && (b[2] & 0x80) && (id < 0 || ((b[0] << 8) | b[1]) == id);
}

/* A FORMERR may come without the question (RFC 6891 7: servers that know no EDNS). */
static enum dns_verdict read_head(struct span p, int32_t id)
{
	const uint8_t *b = (const uint8_t *)p.p;
	uint8_t        rcode;

	if (!head_is_ours(p, id))
		return DNS_NOT_OURS;
	rcode = b[3] & 15;
	if (b[2] & 2)
		return DNS_TRUNCATED;
	return rcode == LDNS_RCODE_FORMERR || rcode == LDNS_RCODE_NOTIMPL ? DNS_NO_EDNS
									  : DNS_NOT_OURS;
}

enum dns_verdict dns_read(struct span packet, const struct dns_question *q, int32_t id,
			  struct dns_reply *ret)
{
	ldns_pkt        *pkt = NULL;
	enum dns_verdict v;

	ret->ttl = DNS_NO_TTL;
	ret->n = ret->aliases = 0;
	if (ldns_wire2pkt(&pkt, (const uint8_t *)packet.p, packet.n) != LDNS_STATUS_OK)
		return read_head(packet, id);
	v = ldns_pkt_qdcount(pkt) > 0 ? read_packet(pkt, q, id, ret) : read_head(packet, id);
	ldns_pkt_free(pkt);
	return v;
}
