#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "journal/format.h"
#include "journal/ring.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define SIZE ((uint64_t)1024 * 1024)
#define SEG  ((uint64_t)4 * 1024 * 1024)

static void sizes_are_checked(void **state)
{
	struct ring r;

	assert_int_equal(ring_make(&r, SIZE + 4096, SEG), -EINVAL);
	assert_int_equal(ring_make(&r, SIZE / 2, SEG), -EINVAL);
	assert_int_equal(ring_make(&r, SIZE, SEG + SIZE / 2), -EINVAL);
	assert_int_equal(ring_make(&r, SEG, SIZE), 0);
	ring_unmap(&r);
	ring_unmap(&r);
}

static void bytes_go_around_the_end_in_one_piece(void **state)
{
	struct ring r, reader;
	uint64_t pos = SEG + SIZE - 4096;
	int fd;

	assert_int_equal(ring_make(&r, SIZE, SEG), 0);
	assert_int_equal((uintptr_t)r.data % 4096, 0);
	ring_begin(&r, SEG);
	fd = ring_reader_fd(&r);
	assert_true(fd >= 0);
	assert_int_equal(ring_map(&reader, fd), 0);
	close(fd);
	ring_claim(&r, pos, 8192);
	memset(ring_at(&r, pos), 'q', 8192);
	ring_publish(&r, pos + 8192);
	assert_int_equal(ring_durable(&reader), pos + 8192);
	assert_int_equal(ring_at(&reader, pos)[8191], 'q');
	assert_int_equal(reader.data[0], 'q');
	assert_int_equal(reader.data[4095], 'q');
	assert_int_equal(reader.data[4096], 0);
	ring_unmap(&reader);
	ring_unmap(&r);
}

static void overwritten_bytes_are_not_held(void **state)
{
	struct ring r;

	assert_int_equal(ring_make(&r, SIZE, SEG), 0);
	ring_begin(&r, SEG);
	assert_false(ring_holds(&r, SEG - 1));
	assert_true(ring_holds(&r, SEG));
	ring_claim(&r, SEG, SIZE);
	assert_true(ring_holds(&r, SEG));
	ring_claim(&r, SEG + SIZE, 4096);
	assert_false(ring_holds(&r, SEG + 4095));
	assert_true(ring_holds(&r, SEG + 4096));
	ring_claim(&r, SEG + 4096, 4096); /* an older claim takes nothing back */
	assert_true(ring_holds(&r, SEG + 4096));
	assert_false(ring_holds(&r, SEG + 4095));
	ring_unmap(&r);
}

static void readers_cannot_write(void **state)
{
	struct ring r;
	int fd;

	assert_int_equal(ring_make(&r, SIZE, SEG), 0);
	fd = ring_reader_fd(&r);
	assert_true(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED);
	assert_int_equal(ftruncate(fd, 0), -1);
	assert_int_equal(ftruncate(r.fd, 4096), -1); /* sealed, for the writer as well */
	assert_int_equal(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
	close(fd);
	ring_unmap(&r);
}

static void what_is_no_ring_is_refused(void **state)
{
	struct ring r;
	int fd = memfd_create("other", MFD_CLOEXEC);

	assert_int_equal(ring_map(&r, fd), -EINVAL);
	assert_int_equal(ftruncate(fd, 65536), 0);
	assert_int_equal(ring_map(&r, fd), -EINVAL);
	close(fd);
	assert_int_equal(ring_map(&r, -1), -EBADF);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sizes_are_checked),
		cmocka_unit_test(bytes_go_around_the_end_in_one_piece),
		cmocka_unit_test(overwritten_bytes_are_not_held),
		cmocka_unit_test(readers_cannot_write),
		cmocka_unit_test(what_is_no_ring_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
