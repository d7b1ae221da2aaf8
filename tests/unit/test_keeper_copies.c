/* The keeper over a real commit; sched and one body that agree to everything are played here. */
#include "journal/keeper.h"

#include "journal_home.h"

static struct home home;
static struct keeper *keeper;
static struct msg_retired agreed;
static bool asked;

static void on_retire(void *ctx, const struct msg_retire *m, struct span moved)
{
	asked = asked || m->part == RETIRE_LAST;
	agreed = (struct msg_retired){.segment = m->segment, .serial = m->serial};
}

static void on_room(void *ctx)
{
}

static void on_failed(void *ctx, int error)
{
	fail_msg("a copy can't be written: %s", strerror(-error));
}

static const struct keeper_calls calls = {on_retire, on_room, on_failed};

static int begin(void **state)
{
	home_init(&home, LOOP_AUTO);
	return 0;
}

static int end(void **state)
{
	home_fini(&home);
	return 0;
}

static void keeper_begin(void)
{
	struct keeper_options o = {.loop = home.loop,
				   .disk = home.disk,
				   .commit = home.commit,
				   .ring = &home.ring,
				   .segment_size = HOME_SEGMENT,
				   .shard = 1,
				   .calls = &calls};

	asked = false;
	keeper = keeper_new(&o);
	keeper_sched(keeper, true);
	keeper_bodies(keeper, 1);
}

static void pass(void)
{
	uint64_t entered = home.entered;

	loop_pass(home.loop);
	keeper_moved(keeper);
	if (home.entered != entered)
		keeper_entered(keeper, home.entered, home.edits);
	if (asked)
		keeper_retired(keeper, 0, &agreed);
	asked = false;
}

static void keeper_end(void)
{
	keeper_close(keeper);
	while (!keeper_is_closed(keeper))
		loop_pass(home.loop);
	keeper_free(keeper);
}

static void put(enum rec_type type, uint64_t id, const void *p, size_t n)
{
	struct rec_head h = {.type = (uint8_t)type, .id = id};
	struct span body = span_of(p, n);

	while (!commit_add(home.commit, &h, &body, 1, COMMIT_ACKED))
		loop_pass(home.loop);
	home_settle(&home);
}

static void put_message(uint64_t id)
{
	struct rec_msg m = {.rcpts = 1};

	put(REC_MSG, id, &m, sizeof(m));
}

static void put_outcome(uint64_t id)
{
	struct {
		struct rec_state s;
		struct msg_range r;
	} done = {.s = {.outcome = OUTCOME_DELIVERED, .ranges_n = 1}};

	put(REC_STATE, id, &done, sizeof(done));
}

/* Records that mean nothing. */
static void fill_to(uint64_t number)
{
	for (uint32_t i = 0; commit_number(home.commit) < number; i++)
		home_put(&home, REC_ACT, 1, i, 2000, 0);
	home_settle(&home);
}

static bool is_named(uint64_t number)
{
	uint32_t n;
	const struct manifest_entry *v = commit_named(home.commit, &n);

	for (uint32_t i = 0; i < n; i++)
		if (v[i].number == number)
			return true;
	return false;
}

/* In 1 and 5 there is a message each, in 3 the end of the first one. */
static void make_journal(void)
{
	home_open(&home);
	put_message(id_make(1, 1, 1));
	fill_to(3);
	put_outcome(id_make(1, 1, 1));
	fill_to(5);
	put_message(id_make(1, 2, 1));
	fill_to(6);
	home_close(&home);
}

static void seg_path(char path[128], const char *prefix, uint64_t number)
{
	snprintf(path, 128, "%s/%s%016llx", home.dir, prefix, (unsigned long long)number);
}

static void move_file(const char *from, const char *to, uint64_t number)
{
	char a[128], b[128];

	seg_path(a, from, number);
	seg_path(b, to, number);
	assert_int_equal(rename(a, b), 0);
}

static void all_is_well(void)
{
	assert_int_equal(live_msg_at(keeper_live(keeper), id_make(1, 1, 1)), 0);
	assert_int_not_equal(live_msg_at(keeper_live(keeper), id_make(1, 2, 1)), 0);
}

static void what_is_dead_goes(void **state)
{
	make_journal();
	assert_int_equal(home_open(&home), RECOVERED_CLEAN);
	keeper_begin();
	while (is_named(1) || is_named(2) || is_named(3) || is_named(4))
		pass();
	all_is_well();
	keeper_end();
}

/* While 1 is away, 3 must stay: what it says is needed when 1 is back. */
static void outcomes_wait_for_a_segment_that_is_missing(void **state)
{
	uint64_t begun;

	make_journal();
	move_file("seg-", "away-", 1);
	assert_int_equal(home_open(&home), RECOVERED_DAMAGED);
	keeper_begin();
	while (!keeper_live(keeper))
		pass();
	begun = clock_mono_ms();
	while (clock_mono_ms() < begun + 2500) /* two looks and more */
		pass();
	for (uint64_t n = 1; n <= 5; n++)
		assert_true(is_named(n));
	keeper_end();
	home_close(&home);
	move_file("away-", "seg-", 1);
	assert_int_equal(home_open(&home), RECOVERED_CLEAN);
	keeper_begin();
	while (is_named(1) || is_named(2) || is_named(3) || is_named(4))
		pass();
	all_is_well();
	keeper_end();
}

