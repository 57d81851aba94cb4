// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * HyperLogLog registers: union, fold, estimate.  Pure functions over the
 * caller's bytes; every register is <= hllreg_max(p), which who takes registers
 * from outside has checked.
 */
#include "common/sketch/hllreg.h"

#include <math.h>

#include "common/util.h"

void hllreg_union(uint8_t *acc, const uint8_t *in, uint32_t p)
{
	for (size_t i = 0; i < hllreg_count(p); i++)
		acc[i] = MAX(acc[i], in[i]);
}

void hllreg_fold(uint8_t *acc, uint32_t acc_p, const uint8_t *in, uint32_t p)
{
	uint32_t bits = p - acc_p;

	for (size_t i = 0; i < hllreg_count(p); i++) {
		size_t j = i >> bits;
		uint32_t t = (uint32_t)(i & (((size_t)1 << bits) - 1));
		uint32_t rho;

		if (in[i] == 0)
			continue;
		/* index bits that are hash bits now come before the zeros */
		if (t == 0)
			rho = in[i] + bits;
		else
			rho = 1 + (uint32_t)__builtin_clz(t) - (32 - bits);
		acc[j] = (uint8_t)MAX(acc[j], rho);
	}
}

double hllreg_sigma(double x)
{
	double y = 1, z = x, z0;

	if (x >= 1)
		return INFINITY;
	do {
		x *= x;
		z0 = z;
		z += x * y;
		y += y;
	} while (z > z0);
	return z;
}

double hllreg_tau(double x)
{
	double y = 1, z = 1 - x, z0;

	if (x <= 0 || x >= 1)
		return 0;
	do {
		x = sqrt(x);
		z0 = z;
		y /= 2;
		z -= (1 - x) * (1 - x) * y;
	} while (z < z0);
	return z / 3;
}

double hllreg_estimate(const uint8_t *reg, uint32_t p)
{
	uint32_t count[66] = { 0 }, q = 64 - p;
	double m = (double)hllreg_count(p), z;

	for (size_t i = 0; i < hllreg_count(p); i++)
		count[reg[i]]++;
	z = m * hllreg_tau(1 - count[q + 1] / m);
	for (uint32_t k = q; k >= 1; k--)
		z = (z + count[k]) / 2;
	z += m * hllreg_sigma(count[0] / m);
	if (z <= 0)
		return INFINITY;
	return m * m / (2 * 0.693147180559945309417) / z;
}
