/* Recipients are rewritten here, once, and sorted by destination.  Among the recipients of a
 * destination those with the same retry state share a run, as they did before a restart.
 *
 * A MSG whose RCPT part can't be read any more is of a message that is damaged in the journal.
 * Its other recipients get it; those of the part, whose addresses nobody knows, fail, and the
 * administrator is told. */
#include "sched/plan_parts.h"

#include "core/log.h"
#include "core/pool.h"
#include "mail/addr.h"
#include "mail/envelope.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FEW        16 /* recipients that need no memory of their own */
#define TEXT_BLOCK 65536
#define TEXT_MAX   ((size_t)1 << 40) /* bounded by the parts: LOAD_NUMBERS_MAX addresses */

struct tried {
	uint64_t next_us, pos;
	uint32_t attempt;
};
struct entry {
	struct lane *lane;
	struct recipient rc;
	struct tried tried;
};
struct intake {
	struct plan *plan;
	struct load *load;
	struct message *message;
	struct entry *entries;
	size_t n;
	struct tried *tried; /* by number; NULL: no deferral */
	uint32_t tried_n;
	struct arena texts; /* addresses that rewriting made */
};

/* What looks damaged is looked at twice. */
static void read_part(struct plan *p, struct load *l, uint64_t pos, uint32_t number)
{
	struct record r;

	for (unsigned look = 0; look < 2; look++)
		if (p->world->read(p->world->ctx, pos, REC_RCPT, l->id, number, &r) == READ_OK) {
			load_part(&p->loads, l, &r);
			return;
		}
}

/* Parts that were dropped, or that came in a batch before the plan looked, are where the
 * MSG's hints say.  Those that are not there either are lost. */
static void read_missing(struct plan *p, struct load *l)
{
	struct record r;
	struct msg_view v;
	uint64_t *at;

	if (p->world->read(p->world->ctx, l->pos, REC_MSG, l->id, 0, &r) != READ_OK)
		return;
	if (!msg_view(&r.head, r.body, &v))
		return;
	at = mem_new((l->rcpt_parts + 1) * sizeof(*at));
	for (uint32_t i = 0; i < l->rcpt_parts; i++)
		at[i] = msg_position(&v, v.m->body_parts + i);
	for (uint32_t i = 0; i < l->rcpt_parts; i++)
		read_part(p, l, at[i], i);
	mem_free(at);
}

static uint32_t count_numbers(const struct load *l, uint64_t *ret_all)
{
	uint32_t end = 0;

	*ret_all = 0;
	for (const struct load_part *part = l->parts; part; part = part->next) {
		*ret_all += part->count;
		if (part->first + part->count > end)
			end = part->first + part->count;
	}
	return end;
}

static void note_deferrals(struct intake *in, uint32_t numbers)
{
	struct load_states *s = in->load->states;
	size_t n = s ? s->deferrals.n / sizeof(struct load_deferral) : 0;

	if (n == 0)
		return;
	in->tried = mem_new((numbers + 1ul) * sizeof(*in->tried));
	in->tried_n = numbers;
	for (size_t i = 0; i < n; i++) {
		const struct load_deferral *d =
			(const struct load_deferral *)(const void *)s->deferrals.p + i;

		for (uint32_t k = d->range.first; k <= d->range.last && k < numbers; k++) {
			struct tried *t = &in->tried[k];

			if (d->attempt < t->attempt ||
			    (d->attempt == t->attempt && d->pos < t->pos))
				continue;
			*t = (struct tried){d->next_us, d->pos, d->attempt};
		}
	}
}

/* What of the address the run will keep, in memory that lasts until the run is built. */
static void place(struct intake *in, struct entry *e, struct span addr, enum channel ch,
		  bool is_scratch)
{
	struct lane *l;

	addr = span_until(addr,
			  RUN_ADDR_MAX); /* only an absurd virtualdomains prefix reaches it */
	l = lane_of(&in->plan->lanes, ch, addr);
	e->lane = l;
	e->rc.whole = ch == CHANNEL_LOCAL || !addr_has_at(addr) ||
		      !span_eq(addr_domain(addr), lane_domain(l));
	e->rc.text = e->rc.whole ? addr : addr_local(addr);
	if (!is_scratch || e->rc.text.n == 0)
		return;
	e->rc.text = arena_dup(&in->texts, e->rc.text);
	check(e->rc.text.p);
}

static void take_recipient(struct intake *in, const struct load_part *part, uint32_t number,
			   struct span addr)
{
	struct plan *p = in->plan;
	struct load_states *s = in->load->states;
	struct entry *e = &in->entries[in->n];
	enum channel ch;
	struct span to = addr;

	if (s && bits_has(&s->over, number))
		return;
	if (part->flags & REC_REWRITTEN) /* a second time could prefix them twice */
		ch = part->flags & REC_LOCAL ? CHANNEL_LOCAL : CHANNEL_REMOTE;
	else
		ch = rewrite(p->rewriter, addr, &p->rewritten, &to);
	if (s && bits_has(&s->failed, number)) {
		message_failed(p, in->message, number, to);
		return;
	}
	*e = (struct entry){.rc.number = number};
	place(in, e, to, ch, to.p != addr.p);
	if (in->tried && number < in->tried_n)
		e->tried = in->tried[number];
	in->n++;
}

static void take_part(struct intake *in, const struct load_part *part)
{
	struct span packed = span_of(part->packed, part->n), addr;

	for (uint32_t i = 0; i < part->count && packed_next(&packed, &addr); i++)
		take_recipient(in, part, part->first + i, addr);
}

