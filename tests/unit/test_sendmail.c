/* sendmail: its command line, the lone dot, and messages handed in to a fake socket. */
#include "tools/sendmail.h"

#include "core/clock.h"
#include "fake_submit.h"
#include "tools/headers.h"
#include "tools/intake.h"

#include <signal.h>

#define ARGS_MAX 24

/* ---- the command line */

static struct sendmail_options options(char *line, char **argv)
{
	unsigned n = 0;

	for (char *word = line, *next; word; word = next) {
		next = strchr(word, ' ');
		if (next)
			*next++ = '\0';
		assert_true(n + 1 < ARGS_MAX);
		argv[n++] = strcmp(word, "''") == 0 ? word + 2 : word;
	}
	argv[n] = NULL;
	return sendmail_read_options(argv);
}

static const struct {
	const char        *line;
	enum sendmail_mode mode;
	const char        *sender, *name;         /* NULL: not given */
	bool               t, i;
	const char        *rcpts;                 /* a blank behind each */
} lines[] = {
	{ "sendmail", SENDMAIL_SEND, NULL, NULL, false, false, "" },
	{ "/usr/sbin/sendmail a b", SENDMAIL_SEND, NULL, NULL, false, false, "a b " },
	{ "sendmail -t -i", SENDMAIL_SEND, NULL, NULL, true, true, "" },
	{ "sendmail -ti a", SENDMAIL_SEND, NULL, NULL, true, true, "a " },
	{ "sendmail -oi a", SENDMAIL_SEND, NULL, NULL, false, true, "a " },
	{ "sendmail -o i a", SENDMAIL_SEND, NULL, NULL, false, true, "a " },
	{ "sendmail -oie a", SENDMAIL_SEND, NULL, NULL, false, false, "a " },
	{ "sendmail -fs@a b", SENDMAIL_SEND, "s@a", NULL, false, false, "b " },
	{ "sendmail -f s@a b", SENDMAIL_SEND, "s@a", NULL, false, false, "b " },
	{ "sendmail -f '' b", SENDMAIL_SEND, "", NULL, false, false, "b " },
	{ "sendmail -f -x b", SENDMAIL_SEND, "-x", NULL, false, false, "b " },
	{ "sendmail -tf s b", SENDMAIL_SEND, "s", NULL, true, false, "b " },
	{ "sendmail -i -FCronDaemon -odi -oem -oi -t", SENDMAIL_SEND, NULL, "CronDaemon", true, true, "" },
	{ "sendmail -F Joe -B 8BITMIME -p x -e m -v -m -x a", SENDMAIL_SEND, NULL, "Joe", false, false, "a " },
	{ "sendmail -B8BITMIME -N never -Eanything -Jx -vmx a", SENDMAIL_SEND, NULL, NULL, false, false, "a " },
	{ "sendmail -bm -- -t a", SENDMAIL_SEND, NULL, NULL, false, false, "-t a " },
	{ "sendmail a -t", SENDMAIL_SEND, NULL, NULL, false, false, "a -t " },
	{ "sendmail -t - a", SENDMAIL_SEND, NULL, NULL, true, false, "- a " },
	{ "sendmail -bs", SENDMAIL_SMTP, NULL, NULL, false, false, "" },
	{ "sendmail -b s", SENDMAIL_SMTP, NULL, NULL, false, false, "" },
	{ "sendmail -bp", SENDMAIL_QUEUE, NULL, NULL, false, false, "" },
	{ "/usr/bin/mailq", SENDMAIL_QUEUE, NULL, NULL, false, false, "" },
	{ "newaliases", SENDMAIL_ALIASES, NULL, NULL, false, false, "" },
	{ "sendmail --help", SENDMAIL_HELP, NULL, NULL, false, false, "" },
	{ "mailq --version", SENDMAIL_VERSION, NULL, NULL, false, false, "" },
	{ "sendmail --nonsense", SENDMAIL_WRONG, NULL, NULL, false, false, "" },
	{ "sendmail -bd", SENDMAIL_WRONG, NULL, NULL, false, false, "" },
	{ "sendmail -bi", SENDMAIL_WRONG, NULL, NULL, false, false, "" },
	{ "sendmail -q", SENDMAIL_WRONG, NULL, NULL, false, false, "" },
	{ "sendmail -tq a", SENDMAIL_WRONG, NULL, NULL, true, false, "a " },
	{ "sendmail -f", SENDMAIL_WRONG, NULL, NULL, false, false, "" },
};

