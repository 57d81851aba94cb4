/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Matrices for test_detect*.c: each has what one of the rules is for. */
#include "detect_samples.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "detect_reference.h"

const char *sample_name = "";

void near_abs(const char *what, double v, long double want, double bound)
{
	if (!(fabsl(v - want) <= bound))
		fail_msg("%s: %s: %.17g, want %.20Lg +- %.3g", sample_name,
			 what, v, want, bound);
}

void near(const char *what, double v, long double want, double bound)
{
	near_abs(what, v, want, bound * (double)fabsl(want));
}

/* --- matrices ------------------------------------------------------------ */

double walsh(size_t i, size_t k)
{
	return __builtin_parityll(i & k) ? -1 : 1;
}

void fill_mixed(double *x, size_t n, size_t m)
{
	uint64_t seed = n * 1000 + m;
	double mix[3][REF_COLUMNS];

	for (size_t f = 0; f < 3; f++) {
		for (size_t j = 0; j < m; j++)
			mix[f][j] = ref_noise(&seed) * (double)(4 - f);
	}
	for (size_t i = 0; i < n; i++) {
		double cause[3];

		for (size_t f = 0; f < 3; f++)
			cause[f] = ref_noise(&seed);
		for (size_t j = 0; j < m; j++) {
			x[i * m + j] = 10 + 0.3 * ref_noise(&seed);
			for (size_t f = 0; f < 3; f++)
				x[i * m + j] += cause[f] * mix[f][j];
		}
	}
}

static void fill_constants(double *x, size_t n, size_t m)
{
	fill_mixed(x, n, m);
	for (size_t i = 0; i < n; i++) {
		x[i * m + 2] = 0.1;
		x[i * m + 5] = 0;
		x[i * m + 7] = 1e6 + 1e-6 * x[i * m + 7];
	}
}

static void fill_equal(double *x, size_t n, size_t m)
{
	static const size_t wave[] = { 1, 1, 2, 2, 3, 4 };

	for (size_t i = 0; i < n * m; i++)
		x[i] = 7 + walsh(i / m, wave[i % m]);
}

static void fill_flat_tail(double *x, size_t n, size_t m)
{
	for (size_t i = 0; i < n * m; i++)
		x[i] = walsh(i / m, i % m + 1) * (i % m == 0   ? 10
						  : i % m == 1 ? 1
							       : 0.2);
}

static void fill_rank1(double *x, size_t n, size_t m)
{
	uint64_t seed = 5;

	for (size_t i = 0; i < n; i++) {
		const double v = ref_noise(&seed);

		for (size_t j = 0; j < m; j++)
			x[i * m + j] = v * (double)(j + 1);
	}
}

static void fill_units(double *x, size_t n, size_t m)
{
	fill_mixed(x, n, m);
	for (size_t i = 0; i < n * m; i++)
		x[i] *= pow(10, (double)(i % m));
}

const struct sample samples[SAMPLES] = {
	{ "full rank", 60, 8, 2, 3, 8, fill_mixed, DETECT_Q_JM, 1e-9, 1e-9, 1 },
	{ "centred", 60, 8, 1, 2, 8, fill_mixed, DETECT_Q_JM, 1e-9, 1e-9, 1 },
	{ "raw", 40, 6, 0, 2, 6, fill_mixed, DETECT_Q_JM, 1e-9, 1e-9, 1 },
	{ "wide", 12, 30, 2, 3, 11, fill_mixed, DETECT_Q_JM, 1e-9, 1e-9, 1 },
	{ "constant columns", 50, 10, 2, 3, 7, fill_constants, DETECT_Q_JM,
	  1e-9, 1e-9, 1 },
	{ "constant, raw", 50, 10, 0, 2, 8, fill_constants, DETECT_Q_JM, 1e-5,
	  1e-7, 0 },
	{ "equal eigenvalues", 64, 6, 2, 2, 4, fill_equal, DETECT_Q_JM, 1e-9,
	  1e-9, 0 },
	{ "h0 < 0", 64, 34, 1, 1, 34, fill_flat_tail, DETECT_Q_BOX, 1e-9, 1e-9,
	  1 },
	{ "rank 1", 30, 5, 2, 1, 1, fill_rank1, DETECT_Q_UNDEFINED, 1e-9, 1e-9,
	  1 },
	{ "units", 80, 10, 1, 2, 10, fill_units, DETECT_Q_JM, 1e-5, 1e-9, 1 },
	{ "lv = rank", 20, 6, 2, 6, 6, fill_mixed, DETECT_Q_UNDEFINED, 1e-9,
	  1e-9, 1 },
};
