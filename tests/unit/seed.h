/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Seeded random numbers for tests: LINNET_TEST_SEED repeats a run, the seed is
 * printed.
 */
#ifndef LINNET_TEST_SEED_H
#define LINNET_TEST_SEED_H

#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/util.h"

static inline uint64_t seed_start(void)
{
	const char *env = getenv("LINNET_TEST_SEED");
	uint64_t seed = env ? strtoull(env, NULL, 10) : random_u64();

	printf("LINNET_TEST_SEED=%" PRIu64 "\n", seed);
	return seed;
}

/* splitmix64 */
static inline uint64_t seed_next(uint64_t *s)
{
	uint64_t z = *s += 0x9e3779b97f4a7c15u;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

/* In [0, n). */
static inline uint32_t seed_below(uint64_t *s, uint32_t n)
{
	return (uint32_t)((seed_next(s) >> 32) * n >> 32);
}

#endif
