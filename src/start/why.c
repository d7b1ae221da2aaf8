#include "start/why.h"

bool why_not(struct buf *why, const char *fmt, ...)
{
	va_list ap;
	bool all;

	buf_clear(why);
	va_start(ap, fmt);
	all = buf_vfmt(why, fmt, ap);
	va_end(ap);
	if (!all)
		buf_clear(why);
	return false;
}
