/* world - a machine in which everything that can go wrong with power and disk goes wrong.
 *
 * The unmodified journal code (commit, recover, reader, and what they use) runs on a simulated
 * loop, clock and disk; a world is a function of its seed.  It runs in rounds: recover, check
 * everything that was ever promised, open the journal, take mail until a fault ends the round.
 *
 * The model is a list of records for each run, in the order in which they were added.  What
 * is read back must be, for each run, a prefix of its list, with every byte the same and in
 * the same place, and at least as long as what was promised; once a later run has begun, it
 * never changes again.
 *
 * A guest lives in the world like sched does beside journald: it sees durable records in
 * order, may add its own, and loses all memory with the power.  To plug one in: fill in a
 * struct guest and add it to the table in main.c. */
#ifndef SIM_WORLD_H
#define SIM_WORLD_H

#include "core/disk.h"
#include "core/loop.h"
#include "journal/commit.h"
#include "journal/reader.h"

struct world;
struct guest {
	const char *name;
	void *(*begin)(struct world *w);                             /* a run begins: the journal is open, nothing is known */
	void  (*record)(void *g, const struct record *r);            /* durable; all of the journal, from its beginning */
	void  (*caught_up)(void *g);                                 /* what was durable when the run began has been seen */
	void  (*gone)(void *g);                                      /* journald is; caught_up comes again.  May be NULL */
	void  (*step)(void *g);                                      /* once a pass, after caught_up; make work here */
	void  (*end)(void *g);                                       /* power is gone: free memory, nothing else */
	void  (*over)(struct world *w);                              /* after the last run: check what must be true then */
};

struct world_counts {
	uint64_t rounds, records, acked, power_losses, kills, torn, ambiguous, eios, fuses, landed_late, seals, long_manifests,
		ring_missed, idle_marks, enospc, switches, rotten, rot_found, zeroed, stale, hurt_found,
		hurt_tail, read_eios, eio_costs, guest_checks;
};
extern struct world_counts world_counts;

/* What a guest may use.  world_add(): one record; its position, or 0: the batch is full, or there
 * is no journal now.  acked: the model promises it (and all before it) when it is durable. */
uint64_t world_add(struct world *w, struct rec_head *h, const struct span *pieces, int pieces_n, bool acked);
uint64_t world_new_id(struct world *w);           /* of this epoch; never given twice */
/* A message with its parts in one go: true if all of it was added. */
bool     world_submit(struct world *w, uint64_t id, struct span sender, struct span packed, uint32_t rcpts,
                      struct span raw_body, uint64_t parent);
/* One STATE record as journald writes it. */
bool     world_outcome(struct world *w, const struct msg_outcome *o, const struct msg_range *ranges, struct span text);
struct loop *world_loop(struct world *w);
struct reader *world_reader(struct world *w);     /* for reader_at(); the world walks with it */
uint64_t world_durable(struct world *w);
_Noreturn void world_fail(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

void world_run(uint64_t seed, const struct guest *guest);     /* guest NULL: the journal alone */

/* ---- the disk (disk.c) ---- */
struct disk *simdisk_new(struct loop *l);
void         simdisk_free(struct disk *d);
uint64_t     simdisk_next(struct disk *d);        /* when the next write completes, mono_us; UINT64_MAX: none */
void         simdisk_run(struct disk *d, uint64_t now_us);
void         simdisk_power_loss(struct disk *d);  /* writes in flight: kept, lost, torn, reordered; open files stay their owners' to close */
void         simdisk_kill(struct disk *d);        /* only the process is gone: its writes may still land, now or later */
uint64_t     simdisk_fuse(struct disk *d, uint64_t calls);    /* the power goes in the so many'th call from now; 0: never; what it was */
bool         simdisk_is_dead(const struct disk *d);           /* the fuse has blown */
void         simdisk_full(struct disk *d, bool full);   /* no file can be filled */
uint64_t     simdisk_enospc(const struct disk *d);      /* how often that was met */
void         simdisk_fail_write(struct disk *d);  /* the next write that completes fails, with any part of it done */
uint64_t     simdisk_eios(const struct disk *d);
uint64_t     simdisk_landed(const struct disk *d);
/* Flips one bit of a file that has this name; false: no such file. */
bool         simdisk_rot(struct disk *d, const char *name, uint64_t byte, unsigned bit);
/* A block is not what was written: it is zeros, or what lay there before; false: nothing is changed by that. */
bool         simdisk_hurt(struct disk *d, const char *name, uint64_t block, bool stale, char *ret_was);
void         simdisk_heal(struct disk *d, const char *name, uint64_t block, const char *was);
uint64_t     simdisk_fail_read(struct disk *d, uint64_t reads); /* the so many'th from now is EIO; 0: none; what was left */
/* The bytes of a file, to be damaged; NULL: no such file.  Valid until it is resized. */
char        *simdisk_bytes(struct disk *d, const char *name, uint64_t *ret_size);
void         simdisk_resize(struct disk *d, const char *name, uint64_t size); /* what is cut off comes back with it */

/* ---- the mail that comes in (mail.c) ---- */
struct mail;
struct mail *mail_new(struct world *w);
void         mail_free(struct mail *m);
void         mail_step(struct mail *m);

#endif
