/* job: agents, handles and bodies. */
#include "mail/msg.h"
#include "sched/job.h"
#include "tests/unit/mail_test.h"

static struct jobs  js;
static struct lanes ls;
static struct link  handles;

static int setup(void **state)
{
	jobs_init(&js);
	lanes_init(&ls);
	list_init(&handles);
	return 0;
}

static int teardown(void **state)
{
	jobs_fini(&js);
	lanes_fini(&ls);
	return 0;
}

static struct agent *come(uint32_t role, uint32_t index, uint32_t slots)
{
	struct agent *a = agent_of(&js, role, index);

	a->there = true;
	a->slots = slots;
	return a;
}

static void only_agents_are_agents(void **state)
{
	assert_non_null(agent_of(&js, ROLE_LSPAWN, 0));
	assert_ptr_not_equal(agent_of(&js, ROLE_LSPAWN, 0), agent_of(&js, ROLE_REMOTE, 0));
	assert_null(agent_of(&js, ROLE_BODY, 0));
	assert_null(agent_of(&js, ROLE_REMOTE, AGENTS_MAX));
}

static void a_destination_keeps_its_agent_while_there_is_room(void **state)
{
	struct run     r = {.count = 1};
	struct lane   *l = ls.local;
	struct handle *h;
	struct job    *j;

	assert_false(agents_have_room(&js, CHANNEL_LOCAL));
	assert_null(agent_free(&js, l));
	come(ROLE_LSPAWN, 0, 1);
	come(ROLE_LSPAWN, 1, 1);
	l->number = 3;
	assert_int_equal(agent_free(&js, l)->index, 1);
	h = handle_new(&js, &handles, agent_free(&js, l), 0);
	j = job_begin(&js, agent_free(&js, l), h, &r);
	assert_int_equal(agent_free(&js, l)->index, 0);
	assert_true(agents_have_room(&js, CHANNEL_LOCAL));
	assert_false(agents_have_room(&js, CHANNEL_REMOTE));
	job_end(&js, j);
	assert_int_equal(agent_free(&js, l)->index, 1);
	handle_free(&js, h);
}

static void jobs_have_numbers_and_deliveries_of_their_own(void **state)
{
	struct run     r = {.count = 5}, s = {.count = 1};
	struct agent  *a = come(ROLE_REMOTE, 0, 10);
	struct handle *h = handle_new(&js, &handles, a, 0);
	struct job    *j = job_begin(&js, a, h, &r), *k = job_begin(&js, a, h, &s);

	assert_int_equal(j->first_delivery, 1);
	assert_int_equal(k->first_delivery, 6);
	assert_ptr_equal(job_find(&js, j->number), j);
	assert_ptr_equal(job_find(&js, k->number), k);
	assert_int_equal(h->jobs, 2);
	assert_int_equal(a->running, 2);
	job_end(&js, j);
	job_end(&js, k);
	assert_null(job_find(&js, 1));
	assert_int_equal(a->running, 0);
	assert_true(list_is_empty(&a->jobs));
	handle_free(&js, h);
}

/* A job's number may still be running when the counter comes round. */
static void a_number_in_use_is_not_given_again(void **state)
{
	struct run     r = {.count = 1};
	struct agent  *a = come(ROLE_REMOTE, 0, 10);
	struct handle *h = handle_new(&js, &handles, a, 0);
	struct job    *j = job_begin(&js, a, h, &r), *k;

	js.job_numbers = j->number - 1;
	k = job_begin(&js, a, h, &r);
	assert_int_not_equal(j->number, k->number);
	job_end(&js, j);
	job_end(&js, k);
	handle_free(&js, h);
}

static void a_stale_handle_takes_no_jobs(void **state)
{
	struct agent  *a = come(ROLE_REMOTE, 0, 10), *b = come(ROLE_REMOTE, 1, 10);
	struct handle *h = handle_new(&js, &handles, a, 0), *again;

	assert_ptr_equal(handle_find(&handles, a), h);
	assert_null(handle_find(&handles, b));
	h->stale = true;
	assert_null(handle_find(&handles, a));
	again = handle_new(&js, &handles, a, 0);
	assert_ptr_equal(handle_find(&handles, a), again);
	assert_int_not_equal(h->number, again->number);
	handle_free(&js, h);
	handle_free(&js, again);
}

static void messages_spread_over_the_bodies_that_are_there(void **state)
{
	unsigned used[BODIES_MAX] = {0};
	uint32_t index;

	assert_false(body_for(&js, 64, &index));
	js.bodies[1] = js.bodies[4] = true;
	js.bodies_n = 2;
	for (uint64_t seq = 0; seq < 100; seq++) {
		assert_true(body_for(&js, seq << 6 | 5, &index));
		used[index]++;
	}
	assert_int_equal(used[1], 50);
	assert_int_equal(used[4], 50);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(only_agents_are_agents),
		TEST(a_destination_keeps_its_agent_while_there_is_room),
		TEST(jobs_have_numbers_and_deliveries_of_their_own),
		TEST(a_number_in_use_is_not_given_again),
		TEST(a_stale_handle_takes_no_jobs),
		TEST(messages_spread_over_the_bodies_that_are_there),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
