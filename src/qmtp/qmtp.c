/* Reads top to bottom in the order a package comes: text, sender, recipients, answers. */
#include "qmtp/qmtp.h"

#include "core/clock.h"
#include "mail/addr.h"
#include "mail/received.h"
#include "mail/reply.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static qmtp_step await_package, await_text, await_sender, await_rcpts, finished;

/* Everything we say but the acceptance.  The first digit of the code is the letter: 4
 * Z, 5 D. */
static REPLY(said_bad_rcpt,   553, "5.1.3", "can't take an address like that");
static REPLY(said_denied,     553, "5.7.1", "no mail for that domain here (rcpthosts)");
static REPLY(said_bad_sender, 553, "5.1.7", "can't take a sender like that");
static REPLY(said_too_many,   452, "4.5.3", "too many recipients for one message");
static REPLY(said_looping,    554, "5.4.6", "too many hops, this message is looping");
static REPLY(said_too_large,  552, "5.3.4", "message too large (databytes)");
static REPLY(said_later,      451, "4.3.0", "message not stored, try later");
static REPLY(said_disk_full,  452, "4.3.1", "message not stored, disk full");
static REPLY(said_much_open,  452, "4.3.1", "message not stored, too much is under way");

enum fate { TAKEN, BAD_RCPT, DENIED, BAD_SENDER, TOO_MANY };
static const struct reply *const fate_says[] = {
	[TAKEN] = NULL,
	[BAD_RCPT] = &said_bad_rcpt,
	[DENIED] = &said_denied,
	[BAD_SENDER] = &said_bad_sender,
	[TOO_MANY] = &said_too_many,
};

#define PACKAGE_KEPT 4096                         /* storage a spare package keeps */

void package_init(struct package *p)
{
	*p = (struct package){0};
	envelope_init(&p->envelope, QMTP_PACKED_MAX);
	buf_init(&p->fates, QMTP_RCPTS_MAX);
}

void package_clear(struct package *p)
{
	struct buf fates = p->fates;

	envelope_clear(&p->envelope);
	if (fates.cap > PACKAGE_KEPT)
		buf_free(&fates);
	buf_clear(&fates);
	p->fates = fates;
	hops_begin(&p->hops);
	p->size = p->id = p->wall = 0;
	p->rcpts = p->answered = 0;
	p->addr_n = 0;
	p->marker = 0;
	p->body_open = p->sender_is_bad = p->addr_is_bad = p->done = false;
	p->verdict = STORED_OK;
}

void package_fini(struct package *p)
{
	envelope_fini(&p->envelope);
	buf_free(&p->fates);
}

void qmtp_policy_init(struct qmtp_policy *p, const struct control *c, int morercpthosts_fd)
{
	*p = (struct qmtp_policy){
		.me = control_me(c),
		.databytes = control_setting(c, "databytes"),
		.rcpts_max = control_setting(c, "maxrcpt"),
		.conns_max = control_setting(c, "concurrencyincoming"),
		.conns_ip_max = control_setting(c, "concurrencyperip"),
		.wait_ms = control_setting(c, "timeoutsmtpd") * 1000,
		.hosts = rcpthosts_new(c, morercpthosts_fd),
		.relays = relayclients_new(c),
	};
}

void qmtp_policy_fini(struct qmtp_policy *p)
{
	rcpthosts_free(p->hosts);
	relayclients_free(p->relays);
	*p = (struct qmtp_policy){0};
}

void qmtp_begin(struct qmtp *q, const struct qmtp_world *w, struct outbuf *out,
		const struct ip *ip)
{
	*q = (struct qmtp){.world = w, .out = out, .step = await_package, .ip = *ip};
	list_init(&q->flight);
	q->relay = ip->family != 0 && relayclients_find(w->policy->relays, ip, &q->suffix);
}

static void forget_now(struct qmtp *q)
{
	if (q->now)
		q->world->close(q, q->now);
	q->now = NULL;
}

void qmtp_end(struct qmtp *q)
{
	forget_now(q);
	q->step = finished;
}

void qmtp_fini(struct qmtp *q)
{
	struct link *first;

	if (!q->world)
		return;
	qmtp_end(q);
	while ((first = list_first(&q->flight))) {
		list_remove(first);
		q->world->close(q, owner_of(first, struct package, flight));
	}
	q->flight_n = 0;
}

/* ---- the text ---- */

/* Between packages.  The next one is begun only when its answers will have room: a peer that
 * sends and does not read is made to wait by TCP. */
