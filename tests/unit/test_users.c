/* users: users/assign compiled and looked up, the rules of the password file, and one user's
 * own home. */
#include "core/file.h"
#include "mail/users.h"
#include "tests/unit/mail_test.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

static struct arena arena;

static int begin(void **state)
{
	arena_init(&arena, 4096, 65536);
	return 0;
}

static int end(void **state)
{
	arena_fini(&arena);
	return 0;
}

/* NULL: line *ret_bad is wrong. */
static struct cdb_file *compiled(struct span assign, unsigned *ret_bad, const char **ret_why)
{
	char path[] = "/tmp/quire-test-users-XXXXXX", final[100];
	struct cdb_writer *w;
	struct cdb_file *c;
	int fd = mkstemp(path);

	assert_true(fd >= 0);
	close(fd);
	w = cdb_writer_new(path);
	assert_non_null(w);
	*ret_bad = users_compile(assign, w, ret_why);
	if (*ret_bad) {
		cdb_writer_abandon(w);
		return NULL;
	}
	snprintf(final, sizeof final, "%s.cdb", path);
	assert_true(cdb_writer_finish(w, final, 0600));
	fd = open(final, O_RDONLY);
	unlink(final);
	assert_true(fd >= 0);
	c = cdb_file_new(fd);
	close(fd);
	assert_non_null(c);
	return c;
}

static void the_records_of_qmail_newu(void **state)
{
	static const struct {
		struct span key, data;
	} records[] = {
		{SPAN("!joe\0"), SPAN("games\0" "5\0" "60\0" "/home/joe\0" "\0")},
		{SPAN("!joe-"), SPAN("games\0" "5\0" "60\0" "/home/joe\0" "-\0")},
		{SPAN("!"), SPAN("man\0" "6\0" "12\0" "/home/ali\0" "-\0")},
		{SPAN(""), SPAN("-")},
	};
	const char *why;
	unsigned bad;
	struct cdb_file *c =
		compiled(SPAN("=joe:games:5:60:/home/joe:::\n"
			      "+joe-:games:5:60:/home/joe:-::\n"
			      "+:man:6:12:/home/ali:-::\n"
			      "+Upper-:man:6:12:/home/ali:-:::: text that is ignored\n"
			      ".\nwhat follows does not count"),
			 &bad, &why);

	for (size_t i = 0; i < ARRAY_N(records); i++) {
		struct span got;

		assert_true(cdb_file_get(c, records[i].key, &got));
		assert_spans_eq(got, records[i].data);
	}
	cdb_file_free(c);
}

static void wrong_lines_are_named(void **state)
{
	static const struct {
		struct span assign;
		unsigned    line;
	} cases[] = {
		{SPAN(""), 1},
		{SPAN("=a:u:1:2:/h:::\n"), 2},
		{SPAN("=a:u:1:2:/h:::\n=b:u:1:2:/h::"), 2},
		{SPAN("=a:u:1:2:/h:::\n\n.\n"), 2},
		{SPAN("=a:u:1:2:/h::\n.\n"), 1},
		{SPAN("=a\n.\n"), 1},
		{SPAN(":u:1:2:/h:::\n.\n"), 1},
		{SPAN("=a:u:x:2:/h:::\n.\n"), 1},
		{SPAN("=a:u:1::/h:::\n.\n"), 1},
		{SPAN("=a:u:1:-2:/h:::\n.\n"), 1},
		{SPAN("=a:u\0:1:2:/h:::\n.\n"), 1},
	};

	for (size_t i = 0; i < ARRAY_N(cases); i++) {
		const char *why = NULL;
		unsigned bad;

		assert_null(compiled(cases[i].assign, &bad, &why));
		assert_int_equal(bad, cases[i].line);
		assert_non_null(why);
	}
}

static struct cdb_file *lookup_cdb(void)
{
	const char *why;
	unsigned bad;

