/* journal_world - a real journald in a scratch directory, on either loop, with the test as its
 * peers.  Included by test_journald.c, test_body.c and test_submit.c; asserts by cmocka. */
#ifndef TESTS_JOURNAL_WORLD_H
#define TESTS_JOURNAL_WORLD_H

#include "core/clock.h"
#include "core/pool.h"
#include "core/wire.h"
#include "journal/client.h"
#include "journal/door.h"
#include "journal/journald.h"
#include "journal/reader.h"
#include "journal/store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define WORLD_PATIENCE_MS 20000                   /* a slow machine under sanitizers */

struct world {
	char             dir[64], path[100];      /* of the journal; of run/submit */
	int              dir_fd;
	struct loop     *loop;
	struct disk     *disk;
	struct journald *j;
	struct timer     tick;
	struct buf       why;
	bool             for_good, drained;
	uint64_t         segment_size;
	struct dict      dict;                    /* set before world_run() */
};

static inline uint64_t world_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static inline void world_on_tick(struct timer *t)
{
	struct world *w = owner_of(t, struct world, tick);

	timer_set(w->loop, &w->tick, 5);
}

/* Passes until cond holds; fails the test when it never does. */
#define world_until(w, cond)                                                  \
	do {                                                                  \
		uint64_t end_ = world_ms() + WORLD_PATIENCE_MS;               \
		while (!(cond)) {                                             \
			if (world_ms() > end_)                                \
				fail_msg("never: %s", #cond);                 \
			loop_pass((w)->loop);                                 \
		}                                                             \
	} while (0)

static inline void world_passes(struct world *w, int n)
{
	while (n-- > 0)
		loop_pass(w->loop);
}

static inline void world_on_drained(void *ctx)
{
	((struct world *)ctx)->drained = true;
}

static inline int world_listen(const char *path)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int                fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	snprintf(a.sun_path, sizeof(a.sun_path), "%s", path);
	assert_true(fd >= 0);
	unlink(path);
	assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(listen(fd, 1024), 0);
	return fd;
}

/* NULL in w->j when journald refuses; then w->why. */
static inline void world_run(struct world *w)
{
	struct journald_options o = {
		.loop = w->loop,
		.disk = w->disk,
		.dir_fd = w->dir_fd,
		.submit_fd = world_listen(w->path),
		.segment_size = w->segment_size,
		.ring_size = 8 << 20,
		.alias_uid = DOOR_NO_ALIAS,
		.zstd_level = 1,
		.dict = w->dict,
		.drained = world_on_drained,
		.ctx = w,
	};

	w->j = journald_new(&o, &w->why, &w->for_good);
}

static inline void world_init(struct world *w, enum loop_kind kind)
{
	*w = (struct world){.segment_size = 16 << 20};
	snprintf(w->dir, sizeof(w->dir), "/tmp/quire-journald.XXXXXX");
	assert_non_null(mkdtemp(w->dir));
	snprintf(w->path, sizeof(w->path), "%s.submit", w->dir);
	w->dir_fd = open(w->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(w->dir_fd >= 0);
	w->loop = loop_new(kind, 64);
	w->disk = disk_real_new(w->loop, dup(w->dir_fd));
	buf_init(&w->why, 4096);
	timer_init(&w->tick, world_on_tick);
	timer_set(w->loop, &w->tick, 5);
	clock_refresh();
}

static inline void world_begin(struct world *w, enum loop_kind kind)
{
	world_init(w, kind);
	world_run(w);
	if (!w->j)
		fail_msg("%.*s", (int)w->why.n, w->why.p);
}

static inline void world_stop(struct world *w)
{
	if (!w->j)
		return;
	journald_close(w->j);
	world_until(w, journald_is_closed(w->j));
	journald_free(w->j);
	w->j = NULL;
}

static inline void world_end(struct world *w)
{
	DIR           *d;
	struct dirent *e;

	world_stop(w);
	world_passes(w, 3);
	timer_stop(w->loop, &w->tick);
	disk_real_free(w->disk);
	loop_free(w->loop);
	buf_free(&w->why);
	d = opendir(w->dir);
	while (d && (e = readdir(d)))
		unlinkat(w->dir_fd, e->d_name, 0);
	if (d)
		closedir(d);
	close(w->dir_fd);
	rmdir(w->dir);
	unlink(w->path);
}

static inline void world_pair(int fd[2])
{
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fd), 0);
}

/* Our end of a new wire to journald. */
static inline int world_peer(struct world *w, uint32_t role, uint32_t index)
{
	int fd[2];

	world_pair(fd);
	journald_peer(w->j, role, index, fd[1]);
	return fd[0];
}

static inline void world_grant(struct world *w, uint64_t messages)
{
	store_grant(journald_store(w->j), &(struct msg_credit){.messages = messages, .bytes = messages * 1000});
}

/* ---- one submission through a client */

struct letter {
	struct submission s;
	bool              done;
	enum stored       verdict;
	uint64_t          id;
};

