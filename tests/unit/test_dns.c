/* Packets, and the resolver against a name server in this process; on both loops. */
#include "remote_test.h"

#include "dns_server.h"
#include "remote/resolver.h"

#define TRY_MS 40

struct world {
	struct loop      *loop;
	struct dns_server a, b;
	struct resolver  *r;
};

static struct world w;
static bool         tick_done;

static void tick(struct timer *t)
{
	tick_done = true;
}

static void run_for(uint64_t ms)
{
	struct timer t;

	timer_init(&t, tick);
	tick_done = false;
	timer_set(w.loop, &t, ms);
	while (!tick_done)
		loop_pass(w.loop);
}

static void begin(enum loop_kind kind, const struct dns_rule *a, const struct dns_rule *b,
		  unsigned cache_max)
{
	struct resolver_config cf = {
		.servers = b ? 2 : 1, .try_ms = TRY_MS, .cache_max = cache_max};

	w.loop = loop_new(kind, 64);
	dns_server_begin(&w.a, w.loop, a, "127.0.0.1");
	cf.server[0].port = w.a.port;
	assert_true(ip_parse(SPAN("127.0.0.1"), &cf.server[0].ip));
	if (b) {
		dns_server_begin(&w.b, w.loop, b, "127.0.0.2");
		cf.server[1].port = w.b.port;
		assert_true(ip_parse(SPAN("127.0.0.2"), &cf.server[1].ip));
	}
	w.r = resolver_new(w.loop, &cf);
}

static void end(bool b)
{
	resolver_free(w.r);
	run_for(20);
	dns_server_end(&w.a);
	if (b)
		dns_server_end(&w.b);
	loop_free(w.loop);
}

struct asked {
	struct dns_op     op;
	bool              done;
	enum dns_status   status;
	unsigned          n;
	struct dns_record rec[8];
};

static void on_done(struct dns_op *op)
{
	struct asked *a = owner_of(op, struct asked, op);
	unsigned      at = 0;

	a->done = true;
	a->status = op->status;
	while (a->n < 8 && dns_answer_next(op->answer, &at, &a->rec[a->n]))
		a->n++;
}

static void ask(struct asked *a, const char *name, enum dns_type type)
{
	struct dns_question q = {.type = (uint16_t)type};

	*a = (struct asked){.op = {.done = on_done}};
	assert_true(dns_name_parse(span_str(name), &q.name));
	resolver_ask(w.r, &a->op, &q);
	assert_false(a->done);                    /* starting never calls back */
}

static struct asked look_up(const char *name, enum dns_type type)
{
	struct asked a;

	ask(&a, name, type);
	while (!a.done)
		loop_pass(w.loop);
	return a;
}

static void assert_ip(const struct dns_record *r, const char *want)
{
	char text[IP_TEXT_MAX];

	assert_string_equal(ip_text(&r->ip, text), want);
}

