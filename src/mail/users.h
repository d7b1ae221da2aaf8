/* users - whose mail is it: users/cdb, then the password file.  docs/qmail.md 13. */
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

/* cdb NULL: no users/cdb.  alias_dir: alias/ of this home, where alias lives whatever the password
 * file says: a machine may have several homes.  single_user: everything runs as one user (an
 * unprivileged home): then the password file is not asked, and what users/cdb does not have is
 * alias's, with uid and gid of the process.
 * USERS_TEMP: the password file or a home directory can't be read now, or the arena is full. */
enum users_result users_find(const struct cdb_file *cdb, const char *alias_dir, bool single_user,
			     struct span local, struct arena *a, struct user *ret);

/* Where accounts come from: the system's, or a test's. */
enum account_result { ACCOUNT_OK, ACCOUNT_NONE, ACCOUNT_TEMP };
struct account_source {
	/* *ret in the arena */
	enum account_result (*find)(void *ctx, const char *name, struct arena *a,
				    struct user *ret);
	/* who owns the home directory */
	enum account_result (*owner)(void *ctx, const char *home, uid_t *ret);
	void *ctx;
};
enum users_result users_by_password(const struct account_source *from, struct span local,
				    struct arena *a, struct user *ret);

/* users/assign text into a cdb; 0, or the line that is wrong (*ret_why says how). */
unsigned users_compile(struct span assign, struct cdb_writer *w, const char **ret_why);

#endif
