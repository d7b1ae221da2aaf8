/* journal_box - where `quire journal export` puts messages: a Maildir, an mbox, a classic queue.
 *
 * begin(), bytes() again and again, end().  Nothing of a message is seen by anybody before
 * end(whole = true), and what end(whole = false) takes back was never there.  What was exported
 * is on stable storage when close() says true; on the way it may lie in the kernel's memory. */
#ifndef TOOLS_JOURNAL_BOX_H
#define TOOLS_JOURNAL_BOX_H

#include "mail/route.h"
#include "tools/quire_journal.h"

enum box_begin { BOX_TAKE, BOX_HAS /* it is there from an earlier export */, BOX_FAILED /* b->why */ };

/* Recipients that are left: addresses, each with its NUL. */
struct box_rcpts {
	struct buf local, remote;                 /* rewritten: for a classic queue */
	struct buf bounce;                        /* paragraphs of failures not reported yet */
};
struct box {
	const struct box_calls *calls;
	const char *path;
	int         dir, fd;                      /* of the box; of the message at hand */
	char        tmp[128], name[128];          /* of the message at hand; .name: what was made */
	char        why[512];                     /* after a failure: one line */
	/* mbox */
	off_t       begun;                        /* where this message begins */
	struct buf  out;
	size_t      marks, matched;               /* of a line's begin: '>'s, and bytes of "From " */
	bool        in_line, any;
	/* a classic queue */
	uint32_t    qmailq, qmails, qmailr, gid;  /* owners, where we are root and they exist */
	bool        owners;
	int         lock;
	uint64_t    number, arrival_s;
	struct span sender;
	const struct box_rcpts *rcpts;
};
struct box_calls {
	/* 0, or an exit code and b->why */
	int  (*open)(struct box *b);
	enum box_begin (*begin)(struct box *b, const struct mail_record *m, const struct box_rcpts *r);
	bool (*bytes)(struct box *b, struct span s);
	bool (*end)(struct box *b, bool whole);
	bool (*close)(struct box *b);
};
extern const struct box_calls maildir_box, mbox_box, classic_box;

void box_init(struct box *b, const struct box_calls *calls, const char *path);
bool box_fail(struct box *b, const char *what, int error);        /* false */

#endif
