#include "sched/lane.h"

#include "core/pool.h"
#include "mail/addr.h"

#include <string.h>

static struct span key_of(const void *value)
{
	return lane_domain(value);
}

static size_t lane_bytes(const struct lane *l)
{
	return sizeof(*l) + l->domain_n;
}

static struct lane *lane_new(struct lanes *ls, enum channel ch, struct span domain)
{
	struct lane *l = mem_new(sizeof(*l) + domain.n);

	l->channel = (uint8_t)ch;
	l->number = ls->numbers++;
	l->domain_n = (uint16_t)domain.n;
	l->window = ch == CHANNEL_LOCAL ? LANE_WINDOW_MAX : LANE_WINDOW_FIRST;
	if (domain.n > 0)
		memcpy(l->domain, domain.p, domain.n);
	ls->bytes += lane_bytes(l);
	return l;
}

void lanes_init(struct lanes *ls)
{
	*ls = (struct lanes){0};
	table_init(&ls->by_domain, key_of, true, LANES_MAX);
	for (unsigned c = 0; c < ARRAY_N(ls->channels); c++)
		for (unsigned w = 0; w < WEIGHTS; w++)
			list_init(&ls->channels[c].turns[w]);
	ls->local = lane_new(ls, CHANNEL_LOCAL, SPAN_NONE);
}

void lanes_fini(struct lanes *ls)
{
	check(ls->by_domain.n == 0);
	table_fini(&ls->by_domain);
	mem_free(ls->local);
	ls->local = NULL;
}

/* A new lane is named by nobody yet; the caller refers to it at once. */
struct lane *lane_of(struct lanes *ls, enum channel ch, struct span addr)
{
	struct span domain = addr_domain(addr);
	struct lane *l;

	if (ch == CHANNEL_LOCAL)
		return ls->local;
	l = table_get(&ls->by_domain, domain);
	if (l)
		return l;
	l = lane_new(ls, ch, domain);
	check(table_put(&ls->by_domain, l));
	return l;
}

struct span lane_domain(const struct lane *l)
{
	return span_of(l->domain, l->domain_n);
}

void lane_ref(struct lane *l)
{
	l->runs++;
}

void lane_unref(struct lanes *ls, struct lane *l)
{
	check(l->runs > 0);
	l->runs--;
	if (l->runs > 0 || l == ls->local)
		return;
	check(l->running == 0);
	for (unsigned w = 0; w < WEIGHTS; w++)
		list_remove(&l->turn[w]);
	table_remove(&ls->by_domain, l);
	ls->bytes -= lane_bytes(l);
	mem_free(l);
}

/* The one place that decides whether a lane is in the ring.  A lane that comes back joins
 * at the end; one that stays keeps its place. */
static void arrange(struct lanes *ls, struct lane *l)
{
	bool open = l->running < l->window;

	for (unsigned w = 0; w < WEIGHTS; w++) {
		bool in = l->turn[w].next != NULL;

		if (open && l->ready[w].first && !in)
			list_add_end(&ls->channels[l->channel].turns[w], &l->turn[w]);
		else if ((!open || !l->ready[w].first) && in)
			list_remove(&l->turn[w]);
	}
}

void lane_add(struct lanes *ls, struct run *r, enum weight w)
{
	r->state = RUN_READY;
	run_queue_add(&r->lane->ready[w], r);
	ls->channels[r->lane->channel].ready += r->count;
	arrange(ls, r->lane);
}

static enum weight whose_turn(struct outlet *c)
{
	bool small = !list_is_empty(&c->turns[SMALL]), huge = !list_is_empty(&c->turns[HUGE]);

	if (!small || !huge)
		return small ? SMALL : HUGE;
	return c->turn++ % (SMALL_TURNS + 1) == SMALL_TURNS ? HUGE : SMALL;
}

struct run *channel_take(struct lanes *ls, enum channel ch, enum weight *ret_weight)
{
	struct outlet *c = &ls->channels[ch];
	enum weight w = whose_turn(c);
	struct link *first = list_first(&c->turns[w]);
	struct lane *l;
	struct run *r;

	if (!first || c->running >= c->limit)
		return NULL;
	l = (struct lane *)((char *)first - offsetof(struct lane, turn) -
			    w * sizeof(struct link));
	list_remove(first);
	r = run_queue_take(&l->ready[w]);
	c->ready -= r->count;
	arrange(ls, l);
	*ret_weight = w;
	return r;
}

void lane_started(struct lanes *ls, struct lane *l)
{
	l->running++;
	ls->channels[l->channel].running++;
	arrange(ls, l);
}

void lane_ended(struct lanes *ls, struct lane *l, enum lane_news news)
{
	check(l->running > 0 && ls->channels[l->channel].running > 0);
	l->running--;
	ls->channels[l->channel].running--;
	if (l->channel == CHANNEL_REMOTE)
		switch (news) {
		case LANE_WELL:
			if (l->window < LANE_WINDOW_MAX)
				l->window++;
			break;
		case LANE_SLOW: l->window = l->window > 1 ? l->window / 2 : 1; break;
		case LANE_DEAD: l->window = 1; break;
		case LANE_NOTHING: break;
		}
	arrange(ls, l);
}

struct span recipient_address(const struct run *r, const struct recipient *rc, struct buf *b)
{
	if (rc->whole)
		return rc->text;
	buf_clear(b);
	check(buf_add(b, rc->text) && buf_add_byte(b, '@') && buf_add(b, lane_domain(r->lane)));
	return buf_span(b);
}