static void assert_text(const char *got, const char *want)
{
	assert_int_equal(got != NULL, want != NULL);
	if (want)
		assert_string_equal(got, want);
}

static void reads_the_command_line(void **state)
{
	for (size_t i = 0; i < ARRAY_N(lines); i++) {
		char                    line[120], *argv[ARGS_MAX], rcpts[120] = "";
		struct sendmail_options o;

		print_message("%s\n", lines[i].line);
		snprintf(line, sizeof(line), "%s", lines[i].line);
		o = options(line, argv);
		assert_int_equal(o.mode, lines[i].mode);
		assert_text(o.sender, lines[i].sender);
		assert_text(o.name, lines[i].name);
		assert_int_equal(o.from_header, lines[i].t);
		assert_int_equal(o.dots_are_data, lines[i].i);
		for (char *const *r = o.rcpts; *r; r++)
			snprintf(rcpts + strlen(rcpts), sizeof(rcpts) - strlen(rcpts), "%s ", *r);
		assert_string_equal(rcpts, lines[i].rcpts);
	}
}

static void a_missing_name_of_the_program_is_survived(void **state)
{
	char *argv[] = { NULL };

	assert_int_equal(sendmail_read_options(argv).mode, SENDMAIL_SEND);
}

/* ---- the lone dot */

static const struct { const char *in, *out; bool over; } dots[] = {
	{ "a\n.\nb\n", "a\n", true },
	{ ".\nb\n", "", true },
	{ "a\r\n.\r\nb\r\n", "a\r\n", true },
	{ "a\n.b\n..\n. \n", "a\n.b\n..\n. \n", false },
	{ "a.\n.\rb\n.\r\r\n", "a.\n.\rb\n.\r\r\n", false },
	{ "a\n.", "a\n", false },
	{ "a\n.\r", "a\n.\r", false },
	{ "a\n..", "a\n..", false },
	{ "", "", false },
	{ "no lf", "no lf", false },
	{ "\n\n.\n", "\n\n", true },
};

static void a_lone_dot_ends_it_however_it_is_cut(void **state)
{
	for (size_t i = 0; i < ARRAY_N(dots); i++) {
		struct span whole = span_str(dots[i].in);

		for (size_t cut = 0; cut <= whole.n; cut++) {
			char           got[64];
			struct dot_end d;
			size_t         n;

			dot_end_begin(&d);
			n = dot_end_take(&d, span_until(whole, cut), got);
			n += dot_end_take(&d, span_from(whole, cut), got + n);
			assert_int_equal(d.over, dots[i].over);
			n += dot_end_finish(&d, got + n);
			assert_span(span_of(got, n), dots[i].out);
			assert_true(d.over);
		}
	}
}

/* ---- messages */

static struct fake_submit fake;
static char               said[1000];

static void give_input(struct span bytes)
{
	int fd = open("/tmp", O_TMPFILE | O_RDWR, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, bytes.p, bytes.n), bytes.n);
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	assert_int_equal(dup2(fd, 0), 0);
	close(fd);
}

/* Runs it with standard error in `said`. */
static int run_at(const char *home, const char *line, struct span input)
{
	char                    copy[4096], *argv[ARGS_MAX];
	struct sendmail_options o;
	int                     code, own = dup(2), fd = open("/tmp", O_TMPFILE | O_RDWR, 0600);
	ssize_t                 n;

	snprintf(copy, sizeof(copy), "%s", line);
	o = options(copy, argv);
	give_input(input);
	assert_int_equal(dup2(fd, 2), 2);
	code = sendmail(&o, home, FAKE_WAIT_MS);
	fflush(stderr);
	dup2(own, 2);
	close(own);
	n = pread(fd, said, sizeof(said) - 1, 0);
	said[n > 0 ? n : 0] = '\0';
	close(fd);
	return code;
}

