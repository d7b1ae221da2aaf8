/* task - one message for recipients at one destination, and what became of each of them.
 *
 * A task is made of a MSG_DELIVER and ends as one MSG_VERDICT with a result for every
 * recipient, whatever happened.  A recipient is open (nothing is known), taken (the server
 * said yes to RCPT, which promises nothing yet) or settled; `open` counts those that are not
 * settled.  Texts live in the task and are shared by the recipients they hold for.
 *
 * `trouble` is what the last host that could not be used did to us: it becomes the result if
 * no other host is left. */
#ifndef REMOTE_TASK_H
#define REMOTE_TASK_H

#include "core/arena.h"
#include "core/buf.h"
#include "core/list.h"
#include "mail/msg.h"
#include "remote/source.h"

#define TASK_TEXTS_MAX (1024 * 1024)              /* more would not fit in the verdict either */

enum { TASK_OPEN = 0, TASK_TAKEN = 0x80 };        /* beside enum outcome */
enum task_slow { TASK_FAST, TASK_ASKED_SLOW, TASK_UNREACHED, TASK_NO_BODY };

struct task_result {
	struct span text;
	uint8_t     outcome, slow;
};

struct task {
	uint32_t            number, handle;       /* sched's */
	uint64_t            id, size;
	struct span         sender;
	struct span        *rcpt;
	struct task_result *result;
	uint32_t            rcpts, open;
	/* those before this one had their transaction */
	uint32_t            next;
	uint64_t            stray_cr;             /* sent as spaces */
	struct source      *source;
	struct arena        texts;
	struct span         trouble;
	uint8_t             trouble_slow;
	struct link         link;                 /* of the conversation that has it */
	struct rider       *rider;                /* who brought it there (conn.h) */
};

/* NULL: they do not agree */
struct task *task_new(const struct msg_deliver *d, struct span tail);
void        task_free(struct task *j);              /* fine on NULL */

/* The text is the task's; or a constant one, if the task has no room for more. */
struct span task_text(struct task *j, const char *fmt, ...) __attribute__((format(printf, 2,
		3)));
void        task_settle(struct task *j, uint32_t i, enum outcome o, struct span text,
                        enum task_slow slow);
/* All of [first, first + n) that are open or taken. */
void        task_settle_range(struct task *j, uint32_t first, uint32_t n, enum outcome o,
                              struct span text, enum task_slow slow);
void        task_settle_rest(struct task *j, enum outcome o, struct span text,
		enum task_slow slow);
void        task_trouble(struct task *j, struct span text, enum task_slow slow);
bool        task_is_settled(const struct task *j);

/* The tail of a MSG_VERDICT: all results; long texts are cut where a frame could not hold all. */
void        task_pack(const struct task *j, struct buf *b);

/* Bytes of a server, fit for log and bounce: CR goes, NUL becomes '?', LF stays or becomes SP. */
void        task_clean_text(struct buf *b, struct span said, bool keep_lf);

#endif
