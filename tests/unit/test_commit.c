#include "journal/commit_in.h"

#include "journal_home.h"

static struct home home;
static enum loop_kind kind;

static int begin(void **state)
{
	home_init(&home, kind);
	return 0;
}

static int end(void **state)
{
	home_fini(&home);
	return 0;
}

struct asked {
	struct waiter waiter;
	uint64_t durable; /* when done ran */
	unsigned order;
};
static unsigned answers;

static void on_done(struct waiter *w)
{
	struct asked *a = owner_of(w, struct asked, waiter);

	a->durable = ring_durable(&home.ring);
	a->order = ++answers;
}

static void answers_come_after_the_write_and_in_order(void **state)
{
	struct asked asked[50];
	uint64_t pos[50];

	answers = 0;
	assert_int_equal(home_open(&home), RECOVERED_EMPTY);
	for (unsigned i = 0; i < 50; i++) {
		pos[i] = home_put(&home, REC_ACT, i + 1, 0, 3000, COMMIT_ACKED);
		waiter_init(&asked[i].waiter, on_done);
		asked[i].order = 0;
		commit_wait(home.commit, &asked[i].waiter);
		assert_int_equal(asked[i].order, 0); /* starting never calls back */
		if (i % 7 == 0)
			loop_pass(home.loop);
	}
	home_settle(&home);
	for (unsigned i = 0; i < 50; i++) {
		assert_int_equal(asked[i].order, i + 1);
		assert_true(asked[i].durable > pos[i]);
	}
	assert_int_equal(home.failed, 0);
	assert_true(home.rooms > 0 && home.moved > 0);
}

static void cancelled_waiter_is_not_called(void **state)
{
	struct asked a = {.order = 0}, b = {.order = 0};

	answers = 0;
	home_open(&home);
	home_put(&home, REC_ACT, 1, 0, 10, 0);
	waiter_init(&a.waiter, on_done);
	waiter_init(&b.waiter, on_done);
	waiter_cancel(&a.waiter);
	commit_wait(home.commit, &a.waiter);
	commit_wait(home.commit, &b.waiter);
	loop_pass(home.loop);
	waiter_cancel(&a.waiter);
	home_settle(&home);
	assert_int_equal(a.order, 0);
	assert_int_equal(b.order, 1);
}

static void full_batch_says_so_and_room_follows(void **state)
{
	size_t max, n = 0;

	home_open(&home);
	max = commit_record_max(home.commit);
	while (home_add(&home, REC_ACT, 1, 0, 4000, 0))
		n++;
	assert_true(n * rec_size(4000) <= max && (n + 1) * rec_size(4000) > max);
	assert_false(commit_fits(home.commit, rec_size(4000), 0));
	home.rooms = 0;
	home_settle(&home);
	assert_true(home.rooms > 0);
	assert_true(commit_fits(home.commit, max, 0));
	assert_false(commit_fits(home.commit, max + 1, 0));
	assert_true(home_add(&home, REC_ACT, 1, 0, max - sizeof(struct rec_head), 0) > 0);
	home_settle(&home);
	assert_int_equal(home.failed, 0);
}

static void segments_follow_each_other(void **state)
{
	struct journal_end found;
	uint64_t pos = 0, epoch;

	home_open(&home);
	epoch = commit_epoch(home.commit);
	for (uint32_t i = 0; i < 300; i++)
		pos = home_put(&home, REC_ACT, 1, i, 2000, COMMIT_ACKED);
	home_settle(&home);
	assert_true(pos / HOME_SEGMENT > 5);
	home_close(&home);
	assert_int_equal(home_recover(&home, &found), RECOVERED_CLEAN);
	assert_int_equal(found.number, pos / HOME_SEGMENT);
	assert_int_equal(found.segments_n, found.number);
	assert_int_equal(found.epoch, epoch);
	journal_end_fini(&found);
	home_open(&home);
	assert_int_equal(commit_epoch(home.commit), epoch + 1);
}

