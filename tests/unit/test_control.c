/* control: the three readers (docs/qmail.md 1.1), sets and maps, the snapshot on its way
 * between processes, and everything that control_validate() has to say. */
#include "core/file.h"
#include "mail/control.h"
#include "tests/unit/mail_test.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static struct control *with(const char *name, const char *bytes)
{
	struct control *c = control_new();

	assert_true(control_set(c, span_str(name), span_str(bytes)));
	return c;
}

static void line_reader(void **state)
{
	static const struct {
		const char *bytes, *value;
	} cases[] = {
		{"mail.example.com\n", "mail.example.com"},
		{"mail.example.com", "mail.example.com"},
		{"x \t\n", "x"},
		{"x\ny\n", "x"},
		{"\nx\n", ""},
		{"", ""},
		{"# no comment\n", "# no comment"},
		{" x\n", " x"},
		{"x\r\n", "x\r"},
	};

	for (size_t i = 0; i < ARRAY_N(cases); i++) {
		struct control *c = with("bouncefrom", cases[i].bytes);

		assert_span(control_line(c, "bouncefrom", false, "default"), cases[i].value);
		control_free(c);
	}
}

static void line_falls_back_to_me_then_to_the_literal(void **state)
{
	struct control *c = control_new();

	assert_span(control_line(c, "idhost", true, "idhost"), "idhost");
	assert_int_equal(control_line(c, "helohost", true, NULL).n, 0);
	assert_int_equal(control_me(c).n, 0);
	assert_true(control_set(c, SPAN("me"), SPAN("here.example\n")));
	assert_span(control_line(c, "idhost", true, "idhost"), "here.example");
	assert_span(control_line(c, "bouncefrom", false, "MAILER-DAEMON"), "MAILER-DAEMON");
	assert_true(control_set(c, SPAN("idhost"), SPAN("")));
	assert_span(control_line(c, "idhost", true, "idhost"), "");
	assert_span(control_setting_line(c, "doublebouncehost"), "here.example");
	assert_span(control_setting_line(c, "defaultdelivery"), "./Maildir/");
	assert_true(control_set(c, SPAN("me"), SPAN("")));
	assert_span(control_line(c, "bouncehost", true, "bouncehost"), "");
	control_free(c);
}

static void int_reader(void **state)
{
	static const struct {
		const char *bytes;
		uint64_t    value;
	} cases[] = {
		{"20\n", 20}, {"20 per day\n", 20},
		{"x\n", 7},   {"", 7},
		{"-1\n", 7},  {" 5\n", 7},
		{"0\n", 0},   {"007\n", 7},
		{"\n5\n", 7}, {"99999999999999999999\n", UINT64_MAX},
	};

	for (size_t i = 0; i < ARRAY_N(cases); i++) {
		struct control *c = with("concurrencyremote", cases[i].bytes);

		assert_int_equal(control_int(c, "concurrencyremote", 7), cases[i].value);
		control_free(c);
	}
}

static void write_entry(void *ctx, struct span entry, unsigned line)
{
	assert_true(buf_fmt(ctx, "%u<%.*s>", line, SPAN_ARG(entry)));
}

static void list_reader(void **state)
{
	struct control *c = with("locals", "a \t\n#b\n\n lead\n#\nc#d\n\t\nlast");
	struct buf got;

	buf_init(&got, 1000);
	control_list(c, "locals", write_entry, &got);
	assert_span(buf_span(&got), "1<a>4< lead>6<c#d>8<last>");
	buf_clear(&got);
	control_list(c, "percenthack", write_entry, &got);
	assert_int_equal(got.n, 0);
	buf_free(&got);
	control_free(c);
}

