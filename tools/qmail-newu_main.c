/* qmail-newu - makes users/cdb of users/assign. */
#include "mail/users.h"
#include "tools/cdb_tool.h"

int main(int argc, char **argv)
{
	static const struct cdb_tool newu = {
		.name = "qmail-newu",
		.what = "Makes users/cdb, which says whose mail is whose, of users/assign",
		.source = "users/assign",
		.tmp = "users/cdb.tmp",
		.target = "users/cdb",
		.compile = users_compile,
	};

	return cdb_tool_run(&newu, argc, argv);
}
