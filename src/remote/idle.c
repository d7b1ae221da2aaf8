/* idle - see the header. */
#include "remote/idle.h"

#include "core/pool.h"

struct idle_site {
	struct host_key key;
	struct link     entries;
};

static struct span key_span(const struct host_key *k)
{
	return span_of(k->bytes, sizeof(k->bytes));
}

static struct span key_of(const void *value)
{
	return key_span(&((const struct idle_site *)value)->key);
}

void idle_init(struct idle *i, struct loop *l, unsigned sites_max)
{
	*i = (struct idle){.loop = l};
	table_init(&i->sites, key_of, false, sites_max);
	list_init(&i->resting);
}

void idle_fini(struct idle *i)
{
	check(i->sites.n == 0);
	table_fini(&i->sites);
}

static void on_timer(struct timer *t)
{
	struct idle_entry *e = owner_of(t, struct idle_entry, timer);

	idle_withdraw(e);
	e->expired(e);
}

void idle_entry_init(struct idle_entry *e, void (*expired)(struct idle_entry *))
{
	*e = (struct idle_entry){.expired = expired};
	timer_init(&e->timer, on_timer);
}

static struct idle_site *site_of(struct idle *i, const struct host_key *k)
{
	struct idle_site *s = table_get(&i->sites, key_span(k));

	if (s)
		return s;
	s = mem_new(sizeof(*s));
	s->key = *k;
	list_init(&s->entries);
	if (!table_put(&i->sites, s)) {
		mem_free(s);
		return NULL;
	}
	return s;
}

static void stop_resting(struct idle_entry *e)
{
	if (!link_is_in(&e->rest))
		return;
	list_remove(&e->rest);
	e->idle->resting_n--;
	timer_stop(e->idle->loop, &e->timer);
}

bool idle_expire_oldest(struct idle *i)
{
	struct link *l = list_first(&i->resting);

	if (!l)
		return false;
	on_timer(&owner_of(l, struct idle_entry, rest)->timer);
	return true;
}

void idle_offer(struct idle *i, struct idle_entry *e, const struct host_key *k,
		uint64_t keep_ms)
{
	if (!e->site) {
		e->idle = i;
		e->site = site_of(i, k);
		if (!e->site)                     /* as many sites as connections: can't be */
			return;
		list_add_front(&e->site->entries, &e->link);
	}
	stop_resting(e);
	if (keep_ms == 0)
		return;
	if (i->resting_n >= IDLE_MAX)
		(void)idle_expire_oldest(i);
	list_add_end(&i->resting, &e->rest);
	i->resting_n++;
	timer_set(i->loop, &e->timer, keep_ms);
}

void idle_withdraw(struct idle_entry *e)
{
	struct idle_site *s = e->site;

	if (!s)
		return;
	stop_resting(e);
	list_remove(&e->link);
	e->site = NULL;
	if (!list_is_empty(&s->entries))
		return;
	table_remove(&e->idle->sites, s);
	mem_free(s);
}

struct idle_entry *idle_find(struct idle *i, const struct host_key *k)
{
	struct idle_site *s = table_get(&i->sites, key_span(k));

	return s ? owner_of(list_first(&s->entries), struct idle_entry, link) : NULL;
}
