/* quire-sched - who is tried when, by whom, and what became of it. */
#include "sched/sched.h"

int main(int argc, char **argv)
{
	static struct role role;

	role_begin(&role, "sched",
		   "keeps the queue and hands deliveries to quire-remote and quire-lspawn",
		   argc, argv);
	sched_run(&role);
	return 0;
}
