/* stdio - an SMTP session over two descriptors, blocking: sendmail -bs.
 *
 * Whoever runs it is a user of this host, who could hand in anything by qmail-queue as well: any
 * recipient is taken, badmailfrom and the limits of control/ hold.  Mail goes to run/submit, so
 * it carries the Received line of the socket ("invoked by uid"), and no other. */
#ifndef SMTP_STDIO_H
#define SMTP_STDIO_H

#include "core/check.h"
#include "mail/control.h"

/* 0 after QUIT; 1: the client left, was too slow, or was shown the door. */
int smtp_stdio(int in, int out, const struct control *c, const char *submit_path) must_use;

#endif
