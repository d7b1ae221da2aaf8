/* qmail-queue - hands in the message on descriptor 0 with the envelope on descriptor 1. */
#include "mail/submit.h"
#include "tools/qmail_queue.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void on_alarm(int number)
{
	_exit(SUBMIT_TIMEOUT);
}

static int help(void)
{
	return puts("usage: qmail-queue <message 1<envelope\n"
	            "Queues the message on descriptor 0 with the envelope on descriptor 1; all\n"
	            "arguments but a lone --help or --version are ignored.  The home is $QUIRE_HOME,\n"
	            "else /var/qmail.") < 0;
}

int main(int argc, char **argv)
{
	const char *home = getenv("QUIRE_HOME");

	if (argc == 2 && strcmp(argv[1], "--help") == 0)
		return help();
	if (argc == 2 && strcmp(argv[1], "--version") == 0)
		return puts("qmail-queue (quire) " QUIRE_VERSION) < 0;
	signal(SIGALRM, on_alarm);
	alarm(QMAIL_QUEUE_SECONDS);
	return qmail_queue(home && *home ? home : "/var/qmail", 0, 1, SUBMIT_WAIT_MS);
}
