/* start - the parent of all: holds every listening socket, makes every pair of sockets, runs
 * every daemon as its own user, restarts what dies, stops in order.
 *
 * It reads no network and no mail.  It believes nothing that a child says but READY and
 * TROUBLE (one line of text, printed).
 *
 * States of a child: NONE -> STARTED (executed, told everything, GO) -> READY -> gone.  A child
 * that dies is started again after a wait that doubles from RESTART_MS_MIN to RESTART_MS_MAX and
 * falls back after RESTART_CALM_MS of good life.  A child that said TROUBLE is not: the whole
 * host stops, exit 111, with that line.
 *
 * Stages: journald alone; when it is READY (recovery done) all others.  When every process of
 * the last stage is READY for the first time, the host accepts mail: that is what
 * `quire start --detach` waits for.
 *
 * TERM: front ends drain and end; then sched, which waits for running deliveries; then the
 * rest.  A second TERM ends everything at once: that is a crash, and the journal is made for it.
 * HUP: the control files are read and validated; if one is bad it is named and nothing
 * changes; else listeners are adjusted, front ends are replaced by new ones (the old drain),
 * and everybody else is told the new values.  ALRM: sched makes everything due now. */
#ifndef START_START_H
#define START_START_H

struct start_options {
	const char *home;
	int         ready_fd;                     /* one line: "ready" or why not; -1: none */
};

/* Runs until stopped; the exit code: 0 after TERM, 111 with one line on stderr otherwise. */
int start_run(const struct start_options *o);

#endif
