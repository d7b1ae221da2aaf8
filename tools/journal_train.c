/* quire journal train - a dictionary from one's own mail, for control/dictionary.
 *
 * Four fifths of the mail are learnt from, the last fifth (every fifth message) is packed with
 * what came out, with the built-in dictionary and with none: only that says what it is worth.
 * A dictionary holds pieces of mail, so its file is readable by its owner only. */
#include "tools/quire_journal.h"

#include "core/file.h"
#include "core/pool.h"
#include "journal/dict.h"
#include "journal/zip.h"
#include "tools/quire.h"

#define ZDICT_STATIC_LINKING_ONLY /* the trainer that tries several settings */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zdict.h>

#define SIZE_DEFAULT (64 * 1024)
#define SAMPLE_MAX   (32 * 1024) /* of one mail: what repeats stands at its beginning */
#define SAMPLES_MAX  20000
#define BYTES_MAX    (64u * 1024 * 1024) /* more changes nothing but the time */
#define MAIL_MAX     (64u * 1024 * 1024)
#define MBOX_MAX     (1024u * 1024 * 1024)
#define HELD_OUT     5           /* every fifth mail is measured, not learnt from */
#define MAILS_MIN    100         /* fewer say nothing about what comes */
#define PLAIN_LEVEL  1
#define INSTALL_GAIN 0.99        /* of the built-in one's bytes; else it is not worth it */

static const char help[] =
	"usage: quire journal train [--home DIR | --dir JOURNAL] [--from MAILDIR|MBOX] [--size BYTES]\n"
	"         [-o FILE] [--install] [--json]\n"
	"Makes a dictionary for packing mail from the messages of the journal, or of a maildir, a\n"
	"directory of mails or an mbox, and says what it gains on mail that it was not made from.\n"
	"-o: writes it there.  --install: writes control/dictionary of the home, if it gains something;\n"
	"it is used from the next start of quire on.  The file holds pieces of mail.";

struct samples {
	struct buf bytes;
	size_t *sizes;
	unsigned n;
};
struct train {
	struct journal_tool tool;
	const char *from, *out;
	uint64_t size;
	bool install;
	struct samples learn, test;
	unsigned mails;
};

/* ---- mail to learn from ---- */

static bool is_enough(const struct train *t)
{
	return t->mails == SAMPLES_MAX || t->learn.bytes.n + t->test.bytes.n >= BYTES_MAX;
}

static void take_mail(struct train *t, struct span mail)
{
	struct samples *s = t->mails % HELD_OUT == HELD_OUT - 1 ? &t->test : &t->learn;

	mail = span_until(mail, SAMPLE_MAX);
	if (mail.n == 0 || is_enough(t) || !buf_add(&s->bytes, mail))
		return;
	s->sizes[s->n++] = mail.n;
	t->mails++;
}

static bool gather(void *ctx, struct span bytes)
{
	struct buf *b = ctx;

	return buf_add(b, span_until(bytes, SAMPLE_MAX - b->n)) && b->n < SAMPLE_MAX;
}

/* Evenly over the whole journal, whatever its length. */
static int from_journal(struct train *t)
{
	int code = journal_tool_open(&t->tool, false, true);
	struct mail_index *x;
	struct progress p;
	struct buf mail;
	uint64_t damage, bad;
	size_t step, n;

	if (code)
		return code;
	x = mail_index_new(&t->tool, &damage);
	if (!x)
		return EXIT_TRY_AGAIN;
	buf_init(&mail, SAMPLE_MAX);
	n = mail_index_n(x);
	step = n / SAMPLES_MAX + 1;
	progress_begin(&p, &t->tool, "read", n);
	p.unit = "messages";
	for (size_t i = 0; i < n && !is_enough(t); i += step) {
		buf_clear(&mail);
		(void)mail_index_body(x, i, gather, &mail, &bad); /* what is readable will do */
		take_mail(t, buf_span(&mail));
		progress_at(&p, i);
	}
	progress_end(&p);
	buf_free(&mail);
	mail_index_free(x);
	return 0;
}

static int from_directory(struct train *t, const char *path)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct buf mail;

	if (!d)
		return quire_say(EXIT_TRY_AGAIN, t->tool.verb, "%s: %s", path, strerror(errno));
	buf_init(&mail, MAIL_MAX);
	for (struct dirent *e; !is_enough(t) && (e = readdir(d));) {
		struct stat st;

		if (e->d_name[0] == '.' || fstatat(fd, e->d_name, &st, 0) < 0 ||
		    !S_ISREG(st.st_mode))
			continue;
		buf_clear(&mail);
		if (file_read(fd, e->d_name, &mail) == 0) /* gone, or too large: not needed */
			take_mail(t, buf_span(&mail));
	}
	closedir(d);
	buf_free(&mail);
	return 0;
}

