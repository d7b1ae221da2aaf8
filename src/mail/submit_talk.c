/* Phases:
 *
 *   HELLO     matching SUBMIT_HELLO or SUBMIT_REPLAY; left counts what is still to match
 *   REPLAY    eight bytes of an id; left counts down
 *   CHUNK_N   four bytes of a length; left counts down
 *   CHUNK     left bytes of the body
 *   F         the byte F
 *   SENDER    bytes up to NUL
 *   RECORD    T, or NUL, which ends everything
 *   RCPT      bytes up to NUL
 *   END, BAD  final */
#include "mail/submit.h"

#include <string.h>

enum { HELLO, REPLAY, CHUNK_N, CHUNK, F, SENDER, RECORD, RCPT, END, BAD };

#define LENGTH_N 4
#define ID_N     8

static_check(sizeof(SUBMIT_HELLO) == sizeof(SUBMIT_REPLAY));

void submit_talk_init(struct submit_talk *t)
{
	t->phase = HELLO;
	t->code = SUBMIT_OK;
	t->left = sizeof(SUBMIT_HELLO) - 1;
	t->number = 0;
	t->addr_n = 0;
	t->is_replay = false;
	t->replay_of = 0;
}

void submit_talk_envelope(struct submit_talk *t)
{
	submit_talk_init(t);
	t->phase = F;
}

static enum submit_event bad(struct submit_talk *t, enum submit_code code)
{
	t->phase = BAD;
	t->code = (uint8_t)code;
	return SUBMIT_BAD;
}

/* The words differ in one place; what was matched before it fits both. */
static bool take_hello(struct submit_talk *t, struct span *in)
{
	struct span part = span_cut(in, t->left), hello = SPAN(SUBMIT_HELLO), replay = SPAN(SUBMIT_REPLAY);
	size_t      at = hello.n - t->left;
	bool        could_be_both = span_eq(span_until(hello, at), span_until(replay, at));
	bool        fits_hello = span_eq(span_until(span_from(hello, at), part.n), part);
	bool        fits_replay = span_eq(span_until(span_from(replay, at), part.n), part);

	t->left -= (uint32_t)part.n;
	if (could_be_both)
		t->is_replay = fits_replay && !fits_hello;
	return t->is_replay ? fits_replay : fits_hello;
}

static void expect_chunk(struct submit_talk *t)
{
	t->phase = CHUNK_N;
	t->left = LENGTH_N;
	t->number = 0;
}

static bool take_id(struct submit_talk *t, struct span *in)
{
	for (; t->left > 0 && in->n > 0; t->left--)
		t->replay_of |= (uint64_t)(unsigned char)span_cut(in, 1).p[0] << (8 * (ID_N - t->left));
	if (t->left > 0)
		return true;
	expect_chunk(t);
	return t->replay_of != 0;
}

static enum submit_event take_length(struct submit_talk *t, struct span *in)
{
	for (; t->left > 0 && in->n > 0; t->left--) {
		uint32_t byte = (unsigned char)span_cut(in, 1).p[0];

		t->number |= byte << (8 * (LENGTH_N - t->left));
	}
	if (t->left > 0)
		return SUBMIT_MORE;
	if (t->number > SUBMIT_CHUNK_MAX)
		return bad(t, SUBMIT_FORMAT);
	if (t->number == 0) {
		t->phase = F;
		return SUBMIT_BODY_END;
	}
	t->phase = CHUNK;
	t->left = t->number;
	return SUBMIT_MORE;
}

static enum submit_event take_chunk(struct submit_talk *t, struct span *in, struct span *ret)
{
	*ret = span_cut(in, t->left);
	t->left -= (uint32_t)ret->n;
	if (t->left == 0)
		expect_chunk(t);
	return SUBMIT_BODY;
}

/* True: the NUL has come and addr is whole.  Too long is known before the NUL is. */
static bool take_addr(struct submit_talk *t, struct span *in)
{
	size_t      nul = span_find(*in, '\0');
	struct span part = span_cut(in, nul == SPAN_NPOS ? in->n : nul);

	if (part.n > (size_t)ADDR_MAX - t->addr_n) {
		(void)bad(t, SUBMIT_LONG);
		return false;
	}
	if (part.n > 0)
		memcpy(t->addr + t->addr_n, part.p, part.n);
	t->addr_n = (uint16_t)(t->addr_n + part.n);
	if (nul == SPAN_NPOS)
		return false;
	(void)span_cut(in, 1);
	return true;
}

