#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "core/clock.h"
#include "core/log.h"
#include "journal/format.h"
#include "journal/prepare.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define SEGMENT  (64 * 1024)
#define PATIENCE 20000

static struct {
	char dir[64];
	struct loop *loop;
	struct disk *disk;
	struct prepare p;
	unsigned ready, left, cold_ready, cold_none; /* left: spares when it was ready */
	struct timer tick;
} t;
static enum loop_kind kind;
static struct disk_calls limited;
static const struct disk_calls *real;
static _Atomic int space; /* fills that still succeed; -1: any number */
static _Atomic unsigned fills;

static int limited_fill(struct disk *d, struct disk_file *f, uint64_t from, uint64_t to)
{
	fills++;
	if (space == 0)
		return -ENOSPC;
	if (space > 0 && to == SEGMENT)
		space--;
	return real->fill(d, f, from, to);
}

static void drop_line(void *ctx, struct span line)
{
}

static void on_tick(struct timer *tick)
{
	timer_set(t.loop, tick, 5);
}

static int begin(void **state)
{
	log_capture(drop_line, NULL);
	memset(&t, 0, sizeof t);
	snprintf(t.dir, sizeof t.dir, "/tmp/quire-prepare-XXXXXX");
	assert_non_null(mkdtemp(t.dir));
	t.loop = loop_new(kind, 0);
	t.disk = disk_real_new(t.loop, open(t.dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	real = t.disk->calls;
	limited = *real;
	limited.fill = limited_fill;
	t.disk->calls = &limited;
	space = -1;
	fills = 0;
	timer_init(&t.tick, on_tick);
	timer_set(t.loop, &t.tick, 5);
	return 0;
}

static int end(void **state)
{
	DIR *d = opendir(t.dir);
	struct dirent *e;

	prepare_fini(&t.p);
	timer_stop(t.loop, &t.tick);
	disk_real_free(t.disk);
	loop_free(t.loop);
	assert_non_null(d);
	while ((e = readdir(d)))
		if (e->d_name[0] != '.')
			assert_int_equal(unlinkat(dirfd(d), e->d_name, 0), 0);
	closedir(d);
	return rmdir(t.dir);
}

#define until(cond)                                                        \
	do {                                                               \
		uint64_t end_ = clock_mono_ms() + PATIENCE;                \
		while (!(cond)) {                                          \
			if (clock_mono_ms() > end_)                        \
				fail_msg("never: %s", #cond);              \
			loop_pass(t.loop);                                 \
		}                                                          \
	} while (0)

/* Everything that can be done now is done. */
static void settle(void)
{
	for (unsigned quiet = 0; quiet < 10; quiet++) {
		loop_pass(t.loop);
		if (t.p.errand.given)
			quiet = 0;
	}
}

static void on_ready(void *ctx, struct disk_file *f)
{
	assert_non_null(f);
	t.ready++;
	t.left = t.p.spares_n;
	t.disk->calls->close(t.disk, f);
}

static void on_cold(void *ctx, struct disk_file *f)
{
	if (!f) {
		t.cold_none++;
		return;
	}
	t.cold_ready++;
	t.disk->calls->close(t.disk, f);
}

static void open_prepare(uint32_t pool, uint32_t reserve)
{
	struct prepare_options o = {SEGMENT, false, pool, reserve};

	prepare_init(&t.p, t.loop, t.disk, &o, on_ready, NULL);
	assert_int_equal(prepare_look(&t.p), 0);
}

static uint64_t next_number = 1;

static void take_next(void)
{
	unsigned was = t.ready;

	prepare_begin(&t.p, next_number++);
	until(t.ready == was + 1);
	settle();
}

static bool next_comes(void)
{
	unsigned was = t.ready;

	settle();
	return t.ready > was;
}

static bool cold_comes(void)
{
	static uint64_t number = COLD_FIRST;
	unsigned was = t.cold_ready, none = t.cold_none;

	prepare_cold(&t.p, number++, on_cold, NULL);
	until(t.cold_ready + t.cold_none > was + none);
	settle();
	return t.cold_ready > was;
}

static void path_of(char path[128], const char *prefix, uint64_t number)
{
	snprintf(path, 128, "%s/%s%016llx", t.dir, prefix, (unsigned long long)number);
}

static void make_file(const char *prefix, uint64_t number, size_t n, char fill)
{
	char path[128], *bytes = malloc(n + 1);
	int fd;

	memset(bytes, fill, n);
	path_of(path, prefix, number);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	assert_int_equal(write(fd, bytes, n), n);
	close(fd);
	free(bytes);
}

static bool is_there(const char *prefix, uint64_t number)
{
	char path[128];

	path_of(path, prefix, number);
	return access(path, F_OK) == 0;
}

/* How many files begin with this; *bad of them have another size than a segment. */
static unsigned count(const char *prefix, unsigned *bad)
{
	DIR *d = opendir(t.dir);
	struct dirent *e;
	struct stat st;
	unsigned n = 0;

	*bad = 0;
	while ((e = readdir(d)))
		if (strncmp(e->d_name, prefix, strlen(prefix)) == 0) {
			assert_int_equal(fstatat(dirfd(d), e->d_name, &st, 0), 0);
			*bad += st.st_size != SEGMENT;
			n++;
		}
	closedir(d);
	return n;
}

static void pool_and_reserve_are_built_beside_the_next_segment(void **state)
{
	unsigned bad;

	open_prepare(2, 4);
	take_next();
	until(t.p.spares_n == 6);
	settle();
	assert_int_equal(count("spare-", &bad), 6);
	assert_int_equal(bad, 0);
	assert_int_equal(count("seg-", &bad), 1);
	assert_int_equal(count("fill-", &bad), 0);
	assert_false(prepare_is_short(&t.p));
	for (int i = 0; i < 4; i++) /* and built again as they are taken */
		take_next();
	until(t.p.spares_n == 6);
}

static void what_an_earlier_run_left_is_kept_as_far_as_it_is_whole(void **state)
{
	unsigned bad;

	for (uint64_t i = 1; i <= 9; i++)
		make_file("spare-", i, i == 3 ? SEGMENT / 2 : SEGMENT, 'x');
	make_file("fill-", 20, SEGMENT / 2, 0);
	make_file("seg-", 1, SEGMENT, 0);
	open_prepare(1, 4);
	assert_int_equal(t.p.spares_n, 5);
	assert_int_equal(count("spare-", &bad), 5);
	assert_int_equal(bad, 0);
	assert_false(is_there("fill-", 20));
	assert_true(is_there("seg-", 1));
	assert_int_equal(t.p.spare_last, 20); /* no name is given twice */
	space = 0;
	next_number = 7;
	take_next();
	assert_true(is_there("seg-", 7));
	assert_int_equal(t.p.spares_n, 4);
}

/* Once it is there, mail waits for a spare more. */
static void the_reserve_is_not_for_mail(void **state)
{
	open_prepare(0, 4);
	take_next();
	assert_true(t.left < 4); /* while it is built, it is */
	until(t.p.spares_n == 4);
	settle();
	for (int i = 0; i < 3; i++) {
		take_next();
		assert_int_equal(t.left, 4);
	}
	assert_false(prepare_is_short(&t.p));
}

/* With everything taken that mail may take, the reserve is left. */
static void until_short(void)
{
	space = -1;
	take_next();
	until(t.p.spares_n == t.p.o.pool + t.p.o.reserve);
	space = 0;
	while (!prepare_is_short(&t.p))
		take_next();
}

static void the_reserve_goes_in_its_order(void **state)
{
	open_prepare(2, 4);
	until_short(); /* the next segment is the first of the reserve */
	assert_int_equal(t.p.spares_n, 3);
	assert_true(prepare_has_more(&t.p));
	take_next();
	assert_int_equal(t.p.spares_n, 2);
	assert_false(prepare_has_more(&t.p));
	prepare_begin(&t.p, next_number++);
	assert_false(next_comes());
	prepare_last(&t.p);
	assert_true(next_comes());
	assert_int_equal(t.p.spares_n, 1);
	prepare_begin(&t.p, next_number++);
	prepare_last(&t.p);
	assert_false(next_comes()); /* that one is compaction's */
	assert_true(cold_comes());
	assert_int_equal(t.p.spares_n, 0);
	assert_false(cold_comes());
}

static void the_reserve_goes_in_the_other_order(void **state)
{
	open_prepare(0, 4);
	until_short();
	take_next();
	assert_int_equal(t.p.spares_n, 2);
	assert_true(cold_comes());
	assert_false(cold_comes()); /* that one is for what is in flight */
	prepare_begin(&t.p, next_number++);
	assert_false(next_comes());
	prepare_last(&t.p);
	assert_true(next_comes());
	assert_int_equal(t.p.spares_n, 0);
}

static void it_recovers_by_itself_when_space_returns(void **state)
{
	open_prepare(1, 4);
	until_short();
	take_next();
	prepare_begin(&t.p, next_number++);
	space = 2; /* four of the reserve, not more: the next one is not at hand */
	until(t.p.spares_n + t.ready >= 4 && space == 0);
	settle();
	assert_true(prepare_is_short(&t.p));
	space = -1;
	until(!prepare_is_short(&t.p));
	until(t.p.spares_n == 5);
	assert_int_equal(t.p.error, 0);
}

static void given_up_segments_lead_out_without_space(void **state)
{
	open_prepare(1, 4);
	until_short();
	while (t.p.spares_n > 2)
		take_next();
	for (uint64_t i = 1; i <= 4; i++) {
		make_file("seg-", 100 + i, SEGMENT, (char)i);
		prepare_recycle(&t.p, 100 + i, false, 0);
	}
	settle();
	assert_int_equal(space, 0);
	assert_int_equal(t.p.spares_n, 5);
	assert_false(prepare_is_short(&t.p));
	assert_false(is_there("seg-", 101));
	make_file("seg-", 200, SEGMENT, 1); /* there are enough: it is removed */
	prepare_recycle(&t.p, 200, false, 0);
	settle();
	assert_false(is_there("seg-", 200));
	assert_int_equal(t.p.spares_n, 5);
}

static void a_locked_file_is_left_until_it_is_free(void **state)
{
	char path[128];
	int fd;

	open_prepare(1, 4);
	take_next();
	make_file("seg-", 100, SEGMENT, 1);
	make_file("idx-", 100, 10, 1);
	path_of(path, "seg-", 100);
	fd = open(path, O_RDONLY);
	assert_int_equal(flock(fd, LOCK_SH | LOCK_NB), 0);
	prepare_recycle(&t.p, 100, false, 0);
	until(t.p.spares_n == 5);
	settle();
	assert_true(is_there("seg-", 100));
	assert_int_equal(t.p.past_n, 1);
	close(fd);
	until(!is_there("seg-", 100));
	assert_false(is_there("idx-", 100));
}

static void a_damaged_one_is_kept_and_a_late_one_waits(void **state)
{
	char path[128], byte = 0;
	unsigned bad;
	int fd;

	open_prepare(1, 4);
	make_file("seg-", 100, SEGMENT, 7);
	make_file("seg-", 101, SEGMENT, 8);
	make_file("seg-", 102, SEGMENT / 2, 9);
	prepare_recycle(&t.p, 100, true, 0);
	prepare_recycle(&t.p, 101, false, clock_mono_ms() + 60000);
	prepare_recycle(&t.p, 102, false, 0);
	prepare_recycle(&t.p, 103, false, 0); /* gone already */
	until(!is_there("seg-", 100) && !is_there("seg-", 102));
	take_next();
	until(t.p.spares_n == 5);
	settle();
	assert_true(is_there("seg-", 101));
	assert_int_equal(t.p.past_n, 1);
	path_of(path, "bad-", 100);
	fd = open(path, O_RDONLY);
	assert_int_equal(read(fd, &byte, 1), 1);
	assert_int_equal(byte, 7);
	close(fd);
	(void)count("spare-", &bad); /* the short one is none of them */
	assert_int_equal(bad, 0);
	(void)count("seg-", &bad);
	assert_int_equal(bad, 0);
}

/* A spare that is there is not waited for behind a fill. */
static void a_fill_holds_up_no_taking(void **state)
{
	make_file("spare-", 1, SEGMENT, 0);
	open_prepare(4, 0);
	prepare_begin(&t.p, next_number++);
	until(t.ready == 1);
	assert_true(fills <= 1);
	until(t.p.spares_n > 0 && t.p.fill_file); /* in the middle of another one */
	fills = 0;
	prepare_begin(&t.p, next_number++);
	until(t.ready == 2);
	assert_true(fills <= 2);
	until(t.p.spares_n == 4);
}

static void ending_in_the_middle_leaves_nothing_open(void **state)
{
	unsigned bad;

	open_prepare(4, 4);
	prepare_begin(&t.p, next_number++);
	while (fills < 5)
		loop_pass(t.loop);
	prepare_fini(&t.p);
	open_prepare(4, 4);
	assert_int_equal(count("fill-", &bad), 0);
	(void)count("spare-", &bad);
	assert_int_equal(bad, 0);
}

static int run(enum loop_kind k)
{
#define T(name) cmocka_unit_test_setup_teardown(name, begin, end)
	const struct CMUnitTest tests[] = {
		T(pool_and_reserve_are_built_beside_the_next_segment),
		T(what_an_earlier_run_left_is_kept_as_far_as_it_is_whole),
		T(the_reserve_is_not_for_mail),
		T(the_reserve_goes_in_its_order),
		T(the_reserve_goes_in_the_other_order),
		T(it_recovers_by_itself_when_space_returns),
		T(given_up_segments_lead_out_without_space),
		T(a_locked_file_is_left_until_it_is_free),
		T(a_damaged_one_is_kept_and_a_late_one_waits),
		T(a_fill_holds_up_no_taking),
		T(ending_in_the_middle_leaves_nothing_open),
	};

	kind = k;
	return cmocka_run_group_tests(tests, NULL, NULL);
}

int main(void)
{
	return run(LOOP_AUTO) + run(LOOP_EPOLL);
}