	return compiled(SPAN("=joe:games:5:60:/home/joe:::\n"
	                     "=joe:second:1:1:/no:::\n"
	                     "+joe-:games:5:60:/home/joe:-:pre-:\n"
	                     "+joe-list-:lists:7:70:/home/lists:-::\n"
	                     "+Big+:big:8:80:/home/big:-::\n"
	                     "+:man:6:12:/home/ali:-::\n.\n"), &bad, &why);
}

static void exact_then_the_longest_beginning(void **state)
{
	static const struct {
		const char *local, *user, *home, *dash, *ext;
		uid_t       uid;
	} cases[] = {
		{"joe", "games", "/home/joe", "", "", 5},
		{"JOE", "games", "/home/joe", "", "", 5},
		{"joe-", "games", "/home/joe", "-", "pre-", 5},
		{"Joe-Foo-Bar", "games", "/home/joe", "-", "pre-Foo-Bar", 5},
		{"joe-list-X", "lists", "/home/lists", "-", "X", 7},
		{"big+box", "big", "/home/big", "-", "box", 8},
		{"joel", "man", "/home/ali", "-", "joel", 6},
		{"x", "man", "/home/ali", "-", "x", 6},
		{"", "man", "/home/ali", "-", "", 6},
	};
	struct cdb_file *c = lookup_cdb();

	for (size_t i = 0; i < ARRAY_N(cases); i++) {
		struct user u;

		assert_int_equal(users_find(c, "/q/alias", false, span_str(cases[i].local), &arena, &u),
				 USERS_OK);
		assert_span(u.user, cases[i].user);
		assert_span(u.home, cases[i].home);
		assert_span(u.dash, cases[i].dash);
		assert_span(u.ext, cases[i].ext);
		assert_int_equal(u.uid, cases[i].uid);
		assert_int_equal(u.gid,
				 cases[i].uid == 6
					 ? 12
					 : cases[i].uid * 10 + (cases[i].uid == 5 ? 10 : 0));
	}
	cdb_file_free(c);
}

static struct cdb_file *raw_cdb(struct span key, struct span data, bool wild)
{
	char path[] = "/tmp/quire-test-users-XXXXXX", final[100];
	struct cdb_writer *w;
	struct cdb_file *c;
	int fd = mkstemp(path);

	assert_true(fd >= 0);
	close(fd);
	w = cdb_writer_new(path);
	assert_true(cdb_writer_add(w, key, data));
	if (wild)
		assert_true(cdb_writer_add(w, SPAN(""), SPAN("-")));
	snprintf(final, sizeof final, "%s.cdb", path);
	assert_true(cdb_writer_finish(w, final, 0600));
	fd = open(final, O_RDONLY);
	unlink(final);
	c = cdb_file_new(fd);
	close(fd);
	return c;
}

static void records_that_are_none(void **state)
{
	static const struct {
		struct span key, data;
		bool        wild;
	} cases[] = {
		{SPAN("!joe\0"), SPAN("games"), true},
		{SPAN("!joe\0"),
		 SPAN("games\0x\0"
		      "60\0/h\0\0"),
		 true},
		{SPAN("!joe\0"),
		 SPAN("games\0"
		      "5\0"
		      "99999999999\0/h\0\0"),
		 true},
		{SPAN("!joe\0"),
		 SPAN("games\0"
		      "5\0"
		      "60\0/h"),
		 true},
		{SPAN("!joe\0"), SPAN(""), true},
		{SPAN("!other\0"),
		 SPAN("games\0"
		      "5\0"
		      "60\0/h\0\0"),
		 false}, /* no wildcard record */
	};

	for (size_t i = 0; i < ARRAY_N(cases); i++) {
		struct cdb_file *c = raw_cdb(cases[i].key, cases[i].data, cases[i].wild);
		struct user u;

		assert_int_equal(users_find(c, "/q/alias", true, SPAN("joe"), &arena, &u),
				 USERS_BAD_CDB);
		cdb_file_free(c);
	}
}

