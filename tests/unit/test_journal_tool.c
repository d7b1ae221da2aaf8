/* What the verbs of quire journal share: words, times, the line of progress; and what verify concludes from records. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "core/clock.h"
#include "core/pool.h"
#include "journal/segments.h"
#include "tools/journal_facts.h"
#include "tools/quire_journal.h"

#include <pty.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- words ---- */

static void expect_text(void (*print)(FILE *, struct span), struct span in, const char *want)
{
	char *text = NULL;
	size_t n = 0;
	FILE *f = open_memstream(&text, &n);

	assert_non_null(f);
	print(f, in);
	fclose(f);
	assert_string_equal(text, want);
	free(text);
}

static void json_loses_nothing(void **state)
{
	expect_text(print_json, SPAN("a\"b\\c\n\x7f"), "\"a\\\"b\\\\c\\u000a\\u007f\"");
	expect_text(print_json, SPAN("j\xc3\xb6rg"), "\"j\xc3\xb6rg\"");
	expect_text(print_json, SPAN("j\xf6rg\xc3"), "\"j\\udcf6rg\\udcc3\"");
	expect_text(print_json, SPAN("\xed\xa0\x80"), "\"\\udced\\udca0\\udc80\""); /* a surrogate is not UTF-8 */
	expect_text(print_json, SPAN_NONE, "\"\"");
}

static void a_terminal_obeys_nothing(void **state)
{
	expect_text(print_plain, SPAN("a\x1b[2J\\\xf6"), "a\\x1b[2J\\x5c\\xf6");
}

static void base64_of_all_lengths(void **state)
{
	expect_text(print_base64, SPAN_NONE, "");
	expect_text(print_base64, SPAN("f"), "Zg==");
	expect_text(print_base64, SPAN("fo"), "Zm8=");
	expect_text(print_base64, SPAN("foo"), "Zm9v");
	expect_text(print_base64, SPAN("\xff\xfe\xfd\xfc"), "//79/A==");
}

static void times_are_understood(void **state)
{
	static const struct { const char *text; uint64_t seconds; } fine[] = {
		{"1970-01-02", 86400},
		{"2026-01-31 23:59", 1769903940},
		{"2026-01-31T23:59:58Z", 1769903998},
		{"1769903940", 1769903940},
	};
	static const char *const wrong[] = {"", "soon", "2h3", "h", "-1", "2026-13-01", "2026-01-31 23:59x", "99999999999999999999"};
	char when[WHEN_MAX];
	uint64_t us, now;

	for (size_t i = 0; i < ARRAY_N(fine); i++) {
		assert_true(when_parse(fine[i].text, &us));
		assert_int_equal(us, fine[i].seconds * 1000000);
	}
	for (size_t i = 0; i < ARRAY_N(wrong); i++)
		assert_false(when_parse(wrong[i], &us));
	clock_refresh();
	now = clock_wall_us();
	assert_true(when_parse("2h", &us));
	assert_true(us + 7200ull * 1000000 >= now && us + 7201ull * 1000000 < now + 60ull * 1000000);
	assert_true(when_parse("9999w", &us)); /* longer ago than there was time */
	assert_int_equal(us, 0);
	assert_string_equal(when_text(when, 1769903998000007), "2026-01-31 23:59:58.000007");
	assert_string_equal(when_text(when, UINT64_MAX), "@18446744073709551615");
}

/* ---- progress ---- */

static void progress_needs_a_terminal(void **state)
{
	struct journal_tool t = {.verb = "journal verify"};
	int master, slave, saved = dup(STDERR_FILENO);
	char seen[4096];
	struct progress p;
	ssize_t n;

	assert_int_equal(openpty(&master, &slave, NULL, NULL, NULL), 0);
	dup2(slave, STDERR_FILENO);
	progress_begin(&p, &t, "verifying", 100u << 20);
	usleep(150000);
	progress_at(&p, 25u << 20);
	progress_end(&p);
	t.quiet = true;
	progress_begin(&p, &t, "quiet", 100);
	usleep(150000);
	progress_at(&p, 1u << 20);
	progress_end(&p);
	dup2(saved, STDERR_FILENO);
	close(saved);
	n = read(master, seen, sizeof seen - 1);
	assert_true(n > 0);
	seen[n] = '\0';
	assert_non_null(strstr(seen, "verifying: [#####...............]  25 %, 25.0 MiB, "));
	assert_non_null(strstr(seen, "MiB/s, 0 s left"));
	assert_null(strstr(seen, "quiet"));
	close(master);
	close(slave);
}

/* ---- facts ---- */

#define SEGMENT (64u * 1024)
#define ID(seq) id_make(1, seq, 0)

struct seen { char text[16][128]; unsigned n; };

static void on_fact(void *ctx, uint64_t id, const char *of, uint64_t pos, const char *what)
{
	struct seen *s = ctx;

	assert_true(s->n < ARRAY_N(s->text));
	snprintf(s->text[s->n++], sizeof s->text[0], "%u %s: %s", (unsigned)(id >> ID_SHARD_BITS & 0xffff), of, what);
}

