/* quire-body - decodes bodies and hands them to agents; makes bounces. */
#include "journal/body.h"

int main(int argc, char **argv)
{
	static struct role role;

	role_begin(&role, "body", "hands bodies out of the journal to agents", argc, argv);
	body_run(&role);
}
