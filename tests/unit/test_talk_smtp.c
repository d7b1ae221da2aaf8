/* The SMTP client against servers in memory: each answer of the table by hand, then servers
 * of every kind, cut at random bytes and dropped at random points. */
#include "remote_test.h"

#include "remote/talk_smtp.h"

static const struct ip one = {.family = 4, .b = {1, 2, 3, 4}};

struct fix {
	struct talk_smtp   t;
	struct outbuf      out;
	struct test_source src;
	struct task       *task;
};

static void fix_begin(struct fix *f, struct span body, const char *sender,
		      const char *const *rcpts)
{
	outbuf_init(&f->out);
	test_source_init(&f->src, body);
	f->task = test_task(1, sender, rcpts, &f->src);
	talk_smtp_begin(&f->t, &f->out, &one, SPAN("me.example"));
	talk_smtp_task(&f->t, f->task);
	assert_drained(&f->out, "");
}

static void fix_end(struct fix *f)
{
	task_free(f->task);
	talk_smtp_fini(&f->t);
	outbuf_fini(&f->out);
}

static void hear(struct fix *f, const char *said)
{
	struct span in = span_str(said);

	talk_smtp_input(&f->t, &in);
	assert_int_equal(in.n, 0);
}

static const char *const  one_rcpt[] = {"r@h.example", NULL};
static const char *const  two_rcpts[] = {"a@h.example", "b@h.example", NULL};
#define BURST                                                                                  \
	"MAIL FROM:<s@x.example>\r\nRCPT TO:<a@h.example>\r\nRCPT "                            \
	"TO:<b@h.example>\r\nDATA\r\n"

static void begin_pipelining(struct fix *f)
{
	fix_begin(f, SPAN("Subject: x\n\n.dot\n"), "s@x.example", two_rcpts);
	hear(f, "220 hi\r\n");
	assert_drained(&f->out, "EHLO me.example\r\n");
	hear(f, "250-hi\r\n250-PIPELINING\r\n250 HELP\r\n");
	assert_drained(&f->out, BURST);
}

static void says_everything_at_once_where_it_may(void **state)
{
	struct fix f;

	begin_pipelining(&f);
	hear(&f, "250 a\r\n250 b\r\n250 c\r\n354 go\r\n");
	assert_drained(&f.out, "Subject: x\r\n\r\n..dot\r\n.\r\n");
	hear(&f, "250 ok 123\r\n");
	assert_ptr_equal(f.t.finished, f.task);
	assert_int_equal(f.t.state, TALK_READY);
	assert_int_equal(f.task->result[1].outcome, OUTCOME_DELIVERED);
	assert_text(f.task->result[0].text,
		    "1.2.3.4 accepted message.\nRemote host said: 250 ok 123\n");
	fix_end(&f);
}

static void asks_one_by_one_otherwise(void **state)
{
	struct fix f;

	fix_begin(&f, SPAN("a\nb"), "", one_rcpt);
	hear(&f, "220-hi\r\n220 ");
	assert_drained(&f.out, "");
	hear(&f, "there\r\n");
	assert_drained(&f.out, "EHLO me.example\r\n");
	hear(&f, "502 what\r\n");
	assert_drained(&f.out, "HELO me.example\r\n");
	hear(&f, "250 PIPELINING\r\n");           /* a greeting, not an extension: HELO has none */
	assert_drained(&f.out, "MAIL FROM:<>\r\n");
	hear(&f, "250 ok\r\n");
	assert_drained(&f.out, "RCPT TO:<r@h.example>\r\n");
	hear(&f, "250 ok\r\n");
	assert_drained(&f.out, "DATA\r\n");
	hear(&f, "354 ok\r\n");
	assert_drained(&f.out, "a\r\nb\r\n.\r\n");
	hear(&f, "250 ok\r\n");
	assert_int_equal(f.task->result[0].outcome, OUTCOME_DELIVERED);
	fix_end(&f);
}

