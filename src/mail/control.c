/* control - the snapshot and the three readers.  What the files mean is in control_known.c,
 * what can be wrong with them in control_check.c.
 *
 * Packed: u64 length of all, itself included, then for each file u16 length of the name,
 * u32 length of the bytes, name, bytes. */
#include "mail/control.h"

#include "core/file.h"
#include "core/pool.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

#define TRAILING " \t\n" /* what qmail's readers cut off a line's end */

struct control_file {
	struct control_file *next;
	struct span          name, bytes;
	char                 storage[];
};

struct control {
	struct control_file *files;
	size_t               total;
};

struct control *control_new(void)
{
	return mem_new(sizeof(struct control));
}

void control_free(struct control *c)
{
	if (!c)
		return;
	while (c->files) {
		struct control_file *f = c->files;

		c->files = f->next;
		mem_free(f);
	}
	mem_free(c);
}

static struct control_file **slot_of(struct control *c, struct span name)
{
	struct control_file **f = &c->files;

	while (*f && !span_eq((*f)->name, name))
		f = &(*f)->next;
	return f;
}

static const struct control_file *find(const struct control *c, const char *name)
{
	for (const struct control_file *f = c->files; f; f = f->next)
		if (span_eq(f->name, span_str(name)))
			return f;
	return NULL;
}

bool control_set(struct control *c, struct span name, struct span bytes)
{
	struct control_file **slot = slot_of(c, name), *old = *slot, *f;
	size_t freed = old ? old->name.n + old->bytes.n : 0;

	if (name.n == 0 || name.n > NAME_MAX || bytes.n > CONTROL_FILE_MAX)
		return false;
	if (c->total - freed + name.n + bytes.n > CONTROL_TOTAL_MAX)
		return false;

	f = mem_new(sizeof *f + name.n + bytes.n);
	memcpy(f->storage, name.p, name.n);
	if (bytes.n > 0)
		memcpy(f->storage + name.n, bytes.p, bytes.n);
	f->name = span_of(f->storage, name.n);
	f->bytes = span_of(f->storage + name.n, bytes.n);
	f->next = old ? old->next : NULL;
	c->total += name.n + bytes.n - freed;
	*slot = f;
	mem_free(old);
	return true;
}

struct span control_raw(const struct control *c, const char *name, bool *ret_there)
{
	const struct control_file *f = find(c, name);

	if (ret_there)
		*ret_there = f != NULL;
	return f ? f->bytes : SPAN_NONE;
}

bool control_has(const struct control *c, const char *name)
{
	return find(c, name) != NULL;
}

/* Databases are mapped, not read; journald reads the dictionary; names with a dot or a tilde
 * around them are editors' leavings. */
static bool is_setting_name(struct span name)
{
	return name.n > 0 && name.p[0] != '.' && !span_ends(name, SPAN(".cdb")) &&
	       !span_ends(name, SPAN(".tmp")) && !span_ends(name, SPAN("~")) &&
	       !span_eq(name, SPAN("dictionary"));
}

static int load_file(struct control *c, int dir_fd, const char *name, struct buf *bytes)
{
	struct stat st;

	if (fstatat(dir_fd, name, &st, 0) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode) && !S_ISCHR(st.st_mode))
		return 0;                         /* a link to /dev/null is an empty file */
	buf_clear(bytes);
	if (S_ISREG(st.st_mode) && setting_find(span_str(name))) {
		int error = file_read(dir_fd, name, bytes);
		if (error)
			return error;
	}
	return control_set(c, span_str(name), buf_span(bytes)) ? 0 : -EFBIG;
}

static int load_all(struct control *c, DIR *d, struct buf *ret_bad)
{
	struct buf bytes;
	struct dirent *e;
	int error = 0;

	buf_init(&bytes, CONTROL_FILE_MAX);
	while (!error && (errno = 0, e = readdir(d))) {
		if (!is_setting_name(span_str(e->d_name)))
			continue;
		error = load_file(c, dirfd(d), e->d_name, &bytes);
		if (error && !buf_fmt(ret_bad, "%s", e->d_name))
			buf_clear(ret_bad);
	}
	if (!error && errno)
		error = -errno;
	buf_free(&bytes);
	return error;
}

