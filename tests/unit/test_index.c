#include "journal_home.h"

#include "journal/index.h"

#define MAILS 120

struct line {
	uint64_t pos, id, hash;
	uint32_t n, number;
	uint8_t type;
};
struct lines {
	struct line v[8000];
	unsigned n, damaged, rotten;
};
static struct lines with, without;

static void put(struct home *h, enum rec_type type, uint64_t id, const void *a, size_t a_n, size_t b_n)
{
	static char bytes[BODY_PART_MAX];
	struct rec_head head = {.type = (uint8_t)type, .id = id};
	struct span pieces[2] = {span_of(a, a_n), span_of(bytes, b_n)};

	memset(bytes, (int)id, b_n);
	while (!commit_add(h->commit, &head, pieces, 2, 0))
		loop_pass(h->loop);
}

static void fill(struct home *h)
{
	home_open(h);
	for (uint64_t id = 1; id <= MAILS; id++) {
		struct rec_body body = {.raw_n = (uint32_t)(id * 91 % 9000)};
		struct rec_rcpt rcpt = {0, 0};
		struct rec_msg msg = {.rcpts = 1};

		put(h, REC_BODY, id, &body, sizeof body, body.raw_n);
		put(h, REC_RCPT, id, &rcpt, sizeof rcpt, 0);
		put(h, REC_MSG, id, &msg, sizeof msg, 0);
		if (id % 4 == 0)
			put(h, REC_ACT, id, NULL, 0, id % 11);
		if (id % 9 == 0)
			loop_pass(h->loop);
	}
	home_close(h);
}

static void read_all(struct home *h, enum read_bodies bodies, struct lines *l)
{
	struct reader *r = home_reader(h, false);
	struct record rec;
	enum read_result got;
	uint64_t number;

	memset(l, 0, sizeof *l);
	while ((got = reader_next(r, bodies, &rec)) != READ_END) {
		if (got == READ_DAMAGE) {
			l->damaged++;
			continue;
		}
		assert_int_equal(got, READ_OK);
		assert_true(reader_pos(r) > rec.pos);
		assert_true(l->n < ARRAY_N(l->v));
		l->v[l->n++] = (struct line){rec.pos,	rec.head.id,	 hash64(rec.body.p, rec.body.n),
					     rec.head.n, rec.head.number, rec.head.type};
	}
	while (reader_rotten(r, &number))
		l->rotten++;
	reader_free(r);
}

static uint64_t segment_end(struct home *h, uint64_t number)
{
	struct journal_end end;
	uint64_t ret = 0;

	assert_int_not_equal(home_recover(h, &end), RECOVERED_FAILED);
	for (uint32_t i = 0; i < end.segments_n; i++)
		if (end.segments[i].number == number)
			ret = end.segments[i].end;
	journal_end_fini(&end);
	return ret;
}

static unsigned segments_n(struct home *h, uint8_t uuid[16])
{
	struct journal_end end;
	unsigned n;

	assert_int_not_equal(home_recover(h, &end), RECOVERED_FAILED);
	memcpy(uuid, end.uuid, 16);
	n = end.segments_n;
	journal_end_fini(&end);
	return n;
}

static unsigned make_all(struct home *h, uint8_t uuid[16])
{
	unsigned n = segments_n(h, uuid);

	for (unsigned i = 1; i <= n; i++)
		if (segment_end(h, i))
			assert_int_equal(index_make(h->disk, uuid, i, HOME_SEGMENT, segment_end(h, i)), 0);
	return n;
}

static void same(const struct lines *a, const struct lines *b)
{
	assert_true(a->n > 2 * MAILS);
	assert_int_equal(a->n, b->n);
	for (unsigned i = 0; i < a->n; i++)
		assert_memory_equal(&a->v[i], &b->v[i], sizeof a->v[i]);
	assert_int_equal(a->damaged, b->damaged);
}

static void index_path(const struct home *h, uint64_t number, char path[128])
{
	snprintf(path, 128, "%s/idx-%016llx", h->dir, (unsigned long long)number);
}

static void begin(struct home *h)
{
	home_init(h, LOOP_EPOLL);
	fill(h);
}

static void the_records_are_the_same(void **state)
{
	struct home h;
	uint8_t uuid[16];
	struct index x;
	bool rotten;
	unsigned n;

	begin(&h);
	read_all(&h, BODIES_PASS, &without);
	n = make_all(&h, uuid);
	assert_true(n > 5);
	assert_true(index_load(h.disk, 2, incarnation_of(uuid, 2), segment_end(&h, 2), &x, &rotten));
	assert_true(x.records > 10);
	index_fini(&x);
	read_all(&h, BODIES_PASS, &with);
	same(&with, &without);
	read_all(&h, BODIES_HEADS, &with);
	for (unsigned i = 1; i <= n; i++)
		assert_int_equal(index_remove(h.disk, i), 0);
	assert_int_equal(index_remove(h.disk, 1), 0);
	read_all(&h, BODIES_HEADS, &without);
	same(&with, &without);
	read_all(&h, BODIES_WHOLE, &with);
	assert_int_equal(with.n, without.n);
	assert_int_equal(with.rotten, 0);
	home_fini(&h);
}