static void quiet_writes_one_mark_after_acked_mail_only(void **state)
{
	uint64_t before;

	home_open(&home);
	home_put(&home, REC_ACT, 1, 0, 100, 0);
	for (uint64_t until = clock_mono_ms() + 250; clock_mono_ms() < until;) {
		struct timer t;

		timer_init(&t, NULL);
		usleep(20000);
		home_settle(&home);
		clock_refresh();
	}
	before = atomic_load(&home.ring.head->batches);
	assert_int_equal(before, 1);
	home_put(&home, REC_ACT, 1, 1, 100, COMMIT_ACKED);
	home_settle(&home);
	while (atomic_load(&home.ring.head->batches) < 3)
		loop_pass(home.loop); /* waits for the timer */
	home_settle(&home);
	assert_int_equal(atomic_load(&home.ring.head->batches), 3);
}

static void other_segment_size_is_refused(void **state)
{
	struct journal_end found;
	struct commit *c;

	home_open(&home);
	home_close(&home);
	home_recover(&home, &found);
	assert_int_equal(ring_make(&home.ring, HOME_RING, 2 * HOME_SEGMENT), 0);
	assert_int_equal(commit_open(&c, home.loop, home.disk, &home.ring, &found,
				     &(struct commit_options){.segment_size = 2 * HOME_SEGMENT, .shard = 1},
				     &home_calls, &home),
			 -EINVAL);
	assert_null(c);
	journal_end_fini(&found);
}

static void every_start_takes_a_new_number_and_leaves_nothing_behind(void **state)
{
	struct segments s;
	struct buf why;

	for (int i = 0; i < 6; i++) {
		home_open(&home);
		home_put(&home, REC_ACT, 1, (uint32_t)i, 100, COMMIT_ACKED);
		home_close(&home);
	}
	buf_init(&why, 256);
	assert_int_equal(segments_load(home.disk, &s, &why), SEGMENTS_OK);
	assert_int_equal(s.n, 6);
	assert_true(s.files_n <= 7); /* and one that was prepared */
	segments_fini(&s);
	buf_free(&why);
}

/* ---- heads ---- */

static void path_of(char path[128], const char *prefix, uint64_t number)
{
	snprintf(path, 128, "%s/%s%016llx", home.dir, prefix, (unsigned long long)number);
}

static void read_block(uint64_t number, uint64_t off, char *block)
{
	char path[128];
	int fd;

	path_of(path, "seg-", number);
	fd = open(path, O_RDONLY);
	assert_true(fd >= 0);
	assert_int_equal(pread(fd, block, BLOCK_SIZE, (off_t)off), BLOCK_SIZE);
	close(fd);
}

static void every_head_has_a_copy_in_the_last_block(void **state)
{
	char head[BLOCK_SIZE], copy[BLOCK_SIZE];
	struct block_tag t;
	uint64_t last;

	home_open(&home);
	for (uint32_t i = 0; i < 300; i++)
		home_put(&home, REC_ACT, 1, i, 2000, 0);
	home_settle(&home);
	last = commit_number(home.commit);
	assert_true(last > 4);
	home_close(&home);
	home_open(&home);
	for (uint64_t n = 1; n <= last + 1; n++) {
		read_block(n, 0, head);
		read_block(n, HOME_SEGMENT - BLOCK_SIZE, copy);
		assert_true(block_ok(copy, &t));
		assert_int_equal(t.flags, BLOCK_HEAD | BLOCK_COPY | BLOCK_FIRST | BLOCK_LAST);
		assert_int_equal(t.seq, 0);
		assert_true(block_ok(head, &t));
		assert_int_equal(t.flags, BLOCK_HEAD | BLOCK_FIRST | BLOCK_LAST);
		assert_memory_equal(head, copy, BLOCK_DATA);
	}
}

