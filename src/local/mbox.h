/* mbox - a mail is added to the end of a file, between locks.
 *
 * From_ line, Return-Path, Delivered-To, the mail with ">" in front of every line that is some
 * ">" and "From " (mboxrd: it can be undone), an empty line.  Synced before it returns true;
 * an error takes the file back to its old size.  Blocking, as the user. */
#ifndef LOCAL_MBOX_H
#define LOCAL_MBOX_H

#include "local/letter.h"
#include "local/report.h"

#define MBOX_LOCK_S 30 /* docs/qmail.md 14.8 */

bool mbox_deliver(struct span file, const struct letter *l, unsigned lock_s,
		  struct report *r) must_use;

#endif
