/* Dictionaries: what is one, where it is written, and who packs against it. */
#include "journal_home.h"
#include "journal_world.h"

#include "journal/dict.h"
#include "journal/zip.h"
#include "mail/envelope.h"

#include <sys/mman.h>

static const char mail[] =
	"Received: from mail.example.com (mail.example.com [192.0.2.77])\n"
	"\tby mx.example.org (Postfix) with ESMTP id 77AB0123CD\n"
	"\tfor <someone@example.org>; Mon, 20 Jan 2025 08:00:00 +0000 (UTC)\n"
	"From: A Person <a.person@example.com>\nTo: someone@example.org\n"
	"Subject: Re: the report\nMIME-Version: 1.0\n"
	"Content-Type: text/plain; charset=UTF-8\nContent-Transfer-Encoding: 7bit\n\n"
	"Hello,\n\nthank you very much for the report. Please let me know.\n\nBest regards\n";
#define MAIL SPAN(mail)

static size_t packed_n(struct dict d)
{
	static char frame[ZIP_BOUND];
	struct zip *z = zip_new(1);
	struct msg_part p;
	size_t n;

	zip_add_dict(z, d.number, d.bytes, true);
	n = zip_pack(z, MAIL, frame, &p).n;
	zip_free(z);
	return n;
}

static void the_built_in_one_pays(void **state)
{
	struct dict d = dict_built_in();

	assert_int_equal(d.number, (uint32_t)hash64(d.bytes.p, d.bytes.n));
	assert_int_equal(d.number, dict_built_in().number);
	assert_true(d.bytes.n >= 16 * 1024 && d.bytes.n <= 64 * 1024);
	assert_true(packed_n(d) * 3 < packed_n((struct dict){0}) * 2);
}

static int file_of(struct span bytes)
{
	int fd = memfd_create("dictionary", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, bytes.p, bytes.n), bytes.n);
	return fd;
}

static uint32_t loaded(struct span bytes)
{
	int fd = file_of(bytes);
	struct dict d = dict_load(fd);

	assert_true(lseek(fd, 0, SEEK_CUR) == (off_t)bytes.n); /* read at offsets of its own */
	close(fd);
	return d.number;
}

static void drop(void *ctx, struct span line)
{
	(*(unsigned *)ctx)++;
}

static void what_is_no_dictionary_is_said_and_not_used(void **state)
{
	static char large[DICT_MAX + 1], small[DICT_MIN - 1];
	char broken[1024] = {0x37, (char)0xa4, 0x30, (char)0xec, 1, 2, 3};
	uint32_t built_in = dict_built_in().number;
	unsigned lines = 0;

	log_capture(drop, &lines);
	memset(large, 'x', sizeof large);
	assert_int_equal(loaded(span_of(large, sizeof large)), built_in);
	assert_int_equal(loaded(span_of(small, sizeof small)), built_in);
	assert_int_equal(loaded(SPAN_NONE), built_in);
	assert_int_equal(loaded(span_of(broken, sizeof broken)), built_in);
	assert_int_equal(lines, 4);
	assert_int_equal(dict_load(-1).number, built_in);
	assert_int_equal(lines, 4); /* no file is no mistake */
	assert_int_equal(loaded(span_of(large, DICT_MAX)),
			 (uint32_t)hash64(large, DICT_MAX));
	assert_int_equal(lines, 4);
	log_capture(NULL, NULL);
}

static void small_segments_have_none(void **state)
{
	struct dict d = dict_built_in();

	assert_int_equal(dict_for(d, d.bytes.n * DICT_SHARE).number, d.number);
	assert_int_equal(dict_for(d, d.bytes.n * DICT_SHARE - 1).number, 0);
}

/* ---- in every segment, in front of everything */

static struct dict little(char fill)
{
	static char bytes[2][1000];
	char *p = bytes[fill & 1];

	memset(p, fill, 1000);
	snprintf(p, 100, "From: %c To: Subject: Re: Received: from", fill);
	return dict_of(span_of(p, 1000));
}

