/* splitmix64: 64 bits of state, any seed is a good one, fine for dice and hash seeds.  Not
 * for secrets. */
#include "core/rand.h"

#include "core/check.h"
#include "core/log.h"

#include <stdbool.h>
#include <sys/random.h>

static uint64_t state;
static bool     is_seeded;

void rand_seed(uint64_t seed)
{
	state = seed;
	is_seeded = true;
}

static void seed_from_kernel(void)
{
	uint64_t seed;

	if (getrandom(&seed, sizeof(seed), 0) != (ssize_t)sizeof(seed))
		die_sys(111, "getrandom", "");
	rand_seed(seed);
}

uint64_t rand_u64(void)
{
	uint64_t z;

	if (!is_seeded)
		seed_from_kernel();
	z = state += 0x9e3779b97f4a7c15;
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
	z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
	return z ^ (z >> 31);
}

/* The high half of a product is even but for a few low halves, which are thrown again. */
uint64_t rand_below(uint64_t n)
{
	unsigned __int128 wide;

	check(n > 0);
	do
		wide = (unsigned __int128)rand_u64() * n;
	while ((uint64_t)wide < -n % n);
	return (uint64_t)(wide >> 64);
}