static void announces_what_was_offered(void **state)
{
	struct fix f;

	fix_begin(&f, SPAN("\xe4\n"), "a b@x.y", (const char *const[]){"\"q@h", NULL});
	f.src.eight_bit = true;
	hear(&f, "220 hi\r\n");
	assert_drained(&f.out, "EHLO me.example\r\n");
	hear(&f, "250-hi\r\n250-size 1000\r\n250 8bitmime\r\n");
	assert_drained(&f.out, "MAIL FROM:<\"a b\"@x.y> SIZE=2 BODY=8BITMIME\r\n");
	hear(&f, "250 ok\r\n");
	assert_drained(&f.out, "RCPT TO:<\"\\\"q\"@h>\r\n");
	fix_end(&f);
}

static void before_mail_it_is_the_hosts_trouble(void **state)
{
	static const struct { const char *said, *text; } table[] = {
		{"421 busy\r\n", "Connected to 1.2.3.4 but greeting failed.\nRemote host said: 421 busy\n"},
		{"554 go away\r\n", "Connected to 1.2.3.4 but greeting failed.\nRemote host said: 554 go away\n"},
		{"220 hi\r\n450 who\r\n", "Connected to 1.2.3.4 but my name was rejected.\nRemote host said: 450 who\n"},
		{"220 hi\r\n550 no\r\n550 no\r\n", "Connected to 1.2.3.4 but my name was rejected.\nRemote host said: 550 no\n"},
		{"SSH-2.0\r\n", "Connected to 1.2.3.4 but it does not speak SMTP. (#4.5.0)\n"},
	};

	for (size_t i = 0; i < ARRAY_N(table); i++) {
		struct fix f;

		fix_begin(&f, SPAN("x\n"), "s@x", one_rcpt);
		hear(&f, table[i].said);
		assert_ptr_equal(f.t.finished, f.task);
		assert_int_equal(f.t.state, TALK_OVER);
		assert_int_equal(f.task->open, 1);
		assert_text(f.task->trouble, table[i].text);
		fix_end(&f);
	}
}

