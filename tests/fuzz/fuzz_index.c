/* An index file of any bytes: as it is, and with a head and a hash that fit, so that what lies behind
 * them is reached.  Whatever is handed out lies inside of it. */
#include "core/pool.h"
#include "journal/index.h"

#include <stdlib.h>
#include <string.h>

static void walk(char *file, size_t n, bool fits)
{
	struct index x = {.p = file, .n = n};
	struct record r;
	struct msg_view m;
	struct state_view s;
	uint64_t seen = 0;
	bool bad;

	if (!index_parse(&x, 1, 2, 3, &bad)) {
		check(!fits || !bad);
		return;
	}
	check(!bad);
	while (index_next(&x, &r)) {
		check(r.body.p >= file && r.body.p + r.body.n <= file + n);
		check(r.head.type == REC_BODY || r.body.n == r.head.n);
		(void)msg_view(&r.head, r.body, &m);
		(void)state_view(&r.head, r.body, &s);
		seen++;
	}
	check(seen <= n / 40);
}

static void fit(char *file, size_t n)
{
	struct index_head h;

	memcpy(&h, file, sizeof(h));
	h.magic = INDEX_MAGIC;
	h.number = 1;
	h.incarnation = 2;
	h.end = 3;
	h.bytes = n;
	h.records = 0;
	h.hash = hash64(file + sizeof(h), h.bytes);
	h.check = hash64(&h, offsetof(struct index_head, check));
	memcpy(file, &h, sizeof(h));
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	size_t all;
	char *file;

	n = n / 8 * 8;
	all = (sizeof(struct index_head) + n + DISK_ALIGN - 1) / DISK_ALIGN * DISK_ALIGN;
	file = mem_new(all);

	if (n > 0)
		memcpy(file, p, n);
	walk(file, all, false);
	memset(file, 0, all);
	if (n > 0)
		memcpy(file + sizeof(struct index_head), p, n);
	fit(file, n);
	walk(file, all, true);
	mem_free(file);
	return 0;
}
