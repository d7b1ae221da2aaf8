/* envelope - a list of recipients packed in one piece of memory: u16 length, bytes, again.
 * The same packing goes over the wire and into RCPT parts of the journal (native = little
 * endian). */
#ifndef MAIL_ENVELOPE_H
#define MAIL_ENVELOPE_H

#include "core/buf.h"

#define RCPT_PART_MAX (64 * 1024)                 /* packed bytes in one RCPT part */

struct envelope {
	char        sender[1024];
	uint16_t    sender_n;
	uint32_t    rcpts;
	struct buf  packed;
};
void envelope_init(struct envelope *e, size_t packed_max);
void envelope_fini(struct envelope *e);
void envelope_clear(struct envelope *e);          /* gives storage above one page back */
/* false: longer than ADDR_MAX */
bool envelope_sender(struct envelope *e, struct span s) must_use;
/* false: packed_max or ADDR_MAX */
bool envelope_add(struct envelope *e, struct span rcpt) must_use;

bool packed_add(struct buf *b, struct span addr) must_use;
/* false: end, or damage (then n > 0 left) */
bool packed_next(struct span *packed, struct span *ret);

#endif
