/* deliver - see deliver.h.
 *
 * In this order: home, its mode, the loop check, the instruction file, the sender for
 * forwards, the instructions from top to bottom, at last one forward to all addresses. */
#include "local/deliver.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/file.h"
#include "local/dotqmail.h"
#include "local/maildir.h"
#include "local/mbox.h"
#include "mail/addr.h"

#define PATH_LEN      4096
#define ENVELOPE_MAX  (2 * DOT_FILE_MAX)          /* a line "x" LF becomes "Tx" NUL */
#define OTHERS_WRITE  0002
#define STICKY        01000
#define OWNER_EXECUTE 0100

struct delivery {
	const struct local_world *world;
	const struct local_job   *job;
	struct letter             letter;
	struct report            *report;
	struct buf                text;           /* the instructions */
	bool                      forward_only;
	struct buf                newsender;
	struct buf                envelope;       /* of the forward, being collected */
	unsigned                  files, forwards;
};

static bool enter_home(struct delivery *d)
{
	char        home[PATH_LEN];
	struct stat st;

	if (!span_starts(d->job->home, SPAN("/")))  /* we stand in the home of the job before */
		return report_fail(
			d->report, 'Z',
			"Unable to switch to home: not an absolute name. (#4.3.5)\n");
	if (!span_to_cstr(d->job->home, home, sizeof(home)))
		return report_fail(d->report, 'Z',
				   "Unable to switch to home: name too long. (#4.3.0)\n");
	if (chdir(home) < 0 || stat(".", &st) < 0)
		return report_fail(d->report, 'Z', "Unable to switch to %s: %s. (#4.3.0)\n",
				   home, strerror(errno));
	if (st.st_mode & OTHERS_WRITE)
		return report_fail(d->report, 'Z',
				   "Uh-oh: home directory is writable. (#4.7.0)\n");
	if (st.st_mode & STICKY)
		return report_fail(d->report, 'Z', "Home directory is sticky: "
		                   "user is editing his .qmail file. (#4.2.1)\n");
	return true;
}

static bool check_loop(struct delivery *d)
{
	if (letter_loops(&d->letter))
		return report_fail(d->report, 'D', "This message is looping: "
		                   "it already has my Delivered-To line. (#5.4.6)\n");
	return true;
}

static bool unable_to_open(struct delivery *d, const char *name, int error)
{
	return report_fail(d->report, 'Z', "Unable to open %s: %s. (#4.3.0)\n", name,
			   strerror(error));
}

enum found { FOUND, NOT_THERE, TROUBLE };

/* Anything but a regular file does not exist; O_NONBLOCK, or a FIFO of that name would hold
   us for ever. */
static enum found open_instructions(struct delivery *d, const char *name, int *ret_fd)
{
	struct stat st;
	int         fd = open(name, O_RDONLY | O_NONBLOCK | O_CLOEXEC);

	if (fd < 0 && (error_is_temporary(errno) || errno == EPERM || errno == EACCES)) {
		unable_to_open(d, name, errno);
		return TROUBLE;
	}
	if (fd < 0)
		return NOT_THERE;
	if (fstat(fd, &st) < 0) {
		unable_to_open(d, name, errno);
		close(fd);
		return TROUBLE;
	}
	if (!S_ISREG(st.st_mode)) {
		close(fd);
		return NOT_THERE;
	}
	if (st.st_mode & OTHERS_WRITE) {
		report_fail(d->report, 'Z', "Uh-oh: .qmail file is writable. (#4.7.0)\n");
		close(fd);
		return TROUBLE;
	}
	d->forward_only = (st.st_mode & OWNER_EXECUTE) != 0;
	*ret_fd = fd;
	return FOUND;
}

