/* qmail-queue against a fake socket: descriptors of every kind, envelopes cut at every byte. */
#include "tools/qmail_queue.h"

#include "fake_submit.h"

#include <poll.h>
#include <signal.h>
#include <sys/wait.h>

static struct fake_submit fake;

enum kind { PIPE, SOCKET, FILE_, KINDS };

/* A descriptor from which bytes can be read.  *ret_open: its other end, or -1 for a file. */
static int readable(enum kind kind, struct span bytes, int *ret_open)
{
	int ends[2];

	if (kind == FILE_) {
		int fd = open("/tmp", O_TMPFILE | O_RDWR, 0600);

		assert_true(fd >= 0);
		assert_int_equal(write(fd, bytes.p, bytes.n), bytes.n);
		assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
		*ret_open = -1;
		return fd;
	}
	if (kind == PIPE)
		assert_int_equal(pipe(ends), 0);
	else
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
	assert_int_equal(write(ends[1], bytes.p, bytes.n), bytes.n);
	*ret_open = ends[1];
	return ends[0];
}

static void close_if(int fd)
{
	if (fd >= 0)
		close(fd);
}

static int queue_kinds(enum kind mk, struct span message, enum kind ek, struct span envelope, bool ends)
{
	int m_open, e_open, code;
	int m = readable(mk, message, &m_open), e = readable(ek, envelope, &e_open);

	close_if(m_open);
	if (ends) {
		close_if(e_open);
		e_open = -1;
	}
	code = qmail_queue(fake.home, m, e, FAKE_WAIT_MS);
	close(m);
	close(e);
	close_if(e_open);
	return code;
}

static int queue(struct span message, struct span envelope)
{
	return queue_kinds(PIPE, message, PIPE, envelope, true);
}

static void takes_pipes_sockets_and_files_on_both_descriptors(void **state)
{
	for (int mk = 0; mk < KINDS; mk++) {
		for (int ek = 0; ek < KINDS; ek++) {
			buf_clear(&fake.last);
			assert_int_equal(queue_kinds(mk, SPAN("Subject: x\n\nno lf"), ek,
			                             SPAN("Fs@a\0Tr@b\0Tq@c\0\0"), true), 0);
			assert_span(buf_span(&fake.last), "F:s@a;T:r@b;T:q@c;|Subject: x\n\nno lf");
		}
	}
}

/* Node's children get sockets that nobody ends; bytes behind the end mean nothing. */
static void stops_at_the_last_nul_without_an_end_of_file(void **state)
{
	for (int ek = 0; ek < KINDS; ek++) {
		buf_clear(&fake.last);
		assert_int_equal(queue_kinds(SOCKET, SPAN("m"), ek, SPAN("Fs\0Tr\0\0Tmore\0junk"), false), 0);
		assert_span(buf_span(&fake.last), "F:s;T:r;|m");
	}
}

static void queues_nothing_when_the_envelope_is_cut_anywhere(void **state)
{
	const struct span whole = SPAN("Fsender@a.example\0Tone@b.example\0Ttwo@c.example\0\0");
	unsigned          before = fake.queued;

	for (int ek = 0; ek < KINDS; ek++)
		for (size_t n = 0; n < whole.n; n++)
			assert_int_equal(queue_kinds(PIPE, SPAN("m\n"), ek, span_until(whole, n), true),
			                 SUBMIT_READ);
	assert_int_equal(queue(SPAN("m\n"), whole), 0);  /* the others have been heard before */
	assert_int_equal(fake.queued, before + 1);
}

static void every_byte_is_data_and_arrives(void **state)
{
	char       all[256];
	struct buf want;

	for (unsigned i = 0; i < sizeof(all); i++)
		all[i] = (char)i;
	buf_init(&want, 4096);
	assert_int_equal(queue(span_of(all, sizeof(all)), SPAN("Fa\nb\0T\xff@x\0T\0\0")), 0);
	assert_true(buf_add(&want, SPAN("F:a\nb;T:\xff@x;T:;|")) && buf_add(&want, span_of(all, sizeof(all))));
	assert_spans_eq(buf_span(&fake.last), buf_span(&want));
	buf_free(&want);
}

