/* sched: the process beside a real journald on one loop, the test as body, remote and
 * administrator; on both loops. */
#include "tests/unit/journal_world.h"

#include "core/log.h"
#include "mail/control.h"
#include "mail/envelope.h"
#include "sched/sched.h"

struct agent_end {
	struct wire wire;
	bool lost;
	unsigned delivers, closes;
	struct msg_deliver last;
	struct span rcpt;
	char text[256];
};
struct body_end {
	struct wire wire;
	bool lost;
	unsigned opens, closes, bounces;
	struct msg_bounce last;
	struct buf tail;
};

static struct world w;
static struct role role;
static struct sched *sched;
static struct client *client;
static struct agent_end agent;
static struct body_end body;
static struct wire start_end;
static struct buf lines;
static enum loop_kind kind;
static char control_path[100];

static void on_line(void *ctx, struct span line)
{
	assert_true(buf_add(&lines, line) && buf_add_byte(&lines, '\n'));
}

static bool logged(const char *what)
{
	return memmem(lines.p, lines.n, what, strlen(what)) != NULL;
}

static void on_deliver(struct wire *wr, struct wire_in *in)
{
	struct span packed = span_from(in->tail,
				       ((const struct msg_deliver *)in->body)->sender_n),
		    addr;

	agent.delivers++;
	agent.last = *(const struct msg_deliver *)in->body;
	assert_true(packed_next(&packed, &addr));
	assert_true(addr.n < sizeof(agent.text));
	memcpy(agent.text, addr.p, addr.n);
	agent.rcpt = span_of(agent.text, addr.n);
}

static void on_agent_close(struct wire *wr, struct wire_in *in)
{
	agent.closes++;
}

static void on_open(struct wire *wr, struct wire_in *in)
{
	body.opens++;
}

static void on_body_close(struct wire *wr, struct wire_in *in)
{
	body.closes++;
}

static void on_bounce(struct wire *wr, struct wire_in *in)
{
	body.bounces++;
	body.last = *(const struct msg_bounce *)in->body;
	buf_clear(&body.tail);
	assert_true(buf_add(&body.tail, in->tail));
}

static const struct wire_handler agent_handlers[] = {
	{.type = MSG_DELIVER,
	 .body_n = sizeof(struct msg_deliver),
	 .tail = true,
	 .on = on_deliver},
	{.type = MSG_CLOSE, .body_n = sizeof(struct msg_close), .on = on_agent_close},
};
static const struct wire_handler body_handlers[] = {
	{.type = MSG_OPEN, .body_n = sizeof(struct msg_open), .on = on_open},
	{.type = MSG_CLOSE, .body_n = sizeof(struct msg_close), .on = on_body_close},
	{.type = MSG_BOUNCE,
	 .body_n = sizeof(struct msg_bounce),
	 .tail = true,
	 .on = on_bounce},
};

static void agent_lost(struct wire *wr)
{
	agent.lost = true;
}

static void body_lost(struct wire *wr)
{
	body.lost = true;
}

static void start_lost(struct wire *wr)
{
}

static void join_journald(void)
{
	int fd[2];

	world_pair(fd);
	journald_peer(w.j, ROLE_SCHED, 0, fd[1]);
	sched_peer(sched, ROLE_JOURNALD, 0, fd[0]);
}

static void join_agent(uint32_t slots)
{
	int fd[2];

	world_pair(fd);
	agent = (struct agent_end){0};
	wire_init(&agent.wire, w.loop, fd[1], "sched", agent_handlers, ARRAY_N(agent_handlers),
		  agent_lost, NULL);
	sched_peer(sched, ROLE_REMOTE, 0, fd[0]);
	wire_send(&agent.wire, MSG_AGENT, &(struct msg_agent){.jobs_max = slots},
		  sizeof(struct msg_agent), SPAN_NONE);
}

static void join_body(void)
{
	struct buf tail = body.tail;
	int fd[2];

	world_pair(fd);
	body = (struct body_end){.tail = tail};
	wire_init(&body.wire, w.loop, fd[1], "sched", body_handlers, ARRAY_N(body_handlers),
		  body_lost, NULL);
	sched_peer(sched, ROLE_BODY, 0, fd[0]);
}

static void begin_sched(void)
{
	role.listeners[0] = (struct role_listener){LISTEN_CONTROL, world_listen(control_path)};
	role.listeners_n = 1;
	sched = sched_new(&role, w.loop);
	role.ctx = sched;
	join_body();
	join_agent(10);
	join_journald();
}

static void end_sched(void)
{
	sched_close(sched);
	wire_close(&agent.wire);
	wire_close(&body.wire);
	world_until(&w, sched_is_closed(sched) && agent.lost && body.lost);
	sched_free(sched);
	unlink(control_path);
}