static int from_maildir(struct train *t)
{
	static const char *const below[] = {"cur", "new"};
	bool is_maildir = false;
	char path[4096];
	int code = 0;

	for (unsigned i = 0; i < ARRAY_N(below) && !code; i++) {
		struct stat st;

		snprintf(path, sizeof path, "%s/%s", t->from, below[i]);
		if (stat(path, &st) < 0 || !S_ISDIR(st.st_mode))
			continue;
		is_maildir = true;
		code = from_directory(t, path);
	}
	return is_maildir ? code : from_directory(t, t->from);
}

/* Where the next message begins in s: behind an empty line, at "From "; or the end. */
static size_t next_mail(struct span s)
{
	for (size_t i = 0; i + 7 <= s.n; i++)
		if (memcmp(s.p + i, "\n\nFrom ", 7) == 0)
			return i + 2;
	return s.n;
}

static int from_mbox(struct train *t)
{
	struct buf b;
	struct span rest;
	int e;

	buf_init(&b, MBOX_MAX);
	e = file_read(AT_FDCWD, t->from, &b);
	if (e)
		return quire_say(EXIT_TRY_AGAIN, t->tool.verb, "%s: %s", t->from, strerror(-e));
	for (rest = buf_span(&b); rest.n > 0;) {
		struct span mail = span_cut(&rest, next_mail(rest));
		size_t line = span_find(mail, '\n');

		if (span_starts(mail, SPAN("From ")) && line != SPAN_NPOS)
			(void)span_cut(&mail, line + 1); /* the mbox' own line */
		take_mail(t, mail);
	}
	buf_free(&b);
	return 0;
}

static int read_mail(struct train *t)
{
	struct stat st;

	if (!t->from)
		return from_journal(t);
	if (stat(t->from, &st) < 0)
		return quire_say(EXIT_WRONG, t->tool.verb, "%s: %s", t->from, strerror(errno));
	return S_ISDIR(st.st_mode) ? from_maildir(t) : from_mbox(t);
}

/* ---- the dictionary, and what it is worth ---- */

static int learn(struct train *t, char *to, struct dict *ret)
{
	ZDICT_fastCover_params_t p = {
		.d = 8, .steps = 8, .zParams = {.compressionLevel = PLAIN_LEVEL}};
	size_t n = ZDICT_optimizeTrainFromBuffer_fastCover(to, t->size, t->learn.bytes.p,
							   t->learn.sizes, t->learn.n, &p);

	if (ZDICT_isError(n))
		return quire_say(EXIT_WRONG, t->tool.verb,
				 "this mail makes no dictionary of %" PRIu64 " bytes: %s", t->size,
				 ZDICT_getErrorName(n));
	*ret = dict_of(span_of(to, n));
	return ret->number ? 0
			   : quire_say(EXIT_TRY_AGAIN, t->tool.verb, "zstd refuses what it made");
}

static uint64_t packed_bytes(const struct samples *s, struct dict d)
{
	struct zip *z = zip_new(PLAIN_LEVEL);
	char *frame = mem_new(ZIP_BOUND);
	struct span rest = buf_span(&s->bytes);
	struct msg_part part;
	uint64_t n = 0;

	zip_add_dict(z, d.number, d.bytes, true);
	for (unsigned i = 0; i < s->n; i++)
		n += zip_pack(z, span_cut(&rest, s->sizes[i]), frame, &part).n;
	zip_free(z);
	mem_free(frame);
	return n;
}

static double ratio(const struct train *t, uint64_t packed)
{
	return (double)t->test.bytes.n / (double)packed;
}

/* Only at the end of everything: a dictionary that was begun is never used. */
static int write_out(struct train *t, struct dict d, bool pays)
{
	const char *home = quire_home(t->tool.home);
	const char *name = t->out;
	char path[4096];
	int fd, e;

	if (t->install && !pays)
		return quire_say(EXIT_WRONG, t->tool.verb,
				 "not installed: it gains nothing over the built-in one");
	if (t->install) {
		snprintf(path, sizeof path, "%s/control", home);
		fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (fd < 0)
			return quire_say(EXIT_TRY_AGAIN, t->tool.verb, "%s: %s", path,
					 strerror(errno));
		e = file_write_atomic(fd, "dictionary", d.bytes, 0600);
		close(fd);
		if (e)
			return quire_say(EXIT_TRY_AGAIN, t->tool.verb, "%s/dictionary: %s", path,
					 strerror(-e));
	}
	e = name ? file_write_atomic(AT_FDCWD, name, d.bytes, 0600) : 0;
	if (e)
		return quire_say(EXIT_TRY_AGAIN, t->tool.verb, "%s: %s", name, strerror(-e));
	return 0;
}

