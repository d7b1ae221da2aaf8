/* Both ends of run/submit: the server's half cut at every byte, the client against a server
 * that is a script. */
#include "mail/submit.h"

#include "mail/netstring.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- the server's half */

struct told {
	struct submit_talk t;
	struct buf         log;                   /* "B:bytes" joined, "b", "F:a", "T:a", ".", "!code" */
	bool               in_body, over;
};

static void told_init(struct told *t)
{
	submit_talk_init(&t->t);
	buf_init(&t->log, 1 << 20);
	t->in_body = t->over = false;
}

static void tell_word(struct told *t, const char *what, struct span s)
{
	assert_true(buf_fmt(&t->log, "%s", what) && buf_add(&t->log, s) && buf_add_byte(&t->log, ';'));
}

static void tell(struct told *t, struct span in)
{
	struct span ret;

	while (!t->over) {
		enum submit_event e = submit_talk_take(&t->t, &in, &ret);

		switch (e) {
		case SUBMIT_MORE: assert_int_equal(in.n, 0); return;
		case SUBMIT_BODY: assert_true(buf_add(&t->log, ret)); break;
		case SUBMIT_BODY_END: tell_word(t, "|", SPAN_NONE); break;
		case SUBMIT_SENDER: tell_word(t, "F:", ret); break;
		case SUBMIT_RCPT: tell_word(t, "T:", ret); break;
		case SUBMIT_END: tell_word(t, ".", SPAN_NONE); t->over = true; break;
		case SUBMIT_BAD:
			assert_true(buf_fmt(&t->log, "!%d", t->t.code));
			t->over = true;
			break;
		}
	}
}

static void expect_told(struct span all, const char *want)
{
	struct told t;

	for (size_t cut = 0; cut <= all.n; cut++) {
		told_init(&t);
		tell(&t, span_until(all, cut));
		tell(&t, span_from(all, cut));
		assert_int_equal(t.log.n, strlen(want));
		assert_memory_equal(t.log.p, want, t.log.n);
		buf_free(&t.log);
	}
	told_init(&t);
	for (size_t i = 0; i < all.n; i++)
		tell(&t, span_of(all.p + i, 1));
	assert_int_equal(t.log.n, strlen(want));
	assert_memory_equal(t.log.p, want, t.log.n);
	buf_free(&t.log);
}

static void test_talk(void **state)
{
	expect_told(SPAN(SUBMIT_HELLO "\5\0\0\0hello\3\0\0\0 yo\0\0\0\0Fs@x\0Ta@b\0T\0\0more"),
	            "hello yo|;F:s@x;T:a@b;T:;.;");
	expect_told(SPAN(SUBMIT_HELLO "\0\0\0\0F\0\0"), "|;F:;.;");
	expect_told(SPAN(SUBMIT_REPLAY "\7\0\0\0\0\0\0\1\2\0\0\0hi\0\0\0\0Fs\0\0"), "hi|;F:s;.;");
	expect_told(SPAN(SUBMIT_REPLAY "\0\0\0\0\0\0\0\0\0\0\0\0F\0\0"), "!91");
	expect_told(SPAN("quire-rubmit 1\n\0\0\0\0F\0\0"), "!91");
	expect_told(SPAN("quire-seplay 1\n\0\0\0\0F\0\0"), "!91");
	expect_told(SPAN("quire-submit 2\n\0\0\0\0F\0\0"), "!91");
	expect_told(SPAN(SUBMIT_HELLO "\1\0\1\0x"), "!91");
	expect_told(SPAN(SUBMIT_HELLO "\0\0\0\0Ts@x\0\0"), "|;!91");
	expect_told(SPAN(SUBMIT_HELLO "\0\0\0\0F\0Fx\0\0"), "|;F:;!91");
}

static void test_talk_replay_id(void **state)
{
	struct submit_talk t;
	struct span        in = SPAN(SUBMIT_REPLAY "\7\0\0\0\0\0\0\1\0\0\0\0"), ret;

	submit_talk_init(&t);
	while (submit_talk_take(&t, &in, &ret) == SUBMIT_MORE)
		assert_true(in.n > 0);
	assert_true(t.replay_of == 0x0100000000000007);
}

