/* journal - what quire-bench journal measures, in pieces: rows, the disk, the compressor. */
#ifndef BENCH_JOURNAL_H
#define BENCH_JOURNAL_H

#include "bench/bench.h"

#include "core/disk.h"
#include "journal/dict.h"

#define BENCH_RAW 1000 /* a level: without compression */

struct bench_journal {
	const char    *dir;
	struct mails   mails;                     /* each of the size asked for */
	uint64_t       segment_size, ring_size, seconds_ms;
	uint32_t       pool, reserve;
	enum loop_kind loop;
	int            level;                     /* or BENCH_RAW */
	struct dict    dict;
	bool           buffered;
};
struct bench_row {
	unsigned submitters;
	/* messages a second, mail and journal in MB/s; journal bytes for a byte of mail */
	double   rate, raw_mb, disk_mb, cost;
	double   batches, mean;                   /* a second; messages in one */
	double   cpu_us, others_us;               /* a message: the journaling thread, the others */
	uint64_t p50, p99, p999, max;             /* microseconds from begin to durable */
	uint64_t segments;                        /* entered meanwhile */
};
struct bench_row bench_journal_run(const struct bench_journal *o, unsigned submitters);
uint64_t         bench_now_us(void);

/* ---- journal_probe.c: what the machine does without us ---- */

enum probe_how { PROBE_DSYNC /* RWF_DSYNC */, PROBE_FDATASYNC /* write, then fdatasync */ };
/* Writes of n bytes a second, one after the other, each durable, into a file of `size` bytes that
 * was filled before (filled: false: into one that is only allocated). */
double probe_disk(const char *dir, size_t n, uint64_t size, enum probe_how how, bool direct,
                  bool filled, uint64_t ms);
/* Of one core, in MB/s of mail; raw_share: frames that compressing would not have paid for. */
struct zip_rate { double pack_mb, unpack_mb, ratio, raw_share; };
/* part: bytes of mail in a frame, at most BODY_PART_MAX.  ms: for each direction. */
struct zip_rate probe_zip(const struct mails *m, size_t part, int level, struct dict d, uint64_t ms);

struct bench_files { char (*names)[64]; unsigned n, cap; };
void   bench_list(struct disk *d, struct bench_files *ret);

#endif