static void sets_and_maps(void **state)
{
	struct control *c = with("locals", "Here.Example\nhere.example\n");
	struct control_set *locals, *map;
	struct span value;

	assert_true(control_set(c, SPAN("virtualdomains"),
				SPAN("vd.org:joe\nnocolon\n:ali\nVD.org:a:b\nex.org:\n")));
	assert_true(control_set(c, SPAN("me"), SPAN("me.example\n")));
	locals = control_set_new(c, "locals", true);
	map = control_map_new(c, "virtualdomains");
	control_free(c);                          /* they have their own bytes */

	assert_true(control_set_has(locals, SPAN("HERE.example")));
	assert_false(control_set_has(locals, SPAN("here.example.")));
	assert_false(control_set_has(locals, SPAN("me.example")));
	assert_int_equal(control_set_size(locals), 1);
	assert_true(control_map_get(map, SPAN("vd.org"), &value));
	assert_span(value, "a:b");
	assert_true(control_map_get(map, SPAN_NONE, &value));
	assert_span(value, "ali");
	assert_true(control_map_get(map, SPAN("ex.org"), &value));
	assert_span(value, "");
	assert_false(control_map_get(map, SPAN("nocolon"), &value));
	assert_int_equal(control_set_size(map), 3);
	control_set_free(locals);
	control_set_free(map);
}

static void me_stands_in_for_a_missing_list_only(void **state)
{
	struct control *c = with("me", "me.example \n");
	struct control_set *s = control_set_new(c, "locals", true);

	assert_true(control_set_has(s, SPAN("me.example")));
	control_set_free(s);
	s = control_set_new(c, "locals", false);
	assert_int_equal(control_set_size(s), 0);
	assert_false(control_set_has(s, SPAN("me.example")));
	control_set_free(s);
	assert_true(control_set(c, SPAN("locals"), SPAN("#nothing\n")));
	s = control_set_new(c, "locals", true);
	assert_int_equal(control_set_size(s), 0);
	control_set_free(s);
	control_free(c);
}

static void many_entries(void **state)
{
	struct control *c = control_new();
	struct control_set *s;
	struct buf b;
	char key[32];

	buf_init(&b, CONTROL_FILE_MAX);
	for (int i = 0; i < 100000; i++)
		assert_true(buf_fmt(&b, "host%d.example\n", i));
	assert_true(control_set(c, SPAN("rcpthosts"), buf_span(&b)));
	s = control_set_new(c, "rcpthosts", false);
	for (int i = 0; i < 100000; i += 999) {
		snprintf(key, sizeof key, "HOST%d.example", i);
		assert_true(control_set_has(s, span_str(key)));
	}
	assert_false(control_set_has(s, SPAN("host100000.example")));
	control_set_free(s);
	control_free(c);
	buf_free(&b);
}

static void defaults_and_limits_of_the_table(void **state)
{
	static const struct {
		const char *name, *bytes;             /* NULL: no file */
		int64_t     value;
	} cases[] = {
		{"concurrencyremote", NULL, 20},   {"concurrencyremote", "500\n", 500},
		{"concurrencyremote", "0\n", 0},   {"timeoutsmtpd", "0\n", 1},
		{"queuelifetime", NULL, 604800},   {"maxrcpt", NULL, 1000},
		{"maxrcpt", "junk", 1000},         {"segmentsize", NULL, 67108864},
		{"databytes", "99999999999999999999", INT64_MAX},
		{"zstdlevel", "-5\n", -5},         {"zstdlevel", "3\n", 3},
		{"zstdlevel", NULL, 1},            {"concurrencyperip", "0\n", 0},
		{"segmentsize", "8388608\n", 8388608}, {"ringsize", NULL, 16777216},
	};

	for (size_t i = 0; i < ARRAY_N(cases); i++) {
		struct control *c = control_new();

		if (cases[i].bytes)
			assert_true(control_set(c, span_str(cases[i].name),
						span_str(cases[i].bytes)));
		assert_int_equal((int64_t)control_setting(c, cases[i].name), cases[i].value);
		control_free(c);
	}

	struct control *c = with("segmentsize", "8388608\n");
	assert_int_equal(control_setting(c, "ringsize"), 8388608);
	control_free(c);
}

