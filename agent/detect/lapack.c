/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Decompositions by LAPACKE, the only file that knows it.  LAPACK counts by
 * columns: row-major n x c is its c x n, so its left vectors are our right
 * ones and nothing is transposed.
 */
#include "agent/detect/lapack.h"

#include <errno.h>
#include <stdlib.h>

#include <lapacke.h>

#include "agent/detect/detect.h"
#include "common/util.h"

static int outcome(lapack_int info)
{
	if (info == LAPACK_WORK_MEMORY_ERROR)
		return -ENOMEM;
	return info ? DETECT_SOLVER : DETECT_OK;
}

int lapack_svd(double *a, size_t n, size_t c, double *sigma, double *right)
{
	const lapack_int cols = (lapack_int)c, rows = (lapack_int)n;
	const size_t k = MIN(n, c);
	double *other = calloc(k, n * sizeof(*other));
	int r = -ENOMEM;

	if (!other)
		goto out;
	r = outcome(LAPACKE_dgesdd(LAPACK_COL_MAJOR, 'S', cols, rows, a, cols,
				   sigma, right, cols, other, (lapack_int)k));
out:
	free(other);
	return r;
}

int lapack_eigen(double *a, size_t c, double *value, double *vector)
{
	const lapack_int n = (lapack_int)c;
	lapack_int *support = calloc(2 * c, sizeof(*support)), found = 0;
	int r = -ENOMEM;

	if (!support)
		goto out;
	r = outcome(LAPACKE_dsyevr(LAPACK_COL_MAJOR, 'V', 'A', 'L', n, a, n, 0,
				   0, 0, 0, 0, &found, value, vector, n,
				   support));
	if (r == DETECT_OK && found != n)
		r = DETECT_SOLVER;
	if (r)
		goto out;
	/* ascending -> descending */
	for (size_t i = 0, j = c - 1; i < j; i++, j--) {
		double keep = value[i];

		value[i] = value[j];
		value[j] = keep;
		for (size_t x = 0; x < c; x++) {
			keep = vector[i * c + x];
			vector[i * c + x] = vector[j * c + x];
			vector[j * c + x] = keep;
		}
	}
out:
	free(support);
	return r;
}

int lapack_solve(double *a, size_t c, double *b)
{
	const lapack_int n = (lapack_int)c;
	int r;

	r = outcome(LAPACKE_dposv(LAPACK_COL_MAJOR, 'L', n, 1, a, n, b, n));
	for (size_t i = 0; r == DETECT_OK && i < c; i++) {
		if (a[i * c + i] < 1e-6)
			r = DETECT_SOLVER;
	}
	return r;
}
