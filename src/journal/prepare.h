/* prepare - the next segment file, really filled with zeros, before anybody needs it.
 *
 * A thread creates fill-N, writes and syncs zeros, renames it to spare-N; takes a spare,
 * renames it to seg-N and syncs the directory; and then makes the next spare.  So a seg- file
 * that exists is complete, and its name is durable before its number is written anywhere.
 * What fails is tried again after a second.  On a disk of one thread (the simulator) the same
 * steps run from timers. */
#ifndef JOURNAL_PREPARE_H
#define JOURNAL_PREPARE_H

#include "core/disk.h"

#include <pthread.h>
#include <stdatomic.h>

#define SPARES_MAX 4                              /* found at start; more are removed */

struct prepare {
	struct loop *loop;
	struct disk *disk;
	uint64_t     segment_size;
	bool         direct;
	/* open for writing; once for each prepare_begin() */
	void       (*ready)(void *ctx, struct disk_file *file);
	void        *ctx;

	/* the number that is being prepared; 0: none */
	uint64_t     wanted;
	int          error;                       /* why not yet; 0: no trouble */
	bool         running, delivered;
	pthread_t    thread;
	int          bell;                        /* eventfd: the thread has moved on */
	uint64_t     bell_read;
	struct op    on_bell;
	struct timer timer;

	/* the thread's, while it runs */
	uint64_t     job;
	struct disk_file *file;
	int          result;
	_Atomic int  stage;
	uint64_t     spares[SPARES_MAX], spare_last;
	unsigned     spares_n;
};

void prepare_init(struct prepare *p, struct loop *l, struct disk *d, uint64_t segment_size, bool direct,
                  void (*ready)(void *ctx, struct disk_file *file), void *ctx);
/* ends the thread's step; not from a callback */
void prepare_fini(struct prepare *p);
/* Looks what is there from an earlier run: complete spares are kept, the rest of them removed. 0 or -errno. */
int  prepare_look(struct prepare *p);
/* Blocking, at start: seg-number, made durable and open for writing. 0 or -errno. */
int  prepare_now(struct prepare *p, uint64_t number, struct disk_file **ret);
void prepare_begin(struct prepare *p, uint64_t number);

#endif
