/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Missing cells by trimmed scores regression (Arteaga and Ferrer, 2002): the
 * scores of the known cells alone predict the scores of the whole row.  With
 * G = P_O' P_OA (rank x lv) its K = P_OA' S P_OA is G' diag(l) G, so that
 * nothing larger than rank x lv is made.
 *
 * K is solved with a diagonal of 1.  It is singular when a latent variable has
 * no known column left, or two have become one: then there is nothing to
 * predict from, and the mean is taken.
 */
#include "agent/detect/impute.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/util.h"

#define LEAST_KNOWN 1e-10 /* share of a latent variable's square sum */
#define LEAST_PIVOT 1e-12 /* of a matrix with a diagonal of 1 */

static const char *const method_text[] = {
	[DETECT_TSR] = "tsr",
	[DETECT_AVERAGE] = "average",
	[DETECT_ZERO] = "zero",
	[DETECT_REFUSE] = "refuse",
};

const char *detect_missing_text(enum detect_missing by)
{
	return method_text[by];
}

int detect_missing_parse(const char *text, enum detect_missing *by)
{
	for (size_t i = 0; i < ARRAY_SIZE(method_text); i++) {
		if (strcmp(text, method_text[i]) != 0)
			continue;
		*by = (enum detect_missing)i;
		return DETECT_OK;
	}
	return DETECT_OPTION;
}

/* Part of the variance that the missing columns have. */
static double share_of(const struct detect_model *model, const double *x)
{
	double missing = 0, all = 0;

	for (size_t j = 0; j < model->m; j++) {
		double v = 0;

		for (size_t a = 0; a < model->rank; a++) {
			const double p = model->loadings[a * model->m + j];

			v += model->eigenvalues[a] * p * p;
		}
		all += v;
		if (isnan(x[j]))
			missing += v;
	}
	return all > 0 ? missing / all : 0;
}

/* g[rank][lv]: products of loadings over the known columns. */
static void known_products(const struct detect_model *model, const double *x,
			   double *g)
{
	const size_t m = model->m, lv = model->lv;

	for (size_t k = 0; k < model->rank; k++) {
		const double *pk = model->loadings + k * m;

		for (size_t a = 0; a < lv; a++) {
			const double *pa = model->loadings + a * m;
			double sum = 0;

			for (size_t j = 0; j < m; j++)
				sum += isnan(x[j]) ? 0 : pk[j] * pa[j];
			g[k * lv + a] = sum;
		}
	}
}

/* k[lv][lv] = G' diag(l / l_1) G with a diagonal of 1, and what made it so. */
static int scaled_k(const struct detect_model *model, const double *g,
		    double *k, double *scale)
{
	const size_t lv = model->lv;
	const double *l = model->eigenvalues;

	for (size_t a = 0; a < lv; a++) {
		for (size_t b = 0; b <= a; b++) {
			double sum = 0;

			for (size_t i = 0; i < model->rank; i++)
				sum += l[i] / l[0] * g[i * lv + a] *
				       g[i * lv + b];
			k[a * lv + b] = k[b * lv + a] = sum;
		}
		if (g[a * lv + a] < LEAST_KNOWN || !(k[a * lv + a] > 0))
			return DETECT_SOLVER;
		scale[a] = sqrt(k[a * lv + a]);
	}
	for (size_t a = 0; a < lv; a++) {
		for (size_t b = 0; b < lv; b++)
			k[a * lv + b] /= scale[a] * scale[b];
	}
	return DETECT_OK;
}

/*
 * k x = b by Cholesky; x replaces b.  Here and not by the library: lv is small,
 * and the agent, which calibrates in another process, then needs none of it.
 */
static int solve(double *k, size_t n, double *b)
{
	for (size_t i = 0; i < n; i++) {
		for (size_t j = 0; j <= i; j++) {
			double v = k[i * n + j];

			for (size_t x = 0; x < j; x++)
				v -= k[i * n + x] * k[j * n + x];
			if (i != j)
				k[i * n + j] = v / k[j * n + j];
			else if (v < LEAST_PIVOT)
				return DETECT_SOLVER;
			else
				k[i * n + i] = sqrt(v);
		}
		for (size_t x = 0; x < i; x++)
			b[i] -= k[i * n + x] * b[x];
		b[i] /= k[i * n + i];
	}
	for (size_t i = n; i-- > 0;) {
		b[i] /= k[i * n + i];
		for (size_t x = 0; x < i; x++)
			b[x] -= k[i * n + x] * b[i];
	}
	return DETECT_OK;
}

/* t[lv] = diag(l) G_A K^-1 P_OA' z_O; DETECT_SOLVER: K is singular. */
static int predict_scores(const struct detect_model *model, const double *x,
			  double *t)
{
	const size_t m = model->m, lv = model->lv;
	double *g = calloc(model->rank, lv * sizeof(*g));
	double *k = calloc(lv, lv * sizeof(*k));
	double *w = calloc(lv, sizeof(*w)), *scale = calloc(lv, sizeof(*w));
	int r = -ENOMEM;

	if (!g || !k || !w || !scale)
		goto out;
	known_products(model, x, g);
	r = scaled_k(model, g, k, scale);
	if (r)
		goto out;
	for (size_t a = 0; a < lv; a++) {
		const double *p = model->loadings + a * m;

		for (size_t j = 0; j < m; j++) {
			if (!isnan(x[j]))
				w[a] += p[j] * ((x[j] - model->mean[j]) /
						model->scale[j]);
		}
		w[a] /= scale[a];
	}
	r = solve(k, lv, w);
	if (r)
		goto out;
	for (size_t a = 0; a < lv; a++) {
		t[a] = 0;
		for (size_t b = 0; b < lv; b++)
			t[a] += g[a * lv + b] * w[b] / scale[b];
		t[a] *= model->eigenvalues[a] / model->eigenvalues[0];
		if (!isfinite(t[a]))
			r = DETECT_SOLVER;
	}
out:
	free(g);
	free(k);
	free(w);
	free(scale);
	return r;
}

static void fill(const struct detect_model *model, enum detect_missing by,
		 const double *t, double *x)
{
	for (size_t j = 0; j < model->m; j++) {
		double z = 0;

		if (!isnan(x[j]))
			continue;
		if (by == DETECT_ZERO) {
			x[j] = 0;
			continue;
		}
		for (size_t a = 0; by == DETECT_TSR && a < model->lv; a++)
			z += model->loadings[a * model->m + j] * t[a];
		x[j] = model->mean[j] + model->scale[j] * z;
		if (!isfinite(x[j]))
			x[j] = model->mean[j];
	}
}

int detect_impute(const struct detect_model *model, enum detect_missing by,
		  double *x, struct detect_imputed *out,
		  struct detect_reason *why)
{
	struct detect_imputed done = { .by = by };
	double *t = NULL;
	int r = DETECT_OK;

	for (size_t j = 0; j < model->m; j++) {
		if (!isnan(x[j]))
			continue;
		if (by == DETECT_REFUSE) {
			if (why)
				why->column = j;
			return DETECT_MISSING;
		}
		done.n++;
	}
	if (!done.n)
		goto done;
	done.share = share_of(model, x);
	if (by == DETECT_TSR) {
		t = calloc(model->lv, sizeof(*t));
		r = t ? predict_scores(model, x, t) : -ENOMEM;
		if (r < 0)
			goto out;
		if (r)
			done.by = DETECT_AVERAGE;
		r = DETECT_OK;
	}
	fill(model, done.by, t, x);
done:
	*out = done;
out:
	free(t);
	return r;
}
