/* Salvage against a model: a journal of many small segments, damaged at random, must give back exactly the
 * messages none of whose records was touched, the same bytes, and never one that is known to be over. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "core/clock.h"
#include "core/log.h"
#include "core/pool.h"
#include "core/table.h"
#include "mail/envelope.h"
#include "tools/journal_writer.h"
#include "tools/quire.h"
#include "tools/quire_journal.h"
#include "tools/salvage_mail.h"

#include <dirent.h>
#include <getopt.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SEGMENT  (64 * 1024)
#define MAILS    700
#define ROUNDS   25
#define SEGMENTS 1024
#define RECORDS  (MAILS * 8)

/* Of the program's own file, which has main(). */
const char *quire_home(const char *option)
{
	return option;
}

int quire_say(int code, const char *verb, const char *fmt, ...)
{
	return code;
}

long quire_running(const char *home)
{
	return 0;
}

/* ---- the journal, and where everything in it lies */

struct found { uint64_t id, pos, size, hash; uint32_t number; uint8_t type; };
static struct {
	char         dir[64], copy[80], into[80];
	struct found v[RECORDS];
	size_t       n;
	uint64_t     over[MAILS], ids[MAILS];
	uint32_t     seed;
	bool         bad[SEGMENTS][SEGMENT / BLOCK_SIZE];
} j;

static uint32_t dice(uint32_t n)
{
	j.seed = j.seed * 1664525 + 1013904223;
	return (uint32_t)((uint64_t)(j.seed >> 8) * n >> 24);
}

static bool open_writer(struct journal_writer *w, const char *dir)
{
	struct journal_writer_options o = {.segment_size = SEGMENT, .zstd_level = 1};
	struct buf                    why;
	int                           code;

	buf_init(&why, 512);
	code = writer_open(w, open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), &o, &why);
	if (code)
		print_message("%.*s\n", SPAN_ARG(buf_span(&why)));
	buf_free(&why);
	return code == 0;
}

static struct span random_bytes(size_t n)
{
	static char p[BODY_PART_MAX];

	for (size_t i = 0; i < n; i++)
		p[i] = (char)dice(256);
	return span_of(p, n);
}

static void write_one(struct journal_writer *w, unsigned i)
{
	struct writer_message m;
	struct msg_range      all = {0, 0};
	struct rec_state      s = {.at_us = 1, .attempt = 1, .outcome = OUTCOME_DELIVERED};
	struct buf            packed;

	j.ids[i] = writer_new_id(w);
	writer_message_init(&m, j.ids[i]);
	m.msg.arrival_us = 1000000ull * (i + 1);
	assert_true(writer_body(w, &m, random_bytes(1 + dice(i % 16 ? 6000 : 20000))));
	buf_init(&packed, RCPT_PART_MAX);
	for (unsigned k = 0; k <= i % 5; k++, all.last = k - 1)
		assert_true(packed_add(&packed, SPAN("somebody@example.org")));
	assert_true(writer_rcpts(w, &m, buf_span(&packed), i % 5 + 1, 0));
	assert_true(writer_msg(w, &m, SPAN("sender@example.org"), SPAN_NONE, SPAN_NONE));
	j.over[i] = i % 3 == 0;
	if (i % 3 == 1)
		s.outcome = OUTCOME_DEFERRED;
	if (i % 3 < 2)
		assert_true(writer_state(w, m.id, &s, span_of(&all, sizeof(all)), SPAN("text")));
	if (i % 7 == 0)
		assert_true(writer_sync(w));
	buf_free(&packed);
	writer_message_fini(&m);
}

