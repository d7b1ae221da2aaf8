/* Every state of a classic queue, and every way in which its files can be wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "tools/classic_queue.h"

#include "core/file.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define SPLIT 3

static char dir[64];

static void path_of(char dst[256], const char *name)
{
	snprintf(dst, 256, "%s/%s", dir, name);
}

static void put(const char *name, struct span bytes)
{
	char path[256];
	int  fd;

	path_of(path, name);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	assert_true(fd >= 0 && file_write_all(fd, bytes));
	close(fd);
}

static void make(const char *name)
{
	char path[256];

	path_of(path, name);
	assert_int_equal(mkdir(path, 0700), 0);
}

static void make_queue(bool big_todo)
{
	static const char *const split[] = {"mess", "info", "local", "remote", "todo"};
	char                     name[64];

	snprintf(dir, sizeof(dir), "/tmp/quire-classic-XXXXXX");
	assert_non_null(mkdtemp(dir));
	for (size_t i = 0; i < ARRAY_N(split); i++) {
		make(split[i]);
		for (unsigned k = 0; k < SPLIT && (i < 4 || big_todo); k++) {
			snprintf(name, sizeof(name), "%s/%u", split[i], k);
			make(name);
		}
	}
	make("bounce");
	make("lock");
	put("lock/sendmutex", SPAN_NONE);
}

static void remove_queue(void)
{
	pid_t pid = fork();

	if (pid == 0) {
		execlp("rm", "rm", "-rf", dir, (char *)NULL);
		_exit(127);
	}
	waitpid(pid, NULL, 0);
}

static struct classic_queue q;
static struct buf           why;

static int open_queue(void)
{
	buf_init(&why, 1000);
	return classic_open(&q, dir, &why);
}

static void end(void)
{
	classic_close(&q);
	buf_free(&why);
	remove_queue();
}

/* The list as text: each address and a comma. */
static const char *listed(const struct classic_message *m, enum classic_list l)
{
	static char text[200];
	struct span rest = buf_span(&m->rcpts[l]), addr;

	text[0] = '\0';
	while (classic_next(&rest, &addr))
		snprintf(text + strlen(text), sizeof(text) - strlen(text), "%.*s,", SPAN_ARG(addr));
	return text;
}

static enum classic_found read_one(uint64_t number, struct classic_message *m)
{
	for (size_t i = 0; i < q.n; i++)
		if (q.v[i].number == number)
			return classic_read(&q, i, m, &why);
	fail();
	return CLASSIC_BAD;
}

static void states_become_one_struct(bool big_todo)
{
	struct classic_message m;

	make_queue(big_todo);
	put("mess/1/4", SPAN("four"));
	put(big_todo ? "todo/1/4" : "todo/4", SPAN("u7\0p8\0Fs@x\0extra\0Ta@x\0Tb@x\0"));
	put("info/1/4", SPAN("Funfinished"));         /* does not count beside todo */
	put("mess/2/5", SPAN("five"));
	put("info/2/5", SPAN("F\0"));
	put("local/2/5", SPAN("Tl1\0Dl2\0Tl3\0"));
	put("remote/2/5", SPAN("Dr1@x\0"));
	put("bounce/5", SPAN("<r1@x>:\nwhy\n\n"));
	put("mess/0/6", SPAN("six"));                 /* all is done */
	put("info/0/6", SPAN("Fs\0"));
	put("local/0/6", SPAN("Dl\0"));
	put("mess/1/7", SPAN("seven"));               /* never handed in */
	assert_int_equal(open_queue(), 0);
	assert_int_equal(q.split, SPLIT);
	assert_int_equal(q.todo_is_split, big_todo);
	assert_int_equal(q.n, 3);
	assert_int_equal(q.garbage, 1);

	assert_int_equal(read_one(4, &m), CLASSIC_OK);
	assert_string_equal(listed(&m, LIST_SUBMITTED), "a@x,b@x,");
	assert_true(span_eq(buf_span(&m.sender), SPAN("s@x")) && m.uid == 7 && m.pid == 8 && m.size == 4);
	classic_message_fini(&m);
	assert_int_equal(read_one(5, &m), CLASSIC_OK);
	assert_string_equal(listed(&m, LIST_LOCAL), "l1,l3,");
	assert_string_equal(listed(&m, LIST_REMOTE), "");
	assert_true(m.sender.n == 0 && m.done == 2 && m.bounce.n == 13);
	classic_message_fini(&m);
	assert_int_equal(read_one(6, &m), CLASSIC_GONE);
	classic_message_fini(&m);
	end();
}

