/* source - where the bytes of a body come from, as the conversations see it.
 *
 * take() gives some bytes (at most max), valid until the next event; or says that they are
 * not here yet (then the owner of the source calls the conversation again when they are); or
 * that this was all; or that they never will be here.  After rewind() it begins anew. */
#ifndef REMOTE_SOURCE_H
#define REMOTE_SOURCE_H

#include "core/span.h"

enum source_event { SOURCE_BYTES, SOURCE_LATER, SOURCE_END, SOURCE_GONE };

struct source {
	enum source_event (*take)(struct source *s, size_t max, struct span *ret);
	void              (*rewind)(struct source *s);
	/* may there be bytes above 127 */
	bool              (*eight_bit)(const struct source *s);
};

#endif
