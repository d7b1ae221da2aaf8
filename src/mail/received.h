/* received - the trace lines that we write.  docs/qmail.md 4.1, 4.2; protocols: RFC 3848. */
#ifndef MAIL_RECEIVED_H
#define MAIL_RECEIVED_H

#include "core/buf.h"

#define RECEIVED_MAX 2048

struct received_from {
	struct span host, helo, info, ip, by;     /* helo, info: empty = not there */
	const char *protocol;                     /* "SMTP", "ESMTP", "QMTP", ... */
};
/* "Received: from h (HELO x) (info@ip)\n  by l with P; date\n".  wall: Unix seconds. */
bool received_network(struct buf *b, const struct received_from *f, uint64_t wall) must_use;
/* "Received: (qmail 123 invoked by uid 5); date\n"; who: "by uid 5", "by alias", "for bounce",
 * "from network". */
bool received_invoked(struct buf *b, uint64_t pid, const char *who, uint64_t wall) must_use;

#endif
