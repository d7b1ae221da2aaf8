/* mail_index - the messages of a journal by id, and each of them whole.
 *
 * One walk over all records but bodies.  Kept of a message are 56 bytes: where its MSG lies (the copy
 * at the highest position), and one bit of each recipient for "over" and one for "failed, not
 * reported".  What comes before the MSG (a STATE in a cold segment, which is walked first)
 * makes the entry, too; one that never gets a MSG is left out at the end.
 *
 * Everything else is read when it is asked for, by the positions that the MSG holds.  They are hints: if one
 * of them does not lead to its part, the places of all parts are gathered by one more walk, once. */
#include "tools/quire_journal.h"

#include "core/pool.h"
#include "core/table.h"
#include "journal/dict.h"
#include "journal/zip.h"
#include "mail/envelope.h"
#include "tools/quire.h"

#include <fnmatch.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAILS_MAX      (SIZE_MAX / 64)
#define RCPTS_SANE_MAX (1u << 27)                 /* as in sched: recipients of one message */
#define READ_TRIES     50                         /* a walk whose file can't be read: 1 s */
#define READ_WAIT_US   20000
#define PLAIN_LEVEL    1                          /* nothing is packed here */
#define PATTERN_MAX    2048                       /* an address and more */

struct more { uint32_t words; uint64_t *bits; };  /* numbers from 64 on: over, failed, over, ... */
struct mail {
	uint64_t     id, pos, arrival_us, over, failed;
	struct more *more;
	uint32_t     rcpts;
	bool         has_msg, queued;             /* queued: a MSG lies in the queue, not in history */
};
struct place { uint64_t id, pos; uint32_t number; uint8_t type; };

struct mail_index {
	struct journal_tool *tool;
	struct mail *v;
	size_t n, cap;
	struct map by_id;                         /* index + 1 */
	uint64_t damage;
	/* the MSG that was read last */
	size_t at;
	struct rec_head head;
	struct buf body;
	struct msg_view view;
	/* where parts lie, by id, type, number, position; NULL: not looked for yet */
	struct place *places;
	size_t places_n, places_cap;
	bool places_known;
	struct zip *zip;
	char *raw;                                /* BODY_PART_MAX */
};

/* ---- recipients ---- */

static uint64_t *word_of(struct mail *m, uint32_t i, bool failed, bool make)
{
	uint32_t word = i / 64 - 1, want;

	if (i < 64)
		return failed ? &m->failed : &m->over;
	if (!m->more && make)
		m->more = mem_new(sizeof *m->more);
	if (!m->more || (word >= m->more->words && !make))
		return NULL;
	if (word >= m->more->words) {
		want = m->more->words ? m->more->words : 1;
		while (want <= word)
			want *= 2;
		m->more->bits = mem_grow(m->more->bits, m->more->words * 16ul, want * 16ul);
		m->more->words = want;
	}
	return &m->more->bits[2 * word + failed];
}

static bool has(struct mail *m, uint32_t i, bool failed)
{
	const uint64_t *w = word_of(m, i, failed, false);

	return w && (*w >> i % 64 & 1);
}

static void mark(struct mail *m, struct msg_range range, bool failed)
{
	if (range.first > range.last || range.last >= RCPTS_SANE_MAX)
		return;
	for (uint32_t i = range.first; i <= range.last; i++)
		*word_of(m, i, failed, true) |= 1ull << i % 64;
}

static enum rcpt_state state_of(struct mail *m, uint32_t i)
{
	if (has(m, i, false))
		return RCPT_DONE;
	if (has(m, i, true))
		return RCPT_FAILED;
	return m->queued ? RCPT_QUEUED : RCPT_UNKNOWN;
}

/* ---- the walk ---- */

static struct mail *mail_of(struct mail_index *x, uint64_t id)
{
	uintptr_t at = (uintptr_t)map_get(&x->by_id, id);
	size_t cap;

	if (at)
		return &x->v[at - 1];
	if (x->n == x->cap) {
		cap = x->cap ? 2 * x->cap : 1024;
		x->v = mem_grow(x->v, x->cap * sizeof *x->v, cap * sizeof *x->v);
		x->cap = cap;
	}
	x->v[x->n].id = id;
	check(map_put(&x->by_id, id, (void *)(x->n + 1)));
	return &x->v[x->n++];
}

static bool in_queue(const struct mail_index *x, uint64_t pos)
{
	uint32_t n;
	const struct manifest_entry *v = reader_manifest(x->tool->reader, &n);
	uint64_t number = pos / x->tool->segment_size;

	for (uint32_t i = 0; i < n; i++)
		if (v[i].number == number)
			return v[i].state == SEGMENT_QUEUE;
	return true; /* younger than the list */
}

