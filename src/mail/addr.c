/* addr - see the header.  Quoting is needed on the way out only; on the way in it is taken off
 * at once, so that every comparison in the program is a comparison of bytes. */
#include "mail/addr.h"

#include "mail/ip.h"

#include <string.h>

struct span addr_local(struct span addr)
{
	return span_until(addr, span_rfind(addr, '@'));
}

struct span addr_domain(struct span addr)
{
	size_t at = span_rfind(addr, '@');

	return at == SPAN_NPOS ? SPAN_NONE : span_from(addr, at + 1);
}

bool addr_has_at(struct span addr)
{
	return span_has(addr, '@');
}

bool addr_fits_smtp(struct span addr)
{
	return !span_has(addr, '\r') && !span_has(addr, '\n') && !span_has(addr, '\0');
}

/* atext of RFC 5321 4.1.2, and the dot. */
static bool is_bare(char c)
{
	if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'))
		return true;
	return c != '\0' && strchr("!#$%&'*+-./=?^_`{|}~", c) != NULL;
}

static bool needs_quotes(struct span box)
{
	if (box.n == 0 || box.p[0] == '.' || box.p[box.n - 1] == '.')
		return true;
	for (size_t i = 0; i < box.n; i++)
		if (!is_bare(box.p[i]) || (box.p[i] == '.' && box.p[i + 1] == '.'))
			return true;
	return false;
}

/* Where the quoted text goes; false: there is no more room. */
struct sink {
	bool (*put)(void *to, struct span s);
	void  *to;
};

static bool quote_box(struct sink k, struct span box)
{
	bool fits = k.put(k.to, SPAN("\""));

	while (box.n > 0) {
		char c = *span_cut(&box, 1).p;

		if (c == '"' || c == '\\' || c == '\r' || c == '\n')
			fits = fits && k.put(k.to, SPAN("\\"));
		fits = fits && k.put(k.to, span_of(&c, 1));
	}
	return fits && k.put(k.to, SPAN("\""));
}

static bool quote(struct sink k, struct span addr)
{
	struct span box = addr_local(addr);

	if (addr.n == 0)
		return true;
	if (!needs_quotes(box))
		return k.put(k.to, addr);
	return quote_box(k, box) && k.put(k.to, span_from(addr, box.n));
}

static bool put_out(void *to, struct span s)
{
	out_span(to, s);
	return true;
}

static bool put_buf(void *to, struct span s)
{
	return buf_add(to, s);
}

void addr_quote(struct outbuf *o, struct span addr)
{
	if (!quote((struct sink){put_out, o}, addr))
		unreachable();
}

bool addr_quote_buf(struct buf *b, struct span addr)
{
	size_t before = b->n;

	if (quote((struct sink){put_buf, b}, addr))
		return true;
	b->n = before;
	return false;
}

/* "@relay1,@relay2:" in front of a path is read over (RFC 5321 4.1.2, appendix C). */
static bool skip_route(struct span *text, bool angle)
{
	if (text->n == 0 || text->p[0] != '@')
		return true;
	for (size_t i = 0; i < text->n; i++) {
		if (text->p[i] == ':') {
			span_cut(text, i + 1);
			return true;
		}
		if (text->p[i] == (angle ? '>' : ' '))
			return false;
	}
	return false;
}

/* Bytes up to the end mark outside quotes; dst may be too small, then only *ret_n tells. */
static enum path_result unquote(struct span *text, bool angle, char *dst, size_t cap,
				size_t *ret_n)
{
	char end = angle ? '>' : ' ';
	bool quoted = false;
	size_t n = 0;

	while (text->n > 0 && (quoted || text->p[0] != end)) {
		char c = *span_cut(text, 1).p;

		if (c == '"') {
			quoted = !quoted;
			continue;
		}
		if (c == '\\') {
			if (text->n == 0)
				return PATH_SYNTAX;
			c = *span_cut(text, 1).p;
		}
		if (c == '\0' || c == '\r' || c == '\n')
			return PATH_SYNTAX;
		if (n < cap)
			dst[n] = c;
		n++;
	}
	*ret_n = n;
	if (quoted || (angle && !span_skip(text, SPAN(">"))))
		return PATH_SYNTAX;
	return PATH_OK;
}

enum path_result addr_take_path(struct span *arg, char *dst, size_t cap, struct span *ret)
{
	size_t n = 0;

	while (span_skip(arg, SPAN(" ")))
		;
	bool angle = span_skip(arg, SPAN("<"));
	if (!angle && arg->n == 0)
		return PATH_SYNTAX;
	if (!skip_route(arg, angle))
		return PATH_SYNTAX;
	if (unquote(arg, angle, dst, cap, &n) != PATH_OK)
		return PATH_SYNTAX;
	if (arg->n > 0 && arg->p[0] != ' ')
		return PATH_SYNTAX;
	if (n > cap)
		return PATH_LONG;
	while (span_skip(arg, SPAN(" ")))
		;
	*ret = span_of(dst, n);
	return PATH_OK;
}

bool addr_literal(struct span domain, struct ip *ret)
{
	struct ip ip;

	if (!span_skip(&domain, SPAN("[")) || !span_ends(domain, SPAN("]")))
		return false;
	domain = span_until(domain, domain.n - 1);
	bool v6 = span_skip_i(&domain, SPAN("IPv6:"));
	if (!ip_parse(domain, &ip) || ip.family != (v6 ? 6 : 4))
		return false;
	*ret = ip;
	return true;
}

#define VERP_END SPAN("-@[]")

struct span addr_verp_base(struct span sender)
{
	return span_ends(sender, VERP_END) ? span_until(sender, sender.n - 4) : sender;
}

struct span addr_verp(struct span sender, struct span rcpt, struct buf *b)
{
	struct span base = addr_verp_base(sender);

	if (base.n == sender.n || !addr_has_at(base) || !addr_has_at(rcpt))
		return sender;

	buf_clear(b);
	if (!buf_add(b, addr_local(base)) || !buf_add(b, addr_local(rcpt)) ||
	    !buf_add_byte(b, '=') || !buf_add(b, addr_domain(rcpt)) || !buf_add_byte(b, '@') ||
	    !buf_add(b, addr_domain(base)))
		return sender;
	return buf_span(b);
}