static struct disk_calls watched;
static const struct disk_calls *real;
static struct {
	uint64_t off[64], edits;
	unsigned n;
	bool edit; /* when the copy is being written: the head is settled */
} seen;

static void watched_write(struct disk *d, struct disk_file *f, struct op *op, const void *p,
			  size_t n, uint64_t off)
{
	if (seen.n < ARRAY_N(seen.off))
		seen.off[seen.n++] = off;
	if (seen.edit && off == HOME_SEGMENT - BLOCK_SIZE) {
		seen.edit = false;
		seen.edits = commit_drop(home.commit, 1);
	}
	real->write(d, f, op, p, n, off);
}

static void watch(void)
{
	memset(&seen, 0, sizeof seen);
	real = home.disk->calls;
	watched = *real;
	watched.write = watched_write;
	home.disk->calls = &watched;
}

static void the_copy_is_durable_before_the_head(void **state)
{
	unsigned heads = 0;

	home_open(&home);
	watch();
	for (uint32_t i = 0; i < 120; i++)
		home_put(&home, REC_ACT, 1, i, 2000, 0);
	home_settle(&home);
	for (unsigned i = 0; i < seen.n; i++)
		if (seen.off[i] == 0) {
			assert_int_equal(seen.off[i - 1], HOME_SEGMENT - BLOCK_SIZE);
			heads++;
		}
	assert_true(heads > 0);
}

/* ---- edits of the manifest ---- */

static struct segments now;

/* What the newest head names, read from the disk. */
static const struct manifest_entry *named(uint64_t number)
{
	struct buf why;
	const struct manifest_entry *found = NULL;

	segments_fini(&now);
	buf_init(&why, 512);
	assert_int_equal(segments_load(home.disk, &now, &why), SEGMENTS_OK);
	buf_free(&why);
	for (uint32_t i = 0; i < now.n; i++)
		if (now.v[i].number == number)
			found = &now.v[i];
	return found;
}

static void until_entered(uint64_t number)
{
	while (home.entered != number)
		loop_pass(home.loop);
	home_settle(&home);
}

/* Some segments, the newest has one record. */
static uint64_t fill_segments(void)
{
	for (uint32_t i = 0; i < 300; i++)
		home_put(&home, REC_ACT, 1, i, 2000, 0);
	home_settle(&home);
	return commit_number(home.commit);
}

static void edits_hold_with_the_next_head(void **state)
{
	struct manifest_entry cold = {.number = COLD_FIRST + 3, .state = SEGMENT_QUEUE};
	uint64_t at, last, edits;
	uint32_t n;

	home_open(&home);
	at = fill_segments();
	cold.end = cold.number * HOME_SEGMENT + 5 * BLOCK_SIZE;
	(void)commit_drop(home.commit, 1);
	(void)commit_to_history(home.commit, 2, 12345);
	last = commit_name(home.commit, &cold);
	cold.end += BLOCK_SIZE;
	edits = commit_name(home.commit, &cold); /* grows, and stays one entry */
	assert_true(edits == last + 1);
	assert_non_null(named(1)); /* nothing holds yet */
	assert_int_equal(named(2)->state, SEGMENT_QUEUE);
	assert_int_equal(commit_named(home.commit, &n)[0].number, 2);
	commit_switch(home.commit); /* nothing gathers: a record is made */
	until_entered(at + 1);
	assert_int_equal(home.edits, edits);
	assert_null(named(1));
	assert_int_equal(named(2)->state, SEGMENT_HISTORY);
	assert_int_equal(named(2)->closed_s, 12345);
	assert_non_null(named(at));
	assert_int_equal(named(COLD_FIRST + 3)->end, cold.end);
	assert_int_equal(now.head.oldest, 2);
	assert_int_equal(now.head.prev_number, at);
}

