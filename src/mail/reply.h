/* reply - answers are named values: code, enhanced code (RFC 2034, RFC 3463), text. */
#ifndef MAIL_REPLY_H
#define MAIL_REPLY_H

#include <stdint.h>

struct reply {
	const char *name;                         /* for log and tests */
	uint16_t    code;                         /* RFC 5321 4.2 */
	const char *enhanced;                     /* "" where RFC 2034 sends none */
	const char *text;
};
/* A REPLY() is a constant of the file (or, declared with REPLY_DECL, of the library). */
#define REPLY(id, code_, enhanced_, text_) const struct reply id = {#id, code_, enhanced_, text_}
#define REPLY_DECL(id) extern const struct reply id

#endif
