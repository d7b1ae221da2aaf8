/* deliver: the golden cases of docs/qmail.md 14 in a real home, with a forwarder that writes
 * down what it was asked for. */
#include "tests/unit/local_test.h"

#include "local/deliver.h"

static struct nest home;
static struct report report;
static struct buf forwarded; /* envelope, "|" for NUL, "\n" DTLINE */
static unsigned forwards;
static bool forward_refused;
static struct local_job job;

static bool fake_forward(void *ctx, const struct letter *l, struct span envelope,
			 struct report *r, uint64_t *ret_id)
{
	if (forward_refused)
		return report_fail(r, 'D', "Unable to forward message: no.\n");
	for (size_t i = 0; i < envelope.n; i++)
		assert_true(buf_add_byte(&forwarded, envelope.p[i] ? envelope.p[i] : '|'));
	assert_true(buf_add_byte(&forwarded, '\n') && buf_add(&forwarded, l->dtline));
	forwards++;
	*ret_id = 9340;
	return true;
}

static const struct local_world world = {.forward = fake_forward};

static int setup(void **state)
{
	nest_make(&home);
	report_init(&report);
	buf_init(&forwarded, 1 << 20);
	forwards = 0;
	forward_refused = false;
	job = (struct local_job){.home = span_str(home.dir),
				 .local = SPAN("joe-v-AAA"),
				 .domain = SPAN("mail.example.com"),
				 .dash = SPAN("-"),
				 .ext = SPAN("v-AAA"),
				 .sender = SPAN("s@x.example"),
				 .fallback = SPAN("./Maildir/")};
	return 0;
}

static int teardown(void **state)
{
	buf_free(&forwarded);
	report_fini(&report);
	nest_remove(&home);
	return 0;
}

/* joe himself: .qmail, or the default delivery. */
static void main_address(void)
{
	job.local = SPAN("joe");
	job.dash = job.ext = SPAN_NONE;
}

static void try(void)
{
	assert_int_equal(chdir("/"), 0); /* wherever the job before left us */
	deliver(&world, &job, SPAN("Subject: t\n\nbody\n"), &report);
}

static void gives(const char *qmail, char letter, const char *text)
{
	if (qmail)
		nest_write(&home, ".qmail-v-default", qmail);
	try();
	report_is(&report, letter, text);
	report_init(&report);
}

static bool is_there(const char *name)
{
	return access(nest_path(&home, name), F_OK) == 0;
}

static void forwarded_is(const char *want)
{
	assert_true(buf_add_byte(&forwarded, '\0'));
	assert_string_equal(forwarded.p, want);
	buf_clear(&forwarded);
}

/* ---- instructions */

static void all_kinds(void **state)
{
	char name[256];

	nest_maildir(&home, "Maildir");
	gives("./Maildir/\n./mbox\n&x@h\n", 'K', "did 2+1+0\nqp 9340\n");
	assert_int_equal(nest_count(&home, "Maildir/new", name), 1);
	assert_true(is_there("mbox"));
	forwarded_is("Fs@x.example|Tx@h||\nDelivered-To: joe-v-AAA@mail.example.com\n");
}

static void all_addresses_at_once_and_at_last(void **state)
{
	gives("a@b\n./mbox\n&c@d\na@b\n", 'K', "did 1+3+0\nqp 9340\n");
	assert_int_equal(forwards, 1);
	forwarded_is(
		"Fs@x.example|Ta@b|Tc@d|Ta@b||\nDelivered-To: joe-v-AAA@mail.example.com\n");
	gives("a@b\n./nodir/\n", 'Z', "Unable to chdir to maildir. (#4.2.1)\n");
	assert_int_equal(forwards, 1);
}

static void forward_only(void **state)
{
	const char *const refused =
		"Uh-oh: .qmail has file delivery but has x bit set. (#4.7.0)\n";

	gives("+list\n./mbox\n", 'Z', refused);
	gives("+list \t\n|exit 0\n", 'Z',
	      "Uh-oh: .qmail has prog delivery but has x bit set. (#4.7.0)\n");
	assert_false(is_there("mbox"));
	gives("+other\n./mbox\n", 'K', "did 1+0+0\n");
	gives("+list\na@b\n", 'K', "did 0+1+0\nqp 9340\n");
	gives("./mbox2\n+list\n./mbox3\n", 'Z', refused);
	assert_true(is_there("mbox2"));

	nest_write(&home, ".qmail-v-default", "./mbox4\n");
	assert_int_equal(chmod(nest_path(&home, ".qmail-v-default"), 0700), 0);
	gives(NULL, 'Z', refused);
	assert_false(is_there("mbox4"));
}

