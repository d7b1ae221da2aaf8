/* fuzz_dotqmail - any extension, any instruction file: names stay below the home and fit, the
 * search ends, every line lies in the text, and a text cut into its lines means the same. */
#include "core/buf.h"
#include "local/dotqmail.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void check_name(const char *name, struct span dash)
{
	check(strlen(name) < DOT_NAME_MAX);
	check(strncmp(name, ".qmail", 6) == 0);
	/* What the sender wrote begins behind the dash: no part of it goes up, none is upper
	 * case. */
	for (const char *p = name + 6 + dash.n; *p; p++)
		check(*p != '.' && (*p < 'A' || *p > 'Z'));
}

static void search(struct span dash, struct span ext)
{
	struct dot_search s;
	char name[DOT_NAME_MAX], last[DOT_NAME_MAX] = "";
	size_t names = 0, dashes = 0;

	for (size_t i = 0; i < ext.n; i++)
		dashes += ext.p[i] == '-';
	dot_search_begin(&s, dash, ext);
	while (dot_search_next(&s, name)) {
		check_name(name, dash);
		memcpy(last, name, sizeof(last));
		names++;
	}
	check(names <= dashes + 2);
	check(names == 0 || strcmp(last + 6 + dash.n, "default") == 0);
	check(!dot_search_next(&s, name));
}

static void check_line(struct span text, const struct dot_line *l)
{
	check(l->arg.p >= text.p && l->arg.p + l->arg.n <= text.p + text.n);
	check(!span_has(l->arg, '\n'));
	if (l->kind == DOT_MAILDIR || l->kind == DOT_MBOX) {
		check(l->arg.p[0] == '.' || l->arg.p[0] == '/');
		check((l->arg.p[l->arg.n - 1] == '/') == (l->kind == DOT_MAILDIR));
	}
}

/* The same lines, with comments between them and blanks behind. */
static void decorate(struct span text, struct buf *ret)
{
	while (text.n > 0) {
		size_t lf = span_find(text, '\n');
		struct span line = span_cut(&text, lf == SPAN_NPOS ? text.n : lf);

		span_skip(&text, SPAN("\n"));
		check(buf_add(ret, line) && buf_add(ret, SPAN(" \t\n# |x\n\n")));
	}
}

static void lines(struct span text, bool forward_only)
{
	struct dot_lines a, b;
	struct dot_line la, lb;
	struct buf other;

	buf_init(&other, 16 * 1024 * 1024);
	decorate(text, &other);
	dot_lines_begin(&a, text, forward_only);
	dot_lines_begin(&b, buf_span(&other), forward_only);
	do {
		dot_lines_next(&a, &la);
		dot_lines_next(&b, &lb);
		check(la.kind == lb.kind && span_eq(la.arg, lb.arg));
		check(!forward_only || a.forward_only);
		if (la.kind != DOT_END && la.kind != DOT_BLANK_FIRST)
			check_line(text, &la);
	} while (la.kind != DOT_END && la.kind != DOT_BLANK_FIRST);
	check(a.forward_only == b.forward_only);
	buf_free(&other);
}

/* The extension up to the first LF; the instructions behind it. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct span all = span_of(data, n);
	size_t lf = span_find(all, '\n');
	struct span ext = span_until(all, lf),
		    text = span_from(all, lf == SPAN_NPOS ? n : lf + 1);

	search(SPAN("-"), ext);
	search(SPAN_NONE, ext);
	lines(text, false);
	lines(text, true);
	return 0;
}