static void flat_todo(void **state)
{
	states_become_one_struct(false);
}

static void split_todo(void **state)
{
	states_become_one_struct(true);
}

static void what_is_malformed_is_named(void **state)
{
	static const struct { const char *name; struct span bytes; } cases[] = {
		{"todo/3", {"u7\0p8\0Ta\0", 9}},          /* no sender */
		{"todo/3", {"Fs\0Ta", 5}},                /* cut */
		{"todo/3", {"ux\0Fs\0Ta\0", 9}},
		{"info/0/3", {"s\0", 2}},
		{"info/0/3", {"Fs", 2}},
	};

	for (size_t i = 0; i < ARRAY_N(cases); i++) {
		struct classic_message m;

		make_queue(false);
		put("mess/0/3", SPAN("x"));
		put("local/0/3", SPAN("Ta\0"));
		put(cases[i].name, cases[i].bytes);
		assert_int_equal(open_queue(), 0);
		assert_int_equal(read_one(3, &m), CLASSIC_BAD);
		assert_true(span_starts(buf_span(&why), span_str(cases[i].name)));
		classic_message_fini(&m);
		end();
	}
}

static void a_list_or_a_text_that_is_missing(void **state)
{
	struct classic_message m;

	make_queue(false);
	put("mess/0/3", SPAN("x"));
	put("info/0/3", SPAN("Fs\0"));
	put("remote/0/3", SPAN("Xa\0"));
	put("todo/8", SPAN("Fs\0Ta\0"));              /* and no mess file */
	assert_int_equal(open_queue(), 0);
	assert_int_equal(read_one(3, &m), CLASSIC_BAD);
	classic_message_fini(&m);
	assert_int_equal(read_one(8, &m), CLASSIC_BAD);
	assert_true(span_starts(buf_span(&why), SPAN("mess/2/8")));
	classic_message_fini(&m);
	end();
}

static void only_a_queue_that_nobody_runs(void **state)
{
	char path[256];
	int  fd;

	make_queue(false);
	path_of(path, "lock/sendmutex");
	fd = open(path, O_WRONLY);
	assert_int_equal(flock(fd, LOCK_EX), 0);
	assert_int_equal(open_queue(), 111);
	buf_free(&why);
	close(fd);
	path_of(path, "mess/0");
	assert_int_equal(rmdir(path), 0);
	assert_int_equal(open_queue(), 100);
	end();
}

static void paragraphs(void **state)
{
	struct span all = SPAN("<a@x>:\nwhy\nmore\n\n\n<b>:\nno end"), addr, text;

	assert_true(classic_paragraph(&all, &addr, &text));
	assert_true(span_eq(addr, SPAN("a@x")) && span_eq(text, SPAN("why\nmore\n")));
	assert_true(classic_paragraph(&all, &addr, &text));
	assert_true(span_eq(addr, SPAN("b")) && span_eq(text, SPAN("no end")));
	assert_false(classic_paragraph(&all, &addr, &text));
	all = SPAN("something else\n");
	assert_true(classic_paragraph(&all, &addr, &text));
	assert_true(addr.n == 0 && span_eq(text, SPAN("something else\n")));
	all = SPAN("\n\n");
	assert_false(classic_paragraph(&all, &addr, &text));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(flat_todo),
		cmocka_unit_test(split_todo),
		cmocka_unit_test(what_is_malformed_is_named),
		cmocka_unit_test(a_list_or_a_text_that_is_missing),
		cmocka_unit_test(only_a_queue_that_nobody_runs),
		cmocka_unit_test(paragraphs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
