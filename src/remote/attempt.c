/* attempt - see the header. */
#include "remote/attempt.h"

#include "core/pool.h"
#include "mail/addr.h"

static void on_found(struct mx_find *f);
static void try_next(struct attempt *a);
static void on_off(struct rider *r, enum ride_end end);
static void on_body(struct body_reader *r);

static void settle(struct attempt *a, enum outcome o, struct span text, enum task_slow slow)
{
	task_settle_rest(a->task, o, text, slow);
	a->over(a);
}

void attempt_start(struct attempt *a, struct net *n, const struct mx_world *w, struct bodies *b,
		   struct task *t, void (*over)(struct attempt *a))
{
	*a = (struct attempt){.net = n, .world = w, .task = t, .over = over};
	a->rider = (struct rider){.task = t, .off = on_off};
	if (body_reader_open(b, &a->reader, t->handle, on_body))
		t->source = &a->reader.source;
	mx_find(&a->find, w, n->loop, addr_domain(t->rcpt[0]), on_found);
}

void attempt_fini(struct attempt *a)
{
	check(!a->rider.conn);
	mx_cancel(&a->find);
	mem_free(a->list);
	body_reader_close(&a->reader);
	task_free(a->task);
}

void attempt_abandon(struct attempt *a)
{
	mx_cancel(&a->find);
	task_settle_rest(a->task, OUTCOME_DEFERRED, SPAN("Given up. (#4.3.0)\n"), TASK_FAST);
}

/* ---- where ------------------------------------------------------------------------------ */

/* A host name for people: what is not printable becomes '?'. */
static struct span host_text(struct attempt *a)
{
	struct span host = addr_domain(a->task->rcpt[0]);
	char        text[256];
	size_t      n = host.n < sizeof(text) ? host.n : sizeof(text);

	for (size_t i = 0; i < n; i++)
		text[i] = host.p[i] > 32 && host.p[i] < 127 ? host.p[i] : '?';
	return task_text(a->task, "%.*s", (int)n, text);
}

static void on_found(struct mx_find *f)
{
	struct attempt *a = owner_of(f, struct attempt, find);
	struct task    *t = a->task;
	enum mx_result  result = f->result;

	a->list = f->list;
	f->list = NULL;
	mx_cancel(f);
	switch (result) {
	case MX_FOUND:
		if (!t->source)
			settle(a, OUTCOME_DEFERRED,
			       SPAN("System resources temporarily unavailable. (#4.3.0)\n"),
			       TASK_FAST);
		else
			try_next(a);
		break;
	case MX_LATER:
		settle(a, OUTCOME_DEFERRED,
		       SPAN("Sorry, I couldn't find any host by that name. (#4.1.2)\n"),
		       TASK_UNREACHED);
		break;
	case MX_NO_HOST:
		settle(a, OUTCOME_FAILED,
		       task_text(t, "Sorry, I couldn't find any host named %.*s. (#5.1.2)\n",
				 SPAN_ARG(host_text(a))),
		       TASK_FAST);
		break;
	case MX_NO_ADDRESS:
		settle(a, OUTCOME_FAILED,
		       SPAN("Sorry, I couldn't find a mail exchanger or IP address. "
			    "(#5.4.4)\n"),
		       TASK_FAST);
		break;
	case MX_NULL:
		settle(a, OUTCOME_FAILED,
		       task_text(t,
				 "Sorry, %.*s says that it takes no mail: its MX record is a "
				 "null MX. (#5.1.10)\n",
				 SPAN_ARG(host_text(a))),
		       TASK_FAST);
		break;
	case MX_OURS:
		settle(a, OUTCOME_FAILED,
		       task_text(t,
				 "Sorry, mail for %.*s loops back to this host:\nDNS names it "
				 "as the best place, "
				 "but control/locals does not know that name. (#5.4.6)\n",
				 SPAN_ARG(host_text(a))),
		       TASK_FAST);
		break;
	}
}

/* ---- by what ------------------------------------------------------------------------------ */

static struct mx_host current_host(const struct attempt *a)
{
	struct mx_host h = a->list->host[a->at];

	if (h.qmtp && a->by_smtp) {
		h.qmtp = false;
		h.port = a->world->smtp_port;
	}
	return h;
}

static void next_host(struct attempt *a)
{
	a->again = 0;
	if (a->list->host[a->at].qmtp && !a->by_smtp) {
		a->by_smtp = true;
		return;
	}
	a->at++;
	a->by_smtp = false;
}

static void give_up(struct attempt *a)
{
	struct task *t = a->task;

	if (t->trouble.n > 0)
		settle(a, OUTCOME_DEFERRED, t->trouble, (enum task_slow)t->trouble_slow);
	else
		settle(a, OUTCOME_DEFERRED,
		       SPAN("Sorry, I wasn't able to establish an SMTP connection. (#4.4.1)\n"),
		       TASK_UNREACHED);
}

static void try_next(struct attempt *a)
{
	for (; a->at < a->list->n; next_host(a)) {
		struct mx_host  h = current_host(a);
		struct host_key k = conn_key(&h);

		if (hosts_skip(&a->net->hosts, &k))
			continue;
		if (conn_ride(a->net, &h, &a->rider))
			return;                   /* on_off() goes on */
		task_trouble(a->task,
			     SPAN("System resources temporarily unavailable. (#4.3.0)\n"),
			     TASK_FAST);
	}
	give_up(a);
}

static void on_off(struct rider *r, enum ride_end end)
{
	struct attempt *a = owner_of(r, struct attempt, rider);

	if (end != RIDE_DONE && a->net->dropping) {
		give_up(a);
		return;
	}
	switch (end) {
	case RIDE_DONE:
		a->over(a);
		return;
	case RIDE_AGAIN:
		if (++a->again > ATTEMPT_AGAIN_MAX)
			next_host(a);
		break;
	case RIDE_NEXT:
		next_host(a);
		break;
	}
	try_next(a);
}

static void on_body(struct body_reader *r)
{
	struct attempt *a = owner_of(r, struct attempt, reader);

	if (a->rider.conn)
		conn_more(a->rider.conn);
}
