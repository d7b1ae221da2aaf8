/* salvage_files - which files of a damaged journal are read, and how far.
 *
 * Heads are taken wherever one is whole: in block 0, or its copy in the last block.  The journal is that of
 * the uuid that is asked for, else of most heads.  Its newest hot head says which segments make
 * the queue, and where they end; what it names is read, from seg- or, should that be missing,
 * from bad-.  What it does not name was over when it was written, and is left alone.
 *
 * Where it can't be the newest (a later segment was used, and lost its head and the copy), that one is
 * read, too, and every cold segment, since only the lost head would name them all.  Where there is no
 * head at all, everything is read. */
#ifndef TOOLS_SALVAGE_FILES_H
#define TOOLS_SALVAGE_FILES_H

#include "core/buf.h"
#include "journal/format.h"

enum salvage_use {
	USE_READ,
	USE_OVER,                                 /* not named, or history: nothing in it is queued */
	USE_FOREIGN,                              /* of another journal */
	USE_MISSING                               /* named, and there is no such file */
};
struct salvage_file {
	char     name[SEGMENT_NAME_MAX];
	uint64_t number, size;                    /* of the file */
	uint64_t end;                             /* offset; 0: as far as its blocks go */
	uint64_t incarnation;                     /* 0: any */
	enum salvage_use use;
	bool     is_bad, has_head, from_copy, foreign;
	struct segment_head head;
};
struct salvage_files {
	struct salvage_file *v;
	uint32_t n, cap;
	uint8_t  uuid[16];
	bool     has_uuid, newest_lost;           /* a later segment than the newest head's was used */
	int64_t  newest;                          /* in v; -1: there is no head */
	bool     manifest_cut;                    /* a part of the newest manifest can't be read */
	uint64_t segment_size, epoch;             /* epoch: the highest of all heads */
	uint32_t shard;
};
/* uuid: NULL: that of most heads.  0 or -errno. */
int  salvage_files_find(struct salvage_files *s, int dir_fd, const uint8_t *uuid);
void salvage_files_fini(struct salvage_files *s);

#endif
