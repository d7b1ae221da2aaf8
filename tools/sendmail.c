/* sendmail - see sendmail.h.
 *
 * A message goes through in this order:
 *
 *   the header is gathered to its end (HEADERS_MAX), walked, and goes out with what it lacks in front
 *   the body is copied as it comes
 *   the envelope: the sender, the recipients of the command line, with -t those of the header
 *
 * The socket is made after the header was read: it can't take the number of a closed descriptor 0.
 * Nothing is queued before the last recipient was said, so every failure leaves nothing. */
#include "tools/sendmail.h"

#include "core/clock.h"
#include "core/file.h"
#include "mail/addr.h"
#include "mail/control.h"
#include "mail/submit.h"
#include "smtp/stdio.h"
#include "tools/headers.h"
#include "tools/intake.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define WORD_MAX    (1024 * 1024)                 /* an address from a command line, with its host */
#define TROUBLE_MAX 200                           /* of a line that can't be parsed, in its message */
#define SUBMIT_PATH "run/submit"                  /* below the home, where we are */

enum { DONE = 0, NEVER = 100, LATER = 111 };

static const char usage[] =
	"usage: sendmail [-t] [-i] [-f SENDER] [-F NAME] [-bm | -bs | -bp] [--] [RECIPIENT ...]";

static int fatal(int code, const struct sendmail_options *o, const char *fmt, ...)
{
	va_list ap;

	fprintf(stderr, "%s: fatal: ", o->called);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	return code;
}

/* ---- what mail from here looks like */

struct local {
	struct control *control;
	struct rewrite  rw;
	struct span     idhost;
	struct buf      sender, from;
};

static const char *env(const char *const *names)
{
	for (; *names; names++) {
		const char *value = getenv(*names);

		if (value && *value)
			return value;
	}
	return NULL;
}

#define ENV(...) env((const char *const[]){__VA_ARGS__, NULL})

static struct span setting(const struct local *l, const char *variable, const char *file)
{
	const char *value = ENV(variable);

	return value ? span_str(value) : control_setting_line(l->control, file);
}

/* Only these few: rcpthosts may have a million lines. */
static int load_control(struct local *l, const char **ret_bad)
{
	static const char *const files[] = {"me", "defaulthost", "defaultdomain", "plusdomain",
	                                    "idhost"};

	for (size_t i = 0; i < ARRAY_N(files); i++) {
		char       path[32];
		struct buf b;
		int        error;

		snprintf(path, sizeof(path), "control/%s", files[i]);
		buf_init(&b, CONTROL_FILE_MAX);
		error = file_read(AT_FDCWD, path, &b);
		if (!error && !control_set(l->control, span_str(files[i]), buf_span(&b)))
			error = -EFBIG;
		buf_free(&b);
		if (error && error != -ENOENT) {
			*ret_bad = files[i];
			return error;
		}
	}
	return 0;
}

static void local_init(struct local *l)
{
	*l = (struct local){.control = control_new()};
	buf_init(&l->sender, WORD_MAX);
	buf_init(&l->from, WORD_MAX);
}

static void local_fini(struct local *l)
{
	buf_free(&l->sender);
	buf_free(&l->from);
	control_free(l->control);
}

/* false: too long, or with a line break, which would begin a header of its own. */
static bool make_whole(const struct local *l, struct mailbox m, struct buf *b)
{
	return rewrite_mailbox(&l->rw, &m, b) && addr_fits_smtp(buf_span(b));
}

static struct mailbox box_at(const char *box, const char *host)
{
	return (struct mailbox){span_str(box), span_str(host), host != NULL};
}

/* From is whom the environment names, and so is the sender, unless -f says who both are. */
static bool find_sender(struct local *l, const struct sendmail_options *o)
{
	const char    *user = ENV("QMAILUSER", "MAILUSER", "USER", "LOGNAME");
	const char    *host = ENV("QMAILHOST", "MAILHOST");
	const char    *sender_user = ENV("QMAILSUSER"), *sender_host = ENV("QMAILSHOST");
	struct mailbox m = {0};

	user = user ? user : "anonymous";
	if (o->sender) {
		m = mailbox_of_argument(span_str(o->sender));
		if (!make_whole(l, m, &l->sender))
			return false;
		if (l->sender.n > 0)
			return buf_add(&l->from, addr_verp_base(buf_span(&l->sender)));
		return make_whole(l, box_at(user, host), &l->from);
	}
	m = box_at(sender_user ? sender_user : user, sender_host ? sender_host : host);
	return make_whole(l, box_at(user, host), &l->from) && make_whole(l, m, &l->sender);
}

/* A name in the environment is that of the user, not of another -f. */
static const char *person(const struct sendmail_options *o)
{
	if (o->name)
		return o->name;
	return o->sender ? NULL : ENV("QMAILNAME", "MAILNAME", "NAME");
}

