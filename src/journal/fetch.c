/* The positions in a MSG are hints: reader_at() checks id, type, number and every checksum, so
 * a wrong one is "gone", never another message's bytes. */
#include "journal/fetch.h"

#include "core/log.h"
#include "core/pool.h"
#include "journal/dict.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define PLAIN_LEVEL 1                             /* nothing is packed here */

void fetch_init(struct fetch *f, struct disk *d, uint32_t shard)
{
	*f = (struct fetch){.disk = d, .shard = shard, .ring = {.fd = -1, .fd_read = -1}};
	f->zip = zip_new(PLAIN_LEVEL);
	zip_add_dict(f->zip, dict_built_in().number, dict_built_in().bytes, false);
	f->raw = mem_new(BODY_PART_MAX);
}

static void forget_feed(struct fetch *f)
{
	reader_free(f->reader);
	f->reader = NULL;
	ring_unmap(&f->ring);
}

void fetch_fini(struct fetch *f)
{
	forget_feed(f);
	zip_free(f->zip);
	mem_free(f->raw);
}

bool fetch_is_ready(const struct fetch *f)
{
	return f->reader != NULL;
}

void fetch_forget(struct fetch *f)
{
	if (f->reader)
		reader_forget(f->reader);
}

void fetch_feed(struct fetch *f, const struct msg_feed *m, int ring_fd)
{
	struct buf why;
	int        error = -EBADF;

	forget_feed(f);
	if (ring_fd >= 0) {
		error = ring_map(&f->ring, ring_fd);
		close(ring_fd);
	}
	if (error)
		die(111, "map the ring: %s", strerror(-error));
	f->reader = reader_new(f->disk, &f->ring, m->segment_size, f->shard);
	buf_init(&why, 4096);
	error = reader_open(f->reader, &why);
	if (error)
		die(111, "open the journal: %s: %.*s", strerror(-error),
		    SPAN_ARG(buf_span(&why)));
	buf_free(&why);
}

static const char *why_not(enum read_result r)
{
	switch (r) {
	case READ_OK:     return "malformed";
	case READ_END:    return "not durable";
	case READ_DAMAGE: return "damage";
	case READ_GONE:   return "gone";
	case READ_ERROR:  return "read error";
	}
	return "?";
}

void fetch_note(const struct located *l, uint64_t pos, const char *why)
{
	char id[24], at[24];

	snprintf(id, sizeof(id), "%" PRIu64, l->id);
	snprintf(at, sizeof(at), "%" PRIu64, pos);
	log_note("body", "unreadable", "id", id, "pos", at, "why", why, NULL);
}

void located_init(struct located *l, uint64_t id, uint64_t pos)
{
	*l = (struct located){.id = id, .pos = pos};
}

void located_fini(struct located *l)
{
	mem_free(l->places);
	*l = (struct located){0};
}

bool fetch_locate(struct fetch *f, struct located *l)
{
	struct record    rec;
	struct msg_view  v;
	enum read_result r = reader_at(f->reader, l->pos, REC_MSG, l->id, 0, &rec);

	l->looked = true;
	f->why = r == READ_OK ? READ_DAMAGE : r;
	if (r != READ_OK || !msg_view(&rec.head, rec.body, &v)) {
		fetch_note(l, l->pos, why_not(r));
		return false;
	}
	l->size = v.m->size;
	l->parts = v.m->body_parts;
	if (l->parts > 0)
		l->first = msg_position(&v, 0);
	if (l->parts <= 1)
		return true;
	l->places = mem_new(l->parts * sizeof(*l->places));
	for (uint32_t i = 0; i < l->parts; i++)
		l->places[i] = msg_position(&v, i);
	return true;
}

static uint64_t place_of(const struct located *l, uint32_t number)
{
	return l->places ? l->places[number] : l->first;
}

bool fetch_frame(struct fetch *f, const struct located *l, uint32_t number,
		 struct rec_body *ret, struct span *ret_frame)
{
	struct record    rec;
	uint64_t         pos = place_of(l, number);
	enum read_result r = reader_at(f->reader, pos, REC_BODY, l->id, number, &rec);

	check(number < l->parts);
	if (r != READ_OK) {
		f->why = r;
		fetch_note(l, pos, why_not(r));
		return false;
	}
	memcpy(ret, rec.body.p, sizeof(*ret));    /* rec_ok() has seen that it is there */
	*ret_frame = span_from(rec.body, sizeof(*ret));
	return true;
}

/* Out of the segment in which the frame lies.  Where it can't be had, unpacking says so. */
static void learn_dict(struct fetch *f, uint64_t pos, uint32_t number)
{
	struct record rec;

	if (reader_dict(f->reader, pos, number, &rec) == READ_OK &&
	    dict_number(rec.body) == number)
		zip_add_dict(f->zip, number, rec.body, false);
}

bool fetch_part(struct fetch *f, const struct located *l, uint32_t number, struct span *ret)
{
	struct rec_body h;
	struct span     frame;

	if (!fetch_frame(f, l, number, &h, &frame))
		return false;
	if (h.dict && !zip_has_dict(f->zip, h.dict)) {
		learn_dict(f, place_of(l, number), h.dict);
		if (!fetch_frame(f, l, number, &h, &frame)) /* its span is gone */
			return false;
	}
	if (h.raw_n > BODY_PART_MAX ||
	    !zip_unpack(f->zip, h.codec, h.dict, frame, h.raw_hash, f->raw, h.raw_n)) {
		f->why = READ_DAMAGE;
		fetch_note(l, place_of(l, number), "frame");
		return false;
	}
	*ret = span_of(f->raw, h.raw_n);
	return true;
}
