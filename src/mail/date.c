/* date - see the header. */
#include "mail/date.h"

#include <stdio.h>
#include <time.h>

#define LAST_SECOND 253402300799u                 /* the end of 9999: four digits of year */

static const char months[12][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                   "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
static const char days[7][4] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};

static struct tm utc(uint64_t wall)
{
	time_t t = (time_t)(wall < LAST_SECOND ? wall : LAST_SECOND);
	struct tm tm = {.tm_mday = 1};

	gmtime_r(&t, &tm);
	return tm;
}

const char *date_822(uint64_t wall, char dst[static DATE_MAX])
{
	struct tm t = utc(wall);

	snprintf(dst, DATE_MAX, "%d %s %d %02d:%02d:%02d -0000", t.tm_mday, months[t.tm_mon],
	         t.tm_year + 1900, t.tm_hour, t.tm_min, t.tm_sec);
	return dst;
}

const char *date_ctime(uint64_t wall, char dst[static DATE_MAX])
{
	struct tm t = utc(wall);

	snprintf(dst, DATE_MAX, "%s %s %02d %02d:%02d:%02d %d", days[t.tm_wday],
		 months[t.tm_mon], t.tm_mday, t.tm_hour, t.tm_min, t.tm_sec, t.tm_year + 1900);
	return dst;
}

const char *date_stamp(uint64_t wall, char dst[static DATE_MAX])
{
	struct tm t = utc(wall);

	snprintf(dst, DATE_MAX, "%04d%02d%02d%02d%02d%02d", t.tm_year + 1900, t.tm_mon + 1,
		 t.tm_mday, t.tm_hour, t.tm_min, t.tm_sec);
	return dst;
}
