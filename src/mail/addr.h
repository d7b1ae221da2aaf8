/* addr - envelope addresses as qmail sees them: bytes, split at the last '@'.
 *
 * An address is raw bytes, never quoted, except on the SMTP wire and in Return-Path. */
#ifndef MAIL_ADDR_H
#define MAIL_ADDR_H

#include "core/buf.h"
#include "core/outbuf.h"

#define ADDR_MAX 1002                             /* docs/qmail.md 2.1, qmail-queue's */

struct span addr_local(struct span addr); /* before the last '@'; all of it without one */
struct span addr_domain(struct span addr);        /* after the last '@'; empty without one */
bool        addr_has_at(struct span addr);
/* Quoted for SMTP commands, Return-Path and To lines (docs/qmail.md 2.2). */
void        addr_quote(struct outbuf *o, struct span addr);
bool        addr_quote_buf(struct buf *b, struct span addr) must_use;

/* No CR, LF or NUL in it: it can be said in an SMTP command.  addr_quote() writes such bytes as
 * they are, behind a backslash; a client that asks nobody must ask this first. */
bool        addr_fits_smtp(struct span addr);

/* The path of MAIL and RCPT: "<" [route ":"] path ">" or a bare word; quotes and backslashes
 * are taken off (docs/qmail.md 2.3).  Cuts it off *arg with the blanks around it; what follows
 * (parameters) stays there.  The address is written to dst, at most cap bytes (RFC 5321 4.1.2).
 * PATH_SYNTAX: no end mark, an open quote, a route without colon, nothing at all, a CR, LF or
 * NUL, or something other than a space behind the end mark. */
enum path_result { PATH_OK, PATH_SYNTAX, PATH_LONG };
enum path_result addr_take_path(struct span *arg, char *dst, size_t cap, struct span *ret);

/* "[1.2.3.4]" or "[IPv6:::1]" (RFC 5321 4.1.3), nothing after the bracket. */
struct ip;
bool addr_literal(struct span domain, struct ip *ret);

/* pre@host-@[] and rb@rh give prerb=rh@host; otherwise, and where b (2 * ADDR_MAX) is too
 * small, the sender as it is (docs/qmail.md 2.6).  The result is sender itself or lies in b. */
struct span addr_verp(struct span sender, struct span rcpt, struct buf *b);
/* A VERP template without its last four bytes; anything else unchanged. */
struct span addr_verp_base(struct span sender);

#endif
