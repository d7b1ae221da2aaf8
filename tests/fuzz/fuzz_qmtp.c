/* Any bytes at all, to the QMTP server: first as they come, then cut at random.
 *
 * byte 0: the configuration    byte 1: how the journal answers, in which order, and the cuts
 *
 * Nothing may crash; what is said is netstrings of K, Z or D; as many K as recipients were
 * stored; and the same is said and stored however the input was cut. */
#include "core/clock.h"
#include "core/log.h"
#include "core/rand.h"
#include "mail/received.h"
#include "qmtp/qmtp.h"

#include <stdlib.h>
#include <string.h>

#define BIG     (64 * 1024 * 1024)
#define PARCELS (QMTP_FLIGHT_MAX + 2)

struct parcel {
	struct package package;
	struct buf     body;
	bool           open, body_open;
};
struct world {
	struct qmtp        qmtp;
	struct qmtp_world  calls;
	struct qmtp_policy policy;
	struct buf         scratch, stored, said;
	struct outbuf      out;
	struct parcel      parcels[PARCELS];
	struct parcel     *committing[PARCELS];
	unsigned           committing_n, commits;
	uint64_t           taken;
	uint8_t            how;
};

static struct world *world_of(struct qmtp *q)
{
	return owner_of(q, struct world, qmtp);
}

static struct parcel *parcel_of(struct package *p)
{
	return owner_of(p, struct parcel, package);
}

static bool on_admits(struct qmtp *q)
{
	return true;
}

static bool on_full(struct qmtp *q)
{
	return false;
}

static struct package *on_open(struct qmtp *q)
{
	struct world *w = world_of(q);

	for (unsigned i = 0; i < PARCELS; i++)
		if (!w->parcels[i].open) {
			w->parcels[i].open = true;
			w->parcels[i].body_open = false;
			buf_clear(&w->parcels[i].body);
			package_clear(&w->parcels[i].package);
			return &w->parcels[i].package;
		}
	unreachable();
}

static void on_body_begin(struct qmtp *q, struct package *p)
{
	check(parcel_of(p)->open && !parcel_of(p)->body_open);
	parcel_of(p)->body_open = true;
}

static void on_body(struct qmtp *q, struct package *p, struct span bytes)
{
	check(parcel_of(p)->body_open && bytes.n > 0);
	check(buf_add(&parcel_of(p)->body, bytes));
}

static void on_body_drop(struct qmtp *q, struct package *p)
{
	parcel_of(p)->body_open = false;
}

static void on_commit(struct qmtp *q, struct package *p)
{
	struct world *w = world_of(q);

	check(parcel_of(p)->body_open && w->committing_n < QMTP_FLIGHT_MAX);
	w->committing[w->committing_n++] = parcel_of(p);
	check(buf_add(&w->stored, span_of(p->envelope.sender, p->envelope.sender_n)));
	check(buf_add(&w->stored, buf_span(&p->envelope.packed)));
	check(buf_add(&w->stored, buf_span(&parcel_of(p)->body)));
}

static void on_close(struct qmtp *q, struct package *p)
{
	struct world *w = world_of(q);

	check(parcel_of(p)->open);
	parcel_of(p)->open = false;
	for (unsigned i = 0; i < w->committing_n; i++)
		if (w->committing[i] == parcel_of(p))
			w->committing[i] = w->committing[--w->committing_n];
}

static void hear(struct world *w)
{
	size_t n = w->out.n;
	char  *at = buf_room(&w->said, n + 1);

	check(at && outbuf_copy(&w->out, at, n) == n);
	w->said.n += n;
	outbuf_sent(&w->out, n);
	qmtp_room(&w->qmtp);
}

/* The verdict depends on the message, not on when its turn comes. */
static void commit(struct world *w, unsigned nth)
{
	struct parcel *p = w->committing[nth];
	enum stored    v = (enum stored)((w->how + p->body.n) % 5);

	w->committing[nth] = w->committing[--w->committing_n];
	p->body_open = false;
	if (v == STORED_OK)
		w->taken += p->package.envelope.rcpts;
	qmtp_committed(&w->qmtp, &p->package, v, v == STORED_OK ? p->body.n : 0);
	w->commits++;
	while (w->out.n > 0)
		hear(w);
}

