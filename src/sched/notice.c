/* Failures become a notice only when each is durable and nothing of the message is left to
 * try.  The texts are read back from the journal, where the STATEs were seen.  The notice's
 * own MSG settles exactly the failures that it names (docs/journal.md), so whatever does not
 * fit into one notice simply has not been reported yet and goes into the next. */
#include "sched/plan_parts.h"

#include "core/clock.h"
#include "core/log.h"
#include "core/pool.h"
#include "mail/addr.h"
#include "mail/bounce.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NOTICE_TEXT_MAX (768 * 1024) /* with the ranges below WIRE_FRAME_MAX */
#define NOTICE_TEXT_END                                                                        \
	(NOTICE_TEXT_MAX -                                                                     \
	 32 * 1024) /* no paragraph begins behind it: the largest one and the tail fit */
#define NOTICE_RCPTS_MAX 16384 /* so many ranges at most: 128 KiB */
#define NOTICE_TAIL_MAX  (NOTICE_TEXT_MAX + NOTICE_RCPTS_MAX * 8 + 2 * ADDR_MAX + 2)
#define TEXT_LOST                                                                              \
	"The reason of this failure could not be read back from the journal. (#5.0.0)\n"

struct pick { /* one failure that is not settled */
	uint32_t number;
	bool told;
	struct span addr; /* in more->failed */
};
struct picks {
	struct pick *v;
	uint32_t n, told;
};

static int by_number(const void *a, const void *b)
{
	uint32_t na = ((const struct pick *)a)->number, nb = ((const struct pick *)b)->number;

	return na < nb ? -1 : na > nb;
}

static void pick_all(const struct more *more, struct picks *ps)
{
	size_t at = 0;

	ps->v = mem_new(more->failed_n * sizeof(*ps->v));
	ps->n = ps->told = 0;
	while (at < more->failed.n) {
		struct failed_head h;

		memcpy(&h, more->failed.p + at, sizeof(h));
		at += sizeof(h);
		if (!h.settled)
			ps->v[ps->n++] = (struct pick){
				.number = h.number, .addr = span_of(more->failed.p + at, h.n)};
		at += h.n;
	}
	check(ps->n == more->failed_n);
	qsort(ps->v, ps->n, sizeof(*ps->v), by_number);
}

