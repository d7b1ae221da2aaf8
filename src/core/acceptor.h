/* acceptor - new connections from a listening socket, until it is closed.
 *
 * take() gets each new descriptor (close-on-exec, non-blocking) and owns it.  One that was being
 * accepted when the acceptor was closed still comes, so that somebody can tell it so.  When the process
 * has no descriptor or memory left, accepting pauses for ACCEPTOR_PAUSE_MS: the connections
 * wait in the kernel, and nothing spins. */
#ifndef CORE_ACCEPTOR_H
#define CORE_ACCEPTOR_H

#include "core/loop.h"

#define ACCEPTOR_PAUSE_MS 200

struct acceptor {
	struct loop *loop;
	struct op    op;
	struct timer pause;
	int          fd;
	bool         closed;
	void       (*take)(void *ctx, int fd);
	void        *ctx;
};

void acceptor_open(struct acceptor *a, struct loop *l, int fd, void (*take)(void *ctx, int fd),
		void *ctx);
/* may be called many times; fine on a zeroed one */
void acceptor_close(struct acceptor *a);
bool acceptor_is_gone(const struct acceptor *a);  /* closed, nothing armed: may be freed */

#endif
