/* clock - what time it is, for everybody, from one place.
 *
 * The loop sets both clocks once a pass (or the simulator does); nobody else asks the
 * kernel.  The wall clock may jump; waits are measured on the monotonic one only. */
#ifndef CORE_CLOCK_H
#define CORE_CLOCK_H

#include <stdint.h>

uint64_t clock_mono_ms(void);                     /* monotonic, milliseconds */
uint64_t clock_mono_us(void);
uint64_t clock_wall_us(void);                     /* Unix time in microseconds */
uint64_t clock_wall(void);                        /* Unix time in seconds */
/* from the kernel; the loop and blocking programs call it */
void     clock_refresh(void);
/* the simulator; clock_refresh() is then a no-op */
void     clock_set(uint64_t mono_us, uint64_t wall_us);

#endif
