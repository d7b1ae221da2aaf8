/* talk_smtp - SMTP seen from the client: answers in, questions and bodies out, no descriptors.
 *
 * The owner calls talk_smtp_begin() when the connection is up and talk_smtp_task() at once or
 * whenever the state is TALK_READY; then it offers what arrives, and calls talk_smtp_more()
 * when there is room in the outbuf again or when bytes of the body have come.  After each call
 * it looks:
 *
 *   finished    this task is over with this connection; take it away (set it to NULL).  Is it
 *               not settled, then the host could not be used: its task->trouble says why, and
 *               nothing of it can have arrived: try the next host (or, if `reused`, the same one
 *               on a fresh connection).
 *   TALK_READY  wants a task or talk_smtp_quit()
 *   TALK_OVER   end the connection: politely, or at once if `abrupt` (in the middle of a body
 *               there is no other way to take it back)
 *
 * Before MAIL was asked for, everything that goes wrong is the host's trouble.  After it every
 * answer is the recipients'.  Once the final dot has left, a lost connection is a deferral that
 * says "Possible duplicate!".  RFC 5321; RFC 2920 (pipelining); RFC 1870 (SIZE); RFC 6152. */
#ifndef REMOTE_TALK_SMTP_H
#define REMOTE_TALK_SMTP_H

#include "core/outbuf.h"
#include "mail/dots.h"
#include "mail/ip.h"
#include "remote/answer.h"
#include "remote/task.h"

/* RFC 5321 4.5.3.1.8: no server may take less.  A task with more gets several transactions. */
#define SMTP_RCPTS_MAX     100
#define SMTP_QUESTIONS_MAX (SMTP_RCPTS_MAX + 2)   /* MAIL and DATA around them */
#define SMTP_HELLO_MAX     255                    /* RFC 5321 4.5.3.1.2 */
#define SMTP_TASKS_MAX      100                    /* on one connection; some servers count */

enum talk_state { TALK_GREETING, TALK_READY, TALK_BUSY, TALK_OVER };

struct talk_smtp;
typedef void smtp_expect(struct talk_smtp *t, const struct answer *a);

struct talk_smtp {
	struct outbuf  *out;
	struct outbuf   unsent;                   /* questions that may not leave yet */
	uint64_t        moved;                    /* bytes that went from unsent to out */
	struct answer   answer;
	struct task    *task, *finished;
	uint32_t        first, n;                 /* the recipients of this transaction */
	/* the next one whose answer comes; how many are taken */
	uint32_t        at, taken;
	uint32_t        tasks;                    /* that this connection had, this one too */
	uint16_t        asked_n, sent_n, heard_n; /* of questions */
	struct { smtp_expect *on; uint64_t start; } question[SMTP_QUESTIONS_MAX];
	struct dots_out dots;
	uint8_t         state;
	bool            pipelining, size, eight_bit;  /* offered by EHLO */
	bool            in_body, dot_sent, mail_asked, mail_answered, reused, abrupt;
	char            ip[IP_TEXT_MAX], hello[SMTP_HELLO_MAX + 1];
};

void talk_smtp_begin(struct talk_smtp *t, struct outbuf *out, const struct ip *ip,
		struct span hello);
void talk_smtp_fini(struct talk_smtp *t);         /* fine on a zeroed one */
void talk_smtp_task(struct talk_smtp *t, struct task *j);
void talk_smtp_input(struct talk_smtp *t, struct span *in);
void talk_smtp_more(struct talk_smtp *t);
void talk_smtp_quit(struct talk_smtp *t);         /* says it; do not wait for the answer */
void talk_smtp_lost(struct talk_smtp *t);

#endif
