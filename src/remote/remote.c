/* remote - see the header. */
#include "remote/remote.h"

#include "core/file.h"
#include "core/log.h"
#include "core/sandbox.h"
#include "remote/attempt.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define DNS_PORT         53
#define RESOLV_CONF_MAX  65536
#define LOOK_MS          1                        /* between two looks whether all is gone */

/* A wire, and which process is at its other end.  It frees itself when it is lost. */
struct end {
	struct wire    wire;
	struct remote *remote;
	unsigned       index;
	char           name[24];
};

struct remote {
	struct loop         *loop;
	struct remote_config cf;
	struct net           net;
	struct mx_world      world;
	struct own           own;
	struct bodies       *bodies;
	struct end          *sched, *body[REMOTE_BODIES];
	unsigned             ends;                /* wires that are not lost yet */
	struct pool          attempts;
	struct link          all;
	struct buf           verdict;
	struct timer         look;                /* while it ends */
	bool                 draining, freeing;
	struct deferred      last;
	void               (*over)(void *ctx);
	void                *over_ctx;
};

static void on_look(struct timer *t);

/* ---- tasks -------------------------------------------------------------------------------- */

static void maybe_over(struct remote *r)
{
	if (r->draining && list_is_empty(&r->all))
		loop_defer(r->loop, &r->last, PHASE_WORK);
}

/* Not before the last verdict has left us: its message would be delivered again. */
static void tell_over(struct remote *r)
{
	const struct wire *w = r->sched ? &r->sched->wire : NULL;

	if (w && w->sent < w->queued) {
		timer_set(r->loop, &r->look, LOOK_MS);
		return;
	}
	if (r->over)
		r->over(r->over_ctx);
	r->over = NULL;
}

static void on_last(struct deferred *d)
{
	tell_over(owner_of(d, struct remote, last));
}

static void send_verdict(struct remote *r, const struct task *t)
{
	struct msg_verdict v = {.job = t->number, .results = t->rcpts};

	if (!r->sched)
		return;
	buf_clear(&r->verdict);
	task_pack(t, &r->verdict);
	wire_send(&r->sched->wire, MSG_VERDICT, &v, sizeof(v), buf_span(&r->verdict));
}

static void attempt_free(struct remote *r, struct attempt *a)
{
	list_remove(&a->link);
	attempt_fini(a);
	pool_put(&r->attempts, a);
	maybe_over(r);
}

static struct remote *remote_of(struct attempt *a)
{
	return owner_of(a->net, struct remote, net);
}

static void on_attempt_over(struct attempt *a)
{
	struct remote *r = remote_of(a);

	if (a->task->stray_cr > 0) {
		char id[24], n[24];

		snprintf(id, sizeof(id), "%" PRIu64, a->task->id);
		snprintf(n, sizeof(n), "%" PRIu64, a->task->stray_cr);
		log_note("msg", id, "odd", "carriage returns sent as spaces", "n", n, NULL);
	}
	send_verdict(r, a->task);
	attempt_free(r, a);
}

/* Sched forgot, or is gone: nobody will ask what became of it. */
static void forget_tasks(struct remote *r)
{
	struct link *l;

	net_drop_all(&r->net);
	while ((l = list_first(&r->all))) {
		struct attempt *a = owner_of(l, struct attempt, link);

		attempt_abandon(a);
		attempt_free(r, a);
	}
}

/* ---- sched -------------------------------------------------------------------------------- */

static struct end *end_of(struct wire *w)
{
	return w->ctx;
}

static void refuse(struct wire *w, const char *what)
{
	log_note("peer", w->peer, "garbage", what, NULL);
	wire_close(w);
}

static void on_deliver(struct wire *w, struct wire_in *in)
{
	struct remote  *r = end_of(w)->remote;
	struct task    *t = task_new(in->body, in->tail);
	struct attempt *a;

	if (r->sched != end_of(w)) {
		task_free(t);
		return;
	}
	a = t ? pool_get(&r->attempts) : NULL;
	if (!a) {                                 /* not a delivery; or more than we said we take */
		task_free(t);
		refuse(w, "deliver");
		return;
	}
	attempt_start(a, &r->net, &r->world, r->bodies, t, on_attempt_over);
	list_add_end(&r->all, &a->link);
}

