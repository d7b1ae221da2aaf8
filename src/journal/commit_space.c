/* Edits change the list that the next head will carry; the head that is being written has its
 * own (commit.c, leave_segment()).  Files are prepare.c's. */
#include "journal/commit_in.h"

#include "core/clock.h"

#include <errno.h>

/* Segments that only outcomes and bounces may take, in front of those for starts. */
#define OUTCOMES_KEPT 64
/* A dead process' last write may land so much later; no file of its is used again before. */
#define LATE_WRITE_MS 60000

/* ---- edits of the manifest ---- */

static uint64_t edited(struct commit *c)
{
	if (c->waiting && may_go_on(c))
		commit_prepare_next(c);
	return ++c->edits;
}

uint64_t commit_name(struct commit *c, const struct manifest_entry *e)
{
	struct manifest_entry named = *e;

	check(e->number != c->number);
	if (c->named.n >= c->named_max && !manifest_find(&c->named, e->number))
		return 0;
	named.incarnation = incarnation_of(c->uuid, e->number);
	manifest_put(&c->named, &named);
	return edited(c);
}

uint64_t commit_to_history(struct commit *c, uint64_t number, uint32_t closed_s)
{
	struct manifest_entry *e = manifest_find(&c->named, number);

	check(e);
	e->state = SEGMENT_HISTORY;
	e->closed_s = closed_s;
	return edited(c);
}

uint64_t commit_drop(struct commit *c, uint64_t number)
{
	check(manifest_drop(&c->named, number));
	return edited(c);
}

const struct manifest_entry *commit_named(const struct commit *c, uint32_t *ret_n)
{
	*ret_n = c->named.n;
	return c->named.v;
}

bool commit_is_lost(const struct commit *c, uint64_t number)
{
	uint64_t start = segment_start(c, number);

	for (uint32_t i = 0; i < c->lost.n; i++)
		if (c->lost.v[i].from < start + c->segment_size && c->lost.v[i].to > start)
			return true;
	return c->lost.more > 0; /* than are listed: any may be lost */
}

bool commit_stays(const struct commit *c, uint64_t number)
{
	return commit_is_lost(c, number) || manifest_find(&c->found, number);
}

uint64_t commit_number(const struct commit *c)
{
	return c->number;
}

const uint8_t *commit_uuid(const struct commit *c)
{
	return c->uuid;
}

void commit_recycle(struct commit *c, uint64_t number, bool keep)
{
	uint64_t due = number == c->dead_number ? c->begun_ms + LATE_WRITE_MS : 0;

	check(number != c->number && !manifest_find(&c->named, number) &&
	      !manifest_find(&c->entering, number));
	prepare_recycle(&c->prepare, number, keep, due);
}

void commit_cold_file(struct commit *c, uint64_t number,
		      void (*ready)(void *ctx, struct disk_file *file), void *ctx)
{
	check(number >= COLD_FIRST);
	prepare_cold(&c->prepare, number, ready, ctx);
}

/* ---- room ---- */

enum commit_room commit_room(const struct commit *c)
{
	const struct prepare *p = &c->prepare;

	if (c->named.n + STARTS_KEPT + OUTCOMES_KEPT >= c->named_max)
		return ROOM_NO_MAIL;
	if (!prepare_is_short(p))
		return ROOM_PLENTY;
	if (prepare_has_more(p) || (c->next_file && !p->last_taken))
		return ROOM_NO_MAIL;
	return p->last_taken || past_half(c) ? ROOM_NO_DISPATCH : ROOM_NO_MAIL;
}

void commit_space(const struct commit *c, struct commit_space *ret)
{
	uint32_t n = c->prepare.spares_n, reserve = c->prepare.o.reserve;

	*ret = (struct commit_space){
		.spares = n > reserve ? n - reserve : 0,
		.reserve = n < reserve ? n : reserve,
		.reserve_wanted = reserve,
	};
}

int commit_trouble(const struct commit *c)
{
	if (commit_room(c) == ROOM_PLENTY)
		return 0;
	return prepare_is_short(&c->prepare) ? c->prepare.error : -EMLINK;
}
