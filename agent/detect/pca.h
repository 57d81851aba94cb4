/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Principal components of chosen rows, before anybody decides how many. */
#ifndef LINNET_DETECT_PCA_H
#define LINNET_DETECT_PCA_H

#include <stdbool.h>
#include <stddef.h>

struct pca {
	size_t n, m;
	size_t c;             /* columns that vary */
	size_t k;             /* min(n, c): length of sigma */
	size_t rank;          /* at most k */
	double *mean, *scale; /* [m] */
	bool *constant;       /* [m] */
	size_t *column;       /* [c]: positions of those that vary */
	double *z;            /* [n][c]: standardised */
	double *sigma;        /* [k] */
	double *vector;       /* [k][c], by the sign rule */
	double *work;         /* [n][c]: scratch */
	double *told;         /* [c]: scratch */
};

/*
 * Fits the n rows of m cells whose numbers are in pick.  0, DETECT_CONSTANT,
 * DETECT_SOLVER or -ENOMEM; pca_free() in any case.
 */
int pca_fit(struct pca *p, const double *rows, const size_t *pick, size_t n,
	    size_t m, unsigned prep);
void pca_free(struct pca *p);

/* Makes the entry of largest magnitude of v[c] positive. */
void pca_fix_sign(double *v, size_t c);

/*
 * ckf(0), ckf(1), ... of at most `most` values: how well a row's cell is
 * told by the others with so many components.  Returns how many.
 */
size_t pca_ckf(struct pca *p, double *ckf, size_t most);

#endif
