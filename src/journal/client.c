/* A submission is in one of these states:
 *
 *   CLOSED      client == NULL                     nobody's; begin may follow
 *   GATHERING   open, parts == 0                   nothing was sent: survives a lost journald
 *   SENDING     open, parts > 0                    parts lie in the journal, without MSG
 *   REFUSED     refused, not committing            swallows the rest of its body
 *   COMMITTING  committing                         SUBMIT was sent: STORED will come
 *   ANSWERING   in `answers`                       its stored() runs in this pass or the next
 *
 * What happens when:
 *   STORED while SENDING      REFUSED (a limit was passed); journald keeps the number until it
 *                             sees SUBMIT or ABANDON, so the end of it sends ABANDON
 *   STORED while COMMITTING   ANSWERING; at most one comes for a number
 *   STORED for no number      the owner gave up after SUBMIT: nothing to do
 *   journald lost             SENDING -> REFUSED (STORED_LATER); COMMITTING -> ANSWERING (the
 *                             same); GATHERING stays
 *   commit while REFUSED, or without journald: ANSWERING, nothing is sent
 *   abandon                   CLOSED; ABANDON is sent if SENDING or REFUSED by this journald
 *
 * Every stored() runs from deferred work, so that the owner is never called from inside its
 * own call, and finds the submission CLOSED: it may begin the next message at once. */
#include "journal/client.h"

#include "core/log.h"
#include "core/pool.h"
#include "core/table.h"
#include "journal/dict.h"
#include "journal/format.h"

#include <string.h>
#include <unistd.h>

#define PART_KEPT 4096                   /* storage above a page is not kept between messages */
#define SUBS_MAX  (1u << 20)             /* open at once; more than a process has descriptors */

struct link_up {                                  /* one wire to one journald */
	struct wire    wire;
	struct client *client;                    /* NULL: dead, waits for lost() */
	bool           admits, disk_full;
	uint32_t       dict;                      /* that it takes; 0: none yet */
};

struct client {
	struct loop    *loop;
	struct zip     *zip;
	struct link_up *up;                       /* NULL: no journald */
	struct map      subs;  /* SENDING, COMMITTING and REFUSED by this journald, by number */
	struct link     open;                   /* every open submission but those in answers */
	struct link     answers;
	struct deferred answer;
	uint32_t        last_sub;
	uint32_t        uid, pid;                 /* ours: who submits, unless submit_info says */
	char           *frame;                    /* ZIP_BOUND bytes */
	void          (*room)(void *ctx);
	void           *room_ctx;
	void          (*told)(void *ctx);         /* of admission */
	void           *told_ctx;
	const struct client_feed *feed;
	void           *feed_ctx;
};

static void on_stored(struct wire *w, struct wire_in *in);
static void on_admit(struct wire *w, struct wire_in *in);
static void on_dict(struct wire *w, struct wire_in *in);
static void on_feed(struct wire *w, struct wire_in *in);
static void on_bell(struct wire *w, struct wire_in *in);

static const struct wire_handler handlers[] = {
	{ MSG_STORED, sizeof(struct msg_stored), false, false, on_stored },
	{ MSG_ADMIT,  sizeof(struct msg_admit),  false, false, on_admit },
	{ MSG_DICT,   sizeof(struct msg_dict),   true,  false, on_dict },
	{ MSG_FEED,   sizeof(struct msg_feed),   false, true,  on_feed },
	{ MSG_BELL,   0,                         false, true,  on_bell },
};

/* ---- the client */

static void run_answers(struct deferred *d);

struct client *client_new(struct loop *l, int zstd_level)
{
	struct client *c = mem_new(sizeof(*c));

	c->loop = l;
	c->uid = getuid();
	c->pid = (uint32_t)getpid();
	c->zip = zip_new(zstd_level);
	c->frame = mem_new(ZIP_BOUND);
	map_init(&c->subs, SUBS_MAX);
	list_init(&c->open);
	list_init(&c->answers);
	deferred_init(&c->answer, run_answers);
	return c;
}

