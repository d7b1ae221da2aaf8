#include "core/stream.h"

#include "core/clock.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static struct loop *loop;

static int setup_uring(void **state)
{
	loop = loop_new(LOOP_URING, 8);
	return 0;
}

static int setup_epoll(void **state)
{
	loop = loop_new(LOOP_EPOLL, 8);
	return 0;
}

static int setup_uring_2(void **state)
{
	loop = loop_new(LOOP_URING, 2);
	return 0;
}

static int setup_epoll_2(void **state)
{
	loop = loop_new(LOOP_EPOLL, 2);
	return 0;
}

static int teardown(void **state)
{
	loop_free(loop);
	return 0;
}

/* One end of a conversation, told what to do by its fields. */
struct talker {
	struct stream stream;
	char          got[4096];
	size_t        got_n;
	uint64_t      sum, all;
	size_t        take_max;                   /* bytes taken at one offer */
	bool          takes_none, echo, drops_in_bytes, closes_in_bytes, keeps_eof;
	int           offers, connected_n, eof_n, room_n, lost_n, error;
	enum lost     why;
};

static void on_connected(struct stream *st)
{
	owner_of(st, struct talker, stream)->connected_n++;
}

static void on_bytes(struct stream *st, struct span *in)
{
	struct talker *t = owner_of(st, struct talker, stream);

	t->offers++;
	assert_int_equal(t->lost_n, 0);
	if (t->drops_in_bytes) {
		stream_drop(st);
		stream_drop(st);
		return;
	}
	if (t->closes_in_bytes) {
		out_str(stream_out(st), "bye");
		stream_close(st);
		return;
	}
	if (t->takes_none)
		return;
	struct span part = span_cut(in, t->take_max ? t->take_max : SIZE_MAX);

	for (size_t i = 0; i < part.n; i++)
		t->sum = t->sum * 31 + (unsigned char)part.p[i];
	t->all += part.n;
	if (t->got_n + part.n <= sizeof(t->got)) {
		memcpy(t->got + t->got_n, part.p, part.n);
		t->got_n += part.n;
	}
	if (t->echo)
		out_span(stream_out(st), part);
}

static void on_eof(struct stream *st)
{
	struct talker *t = owner_of(st, struct talker, stream);

	t->eof_n++;
	if (!t->keeps_eof)
		stream_close(st);
}

static void on_room(struct stream *st)
{
	owner_of(st, struct talker, stream)->room_n++;
}

static void on_lost(struct stream *st, enum lost why, int error)
{
	struct talker *t = owner_of(st, struct talker, stream);

	assert_false(st->recv.armed || st->send.armed || st->dial.armed);
	assert_int_equal(st->fd, -1);
	t->lost_n++;
	t->why = why;
	t->error = error;
	memset(&t->stream, 0xee, sizeof(t->stream));    /* it may be freed now: nobody may look */
}

static const struct stream_calls calls = {on_connected, on_bytes, NULL, on_room, on_lost};
static const struct stream_calls calls_eof = {on_connected, on_bytes, on_eof, on_room, on_lost};

static void talker_init(struct talker *t)
{
	memset(t, 0, sizeof(*t));
	stream_init(&t->stream, loop, &calls);
}

static void make_pair(int pair[2])
{
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
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
	timer_set(loop, &guard, 5000);
	while (*n < want && timer_is_set(&guard))
		loop_pass(loop);
	timer_stop(loop, &guard);
	assert_int_equal(*n, want);
}

static int make_listener(struct sockaddr_in *ret)
{
	socklen_t n = sizeof(*ret);
	int       fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	*ret = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	assert_int_equal(bind(fd, (struct sockaddr *)ret, sizeof(*ret)), 0);
	assert_int_equal(listen(fd, 64), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)ret, &n), 0);
	return fd;
}

static void a_stream_stays_small(void **state)
{
	assert_true(sizeof(struct stream) <= 700);
}