static int run(const char *line, const char *input)
{
	buf_clear(&fake.last);
	return run_at(fake.home, line, span_str(input));
}

#define HEAD "Date: 21 Nov 2026 01:37:59 -0000\nMessage-ID: <20261121013759.PID.qmail@mail.example.com>\n"
#define FROM "From: joe@mail.example.com\n"
#define ALL  "Date: d\nFrom: f\nMessage-ID: m\n"

static const struct golden {
	const char *name, *line, *input, *want;
} goldens[] = {
	{ "recipients of the command line, missing fields in front",
	  "sendmail ann x@y", "Subject: s\n\nbody\n",
	  "F:joe@mail.example.com;T:ann@mail.example.com;T:x@y.example.com;|" HEAD FROM "Subject: s\n\nbody\n" },
	{ "a header alone gets no empty line", "sendmail ann@b.c", "Subject: s",
	  "F:joe@mail.example.com;T:ann@b.c;|" HEAD FROM "Subject: s\n" },
	{ "no header: an empty line is put in", "sendmail ann@b.c", "hello\n",
	  "F:joe@mail.example.com;T:ann@b.c;|" HEAD FROM "\nhello\n" },
	{ "an empty line at once", "sendmail ann@b.c", "\nhello",
	  "F:joe@mail.example.com;T:ann@b.c;|" HEAD FROM "\nhello" },
	{ "nothing at all", "sendmail ann@b.c", "", "F:joe@mail.example.com;T:ann@b.c;|" HEAD FROM },
	{ "no recipient at all", "sendmail", ALL "\n", "F:joe@mail.example.com;|" ALL "\n" },
	{ "the header's recipients are not asked without -t, Bcc goes all the same",
	  "sendmail ann@b.c", ALL "To: (\nBcc: x@y.z\n\nb\n", "F:joe@mail.example.com;T:ann@b.c;|" ALL "To: (\n\nb\n" },
	{ "-t: arguments first, then To, Cc, Bcc",
	  "sendmail -t a@b.c", ALL "To: d@e.f, G <g@h.i>\nBcc: j\nCc: k@l.m\n\nTo: x@y.z\n",
	  "F:joe@mail.example.com;T:a@b.c;T:d@e.f;T:g@h.i;T:j@mail.example.com;T:k@l.m;|" ALL
	  "To: d@e.f, G <g@h.i>\nCc: k@l.m\n\nTo: x@y.z\n" },
	{ "-t of a resent message",
	  "sendmail -t", ALL "Resent-To: q@w.e\nTo: x@y.z\nBcc: s@y.z\n\n",
	  "F:joe@mail.example.com;T:q@w.e;|Resent-Date: 21 Nov 2026 01:37:59 -0000\nResent-Message-ID: "
	  "<20261121013759.PID.qmail@mail.example.com>\nResent-From: joe@mail.example.com\n" ALL
	  "Resent-To: q@w.e\nTo: x@y.z\n\n" },
	{ "-f is both senders", "sendmail -f list@a.b x@y.z", "Date: d\nMessage-ID: m\n\n",
	  "F:list@a.b;T:x@y.z;|From: list@a.b\nDate: d\nMessage-ID: m\n\n" },
	{ "-f is made whole", "sendmail -fann x@y.z", ALL "\n", "F:ann@mail.example.com;T:x@y.z;|" ALL "\n" },
	{ "-f with -F", "sendmail -F Ann -f ann@a.b x@y.z", "Date: d\nMessage-ID: m\n\n",
	  "F:ann@a.b;T:x@y.z;|From: \"Ann\" <ann@a.b>\nDate: d\nMessage-ID: m\n\n" },
	{ "-F alone", "sendmail -FAnn x@y.z", "Date: d\nMessage-ID: m\n\n",
	  "F:joe@mail.example.com;T:x@y.z;|From: \"Ann\" <joe@mail.example.com>\nDate: d\nMessage-ID: m\n\n" },
	{ "the empty sender", "sendmail -f '' x@y.z", "Date: d\nMessage-ID: m\n\n",
	  "F:;T:x@y.z;|" FROM "Date: d\nMessage-ID: m\n\n" },
	{ "the empty sender in brackets", "sendmail -f <> x@y.z", ALL "\n", "F:;T:x@y.z;|" ALL "\n" },
	{ "a VERP template", "sendmail -f l-@a.b-@[] x@y.z", "Date: d\nMessage-ID: m\n\n",
	  "F:l-@a.b-@[];T:x@y.z;|From: l-@a.b\nDate: d\nMessage-ID: m\n\n" },
	{ "Return-Path is the sender", "sendmail x@y.z", "Return-Path: <l@m.n>\n" ALL "\n", "F:l@m.n;T:x@y.z;|" ALL "\n" },
	{ "an empty Return-Path too", "sendmail x@y.z", "Return-Path: <>\n" ALL "\n", "F:;T:x@y.z;|" ALL "\n" },
	{ "-f beats Return-Path", "sendmail -fa@b.c x@y.z", "Return-Path: <l@m.n>\n" ALL "\n", "F:a@b.c;T:x@y.z;|" ALL "\n" },
	{ "a lone dot ends it", "sendmail x@y.z", ALL "\na\n.\nb\n", "F:joe@mail.example.com;T:x@y.z;|" ALL "\na\n" },
	{ "not with -i", "sendmail -i x@y.z", ALL "\na\n.\nb\n", "F:joe@mail.example.com;T:x@y.z;|" ALL "\na\n.\nb\n" },
	{ "a lone dot in the header ends it", "sendmail x@y.z", ALL ".\nb\n", "F:joe@mail.example.com;T:x@y.z;|" ALL },
	{ "the body stays as it is, CR LF too", "sendmail -i x@y.z", "Date: d\r\nFrom: f\r\nMessage-ID: m\r\nTo: a\r\n\r\nx\ry\r\n",
	  "F:joe@mail.example.com;T:x@y.z;|Date: d\r\nFrom: f\r\nMessage-ID: m\r\nTo: a\r\n\r\nx\ry\r\n" },
	{ "an mbox line", "sendmail -t", "From joe Sat\n" ALL "To: a@b.c\n\n",
	  "F:joe@mail.example.com;T:a@b.c;|MBOX-Line: From joe Sat\n" ALL "To: a@b.c\n\n" },
};