static const struct dns_rule rules[] = {
	{"a.example", DNS_A, .ttl = 300, .rr = {"A 192.0.2.1", "A 192.0.2.2"}},
	{"a.example", DNS_AAAA, .ttl = 300, .rr = {"AAAA 2001:db8::1"}},
	{"a.example", DNS_MX, .ttl = 300, .rr = {"MX 12801 q.example", "MX 10 Mail.Example"}},
	{"none.example", DNS_A, .ttl = 300, .rr = {"SOA 300"}},
	{"null.example", DNS_MX, .ttl = 300, .rr = {"MX 0 "}},
	{"alias.example", DNS_A, .ttl = 300, .rr = {"c2.example=A 192.0.2.9", "CNAME c1.example", "c1.example=CNAME c2.example"}},
	{"far.example", DNS_A, .ttl = 300, .rr = {"CNAME a.example"}},
	{"circle.example", DNS_A, .ttl = 300, .rr = {"CNAME circle2.example", "circle2.example=CNAME circle.example"}},
	{"self.example", DNS_A, .ttl = 300, .rr = {"CNAME self.example"}},
	{"far1.example", DNS_A, .ttl = 300, .rr = {"CNAME far2.example"}},
	{"far2.example", DNS_A, .ttl = 300, .rr = {"CNAME far1.example"}},
	{"dangling.example", DNS_A, .ttl = 300, .rr = {"CNAME gone.example"}},
	{"big.example", DNS_A, MOOD_TRUNCATED, .ttl = 300, .rr = {"A 192.0.2.3"}},
	{"badid.example", DNS_A, MOOD_WRONG_ID_FIRST, .ttl = 300, .rr = {"A 192.0.2.4"}},
	{"badq.example", DNS_A, MOOD_WRONG_QUESTION_FIRST, .ttl = 300, .rr = {"A 192.0.2.5"}},
	{"old.example", DNS_A, MOOD_NO_EDNS, .ttl = 300, .rr = {"A 192.0.2.6"}},
	{"fail.example", DNS_A, MOOD_SERVFAIL},
	{"refer.example", DNS_A, .ttl = 300, .rr = {"NS ns.example"}},
	{"silent.example", DNS_A, MOOD_SILENT},
	{"second.example", DNS_A, MOOD_SERVFAIL},
	{"late.example", DNS_A, MOOD_SILENT},
	{"short.example", DNS_A, .ttl = 1, .rr = {"A 192.0.2.8"}},
	{"zero.example", DNS_A, .ttl = 0, .rr = {"A 192.0.2.8"}},
	{NULL},
};
static const struct dns_rule rules_b[] = {
	{"second.example", DNS_A, .ttl = 300, .rr = {"A 192.0.2.20"}},
	{"late.example", DNS_A, .ttl = 300, .rr = {"A 192.0.2.21"}},
	{"refer.example", DNS_A, .ttl = 300, .rr = {"A 192.0.2.22"}},
	{"fail.example", DNS_A, MOOD_REFUSED},
	{"silent.example", DNS_A, MOOD_SILENT},
	{NULL},
};

static void names_are_taken_as_they_are(void **state)
{
	static const struct { const char *text; bool good; } table[] = {
		{"a.example", true}, {"a.example.", true}, {"A_b-\\c.x", true}, {"", false}, {".", false}, {"a..b", false},
		{".a", false}, {"a..", false},
		{"123456789012345678901234567890123456789012345678901234567890123.x", true},
		{"1234567890123456789012345678901234567890123456789012345678901234.x", false},
	};
	struct dns_name n;
	char            text[256], longest[300];

	for (size_t i = 0; i < ARRAY_N(table); i++)
		assert_int_equal(dns_name_parse(span_str(table[i].text), &n), table[i].good);
	assert_true(dns_name_parse(SPAN("Mail.Example."), &n));
	assert_text(dns_name_text(&n, text, sizeof(text)), "mail.example");
	for (size_t i = 0; i < sizeof(longest); i++)
		longest[i] = i % 2 ? '.' : 'x';
	assert_true(dns_name_parse(span_of(longest, 253), &n));
	assert_false(dns_name_parse(span_of(longest, 255), &n));
}