/* Write 1 MB through an echoing stream on TCP, read it back by another. */
static void echo_of_a_megabyte_over_tcp(void **state)
{
	enum { N = 1 << 20 };
	struct sockaddr_in addr, from = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f000001)};
	int                listener = make_listener(&addr);
	static struct talker a, b;
	uint64_t           sum = 0;
	size_t             said = 0;
	int                fd;

	talker_init(&a);
	talker_init(&b);
	b.echo = true;
	stream_connect(&a.stream, (struct sockaddr *)&addr, sizeof(addr), (struct sockaddr *)&from);
	out_str(stream_out(&a.stream), "");       /* said before it is connected */
	run_until(&a.connected_n, 1);
	fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	assert_true(fd >= 0);
	stream_take(&b.stream, fd);
	stream_wait(&a.stream, 10000);
	while (a.all < N && a.lost_n == 0) {
		while (said < N && !outbuf_full(&a.stream.out)) {
			char   text[3000];
			size_t n = 1 + said % sizeof(text);

			n = n < N - said ? n : N - said;
			for (size_t i = 0; i < n; i++) {
				text[i] = (char)((said + i) * 13 / 7);
				sum = sum * 31 + (unsigned char)text[i];
			}
			out_span(stream_out(&a.stream), span_of(text, n));
			said += n;
		}
		loop_pass(loop);
	}
	assert_int_equal(a.all, N);
	assert_true(a.sum == sum);
	assert_true(a.room_n > 0);
	stream_close(&a.stream);
	run_until(&b.lost_n, 1);
	run_until(&a.lost_n, 1);
	assert_int_equal(b.why, LOST_EOF);
	assert_int_equal(a.why, LOST_CLOSED);
	close(listener);
}

static void what_is_not_taken_is_offered_again(void **state)
{
	struct talker t;
	int           pair[2];

	make_pair(pair);
	talker_init(&t);
	t.take_max = 2;
	stream_take(&t.stream, pair[0]);
	assert_int_equal(write(pair[1], "abcdef", 6), 6);
	run_until(&t.offers, 1);
	run_ms(5);
	assert_int_equal(t.offers, 1);            /* not before it is asked for */
	assert_memory_equal(t.got, "ab", 2);
	stream_again(&t.stream);
	assert_int_equal(t.offers, 1);            /* and only from the loop */
	loop_pass(loop);
	assert_memory_equal(t.got, "abcd", 4);
	assert_int_equal(write(pair[1], "gh", 2), 2);
	run_ms(5);
	assert_int_equal(t.offers, 2);
	t.take_max = 0;
	stream_again(&t.stream);
	loop_pass(loop);
	assert_int_equal(t.got_n, 8);
	assert_memory_equal(t.got, "abcdefgh", 8);
	stream_drop(&t.stream);
	run_until(&t.lost_n, 1);
	close(pair[1]);
}

/* Who takes nothing makes the peer wait; nothing gets lost or mixed. */
static void held_bytes_push_back(void **state)
{
	struct talker t;
	char          c = 0;
	uint64_t      written = 0, sum = 0;
	int           pair[2];

	make_pair(pair);
	talker_init(&t);
	t.takes_none = true;
	stream_take(&t.stream, pair[0]);
	for (int i = 0; i < 300; i++) {
		for (int j = 0; j < 20000; j++) {
			c = (char)(written * 7 / 3);
			if (write(pair[1], &c, 1) != 1)
				break;
			sum = sum * 31 + (unsigned char)c;
			written++;
		}
		run_ms(0);
	}
	run_ms(10);
	assert_false(t.stream.recv.armed);
	assert_true(t.stream.held_n <= STREAM_HELD_MAX + 2);    /* not every buffer there is */
	assert_int_equal(t.offers, 1);
	assert_true(write(pair[1], "x", 1) < 0);
	close(pair[1]);
	run_ms(5);
	assert_int_equal(t.lost_n, 0);            /* the end comes behind the bytes */
	t.takes_none = false;
	stream_again(&t.stream);
	run_until(&t.lost_n, 1);
	assert_int_equal(t.why, LOST_EOF);
	assert_true(t.all == written && t.sum == sum);
}

