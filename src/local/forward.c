/* forward - see forward.h.
 *
 * It queues all or nothing; only an answer that got lost on its way can make a later try queue
 * the same mail a second time. */
#include "local/forward.h"

#include <limits.h>
#include <stdio.h>

#include "mail/submit.h"

static bool queue(const char *socket, const struct letter *l, struct span envelope,
                  struct report *r, uint64_t *ret_id)
{
	struct submit s;
	int           code;

	submit_begin(&s, socket);
	/* A failure of one of these is kept: submit_end() tells it. */
	(void)submit_body(&s, l->dtline);
	(void)submit_body(&s, l->body);
	(void)submit_envelope(&s, envelope);
	code = submit_end(&s);
	if (code != SUBMIT_OK)
		return report_fail(r, submit_letter(code), "Unable to forward message: %s.\n",
				   s.text);
	*ret_id = s.id;
	return true;
}

bool forward_send(void *home, const struct letter *l, struct span envelope, struct report *r,
                  uint64_t *ret_id)
{
	char socket[PATH_MAX];
	int  n = snprintf(socket, sizeof(socket), "%s/run/submit", (const char *)home);

	if (n < 0 || (size_t)n >= sizeof(socket))
		return report_fail(
			r, 'Z',
			"Unable to forward message: the home's name is too long (#4.3.5).\n");
	return queue(socket, l, envelope, r, ret_id);
}
