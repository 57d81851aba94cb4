/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Principal components by a thin SVD of the standardised rows.  Columns that
 * do not vary stay outside: inside they would get loadings of rounding size,
 * and a spike there would move every statistic.  Never by the covariance: its
 * small eigenvalues drown where units are mixed.
 */
#include "agent/detect/pca.h"

#include <errno.h>
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "agent/detect/detect.h"
#include "agent/detect/lapack.h"
#include "common/util.h"

#define NO_SPREAD 1e-10 /* of the largest magnitude */
#define TIE       1e-9

/* Row by row, as they lie in memory; range: 2m doubles of scratch. */
static void fit_range(struct pca *p, const double *rows, const size_t *pick,
		      double *range)
{
	double *low = range, *high = range + p->m, *sum = p->mean;

	for (size_t i = 0; i < p->n; i++) {
		const double *x = rows + pick[i] * p->m;

		for (size_t j = 0; j < p->m; j++) {
			low[j] = i && low[j] < x[j] ? low[j] : x[j];
			high[j] = i && high[j] > x[j] ? high[j] : x[j];
			sum[j] += x[j];
		}
	}
	/* of equal values the sum misses the mean by rounding */
	for (size_t j = 0; j < p->m; j++)
		p->mean[j] = high[j] > low[j] ? sum[j] / (double)p->n : low[j];
}

static void fit_columns(struct pca *p, const double *rows, const size_t *pick,
			unsigned prep, double *range)
{
	const double n = (double)p->n, *low = range, *high = range + p->m;
	double *square = p->scale;

	fit_range(p, rows, pick, range);
	for (size_t i = 0; i < p->n; i++) {
		const double *x = rows + pick[i] * p->m;

		for (size_t j = 0; j < p->m; j++) {
			const double d = x[j] - p->mean[j];

			square[j] += d * d;
		}
	}
	for (size_t j = 0; j < p->m; j++) {
		const double most = fmax(fabs(low[j]), fabs(high[j]));
		const double sd = sqrt(square[j] / (n - 1));

		p->constant[j] = most < DETECT_MIN_VALUE;
		if (prep)
			p->constant[j] |= sd <= NO_SPREAD * most;
		else
			p->mean[j] = 0;
		p->scale[j] = 1;
		if (prep == 2)
			p->scale[j] = p->constant[j] ? sqrt(1 / (2 * n - 1))
						     : sd;
		if (!p->constant[j])
			p->column[p->c++] = j;
	}
}

static void standardise(struct pca *p, const double *rows, const size_t *pick)
{
	for (size_t i = 0; i < p->n; i++) {
		const double *x = rows + pick[i] * p->m;
		double *z = p->z + i * p->c;

		for (size_t q = 0; q < p->c; q++) {
			const size_t j = p->column[q];

			z[q] = (x[j] - p->mean[j]) / p->scale[j];
		}
	}
}

void pca_fix_sign(double *v, size_t c)
{
	double most = 0;
	size_t at = 0;

	for (size_t j = 0; j < c; j++)
		most = fmax(most, fabs(v[j]));
	while (at < c && fabs(v[at]) < most * (1 - TIE))
		at++;
	if (at == c || v[at] >= 0)
		return;
	for (size_t j = 0; j < c; j++)
		v[j] = -v[j];
}

int pca_fit(struct pca *p, const double *rows, const size_t *pick, size_t n,
	    size_t m, unsigned prep)
{
	double least, *range;
	int r;

	*p = (struct pca){ .n = n, .m = m };
	p->mean = calloc(m, sizeof(*p->mean));
	p->scale = calloc(m, sizeof(*p->scale));
	p->constant = calloc(m, sizeof(*p->constant));
	p->column = calloc(m, sizeof(*p->column));
	range = calloc(2 * m, sizeof(*range));
	if (!p->mean || !p->scale || !p->constant || !p->column || !range) {
		free(range);
		return -ENOMEM;
	}
	fit_columns(p, rows, pick, prep, range);
	free(range);
	if (!p->c)
		return DETECT_CONSTANT;
	p->k = MIN(n, p->c);
	p->z = calloc(n, p->c * sizeof(*p->z));
	p->work = calloc(n, p->c * sizeof(*p->work));
	p->sigma = calloc(p->k, sizeof(*p->sigma));
	p->vector = calloc(p->k, p->c * sizeof(*p->vector));
	p->told = calloc(p->c, sizeof(*p->told));
	if (!p->z || !p->work || !p->sigma || !p->vector || !p->told)
		return -ENOMEM;
	standardise(p, rows, pick);
	memcpy(p->work, p->z, n * p->c * sizeof(*p->z));
	r = lapack_svd(p->work, n, p->c, p->sigma, p->vector);
	if (r)
		return r;
	least = p->sigma[0] * (double)MAX(n, p->c) * DBL_EPSILON;
	while (p->rank < p->k && p->sigma[p->rank] > least)
		p->rank++;
	for (size_t a = 0; a < p->rank; a++)
		pca_fix_sign(p->vector + a * p->c, p->c);
	return p->rank ? DETECT_OK : DETECT_CONSTANT;
}

void pca_free(struct pca *p)
{
	free(p->mean);
	free(p->scale);
	free(p->constant);
	free(p->column);
	free(p->z);
	free(p->work);
	free(p->sigma);
	free(p->vector);
	free(p->told);
	*p = (struct pca){ 0 };
}

/* Takes component a out of the residual in work. */
static void deflate(struct pca *p, size_t a)
{
	const double *v = p->vector + a * p->c;

	for (size_t i = 0; i < p->n; i++) {
		const double *z = p->z + i * p->c;
		double *e = p->work + i * p->c, t = 0;

		for (size_t j = 0; j < p->c; j++)
			t += z[j] * v[j];
		for (size_t j = 0; j < p->c; j++)
			e[j] -= t * v[j];
	}
}

size_t pca_ckf(struct pca *p, double *ckf, size_t most)
{
	const size_t count = MIN(most, p->rank), cells = p->n * p->c;
	double all = 0;

	memcpy(p->work, p->z, cells * sizeof(*p->z));
	memset(p->told, 0, p->c * sizeof(*p->told));
	for (size_t i = 0; i < cells; i++)
		all += p->z[i] * p->z[i];
	for (size_t a = 0; a < count; a++) {
		double sum = 0;

		for (size_t i = 0; i < cells; i += p->c) {
			for (size_t j = 0; j < p->c; j++) {
				const double v = p->z[i + j] * p->told[j] +
						 p->work[i + j];

				sum += v * v;
			}
		}
		ckf[a] = sum / all;
		deflate(p, a);
		for (size_t j = 0; j < p->c; j++) {
			const double v = p->vector[a * p->c + j];

			p->told[j] += v * v;
		}
	}
	return count;
}
