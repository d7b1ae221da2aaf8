/* quire status, quire queue - one line to run/control, JSON lines back; shown for people or as
 * they came. */
#include "tools/quire.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

/* A socket's path has room for 108 bytes; a home may lie deeper.  The descriptor's own name is
 * short. */
int quire_dial(const char *home)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	int dir = open(home, O_PATH | O_DIRECTORY | O_CLOEXEC), fd, saved;

	if (dir < 0)
		return -1;
	snprintf(sa.sun_path, sizeof sa.sun_path, "/proc/self/fd/%d/run/control", dir);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd >= 0 && connect(fd, (struct sockaddr *)&sa, sizeof sa) < 0) {
		saved = errno;
		close(fd);
		fd = -1;
		errno = saved;
	}
	close(dir);
	return fd;
}

/* The answer as a stream, or NULL after one line on stderr with *code set. */
static FILE *ask(const char *verb, const char *home, int *code)
{
	char line[64];
	long pid = quire_running(home);
	FILE *f;
	int fd, n;

	*code = 111;
	if (pid < 0) {
		quire_say(111, verb, "%s: %s", home, strerror(errno));
		return NULL;
	}
	if (pid == 0) {
		*code = quire_say(100, verb, "%s: quire is not running", home);
		return NULL;
	}
	fd = quire_dial(home);
	n = snprintf(line, sizeof line, "%s\n", verb);
	if (fd < 0 || write(fd, line, (size_t)n) != n) {
		quire_say(111, verb, "%s/run/control: %s", home, strerror(errno));
		return NULL;
	}
	f = fdopen(fd, "r");
	if (!f)
		quire_say(111, verb, "%s", strerror(errno));
	return f;
}

static void show_value(const char *name, const json_t *v)
{
	const char *key;
	json_t *inner;
	char path[256];

	switch (json_typeof(v)) {
	case JSON_OBJECT:
		json_object_foreach((json_t *)v, key, inner)
		{
			snprintf(path, sizeof path, "%s%s%s", name, *name ? " " : "", key);
			show_value(path, inner);
		}
		return;
	case JSON_ARRAY:
		for (size_t i = 0; i < json_array_size(v); i++)
			show_value(name, json_array_get(v, i));
		return;
	case JSON_STRING: printf("%-28s %s\n", name, json_string_value(v)); return;
	case JSON_INTEGER:
		printf("%-28s %" JSON_INTEGER_FORMAT "\n", name, json_integer_value(v));
		return;
	case JSON_REAL: printf("%-28s %.3f\n", name, json_real_value(v)); return;
	case JSON_TRUE: printf("%-28s yes\n", name); return;
	case JSON_FALSE: printf("%-28s no\n", name); return;
	case JSON_NULL: printf("%-28s -\n", name); return;
	}
}

static void show_status(const json_t *o)
{
	show_value("", o);
}

static const char *text_of(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s ? s : "";
}

static void show_message(const json_t *o)
{
	const json_t *rcpts = json_object_get(o, "recipients");
	time_t at = (time_t)json_integer_value(json_object_get(o, "arrival_time"));
	struct tm tm;
	char when[32];

	strftime(when, sizeof when, "%Y-%m-%d %H:%M:%S", gmtime_r(&at, &tm));
	printf("%s  %-8s %9lld  %s  <%s>\n", text_of(o, "queue_id"), text_of(o, "queue_name"),
	       (long long)json_integer_value(json_object_get(o, "message_size")), when,
	       text_of(o, "sender"));
	for (size_t i = 0; i < json_array_size(rcpts); i++) {
		const json_t *r = json_array_get(rcpts, i);
		const char *why = text_of(r, "delay_reason");

		printf("        %s%s%s%s\n", text_of(r, "address"), *why ? "  (" : "", why,
		       *why ? ")" : "");
	}
}

static int show(FILE *f, const char *verb, bool json, void (*line)(const json_t *o))
{
	char *text = NULL;
	size_t cap = 0;
	int code = 0;

	while (code == 0 && getline(&text, &cap, f) > 0) {
		json_error_t why;
		json_t *o;

		if (json) {
			fputs(text, stdout);
			continue;
		}
		o = json_loads(text, JSON_DECODE_ANY | JSON_ALLOW_NUL, &why);
		if (!o) {
			code = quire_say(111, verb, "the answer is not JSON: %s", why.text);
			break;
		}
		line(o);
		json_decref(o);
	}
	if (ferror(f))
		code = quire_say(111, verb, "%s", strerror(errno));
	free(text);
	fclose(f);
	return code;
}

static int ask_and_show(int argc, char **argv, const char *what, void (*line)(const json_t *))
{
	static const struct option options[] = {{"home", required_argument, NULL, 'H'},
						{"json", no_argument, NULL, 'j'},
						{"help", no_argument, NULL, 'h'},
						{0}};
	const char *home = NULL, *verb = argv[0];
	bool json = false;
	FILE *f;
	int c, code;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1)
		switch (c) {
		case 'H': home = optarg; break;
		case 'j': json = true; break;
		case 'h':
			printf("usage: quire %s [--home DIR] [--json]\n%s\n", verb, what);
			return 0;
		default: return 100;
		}
	if (optind < argc)
		return quire_say(100, verb, "no arguments are taken: %s", argv[optind]);
	f = ask(verb, quire_home(home), &code);
	return f ? show(f, verb, json, line) : code;
}

int quire_status(int argc, char **argv)
{
	return ask_and_show(argc, argv,
			    "What runs, how the journal does, how much is queued; --json: one object.",
			    show_status);
}

int quire_queue(int argc, char **argv)
{
	return ask_and_show(argc, argv,
			    "The queued messages: id, state, size, arrival (UTC), sender, recipients and\n"
			    "why they wait.  --json: one object a line, with the field names of postqueue -j.",
			    show_message);
}
