/* body beside a real journald: the test plays sched, remote and lspawn. */
#include "journal_world.h"

#include "journal/body.h"

#include <sys/mman.h>
#include <sys/stat.h>

static struct world   w;
static struct client *c;                          /* smtpd */
static struct body   *b;
static struct disk   *disk;                       /* body's own */
static struct ear     sched, remote, lspawn;

static void connect_to_body(struct ear *e, uint32_t role)
{
	int fd[2];

	world_pair(fd);
	body_peer(b, role, 0, fd[1]);
	ear_open(e, w.loop, fd[0]);
}

static void give_journald(void)
{
	int fd[2];

	world_pair(fd);
	journald_peer(w.j, ROLE_BODY, 0, fd[0]);
	body_peer(b, ROLE_JOURNALD, 0, fd[1]);
}

static int begin(enum loop_kind kind)
{
	struct body_options o = {.loop = NULL, .zstd_level = 1};

	world_begin(&w, kind);
	o.loop = w.loop;
	o.disk = disk = disk_real_new(NULL, dup(w.dir_fd));
	b = body_new(&o);
	c = client_new(w.loop, 1);
	client_attach(c, world_peer(&w, ROLE_SMTPD, 0));
	world_grant(&w, 1000000);
	world_until(&w, client_admits(c));
	connect_to_body(&sched, ROLE_SCHED);
	connect_to_body(&remote, ROLE_REMOTE);
	connect_to_body(&lspawn, ROLE_LSPAWN);
	return 0;
}

static int setup_uring(void **state)
{
	return begin(LOOP_URING);
}

static int setup_epoll(void **state)
{
	return begin(LOOP_EPOLL);
}

static int teardown(void **state)
{
	body_close(b);
	world_until(&w, body_is_closed(b));
	client_free(c);
	ear_close(&sched, &w);
	ear_close(&remote, &w);
	ear_close(&lspawn, &w);
	world_passes(&w, 5);
	body_free(b);
	disk_real_free(disk);
	world_end(&w);
	return 0;
}

/* What sched would know of it: where its MSG lies. */
struct stored_message {
	uint64_t id, pos;
};

static struct reader *feed_reader;
static struct ring    feed_ring;

static void open_feed(void)
{
	struct ear feed;

	ear_open(&feed, w.loop, world_peer(&w, ROLE_SCHED, 0));
	world_until(&w, feed.of[MSG_FEED] == 1);
	assert_int_equal(ring_map(&feed_ring, ear_last(&feed, MSG_FEED)->fd), 0);
	feed_reader = reader_new(w.disk, &feed_ring, w.segment_size, 0);
	assert_int_equal(reader_open(feed_reader, &w.why), 0);
	ear_close(&feed, &w);
}

static void close_feed(void)
{
	reader_free(feed_reader);
	ring_unmap(&feed_ring);
}

/* The MSG of an id; the record's body is the reader's. */
static struct record find_msg(uint64_t id)
{
	struct record rec;

	open_feed();
	do
		assert_int_equal(reader_next(feed_reader, false, &rec), READ_OK);
	while (rec.head.type != REC_MSG || rec.head.id != id);
	return rec;
}

static struct stored_message store(struct span body)
{
	struct letter         l = {0};
	struct stored_message m;

	letter_send(&l, c, body);
	world_until(&w, l.done);
	assert_int_equal(l.verdict, STORED_OK);
	submission_fini(&l.s);
	m.id = l.id;
	m.pos = find_msg(l.id).pos;
	close_feed();
	return m;
}

static void say_open(uint32_t role, uint32_t handle, const struct stored_message *m)
{
	struct msg_open o = {.role = role, .handle = handle, .how = role == ROLE_REMOTE ? OPEN_PARTS : OPEN_FILE, .id = m->id, .pos = m->pos};

	wire_send(&sched.wire, MSG_OPEN, &o, sizeof(o), SPAN_NONE);
}

static void say_want(uint32_t handle, uint32_t number)
{
	struct msg_want m = {.handle = handle, .number = number};

	wire_send(&remote.wire, MSG_WANT, &m, sizeof(m), SPAN_NONE);
}

static void say_close(uint32_t role, uint32_t handle)
{
	struct msg_close m = {.role = role, .handle = handle};

	wire_send(&sched.wire, MSG_CLOSE, &m, sizeof(m), SPAN_NONE);
}