/* The record of the empty key says where a look-up is worth it; another qmail believes it, too.
 */
static void a_beginning_counts_only_if_its_last_byte_is_known(void **state)
{
	struct cdb_file *c = raw_cdb(SPAN("!jo"), SPAN("games\0" "5\0" "60\0/h\0-\0"), true);
	struct user u;

	assert_int_equal(users_find(c, "/q/alias", true, SPAN("joe"), &arena, &u), USERS_OK);
	assert_span(u.home, "/q/alias");
	cdb_file_free(c);
	c = raw_cdb(SPAN("!jo-"), SPAN("games\0" "5\0" "60\0/h\0-\0"), true);
	assert_int_equal(users_find(c, "/q/alias", true, SPAN("jo-e"), &arena, &u), USERS_OK);
	assert_span(u.home, "/h");
	assert_span(u.ext, "e");
	cdb_file_free(c);
}

static void one_users_own_home(void **state)
{
	struct cdb_file *c = raw_cdb(SPAN("!joe\0"), SPAN("games\0" "5\0" "60\0/h\0\0"), true);
	struct user u;

	assert_int_equal(users_find(NULL, "/q/alias", true, SPAN("Root-X"), &arena, &u), USERS_OK);
	assert_span(u.user, "alias");
	assert_span(u.home, "/q/alias");
	assert_span(u.dash, "-");
	assert_span(u.ext, "Root-X");
	assert_int_equal(u.uid, getuid());
	assert_int_equal(u.gid, getgid());

	assert_int_equal(users_find(c, "/q/alias", true, SPAN("joe"), &arena, &u), USERS_OK);
	assert_span(u.home, "/h");
	assert_int_equal(users_find(c, "/q/alias", true, SPAN("joel"), &arena, &u), USERS_OK);
	assert_span(u.home, "/q/alias");
	cdb_file_free(c);
}

/* A password file of a test: what is not in it does not exist. */
static const struct {
	const char         *name, *home;
	uid_t               uid, owner;
	enum account_result find, look;
} accounts[] = {
	{"joe", "/home/joe", 5, 5, ACCOUNT_OK, ACCOUNT_OK},
	{"joe-foo", "/home/joe-foo", 6, 6, ACCOUNT_OK, ACCOUNT_OK},
	{"root", "/root", 0, 0, ACCOUNT_OK, ACCOUNT_OK},
	{"www", "/var/www", 33, 0, ACCOUNT_OK, ACCOUNT_OK},
	{"gone", "/nonexistent", 34, 0, ACCOUNT_OK, ACCOUNT_NONE},
	{"nfs", "/net/nfs", 35, 0, ACCOUNT_OK, ACCOUNT_TEMP},
	{"ldap", "/", 36, 36, ACCOUNT_TEMP, ACCOUNT_OK},
	{"Upper", "/home/upper", 37, 37, ACCOUNT_OK, ACCOUNT_OK},
	{"a23456789012345678901234567890x", "/home/31", 38, 38, ACCOUNT_OK, ACCOUNT_OK},
	{"a234567890123456789012345678901x", "/home/32", 39, 39, ACCOUNT_OK, ACCOUNT_OK},
	{"alias", "/q/alias", 7790, 0, ACCOUNT_OK, ACCOUNT_OK},
};

static enum account_result test_find(void *ctx, const char *name, struct arena *a,
				     struct user *ret)
{
	bool no_alias = ctx != NULL;

	for (size_t i = 0; i < ARRAY_N(accounts); i++) {
		if (strcmp(accounts[i].name, name) != 0 ||
		    (no_alias && strcmp(name, "alias") == 0))
			continue;
		ret->user = span_str(accounts[i].name);
		ret->home = span_str(accounts[i].home);
		ret->uid = accounts[i].uid;
		ret->gid = 100;
		return accounts[i].find;
	}
	return ACCOUNT_NONE;
}

