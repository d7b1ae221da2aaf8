/* door - the socket that every user of this host may knock at (run/submit, mode 0666).
 *
 * Takes the conversation of mail/submit.h from qmail-queue, sendmail and local forwards, puts
 * the Received line in front, has the body packed by the packer's thread, and deposits it like
 * anybody's mail.  Who submits is SO_PEERCRED's uid and pid; nothing that is said names a
 * peer, a kind or an outcome. */
#ifndef JOURNAL_DOOR_H
#define JOURNAL_DOOR_H

#include "journal/packer.h"
#include "journal/store.h"

#define DOOR_UID_MAX     20         /* conversations of one user at a time; more wait, unread */
#define DOOR_ACTIVE_MAX  128                /* of all users: each holds up to 0.6 MiB of body */
#define DOOR_UID_WAITING 200                      /* more are refused */
#define DOOR_WAITING_MAX 1000                     /* of all users: each holds a descriptor */
#define DOOR_TIME_MS     (24ull * 3600 * 1000) /* docs/qmail.md 3.3: at most a day */

#define DOOR_NO_ALIAS UINT32_MAX

struct door;
/* fd: the listening socket; accepting begins with door_open(), once new mail is admitted for the
 * first time: who comes while a start is under way waits in the kernel.  alias_uid: whose mail
 * is "by alias"; DOOR_NO_ALIAS: nobody's. */
struct door *door_new(struct loop *l, int fd, struct store *s, struct packer *p,
		      uint32_t alias_uid);
void         door_open(struct door *d);           /* fine to call again */
/* No more; who has not said everything is answered "later".  Passes until door_is_closed(). */
void         door_close(struct door *d);
bool         door_is_closed(const struct door *d);
void         door_free(struct door *d);           /* closed; fine on NULL */

#endif
