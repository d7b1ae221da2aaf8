/* rcpthosts - for which domains mail is taken.  docs/qmail.md.
 *
 * Without a rcpthosts file nothing is relayed (qmail would relay everything).  An address
 * without '@' is always allowed.  morercpthosts.cdb is asked only if rcpthosts exists. */
#ifndef MAIL_RCPTHOSTS_H
#define MAIL_RCPTHOSTS_H

#include "mail/control.h"

struct rcpthosts;
struct rcpthosts *rcpthosts_new(const struct control *c, int morercpthosts_fd /* -1: none; kept */);
void              rcpthosts_free(struct rcpthosts *r);
bool              rcpthosts_allow(const struct rcpthosts *r, struct span addr);
/* RELAYCLIENT by address, control/relayclients: "10.0.0.0/8" or "10.0.0.0/8:@suffix" (v6 networks in brackets:
 * "[2001:db8::]/32:@suffix").  true: allowed, *ret_suffix is to be appended to each recipient. */
struct ip;
struct relayclients;
struct relayclients *relayclients_new(const struct control *c);
void                 relayclients_free(struct relayclients *r);
bool                 relayclients_find(const struct relayclients *r, const struct ip *ip, struct span *ret_suffix);

#endif
