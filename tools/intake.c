/* intake - see intake.h. */
#include "tools/intake.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

long intake_read(int fd, char *dst, size_t n)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	for (;;) {
		ssize_t got = read(fd, dst, n);

		if (got >= 0)
			return got;
		if (errno == EAGAIN)
			(void)poll(&p, 1, -1);
		else if (errno != EINTR)
			return -errno;
	}
}

void dot_end_begin(struct dot_end *t)
{
	*t = (struct dot_end){.at = DOT_LINE_BEGINS};
}

/* What was held turned out to be data. */
static size_t release(struct dot_end *t, char *dst)
{
	size_t n = t->at == DOT_CR_SEEN ? 2 : 1;

	memcpy(dst, ".\r", n);
	t->at = DOT_INSIDE;
	return n;
}

static size_t take_line(struct dot_end *t, struct span *in, char *dst)
{
	size_t      lf = span_find(*in, '\n');
	struct span part = span_cut(in, lf == SPAN_NPOS ? in->n : lf + 1);

	memcpy(dst, part.p, part.n);
	t->at = lf == SPAN_NPOS ? DOT_INSIDE : DOT_LINE_BEGINS;
	return part.n;
}

size_t dot_end_take(struct dot_end *t, struct span in, char *dst)
{
	size_t n = 0;

	while (in.n > 0 && !t->over) {
		switch (t->at) {
		case DOT_INSIDE:
			n += take_line(t, &in, dst + n);
			break;
		case DOT_LINE_BEGINS:
			t->at = span_skip(&in, SPAN(".")) ? DOT_SEEN : DOT_INSIDE;
			break;
		case DOT_SEEN:
			if (span_skip(&in, SPAN("\r")))
				t->at = DOT_CR_SEEN;
			else if (span_skip(&in, SPAN("\n")))
				t->over = true;
			else
				n += release(t, dst + n);
			break;
		case DOT_CR_SEEN:
			if (span_skip(&in, SPAN("\n")))
				t->over = true;
			else
				n += release(t, dst + n);
			break;
		}
	}
	return n;
}

size_t dot_end_finish(struct dot_end *t, char dst[static DOT_END_ROOM])
{
	if (t->over)
		return 0;
	t->over = true;
	return t->at == DOT_CR_SEEN ? release(t, dst) : 0;
}