static void packed_sent_in_pieces_and_unpacked(void **state)
{
	struct control *c = with("me", "x\n"), *again = control_new();
	struct buf packed, got, big;
	struct span rest, piece;
	bool there;

	buf_init(&packed, CONTROL_PACKED_MAX);
	buf_init(&got, CONTROL_PACKED_MAX);
	buf_init(&big, CONTROL_FILE_MAX);
	while (big.n < 3 * CONTROL_PIECE)
		assert_true(buf_add(&big, SPAN("a.domain.example\n")));
	assert_true(control_set(c, SPAN("rcpthosts"), buf_span(&big)));
	assert_true(control_set(c, SPAN("locals"), SPAN_NONE));
	assert_true(control_set(c, SPAN("me"), SPAN("y\n")));       /* replaces */
	assert_true(control_pack(c, &packed));

	rest = buf_span(&packed);
	while (control_piece(&rest, &piece)) {
		assert_false(control_packed_is_whole(buf_span(&got)));
		assert_true(piece.n <= CONTROL_PIECE);
		assert_true(buf_add(&got, piece));
	}
	assert_true(control_packed_is_whole(buf_span(&got)));
	assert_true(control_unpack(again, buf_span(&got)));
	assert_span(control_me(again), "y");
	assert_spans_eq(control_raw(again, "rcpthosts", &there), buf_span(&big));
	assert_true(there && control_has(again, "locals"));
	assert_false(control_has(again, "helohost"));
	control_free(again);

	struct span small = span_until(buf_span(&packed), 30);
	for (size_t n = 0; n < small.n; n++) {
		again = control_new();
		assert_false(control_unpack(again, span_until(small, n)));
		control_free(again);
	}
	buf_free(&packed);
	buf_free(&got);
	buf_free(&big);
	control_free(c);
}

static void damaged_packing_is_refused_at_every_byte(void **state)
{
	struct control *c = with("me", "x\n"), *again;
	struct buf packed;

	assert_true(control_set(c, SPAN("locals"), SPAN("abc\n")));
	buf_init(&packed, 1000);
	assert_true(control_pack(c, &packed));
	for (size_t n = 0; n < packed.n; n++) {
		uint64_t all = n;
		char whole[8];

		memcpy(whole, packed.p, sizeof whole);
		if (n >= sizeof all)
			memcpy(packed.p, &all,
			       sizeof all); /* says of itself that it is whole */
		again = control_new();
		bool good = control_unpack(again, span_until(buf_span(&packed), n));
		assert_true(!good || n == 8 || n == 8 + 6 + 2 + 2); /* where a file ends */
		memcpy(packed.p, whole, sizeof whole);
		control_free(again);
	}
	buf_free(&packed);
	control_free(c);
}

static void names_and_sizes_have_limits(void **state)
{
	struct control *c = control_new();
	char name[300];

	memset(name, 'x', sizeof name);
	assert_false(control_set(c, SPAN_NONE, SPAN("x")));
	assert_false(control_set(c, span_of(name, 256), SPAN("x")));
	assert_false(control_set(c, SPAN("me"), span_of(name, CONTROL_FILE_MAX + 1)));
	control_free(c);
}

static void write_file(int dir, const char *name, const char *bytes)
{
	assert_int_equal(file_write_atomic(dir, name, span_str(bytes), 0644), 0);
}

static void loaded_from_a_directory(void **state)
{
	char path[] = "/tmp/quire-test-control-XXXXXX", missing[100];
	struct control *c = control_new();
	struct buf bad;
	bool there;
	int dir;

	buf_init(&bad, 5000);
	assert_non_null(mkdtemp(path));
	dir = open(path, O_RDONLY | O_DIRECTORY);
	assert_true(dir >= 0);
	write_file(dir, "me", "here\n");
	write_file(dir, "morercpthosts.cdb", "binary");
	write_file(dir, "servercert.pem", "SECRET");
	write_file(dir, "me~", "old\n");
	assert_int_equal(mkdirat(dir, "locals", 0755), 0);
	assert_int_equal(symlinkat("/dev/null", dir, "rcpthosts"), 0);

	assert_int_equal(control_load(c, path, &bad), 0);
	assert_span(control_me(c), "here");
	assert_true(control_has(c, "rcpthosts"));
	assert_false(control_has(c, "locals"));
	assert_false(control_has(c, "me~"));
	assert_false(control_has(c, "morercpthosts.cdb"));
	assert_int_equal(control_raw(c, "servercert.pem", &there).n, 0);
	assert_true(there);
	control_free(c);

	c = control_new();
	assert_int_equal(symlinkat("nowhere", dir, "helohost"), 0);
	assert_int_equal(control_load(c, path, &bad), -ENOENT);
	assert_span(buf_span(&bad), "helohost");
	snprintf(missing, sizeof missing, "%s/none", path);
	assert_int_equal(control_load(c, missing, &bad), -ENOENT);
	assert_span(buf_span(&bad), missing);
	control_free(c);

	static const char *files[] = {"me",  "morercpthosts.cdb", "servercert.pem",
				      "me~", "rcpthosts",         "helohost"};
	for (size_t i = 0; i < ARRAY_N(files); i++)
		assert_int_equal(unlinkat(dir, files[i], 0), 0);
	assert_int_equal(unlinkat(dir, "locals", AT_REMOVEDIR), 0);
	close(dir);
	assert_int_equal(rmdir(path), 0);
	buf_free(&bad);
}

