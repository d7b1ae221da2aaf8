/* quire-body - decodes bodies and hands them to agents; makes bounces. */
#include "journal/body.h"

int main(int argc, char **argv)
{
	static struct role role;

	role_begin(&role, "body", "reads bodies out of the journal and hands them to those who deliver", argc, argv);
	body_run(&role);
}