static void test_talk_long_address(void **state)
{
	struct told t;
	char        addr[ADDR_MAX + 1];

	memset(addr, 'a', sizeof(addr));
	for (int over = 0; over < 2; over++) {
		told_init(&t);
		tell(&t, SPAN(SUBMIT_HELLO "\0\0\0\0F\0T"));
		tell(&t, span_of(addr, 700));
		tell(&t, span_of(addr, ADDR_MAX - 700 + (size_t)over));
		tell(&t, SPAN("\0\0"));
		assert_true(t.over);
		assert_int_equal(t.t.code, over ? SUBMIT_LONG : SUBMIT_OK);
		buf_free(&t.log);
	}
}

static void test_codes(void **state)
{
	assert_int_equal(submit_letter(0), 'K');
	assert_int_equal(submit_letter(11), 'D');
	assert_int_equal(submit_letter(31), 'D');
	assert_int_equal(submit_letter(40), 'D');
	assert_int_equal(submit_letter(41), 'Z');
	assert_int_equal(submit_letter(91), 'Z');
	assert_int_equal(submit_letter(115), 'D');
	assert_int_equal(submit_letter(200), 'Z');
	assert_non_null(strstr(submit_text(12), "permanent"));
	assert_non_null(strstr(submit_text(200), "temporary"));
}

/* ---- the client, and a server that plays a script in a thread */

struct server {
	char        path[100];
	int         fd;
	pthread_t   thread;
	unsigned    listen_after_ms;
	size_t      read_max;                     /* then it answers without reading on */
	const char *answer;                       /* NULL: says nothing and closes; "": says nothing, waits */
	struct buf  got;
	bool        eof;
};

static void *serve(void *arg)
{
	struct server     *s = arg;
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	struct timespec    wait = {.tv_nsec = (long)s->listen_after_ms * 1000000};
	int                l = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ssize_t            n = 1;

	nanosleep(&wait, NULL);
	snprintf(a.sun_path, sizeof(a.sun_path), "%s", s->path);
	if (bind(l, (struct sockaddr *)&a, sizeof(a)) < 0 || listen(l, 5) < 0)
		return NULL;
	s->fd = accept(l, NULL, NULL);
	while (s->got.n < s->read_max && n > 0) {
		char *p = buf_room(&s->got, 65536);

		if (!p)
			break;
		n = read(s->fd, p, 65536);
		s->eof = n == 0;
		s->got.n += n > 0 ? (size_t)n : 0;
	}
	if (s->answer && *s->answer && write(s->fd, s->answer, strlen(s->answer)) < 0)
		return NULL;
	if (s->answer && !*s->answer)
		sleep(1);
	close(s->fd);
	close(l);
	return NULL;
}

static void server_start(struct server *s, const char *answer)
{
	static int number;

	snprintf(s->path, sizeof(s->path), "/tmp/quire-submit.%d.%d", (int)getpid(), number++);
	unlink(s->path);
	s->answer = answer;
	if (!s->read_max)
		s->read_max = SIZE_MAX;
	buf_init(&s->got, 64 << 20);
	assert_int_equal(pthread_create(&s->thread, NULL, serve, s), 0);
}

static void server_stop(struct server *s)
{
	pthread_join(s->thread, NULL);
	unlink(s->path);
}

static void begin(struct submit *c, const struct server *s)
{
	submit_begin(c, s->path);
	c->wait_ms = 2000;
}

static void test_client_says_what_is_written(void **state)
{
	struct server s = {.listen_after_ms = 250};
	struct submit c;
	struct span   want = SPAN(SUBMIT_HELLO "\7\0\0\0a: b\n\nc\0\0\0\0Fs@x\0Ta@b\0T\0\0");

	server_start(&s, "4:K123,");
	begin(&c, &s);
	assert_true(submit_body(&c, SPAN("a: b\n")));
	assert_true(submit_body(&c, SPAN("\nc")));
	assert_true(submit_sender(&c, SPAN("s@x")));
	assert_true(submit_rcpt(&c, SPAN("a@b")));
	assert_true(submit_rcpt(&c, SPAN("")));
	assert_int_equal(submit_send(&c), 0);
	assert_int_equal(c.id, 123);
	server_stop(&s);
	assert_true(s.eof);
	assert_int_equal(s.got.n, want.n);
	assert_memory_equal(s.got.p, want.p, want.n);
	buf_free(&s.got);
}

