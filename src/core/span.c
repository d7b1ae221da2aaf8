#include "core/span.h"

#include "core/check.h"

#include <string.h>

struct span span_of(const void *p, size_t n)
{
	return (struct span){p, n};
}

struct span span_str(const char *s)
{
	return s ? (struct span){s, strlen(s)} : SPAN_NONE;
}

char span_lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c + ('a' - 'A')) : c;
}

/* memcmp and memchr may not be given NULL, not even for no bytes; hence the tests of n. */
static bool same(const char *a, const char *b, size_t n)
{
	return n == 0 || memcmp(a, b, n) == 0;
}

static bool same_folded(const char *a, const char *b, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (span_lower(a[i]) != span_lower(b[i]))
			return false;
	return true;
}

bool span_eq(struct span a, struct span b)
{
	return a.n == b.n && same(a.p, b.p, a.n);
}

bool span_ieq(struct span a, struct span b)
{
	return a.n == b.n && same_folded(a.p, b.p, a.n);
}

bool span_starts(struct span s, struct span prefix)
{
	return s.n >= prefix.n && same(s.p, prefix.p, prefix.n);
}

bool span_istarts(struct span s, struct span prefix)
{
	return s.n >= prefix.n && same_folded(s.p, prefix.p, prefix.n);
}

bool span_ends(struct span s, struct span suffix)
{
	return s.n >= suffix.n && span_eq(span_from(s, s.n - suffix.n), suffix);
}

size_t span_find(struct span s, char c)
{
	const char *at = s.n ? memchr(s.p, c, s.n) : NULL;

	return at ? (size_t)(at - s.p) : SPAN_NPOS;
}

size_t span_rfind(struct span s, char c)
{
	const char *at = s.n ? memrchr(s.p, c, s.n) : NULL;

	return at ? (size_t)(at - s.p) : SPAN_NPOS;
}

bool span_has(struct span s, char c)
{
	return span_find(s, c) != SPAN_NPOS;
}

struct span span_until(struct span s, size_t n)
{
	return (struct span){s.p, n < s.n ? n : s.n};
}

struct span span_from(struct span s, size_t at)
{
	if (at > s.n)
		at = s.n;
	return (struct span){s.p ? s.p + at : NULL, s.n - at};
}

struct span span_cut(struct span *s, size_t n)
{
	struct span front = span_until(*s, n);

	*s = span_from(*s, n);
	return front;
}

bool span_skip(struct span *s, struct span prefix)
{
	if (!span_starts(*s, prefix))
		return false;
	*s = span_from(*s, prefix.n);
	return true;
}

bool span_skip_i(struct span *s, struct span prefix)
{
	if (!span_istarts(*s, prefix))
		return false;
	*s = span_from(*s, prefix.n);
	return true;
}

struct span span_word(struct span *s)
{
	struct span word = span_cut(s, span_find(*s, ' '));

	while (s->n > 0 && s->p[0] == ' ')
		*s = span_from(*s, 1);
	return word;
}

struct span span_trim_end(struct span s, const char *set)
{
	struct span drop = span_str(set);

	while (s.n > 0 && span_has(drop, s.p[s.n - 1]))
		s.n--;
	return s;
}

struct span span_trim(struct span s)
{
	while (s.n > 0 && (s.p[0] == ' ' || s.p[0] == '\t'))
		s = span_from(s, 1);
	return span_trim_end(s, " \t");
}

bool span_u64(struct span s, uint64_t max, uint64_t *ret)
{
	uint64_t value = 0;

	if (s.n == 0)
		return false;
	for (size_t i = 0; i < s.n; i++) {
		unsigned digit = (unsigned char)s.p[i] - (unsigned)'0';

		if (digit > 9 || value > max / 10 || value * 10 > max - digit || digit > max)
			return false;
		value = value * 10 + digit;
	}
	*ret = value;
	return true;
}

bool span_to_cstr(struct span s, char *dst, size_t cap)
{
	if (s.n >= cap || span_has(s, '\0'))
		return false;
	if (s.n > 0)
		memcpy(dst, s.p, s.n);
	dst[s.n] = '\0';
	return true;
}

int span_cmp(struct span a, struct span b)
{
	size_t n = a.n < b.n ? a.n : b.n;
	int    c = n ? memcmp(a.p, b.p, n) : 0;

	if (c != 0)
		return c;
	return a.n < b.n ? -1 : a.n > b.n;
}

size_t span_utf8(struct span s)
{
	static const struct {
		unsigned char first, last, second, second_last;
		uint8_t n;
	} forms[] = {
		{0xc2, 0xdf, 0x80, 0xbf, 2}, {0xe0, 0xe0, 0xa0, 0xbf, 3},
		{0xe1, 0xec, 0x80, 0xbf, 3}, {0xed, 0xed, 0x80, 0x9f, 3},
		{0xee, 0xef, 0x80, 0xbf, 3}, {0xf0, 0xf0, 0x90, 0xbf, 4},
		{0xf1, 0xf3, 0x80, 0xbf, 4}, {0xf4, 0xf4, 0x80, 0x8f, 4},
	};
	const unsigned char *p = (const unsigned char *)s.p;

	for (size_t f = 0; f < ARRAY_N(forms); f++) {
		if (p[0] < forms[f].first || p[0] > forms[f].last || s.n < forms[f].n)
			continue;
		if (p[1] < forms[f].second || p[1] > forms[f].second_last)
			return 0;
		for (size_t i = 2; i < forms[f].n; i++)
			if ((p[i] & 0xc0) != 0x80)
				return 0;
		return forms[f].n;
	}
	return 0;
}
