/* A write is at most PIPE_BUF bytes of whole lines: a pipe that polls writable takes that
 * much without blocking and without mixing it with the lines of others.  A regular file
 * takes everything at once. */
#include "core/log.h"

#include "core/check.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LOG_BUF       65536                       /* what a slow reader may be behind */
#define LOG_LINE_MAX  PIPE_BUF                    /* a longer line is cut */
#define LOG_LAST_WAIT 500                         /* ms a dying process waits for a reader */

static const char *name = "quire";
static char        pending[LOG_BUF];
static size_t      pending_n;
static uint64_t    lost, lost_told;
static void      (*capture)(void *, struct span);
static void       *capture_ctx;

struct line {
	size_t n;
	char   p[LOG_LINE_MAX];
};

void log_begin(const char *program)
{
	name = program;
}

void log_capture(void (*take)(void *ctx, struct span line), void *ctx)
{
	capture = take;
	capture_ctx = ctx;
}

uint64_t log_lost(void)
{
	return lost;
}

/* One byte is kept for the line end. */
static void line_add(struct line *l, struct span s)
{
	s = span_until(s, LOG_LINE_MAX - 1 - l->n);
	if (s.n > 0)
		memcpy(l->p + l->n, s.p, s.n);
	l->n += s.n;
}

static void line_add_value(struct line *l, struct span v)
{
	bool quoted = span_has(v, ' ');

	if (quoted)
		line_add(l, SPAN("\""));
	for (size_t i = 0; i < v.n; i++) {
		unsigned char c = (unsigned char)v.p[i];
		bool          bad = c < 33 || c > 126 || c == '"';

		line_add(l, bad && !(c == ' ') ? SPAN("_") : span_of(&v.p[i], 1));
	}
	if (quoted)
		line_add(l, SPAN("\""));
}

/* How many bytes of whole lines one write may take. */
static size_t next_write(bool is_file)
{
	struct span all = span_of(pending, pending_n);
	size_t      end;

	if (is_file || pending_n <= PIPE_BUF)
		return pending_n;
	end = span_rfind(span_until(all, PIPE_BUF), '\n');
	check(end != SPAN_NPOS);                  /* no line is longer */
	return end + 1;
}

static void flush_waiting(int wait_ms)
{
	struct stat st;
	bool        is_file;

	if (pending_n == 0)
		return;
	is_file = fstat(2, &st) == 0 && S_ISREG(st.st_mode);
	while (pending_n > 0) {
		struct pollfd p = {.fd = 2, .events = POLLOUT};
		ssize_t       n;

		if (poll(&p, 1, wait_ms) <= 0)
			return;
		n = write(2, pending, next_write(is_file));
		if (n < 0 && (errno == EINTR || errno == EAGAIN))
			return;
		if (n <= 0) {                     /* nobody will ever read this */
			for (size_t i = 0; i < pending_n; i++)
				lost += pending[i] == '\n';
			pending_n = 0;
			return;
		}
		pending_n -= (size_t)n;
		memmove(pending, pending + n, pending_n);
	}
}

static void keep(const struct line *l)
{
	memcpy(pending + pending_n, l->p, l->n);
	pending_n += l->n;
	pending[pending_n++] = '\n';
}

/* Once there is room again, the reader is told how much is missing. */
static void tell_lost(void)
{
	struct line l = {0};

	l.n = (size_t)snprintf(l.p, sizeof(l.p), "%.64s: log_lines_lost=%llu", name,
	                       (unsigned long long)(lost - lost_told));
	if (pending_n + l.n + 1 > LOG_BUF)
		return;
	keep(&l);
	lost_told = lost;
}

static void emit(const struct line *l)
{
	if (capture) {
		capture(capture_ctx, span_of(l->p, l->n));
		return;
	}
	if (pending_n + l->n + 1 > LOG_BUF)
		flush_waiting(0);
	if (lost != lost_told)
		tell_lost();
	if (pending_n + l->n + 1 > LOG_BUF) {
		lost++;
		return;
	}
	keep(l);
}

void log_flush(void)
{
	flush_waiting(0);
}

void log_note(const char *key, ...)
{
	struct line l = {0};
	va_list     ap;

	line_add(&l, span_str(name));
	line_add(&l, SPAN(":"));
	va_start(ap, key);
	for (; key; key = va_arg(ap, const char *)) {
		const char *value = va_arg(ap, const char *);

		line_add(&l, SPAN(" "));
		line_add(&l, span_str(key));
		line_add(&l, SPAN("="));
		line_add_value(&l, span_str(value));
	}
	va_end(ap);
	emit(&l);
}

static void line_vfmt(struct line *l, const char *fmt, va_list ap)
{
	size_t from = l->n;
	int    n = vsnprintf(l->p + from, sizeof(l->p) - from, fmt, ap);

	if (n < 0)
		return;
	l->n += (size_t)n;
	if (l->n > sizeof(l->p) - 1)
		l->n = sizeof(l->p) - 1;
	for (size_t i = from; i < l->n; i++)      /* one event stays one line */
		if ((unsigned char)l->p[i] < 32 || l->p[i] == 127)
			l->p[i] = '_';
}

void log_line(const char *fmt, ...)
{
	struct line l = {0};
	va_list     ap;

	va_start(ap, fmt);
	line_vfmt(&l, fmt, ap);
	va_end(ap);
	emit(&l);
}

static _Noreturn void end(int status, struct line *l)
{
	log_capture(NULL, NULL);                  /* the last line goes out, also in a test */
	flush_waiting(LOG_LAST_WAIT);
	emit(l);
	flush_waiting(LOG_LAST_WAIT);
	exit(status);
}

static void begin_fatal(struct line *l)
{
	l->n = 0;
	line_add(l, span_str(name));
	line_add(l, SPAN(": fatal: "));
}

void die(int status, const char *fmt, ...)
{
	struct line l;
	va_list     ap;

	begin_fatal(&l);
	va_start(ap, fmt);
	line_vfmt(&l, fmt, ap);
	va_end(ap);
	end(status, &l);
}

void die_sys(int status, const char *what, const char *of)
{
	struct line l;
	int         error = errno;

	begin_fatal(&l);
	line_add(&l, span_str(what));
	line_add(&l, span_str(of));
	line_add(&l, SPAN(": "));
	line_add(&l, span_str(strerror(error)));
	end(status, &l);
}
