/* rand - the dice.  Seeded from the kernel, or from a number: then everything repeats. */
#ifndef CORE_RAND_H
#define CORE_RAND_H

#include <stddef.h>
#include <stdint.h>

void     rand_seed(uint64_t seed);                /* the simulator and tests */
/* self-seeds from getrandom() the first time */
uint64_t rand_u64(void);
uint64_t rand_below(uint64_t n);                  /* 0 .. n-1; n > 0 */

#endif
