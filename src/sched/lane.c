#include "sched/lane.h"

#include "core/clock.h"
#include "core/pool.h"
#include "mail/addr.h"
#include "sched/plan.h"

#include <string.h>

static struct span key_of(const void *value)
{
	return lane_domain(value);
}

static size_t lane_bytes(const struct lane *l)
{
	size_t n = sizeof(*l) + l->domain_n + (l->pace ? sizeof(*l->pace) : 0);

	for (unsigned w = 0; w < WEIGHTS; w++)
		n += l->senders[w] ? sizeof(*l->senders[w]) : 0;
	return n;
}

/* ---- what waits in a lane, and whose turn it is there ---- */

static void deal(struct lanes *ls, struct senders *s, struct run *r)
{
	const struct message *m = r->message;
	unsigned i = 0;

	if (m)
		i = hash_bytes(span_of(m->sender, m->sender_n), ls->by_domain.seed) % SENDER_TURNS;
	run_queue_add(&s->of[i], r);
	s->waiting |= 1ull << i;
}

static void spread(struct lanes *ls, struct lane *l, enum weight w)
{
	struct run *r;

	l->senders[w] = mem_new(sizeof(*l->senders[w]));
	ls->bytes += sizeof(*l->senders[w]);
	while ((r = run_queue_take(&l->ready[w])))
		deal(ls, l->senders[w], r);
}

static void put(struct lanes *ls, struct lane *l, enum weight w, struct run *r)
{
	ls->channels[l->channel].ready += r->count;
	l->waiting[w]++;
	if (!l->senders[w] && l->waiting[w] <= LANE_FEW) {
		run_queue_add(&l->ready[w], r);
		return;
	}
	if (!l->senders[w])
		spread(ls, l, w);
	deal(ls, l->senders[w], r);
}

static struct run *take_turn(struct senders *s)
{
	uint64_t from = s->waiting >> s->turn << s->turn;
	unsigned i = (unsigned)__builtin_ctzll(from ? from : s->waiting);
	struct run *r = run_queue_take(&s->of[i]);

	if (!s->of[i].first)
		s->waiting &= ~(1ull << i);
	s->turn = (i + 1) % SENDER_TURNS;
	return r;
}

/* NULL: nothing waits. */
static struct run *take(struct lanes *ls, struct lane *l, enum weight w)
{
	struct run *r;

	if (l->waiting[w] == 0)
		return NULL;
	r = l->senders[w] ? take_turn(l->senders[w]) : run_queue_take(&l->ready[w]);
	l->waiting[w]--;
	ls->channels[l->channel].ready -= r->count;
	if (l->senders[w] && l->waiting[w] == 0) {
		ls->bytes -= sizeof(*l->senders[w]);
		mem_free(l->senders[w]);
		l->senders[w] = NULL;
	}
	return r;
}

static struct pace *pace_of(struct lanes *ls, struct lane *l)
{
	if (l->pace)
		return l->pace;
	l->pace = mem_new(sizeof(*l->pace));
	l->pace->lane = l;
	heap_entry_init(&l->pace->wake);
	ls->bytes += sizeof(*l->pace);
	return l->pace;
}

static void limit(struct lanes *ls, struct lane *l)
{
	struct destination_limits d = {0};

	if (ls->limits && l->channel == CHANNEL_REMOTE)
		d = destinations_find(ls->limits, lane_domain(l));
	l->allowed = d.connections ? (uint16_t)d.connections : LANE_WINDOW_MAX;
	l->rcpts_max = (uint8_t)d.recipients;
	if (d.interval_us || l->pace)
		pace_of(ls, l)->interval_us = d.interval_us;
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
	limit(ls, l);
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
	heap_fini(&ls->wakes);
	destinations_free(ls->limits);
	for (unsigned w = 0; w < WEIGHTS; w++)
		mem_free(ls->local->senders[w]);
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
	if (l->pace)
		heap_remove(&ls->wakes, &l->pace->wake);
	for (unsigned w = 0; w < WEIGHTS; w++)
		mem_free(l->senders[w]); /* of lists that are given up with the plan */
	mem_free(l->pace);
	mem_free(l);
}

/* Monotonic: before it nothing begins. */
static uint64_t open_from_us(const struct pace *p)
{
	return p->dead_until_us > p->next_us ? p->dead_until_us : p->next_us;
}

static void wake_at(struct lanes *ls, struct pace *p, uint64_t at_us)
{
	heap_remove(&ls->wakes, &p->wake);
	if (p->lane->waiting[SMALL] || p->lane->waiting[HUGE])
		heap_add(&ls->wakes, &p->wake, at_us);
}

/* Whether a job may begin now.  A lane that only waits for a moment is woken then. */
static bool is_open(struct lanes *ls, struct lane *l)
{
	bool waits = l->pace && open_from_us(l->pace) > clock_mono_us();

	if (waits)
		wake_at(ls, l->pace, open_from_us(l->pace));
	return !waits && l->running < l->window && l->running < l->allowed;
}

