/* An open body is idle, or in its agent's list `todo` with the parts [next, until) to be sent;
 * a file is one such part.  The list is worked off while the agent's wire has room.
 *
 * A bounce is made in this order, each step waiting while journald's wire is full: Received
 * line and text; the parts of the failed message as they lie in the journal, the last one cut
 * to copy_max; SUBMIT.
 *
 * What goes wrong:
 *   a record is damaged or gone     looked at again; then BODYFAIL with the reason to the agent and to
 *                                   sched, and one line with position and id; of a message
 *                                   to be returned, what can be read is returned
 *   a segment is given up           RETIRE says where its MSGs are now; who holds their old places
 *                                   looks them up again, then RETIRED is said to journald
 *   an agent is lost                its handles wait for the next one, or for sched's CLOSE
 *   sched is lost                   every handle is dropped; bounces go on, BOUNCED is not sent
 *   journald is lost                reading goes on (the ring stays mapped); open bounces get
 *                                   STORED_LATER, which sched hears
 *   no memfd                        BODYFAIL
 *   sched is faster than the feed   opens and bounces wait for it */
#include "journal/body.h"

#include "core/clock.h"
#include "core/log.h"
#include "core/pool.h"
#include "core/sandbox.h"
#include "core/table.h"
#include "journal/client.h"
#include "journal/fetch.h"
#include "mail/received.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct open {
	struct agent  *agent;
	struct link    todo;
	uint32_t       handle, how;
	uint32_t       next, until;
	struct located message;
	bool           failed;
};

struct end {                                      /* a wire to sched or to an agent */
	struct wire  wire;
	struct body *body;
	struct link  link;
	uint32_t     role, index;
	char         name[32];
};

struct agent {
	uint32_t    role, index;
	struct end *end;                          /* NULL: not here */
	struct map  opens;                        /* struct open by handle */
	struct link todo;
};

struct bounce {
	struct body      *body;
	struct link       link;                   /* in making, until it was committed */
	struct submission submission;
	struct located    message;
	uint64_t          copy_max, copied;
	uint32_t          next;
	char             *kept;                   /* settles[], sender, recipient */
	uint16_t          settles_n, sender_n, rcpt_n;
	bool              bare;
};

struct body {
	struct body_options o;
	struct client  *client;
	struct fetch    fetch;
	struct end     *sched;
	struct link     ends;
	struct agent    agents[BODY_AGENTS_MAX];
	unsigned        agents_n;
	struct pool     opens, bounces;
	struct link     making;
	bool            closed;
};

/* ---- the feed */

static void serve(struct body *b, struct agent *a);
static void make_bounces(void *ctx);

static void on_feed(void *ctx, const struct msg_feed *f, int fd)
{
	struct body *b = ctx;

	fetch_feed(&b->fetch, f, fd);
	for (unsigned i = 0; i < b->agents_n; i++)
		serve(b, &b->agents[i]);
	make_bounces(b);
}

/* Bodies are looked up by position; nobody waits for the feed to move. */
static void on_bell(void *ctx, int fd)
{
	if (fd >= 0)
		close(fd);
}

static const struct client_feed feed_calls = { .feed = on_feed, .bell = on_bell };

/* ---- open bodies */

static enum body_why why_of(enum read_result r)
{
	return r == READ_DAMAGE ? BODY_DAMAGED : r == READ_GONE ? BODY_GONE : BODY_LATER;
}

/* sched hears it first, as the agent's verdict follows on it. */
static void say_fail(struct open *o, enum body_why why)
{
	struct msg_close m = {.role = o->agent->role,
			      .index = o->agent->index,
			      .handle = o->handle,
			      .why = why};
	struct end      *sched = o->agent->end->body->sched;

	o->failed = true;
	if (sched)
		wire_send(&sched->wire, MSG_BODYFAIL, &m, sizeof(m), SPAN_NONE);
	wire_send(&o->agent->end->wire, MSG_BODYFAIL, &m, sizeof(m), SPAN_NONE);
}

/* What looks damaged is looked at twice. */
static bool get_part(struct body *b, const struct located *m, uint32_t number, struct span *ret)
{
	return fetch_part(&b->fetch, m, number, ret) ||
	       (b->fetch.why == READ_DAMAGE && fetch_part(&b->fetch, m, number, ret));
}

