/* salvage_files - see the header. */
#include "tools/salvage_files.h"

#include "core/pool.h"
#include "tools/segment_scan.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILES_MAX (4u * SEGMENTS_NAMED_MAX)

static const char magic[8] = {'q', 'u', 'i', 'r', 'e', 's', 'e', 'g'};

/* ---- the files */

static bool parse_name(const char *name, bool *ret_bad, uint64_t *ret_number)
{
	char *end;

	*ret_bad = strncmp(name, "bad-", 4) == 0;
	if (!*ret_bad && strncmp(name, "seg-", 4) != 0)
		return false;
	if (strlen(name) != 20 || strspn(name + 4, "0123456789abcdef") != 16)
		return false;
	errno = 0;
	*ret_number = strtoull(name + 4, &end, 16);
	return errno == 0 && *ret_number > 0;
}

static struct salvage_file *add_file(struct salvage_files *s)
{
	if (s->n == s->cap) {
		uint32_t cap = s->cap ? 2 * s->cap : 64;

		s->v = mem_grow(s->v, s->cap * sizeof(*s->v), cap * sizeof(*s->v));
		s->cap = cap;
	}
	return &s->v[s->n++];
}

/* Only what checks itself: a journal is salvaged because something is wrong. */
static bool take_head(struct salvage_file *f, const char *block)
{
	struct segment_head h;
	struct block_tag    t;

	if (!block_ok(block, &t) || !(t.flags & BLOCK_HEAD) || t.seq)
		return false;
	memcpy(&h, block, sizeof(h));
	if (memcmp(h.magic, magic, sizeof(magic)) != 0 || h.version != JOURNAL_VERSION || h.number != f->number ||
	    t.incarnation != incarnation_of(h.uuid, h.number) || h.segment_size < SEGMENT_SIZE_MIN ||
	    h.segment_size > SEGMENT_SIZE_MAX || h.segment_size % BLOCK_SIZE || h.manifest_n >= SEGMENTS_NAMED_MAX)
		return false;
	f->head = h;
	f->has_head = true;
	f->incarnation = t.incarnation;
	return true;
}

static void look_at(int dir_fd, struct salvage_file *f)
{
	char   block[BLOCK_SIZE] __attribute__((aligned(8)));
	int    fd = openat(dir_fd, f->name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	off_t  last = (off_t)(f->size - f->size % BLOCK_SIZE) - BLOCK_SIZE;

	if (fd < 0)
		return;
	if (pread(fd, block, sizeof(block), 0) != BLOCK_SIZE || !take_head(f, block))
		f->from_copy = last > 0 && pread(fd, block, sizeof(block), last) == BLOCK_SIZE &&
			       take_head(f, block);
	close(fd);
}

static int by_number(const void *va, const void *vb)
{
	const struct salvage_file *a = va, *b = vb;

	if (a->number != b->number)
		return a->number < b->number ? -1 : 1;
	return a->is_bad - b->is_bad;
}

static int list(struct salvage_files *s, int dir_fd)
{
	int            fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR           *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;
	struct stat    st;
	uint64_t       number;
	bool           is_bad;

	if (!d)
		return -errno;
	while ((errno = 0, e = readdir(d))) {
		struct salvage_file *f;

		if (!parse_name(e->d_name, &is_bad, &number) || s->n == FILES_MAX ||
		    fstatat(dir_fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode))
			continue;
		f = add_file(s);
		*f = (struct salvage_file){.number = number, .size = (uint64_t)st.st_size, .is_bad = is_bad};
		memcpy(f->name, e->d_name, strlen(e->d_name) + 1);
		look_at(dir_fd, f);
	}
	closedir(d);
	if (s->n)
		qsort(s->v, s->n, sizeof(*s->v), by_number);
	return 0;
}

/* ---- whose journal */

static uint32_t count_heads(const struct salvage_files *s, const uint8_t *uuid)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < s->n; i++)
		n += s->v[i].has_head && memcmp(s->v[i].head.uuid, uuid, 16) == 0;
	return n;
}