static void empty_things_are_things(void **state)
{
	assert_int_equal(queue(SPAN(""), SPAN("F\0\0")), 0);
	assert_span(buf_span(&fake.last), "F:;|");
	assert_int_equal(queue(SPAN(""), SPAN("F#@[]\0Tx\0\0")), 0);
	assert_span(buf_span(&fake.last), "F:#@[];T:x;|");
}

static void wrong_letters_are_91(void **state)
{
	unsigned before = fake.queued;

	assert_int_equal(queue(SPAN("m"), SPAN("Ta\0\0")), SUBMIT_FORMAT);
	assert_int_equal(queue(SPAN("m"), SPAN("\0")), SUBMIT_FORMAT);
	assert_int_equal(queue(SPAN("m"), SPAN("Fa\0Fb\0\0")), SUBMIT_FORMAT);
	assert_int_equal(queue(SPAN("m"), SPAN("Fa\0tb\0\0")), SUBMIT_FORMAT);
	assert_int_equal(fake.queued, before);
}

static int queue_long(const char *head, size_t n)
{
	struct buf e;
	int        code;

	buf_init(&e, 8192);
	assert_true(buf_add(&e, SPAN("Fs\0")) && buf_fmt(&e, "%s", head));
	for (size_t i = 0; i < n; i++)
		assert_true(buf_add_byte(&e, 'x'));
	assert_true(buf_add(&e, SPAN("\0\0")));
	code = queue(SPAN("m"), span_from(buf_span(&e), head[0] == 'F' ? 3 : 0));
	buf_free(&e);
	return code;
}

static void addresses_have_1002_bytes_at_most(void **state)
{
	assert_int_equal(queue_long("T", 1002), 0);
	assert_int_equal(queue_long("T", 1003), SUBMIT_LONG);
	assert_int_equal(queue_long("F", 1002), 0);
	assert_int_equal(queue_long("F", 1003), SUBMIT_LONG);
}

/* A message and a list larger than every buffer on the way, byte by byte the same. */
static void streams_what_no_buffer_holds(void **state)
{
	enum { LINES = 400000, RCPTS = 200000 };
	int   m[2], e[2], status;
	pid_t pid;

	assert_int_equal(pipe(m), 0);
	assert_int_equal(pipe(e), 0);
	pid = fork();
	if (pid == 0) {
		FILE *mf = fdopen(m[1], "w"), *ef = fdopen(e[1], "w");

		for (unsigned i = 0; i < LINES; i++)
			fprintf(mf, "line %u\n", i);
		fclose(mf);
		fprintf(ef, "Fs%c", 0);
		for (unsigned i = 0; i < RCPTS; i++)
			fprintf(ef, "T%u@b%c", i, 0);
		fputc(0, ef);
		_exit(fclose(ef) != 0);
	}
	close(m[1]);
	close(e[1]);
	assert_int_equal(qmail_queue(fake.home, m[0], e[0], 10000), 0);
	close(m[0]);
	close(e[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);

	struct span got = buf_span(&fake.last);
	char        want[64];

	assert_true(span_skip(&got, SPAN("F:s;")));
	for (unsigned i = 0; i < RCPTS; i++) {
		snprintf(want, sizeof(want), "T:%u@b;", i);
		assert_true(span_skip(&got, span_str(want)));
	}
	assert_true(span_skip(&got, SPAN("|")));
	for (unsigned i = 0; i < LINES; i++) {
		snprintf(want, sizeof(want), "line %u\n", i);
		assert_true(span_skip(&got, span_str(want)));
	}
	assert_int_equal(got.n, 0);
}

/* What comes in pieces, on descriptors that would rather not wait. */
static void waits_on_descriptors_that_do_not_block(void **state)
{
	int   m[2], e[2], status;
	pid_t pid;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, m), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, e), 0);
	pid = fork();
	if (pid == 0) {
		close(m[0]);
		usleep(30000);
		if (write(m[1], "first ", 6) != 6)
			_exit(1);
		usleep(30000);
		if (write(m[1], "second", 6) != 6)
			_exit(1);
		close(m[1]);
		for (const char *p = "Fa\0Tb\0"; p < "Fa\0Tb\0" + 7; p++) {
			usleep(5000);
			if (write(e[1], p, 1) != 1)
				_exit(1);
		}
		_exit(0);
	}
	close(m[1]);
	assert_int_equal(qmail_queue(fake.home, m[0], e[0], FAKE_WAIT_MS), 0);
	assert_span(buf_span(&fake.last), "F:a;T:b;|first second");
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	close(m[0]);
	close(e[0]);
	close(e[1]);
}

