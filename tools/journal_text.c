/* What the verbs print and read: JSON strings, base64, times, names. */
#include "tools/quire_journal.h"

#include "core/check.h"
#include "core/clock.h"

#include <inttypes.h>
#include <string.h>
#include <time.h>

void print_json(FILE *f, struct span s)
{
	fputc('"', f);
	while (s.n > 0) {
		unsigned char c = (unsigned char)*s.p;
		size_t n = c < 0x80 ? 1 : span_utf8(s);

		if (n == 0)
			fprintf(f, "\\udc%02x", c);
		else if (c < 32 || c == 127)
			fprintf(f, "\\u%04x", c);
		else if (c == '"' || c == '\\')
			fprintf(f, "\\%c", c);
		else
			fwrite(s.p, 1, n, f);
		span_cut(&s, n ? n : 1);
	}
	fputc('"', f);
}

/* Somebody's mail must not move the cursor of whoever looks at it. */
void print_plain(FILE *f, struct span s)
{
	for (size_t i = 0; i < s.n; i++) {
		unsigned char c = (unsigned char)s.p[i];

		if (c >= 32 && c < 127 && c != '\\')
			fputc(c, f);
		else
			fprintf(f, "\\x%02x", c);
	}
}

void print_base64(FILE *f, struct span s)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	const unsigned char *p = (const unsigned char *)s.p;

	for (size_t i = 0; i < s.n; i += 3) {
		size_t left = s.n - i;
		uint32_t v = (uint32_t)p[i] << 16 | (left > 1 ? (uint32_t)p[i + 1] << 8 : 0) |
			     (left > 2 ? p[i + 2] : 0);
		char out[4] = {digits[v >> 18], digits[v >> 12 & 63], digits[v >> 6 & 63],
			       digits[v & 63]};

		if (left < 3)
			out[3] = '=';
		if (left < 2)
			out[2] = '=';
		fwrite(out, 1, sizeof out, f);
	}
}

const char *when_text(char dst[WHEN_MAX], uint64_t us)
{
	time_t at = (time_t)(us / 1000000);
	struct tm tm;
	size_t n;

	/* a damaged record's time may be none */
	if (us / 1000000 > UINT32_MAX || !gmtime_r(&at, &tm)) {
		snprintf(dst, WHEN_MAX, "@%" PRIu64, us);
		return dst;
	}
	n = strftime(dst, WHEN_MAX, "%Y-%m-%d %H:%M:%S", &tm);
	snprintf(dst + n, WHEN_MAX - n, ".%06u", (unsigned)(us % 1000000));
	return dst;
}

static bool ago_parse(struct span s, uint64_t *ret_us)
{
	static const struct { char unit; uint32_t seconds; } units[] = {
		{'s', 1}, {'m', 60}, {'h', 3600}, {'d', 86400}, {'w', 7 * 86400}};
	uint64_t n, now;

	if (s.n < 2 || !span_u64(span_until(s, s.n - 1), UINT32_MAX, &n))
		return false;
	clock_refresh();
	now = clock_wall_us();
	for (size_t i = 0; i < ARRAY_N(units); i++) {
		if (units[i].unit != s.p[s.n - 1])
			continue;
		n *= units[i].seconds * 1000000ull;
		*ret_us = n < now ? now - n : 0;
		return true;
	}
	return false;
}

bool when_parse(const char *text, uint64_t *ret_us)
{
	static const char *const forms[] = {"%Y-%m-%d", "%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S",
					    "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"};
	uint64_t seconds;

	if (ago_parse(span_str(text), ret_us))
		return true;
	if (span_u64(span_str(text), UINT32_MAX, &seconds)) {
		*ret_us = seconds * 1000000;
		return true;
	}
	for (size_t i = 0; i < ARRAY_N(forms); i++) {
		struct tm tm = {0};
		const char *end = strptime(text, forms[i], &tm);

		if (!end || (*end && strcmp(end, "Z") != 0))
			continue;
		*ret_us = (uint64_t)timegm(&tm) * 1000000;
		return tm.tm_year >= 70;
	}
	return false;
}

const char *record_name(unsigned type)
{
	static const char *const names[REC_TYPES] = {
		[REC_NOP] = "nop",     [REC_BODY] = "body",   [REC_RCPT] = "rcpt",
		[REC_MSG] = "msg",     [REC_STATE] = "state", [REC_ACT] = "act",
		[REC_MOVED] = "moved", [REC_DICT] = "dict",   [REC_MANIFEST] = "manifest",
		[REC_SEAL] = "seal"};

	return type < REC_TYPES ? names[type] : NULL;
}

const char *outcome_name(unsigned outcome)
{
	static const char *const names[] = {
		[OUTCOME_DELIVERED] = "delivered", [OUTCOME_DEFERRED] = "deferred",
		[OUTCOME_FAILED] = "failed",       [OUTCOME_SETTLED] = "settled",
		[OUTCOME_CANCELLED] = "cancelled", [OUTCOME_DROPPED] = "dropped"};

	return outcome < ARRAY_N(names) ? names[outcome] : NULL;
}

const char *segment_file_name(char name[SEGMENT_NAME_MAX], uint64_t number)
{
	segment_name(name, FILE_SEGMENT, number);
	return name;
}
