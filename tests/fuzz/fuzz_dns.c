/* Any packet as the answer to an MX, A or AAAA question: read, or refused, and nothing else. */
#include "core/check.h"
#include "remote/dns.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint16_t   types[] = {DNS_A, DNS_MX, DNS_AAAA};
	static struct dns_reply reply;
	struct dns_question     q;
	char                    text[DNS_NAME_MAX];

	check(dns_name_parse(SPAN("a.example"), &q.name));
	for (unsigned i = 0; i < 3; i++) {
		q.type = types[i];
		if (dns_read(span_of(data, size), &q, -1, &reply) != DNS_OK)
			continue;
		check(reply.n > 0 && reply.n <= DNS_RECORDS_MAX);
		for (unsigned k = 0; k < reply.n; k++) {
			if (q.type == DNS_MX)
				check(dns_name_text(&reply.record[k].name, text, sizeof(text)).n <= sizeof(text));
			else
				check(reply.record[k].ip.family == (q.type == DNS_A ? 4 : 6));
		}
	}
	return 0;
}
