/* The table is a head, the columns' totals, then [column][row][bucket] of 16-bit counts, so
 * that clearing a column is one memset, and processes with different columns never write the
 * same cache line.  Everything is atomic: a process that drains and its successor share a
 * column. */
#include "mail/counters.h"

#include "core/pool.h"
#include "core/rand.h"
#include "core/table.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define COUNTERS_MAGIC 0x71434e5452303031ull      /* "qCNTR001" */
#define LINE           64

struct total {
	_Atomic uint32_t n;
	char             pad[LINE - sizeof(uint32_t)];
};
struct counters_table {
	uint64_t         magic, seed;
	char             pad[LINE - 16];
	struct total     total[COUNTERS_COLUMNS];
	_Atomic uint16_t count[COUNTERS_COLUMNS][COUNTERS_ROWS][COUNTERS_BUCKETS];
};
static_check(COUNTERS_MAX < UINT16_MAX);
static_check((COUNTERS_BUCKETS & (COUNTERS_BUCKETS - 1)) == 0);
static_check(sizeof(struct total) == LINE);

struct counters {
	struct counters_table *t;
};

static void begin(struct counters_table *t)
{
	t->magic = COUNTERS_MAGIC;
	t->seed = rand_u64();
}

int counters_make(void)
{
	struct counters_table *t;
	int                    fd = memfd_create("counters", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0)
		return -errno;
	if (ftruncate(fd, sizeof(*t)) < 0)
		goto fail;
	t = mmap(NULL, LINE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (t == MAP_FAILED)
		goto fail;
	begin(t);
	munmap(t, LINE);
	/* Nobody may shrink it under the others: they would die of SIGBUS. */
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
		goto fail;
	return fd;
fail:;
	int e = errno;

	close(fd);
	return -e;
}

struct counters *counters_map(int fd)
{
	struct counters *c;
	struct stat      st;
	void            *at;
	size_t           n = sizeof(struct counters_table);

	if (fd >= 0 && (fstat(fd, &st) < 0 || (uint64_t)st.st_size != n))
		return NULL;
	at = mmap(NULL, n, PROT_READ | PROT_WRITE,
		  fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED, fd, 0);
	if (at == MAP_FAILED)
		return NULL;
	c = mem_new(sizeof(*c));
	c->t = at;
	if (fd < 0)
		begin(c->t);
	if (c->t->magic != COUNTERS_MAGIC) {
		counters_free(c);
		return NULL;
	}
	return c;
}

void counters_free(struct counters *c)
{
	if (!c)
		return;
	munmap(c->t, sizeof(*c->t));
	mem_free(c);
}

unsigned counters_column(enum role_kind role, unsigned index)
{
	check(role == ROLE_SMTPD || role == ROLE_QMTPD);
	check(index < COUNTERS_COLUMNS / 2);
	return role == ROLE_SMTPD ? index : COUNTERS_COLUMNS / 2 + index;
}

void counters_clear(struct counters *c, unsigned column)
{
	check(column < COUNTERS_COLUMNS);
	atomic_store_explicit(&c->t->total[column].n, 0, memory_order_relaxed);
	memset((void *)c->t->count[column], 0, sizeof(c->t->count[column]));
}

struct buckets {
	uint32_t at[COUNTERS_ROWS];
};

static struct buckets buckets_of(const struct counters *c, const struct ip *ip)
{
	struct buckets b;
	uint64_t h =
		hash_bytes(span_of(ip->b, ip->family == 4 ? 4 : 8), c->t->seed + ip->family);

	b.at[0] = (uint32_t)h & (COUNTERS_BUCKETS - 1);
	b.at[1] = (uint32_t)(h >> 32) & (COUNTERS_BUCKETS - 1);
	return b;
}

static uint64_t row_sum(const struct counters *c, unsigned row, uint32_t at)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < COUNTERS_COLUMNS; i++)
		if (atomic_load_explicit(&c->t->total[i].n, memory_order_relaxed) > 0)
			n += atomic_load_explicit(&c->t->count[i][row][at],
						  memory_order_relaxed);
	return n;
}

uint64_t counters_of(const struct counters *c, const struct ip *ip)
{
	struct buckets b = buckets_of(c, ip);
	uint64_t       first = row_sum(c, 0, b.at[0]), second = row_sum(c, 1, b.at[1]);

	return first < second ? first : second;
}

uint64_t counters_all(const struct counters *c)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < COUNTERS_COLUMNS; i++)
		n += atomic_load_explicit(&c->t->total[i].n, memory_order_relaxed);
	return n;
}

/* Sequentially consistent, so that of two processes that enter at once one sees the other. */
static void count_up(struct counters *c, unsigned column, const struct buckets *b)
{
	atomic_fetch_add(&c->t->total[column].n, 1);
	for (unsigned row = 0; row < COUNTERS_ROWS; row++)
		atomic_fetch_add(&c->t->count[column][row][b->at[row]], 1);
}

/* Never below zero: start may have cleared the column under a process that still drains while
 * its successor, which has the same column, died. */
static void count_down(struct counters *c, unsigned column, const struct buckets *b)
{
	uint32_t all = atomic_load(&c->t->total[column].n);

	while (all > 0 && !atomic_compare_exchange_weak(&c->t->total[column].n, &all, all - 1))
		;
	for (unsigned row = 0; row < COUNTERS_ROWS; row++) {
		_Atomic uint16_t *at = &c->t->count[column][row][b->at[row]];
		uint16_t          n = atomic_load(at);

		while (n > 0 && !atomic_compare_exchange_weak(at, &n, n - 1))
			;
	}
}

enum counters_answer counters_enter(struct counters *c, unsigned column, const struct ip *ip,
                                    uint64_t all_max, uint64_t ip_max)
{
	struct buckets       b = buckets_of(c, ip);
	enum counters_answer answer = COUNTERS_OK;

	check(column < COUNTERS_COLUMNS);
	if (atomic_load(&c->t->total[column].n) >= COUNTERS_MAX)
		return COUNTERS_ALL_FULL;
	count_up(c, column, &b);
	if (all_max > 0 && counters_all(c) > all_max)
		answer = COUNTERS_ALL_FULL;
	else if (ip_max > 0 && counters_of(c, ip) > ip_max)
		answer = COUNTERS_IP_FULL;
	if (answer != COUNTERS_OK)
		count_down(c, column, &b);
	return answer;
}

void counters_leave(struct counters *c, unsigned column, const struct ip *ip)
{
	struct buckets b = buckets_of(c, ip);

	check(column < COUNTERS_COLUMNS);
	count_down(c, column, &b);
}
