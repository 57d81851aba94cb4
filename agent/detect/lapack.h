/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The two decompositions; nothing else knows the library that does them.  Call
 * them from one thread at a time: OpenBLAS without threads need not lock.
 */
#ifndef LINNET_DETECT_LAPACK_H
#define LINNET_DETECT_LAPACK_H

#include <stddef.h>

/* Now, and not with the first decomposition. */
void lapack_load(void);

/*
 * Thin SVD of n row-major rows of c columns, k = min(n, c).  a is destroyed;
 * sigma[k] descending; right[k][c]: right singular vectors, one a row.  0,
 * DETECT_SOLVER or -ENOMEM.
 */
int lapack_svd(double *a, size_t n, size_t c, double *sigma, double *right);

/*
 * Eigenvalues, descending, and eigenvectors, one a row, of the symmetric
 * a[c][c], which is destroyed.  0, DETECT_SOLVER or -ENOMEM.
 */
int lapack_eigen(double *a, size_t c, double *value, double *vector);

#endif
