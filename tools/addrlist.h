/* addrlist - the addresses of a To line, and addresses made whole.  RFC 5322 3.4 and 4.4.
 *
 * Taken: mailboxes with and without angle brackets, groups, source routes, comments (nested),
 * quoted strings, domain literals, folded lines, any bytes of 8 bits; between two words a comma
 * may be missing (docs/qmail.md 3.14); a stray dot or at sign at the end of an address is not
 * of it.  Addresses come out as the envelope has them: no quotes, no backslashes, no comments,
 * and never with NUL, CR or LF.  "<>" names nobody. */
#ifndef TOOLS_ADDRLIST_H
#define TOOLS_ADDRLIST_H

#include "core/buf.h"

#define ADDRLIST_TEXT_MAX (4 * 1024 * 1024)       /* unquoted bytes of one field */

struct mailbox {
	struct span local, domain;
	bool        has_at;
};
typedef void mailbox_take(void *ctx, const struct mailbox *m);

/* false: this is no address list; what came before the fault has been given. */
bool addrlist_parse(struct span text, mailbox_take *take, void *ctx) must_use;
/* An address of a command line: raw bytes, split at the last '@'; "<" and ">" around it go. */
struct mailbox mailbox_of_argument(struct span arg);

struct rewrite {
	struct span host;                         /* for addresses without '@' */
	struct span domain;                       /* for domains without a dot */
	struct span plus;                         /* for a domain that ends in '+' */
};
/* docs/qmail.md 3.13: the address, made whole.  false: b is full. */
bool rewrite_mailbox(const struct rewrite *rw, const struct mailbox *m, struct buf *b) must_use;

#endif