static void hear(void *ctx, bool error, struct span text)
{
	assert_true(buf_fmt(ctx, "%c %.*s\n", error ? 'E' : 'W', SPAN_ARG(text)));
}

/* What is said of one file next to a good me and rcpthosts; "" is nothing. */
static const struct {
	const char *name, *bytes, *said;
} sayings[] = {
	{"me", "mail.example.com\n", ""},
	{"me", "a\nb\n", "W control/me:2: ignored: only the first line counts\n"},
	{"me", "a\n\n", ""},
	{"me", "a@b\n", "W control/me:1: \"a@b\" is no host name\n"},
	{"me", "a\r\n", "W control/me:1: the CR at the end belongs to the value; remove it\n"},
	{"helohost", "",
	 "W control/helohost:1: is empty: the value is empty, not the default\n"},
	{"bouncefrom", "#x\n",
	 "W control/bouncefrom:1: a line file has no comments: \"#x\" is the value\n"},
	{"concurrencyremote", "300\n", ""},
	{"concurrencyremote", "many\n",
	 "W control/concurrencyremote:1: ignored: \"many\" is not a number; 20 is used\n"},
	{"concurrencyremote", "30x\n",
	 "W control/concurrencyremote:1: what follows the digits is ignored; 30 is used\n"},
	{"timeoutsmtpd", "0\n", "W control/timeoutsmtpd:1: is out of limits; 1 is used\n"},
	{"locals", "# c\na\n\n", ""},
	{"locals", "a\n b\n",
	 "W control/locals:2: the blanks in front belong to the entry; remove them\n"},
	{"locals", "a\r\n",
	 "W control/locals:1: the CR at the end belongs to the entry; remove it\n"},
	{"virtualdomains", "a:b\nc\n",
	 "W control/virtualdomains:2: ignored: there is no colon in \"c\"\n"},
	{"virtualdomains", "a:b\nA:c\n",
	 "W control/virtualdomains:1: ignored: a later line has the key \"a\", too\n"},
	{"smtproutes", "a:[::1]:26\nb:\n:r:27\n", ""},
	{"smtproutes", "a:b:x\n",
	 "W control/smtproutes:1: \"a:b:x\" is not DOMAIN:RELAY or DOMAIN:RELAY:PORT; qmail's "
	 "default port is used\n"},
	{"smtplisten", "127.0.0.1:25\n[::1]:25\n:587\n", ""},
	{"smtplisten", "# c\n127.0.0.1:25\nhost:25\n",
	 "E control/smtplisten:3: \"host:25\" is not ADDR:PORT (an IPv6 address in "
	 "brackets)\n"},
	{"qmtplisten", "127.0.0.1:99999\n",
	 "E control/qmtplisten:1: \"127.0.0.1:99999\" is not ADDR:PORT (an IPv6 address in "
	 "brackets)\n"},
	{"resolvers", "127.0.0.1\n::1\n[::1]:5353\n", ""},
	{"resolvers", "localhost\n",
	 "E control/resolvers:1: \"localhost\" is not ADDR or ADDR:PORT (an IPv6 address in "
	 "brackets)\n"},
	{"relayclients", "10.0.0.0/8\n10.0.0.0/8:@x\n[2001:db8::]/32:@x\n2001:db8::/32\n", ""},
	{"relayclients", "10.0.0.0/40\n",
	 "E control/relayclients:1: \"10.0.0.0/40\" is not NETWORK or NETWORK:SUFFIX (an IPv6 "
	 "network in brackets)\n"},
	{"destinations", "# c\na.b:5\n.x:::20\n:50:0.5:100\nd::1000000\n", ""},
	{"destinations", "a.b\n",
	 "E control/destinations:1: \"a.b\" is not DOMAIN:CONNECTIONS:RATE:RECIPIENTS (65535, 1000000, 100 at most)\n"},
	{"destinations", "a.b:0\n",
	 "E control/destinations:1: \"a.b:0\" is not DOMAIN:CONNECTIONS:RATE:RECIPIENTS (65535, 1000000, 100 at most)\n"},
	{"logformat", "json\n", ""},
	{"logformat", "xml\n", "E control/logformat:1: \"xml\" is neither qmail nor json\n"},
	{"retryschedule", "# none\n5m\n30\n7d\n", ""},
	{"retryschedule", "5m\nsoon\n",
	 "E control/retryschedule:2: \"soon\" is not a time from 1s to 7d (90, 20m, 6h, 2d)\n"},
	{"retryschedule", "0\n",
	 "E control/retryschedule:1: \"0\" is not a time from 1s to 7d (90, 20m, 6h, 2d)\n"},
	{"retryschedule", "8d\n",
	 "E control/retryschedule:1: \"8d\" is not a time from 1s to 7d (90, 20m, 6h, 2d)\n"},
	{"qmtproutes", "a.b:relay\n:[::1]:2209\n", ""},
	{"qmtproutes", "nonsense\n",
	 "E control/qmtproutes:1: \"nonsense\" is not DOMAIN:RELAY or DOMAIN:RELAY:PORT\n"},
	{"qmtproutes", "a:b\na:c\n",
	 "E control/qmtproutes:1: ignored: a later line has the key \"a\", too\n"},
	{"maxrcpt", "100\n", ""},
	{"maxrcpt", "100 \n", ""},
	{"maxrcpt", "100x\n",
	 "E control/maxrcpt:1: \"100x\" is not a number from 1 to 16777216\n"},
	{"maxrcpt", "0\n", "E control/maxrcpt:1: \"0\" is not a number from 1 to 16777216\n"},
	{"maxrcpt", "", "E control/maxrcpt:1: \"\" is not a number from 1 to 16777216\n"},
	{"maxrcpt", "5\n6\n", "E control/maxrcpt:2: ignored: only the first line counts\n"},
	{"bouncemaxbytes", "x\n",
	 "E control/bouncemaxbytes:1: \"x\" is not a number from 0 up\n"},
	{"zstdlevel", "-7\n", ""},
	{"zstdlevel", "-8\n", "E control/zstdlevel:1: \"-8\" is not a number from -7 to 19\n"},
	{"shards", "1\n", ""},
	{"shards", "2\n", "E control/shards:1: \"2\": only 1 is possible in this version\n"},
	{"segmentsize", "16777216\n", ""},
	{"compactrate", "0\n", ""},
	{"compactrate", "-1\n", "E control/compactrate:1: \"-1\" is not a number from 0 up\n"},
	{"journalkeep", "1073741824 7\n", ""},
	{"journalkeep", "1073741824\n",
	 "E control/journalkeep:1: \"1073741824\" is not BYTES DAYS: two numbers\n"},
	{"journalkeep", "7 days\n",
	 "E control/journalkeep:1: \"7 days\" is not BYTES DAYS: two numbers\n"},
	{"segmentsize", "9000000\n", "E control/segmentsize:1: 9000000 is not a power of two\n"},
	{"segmentsize", "32768\n",
	 "E control/segmentsize:1: \"32768\" is not a number from 8388608 to 1073741824\n"},
	{"ringsize", "134217728\n",
	 "E control/ringsize:1: the ring is larger than a segment (control/segmentsize)\n"},
	{"defaultdelivery", "\n", "E control/defaultdelivery:1: is empty\n"},
	{"badhelo", "x\n", "W control/badhelo: ignored: no setting has this name\n"},
};

