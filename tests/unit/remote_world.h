/* A whole quire-remote in the test's process: fake sched and body at socket pairs, a name
 * server, and SMTP and QMTP sinks at addresses of 127/8, all on one loop. */
#ifndef REMOTE_WORLD_H
#define REMOTE_WORLD_H

#include "dns_server.h"

#include "core/buf.h"
#include "core/clock.h"
#include "core/wire.h"
#include "mail/dots.h"
#include "mail/line.h"
#include "remote/remote.h"

#define WORLD_JOBS  1200
#define WORLD_SINKS 8
#define WORLD_TEXT  400

enum sink_mood {
	SINK_OK, SINK_GREETS_421, SINK_GREETS_554, SINK_HANGS_UP, SINK_DIES_AFTER_MAIL, SINK_DIES_AFTER_DOT,
	SINK_REFUSES_RCPT, SINK_SILENT, SINK_ONE_ANSWER /* QMTP: once a package */, SINK_ONE_TASK /* then it closes */,
	SINK_SAYS_Z
};

struct sink {
	struct world  *world;
	bool           qmtp, pipelining;
	enum sink_mood mood;
	int            fd;
	struct op      accept;
	unsigned       conns, open, messages, rcpts;      /* counted; open: now */
	struct buf     last;                      /* the last message's bytes */
	char           last_mail[512];
};

struct sink_conn {
	struct stream  stream;
	struct sink   *sink;
	struct line    line;
	struct dots_in dots;
	struct buf     body, in;
	bool           in_data, dead;
	unsigned       rcpts, messages;
};

struct world_job {
	bool     done;
	unsigned rcpts;
	uint8_t  outcome[120], slow[120];
	char     text[WORLD_TEXT];                /* of recipient 0 */
	char     text1[WORLD_TEXT];               /* of recipient 1 */
};

struct world {
	struct loop      *loop;
	struct dns_server dns;
	struct remote    *remote;
	struct control   *control;
	struct wire       sched, body;
	bool              sched_lost, body_lost, gone, over;
	uint16_t          smtp_port, qmtp_port;
	struct sink       sink[WORLD_SINKS];
	unsigned          sinks;
	struct world_job  job[WORLD_JOBS];
	unsigned          jobs_done, jobs_max, wants;
	struct span       bytes;                  /* every body */
	size_t            part;
	unsigned          refuse_from;            /* parts from this number on can't be read; 0: none */
	bool              tick;
};
static struct world w;

/* ---- sinks */

static inline void sink_store(struct sink_conn *c, struct span body)
{
	struct sink *s = c->sink;

	buf_clear(&s->last);
	assert_true(buf_add(&s->last, body));
	s->messages++;
	s->rcpts += c->rcpts;
	c->messages++;
}

static inline void sink_say(struct sink_conn *c, const char *text)
{
	out_str(stream_out(&c->stream), text);
}

static inline void sink_die(struct sink_conn *c)
{
	c->dead = true;
	stream_drop(&c->stream);
}

static inline void sink_put(void *ctx, struct span run)
{
	struct sink_conn *c = ctx;

	assert_true(buf_add(&c->body, run));
}

static inline void sink_end_of_data(struct sink_conn *c)
{
	c->in_data = false;
	if (c->sink->mood == SINK_DIES_AFTER_DOT) {
		sink_die(c);
		return;
	}
	sink_store(c, buf_span(&c->body));
	buf_clear(&c->body);
	c->rcpts = 0;
	sink_say(c, "250 ok stored\r\n");
	if (c->sink->mood == SINK_ONE_TASK)
		stream_close(&c->stream);
}

static inline void sink_command(struct sink_conn *c, struct span line)
{
	struct span verb = span_until(line, 4);

	if (span_ieq(verb, SPAN("EHLO"))) {
		sink_say(c, c->sink->pipelining ? "250-sink\r\n250-SIZE\r\n250 PIPELINING\r\n" : "250 sink\r\n");
	} else if (span_ieq(verb, SPAN("MAIL"))) {
		snprintf(c->sink->last_mail, sizeof(c->sink->last_mail), "%.*s", SPAN_ARG(line));
		if (c->sink->mood == SINK_DIES_AFTER_MAIL)
			sink_die(c);
		else
			sink_say(c, "250 ok\r\n");
	} else if (span_ieq(verb, SPAN("RCPT"))) {
		if (c->sink->mood == SINK_REFUSES_RCPT) {
			sink_say(c, "550 5.1.1 nobody\r\n");
			return;
		}
		c->rcpts++;
		sink_say(c, "250 ok\r\n");
	} else if (span_ieq(verb, SPAN("DATA"))) {
		if (c->rcpts == 0) {
			sink_say(c, "503 nobody\r\n");
			return;
		}
		c->in_data = true;
		dots_in_begin(&c->dots);
		sink_say(c, "354 go\r\n");
	} else if (span_ieq(verb, SPAN("QUIT"))) {
		sink_say(c, "221 bye\r\n");
		stream_close(&c->stream);
	} else {
		sink_say(c, "250 ok\r\n");
	}
}