static bool read_instructions(struct delivery *d, int fd, const char *name)
{
	for (;;) {
		size_t  want = d->text.max - d->text.n < 4096 ? d->text.max - d->text.n : 4096;
		char   *at = want > 0 ? buf_room(&d->text, want) : NULL;
		ssize_t n;

		if (!at)
			return unable_to_open(d, name, EFBIG);
		n = read(fd, at, want);
		if (n == 0)
			return true;
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return unable_to_open(d, name, errno);
		d->text.n += (size_t)n;
	}
}

/* An empty file is as good as none, its x bit, too; one with comments only is not empty. */
static bool use_fallback(struct delivery *d)
{
	d->forward_only = false;
	buf_clear(&d->text);
	if (!buf_add(&d->text, d->job->fallback))
		return report_fail(d->report, 'Z', "Default delivery is too long. (#4.3.5)\n");
	return true;
}

static bool find_instructions(struct delivery *d)
{
	struct dot_search s;
	char              name[DOT_NAME_MAX];
	int               fd = -1;
	enum found        found = NOT_THERE;
	bool              ok;

	dot_search_begin(&s, d->job->dash, d->job->ext);
	while (found == NOT_THERE && dot_search_next(&s, name))
		found = open_instructions(d, name, &fd);
	if (found == TROUBLE)
		return false;
	if (found == NOT_THERE && d->job->dash.n > 0)
		return report_fail(d->report, 'D',
				   "Sorry, no mailbox here by that name. (#5.1.1)\n");
	if (found == NOT_THERE)
		return use_fallback(d);
	ok = read_instructions(d, fd, name);
	close(fd);
	if (ok && d->text.n == 0)
		return use_fallback(d);
	return ok;
}

/* ".qmail" dash ext ending is there.  false: it can't be known now, and the report says so. */
static bool owner_file_is(struct delivery *d, const char *ending, bool *ret)
{
	char        name[DOT_NAME_MAX];
	struct stat st;

	*ret = false;
	if (!dot_name(d->job->dash, d->job->ext, span_str(ending), name))
		return true;
	*ret = stat(name, &st) == 0;
	if (!*ret && error_is_temporary(errno))
		return unable_to_open(d, name, errno);
	return true;
}

/* Whose name a forward carries: the sender's, or the list owner's where there is one. */
static bool choose_newsender(struct delivery *d)
{
	struct span sender = d->job->sender;
	bool        owner = false, verp = false, fits;

	if (sender.n > 0 && !span_eq(sender, SPAN("#@[]"))) {
		if (!owner_file_is(d, "-owner", &owner))
			return false;
		if (owner && !owner_file_is(d, "-owner-default", &verp))
			return false;
	}
	if (!owner)
		fits = buf_add(&d->newsender, sender);
	else
		fits = buf_add(&d->newsender, d->job->local) &&
		       buf_add(&d->newsender, verp ? SPAN("-owner-@") : SPAN("-owner@")) &&
		       buf_add(&d->newsender, d->job->domain) &&
		       buf_add(&d->newsender, verp ? SPAN("-@[]") : SPAN_NONE);
	if (!fits)
		return report_fail(d->report, 'D', "Sender address is too long. (#5.1.3)\n");
	return true;
}

/* An address ends where its record in the envelope ends: at a NUL. */
static bool collect(struct delivery *d, char letter, struct span addr)
{
	if (buf_add_byte(&d->envelope, letter) &&
	    buf_add(&d->envelope, span_until(addr, span_find(addr, '\0'))) &&
	    buf_add_byte(&d->envelope, '\0'))
		return true;
	return report_fail(d->report, 'Z', "Too many forwarding addresses. (#4.3.0)\n");
}

static bool refuse_forward_only(struct delivery *d, const char *what)
{
	return report_fail(d->report, 'Z',
			   "Uh-oh: .qmail has %s delivery but has x bit set. (#4.7.0)\n", what);
}

