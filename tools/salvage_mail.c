/* salvage_mail - see the header.
 *
 * A bounce settles failures of the message it reports.  That counts if the bounce itself is WHOLE or OVER; is
 * it CUT, nobody will ever read it, so the failures are open again and will be reported anew. */
#include "tools/salvage_mail.h"

#include "core/pool.h"

#include <stdlib.h>
#include <string.h>

#define MAILS_MAX   (SIZE_MAX / 64)
#define RECORDS_MAX (1024u * 1024 * 1024)         /* STATEs of one message */

void salvage_mails_init(struct salvage_mails *s)
{
	*s = (struct salvage_mails){0};
	map_init(&s->by_id, MAILS_MAX);
	buf_init(&s->dicts, RECORDS_MAX);
}

static void mail_free(struct salvage_mail *m)
{
	buf_free(&m->msg);
	buf_free(&m->states);
	buf_free(&m->settled);
	bits_fini(&m->over);
	mem_free(m->places);
	mem_free(m);
}

void salvage_mails_fini(struct salvage_mails *s)
{
	size_t   at = 0;
	uint64_t id;
	void    *m;

	while ((m = map_next(&s->by_id, &at, &id)))
		mail_free(m);
	map_fini(&s->by_id);
	buf_free(&s->dicts);
	mem_free(s->v);
}

static struct salvage_mail *mail_of(struct salvage_mails *s, uint64_t id)
{
	struct salvage_mail *m = map_get(&s->by_id, id);

	if (m)
		return m;
	m = mem_new(sizeof(*m));
	m->id = id;
	buf_init(&m->msg, REC_MAX + sizeof(struct rec_head));
	buf_init(&m->states, RECORDS_MAX);
	buf_init(&m->settled, RECORDS_MAX);
	check(map_put(&s->by_id, id, m));
	return m;
}

static void keep_record(struct buf *b, const struct record *r)
{
	check(buf_add(b, span_of(&r->head, sizeof(r->head))) && buf_add(b, r->body));
}

bool salvage_record_next(struct span *all, struct rec_head *ret, struct span *ret_body)
{
	if (all->n < sizeof(*ret))
		return false;
	memcpy(ret, span_cut(all, sizeof(*ret)).p, sizeof(*ret));
	*ret_body = span_cut(all, ret->n);
	return ret_body->n == ret->n;
}

bool salvage_mail_msg(const struct salvage_mail *m, struct msg_view *ret)
{
	struct span     all = buf_span(&m->msg), body;
	struct rec_head h;

	return salvage_record_next(&all, &h, &body) && msg_view(&h, body, ret);
}

static void keep_place(struct salvage_mail *m, uint32_t file, uint64_t off, const struct record *r)
{
	if (m->places_n == m->places_cap) {
		uint32_t cap = m->places_cap ? 2 * m->places_cap : 2;

		m->places = mem_grow(m->places, m->places_cap * sizeof(*m->places), cap * sizeof(*m->places));
		m->places_cap = cap;
	}
	m->places[m->places_n++] =
		(struct salvage_place){.file = file, .number = r->head.number, .off = off, .type = r->head.type};
}

/* Copies of a MSG say the same but for their hints, which are not used here. */
static void keep_msg(struct salvage_mail *m, const struct record *r)
{
	struct msg_view v;

	if (m->msg.n > 0 || !msg_view(&r->head, r->body, &v))
		return;
	keep_record(&m->msg, r);
	m->arrival_us = v.m->arrival_us;
}

void salvage_mails_take(struct salvage_mails *s, uint32_t file, uint64_t off, const struct record *r)
{
	if (r->head.type == REC_DICT && r->head.version == REC_LAYOUT)
		keep_record(&s->dicts, r);
	if (!r->head.id || r->head.version != REC_LAYOUT)
		return;
	if (r->head.id >> (ID_SEQ_BITS + ID_SHARD_BITS) > s->epoch)
		s->epoch = r->head.id >> (ID_SEQ_BITS + ID_SHARD_BITS);
	if (r->head.type == REC_MSG)
		keep_msg(mail_of(s, r->head.id), r);
	else if (r->head.type == REC_BODY || r->head.type == REC_RCPT)
		keep_place(mail_of(s, r->head.id), file, off, r);
	else if (r->head.type == REC_STATE)
		keep_record(&mail_of(s, r->head.id)->states, r);
}

/* ---- judging */