static void take_msg(struct mail_index *x, const struct record *r, const struct msg_view *v)
{
	struct mail *m = mail_of(x, r->head.id);

	if (!m->has_msg || r->pos > m->pos) {
		m->pos = r->pos;
		m->arrival_us = v->m->arrival_us;
		m->rcpts = v->m->rcpts;
	}
	m->has_msg = true;
	m->queued = m->queued || in_queue(x, r->pos);
	if (!v->m->parent)
		return;
	m = mail_of(x, v->m->parent);
	for (uint32_t k = 0; k < v->m->settles_n; k++)
		mark(m, range_at(v->settles, k), false);
}

static void take_state(struct mail_index *x, const struct record *r, const struct state_view *v)
{
	struct mail *m = mail_of(x, r->head.id);
	bool failed = false;

	switch ((enum outcome)v->s->outcome) {
	case OUTCOME_DEFERRED: return;
	case OUTCOME_FAILED:
	case OUTCOME_CANCELLED: failed = true; break;
	case OUTCOME_DELIVERED:
	case OUTCOME_SETTLED:
	case OUTCOME_DROPPED: break;
	}
	for (uint32_t k = 0; k < v->s->ranges_n; k++)
		mark(m, range_at(v->ranges, k), failed);
}

static void take_record(struct mail_index *x, const struct record *r)
{
	struct msg_view m;
	struct state_view s;

	if (r->head.type == REC_MSG && msg_view(&r->head, r->body, &m))
		take_msg(x, r, &m);
	if (r->head.type == REC_STATE && state_view(&r->head, r->body, &s))
		take_state(x, r, &s);
}

/* Every record but bodies to each(); false after a line: it can't be read. */
static bool walk(struct mail_index *x, struct reader *r, enum read_bodies bodies, const char *what,
		 void (*each)(struct mail_index *, const struct record *))
{
	struct progress p;
	struct record rec;
	uint64_t passed = 0, last = 0;
	int tries = 0;

	progress_begin(&p, x->tool, what, journal_tool_bytes(x->tool, true));
	for (;;) {
		enum read_result got = reader_next(r, bodies, &rec);

		if (got == READ_END)
			break;
		if (got == READ_ERROR && ++tries < READ_TRIES) {
			usleep(READ_WAIT_US);
			continue;
		}
		if (got == READ_ERROR) {
			progress_end(&p);
			quire_say(0, x->tool->verb, "%s: can't be read at position %" PRIu64,
				  x->tool->path, reader_pos(r));
			return false;
		}
		tries = 0;
		x->damage += got != READ_OK;
		if (got == READ_OK)
			each(x, &rec);
		if (reader_pos(r) > last && last)
			passed += reader_pos(r) - last;
		last = reader_pos(r);
		progress_at(&p, passed);
	}
	progress_end(&p);
	return true;
}

static int by_arrival(const void *a, const void *b)
{
	const struct mail *x = a, *y = b;

	if (x->arrival_us != y->arrival_us)
		return x->arrival_us < y->arrival_us ? -1 : 1;
	return (x->id > y->id) - (x->id < y->id);
}

static void mail_fini(struct mail *m)
{
	if (m->more)
		mem_free(m->more->bits);
	mem_free(m->more);
}

static void put_in_order(struct mail_index *x)
{
	size_t kept = 0;

	for (size_t i = 0; i < x->n; i++) {
		if (x->v[i].has_msg)
			x->v[kept++] = x->v[i];
		else
			mail_fini(&x->v[i]);
	}
	x->n = kept;
	if (kept)
		qsort(x->v, kept, sizeof *x->v, by_arrival);
	map_fini(&x->by_id);
	map_init(&x->by_id, MAILS_MAX);
	for (size_t i = 0; i < kept; i++)
		check(map_put(&x->by_id, x->v[i].id, (void *)(i + 1)));
}

struct mail_index *mail_index_new(struct journal_tool *t, uint64_t *ret_damage)
{
	struct mail_index *x = mem_new(sizeof *x);

	x->tool = t;
	x->at = SIZE_MAX;
	map_init(&x->by_id, MAILS_MAX);
	buf_init(&x->body, REC_MAX);
	x->zip = zip_new(PLAIN_LEVEL);
	zip_add_dict(x->zip, dict_built_in().number, dict_built_in().bytes, false);
	x->raw = mem_new(BODY_PART_MAX);
	if (!walk(x, t->reader, BODIES_PASS, "reading", take_record)) {
		mail_index_free(x);
		return NULL;
	}
	put_in_order(x);
	*ret_damage = x->damage;
	return x;
}

void mail_index_free(struct mail_index *x)
{
	if (!x)
		return;
	for (size_t i = 0; i < x->n; i++)
		mail_fini(&x->v[i]);
	map_fini(&x->by_id);
	buf_free(&x->body);
	zip_free(x->zip);
	mem_free(x->raw);
	mem_free(x->places);
	mem_free(x->v);
	mem_free(x);
}