static unsigned check_segments(struct home *h, uint64_t from, uint64_t to, uint32_t number)
{
	struct reader *r = home_reader(h, false);
	uint64_t segment = 0;
	unsigned n = 0;
	struct record rec;

	while (reader_next(r, BODIES_WHOLE, &rec) == READ_OK) {
		uint64_t in = rec.pos / HOME_SEGMENT;
		bool begins = in != segment;

		if (rec.head.type == REC_MANIFEST || in < from || in > to)
			continue;
		segment = in;
		if (begins) {
			n++;
			assert_int_equal(rec.head.type, REC_DICT);
			assert_int_equal(rec.head.number, number);
			assert_int_equal(dict_number(rec.body), number);
		} else {
			assert_int_not_equal(rec.head.type, REC_DICT);
		}
	}
	reader_free(r);
	return n;
}

static void put_many(struct home *h, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		home_put(h, REC_ACT, i + 1, i, 7000 + i * 100, COMMIT_ACKED);
	home_settle(h);
}

static void every_segment_begins_with_it(void **state)
{
	struct dict one = little('a'), two = little('b');
	struct home h;
	uint64_t first, last;
	unsigned n;

	home_init(&h, LOOP_AUTO);
	home_open(&h);
	dict_begin_with(h.commit, one);
	first = ring_durable(&h.ring) / HOME_SEGMENT;
	put_many(&h, 80);
	last = (h.durable - 1) / HOME_SEGMENT;
	assert_true(last >= first + 4);
	home_close(&h);
	n = check_segments(&h, first, last, one.number);
	assert_true(n >= last - first);
	home_open(&h); /* a start with another one */
	dict_begin_with(h.commit, two);
	put_many(&h, 40);
	n = (unsigned)((h.durable - 1) / HOME_SEGMENT);
	home_close(&h);
	assert_true(check_segments(&h, last + 1, n, two.number) >= n - last - 1);
	home_fini(&h);
}

/* Damage to one copy takes no frame with it: the other segments have the same. */
static void a_damaged_one_is_read_from_another_segment(void **state)
{
	struct dict d = little('a');
	struct reader *r;
	struct record rec;
	struct home h;
	uint64_t at, mail_at;

	home_init(&h, LOOP_AUTO);
	home_open(&h);
	dict_begin_with(h.commit, d);
	mail_at = home_put(&h, REC_ACT, 1, 1, 9000, COMMIT_ACKED);
	put_many(&h, 60);
	assert_true((h.durable - 1) / HOME_SEGMENT > mail_at / HOME_SEGMENT + 1);
	home_close(&h);

	r = home_reader(&h, false);
	assert_int_equal(reader_dict(r, mail_at, d.number, &rec), READ_OK);
	at = rec.pos;
	assert_int_equal(at / HOME_SEGMENT, mail_at / HOME_SEGMENT);
	assert_int_equal(reader_dict(r, mail_at, d.number + 1, &rec), READ_GONE);
	reader_free(r);

	home_flip(&h, at + 200, 0x10);
	r = home_reader(&h, false);
	assert_int_equal(reader_dict(r, mail_at, d.number, &rec), READ_OK);
	assert_int_not_equal(rec.pos / HOME_SEGMENT, mail_at / HOME_SEGMENT);
	assert_int_equal(dict_number(rec.body), d.number);
	assert_int_equal(reader_dict(r, mail_at, d.number + 1, &rec), READ_GONE);
	reader_free(r);
	home_fini(&h);
}

/* The largest record still fits beside it, whatever the order. */
static void the_largest_record_fits_beside_it(void **state)
{
	struct home h;
	size_t max;

	home_init(&h, LOOP_AUTO);
	home_open(&h);
	max = commit_record_max(h.commit);
	dict_begin_with(h.commit, little('a'));
	assert_true(commit_record_max(h.commit) <= max - 1000);
	max = commit_record_max(h.commit) - sizeof(struct rec_head);
	for (unsigned i = 0; i < 8; i++)
		home_put(&h, REC_ACT, i + 1, 0, max / 8 * 8, 0);
	home_settle(&h);
	home_fini(&h);
}

/* ---- who packs against it */

static struct world w;

