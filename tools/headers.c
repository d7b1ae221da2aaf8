/* headers - see headers.h. */
#include "tools/headers.h"

#include "mail/addr.h"
#include "mail/date.h"
#include "mail/header.h"

#define KEPT_EXTRA 64                             /* "MBOX-Line: " and an LF */

enum action {
	KEEP,
	DROP,
	RCPT,                                     /* recipients of the message */
	RCPT_DROP,
	RESENT_RCPT,
	RESENT_RCPT_DROP,
	SENDER,                                   /* Return-Path: the envelope sender */
};

struct known {
	const char *name;
	enum action action;
	bool        marks_resent;
	size_t      has;                          /* offset of the flag that it sets; 0: none */
};

#define HAS(flag) offsetof(struct headers, flag)

static const struct known known[] = {
	/* name               action            resent  has */
	{ "To",                RCPT,             false,  0 },
	{ "Cc",                RCPT,             false,  0 },
	{ "Bcc",               RCPT_DROP,        false,  0 },
	{ "Apparently-To",     RCPT,             false,  0 },
	{ "Resent-To",         RESENT_RCPT,      true,   0 },
	{ "Resent-Cc",         RESENT_RCPT,      true,   0 },
	{ "Resent-Bcc",        RESENT_RCPT_DROP, true,   0 },
	{ "Return-Path",       SENDER,           false,  0 },
	{ "Content-Length",    DROP,             false,  0 },
	{ "Date",              KEEP,             false,  HAS(has_date) },
	{ "From",              KEEP,             false,  HAS(has_from) },
	{ "Message-ID",        KEEP,             false,  HAS(has_message_id) },
	{ "Resent-Date",       KEEP,             true,   HAS(has_resent_date) },
	{ "Resent-From",       KEEP,             true,   HAS(has_resent_from) },
	{ "Resent-Message-ID", KEEP,             true,   HAS(has_resent_message_id) },
	{ "Resent-Sender",     KEEP,             true,   0 },
	{ "Resent-Reply-To",   KEEP,             true,   0 },
};

/* ---- where it ends */

static bool is_mbox_line(struct span line)
{
	return span_starts(line, SPAN("From "));
}

static bool is_blank_line(struct span line)
{
	return span_eq(line, SPAN("\n")) || span_eq(line, SPAN("\r\n"));
}

static bool continues(struct span line)
{
	return line.n > 0 && (line.p[0] == ' ' || line.p[0] == '\t');
}

static bool begins_field(struct span line)
{
	struct header_field f;

	return header_next(&line, &f);
}

enum headers_end headers_end(struct headers_scan *s, struct span text, bool whole, size_t *ret_at)
{
	for (;;) {
		struct span line = span_from(text, s->line);
		size_t      lf = span_find(span_from(text, s->seen), '\n');

		*ret_at = s->line;
		if (lf == SPAN_NPOS && (!whole || line.n == 0)) {
			s->seen = text.n;
			*ret_at = text.n;
			return HEADERS_MORE;
		}
		if (lf != SPAN_NPOS)
			line = span_until(line, s->seen + lf + 1 - s->line);
		if (is_blank_line(line))
			return HEADERS_EMPTY_LINE;
		if (begins_field(line))
			s->in_field = true;
		else if (!(s->in_field && continues(line)) && !(s->line == 0 && is_mbox_line(line)))
			return HEADERS_NO_FIELD;
		s->line += line.n;
		s->seen = s->line;
	}
}

/* ---- what is in it */

void headers_init(struct headers *h, const struct rewrite *rw, bool collects)
{
	*h = (struct headers){.rw = rw, .collects = collects};
	buf_init(&h->kept, HEADERS_MAX + KEPT_EXTRA);
	buf_init(&h->plain, ENVELOPE_MAX);
	buf_init(&h->resent, ENVELOPE_MAX);
	buf_init(&h->return_path, HEADERS_MAX);
}

void headers_fini(struct headers *h)
{
	buf_free(&h->kept);
	buf_free(&h->plain);
	buf_free(&h->resent);
	buf_free(&h->return_path);
}

struct span headers_rcpts(const struct headers *h)
{
	return buf_span(h->is_resent ? &h->resent : &h->plain);
}

struct taker {
	struct headers *h;
	struct buf     *list;
};

/* ""@"." is nobody once it is whole: an empty recipient would only bounce. */
static void take_recipient(void *ctx, const struct mailbox *m)
{
	struct taker *t = ctx;
	size_t        before = t->list->n;

	if (!rewrite_mailbox(t->h->rw, m, t->list))
		t->h->full = true;
	else if (t->list->n > before && !buf_add_byte(t->list, '\0'))
		t->h->full = true;
}

