/* file - the few things we do with files where blocking is right. */
#ifndef CORE_FILE_H
#define CORE_FILE_H

#include "core/buf.h"

/* Reads a whole file below dir_fd (AT_FDCWD allowed) into b.  0; or a negative errno, -EFBIG
 * where b's maximum is passed. */
int  file_read(int dir_fd, const char *name, struct buf *b) must_use;
/* name.tmp is written, synced, renamed to name, and the directory synced.  0 or -errno. */
int  file_write_atomic(int dir_fd, const char *name, struct span bytes, unsigned mode) must_use;
int  file_sync_dir(int dir_fd) must_use;          /* 0 or -errno */
/* blocking, EINTR and short writes handled */
bool file_write_all(int fd, struct span bytes) must_use;
void fd_nonblock(int fd);
void fd_cloexec(int fd, bool on);
/* RLIMIT_NOFILE up to want or the hard limit; true: reached */
bool fd_raise_limit(unsigned long want);

#endif
