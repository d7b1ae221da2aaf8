/* buf - bytes that grow, up to a named maximum.
 *
 * The owner calls buf_init() once with the maximum and buf_free() at the end; buf_clear()
 * keeps the storage.  Every adding function returns false, and adds nothing, where the
 * maximum would be passed.  Storage grows by doubling and comes from malloc, here only. */
#ifndef CORE_BUF_H
#define CORE_BUF_H

#include "core/check.h"
#include "core/span.h"

#include <stdarg.h>

struct buf {
	char  *p;
	size_t n, cap, max;
};

void        buf_init(struct buf *b, size_t max);
/* fine on a zeroed one; leaves it empty, max kept */
void        buf_free(struct buf *b);
void        buf_clear(struct buf *b);
bool        buf_add(struct buf *b, struct span s) must_use;
bool        buf_add_byte(struct buf *b, char c) must_use;
bool        buf_fmt(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2,
		3))) must_use;
bool        buf_vfmt(struct buf *b, const char *fmt, va_list ap) must_use;
/* Room for n more bytes, not yet counted in b->n: write there, then b->n += used. NULL: max. */
char       *buf_room(struct buf *b, size_t n) must_use;
void        buf_drop_front(struct buf *b, size_t n);
struct span buf_span(const struct buf *b);

#endif