static void expect_part(uint32_t handle, uint32_t number, uint32_t of, uint64_t size, struct span raw)
{
	const struct heard        *h = ear_last(&remote, MSG_PARTDATA);
	const struct msg_partdata *m = (const void *)h->body;

	assert_int_equal(m->handle, handle);
	assert_int_equal(m->number, number);
	assert_int_equal(m->of, of);
	assert_int_equal(m->size, size);
	assert_int_equal(h->tail_n, raw.n);
	assert_memory_equal(h->tail, raw.p, raw.n);
}

/* ---- parts */

static void test_small(void **state)
{
	struct stored_message m;

	give_journald();
	m = store(SPAN("Subject: x\n\nhello\n"));
	say_open(ROLE_REMOTE, 7, &m);
	world_until(&w, remote.of[MSG_PARTDATA] == 1);
	expect_part(7, 0, 1, 18, SPAN("Subject: x\n\nhello\n"));
	say_close(ROLE_REMOTE, 7);
	world_passes(&w, 10);
	say_want(7, 0);                           /* crossed the close: no answer, no trouble */
	world_passes(&w, 20);
	assert_int_equal(remote.of[MSG_PARTDATA], 1);
	assert_false(remote.lost);
}

static void test_parts_on_demand(void **state)
{
	const size_t          n = 3 * BODY_PART_MAX + 999;
	char                 *noise = world_noise(n, 9);
	struct stored_message m;

	memset(noise + BODY_PART_MAX, 'z', BODY_PART_MAX);    /* one that is compressed */
	give_journald();
	m = store(span_of(noise, n));
	say_open(ROLE_REMOTE, 1, &m);
	world_until(&w, remote.of[MSG_PARTDATA] == 1);
	world_passes(&w, 20);
	assert_int_equal(remote.of[MSG_PARTDATA], 1);         /* no more than the credit */
	for (unsigned i = 0; i < 4; i++) {
		if (i > 0)
			say_want(1, i);
		world_until(&w, remote.of[MSG_PARTDATA] == i + 1);
		expect_part(1, i, 4, n, span_until(span_of(noise + i * BODY_PART_MAX, n - i * BODY_PART_MAX), BODY_PART_MAX));
	}
	free(noise);
}

/* From a segment, once the ring has gone on. */
static void test_out_of_the_ring(void **state)
{
	char                 *noise = world_noise(4 * BODY_PART_MAX, 9);
	struct stored_message m;

	give_journald();
	m = store(SPAN("old one"));
	for (int i = 0; i < 12; i++)
		(void)store(span_of(noise, 4 * BODY_PART_MAX));
	assert_false(ring_holds(journald_store(w.j)->ring, m.pos));
	say_open(ROLE_REMOTE, 1, &m);
	world_until(&w, remote.of[MSG_PARTDATA] == 1);
	expect_part(1, 0, 1, 7, SPAN("old one"));
	free(noise);
}

static void test_empty(void **state)
{
	struct stored_message m;

	give_journald();
	m = store(SPAN_NONE);
	say_open(ROLE_REMOTE, 1, &m);
	say_open(ROLE_LSPAWN, 2, &m);
	world_until(&w, remote.of[MSG_PARTDATA] == 1 && lspawn.of[MSG_BODYFILE] == 1);
	expect_part(1, 0, 0, 0, SPAN(""));
	assert_int_equal(((const struct msg_bodyfile *)(const void *)ear_last(&lspawn, MSG_BODYFILE)->body)->size, 0);
}

static void test_mad_remote(void **state)
{
	struct stored_message m;

	give_journald();
	m = store(SPAN("x"));
	say_open(ROLE_REMOTE, 1, &m);
	world_until(&w, remote.of[MSG_PARTDATA] == 1);
	say_want(1, 1);
	world_until(&w, remote.lost);
}

/* ---- files */

