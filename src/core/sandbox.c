/* Landlock by its raw system calls, for there is no C library wrapper.  A ruleset handles
 * every right that the running kernel's ABI has; what no rule allows is then refused.
 *
 *   kind         files                            new TCP sockets may
 *   NET_SERVER   none                             nothing
 *   NET_CLIENT   none                             connect, and bind to say from where
 *   JOURNAL      all below path                   nothing
 *   QUEUE        reading below path               nothing
 *   LOCAL        not restricted                   not restricted
 *
 * Descriptors that are already open keep working; so they are the whole of what a process
 * has besides. */
#include "core/sandbox.h"

#include "core/log.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Of later kernels than the header of Debian 12 knows. */
#define FS_REFER       (1ULL << 13)               /* ABI 2 */
#define FS_TRUNCATE    (1ULL << 14)               /* ABI 3 */
#define FS_IOCTL_DEV   (1ULL << 15)               /* ABI 5 */
#define NET_BIND_TCP   (1ULL << 0)                /* ABI 4 */
#define NET_CONNECT    (1ULL << 1)                /* ABI 4 */
#define SCOPE_ABSTRACT (1ULL << 0)                /* ABI 6 */
#define SCOPE_SIGNAL   (1ULL << 1)                /* ABI 6 */

#define FS_READ (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)
#define FS_ALL                                                                              \
	(FS_READ | LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_WRITE_FILE |             \
	 LANDLOCK_ACCESS_FS_REMOVE_DIR | LANDLOCK_ACCESS_FS_REMOVE_FILE |                   \
	 LANDLOCK_ACCESS_FS_MAKE_CHAR | LANDLOCK_ACCESS_FS_MAKE_DIR |                       \
	 LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_MAKE_SOCK |                       \
	 LANDLOCK_ACCESS_FS_MAKE_FIFO | LANDLOCK_ACCESS_FS_MAKE_BLOCK |                     \
	 LANDLOCK_ACCESS_FS_MAKE_SYM)
#define FS_JOURNAL                                                                          \
	(FS_READ | LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_REMOVE_FILE |         \
	 LANDLOCK_ACCESS_FS_MAKE_REG | FS_TRUNCATE)

struct ruleset {                                  /* as the kernel has it since ABI 6 */
	uint64_t fs, net, scoped;
};

#ifdef QUIRE_SANITIZED
#define KEEP_DUMPABLE true                        /* LeakSanitizer looks at us by ptrace */
#else
#define KEEP_DUMPABLE false
#endif

static void note_once(const char *what)
{
	static bool noted;

	if (!noted)
		log_note("sandbox", what, "refused", strerror(errno), NULL);
	noted = true;
}

/* The size is how the kernel learns which of the fields we know; older ones know fewer. */
static size_t ruleset_for(int abi, enum sandbox kind, struct ruleset *ret)
{
	*ret = (struct ruleset){.fs = FS_ALL};
	if (abi >= 2)
		ret->fs |= FS_REFER;
	if (abi >= 3)
		ret->fs |= FS_TRUNCATE;
	if (abi >= 5)
		ret->fs |= FS_IOCTL_DEV;
	if (abi < 4)
		return offsetof(struct ruleset, net);
	ret->net = kind == SANDBOX_NET_CLIENT ? 0 : NET_BIND_TCP | NET_CONNECT;
	if (abi < 6)
		return offsetof(struct ruleset, scoped);
	ret->scoped = SCOPE_ABSTRACT | SCOPE_SIGNAL;
	return sizeof(*ret);
}

static bool allow(int rules, const char *path, uint64_t rights)
{
	struct landlock_path_beneath_attr below = {.allowed_access = rights};
	bool                              ok;

	below.parent_fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (below.parent_fd < 0)
		return false;
	ok = syscall(SYS_landlock_add_rule, rules, LANDLOCK_RULE_PATH_BENEATH, &below, 0) == 0;
	close(below.parent_fd);
	return ok;
}

static void restrict_self(enum sandbox kind, const char *path)
{
	struct ruleset set;
	size_t         set_n;
	uint64_t       rights;
	int            abi, rules;
	bool           ok = true;

	abi = (int)syscall(SYS_landlock_create_ruleset, NULL, 0,
	                   LANDLOCK_CREATE_RULESET_VERSION);
	if (abi < 0) {
		note_once("landlock");
		return;
	}
	set_n = ruleset_for(abi, kind, &set);
	rules = (int)syscall(SYS_landlock_create_ruleset, &set, set_n, 0);
	if (rules < 0) {
		note_once("landlock");
		return;
	}
	rights = kind == SANDBOX_JOURNAL ? FS_JOURNAL : FS_READ;
	if (path)
		ok = allow(rules, path, rights & set.fs);
	if (!ok)
		note_once(path);
	else if (syscall(SYS_landlock_restrict_self, rules, 0) != 0)
		note_once("landlock");
	close(rules);
}

void sandbox_enter(enum sandbox kind, const char *path)
{
	if (kind == SANDBOX_LOCAL)
		return;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		note_once("no_new_privs");
	if (!KEEP_DUMPABLE && prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		note_once("dumpable");
	restrict_self(kind, path);
}