/* The segment that is being entered has its list already. */
static void an_edit_while_a_head_is_written_waits_for_the_next(void **state)
{
	uint64_t at, first;

	home_open(&home);
	at = fill_segments();
	watch();
	first = commit_to_history(home.commit, 2, 1);
	seen.edit = true;
	commit_switch(home.commit);
	until_entered(at + 1);
	assert_int_equal(home.edits, first);
	assert_int_equal(seen.edits, first + 1);
	assert_non_null(named(1));
	commit_switch(home.commit);
	until_entered(at + 2);
	assert_int_equal(home.edits, first + 1);
	assert_null(named(1));
}

/* Where a segment ends early the next one may begin in the same place of the ring. */
static void what_is_in_flight_stays_where_a_segment_ends_early(void **state)
{
	struct journal_end end;
	uint64_t pos;
	uint32_t n = 0;

	assert_int_equal(home_recover(&home, &end), RECOVERED_EMPTY);
	assert_int_equal(ring_make(&home.ring, HOME_RING, HOME_RING), 0);
	assert_int_equal(commit_open(&home.commit, home.loop, home.disk, &home.ring, &end,
				     &(struct commit_options){.segment_size = HOME_RING, .shard = 1, .direct = home.direct},
				     &home_calls, &home),
			 0);
	journal_end_fini(&end);
	while (!home.commit->next_file)
		loop_pass(home.loop);
	commit_switch(home.commit); /* with the first batch */
	while (home.entered != 2) {
		pos = home_add(&home, REC_ACT, 1, n, 30000, 0);
		n += pos != 0;
		if (pos && home.commit->flight)
			assert_true(pos + 30000 - home.commit->flight->pos <= HOME_RING);
		loop_pass(home.loop);
	}
	assert_true(n > 2);
	home_settle(&home);
}

static void edits_outlive_a_restart(void **state)
{
	uint64_t at;
	uint32_t n;
	const struct manifest_entry *v;

	home_open(&home);
	at = fill_segments();
	(void)commit_to_history(home.commit, 1, 777);
	(void)commit_drop(home.commit, 2);
	commit_switch(home.commit);
	until_entered(at + 1);
	home_close(&home);
	home_open(&home);
	v = commit_named(home.commit, &n);
	assert_int_equal(n, at); /* all but 2, and the one that was entered last */
	assert_int_equal(v[0].state, SEGMENT_HISTORY);
	assert_int_equal(v[0].closed_s, 777);
	assert_int_equal(v[1].number, 3);
}

static void a_long_manifest_takes_edits_at_its_ends(void **state)
{
	uint64_t at;

	home_open(&home);
	at = commit_number(home.commit);
	for (uint64_t i = 0; i < 200; i++) {
		struct manifest_entry cold = {.number = COLD_FIRST + i, .state = SEGMENT_QUEUE};

		cold.end = cold.number * HOME_SEGMENT + 2 * BLOCK_SIZE;
		assert_true(commit_name(home.commit, &cold) > 0);
	}
	commit_switch(home.commit);
	home_put(&home, REC_ACT, 1, 0, 100, 0);
	until_entered(at + 1);
	assert_non_null(named(COLD_FIRST));
	assert_non_null(named(COLD_FIRST + 199));
	assert_int_equal(now.head.manifest_n, 201);
	assert_int_equal(home_put(&home, REC_ACT, 1, 1, 100, 0) % HOME_SEGMENT / BLOCK_SIZE, 2);
	for (uint64_t i = 0; i < 150; i++)
		(void)commit_drop(home.commit, COLD_FIRST + i);
	commit_switch(home.commit);
	until_entered(at + 2);
	assert_null(named(COLD_FIRST + 149));
	assert_non_null(named(COLD_FIRST + 150));
	assert_int_equal(home_put(&home, REC_ACT, 1, 2, 100, 0) % HOME_SEGMENT / BLOCK_SIZE, 1);
	segments_fini(&now);
}

/* ---- files ---- */

static bool is_there(const char *prefix, uint64_t number)
{
	char path[128];

	path_of(path, prefix, number);
	return access(path, F_OK) == 0;
}