/* want with PID as the number it is. */
static void put_pid(const char *want, struct buf *b)
{
	const char *at = strstr(want, "PID");

	buf_clear(b);
	if (at)
		assert_true(buf_fmt(b, "%.*s%u%s", (int)(at - want), want, (unsigned)getpid(), at + 3));
	else
		assert_true(buf_fmt(b, "%s", want));
}

static void golden_messages(void **state)
{
	struct buf want;

	buf_init(&want, 4096);
	for (size_t i = 0; i < ARRAY_N(goldens); i++) {
		print_message("%s\n", goldens[i].name);
		assert_int_equal(run(goldens[i].line, goldens[i].input), 0);
		assert_string_equal(said, "");
		put_pid(goldens[i].want, &want);
		assert_spans_eq(buf_span(&fake.last), buf_span(&want));
	}
	buf_free(&want);
}

static void the_environment_names_the_sender(void **state)
{
	const char *input = "Date: d\nMessage-ID: m\n\n";

	setenv("LOGNAME", "log", 1);
	unsetenv("USER");
	assert_int_equal(run("sendmail a@b.c", input), 0);
	assert_span(buf_span(&fake.last), "F:log@mail.example.com;T:a@b.c;|From: log@mail.example.com\nDate: d\nMessage-ID: m\n\n");
	unsetenv("LOGNAME");
	assert_int_equal(run("sendmail a@b.c", ALL "\n"), 0);
	assert_span(buf_span(&fake.last), "F:anonymous@mail.example.com;T:a@b.c;|" ALL "\n");
	setenv("QMAILUSER", "q", 1);
	setenv("MAILUSER", "m", 1);
	setenv("MAILHOST", "h", 1);
	setenv("NAME", "Q. U.", 1);
	assert_int_equal(run("sendmail a@b.c", input), 0);
	assert_span(buf_span(&fake.last), "F:q@h.example.com;T:a@b.c;|From: \"Q. U.\" <q@h.example.com>\nDate: d\nMessage-ID: m\n\n");
	assert_int_equal(run("sendmail -fx@y.z a@b.c", input), 0);
	assert_span(buf_span(&fake.last), "F:x@y.z;T:a@b.c;|From: x@y.z\nDate: d\nMessage-ID: m\n\n");
	setenv("QMAILSUSER", "s", 1);
	setenv("QMAILSHOST", "t.u", 1);
	setenv("QMAILDEFAULTHOST", "dh.x", 1);
	assert_int_equal(run("sendmail a", ALL "\n"), 0);
	assert_span(buf_span(&fake.last), "F:s@t.u;T:a@dh.x;|" ALL "\n");
	static const char *const set[] = {"QMAILUSER", "MAILUSER", "MAILHOST", "NAME", "QMAILSUSER",
	                                  "QMAILSHOST", "QMAILDEFAULTHOST"};
	for (size_t i = 0; i < ARRAY_N(set); i++)
		unsetenv(set[i]);
	setenv("USER", "joe", 1);
}

