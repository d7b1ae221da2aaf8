/* The QMTP client against servers in memory: good ones, short ones, liars; cut anywhere. */
#include "remote_test.h"

#include "remote/talk_qmtp.h"

static const struct ip one = {.family = 4, .b = {1, 2, 3, 4}};

struct fix {
	struct talk_qmtp   t;
	struct outbuf      out;
	struct test_source src[8];
	struct task       *task[8];
	unsigned           n;
};

static void fix_begin(struct fix *f, enum qmtp_manners m)
{
	memset(f, 0, sizeof(*f));
	outbuf_init(&f->out);
	talk_qmtp_begin(&f->t, &f->out, &one, m);
}

static struct task *give(struct fix *f, const char *body, const char *sender,
			 const char *const *rcpts)
{
	struct task *t;

	test_source_init(&f->src[f->n], span_str(body));
	t = f->task[f->n] = test_task(f->n, sender, rcpts, &f->src[f->n]);
	f->n++;
	talk_qmtp_task(&f->t, t);
	return t;
}

static struct task *finished(struct fix *f)
{
	struct link *l = list_first(&f->t.finished);

	if (!l)
		return NULL;
	list_remove(l);
	return owner_of(l, struct task, link);
}

static void fix_end(struct fix *f)
{
	talk_qmtp_lost(&f->t);
	while (finished(f))
		;
	for (unsigned i = 0; i < f->n; i++)
		task_free(f->task[i]);
	talk_qmtp_fini(&f->t);
	outbuf_fini(&f->out);
}

static void hear(struct fix *f, const char *said)
{
	struct span in = span_str(said);

	talk_qmtp_input(&f->t, &in);
	assert_int_equal(in.n, 0);
}

static const char *const r1[] = {"a@h", NULL};
static const char *const r2[] = {"a@h", "b\xe4 c@h", NULL};

static void packages_are_as_the_page_says(void **state)
{
	struct fix   f;
	struct task *t;

	fix_begin(&f, QMTP_UNKNOWN);
	t = give(&f, "hello\r\nworld", "s@x", r2);
	assert_drained(&f.out, "13:\nhello\r\nworld,3:s@x,15:3:a@h,6:b\xe4 c@h,,");
	hear(&f, "6:Kok 12,3:Dno,");
	assert_ptr_equal(finished(&f), t);
	assert_int_equal(t->result[0].outcome, OUTCOME_DELIVERED);
	assert_text(t->result[0].text, "1.2.3.4 accepted message.\n1.2.3.4 said: ok 12\n");
	assert_int_equal(t->result[1].outcome, OUTCOME_FAILED);
	assert_text(t->result[1].text, "1.2.3.4 said: no\n");
	assert_int_equal(f.t.manners, QMTP_EACH);
	assert_true(talk_qmtp_is_idle(&f.t));
	fix_end(&f);
}

static void an_empty_message_is_its_marker(void **state)
{
	struct fix f;

	fix_begin(&f, QMTP_UNKNOWN);
	give(&f, "", "", r1);
	assert_drained(&f.out, "1:\n,0:,6:3:a@h,,");
	fix_end(&f);
}

static void nothing_follows_an_uncertain_package(void **state)
{
	struct fix   f;
	struct task *a, *b;

	fix_begin(&f, QMTP_UNKNOWN);
	a = give(&f, "1", "s", r2);
	b = give(&f, "2", "s", r1);
	assert_drained(&f.out, "2:\n1,1:s,15:3:a@h,6:b\xe4 c@h,,");
	hear(&f, "2:Z1,2:K2,");
	assert_ptr_equal(finished(&f), a);
	assert_drained(&f.out, "2:\n2,1:s,6:3:a@h,,");
	give(&f, "3", "s", r2);                   /* proven: packages go out back to back now */
	give(&f, "4", "s", r1);
	assert_drained(&f.out, "2:\n3,1:s,15:3:a@h,6:b\xe4 c@h,,2:\n4,1:s,6:3:a@h,,");
	hear(&f, "1:K,");
	assert_ptr_equal(finished(&f), b);
	assert_text(b->result[0].text, "1.2.3.4 accepted message.\n1.2.3.4 said: \n");
	fix_end(&f);
}

