#include "core/check.h"

#include "core/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

void check_failed(const char *cond, const char *file, int line)
{
	static bool failing;
	char        text[512];
	int         n;

	if (!failing) {                           /* the log itself may be what is broken */
		failing = true;
		log_flush();
	}
	n = snprintf(text, sizeof(text), "check failed: %s at %s:%d\n", cond, file, line);
	if (n > (int)sizeof(text) - 1)
		n = sizeof(text) - 1;
	if (write(2, text, (size_t)n) < 0)
		abort();                          /* unheard; the core file says the same */
	abort();
}
