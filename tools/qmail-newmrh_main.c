/* qmail-newmrh - makes control/morercpthosts.cdb of control/morercpthosts. */
#include "mail/rcpthosts.h"
#include "tools/cdb_tool.h"

int main(int argc, char **argv)
{
	static const struct cdb_tool newmrh = {
		.name = "qmail-newmrh",
		.what = "Makes control/morercpthosts.cdb, more domains to take mail for, of "
			"control/morercpthosts",
		.source = "control/morercpthosts",
		.tmp = "control/morercpthosts.tmp",
		.target = "control/morercpthosts.cdb",
		.compile = morercpthosts_compile,
	};

	return cdb_tool_run(&newmrh, argc, argv);
}