static inline void sink_smtp_bytes(struct sink_conn *c, struct span *in)
{
	struct span line;

	while (in->n > 0 && !c->dead) {
		if (c->in_data) {
			switch (dots_in_take(&c->dots, in, sink_put, c)) {
			case BODY_MORE:    break;
			case BODY_END:     sink_end_of_data(c); break;
			case BODY_BARE_LF: fail_msg("a bare LF left us"); break;
			}
			continue;
		}
		if (line_take(&c->line, in, &line) == LINE_OK)
			sink_command(c, line);
	}
}

static inline bool sink_netstring(struct span *in, struct span *ret)
{
	size_t   colon = span_find(*in, ':');
	uint64_t n;

	if (colon == SPAN_NPOS)
		return false;
	assert_true(span_u64(span_until(*in, colon), 100000000, &n));
	if (in->n < colon + 1 + n + 1)
		return false;
	span_cut(in, colon + 1);
	*ret = span_cut(in, n);
	assert_int_equal(*span_cut(in, 1).p, ',');
	return true;
}

static inline bool sink_package(struct sink_conn *c)
{
	struct span in = buf_span(&c->in), message, sender, rcpts, rcpt;
	unsigned    answers;

	if (!sink_netstring(&in, &message) || !sink_netstring(&in, &sender) || !sink_netstring(&in, &rcpts))
		return false;
	snprintf(c->sink->last_mail, sizeof(c->sink->last_mail), "%.*s", SPAN_ARG(sender));
	for (c->rcpts = 0; rcpts.n > 0; c->rcpts++)
		assert_true(sink_netstring(&rcpts, &rcpt));
	answers = c->sink->mood == SINK_ONE_ANSWER ? 1 : c->rcpts;
	assert_int_equal(message.p[0], '\n');
	if (c->sink->mood == SINK_DIES_AFTER_DOT) {
		sink_die(c);
		return false;
	}
	if (c->sink->mood != SINK_SAYS_Z)
		sink_store(c, span_from(message, 1));
	for (unsigned i = 0; i < answers; i++)
		sink_say(c, c->sink->mood == SINK_SAYS_Z ? "10:Zcome back," : "10:Kok stored,");
	buf_drop_front(&c->in, c->in.n - in.n);
	if (c->sink->mood == SINK_ONE_TASK) {
		stream_close(&c->stream);
		return false;
	}
	return true;
}

static inline void sink_bytes(struct stream *st, struct span *in)
{
	struct sink_conn *c = owner_of(st, struct sink_conn, stream);

	if (c->dead || c->sink->mood == SINK_SILENT) {
		span_cut(in, in->n);
	} else if (c->sink->qmtp) {
		assert_true(buf_add(&c->in, span_cut(in, in->n)));
		while (sink_package(c))
			;
	} else {
		sink_smtp_bytes(c, in);
	}
}

static inline void sink_lost(struct stream *st, enum lost why, int error)
{
	struct sink_conn *c = owner_of(st, struct sink_conn, stream);

	c->sink->open--;
	line_fini(&c->line);
	buf_free(&c->body);
	buf_free(&c->in);
	mem_free(c);
}

static inline void sink_accept(struct op *op, int res, unsigned flags)
{
	static const struct stream_calls calls = {.bytes = sink_bytes, .lost = sink_lost};
	struct sink      *s = owner_of(op, struct sink, accept);
	struct sink_conn *c;

	if (res < 0)
		return;
	c = mem_new(sizeof(*c));
	c->sink = s;
	s->conns++;
	s->open++;
	line_init(&c->line, 4096);
	buf_init(&c->body, 16 << 20);
	buf_init(&c->in, 16 << 20);
	stream_init(&c->stream, s->world->loop, &calls);
	stream_take(&c->stream, res);
	if (s->mood == SINK_HANGS_UP) {
		sink_die(c);
	} else if (s->mood == SINK_GREETS_421 || s->mood == SINK_GREETS_554) {
		sink_say(c, s->mood == SINK_GREETS_421 ? "421 4.3.2 busy\r\n" : "554 5.3.2 no mail here\r\n");
		stream_close(&c->stream);
	} else if (!s->qmtp && s->mood != SINK_SILENT) {
		sink_say(c, "220 sink\r\n");
	}
}