/* What is said to the burst of two recipients, and what becomes of each. */
static void every_refusal_has_its_text(void **state)
{
	static const struct {
		const char *said, *a, *b;
		uint8_t     oa, ob;
		const char *then;                 /* we say */
	} table[] = {
		{"450 4.1.8 s\r\n503 x\r\n503 x\r\n503 x\r\n",
		 "Connected to 1.2.3.4 but sender was rejected.\nRemote host said: 450 4.1.8 s\n",
		 "Connected to 1.2.3.4 but sender was rejected.\nRemote host said: 450 4.1.8 s\n",
		 OUTCOME_DEFERRED, OUTCOME_DEFERRED, "RSET\r\n"},
		{"550 s\r\n503 x\r\n503 x\r\n354 x\r\n",
		 "Connected to 1.2.3.4 but sender was rejected.\nRemote host said: 550 s\n",
		 "Connected to 1.2.3.4 but sender was rejected.\nRemote host said: 550 s\n",
		 OUTCOME_FAILED, OUTCOME_FAILED, ".\r\n"},
		{"250 s\r\n550-a\r\n550 b\r\n450 b\r\n554 nobody\r\n",
		 "1.2.3.4 does not like recipient.\nRemote host said: 550-a\n550 b\nGiving up on 1.2.3.4.\n",
		 "1.2.3.4 does not like recipient.\nRemote host said: 450 b\nGiving up on 1.2.3.4.\n",
		 OUTCOME_FAILED, OUTCOME_DEFERRED, "RSET\r\n"},
		{"250 s\r\n550 a\r\n550 b\r\n354 go\r\n",
		 "1.2.3.4 does not like recipient.\nRemote host said: 550 a\nGiving up on 1.2.3.4.\n",
		 "1.2.3.4 does not like recipient.\nRemote host said: 550 b\nGiving up on 1.2.3.4.\n",
		 OUTCOME_FAILED, OUTCOME_FAILED, ".\r\n"},
		{"250 s\r\n250 a\r\n550 b\r\n451 later\r\n",
		 "1.2.3.4 failed on DATA command.\nRemote host said: 451 later\n",
		 "1.2.3.4 does not like recipient.\nRemote host said: 550 b\n",
		 OUTCOME_DEFERRED, OUTCOME_FAILED, "RSET\r\n"},
		{"250 s\r\n250 a\r\n550 b\r\n354 go\r\n554 spam\r\n",
		 "1.2.3.4 failed after I sent the message.\nRemote host said: 554 spam\n",
		 "1.2.3.4 does not like recipient.\nRemote host said: 550 b\n",
		 OUTCOME_FAILED, OUTCOME_FAILED, "Subject: x\r\n\r\n..dot\r\n.\r\n"},
	};

	for (size_t i = 0; i < ARRAY_N(table); i++) {
		const char *all = table[i].said;
		struct fix  f;

		begin_pipelining(&f);
		/* The answer to the dot may not come before it has left. */
		const char *go = strstr(all, "354 go\r\n");
		if (go && go[8]) {
			struct span first = span_of(all, (size_t)(go + 8 - all));

			talk_smtp_input(&f.t, &first);
			assert_drained(&f.out, table[i].then);
			hear(&f, go + 8);
		} else {
			hear(&f, all);
			assert_drained(&f.out, table[i].then);
			hear(&f, "250 fine\r\n");
		}
		assert_ptr_equal(f.t.finished, f.task);
		assert_int_equal(f.t.state, TALK_READY);
		assert_text(f.task->result[0].text, table[i].a);
		assert_text(f.task->result[1].text, table[i].b);
		assert_int_equal(f.task->result[0].outcome, table[i].oa);
		assert_int_equal(f.task->result[1].outcome, table[i].ob);
		fix_end(&f);
	}
}

static void a_lost_connection_defers(void **state)
{
	static const struct { const char *said, *text; bool undecided; } table[] = {
		{"", "Connected to 1.2.3.4 but connection died. (#4.4.2)\n", true},
		{"220 hi\r\n", "Connected to 1.2.3.4 but connection died. (#4.4.2)\n", true},
		{"220 hi\r\n250 hi\r\n", "Connected to 1.2.3.4 but connection died. (#4.4.2)\n", false},
		{"220 hi\r\n250 hi\r\n250 s\r\n250 r\r\n", "Connected to 1.2.3.4 but connection died. (#4.4.2)\n", false},
		{"220 hi\r\n250 hi\r\n250 s\r\n250 r\r\n354 go\r\n",
		 "Connected to 1.2.3.4 but connection died. Possible duplicate! (#4.4.2)\n", false},
	};

	for (size_t i = 0; i < ARRAY_N(table); i++) {
		struct fix f;

		fix_begin(&f, SPAN("x\n"), "s@x", one_rcpt);
		hear(&f, table[i].said);
		talk_smtp_lost(&f.t);
		assert_ptr_equal(f.t.finished, f.task);
		if (table[i].undecided) {
			assert_int_equal(f.task->open, 1);
			assert_text(f.task->trouble, table[i].text);
		} else {
			assert_int_equal(f.task->result[0].outcome, OUTCOME_DEFERRED);
			assert_text(f.task->result[0].text, table[i].text);
		}
		fix_end(&f);
	}
}

static void the_body_lost_never_sends_the_dot(void **state)
{
	struct fix f;

	fix_begin(&f, SPAN("line\nline\n"), "s@x", one_rcpt);
	f.src.piece = 5;
	f.src.gone_at = 5;
	hear(&f, "220 hi\r\n250 hi\r\n250 s\r\n250 r\r\n");
	mem_free(test_drain(&f.out, NULL));
	hear(&f, "354 go\r\n");
	assert_drained(&f.out, "line\r\n");
	assert_true(f.t.abrupt);
	assert_int_equal(f.t.state, TALK_OVER);
	assert_text(f.task->result[0].text, "Unable to read message. (#4.3.0)\n");
	fix_end(&f);
}

