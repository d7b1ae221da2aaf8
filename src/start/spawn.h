/* spawn - one child of ours: forked, given its user, executed with a wire on descriptor 3. */
#ifndef START_SPAWN_H
#define START_SPAWN_H

#include "core/buf.h"
#include "start/roles.h"

#include <sys/types.h>

/* whom a role runs as, looked up once at start */
struct spawn_as {
	bool  change;
	uid_t uid;
	gid_t gid;
};

/* Is there more than one user to be: root, and not in a user namespace of one id. */
bool  spawn_privileged(void);
/* false: *why names the user or group that is missing. */
bool  spawn_lookup(const struct role_spec *s, bool privileged, struct spawn_as *ret,
		struct buf *why) must_use;
/* Executes bin_dir/quire-NAME --child.  The pid, with *ret_sock our end of its wire, or -errno. */
pid_t spawn_child(const char *bin_dir, const struct role_spec *s, const struct spawn_as *as,
		int *ret_sock);

#endif