int control_load(struct control *c, const char *dir, struct buf *ret_bad)
{
	DIR *d = opendir(dir);
	int error = -errno;

	buf_clear(ret_bad);
	if (d) {
		error = load_all(c, d, ret_bad);
		closedir(d);
	}
	if (error && ret_bad->n == 0 && !buf_fmt(ret_bad, "%s", dir))
		buf_clear(ret_bad);
	return error;
}

static bool pack_file(struct buf *b, const struct control_file *f)
{
	uint16_t name_n = (uint16_t)f->name.n;
	uint32_t bytes_n = (uint32_t)f->bytes.n;

	return buf_add(b, span_of(&name_n, sizeof name_n)) &&
	       buf_add(b, span_of(&bytes_n, sizeof bytes_n)) && buf_add(b, f->name) &&
	       buf_add(b, f->bytes);
}

bool control_pack(const struct control *c, struct buf *b)
{
	uint64_t all = 0;

	buf_clear(b);
	if (!buf_add(b, span_of(&all, sizeof all)))
		return false;
	for (const struct control_file *f = c->files; f; f = f->next)
		if (!pack_file(b, f))
			return false;
	all = b->n;
	memcpy(b->p, &all, sizeof all);
	return true;
}

static bool take_number(struct span *packed, void *number, size_t n)
{
	if (packed->n < n)
		return false;
	memcpy(number, span_cut(packed, n).p, n);
	return true;
}

bool control_unpack(struct control *c, struct span packed)
{
	uint64_t all, whole = packed.n;

	if (!take_number(&packed, &all, sizeof all) || all != whole)
		return false;
	while (packed.n > 0) {
		uint16_t name_n;
		uint32_t bytes_n;

		if (!take_number(&packed, &name_n, sizeof name_n) ||
		    !take_number(&packed, &bytes_n, sizeof bytes_n))
			return false;
		if (packed.n < name_n || packed.n - name_n < bytes_n)
			return false;
		struct span name = span_cut(&packed, name_n);
		if (!control_set(c, name, span_cut(&packed, bytes_n)))
			return false;
	}
	return true;
}

bool control_piece(struct span *packed, struct span *ret)
{
	*ret = span_cut(packed, CONTROL_PIECE);
	return ret->n > 0;
}

bool control_packed_is_whole(struct span so_far)
{
	uint64_t all, n = so_far.n;

	return take_number(&so_far, &all, sizeof all) && n >= all;
}

static struct span first_line(struct span bytes)
{
	return span_trim_end(span_until(bytes, span_find(bytes, '\n')), TRAILING);
}

struct span control_me(const struct control *c)
{
	return first_line(control_raw(c, "me", NULL));
}

struct span control_line(const struct control *c, const char *name, bool or_me,
			 const char *fallback)
{
	const struct control_file *f = find(c, name);

	if (!f && or_me)
		f = find(c, "me");
	return f ? first_line(f->bytes) : span_str(fallback);
}

uint64_t control_int(const struct control *c, const char *name, uint64_t fallback)
{
	struct span line = first_line(control_raw(c, name, NULL));
	uint64_t value = 0;
	size_t i = 0;

	for (; i < line.n && line.p[i] >= '0' && line.p[i] <= '9'; i++) {
		unsigned digit = (unsigned)(line.p[i] - '0');

		if (__builtin_mul_overflow(value, 10, &value) ||
		    __builtin_add_overflow(value, digit, &value))
			return UINT64_MAX;
	}
	return i > 0 ? value : fallback;
}

void control_list(const struct control *c, const char *name,
                  void (*each)(void *ctx, struct span entry, unsigned line), void *ctx)
{
	struct span rest = control_raw(c, name, NULL);

	for (unsigned line = 1; rest.n > 0; line++) {
		struct span entry = span_cut(&rest, span_find(rest, '\n'));

		span_cut(&rest, 1);
		entry = span_trim_end(entry, TRAILING);
		if (entry.n > 0 && entry.p[0] != '#')
			each(ctx, entry, line);
	}
}

void control_names(const struct control *c, void (*each)(void *ctx, struct span name),
		   void *ctx)
{
	for (const struct control_file *f = c->files; f; f = f->next)
		each(ctx, f->name);
}
