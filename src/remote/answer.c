/* answer - see the header. */
#include "remote/answer.h"

#include "remote/task.h"

void answer_init(struct answer *a)
{
	*a = (struct answer){0};
	line_init(&a->line, ANSWER_LINE_MAX);
	buf_init(&a->text, ANSWER_TEXT_MAX);
}

void answer_fini(struct answer *a)
{
	line_fini(&a->line);
	buf_free(&a->text);
}

/* [2-5][0-9][0-9], then SP, '-' or nothing.  RFC 5321 4.2. */
static bool parse_code(struct span line, uint16_t *ret)
{
	uint64_t code;

	if (line.n < 3 || !span_u64(span_until(line, 3), 599, &code) || code < 200)
		return false;
	if (line.n > 3 && line.p[3] != ' ' && line.p[3] != '-')
		return false;
	*ret = (uint16_t)code;
	return true;
}

static enum answer_event take_line(struct answer *a, struct span line)
{
	uint16_t code;

	if (!parse_code(line, &code) || a->lines == ANSWER_LINES_MAX)
		return ANSWER_GARBLED;
	if (a->lines++ == 0)
		a->code = code;
	task_clean_text(&a->text, line, false);
	task_clean_text(&a->text, SPAN("\n"), true);
	a->complete = line.n == 3 || line.p[3] == ' ';
	return a->complete ? ANSWER_OK : ANSWER_MORE;
}

enum answer_event answer_take(struct answer *a, struct span *in)
{
	struct span line;

	if (a->complete) {
		buf_clear(&a->text);
		a->code = a->lines = 0;
		a->complete = false;
	}
	for (;;) {
		enum answer_event ev;

		switch (line_take(&a->line, in, &line)) {
		case LINE_MORE: return ANSWER_MORE;
		case LINE_LONG: return ANSWER_GARBLED;
		case LINE_OK:
			ev = take_line(a, line);
			if (ev != ANSWER_MORE)
				return ev;
			break;
		}
	}
}

bool answer_has_enhanced(const struct answer *a, struct span prefix)
{
	return span_starts(span_from(buf_span(&a->text), 4), prefix);
}
