/* destinations - what an administrator allows a destination: control/destinations.
 *
 * domain:connections:rate:recipients, keys as in smtproutes (the domain, each .suffix, the
 * empty key).  connections: deliveries at once; rate: deliveries begun a second, with up to
 * three digits behind a point; recipients: of one delivery.  An empty or missing field says
 * nothing. */
#ifndef MAIL_DESTINATIONS_H
#define MAIL_DESTINATIONS_H

#include "mail/control.h"

#define DEST_CONNECTIONS_MAX 65535
#define DEST_RATE_MAX        1000000 /* a second: the clock counts microseconds */
#define DEST_RECIPIENTS_MAX  100     /* RFC 5321 4.5.3.1.8 */

struct destination_limits {   /* 0: none */
	uint64_t interval_us; /* from one delivery's beginning to the next's */
	uint32_t connections, recipients;
};
/* "connections:rate:recipients"; false: nonsense */
bool destination_parse(struct span value, struct destination_limits *ret) must_use;

struct destinations;
struct destinations *destinations_new(const struct control *c);
void destinations_free(struct destinations *d);
/* What is nonsense counts as no limit; start refuses it. */
struct destination_limits destinations_find(const struct destinations *d, struct span domain);

#endif
