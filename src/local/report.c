/* report - see report.h.  A text that does not fit is cut, never lost with its letter. */
#include "local/report.h"

#include <errno.h>
#include <string.h>

void report_init(struct report *r)
{
	r->letter = 'K';
	buf_init(&r->text, REPORT_MAX);
}

void report_fini(struct report *r)
{
	buf_free(&r->text);
}

static void add(struct report *r, const char *fmt, va_list ap)
{
	if (!buf_vfmt(&r->text, fmt, ap) && !buf_add(&r->text, SPAN(REPORT_TOO_LONG)))
		r->text.n = REPORT_SHOWN;
}

bool report_fail(struct report *r, char letter, const char *fmt, ...)
{
	va_list ap;

	r->letter = letter;
	buf_clear(&r->text);
	va_start(ap, fmt);
	add(r, fmt, ap);
	va_end(ap);
	return false;
}

void report_add(struct report *r, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	add(r, fmt, ap);
	va_end(ap);
}

void report_close(struct report *r)
{
	size_t nul = span_find(buf_span(&r->text), '\0');

	if (nul != SPAN_NPOS)
		r->text.n = nul;
	if (r->text.n <= REPORT_SHOWN)
		return;
	r->text.n = REPORT_CUT;
	check(buf_add(&r->text, SPAN(REPORT_TOO_LONG)));
}

bool error_is_temporary(int error)
{
	static const int temporary[] = {
		EINTR,        ENOMEM,       ETXTBSY,   EIO,          ETIMEDOUT,  EAGAIN,
		EDEADLK,      EBUSY,        ENFILE,    EMFILE,       EFBIG,      ENOSPC,
		ENETDOWN,     ENETUNREACH,  ENETRESET, ECONNABORTED, ECONNRESET, ENOBUFS,
		ETOOMANYREFS, ECONNREFUSED, EHOSTDOWN, EHOSTUNREACH, EUSERS,     EDQUOT,
		ESTALE,       ENOLCK,
	};

	for (size_t i = 0; i < ARRAY_N(temporary); i++) {
		if (temporary[i] == error)
			return true;
	}
	return false;
}
