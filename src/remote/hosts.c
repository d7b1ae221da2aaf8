/* hosts - see the header. */
#include "remote/hosts.h"

#include "core/clock.h"
#include "core/pool.h"
#include "core/rand.h"

#include <string.h>

#define HOSTS_DICE     32
#define HOSTS_DICE_MS  (64 * 1000)

struct host {
	struct host_key key;
	struct link     use;
	uint64_t        last_ms;                  /* of the last timeout that counted */
	uint8_t         timeouts, manners;
};

struct host_key host_key(const struct ip *ip, uint16_t port)
{
	struct host_key k = {{0}};

	k.bytes[0] = ip->family;
	memcpy(k.bytes + 1, ip->b, ip->family == 4 ? 4 : 16);
	memcpy(k.bytes + 17, &ip->scope, sizeof(ip->scope));
	memcpy(k.bytes + 21, &port, sizeof(port));
	return k;
}

static struct span key_span(const struct host_key *k)
{
	return span_of(k->bytes, sizeof(k->bytes));
}

static struct span key_of(const void *value)
{
	return key_span(&((const struct host *)value)->key);
}

void hosts_init(struct hosts *h)
{
	table_init(&h->by_key, key_of, false, HOSTS_MAX);
	list_init(&h->by_use);
}

static void forget(struct hosts *h, struct host *x)
{
	list_remove(&x->use);
	table_remove(&h->by_key, x);
	mem_free(x);
}

void hosts_fini(struct hosts *h)
{
	struct link *l;

	while ((l = list_first(&h->by_use)))
		forget(h, owner_of(l, struct host, use));
	table_fini(&h->by_key);
}

static struct host *find(struct hosts *h, const struct host_key *k)
{
	struct host *x = table_get(&h->by_key, key_span(k));

	if (!x)
		return NULL;
	list_remove(&x->use);
	list_add_end(&h->by_use, &x->use);
	return x;
}

static struct host *find_or_make(struct hosts *h, const struct host_key *k)
{
	struct host *x = find(h, k);

	if (x)
		return x;
	if (h->by_key.n >= HOSTS_MAX)
		forget(h, owner_of(list_first(&h->by_use), struct host, use));
	x = mem_new(sizeof(*x));
	x->key = *k;
	if (!table_put(&h->by_key, x))
		unreachable();                    /* place was made */
	list_add_end(&h->by_use, &x->use);
	return x;
}

bool hosts_skip(struct hosts *h, const struct host_key *k)
{
	struct host *x = find(h, k);

	if (!x || x->timeouts < 2)
		return false;
	return clock_mono_ms() - x->last_ms
	       < HOSTS_SKIP_MS + rand_below(HOSTS_DICE) * HOSTS_DICE_MS;
}

void hosts_timed_out(struct hosts *h, const struct host_key *k)
{
	struct host *x = find_or_make(h, k);
	uint64_t     now = clock_mono_ms();

	if (x->timeouts > 0 && now - x->last_ms < HOSTS_AGAIN_MS)
		return;
	if (x->timeouts < HOSTS_TIMEOUTS_MAX)
		x->timeouts++;
	x->last_ms = now;
}

void hosts_answered(struct hosts *h, const struct host_key *k)
{
	struct host *x = find(h, k);

	if (x)
		x->timeouts = 0;
}

enum qmtp_manners hosts_manners(struct hosts *h, const struct host_key *k)
{
	struct host *x = find(h, k);

	return x ? (enum qmtp_manners)x->manners : QMTP_UNKNOWN;
}

void hosts_set_manners(struct hosts *h, const struct host_key *k, enum qmtp_manners m)
{
	if (m != QMTP_UNKNOWN)
		find_or_make(h, k)->manners = (uint8_t)m;
}