static uint32_t first_from(const struct picks *ps, uint32_t number)
{
	uint32_t low = 0, high = ps->n;

	while (low < high) {
		uint32_t mid = low + (high - low) / 2;

		if (ps->v[mid].number < number)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

static bool is_full(const struct picks *ps, const struct buf *text)
{
	return text->n > NOTICE_TEXT_END || ps->told >= NOTICE_RCPTS_MAX;
}

/* Those that are lost have no names: once a text is enough. */
static bool tell_one(struct plan *p, const struct pick *pick, struct span text, bool *lost,
		     struct buf *b)
{
	bool is_lost = span_eq(pick->addr, SPAN(LOST_ADDRESS));

	if (!is_lost || !*lost)
		check(bounce_paragraph(b, rewriter_strip(p->rewriter, pick->addr), text));
	*lost = *lost || is_lost;
	return is_lost;
}

/* Recipients first .. last failed with this text. */
static void tell_range(struct plan *p, struct picks *ps, struct msg_range range,
		       struct span text, struct buf *b)
{
	bool lost = false;

	for (uint32_t i = first_from(ps, range.first);
	     i < ps->n && ps->v[i].number <= range.last; i++) {
		if (ps->v[i].told || is_full(ps, b))
			continue;
		ps->told += !tell_one(p, &ps->v[i], text, &lost, b);
		ps->v[i].told = true;
	}
}

static void tell_state(struct plan *p, const struct message *m, const struct text_at *at,
		       struct picks *ps, struct buf *b)
{
	struct record r;
	struct state_view v;

	if (p->world->read(p->world->ctx, at->pos, REC_STATE, m->id, at->number, &r) !=
		    READ_OK ||
	    !state_view(&r.head, r.body, &v))
		return;
	for (uint32_t i = 0; i < v.s->ranges_n; i++)
		tell_range(p, ps, range_at(v.ranges, i), v.text, b);
}

static void tell_all(struct plan *p, const struct message *m, struct picks *ps, struct buf *b)
{
	struct span texts = buf_span(&m->more->texts);

	while (texts.n > 0 && !is_full(ps, b)) {
		struct text_at at;

		memcpy(&at, span_cut(&texts, sizeof(at)).p, sizeof(at));
		tell_state(p, m, &at, ps, b);
	}
	if (!is_full(ps, b))
		tell_range(p, ps, (struct msg_range){0, UINT32_MAX}, SPAN(TEXT_LOST), b);
}

/* The ranges of those that were told (all of them: everyone), in b. */
static uint16_t add_ranges(const struct picks *ps, bool all, struct buf *b)
{
	struct msg_range range = {0};
	uint16_t n = 0;

	for (uint32_t i = 0; i < ps->n; i++) {
		uint32_t number = ps->v[i].number;

		if (!all && !ps->v[i].told)
			continue;
		if (n > 0 && range.last + 1 == number) {
			range.last++;
			continue;
		}
		if (n > 0)
			check(buf_add(b, span_of(&range, sizeof(range))));
		if (n == NOTICE_RCPTS_MAX)
			return n;
		range = (struct msg_range){number, number};
		n++;
	}
	if (n > 0)
		check(buf_add(b, span_of(&range, sizeof(range))));
	return n;
}

void notice_later(struct plan *p, struct message *m, uint64_t wait_s)
{
	struct more *more = message_more(p, m);

	list_remove(&more->notice);
	heap_remove(&p->again, &more->again);
	heap_add(&p->again, &more->again, clock_mono_us() + wait_s * 1000000);
}

/* A failure to deliver a double bounce is settled without telling anybody. */
static void discard(struct plan *p, struct message *m)
{
	struct picks ps;
	struct buf ranges;
	struct result o = {.outcome = OUTCOME_SETTLED};

	tell_triple(&p->tell, m->id);
	buf_init(&ranges, (NOTICE_RCPTS_MAX + 1) * sizeof(struct msg_range));
	pick_all(m->more, &ps);
	o.ranges_n = add_ranges(&ps, true, &ranges);
	o.ranges = (const struct msg_range *)(const void *)ranges.p;
	outcome_owe(p, m, &o);
	for (uint32_t i = 0; i < o.ranges_n; i++)
		message_settle(p, m, o.ranges[i]);
	mem_free(ps.v);
	buf_free(&ranges);
}

/* Also when sched was started anew since then: the last text says it. */
static bool is_damaged(struct plan *p, const struct message *m)
{
	struct text_at at;
	struct record r;
	struct state_view v;

	if (m->damage == DAMAGE_SURE || m->lost)
		return true;
	if (m->more->texts.n < sizeof(at))
		return false;
	memcpy(&at, m->more->texts.p + m->more->texts.n - sizeof(at), sizeof(at));
	return p->world->read(p->world->ctx, at.pos, REC_STATE, m->id, at.number, &r) ==
		       READ_OK &&
	       state_view(&r.head, r.body, &v) && span_eq(v.text, SPAN(DAMAGED_TEXT));
}

/* Not to the sender, who can do nothing about it. */
static void to_administrator(struct plan *p, struct bounce *bo, struct span *from_sender)
{
	bool dbl;

	check(bounce_addresses(SPAN_NONE, p->limits.double_to, p->limits.double_host,
			       &p->address2, &bo->to, from_sender, &dbl));
	bo->dbl = false; /* it says what happened in the words of an ordinary one */
}

/* There is no copy by which it could be known. */
static bool tell_what(struct buf *b, const struct message *m)
{
	char id[24];

	snprintf(id, sizeof(id), "%" PRIu64, m->id);
	return buf_add(b, SPAN("It is message ")) && buf_add(b, span_str(id)) &&
	       buf_add(b, SPAN(" from <")) && buf_add(b, message_sender(m)) &&
	       buf_add(b, SPAN(">, who was not told.\n\"quire journal verify\" says what is "
			       "damaged.\n\n"));
}

static void send_notice(struct plan *p, struct message *m, uint32_t body, struct bounce *bo,
			struct span from_sender)
{
	struct msg_bounce msg = {.id = m->id,
				 .pos = m->pos,
				 .copy_max = p->limits.bounce_max,
				 .bare = is_damaged(p, m)};
	struct picks ps;
	struct buf text, tail;

	buf_init(&text, NOTICE_TEXT_MAX);
	buf_init(&tail, NOTICE_TAIL_MAX);
	pick_all(m->more, &ps);
	check(bounce_head(&text, bo));
	check(!msg.bare || tell_what(&text, m));
	tell_all(p, m, &ps, &text);
	check(msg.bare || bounce_tail(&text, bo));
	check(buf_add(&tail, from_sender) && buf_add(&tail, bo->to));
	msg.settles_n = add_ranges(&ps, false, &tail);
	check(buf_add(&tail, buf_span(&text)));
	msg.sender_n = (uint16_t)from_sender.n;
	msg.rcpt_n = (uint16_t)bo->to.n;
	msg.text_n = (uint32_t)text.n;
	m->more->notice_body = body;
	list_add_end(&p->notices, &m->more->notice);
	p->world->bounce(p->world->ctx, body, &msg, buf_span(&tail));
	mem_free(ps.v);
	buf_free(&text);
	buf_free(&tail);
}

void notice_send(struct plan *p, struct message *m)
{
	struct span from_sender;
	uint32_t body;
	struct bounce bo = {
		.from = p->limits.bounce_from,
		.host = p->limits.bounce_host,
		.sender = addr_verp_base(message_sender(m)),
		.wall = clock_wall(),
	};

	if (!bounce_addresses(message_sender(m), p->limits.double_to, p->limits.double_host,
			      &p->address2, &bo.to, &from_sender, &bo.dbl)) {
		discard(p, m);
		return;
	}
	if (is_damaged(p, m))
		to_administrator(p, &bo, &from_sender);
	if (p->replaying) {
		notice_later(p, m, BOUNCE_REPLAY_S);
		return;
	}
	if (p->draining || !body_for(&p->jobs, m->id, &body)) {
		notice_later(p, m, AGENT_LOST_WAIT_S);
		return;
	}
	send_notice(p, m, body, &bo, from_sender);
}

/* Success is believed when its record is seen; a refusal at once. */
void plan_bounced(struct plan *p, const struct msg_bounced *b)
{
	struct message *m = message_find(p, b->parent);

	if (!m || !m->more || !link_is_in(&m->more->notice) || b->verdict == STORED_OK)
		return;
	tell_warning(&p->tell, "trouble injecting bounce message, will try later");
	notice_later(p, m, BOUNCE_AGAIN_S);
}
