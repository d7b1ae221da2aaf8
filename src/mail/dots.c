/* dots - see the header.
 *
 * In: a run begins at the LF of the line before, so that a line costs one put(): the LF that
 * ends a line in the input is the very byte that ends it in the message.  A CR or dot whose
 * meaning depends on the next byte is never in a run; it is a state.
 *
 * Out: the dot rule is applied after every line end that is sent, and a CR is sent in front of
 * a LF only.  Whatever the body holds, the end mark is on the wire once, at its end: no body
 * can end DATA early (the "smuggling" of 2023). */
#include "mail/dots.h"

#include <string.h>

enum { LINE_START, IN_LINE, AFTER_CR, AFTER_DOT, AFTER_DOT_CR };

struct taking {
	struct dots_in *d;
	const char     *run, *at, *end;           /* run..at is decoded and not yet given */
	void          (*put)(void *ctx, struct span run);
	void           *ctx;
};

void dots_in_begin(struct dots_in *d)
{
	*d = (struct dots_in){.state = LINE_START};
}

static void give(struct taking *t, struct span run)
{
	if (run.n == 0)
		return;
	t->d->n += run.n;
	t->put(t->ctx, run);
}

/* Gives run..upto; the next run begins at `next`. */
static void give_run(struct taking *t, const char *upto, const char *next)
{
	give(t, span_of(t->run, (size_t)(upto - t->run)));
	t->run = next;
}

/* t->at: behind a byte of the line, or at its first.  Stops behind the LF, at the end of the
 * input, or behind a bare LF. */
static enum body_event take_line(struct taking *t)
{
	const char *lf = memchr(t->at, '\n', (size_t)(t->end - t->at));

	if (!lf) {
		bool cr = t->end[-1] == '\r';

		give_run(t, cr ? t->end - 1 : t->end, t->end);
		t->at = t->end;
		t->d->state = cr ? AFTER_CR : IN_LINE;
		return BODY_MORE;
	}
	if (lf == t->at || lf[-1] != '\r') {
		give_run(t, lf, lf + 1);
		t->at = lf + 1;
		return BODY_BARE_LF;
	}
	give_run(t, lf - 1, lf);
	t->at = lf + 1;
	t->d->state = LINE_START;
	return BODY_MORE;
}

/* The input ended behind a CR, with or without a dot in front of it.  What was held back is CR
 * LF, or CR as data; the dot goes either way (RFC 5321 4.5.2). */
static enum body_event take_after_cr(struct taking *t)
{
	bool dot = t->d->state == AFTER_DOT_CR;

	if (*t->at == '\n' && dot) {
		t->at++;
		return BODY_END;
	}
	if (*t->at == '\n') {
		t->at++;                          /* the LF begins the next run */
		t->d->state = LINE_START;
		return BODY_MORE;
	}
	give(t, SPAN("\r"));
	t->d->state = IN_LINE;
	return BODY_MORE;
}

static enum body_event take_after_dot(struct taking *t)
{
	if (*t->at == '\r') {
		t->run = ++t->at;
		t->d->state = AFTER_DOT_CR;
		return BODY_MORE;
	}
	t->d->state = IN_LINE;                    /* a LF here is found bare there */
	return BODY_MORE;
}

static enum body_event take_line_start(struct taking *t)
{
	if (*t->at != '.') {
		t->d->state = IN_LINE;
		return BODY_MORE;
	}
	give_run(t, t->at, t->at + 1);
	t->at++;
	t->d->state = AFTER_DOT;
	return BODY_MORE;
}

static enum body_event take_step(struct taking *t)
{
	switch (t->d->state) {
	case LINE_START: return take_line_start(t);
	case IN_LINE: return take_line(t);
	case AFTER_DOT: return take_after_dot(t);
	case AFTER_CR:
	case AFTER_DOT_CR: return take_after_cr(t);
	}
	unreachable();
}

enum body_event dots_in_take(struct dots_in *d, struct span *in,
                             void (*put)(void *ctx, struct span run), void *ctx)
{
	struct taking t = {d, in->p, in->p, in->p + in->n, put, ctx};
	enum body_event ev = BODY_MORE;

	if (in->n == 0)
		return BODY_MORE;
	while (t.at < t.end && ev == BODY_MORE)
		ev = take_step(&t);
	if (ev == BODY_MORE)
		give_run(&t, t.end, t.end);       /* at most the LF of a line that just ended */
	span_cut(in, (size_t)(t.at - in->p));
	return ev;
}

void dots_out_begin(struct dots_out *d)
{
	*d = (struct dots_out){.line_start = true};
}

/* Bytes of one line, without LF and without CR. */
static void put_text(struct dots_out *d, struct outbuf *o, struct span text)
{
	if (text.n == 0)
		return;
	if (d->line_start && text.p[0] == '.')
		out_byte(o, '.');
	out_span(o, text);
	d->line_start = false;
}

/* The CR held back turned out to stand alone. */
static void put_stray_cr(struct dots_out *d, struct outbuf *o)
{
	if (!d->cr)
		return;
	d->cr = false;
	d->stray_cr++;
	d->line_start = false;
	out_byte(o, ' ');
}

/* Bytes of one line, without LF. */
static void put_line(struct dots_out *d, struct outbuf *o, struct span text)
{
	while (text.n > 0) {
		put_stray_cr(d, o);

		size_t cr = span_find(text, '\r');
		put_text(d, o, span_cut(&text, cr));
		if (cr != SPAN_NPOS) {
			span_cut(&text, 1);
			d->cr = true;
		}
	}
}

static void put_line_end(struct dots_out *d, struct outbuf *o)
{
	out_span(o, SPAN("\r\n"));
	d->cr = false;
	d->line_start = true;
}

void dots_out_put(struct dots_out *d, struct outbuf *o, struct span body)
{
	while (body.n > 0) {
		size_t lf = span_find(body, '\n');

		put_line(d, o, span_cut(&body, lf));
		if (lf == SPAN_NPOS)
			return;
		span_cut(&body, 1);
		put_line_end(d, o);
	}
}

void dots_out_end(struct dots_out *d, struct outbuf *o)
{
	put_stray_cr(d, o);
	if (!d->line_start)
		put_line_end(d, o);
	out_span(o, SPAN(".\r\n"));
}
