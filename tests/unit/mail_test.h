/* mail_test - what the tests of src/mail share: cmocka, spans compared, bytes gathered. */
#ifndef TESTS_MAIL_TEST_H
#define TESTS_MAIL_TEST_H

#include "core/buf.h"
#include "core/outbuf.h"
#include "core/span.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define TEST_BYTES_MAX (1024 * 1024)

static inline void assert_span_at(struct span got, struct span want, const char *file, int line)
{
	if (span_eq(got, want))
		return;
	print_error("got  \"%.*s\" (%zu)\nwant \"%.*s\" (%zu)\n", SPAN_ARG(got), got.n,
	            SPAN_ARG(want), want.n);
	_fail(file, line);
}
#define assert_span(got, want)      assert_span_at(got, span_str(want), __FILE__, __LINE__)
#define assert_spans_eq(got, want)  assert_span_at(got, want, __FILE__, __LINE__)

/* A put() that gathers, for everything that hands out runs. */
static inline void gather(void *buf, struct span run)
{
	assert_true(buf_add(buf, run));
}

/* The bytes of an outbuf, appended to b; the outbuf is empty afterwards. */
static inline void drain_outbuf(struct outbuf *o, struct buf *b)
{
	struct iovec v[8];

	while (o->n > 0) {
		int n = outbuf_iov(o, v, 8);

		assert_true(n > 0);
		assert_true(buf_add(b, span_of(v[0].iov_base, v[0].iov_len)));
		outbuf_sent(o, v[0].iov_len);
	}
}

#endif
