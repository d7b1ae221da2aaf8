/* headers - what sendmail does to the header of a message before it is queued.
 *
 * Reads the fields, collects the recipients that they name, takes out what must not be sent
 * (Bcc, Resent-Bcc, Return-Path, Content-Length) and knows what is missing.  All other fields
 * stay byte for byte.  docs/qmail.md. */
#ifndef TOOLS_HEADERS_H
#define TOOLS_HEADERS_H

#include "tools/addrlist.h"

#define HEADERS_MAX  (8 * 1024 * 1024)            /* half a million addresses in one To */
#define ENVELOPE_MAX (64 * 1024 * 1024)

struct headers {
	const struct rewrite *rw;
	struct buf  kept;                         /* the surviving fields */
	struct buf  plain, resent;                /* recipients: "T" address NUL, again and again */
	struct buf  return_path;                  /* the address of a Return-Path line */
	bool        has_return_path, is_resent;
	bool        has_date, has_from, has_message_id;
	bool        has_resent_date, has_resent_from, has_resent_message_id;
	bool        full;                         /* a limit was reached */
	struct span bad;                          /* the field that could not be parsed; else empty */
};

void headers_init(struct headers *h, const struct rewrite *rw);
void headers_fini(struct headers *h);
/* Reads the header at the front of text; *ret_body_at: where the body begins, behind the empty
 * line or at the first line that is no field (then *ret_no_blank: an empty line must be put in).
 * text holds the whole header.  false: h->bad or h->full says why. */
bool headers_read(struct headers *h, struct span text, size_t *ret_body_at, bool *ret_no_blank) must_use;

struct headers_new {                              /* what missing fields are made of */
	struct span from;                         /* an address */
	struct span name;                         /* of a person; may be empty */
	struct span idhost;
	uint64_t    wall;
	unsigned    usec, pid;
};
/* The missing fields, with Resent- in front where the message is resent. */
bool headers_missing(const struct headers *h, const struct headers_new *n, struct buf *b) must_use;

#endif
