/* forward: what arrives at run/submit, byte for byte, and what the report says of each answer.
 */
#include "tests/unit/local_test.h"

#include "local/forward.h"
#include "mail/submit.h"

#include <pthread.h>
#include <sys/socket.h>
#include <sys/un.h>

static struct nest home;
static struct report report;
static struct letter letter;
static struct buf body, envelope; /* as journald would see them */
static int listener;
static const char *answer;

static void *serve(void *ctx)
{
	struct submit_talk t;
	enum submit_event e = SUBMIT_MORE;
	struct span ret;
	char got[5000];
	ssize_t n;
	int fd = accept(listener, NULL, NULL);

	submit_talk_init(&t);
	while (e != SUBMIT_END && (n = read(fd, got, sizeof(got))) > 0) {
		struct span in = span_of(got, (size_t)n);
		bool ok = true;

		do {
			e = submit_talk_take(&t, &in, &ret);
			if (e == SUBMIT_BODY)
				ok = buf_add(&body, ret);
			if (e == SUBMIT_SENDER || e == SUBMIT_RCPT)
				ok = buf_add_byte(&envelope, e == SUBMIT_SENDER ? 'F' : 'T') &&
				     buf_add(&envelope, ret) && buf_add_byte(&envelope, ';');
			check(ok && e != SUBMIT_BAD);
		} while (e != SUBMIT_MORE && e != SUBMIT_END);
	}
	check(e == SUBMIT_END || !answer);
	if (answer)
		check(write(fd, answer, strlen(answer)) == (ssize_t)strlen(answer));
	close(fd);
	return NULL;
}

static void listen_below(const char *dir)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX, .sun_path = "submit"};

	mkdir(dir, 0700);
	assert_int_equal(chdir(dir), 0);
	assert_int_equal(mkdir("run", 0700), 0);
	assert_int_equal(chdir("run"), 0);
	listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(listener, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(listen(listener, 1), 0);
	assert_int_equal(chdir("/"), 0);
}

static int setup(void **state)
{
	nest_make(&home);
	report_init(&report);
	buf_init(&body, 1 << 24);
	buf_init(&envelope, 1 << 24);
	assert_true(letter_init(&letter, SPAN("Subject: t\n\nlast"), SPAN("s@x"), SPAN("r@x"),
				NOV_21));
	listen_below(home.dir);
	return 0;
}

static int teardown(void **state)
{
	close(listener);
	letter_fini(&letter);
	buf_free(&body);
	buf_free(&envelope);
	report_fini(&report);
	nest_remove(&home);
	return 0;
}

static bool send_it(const char *dir, struct span recipients, const char *says, uint64_t *ret_id)
{
	pthread_t thread;
	bool ok;

	answer = says;
	assert_int_equal(pthread_create(&thread, NULL, serve, NULL), 0);
	ok = forward_send((void *)(uintptr_t)dir, &letter, recipients, &report, ret_id);
	assert_int_equal(pthread_join(thread, NULL), 0);
	return ok;
}

static void is(struct buf *b, const char *want)
{
	assert_true(buf_add_byte(b, '\0'));
	assert_string_equal(b->p, want);
}

static void queued(void **state)
{
	uint64_t id = 0;

	assert_true(send_it(home.dir, SPAN("Fs@x\0Ta@b\0T\0Ta@b\0\0"), "4:K977,", &id));
	assert_int_equal(id, 977);
	is(&body, "Delivered-To: r@x\nSubject: t\n\nlast");
	is(&envelope, "Fs@x;Ta@b;T;Ta@b;");
	report_is(&report, 'K', "");
}

static void a_large_one(void **state)
{
	size_t n = 3000000;
	char *big = malloc(n);
	uint64_t id = 0;

	for (size_t i = 0; i < n; i++)
		big[i] = (char)(i * 7 / 3);
	letter.body = span_of(big, n);
	assert_true(send_it(home.dir, SPAN("F\0Ta@b\0\0"), "2:K1,", &id));
	assert_int_equal(body.n, letter.dtline.n + n);
	assert_memory_equal(body.p + letter.dtline.n, big, n);
	is(&envelope, "F;Ta@b;");
	free(big);
}

static void refusals(void **state)
{
	char text[300];
	uint64_t id = 5;

	assert_false(send_it(home.dir, SPAN("F\0Ta@b\0\0"), "6:Z53 no,", &id));
	report_is(&report, 'Z', "Unable to forward message: no.\n");
	report_init(&report);
	assert_false(send_it(home.dir, SPAN("F\0Ta@b\0\0"), "7:D31 bad,", &id));
	report_is(&report, 'D', "Unable to forward message: bad.\n");
	report_init(&report);
	assert_false(send_it(home.dir, SPAN("F\0Ta@b\0\0"), "", &id));
	snprintf(text, sizeof(text), "Unable to forward message: %s.\n",
		 submit_text(SUBMIT_BROKEN));
	report_is(&report, 'Z', text);
	assert_int_equal(id, 5);
}

/* Known on this side: nothing is queued. */
static void an_address_too_long(void **state)
{
	struct buf all;
	uint64_t id = 5;
	char text[300];

	buf_init(&all, 10000);
	assert_true(buf_add(&all, SPAN("Fs@x\0T")));
	for (int i = 0; i < ADDR_MAX + 1; i++)
		assert_true(buf_add_byte(&all, 'a'));
	assert_true(buf_add(&all, SPAN("\0\0")));
	assert_false(send_it(home.dir, buf_span(&all), NULL, &id));
	snprintf(text, sizeof(text), "Unable to forward message: %s.\n",
		 submit_text(SUBMIT_LONG));
	report_is(&report, 'D', text);
	buf_free(&all);
}

/* Longer than the address of a socket may be. */
static void a_long_home(void **state)
{
	char name[150], dir[300], endless[5000];
	uint64_t id = 0;

	memset(name, 'n', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	snprintf(dir, sizeof(dir), "%s/%s", home.dir, name);
	close(listener);
	listen_below(dir);
	assert_true(send_it(dir, SPAN("F\0Ta@b\0\0"), "2:K8,", &id));
	assert_int_equal(id, 8);

	memset(endless, '/', sizeof(endless) - 1);
	endless[sizeof(endless) - 1] = '\0';
	assert_false(forward_send(endless, &letter, SPAN("F\0Ta@b\0\0"), &report, &id));
	report_is(&report, 'Z',
		  "Unable to forward message: the home's name is too long (#4.3.5).\n");
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(queued),      CASE(a_large_one), CASE(refusals), CASE(an_address_too_long),
		CASE(a_long_home),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
