/* netstring - see the header.  The length is believed only as far as it was read: a number
 * that passes max is refused at the digit that does it, before a byte of content came. */
#include "mail/netstring.h"

enum { IN_LENGTH, IN_CONTENT, AT_COMMA, TOO_LONG, BROKEN };

/* Ten digits stay far below 2^64, so the sum below cannot wrap. */
static_check(NETSTRING_DIGITS < 19);

void netstring_init(struct netstring *ns, uint64_t max, bool lenient)
{
	*ns = (struct netstring){.max = max, .lenient = lenient, .phase = IN_LENGTH};
}

static enum netstring_event refuse(struct netstring *ns, enum netstring_event why)
{
	ns->phase = why == NETSTRING_LONG ? TOO_LONG : BROKEN;
	return why;
}

/* [0-9]+ ":" and no leading zero but in "0:" itself. */
static enum netstring_event take_length(struct netstring *ns, struct span *in)
{
	while (in->n > 0) {
		char c = *span_cut(in, 1).p;

		if (c == ':' && ns->digits > 0) {
			ns->phase = ns->left > 0 ? IN_CONTENT : AT_COMMA;
			ns->digits = 0;
			return NETSTRING_LENGTH;
		}
		if (c < '0' || c > '9')
			return refuse(ns, NETSTRING_BAD);
		if (ns->digits > 0 && ns->left == 0 && !ns->lenient)
			return refuse(ns, NETSTRING_BAD);
		if (ns->digits == NETSTRING_DIGITS)
			return refuse(ns, NETSTRING_LONG);
		ns->digits++;
		ns->left = ns->left * 10 + (uint64_t)(c - '0');
		if (ns->left > ns->max)
			return refuse(ns, NETSTRING_LONG);
	}
	return NETSTRING_MORE;
}

static enum netstring_event take_content(struct netstring *ns, struct span *in,
					 struct span *ret)
{
	if (in->n == 0)
		return NETSTRING_MORE;
	*ret = span_cut(in, ns->left < in->n ? (size_t)ns->left : in->n);
	ns->left -= ret->n;
	if (ns->left == 0)
		ns->phase = AT_COMMA;
	return NETSTRING_BYTES;
}

static enum netstring_event take_comma(struct netstring *ns, struct span *in)
{
	if (in->n == 0)
		return NETSTRING_MORE;
	if (*span_cut(in, 1).p != ',')
		return refuse(ns, NETSTRING_BAD);
	ns->phase = IN_LENGTH;
	return NETSTRING_END;
}

enum netstring_event netstring_take(struct netstring *ns, struct span *in, struct span *ret)
{
	switch (ns->phase) {
	case IN_LENGTH: return take_length(ns, in);
	case IN_CONTENT: return take_content(ns, in, ret);
	case AT_COMMA: return take_comma(ns, in);
	case TOO_LONG: return NETSTRING_LONG;
	case BROKEN: return NETSTRING_BAD;
	}
	unreachable();
}

void netstring_put(struct outbuf *o, struct span s)
{
	out_fmt(o, "%zu:", s.n);
	out_span(o, s);
	out_byte(o, ',');
}

bool netstring_add(struct buf *b, struct span s)
{
	size_t before = b->n;

	if (buf_fmt(b, "%zu:", s.n) && buf_add(b, s) && buf_add_byte(b, ','))
		return true;
	b->n = before;
	return false;
}