static int begin(enum loop_kind k)
{
	int fd[2];

	kind = k;
	buf_init(&lines, 1 << 20);
	buf_init(&body.tail, 1 << 20);
	log_capture(on_line, NULL);
	world_begin(&w, k);
	snprintf(control_path, sizeof(control_path), "%s.control", w.dir);
	role = (struct role){.name = "sched", .control = control_new(), .watched = true};
	for (unsigned i = 0; i < FILES; i++)
		role.files[i] = -1;
	role.files[FILE_JOURNAL_DIR] = w.dir_fd;
	assert_true(control_set(role.control, SPAN("me"), SPAN("here.example\n")));
	assert_true(control_set(role.control, SPAN("locals"), SPAN("here.example\n")));
	world_pair(fd);
	wire_init(&role.start, w.loop, fd[0], "start", NULL, 0, start_lost, NULL);
	wire_init(&start_end, w.loop, fd[1], "sched", (const struct wire_handler[]){{0}}, 0,
		  start_lost, NULL);
	client = client_new(w.loop, 1);
	client_attach(client, world_peer(&w, ROLE_SMTPD, 0));
	begin_sched();
	return 0;
}

static int on_uring(void **state)
{
	return begin(LOOP_URING);
}

static int on_epoll(void **state)
{
	return begin(LOOP_EPOLL);
}

static int finish(void **state)
{
	end_sched();
	client_attach(client, -1);
	wire_close(&role.start);
	wire_close(&start_end);
	world_passes(&w, 3);
	client_free(client);
	world_end(&w);
	control_free(role.control);
	buf_free(&lines);
	buf_free(&body.tail);
	log_capture(NULL, NULL);
	return 0;
}

static uint64_t send_letter(void)
{
	struct letter l = {0};

	world_until(&w, client_admits(client));
	letter_send(&l, client, SPAN("body\n"));
	world_until(&w, l.done);
	assert_int_equal(l.verdict, STORED_OK);
	submission_fini(&l.s);
	return l.id;
}

static void answer(uint8_t outcome, const char *text)
{
	struct msg_verdict v = {.job = agent.last.job, .results = 1};
	struct msg_result r = {.outcome = outcome, .text_n = (uint16_t)strlen(text)};
	char tail[512] = {0};

	memcpy(tail, &r, sizeof(r));
	memcpy(tail + sizeof(r), text, r.text_n);
	wire_send(&agent.wire, MSG_VERDICT, &v, sizeof(v),
		  span_of(tail, sizeof(r) + MSG_PAD8((size_t)r.text_n)));
}

static bool has_ended(uint64_t id)
{
	char line[64];

	snprintf(line, sizeof(line), "end msg %llu\n", (unsigned long long)id);
	return logged(line);
}

static void mail_goes_its_way(void **state)
{
	uint64_t id = send_letter();

	world_until(&w, agent.delivers == 1);
	assert_int_equal(agent.last.id, id);
	assert_int_equal(agent.last.size, 5);
	assert_true(span_eq(agent.rcpt, SPAN("u@b.example")));
	answer(OUTCOME_DELIVERED, "ok");
	world_until(&w, has_ended(id));
	world_until(&w, agent.closes == 1 && body.closes == 1);
	assert_int_equal(body.opens, 1);
	assert_true(logged("from <s@a.example> qp 8 uid 7\n"));
	assert_true(logged(": success: ok\n"));
}

static void a_failure_becomes_a_bounce(void **state)
{
	send_letter();
	world_until(&w, agent.delivers == 1);
	answer(OUTCOME_FAILED, "no such user\n");
	world_until(&w, body.bounces == 1);
	assert_int_equal(body.last.settles_n, 1);
	assert_true(memmem(body.tail.p, body.tail.n, "<u@b.example>:\nno such user\n\n", 29) !=
		    NULL);
}

static void a_new_sched_finds_the_queue(void **state)
{
	uint64_t first = send_letter(), second;

	world_until(&w, agent.delivers == 1);
	answer(OUTCOME_DELIVERED, "ok");
	world_until(&w, has_ended(first));
	second = send_letter();
	world_until(&w, agent.delivers == 2);
	end_sched();
	buf_clear(&lines);
	begin_sched();
	world_until(&w, agent.delivers == 1);
	assert_int_equal(agent.last.id, second);
	answer(OUTCOME_DELIVERED, "ok");
	world_until(&w, has_ended(second));
	assert_int_equal(agent.delivers, 1);
}

static void nothing(struct wire *wr)
{
}