static void refused(const char *line, const char *input, int code, const char *words)
{
	unsigned before = fake.queued;

	assert_int_equal(run(line, input), code);
	if (!strstr(said, words))
		print_error("said: %s", said);
	assert_non_null(strstr(said, words));
	assert_true(strncmp(said, "sendmail: fatal: ", 17) == 0);
	assert_ptr_equal(strchr(said, '\n'), said + strlen(said) - 1);
	assert_int_equal(fake.queued, before);
}

static void says_what_is_wrong_in_one_line(void **state)
{
	char line[1200] = "sendmail ";

	refused("sendmail -bd", "", 100, "-bd");
	refused("sendmail -q", "", 100, "-q");
	refused("sendmail -t", "To: a, (b\n c\n\nbody\n", 100, "unable to parse this line: To: a, (b\n");
	refused("sendmail a@b.c", "Return-Path: <(>\n\n", 100, "unable to parse this line: Return-Path");
	refused("sendmail ''", "m\n", 100, "recipient");
	refused("sendmail a@b.c d\ne@f.g", "m\n", 100, "recipient");
	refused("sendmail -f a\nb@c.d a@b.c", "m\n", 100, "sender");
	memset(line + 9, 'x', 1003);
	refused(line, "m\n", 100, "too long");
	assert_int_equal(run("newaliases", ""), 100);
	assert_non_null(strstr(said, "newaliases: fatal: "));
	assert_int_equal(run_at("/nonexistent", "sendmail a@b.c", SPAN("m")), 111);
	assert_non_null(strstr(said, "/nonexistent: No such file"));
}

static void the_servers_answer_is_passed_on(void **state)
{
	fake.answer = "9:Z53 full.,";
	refused("sendmail a@b.c", "m\n", 111, "full.");
	fake.answer = "8:D31 evil,";
	refused("sendmail a@b.c", "m\n", 100, "evil");
	fake.answer = "4:K123,";
}

static void nobody_there_is_temporary(void **state)
{
	char home[] = "/tmp/quire-empty.XXXXXX";

	assert_non_null(mkdtemp(home));
	assert_int_equal(run_at(home, "sendmail a@b.c", SPAN("m\n")), 111);
	assert_int_equal(rmdir(home), 0);
}

