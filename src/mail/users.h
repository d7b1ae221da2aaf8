/* users - whose mail is it: users/cdb, then the password file.  docs/qmail.md. */
#ifndef MAIL_USERS_H
#define MAIL_USERS_H

#include "core/arena.h"
#include "mail/cdb.h"

#include <sys/types.h>

struct user {
	struct span user, home, dash, ext;        /* in the arena given */
	uid_t       uid;
	gid_t       gid;
};
enum users_result { USERS_OK, USERS_NO_ALIAS, USERS_BAD_CDB, USERS_TEMP };

/* cdb NULL: no users/cdb.  single: not NULL where everything runs as one user without a password
 * file of its own (an unprivileged home): then a local part L finds the home's users/L directory? no:
 * alias/ of the home with dash "-" and ext L, uid and gid of the process (docs/qmail.md). */
enum users_result users_find(const struct cdb_file *cdb, const char *single_alias_dir, struct span local,
                             struct arena *a, struct user *ret);
/* users/assign text into a cdb; 0, or the line that is wrong (*ret_why says how). */
unsigned users_compile(struct span assign, struct cdb_writer *w, const char **ret_why);

#endif