size_t mail_index_n(const struct mail_index *x)
{
	return x->n;
}

bool mail_index_find(struct mail_index *x, uint64_t id, size_t *ret_i)
{
	uintptr_t at = (uintptr_t)map_get(&x->by_id, id);

	if (!at)
		return false;
	*ret_i = at - 1;
	return true;
}

struct mail_brief mail_index_brief(const struct mail_index *x, size_t i)
{
	struct mail *m = &x->v[i];
	struct mail_brief b = {.id = m->id, .arrival_us = m->arrival_us, .rcpts = m->rcpts, .queued = m->queued};

	for (uint32_t k = 0; m->queued && k < m->rcpts && k < RCPTS_SANE_MAX; k++)
		b.left += !has(m, k, false);
	return b;
}

/* ---- one message ---- */

static bool load_msg(struct mail_index *x, size_t i)
{
	struct mail *m = &x->v[i];
	struct record r;

	if (x->at == i)
		return true;
	x->at = SIZE_MAX;
	buf_clear(&x->body);
	if (reader_at(x->tool->reader, m->pos, REC_MSG, m->id, 0, &r) != READ_OK ||
	    !buf_add(&x->body, r.body))
		return false;
	x->head = r.head;
	if (!msg_view(&x->head, buf_span(&x->body), &x->view))
		return false;
	x->at = i;
	return true;
}

bool mail_index_at(struct mail_index *x, size_t i, struct mail_record *ret)
{
	const struct rec_msg *m;

	if (!load_msg(x, i))
		return false;
	m = x->view.m;
	*ret = (struct mail_record){
		.id = x->v[i].id, .pos = x->v[i].pos, .arrival_us = m->arrival_us, .size = m->size,
		.parent = m->parent, .rcpts = m->rcpts, .uid = m->uid, .pid = m->pid, .kind = m->kind,
		.sender = x->view.sender, .msg = m};
	return true;
}

static int by_place(const void *a, const void *b)
{
	const struct place *x = a, *y = b;

	if (x->id != y->id)
		return x->id < y->id ? -1 : 1;
	if (x->type != y->type)
		return x->type < y->type ? -1 : 1;
	if (x->number != y->number)
		return x->number < y->number ? -1 : 1;
	return (x->pos > y->pos) - (x->pos < y->pos);
}

static void take_place(struct mail_index *x, const struct record *r)
{
	size_t cap;

	if (r->head.type != REC_BODY && r->head.type != REC_RCPT)
		return;
	if (x->places_n == x->places_cap) {
		cap = x->places_cap ? 2 * x->places_cap : 1024;
		x->places = mem_grow(x->places, x->places_cap * sizeof *x->places, cap * sizeof *x->places);
		x->places_cap = cap;
	}
	x->places[x->places_n++] = (struct place){r->head.id, r->pos, r->head.number, r->head.type};
}

static void find_places(struct mail_index *x)
{
	struct reader *r;
	uint64_t damage = x->damage;

	x->places_known = true;
	r = journal_tool_reader(x->tool, true);
	if (!r)
		return;
	walk(x, r, BODIES_HEADS, "looking for parts", take_place);
	x->damage = damage; /* counted already */
	reader_free(r);
	if (x->places_n)
		qsort(x->places, x->places_n, sizeof *x->places, by_place);
}

/* By its hint, else wherever a copy of it lies. */
static enum read_result part_at(struct mail_index *x, uint32_t hint, enum rec_type type, uint32_t number,
				struct record *ret)
{
	uint64_t id = x->v[x->at].id;
	enum read_result first = reader_at(x->tool->reader, msg_position(&x->view, hint), type, id,
					   number, ret);
	struct place key = {id, 0, number, (uint8_t)type};
	size_t low = 0, high;

	if (first == READ_OK)
		return first;
	if (!x->places_known)
		find_places(x);
	for (high = x->places_n; low < high;) {
		size_t mid = (low + high) / 2;

		if (by_place(&x->places[mid], &key) < 0)
			low = mid + 1;
		else
			high = mid;
	}
	for (; low < x->places_n && x->places[low].id == id && x->places[low].type == type &&
	       x->places[low].number == number;
	     low++)
		if (reader_at(x->tool->reader, x->places[low].pos, type, id, number, ret) == READ_OK)
			return READ_OK;
	return first;
}

