/* why - one line that says why not; as much of it as fits. */
#ifndef START_WHY_H
#define START_WHY_H

#include "core/buf.h"

/* Replaces what why holds; always false, so that a check can return it. */
bool why_not(struct buf *why, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
