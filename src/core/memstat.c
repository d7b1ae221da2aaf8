/* mallctl is looked up at run time: in a sanitizer build there is no jemalloc to link. */
#include "core/memstat.h"

#include <stdint.h>

__attribute__((weak)) int mallctl(const char *name, void *old, size_t *old_n, void *new,
                                  size_t new_n);

static size_t ask(const char *name)
{
	uint64_t epoch = 1;
	size_t   value = 0, n = sizeof(epoch);

	if (!mallctl)
		return 0;
	mallctl("epoch", &epoch, &n, &epoch, n);  /* else the numbers are old ones */
	n = sizeof(value);
	return mallctl(name, &value, &n, NULL, 0) == 0 ? value : 0;
}

size_t memstat_active(void)
{
	return ask("stats.active");
}

size_t memstat_resident(void)
{
	return ask("stats.resident");
}
