/* control - the files of control/, read once, the same for everybody.
 *
 * A snapshot holds the bytes of every file in control/ (except *.cdb).  start reads and
 * validates it and sends it packed to its children; tools load it from the directory.  All
 * accessors work on the snapshot.  qmail's own files keep qmail's three parsers, with a warning
 * where qmail would silently ignore something (docs/qmail.md 1.1, 1.6); new ones are strict:
 * what they would ignore is an error that names file and line. */
#ifndef MAIL_CONTROL_H
#define MAIL_CONTROL_H

#include "core/buf.h"
#include "core/table.h"

#define CONTROL_FILE_MAX  (16 * 1024 * 1024)      /* a list of a million domains */
#define CONTROL_TOTAL_MAX (64 * 1024 * 1024)

struct control;
struct control *control_new(void);                /* empty */
void            control_free(struct control *c);
/* 0, or -errno with the file's name in *ret_bad (a missing directory: its name).  Of a file
 * that is in no table below only the name is taken, for the warning: somebody's key is not for
 * us. */
int             control_load(struct control *c, const char *dir, struct buf *ret_bad);
/* false: no name for a file, or a maximum passed. */
/* tests, unpack */
bool            control_set(struct control *c, struct span name, struct span bytes);
struct span     control_raw(const struct control *c, const char *name, bool *ret_there);
/* b's max: CONTROL_PACKED_MAX */
bool            control_pack(const struct control *c, struct buf *b) must_use;
/* c is empty; false: damaged */
bool            control_unpack(struct control *c, struct span packed) must_use;

void control_names(const struct control *c, void (*each)(void *ctx, struct span name),
		   void *ctx);

/* A snapshot may be larger than a frame between processes: it is sent in pieces and is whole
 * when as many bytes came as it says itself. */
#define CONTROL_PIECE      (512 * 1024)
#define CONTROL_PACKED_MAX (CONTROL_TOTAL_MAX + 64 * 1024)
bool            control_piece(struct span *packed, struct span *ret); /* false: that was all */
bool            control_packed_is_whole(struct span so_far);

/* line: first line, trailing blanks cut; missing: me if or_me and there is one, else fallback.
 * Present but empty is the empty span.  Borrowed from the snapshot (or fallback). */
struct span control_line(const struct control *c, const char *name, bool or_me,
			 const char *fallback);
struct span control_me(const struct control *c);  /* empty if there is none */
/* int: leading digits of the line; without any, as if missing.  Too large: UINT64_MAX. */
uint64_t    control_int(const struct control *c, const char *name, uint64_t fallback);
bool        control_has(const struct control *c, const char *name);

/* Every file that means something, one table.  Who reads one names it and knows no default. */
enum setting_kind { SETTING_LINE, SETTING_INT, SETTING_LIST, SETTING_MAP };
struct setting {
	const char       *name;
	enum setting_kind kind;
	bool              ours;                   /* not one of qmail's: parsed strictly */
	bool              or_me;                  /* line, list: without it, control/me */
	int64_t           fallback, min, max;     /* int; qmail's are moved to the nearer end */
	const char       *text;                   /* line: the literal fallback, or NULL */
	const char       *readers;
};
extern const struct setting settings[];
extern const size_t         settings_n;
const struct setting *setting_find(struct span name);         /* NULL: unknown */
/* The value of an int of the table, or its default; zstdlevel is signed: cast to int64_t. */
uint64_t    control_setting(const struct control *c, const char *name);
/* The same for a line; empty where there is neither file nor default. */
struct span control_setting_line(const struct control *c, const char *name);

/* list: each() gets every entry that qmail's list reader keeps, with its line number. */
void control_list(const struct control *c, const char *name,
		  void (*each)(void *ctx, struct span entry, unsigned line), void *ctx);

/* A set, or a map of key:value, of a list; keys case-folded; the last duplicate wins.  It has
 * its own copy of the bytes: the snapshot may go before it. */
struct control_set;
/* never NULL */
struct control_set *control_set_new(const struct control *c, const char *name, bool or_me);
struct control_set *control_map_new(const struct control *c, const char *name);
void        control_set_free(struct control_set *s);
bool        control_set_has(const struct control_set *s, struct span key);
bool control_map_get(const struct control_set *s, struct span key, struct span *ret_value);
size_t      control_set_size(const struct control_set *s);

/* Everything that can be said against a snapshot, one line each ("control/smtplisten:3: ...");
 * returns the number of errors (warnings are told with error = false). */
unsigned control_validate(const struct control *c,
			  void (*tell)(void *ctx, bool error, struct span text), void *ctx);

#endif
