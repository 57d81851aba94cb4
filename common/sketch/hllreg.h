/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * HyperLogLog registers: m = 2^p bytes, each the largest "1 + leading zeros"
 * of the hashes that fell on it.  Estimator of O. Ertl, "New cardinality
 * estimation algorithms for HyperLogLog sketches" (2017).
 */
#ifndef LINNET_SKETCH_HLLREG_H
#define LINNET_SKETCH_HLLREG_H

#include <stddef.h>
#include <stdint.h>

#define HLL_P_MIN 4
#define HLL_P_MAX 16

static inline size_t hllreg_count(uint32_t p)
{
	return (size_t)1 << p;
}

/* Largest value of a register: q + 1. */
static inline uint8_t hllreg_max(uint32_t p)
{
	return (uint8_t)(64 - p + 1);
}

static inline void hllreg_insert(uint8_t *reg, uint32_t p, uint64_t hash)
{
	/* the bit below the q free ones ends the zeros: at most q + 1 */
	uint64_t rest = hash << p | (uint64_t)1 << (p - 1);
	uint8_t rho = (uint8_t)(1 + __builtin_clzll(rest));
	uint8_t *r = &reg[hash >> (64 - p)];

	if (*r < rho)
		*r = rho;
}

/* acc = max(acc, in) of equal p. */
void hllreg_union(uint8_t *acc, const uint8_t *in, uint32_t p);
/* acc of acc_p <= p takes in what in would be, had it been built at acc_p. */
void hllreg_fold(uint8_t *acc, uint32_t acc_p, const uint8_t *in, uint32_t p);
/* Distinct hashes; INFINITY if all registers are at their end. */
double hllreg_estimate(const uint8_t *reg, uint32_t p);
/* Ertl's series, 0 <= x <= 1. */
double hllreg_sigma(double x);
double hllreg_tau(double x);

#endif