static int by_destination(const void *va, const void *vb)
{
	const struct entry *a = va, *b = vb;

	if (a->lane != b->lane)
		return a->lane->number < b->lane->number ? -1 : 1;
	if (a->tried.next_us != b->tried.next_us)
		return a->tried.next_us < b->tried.next_us ? -1 : 1;
	if (a->tried.attempt != b->tried.attempt)
		return a->tried.attempt < b->tried.attempt ? -1 : 1;
	return a->rc.number < b->rc.number ? -1 : a->rc.number > b->rc.number;
}

static bool belongs(const struct entry *a, const struct entry *b)
{
	return a->lane == b->lane && a->tried.next_us == b->tried.next_us &&
	       a->tried.attempt == b->tried.attempt;
}

static void add_run(struct intake *in, const struct entry *e, size_t n)
{
	struct plan *p = in->plan;
	struct run *r;
	size_t bytes = 0;

	for (size_t i = 0; i < n; i++)
		bytes += run_packed_n(&e[i].rc);
	check(bytes < UINT32_MAX); /* LOAD_NUMBERS_MAX short addresses; a domain has fewer */
	r = run_new(in->message, e->lane, bytes);
	for (size_t i = 0; i < n; i++)
		run_add(r, &e[i].rc);
	r->attempt = (uint16_t)(e->tried.attempt > UINT16_MAX ? UINT16_MAX : e->tried.attempt);
	r->reason = e->tried.pos;
	message_add_run(p, in->message, r);
	if (e->tried.next_us)
		run_wait(p, r, due_of_wall(p, e->tried.next_us));
	else
		lane_add(&p->lanes, r, message_weight(in->message));
}

static void add_runs(struct intake *in)
{
	size_t from = 0;

	if (in->n > 1)
		qsort(in->entries, in->n, sizeof(*in->entries), by_destination);
	while (from < in->n) {
		size_t to = from + 1;

		while (to < in->n && belongs(&in->entries[from], &in->entries[to]))
			to++;
		add_run(in, &in->entries[from], to - from);
		from = to;
	}
}

static void take_texts(struct plan *p, struct message *m, const struct load *l)
{
	if (m->more && l->states)
		check(buf_add(&m->more->texts, buf_span(&l->states->texts)));
}

/* ---- recipients that are lost */

#define LOST_RANGES 64 /* of one outcome */
#define LOST_MAX    (1u << 24) /* of one message: 14 bytes each; more would be an absurd MSG */
struct lost {
	struct msg_range ranges[LOST_RANGES];
	uint16_t n;
};

static void owe_lost(struct intake *in, struct lost *lost)
{
	struct result o = {.outcome = OUTCOME_FAILED,
			   .ranges = lost->ranges,
			   .ranges_n = lost->n,
			   .text = SPAN(DAMAGED_TEXT)};

	if (lost->n > 0)
		outcome_owe(in->plan, in->message, &o);
	lost->n = 0;
}

/* What failed before the last restart is durable already. */
static void lose(struct intake *in, struct lost *lost, uint32_t number)
{
	struct load_states *s = in->load->states;
	struct msg_range *last = lost->n > 0 ? &lost->ranges[lost->n - 1] : NULL;

	if (s && bits_has(&s->over, number))
		return;
	message_failed(in->plan, in->message, number, SPAN(LOST_ADDRESS));
	if (s && bits_has(&s->failed, number))
		return;
	in->plan->counts.failed++;
	if (last && last->last + 1 == number) {
		last->last++;
		return;
	}
	if (lost->n == LOST_RANGES)
		owe_lost(in, lost);
	lost->ranges[lost->n++] = (struct msg_range){number, number};
}

/* Theirs are the first numbers that no part has. */
static void take_lost(struct intake *in, uint64_t here)
{
	const struct load *l = in->load;
	uint64_t left = l->rcpts > here ? l->rcpts - here : 0;
	struct lost lost = {.n = 0};
	struct bits have = {0};

	if (left > LOST_MAX)
		left = LOST_MAX;
	in->message->lost = 1;
	in->plan->counts.lost_parts += l->rcpt_parts - l->parts_n;
	tell_damage(&in->plan->tell, l->id, "recipients damaged in the journal");
	for (const struct load_part *part = l->parts; part; part = part->next)
		for (uint32_t i = 0; i < part->count; i++)
			bits_set(&have, part->first + i);
	for (uint32_t number = 0; left > 0 && number < LOAD_NUMBERS_MAX; number++) {
		if (bits_has(&have, number))
			continue;
		lose(in, &lost, number);
		left--;
	}
	owe_lost(in, &lost);
	bits_fini(&have);
}

void intake_build(struct plan *p, struct load *l)
{
	struct entry few[FEW];
	struct intake in = {.plan = p, .load = l, .entries = few};
	uint64_t all;
	uint32_t numbers;

	if (!load_is_whole(l))
		read_missing(p, l);
	numbers = count_numbers(l, &all);
	if (all > FEW)
		in.entries = mem_new(all * sizeof(*in.entries));
	arena_init(&in.texts, TEXT_BLOCK, TEXT_MAX);
	in.message = message_new(p, l);
	note_deferrals(&in, numbers);
	for (const struct load_part *part = l->parts; part; part = part->next)
		take_part(&in, part);
	add_runs(&in);
	if (!load_is_whole(l))
		take_lost(&in, all);
	take_texts(p, in.message, l);
	arena_fini(&in.texts);
	mem_free(in.tried);
	if (in.entries != few)
		mem_free(in.entries);
	message_check_end(p, in.message);
}