/* More records than the feed takes in one pass: it must go on, and let the rest of the loop live. */
static void a_long_replay_comes_to_its_end(void **state)
{
	enum { FRAMES = 12, EACH = 5000 };
	static struct { struct msg_outcome o; struct msg_range r; } many[EACH];
	struct wire wire;
	uint64_t    id;

	end_sched();
	for (unsigned i = 0; i < EACH; i++) {
		many[i].o = (struct msg_outcome){.id = 64, .at_us = i, .ranges_n = 1, .outcome = OUTCOME_DELIVERED};
		many[i].r = (struct msg_range){i, i};
	}
	wire_init(&wire, w.loop, world_peer(&w, ROLE_SCHED, 0), "journald", body_handlers, 0, nothing, NULL);
	for (unsigned i = 0; i < FRAMES; i++)
		wire_send(&wire, MSG_OUTCOMES, NULL, 0, span_of(many, sizeof(many)));
	world_until(&w, !wire_full(&wire) && wire.out.n == 0);
	wire_close(&wire);
	world_passes(&w, 100);                    /* journald reads what was sent before the end */
	world_until(&w, commit_is_idle(journald_store(w.j)->commit));
	begin_sched();
	id = send_letter();
	world_until(&w, agent.delivers == 1);
	assert_int_equal(agent.last.id, id);
}

static void stop_journald(void)
{
	journald_close(w.j);
	world_until(&w, journald_is_closed(w.j));
	journald_free(w.j);
	w.j = NULL;
}

/* What is told while journald is away is not lost, and nothing is done twice. */
static void journald_comes_back_beside_a_running_sched(void **state)
{
	uint64_t first = send_letter(), second;

	world_until(&w, agent.delivers == 1);
	stop_journald();
	world_passes(&w, 20);
	answer(OUTCOME_DELIVERED, "ok");
	world_until(&w, logged("delivery 1: success: ok\n"));
	world_passes(&w, 40);
	assert_false(has_ended(first));
	world_run(&w);
	assert_non_null(w.j);
	join_journald();
	world_until(&w, has_ended(first));
	client_attach(client, world_peer(&w, ROLE_SMTPD, 0));
	second = send_letter();
	world_until(&w, agent.delivers == 2);
	assert_int_equal(agent.last.id, second);
	answer(OUTCOME_DELIVERED, "ok");
	world_until(&w, has_ended(second));
}

static void an_agent_dies_and_another_comes(void **state)
{
	uint64_t id = send_letter();

	world_until(&w, agent.delivers == 1);
	wire_close(&agent.wire);
	world_until(&w, agent.lost && logged("deferral: quire-remote_ended"));
	join_agent(10);
	world_until(&w, agent.delivers == 1);
	assert_int_equal(agent.last.id, id);
}

static void ask(const char *question, struct buf *answer_to)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	ssize_t n = -1;

	snprintf(a.sun_path, sizeof(a.sun_path), "%s", control_path);
	assert_true(fd >= 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(write(fd, question, strlen(question)), strlen(question));
	buf_clear(answer_to);
	while (n != 0) {
		char some[4096];

		n = read(fd, some, sizeof(some));
		if (n < 0)
			loop_pass(w.loop);
		else
			assert_true(buf_add(answer_to, span_of(some, (size_t)n)));
	}
	close(fd);
}

static void has(const struct buf *b, const char *what)
{
	if (!memmem(b->p, b->n, what, strlen(what)))
		fail_msg("no \"%s\" in %.*s", what, (int)b->n, b->p);
}

static void the_administrator_is_answered(void **state)
{
	struct buf b;

	buf_init(&b, 1 << 20);
	send_letter();
	world_until(&w, agent.delivers == 1);
	ask("status\n", &b);
	has(&b, "{\"version\":\"");
	has(&b, "\"remote\":{\"running\":1,\"limit\":20,\"ready\":0}");
	has(&b, "\"messages\":1,\"recipients\":1,");
	has(&b, "\"ring\":{\"batches\":");
	has(&b, "}\n");
	ask("queue\r\n", &b);
	has(&b, "{\"queue_name\":\"active\",");
	has(&b, "\"recipients\":[{\"address\":\"u@b.example\"}]}\n");
	ask("frobnicate\n", &b);
	assert_true(span_eq(buf_span(&b), SPAN("{\"error\":\"unknown request\"}\n")));
	buf_free(&b);
}

static void draining_waits_for_what_runs(void **state)
{
	uint64_t id = send_letter();

	world_until(&w, agent.delivers == 1);
	sched_calls.drain(&role);
	world_passes(&w, 20);
	assert_false(sched_is_done(sched));
	answer(OUTCOME_DELIVERED, "ok");
	world_until(&w, sched_is_done(sched));
	assert_true(has_ended(id));
	assert_true(logged(" exitasap\n"));
}

#define BOTH(name)                                                                             \
	{#name " on io_uring", name, on_uring, finish, NULL},                                  \
	{                                                                                      \
#name " on epoll", name, on_epoll, finish, NULL                                \
	}

int main(void)
{
	const struct CMUnitTest tests[] = {
		BOTH(mail_goes_its_way),
		BOTH(a_failure_becomes_a_bounce),
		BOTH(a_new_sched_finds_the_queue),
		BOTH(a_long_replay_comes_to_its_end),
		BOTH(journald_comes_back_beside_a_running_sched),
		BOTH(an_agent_dies_and_another_comes),
		BOTH(the_administrator_is_answered),
		BOTH(draining_waits_for_what_runs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