static void closed_descriptors_are_54(void **state)
{
	int open_end, m = readable(FILE_, SPAN("m"), &open_end);

	assert_int_equal(qmail_queue(fake.home, -1, m, FAKE_WAIT_MS), SUBMIT_READ);
	assert_int_equal(qmail_queue(fake.home, m, -1, FAKE_WAIT_MS), SUBMIT_READ);
	close(m);

	/* The number of a closed one is the next to be given out: to the socket. */
	char *big = test_calloc(1, 2 * SUBMIT_CHUNK_MAX);
	int   closed;

	m = readable(FILE_, span_of(big, 2 * SUBMIT_CHUNK_MAX), &open_end);
	closed = dup(m);
	close(closed);
	assert_int_equal(qmail_queue(fake.home, m, closed, FAKE_WAIT_MS), SUBMIT_READ);
	close(m);
	test_free(big);
	m = open("/tmp", O_RDONLY);              /* can't be read */
	assert_int_equal(qmail_queue(fake.home, m, m, FAKE_WAIT_MS), SUBMIT_READ);
	close(m);
}

static void a_missing_home_is_61_and_nobody_there_73(void **state)
{
	char home[] = "/tmp/quire-empty.XXXXXX";
	int  open_end, m = readable(FILE_, SPAN("m"), &open_end);
	int  e = readable(FILE_, SPAN("Fa\0Tb\0\0"), &open_end);

	assert_int_equal(qmail_queue("/nonexistent/home", m, e, FAKE_WAIT_MS), QMAIL_QUEUE_HOME);
	assert_non_null(mkdtemp(home));
	assert_int_equal(qmail_queue(home, m, e, 50), SUBMIT_REFUSED);
	assert_int_equal(rmdir(home), 0);
	close(m);
	close(e);
}

static void the_servers_answer_is_the_exit_code(void **state)
{
	static const struct { const char *answer; int code; } cases[] = {
		{ "9:Z53 full.,", 53 }, { "9:Z71 later,", 71 }, { "8:D31 evil,", 31 }, { "5:hello,", 74 },
		{ "1:K,", 74 }, { "2:K0,", 74 },
	};

	for (size_t i = 0; i < ARRAY_N(cases); i++) {
		fake.answer = cases[i].answer;
		assert_int_equal(queue(SPAN("m"), SPAN("Fa\0Tb\0\0")), cases[i].code);
	}
	fake.answer = "4:K123,";
}

static void an_early_answer_is_heard(void **state)
{
	struct buf big;

	buf_init(&big, FAKE_MESSAGE_MAX);
	memset(buf_room(&big, 8 << 20), 'x', 8 << 20);
	big.n = 8 << 20;
	fake.early = true;
	fake.answer = "9:Z71 later,";
	assert_int_equal(queue_kinds(FILE_, buf_span(&big), FILE_, SPAN("Fa\0Tb\0\0"), true), 71);
	fake.early = false;
	fake.answer = "4:K123,";
	buf_free(&big);
}

static int setup(void **state)
{
	alarm(120);                              /* a hang is a failure */
	fake_start(&fake);
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
		cmocka_unit_test(takes_pipes_sockets_and_files_on_both_descriptors),
		cmocka_unit_test(stops_at_the_last_nul_without_an_end_of_file),
		cmocka_unit_test(queues_nothing_when_the_envelope_is_cut_anywhere),
		cmocka_unit_test(every_byte_is_data_and_arrives),
		cmocka_unit_test(empty_things_are_things),
		cmocka_unit_test(wrong_letters_are_91),
		cmocka_unit_test(addresses_have_1002_bytes_at_most),
		cmocka_unit_test(streams_what_no_buffer_holds),
		cmocka_unit_test(waits_on_descriptors_that_do_not_block),
		cmocka_unit_test(closed_descriptors_are_54),
		cmocka_unit_test(a_missing_home_is_61_and_nobody_there_73),
		cmocka_unit_test(the_servers_answer_is_the_exit_code),
		cmocka_unit_test(an_early_answer_is_heard),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
