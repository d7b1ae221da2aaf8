/* journal_writer - see the header.
 *
 * What can go wrong, and what is left:
 *
 *   another writer has the lock     111, nothing was changed
 *   recovery fails                  100 with its reason, nothing was changed
 *   no room for a segment           the call fails with -ENOSPC; what was synced is there
 *   a write fails                   the same; the next start finds the end as after a crash
 *   we are killed                   what was synced is there; of the rest whole messages, or
 *                                   parts without MSG, which are nobody's */
#include "tools/journal_writer.h"

#include "core/clock.h"
#include "core/pool.h"
#include "mail/envelope.h"

#include <errno.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/stat.h>
#include <unistd.h>

#define RING_WANTED  (8ull << 20)                 /* as journald's least: any record fits a batch */
#define PLACES_MAX   (REC_MAX / 2)                /* of a message: its MSG must stay below REC_MAX */
#define RECORD_LARGE (RCPT_PART_MAX / 2)          /* counted as a part of large mail (format.h) */

/* ---- whose files these are */

/* Of this thread only, and of those that it starts: the journal's files are made by both. */
static void set_file_rights(uint32_t uid, uint32_t gid)
{
	(void)setfsgid(gid);
	(void)setfsuid(uid);
}

void writer_as_root(struct journal_writer *w)
{
	if (geteuid() == 0)
		set_file_rights(0, 0);
}

void writer_as_owner(struct journal_writer *w)
{
	if (geteuid() == 0)
		set_file_rights(w->uid, w->gid);
}

/* ---- open */

static void on_moved(void *ctx, uint64_t durable)
{
}

static void on_room(void *ctx)
{
}

static void on_failed(void *ctx, int error)
{
	struct journal_writer *w = ctx;

	w->error = error < 0 ? error : -error;
}

static void on_entered(void *ctx, uint64_t number, uint64_t edits)
{
}

static const struct commit_calls calls = {
	.moved = on_moved,
	.room = on_room,
	.failed = on_failed,
	.entered = on_entered,
};

static int say(struct buf *why, int code, const char *what, int error)
{
	buf_clear(why);
	if (!buf_fmt(why, error ? "%s: %s" : "%s", what, strerror(-error)))
		buf_clear(why);
	return code;
}

static int take_lock(struct journal_writer *w, struct buf *why)
{
	int e = w->disk->calls->lock(w->disk);

	if (e == -EWOULDBLOCK)
		return say(why, 111, "the journal is in use: stop quire first", 0);
	return e ? say(why, 111, "lock", e) : 0;
}

static int recover(struct journal_writer *w, const struct journal_writer_options *o, struct journal_end *end,
		   struct buf *why)
{
	w->how = journal_recover(w->disk, end);
	if (w->how == RECOVERED_FAILED) {
		buf_clear(why);
		if (!buf_add(why, buf_span(&end->why)))
			return say(why, 100, "can't be recovered", 0);
		return 100;
	}
	if (w->how != RECOVERED_EMPTY && o->must_be_empty)
		return say(why, 100, "there is a journal already", 0);
	if (w->how != RECOVERED_EMPTY && end->shard != o->shard)
		return say(why, 100, "is the journal of another shard", 0);
	if (end->epoch < o->epoch_min)
		end->epoch = o->epoch_min;
	return 0;
}

static int begin(struct journal_writer *w, const struct journal_writer_options *o, const struct journal_end *end,
		 struct buf *why)
{
	struct commit_options how = {.segment_size = o->segment_size,
				     .shard = o->shard,
				     .careful = w->how == RECOVERED_DAMAGED};
	uint64_t              ring_size = RING_WANTED;
	const char           *why_not;
	int                   e;