static void choose_uuid(struct salvage_files *s, const uint8_t *uuid)
{
	uint32_t best = 0, n;

	s->has_uuid = uuid != NULL;
	if (uuid)
		memcpy(s->uuid, uuid, sizeof(s->uuid));
	for (uint32_t i = 0; i < s->n && !uuid; i++) {
		if (!s->v[i].has_head || (n = count_heads(s, s->v[i].head.uuid)) <= best)
			continue;
		best = n;
		s->has_uuid = true;
		memcpy(s->uuid, s->v[i].head.uuid, sizeof(s->uuid));
	}
}

/* Of a file without head the size counts, where no head says it. */
static void judge_heads(struct salvage_files *s)
{
	uint64_t largest = 0;

	s->newest = -1;
	for (uint32_t i = 0; i < s->n; i++) {
		struct salvage_file *f = &s->v[i];

		f->foreign = s->has_uuid && f->has_head && memcmp(f->head.uuid, s->uuid, 16) != 0;
		if (s->has_uuid)
			f->incarnation = incarnation_of(s->uuid, f->number);
		if (f->size > largest)
			largest = f->size;
		if (!f->has_head || f->foreign)
			continue;
		s->segment_size = f->head.segment_size;
		s->shard = f->head.shard;
		if (f->head.epoch > s->epoch)
			s->epoch = f->head.epoch;
		if (f->number < COLD_FIRST && !f->is_bad)
			s->newest = i;
	}
	if (!s->segment_size)
		s->segment_size = largest - largest % BLOCK_SIZE;
}

/* ---- what the newest head names */

struct manifest { struct manifest_entry *v; uint32_t n, want; };

static void take_rest(void *ctx, const struct record *r)
{
	struct manifest *m = ctx;
	uint32_t         n = r->head.n / sizeof(*m->v);

	if (r->head.type != REC_MANIFEST || m->n != MANIFEST_IN_HEAD || m->n + n != m->want)
		return;
	memcpy(m->v + m->n, r->body.p, n * sizeof(*m->v));
	m->n = m->want;
}

static void ignore_gap(void *ctx, const struct scan_gap *g)
{
}