static inline void letter_stored(struct submission *s, enum stored verdict, uint64_t id)
{
	struct letter *l = owner_of(s, struct letter, s);

	assert_false(l->done);
	l->done = true;
	l->verdict = verdict;
	l->id = id;
}

static inline void letter_begin(struct letter *l, struct client *c)
{
	l->done = false;
	l->id = 0;
	submission_begin(&l->s, c, letter_stored);
}

static inline void letter_commit(struct letter *l, const char *sender, const char *const *rcpts)
{
	struct buf         packed;
	uint32_t           n = 0;
	struct submit_info info = {.uid = 7, .pid = 8, .kind = SUBMIT_NETWORK};

	buf_init(&packed, 1 << 20);
	for (; rcpts[n]; n++)
		assert_true(packed_add(&packed, span_str(rcpts[n])));
	submission_commit(&l->s, span_str(sender), buf_span(&packed), n, &info);
	buf_free(&packed);
}

static const char *const world_one_rcpt[] = {"u@b.example", NULL};

static inline void letter_send(struct letter *l, struct client *c, struct span body)
{
	letter_begin(l, c);
	submission_body(&l->s, body);
	letter_commit(l, "s@a.example", world_one_rcpt);
}

/* Bytes that do not compress: xorshift from a seed. */
static inline char *world_noise(size_t n, uint64_t seed)
{
	char *p = malloc(n ? n : 1);

	assert_non_null(p);
	for (size_t i = 0; i < n; i++) {
		seed ^= seed << 13;
		seed ^= seed >> 7;
		seed ^= seed << 17;
		p[i] = (char)(seed >> 24);
	}
	return p;
}

/* ---- what lies in the journal; journald must be stopped */

struct seen {
	uint64_t       id, pos;
	uint8_t        type;
	uint32_t       number;
	char          *body;
	size_t         n;
};
struct history {
	struct seen *v;
	size_t       n;
};

static inline void history_read(struct world *w, struct history *h)
{
	struct reader   *r;
	struct record    rec;
	enum read_result got;

	assert_null(w->j);
	*h = (struct history){0};
	r = reader_new(w->disk, NULL, w->segment_size, 0);
	assert_int_equal(reader_open(r, &w->why), 0);
	while ((got = reader_next(r, true, &rec)) == READ_OK) {
		h->v = mem_grow(h->v, h->n * sizeof(*h->v), (h->n + 1) * sizeof(*h->v));
		h->v[h->n] = (struct seen){
			.id = rec.head.id,
			.pos = rec.pos,
			.type = rec.head.type,
			.number = rec.head.number,
			.body = mem_new(rec.body.n + 1),
			.n = rec.body.n,
		};
		memcpy(h->v[h->n++].body, rec.body.p, rec.body.n);
	}
	assert_int_equal(got, READ_END);
	reader_free(r);
}

static inline void history_free(struct history *h)
{
	for (size_t i = 0; i < h->n; i++)
		mem_free(h->v[i].body);
	mem_free(h->v);
}

static inline const struct seen *history_find(const struct history *h, uint8_t type, uint64_t id, uint32_t number)
{
	for (size_t i = 0; i < h->n; i++)
		if (h->v[i].type == type && h->v[i].id == id && h->v[i].number == number)
			return &h->v[i];
	return NULL;
}

static inline size_t history_count(const struct history *h, uint8_t type)
{
	size_t n = 0;

	for (size_t i = 0; i < h->n; i++)
		n += h->v[i].type == type;
	return n;
}

/* The raw body of a message, malloc'd; its parts are checked against its MSG on the way. */
static inline struct span history_body(const struct history *h, uint64_t id)
{
	const struct seen *msg = history_find(h, REC_MSG, id, 0);
	struct zip        *z = zip_new(1);
	struct rec_msg     m;
	struct rec_body    b;
	char              *raw;
	size_t             n = 0;

	assert_non_null(msg);
	memcpy(&m, msg->body, sizeof(m));
	raw = malloc(m.size + BODY_PART_MAX);
	for (uint32_t i = 0; i < m.body_parts; i++) {
		const struct seen *p = history_find(h, REC_BODY, id, i);
		uint64_t           pos;

		assert_non_null(p);
		memcpy(&pos, msg->body + sizeof(m) + i * sizeof(pos), sizeof(pos));
		assert_int_equal(pos, p->pos);
		memcpy(&b, p->body, sizeof(b));
		assert_true(zip_unpack(z, b.codec, b.dict, span_of(p->body + sizeof(b), p->n - sizeof(b)), b.raw_hash,
		                       raw + n, b.raw_n));
		n += b.raw_n;
	}
	assert_int_equal(n, m.size);
	zip_free(z);
	return span_of(raw, n);
}

/* ---- a wire of ours that gathers what it hears */

