/* bench - parts of quire-bench, the generator and the sink: event driven, so that they are not the limit.
 *
 * A verb gets its own argv and returns an exit code; results are one JSON object on stdout. */
#ifndef BENCH_BENCH_H
#define BENCH_BENCH_H

#include "core/span.h"
#include "mail/ip.h"

int bench_inject(int argc, char **argv);
int bench_sink(int argc, char **argv);
int bench_journal(int argc, char **argv);
int bench_pack(int argc, char **argv);
int bench_sched(int argc, char **argv);

/* Latencies in microseconds: a histogram of 64 powers of two in 32 steps each (3 % wide), no list. */
#define HIST_STEPS 32
struct hist {
	uint64_t n, max, count[64 * HIST_STEPS];
};
void     hist_add(struct hist *h, uint64_t us);
/* 0.99: the 99th percentile, upper edge */
uint64_t hist_at(const struct hist *h, double share);

/* What is sent: mails of one size made of text, or the files of a directory, with LF lines. */
struct mails {
	struct span *v;
	uint32_t     n;
	uint64_t     bytes;
};
bool mails_load(struct mails *m, const char *dir);            /* false: said on stderr */
void mails_make(struct mails *m, size_t size);

bool bench_address(const char *text, uint16_t port, union sockany *ret, socklen_t *ret_n);

#endif
