/* fuzz_dots - a DATA body: cut anywhere it decodes to the same; what is encoded has no bare CR
 * or LF, ends once, and decodes to what docs/qmail.md 9.19 says. */
#include "core/buf.h"
#include "mail/dots.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

#define BYTES_MAX (4 * 1024 * 1024)

struct decoded {
	struct buf      body;
	enum body_event event;
	size_t          rest;
};

static void gather(void *ctx, struct span run)
{
	check(run.n > 0);
	check(buf_add(ctx, run));
}

/* In pieces of `step` bytes. */
static void decode(struct span wire, size_t step, struct decoded *ret)
{
	struct dots_in d;

	buf_init(&ret->body, BYTES_MAX);
	dots_in_begin(&d);
	ret->event = BODY_MORE;
	while (wire.n > 0 && ret->event == BODY_MORE) {
		struct span piece = span_until(wire, step);
		size_t before = piece.n;

		ret->event = dots_in_take(&d, &piece, gather, &ret->body);
		check(piece.n == 0 || ret->event != BODY_MORE);
		span_cut(&wire, before - piece.n);
	}
	ret->rest = wire.n;
	check(d.n == ret->body.n);
}

static void check_same(struct decoded *a, struct decoded *b)
{
	check(a->event == b->event);
	check(a->rest == b->rest);
	check(span_eq(buf_span(&a->body), buf_span(&b->body)));
	buf_free(&b->body);
}

static void encode(struct span body, size_t step, struct buf *ret)
{
	struct iovec v[8];
	struct dots_out d;
	struct outbuf o;

	outbuf_init(&o);
	dots_out_begin(&d);
	while (body.n > 0)
		dots_out_put(&d, &o, span_cut(&body, step));
	dots_out_end(&d, &o);
	while (o.n > 0) {
		check(outbuf_iov(&o, v, 8) > 0);
		check(buf_add(ret, span_of(v[0].iov_base, v[0].iov_len)));
		outbuf_sent(&o, v[0].iov_len);
	}
	outbuf_fini(&o);
}

static void check_line_ends(struct span wire)
{
	for (size_t i = 0; i < wire.n; i++) {
		if (wire.p[i] == '\n')
			check(i > 0 && wire.p[i - 1] == '\r');
		if (wire.p[i] == '\r')
			check(i + 1 < wire.n && wire.p[i + 1] == '\n');
	}
}

static void expected_back(struct span body, struct buf *ret)
{
	for (size_t i = 0; i < body.n; i++) {
		char c = body.p[i];

		if (c == '\r' && i + 1 < body.n && body.p[i + 1] == '\n')
			continue;
		check(buf_add_byte(ret, c == '\r' ? ' ' : c));
	}
	if (ret->n > 0 && ret->p[ret->n - 1] != '\n')
		check(buf_add_byte(ret, '\n'));
}

static void there_and_back(struct span body, size_t step)
{
	struct buf wire, again, want;
	struct decoded back;

	buf_init(&wire, BYTES_MAX);
	buf_init(&again, BYTES_MAX);
	buf_init(&want, BYTES_MAX);
	encode(body, body.n + 1, &wire);
	encode(body, step, &again);
	check(span_eq(buf_span(&wire), buf_span(&again)));
	check_line_ends(buf_span(&wire));
	decode(buf_span(&wire), step, &back);
	check(back.event == BODY_END && back.rest == 0);
	expected_back(body, &want);
	check(span_eq(buf_span(&back.body), buf_span(&want)));
	buf_free(&wire);
	buf_free(&again);
	buf_free(&want);
	buf_free(&back.body);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct span all = span_of(data, n);
	struct decoded whole, cut;

	if (n == 0)
		return 0;
	size_t step = 1 + (uint8_t)*span_cut(&all, 1).p % 16;
	decode(all, all.n + 1, &whole);
	decode(all, 1, &cut);
	check_same(&whole, &cut);
	decode(all, step, &cut);
	check_same(&whole, &cut);
	buf_free(&whole.body);
	there_and_back(all, step);
	return 0;
}
