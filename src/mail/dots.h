/* dots - the body of SMTP DATA, in and out.  RFC 5321 4.5.2, 2.3.8; docs/qmail.md 5.10, 9.19.
 *
 * In: CR LF becomes LF, a leading dot of a line goes, only CR LF . CR LF ends; a bare LF is
 * BODY_BARE_LF; a CR not followed by LF is data.  Out: LF becomes CR LF, dots are stuffed after
 * every line end that is sent; a CR that is not part of a CR LF that we make becomes a space
 * (counted); a last line without LF gets its CR LF; then the final dot. */
#ifndef MAIL_DOTS_H
#define MAIL_DOTS_H

#include "core/outbuf.h"

struct dots_in {
	uint8_t state;
	uint64_t n;                               /* decoded bytes so far */
};
enum body_event { BODY_MORE, BODY_END, BODY_BARE_LF };

void dots_in_begin(struct dots_in *d);            /* at the start of a line */
/* Takes all of *in, or up to the end; gives runs of decoded bytes to put(). */
enum body_event dots_in_take(struct dots_in *d, struct span *in,
			     void (*put)(void *ctx, struct span run), void *ctx);

struct dots_out {
	bool     line_start, cr; /* cr: a CR is held back until its follower is known */
	uint64_t stray_cr;                        /* sent as spaces */
};
void dots_out_begin(struct dots_out *d);
void dots_out_put(struct dots_out *d, struct outbuf *o, struct span body);
void dots_out_end(struct dots_out *d, struct outbuf *o); /* the missing CR LF, and ". CR LF" */

#endif
