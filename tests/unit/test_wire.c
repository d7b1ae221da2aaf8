#include "core/wire.h"

#include "core/log.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static struct loop *loop;

static int setup_uring(void **state)
{
	loop = loop_new(LOOP_URING, 0);
	return 0;
}

static int setup_epoll(void **state)
{
	loop = loop_new(LOOP_EPOLL, 0);
	return 0;
}

static int teardown(void **state)
{
	loop_free(loop);
	return 0;
}

struct number {
	uint64_t value;
	uint32_t tail_n, spare;
};

enum { NUMBER = 7, FILE_OF = 9, EMPTY = 11 };

struct end {
	struct wire wire;
	int         numbers, files, empties, lost_n, room_n;
	uint64_t    next;                         /* numbers come in order, from 0 */
	int         pause_at, close_at;
	uint64_t    bytes;
	struct wire *answer_to;
};

static char pattern(uint64_t value, size_t i)
{
	return (char)(value * 131 + i);
}

static void on_number(struct wire *w, struct wire_in *in)
{
	struct end          *e = owner_of(w, struct end, wire);
	const struct number *n = in->body;

	assert_false(e->wire.closing || e->wire.paused);
	assert_int_equal((uintptr_t)n % WIRE_ALIGN, 0);
	assert_int_equal(n->value, e->next);
	assert_int_equal(in->tail.n, n->tail_n);
	for (size_t i = 0; i < in->tail.n; i += in->tail.n > 1000 ? 97 : 1)
		assert_int_equal(in->tail.p[i], pattern(n->value, i));
	assert_int_equal(in->fd, -1);
	e->next++;
	e->bytes += in->tail.n;
	e->numbers++;
	if (e->answer_to)
		wire_send(w, EMPTY, NULL, 0, SPAN_NONE);
	if (e->pause_at == e->numbers)
		wire_pause(w);
	if (e->close_at == e->numbers) {
		wire_close(w);
		wire_close(w);
	}
}

static void on_file(struct wire *w, struct wire_in *in)
{
	struct end          *e = owner_of(w, struct end, wire);
	const struct number *n = in->body;
	uint64_t             inside = 0;

	assert_int_equal(n->value, e->next++);
	assert_true(in->fd >= 0);
	assert_true(fcntl(in->fd, F_GETFD) & FD_CLOEXEC);
	assert_int_equal(pread(in->fd, &inside, sizeof(inside), 0), sizeof(inside));
	assert_int_equal(inside, n->value);
	close(in->fd);
	e->files++;
}

static void on_empty(struct wire *w, struct wire_in *in)
{
	owner_of(w, struct end, wire)->empties++;
	assert_int_equal(in->tail.n, 0);
}

static void on_lost(struct wire *w)
{
	struct end *e = owner_of(w, struct end, wire);

	assert_int_equal(w->sock, -1);
	assert_false(w->recv.armed || w->send.armed);
	e->lost_n++;
	memset(&e->wire, 0xee, sizeof(e->wire));
}

static void on_room(struct wire *w)
{
	owner_of(w, struct end, wire)->room_n++;
}

static const struct wire_handler handlers[] = {
	{NUMBER, sizeof(struct number), true, false, on_number},
	{FILE_OF, sizeof(struct number), false, true, on_file},
	{EMPTY, 0, false, false, on_empty},
};

static void open_ends(struct end *a, struct end *b)
{
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	memset(a, 0, sizeof(*a));
	memset(b, 0, sizeof(*b));
	wire_init(&a->wire, loop, pair[0], "a", handlers, ARRAY_N(handlers), on_lost, NULL);
	wire_init(&b->wire, loop, pair[1], "b", handlers, ARRAY_N(handlers), on_lost, NULL);
	a->wire.room = on_room;
}

static void nothing(struct timer *t)
{
}

static void run_ms(uint64_t ms)
{
	struct timer t;

	timer_init(&t, nothing);
	timer_set(loop, &t, ms);
	while (timer_is_set(&t))
		loop_pass(loop);
}

