/* sendmail - the command by which programs of every origin send mail.
 *
 * sendmail_options.c reads the command line, sendmail.c does what it asks for.  Options and
 * rules are qmail's (docs/qmail.md 3.10 to 3.21).  The body streams; the header is held. */
#ifndef TOOLS_SENDMAIL_H
#define TOOLS_SENDMAIL_H

#include "core/check.h"

#include <stdbool.h>
#include <stdint.h>

enum sendmail_mode {
	SENDMAIL_SEND,                            /* -bm: a message on descriptor 0 */
	SENDMAIL_SMTP,                            /* -bs: a session on descriptors 0 and 1 */
	SENDMAIL_QUEUE,                           /* -bp, mailq */
	SENDMAIL_ALIASES,                         /* newaliases */
	SENDMAIL_HELP,
	SENDMAIL_VERSION,
	SENDMAIL_WRONG                            /* wrong use: wrong says how */
};
struct sendmail_options {
	enum sendmail_mode mode;
	const char  *called;                      /* as what: "sendmail", "mailq" */
	const char  *sender;                      /* -f; NULL without */
	const char  *name;                        /* -F; NULL without */
	bool         from_header;                 /* -t */
	bool         dots_are_data;               /* -i, -oi */
	char *const *rcpts;                       /* up to NULL */
	char         wrong[80];
};
struct sendmail_options sendmail_read_options(char *const *argv);

/* 0 queued (or done), 100 it never will be, 111 it may be if tried again; else one line on
 * standard error.  wait_ms: for the socket, as in mail/submit.h. */
int sendmail(const struct sendmail_options *o, const char *home, uint32_t wait_ms);

#endif
