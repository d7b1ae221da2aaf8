/* headers - see headers.h. */
#include "tools/headers.h"

#include "mail/addr.h"
#include "mail/date.h"
#include "mail/header.h"

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
	struct span name;
	enum action action;
	bool        marks_resent;
	size_t      has;                          /* offset of the flag that it sets; 0: none */
};

#define HAS(flag) offsetof(struct headers, flag)

static const struct known known[] = {
	/* name                             action            resent has */
	{{"To", 2},                         RCPT,             false, 0},
	{{"Cc", 2},                         RCPT,             false, 0},
	{{"Bcc", 3},                        RCPT_DROP,        false, 0},
	{{"Apparently-To", 13},             RCPT,             false, 0},
	{{"Resent-To", 9},                  RESENT_RCPT,      true,  0},
	{{"Resent-Cc", 9},                  RESENT_RCPT,      true,  0},
	{{"Resent-Bcc", 10},                RESENT_RCPT_DROP, true,  0},
	{{"Return-Path", 11},               SENDER,           false, 0},
	{{"Content-Length", 14},            DROP,             false, 0},
	{{"Date", 4},                       KEEP,             false, HAS(has_date)},
	{{"From", 4},                       KEEP,             false, HAS(has_from)},
	{{"Message-ID", 10},                KEEP,             false, HAS(has_message_id)},
	{{"Resent-Date", 11},               KEEP,             true,  HAS(has_resent_date)},
	{{"Resent-From", 11},               KEEP,             true,  HAS(has_resent_from)},
	{{"Resent-Message-ID", 17},         KEEP,             true,  HAS(has_resent_message_id)},
	{{"Resent-Sender", 13},             KEEP,             true,  0},
	{{"Resent-Reply-To", 15},           KEEP,             true,  0},
};

void headers_init(struct headers *h, const struct rewrite *rw)
{
	*h = (struct headers){.rw = rw};
	buf_init(&h->kept, HEADERS_MAX + 64);     /* and an LF, or "MBOX-Line: " */
	buf_init(&h->plain, ENVELOPE_MAX);
	buf_init(&h->resent, ENVELOPE_MAX);
	buf_init(&h->return_path, 4 * ADDR_MAX);
}

void headers_fini(struct headers *h)
{
	buf_free(&h->kept);
	buf_free(&h->plain);
	buf_free(&h->resent);
	buf_free(&h->return_path);
}

struct taker {
	struct headers *h;
	struct buf     *list;
};

/* <> in a To line names nobody. */
static void take_recipient(void *ctx, const struct mailbox *m)
{
	struct taker *t = ctx;
	size_t        from = t->list->n;

	if (m->local.n == 0 && m->domain.n == 0)
		return;
	if (buf_add_byte(t->list, 'T') && rewrite_mailbox(t->h->rw, m, t->list) &&
	    !span_has(span_from(buf_span(t->list), from), '\0') && buf_add_byte(t->list, '\0'))
		return;
	t->list->n = from;
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

	return addrlist_parse(body, take_recipient, &t);
}

static bool read_sender(struct headers *h, struct span body)
{
	h->has_return_path = true;
	return addrlist_parse(body, take_return_path, h);
}

static const struct known *find(struct span name)
{
	for (size_t i = 0; i < ARRAY_N(known); i++) {
		if (span_ieq(known[i].name, name))
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
	size_t lf;

	if (!span_starts(*text, SPAN("From ")))
		return;
	lf = span_find(*text, '\n');
	keep(h, SPAN("MBOX-Line: "));
	keep(h, span_cut(text, lf == SPAN_NPOS ? text->n : lf + 1));
}

bool headers_read(struct headers *h, struct span text, size_t *ret_body_at, bool *ret_no_blank)
{
	struct span         all = text;
	struct header_field f;

	keep_mbox_line(h, &text);
	while (header_next(&text, &f)) {
		if (!read_field(h, &f))
			return false;
	}
	if (h->kept.n > 0 && h->kept.p[h->kept.n - 1] != '\n')
		keep(h, SPAN("\n"));              /* the message ended in its header */
	*ret_body_at = all.n - text.n;
	*ret_no_blank = text.n > 0 && !(*ret_body_at > 0 && all.p[*ret_body_at - 1] == '\n' &&
	                (*ret_body_at == 1 || all.p[*ret_body_at - 2] == '\n'));
	return !h->full;
}

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
	    !buf_fmt(b, "%sMessage-ID: <%s.%06u.%u.quire@%.*s>\n", resent, date_stamp(n->wall, date),
	             n->usec, n->pid, SPAN_ARG(n->idhost)))
		return false;
	if (!(h->is_resent ? h->has_resent_from : h->has_from) && !add_from(b, resent, n))
		return false;
	return true;
}
