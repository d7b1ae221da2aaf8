/* addrlist - see addrlist.h.
 *
 * Tokens are glued to one candidate while a '.' or '@' joins them; a word after a word begins
 * the next candidate.  At ',' ';' and the end the candidates are addresses; at '<' and ':' they
 * turn out to have been a name.
 *
 *   list    = [ entry ] *( "," [ entry ] )
 *   entry   = word *word [ "<" [ route ":" ] addr ">" ]  /  addr  /  name ":" list ";"
 *   addr    = word *( "." word ) [ "@" domain ] */
#include "tools/addrlist.h"

#include "mail/addr.h"

#include <string.h>

#define CANDIDATES_MAX 256                        /* words of a name without a comma */

enum token { T_END, T_BAD, T_WORD, T_LITERAL, T_CHAR };

struct candidate {
	size_t from, at;                          /* in text; at: of the last '@', or SIZE_MAX */
	size_t to;                                /* behind the last word: a joint there is stray */
};

struct parse {
	struct span      in;
	struct buf       text;                    /* unquoted bytes of the candidates */
	size_t           token_from;              /* of the last word, at text's end */
	char             c;                       /* of T_CHAR */
	struct candidate v[CANDIDATES_MAX];
	unsigned         n;
	bool             glue;                    /* the last token was '.' or '@' */
	mailbox_take    *take;
	void            *ctx;
};

static bool is_special(char c)
{
	return c != '\0' && strchr("<>()[],;:@.\"", c);
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* ( ... ( ... ) ... \) ... ) */
static bool skip_comment(struct parse *p)
{
	unsigned depth = 0;

	do {
		if (p->in.n == 0)
			return false;

		char c = span_cut(&p->in, 1).p[0];

		if (c == '(')
			depth++;
		else if (c == ')')
			depth--;
		else if (c == '\\')
			span_cut(&p->in, 1);
	} while (depth > 0);
	return true;
}

static bool skip_blanks(struct parse *p)
{
	while (p->in.n > 0) {
		if (is_blank(p->in.p[0]))
			span_cut(&p->in, 1);
		else if (p->in.p[0] != '(')
			return true;
		else if (!skip_comment(p))
			return false;
	}
	return true;
}

/* An envelope ends an address at a NUL, and a line break in one would end the line of a log or
 * a header: neither has any use in one. */
static enum token keep(struct parse *p, char c)
{
	if (c == '\0' || c == '\n' || c == '\r')
		return T_BAD;
	return buf_add_byte(&p->text, c) ? T_WORD : T_BAD;
}

/* Up to the closing byte; a backslash makes the next byte plain, a folded line is one. */
static enum token take_quoted(struct parse *p, char close)
{
	while (p->in.n > 0) {
		char c = span_cut(&p->in, 1).p[0];

		if (c == close)
			return T_WORD;
		if (c == '\n' || (c == '\r' && span_starts(p->in, SPAN("\n"))))
			continue;
		if (c == '\\') {
			if (p->in.n == 0)
				return T_BAD;
			c = span_cut(&p->in, 1).p[0];
		}
		if (keep(p, c) == T_BAD)
			return T_BAD;
	}
	return T_BAD;
}

static enum token take_atom(struct parse *p)
{
	while (p->in.n > 0 && !is_special(p->in.p[0]) && !is_blank(p->in.p[0])) {
		char c = span_cut(&p->in, 1).p[0];

		if (c == '\\') {
			if (p->in.n == 0)
				return T_BAD;
			c = span_cut(&p->in, 1).p[0];
		}
		if (keep(p, c) == T_BAD)
			return T_BAD;
	}
	return T_WORD;
}

static enum token take_literal(struct parse *p)
{
	if (keep(p, '[') == T_BAD || take_quoted(p, ']') == T_BAD || keep(p, ']') == T_BAD)
		return T_BAD;
	return T_LITERAL;
}

static enum token next(struct parse *p)
{
	if (!skip_blanks(p))
		return T_BAD;
	if (p->in.n == 0)
		return T_END;
	p->token_from = p->text.n;
	switch (p->in.p[0]) {
	case '"':
		span_cut(&p->in, 1);
		return take_quoted(p, '"');
	case '[':
		span_cut(&p->in, 1);
		return take_literal(p);
	default:
		if (!is_special(p->in.p[0]))
			return take_atom(p);
		p->c = span_cut(&p->in, 1).p[0];
		return T_CHAR;
	}
}

static void forget(struct parse *p)
{
	p->n = 0;
	p->glue = false;
	buf_clear(&p->text);
}

static struct candidate *last(struct parse *p)
{
	return p->n > 0 ? &p->v[p->n - 1] : NULL;
}

static struct candidate *begin(struct parse *p, size_t from)
{
	if (p->n == CANDIDATES_MAX)
		return NULL;
	p->v[p->n] = (struct candidate){.from = from, .at = SIZE_MAX, .to = from};
	return &p->v[p->n++];
}