static void answers_of_every_kind(enum loop_kind kind)
{
	struct asked a;

	begin(kind, rules, NULL, 0);
	a = look_up("a.example", DNS_A);
	assert_int_equal(a.status, DNS_FOUND);
	assert_int_equal(a.n, 2);
	assert_ip(&a.rec[1], "192.0.2.2");
	a = look_up("A.EXAMPLE.", DNS_AAAA);
	assert_ip(&a.rec[0], "2001:db8::1");
	a = look_up("a.example", DNS_MX);
	assert_int_equal(a.n, 2);
	assert_int_equal(a.rec[0].preference, 12801);
	assert_int_equal(a.rec[1].name.wire[1], 'm');
	a = look_up("null.example", DNS_MX);
	assert_int_equal(a.n, 1);
	assert_true(dns_name_is_root(&a.rec[0].name));
	assert_int_equal(look_up("none.example", DNS_A).status, DNS_NOTHING);
	assert_int_equal(look_up("nowhere.example", DNS_A).status, DNS_NOWHERE);
	a = look_up("alias.example", DNS_A);
	assert_int_equal(a.n, 1);
	assert_ip(&a.rec[0], "192.0.2.9");
	assert_int_equal(look_up("far.example", DNS_A).n, 2);
	assert_int_equal(look_up("dangling.example", DNS_A).status, DNS_NOWHERE);
	assert_int_equal(look_up("circle.example", DNS_A).status, DNS_LATER);
	assert_int_equal(look_up("self.example", DNS_A).status, DNS_LATER);
	assert_int_equal(look_up("far1.example", DNS_A).status, DNS_LATER);
	end(false);
}

static void oddities_of_servers(enum loop_kind kind)
{
	struct asked a;
	unsigned     asked;

	begin(kind, rules, NULL, 0);
	a = look_up("big.example", DNS_A);
	assert_int_equal(a.status, DNS_FOUND);
	assert_ip(&a.rec[0], "192.0.2.3");
	assert_int_equal(w.a.asked_tcp, 1);
	a = look_up("badid.example", DNS_A);
	assert_ip(&a.rec[0], "192.0.2.4");
	a = look_up("badq.example", DNS_A);
	assert_ip(&a.rec[0], "192.0.2.5");
	assert_int_equal(resolver_stats(w.r)->strange, 2);
	a = look_up("old.example", DNS_A);
	assert_ip(&a.rec[0], "192.0.2.6");
	assert_int_equal(look_up("fail.example", DNS_A).status, DNS_LATER);
	assert_int_equal(look_up("refer.example", DNS_A).status, DNS_LATER);
	asked = w.a.asked;
	assert_int_equal(look_up("silent.example", DNS_A).status, DNS_LATER);
	assert_int_equal(w.a.asked - asked, 4);   /* each of four rounds */
	end(false);
}

static void another_server_helps(enum loop_kind kind)
{
	struct asked a;

	begin(kind, rules, rules_b, 0);
	a = look_up("second.example", DNS_A);
	assert_int_equal(a.status, DNS_FOUND);
	assert_ip(&a.rec[0], "192.0.2.20");
	a = look_up("late.example", DNS_A);
	assert_ip(&a.rec[0], "192.0.2.21");
	a = look_up("refer.example", DNS_A);
	assert_ip(&a.rec[0], "192.0.2.22");
	assert_int_equal(look_up("fail.example", DNS_A).status, DNS_LATER);
	end(true);
}

static void a_dead_port_is_not_waited_for(enum loop_kind kind)
{
	struct resolver_config cf = {.servers = 2, .try_ms = 60000};
	struct asked           a;

	begin(kind, rules, NULL, 0);
	cf.server[0].ip = (struct ip){.family = 4, .b = {127, 0, 0, 3}};
	cf.server[0].port = w.a.port;             /* nobody listens at 127.0.0.3 */
	cf.server[1].ip = (struct ip){.family = 4, .b = {127, 0, 0, 1}};
	cf.server[1].port = w.a.port;
	resolver_configure(w.r, &cf);
	a = look_up("a.example", DNS_A);
	assert_int_equal(a.status, DNS_FOUND);
	end(false);
}