/* Proof that an index is used at all: with one that lies, and a hash that fits, the walk lies. */
static void an_index_is_used(void **state)
{
	struct home h;
	uint8_t uuid[16];
	char path[128], *p;
	struct index_head head;
	FILE *f;

	begin(&h);
	make_all(&h, uuid);
	read_all(&h, BODIES_HEADS, &without);
	index_path(&h, 2, path);
	f = fopen(path, "r+");
	assert_non_null(f);
	assert_int_equal(fread(&head, sizeof head, 1, f), 1);
	p = malloc(head.bytes);
	assert_int_equal(fread(p, head.bytes, 1, f), 1);
	p[8 + offsetof(struct rec_head, id)] ^= 64;
	head.hash = hash64(p, head.bytes);
	head.check = hash64(&head, offsetof(struct index_head, check));
	rewind(f);
	fwrite(&head, sizeof head, 1, f);
	fwrite(p, head.bytes, 1, f);
	fclose(f);
	free(p);
	read_all(&h, BODIES_HEADS, &with);
	assert_int_equal(with.n, without.n);
	assert_memory_not_equal(with.v, without.v, sizeof *with.v * with.n);
	home_fini(&h);
}

static void flip_at(const char *path, off_t at)
{
	int fd = open(path, O_RDWR);
	char c;

	assert_int_equal(pread(fd, &c, 1, at), 1);
	c ^= 16;
	assert_int_equal(pwrite(fd, &c, 1, at), 1);
	close(fd);
}

static off_t size_at(const char *path)
{
	int fd = open(path, O_RDONLY);
	off_t n = lseek(fd, 0, SEEK_END);

	close(fd);
	return n;
}

static void rotten_ones_are_told_and_not_used(void **state)
{
	static char zeros[4096];
	struct home h;
	uint8_t uuid[16];
	char path[128];
	unsigned fired = 0;
	struct index x;
	bool rotten;

	begin(&h);
	read_all(&h, BODIES_PASS, &without);
	make_all(&h, uuid);
	index_path(&h, 3, path);
	assert_true(index_load(h.disk, 3, incarnation_of(uuid, 3), segment_end(&h, 3), &x, &rotten));
	off_t used = (off_t)x.n;
	index_fini(&x);
	for (off_t at = 0; at < used; at += at < 64 ? 1 : 97) {
		flip_at(path, at);
		read_all(&h, BODIES_PASS, &with);
		same(&with, &without);
		assert_int_equal(with.rotten, 1);
		flip_at(path, at);
		fired++;
	}
	read_all(&h, BODIES_PASS, &with);
	assert_int_equal(with.rotten, 0);
	for (off_t n = size_at(path) - 4096; n >= 0; n -= 4096) {
		assert_int_equal(truncate(path, n), 0);
		read_all(&h, BODIES_PASS, &with);
		same(&with, &without);
		assert_int_equal(with.rotten, 1);
		fired++;
		if (n == 0)
			break;
	}
	assert_int_equal(index_make(h.disk, uuid, 3, HOME_SEGMENT, segment_end(&h, 3)), 0);
	for (off_t at = 0; at < used; at += 4096) {
		int fd = open(path, O_RDWR);

		assert_int_equal(pwrite(fd, zeros, 4096, at), 4096);
		close(fd);
		read_all(&h, BODIES_PASS, &with);
		same(&with, &without);
		assert_int_equal(with.rotten, 1);
		assert_int_equal(index_make(h.disk, uuid, 3, HOME_SEGMENT, segment_end(&h, 3)), 0);
		fired++;
	}
	printf("%u faults in an index, all found\n", fired);
	assert_true(fired > 80);
	home_fini(&h);
}

static void one_of_another_segment_or_time_is_not_used(void **state)
{
	struct home h;
	uint8_t uuid[16];
	char from[128], to[128];
	struct index x;
	bool rotten = true;

	begin(&h);
	read_all(&h, BODIES_PASS, &without);
	make_all(&h, uuid);
	assert_false(index_load(h.disk, 2, incarnation_of(uuid, 2), segment_end(&h, 2) - BLOCK_SIZE, &x, &rotten));
	assert_false(rotten);
	assert_false(index_load(h.disk, 2, 12345, segment_end(&h, 2), &x, &rotten));
	assert_false(rotten);
	assert_false(index_load(h.disk, 77777, 12345, 1, &x, &rotten));
	assert_false(rotten);
	index_path(&h, 2, from);
	index_path(&h, 3, to);
	assert_int_equal(rename(from, to), 0);
	read_all(&h, BODIES_PASS, &with);
	same(&with, &without);
	assert_int_equal(with.rotten, 0);
	home_fini(&h);
}

static void damage_gets_none(void **state)
{
	struct home h;
	uint8_t uuid[16];
	char path[128];

	begin(&h);
	segments_n(&h, uuid);
	home_flip(&h, 2 * HOME_SEGMENT + 3 * BLOCK_SIZE + 77, 1);
	assert_int_equal(index_make(h.disk, uuid, 2, HOME_SEGMENT, segment_end(&h, 2)), -EIO);
	index_path(&h, 2, path);
	assert_int_equal(access(path, F_OK), -1);
	home_fini(&h);
}

/* What is lost of a segment is not hidden by its index. */
static void a_segment_that_is_not_whole_is_read_itself(void **state)
{
	struct home h;
	uint8_t uuid[16];
	char path[128];

	begin(&h);
	make_all(&h, uuid);
	home_flip(&h, 2 * HOME_SEGMENT + 100, 1);
	read_all(&h, BODIES_PASS, &with);
	assert_true(with.damaged > 0);
	snprintf(path, sizeof path, "%s/seg-%016x", h.dir, 3);
	assert_int_equal(truncate(path, HOME_SEGMENT / 2), 0);
	read_all(&h, BODIES_PASS, &without);
	assert_true(without.damaged > with.damaged);
	assert_true(without.n < with.n);
	home_fini(&h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_records_are_the_same),
		cmocka_unit_test(an_index_is_used),
		cmocka_unit_test(rotten_ones_are_told_and_not_used),
		cmocka_unit_test(one_of_another_segment_or_time_is_not_used),
		cmocka_unit_test(damage_gets_none),
		cmocka_unit_test(a_segment_that_is_not_whole_is_read_itself),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