	if (w->how != RECOVERED_EMPTY)
		how.segment_size = end->segment_size;
	how.direct = disk_direct_works(w->disk, &why_not);
	/* The ring divides the segment or is a multiple of it. */
	if (how.segment_size % ring_size && ring_size % how.segment_size)
		ring_size = 1 << 20;
	e = ring_make(&w->ring, ring_size, how.segment_size);
	if (e)
		return say(why, 111, "memory for recent batches", e);
	e = commit_open(&w->commit, w->loop, w->disk, &w->ring, end, &how, &calls, w);
	return e ? say(why, 111, "open a segment", e) : 0;
}

int writer_open(struct journal_writer *w, int dir_fd, const struct journal_writer_options *o, struct buf *why)
{
	struct journal_end end = {0};
	struct stat        st;
	int                code;

	*w = (struct journal_writer){.shard = o->shard, .ring = {.fd = -1, .fd_read = -1}};
	if (fstat(dir_fd, &st) < 0)
		return say(why, 111, "journal", -errno);
	w->uid = st.st_uid;
	w->gid = st.st_gid;
	writer_as_owner(w);
	w->loop = loop_new(LOOP_AUTO, 0);
	w->disk = disk_real_new(w->loop, dir_fd);
	code = take_lock(w, why);
	if (!code)
		code = recover(w, o, &end, why);
	if (!code)
		code = begin(w, o, &end, why);
	journal_end_fini(&end);
	if (code) {
		(void)writer_close(w);
		return code;
	}
	w->zip = zip_new(o->zstd_level);
	w->frame = mem_new(ZIP_BOUND);
	return 0;
}

/* The last batch holds nothing that was promised, and its watermark vouches for the one before
 * it, as the mark after quiet does (docs/journal.md, The commit point). */
static bool put_mark(struct journal_writer *w)
{
	struct rec_head h = {.type = REC_NOP, .version = REC_LAYOUT};
	struct span     none = SPAN_NONE;

	return writer_add(w, &h, &none, 1, 0, NULL) && writer_sync(w);
}

int writer_close(struct journal_writer *w)
{
	int error;

	if (w->commit && writer_sync(w))
		(void)put_mark(w);
	error = w->error;
	commit_free(w->commit);
	ring_unmap(&w->ring);
	if (w->zip)
		zip_free(w->zip);
	mem_free(w->frame);
	disk_real_free(w->disk);
	if (w->loop)
		loop_free(w->loop);
	if (w->disk)
		writer_as_root(w);
	*w = (struct journal_writer){.ring = {.fd = -1, .fd_read = -1}, .error = error};
	return error;
}

/* ---- records */

uint64_t writer_new_id(struct journal_writer *w)
{
	return id_make(commit_epoch(w->commit), ++w->seq, w->shard);
}

static bool is_in_trouble(struct journal_writer *w)
{
	if (!w->error)
		w->error = commit_trouble(w->commit);
	return w->error != 0;
}

bool writer_add(struct journal_writer *w, struct rec_head *h, const struct span *pieces, int pieces_n,
		unsigned flags, uint64_t *ret_pos)
{
	uint64_t pos = 0;
	size_t   n = 0;

	for (int i = 0; i < pieces_n; i++)
		n += pieces[i].n;
	if (rec_size(n) > commit_record_max(w->commit))
		w->error = w->error ? w->error : -EMSGSIZE;
	while (!w->error && !(pos = commit_add(w->commit, h, pieces, pieces_n, flags))) {
		if (is_in_trouble(w))
			break;
		loop_pass(w->loop);
	}
	if (ret_pos)
		*ret_pos = pos;
	return pos != 0;
}

bool writer_sync(struct journal_writer *w)
{
	while (!w->error && !commit_is_idle(w->commit)) {
		if (is_in_trouble(w))
			break;
		loop_pass(w->loop);
	}
	return !w->error;
}

/* ---- messages */

void writer_message_init(struct writer_message *m, uint64_t id)
{
	*m = (struct writer_message){.id = id};
	buf_init(&m->places, PLACES_MAX);
}

void writer_message_fini(struct writer_message *m)
{
	buf_free(&m->places);
}

