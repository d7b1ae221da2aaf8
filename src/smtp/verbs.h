/* verbs - the commands, in a table that says when each is legal.  smtp.c and tests only. */
#ifndef SMTP_VERBS_H
#define SMTP_VERBS_H

#include "smtp/smtp.h"

/* The answer to one command line (without its line end); NULL: it is said already.
 * DATA and QUIT move the session by the two functions below. */
const struct reply *verbs_dispatch(struct smtp *s, struct span line);

void smtp_reset(struct smtp *s);                  /* ends the transaction, whatever its state */
void smtp_expect_body(struct smtp *s);
void smtp_end(struct smtp *s);                    /* what is said is the last */

#endif
