/* header - see the header file. */
#include "mail/header.h"

#include <string.h>

enum { MAY_BE_RECEIVED = 1, MAY_BE_DELIVERED = 2, BOTH = 3 };

void hops_begin(struct hops *h)
{
	*h = (struct hops){.match = BOTH};
}

static void match_byte(struct hops *h, char c)
{
	static const char received[] = "received", delivered[] = "delivered";

	c = span_lower(c);
	if ((h->match & MAY_BE_RECEIVED) && received[h->at] != c)
		h->match &= (uint8_t)~MAY_BE_RECEIVED;
	if ((h->match & MAY_BE_DELIVERED) && delivered[h->at] != c)
		h->match &= (uint8_t)~MAY_BE_DELIVERED;
	h->at++;
	if (((h->match & MAY_BE_RECEIVED) && !received[h->at]) ||
	    ((h->match & MAY_BE_DELIVERED) && !delivered[h->at])) {
		h->count++;
		h->match = 0;
	}
}

void hops_take(struct hops *h, struct span bytes)
{
	while (bytes.n > 0 && !h->over) {
		char c = bytes.p[0];

		if (c == '\n') {
			h->over = h->at == 0;
			h->at = 0;
			h->match = BOTH;
			span_cut(&bytes, 1);
		} else if (h->match) {
			match_byte(h, c);
			span_cut(&bytes, 1);
		} else {
			h->at = 1; /* the line is not empty; nothing else matters */
			span_cut(&bytes, span_find(bytes, '\n'));
		}
	}
}

/* RFC 5322 2.2: printable bytes but the colon; RFC 5322 4.5.8: blanks may stand before it. */
static bool field_name(struct span line, struct span *ret)
{
	size_t colon = span_find(line, ':');
	struct span name = span_trim_end(span_until(line, colon), " \t");

	if (colon == SPAN_NPOS || name.n == 0)
		return false;
	for (size_t i = 0; i < name.n; i++)
		if (name.p[i] < 33 || name.p[i] > 126)
			return false;
	*ret = name;
	return true;
}

/* A line with its LF; what is left may lack one. */
static struct span take_line(struct span *text)
{
	size_t lf = span_find(*text, '\n');

	return span_cut(text, lf == SPAN_NPOS ? text->n : lf + 1);
}

bool header_next(struct span *text, struct header_field *ret)
{
	struct span all = *text, name;

	if (span_skip(text, SPAN("\n")) || text->n == 0)
		return false;
	struct span line = take_line(text);
	if (!field_name(line, &name)) {
		*text = all;
		return false;
	}
	while (text->n > 0 && (text->p[0] == ' ' || text->p[0] == '\t'))
		take_line(text);
	ret->name = name;
	ret->whole = span_until(all, all.n - text->n);
	ret->body = span_from(ret->whole, span_find(ret->whole, ':') + 1);
	return true;
}