static void offer(struct world *w, struct span in, bool hold)
{
	char       *copy = malloc(in.n + 1);
	struct span rest = span_of(copy, in.n);

	memcpy(copy, in.p, in.n);
	while (rest.n > 0) {
		struct span piece = span_until(rest, 64);
		size_t      before = piece.n;

		qmtp_input(&w->qmtp, &piece);
		span_cut(&rest, before - piece.n);
		while (w->out.n > 0)
			hear(w);
		while (w->committing_n > 0 && (!hold || piece.n > 0 || rand_below(4) == 0))
			commit(w, hold ? (unsigned)rand_below(w->committing_n) : 0);
	}
	free(copy);
}

static void check_answers(const struct world *w)
{
	struct span said = buf_span(&w->said);
	uint64_t    k = 0, n;

	while (said.n > 0) {
		size_t      colon = span_find(said, ':');
		struct span text;

		check(colon != SPAN_NPOS && span_u64(span_cut(&said, colon), 1000, &n));
		check(said.n >= n + 2 && said.p[n + 1] == ',');
		text = span_of(said.p + 1, n);
		check(n > 1 && (text.p[0] == 'K' || text.p[0] == 'Z' || text.p[0] == 'D'));
		for (size_t i = 0; i < n; i++)
			check(text.p[i] >= ' ' && text.p[i] <= '~');
		k += text.p[0] == 'K';
		span_cut(&said, n + 2);
	}
	check(k == w->taken);
}

static void configure(struct world *w, uint8_t flags, struct control *c)
{
	struct ip ip;

	check(control_set(c, SPAN("me"), SPAN("mail.example.com\n")));
	check(control_set(c, SPAN("rcpthosts"), SPAN("example.com\n.sub.example.com\n")));
	if (flags & 1)
		check(control_set(c, SPAN("databytes"), SPAN("100\n")));
	if (flags & 2)
		check(control_set(c, SPAN("relayclients"), SPAN("192.0.2.0/24:@suffix\n")));
	if (flags & 4)
		check(control_set(c, SPAN("maxrcpt"), SPAN("3\n")));
	check(ip_parse(SPAN("192.0.2.9"), &ip));
	qmtp_policy_init(&w->policy, c, -1);
	qmtp_begin(&w->qmtp, &w->calls, &w->out, &ip);
}

static void play(struct world *w, const uint8_t *data, size_t n, bool cut)
{
	struct control *c = control_new();
	struct span     all = span_of(data + 2, n - 2);

	memset(w, 0, sizeof(*w));
	w->how = data[1];
	buf_init(&w->scratch, RECEIVED_MAX);
	buf_init(&w->stored, BIG);
	buf_init(&w->said, BIG);
	outbuf_init(&w->out);
	for (unsigned i = 0; i < PARCELS; i++) {
		package_init(&w->parcels[i].package);
		buf_init(&w->parcels[i].body, BIG);
	}
	w->calls = (struct qmtp_world){.policy = &w->policy,
				       .scratch = &w->scratch,
				       .admits = on_admits,
				       .full = on_full,
				       .open = on_open,
				       .body_begin = on_body_begin,
				       .body = on_body,
				       .body_drop = on_body_drop,
				       .commit = on_commit,
				       .close = on_close};
	configure(w, data[0], c);
	rand_seed(data[1] + 1);
	while (all.n > 0 && !qmtp_is_over(&w->qmtp))
		offer(w, span_cut(&all, cut ? 1 + rand_below(rand_below(8) ? 5 : 200) : all.n),
		      cut);
	qmtp_end(&w->qmtp);
	while (w->committing_n > 0)
		commit(w, 0);
	check(qmtp_is_over(&w->qmtp));
	check_answers(w);
	qmtp_fini(&w->qmtp);
	for (unsigned i = 0; i < PARCELS; i++) {
		check(!w->parcels[i].open);
		package_fini(&w->parcels[i].package);
		buf_free(&w->parcels[i].body);
	}
	qmtp_policy_fini(&w->policy);
	control_free(c);
	outbuf_fini(&w->out);
	buf_free(&w->scratch);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static struct world whole, cut;

	if (n < 2)
		return 0;
	clock_set(1000000, 1795225452000000);
	play(&whole, data, n, false);
	play(&cut, data, n, true);
	check(span_eq(buf_span(&whole.said), buf_span(&cut.said)));
	check(span_eq(buf_span(&whole.stored), buf_span(&cut.stored)));
	buf_free(&whole.said);
	buf_free(&whole.stored);
	buf_free(&cut.said);
	buf_free(&cut.stored);
	return 0;
}