static enum qmtp_verdict await_package(struct qmtp *q, struct span *in)
{
	if (q->draining) {
		qmtp_end(q);
		return QMTP_MORE;
	}
	if (in->n == 0 || q->flight_n >= QMTP_FLIGHT_MAX || outbuf_full(q->out))
		return QMTP_WAIT;
	q->now = q->world->open(q);
	if (!q->now) {
		qmtp_end(q);
		return QMTP_MORE;
	}
	q->cr = q->in_rcpt = false;
	netstring_init(&q->outer, QMTP_MESSAGE_MAX, true);
	q->step = await_text;
	return QMTP_MORE;
}

static void put_received(struct qmtp *q)
{
	char                 ip[IP_TEXT_MAX];
	struct span          unknown = SPAN("unknown");
	struct received_from f = {
		.host = unknown,
		.ip = q->ip.family ? span_str(ip_text(&q->ip, ip)) : unknown,
		.by = q->world->policy->me,
		.protocol = "QMTP",
	};

	buf_clear(q->world->scratch);
	check(received_network(q->world->scratch, &f, clock_wall()));
	q->world->body(q, q->now, buf_span(q->world->scratch));
}

static void drop_body(struct qmtp *q, struct package *p)
{
	if (p->body_open)
		q->world->body_drop(q, p);
	p->body_open = false;
}

static bool is_too_large(const struct qmtp *q, const struct package *p)
{
	return q->world->policy->databytes > 0 && p->size > q->world->policy->databytes;
}

/* Text that nobody will take is read to its end and forgotten. */
static void take_run(struct qmtp *q, struct span run)
{
	struct package *p = q->now;

	if (run.n == 0)
		return;
	hops_take(&p->hops, run);
	p->size += run.n;
	if (p->hops.count >= HOPS_MAX || is_too_large(q, p))
		drop_body(q, p);
	if (p->body_open)
		q->world->body(q, p, run);
}

/* CR LF becomes LF; a run begins at the LF of the line before, so that a line
 * costs one call. */
static void take_crlf_text(struct qmtp *q, struct span text)
{
	size_t at = 0;

	if (q->cr && text.p[0] != '\n')
		take_run(q, SPAN("\r"));
	q->cr = false;
	while (at < text.n) {
		const char *cr = memchr(text.p + at, '\r', text.n - at);

		if (!cr)
			break;
		at = (size_t)(cr - text.p) + 1;
		if (at == text.n) {
			take_run(q, span_until(text, at - 1));
			q->cr = true;
			return;
		}
		if (*(cr + 1) == '\n') {
			take_run(q, span_until(text, at - 1));
			span_cut(&text, at);
			at = 0;
		}
	}
	take_run(q, text);
}

static enum qmtp_verdict garbled(struct qmtp *q)
{
	if (q->world->told)
		q->world->told(q, q->now, "not QMTP, or longer than we read");
	qmtp_end(q);
	return QMTP_MORE;
}

/* The first byte says how lines end. */
static bool begin_text(struct qmtp *q, char marker)
{
	struct package *p = q->now;

	if (marker != '\n' && marker != '\r')
		return false;
	p->marker = (uint8_t)marker;
	if (!q->world->admits(q)) {
		bool full = q->world->disk_full && q->world->disk_full(q);

		p->verdict = full ? STORED_FULL : STORED_LATER;
		return true;
	}
	p->body_open = true;
	q->world->body_begin(q, p);
	put_received(q);
	return true;
}

static enum qmtp_verdict take_text(struct qmtp *q, struct span text)
{
	if (!q->now->marker && !begin_text(q, *span_cut(&text, 1).p))
		return garbled(q);
	if (text.n == 0)
		return QMTP_MORE;
	if (q->now->marker == '\r')
		take_crlf_text(q, text);
	else
		take_run(q, text);
	return QMTP_MORE;
}

static enum qmtp_verdict await_text(struct qmtp *q, struct span *in)
{
	struct span text;

	if (q->world->full(q))
		return QMTP_WAIT;
	switch (netstring_take(&q->outer, in, &text)) {
	case NETSTRING_MORE: return QMTP_WAIT;
	case NETSTRING_LENGTH: return q->outer.left == 0 ? garbled(q) : QMTP_MORE;
	case NETSTRING_BYTES: return take_text(q, text);
	case NETSTRING_END:
		if (q->cr)
			take_run(q, SPAN("\r"));
		netstring_init(&q->outer, QMTP_MESSAGE_MAX, true);
		q->step = await_sender;
		return QMTP_MORE;
	case NETSTRING_LONG:
	case NETSTRING_BAD: return garbled(q);
	}
	unreachable();
}