static void a_short_server_gets_packages_of_one(void **state)
{
	struct fix   f;
	struct task *t;

	fix_begin(&f, QMTP_UNKNOWN);
	t = give(&f, "1", "s", r2);
	mem_free(test_drain(&f.out, NULL));
	hear(&f, "1:K,");
	assert_true(talk_qmtp_awaits_more(&f.t));
	talk_qmtp_lost(&f.t);                     /* the deadline */
	assert_ptr_equal(finished(&f), t);
	assert_int_equal(t->result[0].outcome, OUTCOME_DELIVERED);
	assert_int_equal(t->result[1].outcome, OUTCOME_DEFERRED);
	assert_text(t->result[1].text,
		    "Connected to 1.2.3.4 but connection died. Possible duplicate! (#4.4.2)\n");
	assert_int_equal(f.t.manners, QMTP_SHORT);
	fix_end(&f);
	fix_begin(&f, QMTP_SHORT);
	t = give(&f, "1", "s", r2);
	assert_drained(&f.out, "2:\n1,1:s,6:3:a@h,,2:\n1,1:s,9:6:b\xe4 c@h,,");
	hear(&f, "1:K,1:K,");
	assert_ptr_equal(finished(&f), t);
	fix_end(&f);
}

static void nonsense_ends_the_talk(void **state)
{
	static const char *const table[] = {"x",      "1:X,",     "0:,",         "1:K;",
					    "99999:", "1:K,1:K,", "01234567890:"};

	for (size_t i = 0; i < ARRAY_N(table); i++) {
		struct fix   f;
		struct task *t;

		fix_begin(&f, QMTP_UNKNOWN);
		t = give(&f, "1", "s", r1);
		hear(&f, table[i]);
		assert_true(f.t.over);
		assert_ptr_equal(finished(&f), t);
		assert_int_equal(t->result[0].outcome,
				 i == 5 ? OUTCOME_DELIVERED : OUTCOME_DEFERRED);
		fix_end(&f);
	}
}

static void no_answer_before_the_last_byte(void **state)
{
	struct fix   f;
	struct task *t;

	fix_begin(&f, QMTP_UNKNOWN);
	test_source_init(&f.src[0], SPAN("abc"));
	f.src[0].later = 1;
	t = f.task[0] = test_task(0, "s", r1, &f.src[0]);
	f.n = 1;
	talk_qmtp_task(&f.t, t);
	assert_drained(&f.out, "4:\n");
	hear(&f, "1:K,");
	assert_true(f.t.over);
	assert_int_equal(t->result[0].outcome, OUTCOME_DEFERRED);
	fix_end(&f);
}

static void a_lost_body_waits_for_older_answers(void **state)
{
	struct fix   f;
	struct task *a, *b;

	fix_begin(&f, QMTP_UNKNOWN);
	a = give(&f, "1", "s", r1);
	test_source_init(&f.src[1], SPAN("abcdef"));
	f.src[1].piece = 3;
	f.src[1].gone_at = 3;
	b = f.task[1] = test_task(1, "s", r1, &f.src[1]);
	f.n = 2;
	talk_qmtp_task(&f.t, b);
	assert_drained(&f.out, "2:\n1,1:s,6:3:a@h,,7:\nabc");
	assert_ptr_equal(finished(&f), b);
	assert_text(b->result[0].text, "Unable to read message. (#4.3.0)\n");
	assert_false(talk_qmtp_has_room(&f.t));
	assert_false(f.t.over);
	hear(&f, "1:K,");
	assert_ptr_equal(finished(&f), a);
	assert_int_equal(a->result[0].outcome, OUTCOME_DELIVERED);
	assert_true(f.t.over);
	fix_end(&f);
}

/* Tasks that waited for the connection are given one after the other; the first may end it. */
static void a_task_behind_a_lost_body_is_given_back(void **state)
{
	struct fix   f;
	struct task *a, *b;

	fix_begin(&f, QMTP_UNKNOWN);
	test_source_init(&f.src[0], SPAN("abcdef"));
	f.src[0].piece = 3;
	f.src[0].gone_at = 3;
	a = f.task[0] = test_task(0, "s", r1, &f.src[0]);
	f.n = 1;
	talk_qmtp_task(&f.t, a);
	assert_false(talk_qmtp_has_room(&f.t));
	b = give(&f, "2", "s", r1);
	assert_ptr_equal(finished(&f), a);
	assert_ptr_equal(finished(&f), b);
	assert_int_equal(b->result[0].outcome, OUTCOME_DEFERRED);
	assert_true(f.t.over);
	fix_end(&f);
}