bool mail_index_rcpts(struct mail_index *x, size_t i,
		      void (*each)(void *ctx, uint32_t number, struct span addr, unsigned flags,
				   enum rcpt_state s),
		      void *ctx)
{
	uint32_t seen = 0;

	if (!load_msg(x, i))
		return false;
	for (uint32_t k = 0; k < x->view.m->rcpt_parts; k++) {
		struct rec_rcpt head;
		struct record r;
		struct span packed, addr;

		if (part_at(x, x->view.m->body_parts + k, REC_RCPT, k, &r) != READ_OK)
			continue;
		memcpy(&head, r.body.p, sizeof head);
		packed = span_from(r.body, sizeof head);
		for (uint32_t n = 0; n < head.count && packed_next(&packed, &addr); n++, seen++)
			each(ctx, head.first + n, addr, r.head.flags, state_of(&x->v[i], head.first + n));
	}
	return seen >= x->view.m->rcpts;
}

static bool need_dict(struct mail_index *x, uint64_t pos, uint32_t number)
{
	struct record d;

	if (zip_has_dict(x->zip, number))
		return true;
	if (reader_dict(x->tool->reader, pos, number, &d) != READ_OK || dict_number(d.body) != number)
		return false;
	zip_add_dict(x->zip, number, d.body, false);
	return true;
}

/* 0: it is in x->raw; else where the damage is. */
static uint64_t body_part(struct mail_index *x, uint32_t number, uint32_t *ret_n)
{
	struct rec_body b;
	struct record r;
	uint64_t pos = msg_position(&x->view, number);

	if (part_at(x, number, REC_BODY, number, &r) != READ_OK || r.body.n < sizeof b)
		return pos ? pos : x->v[x->at].pos;
	pos = r.pos;
	memcpy(&b, r.body.p, sizeof b);
	if (b.raw_n > BODY_PART_MAX)
		return pos;
	/* the look-up of a dictionary may take over what the part was read into */
	if (b.dict && (!need_dict(x, pos, b.dict) ||
		       part_at(x, number, REC_BODY, number, &r) != READ_OK))
		return pos;
	if (!zip_unpack(x->zip, b.codec, b.dict, span_from(r.body, sizeof b), b.raw_hash, x->raw, b.raw_n))
		return pos;
	*ret_n = b.raw_n;
	return 0;
}

bool mail_index_body(struct mail_index *x, size_t i, bool (*each)(void *ctx, struct span bytes),
		     void *ctx, uint64_t *ret_bad_pos)
{
	uint64_t sum = 0;
	uint32_t n = 0;

	*ret_bad_pos = 0;
	if (!load_msg(x, i)) {
		*ret_bad_pos = x->v[i].pos;
		return false;
	}
	for (uint32_t k = 0; k < x->view.m->body_parts; k++, sum += n) {
		*ret_bad_pos = body_part(x, k, &n);
		if (*ret_bad_pos || !each(ctx, span_of(x->raw, n)))
			return false;
	}
	if (sum != x->view.m->size)
		*ret_bad_pos = x->v[i].pos;
	return sum == x->view.m->size;
}

/* ---- filters ---- */

bool mail_filter_option(struct mail_filter *f, int opt, const char *arg, const char **ret_why)
{
	*ret_why = NULL;
	switch (opt) {
	case 's': f->sender = strcmp(arg, "<>") == 0 ? "" : arg; return true;
	case 'r': f->rcpt = arg; return true;
	case 'd': f->domain = arg; return true;
	case 'i':
		if (!span_u64(span_str(arg), UINT64_MAX, &f->id) || !f->id)
			*ret_why = "not a message's id";
		return true;
	case 'f':
		if (!when_parse(arg, &f->since_us))
			*ret_why = "not a time: 2026-01-31 23:59, or 2h, 3d ago";
		return true;
	case 'u':
		if (!when_parse(arg, &f->until_us))
			*ret_why = "not a time: 2026-01-31 23:59, or 2h, 3d ago";
		return true;
	default: return false;
	}
}

/* A NUL in an address fits no pattern that somebody typed. */
static bool fits(const char *pattern, struct span s)
{
	char text[PATTERN_MAX];

	return !pattern || (span_to_cstr(s, text, sizeof text) &&
			    fnmatch(pattern, text, FNM_CASEFOLD | FNM_NOESCAPE) == 0);
}

bool mail_filter_takes(const struct mail_filter *f, const struct mail_record *m)
{
	return (!f->id || f->id == m->id) && m->arrival_us >= f->since_us &&
	       (!f->until_us || m->arrival_us < f->until_us) && fits(f->sender, m->sender);
}

bool mail_filter_has_rcpt(const struct mail_filter *f)
{
	return f->rcpt || f->domain;
}

bool mail_filter_wants_rcpt(const struct mail_filter *f, struct span addr)
{
	size_t at = span_rfind(addr, '@');

	return fits(f->rcpt, addr) &&
	       fits(f->domain, at == SPAN_NPOS ? SPAN_NONE : span_from(addr, at + 1));
}
