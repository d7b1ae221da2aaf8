#include "core/acceptor.h"

#include "core/log.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

static void on_accepted(struct op *op, int res, unsigned flags);
static void on_pause_over(struct timer *t);

static void start(struct acceptor *a)
{
	loop_accept(a->loop, &a->op, a->fd);
}

void acceptor_open(struct acceptor *a, struct loop *l, int fd, void (*take)(void *ctx, int fd),
		   void *ctx)
{
	*a = (struct acceptor){.loop = l, .fd = fd, .take = take, .ctx = ctx};
	op_init(&a->op, on_accepted);
	timer_init(&a->pause, on_pause_over);
	start(a);
}

static void close_fd(struct acceptor *a)
{
	if (a->fd >= 0)
		close(a->fd);
	a->fd = -1;
}

/* Out of something that comes back: wait for it.  The rest (a connection that died in the
 * queue, a signal) is no reason to wait. */
static bool is_shortage(int error)
{
	return error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM;
}

static void on_accepted(struct op *op, int res, unsigned flags)
{
	struct acceptor *a = owner_of(op, struct acceptor, op);

	if (res >= 0)
		a->take(a->ctx, res);
	if (flags & OP_MORE)
		return;
	if (a->closed)
		return close_fd(a);
	if (res >= 0 || !is_shortage(-res))
		return start(a);
	log_note("odd", "can't accept for a moment", "error", strerror(-res), NULL);
	timer_set(a->loop, &a->pause, ACCEPTOR_PAUSE_MS);
}

static void on_pause_over(struct timer *t)
{
	start(owner_of(t, struct acceptor, pause));
}

void acceptor_close(struct acceptor *a)
{
	if (!a->loop || a->closed)
		return;
	a->closed = true;
	timer_stop(a->loop, &a->pause);
	if (a->op.armed)
		loop_cancel(a->loop, &a->op);
	else
		close_fd(a);
}

bool acceptor_is_gone(const struct acceptor *a)
{
	return !a->loop || (a->closed && !a->op.armed);
}
