/* envelope - see the header. */
#include "mail/envelope.h"

#include "mail/addr.h"

#include <string.h>

#define ENVELOPE_KEPT 4096                        /* storage that an idle connection may keep */

static_check(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__);
static_check(ADDR_MAX <= UINT16_MAX);
static_check(ADDR_MAX <= sizeof ((struct envelope *)0)->sender);

void envelope_init(struct envelope *e, size_t packed_max)
{
	e->sender_n = 0;
	e->rcpts = 0;
	buf_init(&e->packed, packed_max);
}

void envelope_fini(struct envelope *e)
{
	buf_free(&e->packed);
}

void envelope_clear(struct envelope *e)
{
	e->sender_n = 0;
	e->rcpts = 0;
	if (e->packed.cap > ENVELOPE_KEPT)
		buf_free(&e->packed);
	buf_clear(&e->packed);
}

bool envelope_sender(struct envelope *e, struct span s)
{
	if (s.n > ADDR_MAX)
		return false;
	if (s.n > 0)
		memcpy(e->sender, s.p, s.n);
	e->sender_n = (uint16_t)s.n;
	return true;
}

bool envelope_add(struct envelope *e, struct span rcpt)
{
	if (!packed_add(&e->packed, rcpt))
		return false;
	e->rcpts++;
	return true;
}

bool packed_add(struct buf *b, struct span addr)
{
	uint16_t n = (uint16_t)addr.n;

	if (addr.n > ADDR_MAX)
		return false;
	char *at = buf_room(b, sizeof n + addr.n);
	if (!at)
		return false;
	memcpy(at, &n, sizeof n);
	if (n > 0)
		memcpy(at + sizeof n, addr.p, n);
	b->n += sizeof n + n;
	return true;
}

bool packed_next(struct span *packed, struct span *ret)
{
	uint16_t n;

	if (packed->n < sizeof n)
		return false;
	memcpy(&n, packed->p, sizeof n);
	if (packed->n - sizeof n < n)
		return false;
	span_cut(packed, sizeof n);
	*ret = span_cut(packed, n);
	return true;
}
