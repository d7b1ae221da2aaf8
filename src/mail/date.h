/* date - "21 Nov 2026 01:40:50 -0000" and ctime's form, UTC.  docs/qmail.md 4.8. */
#ifndef MAIL_DATE_H
#define MAIL_DATE_H

#include <stddef.h>
#include <stdint.h>

#define DATE_MAX 64

const char *date_822(uint64_t wall, char dst[static DATE_MAX]);     /* no LF */
const char *date_ctime(uint64_t wall, char dst[static DATE_MAX]);   /* no LF; day zero-padded */
const char *date_stamp(uint64_t wall, char dst[static DATE_MAX]);   /* 20261121013759 */

#endif
