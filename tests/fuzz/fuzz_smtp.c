/* Any bytes at all, to the SMTP server: first as they come, then cut at random.
 *
 * byte 0: the configuration    byte 1: how the journal answers, and the seed of the cuts
 *
 * Nothing may crash; every reply is a line of code, blank or dash, and printable bytes; what is
 * said and stored is the same however the input was cut; and a line in storage costs the
 * client a CR LF: no bare LF ever became a line end. */
#include "core/clock.h"
#include "core/log.h"
#include "core/rand.h"
#include "mail/received.h"
#include "smtp/replies.h"
#include "smtp/smtp.h"

#include <stdlib.h>
#include <string.h>

#define BIG (64 * 1024 * 1024)

struct world {
	struct smtp       smtp;
	struct smtp_world calls;
	struct policy     policy;
	struct buf        scratch, body, stored, said;
	struct envelope   envelope;
	struct outbuf     out;
	uint8_t           how;
	unsigned          commits;
	size_t            lines;
	bool              open, body_open, committing;
};

static struct world *world_of(struct smtp *s)
{
	return owner_of(s, struct world, smtp);
}

static bool on_admits(struct smtp *s)
{
	return true;
}

static bool on_full(struct smtp *s)
{
	return false;
}

static struct envelope *on_open(struct smtp *s)
{
	check(!world_of(s)->open);
	world_of(s)->open = true;
	return &world_of(s)->envelope;
}

static void on_body_begin(struct smtp *s)
{
	struct world *w = world_of(s);

	check(w->open && !w->body_open);
	w->body_open = true;
	buf_clear(&w->body);
}

static void on_body(struct smtp *s, struct span bytes)
{
	struct world *w = world_of(s);

	check(w->body_open && !w->committing && bytes.n > 0);
	check(buf_add(&w->body, bytes));
}

static void on_commit(struct smtp *s)
{
	check(world_of(s)->body_open);
	world_of(s)->committing = true;
}

static void on_close(struct smtp *s)
{
	struct world *w = world_of(s);

	check(w->open);
	w->open = w->body_open = w->committing = false;
}

static void keep(struct world *w)
{
	struct span body = buf_span(&w->body), all = body;

	check(buf_add(&w->stored, span_of(w->envelope.sender, w->envelope.sender_n)));
	check(buf_add(&w->stored, buf_span(&w->envelope.packed)));
	check(buf_add(&w->stored, body));
	check(span_starts(body, SPAN("Received: from unknown (")));
	for (int i = 0; i < 2; i++)               /* our own two lines */
		span_cut(&all, span_find(all, '\n') + 1);
	for (size_t at; (at = span_find(all, '\n')) != SPAN_NPOS; span_cut(&all, at + 1))
		w->lines++;
}

static void commit(struct world *w)
{
	enum stored v = (enum stored)((w->how + w->commits++) % 5);

	if (v == STORED_OK)
		keep(w);
	smtp_committed(&w->smtp, v, w->commits);
}

static void hear(struct world *w)
{
	size_t n = w->out.n;
	char  *at = buf_room(&w->said, n + 1);

	check(at && outbuf_copy(&w->out, at, n) == n);
	w->said.n += n;
	outbuf_sent(&w->out, n);
}

static void offer(struct world *w, struct span in)
{
	char *copy = malloc(in.n + 1); /* of its own, so that reading too far shows */
	struct span rest = span_of(copy, in.n);

	memcpy(copy, in.p, in.n);
	while (rest.n > 0) {
		size_t before = rest.n;

		smtp_input(&w->smtp, &rest);
		hear(w);
		if (w->committing)
			commit(w);
		else
			check(rest.n < before || rest.n == 0);
		hear(w);
	}
	free(copy);
}

static void check_replies(struct span said)
{
	while (said.n > 0) {
		size_t      lf = span_find(said, '\n');
		struct span line;

		check(lf != SPAN_NPOS && lf >= 5 && lf < 512);
		line = span_cut(&said, lf + 1);
		check(span_ends(line, SPAN("\r\n")));
		check(line.p[0] >= '2' && line.p[0] <= '5' &&
		      (line.p[3] == ' ' || line.p[3] == '-'));
		for (size_t i = 0; i + 2 < line.n; i++)
			check(line.p[i] >= ' ' && line.p[i] <= '~');
	}
}

static void configure(struct world *w, uint8_t flags, struct control *c)
{
	struct ip          ip, local;
	struct policy_peer peer;

	check(control_set(c, SPAN("me"), SPAN("mail.example.com\n")));
	check(control_set(c, SPAN("rcpthosts"), SPAN("example.com\n.sub.example.com\n")));
	check(control_set(c, SPAN("badmailfrom"), SPAN("bad@client.example\n@spam.example\n")));
	if (flags & 1)
		check(control_set(c, SPAN("databytes"), SPAN("100\n")));
	if (flags & 2)
		check(control_set(c, SPAN("relayclients"), SPAN("192.0.2.0/24:@suffix\n")));
	if (flags & 4)
		check(control_set(c, SPAN("maxrcpt"), SPAN("3\n")));
	check(ip_parse(SPAN("192.0.2.9"), &ip) && ip_parse(SPAN("192.0.2.1"), &local));
	policy_init(&w->policy, c, -1);
	peer = policy_peer(&w->policy, &ip, &local);
	smtp_begin(&w->smtp, &w->calls, &w->out, &peer);
	hear(w);
}

static struct world play(const uint8_t *data, size_t n, bool cut)
{
	static struct world w;
	struct control     *c = control_new();
	struct span         all = span_of(data + 2, n - 2);

	w = (struct world){.how = data[1]};
	buf_init(&w.scratch, RECEIVED_MAX);
	buf_init(&w.body, BIG);
	buf_init(&w.stored, BIG);
	buf_init(&w.said, BIG);
	outbuf_init(&w.out);
	envelope_init(&w.envelope, 4096);
	w.calls = (struct smtp_world){.policy = &w.policy,
				      .scratch = &w.scratch,
				      .admits = on_admits,
				      .full = on_full,
				      .open = on_open,
				      .body_begin = on_body_begin,
				      .body = on_body,
				      .commit = on_commit,
				      .close = on_close};
	configure(&w, data[0], c);
	rand_seed(data[1] + 1);
	while (all.n > 0 && !smtp_is_over(&w.smtp))
		offer(&w,
		      span_cut(&all, cut ? 1 + rand_below(rand_below(8) ? 5 : 200) : all.n));
	smtp_fini(&w.smtp);
	check(!w.open);
	policy_fini(&w.policy);
	control_free(c);
	envelope_fini(&w.envelope);
	outbuf_fini(&w.out);
	buf_free(&w.scratch);
	buf_free(&w.body);
	return w;
}

static size_t line_ends(struct span s)
{
	size_t n = 0;

	for (size_t i = 1; i < s.n; i++)
		n += s.p[i] == '\n' && s.p[i - 1] == '\r';
	return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct world whole, cut;

	if (n < 2)
		return 0;
	clock_set(1000000, 1795225452000000);
	whole = play(data, n, false);
	cut = play(data, n, true);
	check_replies(buf_span(&whole.said));
	check(span_eq(buf_span(&whole.said), buf_span(&cut.said)));
	check(span_eq(buf_span(&whole.stored), buf_span(&cut.stored)));
	check(whole.lines <= line_ends(span_of(data + 2, n - 2)));
	buf_free(&whole.said);
	buf_free(&whole.stored);
	buf_free(&cut.said);
	buf_free(&cut.stored);
	return 0;
}
