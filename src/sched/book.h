/* book - the messages by id: one pointer a slot, for the key is in the message.
 *
 * core/table.h's map keeps key and value; with millions of messages the difference is a tenth
 * of all memory.  Open addressing, at most three quarters full; a removal closes the gap, so
 * nothing is ever dead. */
#ifndef SCHED_BOOK_H
#define SCHED_BOOK_H

#include "core/check.h"

#include <stdint.h>

struct message;
struct book {
	struct message **slots;
	size_t           n, cap;
	uint64_t         seed;
};

void            book_init(struct book *b);
void            book_fini(struct book *b);
struct message *book_get(const struct book *b, uint64_t id);
void            book_put(struct book *b, struct message *m);  /* its id must not be in it yet */
void            book_remove(struct book *b, struct message *m);
/* Room for n more: it need not grow while they come */
void            book_reserve(struct book *b, size_t n);
/* Iterate: *at = 0 first, NULL ends.  If what was returned is removed, *at must be counted
 * down by one: another may have taken its slot. */
struct message *book_next(const struct book *b, size_t *at);

#endif