static bool note_place(struct journal_writer *w, struct writer_message *m, uint64_t pos)
{
	if (buf_add(&m->places, span_of(&pos, sizeof(pos))))
		return true;
	w->error = -EMSGSIZE;
	return false;
}

bool writer_body(struct journal_writer *w, struct writer_message *m, struct span raw)
{
	struct rec_head h = {.type = REC_BODY, .version = REC_LAYOUT, .id = m->id, .number = m->msg.body_parts};
	struct msg_part part = {0};
	struct span     frame = zip_pack(w->zip, raw, w->frame, &part);
	struct rec_body b = {.raw_n = part.raw_n, .dict = part.dict, .raw_hash = part.raw_hash, .codec = part.codec};
	struct span     pieces[2] = {span_of(&b, sizeof(b)), frame};
	bool            is_large = h.number > 0 || raw.n == BODY_PART_MAX;
	uint64_t        pos;

	check(m->msg.rcpt_parts == 0);            /* places are in this order */
	if (!writer_add(w, &h, pieces, 2, is_large ? COMMIT_LARGE : 0, &pos) || !note_place(w, m, pos))
		return false;
	m->msg.body_parts++;
	m->msg.size += raw.n;
	return true;
}

bool writer_rcpts(struct journal_writer *w, struct writer_message *m, struct span packed, uint32_t count,
		  unsigned flags)
{
	struct rec_head h = {.type = REC_RCPT, .version = REC_LAYOUT, .id = m->id, .number = m->msg.rcpt_parts,
			     .flags = (uint8_t)flags};
	struct rec_rcpt r = {.first = m->msg.rcpts, .count = count};
	struct span     pieces[2] = {span_of(&r, sizeof(r)), packed};
	bool            is_large = h.number > 0 || packed.n > RECORD_LARGE;
	uint64_t        pos;

	if (!writer_add(w, &h, pieces, 2, is_large ? COMMIT_LARGE : 0, &pos) || !note_place(w, m, pos))
		return false;
	m->msg.rcpt_parts++;
	m->msg.rcpts += count;
	return true;
}

bool writer_part(struct journal_writer *w, struct writer_message *m, const struct record *r)
{
	struct rec_head h = r->head;
	uint32_t       *count = h.type == REC_BODY ? &m->msg.body_parts : &m->msg.rcpt_parts;
	uint64_t        pos;

	check(h.number == *count && (h.type == REC_RCPT || m->msg.rcpt_parts == 0));
	if (!writer_add(w, &h, &r->body, 1, h.number > 0 ? COMMIT_LARGE : 0, &pos) || !note_place(w, m, pos))
		return false;
	++*count;
	return true;
}

bool writer_msg(struct journal_writer *w, struct writer_message *m, struct span sender, struct span settles,
		struct span extra)
{
	struct rec_head h = {.type = REC_MSG, .version = REC_LAYOUT, .id = m->id};
	struct span     pieces[5] = {span_of(&m->msg, sizeof(m->msg)), buf_span(&m->places), settles, sender, extra};

	m->msg.sender_n = (uint16_t)sender.n;
	m->msg.settles_n = (uint16_t)(settles.n / sizeof(struct msg_range));
	m->msg.extra_n = (uint32_t)extra.n;
	return writer_add(w, &h, pieces, 5, COMMIT_ACKED, NULL);
}

bool writer_state(struct journal_writer *w, uint64_t id, const struct rec_state *s, struct span ranges,
		  struct span text)
{
	struct rec_head  h = {.type = REC_STATE, .version = REC_LAYOUT, .id = id};
	struct rec_state st = *s;
	struct span      pieces[3] = {span_of(&st, sizeof(st)), ranges, text};

	st.ranges_n = (uint16_t)(ranges.n / sizeof(struct msg_range));
	st.text_n = (uint16_t)text.n;
	return writer_add(w, &h, pieces, 3, 0, NULL);
}
