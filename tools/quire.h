/* quire - the administrator's command: verbs, each in a file of its own.
 *
 * A verb gets its own argv (argv[0] is the verb) and returns an exit code: 0, 100 for wrong use or
 * what will not get better by trying again, 111 for what may. */
#ifndef TOOLS_QUIRE_H
#define TOOLS_QUIRE_H

#include <stdbool.h>

int quire_init(int argc, char **argv);
int quire_start(int argc, char **argv);
int quire_stop(int argc, char **argv);
int quire_status(int argc, char **argv);
int quire_queue(int argc, char **argv);
int quire_journal(int argc, char **argv);          /* tools/quire_journal.h */

/* --home, else $QUIRE_HOME, else /var/qmail. */
const char *quire_home(const char *option);
/* One line "quire VERB: ..." on stderr; returns code. */
int quire_say(int code, const char *verb, const char *fmt, ...) __attribute__((format(printf, 3,
		4)));
/* Pid of the running start of this home; 0: none runs; -1: no home (errno). */
long quire_running(const char *home);
/* A connection to run/control of this home; -1 (errno). */
int quire_dial(const char *home);

#endif