static void on_close(struct wire *w, struct wire_in *in)
{
	const struct msg_close *m = in->body;

	if (end_of(w)->remote->sched == end_of(w))
		bodies_close(end_of(w)->remote->bodies, m->handle);
}

static const struct wire_handler sched_handlers[] = {
	{MSG_DELIVER, sizeof(struct msg_deliver), true, false, on_deliver},
	{MSG_CLOSE, sizeof(struct msg_close), false, false, on_close},
};

static const struct bodies_calls bodies_calls;

/* The next sched begins with handles of its own. */
static void forget_sched(struct remote *r)
{
	r->sched = NULL;
	forget_tasks(r);
	bodies_free(r->bodies);
	r->bodies = bodies_new(&bodies_calls, r);
}

static void on_sched_lost(struct wire *w)
{
	struct end    *e = end_of(w);
	struct remote *r = e->remote;

	if (r->sched == e)
		forget_sched(r);
	r->ends--;
	mem_free(e);
}

static struct end *end_new(struct remote *r, const char *role, unsigned index)
{
	struct end *e = mem_new(sizeof(*e));

	e->remote = r;
	e->index = index;
	snprintf(e->name, sizeof(e->name), "%s/%u", role, index);
	r->ends++;
	return e;
}

void remote_sched(struct remote *r, int fd)
{
	struct msg_agent m = {.jobs_max = r->attempts.max};
	struct end      *old = r->sched;

	if (old) {
		forget_sched(r);
		wire_close(&old->wire);
	}
	r->sched = end_new(r, "sched", 0);
	wire_init(&r->sched->wire, r->loop, fd, r->sched->name, sched_handlers,
		  ARRAY_N(sched_handlers), on_sched_lost, r->sched);
	wire_send(&r->sched->wire, MSG_AGENT, &m, sizeof(m), SPAN_NONE);
}

/* ---- bodies ------------------------------------------------------------------------------- */

static void want_part(void *ctx, unsigned giver, uint32_t handle, uint32_t number)
{
	struct remote  *r = ctx;
	struct msg_want m = {.handle = handle, .number = number};

	if (r->body[giver])
		wire_send(&r->body[giver]->wire, MSG_WANT, &m, sizeof(m), SPAN_NONE);
}

static const struct bodies_calls bodies_calls = {.want = want_part};

static bool is_current(const struct end *e)
{
	return e->remote->body[e->index] == e;
}

static void on_partdata(struct wire *w, struct wire_in *in)
{
	struct end *e = end_of(w);

	if (is_current(e) && !bodies_part(e->remote->bodies, e->index, in->body, in->tail))
		refuse(w, "part");
}

static void on_bodyfail(struct wire *w, struct wire_in *in)
{
	const struct msg_close *m = in->body;

	if (is_current(end_of(w)))
		bodies_fail(end_of(w)->remote->bodies, m->handle);
}

static const struct wire_handler body_handlers[] = {
	{MSG_PARTDATA, sizeof(struct msg_partdata), true, false, on_partdata},
	{MSG_BODYFAIL, sizeof(struct msg_close), false, false, on_bodyfail},
};

static void forget_body(struct remote *r, unsigned index)
{
	r->body[index] = NULL;
	bodies_giver_lost(r->bodies, index);
}

static void on_body_lost(struct wire *w)
{
	struct end    *e = end_of(w);
	struct remote *r = e->remote;

	if (is_current(e))
		forget_body(r, e->index);
	r->ends--;
	mem_free(e);
}

void remote_body(struct remote *r, unsigned index, int fd)
{
	struct end *old;

	if (index >= REMOTE_BODIES) {
		log_note("odd", "too many processes for bodies", NULL);
		close(fd);
		return;
	}
	old = r->body[index];
	if (old) {
		forget_body(r, index);
		wire_close(&old->wire);
	}
	r->body[index] = end_new(r, "body", index);
	wire_init(&r->body[index]->wire, r->loop, fd, r->body[index]->name, body_handlers,
	          ARRAY_N(body_handlers), on_body_lost, r->body[index]);
}

/* ---- configuration ------------------------------------------------------------------------ */

static void add_server(struct resolver_config *rc, struct span s)
{
	struct ip ip;
	uint16_t  port;

	if (rc->servers == RESOLVER_SERVERS_MAX || !ip_parse_port(s, DNS_PORT, &ip, &port)
	    || ip.family == 0)
		return;
	rc->server[rc->servers].ip = ip;
	rc->server[rc->servers].port = port;
	rc->servers++;
}

