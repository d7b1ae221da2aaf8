/* dotqmail: the search order of qmail-local and the meaning of every kind of line. */
#include "local/dotqmail.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void names_are(const char *dash, const char *ext, const char *const *want)
{
	struct dot_search s;
	char name[DOT_NAME_MAX];

	dot_search_begin(&s, span_str(dash), span_str(ext));
	for (; *want; want++) {
		assert_true(dot_search_next(&s, name));
		assert_string_equal(name, *want);
	}
	assert_false(dot_search_next(&s, name));
	assert_false(dot_search_next(&s, name));
}

static void search_goes_from_the_right(void **state)
{
	names_are("-", "a-b-c",
		  (const char *const[]){".qmail-a-b-c", ".qmail-a-b-default",
					".qmail-a-default", ".qmail-default", NULL});
	names_are(
		"-", "a-",
		(const char *const[]){".qmail-a-", ".qmail-a-default", ".qmail-default", NULL});
	names_are("", "", (const char *const[]){".qmail", ".qmaildefault", NULL});
	names_are("-", "joe", (const char *const[]){".qmail-joe", ".qmail-default", NULL});
	names_are("-/", "Joe.X-y",
		  (const char *const[]){".qmail-/joe:x-y", ".qmail-/joe:x-default",
					".qmail-/default", NULL});
}

static void dots_cannot_climb(void **state)
{
	names_are("-", "../../x",
		  (const char *const[]){".qmail-::/::/x", ".qmail-default", NULL});
}

static void bad_names_are_no_files(void **state)
{
	char long_ext[DOT_NAME_MAX];
	char name[DOT_NAME_MAX];
	struct dot_search s;

	memset(long_ext, 'x', sizeof(long_ext));
	dot_search_begin(&s, SPAN("-"), span_of(long_ext, sizeof(long_ext)));
	assert_true(dot_search_next(&s, name));
	assert_string_equal(name, ".qmail-default");
	assert_false(dot_search_next(&s, name));

	assert_false(dot_name(SPAN("-"), SPAN("a\0b"), SPAN_NONE, name));
	/* exactly full, and one byte too many */
	assert_true(dot_name(SPAN("-"), span_of(long_ext, DOT_NAME_MAX - 8), SPAN_NONE, name));
	assert_int_equal(strlen(name), DOT_NAME_MAX - 1);
	assert_false(dot_name(SPAN("-"), span_of(long_ext, DOT_NAME_MAX - 7), SPAN_NONE, name));
}

static void owner_name(void **state)
{
	char name[DOT_NAME_MAX];

	assert_true(dot_name(SPAN("-"), SPAN("List.A"), SPAN("-owner"), name));
	assert_string_equal(name, ".qmail-list:a-owner");
}

struct expect {
	enum dot_kind kind;
	const char *arg;
};

static void lines_are(struct span text, bool forward_only, const struct expect *want)
{
	struct dot_lines d;
	struct dot_line line;

	dot_lines_begin(&d, text, forward_only);
	for (;; want++) {
		assert_int_equal(dot_lines_next(&d, &line), want->kind);
		assert_int_equal(line.kind, want->kind);
		if (want->kind == DOT_END || want->kind == DOT_BLANK_FIRST)
			return;
		assert_int_equal(line.arg.n, strlen(want->arg));
		assert_memory_equal(line.arg.p, want->arg, line.arg.n);
	}
}

static void each_kind_of_line(void **state)
{
	lines_are(SPAN("# c\n./Maildir/\n/a/b \t\n|prog x\n&a@b\n c@d\n(x)@y\n\n&\n& a@b"),
		  false,
		  (const struct expect[]){{DOT_MAILDIR, "./Maildir/"},
					  {DOT_MBOX, "/a/b"},
					  {DOT_PROGRAM, "prog x"},
					  {DOT_FORWARD, "a@b"},
					  {DOT_FORWARD, " c@d"},
					  {DOT_FORWARD, "(x)@y"},
					  {DOT_FORWARD, ""},
					  {DOT_FORWARD, " a@b"},
					  {DOT_END, NULL}});
}

static void first_line_blank(void **state)
{
	lines_are(SPAN("\na@b\n"), false, (const struct expect[]){{DOT_BLANK_FIRST, NULL}});
	lines_are(SPAN(" \t\na@b\n"), false, (const struct expect[]){{DOT_BLANK_FIRST, NULL}});
	lines_are(SPAN("#\n\n"), false, (const struct expect[]){{DOT_END, NULL}});
	lines_are(SPAN_NONE, false, (const struct expect[]){{DOT_END, NULL}});
}

static void list_turns_forward_only_on(void **state)
{
	struct dot_lines d;
	struct dot_line line;

	dot_lines_begin(&d, SPAN("./a\n+other\n./b\n+list \n./c\n"), false);
	assert_int_equal(dot_lines_next(&d, &line), DOT_MBOX);
	assert_int_equal(dot_lines_next(&d, &line), DOT_MBOX);
	assert_false(d.forward_only);
	assert_int_equal(dot_lines_next(&d, &line), DOT_MBOX);
	assert_true(d.forward_only);

	dot_lines_begin(&d, SPAN("a@b\n"), true);
	assert_int_equal(dot_lines_next(&d, &line), DOT_FORWARD);
	assert_true(d.forward_only);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(search_goes_from_the_right),
		cmocka_unit_test(dots_cannot_climb),
		cmocka_unit_test(bad_names_are_no_files),
		cmocka_unit_test(owner_name),
		cmocka_unit_test(each_kind_of_line),
		cmocka_unit_test(first_line_blank),
		cmocka_unit_test(list_turns_forward_only_on),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