void client_free(struct client *c)
{
	if (!c)
		return;
	check(list_is_empty(&c->open) && list_is_empty(&c->answers));
	c->room = NULL;
	client_attach(c, -1);
	deferred_cancel(&c->answer);
	map_fini(&c->subs);
	zip_free(c->zip);
	mem_free(c->frame);
	mem_free(c);
}

void client_on_room(struct client *c, void (*room)(void *ctx), void *ctx)
{
	c->room = room;
	c->room_ctx = ctx;
}

void client_on_admission(struct client *c, void (*told)(void *ctx), void *ctx)
{
	c->told = told;
	c->told_ctx = ctx;
}

void client_on_feed(struct client *c, const struct client_feed *calls, void *ctx)
{
	c->feed = calls;
	c->feed_ctx = ctx;
}

bool client_admits(const struct client *c)
{
	return c->up && c->up->admits;
}

bool client_disk_full(const struct client *c)
{
	return c->up && c->up->disk_full;
}

bool client_takes_dict(const struct client *c, uint32_t number)
{
	return number == 0 || (c->up && c->up->dict == number);
}

void client_say(struct client *c, uint16_t type, const void *body, size_t n)
{
	if (c->up)
		wire_send(&c->up->wire, type, body, n, SPAN_NONE);
}

bool client_full(const struct client *c)
{
	return c->up && wire_full(&c->up->wire);
}

/* Out of the map and the list; its owner will hear `verdict` from the loop. */
static void answer_later(struct submission *s, enum stored verdict)
{
	struct client *c = s->client;

	s->verdict = verdict;
	s->committing = true;
	list_remove(&s->link);
	list_add_end(&c->answers, &s->link);
	loop_defer(c->loop, &c->answer, PHASE_WORK);
}

static void forget(struct submission *s)
{
	struct client *c = s->client;

	list_remove(&s->link);
	if (map_get(&c->subs, s->sub) == s)
		(void)map_remove(&c->subs, s->sub);
	s->client = NULL;
	s->committing = s->refused = false;
	if (s->part.cap > PART_KEPT)
		buf_free(&s->part);
	buf_clear(&s->part);
}

static void run_answers(struct deferred *d)
{
	struct client *c = owner_of(d, struct client, answer);
	struct link    now;

	list_init(&now);                       /* what callbacks add waits for the next round */
	while (!list_is_empty(&c->answers)) {
		struct link *l = list_first(&c->answers);

		list_remove(l);
		list_add_end(&now, l);
	}
	while (!list_is_empty(&now)) {
		struct submission *s = owner_of(list_first(&now), struct submission, link);
		enum stored        verdict = s->verdict;

		forget(s);
		s->stored(s, verdict, 0);
	}
}

/* ---- the link */

static void fail_open_ones(struct client *c)
{
	list_each_safe(&c->open, l) {
		struct submission *s = owner_of(l, struct submission, link);

		if (map_get(&c->subs, s->sub) == s)
			(void)map_remove(&c->subs, s->sub);
		if (s->committing) {
			answer_later(s, STORED_LATER);
		} else if (s->parts > 0 && !s->refused) {
			s->refused = true;
			s->verdict = STORED_LATER;
		}
	}
}

static void leave(struct client *c)
{
	struct link_up *up = c->up;

	if (!up)
		return;
	up->client = NULL;
	c->up = NULL;
	zip_use_none(c->zip);                  /* the next journald names its own */
	fail_open_ones(c);
}

static void on_lost(struct wire *w)
{
	struct link_up *up = owner_of(w, struct link_up, wire);
	struct client  *c = up->client;

	if (c)
		leave(c);
	mem_free(up);
	if (c && c->room)                         /* nothing is full any more */
		c->room(c->room_ctx);
}

static void on_room(struct wire *w)
{
	struct link_up *up = owner_of(w, struct link_up, wire);

	if (up->client && up->client->room)
		up->client->room(up->client->room_ctx);
}