static bool locate(struct body *b, struct located *m)
{
	return fetch_locate(&b->fetch, m) ||
	       (b->fetch.why == READ_DAMAGE && fetch_locate(&b->fetch, m));
}

static void send_part(struct body *b, struct open *o)
{
	struct msg_partdata m = {.handle = o->handle,
				 .number = o->next,
				 .of = o->message.parts,
				 .size = o->message.size};
	struct span         raw = SPAN_NONE;

	if (o->next < o->message.parts && !get_part(b, &o->message, o->next, &raw)) {
		say_fail(o, why_of(b->fetch.why));
		return;
	}
	o->next++;
	wire_send(&o->agent->end->wire, MSG_PARTDATA, &m, sizeof(m), raw);
}

static bool write_parts(struct body *b, const struct located *m, int fd)
{
	uint64_t    size = 0;
	struct span raw;

	for (uint32_t i = 0; i < m->parts; i++) {
		if (!get_part(b, m, i, &raw))
			return false;
		size += raw.n;
		while (raw.n > 0) {
			ssize_t n = write(fd, raw.p, raw.n);

			if (n < 0 && errno == EINTR)
				continue;
			if (n <= 0) {
				fetch_note(m, m->pos, "no memory for the file");
				return false;
			}
			raw = span_from(raw, (size_t)n);
		}
	}
	if (size == m->size)
		return true;
	b->fetch.why = READ_DAMAGE;
	fetch_note(m, m->pos, "size");
	return false;
}

/* -1: can't be had. */
static int make_file(struct body *b, const struct located *m)
{
	int fd = memfd_create("quire-body", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	b->fetch.why = READ_ERROR;                /* if nothing else is said */
	if (fd < 0) {
		fetch_note(m, m->pos, "no memfd");
		return -1;
	}
	if (write_parts(b, m, fd) && lseek(fd, 0, SEEK_SET) == 0 &&
	    fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) ==
		    0)
		return fd;
	close(fd);
	return -1;
}

static void send_file(struct body *b, struct open *o)
{
	struct msg_bodyfile m = {
		.handle = o->handle, .size = o->message.size, .id = o->message.id};
	int                 fd = make_file(b, &o->message);

	if (fd < 0) {
		say_fail(o, why_of(b->fetch.why));
		return;
	}
	o->next++;
	wire_send_fd(&o->agent->end->wire, MSG_BODYFILE, &m, sizeof(m), SPAN_NONE, fd);
}

static void serve(struct body *b, struct agent *a)
{
	while (a->end && fetch_is_ready(&b->fetch) && !wire_full(&a->end->wire) &&
	       !list_is_empty(&a->todo)) {
		struct open *o = owner_of(list_first(&a->todo), struct open, todo);

		if (!o->message.looked && !locate(b, &o->message))
			say_fail(o, why_of(b->fetch.why));
		else if (o->failed)
			say_fail(o, BODY_LATER);
		else if (o->how == OPEN_FILE)
			send_file(b, o);
		else
			send_part(b, o);
		if (o->failed || o->next >= o->until)
			list_remove(&o->todo);
	}
}

static void want(struct body *b, struct open *o, uint32_t number)
{
	if (link_is_in(&o->todo) && number == o->until) {
		o->until++;
	} else {
		o->next = number;
		o->until = number + 1;
	}
	if (!link_is_in(&o->todo))
		list_add_end(&o->agent->todo, &o->todo);
	serve(b, o->agent);
}

static void open_free(struct body *b, struct open *o)
{
	list_remove(&o->todo);
	(void)map_remove(&o->agent->opens, o->handle);
	located_fini(&o->message);
	pool_put(&b->opens, o);
}

static void drop_opens(struct body *b)
{
	for (unsigned i = 0; i < b->agents_n; i++) {
		size_t       at = 0;
		uint64_t     handle;
		struct open *o;

		while ((o = map_next(&b->agents[i].opens, &at, &handle)))
			open_free(b, o);
	}
}

static struct agent *agent_of(struct body *b, uint32_t role, uint32_t index)
{
	struct agent *a;

