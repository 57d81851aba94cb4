/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The definitions of detection a second time, in long double and by other
 * ways: one-sided Jacobi rotations, dense matrices, distribution functions.
 */
#ifndef LINNET_TEST_DETECT_REFERENCE_H
#define LINNET_TEST_DETECT_REFERENCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define REF_COLUMNS 40
#define REF_ROWS    400

struct reference {
	size_t m, c, rank, lv;
	long double n;
	long double mean[REF_COLUMNS], scale[REF_COLUMNS];
	bool constant[REF_COLUMNS];
	long double l[REF_COLUMNS];              /* m of them, descending */
	long double p[REF_COLUMNS][REF_COLUMNS]; /* [component][column] */
};

/* Numbers in (-1, 1) of no mean, the same for the same seed. */
double ref_noise(uint64_t *seed);

/*
 * The model of n rows with these weights (NULL: 1 each), which divide by sum
 * - 1.  Columns with a spread below 1e-10 of their size are constant.
 */
void ref_fit(struct reference *ref, const double *rows, const double *weight,
	     size_t n, size_t m, unsigned prep, size_t lv);

struct ref_stats {
	long double q, d, novelty, square;
	long double z[REF_COLUMNS], u[REF_COLUMNS];
};
void ref_judge(const struct reference *ref, const double *x,
	       struct ref_stats *s);

/* theta[3], h0, Jackson-Mudholkar and Box, given their two quantiles. */
struct ref_limits {
	long double theta[3], h0, jm, box, df;
};
void ref_limits(const struct reference *ref, long double z, long double chi2,
		struct ref_limits *out);

/* x with its NANs filled by trimmed scores regression, by dense matrices. */
void ref_impute(const struct reference *ref, const double *x,
		long double *filled);

/* P(X > x). */
long double ref_normal(long double x);
long double ref_chi2(long double x, long double df);
long double ref_beta(long double x, long double a, long double b);

#endif
