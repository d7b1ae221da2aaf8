/* users_compile - users/assign into users/cdb; docs/qmail.md E has the records byte by byte.
 *
 *   =local:user:uid:gid:home:dash:ext:      exactly this local part
 *   +begin:user:uid:gid:home:dash:pre:      every local part that begins so
 *   .                                       the end; without it the file is not whole */
#include "core/buf.h"
#include "mail/users.h"

#include <string.h>

#define RECORD_MAX (64 * 1024)                    /* bytes of one line */

struct compiling {
	struct cdb_writer *w;
	struct buf         key, data;
	char               wild[256];
	unsigned           wild_n;
	const char        *why;
};

static bool wrong(struct compiling *c, const char *why)
{
	c->why = why;
	return false;
}

static void note_wild(struct compiling *c, char last)
{
	if (!memchr(c->wild, last, c->wild_n))
		c->wild[c->wild_n++] = last;
}

static bool make_key(struct compiling *c, bool wildcard, struct span address)
{
	buf_clear(&c->key);
	if (!buf_add_byte(&c->key, '!'))
		return false;
	for (size_t i = 0; i < address.n; i++)
		if (!buf_add_byte(&c->key, span_lower(address.p[i])))
			return false;
	if (wildcard && address.n > 0)
		note_wild(c, span_lower(address.p[address.n - 1]));
	return wildcard || buf_add_byte(&c->key, '\0');
}

static bool make_data(struct compiling *c, struct span rest)
{
	enum { USER, UID, GID, HOME, DASH, EXT, FIELDS };

	buf_clear(&c->data);
	for (int i = 0; i < FIELDS; i++) {
		size_t colon = span_find(rest, ':');
		struct span field = span_until(rest, colon);
		uint64_t id;

		if (colon == SPAN_NPOS)
			return wrong(c, "seven colons are needed");
		if ((i == UID || i == GID) && !span_u64(field, UINT32_MAX, &id))
			return wrong(c, i == UID ? "the uid is not a number"
						 : "the gid is not a number");
		if (!buf_add(&c->data, field) || (i < EXT && !buf_add_byte(&c->data, '\0')))
			return wrong(c, "the line is too long");
		rest = span_from(rest, colon + 1);
	}
	return true;
}

static bool compile_line(struct compiling *c, struct span line)
{
	size_t colon = span_find(line, ':');

	if (line.n == 0)
		return wrong(c, "an empty line");
	if (span_has(line, '\0'))
		return wrong(c, "there is a NUL in it");
	if (colon == SPAN_NPOS || colon == 0)
		return wrong(c, "seven colons are needed");
	if (!make_key(c, line.p[0] == '+', span_of(line.p + 1, colon - 1)))
		return wrong(c, "the line is too long");
	if (!make_data(c, span_from(line, colon + 1)))
		return false;
	if (!cdb_writer_add(c->w, buf_span(&c->key), buf_span(&c->data)))
		return wrong(c, "the database can't be written");
	return true;
}

static unsigned compile(struct compiling *c, struct span assign)
{
	for (unsigned line = 1;; line++) {
		size_t lf = span_find(assign, '\n');
		struct span text = span_cut(&assign, lf);

		if (span_starts(text, SPAN(".")))
			break;
		if (lf == SPAN_NPOS) {
			c->why = text.n > 0 ? "the line has no end"
					    : "the line with a dot at the end is missing";
			return line;
		}
		span_cut(&assign, 1);
		if (!compile_line(c, text))
			return line;
	}
	if (cdb_writer_add(c->w, SPAN(""), span_of(c->wild, c->wild_n)))
		return 0;
	c->why = "the database can't be written";
	return 1;
}

unsigned users_compile(struct span assign, struct cdb_writer *w, const char **ret_why)
{
	struct compiling c = {.w = w};
	unsigned bad;

	buf_init(&c.key, RECORD_MAX);
	buf_init(&c.data, RECORD_MAX);
	bad = compile(&c, assign);
	buf_free(&c.key);
	buf_free(&c.data);
	*ret_why = c.why;
	return bad;
}