static void take_return_path(void *ctx, const struct mailbox *m)
{
	struct headers *h = ctx;

	buf_clear(&h->return_path);
	if (!rewrite_mailbox(h->rw, m, &h->return_path))
		h->full = true;
}

static bool collect(struct headers *h, struct span body, struct buf *list)
{
	struct taker t = {h, list};

	return !h->collects || addrlist_parse(body, take_recipient, &t);
}

static bool read_sender(struct headers *h, struct span body)
{
	h->has_return_path = true;
	return addrlist_parse(body, take_return_path, h);
}

static const struct known *find(struct span name)
{
	for (size_t i = 0; i < ARRAY_N(known); i++) {
		if (span_ieq(span_str(known[i].name), name))
			return &known[i];
	}
	return NULL;
}

static void keep(struct headers *h, struct span field)
{
	if (!buf_add(&h->kept, field))
		h->full = true;
}

/* false: the body of the field is no address list. */
static bool act(struct headers *h, const struct known *k, const struct header_field *f)
{
	switch (k->action) {
	case KEEP:
		keep(h, f->whole);
		return true;
	case DROP:
		return true;
	case RCPT:
		keep(h, f->whole);
		return collect(h, f->body, &h->plain);
	case RCPT_DROP:
		return collect(h, f->body, &h->plain);
	case RESENT_RCPT:
		keep(h, f->whole);
		return collect(h, f->body, &h->resent);
	case RESENT_RCPT_DROP:
		return collect(h, f->body, &h->resent);
	case SENDER:
		return read_sender(h, f->body);
	}
	unreachable();
}

static bool read_field(struct headers *h, const struct header_field *f)
{
	const struct known *k = find(f->name);

	if (!k) {
		keep(h, f->whole);
		return true;
	}
	if (k->marks_resent)
		h->is_resent = true;
	if (k->has)
		*((bool *)((char *)h + k->has)) = true;
	if (act(h, k, f))
		return true;
	h->bad = f->whole;
	return false;
}

/* "From joe Sat Nov 21 ..." of an mbox in front of the header is kept under a name. */
static void keep_mbox_line(struct headers *h, struct span *text)
{
	size_t lf = span_find(*text, '\n');

	if (!is_mbox_line(*text) || begins_field(span_until(*text, lf)))
		return;
	keep(h, SPAN("MBOX-Line: "));
	keep(h, span_cut(text, lf == SPAN_NPOS ? text->n : lf + 1));
}

bool headers_read(struct headers *h, struct span text)
{
	struct header_field f;

	keep_mbox_line(h, &text);
	while (header_next(&text, &f)) {
		if (!read_field(h, &f))
			return false;
	}
	if (h->kept.n > 0 && h->kept.p[h->kept.n - 1] != '\n')
		keep(h, SPAN("\n"));              /* the message ended in its header */
	return !h->full;
}

/* ---- what it lacks */

static bool add_name(struct buf *b, struct span name)
{
	if (!buf_add_byte(b, '"'))
		return false;
	for (size_t i = 0; i < name.n; i++) {
		char c = name.p[i];

		if ((c == '"' || c == '\\') && !buf_add_byte(b, '\\'))
			return false;
		if (!buf_add_byte(b, c == '\n' || c == '\r' ? ' ' : c))
			return false;
	}
	return buf_add(b, SPAN("\" "));
}

static bool add_from(struct buf *b, const char *resent, const struct headers_new *n)
{
	if (!buf_fmt(b, "%sFrom: ", resent))
		return false;
	if (n->name.n == 0)
		return addr_quote_buf(b, n->from) && buf_add_byte(b, '\n');
	return add_name(b, n->name) && buf_add_byte(b, '<') && addr_quote_buf(b, n->from) &&
	       buf_add(b, SPAN(">\n"));
}

bool headers_missing(const struct headers *h, const struct headers_new *n, struct buf *b)
{
	const char *resent = h->is_resent ? "Resent-" : "";
	char        date[DATE_MAX];

	if (!(h->is_resent ? h->has_resent_date : h->has_date) &&
	    !buf_fmt(b, "%sDate: %s\n", resent, date_822(n->wall, date)))
		return false;
	if (!(h->is_resent ? h->has_resent_message_id : h->has_message_id) &&
	    !buf_fmt(b, "%sMessage-ID: <%s.%u.qmail@%.*s>\n", resent, date_stamp(n->wall, date),
	             n->pid, SPAN_ARG(n->idhost)))
		return false;
	return (h->is_resent ? h->has_resent_from : h->has_from) || add_from(b, resent, n);
}
