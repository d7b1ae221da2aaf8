/* msg - every message between our processes, on one page.
 *
 * Sender, receiver and body of each are in the table below; a receiver's handler table names
 * those it takes, and what it does not name ends the connection (core/wire.h).  Bodies are
 * native structs: all processes are one build.  Who a peer is, is known from the wire, never
 * from the message: start makes each pair of sockets and tells both ends (MSG_PEER).
 *
 * The life of a message:
 *   smtpd, qmtpd, body: PART* RCPTS* SUBMIT -> journald: STORED when durable
 *   journald: the feed (ring in shared memory, a bell) -> sched, body
 *   sched: OPEN -> body: PARTDATA or BODYFILE -> remote, lspawn; sched: DELIVER -> remote, lspawn
 *   remote, lspawn: VERDICT -> sched: OUTCOMES -> journald: seen again in the feed when durable
 */
#ifndef MAIL_MSG_H
#define MAIL_MSG_H

#include "core/check.h"

#include <stdint.h>

enum role_kind {
	ROLE_NONE, ROLE_START, ROLE_JOURNALD, ROLE_SCHED, ROLE_BODY,
	ROLE_SMTPD, ROLE_QMTPD, ROLE_REMOTE, ROLE_LSPAWN, ROLES
};
enum listener_kind { LISTEN_SMTP = 1, LISTEN_QMTP, LISTEN_SUBMIT, LISTEN_CONTROL };
enum file_kind { FILE_JOURNAL_DIR = 1, FILE_USERS_CDB, FILE_MORERCPTHOSTS, FILE_COUNTERS,
                 FILE_DICT /* control/dictionary (journal/dict.h) */, FILES };

enum msg_type {
	/* start -> all (before GO, and PEER, CONTROL, DRAIN, RETRY, FILE at any time) */
	MSG_CONTROL = 1,  /* -               tail: packed snapshot (mail/control.h) */
	MSG_HOME,         /* struct msg_home tail: the home's path */
	MSG_LISTENER,     /* struct msg_listener, fd */
	/* struct msg_peer, fd: a fresh end; an older one to the same peer is dead */
	MSG_PEER,
	MSG_FILE,         /* struct msg_file, fd */
	MSG_GO,           /* -   what was sent is complete: run */
	MSG_DRAIN,        /* -   take nothing new, finish, exit 0 */
	MSG_RETRY,        /* -   ALRM: sched makes everything due now */
	/* all -> start */
	MSG_READY,        /* -   serving (journald: recovery is done; sched: replay is done) */
	/* -   tail: one line why this process is about to exit and must not be restarted */
	MSG_TROUBLE,

	/* smtpd, qmtpd, body -> journald */
	/* struct msg_part    tail: the frame (codec's bytes) of <= BODY_PART_MAX raw bytes */
	MSG_PART = 20,
	/* struct msg_rcpts   tail: packed addresses (mail/envelope.h), <= RCPT_PART_MAX */
	MSG_RCPTS,
	/* struct msg_submit  tail: sender, then settles[] (struct msg_range) */
	MSG_SUBMIT,
	MSG_ABANDON,      /* struct msg_sub     its parts are dead */
	/* journald -> smtpd, qmtpd, body */
	/* struct msg_stored  one for each SUBMIT, in the order of SUBMITs; early for a refused
	 * PART */
	MSG_STORED,
	MSG_ADMIT,        /* struct msg_admit   may new mail be taken (451 if not) */
	/* struct msg_dict    tail: its bytes.  Parts may be packed against it, and against no other; comes first */
	MSG_DICT,

