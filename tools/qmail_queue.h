/* qmail_queue - the old way in: a message on one descriptor, its envelope on another.
 *
 * docs/qmail.md 3.1 to 3.9.  The message is read to its end of file, then the envelope to its
 * last NUL; both may be pipes, sockets or files, and of any size: nothing is held but what the
 * socket takes at once.  Nothing is printed; the exit code says everything. */
#ifndef TOOLS_QMAIL_QUEUE_H
#define TOOLS_QMAIL_QUEUE_H

#include <stdint.h>

#define QMAIL_QUEUE_HOME    61                    /* the exit code: the home can't be entered */
#define QMAIL_QUEUE_SECONDS 86400                 /* after a day it gives up: SUBMIT_TIMEOUT */

/* Enters home and hands in the message by its run/submit, for which it waits wait_ms.  An exit
 * code of qmail-queue (enum submit_code, QMAIL_QUEUE_HOME); 0 only if the message is durable. */
int qmail_queue(const char *home, int message_fd, int envelope_fd, uint32_t wait_ms);

#endif
