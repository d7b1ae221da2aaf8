/* rcpthosts: the rules of docs/qmail.md 7 with and without the database, and relayclients. */
#include "mail/cdb.h"
#include "mail/rcpthosts.h"
#include "tests/unit/mail_test.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static const struct {
	const char *addr;
	bool        by_list, by_cdb;
} cases[] = {
	{"u@example.com", true, true},      {"u@EXAMPLE.com", true, true},
	{"u@x.example.com", false, false},  {"u@a.sub.example.com", true, true},
	{"u@b.a.SUB.example.com", true, true}, {"u@sub.example.com", false, false},
	{"u@example.com.", false, false},   {"noat", true, true},
	{"", true, true},                   {"u@", false, false},
	{"u@more.org", false, true},        {"u@MORE.org", false, true},
	{"u@x.wild.org", false, true},      {"u@wild.org", false, false},
	{"a@example.com@other", false, false}, {"a@other@example.com", true, true},
};

static struct control *with(const char *name, const char *bytes)
{
	struct control *c = control_new();

	assert_true(control_set(c, span_str(name), span_str(bytes)));
	return c;
}

static int make_cdb(void)
{
	char path[] = "/tmp/quire-test-rcpthosts-XXXXXX", final[100];
	struct cdb_writer *w;
	const char *why;
	int fd = mkstemp(path);

	assert_true(fd >= 0);
	close(fd);
	w = cdb_writer_new(path);
	assert_non_null(w);
	assert_int_equal(
		morercpthosts_compile(SPAN("# more\nMore.org \t\n\n.WILD.org"), w, &why), 0);
	snprintf(final, sizeof final, "%s.cdb", path);
	assert_true(cdb_writer_finish(w, final, 0600));
	fd = open(final, O_RDONLY);
	unlink(final);
	assert_true(fd >= 0);
	return fd;
}

static void list_and_database(void **state)
{
	struct control *c =
		with("rcpthosts", "mail.example.com\nexample.com\n.sub.example.com\n");
	int fd = make_cdb();
	struct rcpthosts *list = rcpthosts_new(c, -1), *both = rcpthosts_new(c, fd);

	close(fd);
	control_free(c);
	for (size_t i = 0; i < ARRAY_N(cases); i++) {
		assert_int_equal(rcpthosts_allow(list, span_str(cases[i].addr)),
				 cases[i].by_list);
		assert_int_equal(rcpthosts_allow(both, span_str(cases[i].addr)),
				 cases[i].by_cdb);
	}
	rcpthosts_free(list);
	rcpthosts_free(both);
}

static void without_the_file_nothing_is_taken(void **state)
{
	struct control *c = control_new();
	int fd = make_cdb();
	struct rcpthosts *r = rcpthosts_new(c, fd);

	assert_false(rcpthosts_allow(r, SPAN("u@example.com")));
	assert_false(
		rcpthosts_allow(r, SPAN("u@more.org"))); /* the database adds to a list only */
	assert_true(rcpthosts_allow(r, SPAN("noat")));
	rcpthosts_free(r);
	control_free(c);
	close(fd);
}

static void an_empty_file_allows_only_what_has_no_at(void **state)
{
	struct control *c = with("rcpthosts", "");
	struct rcpthosts *r = rcpthosts_new(c, -1);

	assert_false(rcpthosts_allow(r, SPAN("u@example.com")));
	assert_true(rcpthosts_allow(r, SPAN("noat")));
	rcpthosts_free(r);
	control_free(c);
}

static void a_broken_database_ends_the_process(void **state)
{
	struct control *c = with("rcpthosts", "a\n");
	int status, fd = open("/dev/null", O_RDONLY);
	pid_t pid = fork();

	assert_true(pid >= 0 && fd >= 0);
	if (pid == 0) {
		if (!freopen("/dev/null", "w", stderr))
			_exit(2);
		rcpthosts_new(c, fd);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 111);
	close(fd);
	control_free(c);
}

static void relay_by_address(void **state)
{
	static const struct {
		const char *ip, *suffix;              /* NULL: not allowed */
	} finds[] = {
		{"10.1.2.3", ""},        {"192.168.0.9", "@inner"}, {"192.168.0.1", ""},
		{"127.0.0.1", ""},       {"2001:db8::7", "@six"},   {"2001:db9::7", NULL},
		{"::1", ""},             {"11.0.0.1", NULL},        {"::ffff:10.1.1.1", ""},
		{"fd00::1", "@x:y"},
	};
	struct control *c =
		with("relayclients", "# ours\n10.0.0.0/8\n192.168.0.1\n192.168.0.0/16:@inner\n"
				     "127.0.0.0/8\n::1\n[2001:db8::]/32:@six\nnonsense\n"
				     "[fd00::1]:@x:y\n");
	struct relayclients *r = relayclients_new(c);

	control_free(c);
	for (size_t i = 0; i < ARRAY_N(finds); i++) {
		struct span suffix = SPAN("untouched");
		struct ip ip;

		assert_true(ip_parse(span_str(finds[i].ip), &ip));
		assert_int_equal(relayclients_find(r, &ip, &suffix), finds[i].suffix != NULL);
		assert_span(suffix, finds[i].suffix ? finds[i].suffix : "untouched");
	}
	relayclients_free(r);
}

static void what_is_no_relay_entry(void **state)
{
	static const char *wrong[] = {"",
				      "x",
				      "10.0.0.0/8:",
				      "10.0.0.0/8x",
				      "[::1",
				      "[::1]x",
				      "[]",
				      "[",
				      "10.0.0.0/8 ",
				      ":@x",
				      "[::1]/129",
				      "[::1]:",
				      "::1:@x:y:z:1:2:3:4:5"};
	struct relay_entry e;

	for (size_t i = 0; i < ARRAY_N(wrong); i++)
		if (relay_entry_parse(span_str(wrong[i]), &e))
			fail_msg("\"%s\"", wrong[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(list_and_database),
		cmocka_unit_test(without_the_file_nothing_is_taken),
		cmocka_unit_test(an_empty_file_allows_only_what_has_no_at),
		cmocka_unit_test(a_broken_database_ends_the_process),
		cmocka_unit_test(relay_by_address),
		cmocka_unit_test(what_is_no_relay_entry),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
