/* submit - how a program on this host hands in mail: the conversation on run/submit.
 *
 * The socket is open to every user (0666), so it takes plain bytes only; who submits is known
 * from SO_PEERCRED and never from what is said.  The client says
 *
 *   "quire-submit 1\n"
 *   the body         chunks: u32 little endian n (1 .. SUBMIT_CHUNK_MAX), n bytes; n = 0 ends it
 *   the envelope     as on qmail-queue's descriptor 1 (docs/qmail.md 3.2):
 *                    "F" sender "\0" { "T" recipient "\0" } "\0"
 *
 * and is answered by one netstring, after which the server closes:
 *
 *   "K" id           queued: durable, and the number that log and queue show
 *   "Z" code SP text temporary; code is qmail-queue's exit code (docs/qmail.md 3.4)
 *   "D" code SP text permanent
 *
 * Root, and the user that quire's journal belongs to, may say "quire-replay 1\n" instead, and the id
 * (u64 little endian) of the message that is delivered again: then no Received line is put in
 * front, and the new MSG and the log name the old one (docs/journal.md, Records).
 *
 * An answer may come before the end (a limit, a bad byte).  An end of file before the
 * envelope's end queues nothing and is answered Z54.  What follows the envelope's end is
 * ignored.  journald puts the Received line in front.
 *
 * Here are both ends: the client, which blocks (submit_begin ... submit_end, submit.c), and
 * the server's half, which has no descriptor (submit_talk, submit_talk.c). */
#ifndef MAIL_SUBMIT_H
#define MAIL_SUBMIT_H

#include "mail/addr.h"

#include <stdint.h>

#define SUBMIT_HELLO     "quire-submit 1\n"
#define SUBMIT_REPLAY    "quire-replay 1\n"          /* as long */
#define SUBMIT_CHUNK_MAX (64 * 1024)
#define SUBMIT_WAIT_MS   60000 /* for a journald that restarts; for each write and the answer */
#define SUBMIT_TEXT_MAX  200

enum submit_code {                                /* exit codes of qmail-queue */
	SUBMIT_OK = 0,
	SUBMIT_LONG = 11,                         /* an address longer than ADDR_MAX */
	SUBMIT_NO_MEMORY = 51,
	SUBMIT_TIMEOUT = 52,                      /* it took longer than a day */
	SUBMIT_WRITE = 53,                        /* disk full */
	SUBMIT_READ = 54,                         /* the message or the envelope ended early */
	SUBMIT_LATER = 71,                  /* not now: no room in memory, limits, restarting */
	SUBMIT_SLOW = 72,                         /* nobody answered within SUBMIT_WAIT_MS */
	SUBMIT_REFUSED = 73,                 /* no socket, nobody listens, for SUBMIT_WAIT_MS */
	SUBMIT_BROKEN = 74,                       /* lost after connecting */
	SUBMIT_BUG = 81,
	SUBMIT_FORMAT = 91            /* the envelope has a byte that is none of F, T and NUL */
};
/* 'K', 'Z' or 'D', and words for a person; any exit code of a queue program is known. */
char        submit_letter(int code);
const char *submit_text(int code);

/* ---- the server's half: bytes in, events out */
enum submit_event {
	SUBMIT_MORE,                              /* all input is used up */
	SUBMIT_BODY,                              /* *ret: some of the body, in the input */
	SUBMIT_BODY_END,
	SUBMIT_SENDER,                            /* *ret: valid until the next call */
	SUBMIT_RCPT,
	SUBMIT_END,                               /* complete; from now on every call says so */
	SUBMIT_BAD                             /* t->code: FORMAT or LONG; every call says so */
};
struct submit_talk {
	uint8_t  phase;
	uint8_t  code;
	bool     is_replay;
	uint16_t addr_n;
	uint64_t replay_of;                       /* complete with the first event after SUBMIT_MORE */
	uint32_t left;                            /* of a word being gathered, or of a chunk */
	uint32_t number;
	char     addr[ADDR_MAX];
};
void submit_talk_init(struct submit_talk *t);
void submit_talk_envelope(struct submit_talk *t); /* begins at the envelope */
enum submit_event submit_talk_take(struct submit_talk *t, struct span *in, struct span *ret);

/* ---- the client; it blocks.  The connection is made when the first chunk is full or the body
 * ends, so that a slow writer holds none.  Everything may go on after a failure: it does
 * nothing then, and submit_end() tells. */
struct submit {
	const char        *path;                  /* of the socket; borrowed until the end */
	uint32_t           wait_ms;               /* SUBMIT_WAIT_MS; tests make it shorter */
	int                fd, code;
	bool               connected, body_ended, complete;
	uint64_t           replay_of;             /* set after submit_begin(); 0: ordinary mail */
	uint64_t           id;
	char               text[SUBMIT_TEXT_MAX]; /* what the server said, or submit_text() */
	struct submit_talk check;                /* the envelope is checked on this side, too */
	struct buf         out;
};
void submit_begin(struct submit *s, const char *path);
bool submit_body(struct submit *s, struct span bytes);
/* Bytes of the envelope; the first call ends the body.  s->complete after its last NUL, what
 * follows is ignored.  false: failed. */
bool submit_envelope(struct submit *s, struct span bytes);
bool submit_sender(struct submit *s, struct span sender);     /* the same in words */
bool submit_rcpt(struct submit *s, struct span rcpt);
/* The code; 0 only if the message is durable: then s->id.  Where the envelope was not complete
 * it is SUBMIT_READ and nothing was queued.  Frees everything. */
int  submit_end(struct submit *s);
int  submit_send(struct submit *s);  /* after submit_rcpt()s: the last NUL, then submit_end() */
void submit_cancel(struct submit *s);             /* nothing is queued */

#endif