void client_attach(struct client *c, int sock)
{
	struct link_up *old = c->up;

	leave(c);
	if (old)
		wire_close(&old->wire);
	if (sock < 0)
		return;
	c->up = mem_new(sizeof(*c->up));
	c->up->client = c;
	wire_init(&c->up->wire, c->loop, sock, "journald", handlers, ARRAY_N(handlers), on_lost,
		  c);
	c->up->wire.room = on_room;
}

/* ---- from journald */

static struct client *client_of(struct wire *w)
{
	return owner_of(w, struct link_up, wire)->client;
}

static void on_stored(struct wire *w, struct wire_in *in)
{
	const struct msg_stored *m = in->body;
	struct client           *c = client_of(w);
	struct submission       *s = c ? map_get(&c->subs, m->sub) : NULL;

	if (!s)
		return;
	if (!s->committing) {
		s->refused = true;
		s->verdict = (uint8_t)m->verdict;
		return;
	}
	forget(s);
	s->stored(s, (enum stored)m->verdict, m->id);
}

static void on_admit(struct wire *w, struct wire_in *in)
{
	const struct msg_admit *m = in->body;

	struct link_up         *up = owner_of(w, struct link_up, wire);

	up->admits = m->open != 0;
	up->disk_full = m->full != 0;
	if (up->client && up->client->told && (up->admits || up->disk_full))
		up->client->told(up->client->told_ctx);
}

static void on_dict(struct wire *w, struct wire_in *in)
{
	const struct msg_dict *m = in->body;
	struct link_up        *up = owner_of(w, struct link_up, wire);

	if (!up->client || dict_number(in->tail) != m->number)
		return;                           /* without it frames are larger, not wrong */
	zip_add_dict(up->client->zip, m->number, in->tail, true);
	up->dict = m->number;
}

static void on_feed(struct wire *w, struct wire_in *in)
{
	struct client *c = client_of(w);

	if (c && c->feed)
		c->feed->feed(c->feed_ctx, in->body, in->fd);
	else if (in->fd >= 0)
		close(in->fd);
}

static void on_bell(struct wire *w, struct wire_in *in)
{
	struct client *c = client_of(w);

	if (c && c->feed)
		c->feed->bell(c->feed_ctx, in->fd);
	else if (in->fd >= 0)
		close(in->fd);
}

/* ---- submissions */

void submission_begin(struct submission *s, struct client *c,
		      void (*stored)(struct submission *, enum stored, uint64_t))
{
	check(!s->client);
	if (s->part.max == 0)
		buf_init(&s->part, BODY_PART_MAX);
	s->client = c;
	s->stored = stored;
	s->parts = 0;
	s->size = 0;
	s->committing = s->refused = false;
	s->sub = ++c->last_sub;
	list_add_end(&c->open, &s->link);
}

static void refuse(struct submission *s, enum stored verdict)
{
	s->refused = true;
	s->verdict = verdict;
}

/* From the first thing sent on, answers find it by its number.  A number comes again after
 * 2^32 submissions; where the old bearer is still open, the new one is refused. */
static bool make_known(struct submission *s)
{
	struct client     *c = s->client;
	struct submission *have = map_get(&c->subs, s->sub);

	if (have == s)
		return true;
	if (!have && map_put(&c->subs, s->sub, s))
		return true;
	refuse(s, STORED_LATER);
	return false;
}

static void send_part(struct submission *s, struct msg_part *part, struct span frame)
{
	struct client *c = s->client;

	if (!c->up)
		refuse(s, STORED_LATER);
	if (s->refused || !make_known(s))
		return;
	part->sub = s->sub;
	part->number = s->parts++;
	wire_send(&c->up->wire, MSG_PART, part, sizeof(*part), frame);
}

static void pack_and_send(struct submission *s, struct span raw)
{
	struct msg_part part = {0};
	struct span     frame;

	if (s->refused)                           /* no work for what nobody will read */
		return;
	frame = zip_pack(s->client->zip, raw, s->client->frame, &part);
	send_part(s, &part, frame);
}

static void send_gathered(struct submission *s)
{
	if (s->part.n == 0)
		return;
	pack_and_send(s, buf_span(&s->part));
	buf_clear(&s->part);
}

