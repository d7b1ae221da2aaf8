/* netstring - "12:hello world!," taken apart as the bytes come (no I/O, no copy).
 *
 * Strict: at most NETSTRING_DIGITS digits, no leading zero unless lenient, and the comma. */
#ifndef MAIL_NETSTRING_H
#define MAIL_NETSTRING_H

#include "core/buf.h"
#include "core/outbuf.h"

#define NETSTRING_DIGITS 10

struct netstring {
	uint64_t left;                            /* content bytes still to come */
	uint64_t max;                             /* longest content allowed */
	uint8_t  digits, phase;
	bool     lenient;                         /* leading zeros pass (docs/qmail.md 6.4) */
};
enum netstring_event { NETSTRING_MORE, NETSTRING_LENGTH /* head complete, ->left known */,
                       NETSTRING_BYTES /* *ret: some content */, NETSTRING_END /* comma seen */,
                       NETSTRING_LONG, NETSTRING_BAD };

void netstring_init(struct netstring *ns, uint64_t max, bool lenient);
enum netstring_event netstring_take(struct netstring *ns, struct span *in, struct span *ret);
void netstring_put(struct outbuf *o, struct span s);
bool netstring_add(struct buf *b, struct span s) must_use;

#endif
