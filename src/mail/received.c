/* received - see the header.  Who a peer says it is goes into a header that programs read: what
 * is not plainly part of a name or address is written as '?', so no peer can end the line or
 * forge a part of it. */
#include "mail/received.h"

#include "mail/date.h"

#include <string.h>

static bool is_plain(char c)
{
	if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'))
		return true;
	return c != '\0' && strchr(".@%+/=:-[]", c) != NULL;
}

static bool add_safe(struct buf *b, struct span s)
{
	for (size_t i = 0; i < s.n; i++)
		if (!buf_add_byte(b, is_plain(s.p[i]) ? s.p[i] : '?'))
			return false;
	return true;
}

static bool add_known(struct buf *b, struct span s)
{
	return add_safe(b, s.n > 0 ? s : SPAN("unknown"));
}

/* What it said of itself is worth a word only where it differs from what we know. */
static bool add_helo(struct buf *b, const struct received_from *f)
{
	if (f->helo.n == 0 || span_ieq(f->helo, f->host))
		return true;
	return buf_add(b, SPAN(" (HELO ")) && add_safe(b, f->helo) && buf_add_byte(b, ')');
}

static bool add_info(struct buf *b, const struct received_from *f)
{
	return f->info.n == 0 || (add_safe(b, f->info) && buf_add_byte(b, '@'));
}

bool received_network(struct buf *b, const struct received_from *f, uint64_t wall)
{
	size_t before = b->n;
	char date[DATE_MAX];

	if (buf_add(b, SPAN("Received: from ")) && add_known(b, f->host) && add_helo(b, f) &&
	    buf_add(b, SPAN(" (")) && add_info(b, f) && add_known(b, f->ip) &&
	    buf_add(b, SPAN(")\n  by ")) && add_known(b, f->by) &&
	    buf_fmt(b, " with %s; %s\n", f->protocol, date_822(wall, date)))
		return true;
	b->n = before;
	return false;
}

bool received_invoked(struct buf *b, uint64_t pid, const char *who, uint64_t wall)
{
	char date[DATE_MAX];

	return buf_fmt(b, "Received: (qmail %llu invoked %s); %s\n", (unsigned long long)pid,
		       who, date_822(wall, date));
}