static void what_is_known_is_not_asked_again(enum loop_kind kind)
{
	struct asked a, b, c;
	unsigned     asked;

	begin(kind, rules, NULL, 0);
	ask(&a, "a.example", DNS_A);
	ask(&b, "a.example", DNS_A);              /* merged */
	ask(&c, "a.example", DNS_A);
	resolver_cancel(w.r, &c.op);
	while (!a.done || !b.done)
		loop_pass(w.loop);
	assert_false(c.done);
	assert_int_equal(w.a.asked, 1);
	look_up("a.example", DNS_A);
	look_up("none.example", DNS_A);
	look_up("none.example", DNS_A);
	look_up("nowhere.example", DNS_A);
	look_up("nowhere.example", DNS_A);
	look_up("fail.example", DNS_A);
	look_up("fail.example", DNS_A);
	assert_int_equal(w.a.asked, 4);
	asked = w.a.asked;
	look_up("short.example", DNS_A);
	look_up("short.example", DNS_A);
	assert_int_equal(w.a.asked, asked + 1);
	run_for(1100);
	look_up("short.example", DNS_A);
	assert_int_equal(w.a.asked, asked + 2);
	look_up("zero.example", DNS_A);
	look_up("zero.example", DNS_A);
	assert_int_equal(w.a.asked, asked + 4);
	ask(&a, "a.example", DNS_A);              /* known, and cancelled before it is told */
	resolver_cancel(w.r, &a.op);
	run_for(5);
	assert_false(a.done);
	end(false);
}

static void the_cache_has_a_size(enum loop_kind kind)
{
	struct asked a[8];
	unsigned     later = 0;

	begin(kind, rules, NULL, 4);
	look_up("a.example", DNS_A);
	look_up("none.example", DNS_A);
	look_up("a.example", DNS_A);
	look_up("nowhere.example", DNS_A);
	look_up("n2.example", DNS_A);
	look_up("n3.example", DNS_A);             /* none.example makes place */
	assert_int_equal(w.a.asked, 5);
	look_up("a.example", DNS_A);
	assert_int_equal(w.a.asked, 5);
	look_up("none.example", DNS_A);
	assert_int_equal(w.a.asked, 6);
	for (unsigned i = 0; i < 8; i++) {
		char name[16];

		snprintf(name, sizeof(name), "m%u.example", i);
		ask(&a[i], name, DNS_A);
	}
	for (unsigned i = 0; i < 8; i++) {
		while (!a[i].done)
			loop_pass(w.loop);
		later += a[i].status == DNS_LATER;
	}
	assert_int_equal(later, 4);               /* for which there was no place */
	end(false);
}

static void thousands_at_once(enum loop_kind kind)
{
	enum { N = 5000 };
	struct asked *a = mem_new(N * sizeof(*a));
	unsigned      n = 0, found = 0;

	int           room = 4 << 20;

	begin(kind, rules, NULL, 0);
	setsockopt(w.a.udp, SOL_SOCKET, SO_RCVBUF, &room, sizeof(room));
	for (; n < N; n++) {
		char name[32];

		snprintf(name, sizeof(name), "t%u.example", n);
		ask(&a[n], name, n % 2 ? DNS_A : DNS_MX);
	}
	for (unsigned i = 0; i < N; i++) {
		while (!a[i].done)
			loop_pass(w.loop);
		found += a[i].status == DNS_NOWHERE;
	}
	assert_true(found > N * 9 / 10);          /* the server's socket may lose some, again and again */
	mem_free(a);
	end(false);
}

#define ON_BOTH(f) \
	static void f##_uring(void **state) { f(LOOP_URING); } \
	static void f##_epoll(void **state) { f(LOOP_EPOLL); }
ON_BOTH(answers_of_every_kind)
ON_BOTH(oddities_of_servers)
ON_BOTH(another_server_helps)
ON_BOTH(a_dead_port_is_not_waited_for)
ON_BOTH(what_is_known_is_not_asked_again)
ON_BOTH(the_cache_has_a_size)
ON_BOTH(thousands_at_once)
#define BOTH(f) cmocka_unit_test(f##_uring), cmocka_unit_test(f##_epoll)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_are_taken_as_they_are),
		BOTH(answers_of_every_kind),
		BOTH(oddities_of_servers),
		BOTH(another_server_helps),
		BOTH(a_dead_port_is_not_waited_for),
		BOTH(what_is_known_is_not_asked_again),
		BOTH(the_cache_has_a_size),
		BOTH(thousands_at_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
