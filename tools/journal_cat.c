/* quire journal cat ID - one message, byte for byte as it was submitted. */
#include "tools/quire_journal.h"

#include "core/check.h"
#include "tools/quire.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <string.h>

static const char help[] =
	"usage: quire journal cat [--home DIR | --dir JOURNAL] [--json] ID\n"
	"Writes the message with this id (quire queue, quire journal ls and the log say it) to standard\n"
	"output, exactly as it was submitted.  It may be queued, or done and still in the journal.\n"
	"--json: one object with the envelope, and the message in base64.  99: part of it is damaged;\n"
	"what is in front of the damage was written.";

static bool put(void *ctx, struct span bytes)
{
	return fwrite(bytes.p, 1, bytes.n, ctx) == bytes.n;
}

/* Base64 goes in steps of three bytes; parts do not. */
struct base64 { char held[3]; size_t n; };

static bool put_base64(void *ctx, struct span bytes)
{
	struct base64 *b = ctx;

	while (b->n && b->n < 3 && bytes.n)
		b->held[b->n++] = *span_cut(&bytes, 1).p;
	if (b->n == 3) {
		print_base64(stdout, span_of(b->held, 3));
		b->n = 0;
	}
	print_base64(stdout, span_until(bytes, bytes.n / 3 * 3));
	bytes = span_from(bytes, bytes.n / 3 * 3);
	if (bytes.n)
		memcpy(b->held, bytes.p, bytes.n);
	b->n += bytes.n;
	return !ferror(stdout);
}

struct rcpts { uint32_t n; };

static void put_rcpt(void *ctx, uint32_t number, struct span addr, unsigned flags, enum rcpt_state s)
{
	struct rcpts *r = ctx;

	fputs(r->n++ ? "," : "", stdout);
	print_json(stdout, addr);
}

static bool cat_json(struct mail_index *x, size_t i, const struct mail_record *m, uint64_t *ret_bad)
{
	struct base64 b = {.n = 0};
	struct rcpts r = {0};
	bool whole;

	printf("{\"id\":\"%" PRIu64 "\",\"arrival_us\":%" PRIu64 ",\"size\":%" PRIu64 ",\"sender\":",
	       m->id, m->arrival_us, m->size);
	print_json(stdout, m->sender);
	fputs(",\"recipients\":[", stdout);
	whole = mail_index_rcpts(x, i, put_rcpt, &r);
	fputs("],\"body\":\"", stdout);
	if (!whole)
		*ret_bad = m->pos;
	whole = mail_index_body(x, i, put_base64, &b, ret_bad) && whole;
	print_base64(stdout, span_of(b.held, b.n));
	printf("\",\"whole\":%s}\n", whole ? "true" : "false");
	return whole;
}

static int cat(struct journal_tool *t, struct mail_index *x, uint64_t id)
{
	struct mail_record m;
	uint64_t bad = 0;
	size_t i;
	bool whole;

	if (!mail_index_find(x, id, &i))
		return quire_say(EXIT_WRONG, t->verb, "%" PRIu64 ": no such message in this journal", id);
	if (!mail_index_at(x, i, &m))
		return quire_say(EXIT_DAMAGE, t->verb, "%" PRIu64 ": it can't be read any more", id);
	whole = t->json ? cat_json(x, i, &m, &bad) : mail_index_body(x, i, put, stdout, &bad);
	if (fflush(stdout) != 0 || ferror(stdout))
		return quire_say(EXIT_TRY_AGAIN, t->verb, "standard output: %s", strerror(errno));
	if (!whole)
		return quire_say(EXIT_DAMAGE, t->verb,
				 "%" PRIu64 ": damaged at position %" PRIu64 " (segment %" PRIu64
				 ", offset %" PRIu64 ")",
				 id, bad, bad / t->segment_size, bad % t->segment_size);
	return EXIT_FINE;
}

int journal_cat(int argc, char **argv)
{
	static const struct option options[] = {JOURNAL_TOOL_OPTIONS, {0}};
	struct journal_tool t = {.verb = argv[0]};
	struct mail_index *x;
	uint64_t id, damage;
	int c, code;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c == 'h')
			return puts(help) < 0;
		if (!journal_tool_option(&t, c, optarg))
			return EXIT_WRONG;
	}
	if (optind + 1 != argc || !span_u64(span_str(argv[optind]), UINT64_MAX, &id))
		return quire_say(EXIT_WRONG, t.verb, "one message's id is needed");
	code = journal_tool_open(&t, false, true);
	if (!code) {
		x = mail_index_new(&t, &damage);
		code = x ? cat(&t, x, id) : EXIT_TRY_AGAIN;
		mail_index_free(x);
	}
	journal_tool_close(&t);
	return code;
}
