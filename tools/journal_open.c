/* Opening a journal beside whoever has it, or without anybody; the line that says how far it is.
 *
 * Beside a running journald the limit of what may be read is its durable position; sched knows it
 * (run/control, "status").  Each segment file that is open is locked shared by the reader, so
 * it is not used again while a tool reads it.  Without sched's word (it starts just now, or the
 * directory was given by itself) the journal is read to where a recovery would find its end, and
 * a line says so: nothing wrong comes out, the newest mail may be missing. */
#include "tools/quire_journal.h"

#include "core/clock.h"
#include "core/pool.h"
#include "journal/segments.h"
#include "tools/quire.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define WHY_MAX        1024
#define STATUS_TRIES   20                         /* sched may be starting: 2 s */
#define STATUS_WAIT_US 100000
#define SHARDS_MAX     (1u << ID_SHARD_BITS)

bool journal_tool_option(struct journal_tool *t, int opt, const char *arg)
{
	uint64_t shard;

	switch (opt) {
	case 'H': t->home = arg; return true;
	case 'D': t->dir = arg; return true;
	case 'J': t->json = true; return true;
	case 'Q': t->quiet = true; return true;
	case 'S':
		if (!span_u64(span_str(arg), SHARDS_MAX - 1, &shard)) {
			quire_say(EXIT_WRONG, t->verb, "--shard %s: 0 to %u", arg, SHARDS_MAX - 1);
			return false;
		}
		t->shard = (uint32_t)shard;
		return true;
	default: return false;
	}
}

/* ---- the directory ---- */