static int find_local(struct local *l, const struct sendmail_options *o)
{
	const char *bad = NULL;
	int         error = load_control(l, &bad);

	if (error)
		return fatal(LATER, o, "control/%s: %s", bad, strerror(-error));
	l->rw.host = setting(l, "QMAILDEFAULTHOST", "defaulthost");
	l->rw.domain = setting(l, "QMAILDEFAULTDOMAIN", "defaultdomain");
	l->rw.plus = setting(l, "QMAILPLUSDOMAIN", "plusdomain");
	l->idhost = setting(l, "QMAILIDHOST", "idhost");
	if (!find_sender(l, o))
		return fatal(NEVER, o, "the sender is no address");
	return DONE;
}

/* ---- a message */

struct letter {
	const struct sendmail_options *o;
	struct local    *local;
	struct dot_end   dot;
	struct headers   headers;
	struct buf       text;                    /* what was read of the header, and behind it */
	size_t           header_n;                /* how much of it is the header */
	bool             no_blank;                /* an empty line must stand behind it */
	struct submit    submit;
};

static bool input_is_over(const struct letter *m)
{
	return m->dot.over;
}

/* More of the message; dst has room for INTAKE_PIECE + DOT_END_ROOM.  -errno, or how much, which
 * may be 0 before the end. */
static long read_more(struct letter *m, char *dst)
{
	char piece[INTAKE_PIECE];
	long n = intake_read(0, piece, sizeof(piece));

	if (n < 0)
		return n;
	if (n == 0 && m->o->dots_are_data)
		m->dot.over = true;
	if (n == 0)
		return (long)dot_end_finish(&m->dot, dst);
	if (!m->o->dots_are_data)
		return (long)dot_end_take(&m->dot, span_of(piece, (size_t)n), dst);
	memcpy(dst, piece, (size_t)n);
	return n;
}

static int gather_header(struct letter *m)
{
	struct headers_scan scan = {0};
	enum headers_end    end = HEADERS_MORE;

	while (end == HEADERS_MORE && !input_is_over(m)) {
		char *dst = buf_room(&m->text, INTAKE_PIECE + DOT_END_ROOM);
		long  n;

		if (!dst)
			return fatal(NEVER, m->o, "the header is longer than %d bytes", HEADERS_MAX);
		n = read_more(m, dst);
		if (n < 0)
			return fatal(LATER, m->o, "can't read the message: %s", strerror((int)-n));
		m->text.n += (size_t)n;
		end = headers_end(&scan, buf_span(&m->text), input_is_over(m), &m->header_n);
	}
	m->no_blank = end == HEADERS_NO_FIELD;
	return DONE;
}

/* Its first line, to be recognised by. */
static int unparsable(const struct letter *m)
{
	struct span line = span_until(m->headers.bad, span_find(m->headers.bad, '\n'));

	line = span_until(span_trim_end(line, "\r"), TROUBLE_MAX);
	return fatal(NEVER, m->o, "unable to parse this line: %.*s", SPAN_ARG(line));
}

static int read_header(struct letter *m)
{
	struct headers *h = &m->headers;

	if (!headers_read(h, span_until(buf_span(&m->text), m->header_n))) {
		if (h->bad.n > 0)
			return unparsable(m);
		return fatal(NEVER, m->o, "the header names too many recipients");
	}
	if (h->has_return_path && !m->o->sender) {
		buf_clear(&m->local->sender);
		if (!buf_add(&m->local->sender, buf_span(&h->return_path)))
			return fatal(NEVER, m->o, "the sender is no address");
	}
	return DONE;
}

/* The header as it will be, and what was read of the body with it. */
static int put_header(struct letter *m)
{
	struct headers_new n = {
		.from = buf_span(&m->local->from),
		.name = span_str(person(m->o)),
		.idhost = m->local->idhost,
		.wall = clock_wall(),
		.pid = (unsigned)getpid(),
	};
	struct buf added;
	bool       fits;

	buf_init(&added, 4 * WORD_MAX);
	fits = headers_missing(&m->headers, &n, &added);
	if (fits)
		(void)(submit_body(&m->submit, buf_span(&added)) &&
		       submit_body(&m->submit, buf_span(&m->headers.kept)) &&
		       submit_body(&m->submit, m->no_blank ? SPAN("\n") : SPAN_NONE) &&
		       submit_body(&m->submit, span_from(buf_span(&m->text), m->header_n)));
	buf_free(&added);
	buf_free(&m->text);
	return fits ? DONE : fatal(NEVER, m->o, "the sender's name is too long");
}

/* Where the socket fails the rest is not read: submit_end() knows why. */
static int put_body(struct letter *m)
{
	char piece[INTAKE_PIECE + DOT_END_ROOM];

	while (!input_is_over(m)) {
		long n = read_more(m, piece);

		if (n < 0)
			return fatal(LATER, m->o, "can't read the message: %s", strerror((int)-n));
		if (!submit_body(&m->submit, span_of(piece, (size_t)n)))
			return DONE;
	}
	return DONE;
}

static int put_argument(struct letter *m, const char *arg, struct buf *b)
{
	struct mailbox box = mailbox_of_argument(span_str(arg));

	buf_clear(b);
	if (!make_whole(m->local, box, b) || b->n == 0)
		return fatal(NEVER, m->o, "a recipient is no address");
	(void)submit_rcpt(&m->submit, buf_span(b));
	return DONE;
}