static void what_never_left_may_go_elsewhere(void **state)
{
	struct fix   f;
	struct task *a, *b, *c;

	fix_begin(&f, QMTP_UNKNOWN);
	a = give(&f, "1", "s", r1);
	hear(&f, "1:K,");
	assert_ptr_equal(finished(&f), a);
	b = give(&f, "2", "s", r2);
	c = give(&f, "3", "s", r1);
	talk_qmtp_lost(&f.t);
	assert_ptr_equal(finished(&f), b);
	assert_ptr_equal(finished(&f), c);
	assert_int_equal(b->open, 0);             /* it left: nobody knows */
	assert_int_equal(c->open, 1);
	fix_end(&f);
	fix_begin(&f, QMTP_UNKNOWN);              /* a connection that never worked is no kept one */
	b = give(&f, "2", "s", r2);
	c = give(&f, "3", "s", r1);
	talk_qmtp_lost(&f.t);
	assert_int_equal(b->open, 0);
	assert_int_equal(c->open, 0);
	fix_end(&f);
}

static void an_hour_of_answers_is_kept_short(void **state)
{
	struct fix   f;
	struct task *t;

	fix_begin(&f, QMTP_UNKNOWN);
	t = give(&f, "1", "s", r1);
	hear(&f, "20000:D");
	for (unsigned i = 0; i < 19999; i++)
		hear(&f, i % 3 ? "x" : i % 2 ? "\n" : "\r");
	hear(&f, ",");
	assert_ptr_equal(finished(&f), t);
	assert_int_equal(t->result[0].outcome, OUTCOME_FAILED);
	assert_true(t->result[0].text.n <= RESULT_TEXT_MAX);
	assert_true(t->result[0].text.n > 2000);
	assert_int_equal(t->result[0].text.p[t->result[0].text.n - 1], '\n');
	fix_end(&f);
}

/* ---- servers of every kind ---------------------------------------------------------------- */

#define TASKS 6
#define RCPTS 3
static const char *const all_rcpts[] = {"r0@h", "r1@h", "r2@h", NULL};

struct model {
	bool   once;                              /* one answer a package */
	char   in[262144], out[65536];
	size_t in_n, out_n;
	bool   stored[TASKS][RCPTS];
};

static bool chance(unsigned n)
{
	return rand_below(n) == 0;
}

static void say(struct model *m, char c)
{
	m->out_n +=
		(size_t)snprintf(m->out + m->out_n, sizeof(m->out) - m->out_n, "3:%cok,", c);
}

static bool take_netstring(struct span *in, struct span *ret)
{
	size_t   colon = span_find(*in, ':');
	uint64_t n;

	if (colon == SPAN_NPOS)
		return false;
	assert_true(span_u64(span_until(*in, colon), 1000000, &n));
	if (in->n < colon + 1 + n + 1)
		return false;
	span_cut(in, colon + 1);
	*ret = span_cut(in, n);
	assert_int_equal(*span_cut(in, 1).p, ',');
	return true;
}

/* The sender is the number of the task; every body begins with it. */
static bool take_package(struct model *m)
{
	struct span  in = span_of(m->in, m->in_n), message, sender, rcpts, rcpt;
	unsigned     task, i, n = 0;
	char         whole = "KKKZD"[rand_below(5)];

	if (!take_netstring(&in, &message) || !take_netstring(&in, &sender)
	    || !take_netstring(&in, &rcpts))
		return false;
	task = (unsigned)(sender.p[0] - '0');
	assert_int_equal(message.p[0], '\n');
	assert_int_equal(message.p[1], sender.p[0]);
	while (rcpts.n > 0) {
		char c = m->once ? whole : "KKKZD"[rand_below(5)];

		assert_true(take_netstring(&rcpts, &rcpt));
		i = (unsigned)(rcpt.p[1] - '0');
		assert_true(i < RCPTS && task < TASKS);
		if (c == 'K')
			m->stored[task][i] = true;
		if (!m->once)
			say(m, c);
		n++;
	}
	if (m->once)
		say(m, whole);
	memmove(m->in, in.p, in.n);
	m->in_n = in.n;
	return true;
}

static struct {
	unsigned delivered, failed, deferred, given_back, shorts;
} seen;

