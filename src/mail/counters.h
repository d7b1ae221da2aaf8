/* counters - how many connections there are, in all and from each address, over all front ends.
 *
 * One memfd made by start (counters_make), shared by every smtpd and qmtpd (FILE_COUNTERS).
 * Each process writes its own column only; a count is the sum over the columns, so a process
 * that died takes nothing with it that start cannot give back: counters_clear(its column)
 * before it is started again.
 *
 * There is no list of addresses to keep tidy: an address is hashed, with a seed that peers
 * do not know, to one bucket in each of COUNTERS_ROWS rows, and the smaller of the two sums
 * counts.  It is never too small; it is too large only for an address that meets busy others in
 * both rows.  IPv6 is counted by /64, which is what one customer gets.
 *
 * A count is raised before it is compared, so N processes never pass a limit together. */
#ifndef MAIL_COUNTERS_H
#define MAIL_COUNTERS_H

#include "core/check.h"
#include "mail/ip.h"
#include "mail/msg.h"

#define COUNTERS_COLUMNS 64                       /* half for smtpd, half for qmtpd */
#define COUNTERS_ROWS    2
/* two rows: 256 KiB a column, touched as used */
#define COUNTERS_BUCKETS 65536
/* connections of one process; a bucket is 16 bits */
#define COUNTERS_MAX     60000

struct counters;
int              counters_make(void) must_use;    /* a sealed memfd, or -errno */
/* fd stays the caller's; -1: a private table; NULL: not one of ours */
struct counters *counters_map(int fd) must_use;
void             counters_free(struct counters *c);
/* The column of a process; index must be below COUNTERS_COLUMNS / 2. */
unsigned         counters_column(enum role_kind role, unsigned index);
void             counters_clear(struct counters *c, unsigned column);

enum counters_answer { COUNTERS_OK, COUNTERS_ALL_FULL, COUNTERS_IP_FULL };
/* all_max, ip_max: 0 is no limit.  COUNTERS_OK owes one counters_leave(), the others none. */
enum counters_answer counters_enter(struct counters *c, unsigned column, const struct ip *ip,
                                    uint64_t all_max, uint64_t ip_max) must_use;
void             counters_leave(struct counters *c, unsigned column, const struct ip *ip);
uint64_t         counters_all(const struct counters *c);
uint64_t         counters_of(const struct counters *c, const struct ip *ip);

#endif