static void an_early_answer_is_no_acceptance(void **state)
{
	struct fix f;

	fix_begin(&f, SPAN("x\n"), "s@x", one_rcpt);
	f.src.later = 1;
	hear(&f, "220 hi\r\n250 hi\r\n250 s\r\n250 r\r\n354 go\r\n250 thanks\r\n");
	assert_int_equal(f.task->result[0].outcome, OUTCOME_DEFERRED);
	assert_true(f.t.abrupt);
	fix_end(&f);
}

static void a_stray_cr_leaves_as_space(void **state)
{
	struct fix f;

	fix_begin(&f, SPAN("a\rb\n"), "s@x", one_rcpt);
	hear(&f, "220 hi\r\n250 hi\r\n250 s\r\n250 r\r\n");
	mem_free(test_drain(&f.out, NULL));
	hear(&f, "354 go\r\n");
	assert_drained(&f.out, "a b\r\n.\r\n");
	assert_int_equal(f.task->stray_cr, 1);
	fix_end(&f);
}

static void addresses_that_would_be_commands_fail(void **state)
{
	static const char *const bad[] = {"a\nb@h", "a@h>\r\nDATA", "a@h x", "a>b", NULL};
	struct fix               f;

	fix_begin(&f, SPAN("x\n"), "s@x", bad);
	hear(&f, "220 hi\r\n250 hi\r\n");
	assert_drained(&f.out, "EHLO me.example\r\n");
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(f.task->result[i].outcome, OUTCOME_FAILED);
	assert_ptr_equal(f.t.finished, f.task);
	assert_int_equal(f.t.state, TALK_READY);
	fix_end(&f);
	fix_begin(&f, SPAN("x\n"), "s@x\r\nRSET", one_rcpt);
	hear(&f, "220 hi\r\n250 hi\r\n");
	assert_int_equal(f.task->result[0].outcome, OUTCOME_FAILED);
	fix_end(&f);
}

static void a_kept_connection_takes_the_next(void **state)
{
	struct fix         f;
	struct test_source src;
	struct task       *next;

	begin_pipelining(&f);
	hear(&f, "250 a\r\n250 b\r\n250 c\r\n354 go\r\n");
	hear(&f, "250 ok\r\n");
	mem_free(test_drain(&f.out, NULL));
	f.t.finished = NULL;
	test_source_init(&src, SPAN("y\n"));
	next = test_task(2, "s@x.example", two_rcpts, &src);
	talk_smtp_task(&f.t, next);
	assert_drained(&f.out, BURST);
	talk_smtp_lost(&f.t);                     /* it was closed meanwhile: as good as none */
	assert_ptr_equal(f.t.finished, next);
	assert_int_equal(next->open, 2);
	task_free(next);
	fix_end(&f);
}

static void many_recipients_get_several_transactions(void **state)
{
	const char *rcpts[SMTP_RCPTS_MAX + 2];
	char        name[SMTP_RCPTS_MAX + 1][16];
	struct fix  f;
	char       *said;

	for (unsigned i = 0; i <= SMTP_RCPTS_MAX; i++) {
		snprintf(name[i], sizeof(name[i]), "r%u@h", i);
		rcpts[i] = name[i];
	}
	rcpts[SMTP_RCPTS_MAX + 1] = NULL;
	fix_begin(&f, SPAN("x\n"), "s@x", rcpts);
	hear(&f, "220 hi\r\n250-hi\r\n250 PIPELINING\r\n250 s\r\n");
	for (unsigned i = 0; i < SMTP_RCPTS_MAX; i++)
		hear(&f, "250 r\r\n");
	hear(&f, "354 go\r\n250 done\r\n");
	assert_null(f.t.finished);
	assert_int_equal(f.task->open, 1);
	mem_free(test_drain(&f.out, NULL));
	hear(&f, "250 s\r\n250 r\r\n354 go\r\n");
	said = test_drain(&f.out, NULL);
	assert_string_equal(said, "x\r\n.\r\n");
	mem_free(said);
	hear(&f, "250 done\r\n");
	assert_ptr_equal(f.t.finished, f.task);
	assert_int_equal(f.task->open, 0);
	fix_end(&f);
}