	/* journald -> sched, body */
	MSG_FEED = 40,    /* struct msg_feed, fd: the ring (memfd, read-only) */
	MSG_BELL,         /* - , fd: an eventfd, rung when the durable position moved */
	/* journald -> sched: struct msg_room   may deliveries start */
	MSG_ROOM,
	/* journald -> sched -> body: struct msg_retire   tail: struct msg_moved, again and again.  Records
	 * have copies elsewhere, their segment will be used again.  sched takes it when it has
	 * applied everything up to `after`, corrects its positions and hands it on, behind every OPEN and
	 * BOUNCE that names an old one; body corrects its handles.  Sent anew to a sched that comes.  Until
	 * RETIRE_OVER sched remembers what it corrected: should journald end before the copies are named,
	 * the old positions are the true ones (sched/retire.h). */
	MSG_RETIRE,
	/* body -> journald: struct msg_retired   nobody holds a position in it; for the last part of a RETIRE */
	MSG_RETIRED,
	/* sched -> journald */
	/* -   tail: struct msg_outcome + its ranges and text, again and again */
	MSG_OUTCOMES = 46,
	MSG_CREDIT,       /* struct msg_credit  how much more new mail fits */
	MSG_COMPACT,      /* -   quire journal compact: compact now, whatever the rules of age say */

	/* sched -> body */
	MSG_OPEN = 60,    /* struct msg_open    give this message's body to that agent */
	/* struct msg_close   also sched -> remote, lspawn: no more jobs for this handle */
	MSG_CLOSE,
	/* struct msg_bounce  tail: recipient, settles[], text; body builds and submits it */
	MSG_BOUNCE,
	/* body -> sched */
	/* struct msg_bounced how that went (the feed is the truth about success) */
	MSG_BOUNCED,
	/* body -> remote */
	/* struct msg_partdata tail: raw bytes.  Part 0 comes unasked, others by WANT */
	MSG_PARTDATA,
	/* struct msg_close   body can't be read, and why: defer its jobs; also body -> lspawn, and first of
	 * all body -> sched, which makes failures of them where the journal is damaged */
	MSG_BODYFAIL,
	/* remote -> body */
	MSG_WANT,         /* struct msg_want    the credit: one more part */
	/* body -> lspawn */
	MSG_BODYFILE,     /* struct msg_bodyfile, fd: a sealed memfd with the whole body */

	/* sched -> remote, lspawn */
	/* struct msg_deliver tail: sender, then packed recipients (mail/envelope.h) */
	MSG_DELIVER = 80,
	/* remote, lspawn -> sched */
	MSG_AGENT,        /* struct msg_agent   first: how many jobs it takes at once */
	/* struct msg_verdict tail: struct msg_result + text, again and again */
	MSG_VERDICT,
};

/* latched: journald's writes failed again and again; it takes no new mail until CONTROL comes */
struct msg_home     { uint32_t privileged; uint32_t shard, index, count, latched, pad; };
struct msg_listener { uint32_t kind, pad; };
struct msg_peer     { uint32_t role, index; };
struct msg_file     { uint32_t kind, pad; };

/* raw bytes in a BODY part (docs/journal.md) */
#define BODY_PART_MAX (256 * 1024)

enum codec { CODEC_RAW = 0, CODEC_ZSTD = 1 };
enum submit_kind { SUBMIT_NETWORK, SUBMIT_LOCAL /* run/submit */, SUBMIT_BOUNCE };

struct msg_part {
	/* the sender's number of its open submission */
	uint32_t sub;
	uint32_t number;                          /* 0, 1, ... of the submission */
	uint32_t raw_n;
	uint32_t dict;                            /* 0: none */
	uint64_t raw_hash;                        /* XXH3 of the raw bytes: end to end */
	uint8_t  codec, pad[7];
};
struct msg_rcpts  { uint32_t sub, number, count, pad; };
struct msg_submit {
	uint32_t sub, body_parts, rcpt_parts, rcpts;
	uint64_t size;                            /* raw bytes of the whole body */
	/* a bounce's: the message whose failures it settles; else 0 */
	uint64_t parent;
	uint32_t uid, pid;
	uint16_t sender_n, settles_n;
	uint8_t  kind, pad[3];
};
struct msg_range  { uint32_t first, last; };      /* recipient numbers, inclusive */
struct msg_sub    { uint32_t sub, pad; };
enum stored { STORED_OK, STORED_LATER /* restarting, no credit */, STORED_FULL /* disk */,
              STORED_LIMIT /* uncommitted bytes */, STORED_BAD /* our bug; logged */ };
