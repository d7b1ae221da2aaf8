/* zip - zstd, one frame a part, contexts kept.
 *
 * The frame has its content size in its header and no checksum of its own: the record holds
 * the XXH3 of the raw bytes, which is checked end to end.  A dictionary is named in the
 * record, so frames carry no dictionary id either. */
#include "journal/zip.h"

#include "core/log.h"
#include "core/pool.h"
#include "journal/format.h"

#include <string.h>
#include <zstd.h>

#define ZIP_DICTS_MAX 64 /* kept at once: one a few months, and imported ones */

struct kept {
	uint32_t id;
	ZSTD_CDict *c;
	ZSTD_DDict *d;
};
struct zip {
	ZSTD_CCtx *c;
	ZSTD_DCtx *d;
	int level;
	uint32_t use; /* the dictionary for new frames; 0: none */
	struct kept dicts[ZIP_DICTS_MAX];
	unsigned dicts_n;
};

static void set(struct zip *z, ZSTD_cParameter p, int v)
{
	check(!ZSTD_isError(ZSTD_CCtx_setParameter(z->c, p, v)));
}

struct zip *zip_new(int level)
{
	struct zip *z = mem_new(sizeof *z);

	z->c = ZSTD_createCCtx();
	z->d = ZSTD_createDCtx();
	if (!z->c || !z->d)
		die(111, "out of memory");
	z->level = level < ZSTD_minCLevel()   ? ZSTD_minCLevel()
		   : level > ZSTD_maxCLevel() ? ZSTD_maxCLevel()
					      : level;
	set(z, ZSTD_c_compressionLevel, z->level);
	set(z, ZSTD_c_contentSizeFlag, 1);
	set(z, ZSTD_c_checksumFlag, 0);
	set(z, ZSTD_c_dictIDFlag, 0);
	return z;
}

static void kept_free(const struct kept *d)
{
	ZSTD_freeCDict(d->c);
	ZSTD_freeDDict(d->d);
}

void zip_free(struct zip *z)
{
	if (!z)
		return;
	for (unsigned i = 0; i < z->dicts_n; i++)
		kept_free(&z->dicts[i]);
	ZSTD_freeCCtx(z->c);
	ZSTD_freeDCtx(z->d);
	mem_free(z);
}

static const struct kept *kept_of(const struct zip *z, uint32_t id)
{
	for (unsigned i = 0; i < z->dicts_n; i++)
		if (z->dicts[i].id == id)
			return &z->dicts[i];
	return NULL;
}

bool zip_has_dict(const struct zip *z, uint32_t id)
{
	return kept_of(z, id) != NULL;
}

void zip_use_none(struct zip *z)
{
	z->use = 0;
}

static void drop_oldest(struct zip *z)
{
	unsigned i = z->dicts[0].id == z->use ? 1 : 0;

	kept_free(&z->dicts[i]);
	z->dicts_n--;
	memmove(z->dicts + i, z->dicts + i + 1, (z->dicts_n - i) * sizeof z->dicts[0]);
}

/* One that is known already is not made again. */
static bool keep(struct zip *z, uint32_t id, struct span bytes)
{
	struct kept d = {.id = id};

	if (!id || bytes.n == 0)
		return false;
	if (zip_has_dict(z, id))
		return true;
	d.c = ZSTD_createCDict(bytes.p, bytes.n, z->level);
	d.d = ZSTD_createDDict(bytes.p, bytes.n);
	if (!d.c || !d.d) {
		kept_free(&d);
		return false;
	}
	if (z->dicts_n == ZIP_DICTS_MAX)
		drop_oldest(z);
	z->dicts[z->dicts_n++] = d;
	return true;
}

/* Frames that need one that zstd refuses answer false: to the caller that is damage. */
void zip_add_dict(struct zip *z, uint32_t id, struct span bytes, bool use)
{
	bool kept = keep(z, id, bytes);

	if (use)
		z->use = kept ? id : 0;
}

static struct span pack_raw(struct span raw, struct msg_part *ret)
{
	ret->codec = CODEC_RAW;
	ret->dict = 0;
	return raw;
}

struct span zip_pack(struct zip *z, struct span raw, char *dst, struct msg_part *ret)
{
	const struct kept *d = z->use ? kept_of(z, z->use) : NULL;
	size_t n;

	check(raw.n <= BODY_PART_MAX);
	ret->raw_n = (uint32_t)raw.n;
	ret->raw_hash = hash64(raw.p, raw.n);
	if (raw.n == 0)
		return pack_raw(raw, ret);
	check(!ZSTD_isError(ZSTD_CCtx_refCDict(z->c, d ? d->c : NULL)));
	n = ZSTD_compress2(z->c, dst, ZIP_BOUND, raw.p, raw.n);
	check(!ZSTD_isError(n)); /* dst holds the worst case */
	if (n > raw.n - raw.n / 16)
		return pack_raw(raw, ret);
	ret->codec = CODEC_ZSTD;
	ret->dict = d ? d->id : 0;
	return span_of(dst, n);
}

bool zip_unpack(struct zip *z, uint8_t codec, uint32_t dict, struct span frame,
		uint64_t raw_hash, char *dst, size_t raw_n)
{
	const struct kept *d = dict ? kept_of(z, dict) : NULL;
	size_t n;

	if (codec == CODEC_RAW) {
		if (frame.n != raw_n)
			return false;
		if (raw_n)
			memcpy(dst, frame.p, raw_n);
		return hash64(dst, raw_n) == raw_hash;
	}
	if (codec != CODEC_ZSTD || (dict && !d) || raw_n > BODY_PART_MAX)
		return false;
	if (ZSTD_getFrameContentSize(frame.p, frame.n) != raw_n ||
	    ZSTD_findFrameCompressedSize(frame.p, frame.n) != frame.n)
		return false;
	n = d ? ZSTD_decompress_usingDDict(z->d, dst, raw_n, frame.p, frame.n, d->d)
	      : ZSTD_decompressDCtx(z->d, dst, raw_n, frame.p, frame.n);
	return !ZSTD_isError(n) && n == raw_n && hash64(dst, raw_n) == raw_hash;
}
