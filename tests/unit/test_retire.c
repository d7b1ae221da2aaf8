#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "core/check.h"
#include "sched/retire.h"

#define SIZE  1000000ull
#define HOT   (3 * SIZE + 4096)
#define COLD1 ((COLD_FIRST + 1) * SIZE + 4096)
#define COLD2 ((COLD_FIRST + 2) * SIZE + 4096)

/* One record, as sched and a body know it. */
struct world {
	struct retires rs;
	uint64_t at, body_at;
	uint32_t last; /* RETIRE_LASTs that were handed on */
};

static void follow(uint64_t *at, const struct msg_moved *v, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (v[i].from == *at)
			*at = v[i].to;
}

static void correct(void *ctx, const struct msg_moved *v, size_t n)
{
	struct world *w = ctx;

	follow(&w->at, v, n);
}

static void forward(void *ctx, const struct msg_retire *m, struct span moved)
{
	struct world *w = ctx;
	const struct msg_moved *v = (const struct msg_moved *)(const void *)moved.p;

	follow(&w->body_at, v, moved.n / sizeof(*v));
	w->last += m->part == RETIRE_LAST;
}

static const struct retires_calls calls = {.correct = correct, .forward = forward};

static void world_init(struct world *w)
{
	*w = (struct world){.at = HOT, .body_at = HOT};
	retires_init(&w->rs, &calls, w);
}

static void say(struct world *w, uint64_t segment, uint64_t after, enum retire_part part,
		uint64_t from, uint64_t to)
{
	struct msg_retire m = {.segment = segment, .after = after, .part = part};
	struct msg_moved moved = {.id = 7, .from = from, .to = to};

	assert_true(retires_take(&w->rs, &m, from ? span_of(&moved, sizeof(moved)) : SPAN_NONE));
}

static struct manifest_entry named(uint64_t position)
{
	return (struct manifest_entry){.number = position / SIZE,
				       .end = position + 4096,
				       .state = SEGMENT_QUEUE};
}

static void waits_for_what_came_before_it(void **state)
{
	struct world w;

	world_init(&w);
	say(&w, 3, 1000, RETIRE_LAST, HOT, COLD1);
	retires_apply(&w.rs, 999);
	assert_int_equal(w.at, HOT);
	assert_int_equal(w.last, 0);
	retires_apply(&w.rs, 1000);
	assert_int_equal(w.at, COLD1);
	assert_int_equal(w.body_at, COLD1);
	assert_int_equal(w.last, 1);
	retires_fini(&w.rs);
}

static void named_copies_stay_and_others_are_taken_back(void **state)
{
	struct manifest_entry old = named(HOT), new = named(COLD1);

	for (int is_named = 0; is_named < 2; is_named++) {
		struct world w;

		world_init(&w);
		say(&w, 3, 0, RETIRE_LAST, HOT, COLD1);
		retires_apply(&w.rs, 0);
		retires_lost(&w.rs);
		retires_look(&w.rs, is_named ? &new : &old, 1, SIZE);
		assert_int_equal(w.at, is_named ? COLD1 : HOT);
		assert_int_equal(w.body_at, is_named ? COLD1 : HOT);
		retires_fini(&w.rs);
	}
}

/* A second round took the first one's output for a victim before any head was written. */
static void moves_on_moves_are_taken_back_from_the_end(void **state)
{
	struct manifest_entry old = named(HOT);
	struct world w;

	world_init(&w);
	say(&w, 3, 0, RETIRE_LAST, HOT, COLD1);
	say(&w, COLD1 / SIZE, 0, RETIRE_LAST, COLD1, COLD2);
	retires_apply(&w.rs, 0);
	assert_int_equal(w.at, COLD2);
	retires_look(&w.rs, &old, 1, SIZE);
	assert_int_equal(w.at, HOT);
	assert_int_equal(w.body_at, HOT);
	retires_fini(&w.rs);
}

/* A head that names both rounds names only the second one's copies. */
static void a_move_on_that_is_named_stays(void **state)
{
	struct manifest_entry new = named(COLD2);
	struct world w;

	world_init(&w);
	say(&w, 3, 0, RETIRE_LAST, HOT, COLD1);
	say(&w, COLD1 / SIZE, 0, RETIRE_LAST, COLD1, COLD2);
	retires_apply(&w.rs, 0);
	retires_look(&w.rs, &new, 1, SIZE);
	assert_int_equal(w.at, COLD2);
	assert_int_equal(w.body_at, COLD2);
	retires_fini(&w.rs);
}

/* The same within a round: a MSG was copied, and once more with its parts. */
static void both_moves_of_a_round_are_taken_back(void **state)
{
	struct manifest_entry old = named(HOT);
	struct world w;

	world_init(&w);
	say(&w, 3, 0, RETIRE_MORE, HOT, COLD1);
	say(&w, 3, 0, RETIRE_LAST, COLD1, COLD2);
	retires_apply(&w.rs, 0);
	assert_int_equal(w.at, COLD2);
	retires_look(&w.rs, &old, 1, SIZE);
	assert_int_equal(w.at, HOT);
	assert_int_equal(w.body_at, HOT);
	retires_fini(&w.rs);
}

static void what_is_over_or_lost_is_forgotten(void **state)
{
	struct manifest_entry old = named(HOT);
	struct world w;

	world_init(&w);
	say(&w, 3, 0, RETIRE_LAST, HOT, COLD1);
	say(&w, 3, 0, RETIRE_OVER, 0, 0);
	say(&w, 4, 100, RETIRE_LAST, COLD1, COLD2);
	retires_apply(&w.rs, 99);
	retires_lost(&w.rs);
	retires_apply(&w.rs, 1000);
	retires_look(&w.rs, &old, 1, SIZE);
	assert_int_equal(w.at, COLD1);
	retires_fini(&w.rs);
}

static void garbage_is_refused(void **state)
{
	struct msg_retire m = {.part = RETIRE_LAST};
	struct world w;

	world_init(&w);
	assert_false(retires_take(&w.rs, &m, span_of("12345678", 8)));
	m.part = RETIRE_OVER + 1;
	assert_false(retires_take(&w.rs, &m, SPAN_NONE));
	retires_fini(&w.rs);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(waits_for_what_came_before_it),
		cmocka_unit_test(named_copies_stay_and_others_are_taken_back),
		cmocka_unit_test(moves_on_moves_are_taken_back_from_the_end),
		cmocka_unit_test(a_move_on_that_is_named_stays),
		cmocka_unit_test(both_moves_of_a_round_are_taken_back),
		cmocka_unit_test(what_is_over_or_lost_is_forgotten),
		cmocka_unit_test(garbage_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