static void blanks(void **state)
{
	gives("./mbox \t \n", 'K', "did 1+0+0\n");
	assert_true(is_there("mbox"));
	gives(" \t\na@b\n", 'Z', "Uh-oh: first line of .qmail file is blank. (#4.2.1)\n");
	gives("#\n\n", 'K', "did 0+0+0\n");
	gives("&", 'K', "did 0+1+0\nqp 9340\n");
	forwarded_is("Fs@x.example|T||\nDelivered-To: joe-v-AAA@mail.example.com\n");
}

/* Nothing of the others is done: it would be done again at every try. */
static void programs_wait(void **state)
{
	gives("./mbox\na@b\n|exit 0\n", 'Z',
	      "Sorry, program deliveries are not available in this version. (#4.3.5)\n");
	assert_false(is_there("mbox"));
	assert_int_equal(forwards, 0);
}

static void a_forward_that_fails(void **state)
{
	forward_refused = true;
	gives("./mbox\na@b\n", 'D', "Unable to forward message: no.\n");
	assert_true(is_there("mbox"));
}

/* ---- which file */

static void the_exact_file_first(void **state)
{
	nest_write(&home, ".qmail-v-aaa", "exact@x\n");
	nest_write(&home, ".qmail-default", "last@x\n");
	gives("some@x\n", 'K', "did 0+1+0\nqp 9340\n");
	forwarded_is("Fs@x.example|Texact@x||\nDelivered-To: joe-v-AAA@mail.example.com\n");
	unlink(nest_path(&home, ".qmail-v-aaa"));
	mkdir(nest_path(&home, ".qmail-v-aaa"), 0700); /* not a regular file: not there */
	unlink(nest_path(&home, ".qmail-v-default"));
	mkfifo(nest_path(&home, ".qmail-v-default"), 0600);
	gives(NULL, 'K', "did 0+1+0\nqp 9340\n");
	forwarded_is("Fs@x.example|Tlast@x||\nDelivered-To: joe-v-AAA@mail.example.com\n");
}

static void nobody(void **state)
{
	gives(NULL, 'D', "Sorry, no mailbox here by that name. (#5.1.1)\n");
	main_address();
	nest_maildir(&home, "Maildir");
	gives(NULL, 'K', "did 1+0+0\n");
}

static void an_empty_file(void **state)
{
	nest_maildir(&home, "Maildir");
	nest_write(&home, ".qmail-v-default", "");
	assert_int_equal(chmod(nest_path(&home, ".qmail-v-default"), 0700), 0);
	gives(NULL, 'K', "did 1+0+0\n");
	gives("# only\n", 'K', "did 0+0+0\n");
}

static void writable_by_others(void **state)
{
	nest_write(&home, ".qmail-v-default", "a@b\n");
	assert_int_equal(chmod(nest_path(&home, ".qmail-v-default"), 0602), 0);
	gives(NULL, 'Z', "Uh-oh: .qmail file is writable. (#4.7.0)\n");
	assert_int_equal(chmod(nest_path(&home, ".qmail-v-default"), 0660), 0);
	gives(NULL, 'K', "did 0+1+0\nqp 9340\n");
}

static void unreadable(void **state)
{
	if (geteuid() == 0)
		skip(); /* root reads everything; test_lspawn has users */
	nest_write(&home, ".qmail-v-default", "a@b\n");
	assert_int_equal(chmod(nest_path(&home, ".qmail-v-default"), 0), 0);
	gives(NULL, 'Z', "Unable to open .qmail-v-default: Permission denied. (#4.3.0)\n");
}

/* ---- the home */

static void homes(void **state)
{
	char text[300];

	nest_write(&home, ".qmail-v-default", "a@b\n");
	assert_int_equal(chmod(home.dir, 0702), 0);
	gives(NULL, 'Z', "Uh-oh: home directory is writable. (#4.7.0)\n");
	assert_int_equal(chmod(home.dir, 01700), 0);
	gives(NULL, 'Z',
	      "Home directory is sticky: user is editing his .qmail file. (#4.2.1)\n");
	assert_int_equal(chmod(home.dir, 0770), 0);
	gives(NULL, 'K', "did 0+1+0\nqp 9340\n");
	job.home = span_str(nest_path(&home, "none"));
	snprintf(text, sizeof(text),
		 "Unable to switch to %s/none: No such file or directory. (#4.3.0)\n",
		 home.dir);
	gives(NULL, 'Z', text);
	job.home = SPAN("tmp");
	gives(NULL, 'Z', "Unable to switch to home: not an absolute name. (#4.3.5)\n");
}

