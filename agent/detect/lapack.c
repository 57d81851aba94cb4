/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Decompositions by LAPACKE, the only file that knows it.  LAPACK counts by
 * columns: row-major n x c is its c x n, so its left vectors are our right
 * ones and nothing is transposed.
 *
 * The library is loaded when a decomposition is wanted, by the process that
 * wants it: with it come BLAS and the runtime of Fortran, 45 MiB to map, and a
 * hook in printf() that makes each call three times as long.
 */
#include "agent/detect/lapack.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <lapacke.h>

#include "agent/detect/detect.h"
#include "common/log.h"
#include "common/util.h"

#define LIBRARY "liblapacke.so.3"

/* The library stays: whoever opens it again only counts. */
static void *function(const char *name)
{
	void *library = dlopen(LIBRARY, RTLD_NOW | RTLD_NODELETE);
	void *f = library ? dlsym(library, name) : NULL;

	if (!f)
		log_errx("%s", dlerror());
	if (library)
		dlclose(library);
	return f;
}

void lapack_load(void)
{
	(void)function("LAPACKE_dgesdd");
}

static int outcome(lapack_int info)
{
	if (info == LAPACK_WORK_MEMORY_ERROR)
		return -ENOMEM;
	return info ? DETECT_SOLVER : DETECT_OK;
}

/* Left vectors of the col-major rows x cols matrix a. */
static int left_vectors(double *a, lapack_int rows, lapack_int cols,
			double *sigma, double *left)
{
	typeof(LAPACKE_dgesdd) *svd = function("LAPACKE_dgesdd");
	const lapack_int k = MIN(rows, cols);
	double *right = calloc((size_t)k, (size_t)cols * sizeof(*right));
	int r = svd ? -ENOMEM : -ELIBACC;

	if (svd && right)
		r = outcome(svd(LAPACK_COL_MAJOR, 'S', rows, cols, a, rows,
				sigma, left, rows, right, k));
	free(right);
	return r;
}

int lapack_svd(double *a, size_t n, size_t c, double *sigma, double *right)
{
	const lapack_int cols = (lapack_int)c, rows = (lapack_int)n;
	typeof(LAPACKE_dgelqf) *lq;
	double *tau;
	int r;

	if (n <= c)
		return left_vectors(a, cols, rows, sigma, right);
	lq = function("LAPACKE_dgelqf");
	if (!lq)
		return -ELIBACC;
	/* A = L Q has the values and left vectors of L, and Q is not wanted */
	tau = calloc(c, sizeof(*tau));
	if (!tau)
		return -ENOMEM;
	r = outcome(lq(LAPACK_COL_MAJOR, cols, rows, a, cols, tau));
	free(tau);
	if (r)
		return r;
	for (size_t j = 1; j < c; j++)
		memset(a + j * c, 0, j * sizeof(*a));
	return left_vectors(a, cols, cols, sigma, right);
}

int lapack_eigen(double *a, size_t c, double *value, double *vector)
{
	typeof(LAPACKE_dsyevr) *eigen = function("LAPACKE_dsyevr");
	const lapack_int n = (lapack_int)c;
	lapack_int *support = calloc(2 * c, sizeof(*support)), found = 0;
	int r = eigen ? -ENOMEM : -ELIBACC;

	if (!eigen || !support)
		goto out;
	r = outcome(eigen(LAPACK_COL_MAJOR, 'V', 'A', 'L', n, a, n, 0, 0, 0, 0,
			  0, &found, value, vector, n, support));
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