static void add_listed_server(void *ctx, struct span entry, unsigned line)
{
	add_server(ctx, entry);
}

/* "nameserver 1.2.3.4": resolv.conf(5).  A v6 address there has no brackets and no port. */
static void add_resolv_conf(struct resolver_config *rc, struct span text)
{
	while (text.n > 0) {
		struct span line = span_cut(&text, span_find(text, '\n'));

		span_cut(&text, 1);
		if (!span_skip(&line, SPAN("nameserver")) || line.n == 0
		    || (line.p[0] != ' ' && line.p[0] != '\t'))
			continue;
		line = span_trim(line);
		add_server(rc, span_word(&line));
	}
}

static void configure_resolver(struct remote *r, const struct control *c)
{
	struct resolver_config rc = {.try_ms = r->cf.dns_try_ms};

	control_list(c, "resolvers", add_listed_server, &rc);
	if (rc.servers == 0)
		add_resolv_conf(&rc, r->cf.resolv_conf);
	if (rc.servers == 0)                      /* resolv.conf(5): then the local one */
		add_server(&rc, SPAN("127.0.0.1"));
	if (r->world.resolver)
		resolver_configure(r->world.resolver, &rc);
	else
		r->world.resolver = resolver_new(r->loop, &rc);
}

static uint64_t seconds(const struct control *c, const char *name)
{
	return 1000 * control_setting(c, name);
}

static void configure_net(struct remote *r, const struct control *c)
{
	struct net *n = &r->net;

	if (!span_to_cstr(span_until(control_setting_line(c, "helohost"), SMTP_HELLO_MAX),
			  n->hello, sizeof(n->hello)))
		n->hello[0] = '\0';
	n->connect_ms = r->cf.connect_ms ? r->cf.connect_ms : seconds(c, "timeoutconnect");
	n->talk_ms = r->cf.talk_ms ? r->cf.talk_ms : seconds(c, "timeoutremote");
	n->gap_ms = r->cf.gap_ms ? r->cf.gap_ms : QMTP_GAP_MS;
	n->keep_smtp_ms = r->cf.keep_smtp_ms ? r->cf.keep_smtp_ms : IDLE_SMTP_MS;
	n->keep_qmtp_ms = r->cf.keep_qmtp_ms ? r->cf.keep_qmtp_ms : IDLE_QMTP_MS;
}

void remote_configure(struct remote *r, const struct control *c)
{
	control_set_free(r->world.qmtproutes);
	control_set_free(r->world.smtproutes);
	r->world.qmtproutes = control_map_new(c, "qmtproutes");
	r->world.smtproutes = control_map_new(c, "smtproutes");
	own_fini(&r->own);
	own_init(&r->own, c);
	configure_resolver(r, c);
	configure_net(r, c);
}

/* ---- beginning and end -------------------------------------------------------------------- */

struct remote *remote_new(struct loop *l, const struct remote_config *cf,
			  const struct control *c)
{
	struct remote *r = mem_new(sizeof(*r));
	unsigned       tasks_max = cf->tasks_max ? cf->tasks_max : REMOTE_TASKS_MAX;

	r->loop = l;
	r->cf = *cf;
	net_init(&r->net, l, cf->conns_max ? cf->conns_max : 2 * tasks_max + IDLE_MAX);
	r->world.own = &r->own;
	r->world.smtp_port = cf->smtp_port ? cf->smtp_port : SMTP_PORT;
	r->world.qmtp_port = cf->qmtp_port ? cf->qmtp_port : QMTP_PORT;
	pool_init(&r->attempts, sizeof(struct attempt), tasks_max);
	list_init(&r->all);
	buf_init(&r->verdict, WIRE_FRAME_MAX);
	r->bodies = bodies_new(&bodies_calls, r);
	deferred_init(&r->last, on_last);
	timer_init(&r->look, on_look);
	remote_configure(r, c);
	return r;
}

unsigned remote_tasks(const struct remote *r)
{
	return r->attempts.used;
}

void remote_drain(struct remote *r, void (*over)(void *ctx), void *ctx)
{
	r->draining = true;
	r->over = over;
	r->over_ctx = ctx;
	maybe_over(r);
}

