/* quire-journald - the only writer of the journal. */
#include "journal/journald.h"

int main(int argc, char **argv)
{
	static struct role role;

	role_begin(&role, "journald", "takes mail and outcomes into the journal", argc, argv);
	journald_run(&role);
}
