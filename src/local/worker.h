/* worker - the process that delivers as a user: forked by lspawn, never executed.
 *
 * One job at a time comes over a socket pair (SOCK_SEQPACKET): a head, the words of the job,
 * and the body's descriptor; the answer is one packet: the letter and the text.  The worker
 * ends when lspawn closes its end.  It trusts lspawn; lspawn trusts nothing that it says but
 * the letter and the text of its own job. */
#ifndef LOCAL_WORKER_H
#define LOCAL_WORKER_H

#include "local/deliver.h"

#include <sys/types.h>

#define WORKER_JOB_MAX    (32 * 1024) /* home, addresses, default delivery */
#define WORKER_ANSWER_MAX (1 + REPORT_SHOWN)
#define WORKER_WORDS      7

struct worker_who {
	bool drop; /* become uid and gid (lspawn is root) */
	uid_t uid; /* never 0 where drop is set */
	gid_t gid;
};

/* Forks.  The pid, or -1 with errno; *ret_sock is lspawn's end, non-blocking.  quire_home:
 * where run/submit is. */
pid_t worker_start(const struct worker_who *who, const char *quire_home, int *ret_sock,
		   int *ret_pidfd) must_use;
/* lspawn's side; false: the worker is gone, or the job is longer than WORKER_JOB_MAX. */
bool worker_send(int sock, const struct local_job *job, int body, uint64_t size) must_use;

#endif
