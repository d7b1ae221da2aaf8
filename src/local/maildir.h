/* maildir - a mail becomes a file of its own.
 *
 * Written in tmp/, synced, renamed to new/, and new/ synced: when it returns true, a power
 * cut cannot take the mail away.  Blocking, as the user, relative paths from the home.
 * The maildir is never made here: a missing one may be a file server that is away. */
#ifndef LOCAL_MAILDIR_H
#define LOCAL_MAILDIR_H

#include "local/letter.h"
#include "local/report.h"

bool maildir_deliver(struct span dir, const struct letter *l, struct report *r) must_use;

#endif
