/* What the tests of remote/ share: tasks, sources that come in pieces, a look at an outbuf. */
#ifndef REMOTE_TEST_H
#define REMOTE_TEST_H

#include "core/outbuf.h"
#include "core/pool.h"
#include "core/rand.h"
#include "mail/envelope.h"
#include "remote/task.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct test_source {
	struct source source;
	struct span   body;
	size_t        at;
	size_t        piece;                      /* 0: as much as asked for */
	unsigned      later;                      /* one take in so many says "later"; 0: none */
	size_t        gone_at;                    /* SIZE_MAX: never */
	bool          eight_bit;
};

static inline enum source_event test_source_take(struct source *s, size_t max, struct span *ret)
{
	struct test_source *t = owner_of(s, struct test_source, source);
	size_t              n = t->piece && t->piece < max ? t->piece : max;

	if (t->later && rand_below(t->later) == 0)
		return SOURCE_LATER;
	if (t->at >= t->gone_at)
		return SOURCE_GONE;
	if (t->at >= t->body.n)
		return SOURCE_END;
	*ret = span_until(span_from(t->body, t->at), n);
	t->at += ret->n;
	return SOURCE_BYTES;
}

static inline void test_source_rewind(struct source *s)
{
	owner_of(s, struct test_source, source)->at = 0;
}

static inline bool test_source_eight_bit(const struct source *s)
{
	return owner_of(s, struct test_source, source)->eight_bit;
}

static inline void test_source_init(struct test_source *t, struct span body)
{
	*t = (struct test_source){.body = body, .gone_at = SIZE_MAX};
	t->source = (struct source){test_source_take, test_source_rewind, test_source_eight_bit};
}

/* rcpts: NULL ends. */
static inline struct task *test_task(uint32_t number, const char *sender, const char *const *rcpts, struct test_source *src)
{
	struct msg_deliver d = {.job = number, .handle = number, .id = number, .size = src ? src->body.n : 0};
	struct buf         tail;
	struct task       *t;

	buf_init(&tail, 1 << 20);
	assert_true(buf_add(&tail, span_str(sender)));
	d.sender_n = (uint16_t)strlen(sender);
	for (; rcpts[d.rcpts]; d.rcpts++)
		assert_true(packed_add(&tail, span_str(rcpts[d.rcpts])));
	t = task_new(&d, buf_span(&tail));
	assert_non_null(t);
	buf_free(&tail);
	if (src)
		t->source = &src->source;
	return t;
}

/* All that waits in the outbuf, NUL-terminated, and takes it out.  Freed by the caller with mem_free. */
static inline char *test_drain(struct outbuf *o, size_t *ret_n)
{
	size_t n = o->n;
	char  *p = mem_new(n + 1);

	assert_int_equal(outbuf_copy(o, p, n), n);
	outbuf_sent(o, n);
	if (ret_n)
		*ret_n = n;
	return p;
}

static inline void assert_drained(struct outbuf *o, const char *want)
{
	char *p = test_drain(o, NULL);

	assert_string_equal(p, want);
	mem_free(p);
}

static inline void assert_text(struct span got, const char *want)
{
	char b[RESULT_TEXT_MAX + 1];

	assert_true(got.n < sizeof(b));
	memcpy(b, got.p, got.n);
	b[got.n] = '\0';
	assert_string_equal(b, want);
}

#endif
