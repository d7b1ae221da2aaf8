/* quire journal VERB - what all of its verbs share: options, the journal, progress, exit codes.
 *
 * A verb opens the journal, walks it, prints for a person or as JSON lines, and returns:
 *   0   fine                              100  wrong use, or what will not get better
 *   99  done, and damage was found        111  what may (I/O, no memory, no such home now) */
#ifndef TOOLS_QUIRE_JOURNAL_H
#define TOOLS_QUIRE_JOURNAL_H

#include "core/disk.h"
#include "journal/reader.h"

#include <stdio.h>

enum { EXIT_FINE = 0, EXIT_DAMAGE = 99, EXIT_WRONG = 100, EXIT_TRY_AGAIN = 111 };

struct journal_tool {
	const char     *verb;                     /* "journal verify" */
	const char     *home, *dir;               /* dir: --dir, the journal's directory itself */
	uint32_t        shard;
	bool            json, quiet;              /* quiet: no progress */
	/* set by journal_tool_open() */
	struct disk    *disk;
	int             dir_fd;
	bool            running;                  /* a journald has it: read beside it */
	uint64_t        durable;                  /* then: how far */
	uint64_t        segment_size;
	uint8_t         uuid[16];
	struct reader  *reader;                   /* open, at the oldest record */
	char            path[4096];               /* of the directory, for messages */
};
/* One option that all verbs know (--home --dir --shard --json --quiet): true if it was one.  For
 * getopt_long tables: JOURNAL_TOOL_OPTIONS. */
#define JOURNAL_TOOL_OPTIONS                                      \
	{"home", required_argument, NULL, 'H'},                   \
	{"dir", required_argument, NULL, 'D'},                    \
	{"shard", required_argument, NULL, 'S'},                  \
	{"json", no_argument, NULL, 'J'},                         \
	{"quiet", no_argument, NULL, 'Q'},                        \
	{"help", no_argument, NULL, 'h'}
bool journal_tool_option(struct journal_tool *t, int opt, const char *arg);
/* 0, or the exit code, after one line on stderr.  stopped: the verb needs the journal for itself, and
 * takes its lock. history: walk what is HISTORY, too. */
int  journal_tool_open(struct journal_tool *t, bool stopped, bool history);
void journal_tool_close(struct journal_tool *t);
/* Only the segments' size and uuid, without a reader: for journals that can't be opened. */
int  journal_tool_look(struct journal_tool *t);
/* The same, and whether a journald has it and how far it is. */
int  journal_tool_beside(struct journal_tool *t);
/* Another reader of the same journal, open, at its oldest record; NULL after one line. */
struct reader *journal_tool_reader(struct journal_tool *t, bool history);
/* All bytes that a walk of it will pass, for progress; as far as the manifest knows. */
uint64_t journal_tool_bytes(const struct journal_tool *t, bool history);

/* ---- a line that says how far it is: on stderr, if that is a terminal ---- */
struct progress {
	const char *what, *unit;                  /* unit: NULL: bytes; else set after begin */
	uint64_t    total, done, shown_ms, begun_ms;
	bool        on;
};
void progress_begin(struct progress *p, const struct journal_tool *t, const char *what, uint64_t total);
void progress_at(struct progress *p, uint64_t done);      /* cheap; redraws ten times a second */
void progress_end(struct progress *p);

/* ---- words ---- */
/* A JSON string: UTF-8 as it is, other bytes b as the lone surrogate U+DC00 + b, so that nothing is lost
 * (Python: s.encode("utf-8", "surrogateescape")). */
void        print_json(FILE *f, struct span s);
void        print_plain(FILE *f, struct span s);  /* for a terminal: what can't be shown is \xNN */
void        print_base64(FILE *f, struct span s);
#define WHEN_MAX 32
/* 2026-01-31 23:59:59.999999, UTC */
const char *when_text(char dst[WHEN_MAX], uint64_t us);
/* "2026-01-31", "2026-01-31 23:59[:59]" (UTC; T and Z allowed), seconds since 1970, or how long ago:
 * 90s 5m 2h 3d 1w. */
bool        when_parse(const char *s, uint64_t *ret_us);
const char *record_name(unsigned type);           /* "msg"; NULL: unknown */
const char *outcome_name(unsigned outcome);       /* "delivered"; NULL: unknown */
const char *segment_file_name(char name[SEGMENT_NAME_MAX], uint64_t number);

