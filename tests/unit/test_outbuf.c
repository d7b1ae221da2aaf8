#include "core/outbuf.h"

#include "core/rand.h"

#include <stdio.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static int  released;
static void on_release(void *ctx)
{
	released += *(int *)ctx;
}

static void says_what_was_said(struct outbuf *o, const char *expect, size_t n)
{
	static char got[1 << 20];

	assert_int_equal(o->n, n);
	assert_int_equal(outbuf_copy(o, got, sizeof(got)), n);
	assert_memory_equal(got, expect, n);
}

static void all_ways_to_say_keep_their_order(void **state)
{
	struct outbuf o;
	int           one = 1;
	char          longer[1001];

	released = 0;
	memset(longer, 'l', 1000);
	longer[1000] = '\0';
	outbuf_init(&o);
	out_str(&o, "250 ");
	out_fmt(&o, "%d-%s", 7, "x");
	out_borrow(&o, SPAN("borrowed"), on_release, &one);
	out_byte(&o, '!');
	out_span(&o, SPAN_NONE);
	out_borrow(&o, SPAN_NONE, on_release, &one);
	says_what_was_said(&o, "250 7-xborrowed!", 16);
	outbuf_sent(&o, 10);
	says_what_was_said(&o, "rowed!", 6);
	assert_int_equal(released, 0);
	outbuf_sent(&o, 5);
	assert_int_equal(released, 1);
	out_fmt(&o, "%s", longer);
	assert_int_equal(o.n, 1001);
	outbuf_fini(&o);
	assert_int_equal(released, 2);
	assert_int_equal(o.n, 0);
	outbuf_fini(&o);
}

/* Random pieces of every kind, sent in random steps: the bytes come out in order. */
static void a_long_talk(void **state)
{
	static char   text[1 << 20];
	struct outbuf o;
	struct iovec  v[8];
	size_t        said = 0, sent = 0;
	int           one = 1, borrowed = 0;

	released = 0;
	rand_seed(3);
	for (size_t i = 0; i < sizeof(text); i++)
		text[i] = (char)rand_u64();
	outbuf_init(&o);
	while (sent < sizeof(text)) {
		size_t left = sizeof(text) - said, n = rand_below(rand_below(4) ? 300 : 20000);

		n = n < left ? n : left;
		if (rand_below(5) == 0) {
			out_borrow(&o, span_of(text + said, n), on_release, &one);
			borrowed++;
		} else {
			out_span(&o, span_of(text + said, n));
		}
		said += n;
		assert_true(outbuf_full(&o) == (o.n >= OUTBUF_FULL));
		if (said < sizeof(text) && rand_below(3))
			continue;
		int    pieces = outbuf_iov(&o, v, 8);
		size_t go = 0;

		for (int i = 0; i < pieces; i++) {
			assert_memory_equal(v[i].iov_base, text + sent + go, v[i].iov_len);
			go += v[i].iov_len;
		}
		go = go ? 1 + rand_below(go) : 0;
		outbuf_sent(&o, go);
		sent += go;
		assert_int_equal(o.n, said - sent);
	}
	outbuf_fini(&o);
	assert_int_equal(released, borrowed);
}

static void moves_the_front(void **state)
{
	struct outbuf from, to;
	int           one = 1;

	released = 0;
	outbuf_init(&from);
	outbuf_init(&to);
	out_str(&to, ">");
	out_str(&from, "abc");
	out_borrow(&from, SPAN("defgh"), on_release, &one);
	out_str(&from, "ijk");
	out_move(&to, &from, 5);
	says_what_was_said(&to, ">abcde", 6);
	says_what_was_said(&from, "fghijk", 6);
	out_str(&to, "-");
	out_move(&to, &from, 6);
	says_what_was_said(&to, ">abcde-fghijk", 13);
	assert_int_equal(from.n, 0);
	out_str(&from, "more");
	outbuf_fini(&from);
	assert_int_equal(released, 0);
	outbuf_fini(&to);
	assert_int_equal(released, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_ways_to_say_keep_their_order),
		cmocka_unit_test(a_long_talk),
		cmocka_unit_test(moves_the_front),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
