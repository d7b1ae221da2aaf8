/* One byte more than cap is always allocated, so that formatting may write its NUL. */
#include "core/buf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BUF_FIRST 64                              /* the smallest storage worth taking */

void buf_init(struct buf *b, size_t max)
{
	*b = (struct buf){.max = max};
}

void buf_free(struct buf *b)
{
	free(b->p);
	*b = (struct buf){.max = b->max};
}

void buf_clear(struct buf *b)
{
	b->n = 0;
}

/* No memory is answered like a passed maximum: the caller has an answer for that. */
char *buf_room(struct buf *b, size_t n)
{
	size_t cap = b->cap;
	char  *p;

	check(b->n <= b->max);
	if (n > b->max - b->n)
		return NULL;
	if (b->p && n <= cap - b->n)
		return b->p + b->n;

	if (cap < BUF_FIRST)
		cap = BUF_FIRST;
	while (cap - b->n < n)
		cap = cap > b->max / 2 ? b->max : cap * 2;
	if (cap > b->max)
		cap = b->max;
	p = realloc(b->p, cap + 1);
	if (!p)
		return NULL;
	b->p = p;
	b->cap = cap;
	return b->p + b->n;
}

bool buf_add(struct buf *b, struct span s)
{
	char *at = buf_room(b, s.n);

	if (!at)
		return false;
	if (s.n > 0)
		memcpy(at, s.p, s.n);
	b->n += s.n;
	return true;
}

bool buf_add_byte(struct buf *b, char c)
{
	return buf_add(b, span_of(&c, 1));
}

bool buf_vfmt(struct buf *b, const char *fmt, va_list ap)
{
	va_list again;
	char   *at;
	int     n;

	va_copy(again, ap);
	n = vsnprintf(NULL, 0, fmt, again);
	va_end(again);
	if (n < 0)
		return false;
	at = buf_room(b, (size_t)n);
	if (!at)
		return false;
	check(vsnprintf(at, (size_t)n + 1, fmt, ap) == n);
	b->n += (size_t)n;
	return true;
}

bool buf_fmt(struct buf *b, const char *fmt, ...)
{
	va_list ap;
	bool    ok;

	va_start(ap, fmt);
	ok = buf_vfmt(b, fmt, ap);
	va_end(ap);
	return ok;
}

void buf_drop_front(struct buf *b, size_t n)
{
	check(n <= b->n);
	b->n -= n;
	if (b->n > 0)
		memmove(b->p, b->p + n, b->n);
}

struct span buf_span(const struct buf *b)
{
	return span_of(b->p, b->n);
}
