/* Frames as they may lie on a rotten disk: unpacked into exactly what the record says, or refused.
 *
 * Input: flags (1 with the dictionary, 2 the hash of what was unpacked is right, 4 raw), size of the raw bytes (3), frame. */
#include "journal/dict.h"
#include "journal/format.h"
#include "journal/zip.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static struct zip *zip_with_dict(void)
{
	static struct zip *z;
	struct dict d = dict_built_in();

	if (!z) {
		z = zip_new(1);
		zip_add_dict(z, d.number, d.bytes, true);
	}
	return z;
}

/* What is packed comes back, whatever it is. */
static void there_and_back(struct zip *z, struct span raw)
{
	static char frame[ZIP_BOUND], back[BODY_PART_MAX];
	struct msg_part part;
	struct span f = zip_pack(z, raw, frame, &part);

	check(zip_unpack(z, part.codec, part.dict, f, part.raw_hash, back, raw.n));
	check(raw.n == 0 || memcmp(back, raw.p, raw.n) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	struct zip *z = zip_with_dict();
	struct span all = span_of(p, n), frame;
	uint32_t dict, raw_n;
	uint64_t hash = 0;
	uint8_t codec;
	char *raw, *copy;

	if (n < 4 || n > BODY_PART_MAX)
		return 0;
	there_and_back(z, all);
	raw_n = ((uint32_t)p[1] | (uint32_t)p[2] << 8 | (uint32_t)p[3] << 16) % (BODY_PART_MAX + 2);
	dict = p[0] & 1 ? dict_built_in().number : 0;
	codec = p[0] & 4 ? CODEC_RAW : CODEC_ZSTD;
	frame = span_from(all, 4);
	raw = malloc(raw_n ? raw_n : 1);
	copy = malloc(frame.n ? frame.n : 1);  /* exactly its bytes: what reads behind them is found */
	if (!raw || !copy)
		abort();
	memcpy(copy, frame.p, frame.n);
	frame.p = copy;
	/* first with a wrong hash: it leaves what it unpacked, whose hash is then the right one */
	memset(raw, 0, raw_n);
	if (zip_unpack(z, codec, dict, frame, 0, raw, raw_n))
		check(hash64(raw, raw_n) == 0);
	if (p[0] & 2)
		hash = hash64(raw, raw_n);
	if (zip_unpack(z, codec, dict, frame, hash, raw, raw_n))
		check(hash64(raw, raw_n) == hash && raw_n <= BODY_PART_MAX);
	free(raw);
	free(copy);
	return 0;
}
