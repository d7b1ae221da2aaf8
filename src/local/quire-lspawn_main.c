/* quire-lspawn - finds out whose mail it is and has a process of that user deliver it. */
#include "core/sandbox.h"
#include "local/lspawn.h"
#include "mail/role.h"

int main(int argc, char **argv)
{
	struct role r;

	role_begin(&r, "lspawn", "hands local mail to processes of its recipients", argc, argv);
	sandbox_enter(SANDBOX_LOCAL, NULL);
	lspawn_run(&r);
	return 0;
}