/* The word that next() left at text's end. */
static bool add_word(struct parse *p, enum token t)
{
	struct candidate *c = p->glue ? last(p) : begin(p, p->token_from);

	if (!c || (t == T_LITERAL && (c->at == SIZE_MAX || p->token_from != c->at + 1)))
		return false;                     /* a literal is a whole domain */
	c->to = p->text.n;
	p->glue = false;
	return true;
}

static bool add_joint(struct parse *p, char joint)
{
	struct candidate *c = last(p);

	if (!c)
		c = begin(p, p->text.n);
	if (!c || keep(p, joint) == T_BAD)
		return false;
	if (joint == '@')
		c->at = p->text.n - 1;
	p->glue = true;
	return true;
}

/* Nobody is named by joints alone, nor by "". */
static void give(struct parse *p, const struct candidate *c)
{
	struct span    all = span_from(span_until(buf_span(&p->text), c->to), c->from);
	struct mailbox m = {.local = all, .has_at = c->at < c->to};

	if (m.has_at) {
		m.local = span_until(all, c->at - c->from);
		m.domain = span_from(all, c->at - c->from + 1);
	}
	if (all.n > 0)
		p->take(p->ctx, &m);
}

static void give_all(struct parse *p)
{
	for (unsigned i = 0; i < p->n; i++)
		give(p, &p->v[i]);
	forget(p);
}

/* "@a,@b:" in front of the address goes: nobody routes that way (RFC 5321 4.1.2). */
static bool take_angle(struct parse *p)
{
	bool route = false;

	forget(p);
	for (;;) {
		enum token t = next(p);

		if (t == T_END || t == T_BAD)
			return false;
		if (t == T_WORD || t == T_LITERAL) {
			if (p->n > 0 && !p->glue)
				return false;     /* two words in one address */
			if (!add_word(p, t))
				return false;
		} else if (p->c == '.' || p->c == '@') {
			if (p->c == '@' && p->n == 0)
				route = true;
			if (!add_joint(p, p->c))
				return false;
		} else if ((p->c == ':' || p->c == ',') && route) {
			route = p->c == ',';
			forget(p);
		} else if (p->c == '>') {
			give_all(p);
			return true;
		} else {
			return false;
		}
	}
}

static bool take_char(struct parse *p)
{
	switch (p->c) {
	case '.':
	case '@':
		return add_joint(p, p->c);
	case '<':
		return take_angle(p);
	case ':':
		forget(p);                        /* it was a group's name */
		return true;
	case ',':
	case ';':
		give_all(p);
		return true;
	default:
		return false;                     /* ) > ] without its opening */
	}
}

static bool parse(struct parse *p)
{
	for (;;) {
		enum token t = next(p);

		switch (t) {
		case T_END:
			give_all(p);
			return true;
		case T_BAD:
			return false;
		case T_WORD:
		case T_LITERAL:
			if (!add_word(p, t))
				return false;
			break;
		case T_CHAR:
			if (!take_char(p))
				return false;
			break;
		}
	}
}

bool addrlist_parse(struct span text, mailbox_take *take, void *ctx)
{
	struct parse p = {.in = text, .take = take, .ctx = ctx};
	bool         ok;

	buf_init(&p.text, ADDRLIST_TEXT_MAX);
	ok = parse(&p);
	buf_free(&p.text);
	return ok;
}

struct mailbox mailbox_of_argument(struct span arg)
{
	if (span_starts(arg, SPAN("<")) && span_ends(arg, SPAN(">")))
		arg = span_from(span_until(arg, arg.n - 1), 1);
	return (struct mailbox){addr_local(arg), addr_domain(arg), addr_has_at(arg)};
}

static bool is_literal(struct span domain)
{
	return domain.n > 0 && domain.p[domain.n - 1] == ']';
}

/* The domain as it will be, without what the last two rules add. */
static bool add_domain(const struct rewrite *rw, struct span domain, struct buf *b)
{
	if (is_literal(domain))
		return buf_add(b, domain);
	if (span_ends(domain, SPAN("+")))
		return buf_add(b, span_until(domain, domain.n - 1)) && buf_add_byte(b, '.') &&
		       buf_add(b, rw->plus);
	if (!buf_add(b, domain))
		return false;
	if (span_has(domain, '.'))
		return true;
	return buf_add_byte(b, '.') && buf_add(b, rw->domain);
}

bool rewrite_mailbox(const struct rewrite *rw, const struct mailbox *m, struct buf *b)
{
	struct span domain = span_trim_end(m->domain, ".@");

	if (m->local.n == 0 && domain.n == 0)
		return true;                      /* the empty address of a bounce */
	if (m->has_at && span_eq(m->domain, SPAN("[]")))
		return buf_add(b, m->local) && buf_add(b, SPAN("@[]"));
	if (domain.n == 0)
		domain = rw->host;
	return buf_add(b, m->local) && buf_add_byte(b, '@') && add_domain(rw, domain, b);
}