#define DICTS 12 /* as a cold segment may have that was filled for weeks */

static uint32_t dict_number(unsigned i)
{
	return 1000 + i;
}

static void put_packed(unsigned i)
{
	struct rec_head h = {.type = REC_DICT, .number = dict_number(i)};
	struct {
		struct rec_body b;
		char frame[40];
	} body = {.b = {.raw_n = 100, .dict = dict_number(i), .codec = 1}};
	struct {
		struct rec_msg m;
		uint64_t at;
	} msg = {.m = {.rcpts = 1, .body_parts = 1, .size = 100}};
	struct span dict = SPAN("words"), piece = span_of(&body, sizeof(body));

	assert_int_not_equal(commit_add(home.commit, &h, &dict, 1, 0), 0);
	h = (struct rec_head){.type = REC_BODY, .id = id_make(1, i + 1, 1)};
	msg.at = commit_add(home.commit, &h, &piece, 1, 0);
	assert_int_not_equal(msg.at, 0);
	put(REC_MSG, id_make(1, i + 1, 1), &msg, sizeof(msg));
}

/* Behind a copy's part is its dictionary, in the copy's own segment. */
static void expect_packed(struct reader *r, unsigned i, uint64_t msg_at)
{
	struct record rec;
	struct msg_view v;
	uint64_t at;

	assert_int_equal(reader_at(r, msg_at, REC_MSG, id_make(1, i + 1, 1), 0, &rec), READ_OK);
	assert_true(msg_view(&rec.head, rec.body, &v));
	at = msg_position(&v, 0);
	assert_true(at / HOME_SEGMENT >= COLD_FIRST);
	assert_int_equal(reader_at(r, at, REC_BODY, id_make(1, i + 1, 1), 0, &rec), READ_OK);
	assert_int_equal(reader_dict(r, at, dict_number(i), &rec), READ_OK);
	assert_int_equal(rec.pos / HOME_SEGMENT, at / HOME_SEGMENT);
}

static void every_copy_finds_its_dictionary(void **state)
{
	uint64_t at[DICTS];
	struct reader *r;

	home_open(&home);
	for (unsigned i = 0; i < DICTS; i++) {
		put_packed(i);
		if (i == DICTS - 3)
			fill_to(2); /* a round has two victims at least */
	}
	fill_to(4);
	keeper_begin();
	while (is_named(1) || is_named(2))
		pass();
	for (unsigned i = 0; i < DICTS; i++)
		at[i] = live_msg_at(keeper_live(keeper), id_make(1, i + 1, 1));
	keeper_end();
	home_close(&home);
	r = home_reader(&home, false);
	for (unsigned i = 0; i < DICTS; i++)
		expect_packed(r, i, at[i]);
	reader_free(r);
}

static const struct disk_calls *real;
static unsigned refused;

static int open_not_the_newest(struct disk *d, const char *name, int flags, struct disk_file **ret)
{
	char newest[SEGMENT_NAME_MAX];

	segment_name(newest, FILE_SEGMENT, 4);
	if (strcmp(name, newest) != 0)
		return real->open(d, name, flags, ret);
	refused++;
	return -EMFILE;
}

/* Parts were copied, and their MSG, which lies elsewhere, can't be read now: it goes on pointing to the
 * old ones, so these must live. */
static void parts_live_where_their_message_says(void **state)
{
	struct {
		struct rec_body b;
		char frame[40];
	} body = {.b = {.raw_n = 40}};
	struct {
		struct rec_msg m;
		uint64_t at[2];
	} msg = {.m = {.rcpts = 1, .body_parts = 2, .size = 80}};
	struct rec_head h = {.type = REC_BODY, .id = id_make(1, 1, 1)};
	struct span piece = span_of(&body, sizeof(body));
	struct keeper_counts counts;
	struct disk_calls calls_now;

	home_open(&home);
	for (unsigned i = 0; i < 2; i++) {
		h.number = i;
		msg.at[i] = commit_add(home.commit, &h, &piece, 1, 0);
		assert_int_not_equal(msg.at[i], 0);
		fill_to(2 + 2 * i);
	}
	put(REC_MSG, id_make(1, 1, 1), &msg, sizeof(msg));
	keeper_begin();
	while (!keeper_live(keeper))
		loop_pass(home.loop);
	real = home.disk->calls;
	calls_now = *real;
	calls_now.open = open_not_the_newest;
	home.disk->calls = &calls_now;
	refused = 0;
	do {
		pass();
		keeper_count(keeper, &counts);
	} while (counts.failed_rounds == 0);
	assert_true(refused > 0);
	for (unsigned i = 0; i < 2; i++)
		assert_true(live_segment(keeper_live(keeper), msg.at[i] / HOME_SEGMENT)->live > 0);
	home.disk->calls = real;
	keeper_end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(what_is_dead_goes, begin, end),
		cmocka_unit_test_setup_teardown(outcomes_wait_for_a_segment_that_is_missing,
						begin, end),
		cmocka_unit_test_setup_teardown(every_copy_finds_its_dictionary, begin, end),
		cmocka_unit_test_setup_teardown(parts_live_where_their_message_says, begin, end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