static void maybe_gone(struct remote *r)
{
	void (*gone)(void *) = r->over;
	void  *ctx = r->over_ctx;

	if (r->ends > 0 || !net_is_empty(&r->net)) {
		timer_set(r->loop, &r->look, LOOK_MS);
		return;
	}
	net_fini(&r->net);
	bodies_free(r->bodies);
	pool_fini(&r->attempts);
	own_fini(&r->own);
	control_set_free(r->world.qmtproutes);
	control_set_free(r->world.smtproutes);
	buf_free(&r->verdict);
	mem_free(r);
	gone(ctx);
}

static void on_look(struct timer *t)
{
	struct remote *r = owner_of(t, struct remote, look);

	if (r->freeing)
		maybe_gone(r);
	else
		tell_over(r);
}

void remote_free(struct remote *r, void (*gone)(void *ctx), void *ctx)
{
	r->freeing = true;
	r->draining = false;
	deferred_cancel(&r->last);
	forget_tasks(r);
	if (r->sched)
		wire_close(&r->sched->wire);
	for (unsigned i = 0; i < REMOTE_BODIES; i++)
		if (r->body[i])
			wire_close(&r->body[i]->wire);
	resolver_free(r->world.resolver);
	r->over = gone;
	r->over_ctx = ctx;
	timer_set(r->loop, &r->look, LOOK_MS);
}

/* ---- the process -------------------------------------------------------------------------- */

struct process {
	struct loop   *loop;
	struct remote *remote;
};

static void on_peer(struct role *role, uint32_t kind, uint32_t index, int fd)
{
	struct process *p = role->ctx;

	if (kind == ROLE_SCHED)
		remote_sched(p->remote, fd);
	else if (kind == ROLE_BODY)
		remote_body(p->remote, index, fd);
	else
		close(fd);
}

static void on_control(struct role *role)
{
	struct process *p = role->ctx;

	remote_configure(p->remote, role->control);
}

static void on_drained(void *ctx)
{
	struct process *p = ctx;

	loop_stop(p->loop);
}

static void on_drain(struct role *role)
{
	struct process *p = role->ctx;

	remote_drain(p->remote, on_drained, p);
}

static const struct role_calls role_calls = {
	.peer = on_peer, .control = on_control, .drain = on_drain};

/* As many tasks as there are descriptors for, each with a connection of its own; and as many
 * connections that are done and wait for their peer's end. */
static void size_by_descriptors(struct remote_config *cf, const struct control *c)
{
	unsigned long want = 2 * REMOTE_TASKS_MAX + IDLE_MAX + REMOTE_FDS_BESIDES;
	long          have;

	cf->tasks_max = REMOTE_TASKS_MAX;
	if (fd_raise_limit(want))
		return;
	have = sysconf(_SC_OPEN_MAX);
	cf->conns_max = have > 2 * REMOTE_FDS_BESIDES ? (unsigned)have - REMOTE_FDS_BESIDES
						      : REMOTE_FDS_BESIDES / 2;
	cf->tasks_max = cf->conns_max / 2;
	if (cf->tasks_max < control_setting(c, "concurrencyremote"))
		log_note("odd", "RLIMIT_NOFILE is too low for concurrencyremote", NULL);
}

void remote_run(struct role *role)
{
	struct remote_config cf = {0};
	struct process       p = {0};
	struct buf           resolv_conf;

	if (control_setting_line(role->control, "helohost").n == 0)
		role_trouble(role, "neither control/helohost nor control/me is there");
	size_by_descriptors(&cf, role->control);
	buf_init(&resolv_conf, RESOLV_CONF_MAX);
	if (file_read(AT_FDCWD, "/etc/resolv.conf", &resolv_conf) == 0)
		cf.resolv_conf = buf_span(&resolv_conf);
	p.loop = loop_new(LOOP_AUTO, REMOTE_RECV_BUFS);
	p.remote = remote_new(p.loop, &cf, role->control);
	sandbox_enter(SANDBOX_NET_CLIENT, NULL);

	role_watch(role, p.loop, &role_calls, &p);
	for (unsigned i = 0; i < role->peers_n; i++)
		on_peer(role, role->peers[i].role, role->peers[i].index, role->peers[i].fd);
	role_ready(role);
	loop_run(p.loop);
	log_flush();
}
