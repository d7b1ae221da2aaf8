/* roles - which processes there are, as whom they run, and who talks to whom.
 *
 * Two constant tables; start.c walks them and knows nothing else about any process. */
#ifndef START_ROLES_H
#define START_ROLES_H

#include "mail/control.h"
#include "mail/msg.h"

#include <stdbool.h>

/* of one kind; twice as many while front ends are replaced (mail/counters.h) */
#define ROLE_PROCS_MAX 16

enum stage { STAGE_JOURNAL, STAGE_QUEUE, STAGES };
struct role_spec {
	uint8_t     kind;                         /* enum role_kind */
	const char *name;                         /* program: quire-NAME */
	const char *user, *group;                 /* when started by root; NULL: stays root */
	/* the control file that says how many; NULL: one */
	const char *procs;
	uint8_t     stage;                        /* started when the stage before is ready */
	bool        front;                        /* replaced on HUP, drained first on TERM */
	uint8_t     listeners[2];                 /* enum listener_kind, 0: none */
	uint8_t     files[2];                     /* enum file_kind, 0: none */
};
/* every process of kind a has a wire to every one of kind b */
struct role_link { uint8_t a, b; };

extern const struct role_spec role_specs[];
extern const unsigned         role_specs_n;
extern const struct role_link role_links[];
extern const unsigned         role_links_n;

const struct role_spec *role_spec(uint8_t kind);
unsigned role_procs(const struct role_spec *s, const struct control *c);

#endif
