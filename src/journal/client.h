/* client - one end of the submission protocol: smtpd, qmtpd and body hand mail to journald.
 *
 * A client is one process' link to journald; a submission is one message on its way.  Body
 * bytes are gathered to parts of BODY_PART_MAX, packed here (zip) against the dictionary that this
 * journald has named (MSG_DICT; none before it has), and sent.  The owner keeps
 * the submission until stored() or after submission_abandon().  When journald is lost, what
 * waits for its answer gets stored(STORED_LATER); a body of which parts had gone out is
 * refused, so that its commit gets the same; one that had sent nothing yet goes on with the
 * next journald.  The owner's connections stay. */
#ifndef JOURNAL_CLIENT_H
#define JOURNAL_CLIENT_H

#include "core/list.h"
#include "core/wire.h"
#include "journal/zip.h"
#include "mail/envelope.h"
#include "mail/msg.h"

#define CLIENT_ZSTD_LEVEL 1                   /* more costs 30 % more time for 2 % less space */

struct client;
struct submission {
	struct client *client;                    /* NULL: not open */
	struct link    link;
	uint32_t       sub, parts;
	uint64_t       size;                      /* raw bytes so far */
	/* gathers; storage is given back after each message above a page */
	struct buf     part;
	bool           committing, refused;
	uint8_t        verdict;
	/* From the loop, once after submission_commit(). */
	void         (*stored)(struct submission *s, enum stored verdict, uint64_t id);
};

struct client *client_new(struct loop *l, int zstd_level);
/* Every submission must be finished first.  A link that is still closing frees itself later,
 * from the loop: make a few passes before loop_free(). */
void           client_free(struct client *c);
void           client_attach(struct client *c, int sock); /* a new wire to journald, or -1 */
bool           client_admits(const struct client *c); /* journald is there and takes new mail */
bool           client_disk_full(const struct client *c); /* that is why it does not */
/* Each time that journald takes mail, or tells that its disk is full. */
void           client_on_admission(struct client *c, void (*told)(void *ctx), void *ctx);
void           client_on_room(struct client *c, void (*room)(void *ctx), void *ctx);
/* Whether a frame that needs this dictionary may be submitted as it is (0: none). */
bool           client_takes_dict(const struct client *c, uint32_t number);
/* One message more to journald, if it is there. */
void           client_say(struct client *c, uint16_t type, const void *body, size_t n);
bool           client_full(const struct client *c);       /* stop feeding bodies until room() */
/* body only, whose wire to journald carries the feed, too.  The descriptors are the callee's. */
struct client_feed {
	void (*feed)(void *ctx, const struct msg_feed *f, int ring_fd);
	void (*bell)(void *ctx, int event_fd);
};
void           client_on_feed(struct client *c, const struct client_feed *calls, void *ctx);

/* s must be zeroed, or one that was stored, abandoned or finished. */
void submission_begin(struct submission *s, struct client *c,
		      void (*stored)(struct submission *, enum stored, uint64_t));
void submission_body(struct submission *s, struct span bytes);
/* pid 0: this process submits. */
struct submit_info {
	uint32_t uid, pid;
	uint8_t kind;
	uint64_t parent;
	const struct msg_range *settles;
	uint16_t settles_n;
};
/* rcpts: packed addresses, count of them.  After it: exactly one stored(). */
void submission_commit(struct submission *s, struct span sender, struct span packed,
		       uint32_t rcpts, const struct submit_info *info);
void submission_abandon(struct submission *s);    /* fine in any state; no stored() after it */
void submission_fini(struct submission *s);       /* abandons, frees storage */
/* For body's bounces: a part whose frame exists already goes as it is. */
void submission_frame(struct submission *s, const struct msg_part *part, struct span frame);

#endif
