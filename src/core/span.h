/* span - some bytes of somebody else: two words, passed by value, no terminator.
 *
 * A span is borrowed; do not store one past the event unless a header says who keeps the
 * bytes.  All functions accept the empty span {NULL, 0}. */
#ifndef CORE_SPAN_H
#define CORE_SPAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct span {
	const char *p;
	size_t      n;
};

#define SPAN(literal) ((struct span){(literal), sizeof(literal) - 1})
#define SPAN_NONE     ((struct span){NULL, 0})
#define SPAN_ARG(s)   (int)(s).n, (s).p           /* for "%.*s" */
#define SPAN_NPOS     ((size_t)-1)

struct span span_of(const void *p, size_t n);
struct span span_str(const char *s);              /* of a C string; NULL gives the empty span */
bool        span_eq(struct span a, struct span b);
bool        span_ieq(struct span a, struct span b);            /* ASCII case folded */
bool        span_starts(struct span s, struct span prefix);
bool        span_istarts(struct span s, struct span prefix);
bool        span_ends(struct span s, struct span suffix);
size_t      span_find(struct span s, char c);     /* index of the first c, or SPAN_NPOS */
size_t      span_rfind(struct span s, char c);
struct span span_cut(struct span *s, size_t n);   /* takes min(n, s->n) bytes off the front */
struct span span_from(struct span s, size_t at);  /* s without its first min(at, n) bytes */
struct span span_until(struct span s, size_t n);  /* the first min(n, s.n) bytes */
/* true: prefix was there, is cut off */
bool        span_skip(struct span *s, struct span prefix);
bool        span_skip_i(struct span *s, struct span prefix);
/* cuts the word up to SP or the end, and the SPs after it */
struct span span_word(struct span *s);
/* without trailing bytes of set */
struct span span_trim_end(struct span s, const char *set);
struct span span_trim(struct span s);             /* without blanks (SP HT) at either end */
bool        span_has(struct span s, char c);
/* Decimal digits only, all of s, at least one, value <= max; else false and *ret untouched. */
bool        span_u64(struct span s, uint64_t max, uint64_t *ret);
/* Copies into dst (cap bytes, with the NUL) for a system call; false if too long or a NUL inside. */
bool        span_to_cstr(struct span s, char *dst, size_t cap);
char        span_lower(char c);                   /* ASCII only */
int         span_cmp(struct span a, struct span b);

/* How many bytes of s (not empty) begin a well-formed character of more than one byte (RFC 3629); 0: none. */
size_t      span_utf8(struct span s);

#endif