static int put_arguments(struct letter *m)
{
	struct buf b;
	int        code = DONE;

	buf_init(&b, WORD_MAX);
	for (char *const *r = m->o->rcpts; *r && !code; r++)
		code = put_argument(m, *r, &b);
	buf_free(&b);
	return code;
}

static int put_envelope(struct letter *m)
{
	struct span rcpts = headers_rcpts(&m->headers);
	int         code;

	(void)submit_sender(&m->submit, buf_span(&m->local->sender));
	code = put_arguments(m);
	while (!code && rcpts.n > 0) {
		struct span rcpt = span_cut(&rcpts, span_find(rcpts, '\0'));

		span_cut(&rcpts, 1);
		(void)submit_rcpt(&m->submit, rcpt);
	}
	return code;
}

static int hand_in(struct letter *m)
{
	int code = gather_header(m);

	if (!code)
		code = read_header(m);
	if (!code)
		code = put_header(m);
	if (!code)
		code = put_body(m);
	if (!code)
		code = put_envelope(m);
	if (code) {
		submit_cancel(&m->submit);
		return code;
	}
	code = submit_send(&m->submit);
	if (!code)
		return DONE;
	return fatal(submit_letter(code) == 'D' ? NEVER : LATER, m->o, "%s", m->submit.text);
}

static int send_letter(const struct sendmail_options *o, struct local *local, uint32_t wait_ms)
{
	struct letter m = {.o = o, .local = local};
	int           code;

	dot_end_begin(&m.dot);
	headers_init(&m.headers, &local->rw, o->from_header);
	buf_init(&m.text, HEADERS_MAX);
	submit_begin(&m.submit, SUBMIT_PATH);
	m.submit.wait_ms = wait_ms;
	code = hand_in(&m);
	headers_fini(&m.headers);
	buf_free(&m.text);
	return code;
}

static int do_send(const struct sendmail_options *o, uint32_t wait_ms)
{
	struct local local;
	int          code;

	clock_refresh();
	local_init(&local);
	code = find_local(&local, o);
	if (!code)
		code = send_letter(o, &local, wait_ms);
	local_fini(&local);
	return code;
}

/* ---- the other modes */

static int do_smtp(const struct sendmail_options *o)
{
	struct control *c = control_new();
	struct buf      bad;
	int             code, error;

	clock_refresh();
	buf_init(&bad, PATH_MAX);
	error = control_load(c, "control", &bad);
	code = error ? fatal(LATER, o, "%.*s: %s", SPAN_ARG(buf_span(&bad)), strerror(-error))
	             : smtp_stdio(0, 1, c, SUBMIT_PATH);
	buf_free(&bad);
	control_free(c);
	return code;
}

/* quire lies beside this program, wherever the name that was called points from. */
static int do_queue(const struct sendmail_options *o, const char *home)
{
	char    path[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", path, sizeof(path));
	size_t  dir = n > 0 ? span_rfind(span_of(path, (size_t)n), '/') : SPAN_NPOS;

	if (dir == SPAN_NPOS || dir + sizeof("/quire") > sizeof(path))
		return fatal(LATER, o, "can't find the program quire");
	memcpy(path + dir, "/quire", sizeof("/quire"));
	execl(path, "quire", "queue", "--home", home, (char *)NULL);
	return fatal(LATER, o, "can't run %s: %s", path, strerror(errno));
}

static int enter(const struct sendmail_options *o, const char *home)
{
	return chdir(home) == 0 ? DONE : fatal(LATER, o, "can't enter %s: %s", home, strerror(errno));
}

static int help(void)
{
	return printf("%s\n"
	              "Queues the message on standard input for the recipients.  -t: for those in To,\n"
	              "Cc and Bcc too; -f: who gets bounces; -F: the sender's name; -i: a lone dot is\n"
	              "no end; -bs: speak SMTP; -bp: show the queue.  The home is $QUIRE_HOME, else\n"
	              "/var/qmail.  --help, --version.\n",
	              usage) < 0;
}

int sendmail(const struct sendmail_options *o, const char *home, uint32_t wait_ms)
{
	int code;

	switch (o->mode) {
	case SENDMAIL_SEND:
		code = enter(o, home);
		return code ? code : do_send(o, wait_ms);
	case SENDMAIL_SMTP:
		code = enter(o, home);
		return code ? code : do_smtp(o);
	case SENDMAIL_QUEUE:
		return do_queue(o, home);
	case SENDMAIL_ALIASES:
		return fatal(NEVER, o, "aliases are .qmail files in alias/; there is no database to make");
	case SENDMAIL_HELP:
		return help();
	case SENDMAIL_VERSION:
		return puts("sendmail (quire) " QUIRE_VERSION) < 0;
	case SENDMAIL_WRONG:
		return fatal(NEVER, o, "%s; %s", o->wrong, usage);
	}
	unreachable();
}