static void make_file(const char *prefix, uint64_t number)
{
	char path[128];
	int fd;

	path_of(path, prefix, number);
	fd = open(path, O_WRONLY | O_CREAT, 0600);
	assert_int_equal(ftruncate(fd, HOME_SEGMENT), 0);
	close(fd);
}

static void what_no_head_names_goes_at_the_next_start(void **state)
{
	uint64_t at;

	home_open(&home);
	at = fill_segments();
	(void)commit_drop(home.commit, 1);
	commit_switch(home.commit);
	until_entered(at + 1);
	while (!is_there("seg-", at + 2)) /* files are prepared one after the other */
		loop_pass(home.loop);
	home_close(&home);
	make_file("seg-", COLD_FIRST + 7);
	make_file("seg-", at + 3);
	make_file("idx-", 1);
	make_file("idx-", 2);
	make_file("bad-", 1);
	home.careful = true;
	home_open(&home);
	assert_int_equal(commit_number(home.commit), at + 4);
	home_close(&home);
	assert_true(is_there("seg-", 1) && is_there("seg-", COLD_FIRST + 7) &&
		    is_there("seg-", at + 3) && is_there("idx-", 1));
	home.careful = false;
	home_open(&home);
	assert_false(is_there("seg-", 1) || is_there("seg-", COLD_FIRST + 7) ||
		     is_there("seg-", at + 3) || is_there("idx-", 1));
	assert_true(is_there("seg-", 2) && is_there("idx-", 2) && is_there("bad-", 1));
}

static void spoil(uint64_t number, uint64_t off)
{
	char path[128], byte;
	int fd;

	path_of(path, "seg-", number);
	fd = open(path, O_RDWR);
	assert_int_equal(pread(fd, &byte, 1, (off_t)off), 1);
	byte ^= 1;
	assert_int_equal(pwrite(fd, &byte, 1, (off_t)off), 1);
	close(fd);
}

/* The head that names it no more is durable, its new name is not. */
static void a_damaged_one_is_kept_though_its_run_ended_early(void **state)
{
	uint64_t at;

	home_open(&home);
	at = fill_segments();
	(void)commit_drop(home.commit, 1);
	(void)commit_drop(home.commit, 2);
	commit_switch(home.commit);
	until_entered(at + 1);
	spoil(2, BLOCK_SIZE + 200);
	home_close(&home);
	assert_int_equal(home_open(&home), RECOVERED_CLEAN);
	assert_false(is_there("seg-", 1) || is_there("seg-", 2));
	assert_true(is_there("bad-", 2));
	assert_false(is_there("bad-", 1));
}

static int no_unlink(struct disk *d, const char *name)
{
	return strncmp(name, "seg-", 4) == 0 ? -EIO : real->unlink(d, name);
}

static void a_file_that_cant_be_removed_stops_no_start(void **state)
{
	struct disk_calls calls;

	home_open(&home);
	(void)fill_segments();
	home_close(&home);
	make_file("seg-", COLD_FIRST + 7);
	real = home.disk->calls;
	calls = *real;
	calls.unlink = no_unlink;
	home.disk->calls = &calls;
	assert_int_equal(home_open(&home), RECOVERED_CLEAN);
	assert_non_null(home.commit);
	assert_true(is_there("seg-", COLD_FIRST + 7));
	home_close(&home);
	home.disk->calls = real;
	home_open(&home);
	assert_false(is_there("seg-", COLD_FIRST + 7));
}

static void a_missing_segment_is_known_as_lost(void **state)
{
	char from[128], to[128];

	home_open(&home);
	(void)fill_segments();
	home_close(&home);
	for (uint64_t n = 2; n <= 3; n++) {
		path_of(from, "seg-", n);
		path_of(to, "away-", n);
		assert_int_equal(rename(from, to), 0);
	}
	assert_int_equal(home_open(&home), RECOVERED_DAMAGED);
	assert_true(commit_is_lost(home.commit, 2) && commit_is_lost(home.commit, 3));
	assert_false(commit_is_lost(home.commit, 1) || commit_is_lost(home.commit, 4));
}