static void add_body(struct facts *f, uint64_t id, uint32_t number, uint64_t pos, uint32_t raw_n)
{
	struct rec_body b = {.raw_n = raw_n, .raw_hash = id + number};
	struct rec_head h = {.type = REC_BODY, .id = id, .number = number};

	facts_record(f, pos, &h, span_of(&b, sizeof b), true);
}

static void add_rcpt(struct facts *f, uint64_t id, uint32_t number, uint64_t pos, uint32_t first, uint32_t count)
{
	struct rec_rcpt r = {first, count};
	struct rec_head h = {.type = REC_RCPT, .id = id, .number = number};

	facts_record(f, pos, &h, span_of(&r, sizeof r), true);
}

/* One body part at `at` - 200, recipient parts (at most two) from `at` - 100 on. */
static void add_msg(struct facts *f, uint64_t id, uint64_t at, uint64_t size, uint32_t rcpt_parts, uint32_t rcpts, bool queue)
{
	struct { struct rec_msg m; uint64_t positions[3]; } b = {
		.m = {.size = size, .body_parts = 1, .rcpt_parts = rcpt_parts, .rcpts = rcpts},
		.positions = {at - 200, at - 100, at - 50}};
	struct rec_head h = {.type = REC_MSG, .id = id};

	facts_record(f, at, &h, span_of(&b, sizeof b.m + 8 * (1 + rcpt_parts)), queue);
}

static void add_state(struct facts *f, uint64_t id, uint64_t pos, enum outcome o, uint32_t first, uint32_t last)
{
	struct { struct rec_state s; struct msg_range r; } b = {
		.s = {.ranges_n = 1, .outcome = (uint8_t)o}, .r = {first, last}};
	struct rec_head h = {.type = REC_STATE, .id = id};

	facts_record(f, pos, &h, span_of(&b, sizeof b), true);
}

static void add_whole(struct facts *f, uint64_t id, uint64_t at)
{
	add_body(f, id, 0, at - 200, 10);
	add_rcpt(f, id, 0, at - 100, 0, 2);
	add_msg(f, id, at, 10, 1, 2, true);
}

static void expect_facts(struct facts *f, const char *want)
{
	struct seen s = {.n = 0};

	facts_judge(f, on_fact, &s);
	if (!want) {
		assert_int_equal(s.n, 0);
	} else {
		assert_int_equal(s.n, 1);
		assert_string_equal(s.text[0], want);
	}
}

static void what_is_whole_is_fine(void **state)
{
	struct facts f;

	facts_init(&f, SEGMENT);
	add_whole(&f, ID(1), SEGMENT + 1000);
	add_whole(&f, ID(2), SEGMENT + 2000);
	add_state(&f, ID(2), SEGMENT + 2100, OUTCOME_DELIVERED, 0, 1);
	add_state(&f, ID(1), SEGMENT + 2200, OUTCOME_DEFERRED, 1, 1);
	add_body(&f, ID(3), 0, SEGMENT + 3000, 5); /* not finished */
	add_state(&f, ID(9), SEGMENT + 3100, OUTCOME_DEFERRED, 0, 7); /* its segment was given up */
	add_msg(&f, ID(4), SEGMENT + 5000, 10, 1, 2, false); /* history whose parts are gone */
	expect_facts(&f, NULL);
	assert_int_equal(f.messages, 3);
	assert_int_equal(f.queued, 1);
	assert_int_equal(f.uncommitted, 1);
	assert_int_equal(f.stale_hints, 0);
	facts_fini(&f);
}

typedef void lie(struct facts *f);
static void no_body(struct facts *f) { add_rcpt(f, ID(1), 0, 900, 0, 2); add_msg(f, ID(1), 1000, 10, 1, 2, true); }
static void no_rcpts(struct facts *f) { add_body(f, ID(1), 0, 800, 10); add_msg(f, ID(1), 1000, 10, 1, 2, true); }
static void other_size(struct facts *f)
{
	add_body(f, ID(1), 0, 800, 11);
	add_rcpt(f, ID(1), 0, 900, 0, 2);
	add_msg(f, ID(1), 1000, 10, 1, 2, true);
}
static void other_count(struct facts *f)
{
	add_body(f, ID(1), 0, 800, 10);
	add_rcpt(f, ID(1), 0, 900, 0, 3);
	add_msg(f, ID(1), 1000, 10, 1, 2, true);
}
static void twice_a_number(struct facts *f)
{
	add_body(f, ID(1), 0, 800, 10);
	add_rcpt(f, ID(1), 0, 900, 0, 2);
	add_rcpt(f, ID(1), 1, 950, 1, 2);
	add_msg(f, ID(1), 1000, 10, 2, 4, true);
}
static void nobodys_outcome(struct facts *f) { add_whole(f, ID(1), 1000); add_state(f, ID(1), 1100, OUTCOME_DEFERRED, 1, 2); }
static void two_of_an_id(struct facts *f)
{
	add_whole(f, ID(1), 1000);
	add_msg(f, ID(1), 2000, 11, 1, 2, true);
	add_body(f, ID(1), 0, 1800, 10);
	add_rcpt(f, ID(1), 0, 1900, 0, 2);
	add_state(f, ID(1), 2100, OUTCOME_DELIVERED, 0, 1);
}
static void copies_differ(struct facts *f) { add_whole(f, ID(1), 1000); add_rcpt(f, ID(1), 0, 3000, 0, 3); }
static void msg_lost(struct facts *f) { add_body(f, ID(1), 0, 800, 10); facts_lost(f, 900, 1000); }
static void all_lost(struct facts *f)
{
	add_whole(f, ID(1), 1000);
	add_whole(f, ID(3), 3000);
	facts_lost(f, 1500, 2500);
	add_state(f, ID(2), 4000, OUTCOME_DELIVERED, 0, 0);
	add_state(f, ID(40000), 4100, OUTCOME_DELIVERED, 0, 0); /* of another time */
}
static void body_of_done_lost(struct facts *f)
{
	add_rcpt(f, ID(1), 0, 900, 0, 2);
	add_msg(f, ID(1), 1000, 10, 1, 2, true);
	add_state(f, ID(1), 1100, OUTCOME_DROPPED, 0, 1);
	facts_lost(f, 700, 850);
}