static void report(const struct train *t, struct dict d, double none, double built_in,
		   double trained)
{
	if (t->tool.json) {
		printf("{\"mails\":%u,\"learnt_bytes\":%zu,\"test_mails\":%u,\"test_bytes\":%zu,"
		       "\"number\":%u,\"size\":%zu,\"ratio_none\":%.3f,\"ratio_built_in\":%.3f,"
		       "\"ratio_trained\":%.3f,\"installed\":%s}\n",
		       t->mails, t->learn.bytes.n, t->test.n, t->test.bytes.n, d.number,
		       d.bytes.n, none, built_in, trained, t->install ? "true" : "false");
		return;
	}
	printf("learnt from %u mails, %.1f MB; measured on %u others, %.1f MB\n", t->learn.n,
	       (double)t->learn.bytes.n / 1e6, t->test.n, (double)t->test.bytes.n / 1e6);
	printf("mail is packed to 1/%.2f without a dictionary, 1/%.2f with the built-in one, "
	       "1/%.2f with this one (%zu bytes)\n",
	       none, built_in, trained, d.bytes.n);
	if (t->install)
		puts("control/dictionary is written; quire uses it from its next start on");
}

static int train(struct train *t)
{
	uint64_t none, built_in, trained;
	struct dict d;
	char *room;
	int code;

	if (t->learn.n < MAILS_MIN)
		return quire_say(EXIT_WRONG, t->tool.verb,
				 "%u mails are too few to learn from: %d are needed", t->mails,
				 MAILS_MIN + MAILS_MIN / (HELD_OUT - 1));
	room = mem_new(t->size);
	code = learn(t, room, &d);
	if (!code) {
		none = packed_bytes(&t->test, (struct dict){0});
		built_in = packed_bytes(&t->test, dict_built_in());
		trained = packed_bytes(&t->test, d);
		code = write_out(t, d, (double)trained < INSTALL_GAIN * (double)built_in);
		if (!code)
			report(t, d, ratio(t, none), ratio(t, built_in), ratio(t, trained));
	}
	mem_free(room);
	return code;
}

static void samples_init(struct samples *s)
{
	buf_init(&s->bytes, BYTES_MAX + SAMPLE_MAX);
	s->sizes = mem_new(SAMPLES_MAX * sizeof *s->sizes);
}

static void samples_fini(struct samples *s)
{
	buf_free(&s->bytes);
	mem_free(s->sizes);
}

static int take_options(struct train *t, int argc, char **argv)
{
	static const struct option options[] = {JOURNAL_TOOL_OPTIONS,
						{"from", required_argument, NULL, 'f'},
						{"size", required_argument, NULL, 's'},
						{"install", no_argument, NULL, 'I'},
						{0}};
	int c;

	while ((c = getopt_long(argc, argv, "o:", options, NULL)) != -1)
		switch (c) {
		case 'h': exit(puts(help) < 0);
		case 'f': t->from = optarg; break;
		case 'o': t->out = optarg; break;
		case 'I': t->install = true; break;
		case 's':
			if (!span_u64(span_str(optarg), DICT_MAX, &t->size) || t->size < 1024)
				return quire_say(EXIT_WRONG, t->tool.verb,
						 "--size: 1024 to %d bytes", DICT_MAX);
			break;
		default:
			if (!journal_tool_option(&t->tool, c, optarg))
				return EXIT_WRONG;
		}
	if (optind != argc)
		return quire_say(EXIT_WRONG, t->tool.verb, "what is %s?", argv[optind]);
	return 0;
}

int journal_train(int argc, char **argv)
{
	struct train t = {.tool = {.verb = argv[0]}, .size = SIZE_DEFAULT};
	int code = take_options(&t, argc, argv);

	if (code)
		return code;
	samples_init(&t.learn);
	samples_init(&t.test);
	code = read_mail(&t);
	if (!code)
		code = train(&t);
	if (!t.from)
		journal_tool_close(&t.tool);
	samples_fini(&t.learn);
	samples_fini(&t.test);
	return code;
}