static inline int world_listen(const char *ip, uint16_t *port)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(*port)};
	socklen_t          n = sizeof(a);
	int                one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	assert_int_equal(inet_pton(AF_INET, ip, &a.sin_addr), 1);
	assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &n), 0);
	assert_int_equal(listen(fd, 512), 0);
	*port = ntohs(a.sin_port);
	return fd;
}

/* At 127.0.0.`last`; all SMTP sinks share a port, and all QMTP sinks. */
static inline struct sink *world_sink(unsigned last, bool qmtp, enum sink_mood mood)
{
	struct sink *s = &w.sink[w.sinks++];
	char         ip[32];

	assert_true(w.sinks <= WORLD_SINKS);
	*s = (struct sink){.world = &w, .qmtp = qmtp, .mood = mood, .pipelining = true};
	snprintf(ip, sizeof(ip), "127.0.0.%u", last);
	s->fd = world_listen(ip, qmtp ? &w.qmtp_port : &w.smtp_port);
	buf_init(&s->last, 16 << 20);
	op_init(&s->accept, sink_accept);
	loop_accept(w.loop, &s->accept, s->fd);
	return s;
}

/* ---- fake sched and body */

static inline void world_on_agent(struct wire *wire, struct wire_in *in)
{
	w.jobs_max = ((const struct msg_agent *)in->body)->jobs_max;
}

static inline void world_on_verdict(struct wire *wire, struct wire_in *in)
{
	const struct msg_verdict *v = in->body;
	struct world_job         *j = &w.job[v->job];
	struct span               tail = in->tail;

	assert_true(v->job < WORLD_JOBS && !j->done);
	assert_int_equal(v->results, j->rcpts);
	for (unsigned i = 0; i < v->results; i++) {
		struct msg_result r;
		struct span       text;

		assert_true(tail.n >= sizeof(r));
		memcpy(&r, span_cut(&tail, sizeof(r)).p, sizeof(r));
		text = span_until(span_cut(&tail, MSG_PAD8(r.text_n)), r.text_n);
		assert_int_equal(r.rcpt, i);
		assert_true(r.text_n > 0 && r.text_n <= RESULT_TEXT_MAX);
		j->outcome[i] = r.outcome;
		j->slow[i] = r.slow;
		if (i == 0)
			snprintf(j->text, sizeof(j->text), "%.*s", SPAN_ARG(text));
		if (i == 1)
			snprintf(j->text1, sizeof(j->text1), "%.*s", SPAN_ARG(text));
	}
	assert_int_equal(tail.n, 0);
	j->done = true;
	w.jobs_done++;
}

static inline void world_send_part(uint32_t handle, uint32_t number)
{
	uint32_t            of = w.bytes.n == 0 ? 1 : (uint32_t)((w.bytes.n + w.part - 1) / w.part);
	struct msg_partdata m = {.handle = handle, .number = number, .of = of, .size = w.bytes.n};

	wire_send(&w.body, MSG_PARTDATA, &m, sizeof(m), span_until(span_from(w.bytes, number * w.part), w.part));
}

static inline void world_on_want(struct wire *wire, struct wire_in *in)
{
	const struct msg_want *m = in->body;
	struct msg_close       c = {.handle = m->handle};

	w.wants++;
	if (w.refuse_from && m->number >= w.refuse_from)
		wire_send(&w.body, MSG_BODYFAIL, &c, sizeof(c), SPAN_NONE);
	else
		world_send_part(m->handle, m->number);
}

static inline void world_sched_lost(struct wire *wire)
{
	w.sched_lost = true;
}

static inline void world_body_lost(struct wire *wire)
{
	w.body_lost = true;
}

static const struct wire_handler world_sched_handlers[] = {
	{MSG_AGENT, sizeof(struct msg_agent), false, false, world_on_agent},
	{MSG_VERDICT, sizeof(struct msg_verdict), true, false, world_on_verdict},
};
static const struct wire_handler world_body_handlers[] = {
	{MSG_WANT, sizeof(struct msg_want), false, false, world_on_want},
};

static inline int world_pair(struct wire *wire, const struct wire_handler *h, size_t n, void (*lost)(struct wire *))
{
	int fd[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fd), 0);
	wire_init(wire, w.loop, fd[0], "test", h, n, lost, NULL);
	return fd[1];
}

static inline void world_new_sched(void)
{
	w.sched_lost = false;
	remote_sched(w.remote, world_pair(&w.sched, world_sched_handlers, ARRAY_N(world_sched_handlers), world_sched_lost));
}