static void test_file(void **state)
{
	const size_t               n = 2 * BODY_PART_MAX + 5;
	char                      *noise = world_noise(n, 4), *got = malloc(n + 1);
	const struct msg_bodyfile *f;
	struct stored_message      m;
	struct stat                st;
	int                        fd;

	give_journald();
	m = store(span_of(noise, n));
	say_open(ROLE_LSPAWN, 3, &m);
	world_until(&w, lspawn.of[MSG_BODYFILE] == 1);
	f = (const void *)ear_last(&lspawn, MSG_BODYFILE)->body;
	fd = ear_last(&lspawn, MSG_BODYFILE)->fd;
	assert_int_equal(f->handle, 3);
	assert_int_equal(f->size, n);
	assert_int_equal(f->id, m.id);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_size, n);
	assert_int_equal(lseek(fd, 0, SEEK_CUR), 0);
	assert_int_equal(read(fd, got, n + 1), n);
	assert_memory_equal(got, noise, n);
	assert_int_equal(fcntl(fd, F_GET_SEALS) & (F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW),
	                 F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW);
	assert_int_equal(ftruncate(fd, 0), -1);
	assert_int_equal(write(fd, "x", 1), -1);
	free(noise);
	free(got);
}

/* ---- what can't be read */

static void test_unreadable(void **state)
{
	struct stored_message m, wrong;

	give_journald();
	m = store(SPAN("hello"));
	wrong = m;
	wrong.id++;
	say_open(ROLE_REMOTE, 1, &wrong);
	say_open(ROLE_LSPAWN, 2, &wrong);
	wrong = m;
	wrong.pos += 4096 * 100;                  /* not durable yet */
	say_open(ROLE_REMOTE, 3, &wrong);
	wrong.pos = 999 * w.segment_size + 4096;  /* no such segment */
	say_open(ROLE_REMOTE, 4, &wrong);
	world_until(&w, remote.of[MSG_BODYFAIL] == 3 && lspawn.of[MSG_BODYFAIL] == 1);
	assert_int_equal(((const struct msg_close *)(const void *)ear_last(&remote, MSG_BODYFAIL)->body)->handle, 4);
	assert_int_equal(((const struct msg_close *)(const void *)ear_last(&lspawn, MSG_BODYFAIL)->body)->handle, 2);
	say_open(ROLE_REMOTE, 5, &m);
	world_until(&w, remote.of[MSG_PARTDATA] == 1);
}

/* A byte of a part is rotten on the disk, and the ring has forgotten it. */
static void test_damage(void **state)
{
	char                 *noise = world_noise(4 * BODY_PART_MAX, 9), name[32];
	struct stored_message m;
	struct record         rec;
	struct msg_view       v;
	uint64_t              pos;
	int                   fd;

	give_journald();
	m = store(span_of(noise, 2 * BODY_PART_MAX));
	rec = find_msg(m.id);
	assert_true(msg_view(&rec.head, rec.body, &v));
	pos = msg_position(&v, 1) + 5000;
	close_feed();
	for (int i = 0; i < 12; i++)
		(void)store(span_of(noise, 4 * BODY_PART_MAX));
	segment_name(name, FILE_SEGMENT, pos / w.segment_size);
	fd = openat(w.dir_fd, name, O_WRONLY | O_CLOEXEC);
	assert_int_equal(pwrite(fd, "rotten", 6, (off_t)(pos % w.segment_size)), 6);
	assert_int_equal(fsync(fd), 0);
	close(fd);
	say_open(ROLE_REMOTE, 1, &m);
	world_until(&w, remote.of[MSG_PARTDATA] == 1);
	say_want(1, 1);
	say_open(ROLE_LSPAWN, 2, &m);
	world_until(&w, remote.of[MSG_BODYFAIL] == 1 && lspawn.of[MSG_BODYFAIL] == 1);
	assert_int_equal(lspawn.of[MSG_BODYFILE], 0);
	free(noise);
}

/* ---- peers that come and go */

static void test_agent_comes_anew(void **state)
{
	struct stored_message m, gone;

	give_journald();
	m = store(SPAN("kept"));
	gone = store(SPAN("closed"));
	ear_close(&remote, &w);
	say_open(ROLE_REMOTE, 1, &m);             /* sched has the new one already; we don't */
	say_open(ROLE_REMOTE, 2, &gone);
	say_close(ROLE_REMOTE, 2);
	world_passes(&w, 20);
	connect_to_body(&remote, ROLE_REMOTE);
	world_until(&w, remote.of[MSG_PARTDATA] == 1);
	expect_part(1, 0, 1, 4, SPAN("kept"));
	world_passes(&w, 20);
	assert_int_equal(remote.of[MSG_PARTDATA], 1);
}