static void validation_names_file_and_line(void **state)
{
	for (size_t i = 0; i < ARRAY_N(sayings); i++) {
		struct control *c = with("me", "here.example\n");
		struct buf said;
		unsigned errors;

		buf_init(&said, 10000);
		assert_true(control_set(c, SPAN("rcpthosts"), SPAN("here.example\n")));
		assert_true(
			control_set(c, span_str(sayings[i].name), span_str(sayings[i].bytes)));
		errors = control_validate(c, hear, &said);
		assert_span(buf_span(&said), sayings[i].said);
		assert_int_equal(errors, sayings[i].said[0] == 'E');
		buf_free(&said);
		control_free(c);
	}
}

static void validation_of_what_is_missing(void **state)
{
	struct control *c = control_new();
	struct buf said;

	buf_init(&said, 10000);
	assert_int_equal(control_validate(c, hear, &said), 1);
	assert_span(buf_span(&said),
		    "E control/me: is missing, and so is control/locals: which mail is local?\n"
		    "W control/rcpthosts: is missing: from the network no mail is taken but by "
		    "relayclients\n");
	buf_clear(&said);
	assert_true(control_set(c, SPAN("locals"), SPAN("a\n")));
	assert_true(control_set(c, SPAN("rcpthosts"), SPAN("a\n")));
	assert_int_equal(control_validate(c, hear, &said), 1);
	assert_span(buf_span(&said), "E control/me: is missing: this host has no name\n");
	buf_free(&said);
	control_free(c);
}