static void endless_answers_are_garbage(void **state)
{
	struct fix f;

	fix_begin(&f, SPAN("x\n"), "s@x", one_rcpt);
	for (unsigned i = 0; i <= ANSWER_LINES_MAX; i++)
		if (f.t.state != TALK_OVER)
			hear(&f, "220-more\r\n");
	assert_int_equal(f.t.state, TALK_OVER);
	fix_end(&f);
}

/* ---- servers of every kind ---------------------------------------------------------------- */

#define MODEL_RCPTS 5
struct model {
	bool        pipelining, ehlo, in_data, closed;
	char        line[32768];
	size_t      line_n;
	char        body[65536];
	size_t      body_n;
	bool        rcpt[MODEL_RCPTS];            /* taken in this transaction */
	bool        stored[2][MODEL_RCPTS];       /* by message */
	bool        mail;
	char        out[65536];                   /* answers not delivered yet */
	size_t      out_n;
	unsigned    commands, answers_heard;
	unsigned    now;                          /* the message that the client is about */
	struct span want_body[2];
};

static bool chance(unsigned n)
{
	return rand_below(n) == 0;
}

static void model_say(struct model *m, const char *s)
{
	size_t n = strlen(s);

	assert_true(m->out_n + n < sizeof(m->out));
	memcpy(m->out + m->out_n, s, n);
	m->out_n += n;
}

static void model_end_of_data(struct model *m)
{
	bool any = false;

	m->in_data = false;
	for (unsigned i = 0; i < MODEL_RCPTS; i++)
		any |= m->rcpt[i];
	if (!any) {                               /* the lone dot of nobody */
		assert_int_equal(m->body_n, 0);
		model_say(m, "554 nobody\r\n");
	} else if (!chance(6)) {
		assert_int_equal(m->body_n, m->want_body[m->now].n);
		assert_memory_equal(m->body, m->want_body[m->now].p, m->body_n);
		for (unsigned i = 0; i < MODEL_RCPTS; i++)
			m->stored[m->now][i] |= m->rcpt[i];
		model_say(m, "250 stored\r\n");
	} else {
		model_say(m, chance(2) ? "451 disk\r\n" : "554-no\r\n554 no\r\n");
	}
	memset(m->rcpt, 0, sizeof(m->rcpt));
	m->mail = false;
	m->body_n = 0;
}

static void model_command(struct model *m)
{
	unsigned i = 0;

	m->commands++;
	if (!m->pipelining)
		assert_int_equal(m->commands - m->answers_heard, 1);
	if (strncmp(m->line, "EHLO", 4) == 0) {
		if (!m->ehlo)
			model_say(m, "500 what\r\n");
		else
			model_say(m, m->pipelining
					     ? "250-hi\r\n250-8BITMIME\r\n250 PIPELINING\r\n"
					     : "250 hi\r\n");
	} else if (strncmp(m->line, "HELO", 4) == 0) {
		model_say(m, "250 hi\r\n");
	} else if (strncmp(m->line, "MAIL", 4) == 0) {
		m->mail = !chance(8);
		model_say(m, m->mail     ? "250 ok\r\n"
			     : chance(2) ? "451 no\r\n"
					 : "550-x\r\n550 no\r\n");
	} else if (sscanf(m->line, "RCPT TO:<r%u@h>", &i) == 1) {
		m->rcpt[i] = m->mail && !chance(4);
		model_say(m, m->rcpt[i]  ? "250 ok\r\n"
			     : chance(2) ? "450 no\r\n"
					 : "550 no\r\n");
	} else if (strcmp(m->line, "DATA") == 0) {
		bool any = false;

		for (unsigned k = 0; k < MODEL_RCPTS; k++)
			any |= m->rcpt[k];
		m->in_data = any ? !chance(8) : chance(2);
		model_say(m, m->in_data ? "354 go\r\n" : "554 no\r\n");
	} else if (strcmp(m->line, "RSET") == 0) {
		memset(m->rcpt, 0, sizeof(m->rcpt));
		m->mail = false;
		model_say(m, "250 ok\r\n");
	} else if (strcmp(m->line, "QUIT") == 0) {
		m->closed = true;
	} else {
		fail_msg("the server heard: %s", m->line);
	}
}

