/* sendmail - hands in a message for the recipients named, as every sendmail does. */
#include "mail/submit.h"
#include "tools/sendmail.h"

#include <stdlib.h>

int main(int argc, char **argv)
{
	struct sendmail_options o = sendmail_read_options(argv);
	const char             *home = getenv("QUIRE_HOME");

	return sendmail(&o, home && *home ? home : "/var/qmail", SUBMIT_WAIT_MS);
}
