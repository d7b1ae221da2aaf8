#include "mail/duration.h"

static uint64_t unit_of(char c)
{
	switch (c) {
	case 's': return 1;
	case 'm': return 60;
	case 'h': return 3600;
	case 'd': return 86400;
	}
	return 0;
}

bool duration_parse(struct span s, uint64_t *ret_s)
{
	uint64_t unit = s.n ? unit_of(s.p[s.n - 1]) : 0, n;

	if (unit)
		s.n--;
	else
		unit = 1;
	if (!span_u64(s, DURATION_MAX / unit, &n))
		return false;
	*ret_s = n * unit;
	return true;
}