static void run_until(const int *n, int want)
{
	struct timer guard;

	timer_init(&guard, nothing);
	timer_set(loop, &guard, 8000);
	while (*n < want && timer_is_set(&guard))
		loop_pass(loop);
	timer_stop(loop, &guard);
	assert_int_equal(*n, want);
}

static void close_ends(struct end *a, struct end *b)
{
	if (!a->lost_n)
		wire_close(&a->wire);
	run_until(&a->lost_n, 1);
	run_until(&b->lost_n, 1);
}

static char text[WIRE_FRAME_MAX];

static void send_number(struct wire *w, uint64_t value, size_t tail_n)
{
	struct number n = {.value = value, .tail_n = (uint32_t)tail_n};
	size_t        half = tail_n / 3;

	for (size_t i = 0; i < tail_n; i++)
		text[i] = pattern(value, i);
	if (value % 2)
		wire_send(w, NUMBER, &n, sizeof(n), span_of(text, tail_n));
	else
		wire_send2(w, NUMBER, &n, sizeof(n), span_of(text, half), span_of(text + half, tail_n - half));
}

static void send_file(struct wire *w, uint64_t value)
{
	struct number n = {.value = value};
	int           fd = memfd_create("wire", MFD_CLOEXEC);

	assert_int_equal(write(fd, &value, sizeof(value)), sizeof(value));
	wire_send_fd(w, FILE_OF, &n, sizeof(n), SPAN_NONE, fd);
}