static void make_tcp_pair(int pair[2])
{
	struct sockaddr_in addr;
	int                listener = make_listener(&addr);

	pair[1] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(pair[1], (struct sockaddr *)&addr, sizeof(addr)), 0);
	pair[0] = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	assert_true(pair[0] >= 0);
	close(listener);
}

/* Bytes and the end after them are there before we look, or arrive in one pass. */
static void half_closed_peer(void (*make)(int pair[2]), bool early)
{
	struct talker t;
	char          answer[16] = {0};
	int           pair[2];

	make(pair);
	talker_init(&t);
	t.stream.calls = &calls_eof;
	t.keeps_eof = true;
	stream_take(&t.stream, pair[0]);
	if (!early)
		run_ms(1);
	assert_int_equal(write(pair[1], "hi", 2), 2);
	shutdown(pair[1], SHUT_WR);
	run_until(&t.eof_n, 1);
	assert_int_equal(t.got_n, 2);
	run_ms(5);
	assert_int_equal(t.eof_n, 1);
	out_str(stream_out(&t.stream), "answer");
	stream_close(&t.stream);
	run_until(&t.lost_n, 1);
	assert_int_equal(t.why, LOST_CLOSED);
	assert_int_equal(read(pair[1], answer, sizeof(answer)), 6);
	assert_string_equal(answer, "answer");
	close(pair[1]);
}

static void half_closed_peer_gets_its_answer(void **state)
{
	half_closed_peer(make_pair, true);
	half_closed_peer(make_pair, false);
	half_closed_peer(make_tcp_pair, true);
	half_closed_peer(make_tcp_pair, false);
}

static void drop_inside_bytes(void **state)
{
	struct talker t;
	int           pair[2];

	make_pair(pair);
	talker_init(&t);
	t.drops_in_bytes = true;
	stream_take(&t.stream, pair[0]);
	assert_int_equal(write(pair[1], "x", 1), 1);
	run_until(&t.lost_n, 1);
	run_ms(5);
	assert_int_equal(t.lost_n, 1);
	assert_int_equal(t.why, LOST_CLOSED);
	assert_int_equal(t.offers, 1);
	close(pair[1]);
}

static void close_inside_bytes_says_it_all_first(void **state)
{
	struct talker t;
	char          answer[16] = {0};
	int           pair[2];

	make_pair(pair);
	talker_init(&t);
	t.closes_in_bytes = true;
	stream_take(&t.stream, pair[0]);
	assert_int_equal(write(pair[1], "x", 1), 1);
	run_until(&t.offers, 1);
	run_ms(5);
	assert_int_equal(read(pair[1], answer, sizeof(answer)), 3);
	assert_string_equal(answer, "bye");
	assert_int_equal(read(pair[1], answer, 1), 0);
	assert_int_equal(write(pair[1], "pipelined", 9), 9);    /* read into nothing */
	run_ms(5);
	assert_int_equal(t.lost_n, 0);
	close(pair[1]);
	run_until(&t.lost_n, 1);
	assert_int_equal(t.why, LOST_CLOSED);
	assert_int_equal(t.offers, 1);
}

static void close_with_a_deaf_peer_ends_at_the_deadline(void **state)
{
	struct talker t;
	static char   text[300000];
	int           pair[2];

	make_pair(pair);
	talker_init(&t);
	stream_take(&t.stream, pair[0]);
	for (int i = 0; i < 5; i++)
		out_span(stream_out(&t.stream), span_of(text, sizeof(text)));
	stream_wait(&t.stream, 30);
	stream_close(&t.stream);
	stream_wait(&t.stream, 100000);           /* too late to change it */
	run_until(&t.lost_n, 1);
	assert_int_equal(t.why, LOST_DEADLINE);
	close(pair[1]);
}