static enum account_result test_owner(void *ctx, const char *home, uid_t *ret)
{
	for (size_t i = 0; i < ARRAY_N(accounts); i++) {
		if (strcmp(accounts[i].home, home) != 0)
			continue;
		*ret = accounts[i].owner;
		return accounts[i].look;
	}
	return ACCOUNT_NONE;
}

static void the_password_file(void **state)
{
	static const struct {
		const char       *local;
		enum users_result result;
		const char       *home, *dash, *ext;
	} cases[] = {
		{"joe", USERS_OK, "/home/joe", "", ""},
		{"JOE", USERS_OK, "/home/joe", "", ""},
		{"joe-x", USERS_OK, "/home/joe", "-", "x"},
		{"joe-foo", USERS_OK, "/home/joe-foo", "", ""},
		{"Joe-Foo-Bar", USERS_OK, "/home/joe-foo", "-", "Bar"},
		{"joe-bar-", USERS_OK, "/home/joe", "-", "bar-"},
		{"root", USERS_OK, "/q/alias", "-", "root"},
		{"www", USERS_OK, "/q/alias", "-", "www"},
		{"gone-X", USERS_OK, "/q/alias", "-", "gone-X"},
		{"nobody", USERS_OK, "/q/alias", "-", "nobody"},
		{"upper", USERS_OK, "/q/alias", "-", "upper"},
		{"-", USERS_OK, "/q/alias", "-", "-"},
		{"", USERS_OK, "/q/alias", "-", ""},
		{"nfs", USERS_TEMP, NULL, NULL, NULL},
		{"ldap-x", USERS_TEMP, NULL, NULL, NULL},
		{"a23456789012345678901234567890x", USERS_OK, "/home/31", "", ""},
		{"a234567890123456789012345678901x", USERS_OK, "/q/alias", "-",
		 "a234567890123456789012345678901x"},
	};
	const struct account_source from = {test_find, test_owner, NULL};
	const struct account_source no_alias = {test_find, test_owner, (void *)"none"};
	struct user u;

	for (size_t i = 0; i < ARRAY_N(cases); i++) {
		assert_int_equal(users_by_password(&from, span_str(cases[i].local), &arena, &u),
		                 cases[i].result);
		if (cases[i].result != USERS_OK)
			continue;
		assert_span(u.home, cases[i].home);
		assert_span(u.dash, cases[i].dash);
		assert_span(u.ext, cases[i].ext);
	}
	assert_int_equal(users_by_password(&no_alias, SPAN("nobody"), &arena, &u),
			 USERS_NO_ALIAS);
	assert_int_equal(users_by_password(&no_alias, SPAN("joe"), &arena, &u), USERS_OK);
}

/* The system's accounts: root is no mail user whatever its home looks like. */
static void the_real_password_file(void **state)
{
	struct user u;
	enum users_result got = users_find(NULL, "/q/alias", false, SPAN("root"), &arena, &u);

	assert_true(got == USERS_NO_ALIAS ||
		    (got == USERS_OK && span_eq(u.user, SPAN("alias"))));
}

static void a_full_arena_is_temporary(void **state)
{
	struct arena small;
	struct user u;

	arena_init(&small, 16, 16);
	assert_int_equal(
		users_find(NULL, "/a/long/enough/path/to/fill/it", true, SPAN("x"), &small, &u),
		USERS_TEMP);
	arena_fini(&small);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_records_of_qmail_newu),
		cmocka_unit_test(wrong_lines_are_named),
		cmocka_unit_test(exact_then_the_longest_beginning),
		cmocka_unit_test(records_that_are_none),
		cmocka_unit_test(a_beginning_counts_only_if_its_last_byte_is_known),
		cmocka_unit_test(one_users_own_home),
		cmocka_unit_test(the_password_file),
		cmocka_unit_test(the_real_password_file),
		cmocka_unit_test(a_full_arena_is_temporary),
	};

	return cmocka_run_group_tests(tests, begin, end);
}
