/* fuzz_submit - what any user of the host may say to run/submit.  Whole and cut in two must give the same
 * events, and no event may hand out more than came in. */
#include "mail/submit.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

struct sum {
	uint64_t body, words, hash;
	int      end;
};

static void take(struct submit_talk *t, struct span in, struct sum *s)
{
	struct span ret;

	while (!s->end) {
		enum submit_event e = submit_talk_take(t, &in, &ret);

		if (e == SUBMIT_MORE)
			return;
		if (e == SUBMIT_BODY)
			s->body += ret.n;
		else
			s->words++;
		if (e == SUBMIT_SENDER || e == SUBMIT_RCPT)
			check(ret.n <= ADDR_MAX);
		for (size_t i = 0; i < ret.n; i++)
			s->hash = s->hash * 31 + (uint8_t)ret.p[i];
		if (e == SUBMIT_END || e == SUBMIT_BAD)
			s->end = e == SUBMIT_END ? -1 : t->code;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct span        all = span_of(data, n);
	struct submit_talk t;
	struct sum         whole = {0}, parts = {0};
	size_t             cut = n ? data[n / 2] % (n + 1) : 0;

	submit_talk_init(&t);
	take(&t, all, &whole);
	submit_talk_init(&t);
	take(&t, span_until(all, cut), &parts);
	take(&t, span_from(all, cut), &parts);
	check(whole.body == parts.body && whole.words == parts.words);
	check(whole.hash == parts.hash && whole.end == parts.end);
	return 0;
}
