/* salvage_mail - messages put together from records that were found anywhere, in any order.
 *
 * Kept in memory of each: its MSG, where its parts lie, its STATEs.  What a message is, is known
 * when all records were seen:
 *
 *   OVER        each recipient has a final outcome: nothing is left to do
 *   WHOLE       MSG and all parts: it can be written anew
 *   CUT         MSG, but parts of it are lost: a person must decide
 *   NO_MSG      parts only: its MSG was lost, or its client hung up and nobody was told yes */
#ifndef TOOLS_SALVAGE_MAIL_H
#define TOOLS_SALVAGE_MAIL_H

#include "core/table.h"
#include "journal/reader.h"
#include "sched/load.h"

enum salvaged { SALVAGED_OVER, SALVAGED_WHOLE, SALVAGED_CUT, SALVAGED_NO_MSG };
struct salvage_place { uint32_t file, number; uint64_t off; uint8_t type; };
struct salvage_mail {
	uint64_t      id, arrival_us;
	enum salvaged what;
	struct buf    msg;                        /* struct rec_head, body; empty: no MSG was found */
	struct buf    states;                     /* struct rec_head, body, again and again */
	struct buf    settled;                    /* ranges that a bounce which is over had settled */
	struct salvage_place *places;             /* after judging: by type (BODY first) and number, each once */
	uint32_t      places_n, places_cap, lost; /* lost: parts that are missing */
	struct bits   over;
};
struct salvage_mails {
	struct map    by_id;                      /* struct salvage_mail */
	struct salvage_mail **v;                  /* after judging: in order of arrival */
	size_t        n;
	struct buf    dicts;                      /* struct rec_head, body, again and again */
	uint64_t      epoch;                      /* the highest of all ids */
};
void salvage_mails_init(struct salvage_mails *s);
void salvage_mails_fini(struct salvage_mails *s);
/* A record of file number `file`, at this offset in it. */
void salvage_mails_take(struct salvage_mails *s, uint32_t file, uint64_t off, const struct record *r);
void salvage_mails_judge(struct salvage_mails *s);
bool salvage_mail_msg(const struct salvage_mail *m, struct msg_view *ret);
/* One of the records that were put behind one another; cuts it off. */
bool salvage_record_next(struct span *all, struct rec_head *ret, struct span *ret_body);

#endif