static int open_descriptors(void)
{
	int n = 0;

	for (int fd = 0; fd < 256; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

static void frames_arrive_in_order_whatever_their_size(void **state)
{
	static const size_t sizes[] = {0, 1, 7, 8, 4000, 4096, 70000, 3, 262144, 5, 1000000,
	                               WIRE_FRAME_MAX - sizeof(struct wire_head) - sizeof(struct number)};
	struct end          a, b;

	open_ends(&a, &b);
	for (size_t i = 0; i < ARRAY_N(sizes); i++)
		send_number(&a.wire, i, sizes[i]);
	wire_send(&b.wire, EMPTY, NULL, 0, SPAN_NONE);
	run_until(&b.numbers, ARRAY_N(sizes));
	run_until(&a.empties, 1);
	run_ms(1);
	assert_true(b.wire.in.cap <= 1024 * 1024);
	close_ends(&a, &b);
}

static void many_small_frames_with_answers(void **state)
{
	enum { N = 20000 };
	struct end a, b;

	open_ends(&a, &b);
	b.answer_to = &a.wire;
	for (int i = 0; i < N; i++)
		send_number(&a.wire, (uint64_t)i, (size_t)(i % 50));
	run_until(&b.numbers, N);
	run_until(&a.empties, N);
	for (int i = 0; i < 20; i++) {            /* slow times: the buffer shrinks again */
		send_number(&a.wire, (uint64_t)(N + i), 1);
		run_until(&b.numbers, N + i + 1);
	}
	assert_true(b.wire.in.cap <= 16384);
	close_ends(&a, &b);
}

static void descriptors_stay_with_their_frames(void **state)
{
	struct end a, b;
	int        before = open_descriptors();
	uint64_t   value = 0;

	open_ends(&a, &b);
	for (int i = 0; i < 60; i++) {
		send_file(&a.wire, value++);
		if (i % 3 == 0)
			send_number(&a.wire, value++, (size_t)i * 3000);
		if (i % 7 == 0)
			send_file(&a.wire, value++);
	}
	run_until(&b.numbers, 20);
	run_until(&b.files, 69);
	assert_int_equal(b.next, value);
	close_ends(&a, &b);
	assert_int_equal(open_descriptors(), before);
}

static void unsent_and_unread_descriptors_are_closed(void **state)
{
	struct end a, b;
	int        before = open_descriptors();

	open_ends(&a, &b);
	wire_pause(&b.wire);
	for (int i = 0; i < 40; i++)
		send_file(&a.wire, (uint64_t)i);
	run_ms(5);
	assert_int_equal(b.files, 0);
	send_file(&a.wire, 40);
	wire_close(&a.wire);
	send_file(&a.wire, 41);                   /* to a closed one: taken and closed */
	run_until(&a.lost_n, 1);
	wire_close(&b.wire);
	run_until(&b.lost_n, 1);
	assert_int_equal(open_descriptors(), before);
}

static void a_paused_wire_handles_nothing(void **state)
{
	struct end a, b;

	open_ends(&a, &b);
	b.pause_at = 3;
	for (int i = 0; i < 10; i++)
		send_number(&a.wire, (uint64_t)i, 10);
	run_until(&b.numbers, 3);
	run_ms(5);
	assert_int_equal(b.numbers, 3);
	send_number(&a.wire, 10, 300000);
	run_ms(5);
	wire_resume(&b.wire);
	assert_int_equal(b.numbers, 3);           /* only from the loop */
	run_until(&b.numbers, 11);
	wire_pause(&b.wire);
	wire_resume(&b.wire);
	send_number(&a.wire, 11, 1);
	run_until(&b.numbers, 12);
	close_ends(&a, &b);
}

static void the_last_words_of_a_dead_peer_are_heard(void **state)
{
	struct end a, b;

	open_ends(&a, &b);
	b.pause_at = 2;
	for (int i = 0; i < 50; i++)
		send_number(&a.wire, (uint64_t)i, 1000);
	run_until(&b.numbers, 2);
	wire_close(&a.wire);
	run_until(&a.lost_n, 1);
	wire_send(&b.wire, EMPTY, NULL, 0, SPAN_NONE);    /* EPIPE: no reason to forget them */
	run_ms(5);
	assert_int_equal(b.lost_n, 0);
	wire_resume(&b.wire);
	run_until(&b.lost_n, 1);
	assert_int_equal(b.numbers, 50);
}

static void close_inside_a_handler(void **state)
{
	struct end a, b;

	open_ends(&a, &b);
	b.close_at = 2;
	for (int i = 0; i < 10; i++)
		send_number(&a.wire, (uint64_t)i, 10);
	run_until(&b.lost_n, 1);
	run_until(&a.lost_n, 1);
	assert_int_equal(b.numbers, 2);
	assert_int_equal(b.lost_n, 1);
}

static void a_full_wire_says_so_and_says_when_not(void **state)
{
	struct end a, b;
	uint64_t   value = 0;

	open_ends(&a, &b);
	wire_pause(&b.wire);
	for (int i = 0; i < 3; i++) {             /* what the socket takes leaves meanwhile */
		while (!wire_full(&a.wire))
			send_number(&a.wire, value++, 100000);
		run_ms(10);
	}
	assert_true(wire_full(&a.wire));
	assert_int_equal(a.room_n, 0);
	wire_resume(&b.wire);
	run_until(&b.numbers, (int)value);
	assert_int_equal(a.room_n, 1);
	assert_false(wire_full(&a.wire));
	close_ends(&a, &b);
}

static char noted[4096];
static void note(void *ctx, struct span line)
{
	snprintf(noted, sizeof(noted), "%.*s", SPAN_ARG(line));
}

static void garbage_ends_the_connection(void **state)
{
	struct number n = {0};
	struct {
		struct wire_head head;
		struct number    body;
		char             rest[16];
	} const bad[] = {
		{{4, NUMBER, 0}, n, ""},                          /* shorter than its head */
		{{WIRE_FRAME_MAX + 1, NUMBER, 0}, n, ""},         /* longer than any */
		{{24, 8, 0}, n, ""},                              /* no such type */
		{{16, NUMBER, 0}, n, ""},                         /* half a body */
		{{32, EMPTY, 0}, n, ""},                          /* a tail where none may be */
		{{24, NUMBER, 1}, n, ""},                         /* a descriptor where none may be */
		{{24, FILE_OF, 1}, n, ""},                        /* a descriptor that did not come */
		{{24, FILE_OF, 2}, n, ""},
	};

	for (size_t i = 0; i < ARRAY_N(bad); i++) {
		struct end a;
		int        pair[2];

		noted[0] = '\0';
		log_capture(note, NULL);
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
		memset(&a, 0, sizeof(a));
		wire_init(&a.wire, loop, pair[0], "smtpd/0", handlers, ARRAY_N(handlers), on_lost, NULL);
		assert_int_equal(write(pair[1], &bad[i], sizeof(bad[i])), sizeof(bad[i]));
		run_until(&a.lost_n, 1);
		log_capture(NULL, NULL);
		assert_int_equal(a.numbers + a.files + a.empties, 0);
		assert_non_null(strstr(noted, "wire=smtpd/0 garbage="));
		close(pair[1]);
	}
}

static void bytes_may_come_one_by_one(void **state)
{
	struct end a;
	struct {
		struct wire_head head;
		struct number    body;
		char             tail[8];
	} f = {{sizeof(struct wire_head) + sizeof(struct number) + 3, NUMBER, 0}, {0, 3, 0}, {0}};
	int pair[2];

	for (size_t i = 0; i < 3; i++)
		f.tail[i] = pattern(0, i);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	memset(&a, 0, sizeof(a));
	wire_init(&a.wire, loop, pair[0], "x", handlers, ARRAY_N(handlers), on_lost, NULL);
	for (size_t i = 0; i < sizeof(f); i++) {
		assert_int_equal(a.numbers, 0);
		assert_int_equal(write(pair[1], (char *)&f + i, 1), 1);
		run_ms(1);
	}
	assert_int_equal(a.numbers, 1);
	close(pair[1]);
	run_until(&a.lost_n, 1);
}

static void blocking_ends_understand_the_others(void **state)
{
	struct end       a;
	struct number    n = {.value = 0, .tail_n = 3};
	struct wire_head h;
	struct buf       frame;
	int              pair[2], fd;

	for (size_t i = 0; i < 3; i++)
		text[i] = pattern(0, i);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	memset(&a, 0, sizeof(a));
	wire_init(&a.wire, loop, pair[0], "x", handlers, ARRAY_N(handlers), on_lost, NULL);
	assert_true(wire_write_now(pair[1], NUMBER, &n, sizeof(n), span_of(text, 3), -1));
	run_until(&a.numbers, 1);
	send_file(&a.wire, 77);
	send_number(&a.wire, 78, 100);
	run_ms(5);
	buf_init(&frame, WIRE_FRAME_MAX);
	assert_true(wire_read_now(pair[1], &frame, &h, &fd));
	assert_int_equal(h.type, FILE_OF);
	assert_int_equal(frame.n, sizeof(n));
	assert_true(fd >= 0);
	close(fd);
	assert_true(wire_read_now(pair[1], &frame, &h, &fd));
	assert_int_equal(h.type, NUMBER);
	assert_int_equal(fd, -1);
	assert_int_equal(frame.n, sizeof(n) + 100);
	fd = memfd_create("wire", MFD_CLOEXEC);
	n.value = 1;
	assert_int_equal(write(fd, &n.value, 8), 8);
	assert_true(wire_write_now(pair[1], FILE_OF, &n, sizeof(n), SPAN_NONE, fd));
	close(fd);
	run_until(&a.files, 1);
	wire_close(&a.wire);
	run_until(&a.lost_n, 1);
	assert_false(wire_read_now(pair[1], &frame, &h, &fd));
	assert_false(wire_write_now(pair[1], NUMBER, &n, sizeof(n), SPAN_NONE, -1));
	buf_free(&frame);
	close(pair[1]);
}

#define BOTH(f)                                                                             \
	{#f " (io_uring)", f, setup_uring, teardown, NULL},                                 \
	{                                                                                   \
		#f " (epoll)", f, setup_epoll, teardown, NULL                               \
	}

int main(void)
{
	const struct CMUnitTest tests[] = {
		BOTH(frames_arrive_in_order_whatever_their_size),
		BOTH(many_small_frames_with_answers),
		BOTH(descriptors_stay_with_their_frames),
		BOTH(unsent_and_unread_descriptors_are_closed),
		BOTH(a_paused_wire_handles_nothing),
		BOTH(the_last_words_of_a_dead_peer_are_heard),
		BOTH(close_inside_a_handler),
		BOTH(a_full_wire_says_so_and_says_when_not),
		BOTH(garbage_ends_the_connection),
		BOTH(bytes_may_come_one_by_one),
		BOTH(blocking_ends_understand_the_others),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