	for (unsigned i = 0; i < b->agents_n; i++)
		if (b->agents[i].role == role && b->agents[i].index == index)
			return &b->agents[i];
	if (b->agents_n == BODY_AGENTS_MAX || (role != ROLE_REMOTE && role != ROLE_LSPAWN))
		return NULL;
	a = &b->agents[b->agents_n++];
	*a = (struct agent){.role = role, .index = index};
	map_init(&a->opens, BODY_OPENS_MAX);
	list_init(&a->todo);
	return a;
}

/* ---- what sched and agents say */

static struct end *end_of(struct wire *w)
{
	return owner_of(w, struct end, wire);
}

/* Of a sched that has a successor nothing counts. */
static bool is_current_sched(struct wire *w)
{
	return end_of(w)->body->sched == end_of(w);
}

static void on_open(struct wire *w, struct wire_in *in)
{
	const struct msg_open *m = in->body;
	struct body           *b = end_of(w)->body;
	struct agent          *a = agent_of(b, m->role, m->index);
	struct open           *o;

	if (!is_current_sched(w))
		return;
	if (!a) {
		log_note("peer", w->peer, "garbage", "open", NULL);
		return;
	}
	o = map_get(&a->opens, m->handle);
	if (o)
		open_free(b, o);
	o = pool_get(&b->opens);
	if (!o || !map_put(&a->opens, m->handle, o)) {
		struct msg_close no = {.role = m->role, .index = m->index, .handle = m->handle};

		log_note("body", "refused", "why", "too many open", NULL);
		pool_put(&b->opens, o);
		if (a->end)
			wire_send(&a->end->wire, MSG_BODYFAIL, &no, sizeof(no), SPAN_NONE);
		return;
	}
	o->agent = a;
	o->handle = m->handle;
	o->how = m->how;
	located_init(&o->message, m->id, m->pos);
	want(b, o, 0);
}

static void on_close(struct wire *w, struct wire_in *in)
{
	const struct msg_close *m = in->body;
	struct body            *b = end_of(w)->body;
	struct agent           *a = agent_of(b, m->role, m->index);
	struct open            *o = a ? map_get(&a->opens, m->handle) : NULL;

	if (o && is_current_sched(w))
		open_free(b, o);
}

static void on_want(struct wire *w, struct wire_in *in)
{
	const struct msg_want *m = in->body;
	struct end            *e = end_of(w);
	struct agent          *a = agent_of(e->body, e->role, e->index);
	struct open           *o = a && a->end == e ? map_get(&a->opens, m->handle) : NULL;

	if (!o)                                   /* closed meanwhile */
		return;
	if (o->how != OPEN_PARTS || m->number >= o->message.parts) {
		if (o->failed || !o->message.looked) /* it was told so, or was replaced */
			return;
		log_note("peer", e->name, "garbage", "want", NULL);
		wire_close(w);
		return;
	}
	want(e->body, o, m->number);
}

/* ---- positions that have moved */

static int by_id(const void *a, const void *b)
{
	uint64_t ia = ((const struct msg_moved *)a)->id, ib = ((const struct msg_moved *)b)->id;

	return ia < ib ? -1 : ia > ib;
}

struct moves { struct msg_moved *v; size_t n; };

/* NULL: it is where it was. */
static const struct msg_moved *move_of(const struct moves *m, const struct located *l)
{
	size_t low = 0, high = m->n;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (m->v[mid].id < l->id)
			low = mid + 1;
		else
			high = mid;
	}
	for (; low < m->n && m->v[low].id == l->id; low++)
		if (m->v[low].from == l->pos)
			return &m->v[low];
	return NULL;
}

/* Its parts have moved with it: looked up again, as a WANT may come for any of them.  false: it
 * can't be found there. */
static bool follow(struct body *b, const struct moves *m, struct located *l)
{
	const struct msg_moved *to = move_of(m, l);
	uint64_t id = l->id;
	bool     looked = l->looked;

	if (!to)
		return true;
	located_fini(l);
	located_init(l, id, to->to);
	return !looked || !fetch_is_ready(&b->fetch) || fetch_locate(&b->fetch, l);
}

