/* lspawn - root's part of local delivery: finds out whose mail it is, and has a process of
 * that user deliver it.  quire-lspawn(8), docs/processes.md.
 *
 *   sched/0  DELIVER (one recipient), CLOSE ->     -> AGENT, then one VERDICT for each DELIVER
 *   body/i   BODYFILE, BODYFAIL ->
 *
 * It reads no byte of any mail and opens no file of any user.  A job starts when its body is
 * there and a worker is free: one of the same user that is idle, or a new one while there are
 * fewer than control/concurrencylocal, or one in place of an idle one of another user.
 *
 * Finding the user asks the password file, which blocks where it is on a network (NSS). */
#ifndef LOCAL_LSPAWN_H
#define LOCAL_LSPAWN_H

struct role;

void lspawn_run(struct role *r); /* returns when it has been drained */

#endif
