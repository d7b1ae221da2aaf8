/* The SMTP client against a server that says anything.  The first byte chooses how the rest is
 * cut; a byte 0xff in it means: give the client room, or its next task.  Whatever is said, every
 * recipient of a task that ends has a result, or is open and the host is to blame. */
#include "core/outbuf.h"
#include "core/pool.h"
#include "mail/envelope.h"
#include "remote/talk_smtp.h"

#include <stdlib.h>
#include <string.h>

struct piece { struct source source; unsigned at; };

static enum source_event take(struct source *s, size_t max, struct span *ret)
{
	static const char *const pieces[] = {"Subject: x\n\n", ".dot\n", "a\rb\n..\n", "end"};
	struct piece            *p = owner_of(s, struct piece, source);

	if (p->at == ARRAY_N(pieces))
		return SOURCE_END;
	*ret = span_until(span_str(pieces[p->at++]), max);
	return SOURCE_BYTES;
}

static void rewind_piece(struct source *s)
{
	owner_of(s, struct piece, source)->at = 0;
}

static bool eight_bit(const struct source *s)
{
	return true;
}

static struct task *make_task(struct piece *p)
{
	static const char  packed[] = "\3\0a@h\5\0b c@h\4\0d@h\n";
	struct msg_deliver d = {.rcpts = 3, .sender_n = 1, .size = 20};
	char               tail[64] = "s";

	memcpy(tail + 1, packed, sizeof(packed) - 1);
	struct task *t = task_new(&d, span_of(tail, sizeof(packed)));

	check(t);
	*p = (struct piece){.source = {take, rewind_piece, eight_bit}};
	t->source = &p->source;
	return t;
}

static void check_finished(struct talk_smtp *s)
{
	struct task *t = s->finished;

	check(t->open == 0 || t->trouble.n > 0);
	for (uint32_t i = 0; i < t->rcpts; i++) {
		check(t->result[i].outcome != TASK_TAKEN);
		check(t->result[i].outcome == TASK_OPEN || t->result[i].text.n > 0);
		check(t->result[i].text.n <= RESULT_TEXT_MAX);
	}
	if (t->open == 0) {
		struct buf b;

		buf_init(&b, 1 << 20);
		task_pack(t, &b);
		buf_free(&b);
	}
	s->finished = NULL;
	task_free(t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct ip ip = {.family = 6, .b = {1}};
	struct talk_smtp       t;
	struct outbuf          out;
	struct piece           piece;
	size_t                 cut = size ? 1 + data[0] : 1;

	outbuf_init(&out);
	talk_smtp_begin(&t, &out, &ip, SPAN("fuzz.example"));
	talk_smtp_task(&t, make_task(&piece));
	for (size_t at = 1; at < size && t.state != TALK_OVER; at += cut) {
		size_t      n = size - at < cut ? size - at : cut;
		struct span in = span_of(data + at, n);

		if (data[at] == 0xff) {
			if (t.state == TALK_READY && !t.task)
				talk_smtp_task(&t, make_task(&piece));
			else
				talk_smtp_more(&t);
		} else {
			talk_smtp_input(&t, &in);
			check(in.n == 0);
		}
		outbuf_sent(&out, out.n);
		if (t.finished)
			check_finished(&t);
	}
	talk_smtp_lost(&t);
	if (t.finished)
		check_finished(&t);
	check(!t.task);
	talk_smtp_fini(&t);
	outbuf_fini(&out);
	return 0;
}