/* The one place that decides whether a lane is in the ring.  A lane that comes back joins
 * at the end; one that stays keeps its place. */
static void arrange(struct lanes *ls, struct lane *l)
{
	bool open = is_open(ls, l);

	for (unsigned w = 0; w < WEIGHTS; w++) {
		bool in = l->turn[w].next != NULL;

		if (open && l->waiting[w] && !in)
			list_add_end(&ls->channels[l->channel].turns[w], &l->turn[w]);
		else if ((!open || !l->waiting[w]) && in)
			list_remove(&l->turn[w]);
	}
}

void lane_add(struct lanes *ls, struct run *r, enum weight w)
{
	r->state = RUN_READY;
	put(ls, r->lane, w, r);
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
	r = take(ls, l, w);
	arrange(ls, l);
	*ret_weight = w;
	return r;
}

void lane_started(struct lanes *ls, struct lane *l)
{
	l->running++;
	ls->channels[l->channel].running++;
	if (l->pace && l->pace->interval_us)
		l->pace->next_us = clock_mono_us() + l->pace->interval_us;
	arrange(ls, l);
}

static void went_well(struct lane *l)
{
	if (l->pace) {
		l->pace->deaths = 0;
		l->pace->dead_until_us = 0;
	}
	if (l->window == LANE_WINDOW_MAX || (l->troubled && ++l->good < l->window))
		return;
	l->good = 0;
	l->window++;
}

/* What those say that are on their way already is known. */
static void went_badly(struct lane *l, uint16_t window)
{
	l->troubled = true;
	l->good = 0;
	l->old = l->running;
	l->window = window;
}

static void is_dead(struct lanes *ls, struct lane *l)
{
	struct pace *p = pace_of(ls, l);
	uint64_t wait_s = LANE_DEAD_MAX_S;

	if (p->deaths < 16 && (LANE_DEAD_FIRST_S << p->deaths) < LANE_DEAD_MAX_S)
		wait_s = LANE_DEAD_FIRST_S << p->deaths;
	p->deaths++;
	p->dead_until_us = clock_mono_us() + wait_s * 1000000;
	went_badly(l, 1);
}

void lane_ended(struct lanes *ls, struct lane *l, enum lane_news news)
{
	bool old = l->old > 0;

	check(l->running > 0 && ls->channels[l->channel].running > 0);
	l->running--;
	ls->channels[l->channel].running--;
	l->old -= old;
	if (l->channel == CHANNEL_REMOTE)
		switch (news) {
		case LANE_WELL: went_well(l); break;
		case LANE_SLOW:
			if (!old)
				went_badly(l, l->window > 1 ? l->window / 2 : 1);
			break;
		case LANE_DEAD:
			if (!old)
				is_dead(ls, l);
			break;
		case LANE_NOTHING: break;
		}
	arrange(ls, l);
}

void lanes_limit(struct lanes *ls, struct destinations *limits)
{
	size_t at = 0;
	struct lane *l;

	destinations_free(ls->limits);
	ls->limits = limits;
	while ((l = table_next(&ls->by_domain, &at))) {
		limit(ls, l);
		arrange(ls, l);
	}
}

void lanes_wake(struct lanes *ls, uint64_t mono_us)
{
	struct heap_entry *e;

	while ((e = heap_min(&ls->wakes)) && e->key <= mono_us) {
		heap_remove(&ls->wakes, e);
		arrange(ls, owner_of(e, struct pace, wake)->lane);
	}
}

uint64_t lanes_next_us(const struct lanes *ls)
{
	const struct heap_entry *e = heap_min(&ls->wakes);

	return e ? e->key : UINT64_MAX;
}

void lanes_revive(struct lanes *ls)
{
	size_t at = 0;
	struct lane *l;

	while ((l = table_next(&ls->by_domain, &at))) {
		if (!l->pace || !l->pace->dead_until_us)
			continue;
		l->pace->dead_until_us = 0;
		heap_remove(&ls->wakes, &l->pace->wake);
		arrange(ls, l);
	}
}

struct run *lane_extract(struct lanes *ls, struct lane *l,
			 bool (*wanted)(void *ctx, const struct run *r), void *ctx)
{
	struct run_queue out = {0}, stay[WEIGHTS] = {{0}};
	struct run *r;

	for (unsigned w = 0; w < WEIGHTS; w++) {
		while ((r = take(ls, l, w)))
			run_queue_add(wanted(ctx, r) ? &out : &stay[w], r);
		while ((r = run_queue_take(&stay[w])))
			put(ls, l, w, r);
	}
	arrange(ls, l);
	return out.first;
}

struct span recipient_address(const struct run *r, const struct recipient *rc, struct buf *b)
{
	if (rc->whole)
		return rc->text;
	buf_clear(b);
	check(buf_add(b, rc->text) && buf_add_byte(b, '@') && buf_add(b, lane_domain(r->lane)));
	return buf_span(b);
}
