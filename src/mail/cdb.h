/* cdb - constant databases, read whole by mmap, written beside and renamed.  tinycdb, here
 * only. */
#ifndef MAIL_CDB_H
#define MAIL_CDB_H

#include "core/check.h"
#include "core/span.h"

struct cdb_file;
struct cdb_file *cdb_file_new(int fd); /* maps it; fd may be closed after. NULL: not a cdb */
void             cdb_file_free(struct cdb_file *c);
enum cdb_answer  { CDB_MISS, CDB_HIT, CDB_DAMAGED };
enum cdb_answer  cdb_file_look(const struct cdb_file *c, struct span key, struct span *ret);
/* first record */
bool             cdb_file_get(const struct cdb_file *c, struct span key, struct span *ret);

struct cdb_writer;
struct cdb_writer *cdb_writer_new(const char *tmp_path);      /* NULL: errno */
bool cdb_writer_add(struct cdb_writer *w, struct span key, struct span data) must_use;
/* syncs, renames, frees; false: errno */
bool cdb_writer_finish(struct cdb_writer *w, const char *path, unsigned mode) must_use;
void             cdb_writer_abandon(struct cdb_writer *w);

#endif
