/* task - see the header.  The struct, the arrays and the bytes of the envelope are one piece of
 * memory: there may be thousands of tasks, most of them with one recipient. */
#include "remote/task.h"

#include "core/pool.h"
#include "core/wire.h"
#include "mail/envelope.h"

#include <stdio.h>
#include <string.h>

#define TEXT_BLOCK 512
/* What all results of a verdict may take together; the rest of the frame is heads. */
#define VERDICT_MAX (WIRE_FRAME_MAX - 1024)

static bool fill_recipients(struct task *j, struct span packed)
{
	for (uint32_t i = 0; i < j->rcpts; i++)
		if (!packed_next(&packed, &j->rcpt[i]))
			return false;
	return packed.n == 0;
}

struct task *task_new(const struct msg_deliver *d, struct span tail)
{
	size_t arrays = (size_t)d->rcpts * (sizeof(struct span) + sizeof(struct task_result));

	/* Every packed recipient has at least its two bytes of length. */
	if (d->rcpts == 0 || d->sender_n > tail.n || d->rcpts > (tail.n - d->sender_n) / 2)
		return NULL;
	struct task *j = mem_new(sizeof(*j) + arrays + tail.n);

	j->number = d->job;
	j->handle = d->handle;
	j->id = d->id;
	j->size = d->size;
	j->rcpts = j->open = d->rcpts;
	j->rcpt = (struct span *)(j + 1);
	j->result = (struct task_result *)(j->rcpt + d->rcpts);
	arena_init(&j->texts, TEXT_BLOCK, TASK_TEXTS_MAX);

	char *bytes = (char *)(j->result + d->rcpts);
	memcpy(bytes, tail.p, tail.n);
	j->sender = span_of(bytes, d->sender_n);
	if (!fill_recipients(j, span_of(bytes + d->sender_n, tail.n - d->sender_n))) {
		task_free(j);
		return NULL;
	}
	return j;
}

void task_free(struct task *j)
{
	if (!j)
		return;
	check(!link_is_in(&j->link));
	arena_fini(&j->texts);
	mem_free(j);
}

struct span task_text(struct task *j, const char *fmt, ...)
{
	char    text[RESULT_TEXT_MAX + 1];
	va_list ap;

	va_start(ap, fmt);
	int n = vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	check(n >= 0);

	struct span all = span_until(span_of(text, (size_t)n), sizeof(text) - 1);
	struct span kept = arena_dup(&j->texts, all);
	return kept.n == all.n ? kept : SPAN("The answer was too long to keep.\n");
}

void task_settle(struct task *j, uint32_t i, enum outcome o, struct span text,
		 enum task_slow slow)
{
	struct task_result *r = &j->result[i];

	check(i < j->rcpts);
	check(r->outcome == TASK_OPEN || r->outcome == TASK_TAKEN);
	check(o == OUTCOME_DELIVERED || o == OUTCOME_DEFERRED || o == OUTCOME_FAILED);
	*r = (struct task_result){.text = text, .outcome = (uint8_t)o, .slow = (uint8_t)slow};
	j->open--;
}

void task_settle_range(struct task *j, uint32_t first, uint32_t n, enum outcome o,
		       struct span text, enum task_slow slow)
{
	for (uint32_t i = first; i < first + n; i++)
		if (j->result[i].outcome == TASK_OPEN || j->result[i].outcome == TASK_TAKEN)
			task_settle(j, i, o, text, slow);
}

void task_settle_rest(struct task *j, enum outcome o, struct span text, enum task_slow slow)
{
	task_settle_range(j, 0, j->rcpts, o, text, slow);
}

void task_trouble(struct task *j, struct span text, enum task_slow slow)
{
	j->trouble = text;
	j->trouble_slow = (uint8_t)slow;
}

bool task_is_settled(const struct task *j)
{
	return j->open == 0;
}

void task_pack(const struct task *j, struct buf *b)
{
	static const char zeros[8];
	size_t            share = VERDICT_MAX / j->rcpts;
	size_t text_max = share > sizeof(struct msg_result)
				  ? (share - sizeof(struct msg_result)) & ~7u
				  : 0;

	check(j->open == 0);
	if (text_max > RESULT_TEXT_MAX)
		text_max = RESULT_TEXT_MAX;
	for (uint32_t i = 0; i < j->rcpts; i++) {
		struct span       text = span_until(j->result[i].text, text_max);
		struct msg_result r = {.rcpt = i,
		                       .text_n = (uint16_t)text.n,
		                       .outcome = j->result[i].outcome,
		                       .slow = j->result[i].slow};
		size_t            pad = MSG_PAD8(text.n) - text.n;

		if (!buf_add(b, span_of(&r, sizeof(r))) || !buf_add(b, text)
		    || !buf_add(b, span_of(zeros, pad)))
			unreachable();            /* b's maximum is a frame's, and they all fit in that */
	}
}

void task_clean_text(struct buf *b, struct span said, bool keep_lf)
{
	for (size_t i = 0; i < said.n; i++) {
		char c = said.p[i];

		if (c == '\r')
			continue;
		if (c == '\n' && !keep_lf)
			c = ' ';
		if (c == '\0')
			c = '?';
		if (!buf_add_byte(b, c))
			return;                   /* cut off: the maximum is what is worth keeping */
	}
}