/* ---- messages, whole: for cat, export, replay, salvage ---- */
struct mail_record {                              /* what a MSG says; spans hold until the next call */
	uint64_t    id, pos, arrival_us, size, parent;
	uint32_t    rcpts, uid, pid;
	uint8_t     kind;
	struct span sender;
	const struct rec_msg *msg;
};
/* All MSGs, each id once (the copy at the highest position), with what was recorded of its recipients.
 *   QUEUED   not over: it will be tried (again)
 *   DONE     over: delivered, or its failure was reported or dropped
 *   FAILED   failed or cancelled; the notice to the sender is not in the journal yet
 *   UNKNOWN  nothing was recorded, and the message lies in history only: its end is forgotten */
enum rcpt_state { RCPT_QUEUED, RCPT_DONE, RCPT_FAILED, RCPT_UNKNOWN };
struct mail_index;
/* Walks the whole journal once.  NULL after a line on stderr; *ret_damage: how many places. */
struct mail_index *mail_index_new(struct journal_tool *t, uint64_t *ret_damage);
void mail_index_free(struct mail_index *x);
size_t mail_index_n(const struct mail_index *x);
/* In order of arrival.  false: it can't be read (any more). */
bool mail_index_at(struct mail_index *x, size_t i, struct mail_record *ret);
/* Without reading: arrival, recipients that are not DONE (of a message in the queue), id. */
struct mail_brief { uint64_t id, arrival_us; uint32_t rcpts, left; bool queued; };
struct mail_brief mail_index_brief(const struct mail_index *x, size_t i);
bool mail_index_find(struct mail_index *x, uint64_t id, size_t *ret_i);
/* Calls for each recipient: number, address as submitted, flags of its RCPT record, state. false: parts
 * are missing. */
bool mail_index_rcpts(struct mail_index *x, size_t i,
		void (*each)(void *ctx, uint32_t number, struct span addr, unsigned flags,
			enum rcpt_state s),
		void *ctx);
/* The body, byte for byte, in pieces of at most BODY_PART_MAX. false: some of it is missing or damaged; *ret_bad_pos.
 * each() may say false to end it: then the answer is false and *ret_bad_pos is 0. */
bool mail_index_body(struct mail_index *x, size_t i, bool (*each)(void *ctx, struct span bytes),
		void *ctx, uint64_t *ret_bad_pos);

/* ---- which of them ---- */
struct mail_filter {
	/* patterns: * and ?, case folded; NULL: any.  sender "<>": the empty one.  rcpt: the whole
	 * address; domain: what is behind its last @ */
	const char *sender, *rcpt, *domain;
	uint64_t    id;                           /* 0: any */
	uint64_t    since_us, until_us;           /* of arrival; until 0: no end */
};
#define MAIL_FILTER_OPTIONS                                       \
	{"sender", required_argument, NULL, 's'},                 \
	{"rcpt", required_argument, NULL, 'r'},                   \
	{"domain", required_argument, NULL, 'd'},                 \
	{"id", required_argument, NULL, 'i'},                     \
	{"since", required_argument, NULL, 'f'},                  \
	{"until", required_argument, NULL, 'u'}
/* true: it was one of these; *ret_why: what is wrong with it, or NULL */
bool mail_filter_option(struct mail_filter *f, int opt, const char *arg, const char **ret_why);
/* By id, time and sender; then, of its recipients, which. */
bool mail_filter_takes(const struct mail_filter *f, const struct mail_record *m);
bool mail_filter_wants_rcpt(const struct mail_filter *f, struct span addr);
bool mail_filter_has_rcpt(const struct mail_filter *f);   /* it asks for rcpt or domain */

/* ---- the verbs; each argv[0] is "journal VERB" ---- */
int journal_info(int argc, char **argv);
int journal_ls(int argc, char **argv);
int journal_verify(int argc, char **argv);
int journal_dump(int argc, char **argv);
int journal_cat(int argc, char **argv);
int journal_replay(int argc, char **argv);
int journal_compact(int argc, char **argv);
int journal_export(int argc, char **argv);
int journal_import(int argc, char **argv);
int journal_salvage(int argc, char **argv);
int journal_train(int argc, char **argv);

#endif
