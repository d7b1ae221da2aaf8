/* cdb: written, renamed, read; the bytes of the format; damage is a miss or said, never a
 * crash. */
#include "core/buf.h"
#include "core/file.h"
#include "mail/cdb.h"
#include "tests/unit/mail_test.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static char dir[] = "/tmp/quire-test-cdb-XXXXXX", path[100], tmp[100];

static int make_dir(void **state)
{
	if (!mkdtemp(dir))
		return -1;
	snprintf(path, sizeof path, "%s/cdb", dir);
	snprintf(tmp, sizeof tmp, "%s/cdb.tmp", dir);
	return 0;
}

static int remove_dir(void **state)
{
	unlink(path);
	return rmdir(dir);
}

static struct cdb_file *reopened(void)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct cdb_file *c;

	assert_true(fd >= 0);
	c = cdb_file_new(fd);
	close(fd);
	return c;
}

static void written_and_read(void **state)
{
	struct cdb_writer *w = cdb_writer_new(tmp);
	struct cdb_file *c;
	struct span got;
	struct stat st;

	assert_non_null(w);
	assert_true(cdb_writer_add(w, SPAN("one"), SPAN("1")));
	assert_true(cdb_writer_add(w, SPAN("one"), SPAN("later")));
	assert_true(cdb_writer_add(w, SPAN(""), SPAN("empty key")));
	assert_true(cdb_writer_add(w, SPAN("x\0y"), SPAN("")));
	assert_true(cdb_writer_finish(w, path, 0644));
	assert_int_equal(access(tmp, F_OK), -1);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0644);

	c = reopened();
	assert_non_null(c);
	assert_true(cdb_file_get(c, SPAN("one"), &got));
	assert_span(got, "1");
	assert_true(cdb_file_get(c, SPAN(""), &got));
	assert_span(got, "empty key");
	assert_true(cdb_file_get(c, SPAN("x\0y"), &got));
	assert_int_equal(got.n, 0);
	assert_false(cdb_file_get(c, SPAN("x"), &got));
	assert_int_equal(cdb_file_look(c, SPAN("two"), &got), CDB_MISS);
	cdb_file_free(c);
	cdb_file_free(NULL);
}

/* What any other reader of the format finds: pointers, then records behind 2048 bytes. */
static void the_classic_bytes(void **state)
{
	struct cdb_writer *w = cdb_writer_new(tmp);
	struct buf b;

	assert_true(cdb_writer_add(w, SPAN("key"), SPAN("data!")));
	assert_true(cdb_writer_finish(w, path, 0644));
	buf_init(&b, 10000);
	assert_int_equal(file_read(AT_FDCWD, path, &b), 0);
	assert_int_equal(b.n, 2048 + 16 + 2 * 8);
	assert_memory_equal(b.p + 2048, "\3\0\0\0\5\0\0\0keydata!", 16);
	buf_free(&b);
}

static void abandoned_leaves_nothing(void **state)
{
	struct cdb_writer *w = cdb_writer_new(tmp);

	unlink(path);
	assert_true(cdb_writer_add(w, SPAN("a"), SPAN("b")));
	cdb_writer_abandon(w);
	cdb_writer_abandon(NULL);
	assert_int_equal(access(tmp, F_OK), -1);
	assert_int_equal(access(path, F_OK), -1);
}

static void errors_are_told(void **state)
{
	char nowhere[120];
	struct cdb_writer *w;

	snprintf(nowhere, sizeof nowhere, "%s/none/cdb", dir);
	assert_null(cdb_writer_new(nowhere));
	assert_int_equal(errno, ENOENT);
	w = cdb_writer_new(tmp);
	assert_false(cdb_writer_finish(w, nowhere, 0644));
	assert_int_equal(errno, ENOENT);
	assert_int_equal(access(tmp, F_OK), -1);
}

static void put_bytes(struct span bytes)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	assert_true(fd >= 0 && file_write_all(fd, bytes));
	close(fd);
}

static void damage(void **state)
{
	struct cdb_writer *w = cdb_writer_new(tmp);
	struct cdb_file *c;
	struct span got;
	struct buf b;

	for (int i = 0; i < 20; i++) {
		char key[16];

		snprintf(key, sizeof key, "k%d", i);
		assert_true(cdb_writer_add(w, span_str(key), SPAN("value")));
	}
	assert_true(cdb_writer_finish(w, path, 0644));
	buf_init(&b, 10000);
	assert_int_equal(file_read(AT_FDCWD, path, &b), 0);

	put_bytes(SPAN_NONE);
	assert_null(reopened());
	put_bytes(SPAN("too short"));
	assert_null(reopened());
	for (size_t cut = 0; cut < b.n; cut += 7) {             /* cut short */
		put_bytes(span_until(buf_span(&b), cut));
		c = reopened();
		if (c)
			(void)cdb_file_get(c, SPAN("k7"), &got);
		cdb_file_free(c);
	}
	for (size_t at = 0; at < b.n; at++) {                   /* a byte wrong */
		char was = b.p[at];

		b.p[at] = (char)~was;
		put_bytes(buf_span(&b));
		c = reopened();
		if (c && cdb_file_look(c, SPAN("k7"), &got) == CDB_HIT) {
			assert_true(got.n <= b.n);
			(void)span_eq(got,
				      span_until(buf_span(&b), got.n)); /* reads all of it */
		}
		cdb_file_free(c);
		b.p[at] = was;
	}
	buf_free(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(written_and_read),
		cmocka_unit_test(the_classic_bytes),
		cmocka_unit_test(abandoned_leaves_nothing),
		cmocka_unit_test(errors_are_told),
		cmocka_unit_test(damage),
	};

	return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
