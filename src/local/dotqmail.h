/* dotqmail - which file tells what to do with a mail, and what its lines mean.  dot-qmail(5).
 *
 * Names and lines only: no descriptors, so the fuzzer can have it.  docs/qmail.md 14.3, 14.4.
 *
 * Names: ".qmail" dash E, then for every '-' in E from the right ".qmail" dash E-up-to-it
 * "default", at last ".qmail" dash "default".  E is the extension in lower case with every '.'
 * written ':', so that ".." cannot leave the home; a '/' may go down into it. */
#ifndef LOCAL_DOTQMAIL_H
#define LOCAL_DOTQMAIL_H

#include "core/check.h"
#include "core/span.h"

#define DOT_NAME_MAX 4096               /* PATH_MAX: longer names cannot be opened */
#define DOT_FILE_MAX (16 * 1024 * 1024) /* a list of half a million addresses */

/* ".qmail" dash E ending, as a C string; false: too long, or a NUL in it: no such file. */
bool dot_name(struct span dash, struct span ext, struct span ending,
	      char dst[static DOT_NAME_MAX]);

struct dot_search {
	struct span dash, ext;
	size_t left; /* bytes of ext that the next default keeps */
	bool exact_done, over;
};
void dot_search_begin(struct dot_search *s, struct span dash, struct span ext);
/* The next name to try; false: there is none left. */
bool dot_search_next(struct dot_search *s, char dst[static DOT_NAME_MAX]);

enum dot_kind {
	/* arg: the path, "/" at a maildir's end kept */
	DOT_MAILDIR,
	DOT_MBOX,
	DOT_PROGRAM, /* arg: the command */
	DOT_FORWARD, /* arg: the address, as it stands there */
	DOT_END,
	/* the first line is blank: a file being edited */
	DOT_BLANK_FIRST,
};
struct dot_line {
	enum dot_kind kind;
	struct span arg;
};
struct dot_lines {
	struct span text;
	bool forward_only; /* x bit, or a +list line passed by */
	bool first_done;
};
void dot_lines_begin(struct dot_lines *d, struct span text, bool forward_only);
/* comments are skipped */
enum dot_kind dot_lines_next(struct dot_lines *d, struct dot_line *ret);

#endif
