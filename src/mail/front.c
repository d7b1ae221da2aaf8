#include "mail/front.h"

#include "core/file.h"
#include "core/log.h"
#include "core/sandbox.h"

#include <unistd.h>

#define FDS_BESIDES 256                           /* descriptors that are no connections */

struct process {
	const struct front *f;
	struct loop        *loop;
	void               *server;
	struct role        *role;
	struct timer        patience;
	bool                serving;
};

static void serve(void *ctx)
{
	struct process *p = ctx;
	struct role    *r = p->role;

	if (p->serving)
		return;
	p->serving = true;
	timer_stop(p->loop, &p->patience);
	for (unsigned i = 0; i < r->listeners_n; i++)
		if (r->listeners[i].kind == p->f->listener)
			p->f->listen(p->server, r->listeners[i].fd);
	role_ready(r);
}

static void on_patience_over(struct timer *t)
{
	serve(owner_of(t, struct process, patience));
}

/* Front ends speak to the first shard's journald. */
static void on_peer(struct role *r, uint32_t role, uint32_t index, int fd)
{
	struct process *p = r->ctx;

	if (role == ROLE_JOURNALD && index == 0)
		p->f->attach(p->server, fd);
	else
		close(fd);
}

static void on_over(void *ctx)
{
	loop_stop(((struct process *)ctx)->loop);
}

static void on_drain(struct role *r)
{
	struct process *p = r->ctx;

	p->serving = true;                        /* not any more */
	timer_stop(p->loop, &p->patience);
	p->f->drain(p->server, on_over, p);
}

static const struct role_calls calls = {.peer = on_peer, .drain = on_drain};

static void want_descriptors(const struct control *c)
{
	uint64_t conns = control_setting(c, "concurrencyincoming");

	if (conns > COUNTERS_MAX)
		conns = COUNTERS_MAX;
	if (!fd_raise_limit(conns + FDS_BESIDES))
		log_note("odd", "RLIMIT_NOFILE is below concurrencyincoming", NULL);
}

void front_run(struct role *r, const struct front *f)
{
	struct counters *counters = counters_map(r->files[FILE_COUNTERS]);
	struct process   p = {.f = f, .role = r};

	if (!counters)
		role_trouble(r, "the table of connections is not ours");
	if (control_me(r->control).n == 0)
		role_trouble(r, "control/me: missing");
	p.loop = loop_new(LOOP_AUTO, f->recv_bufs);
	p.server = f->make(p.loop, r->control, counters, counters_column(f->role, r->index),
			   r->files[FILE_MORERCPTHOSTS]);
	want_descriptors(r->control);
	sandbox_enter(SANDBOX_NET_SERVER, NULL);

	role_watch(r, p.loop, &calls, &p);
	for (unsigned i = 0; i < r->peers_n; i++)
		on_peer(r, r->peers[i].role, r->peers[i].index, r->peers[i].fd);
	timer_init(&p.patience, on_patience_over);
	timer_set(p.loop, &p.patience, FRONT_PATIENCE_MS);
	f->await(p.server, serve, &p);
	loop_run(p.loop);
	log_flush();
}
