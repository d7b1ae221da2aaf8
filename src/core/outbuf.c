/* Three kinds of chunk: SHARED ones of OUTBUF_CHUNK bytes that are filled bit by bit and go
 * back to the free list; BIG ones made for one copied span that would need many chunks; and
 * BORROWED ones, a head without bytes.  A chunk's bytes never move and are never written
 * again, so they may be in flight while more is said. */
#include "core/outbuf.h"

#include "core/pool.h"

#include <stdio.h>
#include <string.h>

#define OUTBUF_BIG  (2 * OUTBUF_CHUNK)            /* a span this long gets a chunk of its own */
#define CHUNKS_KEPT 256                           /* free ones kept, 1 MiB: a burst's worth */

enum chunk_kind { SHARED, BIG, BORROWED };

struct outchunk {
	struct outchunk *next;
	const char      *p;                       /* what is not sent yet */
	size_t           n;
	void           (*release)(void *ctx);
	void            *ctx;
	enum chunk_kind  kind;
	char             bytes[];
};

#define CHUNK_ROOM (OUTBUF_CHUNK - sizeof(struct outchunk))

static struct outchunk *spare;                    /* SHARED ones */
static unsigned         spare_n;

static struct outchunk *chunk_new(enum chunk_kind kind, size_t room)
{
	struct outchunk *c;

	if (kind == SHARED && spare) {
		c = spare;
		spare = c->next;
		spare_n--;
		c->next = NULL;
		c->n = 0;
	} else {
		c = mem_new(sizeof(*c) + room);
	}
	c->p = c->bytes;
	c->kind = kind;
	return c;
}

static void chunk_free(struct outchunk *c)
{
	if (c->kind == SHARED && spare_n < CHUNKS_KEPT) {
		c->next = spare;
		spare = c;
		spare_n++;
		return;
	}
	if (c->kind == BORROWED)
		c->release(c->ctx);
	mem_free(c);
}

void outbuf_init(struct outbuf *o)
{
	*o = (struct outbuf){0};
}

static struct outchunk *take_first(struct outbuf *o)
{
	struct outchunk *c = o->first;

	o->first = c->next;
	if (!o->first)
		o->last = NULL;
	o->n -= c->n;
	return c;
}

void outbuf_fini(struct outbuf *o)
{
	while (o->first)
		chunk_free(take_first(o));
	check(o->n == 0);
}

bool outbuf_full(const struct outbuf *o)
{
	return o->n >= OUTBUF_FULL;
}

static void append(struct outbuf *o, struct outchunk *c)
{
	c->next = NULL;
	if (o->last)
		o->last->next = c;
	else
		o->first = c;
	o->last = c;
	o->n += c->n;
}

/* Free bytes at the end of the last chunk, *ret of them; a new chunk if there are none. */
static char *room_at_end(struct outbuf *o, size_t *ret)
{
	struct outchunk *c = o->last;
	size_t           used;

	if (!c || c->kind != SHARED || (size_t)(c->p - c->bytes) + c->n == CHUNK_ROOM) {
		c = chunk_new(SHARED, CHUNK_ROOM);
		append(o, c);
	}
	used = (size_t)(c->p - c->bytes) + c->n;
	*ret = CHUNK_ROOM - used;
	return c->bytes + used;
}

static void took_room(struct outbuf *o, size_t n)
{
	o->last->n += n;
	o->n += n;
}

void out_span(struct outbuf *o, struct span s)
{
	if (s.n >= OUTBUF_BIG) {
		struct outchunk *c = chunk_new(BIG, s.n);

		memcpy(c->bytes, s.p, s.n);
		c->n = s.n;
		append(o, c);
		return;
	}
	while (s.n > 0) {
		size_t      room;
		char       *at = room_at_end(o, &room);
		struct span part = span_cut(&s, room);

		memcpy(at, part.p, part.n);
		took_room(o, part.n);
	}
}

void out_str(struct outbuf *o, const char *s)
{
	out_span(o, span_str(s));
}

void out_byte(struct outbuf *o, char c)
{
	out_span(o, span_of(&c, 1));
}

void out_vfmt(struct outbuf *o, const char *fmt, va_list ap)
{
	va_list again;
	char    small[512], *p = small;
	int     n;

	va_copy(again, ap);
	n = vsnprintf(small, sizeof(small), fmt, again);
	va_end(again);
	check(n >= 0);
	if ((size_t)n >= sizeof(small)) {
		p = mem_new((size_t)n + 1);
		check(vsnprintf(p, (size_t)n + 1, fmt, ap) == n);
	}
	out_span(o, span_of(p, (size_t)n));
	if (p != small)
		mem_free(p);
}

void out_fmt(struct outbuf *o, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	out_vfmt(o, fmt, ap);
	va_end(ap);
}

void out_borrow(struct outbuf *o, struct span s, void (*release)(void *ctx), void *ctx)
{
	struct outchunk *c = chunk_new(BORROWED, 0);

	c->p = s.p;
	c->n = s.n;
	c->release = release;
	c->ctx = ctx;
	append(o, c);
}

void out_move(struct outbuf *to, struct outbuf *from, size_t n)
{
	check(n <= from->n);
	while (from->first && from->first->n <= n) {
		struct outchunk *c = take_first(from);

		n -= c->n;
		append(to, c);
	}
	if (n > 0) {
		out_span(to, span_of(from->first->p, n));
		outbuf_sent(from, n);
	}
}

/* Empty chunks (a borrowed nothing, a shared one just begun) carry nothing and are left out. */
int outbuf_iov(const struct outbuf *o, struct iovec *v, int max)
{
	int n = 0;

	for (const struct outchunk *c = o->first; c && n < max; c = c->next)
		if (c->n > 0)
			v[n++] = (struct iovec){.iov_base = (void *)c->p, .iov_len = c->n};
	return n;
}

void outbuf_sent(struct outbuf *o, size_t n)
{
	check(n <= o->n);
	while (o->first && o->first->n <= n) {
		struct outchunk *c = take_first(o);

		n -= c->n;
		chunk_free(c);
	}
	if (n > 0) {
		o->first->p += n;
		o->first->n -= n;
		o->n -= n;
	}
}

size_t outbuf_copy(const struct outbuf *o, char *dst, size_t cap)
{
	size_t n = 0;

	for (const struct outchunk *c = o->first; c && n < cap; c = c->next) {
		size_t part = c->n < cap - n ? c->n : cap - n;

		if (part > 0)
			memcpy(dst + n, c->p, part);
		n += part;
	}
	return n;
}
