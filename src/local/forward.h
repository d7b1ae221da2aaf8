/* forward - the mail goes on to other addresses: one submission through run/submit.
 *
 * What is queued is the Delivered-To line and the mail; journald adds the Received line, which
 * names this process and its user. */
#ifndef LOCAL_FORWARD_H
#define LOCAL_FORWARD_H

#include "local/letter.h"
#include "local/report.h"

/* home: of quire, a C string (a local_world's ctx).  See deliver.h. */
bool forward_send(void *home, const struct letter *l, struct span envelope, struct report *r,
		  uint64_t *ret_id) must_use;

#endif