static bool execute(struct delivery *d, const struct dot_line *line, bool forward_only)
{
	switch (line->kind) {
	case DOT_MAILDIR:
	case DOT_MBOX:
		if (forward_only)
			return refuse_forward_only(d, "file");
		d->files++;
		if (line->kind == DOT_MAILDIR)
			return maildir_deliver(line->arg, &d->letter, d->report);
		return mbox_deliver(line->arg, &d->letter, MBOX_LOCK_S, d->report);
	case DOT_PROGRAM:
		return refuse_forward_only(d, "prog");
	case DOT_FORWARD:
		d->forwards++;
		return collect(d, 'T', line->arg);
	case DOT_BLANK_FIRST:
		return report_fail(d->report, 'Z',
				   "Uh-oh: first line of .qmail file is blank. (#4.2.1)\n");
	case DOT_END:
		break;
	}
	unreachable();
}

/* Before anything is done: a file delivery in front of a program line would be done again at
   every try. */
static bool check_no_programs(struct delivery *d)
{
	struct dot_lines lines;
	struct dot_line  line;

	dot_lines_begin(&lines, buf_span(&d->text), d->forward_only);
	for (;;) {
		switch (dot_lines_next(&lines, &line)) {
		case DOT_PROGRAM:
			if (lines.forward_only)
				return true;      /* has an answer of its own */
			return report_fail(d->report, 'Z',
					   "Sorry, program deliveries are not available "
					   "in this version. (#4.3.5)\n");
		case DOT_END:
		case DOT_BLANK_FIRST:
			return true;
		case DOT_MAILDIR:
		case DOT_MBOX:
		case DOT_FORWARD:
			break;
		}
	}
}

static bool follow_instructions(struct delivery *d)
{
	struct dot_lines lines;
	struct dot_line  line;

	dot_lines_begin(&lines, buf_span(&d->text), d->forward_only);
	while (dot_lines_next(&lines, &line) != DOT_END) {
		if (!execute(d, &line, lines.forward_only))
			return false;
	}
	return true;
}

static bool forward(struct delivery *d, uint64_t *ret_id)
{
	if (!buf_add_byte(&d->envelope, '\0'))
		return report_fail(d->report, 'Z', "Too many forwarding addresses. (#4.3.0)\n");
	return d->world->forward(d->world->ctx, &d->letter, buf_span(&d->envelope), d->report,
				 ret_id);
}

static void run(struct delivery *d)
{
	uint64_t id = 0;

	if (!enter_home(d) || !check_loop(d) || !find_instructions(d) || !choose_newsender(d) ||
	    !check_no_programs(d) || !collect(d, 'F', buf_span(&d->newsender)) ||
	    !follow_instructions(d))
		return;
	if (d->forwards > 0 && !forward(d, &id))
		return;
	report_add(d->report, "did %u+%u+0\n", d->files, d->forwards);
	if (d->forwards > 0)
		report_add(d->report, "qp %" PRIu64 "\n", id);
}

static bool make_letter(struct delivery *d, struct span body)
{
	const struct local_job *job = d->job;
	char                    rcpt[2 * ADDR_MAX];
	size_t                  n = job->local.n + 1 + job->domain.n;

	if (n > sizeof(rcpt))
		return false;
	if (job->local.n > 0)
		memcpy(rcpt, job->local.p, job->local.n);
	rcpt[job->local.n] = '@';
	if (job->domain.n > 0)
		memcpy(rcpt + job->local.n + 1, job->domain.p, job->domain.n);
	clock_refresh();
	return letter_init(&d->letter, body, job->sender, span_of(rcpt, n), clock_wall());
}

void deliver(const struct local_world *w, const struct local_job *job, struct span body,
             struct report *r)
{
	struct delivery d = {.world = w, .job = job, .report = r};

	buf_init(&d.text, DOT_FILE_MAX);
	buf_init(&d.newsender, 2 * ADDR_MAX);
	buf_init(&d.envelope, ENVELOPE_MAX);
	if (make_letter(&d, body))
		run(&d);
	else
		report_fail(r, 'D', "Sorry, address is too long. (#5.1.3)\n");
	letter_fini(&d.letter);
	buf_free(&d.text);
	buf_free(&d.newsender);
	buf_free(&d.envelope);
}