#define HEARD_MAX 64
struct heard {
	uint16_t type;
	char     body[64] __attribute__((aligned(8)));
	char    *tail;
	size_t   tail_n;
	int      fd;
};
struct ear {
	struct wire  wire;
	struct heard v[HEARD_MAX];
	unsigned     n, of[128];                  /* how many of each type came in all */
	bool         lost;
	size_t       tail_bytes;
};

static inline void ear_take(struct wire *w, uint16_t type, struct wire_in *in, size_t body_n)
{
	struct ear   *e = owner_of(w, struct ear, wire);
	struct heard *h = &e->v[e->n % HEARD_MAX];

	e->of[type]++;
	e->tail_bytes += in->tail.n;
	if (e->n >= HEARD_MAX) {                  /* the oldest gives way */
		free(h->tail);
		if (h->fd >= 0)
			close(h->fd);
	}
	*h = (struct heard){.type = type, .tail_n = in->tail.n, .fd = in->fd};
	memcpy(h->body, in->body, body_n);
	h->tail = malloc(in->tail.n + 1);
	if (in->tail.n > 0)
		memcpy(h->tail, in->tail.p, in->tail.n);
	e->n++;
}

#define EAR(type, body)                                                        \
	static inline void ear_##type(struct wire *w, struct wire_in *in)      \
	{                                                                      \
		ear_take(w, type, in, sizeof(body));                           \
	}
struct ear_nothing { char none[0]; };
EAR(MSG_STORED, struct msg_stored)
EAR(MSG_ADMIT, struct msg_admit)
EAR(MSG_FEED, struct msg_feed)
EAR(MSG_BELL, struct ear_nothing)
EAR(MSG_ROOM, struct msg_room)
EAR(MSG_RETIRE, struct msg_retire)
EAR(MSG_PART, struct msg_part)
EAR(MSG_RCPTS, struct msg_rcpts)
EAR(MSG_SUBMIT, struct msg_submit)
EAR(MSG_ABANDON, struct msg_sub)
EAR(MSG_PARTDATA, struct msg_partdata)
EAR(MSG_BODYFAIL, struct msg_close)
EAR(MSG_BODYFILE, struct msg_bodyfile)
EAR(MSG_BOUNCED, struct msg_bounced)

static const struct wire_handler ear_handlers[] = {
	{ MSG_STORED,   sizeof(struct msg_stored),   false, false, ear_MSG_STORED },
	{ MSG_ADMIT,    sizeof(struct msg_admit),    false, false, ear_MSG_ADMIT },
	{ MSG_FEED,     sizeof(struct msg_feed),     false, true,  ear_MSG_FEED },
	{ MSG_BELL,     0,                           false, true,  ear_MSG_BELL },
	{ MSG_ROOM,     sizeof(struct msg_room),     false, false, ear_MSG_ROOM },
	{ MSG_RETIRE,   sizeof(struct msg_retire),   true,  false, ear_MSG_RETIRE },
	{ MSG_PART,     sizeof(struct msg_part),     true,  false, ear_MSG_PART },
	{ MSG_RCPTS,    sizeof(struct msg_rcpts),    true,  false, ear_MSG_RCPTS },
	{ MSG_SUBMIT,   sizeof(struct msg_submit),   true,  false, ear_MSG_SUBMIT },
	{ MSG_ABANDON,  sizeof(struct msg_sub),      false, false, ear_MSG_ABANDON },
	{ MSG_PARTDATA, sizeof(struct msg_partdata), true,  false, ear_MSG_PARTDATA },
	{ MSG_BODYFAIL, sizeof(struct msg_close),    false, false, ear_MSG_BODYFAIL },
	{ MSG_BODYFILE, sizeof(struct msg_bodyfile), false, true,  ear_MSG_BODYFILE },
	{ MSG_BOUNCED,  sizeof(struct msg_bounced),  false, false, ear_MSG_BOUNCED },
};

static inline void ear_on_lost(struct wire *w)
{
	owner_of(w, struct ear, wire)->lost = true;
}

static inline void ear_open(struct ear *e, struct loop *l, int fd)
{
	memset(e, 0, sizeof(*e));
	wire_init(&e->wire, l, fd, "test", ear_handlers, ARRAY_N(ear_handlers), ear_on_lost, NULL);
}

/* The newest of a type; NULL: none is kept. */
static inline struct heard *ear_last(struct ear *e, uint16_t type)
{
	for (unsigned i = e->n; i-- > 0 && e->n - i <= HEARD_MAX;)
		if (e->v[i % HEARD_MAX].type == type)
			return &e->v[i % HEARD_MAX];
	return NULL;
}

static inline void ear_close(struct ear *e, struct world *w)
{
	if (!e->lost) {
		wire_close(&e->wire);
		world_until(w, e->lost);
	}
	for (unsigned i = 0; i < e->n && i < HEARD_MAX; i++) {
		free(e->v[i].tail);
		if (e->v[i].fd >= 0)
			close(e->v[i].fd);
	}
	e->n = 0;
}

#endif
