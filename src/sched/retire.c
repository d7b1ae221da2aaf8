#include "sched/retire.h"

#include "core/pool.h"

#include <string.h>

struct retire { /* waiting: a frame; done: all frames of a group */
	struct link link;
	struct msg_retire m;
	struct buf moved;
};

void retires_init(struct retires *rs, const struct retires_calls *calls, void *ctx)
{
	*rs = (struct retires){.calls = calls, .ctx = ctx};
	list_init(&rs->waiting);
	list_init(&rs->done);
}

static void retire_free(struct retire *r)
{
	list_remove(&r->link);
	buf_free(&r->moved);
	mem_free(r);
}

static void drop_all(struct link *head)
{
	list_each_safe(head, l)
		retire_free(owner_of(l, struct retire, link));
}

void retires_fini(struct retires *rs)
{
	drop_all(&rs->waiting);
	drop_all(&rs->done);
}

void retires_lost(struct retires *rs)
{
	drop_all(&rs->waiting);
}

static struct retire *retire_new(struct link *head, const struct msg_retire *m)
{
	struct retire *r = mem_new(sizeof(*r));

	r->m = *m;
	buf_init(&r->moved, RETIRES_MAX);
	list_add_end(head, &r->link);
	return r;
}

static struct retire *done_of(struct retires *rs, uint64_t segment)
{
	list_each(&rs->done, l) {
		struct retire *r = owner_of(l, struct retire, link);

		if (r->m.segment == segment)
			return r;
	}
	return NULL;
}

bool retires_take(struct retires *rs, const struct msg_retire *m, struct span moved)
{
	struct retire *r;

	if (moved.n % sizeof(struct msg_moved) != 0 || m->part > RETIRE_OVER)
		return false;
	r = retire_new(&rs->waiting, m);
	check(buf_add(&r->moved, moved));
	return true;
}

static void correct(struct retires *rs, const struct buf *moved)
{
	rs->calls->correct(rs->ctx, (const struct msg_moved *)(const void *)moved->p,
			   moved->n / sizeof(struct msg_moved));
}

static void apply(struct retires *rs, const struct retire *r)
{
	struct retire *done = done_of(rs, r->m.segment);

	if (r->m.part == RETIRE_OVER) {
		if (done)
			retire_free(done);
		return;
	}
	if (r->moved.n > 0) {
		if (!done)
			done = retire_new(&rs->done, &r->m);
		check(buf_add(&done->moved, buf_span(&r->moved)));
		correct(rs, &r->moved);
	}
	rs->calls->forward(rs->ctx, &r->m, buf_span(&r->moved));
}

void retires_apply(struct retires *rs, uint64_t applied)
{
	struct link *l;

	while ((l = list_first(&rs->waiting))) {
		struct retire *r = owner_of(l, struct retire, link);

		if (r->m.after > applied)
			return;
		apply(rs, r);
		retire_free(r);
	}
}

/* A group is named as a whole, and its last copy lies highest. */
static bool is_named(const struct retire *r, const struct manifest_entry *v, uint32_t n,
		     uint64_t segment_size)
{
	const struct msg_moved *m = (const struct msg_moved *)(const void *)r->moved.p;
	size_t k = r->moved.n / sizeof(*m);
	uint64_t highest = 0;

	for (size_t i = 0; i < k; i++)
		highest = m[i].to > highest ? m[i].to : highest;
	for (uint32_t i = 0; i < n; i++)
		if (v[i].number == highest / segment_size)
			return highest < v[i].end;
	return false;
}

/* The other way round, the last move first. */
static void reverse(struct msg_moved *m, size_t n)
{
	for (size_t i = 0; i < n - i; i++) {
		struct msg_moved a = m[i], b = m[n - 1 - i];

		m[i] = (struct msg_moved){.id = b.id, .from = b.to, .to = b.from};
		m[n - 1 - i] = (struct msg_moved){.id = a.id, .from = a.to, .to = a.from};
	}
}

static void take_back(struct retires *rs, struct retire *r)
{
	struct msg_moved *m = (struct msg_moved *)(void *)r->moved.p;
	struct msg_retire back = {.segment = r->m.segment, .part = RETIRE_MORE};
	struct span rest = buf_span(&r->moved);

	reverse(m, r->moved.n / sizeof(*m));
	correct(rs, &r->moved);
	while (rest.n > 0)
		rs->calls->forward(rs->ctx, &back,
				   span_cut(&rest, sizeof(*m) * (RETIRE_PIECE / sizeof(*m))));
}

/* The newest first: what an older one moved may have been moved on by it. */
void retires_look(struct retires *rs, const struct manifest_entry *v, uint32_t n,
		  uint64_t segment_size)
{
	struct link *l;

	while ((l = list_last(&rs->done))) {
		struct retire *r = owner_of(l, struct retire, link);

		if (!is_named(r, v, n, segment_size))
			take_back(rs, r);
		retire_free(r);
	}
}
