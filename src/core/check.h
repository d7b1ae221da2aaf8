/* check - we are wrong: abort with file and line, always compiled in.
 *
 * Never for what a peer, a file or an operator can cause; those are values or die_sys(). */
#ifndef CORE_CHECK_H
#define CORE_CHECK_H

#include <stddef.h>

#define check(cond)           ((cond) ? (void)0 : check_failed(#cond, __FILE__, __LINE__))
#define unreachable()         check_failed("unreachable", __FILE__, __LINE__)
#define static_check(cond)    _Static_assert(cond, #cond)
#define must_use              __attribute__((warn_unused_result))
#define owner_of(p, type, field) ((type *)((char *)(p) - offsetof(type, field)))
#define ARRAY_N(a)            (sizeof(a) / sizeof((a)[0]))

_Noreturn void check_failed(const char *cond, const char *file, int line);

#endif
