/* line - see the header.  The limit counts the bytes before the LF, a CR among them, so that it
 * makes no difference how the stream was cut. */
#include "mail/line.h"

void line_init(struct line *l, size_t max)
{
	*l = (struct line){.skipping = false};
	buf_init(&l->part, max);
}

void line_fini(struct line *l)
{
	buf_free(&l->part);
}

static struct span without_cr(struct span s)
{
	return s.n > 0 && s.p[s.n - 1] == '\r' ? span_until(s, s.n - 1) : s;
}

/* No LF in sight: what is there must be kept, because the caller's input goes away. */
static enum line_event keep(struct line *l, struct span *in)
{
	struct span all = span_cut(in, in->n);

	if (!l->skipping && all.n > 0 && !buf_add(&l->part, all)) {
		buf_free(&l->part);
		l->skipping = true;
	}
	return LINE_MORE;
}

enum line_event line_take(struct line *l, struct span *in, struct span *ret)
{
	if (l->given) {
		buf_free(&l->part);
		l->given = false;
	}

	size_t lf = span_find(*in, '\n');
	if (lf == SPAN_NPOS)
		return keep(l, in);

	struct span rest = span_cut(in, lf);
	span_cut(in, 1);
	if (l->skipping || l->part.n + rest.n > l->part.max) {
		buf_free(&l->part);
		l->skipping = false;
		return LINE_LONG;
	}
	if (l->part.n == 0) {
		*ret = without_cr(rest);
		return LINE_OK;
	}
	l->given = true;
	if (!buf_add(&l->part, rest))
		unreachable();                    /* it was compared with max above */
	*ret = without_cr(buf_span(&l->part));
	return LINE_OK;
}