static void headers_have_a_limit_and_bodies_none(void **state)
{
	struct buf  b;
	const char *line = "X: 7890123456789012345678901234567890123456789012345678901234567\n";

	buf_init(&b, 40 << 20);
	for (unsigned i = 0; i < HEADERS_MAX / 64 + 1; i++)
		assert_true(buf_add(&b, span_str(line)));
	assert_int_equal(run_at(fake.home, "sendmail -i a@b.c", buf_span(&b)), 100);
	assert_non_null(strstr(said, "header is longer"));
	buf_clear(&b);
	assert_true(buf_add(&b, SPAN(ALL "\n")));
	for (unsigned i = 0; b.n < 30 << 20; i++)
		assert_true(buf_fmt(&b, "%u some line of the body\n", i));
	buf_clear(&fake.last);
	assert_int_equal(run_at(fake.home, "sendmail a@b.c", buf_span(&b)), 0);
	assert_true(buf_span(&fake.last).n > b.n);
	assert_true(span_ends(buf_span(&fake.last), buf_span(&b)));
	buf_free(&b);
}

/* Half a million addresses in one field. */
static void lists_in_to_are_taken_whole(void **state)
{
	struct buf b;
	unsigned   n = 0;

	buf_init(&b, HEADERS_MAX);
	assert_true(buf_add(&b, SPAN(ALL "To: ")));
	for (; n < 450000; n++)
		assert_true(buf_fmt(&b, "u%u@b.c,\n ", n));
	assert_true(buf_add(&b, SPAN("last@b.c\n\n")));
	buf_clear(&fake.last);
	assert_int_equal(run_at(fake.home, "sendmail -t", buf_span(&b)), 0);

	struct span got = buf_span(&fake.last);
	char        want[32];

	assert_true(span_skip(&got, SPAN("F:joe@mail.example.com;")));
	for (unsigned i = 0; i < n; i++) {
		snprintf(want, sizeof(want), "T:u%u@b.c;", i);
		assert_true(span_skip(&got, span_str(want)));
	}
	assert_true(span_skip(&got, SPAN("T:last@b.c;|")));
	assert_spans_eq(got, buf_span(&b));
	buf_free(&b);
}

static void a_closed_standard_input_is_no_message(void **state)
{
	char                   *argv[] = {"sendmail", "a@b.c", NULL};
	struct sendmail_options o = sendmail_read_options(argv);
	unsigned                before = fake.queued;

	close(0);
	assert_int_equal(sendmail(&o, fake.home, FAKE_WAIT_MS), 111);
	assert_int_equal(open("/", O_RDONLY), 0);     /* can't be read */
	assert_int_equal(sendmail(&o, fake.home, FAKE_WAIT_MS), 111);
	assert_int_equal(fake.queued, before);
}

static int setup(void **state)
{
	static const char *const set[] = {"QMAILUSER", "MAILUSER", "LOGNAME", "QMAILHOST", "MAILHOST", "QMAILNAME",
	                                  "MAILNAME", "NAME", "QMAILSUSER", "QMAILSHOST", "QMAILDEFAULTHOST",
	                                  "QMAILDEFAULTDOMAIN", "QMAILPLUSDOMAIN", "QMAILIDHOST"};

	alarm(120);                              /* a hang is a failure */
	for (size_t i = 0; i < ARRAY_N(set); i++)
		unsetenv(set[i]);
	setenv("USER", "joe", 1);
	clock_set(0, 1795225079000000);
	fake_start(&fake);
	fake_file(&fake, "control/me", "mail.example.com\n");
	fake_file(&fake, "control/defaultdomain", "example.com\n");
	return 0;
}

static int teardown(void **state)
{
	fake_stop(&fake);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_the_command_line),
		cmocka_unit_test(a_missing_name_of_the_program_is_survived),
		cmocka_unit_test(a_lone_dot_ends_it_however_it_is_cut),
		cmocka_unit_test(golden_messages),
		cmocka_unit_test(the_environment_names_the_sender),
		cmocka_unit_test(says_what_is_wrong_in_one_line),
		cmocka_unit_test(the_servers_answer_is_passed_on),
		cmocka_unit_test(nobody_there_is_temporary),
		cmocka_unit_test(headers_have_a_limit_and_bodies_none),
		cmocka_unit_test(lists_in_to_are_taken_whole),
		cmocka_unit_test(a_closed_standard_input_is_no_message),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