static void what_can_not_be_is_named(void **state)
{
	static const struct { lie *tell; const char *want; } lies[] = {
		{no_body, "1 queued: a part of its body is missing or damaged"},
		{no_rcpts, "1 queued: some of its recipients are missing or damaged"},
		{other_size, "1 queued: its body has another size than its MSG says"},
		{other_count, "1 queued: it has another number of recipients than its MSG says"},
		{twice_a_number, "1 queued: a recipient's number is given twice, or numbers do not grow"},
		{nobodys_outcome, "1 queued: an outcome of a recipient that is not there"},
		{copies_differ, "1 queued: two copies of a part say different things"},
		{msg_lost, "1 uncommitted: its parts are there, its MSG is not: it may have been in what is damaged"},
		{all_lost, "2 lost: its outcomes are there, it is not: it may have been in what is damaged"},
		{body_of_done_lost, "1 done: a part of its body is missing or damaged"},
	};

	for (size_t i = 0; i < ARRAY_N(lies); i++) {
		struct facts f;

		facts_init(&f, SEGMENT);
		lies[i].tell(&f);
		expect_facts(&f, lies[i].want);
		facts_fini(&f);
	}
}

static void two_messages_of_one_id_are_named(void **state)
{
	struct seen s = {.n = 0};
	struct facts f;

	facts_init(&f, SEGMENT);
	two_of_an_id(&f);
	facts_judge(&f, on_fact, &s);
	assert_true(s.n >= 1);
	assert_string_equal(s.text[0], "1 queued: two messages have this id, or two copies of it differ");
	facts_fini(&f);
}

/* The hints of a copy that was left behind lead nowhere: no damage while the part is anywhere. */
static void a_stale_hint_is_no_damage(void **state)
{
	struct facts f;

	facts_init(&f, SEGMENT);
	add_body(&f, ID(1), 0, 5000, 10);
	add_rcpt(&f, ID(1), 0, 900, 0, 2);
	add_msg(&f, ID(1), 1000, 10, 1, 2, true);
	expect_facts(&f, NULL);
	assert_int_equal(f.stale_hints, 1);
	facts_fini(&f);
}

/* ---- the journal's head ---- */


static void a_head_whose_copy_alone_is_good_is_found(void **state)
{
	static char file[SEGMENT] __attribute__((aligned(8)));
	char dir[] = "/tmp/quire-tool-XXXXXX", path[64];
	struct segment_head h = {.number = 1, .segment_size = SEGMENT, .epoch = 1, .first_seq = 1, .oldest = 1, .shard = 3};
	struct journal_tool t = {.verb = "test", .dir = dir};
	FILE *f;

	memcpy(h.uuid, "0123456789abcdef", sizeof h.uuid);
	segment_head_put(file + SEGMENT - BLOCK_SIZE, &h, NULL, true);
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof path, "%s/seg-0000000000000001", dir);
	f = fopen(path, "w");
	assert_int_equal(fwrite(file, SEGMENT, 1, f), 1);
	fclose(f);
	assert_int_equal(journal_tool_look(&t), 0);
	assert_int_equal(t.segment_size, SEGMENT);
	assert_int_equal(t.shard, 3);
	assert_memory_equal(t.uuid, h.uuid, sizeof h.uuid);
	disk_real_free(t.disk);
	unlink(path);
	rmdir(dir);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(json_loses_nothing),
		cmocka_unit_test(a_terminal_obeys_nothing),
		cmocka_unit_test(base64_of_all_lengths),
		cmocka_unit_test(times_are_understood),
		cmocka_unit_test(progress_needs_a_terminal),
		cmocka_unit_test(what_is_whole_is_fine),
		cmocka_unit_test(what_can_not_be_is_named),
		cmocka_unit_test(two_messages_of_one_id_are_named),
		cmocka_unit_test(a_stale_hint_is_no_damage),
		cmocka_unit_test(a_head_whose_copy_alone_is_good_is_found),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
