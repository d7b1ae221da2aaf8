/* disk - the journal's directory: real (disk_real.c) or simulated (tests/sim).
 *
 * Names are plain file names below one directory.  Calls that return int give 0 or a negative
 * errno.  write() is asynchronous: when its op completes with n, the bytes are on stable
 * storage; with anything else nothing may be believed about them.  Everything else blocks and
 * is used at start, by tools, or by the preparing thread. */
#ifndef CORE_DISK_H
#define CORE_DISK_H

#include "core/loop.h"

struct disk;
struct disk_file;
enum { DISK_READ = 1, DISK_WRITE = 2, DISK_CREATE = 4 /* fails if it exists */, DISK_DIRECT = 8 };

struct disk_calls {
	int      (*list)(struct disk *d, void (*each)(void *ctx, const char *name,
			uint64_t size), void *ctx);
	int      (*open)(struct disk *d, const char *name, int flags, struct disk_file **ret);
	void     (*close)(struct disk *d, struct disk_file *f);
	int64_t  (*size)(struct disk *d, struct disk_file *f);
	int      (*rename)(struct disk *d, const char *from, const char *to);
	int      (*unlink)(struct disk *d, const char *name);
	int      (*sync_dir)(struct disk *d);
	int      (*sync)(struct disk *d, struct disk_file *f);
	/* really written zeros from one offset to another, synced */
	int      (*fill)(struct disk *d, struct disk_file *f, uint64_t from, uint64_t to);
	int64_t  (*read)(struct disk *d, struct disk_file *f, void *p, size_t n, uint64_t off);
	/* blocking, durable */
	int64_t  (*write_now)(struct disk *d, struct disk_file *f, const void *p, size_t n,
			uint64_t off);
	void     (*write)(struct disk *d, struct disk_file *f, struct op *op, const void *p,
			size_t n, uint64_t off);
	/* one writer; retried a few times; -EWOULDBLOCK: somebody has it */
	int      (*lock)(struct disk *d);
	int      (*fd)(struct disk_file *f);      /* -1 where there is none */
};
struct disk {
	const struct disk_calls *calls;
	struct loop             *loop;
	/* the simulator: blocking calls come from the loop's thread only */
	bool                     one_thread;
};

/* dir_fd is kept.  Writes are aligned to DISK_ALIGN in address, length and offset. */
#define DISK_ALIGN 4096
/* l may be NULL for tools: no write() then */
struct disk *disk_real_new(struct loop *l, int dir_fd);
void         disk_real_free(struct disk *d);
/* Tries one direct write and says whether the directory takes them; *why_not: a short reason. */
bool         disk_direct_works(struct disk *d, const char **why_not);

#endif