static void model_data_line(struct model *m)
{
	const char *p = m->line;
	size_t      n = m->line_n;

	if (n == 1 && *p == '.') {
		m->commands++;
		model_end_of_data(m);
		return;
	}
	if (n > 0 && *p == '.')
		p++, n--;
	memcpy(m->body + m->body_n, p, n);
	m->body_n += n;
	m->body[m->body_n++] = '\n';
}

static void model_hear(struct model *m, const char *p, size_t n)
{
	for (size_t i = 0; i < n && !m->closed; i++) {
		if (p[i] != '\n') {
			m->line[m->line_n++] = p[i];
			continue;
		}
		assert_true(m->line_n > 0 && m->line[m->line_n - 1] == '\r');
		m->line[--m->line_n] = '\0';
		assert_null(memchr(m->line, '\r', m->line_n));
		if (m->in_data)
			model_data_line(m);
		else
			model_command(m);
		m->line_n = 0;
	}
}

/* A random part of what waits goes over; -1: everything. */
static void deliver_answers(struct model *m, struct talk_smtp *t)
{
	size_t      n = chance(3) ? m->out_n : rand_below(m->out_n + 1);
	struct span in = span_of(m->out, n);

	/* An answer is heard when its last line is whole. */
	for (size_t i = 0, at = 0; i < n; i++)
		if (m->out[i] == '\n') {
			m->answers_heard += m->out[at + 3] == ' ';
			at = i + 1;
		}
	/* Only whole lines: the count above needs no memory of its own. */
	while (n > 0 && m->out[n - 1] != '\n' && n < m->out_n)
		n--;
	in.n = n;
	if (chance(2)) {
		while (in.n > 0) {                /* and now in small pieces */
			struct span some = span_cut(&in, 1 + rand_below(5));

			talk_smtp_input(t, &some);
		}
	} else {
		talk_smtp_input(t, &in);
	}
	memmove(m->out, m->out + n, m->out_n - n);
	m->out_n -= n;
}

static void deliver_questions(struct model *m, struct outbuf *out)
{
	char   some[4096];
	size_t n = outbuf_copy(out, some, 1 + rand_below(sizeof(some)));

	outbuf_sent(out, n);
	model_hear(m, some, n);
}

static const char *const model_rcpts[] = {"r0@h", "r1@h", "r2@h", "r3@h", "r4@h", NULL};

static void check_task(const struct model *m, const struct task *t, unsigned k, bool lost)
{
	for (unsigned i = 0; i < MODEL_RCPTS; i++) {
		uint8_t o = t->result[i].outcome;

		if (o == OUTCOME_DELIVERED)
			assert_true(m->stored[k][i]);
		if (o == TASK_OPEN) {             /* may go on elsewhere: then nothing may be here */
			assert_true(lost);
			assert_false(m->stored[k][i]);
		}
		assert_int_not_equal(o, TASK_TAKEN);
		if (o == OUTCOME_FAILED)
			assert_false(m->stored[k][i]);
		if (o != TASK_OPEN)
			assert_true(t->result[i].text.n > 0);
	}
}