static enum submit_event take_record(struct submit_talk *t, struct span *in)
{
	char c = span_cut(in, 1).p[0];

	t->addr_n = 0;
	if (t->phase == F ? c == 'F' : c == 'T') {
		t->phase = t->phase == F ? SENDER : RCPT;
		return SUBMIT_MORE;
	}
	if (t->phase == RECORD && c == '\0') {
		t->phase = END;
		return SUBMIT_END;
	}
	return bad(t, SUBMIT_FORMAT);
}

static enum submit_event take_address(struct submit_talk *t, struct span *in, struct span *ret)
{
	enum submit_event which = t->phase == SENDER ? SUBMIT_SENDER : SUBMIT_RCPT;

	if (!take_addr(t, in))
		return t->phase == BAD ? SUBMIT_BAD : SUBMIT_MORE;
	*ret = span_of(t->addr, t->addr_n);
	t->phase = RECORD;
	return which;
}

static enum submit_event take_one(struct submit_talk *t, struct span *in, struct span *ret)
{
	switch (t->phase) {
	case HELLO:
		if (!take_hello(t, in))
			return bad(t, SUBMIT_FORMAT);
		if (t->left == 0 && t->is_replay) {
			t->phase = REPLAY;
			t->left = ID_N;
		} else if (t->left == 0) {
			expect_chunk(t);
		}
		return SUBMIT_MORE;
	case REPLAY:
		return take_id(t, in) ? SUBMIT_MORE : bad(t, SUBMIT_FORMAT);
	case CHUNK_N: return take_length(t, in);
	case CHUNK:   return take_chunk(t, in, ret);
	case F:
	case RECORD:  return take_record(t, in);
	case SENDER:
	case RCPT:    return take_address(t, in, ret);
	}
	unreachable();
}

enum submit_event submit_talk_take(struct submit_talk *t, struct span *in, struct span *ret)
{
	enum submit_event e = SUBMIT_MORE;

	*ret = SPAN_NONE;
	while (e == SUBMIT_MORE) {
		if (t->phase == END)
			return SUBMIT_END;
		if (t->phase == BAD)
			return SUBMIT_BAD;
		if (in->n == 0)
			return SUBMIT_MORE;
		e = take_one(t, in, ret);
	}
	return e;
}

/* ---- what the codes mean */

static const struct {
	int         code;
	char        letter;
	const char *text;
} codes[] = {
	{ 0,   'K', "ok" },
	{ 11,  'D', "an envelope address is too long (#5.1.3)" },
	{ 31,  'D', "the mail server refuses the message for good (#5.3.0)" },
	{ 51,  'Z', "out of memory while queueing (#4.3.0)" },
	{ 52,  'Z', "queueing took too long (#4.3.0)" },
	{ 53,  'Z', "write error or disk full while queueing (#4.3.0)" },
	{ 54,  'Z', "read error while queueing (#4.3.0)" },
	{ 55,  'Z', "configuration can't be read while queueing (#4.3.0)" },
	{ 56,  'Z', "network trouble on this host while queueing (#4.3.0)" },
	{ 61,  'Z', "trouble with the home directory while queueing (#4.3.0)" },
	{ 71,  'Z', "the mail server takes no mail at the moment (#4.3.0)" },
	{ 72,  'Z', "the mail server did not answer in time (#4.4.1)" },
	{ 73,  'Z', "the mail server can't be reached (#4.4.1)" },
	{ 74,  'Z', "the connection to the mail server broke (#4.4.2)" },
	{ 81,  'Z', "internal bug while queueing (#4.3.0)" },
	{ 91,  'Z', "the envelope is malformed (#4.3.0)" },
	{ 115, 'D', "an envelope address is too long (#5.1.3)" },
	{ 120, 'Z', "the queue program can't be started (#4.3.0)" },
};

char submit_letter(int code)
{
	for (size_t i = 0; i < ARRAY_N(codes); i++)
		if (codes[i].code == code)
			return codes[i].letter;
	return code >= 11 && code <= 40 ? 'D' : 'Z';
}

const char *submit_text(int code)
{
	for (size_t i = 0; i < ARRAY_N(codes); i++)
		if (codes[i].code == code)
			return codes[i].text;
	return submit_letter(code) == 'D' ? "permanent trouble while queueing (#5.3.0)"
					  : "temporary trouble while queueing (#4.3.0)";
}