static void follow_opens(struct body *b, const struct moves *m, struct agent *a)
{
	size_t       at = 0;
	uint64_t     handle;
	struct open *o;

	while ((o = map_next(&a->opens, &at, &handle))) {
		if (o->failed || follow(b, m, &o->message))
			continue;
		o->failed = true;                 /* said when its turn comes */
		if (!link_is_in(&o->todo))
			list_add_end(&a->todo, &o->todo);
	}
	serve(b, a);
}

static void follow_all(struct body *b, struct span moved)
{
	struct moves m = {.v = mem_new(moved.n + 1), .n = moved.n / sizeof(*m.v)};

	if (moved.n > 0)
		memcpy(m.v, moved.p, m.n * sizeof(*m.v));
	qsort(m.v, m.n, sizeof(*m.v), by_id);
	for (unsigned i = 0; i < b->agents_n; i++)
		follow_opens(b, &m, &b->agents[i]);
	list_each(&b->making, l)
		(void)follow(b, &m, &owner_of(l, struct bounce, link)->message);
	mem_free(m.v);
}

static void on_retire(struct wire *w, struct wire_in *in)
{
	const struct msg_retire *m = in->body;
	struct msg_retired       done = {.segment = m->segment, .serial = m->serial};
	struct body             *b = end_of(w)->body;

	if (!is_current_sched(w))
		return;
	if (in->tail.n > 0)
		follow_all(b, in->tail);
	if (m->part != RETIRE_LAST)
		return;
	fetch_forget(&b->fetch);
	client_say(b->client, MSG_RETIRED, &done, sizeof(done));
}

/* ---- bounces */

static void say_bounced(struct body *b, uint64_t parent, enum stored verdict, uint64_t id)
{
	struct msg_bounced m = {
		.parent = parent, .id = id, .verdict = verdict, .pid = (uint32_t)getpid()};

	if (b->sched)
		wire_send(&b->sched->wire, MSG_BOUNCED, &m, sizeof(m), SPAN_NONE);
}

static void bounce_free(struct bounce *bo)
{
	struct body *b = bo->body;

	list_remove(&bo->link);
	submission_fini(&bo->submission);
	located_fini(&bo->message);
	mem_free(bo->kept);
	pool_put(&b->bounces, bo);
}

static void on_bounce_stored(struct submission *s, enum stored verdict, uint64_t id)
{
	struct bounce *bo = owner_of(s, struct bounce, submission);

	say_bounced(bo->body, bo->message.id, verdict, id);
	bounce_free(bo);
}

/* One more part of the failed message; false: that was all that can or may be copied. */
static bool copy_part(struct bounce *bo)
{
	struct body    *b = bo->body;
	struct msg_part part = {0};
	struct rec_body h;
	struct span     bytes;
	uint64_t        left = bo->copy_max ? bo->copy_max - bo->copied : UINT64_MAX;

	if (bo->bare || (!bo->message.looked && !fetch_locate(&b->fetch, &bo->message)))
		return false;                     /* the text alone */
	if (bo->next >= bo->message.parts || left == 0)
		return false;
	if (!fetch_frame(&b->fetch, &bo->message, bo->next, &h, &bytes))
		return false;
	if (h.raw_n <= left && client_takes_dict(b->client, h.dict)) {
		part.raw_n = h.raw_n;
		part.dict = h.dict;
		part.raw_hash = h.raw_hash;
		part.codec = h.codec;
		submission_frame(&bo->submission, &part, bytes);
	} else {
		if (!fetch_part(&b->fetch, &bo->message, bo->next, &bytes))
			return false;
		submission_body(&bo->submission, span_until(bytes, left));
	}
	bo->copied += h.raw_n < left ? h.raw_n : left;
	bo->next++;
	return true;
}

static void commit_bounce(struct bounce *bo)
{
	const struct msg_range *settles = (const struct msg_range *)(const void *)bo->kept;
	const char             *sender = bo->kept + bo->settles_n * sizeof(*settles);
	char                    space[sizeof(uint16_t) + UINT16_MAX];
	struct buf packed = {.p = space, .cap = sizeof(space), .max = sizeof(space)};
	struct submit_info      info = {
		     .uid = (uint32_t)getuid(),
		     .pid = (uint32_t)getpid(),
		     .kind = SUBMIT_BOUNCE,
		     .parent = bo->message.id,
		     .settles = settles,
		     .settles_n = bo->settles_n,
        };

	check(packed_add(&packed, span_of(sender + bo->sender_n, bo->rcpt_n)));
	submission_commit(&bo->submission, span_of(sender, bo->sender_n), buf_span(&packed), 1,
			  &info);
}

