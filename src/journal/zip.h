/* zip - one BODY part in, one frame out, and back.  zstd, here only.
 *
 * A frame holds one part, with its size in the header, and is decoded into exactly that; a
 * mismatch is damage.  Raw where compressing does not pay (less than 1/16 gained). */
#ifndef JOURNAL_ZIP_H
#define JOURNAL_ZIP_H

#include "core/span.h"
#include "mail/msg.h"

#define ZIP_BOUND (BODY_PART_MAX + BODY_PART_MAX / 128 + 1024)

struct zip;
struct zip *zip_new(int level);                   /* contexts are made once and kept */
void        zip_free(struct zip *z);
/* Copied.  The oldest one that is not in use makes room where there are too many.  use: new frames
 * are packed against it from now on; against none where zstd refuses it. */
void        zip_add_dict(struct zip *z, uint32_t id, struct span bytes, bool use);
bool        zip_has_dict(const struct zip *z, uint32_t id);
void        zip_use_none(struct zip *z);
/* Frame into dst (>= ZIP_BOUND bytes); fills raw_n, raw_hash, codec, dict of *ret; the frame is dst or raw itself. */
struct span zip_pack(struct zip *z, struct span raw, char *dst, struct msg_part *ret);
/* Exactly raw_n bytes into dst (>= raw_n); checks the hash.  false: damage, or a dictionary we lack. */
bool        zip_unpack(struct zip *z, uint8_t codec, uint32_t dict, struct span frame, uint64_t raw_hash,
                       char *dst, size_t raw_n) must_use;

#endif
