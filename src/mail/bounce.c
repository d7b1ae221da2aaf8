/* bounce - see the header.
 *
 * QSBMF asks: the body begins "Hi. This is the"; paragraphs are parted by one empty line; one
 * that begins with '<' is a failure; the first that begins with '-' ends them, and behind it
 * comes the message with a Return-Path in front. */
#include "mail/bounce.h"

#include "mail/addr.h"
#include "mail/date.h"

/* Line ends and NULs of an address would be read as something else where it is shown. */
static bool add_shown(struct buf *b, struct span addr)
{
	for (size_t i = 0; i < addr.n; i++) {
		char c = addr.p[i];

		if (!buf_add_byte(b, c == '\n' || c == '\r' || c == '\0' ? '_' : c))
			return false;
	}
	return true;
}

static bool add_quoted(struct buf *b, struct span addr)
{
	char shown[2 * ADDR_MAX];
	size_t n = addr.n < sizeof shown ? addr.n : sizeof shown;

	for (size_t i = 0; i < n; i++) {
		char c = addr.p[i];

		shown[i] = c == '\n' || c == '\r' || c == '\0' ? '_' : c;
	}
	return addr_quote_buf(b, span_of(shown, n));
}

static bool add_from(struct buf *b, const struct bounce *bo)
{
	struct buf from;
	bool fits;

	buf_init(&from, 2 * ADDR_MAX);
	fits = buf_add(&from, bo->from) && buf_add_byte(&from, '@') &&
	       buf_add(&from, bo->host) && buf_add(b, SPAN("From: ")) &&
	       add_quoted(b, buf_span(&from)) && buf_add_byte(b, '\n');
	buf_free(&from);
	return fits;
}

bool bounce_head(struct buf *b, const struct bounce *bo)
{
	size_t before = b->n;
	char date[DATE_MAX];

	if (buf_fmt(b, "Date: %s\n", date_822(bo->wall, date)) && add_from(b, bo) &&
	    buf_add(b, SPAN("To: ")) && add_quoted(b, bo->to) &&
	    buf_add(b, SPAN("\nSubject: failure notice\n\nHi. This is the qmail-send program "
			    "at ")) &&
	    add_shown(b, bo->host) && buf_add(b, SPAN(".\n")) &&
	    buf_add(b, bo->dbl ? SPAN("A failure notice of mine could not be delivered, so it "
				      "comes to you.\n\n")
			       : SPAN("I am sorry: your message could not be delivered to the "
				      "addresses below.\n"
				      "I have given up on them and will not try again.\n\n")))
		return true;
	b->n = before;
	return false;
}

bool bounce_paragraph(struct buf *b, struct span rcpt, struct span text)
{
	size_t before = b->n;
	bool fits = buf_add_byte(b, '<') && add_shown(b, rcpt) && buf_add(b, SPAN(">:\n"));
	bool line_start = true;

	text = span_trim_end(text, "\n");
	while (span_skip(&text, SPAN(" ")))
		; /* a text that begins with a blank is reserved */
	for (size_t i = 0; fits && i < text.n; i++) {
		bool lf = text.p[i] == '\n';

		fits = buf_add_byte(b, lf && line_start ? '/' : text.p[i]);
		line_start = lf && !line_start;
	}
	if (fits && !line_start)
		fits = buf_add_byte(b, '\n');
	if (fits && buf_add_byte(b, '\n'))
		return true;
	b->n = before;
	return false;
}

bool bounce_tail(struct buf *b, const struct bounce *bo)
{
	size_t before = b->n;

	if (buf_add(b, bo->dbl ? SPAN("--- Below this line is the original bounce.\n\n")
	                       : SPAN("--- Below this line is a copy of the message.\n\n")) &&
	    buf_add(b, SPAN("Return-Path: <")) && add_quoted(b, addr_verp_base(bo->sender)) &&
	    buf_add(b, SPAN(">\n")))
		return true;
	b->n = before;
	return false;
}

bool bounce_addresses(struct span sender, struct span doublebounceto,
		      struct span doublebouncehost, struct buf *to, struct span *ret_to,
		      struct span *ret_from_sender, bool *ret_dbl)
{
	if (span_eq(sender, SPAN("#@[]")))
		return false;

	*ret_dbl = sender.n == 0;
	*ret_from_sender = *ret_dbl ? SPAN("#@[]") : SPAN_NONE;
	*ret_to = addr_verp_base(sender);
	if (!*ret_dbl)
		return true;

	buf_clear(to);
	if (buf_add(to, doublebounceto) && buf_add_byte(to, '@') &&
	    buf_add(to, doublebouncehost))
		*ret_to = buf_span(to);
	else
		*ret_to = SPAN("postmaster");
	return true;
}