static inline void world_new_body(void)
{
	w.body_lost = false;
	remote_body(w.remote, 0, world_pair(&w.body, world_body_handlers, ARRAY_N(world_body_handlers), world_body_lost));
}

/* rcpts: "a@h b@h". */
static inline void world_deliver(uint32_t job, uint32_t handle, const char *sender, const char *rcpts)
{
	struct msg_deliver d = {.job = job, .handle = handle, .id = 7000 + job, .size = w.bytes.n};
	struct span        all = span_str(rcpts);
	struct buf         packed;

	buf_init(&packed, 1 << 20);
	d.sender_n = (uint16_t)strlen(sender);
	for (; all.n > 0; d.rcpts++)
		assert_true(packed_add(&packed, span_word(&all)));
	memset(&w.job[job], 0, sizeof(w.job[job]));
	w.job[job].rcpts = d.rcpts;
	wire_send2(&w.sched, MSG_DELIVER, &d, sizeof(d), span_str(sender), buf_span(&packed));
	buf_free(&packed);
}

static inline void world_close(uint32_t handle)
{
	struct msg_close m = {.handle = handle};

	wire_send(&w.sched, MSG_CLOSE, &m, sizeof(m), SPAN_NONE);
}

static inline void world_on_tick(struct timer *t)
{
	w.tick = true;
}

static inline void world_run_for(uint64_t ms)
{
	struct timer t;

	timer_init(&t, world_on_tick);
	w.tick = false;
	timer_set(w.loop, &t, ms);
	while (!w.tick)
		loop_pass(w.loop);
}

static inline void world_run_until(const bool *flag)
{
	struct timer t;

	timer_init(&t, world_on_tick);
	w.tick = false;
	timer_set(w.loop, &t, 20000);
	while (!*flag && !w.tick)
		loop_pass(w.loop);
	timer_stop(w.loop, &t);
	assert_true(*flag);
}

/* The job's text, once it is done. */
static inline const char *world_result(uint32_t job)
{
	world_run_until(&w.job[job].done);
	return w.job[job].text;
}

/* One message to one recipient, alone. */
static inline const char *world_one(const char *rcpt)
{
	world_send_part(0, 0);
	world_deliver(0, 0, "s@x.example", rcpt);
	world_result(0);
	world_close(0);
	return w.job[0].text;
}

static inline void world_set(const char *name, const char *text)
{
	assert_true(control_set(w.control, span_str(name), span_str(text)));
}

static inline void world_begin(enum loop_kind kind, const struct dns_rule *rules)
{
	uint16_t port = 0;

	memset(&w, 0, sizeof(w));
	w.loop = loop_new(kind, 256);
	dns_server_begin(&w.dns, w.loop, rules, "127.0.0.1");
	w.control = control_new();
	w.bytes = SPAN("Subject: x\n\nbody\n");
	w.part = 1000;
	close(world_listen("127.0.0.1", &port));
	w.smtp_port = port;
	port = 0;
	close(world_listen("127.0.0.1", &port));
	w.qmtp_port = port;
	world_set("me", "me.example\n");
	world_set("smtplisten", "127.0.0.99:25\n");
}

static inline void world_start(struct remote_config cf)
{
	char resolvers[64];

	snprintf(resolvers, sizeof(resolvers), "127.0.0.1:%u\n", w.dns.port);
	world_set("resolvers", resolvers);
	cf.smtp_port = w.smtp_port;
	cf.qmtp_port = w.qmtp_port;
	if (!cf.tasks_max)
		cf.tasks_max = WORLD_JOBS;
	if (!cf.dns_try_ms)
		cf.dns_try_ms = 50;
	w.remote = remote_new(w.loop, &cf, w.control);
	world_new_sched();
	world_new_body();
}

static inline void world_on_gone(void *ctx)
{
	w.gone = true;
}

static inline void world_end(void)
{
	unsigned open;

	remote_free(w.remote, world_on_gone, NULL);
	world_run_until(&w.gone);
	world_run_until(&w.sched_lost);
	world_run_until(&w.body_lost);
	for (unsigned i = 0; i < w.sinks; i++) {
		loop_cancel(w.loop, &w.sink[i].accept);
		while (w.sink[i].accept.armed)
			loop_pass(w.loop);
		close(w.sink[i].fd);
		buf_free(&w.sink[i].last);
	}
	do {
		open = 0;
		for (unsigned i = 0; i < w.sinks; i++)
			open += w.sink[i].open;
		world_run_for(5);
	} while (open > 0);
	world_run_for(20);
	dns_server_end(&w.dns);
	loop_free(w.loop);
	control_free(w.control);
}

#endif
