/* cdb_tool - what qmail-newu and qmail-newmrh share: a text file of the home made into a cdb
 * beside it.  Exit 0, 100 for wrong use, 111 for anything else; errors are one line. */
#ifndef TOOLS_CDB_TOOL_H
#define TOOLS_CDB_TOOL_H

#include "mail/cdb.h"

struct cdb_tool {
	const char *name;                         /* "qmail-newu" */
	const char *what;                         /* for --help */
	const char *source, *tmp, *target;        /* below the home */
	/* 0, or the line that is wrong; *ret_why says how */
	unsigned (*compile)(struct span text, struct cdb_writer *w, const char **ret_why);
};

int cdb_tool_run(const struct cdb_tool *t, int argc, char **argv);

#endif
