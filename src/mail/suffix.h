/* suffix - the keys under which a domain is looked up in rcpthosts, virtualdomains and routes:
 * "a.b.c", ".b.c", ".c"; docs/qmail.md 7.1. */
#ifndef MAIL_SUFFIX_H
#define MAIL_SUFFIX_H

#include "core/span.h"

/* Turns *key into the next shorter one that begins with a dot; false: there is none. */
static inline bool suffix_next(struct span *key)
{
	struct span rest = span_from(*key, 1);
	size_t dot = span_find(rest, '.');

	if (dot == SPAN_NPOS)
		return false;
	*key = span_from(rest, dot);
	return true;
}

#endif