static void test_sched_lost(void **state)
{
	struct stored_message m, n;

	give_journald();
	m = store(SPAN("old"));
	n = store(SPAN("new"));
	ear_close(&remote, &w);
	say_open(ROLE_REMOTE, 1, &m);
	world_passes(&w, 20);
	ear_close(&sched, &w);
	world_passes(&w, 20);
	connect_to_body(&sched, ROLE_SCHED);
	connect_to_body(&remote, ROLE_REMOTE);
	say_open(ROLE_REMOTE, 1, &n);
	world_until(&w, remote.of[MSG_PARTDATA] == 1);
	expect_part(1, 0, 1, 3, SPAN("new"));
}

static void test_before_the_feed(void **state)
{
	struct stored_message m = store(SPAN("x"));

	say_open(ROLE_REMOTE, 1, &m);
	world_passes(&w, 20);
	assert_int_equal(remote.n, 0);
	give_journald();
	world_until(&w, remote.of[MSG_PARTDATA] == 1);
}

/* One that does not read: others go on, and it gets everything when it does. */
static void test_slow_agent(void **state)
{
	char                 *noise = world_noise(BODY_PART_MAX, 9);
	struct stored_message m;
	const unsigned        many = 60;

	give_journald();
	m = store(span_of(noise, BODY_PART_MAX));
	wire_pause(&remote.wire);
	for (unsigned i = 0; i < many; i++)
		say_open(ROLE_REMOTE, i, &m);
	say_open(ROLE_LSPAWN, 1, &m);
	world_until(&w, lspawn.of[MSG_BODYFILE] == 1);
	assert_int_equal(remote.n, 0);
	wire_resume(&remote.wire);
	world_until(&w, remote.of[MSG_PARTDATA] == many);
	assert_int_equal(remote.tail_bytes, (size_t)many * BODY_PART_MAX);
	free(noise);
}

/* ---- bounces */

static void say_bounce(const struct stored_message *m, uint64_t copy_max, const char *text)
{
	const struct msg_range r[] = {{0, 2}, {5, 5}};
	struct msg_bounce      bo = {.id = m->id, .pos = m->pos, .copy_max = copy_max, .rcpt_n = 11, .settles_n = 2};
	struct buf             tail;

	buf_init(&tail, 1 << 20);
	bo.text_n = (uint32_t)strlen(text);
	assert_true(buf_add(&tail, SPAN("s@a.example")));
	assert_true(buf_add(&tail, span_of(r, sizeof(r))));
	assert_true(buf_add(&tail, span_str(text)));
	wire_send(&sched.wire, MSG_BOUNCE, &bo, sizeof(bo), buf_span(&tail));
	buf_free(&tail);
}

/* Sends it and checks all of what is stored but its body, which lspawn gets. */
static struct span bounce(const struct stored_message *m, uint64_t copy_max, const char *text)
{
	unsigned                  before = sched.of[MSG_BOUNCED], files = lspawn.of[MSG_BODYFILE];
	const struct msg_bounced *done;
	struct stored_message     stored;
	struct record             rec;
	struct msg_view           v;
	struct stat               st;
	char                     *got;
	int                       fd;

	say_bounce(m, copy_max, text);
	world_until(&w, sched.of[MSG_BOUNCED] == before + 1);
	done = (const void *)ear_last(&sched, MSG_BOUNCED)->body;
	assert_int_equal(done->parent, m->id);
	assert_int_equal(done->verdict, STORED_OK);
	assert_int_equal(done->pid, getpid());
	rec = find_msg(done->id);
	assert_true(msg_view(&rec.head, rec.body, &v));
	assert_int_equal(v.m->kind, SUBMIT_BOUNCE);
	assert_int_equal(v.m->parent, m->id);
	assert_int_equal(v.m->rcpts, 1);
	assert_int_equal(v.m->settles_n, 2);
	assert_int_equal(range_at(v.settles, 1).first, 5);
	assert_int_equal(v.m->sender_n, 0);
	stored = (struct stored_message){done->id, rec.pos};
	close_feed();
	say_open(ROLE_LSPAWN, 50 + before, &stored);
	world_until(&w, lspawn.of[MSG_BODYFILE] == files + 1);
	fd = ear_last(&lspawn, MSG_BODYFILE)->fd;
	assert_int_equal(fstat(fd, &st), 0);
	got = malloc((size_t)st.st_size + 1);
	assert_int_equal(read(fd, got, (size_t)st.st_size), st.st_size);
	return span_of(got, (size_t)st.st_size);
}