static void check_task(const struct model *m, const struct task *t, unsigned k)
{
	for (unsigned at = 0; at < t->rcpts; at++) {
		unsigned i = (unsigned)(t->rcpt[at].p[1] - '0');

		switch (t->result[at].outcome) {
		case OUTCOME_DELIVERED:
			assert_true(m->stored[k][i]);
			seen.delivered++;
			break;
		case OUTCOME_FAILED:
			assert_false(m->stored[k][i]);
			seen.failed++;
			break;
		case TASK_OPEN:
			assert_false(m->stored[k][i]);
			seen.given_back++;
			break;
		case OUTCOME_DEFERRED: seen.deferred++; break;
		default:               fail();
		}
	}
}

static void run_model(uint64_t seed)
{
	static char        body[TASKS][30000];
	struct test_source src[TASKS];
	struct task       *task[TASKS];
	struct model      *m = mem_new(sizeof(*m));
	struct talk_qmtp   t;
	struct outbuf      out;
	unsigned           given = 0, quiet = 0;
	unsigned           drop_at;

	rand_seed(seed);
	m->once = chance(3);
	drop_at = chance(2) ? (unsigned)rand_below(200) : 100000;
	outbuf_init(&out);
	talk_qmtp_begin(&t, &out, &one,
			m->once ? (chance(2) ? QMTP_SHORT : QMTP_UNKNOWN)
				: (enum qmtp_manners)rand_below(3));
	for (unsigned k = 0; k < TASKS; k++) {
		char sender[2] = {(char)('0' + k), 0};

		memset(body[k], 'x', sizeof(body[k]));
		body[k][0] = sender[0];
		test_source_init(&src[k], span_of(body[k], chance(4) ? sizeof(body[k])
								     : 1 + rand_below(50)));
		src[k].piece = chance(2) ? 1 + rand_below(5000) : 0;
		src[k].later = chance(2) ? 2 : 0;
		if (chance(15))
			src[k].gone_at = rand_below(src[k].body.n + 1);
		task[k] = test_task(k, sender, all_rcpts + rand_below(RCPTS), &src[k]);
	}
	while (quiet < 100) {
		size_t n;
		char   some[4096];

		quiet++;
		if (drop_at-- == 0)
			break;
		if (given < TASKS && talk_qmtp_has_room(&t) && chance(3)) {
			talk_qmtp_task(&t, task[given++]);
			quiet = 0;
		}
		n = outbuf_copy(&out, some, 1 + rand_below(sizeof(some)));
		outbuf_sent(&out, n);
		assert_true(m->in_n + n <= sizeof(m->in));
		memcpy(m->in + m->in_n, some, n);
		m->in_n += n;
		if (n > 0)
			quiet = 0;
		if (chance(3))
			while (take_package(m))
				quiet = 0;
		n = rand_below(m->out_n + 1);
		struct span in = span_of(m->out, n);
		talk_qmtp_input(&t, &in);
		if (n > 0)
			quiet = 0;
		memmove(m->out, m->out + n, m->out_n - n);
		m->out_n -= n;
		if (chance(2))
			talk_qmtp_more(&t);
	}
	talk_qmtp_lost(&t);
	seen.shorts += t.manners == QMTP_SHORT;
	for (struct link *l; (l = list_first(&t.finished));)
		list_remove(l);
	for (unsigned k = 0; k < given; k++)
		check_task(m, task[k], k);
	for (unsigned k = 0; k < TASKS; k++)
		task_free(task[k]);
	talk_qmtp_fini(&t);
	outbuf_fini(&out);
	mem_free(m);
}

static void no_server_makes_it_lie(void **state)
{
	const char *n = getenv("QUIRE_TALK_RUNS");
	uint64_t    runs = n ? strtoull(n, NULL, 10) : 20000;

	for (uint64_t seed = 1; seed <= runs; seed++)
		run_model(seed);
	assert_true(seen.delivered > runs && seen.failed > runs / 2
		    && seen.deferred > runs / 2);
	assert_true(seen.given_back > 0 && seen.shorts > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(packages_are_as_the_page_says),
		cmocka_unit_test(an_empty_message_is_its_marker),
		cmocka_unit_test(nothing_follows_an_uncertain_package),
		cmocka_unit_test(a_short_server_gets_packages_of_one),
		cmocka_unit_test(nonsense_ends_the_talk),
		cmocka_unit_test(no_answer_before_the_last_byte),
		cmocka_unit_test(a_lost_body_waits_for_older_answers),
		cmocka_unit_test(a_task_behind_a_lost_body_is_given_back),
		cmocka_unit_test(what_never_left_may_go_elsewhere),
		cmocka_unit_test(an_hour_of_answers_is_kept_short),
		cmocka_unit_test(no_server_makes_it_lie),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
