/* classic_queue - the queue directory of qmail-send, read while nobody runs it.
 *
 * A message N (the inode number of mess/N) is in one of these states:
 *
 *   FREE          no file at all
 *   BEGUN         mess, perhaps intd: somebody is, or was, handing it in; nobody was told yes
 *   QUEUED        mess and todo: sender and recipients as submitted.  What lies in info, local and
 *                 remote beside it is unfinished, and does not count
 *   PREPROCESSED  mess and info (the sender), no todo: recipients in local and remote, rewritten,
 *                 T to be tried, D over; bounce: paragraphs of failures not reported yet
 *
 * Here these become one struct: the sender, the recipients that are left, by where they are
 * written, and the failures that are not reported.  Nothing in the queue is changed. */
#ifndef TOOLS_CLASSIC_QUEUE_H
#define TOOLS_CLASSIC_QUEUE_H

#include "core/buf.h"

#define CLASSIC_SPLIT 23                          /* directories of mess, info, local, remote */

struct classic_entry { uint64_t number; bool in_todo; };
struct classic_queue {
	int                   dir;                /* its own descriptor */
	int                   mutex;              /* the lock that qmail-send would hold; -1: it has none */
	unsigned              split;
	bool                  todo_is_split;      /* the "big todo" patch */
	struct classic_entry *v;                  /* by number */
	size_t                n;
	/* mess files with neither todo nor info, files in intd without todo: leftovers of who was
	 * killed before it was told yes */
	size_t                garbage;
};
enum classic_list { LIST_SUBMITTED, LIST_LOCAL, LIST_REMOTE, LISTS };
struct classic_message {
	uint64_t    number, birth_s;
	uint32_t    uid, pid;
	struct buf  sender;
	/* addresses of one list after another, each with its NUL: what is left of it */
	struct buf  rcpts[LISTS];
	uint64_t    due_s[LISTS];                 /* next try, as the files say */
	uint64_t    done;                         /* recipients that are over */
	struct buf  bounce;                       /* paragraphs that nobody was sent yet */
	int         mess;                         /* its text, open; -1: closed */
	uint64_t    size, mtime_ns;
};
enum classic_found { CLASSIC_OK, CLASSIC_GONE /* of no message: nothing is left to do */, CLASSIC_BAD };

/* Opens it, takes the lock, lists it.  0, or an exit code and one line in *why. */
int  classic_open(struct classic_queue *q, const char *path, struct buf *why);
void classic_close(struct classic_queue *q);      /* fine on a zeroed one with dir -1 */
/* *why: what is wrong with it, after CLASSIC_BAD.  ret is to be finished in any case. */
enum classic_found classic_read(const struct classic_queue *q, size_t i, struct classic_message *ret, struct buf *why);
void classic_message_fini(struct classic_message *m);
/* The next address of a list; cuts it off. */
bool classic_next(struct span *list, struct span *ret);

/* The next paragraph of a bounce: "<address>:\n" and why; cuts it off.  One without such a line has an
 * empty address, and all of it is the reason. */
bool classic_paragraph(struct span *bounce, struct span *ret_addr, struct span *ret_why);

#endif