void submission_body(struct submission *s, struct span bytes)
{
	check(s->client && !s->committing);
	s->size += bytes.n;
	while (bytes.n > 0 && !s->refused) {
		struct span piece;

		if (s->part.n == 0 && bytes.n >= BODY_PART_MAX) {
			pack_and_send(s, span_cut(&bytes, BODY_PART_MAX));
			continue;
		}
		piece = span_cut(&bytes, BODY_PART_MAX - s->part.n);
		if (!buf_add(&s->part, piece))
			refuse(s, STORED_LATER);  /* no memory */
		if (s->part.n == BODY_PART_MAX)
			send_gathered(s);
	}
}

void submission_frame(struct submission *s, const struct msg_part *part, struct span frame)
{
	struct msg_part copy = *part;

	check(s->client && !s->committing);
	send_gathered(s);
	s->size += part->raw_n;
	send_part(s, &copy, frame);
}

/* Recipients in parts of at most RCPT_PART_MAX, cut between addresses.  Returns how many
 * parts, or 0 where the packing is not what it says. */
static uint32_t send_rcpts(struct submission *s, struct span packed, uint32_t rcpts)
{
	struct msg_rcpts m = {.sub = s->sub};
	struct span      rest = packed, addr;
	uint32_t         left = rcpts;

	while (rest.n > 0) {
		const char *from = rest.p;
		size_t      n = 0;

		for (m.count = 0; rest.n > 0; m.count++) {
			struct span before = rest;

			if (!packed_next(&rest, &addr))
				return 0;
			if (n + (before.n - rest.n) > RCPT_PART_MAX) {
				rest = before;
				break;
			}
			n += before.n - rest.n;
		}
		if (m.count == 0 || m.count > left)
			return 0;
		left -= m.count;
		wire_send(&s->client->up->wire, MSG_RCPTS, &m, sizeof(m), span_of(from, n));
		m.number++;
	}
	return left == 0 ? m.number : 0;
}

static void send_submit(struct submission *s, struct span sender, uint32_t rcpt_parts,
			uint32_t rcpts, const struct submit_info *info)
{
	struct msg_submit m = {
		.sub = s->sub,
		.body_parts = s->parts,
		.rcpt_parts = rcpt_parts,
		.rcpts = rcpts,
		.size = s->size,
		.parent = info->parent,
		.uid = info->pid ? info->uid : s->client->uid,
		.pid = info->pid ? info->pid : s->client->pid,
		.sender_n = (uint16_t)sender.n,
		.settles_n = info->settles_n,
		.kind = info->kind,
	};

	wire_send2(&s->client->up->wire, MSG_SUBMIT, &m, sizeof(m), sender,
	           span_of(info->settles, info->settles_n * sizeof(struct msg_range)));
}

static void send_abandon(struct submission *s)
{
	struct client *c = s->client;
	struct msg_sub m = {.sub = s->sub};

	if (c->up && map_get(&c->subs, s->sub) == s)
		wire_send(&c->up->wire, MSG_ABANDON, &m, sizeof(m), SPAN_NONE);
}

void submission_commit(struct submission *s, struct span sender, struct span packed,
		       uint32_t rcpts, const struct submit_info *info)
{
	uint32_t rcpt_parts = 0;

	check(s->client && !s->committing);
	check(sender.n <= UINT16_MAX);
	send_gathered(s);
	if (!s->refused && !s->client->up)
		refuse(s, STORED_LATER);
	if (!s->refused && make_known(s)) {
		rcpt_parts = send_rcpts(s, packed, rcpts);
		if (rcpt_parts == 0 && rcpts > 0)
			refuse(s, STORED_BAD);
	}
	if (s->refused) {
		send_abandon(s);
		answer_later(s, (enum stored)s->verdict);
		return;
	}
	send_submit(s, sender, rcpt_parts, rcpts, info);
	s->committing = true;
}

void submission_abandon(struct submission *s)
{
	if (!s->client)
		return;
	if (!s->committing)
		send_abandon(s);
	forget(s);
}

void submission_fini(struct submission *s)
{
	submission_abandon(s);
	buf_free(&s->part);
}
