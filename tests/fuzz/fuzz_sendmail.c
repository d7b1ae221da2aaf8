/* fuzz_sendmail - any message through all that sendmail does to one: the dot, the header's end,
 * its fields and address lists.  Cut anywhere the result is the same; recipients can stand in an
 * envelope and a log; what stands behind the header is never touched. */
#include "tools/headers.h"
#include "tools/intake.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

#define BYTES_MAX (1024 * 1024)
#define TEXT_MAX  (64 * 1024)

static const struct rewrite rw = {
	{ "mail.example.com", 16 }, { "example.com", 11 }, { "plus.example", 12 },
};

/* The message as it comes out of the dot's keeper, in pieces. */
static void take(struct span in, size_t step, struct buf *ret)
{
	struct dot_end d;

	dot_end_begin(&d);
	while (in.n > 0 && !d.over) {
		struct span piece = span_cut(&in, step);
		char       *dst = buf_room(ret, piece.n + DOT_END_ROOM);

		check(dst);
		ret->n += dot_end_take(&d, piece, dst);
	}
	char *dst = buf_room(ret, DOT_END_ROOM);
	check(dst);
	ret->n += dot_end_finish(&d, dst);
}

/* No line of it is a lone dot, and it is how the input begins. */
static void check_dot(struct span in, struct span out)
{
	check(span_starts(in, out));
	for (size_t lf; out.n > 0; span_cut(&out, lf == SPAN_NPOS ? out.n : lf + 1)) {
		lf = span_find(out, '\n');
		check(!span_eq(span_until(out, lf), SPAN(".")) &&
		      (lf == SPAN_NPOS || !span_eq(span_until(out, lf), SPAN(".\r"))));
	}
}

static enum headers_end find_end(struct span text, size_t step, size_t *ret_at)
{
	struct headers_scan s = {0};
	enum headers_end    end = HEADERS_MORE;

	for (size_t n = step; end == HEADERS_MORE && n < text.n; n += step) {
		end = headers_end(&s, span_until(text, n), false, ret_at);
		check(end != HEADERS_MORE || *ret_at == n);
	}
	return end == HEADERS_MORE ? headers_end(&s, text, true, ret_at) : end;
}

static void check_rcpts(struct span list)
{
	check(list.n == 0 || list.p[list.n - 1] == '\0');
	while (list.n > 0) {
		struct span rcpt = span_cut(&list, span_find(list, '\0'));

		span_cut(&list, 1);
		check(rcpt.n > 0);
		check(!span_has(rcpt, '\n') && !span_has(rcpt, '\r') && span_has(rcpt, '@'));
	}
}

/* Every line that is kept was there, in this order; "MBOX-Line: " and a last LF aside. */
static void check_kept(struct span kept, struct span header)
{
	if (span_starts(header, SPAN("From ")))
		span_skip(&kept, SPAN("MBOX-Line: "));
	while (kept.n > 0) {
		size_t      lf = span_find(kept, '\n');
		struct span line = span_cut(&kept, lf + 1);

		check(lf != SPAN_NPOS);
		for (;;) {
			struct span was;

			check(header.n > 0);
			lf = span_find(header, '\n');
			was = span_cut(&header, lf == SPAN_NPOS ? header.n : lf + 1);
			if (span_eq(was, line) || (lf == SPAN_NPOS && span_eq(was, span_until(line, line.n - 1))))
				break;
		}
	}
}

static void read_header(struct span header, bool collects)
{
	const struct headers_new n = {.from = SPAN("joe@mail.example.com"), .idhost = SPAN("id.example")};
	struct headers           h;
	struct buf               added;
	struct headers_scan      again = {0};
	size_t                   at;

	headers_init(&h, &rw, collects);
	if (headers_read(&h, header)) {
		buf_init(&added, BYTES_MAX);
		check(headers_missing(&h, &n, &added));
		buf_free(&added);
		check_kept(buf_span(&h.kept), header);
		check_rcpts(headers_rcpts(&h));
		check(!span_has(buf_span(&h.return_path), '\n') && !span_has(buf_span(&h.return_path), '\0'));
		check(headers_end(&again, buf_span(&h.kept), true, &at) == HEADERS_MORE && at == h.kept.n);
	} else {
		check(h.bad.n > 0 || h.full);
	}
	headers_fini(&h);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct span      in = span_of(data, n < TEXT_MAX ? n : TEXT_MAX);
	struct buf       whole, pieces;
	size_t           at, at_again, step = n > 0 ? 1 + data[n - 1] % 13 : 1;
	enum headers_end end;

	buf_init(&whole, BYTES_MAX);
	buf_init(&pieces, BYTES_MAX);
	take(in, SIZE_MAX, &whole);
	take(in, step, &pieces);
	check(span_eq(buf_span(&whole), buf_span(&pieces)));
	check_dot(in, buf_span(&whole));
	end = find_end(in, SIZE_MAX / 2, &at);
	check(find_end(in, step, &at_again) == end && at == at_again && at <= in.n);
	read_header(span_until(in, at), true);
	read_header(span_until(in, at), false);
	buf_free(&whole);
	buf_free(&pieces);
	return 0;
}