/* ---- the envelope ---- */

/* More bytes of an address, of which at most max are kept; false: too long, or a NUL inside. */
static bool add_piece(char *dst, uint16_t *n, struct span piece)
{
	if (span_has(piece, '\0') || piece.n > (size_t)(QMTP_ADDR_MAX - *n))
		return false;
	memcpy(dst + *n, piece.p, piece.n);
	*n = (uint16_t)(*n + piece.n);
	return true;
}

static enum qmtp_verdict await_sender(struct qmtp *q, struct span *in)
{
	struct package *p = q->now;
	struct span     piece;

	switch (netstring_take(&q->outer, in, &piece)) {
	case NETSTRING_MORE: return QMTP_WAIT;
	case NETSTRING_LENGTH: return QMTP_MORE;
	case NETSTRING_BYTES:
		if (!add_piece(p->envelope.sender, &p->envelope.sender_n, piece))
			p->sender_is_bad = true;
		return QMTP_MORE;
	case NETSTRING_END:
		netstring_init(&q->outer, QMTP_RCPTLIST_MAX, true);
		netstring_init(&q->inner, QMTP_RCPTLIST_MAX, true);
		q->step = await_rcpts;
		return QMTP_MORE;
	case NETSTRING_LONG:
	case NETSTRING_BAD: return garbled(q);
	}
	unreachable();
}

static enum fate fate_of(struct qmtp *q, struct package *p)
{
	const struct qmtp_policy *policy = q->world->policy;
	struct span               rcpt = span_of(p->addr, p->addr_n);

	if (p->addr_is_bad || rcpt.n == 0 || rcpt.n + q->suffix.n > QMTP_ADDR_MAX)
		return BAD_RCPT;
	if (!q->relay && !rcpthosts_allow(policy->hosts, rcpt))
		return DENIED;
	if (p->sender_is_bad)
		return BAD_SENDER;
	if (!q->relay && policy->rcpts_max > 0 && p->envelope.rcpts >= policy->rcpts_max)
		return TOO_MANY;

	if (q->suffix.n > 0)
		memcpy(p->addr + rcpt.n, q->suffix.p, q->suffix.n);
	return envelope_add(&p->envelope, span_of(p->addr, rcpt.n + q->suffix.n)) ? TAKEN
										  : TOO_MANY;
}

/* While all recipients are taken, which is the rule, nothing is written down. */
static bool add_rcpt(struct qmtp *q, struct package *p)
{
	enum fate fate;

	if (p->rcpts == QMTP_RCPTS_MAX)
		return false;
	fate = fate_of(q, p);
	if (fate != TAKEN || p->fates.n > 0) {
		size_t missing = p->rcpts - p->fates.n;
		char  *at = buf_room(&p->fates, missing + 1);

		check(at);
		memset(at, TAKEN, missing);
		at[missing] = (char)fate;
		p->fates.n += missing + 1;
	}
	p->rcpts++;
	p->addr_n = 0;
	p->addr_is_bad = false;
	return true;
}

/* A piece of the recipient list; false: it is none. */
static bool take_list(struct qmtp *q, struct span list)
{
	struct package *p = q->now;
	struct span     piece;

	while (list.n > 0) {
		q->in_rcpt = true;
		switch (netstring_take(&q->inner, &list, &piece)) {
		case NETSTRING_MORE:
		case NETSTRING_LENGTH: break;
		case NETSTRING_BYTES:
			if (!add_piece(p->addr, &p->addr_n, piece))
				p->addr_is_bad = true;
			break;
		case NETSTRING_END:
			if (!add_rcpt(q, p))
				return false;
			netstring_init(&q->inner, QMTP_RCPTLIST_MAX, true);
			q->in_rcpt = false;
			break;
		case NETSTRING_LONG:
		case NETSTRING_BAD: return false;
		}
	}
	return true;
}

static void package_complete(struct qmtp *q);

static enum qmtp_verdict await_rcpts(struct qmtp *q, struct span *in)
{
	struct span list;

	switch (netstring_take(&q->outer, in, &list)) {
	case NETSTRING_MORE: return QMTP_WAIT;
	case NETSTRING_LENGTH: return QMTP_MORE;
	case NETSTRING_BYTES: return take_list(q, list) ? QMTP_MORE : garbled(q);
	case NETSTRING_END:
		if (q->in_rcpt)
			return garbled(q);
		package_complete(q);
		return QMTP_MORE;
	case NETSTRING_LONG:
	case NETSTRING_BAD: return garbled(q);
	}
	unreachable();
}

