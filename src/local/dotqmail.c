/* dotqmail - see dotqmail.h.
 *
 *   # comment                  nothing
 *   ./Maildir/  /var/x/        maildir: begins with '.' or '/', ends with '/'
 *   ./mbox  /var/x             mbox: begins with '.' or '/'
 *   |command                   program
 *   +list                      from here on forwards only; any other + line: nothing
 *   &address  address          forward, the rest of the line being the address byte for byte
 *
 * Blanks at a line's end are cut, those at its beginning are part of an address. */
#include "local/dotqmail.h"

#include <string.h>

struct name {
	char  *dst;
	size_t n;
	bool   bad;
};

static void name_add(struct name *t, struct span s)
{
	if (t->bad || s.n >= DOT_NAME_MAX - t->n || span_has(s, '\0')) {
		t->bad = true;
		return;
	}
	if (s.n > 0)
		memcpy(t->dst + t->n, s.p, s.n);
	t->n += s.n;
	t->dst[t->n] = '\0';
}

static void name_add_ext(struct name *t, struct span ext)
{
	size_t from = t->n;

	name_add(t, ext);
	if (t->bad)
		return;
	for (size_t i = from; i < t->n; i++)
		t->dst[i] = t->dst[i] == '.' ? ':' : span_lower(t->dst[i]);
}

bool dot_name(struct span dash, struct span ext, struct span ending,
	      char dst[static DOT_NAME_MAX])
{
	struct name t = {.dst = dst};

	name_add(&t, SPAN(".qmail"));
	name_add(&t, dash);
	name_add_ext(&t, ext);
	name_add(&t, ending);
	return !t.bad;
}

void dot_search_begin(struct dot_search *s, struct span dash, struct span ext)
{
	*s = (struct dot_search){.dash = dash, .ext = ext, .left = ext.n};
}

/* Goes left to the next place where a default may stand: behind a '-', or at the beginning. */
static bool next_default(struct dot_search *s, char dst[static DOT_NAME_MAX])
{
	while (s->left > 0 && s->ext.p[s->left - 1] != '-')
		s->left--;

	struct span kept = span_until(s->ext, s->left);

	if (s->left == 0)
		s->over = true;
	else
		s->left--;
	return dot_name(s->dash, kept, SPAN("default"), dst);
}

bool dot_search_next(struct dot_search *s, char dst[static DOT_NAME_MAX])
{
	if (!s->exact_done) {
		s->exact_done = true;
		if (dot_name(s->dash, s->ext, SPAN_NONE, dst))
			return true;
	}
	while (!s->over) {
		if (next_default(s, dst))
			return true;
	}
	return false;
}

void dot_lines_begin(struct dot_lines *d, struct span text, bool forward_only)
{
	*d = (struct dot_lines){.text = text, .forward_only = forward_only};
}

static struct span take_line(struct dot_lines *d)
{
	size_t      lf = span_find(d->text, '\n');
	struct span line = span_cut(&d->text, lf == SPAN_NPOS ? d->text.n : lf);

	span_skip(&d->text, SPAN("\n"));
	return span_trim_end(line, " \t");
}

static enum dot_kind file_kind_of(struct span line)
{
	return line.p[line.n - 1] == '/' ? DOT_MAILDIR : DOT_MBOX;
}

/* false: the line asks for nothing. */
static bool line_means(struct dot_lines *d, struct span line, struct dot_line *ret)
{
	switch (line.p[0]) {
	case '#':
		return false;
	case '+':
		if (span_eq(line, SPAN("+list")))
			d->forward_only = true;
		return false;
	case '.':
	case '/':
		*ret = (struct dot_line){file_kind_of(line), line};
		return true;
	case '|':
		*ret = (struct dot_line){DOT_PROGRAM, span_from(line, 1)};
		return true;
	case '&':
		*ret = (struct dot_line){DOT_FORWARD, span_from(line, 1)};
		return true;
	default:
		*ret = (struct dot_line){DOT_FORWARD, line};
		return true;
	}
}

enum dot_kind dot_lines_next(struct dot_lines *d, struct dot_line *ret)
{
	*ret = (struct dot_line){.kind = DOT_END};
	while (d->text.n > 0) {
		struct span line = take_line(d);
		bool        first = !d->first_done;

		d->first_done = true;
		if (line.n == 0 && first) {
			ret->kind = DOT_BLANK_FIRST;
			break;
		}
		if (line.n > 0 && line_means(d, line, ret))
			break;
	}
	return ret->kind;
}
