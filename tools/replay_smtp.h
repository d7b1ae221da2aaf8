/* replay_smtp - one message after another to one host, by SMTP, without the queue.
 *
 * The conversation is quire-remote's (remote/talk_smtp.h), on a socket that blocks.  Who repeats what
 * failed on the way may deliver twice: results say which recipients are sure. */
#ifndef TOOLS_REPLAY_SMTP_H
#define TOOLS_REPLAY_SMTP_H

#include "core/buf.h"
#include "mail/ip.h"

struct replay_smtp;
/* host: a name or an address, with or without ":port".  NULL: *why.  hello: our own name. */
struct replay_smtp *replay_smtp_new(const char *host, struct span hello, struct buf *why);
void                replay_smtp_free(struct replay_smtp *r);      /* says QUIT; fine on NULL */
struct replay_mail {
	uint64_t    id;
	struct span sender, packed;               /* recipients (mail/envelope.h) */
	uint32_t    rcpts;
	struct span body;
};
/* Each recipient's result: enum outcome, what the server said.  false: the host can't be used, *why, and
 * nothing of this message was taken by it. */
bool                replay_smtp_send(struct replay_smtp *r, const struct replay_mail *m,
				     void (*result)(void *ctx, uint32_t i, unsigned outcome,
						    struct span text),
				     void *ctx, struct buf *why);

#endif
