/* params - what may follow the path in MAIL: SP keyword ["=" value], again and again.
 *
 * RFC 5321 4.1.2 (esmtp-param); RFC 1870 SIZE; RFC 6152 BODY.  A keyword that EHLO does not
 * offer is refused, so that no client believes we honoured it. */
#ifndef SMTP_PARAMS_H
#define SMTP_PARAMS_H

#include "core/span.h"
#include "mail/reply.h"

enum params_body { PARAMS_BODY_NONE, PARAMS_BODY_7BIT, PARAMS_BODY_8BITMIME };
struct params {
	bool             has_size;
	uint64_t         size;                    /* what the client declares */
	enum params_body body;
};

/* NULL, or why not.  text: all that stands behind the path. */
const struct reply *params_parse(struct span text, struct params *ret);

#endif
