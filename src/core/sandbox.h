/* sandbox - drop everything that a process does not need, in one call.
 *
 * no_new_privs (not for lspawn), not dumpable, then Landlock where the kernel has it.  A
 * refusal by the kernel is noted in the log once and is not fatal; what is dropped is
 * documented for each process in docs/processes.md. */
#ifndef CORE_SANDBOX_H
#define CORE_SANDBOX_H

#include "core/check.h"

enum sandbox {
	/* sockets we hold; no files, no new programs */
	SANDBOX_NET_SERVER,
	SANDBOX_NET_CLIENT,                       /* may connect; no files */
	SANDBOX_JOURNAL,                          /* files below the given directory only */
	SANDBOX_QUEUE,                            /* reads below the given directory only */
	SANDBOX_LOCAL                             /* lspawn: nothing but close-on-exec */
};

/* path: the one directory that stays reachable, or NULL. */
void sandbox_enter(enum sandbox kind, const char *path);

#endif