/* What the server's half makes of what the client's half says, for a large mail. */
static void test_client_large(void **state)
{
	struct server      s = {0};
	struct submit      c;
	struct submit_talk t;
	struct span        in, ret;
	static char        line[1000];
	size_t             body = 0, rcpts = 0;
	enum submit_event  e = SUBMIT_MORE;

	server_start(&s, "2:K9,");
	begin(&c, &s);
	memset(line, 'x', sizeof(line));
	for (int i = 0; i < 1000; i++)
		assert_true(submit_body(&c, span_of(line, sizeof(line))));
	assert_true(submit_envelope(&c, SPAN("F\0")));
	for (int i = 0; i < 20000; i++)
		assert_true(submit_rcpt(&c, SPAN("somebody@somewhere.example")));
	assert_int_equal(submit_send(&c), 0);
	server_stop(&s);
	submit_talk_init(&t);
	for (in = buf_span(&s.got); in.n > 0 && e != SUBMIT_END && e != SUBMIT_BAD;) {
		e = submit_talk_take(&t, &in, &ret);
		body += e == SUBMIT_BODY ? ret.n : 0;
		rcpts += e == SUBMIT_RCPT;
	}
	assert_int_equal(e, SUBMIT_END);
	assert_int_equal(body, 1000000);
	assert_int_equal(rcpts, 20000);
	buf_free(&s.got);
}

static int try(struct server *s, const char *answer, struct submit *c)
{
	int code;

	server_start(s, answer);
	begin(c, s);
	(void)submit_body(c, SPAN("x"));
	(void)submit_sender(c, SPAN("s"));
	(void)submit_rcpt(c, SPAN("r"));
	code = submit_send(c);
	server_stop(s);
	buf_free(&s->got);
	return code;
}

static void test_client_answers(void **state)
{
	struct server s = {0};
	struct submit c;

	assert_int_equal(try(&s, "16:Z71 no room here,", &c), 71);
	assert_string_equal(c.text, "no room here");
	assert_int_equal(c.id, 0);
	assert_int_equal(try(&s, "11:D11 so long,", &c), 11);
	assert_int_equal(try(&s, "3:Kxy,", &c), SUBMIT_BROKEN);
	assert_int_equal(try(&s, "4:Z0 a,", &c), SUBMIT_BROKEN);
	assert_int_equal(try(&s, "K123", &c), SUBMIT_BROKEN);
	assert_int_equal(try(&s, "4:K12", &c), SUBMIT_BROKEN);
	assert_int_equal(try(&s, NULL, &c), SUBMIT_BROKEN);
}

static void test_client_early_answer(void **state)
{
	struct server s = {.read_max = 100000};
	struct submit c;
	static char   piece[100000];
	bool          ok = true;

	server_start(&s, "9:Z71 limit,");
	begin(&c, &s);
	for (int i = 0; i < 200 && ok; i++)
		ok = submit_body(&c, span_of(piece, sizeof(piece)));
	assert_false(ok);
	assert_false(submit_sender(&c, SPAN("s")));
	assert_int_equal(submit_send(&c), 71);
	assert_string_equal(c.text, "limit");
	server_stop(&s);
	buf_free(&s.got);
}

static void test_client_nobody(void **state)
{
	struct submit c;

	submit_begin(&c, "/tmp/quire-submit.none/x");
	c.wait_ms = 300;
	assert_true(submit_body(&c, SPAN("x")));
	assert_false(submit_sender(&c, SPAN("s")));
	assert_int_equal(submit_send(&c), SUBMIT_REFUSED);
	assert_true(strlen(c.text) > 0);
}

