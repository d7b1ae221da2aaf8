/* A message's runs that are over stay on its list until more than half of the list is; so
 * taking one out costs the same however many there are. */
#include "sched/plan_parts.h"

#include "core/clock.h"
#include "core/log.h"
#include "core/pool.h"
#include "mail/addr.h"
#include "sched/view.h"

#include <inttypes.h>
#include <string.h>

static_check(offsetof(struct message, sender) <= 56); /* with a sender of 24 bytes 80 */

static size_t message_bytes(const struct message *m)
{
	return offsetof(struct message, sender) + m->sender_n;
}

struct message *message_new(struct plan *p, const struct load *l)
{
	size_t n = offsetof(struct message, sender) + l->sender_n;
	struct message *m = mem_new(n < sizeof(*m) ? sizeof(*m) : n);

	m->id = l->id;
	m->pos = l->pos;
	m->size = l->size;
	m->birth = (uint32_t)(l->arrival_us / 1000000);
	m->huge = l->rcpts > SMALL_RCPTS_MAX;
	m->sender_n = l->sender_n;
	if (l->sender_n > 0)
		memcpy(m->sender, l->sender, l->sender_n);
	m->verp = addr_verp_base(message_sender(m)).n != m->sender_n;
	book_put(&p->messages, m);
	p->bytes += message_bytes(m);
	return m;
}

struct message *message_find(const struct plan *p, uint64_t id)
{
	return book_get(&p->messages, id);
}

struct span message_sender(const struct message *m)
{
	return span_of(m->sender, m->sender_n);
}

enum weight message_weight(const struct message *m)
{
	return m->huge ? HUGE : SMALL;
}

struct more *message_more(struct plan *p, struct message *m)
{
	struct more *more = m->more;

	if (more)
		return more;
	more = pool_get(&p->mores);
	check(more); /* no more of them than messages */
	more->message = m;
	list_init(&more->handles);
	heap_entry_init(&more->again);
	buf_init(&more->failed, FAILED_BYTES_MAX);
	buf_init(&more->texts, FAILED_BYTES_MAX);
	m->more = more;
	return more;
}

static void more_free(struct plan *p, struct message *m)
{
	struct more *more = m->more;

	if (!more)
		return;
	check(list_is_empty(&more->handles));
	heap_remove(&p->again, &more->again);
	list_remove(&more->notice);
	p->bytes -= more->failed.n;
	buf_free(&more->failed);
	buf_free(&more->texts);
	pool_put(&p->mores, more);
	m->more = NULL;
}

void message_tidy(struct plan *p, struct message *m)
{
	struct more *more = m->more;

	if (!more || !list_is_empty(&more->handles) || more->failed.n > 0 || more->owed > 0)
		return;
	if (heap_has(&more->again) || link_is_in(&more->notice))
		return;
	more_free(p, m);
}

static void run_gone(struct plan *p, struct run *r)
{
	view_run_gone(p, r);
	p->bytes -= run_bytes(r);
	run_free(r);
}

/* Runs of a message that is freed early (plan_fini) may still be on a list elsewhere; those
 * lists are given up with the plan. */
void message_free(struct plan *p, struct message *m)
{
	view_message_gone(p, m);
	while (m->runs) {
		struct run *r = m->runs;

		m->runs = r->sibling;
		if (r->lane)
			lane_unref(&p->lanes, r->lane);
		run_gone(p, r);
	}
	more_free(p, m);
	p->recipients -= m->left;
	p->bytes -= message_bytes(m);
	book_remove(&p->messages, m);
	mem_free(m);
}

void message_split_run(struct plan *p, struct message *m, struct run *front)
{
	front->sibling = m->runs;
	m->runs = front;
	m->runs_n++;
	p->bytes += run_bytes(front);
	lane_ref(front->lane);
}

void message_add_run(struct plan *p, struct message *m, struct run *r)
{
	message_split_run(p, m, r);
	m->left += r->count;
	p->recipients += r->count;
}

static void sweep(struct plan *p, struct message *m)
{
	struct run **at = &m->runs;

	while (*at) {
		struct run *r = *at;

		if (r->state != RUN_OVER) {
			at = &r->sibling;
			continue;
		}
		*at = r->sibling;
		run_gone(p, r);
	}
	m->runs_n -= m->runs_over;
	m->runs_over = 0;
}

void message_run_over(struct plan *p, struct run *r)
{
	struct message *m = r->message;

	check(r->state == RUN_RUNNING && !r->owed);
	r->state = RUN_OVER;
	lane_unref(&p->lanes, r->lane);
	r->lane = NULL;
	m->runs_over++;
	if (m->runs_over > m->runs_n / 2)
		sweep(p, m);
}

/* With bouncewait, what failed is told even if others are still being tried. */
static void tell_in_time(struct plan *p, struct more *more)
{
	if (p->limits.bounce_wait_s == 0 || more->failed_n == 0 || more->tell ||
	    heap_has(&more->again) || link_is_in(&more->notice))
		return;
	more->early = true;
	heap_add(&p->again, &more->again, clock_mono_us() + p->limits.bounce_wait_s * 1000000);
}

void message_failed(struct plan *p, struct message *m, uint32_t number, struct span addr)
{
	struct more *more = message_more(p, m);
	struct failed_head h = {.number = number, .n = (uint16_t)addr.n};

	check(buf_add(&more->failed, span_of(&h, sizeof(h))) && buf_add(&more->failed, addr));
	more->failed_n++;
	p->bytes += sizeof(h) + addr.n;
	tell_in_time(p, more);
}

void message_settle(struct plan *p, struct message *m, struct msg_range range)
{
	struct more *more = m->more;
	size_t at = 0;

	while (more && at < more->failed.n) {
		struct failed_head h;

		memcpy(&h, more->failed.p + at, sizeof(h));
		if (!h.settled && h.number >= range.first && h.number <= range.last) {
			h.settled = 1;
			memcpy(more->failed.p + at, &h, sizeof(h));
			more->failed_n--;
		}
		at += sizeof(h) + h.n;
	}
}

void message_check_end(struct plan *p, struct message *m)
{
	struct more *more = m->more;

	if (more && more->early && m->left == 0) {
		more->early = false;
		heap_remove(&p->again, &more->again);
	}
	if ((m->left > 0 && !(more && more->tell)) ||
	    (more && (more->owed > 0 || link_is_in(&more->notice) || heap_has(&more->again)))) {
		if (more && m->left > 0)
			tell_in_time(p, more);
		message_tidy(p, m);
		return;
	}
	if (more)
		more->tell = false;
	if (more && more->failed_n > 0) {
		notice_send(p, m);
		return;
	}
	if (m->left > 0) {
		message_tidy(p, m);
		return;
	}
	tell_over(&p->tell, m->id);
	p->counts.ended++;
	message_free(p, m);
}
