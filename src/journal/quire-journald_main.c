/* quire-journald - the only writer of the journal. */
#include "journal/journald.h"

int main(int argc, char **argv)
{
	static struct role role;

	role_begin(&role, "journald", "keeps the journal: takes mail and outcomes, and answers when they are on the disk", argc, argv);
	journald_run(&role);
}
