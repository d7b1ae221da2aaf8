/* rcpthosts - for which domains mail is taken, and from where for all.  docs/qmail.md 7.
 *
 * Without a rcpthosts file nothing is relayed (qmail would relay everything).  An address
 * without '@' is always allowed.  morercpthosts.cdb is asked only if rcpthosts exists. */
#ifndef MAIL_RCPTHOSTS_H
#define MAIL_RCPTHOSTS_H

#include "mail/control.h"
#include "mail/ip.h"

struct rcpthosts;
/* morercpthosts_fd: of the .cdb, -1: none; it is mapped and stays the caller's.  One that is no
 * database ends the process, as an unreadable control file does: refusing its domains for good
 * would lose mail. */
struct rcpthosts *rcpthosts_new(const struct control *c, int morercpthosts_fd);
void              rcpthosts_free(struct rcpthosts *r);
bool              rcpthosts_allow(const struct rcpthosts *r, struct span addr);
/* control/morercpthosts into its .cdb; 0, or the line that is wrong (*ret_why says how). */
struct cdb_writer;
unsigned morercpthosts_compile(struct span text, struct cdb_writer *w, const char **ret_why);

/* RELAYCLIENT by address, control/relayclients: "10.0.0.0/8" or "10.0.0.0/8:@suffix" (v6
 * networks in brackets:
 * "[2001:db8::]/32:@suffix").  true: allowed, *ret_suffix is to be appended to each recipient.
 * The first line that has the address counts. */
struct relay_entry {
	struct ip_net net;
	struct span   suffix;
};
bool                 relay_entry_parse(struct span entry, struct relay_entry *ret);
struct relayclients;
struct relayclients *relayclients_new(const struct control *c);
void                 relayclients_free(struct relayclients *r);
bool relayclients_find(const struct relayclients *r, const struct ip *ip,
		       struct span *ret_suffix);

#endif