static void make_bounces(void *ctx)
{
	struct body *b = ctx;

	while (fetch_is_ready(&b->fetch) && !list_is_empty(&b->making) &&
	       !client_full(b->client)) {
		struct bounce *bo = owner_of(list_first(&b->making), struct bounce, link);

		if (copy_part(bo))
			continue;
		list_remove(&bo->link);
		commit_bounce(bo);
	}
}

static bool begin_bounce(struct bounce *bo, struct span text)
{
	struct buf line;
	bool       ok;

	buf_init(&line, RECEIVED_MAX);
	ok = received_invoked(&line, (uint64_t)getpid(), "for bounce", clock_wall());
	if (ok) {
		submission_begin(&bo->submission, bo->body->client, on_bounce_stored);
		submission_body(&bo->submission, buf_span(&line));
		submission_body(&bo->submission, text);
	}
	buf_free(&line);
	return ok;
}

static void on_bounce(struct wire *w, struct wire_in *in)
{
	const struct msg_bounce *m = in->body;
	struct body             *b = end_of(w)->body;
	struct span              tail = in->tail, sender, rcpt, settles;
	struct bounce           *bo;

	if (!is_current_sched(w))
		return;
	sender = span_cut(&tail, m->sender_n);
	rcpt = span_cut(&tail, m->rcpt_n);
	settles = span_cut(&tail, m->settles_n * sizeof(struct msg_range));
	if (tail.n != m->text_n || settles.n != m->settles_n * sizeof(struct msg_range)) {
		log_note("peer", w->peer, "garbage", "bounce", NULL);
		wire_close(w);
		return;
	}
	bo = pool_get(&b->bounces);
	if (!bo) {
		say_bounced(b, m->id, STORED_LATER, 0);
		return;
	}
	bo->body = b;
	bo->copy_max = m->copy_max;
	bo->bare = m->bare != 0;
	bo->settles_n = m->settles_n;
	bo->sender_n = m->sender_n;
	bo->rcpt_n = m->rcpt_n;
	bo->kept = mem_new(settles.n + sender.n + rcpt.n);
	memcpy(bo->kept, settles.p, settles.n);
	memcpy(bo->kept + settles.n, sender.p, sender.n);
	memcpy(bo->kept + settles.n + sender.n, rcpt.p, rcpt.n);
	located_init(&bo->message, m->id, m->pos);
	if (!begin_bounce(bo, tail)) {
		say_bounced(b, m->id, STORED_LATER, 0);
		bounce_free(bo);
		return;
	}
	list_add_end(&b->making, &bo->link);
	make_bounces(b);
}

/* ---- peers */

static const struct wire_handler sched_handlers[] = {
	{ MSG_OPEN,   sizeof(struct msg_open),   false, false, on_open },
	{ MSG_CLOSE,  sizeof(struct msg_close),  false, false, on_close },
	{ MSG_BOUNCE, sizeof(struct msg_bounce), true,  false, on_bounce },
	{ MSG_RETIRE, sizeof(struct msg_retire), true,  false, on_retire },
};
static const struct wire_handler agent_handlers[] = {
	{ MSG_WANT, sizeof(struct msg_want), false, false, on_want },
};

static void on_room(struct wire *w)
{
	struct end   *e = end_of(w);
	struct agent *a = agent_of(e->body, e->role, e->index);

	if (a && a->end == e)
		serve(e->body, a);
}

static void leave(struct end *e)
{
	struct body  *b = e->body;
	struct agent *a = e->role == ROLE_SCHED ? NULL : agent_of(b, e->role, e->index);

	if (b->sched == e) {
		b->sched = NULL;
		drop_opens(b);
	}
	if (a && a->end == e)
		a->end = NULL;
}

static void on_lost(struct wire *w)
{
	struct end *e = end_of(w);

	leave(e);
	list_remove(&e->link);
	mem_free(e);
}