static void a_deadline_is_an_end(void **state)
{
	struct talker t;
	int           pair[2];

	make_pair(pair);
	talker_init(&t);
	stream_take(&t.stream, pair[0]);
	stream_wait(&t.stream, 5);
	stream_wait(&t.stream, 0);
	run_ms(15);
	assert_int_equal(t.lost_n, 0);
	stream_wait(&t.stream, 5);
	run_until(&t.lost_n, 1);
	assert_int_equal(t.why, LOST_DEADLINE);
	assert_int_equal(t.error, ETIMEDOUT);
	close(pair[1]);
}

static void a_reset_is_an_error(void **state)
{
	struct sockaddr_in addr;
	struct linger      at_once = {.l_onoff = 1};
	struct talker      t;
	int                listener = make_listener(&addr), fd;

	talker_init(&t);
	stream_connect(&t.stream, (struct sockaddr *)&addr, sizeof(addr), NULL);
	run_until(&t.connected_n, 1);
	fd = accept(listener, NULL, NULL);
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
	close(fd);
	run_until(&t.lost_n, 1);
	assert_int_equal(t.why, LOST_ERROR);
	assert_int_equal(t.error, ECONNRESET);
	close(listener);
}

static void a_refused_connect_is_an_error_from_the_loop(void **state)
{
	struct sockaddr_in addr, not_ours = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0xc0000201)};
	struct talker      t;
	int                listener = make_listener(&addr);

	close(listener);
	talker_init(&t);
	stream_connect(&t.stream, (struct sockaddr *)&addr, sizeof(addr), NULL);
	assert_int_equal(t.lost_n, 0);
	run_until(&t.lost_n, 1);
	assert_int_equal(t.why, LOST_ERROR);
	assert_int_equal(t.error, ECONNREFUSED);
	talker_init(&t);
	stream_connect(&t.stream, (struct sockaddr *)&addr, sizeof(addr), (struct sockaddr *)&not_ours);
	assert_int_equal(t.lost_n, 0);
	run_until(&t.lost_n, 1);
	assert_int_equal(t.error, EADDRNOTAVAIL);
}

/* Dropped, closed and timed out while the connect is under way. */
static void a_connect_is_abandoned(void **state)
{
	for (int how = 0; how < 4; how++) {
		struct sockaddr_in addr;
		struct talker      t;
		int                listener = make_listener(&addr), fds[2];

		listen(listener, 0);
		for (int i = 0; i < 2; i++) {
			fds[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
			if (connect(fds[i], (struct sockaddr *)&addr, sizeof(addr)) < 0)
				assert_int_equal(errno, EINPROGRESS);
		}
		talker_init(&t);
		stream_connect(&t.stream, (struct sockaddr *)&addr, sizeof(addr), NULL);
		if (how > 0)
			run_ms(3);
		if (how <= 1)
			stream_drop(&t.stream);
		else if (how == 2)
			stream_close(&t.stream);
		else
			stream_wait(&t.stream, 5);
		run_until(&t.lost_n, 1);
		assert_int_equal(t.why, how == 3 ? LOST_DEADLINE : LOST_CLOSED);
		assert_int_equal(t.connected_n, 0);
		close(fds[0]);
		close(fds[1]);
		close(listener);
	}
}

/* The peer said something and reset the connection, all before we receive the first time. */
static void a_reset_right_behind_bytes_is_seen(void **state)
{
	struct sockaddr_in addr;
	struct linger      reset = {.l_onoff = 1};
	int                listener = make_listener(&addr), client, fd;
	struct talker      t;

	client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(client, (struct sockaddr *)&addr, sizeof(addr)), 0);
	fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(write(client, "hello", 5), 5);
	assert_int_equal(setsockopt(client, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset)), 0);
	close(client);
	talker_init(&t);
	stream_take(&t.stream, fd);
	run_until(&t.lost_n, 1);
	assert_int_equal(t.why, LOST_ERROR);
	close(listener);
}

