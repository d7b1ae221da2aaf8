/* dict - what frames of mail are packed against: a text of some KiB that both ends know.
 *
 * Small mail is mostly what all mail has: a dictionary holds it once.  One is in use at a time:
 * the built-in one, or control/dictionary (made by `quire journal train`) where there is one.
 * journald chooses it at its start, writes it as the first record (REC_DICT) of each segment, and
 * tells it to whoever packs mail for it (MSG_DICT); so every segment can be read by itself, and
 * a frame never names a dictionary that its segment lacks.
 *
 * A dictionary is known by its number, which is made of its bytes.  Either zstd's own format
 * (with tables; begins with zstd's magic), or any other bytes. */
#ifndef JOURNAL_DICT_H
#define JOURNAL_DICT_H

#include "core/span.h"

#include <stdint.h>

#define DICT_MIN 256                              /* less can't pay */
/* zstd's own tools make 112 KiB; more gains nothing on mail, and each segment holds a copy */
#define DICT_MAX (128 * 1024)
/* A dictionary takes at most this share of each segment; where it would take more, none is used. */
#define DICT_SHARE 64

struct dict {                                     /* number 0: none */
	uint32_t    number;
	struct span bytes;                        /* of the process' life */
};
/* The low half of XXH3 of the bytes, never 0. */
uint32_t    dict_number(struct span bytes);
struct dict dict_built_in(void);
/* From an open file, at any offset; the descriptor stays the caller's.  fd < 0, or a file that can't
 * be one (said in the log): the built-in one. */
struct dict dict_load(int fd);
/* A copy that lives as long as the process; none where it can't be one. */
struct dict dict_of(struct span bytes);
/* d, or none where segments are too small for it. */
struct dict dict_for(struct dict d, uint64_t segment_size);

struct commit;
/* Once, at the start: every segment begins with it from here on.  Nothing where d is none. */
void        dict_begin_with(struct commit *c, struct dict d);

/* dict_text.c */
extern const char          dict_text[];
extern const size_t        dict_text_n;

#endif
