/* Bytes stand for time: what is in an index, or no body is read of, only goes faster. */
#include "sched/rebuild.h"

#include "core/clock.h"
#include "core/log.h"

#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

void rebuild_begin(struct rebuild *b, bool terminal)
{
	*b = (struct rebuild){.begun_ms = clock_mono_ms(), .terminal = terminal};
}

/* The entries are in the order of walking; the newest has no end. */
unsigned rebuild_share(const struct manifest_entry *v, uint32_t n, uint64_t segment_size,
		       uint64_t pos, uint64_t until)
{
	uint64_t all = 0, done = 0;
	bool behind = true; /* what comes before the segment of pos */

	for (uint32_t i = 0; i < n; i++) {
		uint64_t from = v[i].number * segment_size;
		uint64_t end = v[i].end ? v[i].end : until;
		uint64_t size = end > from ? end - from : 0;
		bool here = pos / segment_size == v[i].number;

		if (v[i].state != SEGMENT_QUEUE)
			continue;
		if (here)
			behind = false;
		all += size;
		done += here ? (pos < end ? pos - from : size) : behind ? size : 0;
	}
	return all && done <= all ? (unsigned)(done * 1000 / all) : 0;
}

/* The terminal is drawn on at once, and may refuse: then the next one comes soon. */
static void draw(struct rebuild *b, unsigned share, uint64_t messages, uint64_t left_s)
{
	char line[128];
	int n = snprintf(line, sizeof(line),
			 "\r\033[Kqueue: %u.%u %% read, %" PRIu64 " messages, %" PRIu64
			 " s left",
			 share / 10, share % 10, messages, left_s);

	log_flush();
	if (n > 0 && (size_t)n < sizeof(line) && write(STDERR_FILENO, line, (size_t)n) == n)
		b->drawn = true;
}

static void note(unsigned share, uint64_t messages)
{
	char percent[16], count[24];

	snprintf(percent, sizeof(percent), "%u.%u", share / 10, share % 10);
	snprintf(count, sizeof(count), "%" PRIu64, messages);
	log_note("event", "reading the queue", "percent", percent, "messages", count, NULL);
}

void rebuild_at(struct rebuild *b, const struct reader *r, uint64_t segment_size,
		uint64_t until, uint64_t messages)
{
	uint64_t now = clock_mono_ms(), took = now - b->begun_ms;
	uint32_t n;
	const struct manifest_entry *v;
	unsigned share;

	if (took < REBUILD_QUIET_MS ||
	    now - b->said_ms < (b->terminal ? REBUILD_DRAW_MS : REBUILD_NOTE_MS))
		return;
	b->said_ms = now;
	v = reader_manifest(r, &n);
	share = rebuild_share(v, n, segment_size, reader_pos(r), until);
	if (b->terminal)
		draw(b, share, messages, share ? took * (1000 - share) / share / 1000 : 0);
	else
		note(share, messages);
}

void rebuild_end(struct rebuild *b)
{
	if (b->drawn && write(STDERR_FILENO, "\r\033[K", 4) != 4)
		b->drawn = false;
	b->drawn = false;
}
