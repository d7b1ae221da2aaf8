#include "sched/view.h"

#include "core/clock.h"
#include "core/pool.h"
#include "sched/plan_parts.h"

#include <inttypes.h>
#include <stdlib.h>

#define SORTED_MAX 100000 /* ids; sorting more would be felt by deliveries */

static size_t plain_length(struct span s)
{
	unsigned char c = (unsigned char)s.p[0];

	if (c >= 0x80)
		return span_utf8(s);
	return c >= 32 && c < 127 && c != '"' && c != '\\';
}

void json_string(struct outbuf *o, struct span s)
{
	out_byte(o, '"');
	while (s.n > 0) {
		size_t n = plain_length(s);

		if (n > 0)
			out_span(o, span_cut(&s, n));
		else
			out_fmt(o, "\\u%04x", (unsigned char)*span_cut(&s, 1).p);
	}
	out_byte(o, '"');
}

static int by_id(const void *a, const void *b)
{
	uint64_t ia = *(const uint64_t *)a, ib = *(const uint64_t *)b;

	return ia < ib ? -1 : ia > ib;
}

void view_init(struct view *v, struct plan *p)
{
	size_t at = 0;
	const struct message *m;

	*v = (struct view){.plan = p};
	v->ids = mem_new((p->messages.n + 1) * sizeof(*v->ids));
	while ((m = book_next(&p->messages, &at)))
		v->ids[v->n++] = m->id;
	if (v->n <= SORTED_MAX)
		qsort(v->ids, v->n, sizeof(*v->ids), by_id);
	list_add_end(&p->views, &v->link);
}

void view_fini(struct view *v)
{
	list_remove(&v->link);
	mem_free(v->ids);
	v->ids = NULL;
}

void view_message_gone(struct plan *p, const struct message *m)
{
	list_each(&p->views, l)
	{
		struct view *v = owner_of(l, struct view, link);

		if (v->message == m)
			v->run = NULL;
	}
}

void view_run_gone(struct plan *p, const struct run *r)
{
	list_each(&p->views, l)
	{
		struct view *v = owner_of(l, struct view, link);

		if (v->run == r)
			v->run = r->sibling;
	}
}

static bool is_held(const struct plan *p, const struct run *r)
{
	return p->lanes.channels[r->lane->channel].limit == 0;
}

/* Its destination could not be reached a short while ago: it waits for somebody to look. */
static bool is_kept(const struct run *r)
{
	const struct pace *pace = r->lane->pace;

	return r->state == RUN_READY && pace && pace->dead_until_us > clock_mono_us();
}

/* As postqueue's words: what is tried now or next, what waits for its time, what is held. */
static const char *queue_name(const struct plan *p, const struct message *m)
{
	bool held = m->left > 0;

	for (const struct run *r = m->runs; r; r = r->sibling) {
		if (r->state == RUN_RUNNING || 
		    (r->state == RUN_READY && !is_held(p, r) && !is_kept(r)))
			return "active";
		if (r->state != RUN_OVER)
			held = held && is_held(p, r);
	}
	return m->left == 0 ? "active" : held ? "hold" : "deferred";
}

static void open_line(struct view *v, struct outbuf *o, struct message *m)
{
	out_fmt(o,
		"{\"queue_name\":\"%s\",\"queue_id\":\"%" PRIu64 "\",\"arrival_time\":%" PRIu32
		",\"message_size\":%" PRIu64,
		queue_name(v->plan, m), m->id, m->birth, (uint64_t)m->size);
	out_str(o, ",\"forced_expire\":false,\"sender\":");
	json_string(o, message_sender(m));
	out_str(o, ",\"recipients\":[");
	v->message = m;
	v->run = m->runs;
	v->some = false;
}

static void write_recipient(struct view *v, struct outbuf *o, struct span addr,
			    struct span reason)
{
	out_str(o, v->some ? ",{\"address\":" : "{\"address\":");
	v->some = true;
	json_string(o, addr);
	if (reason.n > 0) {
		out_str(o, ",\"delay_reason\":");
		json_string(o, reason);
	}
	out_byte(o, '}');
}

static struct span reason_of(struct plan *p, const struct run *r)
{
	struct record rec;
	struct state_view sv;

	if (r->reason == 0 ||
	    p->world->read(p->world->ctx, r->reason, REC_STATE, r->message->id, 0, &rec) !=
		    READ_OK ||
	    !state_view(&rec.head, rec.body, &sv))
		return SPAN_NONE;
	return span_trim_end(sv.text, "\r\n");
}

static void write_run(struct view *v, struct outbuf *o, const struct run *r)
{
	struct recipient rc;
	uint32_t at = r->at;
	struct span reason;

	if (r->state == RUN_OVER)
		return;
	reason = reason_of(v->plan, r);
	if (reason.n == 0 && is_kept(r))
		reason = SPAN("its destination could not be reached a short while ago");
	while (run_next(r, &at, &rc))
		write_recipient(v, o, recipient_address(r, &rc, &v->plan->address), reason);
}

static void close_line(struct view *v, struct outbuf *o)
{
	out_str(o, "]}\n");
	v->message = NULL;
}

bool view_write(struct view *v, struct outbuf *o)
{
	while (!outbuf_full(o)) {
		struct run *r = v->run;

		if (v->message && r) {
			v->run = r->sibling;
			write_run(v, o, r);
		} else if (v->message) {
			close_line(v, o);
		} else if (v->at < v->n) {
			struct message *m = message_find(v->plan, v->ids[v->at++]);

			if (m)
				open_line(v, o, m);
		} else {
			return false;
		}
	}
	return true;
}
