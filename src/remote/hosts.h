/* hosts - what we remember of addresses: who did not answer, and how QMTP servers behave.
 *
 * An address that timed out twice is not tried for an hour or so (docs/qmail.md 9.10); every
 * other end of an attempt to connect clears that.  It is a memory, not a register: bounded, and
 * the entry unused for longest makes place. */
#ifndef REMOTE_HOSTS_H
#define REMOTE_HOSTS_H

#include "core/list.h"
#include "core/table.h"
#include "mail/ip.h"
#include "remote/talk_qmtp.h"

#define HOSTS_MAX          16384
#define HOSTS_TIMEOUTS_MAX 10                     /* counted no further */
#define HOSTS_AGAIN_MS     (120 * 1000)           /* timeouts this close together count once */
/* and up to half as much again, by the dice */
#define HOSTS_SKIP_MS      (60 * 64 * 1000)

struct host_key {                                 /* an address and a port, as bytes */
	uint8_t bytes[24];
};
struct host_key host_key(const struct ip *ip, uint16_t port);

struct hosts {
	struct table by_key;
	struct link  by_use;                      /* unused for longest first */
};
void hosts_init(struct hosts *h);
void hosts_fini(struct hosts *h);
bool hosts_skip(struct hosts *h, const struct host_key *k);
void hosts_timed_out(struct hosts *h, const struct host_key *k);
/* connected, or refused at once */
void hosts_answered(struct hosts *h, const struct host_key *k);
enum qmtp_manners hosts_manners(struct hosts *h, const struct host_key *k);
void hosts_set_manners(struct hosts *h, const struct host_key *k, enum qmtp_manners m);

#endif
