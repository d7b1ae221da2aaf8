/* Kept connections: found by key, newest first, gone after their time, bounded. */
#include "remote_test.h"

#include "core/clock.h"
#include "remote/idle.h"

static unsigned expired;
static bool     tick_done;

static void on_expired(struct idle_entry *e)
{
	assert_null(e->site);
	expired++;
}

static void tick(struct timer *t)
{
	tick_done = true;
}

static void run_for(struct loop *l, uint64_t ms)
{
	struct timer t;

	timer_init(&t, tick);
	tick_done = false;
	timer_set(l, &t, ms);
	while (!tick_done)
		loop_pass(l);
}

static struct host_key key(uint8_t last, uint16_t port)
{
	struct ip ip = {.family = 4, .b = {10, 0, 0, last}};

	return host_key(&ip, port);
}

static void found_by_address_and_port(void **state)
{
	struct loop      *l = loop_new(LOOP_EPOLL, 0);
	struct idle_entry e[3];
	struct host_key   a = key(1, 25), b = key(1, 209), c = key(2, 25);
	struct idle       i;

	idle_init(&i, l, 10);
	for (unsigned k = 0; k < 3; k++)
		idle_entry_init(&e[k], on_expired);
	idle_withdraw(&e[0]);
	assert_null(idle_find(&i, &a));
	idle_offer(&i, &e[0], &a, 1000);
	idle_offer(&i, &e[1], &b, 1000);
	idle_offer(&i, &e[2], &a, 1000);
	assert_ptr_equal(idle_find(&i, &a), &e[2]);
	assert_ptr_equal(idle_find(&i, &b), &e[1]);
	assert_null(idle_find(&i, &c));
	idle_withdraw(&e[2]);
	idle_withdraw(&e[2]);
	assert_ptr_equal(idle_find(&i, &a), &e[0]);
	idle_withdraw(&e[0]);
	assert_null(idle_find(&i, &a));
	idle_withdraw(&e[1]);
	idle_fini(&i);
	loop_free(l);
}

static void resting_ones_expire_working_ones_do_not(void **state)
{
	struct loop      *l = loop_new(LOOP_EPOLL, 0);
	struct idle_entry e[2];
	struct host_key   a = key(1, 25);
	struct idle       i;

	expired = 0;
	idle_init(&i, l, 10);
	idle_entry_init(&e[0], on_expired);
	idle_entry_init(&e[1], on_expired);
	idle_offer(&i, &e[0], &a, 20);
	idle_offer(&i, &e[1], &a, 20);
	idle_offer(&i, &e[1], &a, 0);             /* it works again */
	assert_int_equal(i.resting_n, 1);
	run_for(l, 60);
	assert_int_equal(expired, 1);
	assert_ptr_equal(idle_find(&i, &a), &e[1]);
	idle_offer(&i, &e[1], &a, 20);
	run_for(l, 60);
	assert_int_equal(expired, 2);
	assert_null(idle_find(&i, &a));
	assert_false(idle_expire_oldest(&i));
	idle_fini(&i);
	loop_free(l);
}

static void the_oldest_makes_place(void **state)
{
	struct loop              *l = loop_new(LOOP_EPOLL, 0);
	static struct idle_entry  e[IDLE_MAX + 5];
	struct idle               i;

	expired = 0;
	idle_init(&i, l, IDLE_MAX + 5);
	for (unsigned k = 0; k < IDLE_MAX + 5; k++) {
		struct host_key a = key((uint8_t)(k % 7), 25);

		idle_entry_init(&e[k], on_expired);
		idle_offer(&i, &e[k], &a, 10000);
	}
	assert_int_equal(i.resting_n, IDLE_MAX);
	assert_int_equal(expired, 5);
	assert_null(e[4].site);
	assert_non_null(e[5].site);
	while (idle_expire_oldest(&i))
		;
	assert_int_equal(expired, IDLE_MAX + 5);
	idle_fini(&i);
	loop_free(l);
}

/* ---- what is remembered of addresses */

static void two_timeouts_and_it_is_left_alone(void **state)
{
	struct hosts    h;
	struct host_key a = key(1, 25), b = key(1, 209);
	uint64_t        now = clock_mono_us();

	rand_seed(1);
	clock_set(now, 0);
	hosts_init(&h);
	hosts_timed_out(&h, &a);
	assert_false(hosts_skip(&h, &a));
	hosts_timed_out(&h, &a);                  /* within two minutes: the same trouble */
	assert_false(hosts_skip(&h, &a));
	clock_set(now += 121 * 1000000ull, 0);
	hosts_timed_out(&h, &a);
	assert_true(hosts_skip(&h, &a));
	assert_false(hosts_skip(&h, &b));
	clock_set(now + 3839 * 1000000ull, 0);
	assert_true(hosts_skip(&h, &a));
	clock_set(now + 5825 * 1000000ull, 0);
	assert_false(hosts_skip(&h, &a));
	hosts_timed_out(&h, &a);
	assert_true(hosts_skip(&h, &a));
	hosts_answered(&h, &a);                   /* refused counts, too: somebody is there */
	assert_false(hosts_skip(&h, &a));
	hosts_fini(&h);
}

static void the_memory_is_bounded(void **state)
{
	struct hosts h;

	hosts_init(&h);
	for (uint32_t n = 0; n < HOSTS_MAX + 100; n++) {
		struct ip       ip = {.family = 4};
		struct host_key k;

		memcpy(ip.b, &n, 4);
		k = host_key(&ip, 25);
		hosts_set_manners(&h, &k, QMTP_SHORT);
		assert_int_equal(hosts_manners(&h, &k), QMTP_SHORT);
	}
	struct host_key first = host_key(&(struct ip){.family = 4}, 25);
	assert_int_equal(hosts_manners(&h, &first), QMTP_UNKNOWN);
	hosts_fini(&h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(found_by_address_and_port),
		cmocka_unit_test(resting_ones_expire_working_ones_do_not),
		cmocka_unit_test(the_oldest_makes_place),
		cmocka_unit_test(two_timeouts_and_it_is_left_alone),
		cmocka_unit_test(the_memory_is_bounded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
