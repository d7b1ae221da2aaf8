/* damage - journals made by the real writer on the simulated disk, and what must be read of
 * them.  damage_make.c makes them, damage.c breaks and reads them. */
#ifndef SIM_DAMAGE_H
#define SIM_DAMAGE_H

#include "world.h"

#define MADE_SEGMENT (64 * 1024)
#define MADE_RING    (1024 * 1024)
#define MADE_SHARD   3

/* One record that was added; its id is its index + 1 + made.id_base. */
struct made_record {
	uint64_t pos, hash;
	uint32_t n;
	bool     promised;                        /* somebody was told yes */
	bool     gone;                            /* its segment was given up */
	bool     there;                           /* read before anything was damaged */
};
enum made_end {
	MADE_MARK,                                /* stopped after the mark */
	MADE_QUIET,                               /* cut in the 100 ms before it */
	MADE_LOAD,                                /* cut with a batch in flight */
	MADE_ENDS
};
struct made_edit { uint64_t edit, number, cold; };
struct made {
	struct loop         loop;
	struct disk        *disk;
	struct ring         ring;
	struct commit      *commit;
	struct made_record *v;
	uint32_t            n, cap;
	uint32_t            run;                  /* the first one of this run */
	uint64_t            id_base;
	struct made_edit    edits[8];
	unsigned            edits_n;
	struct disk_file   *cold_file;
	uint64_t            cold_number, cold_next;
	bool                cold_ready, failed;
	/* what a compaction has copied: new positions, by record */
	uint64_t           *moved;
	uint64_t            colds, dropped, kept;
};
void made_make(struct made *m, uint64_t seed, enum made_end end, uint64_t id_base);
void made_fini(struct made *m);
bool made_is(const struct made *m, const struct record *r);       /* one that was added, unchanged */
/* No record of ours has this one: it lies inside of bodies, whole, to be mistaken for one. */
#define MADE_FAKE_ID UINT64_MAX

#endif
