#include "start/roles.h"

#include <stddef.h>

/* kind, name, user, group, procs, stage, front, listeners, files.  Order of stopping: front
 * ends, then sched, then the rest (start.c). */
/* clang-format off */
const struct role_spec role_specs[] = {
	{ROLE_JOURNALD, "journald", "qmailq", "qmail", NULL, STAGE_JOURNAL, false,
	 {LISTEN_SUBMIT}, {FILE_JOURNAL_DIR, FILE_DICT}},
	{ROLE_SCHED, "sched", "qmails", "qmail", NULL, STAGE_QUEUE, false,
	 {LISTEN_CONTROL}, {FILE_JOURNAL_DIR}},
	{ROLE_BODY, "body", "qmailb", "qmail", "bodyprocs", STAGE_QUEUE, false,
	 {0}, {FILE_JOURNAL_DIR}},
	{ROLE_REMOTE, "remote", "qmailr", "qmail", "remoteprocs", STAGE_QUEUE, false,
	 {0}, {0}},
	{ROLE_LSPAWN, "lspawn", NULL, NULL, NULL, STAGE_QUEUE, false,
	 {0}, {FILE_USERS_CDB}},
	{ROLE_SMTPD, "smtpd", "qmaild", "nofiles", "smtpprocs", STAGE_QUEUE, true,
	 {LISTEN_SMTP}, {FILE_MORERCPTHOSTS, FILE_COUNTERS}},
	{ROLE_QMTPD, "qmtpd", "qmaild", "nofiles", "qmtpprocs", STAGE_QUEUE, true,
	 {LISTEN_QMTP}, {FILE_MORERCPTHOSTS, FILE_COUNTERS}},
};
/* clang-format on */
const unsigned role_specs_n = ARRAY_N(role_specs);

const struct role_link role_links[] = {
	{ROLE_SMTPD, ROLE_JOURNALD}, {ROLE_QMTPD, ROLE_JOURNALD}, {ROLE_BODY, ROLE_JOURNALD},
	{ROLE_SCHED, ROLE_JOURNALD}, {ROLE_SCHED, ROLE_BODY},     {ROLE_SCHED, ROLE_REMOTE},
	{ROLE_SCHED, ROLE_LSPAWN},   {ROLE_BODY, ROLE_REMOTE},    {ROLE_BODY, ROLE_LSPAWN},
};
const unsigned role_links_n = ARRAY_N(role_links);

const struct role_spec *role_spec(uint8_t kind)
{
	for (unsigned i = 0; i < role_specs_n; i++)
		if (role_specs[i].kind == kind)
			return &role_specs[i];
	unreachable();
}

unsigned role_procs(const struct role_spec *s, const struct control *c)
{
	uint64_t n = s->procs ? control_setting(c, s->procs) : 1;

	return n < 1 ? 1 : n > ROLE_PROCS_MAX ? ROLE_PROCS_MAX : (unsigned)n;
}