/* Everything that sched has open for it, again. */
static void resume(struct body *b, struct agent *a)
{
	size_t       at = 0;
	uint64_t     handle;
	struct open *o;

	while ((o = map_next(&a->opens, &at, &handle))) {
		o->next = 0;
		o->until = 1;
		if (!link_is_in(&o->todo))
			list_add_end(&a->todo, &o->todo);
	}
	serve(b, a);
}

void body_peer(struct body *b, uint32_t role, uint32_t index, int fd)
{
	bool          is_sched = role == ROLE_SCHED;
	struct agent *a;
	struct end   *e, *old;

	if (role == ROLE_JOURNALD && !b->closed) {
		client_attach(b->client, fd);
		return;
	}
	a = is_sched ? NULL : agent_of(b, role, index);
	if (b->closed || (!is_sched && !a)) {
		close(fd);
		return;
	}
	e = mem_new(sizeof(*e));
	e->body = b;
	e->role = role;
	e->index = index;
	snprintf(e->name, sizeof(e->name), "%s/%" PRIu32,
	         is_sched ? "sched" : role == ROLE_REMOTE ? "remote" : "lspawn", index);
	list_add_end(&b->ends, &e->link);
	wire_init(&e->wire, b->o.loop, fd, e->name, is_sched ? sched_handlers : agent_handlers,
	          is_sched ? ARRAY_N(sched_handlers) : ARRAY_N(agent_handlers), on_lost, e);
	e->wire.room = on_room;
	old = is_sched ? b->sched : a->end;
	if (old) {
		leave(old);
		wire_close(&old->wire);
	}
	if (is_sched) {
		b->sched = e;
		return;
	}
	a->end = e;
	resume(b, a);
}

/* ---- begin and end */

struct body *body_new(const struct body_options *o)
{
	struct body *b = mem_new(sizeof(*b));

	b->o = *o;
	fetch_init(&b->fetch, o->disk, o->shard);
	b->client = client_new(o->loop, o->zstd_level);
	client_on_feed(b->client, &feed_calls, b);
	client_on_room(b->client, make_bounces, b);
	list_init(&b->ends);
	list_init(&b->making);
	pool_init(&b->opens, sizeof(struct open), BODY_OPENS_MAX);
	pool_init(&b->bounces, sizeof(struct bounce), BODY_BOUNCES_MAX);
	return b;
}

void body_close(struct body *b)
{
	b->closed = true;
	list_each_safe(&b->making, l)
		bounce_free(owner_of(l, struct bounce, link));
	list_each(&b->ends, l)
		wire_close(&owner_of(l, struct end, link)->wire);
	client_attach(b->client, -1);
}

bool body_is_closed(const struct body *b)
{
	return b->closed && list_is_empty(&b->ends) && b->bounces.used == 0;
}

void body_free(struct body *b)
{
	if (!b)
		return;
	check(body_is_closed(b));
	drop_opens(b);
	for (unsigned i = 0; i < b->agents_n; i++)
		map_fini(&b->agents[i].opens);
	client_free(b->client);
	fetch_fini(&b->fetch);
	pool_fini(&b->opens);
	pool_fini(&b->bounces);
	mem_free(b);
}

/* ---- the process */

static void on_role_peer(struct role *r, uint32_t role, uint32_t index, int fd)
{
	body_peer(r->ctx, role, index, fd);
}

static const struct role_calls role_calls = { .peer = on_role_peer };

void body_run(struct role *r)
{
	struct body_options o = {
		.shard = r->shard,
		.zstd_level = (int)(int64_t)control_setting(r->control, "zstdlevel"),
	};
	struct body *b;
	char         path[4096];

	if (r->files[FILE_JOURNAL_DIR] < 0)
		role_trouble(r, "quire-start sent no journal directory");
	snprintf(path, sizeof(path), "%s/journal/%u", r->home, r->shard);
	sandbox_enter(SANDBOX_QUEUE, path);
	o.loop = loop_new(LOOP_AUTO, 0);
	o.disk = disk_real_new(NULL, r->files[FILE_JOURNAL_DIR]);
	b = body_new(&o);
	role_watch(r, o.loop, &role_calls, b);
	for (unsigned i = 0; i < r->peers_n; i++)
		body_peer(b, r->peers[i].role, r->peers[i].index, r->peers[i].fd);
	role_ready(r);
	loop_run(o.loop);
	log_flush();
	_exit(0);
}
