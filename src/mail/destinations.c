#include "mail/destinations.h"

#include "core/pool.h"
#include "mail/suffix.h"

#define RATE_DIGITS 3

struct destinations {
	struct control_set *map;
};

/* Deliveries in 1000 seconds. */
static bool rate_parse(struct span s, uint64_t *ret)
{
	struct span whole = span_cut(&s, span_find(s, '.'));
	uint64_t n, rest = 0;
	bool point = span_skip(&s, SPAN("."));

	if (!span_u64(whole, DEST_RATE_MAX, &n) || (point && (s.n == 0 || s.n > RATE_DIGITS)) ||
	    (point && !span_u64(s, 999, &rest)))
		return false;
	for (size_t i = s.n; point && i < RATE_DIGITS; i++)
		rest *= 10;
	*ret = n * 1000 + rest;
	return *ret > 0;
}

static struct span field(struct span *s)
{
	struct span f = span_cut(s, span_find(*s, ':'));

	(void)span_skip(s, SPAN(":"));
	return f;
}

bool destination_parse(struct span value, struct destination_limits *ret)
{
	struct span connections = field(&value), rate = field(&value), recipients = value;
	uint64_t n = 0, per_1000s = 0, rcpts = 0;

	if ((connections.n > 0 &&
	     (!span_u64(connections, DEST_CONNECTIONS_MAX, &n) || n == 0)) ||
	    (rate.n > 0 && !rate_parse(rate, &per_1000s)) ||
	    (recipients.n > 0 &&
	     (!span_u64(recipients, DEST_RECIPIENTS_MAX, &rcpts) || rcpts == 0)))
		return false;
	*ret = (struct destination_limits){
		.interval_us = per_1000s ? 1000000000ull / per_1000s : 0,
		.connections = (uint32_t)n,
		.recipients = (uint32_t)rcpts,
	};
	return true;
}

struct destinations *destinations_new(const struct control *c)
{
	struct destinations *d = mem_new(sizeof *d);

	d->map = control_map_new(c, "destinations");
	return d;
}

void destinations_free(struct destinations *d)
{
	if (!d)
		return;
	control_set_free(d->map);
	mem_free(d);
}

struct destination_limits destinations_find(const struct destinations *d, struct span domain)
{
	struct destination_limits limits = {0};
	struct span key = domain, value;
	bool found;

	do
		found = control_map_get(d->map, key, &value);
	while (!found && suffix_next(&key));
	if (!found)
		found = control_map_get(d->map, SPAN_NONE, &value);
	if (!found || !destination_parse(value, &limits))
		return (struct destination_limits){0};
	return limits;
}
