/* letter - see letter.h. */
#include "local/letter.h"

#include "mail/addr.h"
#include "mail/date.h"

static void replace(char *p, size_t n, const char *bad, char by)
{
	for (size_t i = 0; i < n; i++) {
		if (span_has(span_str(bad), p[i]))
			p[i] = by;
	}
}

static bool add_ufline(struct buf *b, struct span sender, uint64_t wall)
{
	char   date[DATE_MAX];
	size_t at;

	if (!buf_add(b, SPAN("From ")))
		return false;
	at = b->n;
	if (!buf_add(b, sender.n > 0 ? sender : SPAN("MAILER-DAEMON")))
		return false;
	replace(b->p + at, b->n - at, " \t\n", '-');
	return buf_fmt(b, " %s\n", date_ctime(wall, date));
}

static bool add_rpline(struct buf *b, struct span sender)
{
	size_t at;

	if (!buf_add(b, SPAN("Return-Path: <")))
		return false;
	at = b->n;
	if (!addr_quote_buf(b, sender))
		return false;
	replace(b->p + at, b->n - at, "\n", '_');
	return buf_add(b, SPAN(">\n"));
}

static bool add_dtline(struct buf *b, struct span rcpt)
{
	size_t at;

	if (!buf_add(b, SPAN("Delivered-To: ")))
		return false;
	at = b->n;
	if (!buf_add(b, rcpt))
		return false;
	replace(b->p + at, b->n - at, "\n", '_');
	return buf_add_byte(b, '\n');
}

bool letter_init(struct letter *l, struct span body, struct span sender, struct span rcpt,
                 uint64_t wall)
{
	struct span all;
	size_t      uf_end, rp_end;

	*l = (struct letter){.body = body};
	buf_init(&l->lines, LETTER_LINES_MAX);
	if (!add_ufline(&l->lines, sender, wall))
		return false;
	uf_end = l->lines.n;
	if (!add_rpline(&l->lines, sender))
		return false;
	rp_end = l->lines.n;
	if (!add_dtline(&l->lines, rcpt))
		return false;

	all = buf_span(&l->lines);
	l->dtline = span_from(all, rp_end);
	l->rpline = span_from(span_until(all, rp_end), uf_end);
	l->ufline = span_until(all, uf_end);
	return true;
}

void letter_fini(struct letter *l)
{
	buf_free(&l->lines);
}

bool letter_loops(const struct letter *l)
{
	struct span rest = l->body;

	while (rest.n > 0 && rest.p[0] != '\n') {
		if (span_starts(rest, l->dtline))
			return true;

		size_t lf = span_find(rest, '\n');

		rest = span_from(rest, lf == SPAN_NPOS ? rest.n : lf + 1);
	}
	return false;
}