struct msg_stored { uint32_t sub, verdict; uint64_t id; };
struct msg_admit  { uint32_t open, full; /* not open: for want of room on the disk */ };

struct msg_dict   { uint32_t number, pad; };

struct msg_feed {
	uint64_t ring_size, segment_size;
	uint64_t recovered;                       /* durable position when recovery was done */
	uint64_t epoch;
	uint32_t shard, pad;
};
enum outcome { OUTCOME_DELIVERED = 1, OUTCOME_DEFERRED, OUTCOME_FAILED,
               OUTCOME_SETTLED /* a failure that was reported, or discarded */, OUTCOME_CANCELLED, OUTCOME_DROPPED };
/* ranges_n struct msg_range follow, then text_n bytes, padded to 8 */
struct msg_outcome {
	uint64_t id;
	uint64_t at_us;                           /* wall clock */
	uint64_t next_us;                         /* deferred: due again */
	uint32_t attempt;
	uint16_t ranges_n, text_n;
	uint8_t  outcome, pad[7];
};
struct msg_credit { uint64_t messages, bytes; };
struct msg_room   { uint32_t dispatch, pad; };    /* 0: one delivery at a time, and gently */
/* segment names the group of segments that leave together.  serial: of the sched that it goes to; comes
 * back in RETIRED, so that nobody believes what was said to an earlier one. */
enum retire_part { RETIRE_MORE /* is to come */, RETIRE_LAST, RETIRE_OVER /* a durable head names the copies */ };
struct msg_retire { uint64_t segment, after; uint32_t part, serial; };
struct msg_moved  { uint64_t id, from, to; };     /* a MSG's or STATE's positions */
struct msg_retired { uint64_t segment; uint32_t serial, pad; };

enum open_how { OPEN_PARTS /* PARTDATA, for remote */, OPEN_FILE /* BODYFILE, for lspawn */ };
struct msg_open   { uint32_t role, index, handle, how; uint64_t id, pos; };
/* DAMAGED: looked at twice, the bytes are bad.  GONE: nothing is there; may pass, counts the second time */
enum body_why { BODY_LATER, BODY_DAMAGED, BODY_GONE };
struct msg_close  { uint32_t role, index, handle, why /* of a BODYFAIL */; };
struct msg_bounce {
	uint64_t id, pos;                         /* the failed message */
	/* at most so many bytes of it are copied; 0: all */
	uint64_t copy_max;
	uint16_t rcpt_n, settles_n;
	uint32_t text_n;
	uint16_t sender_n;                        /* "" or "#@[]"; comes first in the tail */
	uint16_t bare, pad[2];                    /* bare: nothing of it is copied */
};
struct msg_bounced  { uint64_t parent, id; uint32_t verdict /* enum stored */, pid; };
struct msg_partdata { uint32_t handle, number, of, pad; uint64_t size; };
struct msg_want     { uint32_t handle, number; };
struct msg_bodyfile { uint32_t handle, pad; uint64_t size; uint64_t id; /* of the message; 0: not said */ };

struct msg_deliver {
	uint32_t job, handle;
	uint64_t id, size;
	uint32_t rcpts;
	uint16_t sender_n, pad;
};
struct msg_agent   { uint32_t jobs_max, pad; };
struct msg_verdict { uint32_t job, results; };
struct msg_result {                               /* text_n bytes follow, padded to 8 */
	uint32_t rcpt;                            /* position in the DELIVER */
	uint16_t text_n;
	uint8_t  outcome;                         /* DELIVERED, DEFERRED or FAILED */
	/* 1: the site asked us to slow down; 2: it could not be reached; 3: the body was lost on the way,
	 * which says nothing about site or recipient */
	uint8_t  slow;
};
/* docs/qmail.md 9.12: 5000 bytes of server reply, and our words */
#define RESULT_TEXT_MAX 6000
#define MSG_PAD8(n)     (((n) + 7u) & ~7u)

static_check(sizeof(struct msg_part) == 32);
static_check(sizeof(struct msg_submit) == 48);
static_check(sizeof(struct msg_outcome) == 40);
static_check(sizeof(struct msg_result) == 8);

#endif
