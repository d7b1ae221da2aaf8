/* intake - see intake.h.
 *
 * At most two bytes are held back: a dot at the beginning of a line, a CR that may belong to an
 * LF.  The first line decides about CR LF, so its CRs are held in the same way; one that turns
 * out to be data goes out as data. */
#include "tools/intake.h"

#include <string.h>

void intake_begin(struct intake *t, bool dot_ends)
{
	*t = (struct intake){.dot_ends = dot_ends, .line_begins = true};
}

static size_t release(struct intake *t, char *dst)
{
	size_t n = t->held_n;

	memcpy(dst, t->held, n);
	t->held_n = 0;
	if (n > 0)
		t->line_begins = false;
	return n;
}

static bool holds_dot(const struct intake *t)
{
	return t->held_n > 0 && t->held[0] == '.';
}

static bool holds_cr(const struct intake *t)
{
	return t->held_n > 0 && t->held[t->held_n - 1] == '\r';
}

/* The first line decides.  A CR in front of its LF that is no part of the line's end is gone
   already: only the last one is held. */
static void decide(struct intake *t)
{
	if (!t->decided)
		t->crlf = holds_cr(t);
	t->decided = true;
}

static size_t end_line(struct intake *t, char *dst)
{
	size_t n = 0;

	decide(t);
	if (holds_cr(t) && t->crlf)
		t->held_n--;
	if (t->held_n == 1 && holds_dot(t)) {
		t->over = true;
		return 0;
	}
	n = release(t, dst);
	dst[n++] = '\n';
	t->line_begins = true;
	return n;
}

static size_t take_byte(struct intake *t, char c, char *dst)
{
	size_t n = 0;

	if (c == '\n')
		return end_line(t, dst);
	if (c == '\r' && !holds_cr(t) && (t->crlf || !t->decided)) {
		t->held[t->held_n++] = c;
		return 0;
	}
	n = release(t, dst);
	if (c == '\r' && (t->crlf || !t->decided)) {
		t->held[t->held_n++] = c;
		t->line_begins = false;
		return n;
	}
	if (c == '.' && t->line_begins && t->dot_ends) {
		t->held[t->held_n++] = c;
		t->line_begins = false;
		return n;
	}
	t->line_begins = false;
	dst[n++] = c;
	return n;
}

/* Runs of plain bytes inside a line are copied whole. */
static size_t plain_run(const struct intake *t, struct span in)
{
	const char *lf, *cr;

	if (t->held_n > 0 || t->line_begins)
		return 0;
	lf = memchr(in.p, '\n', in.n);
	if (lf)
		in.n = (size_t)(lf - in.p);
	cr = in.n > 0 ? memchr(in.p, '\r', in.n) : NULL;
	return cr ? (size_t)(cr - in.p) : in.n;
}

size_t intake_take(struct intake *t, struct span in, char *dst)
{
	size_t n = 0;

	while (in.n > 0 && !t->over) {
		size_t run = plain_run(t, in);

		if (run > 0) {
			memcpy(dst + n, span_cut(&in, run).p, run);
			n += run;
		} else {
			n += take_byte(t, span_cut(&in, 1).p[0], dst + n);
		}
	}
	return n;
}

size_t intake_end(struct intake *t, char dst[static 3])
{
	size_t n;

	if (t->over)
		return 0;
	t->over = true;
	if (t->held_n == 1 && holds_dot(t))
		return 0;                         /* "." and the end of the file: the same */
	n = release(t, dst);
	return n;
}
