/* ring - the recent batches in shared memory: the buffer they were written to disk from.
 *
 * journald lays batches out in the ring and writes them from there, so the bytes are the same
 * as on disk.  Position p lives at p % size; the memory is mapped twice in a row, so that a
 * batch is always contiguous.  Readers map it read-only.  journald never waits for a reader:
 * a reader copies what it wants, then asks ring_holds() whether it was still there. */
#ifndef JOURNAL_RING_H
#define JOURNAL_RING_H

#include "core/check.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define RING_MAGIC 0x676e697265726971ull

struct ring_head {                                /* the first page of the memfd */
	uint64_t magic, size, segment_size, first; /* first: position where this run began */
	_Atomic uint64_t durable;                 /* readers may read [oldest, durable) */
	_Atomic uint64_t oldest;                  /* below it, bytes are being overwritten */
	/* what quire status shows; written by journald only */
	_Atomic uint64_t batches, records, bytes_written, bytes_raw, bytes_packed, messages, syncs;
	_Atomic uint64_t open_submissions, refused;
	_Atomic uint64_t commit_us_max, commit_us_sum;
	_Atomic uint32_t direct, uring, full, damaged;
	/* of the space it takes (journal/keeper.h); bytes are whole segments but for live_bytes */
	_Atomic uint64_t segments, live_bytes, disk_bytes, history_bytes, copied_bytes, given_up, rounds;
	_Atomic uint64_t spares, reserve, reserve_wanted;
	_Atomic uint64_t asked_done;              /* times that quire journal compact has ended */
	/* room: enum commit_room; latched: new mail is refused after failed writes */
	_Atomic uint32_t room, latched, compacting, quarantined;
};

struct ring {
	struct ring_head *head;
	char             *data;                   /* size bytes, twice */
	uint64_t          size;
	/* the writer's, and a read-only one to give away; -1 for a reader */
	int               fd, fd_read;
	bool              writer;
};
/* The writer; size is a power of two >= 1 MiB and divides the segment size or is a multiple of it. 0 or -errno. */
int  ring_make(struct ring *r, uint64_t size, uint64_t segment_size);
/* writer, once: the run's first position; nothing older is held */
void ring_begin(struct ring *r, uint64_t pos);
/* a read-only descriptor to hand out; or -errno */
int  ring_reader_fd(const struct ring *r);
/* a reader; checks magic and size; fd may be closed. 0 or -errno */
int  ring_map(struct ring *r, int fd);
void ring_unmap(struct ring *r);
char *ring_at(const struct ring *r, uint64_t pos);
/* writer: [pos, pos+n) is about to be overwritten */
void ring_claim(struct ring *r, uint64_t pos, uint64_t n);
void ring_publish(struct ring *r, uint64_t durable);          /* writer */
uint64_t ring_durable(const struct ring *r);
/* reader, after copying from pos on */
bool ring_holds(const struct ring *r, uint64_t pos);

#endif