static void never_begun_and_dropped(void **state)
{
	struct talker t;

	talker_init(&t);
	out_str(stream_out(&t.stream), "to nobody");
	stream_drop(&t.stream);
	assert_int_equal(t.lost_n, 0);
	run_until(&t.lost_n, 1);
	assert_int_equal(t.why, LOST_CLOSED);
}

static int  released;
static void on_release(void *ctx)
{
	released++;
}

static void borrowed_bytes_come_back_when_dropped(void **state)
{
	static char   text[300000];
	struct talker t;
	int           pair[2];

	released = 0;
	make_pair(pair);
	talker_init(&t);
	stream_take(&t.stream, pair[0]);
	for (int i = 0; i < 4; i++)
		out_borrow(stream_out(&t.stream), span_of(text, sizeof(text)), on_release, NULL);
	run_ms(5);
	assert_true(t.stream.send.armed);
	stream_drop(&t.stream);
	run_until(&t.lost_n, 1);
	assert_int_equal(released, 4);
	close(pair[1]);
}

/* Two buffers, both held by one who takes nothing: another must still be served in the end. */
static void starved_streams_are_served_later(void **state)
{
	struct talker greedy, other;
	int           a[2], b[2];

	make_pair(a);
	make_pair(b);
	talker_init(&greedy);
	talker_init(&other);
	greedy.takes_none = true;
	stream_take(&greedy.stream, a[0]);
	stream_take(&other.stream, b[0]);
	assert_int_equal(write(a[1], "1", 1), 1);
	run_until(&greedy.offers, 1);
	assert_int_equal(write(a[1], "2", 1), 1);
	run_ms(5);
	assert_int_equal(write(b[1], "hello", 5), 5);
	run_ms(60);
	assert_int_equal(other.offers, 0);
	assert_int_equal(other.lost_n, 0);
	greedy.takes_none = false;
	stream_again(&greedy.stream);
	run_until(&other.offers, 1);
	assert_memory_equal(other.got, "hello", 5);
	assert_memory_equal(greedy.got, "12", 2);
	greedy.takes_none = true;
	assert_int_equal(write(a[1], "3", 1), 1);
	run_ms(3);
	assert_int_equal(write(a[1], "4", 1), 1);
	run_ms(3);
	assert_int_equal(write(b[1], "!", 1), 1);
	run_ms(3);
	stream_drop(&other.stream);               /* while it waits for a buffer */
	run_until(&other.lost_n, 1);
	stream_drop(&greedy.stream);              /* its buffers go back */
	run_until(&greedy.lost_n, 1);
	close(a[1]);
	close(b[1]);
}

#define BOTH_WITH(f, bufs)                                                                  \
	{#f " (io_uring)", f, setup_uring##bufs, teardown, NULL},                           \
	{                                                                                   \
		#f " (epoll)", f, setup_epoll##bufs, teardown, NULL                         \
	}
#define BOTH(f) BOTH_WITH(f, )

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_stream_stays_small),
		BOTH(echo_of_a_megabyte_over_tcp),
		BOTH_WITH(echo_of_a_megabyte_over_tcp, _2),
		BOTH(what_is_not_taken_is_offered_again),
		BOTH(held_bytes_push_back),
		BOTH_WITH(held_bytes_push_back, _2),
		BOTH(half_closed_peer_gets_its_answer),
		BOTH(drop_inside_bytes),
		BOTH(close_inside_bytes_says_it_all_first),
		BOTH(close_with_a_deaf_peer_ends_at_the_deadline),
		BOTH(a_deadline_is_an_end),
		BOTH(a_reset_is_an_error),
		BOTH(a_reset_right_behind_bytes_is_seen),
		BOTH(a_refused_connect_is_an_error_from_the_loop),
		BOTH(a_connect_is_abandoned),
		BOTH(never_begun_and_dropped),
		BOTH(borrowed_bytes_come_back_when_dropped),
		BOTH_WITH(starved_streams_are_served_later, _2),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