static void run_model(uint64_t seed)
{
	static const char *const bodies[] = {"", "x\n", ".\n..\n.x\n", "long\n\n.\nline"};
	struct test_source       src[2];
	struct task             *task[2];
	struct model            *m = mem_new(sizeof(*m));
	struct talk_smtp         t;
	struct outbuf            out;
	unsigned                 given = 0, done = 0;
	bool                     lost = false;
	static char              big[20000], want[2][20010];

	rand_seed(seed);
	memset(big, 'y', sizeof(big));
	big[sizeof(big) - 1] = '\n';
	m->pipelining = chance(2);
	m->ehlo = m->pipelining || chance(2);
	outbuf_init(&out);
	for (unsigned k = 0; k < 2; k++) {
		struct span b =
			chance(8) ? span_of(big, sizeof(big)) : span_str(bodies[rand_below(4)]);
		size_t      n = b.n;

		memcpy(want[k], b.p, b.n);
		if (n > 0 && want[k][n - 1] != '\n')
			want[k][n++] = '\n';
		m->want_body[k] = span_of(want[k], n);
		test_source_init(&src[k], b);
		src[k].piece = chance(2) ? 1 + rand_below(5000) : 0;
		src[k].later = chance(2) ? 2 : 0;
		if (chance(10))
			src[k].gone_at = rand_below(b.n + 1);
		task[k] = test_task(k, "s@x", model_rcpts, &src[k]);
	}
	talk_smtp_begin(&t, &out, &one, SPAN("me"));
	model_say(m, "220 hi\r\n");
	m->commands = 1;
	if (chance(2))
		talk_smtp_task(&t, task[given++]);
	while (done < 2) {
		if (t.finished) {
			t.finished = NULL;
			done++;
		}
		if (t.state == TALK_OVER)
			break;
		if (given < 2 && !t.task && !t.finished && t.state == TALK_READY) {
			m->now = given;
			talk_smtp_task(&t, task[given++]);
		}
		if (chance(500)) {
			lost = true;
			talk_smtp_lost(&t);
			t.finished = NULL;
			break;
		}
		if (chance(2))
			deliver_questions(m, &out);
		if (chance(2) && m->out_n > 0)
			deliver_answers(m, &t);
		if (chance(2))
			talk_smtp_more(&t);
	}
	for (unsigned k = 0; k < given; k++)
		check_task(m, task[k], k, lost);
	for (unsigned k = 0; k < 2; k++)
		task_free(task[k]);
	talk_smtp_fini(&t);
	outbuf_fini(&out);
	mem_free(m);
}

static void no_server_makes_it_lie(void **state)
{
	const char *n = getenv("QUIRE_TALK_RUNS");
	uint64_t    runs = n ? strtoull(n, NULL, 10) : 20000;

	for (uint64_t seed = 1; seed <= runs; seed++)
		run_model(seed);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(says_everything_at_once_where_it_may),
		cmocka_unit_test(asks_one_by_one_otherwise),
		cmocka_unit_test(announces_what_was_offered),
		cmocka_unit_test(before_mail_it_is_the_hosts_trouble),
		cmocka_unit_test(every_refusal_has_its_text),
		cmocka_unit_test(a_lost_connection_defers),
		cmocka_unit_test(the_body_lost_never_sends_the_dot),
		cmocka_unit_test(an_early_answer_is_no_acceptance),
		cmocka_unit_test(a_stray_cr_leaves_as_space),
		cmocka_unit_test(addresses_that_would_be_commands_fail),
		cmocka_unit_test(a_kept_connection_takes_the_next),
		cmocka_unit_test(many_recipients_get_several_transactions),
		cmocka_unit_test(endless_answers_are_garbage),
		cmocka_unit_test(no_server_makes_it_lie),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
