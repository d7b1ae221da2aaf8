/* memstat - what the allocator says of itself; zero where it is not jemalloc. */
#ifndef CORE_MEMSTAT_H
#define CORE_MEMSTAT_H

#include <stddef.h>

size_t memstat_active(void);                      /* jemalloc's stats.active, bytes */
size_t memstat_resident(void);

#endif
