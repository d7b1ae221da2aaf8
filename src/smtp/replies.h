/* replies - everything quire-smtpd can say, in one list (replies.c has codes and words).
 *
 * Codes and classes are qmail's where qmail has one (docs/qmail.md 5.1); enhanced codes are
 * RFC 2034's and RFC 3463's.  The greeting, the answers to HELO and EHLO, and 354 have none
 * (RFC 2034 4).  What carries a name or a number (greeting, HELO, EHLO, the acceptance) is written
 * by the functions below. */
#ifndef SMTP_REPLIES_H
#define SMTP_REPLIES_H

#include "core/outbuf.h"
#include "mail/reply.h"

/* Fine. */
REPLY_DECL(reply_sender_ok);
REPLY_DECL(reply_rcpt_ok);
REPLY_DECL(reply_go_ahead);
REPLY_DECL(reply_flushed);
REPLY_DECL(reply_noop);
REPLY_DECL(reply_vrfy);
REPLY_DECL(reply_help);

/* The client's grammar. */
REPLY_DECL(reply_unknown_verb);
REPLY_DECL(reply_line_too_long);
REPLY_DECL(reply_bad_bytes);
REPLY_DECL(reply_mail_first);
REPLY_DECL(reply_rcpt_first);
REPLY_DECL(reply_mail_syntax);
REPLY_DECL(reply_rcpt_syntax);
REPLY_DECL(reply_address_too_long);
REPLY_DECL(reply_param_unknown);
REPLY_DECL(reply_param_value);
REPLY_DECL(reply_param_twice);
REPLY_DECL(reply_rcpt_param);

/* What we do not take. */
REPLY_DECL(reply_sender_refused);
REPLY_DECL(reply_relay_denied);
REPLY_DECL(reply_too_many_rcpts);
REPLY_DECL(reply_too_large);
REPLY_DECL(reply_looping);

/* What we can't take now. */
REPLY_DECL(reply_not_now);
REPLY_DECL(reply_later);
REPLY_DECL(reply_disk_full);
REPLY_DECL(reply_much_open);
REPLY_DECL(reply_no_memory);

/* The end of a connection. */
REPLY_DECL(reply_bare_lf);
REPLY_DECL(reply_too_many_errors);
REPLY_DECL(reply_timeout);
REPLY_DECL(reply_going_down);
REPLY_DECL(reply_busy);
REPLY_DECL(reply_busy_with_you);

extern const struct reply *const smtp_replies[];  /* all of them, for tests and docs */
extern const unsigned            smtp_replies_n;

void reply_say(struct outbuf *out, const struct reply *r);
void reply_greeting(struct outbuf *out, struct span greeting);
void reply_helo(struct outbuf *out, struct span greeting);
void reply_ehlo(struct outbuf *out, struct span greeting, uint64_t databytes);
void reply_bye(struct outbuf *out, struct span greeting);
void reply_accepted(struct outbuf *out, uint64_t wall, uint64_t id);

#endif