static void read_manifest(int dir_fd, const struct salvage_files *s, struct manifest *m)
{
	static const struct scan_calls calls = {take_rest, ignore_gap, NULL};
	const struct salvage_file     *f = &s->v[s->newest];
	struct segment_scan            scan = {.number = f->number, .segment_size = s->segment_size,
					       .incarnation = f->incarnation, .calls = &calls, .ctx = m};
	char                           block[BLOCK_SIZE] __attribute__((aligned(8)));
	uint32_t                       in_head;

	m->want = f->head.manifest_n;
	in_head = m->want < MANIFEST_IN_HEAD ? m->want : MANIFEST_IN_HEAD;
	m->v = mem_new((m->want + 1) * sizeof(*m->v));
	m->n = 0;
	scan.fd = openat(dir_fd, f->name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (scan.fd < 0)
		return;
	if (pread(scan.fd, block, sizeof(block), f->from_copy ? (off_t)(f->size - BLOCK_SIZE) : 0) == BLOCK_SIZE) {
		memcpy(m->v, block + sizeof(f->head), in_head * sizeof(*m->v));
		m->n = in_head;
	}
	/* The rest is in the first batch; it is small against reading the segment twice. */
	scan.end = (1 + BATCH_BLOCKS_MAX) * BLOCK_SIZE < s->segment_size ? (1 + BATCH_BLOCKS_MAX) * BLOCK_SIZE : 0;
	if (m->n == MANIFEST_IN_HEAD && m->n < m->want)
		segment_scan(&scan);
	close(scan.fd);
}

static const struct manifest_entry *entry_of(const struct manifest *m, uint64_t number)
{
	for (uint32_t i = 0; i < m->n; i++)
		if (m->v[i].number == number)
			return &m->v[i];
	return NULL;
}

static bool has_file(const struct salvage_files *s, uint64_t number, bool is_bad)
{
	for (uint32_t i = 0; i < s->n; i++)
		if (s->v[i].number == number && s->v[i].is_bad == is_bad)
			return true;
	return false;
}

static void ignore_record(void *ctx, const struct record *r)
{
}

/* Does it hold batches that were written behind a durable head? */
static bool was_used(int dir_fd, const struct salvage_files *s, const struct salvage_file *f)
{
	static const struct scan_calls calls = {ignore_record, ignore_gap, NULL};
	struct segment_scan            scan = {.number = f->number, .segment_size = s->segment_size,
					       .incarnation = f->incarnation, .calls = &calls};

	scan.fd = openat(dir_fd, f->name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (scan.fd < 0)
		return false;
	segment_scan(&scan);
	close(scan.fd);
	return scan.blocks > 0;
}

static void find_later(int dir_fd, struct salvage_files *s)
{
	for (uint32_t i = (uint32_t)s->newest + 1; i < s->n; i++) {
		struct salvage_file *f = &s->v[i];

		f->use = USE_OVER;
		if (f->number >= COLD_FIRST || f->is_bad || f->foreign || !was_used(dir_fd, s, f))
			continue;
		f->use = USE_READ;
		s->newest_lost = true;
	}
}

static void judge(const struct salvage_files *s, const struct manifest *m, struct salvage_file *f)
{
	const struct manifest_entry *e = entry_of(m, f->number);
	uint64_t                     newest = s->v[s->newest].number;

	if (f->foreign)
		f->use = USE_FOREIGN;
	else if (f->number == newest && !f->is_bad)
		f->use = USE_READ;
	else if (e)
		f->use = e->state == SEGMENT_QUEUE && (!f->is_bad || !has_file(s, f->number, false))
				 ? USE_READ
				 : USE_OVER;
	else if (f->number >= COLD_FIRST)
		f->use = s->newest_lost && !f->is_bad ? USE_READ : USE_OVER;
	else if (f->number < newest)
		f->use = s->manifest_cut && !f->is_bad ? USE_READ : USE_OVER;
	if (e && f->use == USE_READ && e->end > e->number * s->segment_size)
		f->end = e->end - e->number * s->segment_size;
	if (f->end > s->segment_size)
		f->end = 0;
}

static void add_missing(struct salvage_files *s, const struct manifest *m)
{
	for (uint32_t i = 0; i < m->n; i++) {
		struct salvage_file *f;

		if (m->v[i].state != SEGMENT_QUEUE || has_file(s, m->v[i].number, false) ||
		    has_file(s, m->v[i].number, true))
			continue;
		f = add_file(s);
		*f = (struct salvage_file){.number = m->v[i].number, .use = USE_MISSING};
		snprintf(f->name, sizeof(f->name), "seg-%016" PRIx64, f->number);
	}
}

int salvage_files_find(struct salvage_files *s, int dir_fd, const uint8_t *uuid)
{
	struct manifest m = {0};
	uint32_t        files;
	int             e;

	*s = (struct salvage_files){0};
	e = list(s, dir_fd);
	if (e)
		return e;
	choose_uuid(s, uuid);
	judge_heads(s);
	if (s->newest < 0) {
		for (uint32_t i = 0; i < s->n; i++)
			s->v[i].use = s->v[i].foreign ? USE_FOREIGN : USE_READ;
		return 0;
	}
	read_manifest(dir_fd, s, &m);
	s->manifest_cut = m.n < m.want;
	find_later(dir_fd, s);
	files = s->n;
	add_missing(s, &m);
	for (uint32_t i = 0; i < files; i++)
		judge(s, &m, &s->v[i]);
	mem_free(m.v);
	return 0;
}

void salvage_files_fini(struct salvage_files *s)
{
	mem_free(s->v);
	*s = (struct salvage_files){0};
}
