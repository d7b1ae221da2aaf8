#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "core/check.h"
#include "journal/space.h"

#define SIZE 1000000ull

static struct space_view view_of(const struct space_segment *v, uint32_t n)
{
	struct space_view s = {.segment_size = SIZE, .v = v, .n = n};

	for (uint32_t i = 0; i < n; i++)
		s.live += v[i].live;
	return s;
}

static struct space_segment old(uint64_t number, uint64_t live)
{
	return (struct space_segment){
		.number = number, .used = SIZE, .live = live, .sealed_s = SPACE_AGE_S};
}

static void dead_ones_go_unless_somebody_needs_them(void **state)
{
	struct space_segment v[] = {old(1, 0), old(2, 1), old(3, 0), old(4, 0), old(5, 0)};
	struct space_view s;
	uint64_t got[8];

	v[2].open = 1;
	v[3].leaving = true;
	s = view_of(v, 5);
	assert_int_equal(space_dead(&s, got, 8), 2);
	assert_int_equal(got[0], 1);
	assert_int_equal(got[1], 5);
	assert_int_equal(space_dead(&s, got, 1), 1);
	v[4].damaged = true; /* its file is kept, but it leaves the queue */
	assert_int_equal(space_dead(&s, got, 8), 2);
}

static void a_round_frees_more_than_it_fills(void **state)
{
	struct space_segment v[] = {old(1, 10000), old(2, 400000), old(3, 20000)};
	struct space_view s = view_of(v, 1);
	uint64_t got[8];

	assert_int_equal(space_victims(&s, got, 8), 0); /* one for one */
	s.cold_room = 10000;
	assert_int_equal(space_victims(&s, got, 8), 1);
	s = view_of(v, 3);
	assert_int_equal(space_victims(&s, got, 8), 3);
	assert_int_equal(got[2], 3); /* in order of number */
	s = view_of(v, 2);
	s.cold_room = 5000;
	assert_int_equal(space_victims(&s, got, 8), 2);
}

static void no_more_than_fits(void **state)
{
	struct space_segment v[8];
	struct space_view s;
	uint64_t got[8];

	for (uint32_t i = 0; i < 8; i++)
		v[i] = old(i + 1, 300000 + i);
	s = view_of(v, 8);
	s.asked = true;
	assert_int_equal(space_victims(&s, got, 8), 2); /* of 875,000 */
	assert_int_equal(got[0], 1);
	v[1].live = v[0].live = 600000; /* more than half: not worth it */
	s = view_of(v, 2);
	s.asked = true;
	assert_int_equal(space_victims(&s, got, 8), 0);
}

/* Each start leaves one that is hardly used; all of it lives. */
static void sealed_early_is_judged_by_its_file(void **state)
{
	struct space_segment v[SPACE_ROUND_MAX + 40];
	uint32_t n = sizeof(v) / sizeof(v[0]);
	struct space_view s;
	uint64_t got[SPACE_ROUND_MAX];

	for (uint32_t i = 0; i < n; i++) {
		v[i] = old(i + 1, 1000);
		v[i].used = 1000;
	}
	s = view_of(v, n);
	assert_true(space_is_tight(&s));
	assert_int_equal(space_victims(&s, got, SPACE_ROUND_MAX), SPACE_ROUND_MAX);
	for (uint32_t i = 0; i < n; i++)
		v[i].sealed_s = 0; /* a home that is restarted again and again has no old ones */
	assert_int_equal(space_victims(&s, got, SPACE_ROUND_MAX), SPACE_ROUND_MAX);
	v[0].used = v[0].live = SIZE / 2; /* that much is worth a file of its own */
	s = view_of(v, 1);
	s.asked = true;
	assert_int_equal(space_victims(&s, got, SPACE_ROUND_MAX), 0);
}

/* Two of nearly a half do not fit into one, but three fit into two: the bound is kept. */
static void nearly_half_full_ones_go_three_by_three(void **state)
{
	struct space_segment v[40];
	struct space_view s;
	uint64_t got[SPACE_ROUND_MAX];

	for (uint32_t i = 0; i < 40; i++)
		v[i] = old(i + 1, SIZE / 100 * 49);
	s = view_of(v, 40);
	s.asked = true;
	assert_int_equal(space_victims(&s, got, SPACE_ROUND_MAX), 3);
	s.disk_short = true; /* there is one to write to */
	assert_int_equal(space_victims(&s, got, SPACE_ROUND_MAX), 0);
	s = view_of(v, 2);
	s.asked = true;
	assert_int_equal(space_victims(&s, got, SPACE_ROUND_MAX), 0);
	assert_int_equal(space_victims(&s, got, 0), 0);
}

static void young_ones_are_left_alone_until_space_needs_them(void **state)
{
	struct space_segment v[] = {old(1, 400000), old(2, 400000), old(3, 0)};
	struct space_view s;
	uint64_t got[8];

	for (int i = 0; i < 3; i++)
		v[i].sealed_s = SPACE_AGE_S - 1;
	s = view_of(v, 2);
	s.live = SIZE; /* much lives in the newest */
	assert_false(space_is_tight(&s));
	assert_int_equal(space_victims(&s, got, 8), 0);
	s.disk_short = true;
	assert_int_equal(space_victims(&s, got, 8), 2);
	s.disk_short = false;
	s.asked = true;
	assert_int_equal(space_victims(&s, got, 8), 2);
	s.asked = false;
	s.live = 400000;
	assert_true(space_is_tight(&s)); /* three segments, twice 0.4 and two */
	assert_int_equal(space_victims(&s, got, 8), 2);
	v[0].leaving = true; /* that one will be given back anyway */
	assert_false(space_is_tight(&s));
}

static void damaged_open_and_filling_ones_are_not_copied(void **state)
{
	struct space_segment v[] = {old(1, 10), old(2, 10), old(3, 10), old(4, 10), old(5, 10)};
	struct space_view s;
	uint64_t got[8];

	v[0].damaged = true;
	v[1].open = 1;
	v[2].filling = true;
	s = view_of(v, 5);
	assert_int_equal(space_victims(&s, got, 8), 2);
	assert_int_equal(got[0], 4);
	assert_int_equal(got[1], 5);
}

static void history_ends_by_size_and_by_age(void **state)
{
	struct space_past v[] = {{1, 100}, {2, 200}, {3, 300}, {4, 400}};
	struct space_keep keep = {.bytes = 3 * SIZE, .days = 1}, none = {0};

	assert_int_equal(space_forget(v, 4, &keep, SIZE, 500, false), 1);
	keep.bytes = 9 * SIZE;
	assert_int_equal(space_forget(v, 4, &keep, SIZE, 500, false), 0);
	assert_int_equal(space_forget(v, 4, &keep, SIZE, 86400 + 250, false), 2);
	assert_int_equal(space_forget(v, 4, &keep, SIZE, 500, true), 3);
	assert_int_equal(space_forget(v, 4, &none, SIZE, 500, false), 4);
	assert_int_equal(space_forget(v, 0, &keep, SIZE, 500, true), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(dead_ones_go_unless_somebody_needs_them),
		cmocka_unit_test(a_round_frees_more_than_it_fills),
		cmocka_unit_test(no_more_than_fits),
		cmocka_unit_test(sealed_early_is_judged_by_its_file),
		cmocka_unit_test(nearly_half_full_ones_go_three_by_three),
		cmocka_unit_test(young_ones_are_left_alone_until_space_needs_them),
		cmocka_unit_test(damaged_open_and_filling_ones_are_not_copied),
		cmocka_unit_test(history_ends_by_size_and_by_age),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