/* ---- the answers ---- */

/* Hops, size, then the queue, as in SMTP. */
static const struct reply *verdict_says(const struct qmtp *q, const struct package *p)
{
	if (p->hops.count >= HOPS_MAX)
		return &said_looping;
	if (is_too_large(q, p))
		return &said_too_large;
	switch ((enum stored)p->verdict) {
	case STORED_OK: return NULL;
	case STORED_LATER: return &said_later;
	case STORED_FULL: return &said_disk_full;
	case STORED_LIMIT: return &said_much_open;
	case STORED_BAD:
		return &said_later; /* our bug, logged by journald: the client keeps it */
	}
	unreachable();
}

static void package_complete(struct qmtp *q)
{
	struct package *p = q->now;

	q->now = NULL;
	q->step = await_package;
	if (p->rcpts == 0) {
		q->world->close(q, p);            /* nobody to answer */
		return;
	}
	list_add_end(&q->flight, &p->flight);
	q->flight_n++;
	if (p->envelope.rcpts > 0 && p->body_open) {
		q->world->commit(q, p);
		return;
	}
	drop_body(q, p);
	p->done = true;
	qmtp_room(q);
}

static void put_said(struct outbuf *out, const struct reply *r)
{
	char text[128];
	int n = snprintf(text, sizeof(text), "%c%s (#%s)", r->code >= 500 ? 'D' : 'Z', r->text,
			 r->enhanced);

	check(n > 0 && (size_t)n < sizeof(text));
	netstring_put(out, span_of(text, (size_t)n));
}

/* As many answers as there is room for; true: that was the last one. */
static bool answer_package(struct qmtp *q, struct package *p)
{
	const struct reply *no = verdict_says(q, p);
	char                ok[80];
	int text_n = snprintf(NULL, 0, "Kok %" PRIu64 " qp %" PRIu64, p->wall, p->id);
	int n = snprintf(ok, sizeof(ok), "%d:Kok %" PRIu64 " qp %" PRIu64 ",", text_n, p->wall,
			 p->id);

	check(n > 0 && (size_t)n < sizeof(ok));
	for (; p->answered < p->rcpts && !outbuf_full(q->out); p->answered++) {
		enum fate fate =
			p->answered < p->fates.n ? (enum fate)p->fates.p[p->answered] : TAKEN;

		if (fate != TAKEN)
			put_said(q->out, fate_says[fate]);
		else if (no)
			put_said(q->out, no);
		else
			out_span(q->out, span_of(ok, (size_t)n));
	}
	return p->answered == p->rcpts;
}

static void tell(struct qmtp *q, const struct package *p)
{
	const struct reply *no = verdict_says(q, p);

	if (!q->world->told)
		return;
	if (p->envelope.rcpts > 0)
		q->world->told(q, p, no ? no->text : "stored");
	else
		q->world->told(q, p, "every recipient refused");
}

void qmtp_room(struct qmtp *q)
{
	struct link *first;

	while ((first = list_first(&q->flight))) {
		struct package *p = owner_of(first, struct package, flight);

		if (!p->done || !answer_package(q, p))
			return;
		tell(q, p);
		list_remove(first);
		q->flight_n--;
		q->world->close(q, p);
	}
}

void qmtp_committed(struct qmtp *q, struct package *p, enum stored verdict, uint64_t id)
{
	check(!p->done);
	p->done = true;
	p->body_open = false;
	p->verdict = (uint8_t)verdict;
	p->id = id;
	p->wall = clock_wall();
	qmtp_room(q);
}

static enum qmtp_verdict finished(struct qmtp *q, struct span *in)
{
	*in = SPAN_NONE;
	return QMTP_CLOSE;
}

enum qmtp_verdict qmtp_input(struct qmtp *q, struct span *in)
{
	enum qmtp_verdict v;

	do
		v = q->step(q, in);
	while (v == QMTP_MORE);
	return v;
}

void qmtp_drain(struct qmtp *q)
{
	q->draining = true;
	if (q->step == await_package)
		qmtp_end(q);
}

bool qmtp_is_over(const struct qmtp *q)
{
	return q->step == finished && q->flight_n == 0;
}

bool qmtp_is_idle(const struct qmtp *q)
{
	return q->step == await_package && q->flight_n == 0;
}

bool qmtp_is_reading(const struct qmtp *q)
{
	return q->now != NULL;
}