static void test_client_silence(void **state)
{
	struct server s = {.read_max = 10};
	struct submit c;

	server_start(&s, "");
	begin(&c, &s);
	c.wait_ms = 300;
	(void)submit_body(&c, SPAN("x"));
	(void)submit_sender(&c, SPAN("s"));
	assert_int_equal(submit_send(&c), SUBMIT_SLOW);
	server_stop(&s);
	buf_free(&s.got);
}

/* It is this side that says so; the server just loses the connection. */
static void test_client_bad_envelope(void **state)
{
	struct server s = {0};
	struct submit c;
	char          addr[ADDR_MAX + 1];

	memset(addr, 'a', sizeof(addr));
	server_start(&s, NULL);
	begin(&c, &s);
	assert_false(submit_envelope(&c, SPAN("Xs\0\0")));
	assert_int_equal(submit_end(&c), SUBMIT_FORMAT);
	server_stop(&s);
	buf_free(&s.got);

	server_start(&s, NULL);
	begin(&c, &s);
	assert_true(submit_sender(&c, span_of(addr, ADDR_MAX)));
	assert_false(submit_rcpt(&c, span_of(addr, ADDR_MAX + 1)));
	assert_int_equal(submit_send(&c), SUBMIT_LONG);
	server_stop(&s);
	buf_free(&s.got);

	submit_begin(&c, "/tmp/quire-submit.none/x"); /* it is not even connected to */
	assert_false(submit_sender(&c, SPAN("a\0b")));
	assert_int_equal(submit_send(&c), SUBMIT_FORMAT);
}

/* What was said must not look complete to the server. */
static void test_client_incomplete(void **state)
{
	struct server s = {0};
	struct submit c;

	server_start(&s, NULL);
	begin(&c, &s);
	assert_true(submit_body(&c, SPAN("x")));
	assert_true(submit_envelope(&c, SPAN("Fs\0Tr\0")));
	assert_false(c.complete);
	assert_int_equal(submit_end(&c), SUBMIT_READ);
	server_stop(&s);
	assert_true(s.eof);
	assert_true(s.got.n < sizeof(SUBMIT_HELLO) - 1 + 4 + 1 + 4 + sizeof("Fs\0Tr\0"));
	buf_free(&s.got);
}

/* qmail-queue must notice the end by itself: its caller may keep the descriptor open. */
static void test_client_sees_the_end(void **state)
{
	struct server s = {0};
	struct submit c;

	server_start(&s, "2:K5,");
	begin(&c, &s);
	assert_true(submit_envelope(&c, SPAN("Fs\0T")));
	assert_false(c.complete);
	assert_true(submit_envelope(&c, SPAN("r\0\0trailing")));
	assert_true(c.complete);
	assert_int_equal(submit_end(&c), 0);
	server_stop(&s);
	assert_int_equal(s.got.p[s.got.n - 1], '\0');
	buf_free(&s.got);
}

static void test_long_path(void **state)
{
	struct server s = {0};
	struct submit c;
	char          dir[200] = "/tmp/quire-submit-", path[300];

	memset(dir + strlen(dir), 'd', 120);
	server_start(&s, "2:K5,");
	assert_int_equal(symlink("/tmp", dir), 0);
	snprintf(path, sizeof(path), "%s%s", dir, s.path + 4);
	submit_begin(&c, path);
	assert_true(submit_sender(&c, SPAN("s")));
	assert_int_equal(submit_send(&c), 0);
	server_stop(&s);
	unlink(dir);
	buf_free(&s.got);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_talk),
		cmocka_unit_test(test_talk_replay_id),
		cmocka_unit_test(test_talk_long_address),
		cmocka_unit_test(test_codes),
		cmocka_unit_test(test_client_says_what_is_written),
		cmocka_unit_test(test_client_large),
		cmocka_unit_test(test_client_answers),
		cmocka_unit_test(test_client_early_answer),
		cmocka_unit_test(test_client_nobody),
		cmocka_unit_test(test_client_silence),
		cmocka_unit_test(test_client_bad_envelope),
		cmocka_unit_test(test_client_incomplete),
		cmocka_unit_test(test_client_sees_the_end),
		cmocka_unit_test(test_long_path),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
