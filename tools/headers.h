/* headers - what sendmail does to the header of a message before it is queued.
 *
 * headers_end() says where the header ends while its bytes are still coming in; headers_read()
 * then walks the fields: it collects the recipients that they name, leaves out what must not be
 * sent (Bcc, Resent-Bcc, Return-Path, Content-Length) and sees what is missing.  All other
 * fields stay byte for byte and in their order.  docs/qmail.md 3.11, 3.15. */
#ifndef TOOLS_HEADERS_H
#define TOOLS_HEADERS_H

#include "tools/addrlist.h"

#define HEADERS_MAX  (8 * 1024 * 1024)            /* half a million addresses in one To */
#define ENVELOPE_MAX (64 * 1024 * 1024)           /* these with the host that each may need */

/* ---- where it ends: call again with more of the same text until it does */
enum headers_end {
	HEADERS_MORE,                             /* not in this text */
	HEADERS_EMPTY_LINE,                       /* before the empty line, which is the body's */
	HEADERS_NO_FIELD                          /* before a line that is no field: it lacks one */
};
struct headers_scan {
	size_t line;                              /* where the line begins that is looked at */
	size_t seen;                              /* the text up to here has no more LF */
	bool   in_field;                          /* a line may continue the one above */
};
/* whole: no more will come.  *ret_at: where the body begins (HEADERS_MORE: all is header). */
enum headers_end headers_end(struct headers_scan *s, struct span text, bool whole, size_t *ret_at);

/* ---- what is in it */
struct headers {
	const struct rewrite *rw;
	bool        collects;                     /* recipients are wanted (-t) */
	struct buf  kept;                         /* the surviving fields */
	struct buf  plain, resent;                /* recipients: address NUL, again and again */
	struct buf  return_path;                  /* the address of a Return-Path line */
	bool        has_return_path, is_resent;
	bool        has_date, has_from, has_message_id;
	bool        has_resent_date, has_resent_from, has_resent_message_id;
	bool        full;                         /* a limit was reached */
	struct span bad;                          /* the field that could not be parsed; else empty */
};

void headers_init(struct headers *h, const struct rewrite *rw, bool collects);
void headers_fini(struct headers *h);
/* text is the header alone, and must stay as long as h->bad is used.  false: h->bad or h->full
 * says why.  Only what is used must be well formed: recipients where they are collected. */
bool headers_read(struct headers *h, struct span text) must_use;
/* The recipients that count: of a resent message those of its Resent- fields. */
struct span headers_rcpts(const struct headers *h);

/* ---- what it lacks */
struct headers_new {                              /* what missing fields are made of */
	struct span from;                         /* an address */
	struct span name;                         /* of a person; may be empty */
	struct span idhost;
	uint64_t    wall;
	unsigned    pid;
};
/* The missing of Date, Message-ID and From, with Resent- in front where the message is resent. */
bool headers_missing(const struct headers *h, const struct headers_new *n, struct buf *b) must_use;

#endif