static void parts_are_packed_against_it_once_it_is_told(void **state)
{
	struct zip *plain = zip_new(1), *z = zip_new(1);
	static char raw[4096];
	struct letter l = {0};
	struct history h;
	const struct seen *part, *dict;
	struct rec_body b;
	struct client *c;

	world_init(&w, LOOP_AUTO);
	w.dict = dict_built_in();
	world_run(&w);
	assert_non_null(w.j);
	c = client_new(w.loop, 1);
	client_attach(c, world_peer(&w, ROLE_SMTPD, 0));
	assert_true(client_takes_dict(c, 0));
	assert_false(client_takes_dict(c, w.dict.number));
	world_grant(&w, 10);
	world_until(&w, client_admits(c));
	assert_true(client_takes_dict(c, w.dict.number));
	letter_send(&l, c, MAIL);
	world_until(&w, l.done);
	assert_int_equal(l.verdict, STORED_OK);
	submission_fini(&l.s);
	client_attach(c, -1); /* the next journald may have another one */
	assert_false(client_takes_dict(c, w.dict.number));
	client_free(c);
	world_passes(&w, 5);
	world_stop(&w);

	history_read(&w, &h);
	part = history_find(&h, REC_BODY, l.id, 0);
	dict = history_find(&h, REC_DICT, 0, w.dict.number);
	assert_non_null(part);
	assert_non_null(dict);
	assert_true(dict->pos < part->pos);
	memcpy(&b, part->body, sizeof b);
	assert_int_equal(b.dict, w.dict.number);
	struct span frame = span_of(part->body + sizeof b, part->n - sizeof b);
	assert_false(zip_unpack(plain, b.codec, b.dict, frame, b.raw_hash, raw, b.raw_n));
	zip_add_dict(z, dict->number, span_of(dict->body, dict->n), false);
	assert_true(zip_unpack(z, b.codec, b.dict, frame, b.raw_hash, raw, b.raw_n));
	assert_memory_equal(raw, mail, b.raw_n);
	history_free(&h);
	zip_free(plain);
	zip_free(z);
	world_end(&w);
}

static void a_frame_that_needs_another_one_is_refused(void **state)
{
	static char frame[ZIP_BOUND];
	struct dict other = little('a');
	struct zip *z = zip_new(1);
	struct letter l = {0};
	struct msg_part p = {0};
	struct client *c;
	struct span packed;
	unsigned lines = 0;

	log_capture(drop, &lines);
	world_init(&w, LOOP_AUTO);
	w.dict = dict_built_in();
	world_run(&w);
	c = client_new(w.loop, 1);
	client_attach(c, world_peer(&w, ROLE_SMTPD, 0));
	world_grant(&w, 10);
	world_until(&w, client_admits(c));
	zip_add_dict(z, other.number, other.bytes, true);
	packed = zip_pack(z, MAIL, frame, &p);
	assert_int_equal(p.dict, other.number);
	assert_false(client_takes_dict(c, p.dict));
	letter_begin(&l, c);
	submission_frame(&l.s, &p, packed);
	letter_commit(&l, "s@a.example", world_one_rcpt);
	world_until(&w, l.done);
	assert_int_equal(l.verdict, STORED_BAD);
	submission_fini(&l.s);
	client_free(c);
	world_end(&w);
	zip_free(z);
	log_capture(NULL, NULL);
}

/* What does not fit its number is not used: frames would not be readable by anybody else. */
static void a_wrong_one_is_not_used(void **state)
{
	struct dict d = dict_built_in();
	struct msg_dict m = {.number = d.number + 1};
	struct client *c;
	struct ear ear;
	int fd[2];

	world_init(&w, LOOP_AUTO);
	world_pair(fd);
	c = client_new(w.loop, 1);
	client_attach(c, fd[0]);
	ear_open(&ear, w.loop, fd[1]);
	wire_send(&ear.wire, MSG_DICT, &m, sizeof m, d.bytes);
	wire_send(&ear.wire, MSG_ADMIT, &(struct msg_admit){.open = 1},
		  sizeof(struct msg_admit), SPAN_NONE);
	world_until(&w, client_admits(c));
	assert_false(client_takes_dict(c, d.number));
	assert_false(client_takes_dict(c, d.number + 1));
	client_free(c);
	ear_close(&ear, &w);
	world_end(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_built_in_one_pays),
		cmocka_unit_test(what_is_no_dictionary_is_said_and_not_used),
		cmocka_unit_test(small_segments_have_none),
		cmocka_unit_test(every_segment_begins_with_it),
		cmocka_unit_test(a_damaged_one_is_read_from_another_segment),
		cmocka_unit_test(the_largest_record_fits_beside_it),
		cmocka_unit_test(parts_are_packed_against_it_once_it_is_told),
		cmocka_unit_test(a_frame_that_needs_another_one_is_refused),
		cmocka_unit_test(a_wrong_one_is_not_used),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
