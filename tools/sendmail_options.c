/* sendmail_options - the command line of sendmail.
 *
 * Letters may be bundled; a value is the rest of the word, or the next one.  Options end at the
 * first word that does not begin with "-", before a lone "-", or behind "--". */
#include "tools/sendmail.h"

#include "core/span.h"

#include <stdio.h>
#include <string.h>

enum value { NO_VALUE, VALUE, REST_OF_WORD };

struct option {
	char       letter;
	enum value value;
};
/* Whatever is not used is taken all the same: programs say these to any sendmail. */
static const struct option options[] = {
	{ 't', NO_VALUE },
	{ 'i', NO_VALUE },
	{ 'f', VALUE },
	{ 'F', VALUE },
	{ 'b', VALUE },
	{ 'o', VALUE },
	{ 'v', NO_VALUE },                        /* from here: ignored */
	{ 'm', NO_VALUE },
	{ 'x', NO_VALUE },
	{ 'e', VALUE },
	{ 'p', VALUE },
	{ 'B', VALUE },
	{ 'N', VALUE },
	{ 'E', REST_OF_WORD },
	{ 'J', REST_OF_WORD },
};

static const struct option *find(char letter)
{
	for (size_t i = 0; i < ARRAY_N(options); i++) {
		if (options[i].letter == letter)
			return &options[i];
	}
	return NULL;
}

static void wrong(struct sendmail_options *o, const char *what, char letter, const char *value)
{
	o->mode = SENDMAIL_WRONG;
	snprintf(o->wrong, sizeof(o->wrong), "%s -%c%.40s", what, letter, value);
}

static void set_mode(struct sendmail_options *o, const char *value)
{
	if (strcmp(value, "m") == 0)
		o->mode = SENDMAIL_SEND;
	else if (strcmp(value, "s") == 0)
		o->mode = SENDMAIL_SMTP;
	else if (strcmp(value, "p") == 0)
		o->mode = SENDMAIL_QUEUE;
	else
		wrong(o, "no such mode:", 'b', value);
}

static void set(struct sendmail_options *o, char letter, const char *value)
{
	switch (letter) {
	case 't': o->from_header = true; break;
	case 'i': o->dots_are_data = true; break;
	case 'f': o->sender = value; break;
	case 'F': o->name = value; break;
	case 'b': set_mode(o, value); break;
	case 'o':
		if (strcmp(value, "i") == 0)
			o->dots_are_data = true;
		break;
	}
}

/* The letters of one word; *next: the words behind it, of which one may be a value. */
static void read_letters(struct sendmail_options *o, const char *word, char *const **next)
{
	while (*word && o->mode != SENDMAIL_WRONG) {
		const struct option *k = find(*word);
		char                 letter = *word++;
		const char          *value = word;

		if (!k) {
			wrong(o, "no such option:", letter, "");
			return;
		}
		if (k->value == VALUE && !*value) {
			value = *(*next);
			if (!value) {
				wrong(o, "a value is missing behind", letter, "");
				return;
			}
			++*next;
		}
		set(o, letter, value);
		if (k->value != NO_VALUE)
			return;
	}
}

static void read_long(struct sendmail_options *o, const char *word)
{
	if (strcmp(word, "--help") == 0)
		o->mode = SENDMAIL_HELP;
	else if (strcmp(word, "--version") == 0)
		o->mode = SENDMAIL_VERSION;
	else
		wrong(o, "no such option:", '-', word + 2);
}

static bool has_said_enough(const struct sendmail_options *o)
{
	return o->mode == SENDMAIL_WRONG || o->mode == SENDMAIL_HELP || o->mode == SENDMAIL_VERSION;
}

static const char *last_part(const char *path)
{
	const char *slash = path ? strrchr(path, '/') : NULL;

	return slash ? slash + 1 : path ? path : "sendmail";
}

struct sendmail_options sendmail_read_options(char *const *argv)
{
	struct sendmail_options o = {.called = last_part(argv[0])};
	char *const            *next = argv[0] ? argv + 1 : argv;

	while (*next && (*next)[0] == '-' && (*next)[1] && !has_said_enough(&o)) {
		const char *word = *next++;

		if (strcmp(word, "--") == 0)
			break;
		if (word[1] == '-')
			read_long(&o, word);
		else
			read_letters(&o, word + 1, &next);
	}
	o.rcpts = next;
	if (has_said_enough(&o))
		return o;
	if (strcmp(o.called, "mailq") == 0)
		o.mode = SENDMAIL_QUEUE;
	if (strcmp(o.called, "newaliases") == 0)
		o.mode = SENDMAIL_ALIASES;
	return o;
}
