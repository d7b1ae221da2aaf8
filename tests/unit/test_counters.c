#include "mail/counters.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static struct ip ip(const char *text)
{
	struct ip ret;

	assert_true(ip_parse(span_str(text), &ret));
	return ret;
}

static void limits_hold(void **state)
{
	struct counters *c = counters_map(-1);
	struct ip        a = ip("192.0.2.1"), b = ip("192.0.2.2"), d = ip("192.0.2.3");

	assert_int_equal(counters_enter(c, 0, &a, 3, 2), COUNTERS_OK);
	assert_int_equal(counters_enter(c, 0, &a, 3, 2), COUNTERS_OK);
	assert_int_equal(counters_enter(c, 0, &a, 3, 2), COUNTERS_IP_FULL);
	assert_int_equal(counters_of(c, &a), 2);
	assert_int_equal(counters_enter(c, 1, &b, 3, 2), COUNTERS_OK);
	assert_int_equal(counters_enter(c, 1, &d, 3, 2), COUNTERS_ALL_FULL);
	assert_int_equal(counters_enter(c, 1, &d, 0, 0), COUNTERS_OK);
	assert_int_equal(counters_all(c), 4);
	counters_leave(c, 1, &d);
	counters_leave(c, 0, &a);
	assert_int_equal(counters_enter(c, 1, &a, 3, 2), COUNTERS_OK);
	counters_free(c);
}

static void a_process_takes_no_more_than_its_bound(void **state)
{
	struct counters *c = counters_map(-1);
	struct ip        a = ip("192.0.2.1");

	for (unsigned i = 0; i < COUNTERS_MAX; i++)
		assert_int_equal(counters_enter(c, 0, &a, 0, 0), COUNTERS_OK);
	assert_int_equal(counters_enter(c, 0, &a, 0, 0), COUNTERS_ALL_FULL);
	assert_int_equal(counters_of(c, &a), COUNTERS_MAX);
	counters_free(c);
}

static void families_differ_and_a_64_is_one_customer(void **state)
{
	struct counters *c = counters_map(-1);
	struct ip a = ip("2001:db8:1:2::1"), b = ip("2001:db8:1:2:ffff::9"),
		  other = ip("2001:db8:1:3::1");
	struct ip        v4 = ip("32.1.13.184");   /* the same first bytes */

	assert_int_equal(counters_enter(c, 0, &a, 0, 0), COUNTERS_OK);
	assert_int_equal(counters_of(c, &b), 1);
	assert_int_equal(counters_of(c, &other), 0);
	assert_int_equal(counters_of(c, &v4), 0);
	counters_free(c);
}

static void a_cleared_column_takes_its_counts_along(void **state)
{
	struct counters *c = counters_map(-1);
	struct ip        a = ip("192.0.2.1");

	assert_int_equal(counters_enter(c, 5, &a, 0, 0), COUNTERS_OK);
	assert_int_equal(counters_enter(c, 6, &a, 0, 0), COUNTERS_OK);
	counters_clear(c, 5);
	assert_int_equal(counters_all(c), 1);
	assert_int_equal(counters_of(c, &a), 1);
	counters_leave(c, 5, &a);                 /* it was not dead: nothing wraps */
	assert_int_equal(counters_all(c), 1);
	assert_int_equal(counters_of(c, &a), 1);
	counters_leave(c, 6, &a);
	assert_int_equal(counters_all(c), 0);
	counters_free(c);
}

static void columns_of_processes_are_their_own(void **state)
{
	assert_int_equal(counters_column(ROLE_SMTPD, 0), 0);
	assert_int_equal(counters_column(ROLE_SMTPD, COUNTERS_COLUMNS / 2 - 1),
			 COUNTERS_COLUMNS / 2 - 1);
	assert_int_equal(counters_column(ROLE_QMTPD, 0), COUNTERS_COLUMNS / 2);
	assert_int_equal(counters_column(ROLE_QMTPD, COUNTERS_COLUMNS / 2 - 1),
			 COUNTERS_COLUMNS - 1);
}

/* Processes that enter as fast as they can never pass the limit together. */
static void a_limit_holds_across_processes(void **state)
{
	enum { PROCESSES = 4, LIMIT = 50, TRIES = 200 };
	int              fd = counters_make();
	struct counters *c;
	struct ip        a = ip("192.0.2.1");
	unsigned         in = 0;

	assert_true(fd >= 0);
	for (unsigned p = 0; p < PROCESSES; p++) {
		if (fork() == 0) {
			struct counters *mine = counters_map(fd);
			int              n = 0;

			for (int i = 0; mine && i < TRIES; i++)
				n += counters_enter(mine, p, &a, 0, LIMIT) == COUNTERS_OK;
			_exit(mine ? n : 255);
		}
	}
	for (unsigned p = 0; p < PROCESSES; p++) {
		int status;

		assert_true(wait(&status) > 0 && WIFEXITED(status) &&
			    WEXITSTATUS(status) != 255);
		in += (unsigned)WEXITSTATUS(status);
	}
	c = counters_map(fd);
	assert_non_null(c);
	assert_int_equal(counters_all(c), in);
	assert_int_equal(counters_of(c, &a), in);
	assert_true(in <= LIMIT && in >= LIMIT - PROCESSES);
	counters_clear(c, 0);
	counters_free(c);
	close(fd);
}

static void other_files_are_no_tables(void **state)
{
	int fd = counters_make(), plain = memfd_create("plain", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, 0), -1);   /* nobody can pull it from under the others */
	assert_int_equal(errno, EPERM);
	assert_null(counters_map(plain));
	off_t n = lseek(fd, 0, SEEK_END);

	assert_int_equal(ftruncate(plain, n), 0);
	assert_null(counters_map(plain));         /* the size is right, the head is not */
	close(fd);
	close(plain);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(limits_hold),
		cmocka_unit_test(a_process_takes_no_more_than_its_bound),
		cmocka_unit_test(families_differ_and_a_64_is_one_customer),
		cmocka_unit_test(a_cleared_column_takes_its_counts_along),
		cmocka_unit_test(columns_of_processes_are_their_own),
		cmocka_unit_test(a_limit_holds_across_processes),
		cmocka_unit_test(other_files_are_no_tables),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
