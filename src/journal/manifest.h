/* manifest - the segments that a head names, in order of number: hot ones, then cold ones. */
#ifndef JOURNAL_MANIFEST_H
#define JOURNAL_MANIFEST_H

#include "journal/format.h"

struct manifest {
	struct manifest_entry *v;
	uint32_t               n, cap;
};
void manifest_fini(struct manifest *m);           /* fine on a zeroed one */
/* In its place; one of the same number is replaced. */
void manifest_put(struct manifest *m, const struct manifest_entry *e);
struct manifest_entry *manifest_find(const struct manifest *m, uint64_t number);   /* NULL: not named */
bool manifest_drop(struct manifest *m, uint64_t number);
void manifest_copy(struct manifest *to, const struct manifest *from);
/* The number of the first hot one; 0: there is none. */
uint64_t manifest_oldest(const struct manifest *m);

#endif
