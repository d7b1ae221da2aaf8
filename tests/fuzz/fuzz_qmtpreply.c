/* The QMTP client against a server that says anything.  The first byte chooses what is believed
 * of its manners and how the rest is cut; a piece that begins with 0xff is one more task. */
#include "core/outbuf.h"
#include "remote/talk_qmtp.h"

#include <string.h>

struct piece { struct source source; unsigned at; };

static enum source_event take(struct source *s, size_t max, struct span *ret)
{
	static const char *const pieces[] = {"Subject: x\n\n", "body\r\n", "end"};
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

static struct task *make_task(struct piece *p, uint32_t rcpts)
{
	static const char  packed[] = "\3\0a@h\5\0b c@h\4\0d@h\n";
	static const char  ends[] = {0, 5, 12, 18};
	struct msg_deliver d = {.rcpts = rcpts, .sender_n = 1, .size = 21};
	char               tail[64] = "s";

	memcpy(tail + 1, packed, sizeof(packed) - 1);
	struct task *t = task_new(&d, span_of(tail, 1u + (size_t)ends[rcpts]));

	check(t);
	*p = (struct piece){.source = {take, rewind_piece, eight_bit}};
	t->source = &p->source;
	return t;
}

static void take_finished(struct talk_qmtp *q)
{
	struct link *l;

	while ((l = list_first(&q->finished))) {
		struct task *t = owner_of(l, struct task, link);

		list_remove(l);
		check(t->open == 0 || (t->trouble.n > 0 && t->open == t->rcpts));
		for (uint32_t i = 0; i < t->rcpts; i++)
			check(t->result[i].outcome == TASK_OPEN || (t->result[i].text.n > 0 && t->result[i].text.n <= RESULT_TEXT_MAX));
		task_free(t);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct ip ip = {.family = 4, .b = {1}};
	struct talk_qmtp       t;
	struct outbuf          out;
	struct piece           piece[256];
	size_t                 cut = size ? 1 + data[0] / 3 : 1;
	unsigned               tasks = 0;

	outbuf_init(&out);
	talk_qmtp_begin(&t, &out, &ip, size ? (enum qmtp_manners)(data[0] % 3) : QMTP_UNKNOWN);
	talk_qmtp_task(&t, make_task(&piece[tasks++], 3));
	for (size_t at = 1; at < size && !t.over; at += cut) {
		size_t      n = size - at < cut ? size - at : cut;
		struct span in = span_of(data + at, n);

		if (data[at] == 0xff && tasks < ARRAY_N(piece) && talk_qmtp_has_room(&t)) {
			talk_qmtp_task(&t, make_task(&piece[tasks], 1 + tasks % 3));
			tasks++;
		} else {
			talk_qmtp_input(&t, &in);
			check(in.n == 0);
		}
		outbuf_sent(&out, out.n);
		talk_qmtp_more(&t);
		take_finished(&t);
	}
	talk_qmtp_lost(&t);
	take_finished(&t);
	talk_qmtp_fini(&t);
	outbuf_fini(&out);
	return 0;
}