static void too_many_listeners(void **state)
{
	struct control *c = with("me", "here\n");
	struct buf said, list;

	buf_init(&said, 10000);
	buf_init(&list, 10000);
	for (int i = 0; i < 40; i++)
		assert_true(buf_fmt(&list, "127.0.0.1:%d\n", 1000 + i));
	assert_true(control_set(c, SPAN("rcpthosts"), SPAN("a\n")));
	assert_true(control_set(c, SPAN("smtplisten"), buf_span(&list)));
	assert_int_equal(control_validate(c, hear, &said), 0);
	assert_true(control_set(c, SPAN("qmtplisten"), buf_span(&list)));
	assert_int_equal(control_validate(c, hear, &said), 1);
	assert_span(buf_span(&said), "E control/qmtplisten: more than 64 addresses in "
				     "smtplisten and qmtplisten together\n");
	buf_free(&said);
	buf_free(&list);
	control_free(c);
}

static void the_table_is_sound(void **state)
{
	for (size_t i = 0; i < settings_n; i++) {
		const struct setting *s = &settings[i];

		assert_ptr_equal(setting_find(span_str(s->name)), s);  /* no name twice */
		assert_non_null(s->readers);
		if (s->kind == SETTING_INT)
			assert_true(s->min <= s->fallback && s->fallback <= s->max);
	}
	assert_null(setting_find(SPAN("nonesuch")));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(line_reader),
		cmocka_unit_test(line_falls_back_to_me_then_to_the_literal),
		cmocka_unit_test(int_reader),
		cmocka_unit_test(list_reader),
		cmocka_unit_test(sets_and_maps),
		cmocka_unit_test(me_stands_in_for_a_missing_list_only),
		cmocka_unit_test(many_entries),
		cmocka_unit_test(defaults_and_limits_of_the_table),
		cmocka_unit_test(packed_sent_in_pieces_and_unpacked),
		cmocka_unit_test(damaged_packing_is_refused_at_every_byte),
		cmocka_unit_test(names_and_sizes_have_limits),
		cmocka_unit_test(loaded_from_a_directory),
		cmocka_unit_test(validation_names_file_and_line),
		cmocka_unit_test(validation_of_what_is_missing),
		cmocka_unit_test(too_many_listeners),
		cmocka_unit_test(the_table_is_sound),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