static size_t read_records(const char *dir, struct found *v, size_t max)
{
	struct disk     *d = disk_real_new(NULL, open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	struct reader   *r = reader_new(d, NULL, SEGMENT, 0);
	struct record    rec;
	struct buf       why;
	enum read_result got;
	size_t           n = 0;

	buf_init(&why, 512);
	assert_int_equal(reader_open(r, &why), 0);
	while ((got = reader_next(r, BODIES_WHOLE, &rec)) == READ_OK) {
		if (!rec.head.id)
			continue;
		assert_true(n < max);
		v[n++] = (struct found){rec.head.id, rec.pos, rec.body.n, hash64(rec.body.p, rec.body.n),
					rec.head.number, rec.head.type};
	}
	assert_int_equal(got, READ_END);
	reader_free(r);
	disk_real_free(d);
	buf_free(&why);
	return n;
}

static void remove_dir(const char *dir)
{
	DIR           *d = opendir(dir);
	struct dirent *e;

	while (d && (e = readdir(d)))
		if (e->d_name[0] != '.')
			unlinkat(dirfd(d), e->d_name, 0);
	if (d)
		closedir(d);
	rmdir(dir);
}

static void drop_line(void *ctx, struct span line)
{
}

static void make_dirs(void)
{
	clock_refresh();
	j.seed = 7;
	memset(j.ids, 0, sizeof(j.ids));
	snprintf(j.dir, sizeof(j.dir), "/tmp/quire-salvage-XXXXXX");
	assert_non_null(mkdtemp(j.dir));
	snprintf(j.copy, sizeof(j.copy), "%s.copy", j.dir);
	snprintf(j.into, sizeof(j.into), "%s.into", j.dir);
}

static int make_journal(void **state)
{
	struct journal_writer w;

	log_capture(drop_line, NULL);
	make_dirs();
	for (unsigned part = 0; part < 2; part++) {   /* two runs: an end without a seal */
		assert_true(open_writer(&w, j.dir));
		for (unsigned i = part * MAILS / 2; i < (part + 1) * MAILS / 2; i++)
			write_one(&w, i);
		assert_int_equal(writer_close(&w), 0);
	}
	j.n = read_records(j.dir, j.v, RECORDS);
	return 0;
}

static int remove_journal(void **state)
{
	remove_dir(j.dir);
	remove_dir(j.copy);
	remove_dir(j.into);
	log_capture(NULL, NULL);
	return 0;
}

/* ---- damage */

static void copy_journal(void)
{
	DIR           *d = opendir(j.dir);
	struct dirent *e;
	static char    bytes[SEGMENT];
	char           path[512];

	remove_dir(j.copy);
	remove_dir(j.into);
	memset(j.bad, 0, sizeof(j.bad));
	assert_int_equal(mkdir(j.copy, 0700), 0);
	while ((e = readdir(d))) {
		int from, to;

		if (strncmp(e->d_name, "seg-", 4) != 0)
			continue;
		from = openat(dirfd(d), e->d_name, O_RDONLY);
		snprintf(path, sizeof(path), "%s/%s", j.copy, e->d_name);
		to = open(path, O_WRONLY | O_CREAT, 0600);
		assert_int_equal(read(from, bytes, SEGMENT), SEGMENT);
		assert_int_equal(write(to, bytes, SEGMENT), SEGMENT);
		close(from);
		close(to);
	}
	closedir(d);
}

static uint64_t newest(void)
{
	uint64_t n = 0;

	for (size_t i = 0; i < j.n; i++)
		if (j.v[i].pos / SEGMENT > n)
			n = j.v[i].pos / SEGMENT;
	return n;
}

/* A whole block, of another segment: stale. */
static void read_foreign(uint64_t number, char *bytes)
{
	char path[512];
	int  fd;

	snprintf(path, sizeof(path), "%s/seg-%016llx", j.dir, (unsigned long long)(number > 1 ? 1 : 2));
	fd = open(path, O_RDONLY);
	assert_int_equal(pread(fd, bytes, BLOCK_SIZE, BLOCK_SIZE * (1 + dice(12))), BLOCK_SIZE);
	close(fd);
}

static void spoil_block(uint64_t number, unsigned block)
{
	char path[512], bytes[BLOCK_SIZE];
	int  fd;

	snprintf(path, sizeof(path), "%s/seg-%016llx", j.copy, (unsigned long long)number);
	fd = open(path, O_RDWR);
	if (fd < 0)
		return;                           /* it is no file, or removed already */
	if (pread(fd, bytes, BLOCK_SIZE, block * BLOCK_SIZE) == BLOCK_SIZE) {
		switch (dice(3)) {
		case 0: bytes[dice(BLOCK_SIZE)] ^= (char)(1u << dice(8)); break;
		case 1: memset(bytes, 0, BLOCK_SIZE); break;
		case 2: read_foreign(number, bytes); break;
		}
		assert_int_equal(pwrite(fd, bytes, BLOCK_SIZE, block * BLOCK_SIZE), BLOCK_SIZE);
		j.bad[number][block] = true;
	}
	close(fd);
}

static void spoil_file(uint64_t number, unsigned blocks)
{
	char path[512];

	snprintf(path, sizeof(path), "%s/seg-%016llx", j.copy, (unsigned long long)number);
	assert_true(blocks > 0 ? truncate(path, blocks * BLOCK_SIZE) == 0 : unlink(path) == 0);
	for (unsigned b = blocks; b < SEGMENT / BLOCK_SIZE; b++)
		j.bad[number][b] = true;
}

static uint64_t some_segment(void)
{
	return j.v[dice((uint32_t)j.n)].pos / SEGMENT;
}

static void spoil(unsigned round)
{
	for (unsigned k = dice(30); k > 0; k--)
		spoil_block(some_segment(), dice(SEGMENT / BLOCK_SIZE));
	if (round % 4 == 1)
		spoil_file(some_segment(), 0);
	if (round % 4 == 2)
		spoil_file(some_segment(), 1 + dice(14));
	if (round % 5 == 3) {                     /* a head and its copy, perhaps the newest */
		uint64_t number = dice(2) ? newest() : some_segment();

		spoil_block(number, 0);
		spoil_block(number, SEGMENT / BLOCK_SIZE - 1);
	}
}

/* ---- what must come out */

/* Where its first and its last byte lie, in blocks of its segment. */
static bool is_whole(const struct found *f)
{
	uint64_t number = f->pos / SEGMENT, in = f->pos % SEGMENT;
	uint64_t first = in / BLOCK_SIZE, last = first + (in % BLOCK_SIZE + sizeof(struct rec_head) + f->size - 1) / BLOCK_DATA;

	for (uint64_t b = first; b <= last; b++)
		if (j.bad[number][b])
			return false;
	return true;
}

static bool parts_are_whole(uint64_t id, bool *ret_state_whole)
{
	bool whole = true;

	*ret_state_whole = false;
	for (size_t i = 0; i < j.n; i++) {
		if (j.v[i].id != id)
			continue;
		if (j.v[i].type == REC_STATE)
			*ret_state_whole = is_whole(&j.v[i]);
		else
			whole = whole && is_whole(&j.v[i]);
	}
	return whole;
}

static int run_salvage(void)
{
	char *argv[] = {(char *)"journal salvage", (char *)"--dir", j.copy, (char *)"--into", j.into,
			(char *)"--json", (char *)"--quiet", NULL};
	int   out = dup(1), err = dup(2), null = open("/dev/null", O_WRONLY), code;

	fflush(stdout);
	dup2(null, 1);
	dup2(null, 2);
	optind = 0;
	code = journal_salvage(7, argv);
	fflush(stdout);
	dup2(out, 1);
	dup2(err, 2);
	close(out);
	close(err);
	close(null);
	return code;
}

struct saved { struct found v[RECORDS]; size_t n; };

/* 2: its MSG and all records of it that were there before, the same bytes. */
static unsigned copies(const struct saved *s, const struct found *f)
{
	unsigned n = 0;

	for (size_t i = 0; i < s->n; i++)
		if (s->v[i].id == f->id && s->v[i].type == f->type && s->v[i].number == f->number) {
			n++;
			if (f->type != REC_MSG)
				assert_true(s->v[i].hash == f->hash && s->v[i].size == f->size);
		}
	return n;
}

static const struct found *record_of(uint64_t id, uint8_t type)
{
	for (size_t i = 0; i < j.n; i++)
		if (j.v[i].id == id && j.v[i].type == type)
			return &j.v[i];
	return NULL;
}

static void exactly_what_was_not_touched_comes_back(void **state)
{
	static struct saved s;
	unsigned lost = 0, kept = 0, twice = 0, damaged_rounds = 0;

	for (unsigned round = 0; round < ROUNDS; round++) {
		unsigned lost_now = 0;
		int      code;

		copy_journal();
		if (round > 0)
			spoil(round);
		code = run_salvage();
		assert_true(code == EXIT_FINE || code == EXIT_DAMAGE);
		s.n = read_records(j.into, s.v, RECORDS);
		for (unsigned i = 0; i < MAILS; i++) {
			bool     state_whole, whole = parts_are_whole(j.ids[i], &state_whole);
			unsigned n = copies(&s, record_of(j.ids[i], REC_MSG));

			assert_true(n <= 1);
			if (!whole || (j.over[i] && state_whole))
				assert_int_equal(n, 0);
			else if (!j.over[i])
				assert_int_equal(n, 1);
			if (n == 1) {
				assert_int_equal(copies(&s, record_of(j.ids[i], REC_BODY)), 1);
				assert_int_equal(copies(&s, record_of(j.ids[i], REC_RCPT)), 1);
				if (i % 3 == 1 && state_whole)
					assert_int_equal(copies(&s, record_of(j.ids[i], REC_STATE)), 1);
			}
			kept += n;
			twice += n && j.over[i];
			lost_now += !whole && !j.over[i];
		}
		if (lost_now > 0)
			assert_int_equal(code, EXIT_DAMAGE);
		if (round == 0)
			assert_int_equal(code, EXIT_FINE);
		lost += lost_now;
		damaged_rounds += lost_now > 0;
	}
	print_message("%u saved, %u lost in %u of %u damaged journals, %u over and saved for want of their outcome\n",
		      kept, lost, damaged_rounds, ROUNDS - 1, twice);
	assert_true(lost > 0 && twice > 0 && damaged_rounds > ROUNDS / 2);
}

/* ---- what the newest head does not name */

static void put_some(struct journal_writer *w, unsigned from, unsigned n)
{
	for (unsigned i = from; i < from + n; i++)
		write_one(w, i);
	assert_true(writer_sync(w));
}

static void put_and_switch(struct journal_writer *w, unsigned i)
{
	uint64_t number = commit_number(w->commit);

	commit_switch(w->commit);
	put_some(w, i, 1);
	while (commit_number(w->commit) == number)
		loop_pass(w->loop);
}

static unsigned count_saved(unsigned from, unsigned n)
{
	static struct saved s;
	unsigned            found = 0;

	remove_dir(j.into);
	(void)run_salvage();
	s.n = read_records(j.into, s.v, RECORDS);
	for (size_t i = 0; i < s.n; i++)
		for (unsigned k = from; k < from + n; k++)
			found += s.v[i].type == REC_MSG && s.v[i].id == j.ids[k];
	return found;
}

/* A segment that was given up stays on the disk until its file is used again: its mail is over, and only the
 * newest head, or its copy, knows. */
static void what_was_given_up_does_not_come_back(void **state)
{
	struct journal_writer w;
	uint64_t              given_up;

	log_capture(drop_line, NULL);
	make_dirs();
	assert_true(open_writer(&w, j.dir));
	put_some(&w, 1, 1);                       /* i % 3 == 1: not over */
	given_up = commit_number(w.commit);
	put_and_switch(&w, 4);                    /* in the batch that seals it */
	commit_drop(w.commit, given_up);
	put_and_switch(&w, 7);
	put_some(&w, 10, 1);
	assert_int_equal(writer_close(&w), 0);
	j.n = read_records(j.dir, j.v, RECORDS);
	copy_journal();
	assert_int_equal(count_saved(1, 4), 0);
	assert_int_equal(count_saved(7, 4), 2);
	spoil_block(newest(), 0);
	assert_int_equal(count_saved(1, 4), 0);
	assert_int_equal(count_saved(7, 4), 2);
	spoil_block(newest(), SEGMENT / BLOCK_SIZE - 1);
	assert_int_equal(count_saved(7, 4), 2); /* older heads can't know better: it comes again */
	assert_int_equal(count_saved(1, 4), 2);
	remove_journal(state);
}

/* ---- bounces */

static void add_record(struct salvage_mails *s, enum rec_type type, uint64_t id, const struct span *pieces, int n)
{
	struct record r = {.head = {.type = (uint8_t)type, .id = id}};
	struct buf    b;

	buf_init(&b, REC_MAX);
	for (int i = 0; i < n; i++)
		assert_true(buf_add(&b, pieces[i]));
	r.body = buf_span(&b);
	rec_seal_head(&r.head, &r.body, 1);
	assert_true(rec_ok(&r.head, r.body));
	salvage_mails_take(s, 0, 0, &r);
	buf_free(&b);
}

static void add_msg(struct salvage_mails *s, uint64_t id, uint64_t parent, uint32_t body_parts)
{
	struct msg_range settles = {0, 0};
	struct rec_msg   m = {.parent = parent, .body_parts = body_parts, .rcpts = 1, .settles_n = parent > 0};
	uint64_t         pos = 0;
	struct span      p[3] = {span_of(&m, sizeof(m)), span_of(&pos, body_parts * sizeof(pos)),
				 span_of(&settles, m.settles_n * sizeof(settles))};

	add_record(s, REC_MSG, id, p, 3);
}

static void add_state(struct salvage_mails *s, uint64_t id, enum outcome o)
{
	struct msg_range r = {0, 0};
	struct rec_state st = {.ranges_n = 1, .outcome = (uint8_t)o};
	struct span      p[2] = {span_of(&st, sizeof(st)), span_of(&r, sizeof(r))};

	add_record(s, REC_STATE, id, p, 2);
}

static enum salvaged judged(struct salvage_mails *s, uint64_t id)
{
	return ((struct salvage_mail *)map_get(&s->by_id, id))->what;
}

/* The failed message, its bounce, and the bounce of the bounce. */
static void a_failure_is_settled_only_by_a_bounce_that_is_there(void **state)
{
	for (unsigned cut = 0; cut < 2; cut++) {
		struct salvage_mails s;

		salvage_mails_init(&s);
		add_msg(&s, 64, 0, 0);
		add_state(&s, 64, OUTCOME_FAILED);
		add_msg(&s, 128, 64, cut);            /* cut: it has a part that is nowhere */
		salvage_mails_judge(&s);
		assert_int_equal(judged(&s, 128), cut ? SALVAGED_CUT : SALVAGED_WHOLE);
		assert_int_equal(judged(&s, 64), cut ? SALVAGED_WHOLE : SALVAGED_OVER);
		salvage_mails_fini(&s);
	}
}

static void what_a_bounce_that_is_over_settled_stays_settled(void **state)
{
	struct salvage_mails s;
	struct salvage_mail *m;

	salvage_mails_init(&s);
	add_msg(&s, 64, 0, 0);
	add_state(&s, 64, OUTCOME_FAILED);
	add_msg(&s, 128, 64, 1);
	add_state(&s, 128, OUTCOME_DELIVERED);
	salvage_mails_judge(&s);
	m = map_get(&s.by_id, 64);
	assert_int_equal(m->what, SALVAGED_OVER);
	assert_int_equal(m->settled.n, sizeof(struct msg_range));
	salvage_mails_fini(&s);
}

static void a_bounce_of_a_lost_bounce_settles_it(void **state)
{
	struct salvage_mails s;

	salvage_mails_init(&s);
	add_msg(&s, 64, 0, 0);
	add_state(&s, 64, OUTCOME_FAILED);
	add_msg(&s, 128, 64, 1);                      /* its body is lost, but it failed and was reported */
	add_state(&s, 128, OUTCOME_FAILED);
	add_msg(&s, 192, 128, 0);
	salvage_mails_judge(&s);
	assert_int_equal(judged(&s, 192), SALVAGED_WHOLE);
	assert_int_equal(judged(&s, 128), SALVAGED_OVER);
	assert_int_equal(judged(&s, 64), SALVAGED_OVER);
	salvage_mails_fini(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(exactly_what_was_not_touched_comes_back, make_journal, remove_journal),
		cmocka_unit_test(what_was_given_up_does_not_come_back),
		cmocka_unit_test(a_failure_is_settled_only_by_a_bounce_that_is_there),
		cmocka_unit_test(what_a_bounce_that_is_over_settled_stays_settled),
		cmocka_unit_test(a_bounce_of_a_lost_bounce_settles_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