static void expect_bounce(struct span got, const char *text, struct span copy)
{
	char        line[100];
	struct span rest = got;
	size_t      lf;

	snprintf(line, sizeof(line), "Received: (qmail %d invoked for bounce); ", (int)getpid());
	assert_true(span_skip(&rest, span_str(line)));
	lf = span_find(rest, '\n');
	assert_true(lf != SPAN_NPOS);
	rest = span_from(rest, lf + 1);
	assert_true(span_skip(&rest, span_str(text)));
	assert_int_equal(rest.n, copy.n);
	assert_memory_equal(rest.p, copy.p, copy.n);
	free((void *)got.p);
}

static void test_bounce(void **state)
{
	const size_t          n = 2 * BODY_PART_MAX + 100;
	char                 *noise = world_noise(n, 8);
	struct stored_message m, large;

	give_journald();
	memset(noise, 'q', BODY_PART_MAX);
	m = store(SPAN("Subject: x\n\nhello\n"));
	large = store(span_of(noise, n));
	expect_bounce(bounce(&m, 0, "sorry\n\n"), "sorry\n\n", SPAN("Subject: x\n\nhello\n"));
	expect_bounce(bounce(&m, 10, "sorry\n\n"), "sorry\n\n", SPAN("Subject: x"));
	expect_bounce(bounce(&large, 0, "s"), "s", span_of(noise, n));
	expect_bounce(bounce(&large, BODY_PART_MAX, "s"), "s", span_of(noise, BODY_PART_MAX));
	expect_bounce(bounce(&large, BODY_PART_MAX + 7, "s"), "s", span_of(noise, BODY_PART_MAX + 7));
	expect_bounce(bounce(&large, n, "s"), "s", span_of(noise, n));
	world_grant(&w, 0);                       /* exempt */
	expect_bounce(bounce(&m, 0, ""), "", SPAN("Subject: x\n\nhello\n"));
	m.id += 1000;                             /* can't be read: the text alone */
	expect_bounce(bounce(&m, 0, "sorry"), "sorry", SPAN(""));
	free(noise);
}

/* Many parts, more than the wire to journald takes at a time. */
static void test_large_bounce(void **state)
{
	const size_t          n = 40 * BODY_PART_MAX;
	char                 *noise = world_noise(n, 8);
	struct stored_message m;

	give_journald();
	m = store(span_of(noise, n));
	expect_bounce(bounce(&m, 0, "t"), "t", span_of(noise, n));
	free(noise);
}

static void test_bounce_without_journald(void **state)
{
	struct stored_message m;

	give_journald();
	m = store(SPAN("x"));
	world_passes(&w, 20);
	body_peer(b, ROLE_JOURNALD, 0, -1);
	say_bounce(&m, 0, "sorry");
	world_until(&w, sched.of[MSG_BOUNCED] == 1);
	assert_int_equal(((const struct msg_bounced *)(const void *)ear_last(&sched, MSG_BOUNCED)->body)->verdict, STORED_LATER);
}

static void test_mad_sched(void **state)
{
	struct msg_bounce bo = {.rcpt_n = 5, .text_n = 3};
	struct msg_open   o = {.role = ROLE_SMTPD};

	give_journald();
	wire_send(&sched.wire, MSG_OPEN, &o, sizeof(o), SPAN_NONE);
	wire_send(&sched.wire, MSG_BOUNCE, &bo, sizeof(bo), SPAN("1234567"));
	world_until(&w, sched.lost);
}

#define BOTH(f)                                                                   \
	cmocka_unit_test_setup_teardown(f, setup_uring, teardown),                \
	cmocka_unit_test_setup_teardown(f, setup_epoll, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		BOTH(test_small),
		BOTH(test_parts_on_demand),
		BOTH(test_out_of_the_ring),
		BOTH(test_empty),
		BOTH(test_mad_remote),
		BOTH(test_file),
		BOTH(test_unreadable),
		BOTH(test_damage),
		BOTH(test_agent_comes_anew),
		BOTH(test_sched_lost),
		BOTH(test_before_the_feed),
		BOTH(test_slow_agent),
		BOTH(test_bounce),
		BOTH(test_large_bounce),
		BOTH(test_bounce_without_journald),
		BOTH(test_mad_sched),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