static int by_part(const void *va, const void *vb)
{
	const struct salvage_place *a = va, *b = vb;

	if (a->type != b->type)
		return a->type < b->type ? -1 : 1;
	return (a->number > b->number) - (a->number < b->number);
}

static void sort_places(struct salvage_mail *m)
{
	uint32_t kept = 0;

	if (m->places_n)
		qsort(m->places, m->places_n, sizeof(*m->places), by_part);
	for (uint32_t i = 0; i < m->places_n; i++)
		if (kept == 0 || by_part(&m->places[kept - 1], &m->places[i]) != 0)
			m->places[kept++] = m->places[i];
	m->places_n = kept;
}

/* Parts that the MSG speaks of and that are not there. */
static uint32_t count_lost(const struct salvage_mail *m, const struct rec_msg *msg)
{
	uint32_t have = 0;

	for (uint32_t i = 0; i < m->places_n; i++)
		have += m->places[i].number <
			(m->places[i].type == REC_BODY ? msg->body_parts : msg->rcpt_parts);
	return msg->body_parts + msg->rcpt_parts - have;
}

static void set_over(struct salvage_mail *m, struct msg_range r, uint32_t rcpts)
{
	for (uint32_t i = r.first; i <= r.last && i < rcpts; i++)
		(void)bits_set(&m->over, i);
}

static void merge_states(struct salvage_mail *m, uint32_t rcpts)
{
	struct span       all = buf_span(&m->states), body;
	struct state_view v;
	struct rec_head   h;

	while (salvage_record_next(&all, &h, &body)) {
		if (!state_view(&h, body, &v) || v.s->outcome == OUTCOME_DEFERRED || v.s->outcome == OUTCOME_FAILED ||
		    v.s->outcome == OUTCOME_CANCELLED)
			continue;
		for (uint32_t i = 0; i < v.s->ranges_n; i++)
			set_over(m, range_at(v.ranges, i), rcpts);
	}
}

static void judge(struct salvage_mail *m)
{
	struct msg_view v;

	sort_places(m);
	m->what = SALVAGED_NO_MSG;
	if (!salvage_mail_msg(m, &v))
		return;
	merge_states(m, v.m->rcpts);
	m->lost = count_lost(m, v.m);
	m->what = m->over.count >= v.m->rcpts ? SALVAGED_OVER : m->lost ? SALVAGED_CUT : SALVAGED_WHOLE;
}

static void settle_parent(struct salvage_mails *s, const struct salvage_mail *bounce)
{
	struct salvage_mail *parent;
	struct msg_view      v, pv;

	if (bounce->what != SALVAGED_WHOLE && bounce->what != SALVAGED_OVER)
		return;
	if (!salvage_mail_msg(bounce, &v) || !v.m->parent || !(parent = map_get(&s->by_id, v.m->parent)))
		return;
	for (uint32_t i = 0; salvage_mail_msg(parent, &pv) && i < v.m->settles_n; i++)
		set_over(parent, range_at(v.settles, i), pv.m->rcpts);
	/* Its own MSG will say so if it is written; else nobody would. */
	if (bounce->what == SALVAGED_OVER)
		check(buf_add(&parent->settled, v.settles));
}

static int by_id_down(const void *va, const void *vb)
{
	const struct salvage_mail *a = *(struct salvage_mail *const *)va, *b = *(struct salvage_mail *const *)vb;

	return (a->id < b->id) - (a->id > b->id);
}

static int by_arrival(const void *va, const void *vb)
{
	const struct salvage_mail *a = *(struct salvage_mail *const *)va, *b = *(struct salvage_mail *const *)vb;

	if (a->arrival_us != b->arrival_us)
		return a->arrival_us < b->arrival_us ? -1 : 1;
	return (a->id > b->id) - (a->id < b->id);
}

/* A bounce is younger than what it reports: the youngest are judged first. */
void salvage_mails_judge(struct salvage_mails *s)
{
	size_t   at = 0;
	uint64_t id;
	void    *m;

	s->v = mem_new((s->by_id.n + 1) * sizeof(*s->v));
	while ((m = map_next(&s->by_id, &at, &id)))
		s->v[s->n++] = m;
	if (s->n == 0)
		return;
	qsort(s->v, s->n, sizeof(*s->v), by_id_down);
	for (size_t i = 0; i < s->n; i++) {
		judge(s->v[i]);
		settle_parent(s, s->v[i]);
	}
	qsort(s->v, s->n, sizeof(*s->v), by_arrival);
}