/* One comes back, and what belongs to its messages must be there. */
static void while_one_is_lost_nothing_that_was_found_goes(void **state)
{
	char from[128], to[128];
	uint64_t at;

	home_open(&home);
	at = fill_segments();
	home_close(&home);
	path_of(from, "seg-", 2);
	path_of(to, "away-", 2);
	assert_int_equal(rename(from, to), 0);
	home_open(&home);
	for (uint64_t n = 1; n <= at; n++)
		assert_true(commit_stays(home.commit, n));
	assert_false(commit_stays(home.commit, at + 1) || commit_stays(home.commit, COLD_FIRST));
	home_close(&home);
	assert_int_equal(rename(to, from), 0);
	assert_int_equal(home_open(&home), RECOVERED_CLEAN);
	assert_false(commit_stays(home.commit, 1) || commit_stays(home.commit, 2));
}

static void given_up_files_are_used_again_but_not_a_dead_ones_last(void **state)
{
	uint64_t at, dead;

	home.reserve = 4;
	home_open(&home);
	dead = fill_segments();
	home_close(&home);
	home_open(&home);
	at = commit_number(home.commit);
	(void)commit_drop(home.commit, 1);
	(void)commit_drop(home.commit, 2);
	(void)commit_drop(home.commit, dead);
	commit_switch(home.commit);
	until_entered(at + 1);
	commit_recycle(home.commit, 1, false);
	commit_recycle(home.commit, 2, true);
	commit_recycle(home.commit, dead, false);
	while (is_there("seg-", 1) || is_there("seg-", 2))
		loop_pass(home.loop);
	assert_true(is_there("bad-", 2));
	for (uint32_t i = 0; i < 300; i++) /* through old bytes */
		home_put(&home, REC_ACT, 7, i, 2000, 0);
	home_settle(&home);
	assert_true(is_there("seg-", dead));
	home_close(&home);
	assert_int_equal(home_open(&home), RECOVERED_CLEAN);
}

static unsigned colds;
static bool cold_was_null;

static void on_cold(void *ctx, struct disk_file *f)
{
	colds++;
	cold_was_null = f == NULL;
	if (f)
		home.disk->calls->close(home.disk, f);
}

static void compaction_gets_a_file(void **state)
{
	home_open(&home);
	colds = 0;
	commit_cold_file(home.commit, COLD_FIRST, on_cold, NULL);
	assert_int_equal(colds, 0);
	while (!colds)
		loop_pass(home.loop);
	assert_false(cold_was_null);
	assert_true(is_there("seg-", COLD_FIRST));
}

/* ---- room ---- */

static _Atomic bool is_full;

static int limited_fill(struct disk *d, struct disk_file *f, uint64_t from, uint64_t to)
{
	return is_full ? -ENOSPC : real->fill(d, f, from, to);
}

static void on_tick(struct timer *t)
{
	timer_set(home.loop, t, 5);
}

static void put_until(enum commit_room room)
{
	for (uint32_t i = 0; commit_room(home.commit) != room; i++) {
		assert_true(i < 3000);
		(void)home_put(&home, REC_ACT, 1, i, 2000, 0);
		home_settle(&home);
	}
}