static void loops(void **state)
{
	static const char in_header[] = "A: b\nDelivered-To: joe-v-AAA@mail.example.com\n\nx\n";
	static const char in_body[] = "A: b\n\nDelivered-To: joe-v-AAA@mail.example.com\n";
	static const char other_case[] = "A: b\ndelivered-to: joe-v-AAA@mail.example.com\n\n";
	static const char longer[] = "Delivered-To: joe-v-AAA@mail.example.com.org\n\n";
	static const char folded[] = " Delivered-To: joe-v-AAA@mail.example.com\n\n";

	nest_write(&home, ".qmail-v-default", "a@b\n");
	deliver(&world, &job, SPAN(in_header), &report);
	report_is(&report, 'D',
		  "This message is looping: it already has my Delivered-To line. (#5.4.6)\n");
	for (size_t i = 0; i < 4; i++) {
		report_init(&report);
		deliver(&world, &job,
			span_str((const char *[]){in_body, other_case, longer, folded}[i]),
			&report);
		report_is(&report, 'K', "did 0+1+0\nqp 9340\n");
	}
}

/* ---- the sender of forwards */

static void sender_gives(const char *sender, const char *want)
{
	char all[200];

	job.sender = span_str(sender);
	gives("a@b\n", 'K', "did 0+1+0\nqp 9340\n");
	snprintf(all, sizeof(all), "F%s|Ta@b||\nDelivered-To: joe-v-AAA@mail.example.com\n",
		 want);
	forwarded_is(all);
}

static void owners(void **state)
{
	sender_gives("s@x.example", "s@x.example");
	nest_write(&home, ".qmail-v-default-owner", ""); /* not what the extension is called */
	sender_gives("s@x.example", "s@x.example");
	nest_write(&home, ".qmail-v-aaa-owner-default", ""); /* alone it means nothing */
	sender_gives("s@x.example", "s@x.example");
	unlink(nest_path(&home, ".qmail-v-aaa-owner-default"));
	nest_write(&home, ".qmail-v-aaa-owner", "");
	sender_gives("s@x.example", "joe-v-AAA-owner@mail.example.com");
	sender_gives("", "");
	sender_gives("#@[]", "#@[]");
	nest_write(&home, ".qmail-v-aaa-owner-default", "");
	sender_gives("s@x.example", "joe-v-AAA-owner-@mail.example.com-@[]");
}

/* ---- lines that the delivery writes */

static void lines_cannot_be_injected(void **state)
{
	main_address();
	job.local = SPAN("joe\nX-Evil: 1\n\nj");
	job.sender = SPAN("s\nY: 2@x");
	job.fallback = SPAN("./mbox");
	gives(NULL, 'K', "did 1+0+0\n");

	struct buf b;

	buf_init(&b, 10000);
	assert_int_equal(file_read(AT_FDCWD, nest_path(&home, "mbox"), &b), 0);
	assert_true(buf_add_byte(&b, '\0'));
	assert_ptr_equal(strstr(b.p, "From s-Y:-2@x "), b.p);
	assert_non_null(strstr(b.p, "\nReturn-Path: <\"s\\_Y: 2\"@x>\nDelivered-To: "
				    "joe_X-Evil: 1__j@mail.example.com\n"));
	buf_free(&b);
}

static void from_nobody(void **state)
{
	struct letter l;

	assert_true(letter_init(&l, SPAN_NONE, SPAN_NONE, SPAN("r@x"), NOV_21));
	assert_true(span_eq(l.ufline, SPAN("From MAILER-DAEMON Sat Nov 21 01:40:50 2026\n")));
	assert_true(span_eq(l.rpline, SPAN("Return-Path: <>\n")));
	assert_true(span_eq(l.dtline, SPAN("Delivered-To: r@x\n")));
	letter_fini(&l);
}

/* ---- the report */

static void reports_are_cut(void **state)
{
	char words[3002];

	memset(words, 'w', sizeof(words));
	report_add(&report, "%.3000s", words);
	report_close(&report);
	assert_int_equal(report.text.n, 3000);
	assert_int_equal(report.text.p[2999], 'w');
	report_fail(&report, 'Z', "%.3001s", words);
	report_close(&report);
	assert_int_equal(report.text.n, 2966 + strlen("\nError report too long, sorry.\n"));
	assert_memory_equal(report.text.p + 2964, "ww\nError report too long, sorry.\n", 33);

	report_fail(&report, 'Z', "%s%c%s", "seen", 0, "unseen");
	report_close(&report);
	assert_int_equal(report.text.n, 4);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(all_kinds),
		CASE(all_addresses_at_once_and_at_last),
		CASE(forward_only),
		CASE(blanks),
		CASE(programs_wait),
		CASE(a_forward_that_fails),
		CASE(the_exact_file_first),
		CASE(nobody),
		CASE(an_empty_file),
		CASE(writable_by_others),
		CASE(unreadable),
		CASE(homes),
		CASE(loops),
		CASE(owners),
		CASE(lines_cannot_be_injected),
		CASE(from_nobody),
		CASE(reports_are_cut),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
