/* control_set - lists as sets and maps.  The bytes of the file are copied once; entries point
 * into the copy. */
#include "core/pool.h"
#include "mail/control.h"

#include <string.h>

struct entry {
	struct span key, value;
};

struct control_set {
	struct table  table;
	struct entry *entries;
	size_t        n;
	char         *text;
	const char *raw; /* while it is built: what text is a copy of */
	bool          map;
};

static struct span key_of(const void *value)
{
	return ((const struct entry *)value)->key;
}

static void count_entry(void *ctx, struct span entry, unsigned line)
{
	((struct control_set *)ctx)->n++;
}

static struct span in_copy(const struct control_set *s, struct span raw)
{
	return span_of(s->text + (raw.p - s->raw), raw.n);
}

static void put_entry(struct control_set *s, struct span key, struct span value)
{
	struct entry *e = table_get(&s->table, key);

	if (e) {
		e->value = value;                 /* the last one wins */
		return;
	}
	e = &s->entries[s->n++];
	*e = (struct entry){key, value};
	if (!table_put(&s->table, e))
		unreachable();                    /* max is the number of lines */
}

static void add_entry(void *ctx, struct span entry, unsigned line)
{
	struct control_set *s = ctx;
	size_t colon = s->map ? span_find(entry, ':') : entry.n;

	if (colon == SPAN_NPOS)
		return;
	struct span copy = in_copy(s, entry);
	put_entry(s, span_until(copy, colon), span_from(copy, colon + 1));
}

static void copy_text(struct control_set *s, struct span raw)
{
	s->raw = raw.p;
	s->text = mem_new(raw.n);
	if (raw.n > 0)
		memcpy(s->text, raw.p, raw.n);
}

static struct control_set *set_new(const struct control *c, const char *name, bool map)
{
	struct control_set *s = mem_new(sizeof *s);

	s->map = map;
	control_list(c, name, count_entry, s);
	table_init(&s->table, key_of, true, s->n + 1);
	s->entries = mem_new((s->n + 1) * sizeof *s->entries);
	s->n = 0;
	copy_text(s, control_raw(c, name, NULL));
	control_list(c, name, add_entry, s);
	return s;
}

struct control_set *control_set_new(const struct control *c, const char *name, bool or_me)
{
	struct control_set *s = set_new(c, name, false);
	struct span me = control_me(c);

	if (!or_me || control_has(c, name) || !control_has(c, "me"))
		return s;
	mem_free(s->text);
	copy_text(s, me);
	put_entry(s, in_copy(s, me), SPAN_NONE);
	return s;
}

struct control_set *control_map_new(const struct control *c, const char *name)
{
	return set_new(c, name, true);
}

void control_set_free(struct control_set *s)
{
	if (!s)
		return;
	table_fini(&s->table);
	mem_free(s->entries);
	mem_free(s->text);
	mem_free(s);
}

bool control_set_has(const struct control_set *s, struct span key)
{
	return s->n > 0 && table_get(&s->table, key) != NULL;
}

bool control_map_get(const struct control_set *s, struct span key, struct span *ret_value)
{
	const struct entry *e = s->n > 0 ? table_get(&s->table, key) : NULL;

	if (e)
		*ret_value = e->value;
	return e != NULL;
}

size_t control_set_size(const struct control_set *s)
{
	return s->n;
}