static int open_dir(struct journal_tool *t)
{
	int n;

	if (t->dir)
		n = snprintf(t->path, sizeof t->path, "%s", t->dir);
	else
		n = snprintf(t->path, sizeof t->path, "%s/journal/%u", quire_home(t->home), t->shard);
	if (n >= (int)sizeof t->path)
		return quire_say(EXIT_WRONG, t->verb, "the directory's name is too long");
	t->dir_fd = open(t->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (t->dir_fd < 0)
		return quire_say(errno == ENOENT || errno == ENOTDIR ? EXIT_WRONG : EXIT_TRY_AGAIN,
				 t->verb, "%s: %s", t->path, strerror(errno));
	t->disk = disk_real_new(NULL, t->dir_fd); /* keeps dir_fd, closes it */
	return 0;
}

struct look {
	struct journal_tool *t;
	uint64_t number, size;                    /* of the newest head so far */
	bool found, newer;
	uint32_t files;
};

static bool better(const struct look *l, uint64_t number)
{
	bool cold = number >= COLD_FIRST, cold_now = l->number >= COLD_FIRST;

	if (!l->found)
		return true;
	return cold == cold_now ? number > l->number : cold_now;
}

/* The head, or its copy in the last block. */
static void look_at(void *ctx, const char *name, uint64_t size)
{
	char block[BLOCK_SIZE] __attribute__((aligned(8)));
	struct look *l = ctx;
	struct segment_head h;
	enum segment_file kind;
	enum head_kind got = HEAD_NONE;
	uint64_t number;
	int fd;

	if (!segment_name_parse(name, &kind, &number) || kind != FILE_SEGMENT)
		return;
	l->files++;
	if (!better(l, number))
		return;
	fd = openat(l->t->dir_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return;
	if (pread(fd, block, sizeof block, 0) == (ssize_t)sizeof block)
		got = segment_head_get(block, number, &h);
	if (got == HEAD_NONE && size >= SEGMENT_SIZE_MIN &&
	    pread(fd, block, sizeof block, (off_t)(size - BLOCK_SIZE)) == (ssize_t)sizeof block)
		got = segment_copy_get(block, number, &h);
	close(fd);
	l->newer |= got == HEAD_NEWER;
	if (got != HEAD_OK)
		return;
	l->found = true;
	l->number = number;
	l->t->segment_size = h.segment_size;
	memcpy(l->t->uuid, h.uuid, sizeof h.uuid);
	if (l->t->dir)
		l->t->shard = h.shard;
}

static int look(struct journal_tool *t)
{
	struct look l = {.t = t};
	int e = t->disk->calls->list(t->disk, look_at, &l);

	if (e)
		return quire_say(EXIT_TRY_AGAIN, t->verb, "%s: %s", t->path, strerror(-e));
	if (l.found)
		return 0;
	if (l.newer)
		return quire_say(EXIT_WRONG, t->verb, "%s: written by a newer version of quire", t->path);
	if (l.files)
		return quire_say(EXIT_DAMAGE, t->verb,
				 "%s: no segment has a valid head; quire journal salvage may help", t->path);
	return quire_say(EXIT_WRONG, t->verb, "%s: there is no journal yet", t->path);
}

int journal_tool_look(struct journal_tool *t)
{
	int code = open_dir(t);

	return code ? code : look(t);
}

/* ---- who has it ---- */

/* journald holds an exclusive lock for as long as it lives; a shared one is given back at once. */
static bool is_running(struct journal_tool *t)
{
	int fd = openat(t->dir_fd, "lock", O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	bool taken = fd >= 0 && flock(fd, LOCK_SH | LOCK_NB) < 0 && errno == EWOULDBLOCK;

	if (fd >= 0)
		close(fd);
	return taken;
}

/* The home that this journal belongs to, should it lie in one. */
static bool home_of(const struct journal_tool *t, char *dst, size_t cap)
{
	if (!t->dir)
		return snprintf(dst, cap, "%s", quire_home(t->home)) < (int)cap;
	return snprintf(dst, cap, "%s/../..", t->dir) < (int)cap;
}

static uint64_t ask_durable(const char *home)
{
	uint64_t durable = 0;
	json_t *o = NULL;
	int fd = quire_dial(home);
	FILE *f = fd < 0 ? NULL : fdopen(fd, "r");

	if (f && write(fd, "status\n", 7) == 7)
		o = json_loadf(f, 0, NULL);
	durable = (uint64_t)json_integer_value(
		json_object_get(json_object_get(o, "ring"), "durable"));
	json_decref(o);
	if (f)
		fclose(f);
	else if (fd >= 0)
		close(fd);
	return durable;
}

static void find_durable(struct journal_tool *t)
{
	char home[sizeof t->path + 8];

	for (int i = 0; i < STATUS_TRIES && home_of(t, home, sizeof home); i++) {
		t->durable = ask_durable(home);
		if (t->durable || t->dir)
			break;
		usleep(STATUS_WAIT_US);
	}
	if (!t->durable)
		quire_say(0, t->verb,
			  "a journald runs on %s and can't be asked how far it is: read as if it were "
			  "stopped, the newest mail may be missing",
			  t->path);
}

/* The verb wants it for itself.  A lock file that we made belongs to whom the directory belongs to:
 * journald must be able to open it. */
static int take_lock(struct journal_tool *t)
{
	struct stat st;
	int e = t->disk->calls->lock(t->disk);

	if (e == -EWOULDBLOCK)
		return quire_say(EXIT_TRY_AGAIN, t->verb,
				 "%s: a journald or another tool has it; this needs a stopped journal", t->path);
	if (e)
		return quire_say(EXIT_TRY_AGAIN, t->verb, "%s/lock: %s", t->path, strerror(-e));
	if (fstat(t->dir_fd, &st) == 0 && geteuid() == 0 &&
	    fchownat(t->dir_fd, "lock", st.st_uid, st.st_gid, AT_SYMLINK_NOFOLLOW) < 0)
		return quire_say(EXIT_TRY_AGAIN, t->verb, "%s/lock: %s", t->path, strerror(errno));
	return 0;
}

/* ---- all together ---- */

struct reader *journal_tool_reader(struct journal_tool *t, bool history)
{
	struct reader *r = reader_new(t->disk, NULL, t->segment_size, t->shard);
	struct buf why;
	int e;

	buf_init(&why, WHY_MAX);
	if (history)
		reader_with_history(r);
	reader_for_tool(r, t->durable);
	e = reader_open(r, &why);
	if (e) {
		quire_say(0, t->verb, "%s: %.*s", t->path, SPAN_ARG(buf_span(&why)));
		reader_free(r);
		r = NULL;
	}
	buf_free(&why);
	return r;
}

int journal_tool_beside(struct journal_tool *t)
{
	int code = journal_tool_look(t);

	if (code)
		return code;
	t->running = is_running(t);
	if (t->running)
		find_durable(t);
	return 0;
}

static int look_locked(struct journal_tool *t)
{
	int code = open_dir(t);

	if (!code)
		code = take_lock(t);
	return code ? code : look(t);
}

int journal_tool_open(struct journal_tool *t, bool stopped, bool history)
{
	int code = stopped ? look_locked(t) : journal_tool_beside(t);

	if (code)
		return code;
	t->reader = journal_tool_reader(t, history);
	return t->reader ? 0 : EXIT_DAMAGE;
}

void journal_tool_close(struct journal_tool *t)
{
	reader_free(t->reader);
	disk_real_free(t->disk);
	t->reader = NULL;
	t->disk = NULL;
}

uint64_t journal_tool_bytes(const struct journal_tool *t, bool history)
{
	uint32_t n;
	const struct manifest_entry *v = reader_manifest(t->reader, &n);
	uint64_t sum = 0;

	for (uint32_t i = 0; i < n; i++) {
		uint64_t end = v[i].end ? v[i].end : t->durable;

		if (end / t->segment_size != v[i].number && end % t->segment_size)
			end = (v[i].number + 1) * t->segment_size;
		if (v[i].state == SEGMENT_QUEUE || history)
			sum += end - v[i].number * t->segment_size;
	}
	return sum;
}

/* ---- progress ---- */

#define REDRAW_MS 100

static uint64_t now_ms(void)
{
	clock_refresh();
	return clock_mono_ms();
}

void progress_begin(struct progress *p, const struct journal_tool *t, const char *what,
		    uint64_t total)
{
	*p = (struct progress){.what = what, .total = total};
	p->on = !t->quiet && isatty(STDERR_FILENO);
	p->begun_ms = now_ms();
	p->shown_ms = p->begun_ms;
}

static void amount(const char *unit, double n, char dst[32])
{
	static const char *const steps[] = {"B", "KiB", "MiB", "GiB", "TiB"};
	size_t i = 0;

	if (unit) {
		snprintf(dst, 32, "%.0f %s", n, unit);
		return;
	}
	for (; n >= 1024 && i + 1 < ARRAY_N(steps); i++)
		n /= 1024;
	snprintf(dst, 32, "%.*f %s", i ? 1 : 0, n, steps[i]);
}

static void draw_left(double seconds)
{
	unsigned long s = (unsigned long)(seconds + 0.5);

	if (s >= 3600)
		fprintf(stderr, ", %lu h %lu min left", s / 3600, s / 60 % 60);
	else if (s >= 60)
		fprintf(stderr, ", %lu min %lu s left", s / 60, s % 60);
	else
		fprintf(stderr, ", %lu s left", s);
}

static void draw(const struct progress *p, uint64_t now)
{
	double seconds = (double)(now - p->begun_ms) / 1000;
	double rate = seconds > 0 ? (double)p->done / seconds : 0;
	char done[32], per_second[32];

	amount(p->unit, (double)p->done, done);
	amount(p->unit, rate, per_second);
	fprintf(stderr, "\r%s: ", p->what);
	if (p->total) {
		uint64_t part = p->done < p->total ? p->done : p->total;
		int bars = (int)(20.0 * (double)part / (double)p->total);

		fprintf(stderr, "[%.*s%.*s] %3d %%, ", bars, "####################", 20 - bars,
			"....................", (int)(100.0 * (double)part / (double)p->total));
	}
	fprintf(stderr, "%s, %s/s", done, per_second);
	if (p->total > p->done && rate > 0)
		draw_left((double)(p->total - p->done) / rate);
	fputs("\033[K", stderr);
}

/* The clock is asked once in a while only: this is called for each record. */
void progress_at(struct progress *p, uint64_t done)
{
	uint64_t step = p->unit ? 64 : 65536, now;
	bool ask = done / step != p->done / step;

	p->done = done;
	if (!p->on || !ask)
		return;
	now = now_ms();
	if (now - p->shown_ms < REDRAW_MS)
		return;
	p->shown_ms = now;
	draw(p, now);
}

void progress_end(struct progress *p)
{
	if (!p->on || p->shown_ms == p->begun_ms)
		return;
	draw(p, now_ms());
	fputc('\n', stderr);
	p->on = false;
}
