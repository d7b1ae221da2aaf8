/* packer - a thread that compresses, so that the thread that journals does not.
 *
 * Mail from programs on this host comes raw, and to compress a part takes longer than to
 * journal a hundred.  A job is handed over under a mutex and lies in one of two lists (given,
 * packed); an eventfd brings the loop back.  Until done() the thread owns raw and frame; it
 * touches nothing else, and it never logs. */
#ifndef JOURNAL_PACKER_H
#define JOURNAL_PACKER_H

#include "core/list.h"
#include "core/loop.h"
#include "journal/dict.h"
#include "journal/zip.h"

struct pack_job {
	struct link     link;
	struct span     raw;                      /* at most BODY_PART_MAX */
	char           *frame;                    /* ZIP_BOUND bytes */
	struct msg_part part;                     /* zip_pack()'s part of it */
	struct span     packed;                   /* frame, or raw itself */
	void          (*done)(struct pack_job *j); /* from the loop */
	bool            busy;
};

struct packer;
/* After the sandbox was entered: the thread inherits it.  d: what frames are packed against, or none. */
struct packer *packer_new(struct loop *l, int zstd_level, struct dict d);
void           packer_free(struct packer *p); /* ends the thread; no done() follows */
/* The loop's side of it ends; packer_free() may follow once packer_is_closed(). */
void           packer_close(struct packer *p);
bool           packer_is_closed(const struct packer *p);
void           packer_give(struct packer *p, struct pack_job *j);

#endif