static void a_full_disk_refuses_mail_first_then_deliveries_and_recovers(void **state)
{
	struct commit_space s;
	static struct timer tick;

	timer_init(&tick, on_tick);
	home.reserve = 4;
	home.pool = 1;
	is_full = false;
	watch();
	watched.fill = limited_fill;
	home_open(&home);
	timer_set(home.loop, &tick, 5);
	do {
		loop_pass(home.loop);
		commit_space(home.commit, &s);
	} while (s.spares < 1);
	assert_int_equal(s.reserve, 4);
	assert_int_equal(s.reserve_wanted, 4);
	assert_int_equal(commit_room(home.commit), ROOM_PLENTY);
	is_full = true;
	put_until(ROOM_NO_MAIL);
	assert_int_equal(commit_trouble(home.commit), -ENOSPC);
	commit_space(home.commit, &s);
	assert_int_equal(s.reserve, 3);
	put_until(ROOM_NO_DISPATCH); /* outcomes go on meanwhile */
	commit_space(home.commit, &s);
	assert_in_range(s.reserve, 1, 2); /* the last may be on its way */
	while (home_add(&home, REC_ACT, 1, 1, 2000, 0)) /* what is in flight, to the last byte */
		for (int i = 0; i < 10; i++)
			loop_pass(home.loop);
	commit_space(home.commit, &s);
	assert_int_equal(s.reserve, 1);
	assert_int_equal(commit_room(home.commit), ROOM_NO_DISPATCH);
	is_full = false;
	while (commit_room(home.commit) != ROOM_PLENTY)
		loop_pass(home.loop);
	home_settle(&home);
	assert_int_equal(commit_trouble(home.commit), 0);
	timer_stop(home.loop, &tick);
}

static int run(enum loop_kind k)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(answers_come_after_the_write_and_in_order,
						begin, end),
		cmocka_unit_test_setup_teardown(cancelled_waiter_is_not_called, begin, end),
		cmocka_unit_test_setup_teardown(full_batch_says_so_and_room_follows, begin,
						end),
		cmocka_unit_test_setup_teardown(segments_follow_each_other, begin, end),
		cmocka_unit_test_setup_teardown(quiet_writes_one_mark_after_acked_mail_only,
						begin, end),
		cmocka_unit_test_setup_teardown(other_segment_size_is_refused, begin, end),
		cmocka_unit_test_setup_teardown(
			every_start_takes_a_new_number_and_leaves_nothing_behind, begin, end),
		cmocka_unit_test_setup_teardown(every_head_has_a_copy_in_the_last_block, begin,
						end),
		cmocka_unit_test_setup_teardown(the_copy_is_durable_before_the_head, begin,
						end),
		cmocka_unit_test_setup_teardown(edits_hold_with_the_next_head, begin, end),
		cmocka_unit_test_setup_teardown(
			an_edit_while_a_head_is_written_waits_for_the_next, begin, end),
		cmocka_unit_test_setup_teardown(what_is_in_flight_stays_where_a_segment_ends_early, begin, end),
		cmocka_unit_test_setup_teardown(edits_outlive_a_restart, begin, end),
		cmocka_unit_test_setup_teardown(a_long_manifest_takes_edits_at_its_ends, begin,
						end),
		cmocka_unit_test_setup_teardown(what_no_head_names_goes_at_the_next_start,
						begin, end),
		cmocka_unit_test_setup_teardown(a_damaged_one_is_kept_though_its_run_ended_early,
						begin, end),
		cmocka_unit_test_setup_teardown(a_file_that_cant_be_removed_stops_no_start,
						begin, end),
		cmocka_unit_test_setup_teardown(a_missing_segment_is_known_as_lost, begin, end),
		cmocka_unit_test_setup_teardown(while_one_is_lost_nothing_that_was_found_goes, begin,
						end),
		cmocka_unit_test_setup_teardown(
			given_up_files_are_used_again_but_not_a_dead_ones_last, begin, end),
		cmocka_unit_test_setup_teardown(compaction_gets_a_file, begin, end),
		cmocka_unit_test_setup_teardown(
			a_full_disk_refuses_mail_first_then_deliveries_and_recovers, begin,
			end),
	};

	kind = k;
	return cmocka_run_group_tests(tests, NULL, NULL);
}

int main(void)
{
	return run(LOOP_AUTO) + run(LOOP_EPOLL);
}
