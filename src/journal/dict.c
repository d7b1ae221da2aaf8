#include "journal/dict.h"

#include "core/log.h"
#include "core/pool.h"
#include "journal/commit.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>
#include <zstd.h>

uint32_t dict_number(struct span bytes)
{
	uint32_t low = (uint32_t)hash64(bytes.p, bytes.n);

	return low ? low : 1;
}

/* Dictionaries are the process': one at a start, and the same one again costs nothing. */
struct copy {
	struct copy *next;
	struct dict  d;
	char         bytes[];
};

static struct dict keep(struct span bytes)
{
	static struct copy *all;
	struct copy        *c = all;

	while (c && !span_eq(c->d.bytes, bytes))
		c = c->next;
	if (c)
		return c->d;
	c = mem_new(sizeof(*c) + bytes.n);
	memcpy(c->bytes, bytes.p, bytes.n);
	c->d = (struct dict){dict_number(bytes), span_of(c->bytes, bytes.n)};
	c->next = all;
	all = c;
	return c->d;
}

struct dict dict_of(struct span bytes)
{
	ZSTD_DDict *probe;

	if (bytes.n < DICT_MIN || bytes.n > DICT_MAX)
		return (struct dict){0};
	/* what begins like zstd's format must be it */
	probe = ZSTD_createDDict(bytes.p, bytes.n);
	ZSTD_freeDDict(probe);
	return probe ? keep(bytes) : (struct dict){0};
}

struct dict dict_built_in(void)
{
	struct span text = span_of(dict_text, dict_text_n);

	return (struct dict){dict_number(text), text};
}

/* At most DICT_MAX + 1 bytes: one more than can be used.  -errno. */
static ssize_t read_some(int fd, char *to)
{
	size_t n = 0;

	while (n < DICT_MAX + 1) {
		ssize_t got = pread(fd, to + n, DICT_MAX + 1 - n, (off_t)n);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		if (got == 0)
			break;
		n += (size_t)got;
	}
	return (ssize_t)n;
}

struct dict dict_load(int fd)
{
	struct dict d = {0};
	char       *bytes;
	ssize_t     n;

	if (fd < 0)
		return dict_built_in();
	bytes = mem_new(DICT_MAX + 1);
	n = read_some(fd, bytes);
	if (n >= 0)
		d = dict_of(span_of(bytes, (size_t)n));
	mem_free(bytes);
	if (d.number)
		return d;
	log_note("control", "dictionary", "ignored",
	         n < 0          ? strerror((int)-n)
	         : n > DICT_MAX ? "larger than 128 KiB"
	         : n < DICT_MIN ? "smaller than 256 bytes"
	                        : "zstd refuses it",
	         NULL);
	return dict_built_in();
}

void dict_begin_with(struct commit *c, struct dict d)
{
	struct rec_head h = {.type = REC_DICT, .flags = REC_SKIP, .number = d.number};

	if (d.number)
		commit_first(c, &h, d.bytes);
}

struct dict dict_for(struct dict d, uint64_t segment_size)
{
	return d.bytes.n <= segment_size / DICT_SHARE ? d : (struct dict){0};
}
